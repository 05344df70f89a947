"""RTP as a telephone speaks it: µ-law, and keys as events, every 20 ms (RFC 3550, RFC 4733).

Pure: a `Sender` says which datagrams leave at a tick, and `parse` says what came in. Nothing here
knows a socket or a clock, so the robot's phone and the tests' packet captures share it.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from ivr.errors import LocalProtocolError, RemoteProtocolError

PCMU = 0
TICK_SAMPLES = 160
"""Samples, and so bytes of µ-law and units of the RTP clock, in the 20 ms between two ticks."""

SILENCE = b"\xff" * TICK_SAMPLES
KEYS = "0123456789*#ABCD"

_HEADER = struct.Struct("!BBHII")
_EVENT = struct.Struct("!BBH")
_KEY_TICKS = 5  # 100 ms: twice the least that receivers must take
_GAP_TICKS = 4  # 80 ms between keys: a repeated digit must not melt into one
_VOLUME = 10  # -10 dBm0, what telephones send
_END = 0x80
_END_COPIES = 3  # RFC 4733, 2.5.1.4: the end is what must not be lost


@dataclass(frozen=True, slots=True)
class Packet:
    """One RTP datagram. `timestamp` counts samples; both counters wrap around."""

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    marker: bool = False

    def encode(self) -> bytes:
        """The datagram, without extension, padding or contributors."""
        second = self.payload_type | (0x80 if self.marker else 0)
        head = _HEADER.pack(0x80, second, self.sequence, self.timestamp, self.ssrc)
        return head + self.payload


def parse(datagram: bytes) -> Packet:
    """Read one datagram. Raises RemoteProtocolError on anything that is not RTP version 2."""
    if len(datagram) < _HEADER.size or datagram[0] >> 6 != 2:
        raise RemoteProtocolError(f"not an RTP packet: {len(datagram)} bytes")
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(datagram)
    start = _HEADER.size + 4 * (first & 0x0F)
    if first & 0x10:
        if len(datagram) < start + 4:
            raise RemoteProtocolError("RTP packet ends inside its extension")
        start += 4 + 4 * int.from_bytes(datagram[start + 2 : start + 4], "big")
    end = len(datagram)
    if first & 0x20:
        end -= datagram[-1]
    if start > end:
        raise RemoteProtocolError("RTP packet is shorter than its header says")
    return Packet(second & 0x7F, sequence, timestamp, ssrc, datagram[start:end], second >= 0x80)


class KeyReader:
    """Keys that a peer presses, each told once however many packets it takes (RFC 4733, 2.5.1).

    All packets of one press carry the time when it began, so any one of them will do, the last
    copies of its end included. What is late belongs to a press that was told already.
    """

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None  # source and beginning

    def read(self, packet: Packet) -> str:
        """The key that this packet tells for the first time, else ""."""
        if len(packet.payload) < _EVENT.size or packet.payload[0] >= len(KEYS):
            return ""
        if self._last is not None and self._last[0] == packet.ssrc:
            ahead = (packet.timestamp - self._last[1]) & 0xFFFFFFFF
            if ahead == 0 or ahead >= 0x80000000:
                return ""
        self._last = (packet.ssrc, packet.timestamp)
        return KEYS[packet.payload[0]]


class Sender:
    """One direction of a call: what is played and pressed, turned into a packet or more each tick.

    Keys go before audio, which waits for them; with nothing to send there is silence, because a
    telephone never stops sending. `key_type` is the payload type of telephone events that the peer
    asked for.
    """

    def __init__(self, *, ssrc: int, sequence: int = 0, timestamp: int = 0, key_type: int = 101):
        self.key_type = key_type
        self._ssrc = ssrc
        self._sequence = sequence
        self._timestamp = timestamp
        self._audio: deque[bytes] = deque()
        self._keys: deque[tuple[int, int]] = deque()  # (event, tick within it); -1 is the gap
        self._event_began = 0

    def play(self, ulaw: bytes) -> None:
        """Queue audio; the last piece is filled up to a whole tick with silence."""
        for start in range(0, len(ulaw), TICK_SAMPLES):
            self._audio.append(ulaw[start : start + TICK_SAMPLES].ljust(TICK_SAMPLES, b"\xff"))

    def stop(self) -> None:
        """Forget the audio that has not been sent."""
        self._audio.clear()

    def press(self, keys: str) -> None:
        """Queue keys. Raises LocalProtocolError for what is not on a keypad."""
        for key in keys.upper():
            if key not in KEYS:
                raise LocalProtocolError(f"no telephone has the key {key!r}")
        for key in keys.upper():
            event = KEYS.index(key)
            self._keys.extend((event, tick) for tick in range(1, _KEY_TICKS + 1))
            self._keys.extend([(-1, 0)] * _GAP_TICKS)

    @property
    def playing(self) -> bool:
        """Whether queued audio is left."""
        return bool(self._audio)

    @property
    def queued(self) -> int:
        """Ticks of audio that are still to be sent."""
        return len(self._audio)

    @property
    def keys_queued(self) -> int:
        """Keys that are still to be sent."""
        return -(-len(self._keys) // (_KEY_TICKS + _GAP_TICKS))

    @property
    def pressing(self) -> bool:
        """Whether a key is still to be sent to its end (the gap after it does not count)."""
        return any(event >= 0 for event, _ in self._keys)

    def tick(self) -> Iterator[bytes]:
        """The datagrams of these 20 ms."""
        event, key_tick = self._keys.popleft() if self._keys else (-1, 0)
        if event >= 0:
            yield from self._event(event, key_tick)
        else:
            audio = self._audio.popleft() if self._audio and not self._keys else SILENCE
            yield self._packet(PCMU, self._timestamp, audio)
        self._timestamp = (self._timestamp + TICK_SAMPLES) & 0xFFFFFFFF

    def _event(self, event: int, tick: int) -> Iterator[bytes]:
        if tick == 1:
            self._event_began = self._timestamp
        last = tick == _KEY_TICKS
        payload = _EVENT.pack(event, _VOLUME | (_END if last else 0), tick * TICK_SAMPLES)
        for _ in range(_END_COPIES if last else 1):
            yield self._packet(self.key_type, self._event_began, payload, marker=tick == 1)

    def _packet(self, kind: int, timestamp: int, payload: bytes, *, marker: bool = False) -> bytes:
        packet = Packet(kind, self._sequence, timestamp, self._ssrc, payload, marker)
        self._sequence = (self._sequence + 1) & 0xFFFF
        return packet.encode()
