"""The audio of SIP calls that we carry ourselves: one 20 ms clock for all, and a stream for each.

A stream sends every 20 ms, hands on what comes and leaves no gap. What comes is anybody's: a packet
that is none, that is empty, late, huge or from elsewhere is dropped, and nothing else happens.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from ivr.errors import CallGone, RemoteProtocolError, TelephonyError
from ivr.observe import TICK_LATE
from ivr.ports import FRAME_BYTES, FRAME_SECONDS
from ivr.wire.audio import pcm_to_ulaw, ulaw_to_pcm
from ivr.wire.rtp import PCMU, KeyReader, Sender, parse

log = structlog.get_logger(__name__)

_GAP = 0.1  # seconds without audio before silence is put in its place
_BEHIND = 0.5  # seconds of lost time that are caught up with; more is dropped
_SHORTEST_TICK = 0.005  # while catching up: no bursts
_STRAYS = 25  # packets in a row that seem late: the sender has begun to count anew
_LARGEST = 1600  # bytes of µ-law in a packet, 200 ms; telephones send 20
_BURST = 50  # frames that may come at once, and then two for each tick: nobody speaks faster
_RELAYED = 5  # frames of another call that may wait: more would be an echo a long way off
_KEYS_KEPT = 32

Source = Callable[[float], bytes]
"""What a stream sends next: 160 bytes of µ-law at the given time, or b"" for silence."""


class Ticker:
    """The 20 ms clock of any number of streams; it stands still while there are none."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ticks: list[Callable[[float], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def add(self, tick: Callable[[float], None]) -> None:
        """Have it called every 20 ms from now on."""
        self._ticks.append(tick)
        if self._timer is None:
            self._due = self._loop.time()
            self._timer = self._loop.call_at(self._due, self._tick)

    def remove(self, tick: Callable[[float], None]) -> None:
        """Idempotent."""
        if tick in self._ticks:
            self._ticks.remove(tick)
        if not self._ticks and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        now = self._loop.time()
        late = max(0.0, now - self._due)
        TICK_LATE.observe(late)
        self._due = now if late > _BEHIND else self._due
        self._due += FRAME_SECONDS
        self._timer = self._loop.call_at(max(self._due, now + _SHORTEST_TICK), self._tick)
        for tick in tuple(self._ticks):
            try:
                tick(now)
            except Exception as error:  # one call's fault is not the others'
                log.exception("a call's audio failed", error=str(error))


class RtpStream(asyncio.DatagramProtocol):
    """Audio and keys to one peer, audio and keys from it."""

    def __init__(self, ticker: Ticker | None = None) -> None:
        self._listeners: list[Callable[[bytes], None]] = []
        self._hearers: list[Callable[[bytes], None]] = []
        self._key_listeners: list[Callable[[str], None]] = []
        self._loop = asyncio.get_running_loop()
        self._ticker = ticker or Ticker()
        self._ticking = False
        self._transport: asyncio.DatagramTransport | None = None
        self._remote: tuple[str, int] | None = None
        self._source: Source | None = None
        self._heard_until = 0.0
        self._filling = False
        self._allowed = _BURST
        self._rest = b""
        self._last: tuple[int, int] | None = None  # source and sequence number
        self._strays = 0
        self.last_packet = self._loop.time()  # when anything last came from the peer
        self._keys = KeyReader()
        self._speaking = asyncio.Lock()
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._closed = False
        self._sender = Sender(
            ssrc=random.getrandbits(32),
            sequence=random.getrandbits(16),
            timestamp=random.getrandbits(32),
        )

    async def open(self, host: str, ports: Sequence[int] = ()) -> None:
        """Bind a free port, one of those given if any are; nothing is sent yet. Raises
        TelephonyError when all are taken."""
        first = random.getrandbits(16) % len(ports) if ports else 0
        for port in (*ports[first:], *ports[:first]) or (0,):
            try:
                self._transport, _ = await self._loop.create_datagram_endpoint(
                    lambda: self, local_addr=(host, port)
                )
            except OSError:
                continue
            if self._closed:
                self._transport.close()
            return
        raise TelephonyError(f"no RTP port is free on {host}")

    @property
    def port(self) -> int:
        assert self._transport is not None
        port: int = self._transport.get_extra_info("sockname")[1]
        return port

    def aim(self, remote: tuple[str, int] | None, key_type: int) -> None:
        """Send there from now on, or nowhere while the peer holds the call. The first time starts
        the clock."""
        self._remote = remote
        self._sender.key_type = key_type
        if not self._ticking and not self._closed:
            self._ticking = True
            self._heard_until = self._loop.time()
            self._ticker.add(self._tick)

    def listen(
        self, callback: Callable[[bytes], None], *, filled: bool = True
    ) -> Callable[[], None]:
        """Have each frame of 20 ms as it comes, until the returned function is called; `filled`
        with silence where none came, or those alone that came."""
        return _subscribe(self._listeners if filled else self._hearers, callback)

    def listen_for_keys(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Have each key that is pressed, until the returned function is called."""
        return _subscribe(self._key_listeners, callback)

    def feed(self, source: Source | None) -> None:
        """Ask there for what is sent at each tick, unless something else is being sent."""
        self._source = source

    def relay(self, frame: bytes) -> None:
        """Send a frame that another call has just heard; dropped where too many wait."""
        if self._sender.queued < _RELAYED:
            self._sender.play(pcm_to_ulaw(frame))

    def relay_key(self, key: str) -> None:
        """Press a key that was pressed in another call."""
        if self._sender.keys_queued < _KEYS_KEPT:
            self._sender.press(key)

    async def play(self, pcm: bytes) -> None:
        """Send audio and return when all of it was sent; stops at once when cancelled.

        Raises CallGone when the stream is closed meanwhile."""
        async with self._speaking:
            self._sender.play(pcm_to_ulaw(pcm[: len(pcm) & ~1]))
            try:
                await self._until_not(lambda: self._sender.playing)
            except asyncio.CancelledError:
                self._sender.stop()
                raise

    async def press(self, keys: str) -> None:
        """Send keys and return when the last was let go. Raises LocalProtocolError, CallGone."""
        self._sender.press(keys)
        await self._until_not(lambda: self._sender.pressing)

    def close(self) -> None:
        """Send and deliver nothing more. Idempotent."""
        self._closed = True
        self._source = None
        self._ticker.remove(self._tick)
        if self._transport is not None:
            self._transport.close()
        for _, waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(CallGone("the call ended before everything was sent"))
        self._waiting.clear()

    async def _until_not(self, busy: Callable[[], bool]) -> None:
        if self._closed:
            raise CallGone("the call has ended")
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((busy, waiter))
        await waiter

    def _tick(self, now: float) -> None:
        self._allowed = min(self._allowed + 2, _BURST)
        if self._source is not None and not self._sender.playing:
            piece = self._source(now)
            if piece:
                self._sender.play(piece)
        if self._closed:  # what was played last was the end of the call
            return
        assert self._transport is not None
        for datagram in self._sender.tick():
            if self._remote is not None:
                self._transport.sendto(datagram, self._remote)
        for entry in [entry for entry in self._waiting if not entry[0]()]:
            self._waiting.remove(entry)
            if not entry[1].done():
                entry[1].set_result(None)
        self._fill(now)

    def _fill(self, now: float) -> None:
        """A PBX that has nothing to play sends nothing; who listens must still see time pass."""
        missing = now - self._heard_until
        if missing < (FRAME_SECONDS if self._filling else _GAP):
            return
        self._filling = True
        frames = int(missing / FRAME_SECONDS)
        self._heard_until += frames * FRAME_SECONDS
        for _ in range(min(frames, _BURST)):
            self._deliver(bytes(FRAME_BYTES))

    def _deliver(self, frame: bytes) -> None:
        for listener in tuple(self._listeners):
            listener(frame)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        if self._closed or addr != self._remote:
            return
        try:
            packet = parse(data)
        except RemoteProtocolError:
            return
        self.last_packet = self._loop.time()
        if packet.payload_type == self._sender.key_type:
            if key := self._keys.read(packet):
                self.press_heard(key)
            return
        if packet.payload_type != PCMU or not 0 < len(packet.payload) <= _LARGEST:
            return
        if self._last is not None and self._last[0] == packet.ssrc:
            ahead = (packet.sequence - self._last[1]) & 0xFFFF
            self._strays = self._strays + 1 if ahead == 0 or ahead >= 0x8000 else 0
            if 0 < self._strays < _STRAYS:  # a copy, or too late to be of use
                return
        self._strays = 0
        self._last = (packet.ssrc, packet.sequence)
        self._filling = False
        self._heard_until = self._loop.time()
        pcm = self._rest + ulaw_to_pcm(packet.payload)
        whole = len(pcm) - len(pcm) % FRAME_BYTES
        self._rest = pcm[whole:]
        for start in range(0, whole, FRAME_BYTES):
            if self._allowed:
                self._allowed -= 1
                frame = pcm[start : start + FRAME_BYTES]
                self._deliver(frame)
                for hearer in tuple(self._hearers):
                    hearer(frame)

    def press_heard(self, key: str) -> None:
        """The peer has pressed a key, as its audio or SIP INFO tells."""
        for listener in tuple(self._key_listeners):
            listener(key)

    def error_received(self, exc: Exception) -> None:
        """The peer's port is closed; what that means is told by SIP."""


def _subscribe(listeners: list[Any], callback: Any) -> Callable[[], None]:
    listeners.append(callback)

    def stop() -> None:
        if callback in listeners:
            listeners.remove(callback)

    return stop
