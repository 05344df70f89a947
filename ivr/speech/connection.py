"""A connection to a recogniser, ours or a stock vosk-server, on which the load can be measured."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from ivr.speech.load import Work
from ivr.speech.messages import END, PEEK

CONNECT_SECONDS = 4.0
_LARGEST_MESSAGE = 1 << 20


class RecognizerConnection(ClientConnection):
    """Takes note of when a reading is asked for and when it comes."""

    url = ""
    work: Work | None = None
    asked_at = 0.0
    """The loop's time of the last message that wants an answer."""

    async def send(self, message: Any, *, text: bool | None = None) -> None:
        if message in (END, PEEK):
            self.asked_at = self._now()
            if self.work is not None:
                self.work.asked(self.asked_at)
        await super().send(message, text=text)

    async def recv(self, decode: bool | None = None) -> Any:
        message = await super().recv(decode)
        # A result has this key; within a text its quotes would be escaped.
        if self.work is not None and isinstance(message, str) and '"text"' in message:
            self.work.answered(self._now())
        return message

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


@asynccontextmanager
async def connection_to(url: str) -> AsyncIterator[RecognizerConnection]:
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
        create_connection=RecognizerConnection,
    ) as connection:
        assert isinstance(connection, RecognizerConnection)
        connection.url = url
        yield connection
