"""The arithmetic around Whisper: spellings, sequences, loudness and confidence."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.flow import spoken
from ivr.flow.events import Grammar
from ivr.speech.calibration import CHOICE, SEQUENCE, Calibration
from ivr.speech.calibration import DIGITS as STRINGS
from ivr.speech.whisper import choose
from ivr.speech.whisper_model import frames, level
from ivr.speech.whisper_sequences import _Guess, _lengths, _of_digits, _value
from ivr.speech.whisper_spelling import as_words, digit_signs, digit_words, figures, spaced, ways

DIGITS = ("zero", "oh", "o", "one", "two", "double")


def test_a_word_is_spelt_as_whisper_would() -> None:
    assert list(ways("two", "en")) == [" two", " Two.", " 2"]
    assert list(ways("my bill", "en")) == [" my bill", " My bill."]
    assert list(ways("账单", "zh")) == ["账单"]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (" One, two, double O.", "one two double oh"),
        (" one", "one"),
        (" one hundred", ""),
        ("", ""),
        (" ,.", ""),
    ],
)
def test_a_sequence_is_made_of_the_grammars_words_alone(written: str, text: str) -> None:
    assert as_words(written, DIGITS, "en") == text


def test_a_chinese_sequence_needs_no_spaces() -> None:
    words = ("一", "二", "十", "十二")
    assert as_words("十二 一", words, "zh") == "十二一"
    assert as_words("十三", words, "zh") == ""


PLAIN = Calibration(1.0, 0.5, -1.2)


def test_strong_evidence_is_confidence_and_none_is_nothing() -> None:
    sure = choose({"bill": 6.0, "repairs": -3.0}, PLAIN)
    assert sure.text == "bill" and sure.confidence > 0.95
    nothing = choose({"bill": -4.0, "repairs": -4.1}, PLAIN)
    assert nothing.text == "" and nothing.confidence < 0.05
    assert choose({}, PLAIN).text == ""


def test_two_that_are_alike_are_told_as_alternatives() -> None:
    reading = choose({"bill": 2.0, "pill": 1.9, "repairs": -9.0}, PLAIN)
    assert reading.text == "bill"
    assert reading.confidence < 0.75
    assert [text for text, _ in reading.alternatives] == ["pill"]


@pytest.mark.parametrize("calibration", [*CHOICE.values(), *SEQUENCE.values(), *STRINGS.values()])
def test_more_evidence_and_more_lead_are_more_confidence(calibration: Calibration) -> None:
    assert calibration.confidence(0.0, 0.2) < calibration.confidence(0.5, 0.2)
    assert calibration.confidence(0.0, 0.2) < calibration.confidence(0.0, 0.5)
    assert calibration.confidence(0.0, 50.0) == calibration.confidence(0.0, 4.0)
    assert 0 <= calibration.confidence(-1e9, -1e9) < calibration.confidence(1e9, 1e9) < 1


# --- strings of digits ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("一三八零零", "13800"),
        ("幺三八洞洞", "13800"),
        ("one oh zero", "100"),
        ("nineteen", ""),
        ("两千三百", ""),
        ("", ""),
    ],
)
def test_digits_one_by_one_are_figures(text: str, digits: str) -> None:
    assert figures(text) == digits


@given(st.text("0123456789", min_size=1, max_size=12), st.sampled_from(["en", "zh"]))
def test_figures_said_one_by_one_are_the_same_figures(digits: str, language: str) -> None:
    names = digit_words(language, False)
    assert figures(spaced([names[int(digit)] for digit in digits], language)) == digits
    assert {digit for _, digit in digit_signs(language)} == set("0123456789")


def _digits(language: str, minimum: int = 0, maximum: int = 0) -> Grammar:
    words = spoken.words("digits", language)
    return Grammar(language, (), words, "digits", minimum, maximum)


def test_the_reader_of_the_answer_is_the_grammar() -> None:
    assert _value("nineteen eighty four", _digits("en", 4, 4)) == "1984"
    assert _value("double oh seven", _digits("en", 3, 3)) == "007"
    assert _value("one two", _digits("en", 8, 8)) is None
    assert _value("两千三百块", Grammar("zh", (), ("两", "千", "三", "百", "块"), "money")) == 2300
    assert _value("agent one", Grammar("en", (), ("one",))) == "agent one"


def test_as_many_digits_are_looked_for_as_were_asked_for() -> None:
    heard = [_Guess(text, (), text, 0.0) for text in ("一二三", "一二三四", "两千")]
    assert _lengths(heard, _digits("zh", 8, 8)) == [8]
    assert _lengths(heard, _digits("zh")) == [3, 4]
    assert _lengths(heard, _digits("zh", 4, 6)) == [4]


def test_words_of_digits_are_digits_without_being_told() -> None:
    assert _of_digits(Grammar("zh", (), spoken.words("digits", "zh")))
    assert not _of_digits(Grammar("zh", (), spoken.words("date", "zh")))
    assert not _of_digits(Grammar("zh", (), spoken.words("date", "zh"), "date"))


# --- arithmetic ----------------------------------------------------------------------------------

SCORES = st.floats(-1e6, 1e6)


@given(st.dictionaries(st.text(min_size=1, max_size=3), SCORES, max_size=8))
def test_confidence_is_always_a_share(evidence: dict[str, float]) -> None:
    reading = choose(evidence, PLAIN)
    for confidence in (reading.confidence, *(one for _, one in reading.alternatives)):
        assert 0 <= confidence <= 1 and math.isfinite(confidence)
    assert reading.text not in [text for text, _ in reading.alternatives] or not reading.text


@given(st.binary(max_size=2000))
def test_any_bytes_are_levelled_audio(pcm: bytes) -> None:
    samples = level(pcm)
    assert np.isfinite(samples).all()
    assert samples.size == 0 or np.abs(samples).max() <= 1.5


@pytest.mark.parametrize(("seconds", "size"), [(0.2, 200), (2.5, 280), (5.0, 530), (40, 3000)])
def test_the_encoder_gets_as_much_as_was_said(seconds: float, size: int) -> None:
    assert frames(np.zeros(int(seconds * 16_000), np.float32)) == size
