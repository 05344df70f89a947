"""Words in a row (digits, amounts, dates), of which no list could be complete.

A beam over the words' tokens proposes some; the reader that will read the answer is the grammar:
what it makes nothing of is no rival. Beams skip and repeat, above all in digits, which
`ivr.speech.whisper_digits` therefore searches for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import pairwise

from ivr.flow import spoken
from ivr.flow.events import Grammar
from ivr.speech import calibration
from ivr.speech.whisper_digits import DigitSearch
from ivr.speech.whisper_model import RATE, Encoded, Floats, Tokens, WhisperModel
from ivr.speech.whisper_spelling import (
    as_words,
    figures,
    forms,
    joints,
    spaced,
)

_ROOM = 1000  # frames
_WIDTH = 8
# With 1 the beam repeats a sequence to the end of its room, with 0 it drops words.
_LENGTH_PENALTY = 0.5
_LONGEST = 24  # tokens
_SHORTEST_WORD = 0.08  # seconds from one word's beginning to the next one's
_IMPLAUSIBLE = 20.0  # what a sequence loses that does not fit its audio
_IMPLAUSIBLE_AT_MOST = 0.3  # the confidence in one that is still the best
_SELDOM_A_NUMBER = 4  # longer strings are said digit by digit in Mandarin
_LONELY_LEAD = 4.0
_ONE_DIGIT_MORE = 0.8
_EVER = datetime(2026, 6, 15, 12, 0)


@dataclass(frozen=True, slots=True)
class Sequence:
    """Words in a row, how Whisper would write them, and the confidence in them rather than in
    others."""

    text: str
    tokens: Tokens
    confidence: float


@dataclass(frozen=True, slots=True)
class _Guess:
    text: str
    tokens: Tokens
    value: object
    score: float
    fits: bool = True


class Sequences:
    """Finds the sequence of a grammar's words that an utterance most likely is."""

    def __init__(self, model: WhisperModel, language: str):
        self._model = model
        self._language = language
        self._tokens_of = lru_cache(maxsize=64)(self._all_tokens)
        self._calibration = calibration.of(calibration.SEQUENCE, language)
        self._of_string = calibration.of(calibration.DIGITS, language)
        self._digits = DigitSearch(model, language)

    def find(self, samples: Floats, audio: Encoded, grammar: Grammar) -> Sequence | None:
        """None where nothing was said that the words could be."""
        if not grammar.words:
            return None
        digits = _of_digits(grammar)
        guesses = []
        if not (digits and self._language == "zh" and _length(grammar) > _SELDOM_A_NUMBER):
            far = self._model.encode(samples, _ROOM)
            guesses = self._by_words(far, audio, samples, grammar)
        if digits:
            guesses = self._by_digits(samples, guesses, grammar)
        best: dict[object, _Guess] = {}
        for guess in guesses:
            known = best.get(guess.value)
            if known is None or guess.score > known.score:
                best[guess.value] = guess
        if not best:
            return None
        first, *others = sorted(best.values(), key=lambda guess: -guess.score)
        lead = first.score - others[0].score if others else _LONELY_LEAD
        each = first.score / max(1, len(first.tokens))
        calibrated = self._of_string if digits else self._calibration
        confidence = calibrated.confidence(each, lead)
        if not first.fits:
            confidence = min(confidence, _IMPLAUSIBLE_AT_MOST)
        return Sequence(first.text, first.tokens, confidence)

    # --- any words -------------------------------------------------------------------------------

    def _by_words(
        self, far: Encoded, audio: Encoded, samples: Floats, grammar: Grammar
    ) -> list[_Guess]:
        found = []
        end = len(samples) / RATE + 0.1
        allowed = self._tokens_of(grammar.words)
        for tokens, score in self._model.beam(far, allowed, _LONGEST, _WIDTH, _LENGTH_PENALTY):
            text = as_words(self._model.text(tokens), grammar.words, self._language)
            if not text or not math.isfinite(score):
                continue
            value = _value(text, grammar)
            fits = value is not None and self._plausible(audio, tokens, end)
            # Now that the beam is done, the plain sum tells best how much was said.
            total = score * len(tokens) ** _LENGTH_PENALTY - (0.0 if fits else _IMPLAUSIBLE)
            found.append(_Guess(text, tokens, text if value is None else value, total, fits))
        return found

    def _plausible(self, audio: Encoded, tokens: Tokens, end: float) -> bool:
        """Whether each word has its own time: a repetition that the decoder made up has not."""
        onsets = self._model.forced(audio, [tokens])[0].onsets
        said = [
            onsets.get(index, end)
            for index, token in enumerate(tokens)
            if self._model.text([token]).strip(" ,.")
        ]
        gaps = (later - sooner for sooner, later in pairwise(said))
        return all(gap >= _SHORTEST_WORD for gap in gaps) and said[-1] < end

    def _all_tokens(self, words: tuple[str, ...]) -> frozenset[int]:
        spellings = (form for word in words for form in forms(word, self._language))
        allowed = {self._model.end}
        for spelling in (*joints(self._language), *spellings):
            allowed.update(self._model.tokens(spelling))
        return frozenset(allowed)

    # --- digits one by one -----------------------------------------------------------------------

    def _by_digits(self, samples: Floats, guesses: list[_Guess], grammar: Grammar) -> list[_Guess]:
        # What is more than single digits ("nineteen eighty four") is its value in figures.
        more = {
            tuple(guess.text.split() if self._language != "zh" else guess.text): value
            for guess in guesses
            if guess.fits
            and re.fullmatch("[0-9]+", value := str(guess.value))
            and not (self._language == "zh" and figures(guess.text))
        }
        lengths = _lengths(guesses, grammar)
        found = self._digits.find(samples, lengths, more.items(), "oh" in grammar.words)
        # Where the length is open, a digit said once must not be worth less than the same twice.
        each = 0.0 if _length(grammar) else _ONE_DIGIT_MORE
        return [
            _Guess(
                spaced(one.words, self._language),
                one.tokens,
                one.digits,
                one.score - each * len(one.digits),
            )
            for one in found
        ]


@lru_cache(maxsize=64)
def _of_digits(grammar: Grammar) -> bool:
    if grammar.kind:
        return grammar.kind in ("digits", "phone")
    return set(grammar.words) <= set(spoken.words("digits", grammar.language))


def _value(text: str, grammar: Grammar) -> object:
    """What the reader of the answer makes of a text; where no value is asked for, what it says."""
    if not grammar.kind:
        return figures(text) or text
    return spoken.parse(
        grammar.kind,
        text,
        grammar.language,
        now=_EVER,
        minimum=grammar.minimum,
        maximum=grammar.maximum,
    )


def _length(grammar: Grammar) -> int:
    """How many digits are asked for, 0 where that is open."""
    return grammar.minimum if grammar.minimum == grammar.maximum else 0


def _fits(length: int, grammar: Grammar) -> bool:
    return max(1, grammar.minimum) <= length <= (grammar.maximum or _LONGEST)


def _lengths(guesses: Iterable[_Guess], grammar: Grammar) -> list[int]:
    """How many digits it may be: as asked for, else as the likeliest beams had it."""
    if _length(grammar):
        return [_length(grammar)]
    said = [len(digits) for guess in guesses if (digits := figures(guess.text))][:3]
    return sorted(length for length in set(said) if _fits(length, grammar))
