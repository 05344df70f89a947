"""One designer's WebSocket: word of every change on disk, and a simulator.

A simulation lives as long as its page is connected: there is nothing to clean up, and nobody else
can reach it.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import structlog
from fastapi import WebSocket
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.websockets import WebSocketDisconnect

from cti.access import Door, peer, refused, same_origin
from cti.accounts import LoginRefused, Session
from cti.agentsocket import LOGIN_REFUSED, LOGIN_SECONDS, RECHECK_SECONDS, error_message
from cti.simulation import Simulation
from cti.workshop import Reading, Workshop
from ivr.errors import Conflict, HotlineError, NotAllowed, RemoteProtocolError, StoreError
from ivr.flow.facts import Facts
from ivr.flow.loader import FlowErrors
from ivr.flow.testing.script import Given
from ivr.model import Channel

log = structlog.get_logger(__name__)

MOST_PAGES = 8
"""The most pages that one designer may have open."""
NO_DESIGNER = 4003
"""The WebSocket close code for a login that is good, but not a designer's."""
WRITE_SECONDS = 5.0
_BAD_MESSAGES = 20


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Login(_Part):
    """The first message: the token that `POST /api/login` gave."""

    type: Literal["login"]
    token: str = Field(min_length=1, max_length=256, repr=False)


class _Start(_Part):
    """Begin a simulation of a file's flow; an earlier one is over."""

    type: Literal["start"]
    file: str = Field(max_length=255)
    channel: Channel = Channel.VOICE
    language: str = Field("", max_length=35)
    caller: str = Field(Given().caller, max_length=64)
    at: datetime | None = None


class _Line(_Part):
    """What the customer says or types, or a command of the simulator with a slash."""

    type: Literal["line"]
    text: str = Field(max_length=2_000)


class _Record(_Part):
    """Ask for the simulation so far, as a test file."""

    type: Literal["record"]


_Message = Annotated[_Login | _Start | _Line | _Record, Field(discriminator="type")]
_MESSAGES: TypeAdapter[Any] = TypeAdapter(_Message)


class DesignerSocket:
    """One designer's page: told of every change on disk, and given one simulation at a time."""

    def __init__(
        self,
        socket: WebSocket,
        workshop: Workshop,
        accounts: Door,
        facts: Facts,
        pages: Counter[str],
    ):
        self._socket = socket
        self._workshop = workshop
        self._accounts = accounts
        self._facts = facts
        self._pages = pages
        self._changed = asyncio.Event()
        self._serial = 0
        self._writing = asyncio.Lock()
        self._simulation: Simulation | None = None

    async def serve(self) -> None:
        if not same_origin(self._socket.headers):
            refused("origin", path="/api/designer", peer=peer(self._socket))
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
        self._pages[who.login] += 1
        try:
            with self._workshop.watched(self._note):
                await self._attend(who)
        finally:
            self._pages[who.login] -= 1

    async def _login(self) -> Session:
        message = await self._receive()
        if not isinstance(message, _Login):
            raise LoginRefused("the first message must be a login")
        who = await self._accounts.session(message.token)
        if self._pages[who.login] >= MOST_PAGES:
            raise NotAllowed(f"at most {MOST_PAGES} of these pages at once; close another")
        return who

    async def _attend(self, who: Session) -> None:
        """Until any ends: the page leaves, does not read, or is no longer allowed."""
        jobs = [
            asyncio.ensure_future(job) for job in (self._listen(), self._push(), self._recheck(who))
        ]
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
        error = next((error for job in done if (error := job.exception()) is not None), None)
        match error:
            case WebSocketDisconnect() | None:
                return
            case TimeoutError():
                log.warning("page dropped: it does not read", designer=who.login)
            case HotlineError():
                await self._refuse(error)
            case _:
                log.error("page dropped", designer=who.login, exc_info=error)
                await self._close(1011)

    def _note(self, reading: Reading) -> None:
        self._serial = reading.serial
        self._changed.set()

    async def _push(self) -> None:
        await self._send({"type": "hello", "serial": (await self._workshop.look()).serial})
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._send({"type": "changed", "serial": self._serial})

    async def _listen(self) -> None:
        bad = 0
        while bad < _BAD_MESSAGES:
            try:
                for answer in await self._obey(await self._receive()):
                    await self._send(answer)
                bad = 0
            except (Conflict, RemoteProtocolError, FlowErrors) as error:
                bad += isinstance(error, RemoteProtocolError)
                await self._send({"type": "error", "code": "refused", "text": str(error)})
        await self._close(1008)

    async def _obey(self, message: Any) -> list[dict[str, Any]]:
        match message:
            case _Start():
                reading = await self._workshop.look()
                if message.file not in reading.sheets:
                    raise Conflict("there is no such flow file")
                self._simulation = None
                self._simulation = await asyncio.to_thread(self._begin, reading, message)
                return [{"type": "simulation", "fresh": True, **self._simulation.told()}]
            case _Line() if self._simulation is not None:
                await asyncio.to_thread(self._simulation.line, message.text)
                return [{"type": "simulation", "fresh": False, **self._simulation.told()}]
            case _Record() if self._simulation is not None:
                text = await asyncio.to_thread(self._simulation.recording, "as it was simulated")
                return [{"type": "recording", "text": text}]
            case _Login():
                raise Conflict("this page is logged in already")
            case _:
                raise Conflict("begin a simulation first")

    def _begin(self, reading: Reading, wanted: _Start) -> Simulation:
        bundle = reading.bundle(wanted.file)
        at = wanted.at or datetime.now(UTC)
        given = Given(
            channel=wanted.channel.value,
            language=wanted.language,
            caller=wanted.caller,
            at=at if at.tzinfo else at.replace(tzinfo=UTC),
        )
        return Simulation(bundle, given, self._facts)

    async def _recheck(self, who: Session) -> None:
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            try:
                await self._accounts.still(who.key)
            except StoreError:
                continue  # the database is away: nobody is thrown out for that

    # --- frames ----------------------------------------------------------------------------------

    async def _receive(self) -> Any:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        try:
            return _MESSAGES.validate_json(message.get("text") or "")
        except ValidationError as error:
            # Only names of ours and the reason: what was sent does not belong into an answer.
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise RemoteProtocolError(f"{place or 'message'}: {first['type']}") from None

    async def _send(self, message: dict[str, Any]) -> None:
        async with self._writing, asyncio.timeout(WRITE_SECONDS):
            await self._socket.send_text(json.dumps(message, ensure_ascii=False))

    async def _tell(self, error: HotlineError) -> None:
        told = error_message(error)
        await self._send({"type": "error", "code": told.code, "text": told.text})

    async def _refuse(self, error: HotlineError) -> None:
        try:
            await self._tell(error)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            return
        refused = isinstance(error, NotAllowed) and not isinstance(error, LoginRefused)
        await self._close(NO_DESIGNER if refused else LOGIN_REFUSED)

    async def _close(self, code: int) -> None:
        try:
            async with asyncio.timeout(1):
                await self._socket.close(code)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            return
