"""The supervisors' board: its page, and the WebSocket over which it is kept up to date.

The board only looks; what a supervisor does on it goes over REST (`cti.staff`), where it is written
down first.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import structlog
from fastapi import APIRouter, WebSocket
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.websockets import WebSocketDisconnect

from cti.access import Door, peer, refused, same_origin
from cti.accounts import Accounts, LoginRefused, Session
from cti.agentsocket import LOGIN_REFUSED, LOGIN_SECONDS, RECHECK_SECONDS, error_message
from cti.board import Board
from cti.screens import Screen
from cti.supervision import TOPIC
from ivr.errors import HotlineError, NotAllowed, RemoteProtocolError, StoreError
from ivr.ports import Bus

log = structlog.get_logger()

MOST_BOARDS = 100
"""The most boards that one server keeps up to date."""

WAY = ("WS", "/api/wallboard")
_PAGE = Path(__file__).parent / "desktop"


class _Message(BaseModel):
    """`login` with a token first, then `ping` as one likes."""

    model_config = ConfigDict(extra="forbid")

    v: Literal[1] = 1
    type: Literal["login", "ping"]
    token: str = Field("", max_length=256, repr=False)


def router(board: Board, accounts: Accounts, bus: Bus) -> APIRouter:
    """/wallboard and /api/wallboard."""
    routes = APIRouter()
    open_boards: set[Screen] = set()
    door = Door(accounts, WAY)

    @routes.get("/wallboard", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(_PAGE / "wallboard.html", media_type="text/html")

    @routes.websocket("/api/wallboard")
    async def live(socket: WebSocket) -> None:
        await _BoardSocket(socket, board, door, bus, open_boards).serve()

    return routes


class _BoardSocket:
    """One board, until its page leaves, does not read, or may not look any more."""

    def __init__(
        self, socket: WebSocket, board: Board, door: Door, bus: Bus, open_boards: set[Screen]
    ):
        self._socket = socket
        self._board = board
        self._door = door
        self._bus = bus
        self._open = open_boards

    async def serve(self) -> None:
        if not same_origin(self._socket.headers):
            refused("origin", path=WAY[1], peer=peer(self._socket))
            await self._socket.close(1008)  # before accepting: the browser sees 403
            return
        await self._socket.accept()
        try:
            async with asyncio.timeout(LOGIN_SECONDS):
                who = await self._login()
        except WebSocketDisconnect:
            return
        except TimeoutError:
            await self._close(LOGIN_REFUSED)
            return
        except HotlineError as error:
            await self._refuse(error)
            return
        screen = Screen(who.login, who.key)
        stop = self._bus.subscribe(TOPIC, lambda body: _dismiss(screen, body))
        self._open.add(screen)
        self._board.watch(screen)
        try:
            await self._attend(screen, who)
        finally:
            stop()
            self._open.discard(screen)
            self._board.leave(screen)
            screen.close()

    async def _login(self) -> Session:
        message = await self._receive()
        if message.type != "login":
            raise LoginRefused("the first message must be a login")
        who = await self._door.session(message.token)
        if len(self._open) >= MOST_BOARDS:
            raise NotAllowed(f"at most {MOST_BOARDS} boards at once")
        return who

    async def _attend(self, screen: Screen, who: Session) -> None:
        jobs = [
            asyncio.ensure_future(job)
            for job in (
                self._listen(screen),
                screen.write_to(self._socket.send_text),
                self._recheck(who),
            )
        ]
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
                log.warning("board dropped: it does not read", supervisor=who.login)
            case NotAllowed():
                await self._close(LOGIN_REFUSED)
            case None:
                await self._close(LOGIN_REFUSED if screen.dismissed else 1008)
            case HotlineError():
                await self._close(1008)
            case _:
                log.error("board dropped", supervisor=who.login, exc_info=error)
                await self._close(1011)

    async def _listen(self, screen: Screen) -> None:
        while True:
            if (await self._receive()).type == "ping":
                screen.put('{"v":1,"type":"pong"}')

    async def _recheck(self, who: Session) -> None:
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            try:
                await self._door.still(who.key)
            except StoreError:
                continue  # the database is away: nobody is thrown out for that

    async def _receive(self) -> _Message:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        try:
            return _Message.model_validate_json(message.get("text") or "")
        except ValidationError:
            raise RemoteProtocolError("a board says login and ping, and nothing else") from None

    async def _refuse(self, error: HotlineError) -> None:
        told = error_message(error)
        text = json.dumps({"v": 1, "type": "error", "code": told.code, "text": told.text})
        try:
            async with asyncio.timeout(1):
                await self._socket.send_text(text)
        except (TimeoutError, WebSocketDisconnect):
            return
        await self._close(LOGIN_REFUSED)

    async def _close(self, code: int) -> None:
        try:
            async with asyncio.timeout(1):
                await self._socket.close(code)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            return


def _dismiss(screen: Screen, body: Mapping[str, Any]) -> None:
    if body.get("order") == "log_out" and body.get("login") == screen.login:
        screen.dismissed = True
        screen.close()
