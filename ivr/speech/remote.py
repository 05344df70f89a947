"""A vosk-server elsewhere: how to reach it, and whether it is worth asking just now.

A caller who speaks to a server that is away loses utterance after utterance; told to use the keys,
the same caller gets on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 4.0
_FAILURES = 2  # in a row, after which it is left alone
_TRY_AGAIN_SECONDS = 5.0
_LARGEST_MESSAGE = 1 << 20


@asynccontextmanager
async def connection_to(url: str) -> AsyncIterator[ClientConnection]:
    """A connection to a recogniser. Raises OSError, which TimeoutError is too, or
    WebSocketException."""
    async with connect(
        url,
        open_timeout=CONNECT_SECONDS,
        close_timeout=1,
        ping_interval=None,
        max_size=_LARGEST_MESSAGE,
        compression=None,
        proxy=None,
    ) as connection:
        yield connection


class Remote:
    """A vosk-server elsewhere. `ready` says whether the last attempts worked; while they did not,
    it is tried again every five seconds."""

    def __init__(self, url: str):
        self.url = url
        self.ready = False
        self._failures = 0
        self._trying: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when it is known whether it can be reached."""
        self.ready = await self._reachable()
        if not self.ready:
            self._leave_alone()

    async def stop(self) -> None:
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.gather(self._trying, return_exceptions=True)

    def judge(self, trouble: str) -> None:
        """Take note of what became of an utterance there: empty when it was answered."""
        if not trouble:
            self._failures = 0
            self.ready = True
            return
        self._failures += 1
        if self._failures >= _FAILURES and self.ready:
            self._leave_alone()

    def _leave_alone(self) -> None:
        log.error("speech server does not answer", url=self.url)
        self.ready = False
        if self._trying is None or self._trying.done():
            self._trying = asyncio.get_running_loop().create_task(self._try_again())

    async def _try_again(self) -> None:
        while not self.ready:
            await asyncio.sleep(_TRY_AGAIN_SECONDS)
            # One that accepts and stays mute is given one utterance more, not two.
            self.ready = self.ready or await self._reachable()
        log.info("speech server is back", url=self.url)

    async def _reachable(self) -> bool:
        try:
            async with connection_to(self.url):
                return True
        except (OSError, WebSocketException):
            return False
