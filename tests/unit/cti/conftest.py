"""A desk with everything around it: a database in memory, a fake telephone system, fake pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
import pytest_asyncio

from cti import callwork, protocol
from cti.orders import Orders
from cti.protocol import ServerMessage, parse_server
from cti.screenpop import ConversationView
from cti.screens import Screen
from cti.service import Desk
from ivr.bus import MemoryBus
from ivr.config import QueueSettings
from ivr.flow.events import Enqueue, Event
from ivr.model import (
    Address,
    Agent,
    Channel,
    Conversation,
    ConversationStatus,
    Leg,
    TimelineEntry,
)
from ivr.store.repo import Store
from tests.fakes.calls import PATIENCE, FakeCalls, VirtualClock

M = TypeVar("M")


@dataclass
class Page:
    """An agent's page whose socket takes everything at once."""

    screen: Screen
    frames: asyncio.Queue[ServerMessage] = field(default_factory=asyncio.Queue)
    seen: list[ServerMessage] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    async def _write(self, text: str) -> None:
        self.frames.put_nowait(parse_server(text))

    def start(self) -> None:
        self.task = asyncio.create_task(self.screen.write_to(self._write))

    async def next(self, kind: type[M], **wanted: Any) -> M:
        """The next message of this kind with these values; the others are kept in `seen`."""
        async with asyncio.timeout(PATIENCE):
            while True:
                message = await self.frames.get()
                self.seen.append(message)
                if isinstance(message, kind) and all(
                    getattr(message, name) == value for name, value in wanted.items()
                ):
                    return message

    async def stage(self, stage: str) -> protocol.PopCard:
        """The next card that has come so far."""
        while (card := (await self.next(protocol.Pop)).card).stage != stage:
            pass
        return card


class Reports:
    """What the desk told the runner."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[str, Event]] = asyncio.Queue()
        self.all: list[tuple[str, Event]] = []

    async def __call__(self, conversation_id: str, event: Event) -> None:
        self.all.append((conversation_id, event))
        self._queue.put_nowait((conversation_id, event))

    async def next(self, kind: type[M]) -> M:
        async with asyncio.timeout(PATIENCE):
            while True:
                _, event = await self._queue.get()
                if isinstance(event, kind):
                    return event

    def of(self, conversation_id: str) -> list[Event]:
        return [event for owner, event in self.all if owner == conversation_id]


@dataclass
class World:
    """One hotline's human side."""

    desk: Desk
    store: Store
    calls: FakeCalls
    reports: Reports
    clock: VirtualClock
    settings: QueueSettings
    running: asyncio.Task[None]
    pages: list[Page] = field(default_factory=list)

    async def crash(self) -> None:
        """The server does nothing any more."""
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)

    async def agent(self, login: str, **about: Any) -> None:
        values = {"name": login.title(), "extension": f"20{len(login)}", **about}
        await self.store.save_agent(Agent(login, **values))

    async def page(self, login: str, *, ready: bool = True) -> Page:
        page = Page(await self.desk.open(login, session=f"s-{login}"))
        self.pages.append(page)
        page.start()
        await page.next(protocol.Hello)
        if ready:
            await self.act(page, protocol.SetPresence(to="available"))
            await page.next(protocol.PresenceNow, state="available")
        return page

    async def act(self, page: Page, order: protocol.ClientMessage) -> None:
        """Have an agent's page ask for something."""
        await Orders(self.desk).obey(page.screen, order)

    async def tick(self) -> None:
        """Let the desk do its round."""
        await self.desk.tick()
        await self.desk.route()

    async def caller(self, name: str, number: str = "+14155550123") -> str:
        """A caller whose conversation is in the store; returns its id."""
        leg = Leg(f"leg-{name}", name, Address(Channel.VOICE, number), self.clock.now())
        conversation = Conversation(
            name, "main", "v1", ConversationStatus.QUEUED, self.clock.now(), language="en"
        )
        said = TimelineEntry(name, self.clock.now(), "heard", {"text": "a person please"})
        await self.store.start_conversation(conversation, leg, [said])
        return name

    async def waits(self, name: str, **wanted: Any) -> str:
        """A caller in line."""
        await self.caller(name)
        await self.desk.enqueue(name, Enqueue(id="t1", **wanted))
        return name

    async def kinds(self, conversation_id: str) -> list[str]:
        await self.desk.journal.settled()
        return [entry.kind for entry in await self.store.timeline(conversation_id)]

    async def ticket_becomes(self, conversation_id: str, status: str) -> None:
        """Wait until the store says so; the desk writes it after everybody has been told."""
        async with asyncio.timeout(PATIENCE):
            while (await self.store.tickets_of(conversation_id))[0].status != status:
                await asyncio.sleep(0)

    def another_desk(self) -> Desk:
        """The desk of a server that was started again on the same database."""
        return desk_on(self.store, self.calls, self.reports, self.clock, self.settings)


def desk_on(
    store: Store,
    calls: FakeCalls,
    reports: Reports,
    clock: VirtualClock,
    settings: QueueSettings,
) -> Desk:
    return Desk(store, lambda server: calls, reports, view, clock, settings, MemoryBus())


def view(conversation: Conversation) -> ConversationView:
    return ConversationView(
        topic="billing",
        path=("welcome", "main", "billing"),
        slots={"account": "12345678", "overdue": False},
        language=conversation.language,
        node="people",
    )


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    store = await Store.open("sqlite://")
    calls, reports, clock, settings = FakeCalls(), Reports(), VirtualClock(), QueueSettings()
    desk = desk_on(store, calls, reports, clock, settings)
    await desk.start()
    running = asyncio.create_task(desk.run())
    world = World(desk, store, calls, reports, clock, settings, running)
    yield world
    await world.crash()
    await desk.close()
    for page in world.pages:
        page.screen.close()
        if page.task is not None:
            await page.task
    await store.close()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake pages do not say that they have seen a pop; nobody waits for it in earnest."""
    monkeypatch.setattr(callwork, "SEEN_SECONDS", 0.01)
