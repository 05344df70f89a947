"""The customers' chat from the other end: what robots and the tests speak, and a start for an app.

It keeps what the protocol promises: texts are sent again until they are accepted, what was missed
is asked for by number, and whatever comes twice is there once.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from types import TracebackType
from typing import Self

import websockets
from websockets.asyncio.client import ClientConnection

from ivr.channels import chatframes as frames
from ivr.errors import HotlineError, RemoteProtocolError

_SECONDS = 10.0


class ChatClient:
    """One customer's chat. `thread` is what has been said, by number; use it as `async with`, and
    again after a lost connection by `connect`."""

    def __init__(self, url: str, token: str = ""):
        self._url = "ws" + url.rstrip("/").removeprefix("http") + "/api/chat"
        self._socket: ClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._unsent: dict[str, frames.Write] = {}
        self.token = token
        self.conversation = ""
        self.state: frames.State = "none"
        self.thread: dict[int, frames.Message] = {}
        self.typing = False
        self.read_up_to = 0
        self.errors: list[frames.Error] = []

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def last(self) -> int:
        """The number up to which nothing is missing."""
        number = 0
        while number + 1 in self.thread:
            number += 1
        return number

    @property
    def texts(self) -> list[str]:
        """The thread, in order."""
        return [self.thread[number].text for number in sorted(self.thread)]

    async def connect(self) -> None:
        """Open the connection, and send again what nobody has accepted. Raises HotlineError."""
        try:
            self._socket = await websockets.connect(self._url, open_timeout=_SECONDS, proxy=None)
        except (OSError, websockets.WebSocketException, TimeoutError) as error:
            raise HotlineError(f"cannot connect to {self._url}: {error}") from error
        await self._send(
            frames.Open(token=self.token, conversation=self.conversation, after=self.last)
        )
        opened = await self._read_one()
        if not isinstance(opened, frames.Opened):
            raise HotlineError(f"the chat was not opened: {opened}")
        self._reading = asyncio.ensure_future(self._read())
        for frame in tuple(self._unsent.values()):
            await self._send(frame)

    async def begin(self, language: str = "") -> None:
        """Begin a conversation, unless one goes on."""
        await self._send(frames.Begin(language=language))
        await self.until(lambda: bool(self.conversation) and self.state != "ended")

    async def write(self, text: str, turn: int | None = None) -> str:
        """Write; returns the text's id. It is sent until it is accepted."""
        frame = frames.Write(id=secrets.token_hex(8), text=text, turn=turn)
        self._unsent[frame.id] = frame
        await self._send(frame)
        return frame.id

    async def choose(self, label: str) -> str:
        """Tap a choice of the latest question."""
        for number in sorted(self.thread, reverse=True):
            message = self.thread[number]
            if any(choice.label == label for choice in message.choices):
                return await self.write(label, message.turn)
        raise HotlineError(f"there is no choice {label!r}")

    async def writes(self, on: bool) -> None:
        await self._send(frames.Writes(on=on))

    async def read(self) -> None:
        """Tell that all that has come has been read."""
        await self._send(frames.Read(up_to=self.last))

    async def end(self) -> None:
        await self._send(frames.End())

    async def send(self, frame: frames.ClientFrame) -> None:
        await self._send(frame)

    async def until(self, holds: Callable[[], bool], seconds: float = _SECONDS) -> None:
        """Wait until what has come makes it true. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not holds():
                self._news.clear()
                await self._news.wait()

    async def accepted(self) -> None:
        """Wait until everything that was written is kept."""
        await self.until(lambda: not self._unsent)

    async def close(self) -> None:
        """Idempotent."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._socket is not None:
            await self._socket.close()

    async def cut(self) -> None:
        """Lose the connection, as in a tunnel: nobody says goodbye."""
        if self._socket is not None:
            self._socket.transport.abort()
        await self.close()

    async def _send(self, frame: frames.ClientFrame) -> None:
        assert self._socket is not None, "call connect() first"
        try:
            await self._socket.send(frame.model_dump_json())
        except websockets.ConnectionClosed as error:
            raise HotlineError(f"the connection to {self._url} is closed") from error

    async def _read(self) -> None:
        try:
            while True:
                await self._read_one()
        except (websockets.ConnectionClosed, HotlineError):
            return

    async def _read_one(self) -> frames.ServerFrame:
        assert self._socket is not None
        try:
            frame = frames.parse_server(await self._socket.recv())
        except websockets.ConnectionClosed as error:
            raise RemoteProtocolError("the chat was closed") from error
        last = self.last
        self._take(frame)
        more = isinstance(frame, frames.Opened | frames.Thread) and frame.more
        if more:
            await self._send(frames.History(after=self.last))
        if self.last > last:
            await self._send(frames.Got(up_to=self.last))
        self._news.set()
        return frame

    def _take(self, frame: frames.ServerFrame) -> None:
        match frame:
            case frames.Opened():
                if frame.conversation != self.conversation:
                    self.thread = {}
                self.token, self.conversation = frame.token, frame.conversation
                self.state = frame.state
                self._keep(frame.messages)
            case frames.Thread():
                self._keep(frame.messages)
            case frames.NewMessage():
                self._keep((frame.message,))
            case frames.Accepted():
                self._unsent.pop(frame.id, None)
            case frames.StateNow():
                self.state = frame.state
            case frames.AgentTyping():
                self.typing = frame.on
            case frames.AgentRead():
                self.read_up_to = frame.up_to
            case frames.Error():
                self.errors.append(frame)
                if frame.code == "over":
                    self._unsent.pop(frame.id, None)
            case _:
                pass

    def _keep(self, messages: tuple[frames.Message, ...]) -> None:
        for message in messages:
            self.thread[message.number] = message
