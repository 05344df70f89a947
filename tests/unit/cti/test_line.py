"""Customers in line: who is let in, what they are told of their wait, and whom nobody tells of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest_asyncio

from cti.service import Desk
from ivr.bus import MemoryBus
from ivr.config import QueueSettings
from ivr.flow.events import AgentLeft, Enqueue, QueueFailed, QueueMoved
from ivr.model import AgentPresence
from tests.unit.cti.conftest import World, view


class House:
    """A desk of its own on the world's database."""

    def __init__(self, world: World, **settings: object):
        self.closed = False
        self.world = world
        self.desk = Desk(
            world.store,
            lambda server: world.calls,
            world.reports,
            view,
            world.clock,
            QueueSettings.model_validate(settings),
            MemoryBus(),
            is_closed=lambda: self.closed,
        )

    async def waits(self, name: str) -> None:
        await self.world.caller(name)
        await self.desk.enqueue(name, Enqueue(id="t1"))
        await self.desk.tick()


@pytest_asyncio.fixture
async def staffed(world: World) -> AsyncIterator[World]:
    """Somebody is there, and takes nobody now."""
    await world.crash()
    await world.agent("ann")
    await world.page("ann", ready=False)
    yield world


async def test_a_line_that_is_full_takes_nobody_new(staffed: World) -> None:
    house = House(staffed, longest_line=2)
    for name in ("c1", "c2", "c3"):
        await house.waits(name)
    assert await staffed.reports.next(QueueFailed) == QueueFailed("t1", "full")
    assert await staffed.store.tickets_of("c3") == []
    await house.desk.enqueue("c1", Enqueue(id="t1"))
    assert len(await staffed.store.waiting_tickets()) == 2, "who is in line keeps the place"
    await house.desk.withdraw("c2")
    await house.waits("c4")
    assert len(await staffed.store.waiting_tickets()) == 2
    await house.desk.close()


async def test_a_line_that_is_closed_serves_who_is_in_it(staffed: World) -> None:
    house = House(staffed)
    await house.waits("c1")
    house.closed = True
    await house.waits("c2")
    assert await staffed.reports.next(QueueFailed) == QueueFailed("t1", "closed")
    assert [one.conversation_id for one in await staffed.store.waiting_tickets()] == ["c1"]
    await house.desk.close()


async def test_the_estimate_stands_on_the_last_hour_of_all_servers(staffed: World) -> None:
    store, clock = staffed.store, staffed.clock
    for number, seconds in enumerate((60, 120, 180)):
        name = await staffed.caller(f"old{number}")
        await staffed.desk.enqueue(name, Enqueue(id="t1"))
        (ticket,) = await store.tickets_of(name)
        served = replace(ticket, agent="bob", status="served", stage="active")
        await store.withdraw_tickets(name)
        taken = await store.take_ticket(replace(served, id="t2"))
        await store.end_ticket(taken, "over", clock.now(), seconds, passed=False)
    house = House(staffed)
    await house.waits("c1")
    moved = [event for event in staffed.reports.of("c1") if isinstance(event, QueueMoved)]
    while not moved:
        await staffed.reports.next(QueueMoved)
        moved = [event for event in staffed.reports.of("c1") if isinstance(event, QueueMoved)]
    assert moved[-1].wait == 120
    clock.advance(3601)
    assert await store.talked_since(clock.now()) == []
    await house.desk.close()


async def test_a_talk_whose_end_nobody_told_of_is_found_in_the_store(staffed: World) -> None:
    """As when the agent's server has died, or its news was lost."""
    house, store = House(staffed), staffed.store
    await house.waits("c1")
    now = staffed.clock.now()
    await staffed.agent("far")
    seat = AgentPresence("far", "available", "", now, "y", True, now, now + timedelta(minutes=5))
    await store.set_presence(seat)
    until = now + timedelta(seconds=60)
    [(offer, _)] = await store.route(lambda waiting, _: [(waiting[0], "far")], now, until)
    assert await store.serve_ticket(offer, "active")
    for _ in range(5):
        await house.desk.tick()
    assert not [event for event in staffed.reports.of("c1") if isinstance(event, AgentLeft)]
    await store.end_ticket(offer, "wrap_up", now, 30, passed=False)
    for _ in range(5):
        await house.desk.tick()
    assert await staffed.reports.next(AgentLeft) == AgentLeft("t1", "far")
    await house.desk.close()
