"""A whole hotline as callers and operators meet it: the server's process on the tests' own PBX.

What a test learns it learns from outside: what a telephone hears, what the database holds, what
`/metrics` says and what the kernel knows of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sqlite3
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import httpx2
import psutil
import websockets
from prometheus_client.parser import text_string_to_metric_families

from cti import protocol, robots, stage
from cti.client import AgentClient
from ivr.config import Settings
from ivr.flow.state import State
from ivr.model import Conversation, TimelineEntry
from ivr.sealing import Sealer
from ivr.store.repo import Store
from ivr.telephony.softphone import PhoneCall, Softphone
from ivr.wire.audio import rms_dbfs

T = TypeVar("T")

PASSWORD = "correct horse battery"
LOUD = -45.0
ACCOUNT = "12345678"
_SYS_PIDFD_GETFD = 438


async def until(condition: Callable[[], T], seconds: float = 10.0, what: str = "") -> T:
    """What the condition gives as soon as that is true."""
    began = time.monotonic()
    while not (found := condition()):
        assert time.monotonic() - began < seconds, f"not within {seconds:g} s: {what or condition}"
        await asyncio.sleep(0.02)
    return found


def house_settings(pbx: Settings, name: str, **changes: Any) -> Settings:
    """Settings of a server for that PBX: keys alone, the quick voice, a page on a free port, and a
    database of its own, for who was at work is remembered there."""
    speech = pbx.speech.model_copy(update={"engine": "none", "voice": "pyttsx3"})
    queue = pbx.queue.model_copy(update={"wrap_up_seconds": 600.0})
    web = pbx.web.model_copy(update={"port": stage.free_ports(1)[0]})
    database = pbx.database.model_copy(update={"url": f"sqlite:///{pbx.state_dir / name}.db"})
    update = {"speech": speech, "queue": queue, "web": web, "database": database}
    update |= {"log_level": "error", **changes}
    return pbx.model_copy(update=update)


class House:
    """One hotline. It can be started, stopped and killed at any moment."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self._running: AsyncExitStack | None = None
        self._process: Process | None = None

    # --- the server's life -----------------------------------------------------------------------

    async def start(self) -> None:
        running = AsyncExitStack()
        self._process = await running.enter_async_context(stage.server(self.settings))
        self._running = running

    async def kill(self) -> None:
        """As the kernel does when memory runs out: without a word."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
        await self.stop()

    async def stop(self) -> None:
        """Politely; returns when the process is gone. Idempotent."""
        running, self._running = self._running, None
        if running is not None:
            await running.aclose()

    @property
    def up(self) -> bool:
        return self._running is not None

    @property
    def process(self) -> psutil.Process:
        assert self._process is not None
        return psutil.Process(self._process.pid)

    # --- from outside ----------------------------------------------------------------------------

    async def metrics(self) -> Mapping[str, float]:
        """Every sample, those with labels added up."""
        async with httpx2.AsyncClient(trust_env=False) as client:
            text = (await client.get(stage.url(self.settings) + "/metrics")).text
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found

    async def until_metric(self, name: str, value: float, seconds: float = 15.0) -> None:
        began = time.monotonic()
        while (now := (await self.metrics())[name]) != value:
            assert time.monotonic() - began < seconds, f"{name} is {now:g}, not {value:g}"
            await asyncio.sleep(0.1)

    def sockets(self, port: int) -> list[tuple[int, str]]:
        """The connections that the server has accepted on one of its ports, or made to one: file
        descriptor and state."""
        return [
            (one.fd, one.status)
            for one in self.process.net_connections("tcp")
            if one.status != psutil.CONN_LISTEN
            and (one.laddr.port == port or (one.raddr and one.raddr.port == port))
        ]

    def cut(self, port: int) -> None:
        """Reset the connections on a port, as a firewall or a network that fails does."""
        found = self.sockets(port)
        assert found, f"nothing is connected on port {port}"
        for descriptor, _ in found:
            _reset(self.process.pid, descriptor)

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        store = await Store.open(self.settings.database_url, migrate=False)
        try:
            yield store
        finally:
            await store.close()

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the database directly."""
        path = self.settings.database_url.removeprefix("sqlite:///")
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as db:
            return db.execute(query, values).fetchall()

    # --- conversations ---------------------------------------------------------------------------

    async def live(self) -> Conversation:
        """The only conversation that goes on, as soon as there is one."""
        async with self.store() as store:
            began = time.monotonic()
            while not (found := await store.live_conversations()):
                assert time.monotonic() - began < 10, "no conversation has begun"
                await asyncio.sleep(0.02)
        [only] = found
        return only

    async def conversation(self, identity: str) -> Conversation:
        async with self.store() as store:
            found = await store.conversation(identity)
        assert found is not None
        return found

    async def state(self, identity: str) -> State:
        sealer = Sealer(self.settings.state_dir / "sealing.key")
        return State.from_json(sealer.open((await self.conversation(identity)).state))

    async def timeline(self, identity: str) -> list[TimelineEntry]:
        async with self.store() as store:
            return list(await store.timeline(identity))

    async def until_entry(
        self, identity: str, kind: str, count: int = 1, seconds: float = 15.0
    ) -> list[TimelineEntry]:
        """The timeline as soon as it has so many entries of a kind."""
        began = time.monotonic()
        while True:
            entries = await self.timeline(identity)
            if sum(entry.kind == kind for entry in entries) >= count:
                return entries
            seen = [entry.kind for entry in entries]
            assert time.monotonic() - began < seconds, f"no {kind} ({count}) in {seen}"
            await asyncio.sleep(0.05)

    async def until_ended(self, identity: str, seconds: float = 15.0) -> Conversation:
        began = time.monotonic()
        while (found := await self.conversation(identity)).status != "ended":
            entries = [(entry.kind, entry.body) for entry in await self.timeline(identity)]
            assert time.monotonic() - began < seconds, f"not ended: {entries}"
            await asyncio.sleep(0.05)
        return found

    async def nothing_left(self) -> None:
        """Every call is over for the server, and for the database."""
        for gauge in ("calls", "conversations", "audio_sockets", "queue_waiting"):
            await self.until_metric(f"hotline_{gauge}", 0)
        assert not self.rows("select id from conversations where status <> 'ended'")
        assert not self.rows("select id from legs where ended_at is null")
        assert not self.rows(  # one record a call, however many legs it took
            "select l.reference, count(r.leg_id) from legs l"
            " left join call_records r on r.leg_id = l.id"
            " group by l.reference having count(r.leg_id) <> 1"
        )
        assert not self.rows("select id from tickets where status in ('waiting', 'offered')")

    # --- telephones and people -------------------------------------------------------------------

    @asynccontextmanager
    async def caller(self) -> AsyncIterator[Softphone]:
        async with robots.phone(self.settings, robots.CALLER) as phone:
            yield phone

    async def call(self, phone: Softphone) -> Caller:
        return Caller(await phone.call(self.settings.asterisk.extension))

    @asynccontextmanager
    async def agent(self, login: str, extension: str) -> AsyncIterator[Agent]:
        """An agent with a desk phone, logged in and away."""
        await stage.add_agent(self.settings, login, extension, PASSWORD)
        async with robots.phone(self.settings, extension) as phone:
            agent = Agent(self, login, phone)
            await agent.connect()
            try:
                yield agent
            finally:
                await agent.disconnect()


class Caller:
    """A caller with an ear for when it is loud and when it is not."""

    def __init__(self, call: PhoneCall):
        self.call = call
        self._loud_at: list[float] = []
        self._quiet_since = time.monotonic()
        call.on_frame(self._frame)

    def _frame(self, frame: bytes) -> None:
        if rms_dbfs(frame) > LOUD:
            self._loud_at.append(time.monotonic())
            self._quiet_since = time.monotonic()

    async def sound(self, since: float, seconds: float) -> float:
        """When it was first loud after that moment."""
        return await until(
            lambda: next((at for at in self._loud_at if at > since), 0.0), seconds, "a sound"
        )

    async def silence(self, seconds: float = 1.0) -> float:
        """Return when it has been quiet for so long; the moment from which on."""
        await until(lambda: time.monotonic() - self._quiet_since > seconds, 40, "silence")
        return self._quiet_since


class Agent:
    """An agent's phone and screen."""

    def __init__(self, house: House, login: str, phone: Softphone):
        self.phone = phone
        self.login = login
        self.seen: list[protocol.ServerMessage] = []
        self.call: PhoneCall
        self._house = house
        self._client: AgentClient | None = None
        self._reading: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Open the screen; again after the server was away."""
        self._client = AgentClient(stage.url(self._house.settings), self.login, PASSWORD)
        await self._client.__aenter__()
        self._reading = asyncio.create_task(self._read(self._client))
        await self.saw(protocol.Hello)

    async def disconnect(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    @property
    def screen(self) -> AgentClient:
        assert self._client is not None
        return self._client

    async def _read(self, client: AgentClient) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):  # the server was killed
            async for message in client.messages():
                self.seen.append(message)

    async def saw(self, kind: type[T], seconds: float = 15.0) -> T:
        """The next message of a kind, of cards the next offer; those before are done with."""

        def fits(one: object) -> bool:
            offered = not isinstance(one, protocol.Pop) or one.card.stage == "offered"
            return isinstance(one, kind) and offered

        await until(lambda: any(map(fits, self.seen)), seconds, kind.__name__)
        while not fits(found := self.seen.pop(0)):
            pass
        assert isinstance(found, kind)
        return found


def _reset(pid: int, descriptor: int) -> None:
    """Reset another process's TCP connection: connecting a copy of its socket to nowhere does."""
    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(pid)
    try:
        copy = libc.syscall(_SYS_PIDFD_GETFD, process, descriptor, 0)
        if copy < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd (Linux 5.6 or newer, as root)")
        try:
            nowhere = bytes(16)  # a sockaddr of family AF_UNSPEC
            if libc.connect(copy, nowhere, len(nowhere)):
                raise OSError(ctypes.get_errno(), "connect to nowhere")
        finally:
            os.close(copy)
    finally:
        os.close(process)
