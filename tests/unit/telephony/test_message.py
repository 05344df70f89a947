"""When a voice message is over, and what of it is kept."""

from __future__ import annotations

import struct

import pytest

from ivr.ports import FRAME_SECONDS
from ivr.telephony.message import VoiceMessage

SPEECH = struct.pack("<2h", 4000, -4000) * 80
NOISE = struct.pack("<2h", 60, -60) * 80
SILENCE = bytes(320)


def fed(message: VoiceMessage, frame: bytes, seconds: float) -> float:
    """How many seconds of it the message took before it was over; all of them if it was not."""
    frames = round(seconds / FRAME_SECONDS)
    for number in range(1, frames + 1):
        if message.feed(frame):
            return number * FRAME_SECONDS
    return seconds


def test_a_pause_of_three_seconds_ends_it_and_is_not_kept() -> None:
    message = VoiceMessage(60)
    assert fed(message, SPEECH, 2) == 2
    assert fed(message, SILENCE, 10) == pytest.approx(3)
    assert message.seconds == pytest.approx(2)
    assert message.pcm == SPEECH * 100


def test_a_shorter_pause_belongs_to_it() -> None:
    message = VoiceMessage(60)
    fed(message, SPEECH, 1)
    fed(message, NOISE, 2)
    fed(message, SPEECH, 1)
    assert message.seconds == pytest.approx(4)


@pytest.mark.parametrize("quiet", [SILENCE, NOISE])
def test_who_says_nothing_is_given_eight_seconds_and_leaves_nothing(quiet: bytes) -> None:
    message = VoiceMessage(60)
    assert fed(message, quiet, 20) == pytest.approx(8)
    assert (message.pcm, message.seconds) == (b"", 0)


def test_a_click_is_no_message() -> None:
    message = VoiceMessage(60)
    fed(message, SPEECH, 0.2)
    assert fed(message, SILENCE, 10) == pytest.approx(3)
    assert (message.pcm, message.seconds) == (b"", 0)


def test_it_is_never_longer_than_the_flow_allows() -> None:
    message = VoiceMessage(5)
    assert fed(message, SPEECH, 20) == pytest.approx(5)
    assert message.seconds == pytest.approx(5)
