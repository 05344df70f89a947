"""The agents' protocol from the other end: what the robot agent and the tests speak."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Literal, Self

import httpx2
import websockets
from websockets.asyncio.client import ClientConnection

from cti import protocol
from cti.protocol import ClientMessage, ServerMessage
from ivr.errors import HotlineError, NotAllowed

_SECONDS = 10.0


class AgentClient:
    """An agent without a page. Use it as `async with`; messages come from `messages()`."""

    def __init__(self, url: str, login: str, password: str):
        self._url = url.rstrip("/")
        self._login = login
        self._password = password
        self._token = ""
        self._socket: ClientConnection | None = None

    async def __aenter__(self) -> Self:
        await self.login()
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def login(self) -> None:
        """Raises NotAllowed when refused, HotlineError when nobody answers."""
        credentials = {"login": self._login, "password": self._password}
        try:
            async with httpx2.AsyncClient(timeout=_SECONDS, trust_env=False) as http:
                answer = await http.post(f"{self._url}/api/login", json=credentials)
        except httpx2.HTTPError as error:
            raise HotlineError(f"cannot reach {self._url}: {error}") from error
        if answer.status_code != httpx2.codes.OK:
            raise NotAllowed(f"login {self._login}: {answer.json()['text']}")
        self._token = answer.json()["token"]

    async def connect(self) -> None:
        """Open the WebSocket; the first message that comes is `hello`."""
        url = "ws" + self._url.removeprefix("http") + "/api/agent"
        try:
            self._socket = await websockets.connect(url, open_timeout=_SECONDS, proxy=None)
        except (OSError, websockets.WebSocketException, TimeoutError) as error:
            raise HotlineError(f"cannot connect to {url}: {error}") from error
        await self.send(protocol.Login(token=self._token))

    async def messages(self) -> AsyncIterator[ServerMessage]:
        """Everything that the server says, until it closes the connection. A pop counts as seen
        when it is read here."""
        async for text in self._connected():
            message = protocol.parse_server(text)
            if isinstance(message, protocol.Pop) and message.card.stage == "offered":
                await self.send(protocol.Seen(conversation=message.card.conversation))
            yield message

    async def send(self, message: ClientMessage) -> None:
        try:
            await self._connected().send(message.model_dump_json())
        except websockets.ConnectionClosed as error:
            raise HotlineError(f"the connection to {self._url} is closed") from error

    async def set_available(self) -> None:
        await self.send(protocol.SetPresence(to="available"))

    async def set_away(self, reason: str = "") -> None:
        await self.send(protocol.SetPresence(to="away", reason=reason))

    async def hang_up(self, conversation: str) -> None:
        await self.send(protocol.HangUp(conversation=conversation))

    async def decline(self, conversation: str) -> None:
        await self.send(protocol.Decline(conversation=conversation))

    async def note(
        self, conversation: str, text: str, disposition: protocol.Disposition = ""
    ) -> None:
        await self.send(
            protocol.WriteNote(conversation=conversation, text=text, disposition=disposition)
        )

    async def accept(self, conversation: str) -> None:
        await self.send(protocol.Accept(conversation=conversation))

    async def say(self, conversation: str, text: str, message_id: str = "") -> None:
        """Write to the customer. The same id again is the same text."""
        given = message_id or secrets.token_hex(8)
        await self.send(protocol.SayText(conversation=conversation, id=given, text=text))

    async def transfer(
        self,
        conversation: str,
        kind: Literal["agent", "queue", "number"],
        to: str,
        *,
        attended: bool = False,
        note: str = "",
    ) -> None:
        """Pass the customer on; attended, `complete`, `cancel` or `conference` comes later."""
        await self.send(
            protocol.TransferTo(
                conversation=conversation,
                to=protocol.Target(kind=kind, value=to),
                mode="attended" if attended else "blind",
                note=note,
            )
        )

    async def done(self, conversation: str) -> None:
        await self.send(protocol.Done(conversation=conversation))

    async def close(self) -> None:
        """Idempotent."""
        if self._socket is not None:
            await self._socket.close()

    def _connected(self) -> ClientConnection:
        if self._socket is None:
            raise HotlineError("call connect() first")
        return self._socket
