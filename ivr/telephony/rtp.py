"""The audio of one softphone call: sends every 20 ms, hands on what comes, and leaves no gap."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from ivr.errors import CallGone, RemoteProtocolError
from ivr.ports import FRAME_BYTES, FRAME_SECONDS
from ivr.wire.audio import pcm_to_ulaw, ulaw_to_pcm
from ivr.wire.rtp import PCMU, Sender, parse

_GAP = 0.1  # seconds without audio before silence is put in its place
_BEHIND = 1.0  # seconds of lost time that are caught up with; more is dropped


class RtpStream(asyncio.DatagramProtocol):
    """Audio and keys to one peer, audio from it."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[bytes], None]] = []
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.DatagramTransport | None = None
        self._remote: tuple[str, int] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._heard_until = 0.0
        self._filling = False
        self._rest = b""
        self._last: tuple[int, int] | None = None  # source and sequence number
        self._speaking = asyncio.Lock()
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._closed = False
        self._sender = Sender(
            ssrc=random.getrandbits(32),
            sequence=random.getrandbits(16),
            timestamp=random.getrandbits(32),
        )

    async def open(self, host: str) -> None:
        """Bind a free port; nothing is sent yet."""
        self._transport, _ = await self._loop.create_datagram_endpoint(
            lambda: self, local_addr=(host, 0)
        )

    @property
    def port(self) -> int:
        assert self._transport is not None
        port: int = self._transport.get_extra_info("sockname")[1]
        return port

    def aim(self, remote: tuple[str, int], key_type: int) -> None:
        """Send there from now on. The first time starts the clock."""
        self._remote = remote
        self._sender.key_type = key_type
        if self._timer is None and not self._closed:
            self._due = self._heard_until = self._loop.time()
            self._tick()

    def listen(self, callback: Callable[[bytes], None]) -> Callable[[], None]:
        """Have each frame of 20 ms as it comes, until the returned function is called."""
        self._listeners.append(callback)

        def stop() -> None:
            if callback in self._listeners:
                self._listeners.remove(callback)

        return stop

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
        if self._timer is not None:
            self._timer.cancel()
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

    def _tick(self) -> None:
        now = self._loop.time()
        if now - self._due > _BEHIND:
            self._due = now
        self._due += FRAME_SECONDS
        self._timer = self._loop.call_at(self._due, self._tick)
        assert self._transport is not None
        for datagram in self._sender.tick():
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
        for _ in range(frames):
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
        if packet.payload_type != PCMU or not packet.payload:
            return
        if self._last is not None and self._last[0] == packet.ssrc:
            ahead = (packet.sequence - self._last[1]) & 0xFFFF
            if ahead == 0 or ahead >= 0x8000:  # a copy, or too late to be of use
                return
        self._last = (packet.ssrc, packet.sequence)
        self._filling = False
        self._heard_until = self._loop.time()
        pcm = self._rest + ulaw_to_pcm(packet.payload)
        whole = len(pcm) - len(pcm) % FRAME_BYTES
        self._rest = pcm[whole:]
        for start in range(0, whole, FRAME_BYTES):
            self._deliver(pcm[start : start + FRAME_BYTES])

    def error_received(self, exc: Exception) -> None:
        """The peer's port is closed; what that means is told by SIP."""
