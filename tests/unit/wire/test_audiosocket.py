"""AudioSocket's frames, however they are split."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.errors import LocalProtocolError, RemoteProtocolError
from ivr.wire.audiosocket import (
    HANG_UP,
    SILENCE,
    AudioReceived,
    AudioSocketEvent,
    AudioSocketReader,
    Failed,
    HungUp,
    Identified,
    KeyPressed,
    pack,
)

CALL = uuid.UUID("12345678-1234-5678-1234-567812345678")
WHOLE = (
    b"\x01\x00\x10" + CALL.bytes + pack(bytes(range(256)) * 5) + b"\x03\x00\x015"
    b"\x42\x00\x02zz" + b"\x10\x00\x04abcd" + b"\xff\x00\x01\x01" + HANG_UP
)


def read(data: bytes) -> list[AudioSocketEvent]:
    return AudioSocketReader().receive_data(data)


def test_each_kind_and_unknown_kinds_are_skipped() -> None:
    first, *audio, key, odd, failed, over = read(WHOLE)
    assert first == Identified(CALL)
    assert b"".join(event.pcm for event in audio if isinstance(event, AudioReceived)) == (
        bytes(range(256)) * 5
    )
    assert [key, odd] == [KeyPressed("5"), AudioReceived(b"abcd")]
    assert [failed, over] == [Failed(1), HungUp()]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 320, 323, 324])
def test_every_size_of_piece_reads_the_same(size: int) -> None:
    reader = AudioSocketReader()
    events: list[AudioSocketEvent] = []
    for at in range(0, len(WHOLE), size):
        events += reader.receive_data(WHOLE[at : at + size])
    assert events == read(WHOLE)


def test_every_split_and_truncation_reads_the_same() -> None:
    events = read(WHOLE)
    for split in range(len(WHOLE)):
        reader = AudioSocketReader()
        first = reader.receive_data(WHOLE[:split])
        assert first == events[: len(first)]
        assert first + reader.receive_data(WHOLE[split:]) == events


@given(st.binary(max_size=400))
def test_garbage_is_frames_or_one_clear_error(data: bytes) -> None:
    try:
        read(data)
    except RemoteProtocolError as error:
        assert "\n" not in str(error)


@given(at=st.integers(0, len(WHOLE) - 1), byte=st.binary(max_size=3))
def test_mutated_input_is_frames_or_one_clear_error(at: int, byte: bytes) -> None:
    try:
        read(WHOLE[:at] + byte + WHOLE[at + 1 :])
    except RemoteProtocolError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("data", [b"\x01\x00\x02ab", b"\x03\x00\x01x", b"\x03\x00\x02#1"])
def test_impossible_frames_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read(data)


@given(st.binary(max_size=2000).filter(lambda pcm: len(pcm) % 2 == 0))
def test_packed_audio_comes_back_filled_up_with_silence(pcm: bytes) -> None:
    heard = b"".join(event.pcm for event in read(pack(pcm)) if isinstance(event, AudioReceived))
    assert heard == pcm + bytes(-len(pcm) % 320)


def test_half_a_sample_is_our_bug() -> None:
    with pytest.raises(LocalProtocolError):
        pack(b"abc")


def test_silence_is_one_frame() -> None:
    assert read(SILENCE) == [AudioReceived(bytes(320))]
