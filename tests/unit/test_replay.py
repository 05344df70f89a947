"""Yesterday's call, run again: the same course through the same flow, the first fork in another."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from ivr.errors import StoreError
from ivr.flow import loader
from ivr.flow.events import (
    AgentJoined,
    AgentLeft,
    DigitsPressed,
    Event,
    FetchAnswered,
    HungUp,
    QueueMoved,
    SpeechHeard,
    Started,
    TextReceived,
    TimedOut,
)
from ivr.model import TimelineEntry
from ivr.replay import Replay, replay
from ivr.store.repo import Store
from tests.unit.test_runner import FLOW, World

PIN = "8265"


@pytest_asyncio.fixture(loop_scope="session")
async def world(tmp_path: Path) -> AsyncIterator[World]:
    (tmp_path / "main.yaml").write_text(FLOW)
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")
    yield World(store, tmp_path)
    await store.close()


async def held(
    world: World, events: Sequence[Event], channel: str = "voice", flow: str = FLOW
) -> list[TimelineEntry]:
    """A conversation in which these things happened, a second apart; its timeline."""
    (world.folder / "main.yaml").write_text(flow)
    await world.library.publish(world.folder, "main")
    await world.runner.begin(world.phone(), Started(channel, "+14155550123", "100"))
    for event in events:
        world.clock.at += timedelta(seconds=1)
        await world.runner.report("c1", event)
    return await world.store.timeline("c1")


async def again(world: World, flow: str, entries: Sequence[TimelineEntry]) -> Replay:
    conversation = await world.store.conversation("c1")
    assert conversation is not None
    bundle = loader.load({"main.yaml": flow}, "main")
    return replay(bundle, entries, conversation.started_at)


WHOLE: list[Event] = [
    SpeechHeard("billing", 0.55, (("bill", 0.3),), 1),
    DigitsPressed("1", 2),
    TimedOut(3),
    DigitsPressed("47", 4),
    DigitsPressed("4711", 5),
    DigitsPressed("82", 6),
    DigitsPressed(PIN, 7),
    DigitsPressed(PIN, 7),
    FetchAnswered("fetch-1", 503),
    QueueMoved("queue-2", 3, 120.0, 5.0),
    AgentJoined("queue-2", "ann"),
    AgentLeft("queue-2", "ann"),
    HungUp("voice", "caller"),
]


async def test_through_the_same_flow_it_goes_the_same_way(world: World) -> None:
    entries = await held(world, WHOLE)
    assert len({entry.kind for entry in entries}) > 12
    result = await again(world, FLOW, entries)
    assert (result.divergence, result.stopped) == (None, "")
    assert [line.at for line in result.dialogue if line.who == "world"][-2:] == [12.0, 13.0]
    said = [line.text for line in result.dialogue if line.who == "flow"]
    assert said[:2] == ["Welcome.", "Billing, press 1. A person, press 0."]


async def test_so_it_does_wherever_the_record_ends(world: World) -> None:
    entries = await held(world, WHOLE)
    ends = [number for number, entry in enumerate(entries) if number and "event" in entry.body]
    assert len(ends) == len(WHOLE)
    for end in ends:
        assert (await again(world, FLOW, entries[:end])).divergence is None


async def test_secrets_are_neither_needed_nor_shown(world: World) -> None:
    entries = await held(world, WHOLE)
    assert PIN not in repr(entries)
    result = await again(world, FLOW, entries)
    shown = json.dumps(result.to_json())
    assert "pressed [secret]" in shown
    assert PIN not in shown and "0000" not in shown


async def test_another_text_is_a_divergence(world: World) -> None:
    entries = await held(world, WHOLE)
    result = await again(world, FLOW.replace("Your PIN?", "Your secret?"), entries)
    parted = result.divergence
    assert parted is not None
    assert (parted.node, parted.after) == ("pin", "pressed 4711")
    assert (parted.then, parted.now) == ('said "Your PIN?" (en)', 'said "Your secret?" (en)')
    assert result.dialogue[-1].text == "pressed 4711"


async def test_another_way_is_a_divergence(world: World) -> None:
    entries = await held(world, WHOLE)
    other = FLOW.replace("billing: {press: 1, say: billing, then: account}",
                         "billing: {press: 1, say: billing, then: people}")  # fmt: skip
    parted = (await again(world, other, entries)).divergence
    assert parted is not None
    assert parted.then == "node entered: node account, flow main"
    assert parted.now == "node entered: node people, flow main"


async def test_another_question_to_another_system_is_a_divergence(world: World) -> None:
    entries = await held(world, WHOLE)
    parted = await again(world, FLOW.replace("{crm}/{account}", "{crm}/v2/{account}"), entries)
    assert parted.divergence is not None
    assert "path /4711" in parted.divergence.then
    assert "path /v2/4711" in parted.divergence.now


async def test_a_secret_that_is_none_any_more_is_a_divergence(world: World) -> None:
    entries = await held(world, WHOLE)
    result = await again(world, FLOW.replace(", secret: true", ""), entries)
    assert result.divergence is not None
    assert result.divergence.now == "not asked in secret"


async def test_what_makes_no_difference_is_none(world: World) -> None:
    entries = await held(world, WHOLE)
    result = await again(world, FLOW.replace("say: agent", "say: [agent, somebody]"), entries)
    assert result.divergence is None


async def test_a_command_in_a_question_for_a_secret_is_understood(world: World) -> None:
    flow = FLOW.replace("ask: Your PIN?", "ask: Your PIN?, listen: [speech, keys]")
    events = [
        DigitsPressed("1"),
        DigitsPressed("4711"),
        SpeechHeard("what", 0.9),
        SpeechHeard("go back", 0.5),
        SpeechHeard("no", 0.9),
        SpeechHeard("eight two six five", 0.9),
        FetchAnswered("fetch-1", 500),
    ]
    entries = await held(world, events, flow=flow)
    assert {"confirming", "refused", "no_match"} <= {entry.kind for entry in entries}
    assert "eight" not in repr(entries)
    assert (await again(world, flow, entries)).divergence is None


SLOTS = {
    "digits": ("{type: digits, min: 3, max: 6, secret: true}", "1234"),
    "number": ("{type: number, secret: true}", "17"),
    "money": ("{type: money, secret: true}", "12.50"),
    "date": ("{type: date, secret: true}", "March 5, 1984"),
    "time": ("{type: time, secret: true}", "3 pm"),
    "phone": ("{type: phone, secret: true}", "+14155550199"),
    "yes_no": ("{type: yes_no, secret: true}", "yes"),
    "choice": ("{type: choice, secret: true, of: {red: [red], blue: [blue]}}", "blue"),
    "text": ("{type: text, secret: true}", "my cat"),
}


@pytest.mark.parametrize("kind", SLOTS)
async def test_every_kind_of_secret_has_a_stand_in(world: World, kind: str) -> None:
    slot, said = SLOTS[kind]
    flow = FLOW.replace("{type: digits, length: 4, secret: true}", slot)
    events = [TextReceived("1"), TextReceived("4711"), TextReceived(said)]
    entries = await held(world, events, "chat", flow)
    assert entries[-2].body.get("node") == "lookup" or entries[-1].kind == "asked"
    assert (await again(world, flow, entries)).divergence is None


async def test_desks_and_robots_lines_between_are_nothing_to_it(world: World) -> None:
    entries = await held(world, WHOLE)
    desk = replace(entries[0], kind="queued", body={"skills": [], "priority": 0, "ticket": "q"})
    swept = replace(entries[-1], kind="ended", body={"outcome": "lost"})
    result = await again(world, FLOW, [*entries[:9], desk, *entries[9:], swept])
    assert result.divergence is None


async def test_what_was_too_long_to_be_kept_stops_it(world: World) -> None:
    entries = await held(world, WHOLE)
    cut = [
        replace(entry, body={"cut": "…"}) if entry.kind == "fetched" else entry for entry in entries
    ]
    result = await again(world, FLOW, cut)
    assert result.divergence is None
    assert result.stopped == "what was fetched was too long to be kept"


async def test_the_largest_answer_that_is_fetched_is_kept_whole(world: World) -> None:
    largest = {"rows": [1] * 30_000}
    events = [*WHOLE[:8], FetchAnswered("fetch-1", 200, largest)]
    entries = await held(world, events)
    result = await again(world, FLOW, entries)
    assert (result.divergence, result.stopped) == (None, "")


async def test_a_record_without_a_beginning_cannot_be_replayed(world: World) -> None:
    entries = await held(world, WHOLE)
    for broken in ([], entries[1:]):
        with pytest.raises(StoreError, match="nothing to replay"):
            await again(world, FLOW, broken)


async def test_an_entry_that_is_no_event_is_named(world: World) -> None:
    entries = await held(world, WHOLE)
    for body in ({"event": "Nonsense"}, {"event": "DigitsPressed", "keys": 1}):
        broken = [replace(e, body=body) if e.kind == "pressed" else e for e in entries]
        with pytest.raises(StoreError, match="pressed entry cannot be read"):
            await again(world, FLOW, broken)
