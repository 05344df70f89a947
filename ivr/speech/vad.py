"""Whether a frame has speech in it: WebRTC's detector behind a gate that follows the line's noise.

The detector alone takes hum, music and a noisy line for speech; loudness alone takes a door for it.
"""

from __future__ import annotations

import math

import numpy as np
import webrtcvad

from ivr.ports import FRAME_BYTES, SAMPLE_RATE

_STRICTNESS = 2  # of 0 to 3
_ABOVE_NOISE = 8.0  # dB
_QUIETEST = -52.0  # dBFS; softer than this is not meant for us
_FLOOR_AT_FIRST = -65.0
_FALL = 0.2  # how fast the floor follows to less noise, and
_RISE = 0.01  # to more, a frame


class VoiceDetector:
    """One line's ear for speech."""

    def __init__(self) -> None:
        self._vad = webrtcvad.Vad(_STRICTNESS)
        self._floor = _FLOOR_AT_FIRST

    def voiced(self, frame: bytes) -> bool:
        """Judge one frame; what is not a whole frame is silence."""
        if len(frame) != FRAME_BYTES:
            return False
        level = _dbfs(frame)
        speech = bool(self._vad.is_speech(frame, SAMPLE_RATE))
        if not speech:
            pace = _FALL if level < self._floor else _RISE
            self._floor += pace * (level - self._floor)
        return speech and level > max(_QUIETEST, self._floor + _ABOVE_NOISE)


def trim(pcm: bytes, margin: float = 0.3) -> bytes:
    """From the first to the last speech, with a margin; all of it where none is found."""
    detector = VoiceDetector()
    frames = [
        index
        for index in range(0, len(pcm) - FRAME_BYTES + 1, FRAME_BYTES)
        if detector.voiced(pcm[index : index + FRAME_BYTES])
    ]
    if not frames:
        return pcm
    around = int(margin * SAMPLE_RATE) * 2
    return pcm[max(0, frames[0] - around) : frames[-1] + FRAME_BYTES + around]


def _dbfs(frame: bytes) -> float:
    samples = np.frombuffer(frame, "<i2").astype(np.float32)
    return 10 * math.log10(float(np.mean(samples * samples)) / 2**30 + 1e-10)
