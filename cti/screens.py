"""One agent's page at the other end of a socket, and what is on its way there.

A page that stops reading (a laptop put to sleep, a browser in a debugger) must cost the others
nothing: its messages wait in a bounded line of their own, each has a few seconds to be written, and
a page that does not take them is dropped. It comes back by itself, and is sent what it has missed.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from cti.protocol import ServerMessage, encode

WRITE_SECONDS = 5.0
"""How long a page may take to accept one message."""
_LIMIT = 256
_KEPT_NEWS = 500
_KEPT_CHARACTERS = 128 * 1024


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
        self._closed = False
        self.dismissed = False
        """Whether the page's login is over, and not only its connection."""

    @property
    def closed(self) -> bool:
        return self._closed

    def answer(self, message: ServerMessage) -> None:
        """Send what is for this page alone: it is no news, and has the number 0."""
        self.put(encode(message, 0))

    def put(self, text: str) -> None:
        """Put a frame on its way. Never waits and never raises: a full line drops the page."""
        self._put(_Frame(text))

    async def show(self, text: str) -> bool:
        """Send, and wait until the socket has taken it; False when the page was dropped instead."""
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._put(_Frame(text, written))
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

    def _put(self, frame: _Frame) -> None:
        if self._closed or self._frames.full():
            _settle(frame, False)
            if not self._closed:
                self.close()
            return
        self._frames.put_nowait(frame)


class Stream:
    """The news of one agent: numbered for all of their screens alike, the latest of them kept, so
    that a screen that was away can be told what it has missed."""

    def __init__(self) -> None:
        self.id = secrets.token_hex(8)
        self.n = 0
        self._kept: deque[str] = deque()
        self._size = 0

    def frame(self, message: ServerMessage) -> str:
        """The next news as a frame."""
        self.n += 1
        text = encode(message, self.n)
        self._kept.append(text)
        self._size += len(text)
        while len(self._kept) > _KEPT_NEWS or self._size > _KEPT_CHARACTERS:
            self._size -= len(self._kept.popleft())
        return text

    def since(self, stream: str, after: int) -> Sequence[str] | None:
        """What came after that number; None when nobody knows any more."""
        missed = self.n - after
        if stream != self.id or not 0 <= missed <= len(self._kept):
            return None
        return list(self._kept)[len(self._kept) - missed :]


def _settle(frame: _Frame, written: bool) -> None:
    if frame.written is not None and not frame.written.done():
        frame.written.set_result(written)
