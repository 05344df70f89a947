"""The agent's telephone in the page: its account, and its way to Asterisk's WebSocket.

The page speaks SIP to its own origin and we pass it on, so that Asterisk's HTTP server stays on
loopback, one certificate does for everything, and firewalls know the way. A browser cannot send a
header with a WebSocket, and the login's token never stands in a URL: the address has a pass of its
own, which is good for this one thing, and goes with the login.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
import websockets
from fastapi import APIRouter, Depends, WebSocket
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.client import ClientConnection

from cti.access import same_origin, session
from cti.accounts import Session
from ivr.config import Settings
from ivr.ports import Clock
from ivr.store.repo import Store

log = structlog.get_logger(__name__)

PATH = "/api/phone/ws"
PASS_HOURS = 12
_MOST_PASSES = 20_000
_MOST_EACH = 8
"""Connections of one agent: more are forgotten tabs."""
_LONGEST = 65536
_CONNECT_SECONDS = 5.0
_SUBPROTOCOL = websockets.Subprotocol("sip")


class PhoneAccount(BaseModel):
    """What the page registers with. `ws` is an address on this server."""

    model_config = ConfigDict(extra="forbid")

    uri: str
    password: str
    ws: str
    extension: str


class BrowserPhones:
    """Gives agents their account, and carries their frames. `accounts` are the extensions that may
    have one, with the account's name; `password` makes the account's password."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        clock: Clock,
        account: Callable[[str], str],
        password: Callable[[str], str],
    ):
        where = settings.asterisk
        self._url = f"ws://{where.ami_host}:{where.http_port}/ws"
        self._there = where.enabled and where.http_port > 0
        self._store = store
        self._clock = clock
        self._account = account
        self._password = password
        self._passes: OrderedDict[str, tuple[str, datetime]] = OrderedDict()
        self._open: dict[str, int] = {}

    async def account(self, login: str) -> PhoneAccount | None:
        """None for an agent without a telephone in the page."""
        agent = await self._store.agent(login)
        name = self._account(agent.extension) if agent and self._there else ""
        if agent is None or not name:
            return None
        return PhoneAccount(
            uri=f"sip:{name}@hotline",
            password=self._password(name),
            ws=f"{PATH}?pass={self._new_pass(login)}",
            extension=agent.extension,
        )

    def _new_pass(self, login: str) -> str:
        fresh = secrets.token_urlsafe(24)
        self._passes[fresh] = (login, self._clock.now() + timedelta(hours=PASS_HOURS))
        while len(self._passes) > _MOST_PASSES:
            self._passes.popitem(last=False)
        return fresh

    def _login_of(self, given: str) -> str:
        login, until = self._passes.get(given, ("", self._clock.now()))
        return login if self._clock.now() < until else ""

    def forget(self, login: str) -> None:
        """The agent has logged out: what they were given is good no longer."""
        for given in [one for one, (whose, _) in self._passes.items() if whose == login]:
            del self._passes[given]

    async def serve(self, socket: WebSocket) -> None:
        """One page's WebSocket, until either side ends it."""
        login = self._login_of(socket.query_params.get("pass", ""))
        if not login or not same_origin(socket.headers) or self._open.get(login, 0) >= _MOST_EACH:
            await socket.close(1008)  # before accepting: the browser sees 403
            return
        self._open[login] = self._open.get(login, 0) + 1
        try:
            await self._carry(socket)
        except (OSError, TimeoutError, websockets.WebSocketException) as error:
            log.warning("no way to Asterisk's WebSocket", url=self._url, error=repr(error))
            await _close(socket)
        finally:
            self._open[login] -= 1

    async def _carry(self, socket: WebSocket) -> None:
        connecting = websockets.connect(
            self._url,
            subprotocols=[_SUBPROTOCOL],
            max_size=_LONGEST,
            open_timeout=_CONNECT_SECONDS,
            proxy=None,
        )
        async with connecting as asterisk:
            await socket.accept(subprotocol=_SUBPROTOCOL)
            ways = [
                asyncio.ensure_future(way)
                for way in (_out(socket, asterisk), _in(asterisk, socket))
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        await _close(socket)


async def _out(socket: WebSocket, asterisk: ClientConnection) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        frame = message.get("text") or message.get("bytes") or ""
        if len(frame) > _LONGEST:
            return
        await asterisk.send(frame)


async def _in(asterisk: ClientConnection, socket: WebSocket) -> None:
    async for frame in asterisk:
        if isinstance(frame, str):
            await socket.send_text(frame)
        else:
            await socket.send_bytes(frame)


async def _close(socket: WebSocket) -> None:
    try:
        async with asyncio.timeout(1):
            await socket.close(1011)
    except (TimeoutError, WebSocketDisconnect, RuntimeError):
        return


def router(phones: BrowserPhones) -> APIRouter:
    """The two ways: the account, and the WebSocket."""
    made = APIRouter()
    signed_in = Depends(session)

    @made.get("/api/phone")
    async def phone(who: Session = signed_in) -> PhoneAccount:
        """The account with which the page can be the agent's telephone."""
        account = await phones.account(who.login)
        if account is None:
            raise HTTPException(404, "no telephone in the page belongs to this login")
        return account

    @made.websocket(PATH)
    async def carry(socket: WebSocket) -> None:
        await phones.serve(socket)

    return made
