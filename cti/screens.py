"""One agent's page at the other end of a socket, and what is on its way there.

A page that stops reading (a laptop put to sleep, a browser in a debugger) must cost the others
nothing: its messages wait in a bounded line of their own, each has a few seconds to be written, and
a page that does not take them is dropped. It comes back by itself and gets everything in `hello`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cti.protocol import ServerMessage, encode

WRITE_SECONDS = 5.0
"""How long a page may take to accept one message."""
_LIMIT = 64


@dataclass(slots=True)
class _Frame:
    text: str
    written: asyncio.Future[bool] | None = None


class Screen:
    """A connected page of the agent `login`; `session` tells which login of theirs opened it."""

    def __init__(self, login: str, session: str = "", *, write_seconds: float = WRITE_SECONDS):
        self.login = login
        self.session = session
        self._frames: asyncio.Queue[_Frame | None] = asyncio.Queue(_LIMIT)
        self._write_seconds = write_seconds
        self._sent = 0
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def send(self, message: ServerMessage) -> None:
        """Put a message on its way. Never waits and never raises: a full line drops the page."""
        self._put(message, None)

    async def show(self, message: ServerMessage) -> bool:
        """Send, and wait until the socket has taken it; False when the page was dropped instead."""
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._put(message, written)
        return await written

    def close(self) -> None:
        """Drop the page: whoever waits for it is told, and `write_to` returns. Idempotent."""
        self._closed = True
        while not self._frames.empty():
            frame = self._frames.get_nowait()
            if frame is not None:
                _settle(frame, False)
        self._frames.put_nowait(None)

    async def write_to(self, write: Callable[[str], Awaitable[None]]) -> None:
        """Hand every message to the socket until the page is dropped. Raises TimeoutError when the
        socket did not take one in time; what `write` raises comes through. Either way it is over
        for this page."""
        frame: _Frame | None = None
        try:
            while (frame := await self._frames.get()) is not None:
                async with asyncio.timeout(self._write_seconds):
                    await write(frame.text)
                _settle(frame, True)
        finally:
            if frame is not None:
                _settle(frame, False)
            self.close()

    def _put(self, message: ServerMessage, written: asyncio.Future[bool] | None) -> None:
        frame = _Frame("", written)
        if self._closed or self._frames.full():
            _settle(frame, False)
            if not self._closed:
                self.close()
            return
        self._sent += 1
        frame.text = encode(message, self._sent)
        self._frames.put_nowait(frame)


def _settle(frame: _Frame, written: bool) -> None:
    if frame.written is not None and not frame.written.done():
        frame.written.set_result(written)
