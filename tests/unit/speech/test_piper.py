"""piper begins to speak early, says what it says as a whole, and never a command of its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.speech import piper
from ivr.speech.loudness import LOUDNESS, loudness
from ivr.speech.piper import Piper, clauses


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Yes, please.", ["Yes, please."]),
        ("You owe twelve dollars, and it is due.", ["You owe twelve dollars,", "and it is due."]),
        ("No comma at all.", ["No comma at all."]),
        ("1,234.50 dollars", ["1,234.50 dollars"]),
    ],
)
def test_a_sentence_is_cut_where_its_reader_breathes(text: str, parts: list[str]) -> None:
    assert clauses(text) == parts


@given(st.text("ab, ", max_size=400))
def test_cutting_loses_nothing(text: str) -> None:
    assert " ".join(clauses(text)) == text


@pytest.fixture(scope="module")
def voice() -> Piper:
    assert piper.installed(), "the extra `piper` is part of `make setup`"
    return Piper()


@pytest.mark.models
def test_the_parts_are_the_very_samples_of_the_whole(voice: Piper) -> None:
    (phonemes,) = voice._voice.phonemize("Your balance is twelve dollars and fifty cents.")
    frames = voice._encoded(phonemes)
    parts = list(voice._decoded(frames))
    whole = voice._decoder.run(None, {piper._DECODER_INPUT: frames})[0].ravel()
    assert len(parts) > 2 and len(parts[0]) < len(whole) / 3
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)


@pytest.mark.models
@pytest.mark.parametrize(
    "text",
    [
        "Yes.",
        "You are number three in line, about four minutes.",
        "One three eight zero zero.",
        "Thank you for calling Acme Water. Goodbye.",
        "It is 12:30 on 3 May 2026, and you owe $1,234.50.",
    ],
)
def test_every_sentence_is_as_loud(voice: Piper, text: str) -> None:
    samples = np.concatenate(list(voice.speak(text, "en")))
    # The model speaks a little differently each time; a single word is the least certain.
    assert loudness(samples) == pytest.approx(LOUDNESS, abs=2.5)
    assert np.abs(samples).max() < 1
    assert not samples[-1000:].any(), "the silence after a sentence"


@pytest.mark.models
def test_a_title_is_no_sentence(voice: Piper) -> None:
    one, other = (
        len(np.concatenate(list(voice.speak(text, "en"))))
        for text in ("Dr. Smith is in.", "Doctor Smith is in.")
    )
    assert one == pytest.approx(other, rel=0.2)


@pytest.mark.models
def test_what_is_hardly_text_is_survived(voice: Piper) -> None:
    for text in ("?", ", , ,", "x" * 300, "Ω≈ç√", "你好", "(, 1"):
        list(voice.speak(text, "en"))
