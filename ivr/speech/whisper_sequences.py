"""Words in a row (digits, amounts, dates), of which no list could be complete.

A beam over the words' tokens proposes some; the reader that will read the answer is the grammar:
what it makes nothing of is no rival. Beams skip and repeat, above all in digits. So for
digits there are several beams, in words and in figures, with little room behind the speech and with
much, each of exactly as many digits as are asked for; and the best that they propose are scored
afresh by teacher forcing in both spellings. (Of eight-digit strings a beam alone gets a half.)
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
from ivr.speech.whisper_model import RATE, Encoded, Floats, Tokens, WhisperModel
from ivr.speech.whisper_spelling import (
    as_words,
    digit_signs,
    figures,
    forms,
    joints,
    one_by_one,
)

_ROOM = 1000  # frames
_WIDTH = 8
# With 1 the beam repeats a sequence to the end of its room, with 0 it drops words.
_LENGTH_PENALTY = 0.5
_LONGEST = 24  # tokens
_SHORTEST_WORD = 0.08  # seconds from one word's beginning to the next one's
_IMPLAUSIBLE = 20.0  # what a sequence loses that does not fit its audio
_IMPLAUSIBLE_AT_MOST = 0.3  # the confidence in one that is still the best
_DIGIT_WIDTH = 12
_FEW = 10  # strings of one length that are scored twice
# Of a string's score in figures beside that in words: the English model writes figures in groups
# that mislead it, in Mandarin they help against noise.
_FIGURES_WEIGHT = {"zh": 0.5}
_LONELY_LEAD = 4.0
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
        self._signs = _single(model, digit_signs(language))
        self._figures = _single(model, [(figure, figure) for figure in "0123456789"])

    def find(self, samples: Floats, audio: Encoded, grammar: Grammar) -> Sequence | None:
        """None where nothing was said that the words could be."""
        if not grammar.words:
            return None
        far = self._model.encode(samples, _ROOM)
        guesses = self._by_words(far, audio, samples, grammar)
        if _of_digits(grammar):
            guesses = self._by_digits(far, audio, guesses, grammar)
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
        confidence = self._calibration.confidence(each, lead)
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
        onsets = self._model.onsets(audio, tokens)
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

    def _by_digits(
        self, far: Encoded, near: Encoded, guesses: list[_Guess], grammar: Grammar
    ) -> list[_Guess]:
        lengths = _lengths(guesses, grammar)
        proposed: dict[str, None] = {}
        for length in lengths:
            for audio, table in ((near, self._signs), (near, self._figures), (far, self._signs)):
                for tokens, _ in self._model.beam(audio, frozenset(table), length, _DIGIT_WIDTH):
                    digits = "".join(table.get(token, "") for token in tokens)
                    if len(digits) == length:
                        proposed[digits] = None
        proposed |= dict.fromkeys(filter(None, (figures(guess.text) for guess in guesses)))
        # Freely written, digits come as a reader would have them: one more proposal, no more.
        written = spoken.parse(
            "digits",
            self._model.dictate(far)[0],
            self._language,
            now=_EVER,
            minimum=grammar.minimum,
            maximum=grammar.maximum,
        )
        if written:
            proposed[written] = None
        texts = {
            one_by_one(digits, self._language): digits
            for digits in proposed
            if _fits(len(digits), grammar)
        }
        if "oh" in grammar.words:
            texts |= {text.replace("zero", "oh"): digits for text, digits in texts.items()}
        # What is more than single digits ("nineteen eighty four") is its value in figures.
        for guess in guesses:
            value = str(guess.value)
            if guess.fits and re.fullmatch("[0-9]+", value) and not figures(guess.text):
                texts[guess.text] = value
        return self._scored(far, self._likeliest(near, texts), len(lengths) > 1)

    def _spelt(self, text: str) -> Tokens:
        return self._model.tokens(text if self._language == "zh" else f" {text}")

    def _likeliest(self, audio: Encoded, texts: dict[str, str]) -> dict[str, str]:
        """The few that are worth the room of another scoring."""
        scores = self._model.force(audio, [self._spelt(text) for text in texts])
        ranked = sorted(zip(scores, texts, strict=True), key=lambda one: -one[0])
        lengths: dict[int, int] = {}
        kept = []
        for _, text in ranked:  # of each length: the longer a text, the less likely it is
            lengths[len(texts[text])] = lengths.get(len(texts[text]), 0) + 1
            if lengths[len(texts[text])] <= _FEW:
                kept.append(text)
        return {text: texts[text] for text in kept}

    def _scored(self, audio: Encoded, texts: dict[str, str], of_any_length: bool) -> list[_Guess]:
        spelt = [self._spelt(text) for text in texts]
        in_signs = self._model.force(audio, spelt)
        weight = _FIGURES_WEIGHT.get(self._language, 0.0)
        in_figures = [0.0] * len(spelt)
        if weight:
            in_figures = self._model.force(
                audio, [self._model.tokens(one) for one in texts.values()]
            )
        ends = [0.0] * len(spelt)
        if of_any_length and spelt:
            # Whether it ends there tells strings of different lengths apart.
            best = sorted(range(len(spelt)), key=lambda index: -in_signs[index])[:12]
            after = self._model.next_tokens(audio, [spelt[index] for index in best])
            ends = [-_IMPLAUSIBLE] * len(spelt)
            for index, probabilities in zip(best, after, strict=True):
                ends[index] = float(probabilities[self._model.end])
        return [
            _Guess(text, tokens, value, signs + weight * plain + end)
            for (text, value), tokens, signs, plain, end in zip(
                texts.items(), spelt, in_signs, in_figures, ends, strict=True
            )
        ]


def _single(model: WhisperModel, signs: Iterable[tuple[str, str]]) -> dict[int, str]:
    """The digit of each token that is one; 零 is two tokens, but Whisper writes 0 too."""
    spelt = [(model.tokens(sign), digit) for sign, digit in signs]
    return {tokens[0]: digit for tokens, digit in spelt if len(tokens) == 1}


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


def _fits(length: int, grammar: Grammar) -> bool:
    return max(1, grammar.minimum) <= length <= (grammar.maximum or _LONGEST)


def _lengths(guesses: Iterable[_Guess], grammar: Grammar) -> list[int]:
    """How many digits it may be: as asked for, else as the beams had it and one more or less."""
    if grammar.minimum and grammar.minimum == grammar.maximum:
        return [grammar.minimum]
    said = [len(digits) for guess in guesses if (digits := figures(guess.text))][:3]
    near = {length + more for length in said for more in (0, 1)}
    return sorted(length for length in near if _fits(length, grammar))
