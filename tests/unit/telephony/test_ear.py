"""Where a robot's ear cuts, and what it takes for the same words."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.ports import FRAME_SECONDS
from ivr.telephony.ear import Ear, Utterance, similarity
from ivr.telephony.robot import MATCH

LOUD = struct.pack("<2h", 3000, -3000) * 80
NOISE = struct.pack("<2h", 60, -60) * 80
SILENT = bytes(320)


def hear(ear: Ear, *parts: tuple[bytes, float]) -> list[Utterance]:
    found = []
    at = 0.0
    for frame, seconds in parts:
        for _ in range(round(seconds / FRAME_SECONDS)):
            at += FRAME_SECONDS
            if utterance := ear.feed(frame, at):
                found.append(utterance)
    return found


def test_pauses_cut_and_breaths_do_not() -> None:
    ear = Ear(pause=0.4)
    first, second = hear(
        ear, (SILENT, 1), (LOUD, 1), (SILENT, 0.2), (LOUD, 1), (SILENT, 1), (LOUD, 0.5), (SILENT, 1)
    )
    assert (first.started, first.ended) == (pytest.approx(1.02), pytest.approx(3.2))
    assert (second.started, second.ended) == (pytest.approx(4.22), pytest.approx(4.7))
    assert not ear.speaking


def test_an_utterance_keeps_a_little_from_before_its_onset() -> None:
    (utterance,) = hear(Ear(), (NOISE, 1), (LOUD, 1), (SILENT, 1))
    assert utterance.pcm.startswith(NOISE * 4)
    assert utterance.pcm.count(LOUD) == 50


def test_noise_and_clicks_are_silence() -> None:
    ear = Ear()
    assert hear(ear, (NOISE, 2), (LOUD, 0.04), (NOISE, 2)) == []
    assert not ear.speaking


def test_music_is_cut_where_it_stands() -> None:
    utterances = hear(Ear(longest=3.0), (LOUD, 10))
    assert [round(len(u.pcm) / 16000) for u in utterances] == [3, 3, 3]


def test_a_cut_ends_one_utterance_and_what_goes_on_is_another() -> None:
    ear = Ear()
    hear(ear, (LOUD, 1))
    cut = ear.cut()
    assert cut is not None
    assert cut.ended == pytest.approx(1.0)
    assert ear.cut() is None
    assert ear.feed(LOUD, 1.02) is None
    assert not ear.speaking
    ear.feed(LOUD, 1.04)
    ear.feed(LOUD, 1.06)
    assert ear.started == pytest.approx(1.02)


@pytest.mark.parametrize(
    ("expected", "heard"),
    [
        # What Whisper tiny.en made of a piper voice at 8 kHz.
        ("Welcome to Acme Water", "Welcome to At Me Water. Say billing or press 1."),
        ("twelve dollars and fifty cents", "Your balance is $12.50."),
        ("You owe three hundred dollars", "you owe $300."),
        ("You are number 2, about 3 minutes", "You are number two, about three minutes."),
        ("one three eight zero zero one two three", "1 3 8 0 0 1 2 3"),
        ("Is 1 3 8 0 0 1 2 3 right", "is 1380-123 right."),
        ("eight digit account", "What is your 8-digit account number?"),
        ("Hello, this is Ann", "Hello, this is Anne. How can I help you?"),
        ("press one", "Say billing or press 1. Say repairs or press 2."),
        ("两分钟", "大约两分钟。"),
    ],
)
def test_the_same_words_however_written_are_heard(expected: str, heard: str) -> None:
    assert similarity(expected, heard) >= MATCH


@pytest.mark.parametrize(
    ("expected", "heard"),
    [
        ("I did not get that", "I did not hear you."),
        ("twelve dollars and fifty cents", "Your balance is $12.60."),
        ("press three", "Say billing or press 1. Say repairs or press 2."),
        ("your balance", "Welcome to Acme Water."),
        ("Goodbye", "Nobody can take your call now."),
        ("两分钟", "大约三分钟。"),
        ("anything", ""),
    ],
)
def test_other_words_are_not(expected: str, heard: str) -> None:
    assert similarity(expected, heard) < MATCH


@given(st.text(max_size=40), st.text(max_size=200))
def test_any_text_can_be_compared(expected: str, heard: str) -> None:
    assert 0.0 <= similarity(expected, heard) <= 1.0


@given(st.from_regex(r"[a-z]{1,8}( [a-z]{1,8}){0,5}", fullmatch=True))
def test_a_text_is_found_in_itself(text: str) -> None:
    assert similarity(text, f"Well: {text.upper()}!") == 1.0
