"""One customer's WebSocket: who may open it, how much may come over it, and what it asks for.

Strangers speak here. Frames have a size, and are read no faster than people write; what cannot be
read is answered with one line that quotes nothing of it, and who does not listen is let go.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import structlog
from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from cti.screens import Screen
from ivr import observe
from ivr.channels import chatframes as frames
from ivr.channels.webchat import ChatLeg, Webchat, opened
from ivr.config import ChatSettings
from ivr.errors import CallGone, Conflict, HotlineError, RemoteProtocolError
from ivr.model import Address
from ivr.ports import Clock

log = structlog.get_logger()

OPEN_SECONDS = 10.0
TRY_LATER = 1013
"""The WebSocket close code for: come back after a while."""

_BAD_FRAMES = 20
_UNAVAILABLE = "the chat cannot do that now; please try again"


class Rate:
    """So much a second over time, and some at once."""

    def __init__(self, clock: Clock, a_second: float, at_once: int):
        self._clock = clock
        self._a_second = a_second
        self._at_once = at_once
        self._left = float(at_once)
        self._seen = clock.monotonic()

    def allows(self) -> bool:
        """Count one more, unless it comes too soon."""
        if self.wait() > 0:
            return False
        self._left -= 1
        return True

    def wait(self) -> float:
        """Seconds until one more is allowed."""
        now = self._clock.monotonic()
        self._left = min(self._at_once, self._left + (now - self._seen) * self._a_second)
        self._seen = now
        return max(0.0, (1 - self._left) / self._a_second)


class ChatDoor:
    """Lets customers' sockets in, as many as the settings allow."""

    _ADDRESSES = 10_000

    def __init__(self, chats: Webchat, settings: ChatSettings, clock: Clock):
        self.chats = chats
        self.clock = clock
        self._settings = settings
        self._open: set[WebSocket] = set()
        self._begun: dict[str, Rate] = {}

    async def serve(self, socket: WebSocket) -> None:
        """One socket, until it is over."""
        if not self._settings.enabled or not self.welcome(socket.headers):
            await socket.close(1008)  # before accepting: the browser sees 403
            return
        if len(self._open) >= self._settings.connections:
            await socket.close(TRY_LATER)
            return
        self._open.add(socket)
        observe.CHATS.set(len(self._open))
        try:
            await ChatSocket(socket, self).serve()
        finally:
            self._open.discard(socket)
            observe.CHATS.set(len(self._open))

    def sockets(self) -> tuple[WebSocket, ...]:
        """The connections that are open now."""
        return tuple(self._open)

    def welcome(self, headers: Mapping[str, str]) -> bool:
        """A page of ours, one of an origin that the settings name, or no browser's."""
        origin = headers.get("origin")
        if origin is None or origin in self._settings.origins:
            return True
        try:
            return urlsplit(origin).netloc == headers.get("host", "")
        except ValueError:
            return False

    def may_begin(self, peer: str) -> bool:
        """Whether this network address may begin one more conversation now."""
        rate = self._begun.pop(peer, None) or Rate(self.clock, 0.2, self._settings.begun_at_once)
        self._begun[peer] = rate  # the latest last
        while len(self._begun) > self._ADDRESSES:
            del self._begun[next(iter(self._begun))]
        return rate.allows()


class ChatSocket:
    """One connection of one customer."""

    def __init__(self, socket: WebSocket, door: ChatDoor):
        self._socket = socket
        self._door = door
        self._chats = door.chats
        self._page = Screen("")
        self._rate = Rate(door.clock, 10, 40)
        self._token = ""
        self._peer: Address | None = None
        self._chat: ChatLeg | None = None

    async def serve(self) -> None:
        await self._socket.accept()
        jobs = [
            asyncio.ensure_future(job)
            for job in (self._listen(), self._page.write_to(self._socket.send_text))
        ]
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._detach()
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
        error = next((error for job in done if (error := job.exception()) is not None), None)
        if isinstance(error, WebSocketDisconnect):
            return
        if error is not None and not isinstance(error, TimeoutError):
            log.error("chat dropped", exc_info=error)
        await self._close(1008 if error is None else 1011)

    async def _listen(self) -> None:
        """Until the customer leaves, or has sent too much that cannot be read."""
        bad = 0
        while bad < _BAD_FRAMES:
            asking = OPEN_SECONDS if self._peer is None else None
            async with asyncio.timeout(asking):
                text = await self._receive()
            given = ""
            try:
                await asyncio.sleep(self._rate.wait())  # what is on its way waits on their side
                self._rate.allows()
                frame = frames.parse_client(text)
                given = getattr(frame, "id", "")
                await self._obey(frame)
                bad = 0
            except RemoteProtocolError as error:
                bad += 1
                self._refuse("bad_message", str(error))
            except CallGone as error:
                self._refuse("over", str(error), given)
            except Conflict as error:
                self._refuse("refused", str(error), given)
            except HotlineError as error:
                reference = secrets.token_hex(4)
                log.error("chat failed", reference=reference, error=str(error))
                self._refuse("unavailable", f"{_UNAVAILABLE} (reference {reference})", given)

    async def _obey(self, frame: frames.ClientFrame) -> None:
        if isinstance(frame, frames.Ping):
            self._put(frames.Pong())
        elif isinstance(frame, frames.Open):
            await self._open(frame)
        elif self._peer is None:
            raise RemoteProtocolError("the first message must be `open`")
        elif isinstance(frame, frames.Begin):
            await self._begin(frame)
        elif self._chat is None:
            raise CallGone("no conversation goes on; send `begin`")
        else:
            await _TABLE[type(frame)](self, self._chat, frame)

    # --- coming ----------------------------------------------------------------------------------

    async def _open(self, frame: frames.Open) -> None:
        self._token, self._peer = await self._chats.customer(frame.token)
        await self._join(await self._chats.find(self._peer), frame)

    async def _begin(self, frame: frames.Begin) -> None:
        assert self._peer is not None
        chat = await self._chats.find(self._peer)
        if chat is None:
            address = self._socket.client.host if self._socket.client else ""
            if not self._door.may_begin(address):
                self._refuse("too_fast", "too many conversations from here; please wait a moment")
                return
            chat = await self._chats.begin(self._peer, frame.language)
        await self._join(chat, frames.Open())

    async def _join(self, chat: ChatLeg | None, has: frames.Open) -> None:
        """Show how it stands, and from now on what happens."""
        self._detach()
        if chat is None:
            self._put(opened(self._token, None))
            return
        after = has.after if has.conversation == chat.leg.conversation_id else 0
        messages, more = await self._chats.thread(chat, after)
        self._chat = chat
        chat.attach(self._page)
        self._put(opened(self._token, chat, messages=messages, more=more))
        if not more:  # what came while we read
            last = messages[-1].number if messages else after
            messages, more = await self._chats.thread(chat, last)
            if messages:
                self._put(frames.Thread(messages=messages, more=more))

    def _detach(self) -> None:
        if self._chat is not None:
            self._chat.detach(self._page)
            self._chat = None

    # --- in a conversation -----------------------------------------------------------------------

    async def write(self, chat: ChatLeg, frame: frames.Write) -> None:
        text = await self._chats.write(chat, frame.id, frame.text, frame.turn)
        self._put(frames.Accepted(id=frame.id, number=text.number))

    async def writes(self, chat: ChatLeg, frame: frames.Writes) -> None:
        await self._chats.texting.writes(chat.leg.conversation_id, frame.on)

    async def got(self, chat: ChatLeg, frame: frames.Got) -> None:
        await self._chats.texting.got(chat.leg.conversation_id, frame.up_to, "delivered")

    async def read(self, chat: ChatLeg, frame: frames.Read) -> None:
        await self._chats.texting.got(chat.leg.conversation_id, frame.up_to, "read")

    async def history(self, chat: ChatLeg, frame: frames.History) -> None:
        messages, more = await self._chats.thread(chat, frame.after)
        self._put(frames.Thread(messages=messages, more=more))

    async def end(self, chat: ChatLeg, frame: frames.End) -> None:
        await chat.close("customer")

    # --- the wire --------------------------------------------------------------------------------

    def _put(self, frame: frames.ServerFrame) -> None:
        self._page.put(frame.model_dump_json())

    def _refuse(self, code: str, text: str, given: str = "") -> None:
        self._put(frames.Error(code=code, text=text, id=given))

    async def _receive(self) -> str:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        text = message.get("text")
        return text if isinstance(text, str) else ""

    async def _close(self, code: int) -> None:
        try:
            async with asyncio.timeout(1):
                await self._socket.close(code)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            return


_TABLE: Mapping[type, Callable[[ChatSocket, ChatLeg, Any], Awaitable[None]]] = {
    frames.Write: ChatSocket.write,
    frames.Writes: ChatSocket.writes,
    frames.Got: ChatSocket.got,
    frames.Read: ChatSocket.read,
    frames.History: ChatSocket.history,
    frames.End: ChatSocket.end,
}
