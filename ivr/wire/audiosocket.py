"""AudioSocket without I/O: a call's audio and keys as frames of kind, length and payload.

Source: https://docs.asterisk.org/Configuration/Channel-Drivers/AudioSocket/. Audio is 8 kHz, mono,
16 bit, little-endian; Asterisk 22 has more kinds for other rates, which only its channel driver
uses. Kinds that are not known are skipped, as the protocol wants.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from ivr.errors import LocalProtocolError, RemoteProtocolError

HANG_UP = b"\x00\x00\x00"
"""Ends the application on Asterisk's side; the dialplan, or AGI, goes on."""

FRAME_BYTES = 320
HEADER_BYTES = 3
PACKED_FRAME_BYTES = HEADER_BYTES + FRAME_BYTES
_AUDIO_HEADER = b"\x10" + FRAME_BYTES.to_bytes(2, "big")
_KEYS = frozenset("0123456789*#ABCD")

SILENCE = _AUDIO_HEADER + bytes(FRAME_BYTES)


@dataclass(slots=True)
class Identified:
    """The first frame: which call this is."""

    id: uuid.UUID


@dataclass(slots=True)
class AudioReceived:
    """What the caller says: usually, but not always, 320 bytes."""

    pcm: bytes


@dataclass(slots=True)
class KeyPressed:
    """One key of the caller's telephone."""

    key: str


@dataclass(slots=True)
class HungUp:
    """The caller is gone."""


@dataclass(slots=True)
class Failed:
    """Asterisk reports an error: 1 hung up, 2 frame forwarding, 4 memory."""

    code: int


AudioSocketEvent = Identified | AudioReceived | KeyPressed | HungUp | Failed


def pack(pcm: bytes) -> bytes:
    """Audio as frames of 20 ms, one after the other; the last one is filled up with silence."""
    if len(pcm) % 2:
        raise LocalProtocolError(f"audio of {len(pcm)} bytes is not of 16 bit")
    missing = -len(pcm) % FRAME_BYTES
    view = memoryview(pcm + bytes(missing) if missing else pcm)
    pieces: list[bytes | memoryview] = [b""] * (2 * (len(view) // FRAME_BYTES))
    pieces[0::2] = [_AUDIO_HEADER] * (len(pieces) // 2)
    pieces[1::2] = [view[at : at + FRAME_BYTES] for at in range(0, len(view), FRAME_BYTES)]
    return b"".join(pieces)


class AudioSocketReader:
    """Turns the bytes of one connection into events, however they are split."""

    def __init__(self) -> None:
        self._buffer = b""

    def receive_data(self, data: bytes) -> list[AudioSocketEvent]:
        """Raises RemoteProtocolError; the connection is then of no more use."""
        buffer = self._buffer + data if self._buffer else data
        events: list[AudioSocketEvent] = []
        at, size = 0, len(buffer)
        while size - at >= HEADER_BYTES:
            end = at + HEADER_BYTES + (buffer[at + 1] << 8 | buffer[at + 2])
            if end > size:
                break
            kind = buffer[at]
            payload = buffer[at + HEADER_BYTES : end]
            at = end
            event = AudioReceived(payload) if kind == 0x10 else _event(kind, payload)
            if event is not None:
                events.append(event)
        self._buffer = buffer[at:]
        return events


def _event(kind: int, payload: bytes) -> AudioSocketEvent | None:
    if kind == 0x00:
        return HungUp()
    if kind == 0x01:
        if len(payload) != 16:
            raise RemoteProtocolError(f"AudioSocket: an identity of {len(payload)} bytes, not 16")
        return Identified(uuid.UUID(bytes=payload))
    if kind == 0x03:
        key = payload.decode("ascii", "replace").upper()
        if key not in _KEYS:
            raise RemoteProtocolError(f"AudioSocket: {payload[:8]!r} is no key")
        return KeyPressed(key)
    if kind == 0xFF:
        return Failed(payload[0] if payload else 0)
    return None
