"""What the boards show, and how little is sent."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from cti import protocol
from cti.board import Board, Tally, differences
from cti.screens import Screen
from ivr.flow.events import Enqueue
from ivr.model import TimelineEntry
from ivr.store.milestones import Milestone
from tests.fakes.calls import PATIENCE
from tests.unit.cti.conftest import World

NOON = datetime(2026, 11, 20, 12, 0, 30, tzinfo=UTC)
_numbers = iter(range(1, 10_000))


def stone(kind: str, minutes_ago: float, **body: Any) -> Milestone:
    at = NOON - timedelta(minutes=minutes_ago)
    return Milestone(next(_numbers), "c", 1, at, kind, body)


def test_the_tally_counts_each_milestone_once_by_the_hour() -> None:
    tally = Tally(20)
    told = [
        stone("call_started", 5, channel="voice"),
        stone("call_started", 59, channel="voice"),
        stone("call_started", 61, channel="voice"),
        stone("call_started", 200, channel="voice"),
        stone("slot_filled", 5, slot="topic", value="billing"),
        stone("answered", 4, waited=3.0),
        stone("answered", 4, waited=21.0),
        stone("dequeued", 4, reason="left"),
        stone("dequeued", 4, reason="nobody"),
        stone("ended", 1),
    ]
    for _ in range(3):
        tally.take(told[:1], NOON)
    tally.take(told, NOON)
    last, before = tally.counts(NOON)
    assert (last["channel", "voice"], before["channel", "voice"]) == (2, 1)
    assert (last["topic", "billing"], last["answered", ""], last["within", ""]) == (1, 2, 1)
    assert (last["abandoned", ""], last["turned_away", ""]) == (1, 1)


async def board_of(world: World) -> dict[str, Any]:
    return await Board(world.store, world.clock, world.settings).look()


async def test_the_board_shows_the_line_by_skill_kind_and_language(world: World) -> None:
    await world.agent("ann", skills={"billing": 3}, languages=frozenset({"en"}))
    await world.page("ann", ready=False)
    first = world.clock.now()
    await world.waits("c1", skills=("billing",), language="en")
    world.clock.advance(10)
    await world.waits("c2", skills=("billing",), language="en")
    shown = await board_of(world)
    assert shown["line"] == {"waiting": 2, "oldest": first}
    [queue] = shown["queues"]
    assert queue == {
        "skills": ["billing"],
        "kind": "call",
        "language": "en",
        "waiting": 2,
        "oldest": first,
        "staff": 1,
        "estimated": -1,
    }
    assert [one["conversation"] for one in shown["waiting"]] == ["c1", "c2"]


async def test_the_board_shows_agents_service_and_what_goes_on(world: World) -> None:
    await world.agent("ann")
    page = await world.page("ann")
    await world.waits("c1")
    await world.store.append(
        [
            TimelineEntry("c1", world.clock.now(), "call_started", {"channel": "voice"}),
            TimelineEntry(
                "c1", world.clock.now(), "slot_filled", {"slot": "topic", "value": "billing"}
            ),
        ]
    )
    world.clock.advance(5)
    (await world.calls.next_ring()).answer()
    await page.next(protocol.CallAnswered)
    await world.ticket_becomes("c1", "served")
    await world.kinds("c1")
    await world.caller("c2")
    await world.desk.enqueue("c2", Enqueue(id="t1"))
    await world.desk.withdraw("c2")
    await world.kinds("c2")
    shown = await board_of(world)
    ann = shown["agents"]["ann"]
    assert (ann["name"], ann["presence"]) == ("Ann", "available")
    [work] = ann["works"]
    assert (work["conversation"], work["kind"], work["stage"]) == ("c1", "call", "active")
    service = shown["service"]
    assert (service["answered"], service["in_time"], service["abandoned"]) == (1, 1, 1)
    assert (service["level"], service["abandonment"]) == (0.5, 0.5)
    assert shown["topics"][0]["name"] in ("", "billing")
    assert {"name": "billing", "now": 1, "hour": 1, "before": 0} in shown["topics"]
    assert {"name": "voice", "now": 2, "hour": 1, "before": 0} in shown["channels"]


def test_only_what_has_changed_is_sent() -> None:
    old = {"line": 1, "queues": [], "agents": {"ann": {"a": 1}, "bob": {"b": 1}, "cal": {}}}
    new = {"line": 2, "queues": [], "agents": {"ann": {"a": 1}, "bob": {"b": 2}}}
    assert differences(old, new) == {"line": 2, "agents": {"bob": {"b": 2}, "cal": None}}
    assert differences(new, new) == {}


class _Wall:
    """A wallboard whose socket takes everything."""

    def __init__(self) -> None:
        self.screen = Screen("sue")
        self.frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.task = asyncio.create_task(self.screen.write_to(self._write))

    async def _write(self, text: str) -> None:
        self.frames.put_nowait(json.loads(text))

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            return await self.frames.get()

    async def close(self) -> None:
        self.screen.close()
        await self.task


async def test_all_boards_share_one_look(world: World) -> None:
    looks = 0
    read = world.store.seats

    async def seats(now: datetime) -> Any:
        nonlocal looks
        looks += 1
        return await read(now)

    world.store.seats = seats  # type: ignore[method-assign]
    board = Board(world.store, world.clock, world.settings)
    walls = [_Wall() for _ in range(50)]
    for wall in walls[:49]:
        board.watch(wall.screen)
    for wall in walls[:49]:
        assert (await wall.next())["type"] == "board"
    board.watch(walls[49].screen)
    assert (await walls[49].next())["line"] == {"waiting": 0, "oldest": None}
    assert looks == 1
    world.clock.advance(1)
    await world.agent("ann")
    page = await world.desk.open("ann")
    looks = 0
    await board.look()
    changes = await walls[0].next()
    assert changes["type"] == "changes"
    assert set(changes) == {"v", "type", "now", "agents"}, "and nothing else is sent"
    assert looks == 1
    for wall in walls:
        board.leave(wall.screen)
        await wall.close()
    world.desk.leave(page)
