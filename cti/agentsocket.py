"""One agent's WebSocket: who may open it, what goes over it, and when it is given up."""

from __future__ import annotations

import asyncio
import secrets

import structlog
from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from cti import protocol
from cti.access import Door, peer, refused, same_origin
from cti.accounts import LoginRefused, Session
from cti.orders import Orders
from cti.screens import Screen
from cti.service import Desk
from ivr.errors import Conflict, HotlineError, NotAllowed, RemoteProtocolError, StoreError

log = structlog.get_logger()

LOGIN_SECONDS = 10.0
RECHECK_SECONDS = 60.0
"""How often an open page's login is looked up again: it may have been disabled."""
LINGER_SECONDS = 5.0
_BAD_MESSAGES = 20

LOGIN_REFUSED = 4001
"""The WebSocket close code that sends a page back to its login form."""

INTERNAL = "the hotline cannot do that now; please try again"

# The first that fits counts; for all others the text is for the log alone.
_CODES: tuple[tuple[type[HotlineError], str], ...] = (
    (LoginRefused, "login"),
    (NotAllowed, "not_allowed"),
    (Conflict, "conflict"),
    (RemoteProtocolError, "bad_message"),
)


def error_message(error: HotlineError) -> protocol.Error:
    """What the peer is told. What only an operator can mend goes to the log, under a reference."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return protocol.Error(code=code, text=str(error))
    reference = secrets.token_hex(4)
    log.error("request failed", reference=reference, error=str(error))
    return protocol.Error(code="internal", text=f"{INTERNAL} (reference {reference})")


class SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, but one whose peer does not read is let go even so: closing waits for
    what is buffered to be read, and would keep the buffer for ever."""

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)


class AgentSocket:
    """One agent's WebSocket."""

    def __init__(self, socket: WebSocket, desk: Desk, accounts: Door):
        self._socket = socket
        self._desk = desk
        self._orders = Orders(desk)
        self._accounts = accounts

    async def serve(self) -> None:
        if not same_origin(self._socket.headers):
            refused("origin", path="/api/agent", peer=peer(self._socket))
            await self._socket.close(1008)  # before accepting: the browser sees 403
            return
        await self._socket.accept()
        try:
            async with asyncio.timeout(LOGIN_SECONDS):
                login, who = await self._login()
            screen = await self._desk.open(who.login, who.key, login.stream, login.after)
        except WebSocketDisconnect:
            return
        except TimeoutError:
            await self._refuse(LoginRefused(f"log in within {LOGIN_SECONDS:.0f} seconds"))
            return
        except HotlineError as error:
            await self._refuse(error)
            return
        try:
            await self._attend(screen, who)
        finally:
            self._desk.leave(screen)

    async def _login(self) -> tuple[protocol.Login, Session]:
        message = protocol.parse_client(await self._receive())
        if not isinstance(message, protocol.Login):
            raise LoginRefused("the first message must be a login")
        return message, await self._accounts.session(message.token)

    async def _attend(self, screen: Screen, who: Session) -> None:
        """Until any of the three ends: the page leaves, does not read, or is no longer allowed."""
        jobs = [
            asyncio.ensure_future(job)
            for job in (self._listen(screen), screen.write_to(self._socket.send_text))
        ]
        jobs.append(asyncio.ensure_future(self._recheck(who)))
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
        error = next((error for job in done if (error := job.exception()) is not None), None)
        match error:
            case WebSocketDisconnect():
                return
            case TimeoutError():
                log.warning("page dropped: it does not read", agent=who.login)
            case NotAllowed():  # the login is over, or its role
                await self._close(LOGIN_REFUSED)
            case None:
                await self._close(LOGIN_REFUSED if screen.dismissed else 1008)
            case _:
                log.error("page dropped", agent=who.login, exc_info=error)
                await self._close(1011)

    async def _listen(self, screen: Screen) -> None:
        bad = 0
        while bad < _BAD_MESSAGES:
            text = await self._receive()
            try:
                await self._orders.obey(screen, protocol.parse_client(text))
                bad = 0
            except HotlineError as error:
                bad += isinstance(error, RemoteProtocolError)
                screen.answer(error_message(error))

    async def _recheck(self, who: Session) -> None:
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            try:
                await self._accounts.still(who.key)
            except StoreError:
                continue  # the database is away: nobody is thrown out for that

    async def _receive(self) -> str:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        text = message.get("text")
        return text if isinstance(text, str) else ""

    async def _refuse(self, error: HotlineError) -> None:
        try:
            async with asyncio.timeout(1):
                await self._socket.send_text(protocol.encode(error_message(error), 1))
        except (TimeoutError, WebSocketDisconnect):
            return
        await self._close(LOGIN_REFUSED)

    async def _close(self, code: int) -> None:
        try:
            async with asyncio.timeout(1):
                await self._socket.close(code)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            return
