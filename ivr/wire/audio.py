"""Samples in their containers: µ-law, PCM and WAV files. All our PCM is 8 kHz, mono, 16 bit.

µ-law is ITU-T G.711, by table; Python's own `audioop` is gone from 3.13 on.
"""

from __future__ import annotations

import io
import math
import struct
import wave
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from ivr.errors import RemoteProtocolError

SAMPLE_RATE = 8000
_RATES = range(4000, 192_001)
_LONGEST_SECONDS = 3600
_CLIP = 32635
_BIAS = 132
SILENT_DBFS = -96.0


def _ulaw_decoding() -> npt.NDArray[np.int16]:
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = (((code & 0x0F) << 3) + _BIAS << ((code >> 4) & 7)) - _BIAS
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _ulaw_encoding() -> npt.NDArray[np.uint8]:
    sample = np.arange(-32768, 32768, dtype=np.int32)
    magnitude = np.minimum(np.abs(sample), _CLIP) + _BIAS
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    sign = np.where(sample < 0, 0x80, 0)
    code: npt.NDArray[np.uint8] = (~(sign | exponent << 4 | mantissa) & 0xFF).astype(np.uint8)
    return np.roll(code, -32768)  # so that a sample's bits are its index


_DECODE = _ulaw_decoding()
_ENCODE = _ulaw_encoding()


def ulaw_to_pcm(ulaw: bytes) -> bytes:
    """Two bytes for each."""
    samples: npt.NDArray[np.int16] = _DECODE[np.frombuffer(ulaw, np.uint8)]
    return bytes(samples.astype("<i2", copy=False).tobytes())


def pcm_to_ulaw(pcm: bytes) -> bytes:
    """One byte for each two."""
    return bytes(_ENCODE[np.frombuffer(pcm, "<u2")].tobytes())


def read_wav(content: bytes) -> bytes:
    """Our PCM from any uncompressed WAV file: 8 to 32 bit, any rate, channels mixed down.

    Raises RemoteProtocolError in one line for anything else.
    """
    try:
        with wave.open(io.BytesIO(content)) as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            frames = file.readframes(file.getnframes())
    except (wave.Error, EOFError, ValueError, RuntimeError) as error:
        raise RemoteProtocolError(f"not a WAV file of PCM: {error or 'it ends early'}") from None
    if rate not in _RATES or not 1 <= channels <= 8 or not 1 <= width <= 4:
        raise RemoteProtocolError(
            f"WAV of {rate} Hz, {channels} channels, {8 * width} bit: not something to hear"
        )
    if len(frames) > _LONGEST_SECONDS * rate * channels * width:
        raise RemoteProtocolError(f"WAV of more than {_LONGEST_SECONDS} seconds")
    whole = len(frames) - len(frames) % (width * channels)
    samples: Any = _floats(frames[:whole], width).reshape(-1, channels).mean(axis=1)
    return pcm_from_floats(samples, rate)


def _floats(frames: bytes, width: int) -> npt.NDArray[np.float32]:
    octets = np.frombuffer(frames, np.uint8).reshape(-1, width)
    padded = np.zeros((len(octets), 4), np.uint8)
    # 8 bit is the one width that WAV keeps unsigned.
    padded[:, 4 - width :] = octets ^ 0x80 if width == 1 else octets
    samples: npt.NDArray[np.float32] = padded.view("<i4").reshape(-1).astype(np.float32)
    samples /= 2**31
    return samples


def pcm_from_floats(samples: npt.NDArray[np.float32], rate: int) -> bytes:
    """Our PCM from samples between -1 and 1 at any rate."""
    if rate != SAMPLE_RATE and samples.size:
        samples = np.asarray(soxr.resample(samples, rate, SAMPLE_RATE), np.float32)
    scaled = np.clip(np.rint(samples * 32768), -32768, 32767)
    return scaled.astype("<i2").tobytes()


def write_wav(pcm: bytes) -> bytes:
    """A WAV file of our PCM."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(pcm)
    return buffer.getvalue()


WAV_HEADER_BYTES = 44


def wav_header(channels: int, size: int) -> bytes:
    """What stands before `size` bytes of our PCM, or of several channels of it, in a WAV file."""
    width = 2 * channels
    form = struct.pack("<HHIIHH", 1, channels, SAMPLE_RATE, SAMPLE_RATE * width, width, 16)
    riff = struct.pack("<4sI4s4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", len(form))
    return riff + form + struct.pack("<4sI", b"data", size)


def rms_dbfs(pcm: bytes) -> float:
    """Loudness relative to full scale; `SILENT_DBFS` for nothing at all."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float64)
    mean = float(np.mean(samples * samples)) if samples.size else 0.0
    return max(SILENT_DBFS, 10 * math.log10(mean / 2**30)) if mean else SILENT_DBFS
