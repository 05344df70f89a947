"""Two sides of a call on one clock: what a recording is made of, whatever the network did to them.

The side that we play comes at every tick; the caller's comes as the network brings it, in bursts
and with gaps. A tick takes one frame of each; a side that has none is silent for that tick, and one
that has too many gives up the oldest, so that both stay together for hours.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from ivr.wire.audiosocket import FRAME_BYTES

MOST_AHEAD = 10
"""Frames (200 ms) that a side may be ahead of the clock before its oldest are given up."""

STEREO_BYTES = 2 * FRAME_BYTES
_SILENT = bytes(FRAME_BYTES)


class Duplex:
    """Frames of the left and the right side in, stereo out: left the caller, right us or an agent.

    All are 20 ms of 8 kHz, 16 bit little-endian: 320 bytes a side.
    """

    def __init__(self) -> None:
        self._left: deque[bytes] = deque(maxlen=MOST_AHEAD)
        self._right: deque[bytes] = deque(maxlen=MOST_AHEAD)
        self._lefts: list[bytes] = []
        self._rights: list[bytes] = []

    def left(self, frame: bytes) -> None:
        self._left.append(frame)

    def right(self, frame: bytes) -> None:
        self._right.append(frame)

    def tick(self) -> int:
        """Put one frame of each side together; how many are together now."""
        self._lefts.append(self._left.popleft() if self._left else _SILENT)
        self._rights.append(self._right.popleft() if self._right else _SILENT)
        return len(self._lefts)

    def forget(self) -> None:
        """Drop what has come and was not put together yet."""
        self._left.clear()
        self._right.clear()

    def forget_left(self) -> None:
        self._left.clear()

    def take(self) -> bytes:
        """What was put together since the last time: the samples of both sides in turns."""
        sides = (b"".join(self._lefts), b"".join(self._rights))
        self._lefts.clear()
        self._rights.clear()
        return np.stack([np.frombuffer(side, "<i2") for side in sides], axis=1).tobytes()
