"""The way of a call on a real Asterisk: keys in, prompts out, an agent's phone, and the hang-up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from cti.app import SystemClock
from cti.robots import phone
from ivr.config import Settings
from ivr.flow.events import AgentJoined, AgentLeft, Enqueue
from ivr.library import Library
from ivr.model import Conversation
from ivr.ports import Answered, CallEvent, CallFacts, Ringing
from ivr.recordings import Recordings
from ivr.runner import Runner
from ivr.sealing import Sealer
from ivr.store.repo import Store
from ivr.telephony import fastagi, media
from ivr.telephony.asterisk import Ami
from ivr.telephony.softphone import PhoneCall, Softphone
from ivr.telephony.telephone import Telephone
from tests.fakes.speech import FakeRecognizer

pytestmark = pytest.mark.live

FLOW = """
flow: main
languages: [en]
start: welcome
slots:
  account: {type: digits, length: 4}
nodes:
  welcome: {say: Welcome., then: main}
  main:
    menu:
      ask: Billing is 1. A person is 0.
      choices:
        billing: {press: 1, say: billing, then: account}
        person: {press: 0, say: agent, then: people}
      wait: 1s
      tries: 2
      otherwise: bye
  account:
    collect: {slot: account, ask: Your account?, otherwise: people}
    then: main
  people: {queue: {skills: [billing]}, then: bye, otherwise: bye}
  bye: {end: Goodbye.}
"""


class Tones:
    """Prompts that are half a second of a tone."""

    async def render(self, text: str, language: str, template: str = "") -> AsyncIterator[bytes]:
        wave = np.sin(np.arange(4000) * 2 * np.pi * 440 / 8000) * 8000
        yield wave.astype("<i2").tobytes()


class Line:
    """The human side, in the test's hand: it remembers who waits."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[tuple[str, Enqueue]] = asyncio.Queue()

    async def enqueue(self, conversation_id: str, wanted: Enqueue) -> None:
        self.waiting.put_nowait((conversation_id, wanted))

    async def withdraw(self, conversation_id: str) -> None: ...

    async def observe(self, conversation_id: str) -> None: ...

    async def facts(self, conversation_id: str) -> CallFacts:
        return CallFacts()


class Exchange:
    """A hotline with a telephone and no people."""

    def __init__(self, settings: Settings, store: Store, telephone: Telephone, runner: Runner):
        self.settings = settings
        self.store = store
        self.telephone = telephone
        self.runner = runner
        self.line = Line()
        runner.attach(self.line)

    async def conversation(self) -> Conversation:
        """The only one that is live, when it is there."""
        async with asyncio.timeout(10):
            while not (found := await self.store.live_conversations()):
                await asyncio.sleep(0.01)
        return found[0]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)


@pytest_asyncio.fixture(loop_scope="session")
async def exchange(
    reactor: Any, live_pbx: Settings, ami: Ami, tmp_path: Path
) -> AsyncIterator[Exchange]:
    (tmp_path / "main.yaml").write_text(FLOW)
    clock = SystemClock()
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")
    library = Library(store, clock)
    await library.publish(tmp_path, "main")
    runner = Runner(store, library, NoFetch(), Sealer(tmp_path / "key"), clock)
    where = live_pbx.asterisk
    audio = media.AudioServer(reactor)
    audio.listen(where.agi_host, where.audio_port)
    music = b"\0\10" * 8000
    recordings = Recordings(store, tmp_path / "recordings", live_pbx.recording, clock)
    ears = FakeRecognizer(deaf=True)
    telephone = Telephone(live_pbx, runner, audio, ami, Tones(), ears, clock, music, recordings)
    calls = fastagi.serve(reactor, where.agi_host, where.agi_port, telephone.answer)
    made = Exchange(live_pbx, store, telephone, runner)
    yield made
    await made.until(lambda: runner.live == 0)
    await calls.stop()
    await audio.stop()
    await runner.close()
    await store.close()


class NoFetch:
    """No system is connected."""

    async def fetch(self, request: Any) -> Any:
        raise AssertionError(request)


@pytest_asyncio.fixture(loop_scope="session")
async def caller(live_pbx: Settings) -> AsyncIterator[Softphone]:
    async with phone(live_pbx, "9001") as telephone:
        yield telephone


async def test_keys_lead_through_the_flow_and_silence_to_its_end(
    exchange: Exchange, caller: Softphone
) -> None:
    call = await caller.call("100")
    await call.press("1")
    await call.press("4711")
    conversation = await exchange.conversation()
    async with asyncio.timeout(20):
        await call.ended()
    assert call.ended_by == "them"
    await exchange.until(lambda: exchange.runner.live == 0)
    stored = await exchange.store.conversation(conversation.id)
    assert stored is not None and stored.outcome == "completed"
    kinds = [entry.kind for entry in await exchange.store.timeline(conversation.id)]
    assert kinds.count("pressed") == 2
    assert kinds.count("timed_out") == 2
    [record] = await exchange.store.records(conversation.id)
    assert record.caller == "9001" and record.dialled == "100"


async def test_the_caller_who_hangs_up_ends_the_conversation(
    exchange: Exchange, caller: Softphone
) -> None:
    call = await caller.call("100")
    conversation = await exchange.conversation()
    await call.hang_up()
    await exchange.until(lambda: exchange.runner.live == 0)
    stored = await exchange.store.conversation(conversation.id)
    assert stored is not None and stored.status == "ended"


async def in_line(exchange: Exchange, caller: Softphone) -> tuple[PhoneCall, str, str]:
    call = await caller.call("100")
    await call.press("0")
    async with asyncio.timeout(10):
        conversation_id, wanted = await exchange.line.waiting.get()
    [leg] = await exchange.store.legs(conversation_id)
    return call, leg.id, wanted.id


async def test_an_agents_phone_rings_is_answered_and_the_flow_goes_on_after_the_talk(
    exchange: Exchange, caller: Softphone
) -> None:
    call, leg_id, ticket = await in_line(exchange, caller)
    conversation = await exchange.conversation()
    seen: list[CallEvent] = []
    async with phone(exchange.settings, "1001") as desk:
        talking = asyncio.ensure_future(exchange.telephone.ring(leg_id, "1001", 10, seen.append))
        incoming = await desk.incoming(10)
        await exchange.until(lambda: seen == [Ringing("1001")])
        await incoming.answer()
        await exchange.until(lambda: len(seen) == 2)
        assert seen[1] == Answered("1001")
        await exchange.runner.report(conversation.id, AgentJoined(ticket, "ann"))
        await incoming.hang_up()
        assert await talking == "talked"
        await exchange.runner.report(conversation.id, AgentLeft(ticket, "ann"))
    async with asyncio.timeout(10):
        await call.ended()
    assert call.ended_by == "them"


async def test_nobody_answers_and_the_caller_keeps_waiting(
    exchange: Exchange, caller: Softphone
) -> None:
    call, leg_id, _ = await in_line(exchange, caller)
    async with phone(exchange.settings, "1001"):
        outcome = await exchange.telephone.ring(leg_id, "1001", 1, lambda event: None)
    assert outcome == "no_answer"
    assert await exchange.telephone.ring(leg_id, "1002", 1, lambda event: None) == "unavailable"
    loud = asyncio.Event()
    call.on_frame(lambda frame: loud.set() if any(frame) else None)
    async with asyncio.timeout(5):
        await loud.wait()
    await call.hang_up()


async def test_ringing_that_is_called_off_stops_and_the_caller_keeps_waiting(
    exchange: Exchange, caller: Softphone
) -> None:
    call, leg_id, _ = await in_line(exchange, caller)
    async with phone(exchange.settings, "1001") as desk:
        ringing = asyncio.ensure_future(
            exchange.telephone.ring(leg_id, "1001", 30, lambda event: None)
        )
        incoming = await desk.incoming(10)
        ringing.cancel()
        await asyncio.gather(ringing, return_exceptions=True)
        async with asyncio.timeout(5):
            await incoming.ended()
    assert call.state == "answered"
    await call.hang_up()


async def test_a_caller_who_hangs_up_while_it_rings_is_gone(
    exchange: Exchange, caller: Softphone
) -> None:
    call, leg_id, _ = await in_line(exchange, caller)
    async with phone(exchange.settings, "1001") as desk:
        ringing = asyncio.ensure_future(
            exchange.telephone.ring(leg_id, "1001", 30, lambda event: None)
        )
        incoming = await desk.incoming(10)
        await call.hang_up()
        assert await ringing == "gone"
        async with asyncio.timeout(5):
            await incoming.ended()
