"""A desk as the server has it, for its bench: real store, AMI link, desk and WebSockets; of the
telephones only the audio is missing. Callers are named on standard input, one a line.

    python -m tests.bench.deskserver DATABASE AMI_PORT
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn

from cti.accounts import Accounts
from cti.screenpop import ConversationView
from cti.service import Desk
from cti.web import create_app, server_config
from ivr.bus import MemoryBus
from ivr.clock import SystemClock
from ivr.config import QueueSettings, Settings
from ivr.flow.events import Enqueue, Event
from ivr.model import Address, Channel, Conversation, ConversationStatus, Leg, TimelineEntry
from ivr.ports import Answered, CallEvent, Ringing
from ivr.store.repo import Store
from ivr.telephony.asterisk import Ami, AmiEvent
from tests.fakes.calls import FakeCalls


class CallsByManager(FakeCalls):
    """Calls that ring, are answered and end when the manager link says so."""

    def __init__(self, ami: Ami):
        super().__init__()
        self._ami = ami

    async def ring(
        self, leg_id: str, extension: str, seconds: float, notify: Callable[[CallEvent], None]
    ) -> str:
        over = asyncio.get_running_loop().create_future()

        def follow(event: AmiEvent) -> None:
            if event.fields.get("Uniqueid") != leg_id:
                return
            if event.name == "DialBegin":
                notify(Ringing(extension))
            elif event.name == "DialEnd":
                notify(Answered(extension))
            elif event.name == "Hangup" and not over.done():
                over.set_result("talked")

        unsubscribe = self._ami.subscribe(follow)
        try:
            return str(await over)
        finally:
            unsubscribe()


async def serve(database: str, ami_port: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    store = await Store.open(f"sqlite:///{database}")
    clock = SystemClock()
    ami = Ami("127.0.0.1", ami_port, "hotline", "secret")
    await ami.start()
    calls = CallsByManager(ami)
    settings = QueueSettings(wrap_up_seconds=0)

    async def report(conversation_id: str, event: Event) -> None:
        return None

    def view(conversation: Conversation) -> ConversationView:
        return ConversationView(topic="billing", path=("welcome", "main"), slots={"account": "1"})

    desk = Desk(store, lambda server: calls, report, view, clock, settings, MemoryBus())
    await desk.start()
    running = asyncio.ensure_future(desk.run())
    app = create_app(desk, Accounts(store, clock), store, Settings(), dict)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    web = _Web(server_config(app))
    serving = asyncio.ensure_future(web.serve(sockets=[listener]))
    print(listener.getsockname()[1], flush=True)
    async for name in _lines():
        await _caller(store, desk, clock, name)
    web.should_exit = web.force_exit = True
    await serving
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await desk.close()
    await ami.stop()
    await store.close()


async def _caller(store: Store, desk: Desk, clock: SystemClock, name: str) -> None:
    now = clock.now()
    leg = Leg(name, name, Address(Channel.VOICE, f"+1415555{name[1:]:>04}"), now)
    conversation = Conversation(name, "main", "v1", ConversationStatus.QUEUED, now, language="en")
    said = TimelineEntry(name, now, "heard", {"text": "a person please"})
    await store.start_conversation(conversation, leg, [said])
    await desk.enqueue(name, Enqueue("t1", pop=(("account", "12345678"),)))


async def _lines() -> Any:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        yield line.decode().strip()


class _Web(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


if __name__ == "__main__":
    asyncio.run(serve(str(Path(sys.argv[1])), int(sys.argv[2])))
