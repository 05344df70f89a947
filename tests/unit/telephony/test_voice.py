"""What a caller meets when things go wrong around their call, on a fake Asterisk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
import pytest_asyncio

from cti import protocol
from cti.orders import Orders
from ivr.config import RecordingSettings
from ivr.flow.events import Event
from ivr.model import Agent, Recording
from tests.fakes.pbx import UNIQUE_ID, Call, Exchange

FLOW = """
flow: main
languages: [en]
start: main
nodes:
  main:
    menu:
      ask: Billing, press 1. A person, press 0. Another office, press 2.
      choices:
        billing: {press: 1, say: billing, then: main}
        person: {press: 0, say: agent, then: people}
        office: {press: 2, say: office, then: over}
      otherwise: bye
  over: {transfer: {to: "1005", ring: 20s}, then: bye, otherwise: main}
  people: {queue: {skills: []}, then: bye, otherwise: bye}
  bye: {end: Goodbye.}
"""


@pytest_asyncio.fixture(loop_scope="session")
async def exchange(reactor: Any, tmp_path: Path) -> AsyncIterator[Exchange]:
    made = Exchange(tmp_path)
    await made.start(reactor, FLOW)
    yield made
    await made.stop()
    await made.store.close()


async def asked(exchange: Exchange, call: Call) -> None:
    """The menu's question is being asked."""
    await asyncio.wait_for(call.talking.wait(), 5)
    await exchange.until_kind(call.conversation, "said")


async def test_a_failure_in_a_call_leaves_the_caller_to_the_dialplan(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = exchange.call()
    await asked(exchange, call)

    async def fail(conversation_id: str, event: Event) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(exchange.runner, "report", fail)
    await call.press("1")
    await asyncio.wait_for(call.left_to_dialplan.wait(), 5)
    assert "HOTLINE_DONE" not in call.variables
    conversation = await exchange.store.conversation(call.conversation)
    assert conversation is not None and conversation.status != "ended"


# --- the server is asked to go -------------------------------------------------------------------


async def ringing(exchange: Exchange, key: str) -> Call:
    """A caller for whom a phone rings: an agent's after 0, the other office's after 2."""
    await exchange.store.save_agent(Agent("ann", "Ann", "1001"))
    screen = await exchange.desk.open("ann", "session")
    exchange.tasks.append(asyncio.ensure_future(screen.write_to(AsyncMock())))
    await Orders(exchange.desk).obey(screen, protocol.SetPresence(to="available"))
    call = exchange.call()
    await asked(exchange, call)
    await call.press(key)
    await asyncio.wait_for(call.dialled.wait(), 5)
    exchange.manager.tell("DialBegin", Uniqueid=UNIQUE_ID, DestChannel="PJSIP/1001-1")
    return call


def answered(exchange: Exchange) -> None:
    exchange.manager.tell("DialEnd", Uniqueid=UNIQUE_ID, DialStatus="ANSWER")


async def test_a_polite_stop_does_not_end_a_talk_on_paper(exchange: Exchange) -> None:
    call = await ringing(exchange, "0")
    answered(exchange)
    await exchange.until_kind(call.conversation, "answered")
    await exchange.until_kind(call.conversation, "joined")
    await exchange.stop()
    assert not {"released", "parted", "hung_up"} & set(await exchange.kinds(call.conversation))
    conversation = await exchange.store.conversation(call.conversation)
    assert conversation is not None and conversation.status == "person"
    [ticket] = await exchange.store.tickets_of(call.conversation)
    assert ticket.status == "served"
    assert not exchange.manager.hung_up


async def test_a_polite_stop_does_not_end_a_transfer_on_paper(exchange: Exchange) -> None:
    call = await ringing(exchange, "2")
    answered(exchange)
    await exchange.stop()
    assert "transferred" not in await exchange.kinds(call.conversation)
    assert not exchange.manager.hung_up


@pytest.mark.parametrize("key", ["0", "2"])
async def test_a_polite_stop_ends_ringing_and_keeps_the_place(exchange: Exchange, key: str) -> None:
    call = await ringing(exchange, key)
    await exchange.stop()
    assert exchange.manager.hung_up == ["PJSIP/1001-1"]
    assert not {"transferred", "declined", "hung_up"} & set(await exchange.kinds(call.conversation))
    assert {t.status for t in await exchange.store.tickets_of(call.conversation)} <= {"offered"}


# --- connections that end ------------------------------------------------------------------------


async def ended(exchange: Exchange, call: Call) -> bool:
    """Whether the conversation has ended when the call is no longer served."""
    await exchange.telephone.drained()
    conversation = await exchange.store.conversation(call.conversation)
    assert conversation is not None
    return conversation.status == "ended"


async def test_a_lost_agi_connection_is_not_the_callers_hang_up(exchange: Exchange) -> None:
    call = exchange.call()
    await asked(exchange, call)
    call.agi.transport.abort()
    assert not await ended(exchange, call)
    assert exchange.runner.live == 1

    back = exchange.call(call.conversation)
    await exchange.until_kind(call.conversation, "resumed")
    await asyncio.wait_for(back.talking.wait(), 5)


@pytest.mark.parametrize("told", ["before", "after"])
async def test_a_connection_lost_with_its_channel_is_a_hang_up(
    exchange: Exchange, told: str
) -> None:
    call = exchange.call()
    await asked(exchange, call)
    if told == "before":
        del exchange.manager.channels[UNIQUE_ID]
    call.agi.transport.abort()
    if told == "after":
        asyncio.get_running_loop().call_later(
            0.05, partial(exchange.manager.tell, "Hangup", Uniqueid=UNIQUE_ID)
        )
    assert await ended(exchange, call)


async def test_a_talk_ends_when_the_manager_says_so_and_the_call_says_nothing(
    exchange: Exchange,
) -> None:
    call = await ringing(exchange, "0")
    answered(exchange)
    await exchange.until_kind(call.conversation, "answered")
    exchange.manager.tell("Hangup", Uniqueid=UNIQUE_ID)
    assert await ended(exchange, call)
    await exchange.until_kind(call.conversation, "released")


@pytest.mark.parametrize("status", ["ANSWER", "NOANSWER"])
async def test_a_transfer_that_outlived_the_server_is_not_dialled_again(
    exchange: Exchange, reactor: Any, status: str
) -> None:
    call = await ringing(exchange, "2")
    if status == "ANSWER":
        answered(exchange)
    await exchange.stop()
    call.variables["DIALSTATUS"] = status  # the talk, or the ringing, has ended meanwhile
    await exchange.start(reactor, FLOW)
    back = exchange.call(call.conversation)
    back.variables = call.variables
    if status == "ANSWER":
        await exchange.until_kind(call.conversation, "transferred")
        await asyncio.wait_for(back.left_to_dialplan.wait(), 5)
        assert not back.dialled.is_set() and call.variables["HOTLINE_DONE"] == "1"
    else:
        await asyncio.wait_for(back.dialled.wait(), 5)


# --- recordings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("allowed", [True, False])
async def test_calls_are_recorded_where_flow_and_settings_both_say_so(
    reactor: Any, tmp_path: Path, wanted: bool, allowed: bool
) -> None:
    flow = FLOW.replace("start:", "record_calls: true\nstart:") if wanted else FLOW
    exchange = Exchange(tmp_path)
    await exchange.start(reactor, flow, RecordingSettings(enabled=allowed))
    try:
        call = exchange.call()
        await asked(exchange, call)
        call.agi.transport.abort()
        del exchange.manager.channels[UNIQUE_ID]
        assert await ended(exchange, call)
        async with asyncio.timeout(5):
            while any(row.state == "open" for row in await recordings(exchange, call)):
                await asyncio.sleep(0.01)
        assert bool(await recordings(exchange, call)) is (wanted and allowed)
        kept = list((tmp_path / "recordings").glob("*.wav"))
        assert bool(kept) is (wanted and allowed)
    finally:
        await exchange.stop()
        await exchange.store.close()


async def recordings(exchange: Exchange, call: Call) -> list[Recording]:
    return await exchange.store.recordings(call.conversation)


async def test_a_message_is_taken_from_the_tone_to_the_key_and_kept(
    reactor: Any, tmp_path: Path
) -> None:
    flow = """
flow: main
languages: [en]
start: note
slots: {message: {type: text}}
nodes:
  note: {record: {slot: message, ask: Speak., max: 20s}, then: bye}
  bye: {end: {}}
"""
    exchange = Exchange(tmp_path)
    await exchange.start(reactor, flow)
    try:
        call = exchange.call()
        await asked(exchange, call)
        await asyncio.wait_for(call.tone_ended.wait(), 5)
        await call.speak(1.0)
        await call.press("#")
        await exchange.until_kind(call.conversation, "recorded")
        assert await ended(exchange, call)
        [row] = await recordings(exchange, call)
        assert (row.kind, row.state) == ("message", "kept")
        assert row.seconds == pytest.approx(1.0)
        entries = await exchange.store.timeline(call.conversation)
        [taken] = [entry.body for entry in entries if entry.kind == "recorded"]
        assert taken["reference"] == row.id
    finally:
        await exchange.stop()
        await exchange.store.close()
