"""How soon five hundred agents see what happens, and what five thousand idle screens cost."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import resource
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import websockets
from websockets.asyncio.client import ClientConnection

from cti import protocol
from ivr.model import Agent
from ivr.store.repo import Store
from tests.bench.figures import Figure, figure, percentile
from tests.fakes.asterisk import FakeAmi, event

AGENTS = 500
CALLS_A_SECOND = 10
EVENTS_A_SECOND = 50
SECONDS = 25
IDLE = 5_000
_MIB = 1024 * 1024


def desk() -> list[Figure]:
    return asyncio.run(_desk())


def screens() -> list[Figure]:
    return asyncio.run(_screens())


BENCHES = {"desk": desk, "screens": screens}


# --- what happens, and when a screen has it -------------------------------------------------------


class _Screens:
    """Agents without a page. Each frame that is about a call is noted with its time."""

    def __init__(self, url: str):
        self._url = url
        self._open: list[ClientConnection] = []
        self._reading: list[asyncio.Task[None]] = []
        self.frames: dict[tuple[str, str], float] = {}
        self.wall: dict[str, float] = {}
        self.popped: asyncio.Queue[str] = asyncio.Queue()

    async def connect(self, token: str, *, ready: bool) -> None:
        socket = await websockets.connect(
            self._url, open_timeout=60, ping_interval=None, proxy=None, compression=None
        )
        self._open.append(socket)
        await socket.send(protocol.Login(token=token).model_dump_json())
        await socket.recv()
        if ready:
            await socket.send(protocol.SetPresence(to="available").model_dump_json())
        self._reading.append(asyncio.ensure_future(self._read(socket)))

    async def _read(self, socket: ClientConnection) -> None:
        async for text in socket:
            at, wall = time.monotonic(), time.time()
            message = json.loads(text)
            kind = message["type"]
            if kind == "pop" and message["card"]["stage"] == "offered":
                conversation = message["card"]["conversation"]
                self.wall[conversation] = wall
                await socket.send(protocol.Seen(conversation=conversation).model_dump_json())
                self.popped.put_nowait(conversation)
            elif kind in ("ringing", "answered"):
                self.frames[message["conversation"], kind] = at

    async def close(self) -> None:
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
        await asyncio.gather(*(socket.close() for socket in self._open), return_exceptions=True)


async def _desk() -> list[Figure]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hotline-desk-")))
        ami = await stack.enter_async_context(FakeAmi())
        tokens = await _agents(folder / "desk.db", AGENTS)
        server, port = await stack.enter_async_context(_server(folder / "desk.db", ami.port))
        bare = await stack.enter_async_context(_bare_panoramisk(ami.port))
        screens = _Screens(f"ws://127.0.0.1:{port}/api/agent")
        stack.push_async_callback(screens.close)
        for token in tokens:
            await screens.connect(token, ready=True)
        await asyncio.sleep(2)
        sent = await _traffic(server, ami, screens)
        store = await Store.open(f"sqlite:///{folder / 'desk.db'}", migrate=False)
        stack.push_async_callback(store.close)
        chosen = {name: await _offered_at(store, name) for name in list(screens.wall)}
        printed = await bare()
    pops = [(wall - chosen[name]) * 1000 for name, wall in screens.wall.items() if chosen.get(name)]
    frames = [(at - sent[key]) * 1000 for key, at in screens.frames.items() if key in sent]
    theirs = [(at - sent[key]) * 1000 for key, at in printed.items() if key in sent]
    print(
        f"{len(pops)} pops, {len(frames)} frames after manager events, {len(theirs)} printed bare"
    )
    p50, p99 = percentile(theirs, 0.5), percentile(theirs, 0.99)
    return [
        figure(f"queue's choice to pop, {AGENTS} agents, p50", percentile(pops, 0.5), "ms", 10),
        figure(f"queue's choice to pop, {AGENTS} agents, p99", percentile(pops, 0.99), "ms", 100),
        figure("manager's event to frame, p50", percentile(frames, 0.5), "ms", 10, p50),
        figure("manager's event to frame, p99", percentile(frames, 0.99), "ms", 100, p99),
        figure(
            "calls that reached a screen",
            len(pops) / (CALLS_A_SECOND * SECONDS) * 100,
            "%",
            100,
            math.nan,
            at_least=True,
        ),
    ]


async def _traffic(
    server: asyncio.subprocess.Process, ami: FakeAmi, screens: _Screens
) -> dict[tuple[str, str], float]:
    """Callers and what the manager says of them, at an even pace; when each was sent."""
    assert server.stdin is not None
    sent: dict[tuple[str, str], float] = {}
    talking: dict[str, int] = {}
    noise = EVENTS_A_SECOND - 4 * CALLS_A_SECOND
    for tick in range((SECONDS + 3) * CALLS_A_SECOND):
        due = time.monotonic() + 1 / CALLS_A_SECOND
        if tick < SECONDS * CALLS_A_SECOND:
            server.stdin.write(f"c{tick}\n".encode())
        for _ in range(noise // CALLS_A_SECOND):
            _tell(ami, "Newstate", "noise")
        while not screens.popped.empty():
            name = screens.popped.get_nowait()
            talking[name] = tick
            sent[name, "ringing"] = _tell(ami, "DialBegin", name)
        for name, since in list(talking.items()):
            if tick == since + 3:
                sent[name, "answered"] = _tell(ami, "DialEnd", name)
            elif tick == since + 10:
                del talking[name]
                _tell(ami, "Hangup", name)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    await asyncio.sleep(1)
    return sent


_SAYS = {"DialBegin": "ringing", "DialEnd": "answered"}


def _tell(ami: FakeAmi, name: str, unique_id: str) -> float:
    text = event(name, Uniqueid=unique_id, DestChannel="PJSIP/1-1", DialStatus="ANSWER")
    at = time.monotonic()
    for connection in ami.connections:
        connection.write(text.encode())
    return at


@asynccontextmanager
async def _bare_panoramisk(port: int) -> AsyncIterator[object]:
    """The same events, printed by panoramisk alone; call what is given for when each was."""
    program = (
        "import asyncio, sys, time\n"
        "from panoramisk import Manager\n"
        f"m = Manager(host='127.0.0.1', port={port}, username='bare', secret='s')\n"
        "@m.register_event('Dial*')\n"
        "def told(manager, event):\n"
        "    print(time.monotonic(), event.Uniqueid, event.event, flush=True)\n"
        "m.connect()\n"
        "m.loop.run_forever()\n"
    )
    with tempfile.TemporaryFile("w+") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "ignore", "-c", program, stdout=output
        )

        async def printed() -> dict[tuple[str, str], float]:
            output.seek(0)
            found = {}
            for line in output:
                at, unique_id, name = line.split()
                found[unique_id, _SAYS[name]] = float(at)
            return found

        try:
            await asyncio.sleep(1.5)
            yield printed
        finally:
            process.kill()
            await process.wait()


# --- what screens cost ----------------------------------------------------------------------------


async def _screens() -> list[Figure]:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hotline-desk-")))
        ami = await stack.enter_async_context(FakeAmi())
        tokens = await _agents(folder / "desk.db", IDLE)
        server, port = await stack.enter_async_context(_server(folder / "desk.db", ami.port))
        process = psutil.Process(server.pid)
        before = process.memory_info().rss / _MIB
        screens = _Screens(f"ws://127.0.0.1:{port}/api/agent")
        stack.push_async_callback(screens.close)
        for first in range(0, IDLE, 20):
            batch = tokens[first : first + 20]
            await asyncio.gather(*(screens.connect(token, ready=False) for token in batch))
        await asyncio.sleep(5)
        after = process.memory_info().rss / _MIB
        busy = process.cpu_percent(5)
    return [
        figure(f"memory with {IDLE} idle screens", after, "MiB", 400, before),
        figure("share of a core that they take", busy, "%", 50),
    ]


# --- both -----------------------------------------------------------------------------------------


@asynccontextmanager
async def _server(
    database: Path, ami_port: int
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.deskserver",
        str(database),
        str(ami_port),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield process, int(await asyncio.wait_for(process.stdout.readline(), 60))
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 30)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _agents(database: Path, count: int) -> list[str]:
    """So many agents, each with a token: their passwords would take minutes to hash."""
    store = await Store.open(f"sqlite:///{database}")
    until = datetime.now(UTC) + timedelta(hours=1)
    tokens = []
    for number in range(count):
        login = f"agent{number}"
        await store.save_agent(Agent(login, f"Agent {number}", str(2000 + number)))
        token = secrets.token_urlsafe(32)
        await store.save_token(hashlib.sha256(token.encode()).hexdigest(), login, until)
        tokens.append(token)
    await store.close()
    return tokens


async def _offered_at(store: Store, conversation: str) -> float:
    for entry in await store.timeline(conversation):
        if entry.kind == "offered":
            return entry.at.timestamp()
    return 0.0
