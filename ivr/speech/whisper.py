"""Whisper made to choose: it is not asked what was said, but which of what may be said fits best.

Free dictation is the wrong tool for a menu ("five" becomes "Bye."). So each allowed phrase is
scored by teacher forcing: the probability that the model gives its tokens on this audio, against
the probability it gives them on silence. That quotient cancels what a phrase has merely by being
common or short, and it tells speech that fits nothing: then no phrase gains from the audio. The
best few are scored once more with more room behind the speech; the mean of both tells words that
are no phrase from those that are better than either alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from ivr.flow.events import Grammar
from ivr.speech import calibration
from ivr.speech.engines import Reading
from ivr.speech.whisper_model import (
    FRAMES,
    RATE,
    WINDOW,
    Encoded,
    Floats,
    Tokens,
    WhisperModel,
    frames,
    level,
)
from ivr.speech.whisper_sequences import Sequences
from ivr.speech.whisper_spelling import ways

_PRIOR = 0.6  # weight of the score on silence; 0.5 to 0.8 measure alike in both languages
_SHORTLIST = 40  # spellings scored at all
_BEST_FEW = 8  # spellings scored once more
_MORE_ROOM = 300  # frames
_MOST_PRIORS = 50_000
_NOTHING = 0.05


@dataclass(frozen=True, slots=True)
class _Spelling:
    """One way in which Whisper might write a text."""

    text: str
    tokens: Tokens


class WhisperEngine:
    """A faster-whisper model in a folder. `language` matters to multilingual ones alone."""

    reads_ahead = True

    def __init__(self, path: Path, language: str, threads: int = 2):
        self._model = WhisperModel(path, language, threads)
        self._language = language
        self._sequences = Sequences(self._model, language)
        self._calibration = calibration.of(calibration.CHOICE, language)
        self._on_silence: dict[Tokens, float] = {}
        self._first_on_silence = self._model.first_tokens(self._model.silence)
        self._spellings = lru_cache(maxsize=256)(self._spell_all)

    # --- the engine ------------------------------------------------------------------------------

    def prepare(self, grammar: Grammar) -> None:
        self._prior(self._spellings(grammar.phrases))

    def utterance(self, grammar: Grammar) -> WhisperUtterance:
        return WhisperUtterance(self, grammar)

    def read(self, pcm: bytes, grammar: Grammar) -> Reading:
        """What the whole of `pcm` is."""
        samples = level(pcm)
        if not samples.size:
            return Reading("", 0.0)
        if not grammar.phrases and not grammar.words:
            return self._dictate(samples)
        audio = self._model.encode(samples)
        sequence = self._sequences.find(samples, audio, grammar)
        spellings = self._spellings(grammar.phrases)
        if sequence is not None:
            spellings = (*spellings, _Spelling(sequence.text, sequence.tokens))
        reading = choose(self._rank(samples, audio, spellings), self._calibration)
        if sequence is not None and reading.text == sequence.text:
            # Digits are mistaken for other digits, which have much the same evidence: here the
            # doubt between them counts too.
            return replace(reading, confidence=min(reading.confidence, sequence.confidence))
        return reading

    def evidence(self, pcm: bytes, phrases: tuple[str, ...]) -> dict[str, float]:
        """How much speaks for each of the phrases: what confidence is calibrated on."""
        samples = level(pcm)
        return self._rank(samples, self._model.encode(samples), self._spellings(phrases))

    # --- phrases ---------------------------------------------------------------------------------

    def _spell_all(self, texts: tuple[str, ...]) -> tuple[_Spelling, ...]:
        return tuple(
            _Spelling(text, self._model.tokens(way))
            for text in texts
            for way in dict.fromkeys(ways(text, self._language))
        )

    def _rank(
        self, samples: Floats, audio: Encoded, spellings: Sequence[_Spelling]
    ) -> dict[str, float]:
        """Texts with the evidence for them, the best spelling counting."""
        if len(spellings) > _SHORTLIST:
            gain = self._model.first_tokens(audio) - _PRIOR * self._first_on_silence
            spellings = sorted(spellings, key=lambda one: -gain[one.tokens[0]])[:_SHORTLIST]
        quick = self._evidence(audio, spellings)
        best = sorted(range(len(spellings)), key=lambda index: -quick[index])[:_BEST_FEW]
        roomy = self._model.encode(samples, min(WINDOW, frames(samples) + _MORE_ROOM))
        again = self._evidence(roomy, [spellings[index] for index in best])
        for index, evidence in zip(best, again, strict=True):
            quick[index] = (quick[index] + evidence) / 2
        found: dict[str, float] = {}
        for one, evidence in zip(spellings, quick, strict=True):
            found[one.text] = max(evidence, found.get(one.text, -math.inf))
        return found

    def _evidence(self, audio: Encoded, spellings: Sequence[_Spelling]) -> list[float]:
        heard = self._model.force(audio, [one.tokens for one in spellings])
        return [
            (score - _PRIOR * prior) / math.sqrt(len(one.tokens))
            for one, score, prior in zip(spellings, heard, self._prior(spellings), strict=True)
        ]

    def _prior(self, spellings: Sequence[_Spelling]) -> list[float]:
        missing = [one.tokens for one in spellings if one.tokens not in self._on_silence]
        if len(self._on_silence) + len(missing) > _MOST_PRIORS:
            self._on_silence.clear()
            missing = [one.tokens for one in spellings]
        scores = self._model.force(self._model.silence, missing)
        self._on_silence.update(zip(missing, scores, strict=True))
        return [self._on_silence[one.tokens] for one in spellings]

    # --- anything --------------------------------------------------------------------------------

    def _dictate(self, samples: Floats) -> Reading:
        texts, weights = [], []
        step = int((WINDOW / FRAMES - 1) * RATE)
        for first in range(0, len(samples), step):
            part = samples[first : first + step]
            text, score, nobody = self._model.dictate(self._model.encode(part, WINDOW))
            sure = math.exp(score)
            if nobody > 0.6 and sure < 0.37:
                continue
            texts.append(text)
            weights.append(sure)
        whole = " ".join(filter(None, texts))
        return Reading(whole, float(np.mean(weights)) if whole else 0.0)


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


def choose(evidence: dict[str, float], calibrated: calibration.Calibration) -> Reading:
    """The likeliest of the texts, and what else it may be."""
    ranked = sorted(evidence.items(), key=lambda item: -item[1])
    if not ranked:
        return Reading("", 0.0)
    runner_up = ranked[1][1] if len(ranked) > 1 else -math.inf
    scored = [
        (text, calibrated.confidence(score, score - (ranked[0][1] if place else runner_up)))
        for place, (text, score) in enumerate(ranked[:5])
    ]
    (text, confidence), *others = scored
    alternatives = tuple((other, sure) for other, sure in others if sure >= _NOTHING)
    if confidence < _NOTHING:
        return Reading("", confidence)
    return Reading(text, confidence, alternatives)
