"""Whisper made to choose: it is not asked what was said, but which of what may be said fits best.

Free dictation is the wrong tool for a menu ("five" becomes "Bye."). So each allowed phrase is
scored by teacher forcing: the probability that the model gives its tokens on this audio, against
the probability it gives them on silence. That quotient cancels what a phrase has merely by being
common or short, and it tells speech that fits nothing: then no phrase gains from the audio.
Sequences of words (digits, dates) cannot all be listed, so a beam search over those words' tokens
proposes some.

Whisper's encoder takes 30 s of audio; given only as much as there is it works just as well for
scoring, at a tenth of the cost (of 140 spoken digits 140 are right with 2 s of context, 139 with
30 s). Free text and sequences do need room behind the speech, or the decoder repeats itself.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import numpy.typing as npt
import soxr
from faster_whisper.feature_extractor import FeatureExtractor
from tokenizers import Tokenizer

from ivr.flow.events import Grammar
from ivr.ports import SAMPLE_RATE
from ivr.speech.engines import Reading

_RATE = 16_000
_FRAMES = 100  # mel frames a second
_SHORTEST = 200  # frames of context; less and the last sound is lost
_SEQUENCE = 1000
_WINDOW = 3000
_TAIL = 0.3  # seconds of context behind the speech
_LEAD = np.zeros(_RATE // 10, np.float32)
_PEAK = 0.7

_PRIOR = 0.6  # weight of the score on silence; 0.5 to 0.8 measure alike in both languages
_BATCH = 24  # spellings scored at once
_SHORTLIST = 40  # spellings scored at all
_BEAM = 5
# With 1 the beam repeats a sequence to the end of its room, with 0 it drops words.
_LENGTH_PENALTY = 0.5
_LONGEST_SEQUENCE = 48  # tokens
_SHORTEST_WORD = 0.08  # seconds from one word's beginning to the next one's
_IMPLAUSIBLE = 20.0  # what a sequence loses that does not fit its audio
_IMPLAUSIBLE_AT_MOST = 0.3  # the confidence in one that is still the best

# Confidence is a logistic of the evidence for the best reading and of its lead over the next one
# that means something else; the constants put nine of ten right readings over 0.7 and nine of ten
# utterances that fit nothing under 0.35.
_EVIDENCE_AT_HALF = {"en": 1.2}
_EVIDENCE_AT_HALF_ELSEWHERE = -0.3  # the multilingual model is less sure of everything
_LEAD_WEIGHT = 0.5
_LONGEST_LEAD = 4.0
_NOTHING = 0.05
_LEAD_AT_HALF = 0.8  # of one sequence over the next
_SEQUENCE_STEEPNESS = 1.5

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_FIGURES = {word: str(value) for value, word in enumerate(_DIGITS)}
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Spelling:
    """One way in which Whisper might write a text."""

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Sequence:
    """Words in a row; `confidence` is that no other words in a row are meant."""

    text: str
    evidence: float
    confidence: float


class WhisperEngine:
    """A faster-whisper model in a folder. `language` matters to multilingual ones alone."""

    reads_ahead = True

    def __init__(self, path: Path, language: str, threads: int = 2):
        self._model = ctranslate2.models.Whisper(
            str(path), device="cpu", compute_type="int8", intra_threads=threads, inter_threads=1
        )
        self._tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        self._extract = FeatureExtractor(**_extractor_settings(path))
        self._language = language
        self._start = [self._token("<|startoftranscript|>")]
        if self._model.is_multilingual:
            self._start += [self._token(f"<|{language}|>"), self._token("<|transcribe|>")]
        self._plain = self._token("<|notimestamps|>")
        self._end = self._token("<|endoftext|>")
        self._vocabulary = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self._silence = self._encode(np.zeros(_RATE // 2, np.float32), _SHORTEST)
        self._on_silence: dict[tuple[int, ...], float] = {}
        self._first_on_silence = self._first_tokens(self._silence)
        self._spellings = lru_cache(maxsize=256)(self._spell_all)

    def _token(self, name: str) -> int:
        token = self._tokenizer.token_to_id(name)
        if token is None:
            raise ValueError(f"this Whisper model has no token {name}: it cannot be used")
        return int(token)

    # --- the engine ------------------------------------------------------------------------------

    def prepare(self, grammar: Grammar) -> None:
        self._prior(self._spellings(grammar.phrases))

    def utterance(self, grammar: Grammar) -> WhisperUtterance:
        return WhisperUtterance(self, grammar)

    def read(self, pcm: bytes, grammar: Grammar) -> Reading:
        """What the whole of `pcm` is."""
        samples = _level(pcm)
        if not samples.size:
            return Reading("", 0.0)
        if not grammar.phrases and not grammar.words:
            return self._dictate(samples)
        audio = self._encode(samples, _frames(samples))
        evidence = dict(self._rank(audio, self._spellings(grammar.phrases)))
        sequence = self._sequence(samples, audio, grammar.words)
        if sequence is not None and sequence.evidence > evidence.get(sequence.text, -math.inf):
            evidence[sequence.text] = sequence.evidence
        at_half = _EVIDENCE_AT_HALF.get(self._language, _EVIDENCE_AT_HALF_ELSEWHERE)
        reading = _reading(evidence, at_half)
        if sequence is not None and reading.text == sequence.text:
            # Digits are mistaken for other digits, which have much the same evidence: here the
            # beam's own doubt counts too.
            return replace(reading, confidence=min(reading.confidence, sequence.confidence))
        return reading

    # --- audio -----------------------------------------------------------------------------------

    def _encode(self, samples: Floats, frames: int) -> npt.NDArray[np.float32]:
        mel = self._extract(np.concatenate([_LEAD, samples, _LEAD, _LEAD]), padding=True)
        mel = mel[:, :frames]
        mel = np.pad(mel, ((0, 0), (0, frames - mel.shape[1])), constant_values=float(mel.min()))
        view = ctranslate2.StorageView.from_array(
            np.ascontiguousarray(mel[np.newaxis], dtype=np.float32)
        )
        encoded: npt.NDArray[np.float32] = np.array(self._model.encode(view, to_cpu=True))
        return encoded

    # --- phrases ---------------------------------------------------------------------------------

    def _spell_all(self, texts: tuple[str, ...]) -> tuple[_Spelling, ...]:
        return tuple(
            _Spelling(text, tuple(self._tokenizer.encode(way, add_special_tokens=False).ids))
            for text in texts
            for way in dict.fromkeys(_ways(text, self._language))
        )

    def _rank(
        self, audio: npt.NDArray[np.float32], spellings: Sequence[_Spelling]
    ) -> Iterator[tuple[str, float]]:
        """Texts with the evidence for them, best spelling counting, in no order."""
        if len(spellings) > _SHORTLIST:
            gain = self._first_tokens(audio) - _PRIOR * self._first_on_silence
            spellings = sorted(spellings, key=lambda one: -gain[one.tokens[0]])[:_SHORTLIST]
        best: dict[str, float] = {}
        heard = self._force(audio, [one.tokens for one in spellings])
        for one, score, prior in zip(spellings, heard, self._prior(spellings), strict=True):
            evidence = (score - _PRIOR * prior) / math.sqrt(len(one.tokens))
            best[one.text] = max(evidence, best.get(one.text, -math.inf))
        yield from best.items()

    def _prior(self, spellings: Sequence[_Spelling]) -> list[float]:
        missing = [one.tokens for one in spellings if one.tokens not in self._on_silence]
        if len(self._on_silence) + len(missing) > 50_000:
            self._on_silence.clear()
            missing = [one.tokens for one in spellings]
        self._on_silence.update(zip(missing, self._force(self._silence, missing), strict=True))
        return [self._on_silence[one.tokens] for one in spellings]

    def _force(
        self, audio: npt.NDArray[np.float32], texts: Sequence[tuple[int, ...]]
    ) -> list[float]:
        """The log-probability of each text on this audio."""
        scores: list[float] = []
        # Texts of like length together: the batch is padded to its longest.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for first in range(0, len(order), _BATCH):
            batch = order[first : first + _BATCH]
            aligned = self._align(audio, [texts[index] for index in batch])
            scores += [
                float(np.sum(np.log(np.maximum(one.text_token_probs, 1e-9)))) for one in aligned
            ]
        ordered = dict(zip(order, scores, strict=True))
        return [ordered[index] for index in range(len(texts))]

    def _align(self, audio: npt.NDArray[np.float32], texts: Sequence[tuple[int, ...]]) -> list[Any]:
        return list(
            self._model.align(
                ctranslate2.StorageView.from_array(np.repeat(audio, len(texts), axis=0)),
                self._start,
                [list(tokens) for tokens in texts],
                [2 * audio.shape[1]] * len(texts),
            )
        )

    def _first_tokens(self, audio: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The log-probability of each token to be the first."""
        prompt = [*self._start, self._plain]
        found = self._model.generate(
            ctranslate2.StorageView.from_array(audio),
            [prompt],
            beam_size=1,
            max_length=len(prompt) + 2,
            suppress_blank=False,
            suppress_tokens=[],
            return_logits_vocab=True,
        )
        logits = np.array(found[0].logits[0])[0].astype(np.float64)
        logits -= logits.max()
        return np.asarray(logits - np.log(np.exp(logits).sum()), np.float64)

    # --- sequences of words ----------------------------------------------------------------------

    def _sequence(
        self, samples: Floats, audio: npt.NDArray[np.float32], words: tuple[str, ...]
    ) -> _Sequence | None:
        """The sequence of the words that this most likely is."""
        if not words:
            return None
        found = self._model.generate(
            ctranslate2.StorageView.from_array(
                self._encode(samples, max(_SEQUENCE, _frames(samples)))
            ),
            [[*self._start, self._plain]],
            beam_size=_BEAM,
            num_hypotheses=_BEAM,
            length_penalty=_LENGTH_PENALTY,
            max_length=_LONGEST_SEQUENCE,
            suppress_blank=False,
            suppress_tokens=self._all_but(words),
            return_scores=True,
        )[0]
        likely: dict[str, tuple[float, _Spelling]] = {}
        end = (len(samples) + len(_LEAD)) / _RATE
        for tokens, score in zip(found.sequences_ids, found.scores, strict=True):
            text = _as_words(self._tokenizer.decode(tokens), words, self._language)
            if not text or not math.isfinite(score):
                continue
            # Now that the beam is done, the plain sum tells best how much was said.
            total = score * len(tokens) ** _LENGTH_PENALTY
            if not self._plausible(audio, tokens, end):
                total -= _IMPLAUSIBLE
            if text not in likely or total > likely[text][0]:
                likely[text] = (total, _Spelling(text, tuple(tokens)))
        if not likely:
            return None
        (first, best), *others = sorted(likely.values(), key=lambda one: -one[0])
        ((text, evidence),) = self._rank(audio, [best])
        lead = first - others[0][0] if others else _LONGEST_LEAD
        confidence = _logistic(_SEQUENCE_STEEPNESS * (lead - _LEAD_AT_HALF))
        if first <= -_IMPLAUSIBLE:
            confidence = min(confidence, _IMPLAUSIBLE_AT_MOST)
        return _Sequence(text, evidence, confidence)

    def _plausible(self, audio: npt.NDArray[np.float32], tokens: Sequence[int], end: float) -> bool:
        """Whether each word has its own time: a repetition that the decoder made up has not."""
        (aligned,) = self._align(audio, [tuple(tokens)])
        onsets: dict[int, float] = {}
        for index, frame in aligned.alignments:
            onsets.setdefault(index, 2 * frame / _FRAMES)
        spoken = [
            onsets.get(index, end)
            for index, token in enumerate(tokens)
            if self._tokenizer.decode([token]).strip(" ,.")
        ]
        gaps = (later - sooner for sooner, later in pairwise(spoken))
        return all(gap >= _SHORTEST_WORD for gap in gaps) and spoken[-1] < end

    @lru_cache(maxsize=64)  # noqa: B019 -- one engine lives as long as its process
    def _all_but(self, words: tuple[str, ...]) -> list[int]:
        allowed = {self._end}
        for way in [
            *_joints(self._language),
            *(w for word in words for w in _forms(word, self._language)),
        ]:
            allowed.update(self._tokenizer.encode(way, add_special_tokens=False).ids)
        return [token for token in range(self._vocabulary) if token not in allowed]

    # --- anything --------------------------------------------------------------------------------

    def _dictate(self, samples: Floats) -> Reading:
        texts, weights = [], []
        step = int((_WINDOW / _FRAMES - 1) * _RATE)
        for first in range(0, len(samples), step):
            part = samples[first : first + step]
            found = self._model.generate(
                ctranslate2.StorageView.from_array(self._encode(part, _WINDOW)),
                [[*self._start, self._plain]],
                beam_size=2,
                max_length=224,
                return_scores=True,
                return_no_speech_prob=True,
            )[0]
            sure = math.exp(found.scores[0])
            if found.no_speech_prob > 0.6 and sure < 0.37:
                continue
            texts.append(self._tokenizer.decode(found.sequences_ids[0]).strip())
            weights.append(sure)
        text = " ".join(filter(None, texts))
        return Reading(text, float(np.mean(weights)) if text else 0.0)


class WhisperUtterance:
    """Audio kept until it is worth reading."""

    def __init__(self, engine: WhisperEngine, grammar: Grammar):
        self._engine = engine
        self._grammar = grammar
        self._pcm = bytearray()

    def accept(self, pcm: bytes) -> str:
        self._pcm += pcm
        return ""

    def read(self) -> Reading:
        return self._engine.read(bytes(self._pcm), self._grammar)


def _extractor_settings(path: Path) -> dict[str, Any]:
    file = path / "preprocessor_config.json"
    if not file.exists():
        return {}
    known = ("feature_size", "sampling_rate", "hop_length", "chunk_length", "n_fft")
    settings = json.loads(file.read_text(encoding="utf-8"))
    return {key: settings[key] for key in known if key in settings}


def _level(pcm: bytes) -> Floats:
    """Samples at Whisper's rate and one loudness: soft callers are heard as well as loud ones."""
    samples = np.frombuffer(pcm[: len(pcm) & ~1], "<i2").astype(np.float32) / 32768
    if samples.size < SAMPLE_RATE // 50:
        return np.zeros(0, np.float32)
    samples = np.asarray(soxr.resample(samples, SAMPLE_RATE, _RATE), np.float32)
    peak = max(0.02, float(np.abs(samples).max()))
    return np.asarray(samples * (_PEAK / peak), np.float32)


def _frames(samples: Floats) -> int:
    """Context for this much speech: even, for the encoder halves it."""
    seconds = len(samples) / _RATE + _TAIL
    return min(_WINDOW, max(_SHORTEST, 2 * math.ceil(seconds * _FRAMES / 2)))


def _ways(text: str, language: str) -> Iterator[str]:
    """How Whisper may write a whole text."""
    if language == "zh":
        yield text
        return
    yield f" {text}"
    yield f" {text.capitalize()}."
    if text in _FIGURES:
        yield f" {_FIGURES[text]}"


def _forms(word: str, language: str) -> tuple[str, ...]:
    """How Whisper may write a word within a sequence."""
    return (word,) if language == "zh" else (f" {word}", f" {word.capitalize()}")


def _joints(language: str) -> tuple[str, ...]:
    # Between digits Whisper writes commas; forbidden them, it stops at the first pause.
    return () if language == "zh" else (",", ".")


def _as_words(written: str, words: tuple[str, ...], language: str) -> str:
    """The sequence in the grammar's spelling, "" unless it is made of its words alone."""
    if language == "zh":
        text = "".join(written.split())
        longest_first = sorted(words, key=len, reverse=True)
        return text if re.fullmatch(f"(?:{'|'.join(map(re.escape, longest_first))})+", text) else ""
    said = _WORD.findall(written.lower())
    if "oh" in words:  # one and the same in speech, and so no rival of each other
        said = ["oh" if word == "o" else word for word in said]
    return " ".join(said) if said and set(said) <= set(words) else ""


def _reading(evidence: dict[str, float], at_half: float) -> Reading:
    ranked = sorted(evidence.items(), key=lambda item: -item[1])
    if not ranked:
        return Reading("", 0.0)
    runner_up = ranked[1][1] if len(ranked) > 1 else -math.inf
    scored = [
        (text, _confidence(score - at_half, score - (ranked[0][1] if place else runner_up)))
        for place, (text, score) in enumerate(ranked[:5])
    ]
    (text, confidence), *others = scored
    alternatives = tuple((other, sure) for other, sure in others if sure >= _NOTHING)
    if confidence < _NOTHING:
        return Reading("", confidence)
    return Reading(text, confidence, alternatives)


def _confidence(evidence: float, lead: float) -> float:
    lead = max(-_LONGEST_LEAD, min(_LONGEST_LEAD, lead))
    return _logistic(evidence + _LEAD_WEIGHT * lead)


def _logistic(weight: float) -> float:
    return round(1 / (1 + math.exp(-max(-30.0, min(30.0, weight)))), 3)
