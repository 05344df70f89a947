"""A voice message as it is taken: when it begins, and when the caller has finished. Pure."""

from __future__ import annotations

from ivr.ports import FRAME_SECONDS
from ivr.wire.audio import rms_dbfs

_LOUD = -45.0  # dBFS: line noise stays below
_PATIENCE = 8.0  # seconds of silence after which nothing will be said
_PAUSE = 3.0  # seconds of silence that end what was said
_SHORTEST = 0.3  # seconds of sound: less is a click or a breath, and no message


class VoiceMessage:
    """What a caller says after the tone, frame by frame, at most `maximum` seconds of it."""

    def __init__(self, maximum: float):
        self._most = round(maximum / FRAME_SECONDS)
        self._frames: list[bytes] = []
        self._loud = 0
        self._spoken_to = 0

    def feed(self, frame: bytes) -> bool:
        """Take 20 ms; True when the message is over."""
        self._frames.append(frame)
        if rms_dbfs(frame) > _LOUD:
            self._loud += 1
            self._spoken_to = len(self._frames)
        quiet = (len(self._frames) - self._spoken_to) * FRAME_SECONDS
        return quiet >= (_PAUSE if self._spoken_to else _PATIENCE) or self._full

    @property
    def _full(self) -> bool:
        return len(self._frames) >= self._most

    @property
    def _said(self) -> int:
        """The frames up to the last sound; 0 if there was no message."""
        return self._spoken_to if self._loud * FRAME_SECONDS >= _SHORTEST else 0

    @property
    def pcm(self) -> bytes:
        """What was said, without the silence at its end; b"" if nothing was."""
        return b"".join(self._frames[: self._said])

    @property
    def seconds(self) -> float:
        return self._said * FRAME_SECONDS
