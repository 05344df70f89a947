"""Samples in their containers."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivr.errors import RemoteProtocolError
from ivr.wire.audio import (
    SILENT_DBFS,
    pcm_to_ulaw,
    read_wav,
    rms_dbfs,
    ulaw_to_pcm,
    wav_header,
    write_wav,
)


def tone(rate: int, seconds: float = 0.5, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * 400 * np.arange(int(rate * seconds)) / rate)


def wav(samples: np.ndarray, rate: int, width: int, channels: int) -> bytes:
    scaled = np.repeat(np.round(samples * (2 ** (8 * width - 1) - 1)).astype("<i4"), channels)
    if width == 1:
        frames = (scaled + 128).astype(np.uint8).tobytes()
    else:
        frames = scaled.view(np.uint8).reshape(-1, 4)[:, :width].tobytes()
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(frames)
    return buffer.getvalue()


def test_ulaw_is_g711s() -> None:
    decoded = np.frombuffer(ulaw_to_pcm(bytes([0x00, 0x7E, 0x7F, 0x80, 0xFE, 0xFF])), "<i2")
    assert decoded.tolist() == [-32124, -8, 0, 32124, 8, 0]
    assert pcm_to_ulaw(np.array([0, 32767, -32768], "<i2").tobytes()) == b"\xff\x80\x00"


def test_every_code_survives_and_no_sample_is_far_off() -> None:
    codes = bytes(code for code in range(256) if code != 0x7F)  # minus zero
    assert pcm_to_ulaw(ulaw_to_pcm(codes)) == codes
    samples = np.arange(-32768, 32768)
    back = np.frombuffer(ulaw_to_pcm(pcm_to_ulaw(samples.astype("<i2").tobytes())), "<i2")
    assert (np.abs(back - samples) <= np.maximum(16, np.abs(samples) // 16)).all()


@given(st.binary(max_size=1000).filter(lambda pcm: len(pcm) % 2 == 0))
def test_wav_keeps_our_pcm_as_it_is(pcm: bytes) -> None:
    assert read_wav(write_wav(pcm)) == pcm


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_wav_becomes_our_pcm(rate: int, width: int, channels: int) -> None:
    heard = np.frombuffer(read_wav(wav(tone(rate), rate, width, channels)), "<i2") / 32768
    expected = tone(8000)
    assert abs(len(heard) - len(expected)) <= 2
    middle = slice(400, 3600)
    assert np.abs(heard[middle] - expected[middle]).max() < 0.02


GOOD = wav(tone(16000, 0.02), 16000, 2, 1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF",
        b"OggS" + bytes(100),
        GOOD[:30],
        GOOD.replace(b"\x01\x00\x01\x00", b"\x55\0\1\0", 1),
    ],
)
def test_what_is_no_wav_is_refused_in_one_line(content: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read_wav(content)
    assert "\n" not in str(caught.value)


@settings(max_examples=300)
@given(at=st.integers(0, 60), byte=st.binary(max_size=4), end=st.integers(0, len(GOOD)))
def test_mutated_and_truncated_files_are_audio_or_one_clear_error(
    at: int, byte: bytes, end: int
) -> None:
    try:
        assert len(read_wav((GOOD[:at] + byte + GOOD[at + 1 :])[:end])) % 2 == 0
    except RemoteProtocolError as error:
        assert "\n" not in str(error)


def test_loudness() -> None:
    square = np.tile(np.array([16384, -16384], "<i2"), 100).tobytes()
    assert rms_dbfs(square) == pytest.approx(-6.02, abs=0.01)
    assert rms_dbfs(bytes(320)) == rms_dbfs(b"") == SILENT_DBFS


def test_a_header_of_our_own_is_the_one_that_python_writes() -> None:
    pcm = b"\1\2" * 100
    assert wav_header(1, len(pcm)) + pcm == write_wav(pcm)
    with wave.open(io.BytesIO(wav_header(2, len(pcm)) + pcm)) as file:
        assert (file.getnchannels(), file.getnframes(), file.getframerate()) == (2, 50, 8000)
