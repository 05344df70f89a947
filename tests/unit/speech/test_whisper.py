"""The arithmetic around Whisper: spellings, sequences, loudness and confidence."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.speech.whisper import _as_words, _frames, _level, _reading, _ways

DIGITS = ("zero", "oh", "o", "one", "two", "double")


def test_a_word_is_spelt_as_whisper_would() -> None:
    assert list(_ways("two", "en")) == [" two", " Two.", " 2"]
    assert list(_ways("my bill", "en")) == [" my bill", " My bill."]
    assert list(_ways("账单", "zh")) == ["账单"]


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
    assert _as_words(written, DIGITS, "en") == text


def test_a_chinese_sequence_needs_no_spaces() -> None:
    words = ("一", "二", "十", "十二")
    assert _as_words("十二 一", words, "zh") == "十二一"
    assert _as_words("十三", words, "zh") == ""


def test_strong_evidence_is_confidence_and_none_is_nothing() -> None:
    sure = _reading({"bill": 6.0, "repairs": -3.0}, 1.2)
    assert sure.text == "bill" and sure.confidence > 0.95
    nothing = _reading({"bill": -4.0, "repairs": -4.1}, 1.2)
    assert nothing.text == "" and nothing.confidence < 0.05
    assert _reading({}, 1.2).text == ""


def test_two_that_are_alike_are_told_as_alternatives() -> None:
    reading = _reading({"bill": 2.0, "pill": 1.9, "repairs": -9.0}, 1.2)
    assert reading.text == "bill"
    assert reading.confidence < 0.75
    assert [text for text, _ in reading.alternatives] == ["pill"]


SCORES = st.floats(-1e6, 1e6)


@given(st.dictionaries(st.text(min_size=1, max_size=3), SCORES, max_size=8), SCORES)
def test_confidence_is_always_a_share(evidence: dict[str, float], at_half: float) -> None:
    reading = _reading(evidence, at_half)
    for confidence in (reading.confidence, *(one for _, one in reading.alternatives)):
        assert 0 <= confidence <= 1 and math.isfinite(confidence)
    assert reading.text not in [text for text, _ in reading.alternatives] or not reading.text


@given(st.binary(max_size=2000))
def test_any_bytes_are_levelled_audio(pcm: bytes) -> None:
    samples = _level(pcm)
    assert np.isfinite(samples).all()
    assert samples.size == 0 or np.abs(samples).max() <= 1.5


@pytest.mark.parametrize(("seconds", "frames"), [(0.2, 200), (2.5, 280), (5.0, 530), (40, 3000)])
def test_the_encoder_gets_as_much_as_was_said(seconds: float, frames: int) -> None:
    assert _frames(np.zeros(int(seconds * 16_000), np.float32)) == frames
