"""Strings of digits: a search among all strings there are, for beams seldom hold the right one.

A beam judges a digit by those before it and cannot take back what a wrong one made likely. So what
beams propose is only where the search begins: strings are scored whole by teacher forcing, less a
share of what the model would say on silence, in words and in figures, and in Mandarin at two
speeds, for people say digits there faster than the model was taught; a mean of scores errs far
less than any. Around the best the search then changes the digits that are least sure, swaps
neighbours and shifts, and climbs while that helps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, product

import numpy as np

from ivr.speech.whisper_model import RATE, Encoded, Floats, Forced, Tokens, WhisperModel, frames
from ivr.speech.whisper_spelling import (
    digit_signs,
    digit_words,
    figures,
    spaced,
)

_PRIOR = 0.6  # weight of the score on silence
_WIDTH = 32
_PROPOSED = 18  # strings that are scored first
_FULLY = 6  # of them in every way
_ROUNDS = 2
_UNSURE = 2  # words that are changed in a round
_SAVED = 2.0  # what "forty six" is worth less for each word that it spares
_WORD_TIME = 0.12  # seconds that a word takes at least
_RUSHED = 50.0  # what each second costs that is missing from that
_ROOM = 100  # frames behind the speech
_SLOWER = {"zh": 1.5}
_MOST_PRIORS = 20_000

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DigitString:
    """Digits as they were said, the figures they are, and what speaks for them."""

    words: Words
    digits: str
    tokens: Tokens
    score: float


class DigitSearch:
    """Finds the strings of digits that an utterance most likely is."""

    def __init__(self, model: WhisperModel, language: str):
        self._model = model
        self._language = language
        self._signs = _single(model, digit_signs(language))
        self._figures = _single(model, [(figure, figure) for figure in "0123456789"])
        self._word_tokens: dict[str, Tokens] = {}
        self._on_silence: dict[Tokens, float] = {}

    def find(
        self,
        samples: Floats,
        lengths: Sequence[int],
        more: Iterable[tuple[Words, str]],
        oh: bool,
    ) -> list[DigitString]:
        """The best first. `more` are strings that others propose, with their figures; `oh` is
        whether zero may be called so."""
        views = [self._model.encode(samples, frames(samples) + _ROOM)]
        if self._language in _SLOWER:
            views.append(self._model.encode_slower(samples, _SLOWER[self._language]))
        search = _Search(
            self, views, tuple(lengths), digit_words(self._language, oh), len(samples) / RATE + 0.1
        )
        proposed: dict[Words, str] = dict(more)
        for length in lengths:
            for words in self._beams(views, length, oh):
                proposed.setdefault(words, figures(spaced(words, self._language)))
        search.score(proposed)
        search.climb()
        return search.ranked()

    def _beams(self, views: list[Encoded], length: int, oh: bool) -> list[Words]:
        """What several beams like best together; where one has not thought of a string, it likes
        it no better than the last that it did think of."""
        names = dict(zip("0123456789", digit_words(self._language, False), strict=True))
        beams: list[dict[Words, float]] = []
        # English figures come in groups, and one beam has nearly all; Mandarin needs every one.
        tables = (self._signs, self._figures) if len(views) > 1 else (self._signs,)
        for audio, table in product(views, tables):
            beam: dict[Words, float] = {}
            for tokens, score in self._model.beam(audio, frozenset(table), length, _WIDTH):
                said = [table.get(token, "") for token in tokens]
                if len(said) == length and all(said):
                    words = tuple(
                        "oh" if oh and self._says_oh(token) else names[digit]
                        for token, digit in zip(tokens, said, strict=True)
                    )
                    beam[words] = max(score, beam.get(words, -math.inf))
            if beam:
                beams.append(beam)
        liked: dict[Words, float] = {}
        for words in dict.fromkeys(words for beam in beams for words in beam):
            liked[words] = sum(beam.get(words, min(beam.values())) for beam in beams)
        return sorted(liked, key=lambda words: -liked[words])[:_PROPOSED]

    def _says_oh(self, token: int) -> bool:
        return self._model.text([token]).strip().lower() in ("o", "oh")

    # --- what a search needs ---------------------------------------------------------------------

    def spell(self, words: Words) -> Tokens:
        return tuple(token for word in words for token in self._of(word))

    def sizes(self, words: Words) -> list[int]:
        return [len(self._of(word)) for word in words]

    def spell_figures(self, digits: str) -> Tokens:
        return self._model.tokens(digits if self._language == "zh" else f" {' '.join(digits)}")

    def _of(self, word: str) -> Tokens:
        if word not in self._word_tokens:
            self._word_tokens[word] = self._model.tokens(
                word if self._language == "zh" else f" {word}"
            )
        return self._word_tokens[word]

    def gains(self, audio: Encoded, texts: Sequence[Tokens]) -> list[tuple[float, Forced]]:
        """What the audio adds to each text, and how it fits."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._on_silence]
        if len(self._on_silence) + len(missing) > _MOST_PRIORS:
            self._on_silence.clear()
            missing = list(dict.fromkeys(texts))
        prior = self._model.force(self._model.hush, missing)
        self._on_silence.update(zip(missing, prior, strict=True))
        heard = self._model.forced(audio, texts)
        return [
            (one.score - _PRIOR * self._on_silence[text], one)
            for one, text in zip(heard, texts, strict=True)
        ]

    @property
    def end(self) -> Tokens:
        return (self._model.end,)


class _Search:
    """One utterance's strings and their scores so far."""

    def __init__(
        self,
        digits: DigitSearch,
        views: list[Encoded],
        lengths: tuple[int, ...],
        names: Words,
        ends: float,
    ):
        self._digits = digits
        self._lengths = lengths
        self._names = names
        self._ends = ends
        # Where the length is open, whether a text ends there is part of it.
        self._end: Tokens = digits.end if len(lengths) != 1 else ()
        near, far = views[0], views[-1]
        self._quick = [(near, False), (far, True)]
        self._rest = [(near, True), (far, False)] if len(views) > 1 else []
        self._seen: dict[Words, tuple[str, float]] = {}
        self._whole: dict[Words, float] = {}
        self._fits: dict[Words, float] = {}
        self._sure: dict[Words, tuple[float, ...]] = {}

    def score(self, strings: dict[Words, str]) -> None:
        """In two ways, and the best in every way."""
        fresh = {words: digits for words, digits in strings.items() if words not in self._seen}
        for words, score in zip(fresh, self._in(self._quick, fresh), strict=True):
            self._seen[words] = (fresh[words], score)
        best = sorted(fresh, key=lambda words: -self._seen[words][1])[:_FULLY]
        chosen = {words: fresh[words] for words in best}
        rest = self._in(self._rest, chosen)
        share = len(self._quick) / (len(self._quick) + len(self._rest))
        for words, score in zip(chosen, rest, strict=True):
            self._whole[words] = share * self._seen[words][1] + (1 - share) * score

    def _in(self, ways: list[tuple[Encoded, bool]], strings: dict[Words, str]) -> list[float]:
        """The mean of the scores in these ways, less what the times of words speak against them."""
        total = np.zeros(len(strings))
        for audio, as_figures in ways if strings else ():
            texts = [
                (self._digits.spell_figures(digits) if as_figures else self._digits.spell(words))
                + self._end
                for words, digits in strings.items()
            ]
            gains = self._digits.gains(audio, texts)
            total += [score for score, _ in gains]
            if audio is self._quick[0][0] and not as_figures:
                for (words, digits), (_, forced) in zip(strings.items(), gains, strict=True):
                    self._fits[words] = -_SAVED * max(0, len(digits) - len(words)) - rushed(
                        self._digits.sizes(words), forced.onsets, self._ends
                    )
                    self._sure[words] = forced.probabilities
        means = total / max(1, len(ways))
        return [float(mean) + self._fits[words] for words, mean in zip(strings, means, strict=True)]

    def climb(self) -> None:
        for _ in range(_ROUNDS):
            best = self._best()
            if best is None or not set(best) <= set(self._names):
                return
            self.score(self._near(best))
            if self._best() == best:
                return

    def _best(self) -> Words | None:
        return max(self._whole, key=lambda words: self._whole[words], default=None)

    def _near(self, words: Words) -> dict[Words, str]:
        left = list(self._sure[words])
        sure = []
        for size in self._digits.sizes(words):
            sure.append(min(left[:size]))
            left = left[size:]
        unsure = sorted(range(len(words)), key=lambda place: sure[place])[:_UNSURE]
        made = neighbours(words, unsure, self._names, self._lengths)
        return {one: _figures(one, self._names) for one in made}

    def ranked(self) -> list[DigitString]:
        best: dict[str, DigitString] = {}
        for words, score in self._whole.items():
            digits = self._seen[words][0]
            if digits not in best or score > best[digits].score:
                best[digits] = DigitString(words, digits, self._digits.spell(words), score)
        return sorted(best.values(), key=lambda one: -one.score)


def neighbours(
    words: Words, unsure: Sequence[int], names: Words, lengths: Sequence[int]
) -> tuple[Words, ...]:
    """Strings of one of the lengths that a mishearing at the unsure places would have made."""
    made: dict[Words, None] = {}
    for place in unsure:
        made |= dict.fromkeys((*words[:place], name, *words[place + 1 :]) for name in names)
        for at in (place - 1, place):
            if 0 <= at < len(words) - 1:
                pair = (words[at + 1], words[at])
                made[(*words[:at], *pair, *words[at + 2 :])] = None
        # A word too many here and one too few there: the beams' commonest slip is to double.
        without = (*words[:place], *words[place + 1 :])
        made[without] = None
        made[(*words[: place + 1], *words[place:])] = None
        for other in unsure:
            if other != place and without:
                at = min(other, len(without) - 1)
                made[(*without[: at + 1], *without[at:])] = None
    made.pop(words, None)
    return tuple(one for one in made if len(one) in lengths)


def _figures(words: Words, names: Words) -> str:
    return "".join(str(names.index(word) % 10) for word in words)


def _single(model: WhisperModel, signs: Iterable[tuple[str, str]]) -> dict[int, str]:
    """The digit of each token that is one; 零 is two tokens, but Whisper writes 0 too."""
    spelt = [(model.tokens(sign), digit) for sign, digit in signs]
    return {tokens[0]: digit for tokens, digit in spelt if len(tokens) == 1}


def rushed(sizes: Sequence[int], onsets: Mapping[int, float], ends: float) -> float:
    """What speaks against words of so many tokens each that there is no time for all of them: a
    word that a decoder doubled or made up has none of its own."""
    places = accumulate((0, *sizes[:-1]))
    begins = [*(onsets.get(place, ends) for place in places), ends]
    return _RUSHED * sum(
        min(_WORD_TIME, max(0.0, _WORD_TIME - (later - sooner)))
        for sooner, later in pairwise(begins)
    )
