"""How often callers are understood, how often what is no answer is refused, and what a confidence
is worth: on people's digits, a synthetic voice over a telephone line, and Mandarin.

The baseline is the obvious way with the same models: free text, matched to the nearest phrase.
"""

from __future__ import annotations

import difflib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from rich.console import Console
from rich.table import Table

from ivr.config import load_settings
from ivr.flow import spoken
from ivr.flow.events import Grammar
from ivr.flow.phrases import normalise
from ivr.speech import models
from ivr.speech.engines import Reading
from ivr.speech.vad import trim
from ivr.speech.whisper import WhisperEngine
from tests.bench import corpus
from tests.bench.corpus import DIGITS, Clip
from tests.bench.figures import Figure, figure, percentile

ACCEPT, REJECT = 0.7, 0.35  # the language's defaults
AMONG = 8
STRINGS = 24
VALUES = {
    "digits of any length": (
        *("digits:four two seven", "digits:one three eight oh oh", "digits:nine nine one"),
        *("digits:seven two five one six three", "digits:eight zero four six two nine five"),
    ),
    "digits said in groups": (
        *("digits:double oh seven", "digits:nineteen eighty four", "digits:twenty twenty six"),
        *("digits:five double three one", "digits:four double nine two"),
    ),
    "dates": (
        *("date:the third of march", "date:december twenty fifth", "date:tomorrow"),
        *("date:next tuesday", "date:june fifteenth", "date:the first of october"),
    ),
    "amounts": (
        *("money:twelve dollars fifty", "money:forty five dollars", "money:two hundred dollars"),
        *("money:ninety nine dollars", "money:three thousand dollars", "money:sixteen dollars"),
    ),
}
"""What is said by the voice over a telephone line, after the kind of slot that asks for it."""
_EVER = datetime(2026, 6, 1)

PHRASES = (
    *("billing", "repairs", "opening hours", "speak to an agent", "pay my bill", "my balance"),
    *("report a fault", "lost card", "new order", "track my order", "delivery", "returns"),
    *("technical support", "sales", "make an appointment", "change my address", "power cut"),
    *("password reset", "broadband", "mobile phone", "insurance claim", "gas leak", "emergency"),
    *("meter reading", "customer service", "something else", "go back", "start over", "repeat"),
    *("prescription", "test results", "book a room", "flight status", "train times", "complaint"),
    *("close my account", "credit card", "send me a text", "main menu", "yes please", "no thanks"),
)


@dataclass(frozen=True, slots=True)
class Trial:
    """One utterance that was read: among what, as what, and how long that took."""

    clip: Clip
    options: tuple[str, ...]
    reading: Reading
    seconds: float

    @property
    def inside(self) -> bool:
        return self.clip.text in self.options

    @property
    def right(self) -> bool:
        return self.reading.text == self.clip.text and bool(self.clip.text)


@cache
def engine(language: str) -> WhisperEngine:
    settings = load_settings()
    speech = settings.speech.model_copy(update={"engine": "whisper"})
    settings = settings.model_copy(update={"speech": speech})
    model = models.obtain(settings, language, print)
    path = model and models.path_of(settings, model)
    if path is None:
        raise SystemExit(f"no Whisper model for {language}: see `hotline models list`")
    return WhisperEngine(path, language)


def read(clip: Clip, options: Sequence[str], language: str = "en") -> Trial:
    grammar = Grammar(language, tuple(options))
    engine(language).prepare(grammar)
    pcm = trim(clip.pcm)
    began = time.perf_counter()
    reading = engine(language).read(pcm, grammar)
    return Trial(clip, grammar.phrases, reading, time.perf_counter() - began)


def nearest(clip: Clip, options: Sequence[str], language: str = "en") -> Reading:
    """The baseline; its confidence is how alike the text and the phrase are."""
    text = normalise(engine(language).read(trim(clip.pcm), Grammar(language)).text)
    alike = {one: difflib.SequenceMatcher(None, text, one).ratio() for one in options}
    best = max(alike, key=lambda one: alike[one])
    return Reading(best, alike[best])


def share(hits: Sequence[bool]) -> float:
    return 100 * sum(hits) / max(1, len(hits))


# --- what is tried -------------------------------------------------------------------------------


def among(clips: Sequence[Clip], texts: Sequence[str], language: str, seed: int) -> list[Trial]:
    """Each clip among seven others."""
    chance = random.Random(seed)
    trials = []
    for clip in clips:
        others = [text for text in texts if text != clip.text]
        options = [clip.text, *chance.sample(others, AMONG - 1)]
        chance.shuffle(options)
        trials.append(read(clip, options, language))
    return trials


def outside() -> list[Trial]:
    """What is not on the list: digits left out of it, other words, and noise."""
    left_out = [
        read(clip, [digit for digit in DIGITS if digit != clip.text])
        for clip in corpus.spoken_digits()[::3]
    ]
    words = [read(clip, DIGITS) for clip in corpus.spoken(PHRASES, 11)]
    noises = [read(clip, DIGITS) for clip in corpus.noises(20, 12)]
    return [*left_out, *words, *noises]


# --- the figures ---------------------------------------------------------------------------------


def recognition() -> list[Figure]:
    inside = [read(clip, DIGITS) for clip in corpus.spoken_digits()]
    phrases = among(list(corpus.spoken(PHRASES, 13)), PHRASES, "en", 1)
    mandarin = corpus.mandarin_phrases()
    chinese = among(mandarin, [clip.text for clip in mandarin], "zh", 11)
    refused = outside()
    menus = [trial.seconds for trial in (*inside, *phrases)]
    figures = [
        _right("digits of two people, ten words", inside, 97, "en"),
        _right("phrases over a telephone line, among 8", phrases, 98, "en"),
        _right("Mandarin phrases, among 8", chinese, 97, "zh"),
        _refusals(refused),
        figure(
            "right answers refused (under 0.35)",
            share([trial.reading.confidence < REJECT for trial in inside if trial.right]),
            "%",
            3,
        ),
        figure("reading a menu, p50", percentile(menus, 0.5), "s", 0.6),
        figure("reading a menu in Chinese, p50", _median(chinese), "s", 0.6),
        *_strings("en", _english_strings()),
        *_strings("zh", corpus.mandarin_strings()),
        *(_values(name, said) for name, said in VALUES.items()),
    ]
    return [*figures, _reliability([*inside, *phrases, *refused])]


def _median(trials: Sequence[Trial]) -> float:
    return percentile([trial.seconds for trial in trials], 0.5)


def _right(name: str, trials: Sequence[Trial], target: float, language: str) -> Figure:
    plain = [nearest(trial.clip, trial.options, language) for trial in trials[::3]]
    theirs = [one.text == trial.clip.text for one, trial in zip(plain, trials[::3], strict=True)]
    ours = share([trial.right for trial in trials])
    return figure(f"{name}: right", ours, "%", target, share(theirs), at_least=True)


def _refusals(trials: Sequence[Trial]) -> Figure:
    ours = share([trial.reading.confidence < REJECT for trial in trials])
    theirs = share([nearest(one.clip, one.options).confidence < REJECT for one in trials[::3]])
    name = "words outside the list: refused (under 0.35)"
    return figure(name, ours, "%", 90, theirs, at_least=True)


def _english_strings() -> list[Clip]:
    chance = random.Random(17)
    texts = {}
    for _ in range(STRINGS):
        digits = "".join(chance.choice("0123456789") for _ in range(AMONG))
        words = [DIGITS[int(digit)] for digit in digits]
        texts[digits] = " ".join(
            "oh" if w == "zero" and chance.random() < 0.5 else w for w in words
        )
    made = corpus.spoken(list(texts.values()), 18)
    return [Clip(digits, clip.who, clip.pcm) for digits, clip in zip(texts, made, strict=True)]


def _strings(language: str, clips: Sequence[Clip]) -> list[Figure]:
    if not clips:
        print(f"strings in {language}: name a folder of recordings in {corpus.MANDARIN}")
        return []
    words = spoken.words("digits", language)
    grammar = Grammar(language, (), words, "digits", AMONG, AMONG)
    ours, theirs, seconds = [], [], []
    for clip in clips:
        pcm = trim(clip.pcm)
        began = time.perf_counter()
        heard = engine(language).read(pcm, grammar).text
        seconds.append(time.perf_counter() - began)
        ours.append(_digits(heard, language) == clip.text)
    for clip in clips[::3]:
        written = engine(language).read(trim(clip.pcm), Grammar(language)).text
        theirs.append(_digits(written, language) == clip.text)
    name = f"strings of eight digits, {language}"
    return [
        figure(f"{name}: whole", share(ours), "%", 90, share(theirs), at_least=True),
        figure(f"{name}: reading, p50", percentile(seconds, 0.5), "s", 1.0),
    ]


def _digits(text: str, language: str) -> object:
    bounds = {"minimum": AMONG, "maximum": AMONG}
    return spoken.parse("digits", text, language, now=_EVER, **bounds)


def _values(name: str, said: Sequence[str]) -> Figure:
    """How often the value that was meant is the one that the answer's reader finds."""
    kinds, texts = zip(*(one.split(":") for one in said), strict=True)
    ours: list[bool] = []
    theirs: list[bool] = []
    for kind, clip in zip(kinds, corpus.spoken(texts, 31), strict=True):
        meant = spoken.parse(kind, clip.text, "en", now=_EVER)
        # Known are the digits of a year or a PIN, as a flow would ask for them.
        length = len(meant) if kind == "digits" and "groups" in name else 0
        grammar = Grammar("en", (), spoken.words(kind, "en"), kind, length, length)
        for found, asked in ((ours, grammar), (theirs, Grammar("en"))):
            written = engine("en").read(trim(clip.pcm), asked).text
            found.append(
                spoken.parse(kind, written, "en", now=_EVER, minimum=length, maximum=length)
                == meant
            )
    return figure(
        f"{name}, en: right of {len(ours)}", share(ours), "%", 80, share(theirs), at_least=True
    )


def _reliability(trials: Sequence[Trial]) -> Figure:
    """Ten bins of confidence, and how far on average it is from the share that is right."""
    table = Table("confidence", "utterances", "mean", "right", title="reliability")
    error = 0.0
    for first in range(10):
        bin_ = [
            one for one in trials if first <= min(9.99, 10 * one.reading.confidence) < first + 1
        ]
        if not bin_:
            continue
        mean = sum(one.reading.confidence for one in bin_) / len(bin_)
        right = share([one.right for one in bin_]) / 100
        error += abs(mean - right) * len(bin_) / len(trials)
        table.add_row(f"{first / 10:.1f}-", str(len(bin_)), f"{mean:.2f}", f"{right:.2f}")
    Console().print(table)
    return figure("confidence: mean distance from what is right (ECE)", 100 * error, "%", 5)


BENCHES: dict[str, Callable[[], list[Figure]]] = {"recognition": recognition}
