"""One line for all servers, whatever happens: nobody overtakes without a reason that the rules
name, nobody is offered twice at once, nobody is lost, and no agent has more than their room.

Random worlds of two desks on one database (one desk on SQLite, which has one server), whose servers
crash and start anew, whose bus loses news, whose callers hang up and whose agents miss, decline,
pass on and go for lunch. More of them: HOTLINE_WORLDS=500 pytest tests/contract/test_desks.py
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
import pytest_asyncio

from cti import callwork, protocol
from cti.agents import Presence
from cti.orders import Orders
from cti.routing import kept_for_another, level_wanted, ordered, serves
from cti.screens import Screen
from cti.service import Desk
from cti.talkwork import TalkWork
from cti.textwork import TextWork
from cti.work import Work
from cti.works import Stage
from ivr.bus import MemoryBus
from ivr.config import QueueSettings
from ivr.errors import Conflict, NotAllowed, TelephonyError
from ivr.flow.events import AgentJoined, AgentLeft, Enqueue, Event, QueueFailed
from ivr.model import (
    Address,
    Agent,
    AtWork,
    Capacity,
    Channel,
    Conversation,
    ConversationStatus,
    Kind,
    Leg,
    Ticket,
)
from ivr.store.repo import Store
from tests.fakes.calls import FakeCalls, FakeRing, VirtualClock
from tests.unit.cti.conftest import view

WORLDS = int(os.environ.get("HOTLINE_WORLDS", "2"))
STEPS = 60
_HANGS = 280.0  # seconds of real time, on a machine that does much else
SKILLS = ("billing", "repairs")
LANGUAGES = ("en", "zh")
_IN_HAND = ("offered", "ringing", "active", "held", "wrap_up")


class LossyBus(MemoryBus):
    """News between servers, some of which is lost."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self._dice = dice
        self.loses = 0.0

    def publish(self, topic: str, body: Mapping[str, Any]) -> None:
        if self._dice.random() >= self.loses:
            super().publish(topic, body)


class NoCalls(FakeCalls):
    """The telephones of a server that is dead."""

    async def ring(self, *_: Any) -> str:
        raise TelephonyError("the caller's server is gone")


@dataclass
class Customer:
    """Somebody in the hotline, and what their flow was told."""

    name: str
    kind: Kind
    server: str
    place: str
    began: datetime
    gone: bool = False
    state: str = "queue"  # queue | person | flow, as the engine has it
    joined: int = 0


@dataclass
class Server:
    """One process of the hotline, as long as it lives."""

    name: str
    desk: Desk
    calls: FakeCalls
    running: asyncio.Task[None]
    screens: dict[str, Screen] = field(default_factory=dict)
    readers: list[asyncio.Task[None]] = field(default_factory=list)


class Hotline:
    """All of it, and the dice."""

    def __init__(self, seed: int, store: Store, names: tuple[str, ...]):
        self.dice = random.Random(seed)
        self.store = store
        self.names = names
        self.clock = VirtualClock()
        self.settings = QueueSettings(wrap_up_seconds=20, reserve_seconds=30)
        self.bus = LossyBus(self.dice)
        self.servers: dict[str, Server] = {}
        self.customers: dict[str, Customer] = {}
        self.agents: dict[str, Agent] = {}
        self.known: dict[str, Server] = {}
        self.wrong: list[str] = []
        self._watch_routing()

    # --- what must hold at each choice -----------------------------------------------------------

    def _watch_routing(self) -> None:
        route = self.store.route

        async def watched(choose: Any, now: datetime, lease: datetime) -> Any:
            def look(waiting: Any, seats: Any) -> Any:
                chosen = choose(waiting, seats)
                self._judge(waiting, seats, chosen, now)
                return chosen

            return await route(look, now, lease)

        self.store.route = watched  # type: ignore[method-assign]

    def _judge(
        self,
        waiting: list[Ticket],
        seats: list[AtWork],
        chosen: list[tuple[Ticket, str]],
        now: datetime,
    ) -> None:
        """No customer who stays had a better claim on an agent who was given to somebody behind
        them: as routing's docstring has it, written anew."""
        got = {ticket.conversation_id for ticket, _ in chosen}
        rank = {id(ticket): n for n, ticket in enumerate(ordered(waiting))}
        by_login = {seat.agent.login: seat for seat in seats}
        if len({login for _, login in chosen}) != len(chosen) or len(got) != len(chosen):
            self.wrong.append("offered twice in one choice")
        for ticket, login in chosen:
            seat = by_login[login]
            if not self._may(seat, ticket, now):
                self.wrong.append(f"{login} may not have {ticket}")
            for other in waiting:
                if other.conversation_id in got or rank[id(other)] > rank[id(ticket)]:
                    continue
                if self._may(seat, other, now):
                    self.wrong.append(f"{ticket.conversation_id} overtook {other.conversation_id}")

    def _may(self, seat: AtWork, ticket: Ticket, now: datetime) -> bool:
        from cti.line import candidate

        agent = candidate(seat)
        waited = (now - ticket.enqueued_at).total_seconds()
        named = ticket.reserved == agent.login
        level = 1 if named else level_wanted(self.settings.levels, waited)
        return (
            seat.presence.state == Presence.AVAILABLE
            and seat.presence.reachable
            and self.has_room(seat.agent, ticket.kind, seat.works)
            and serves(agent, ticket, level)
            and not kept_for_another(agent, ticket, now)
        )

    def has_room(self, agent: Agent, kind: Kind, works: tuple[Ticket, ...], more: int = 1) -> bool:
        """The rule of capacity, in other words than `cti.works.room`."""
        calls = sum(one.kind is Kind.CALL for one in works)
        texts = sum(one.kind is not Kind.CALL and one.stage != "wrap_up" for one in works)
        if kind is Kind.CALL:
            return calls + more <= agent.capacity.calls and texts <= agent.capacity.chats_on_call
        most = agent.capacity.chats_on_call if calls else agent.capacity.chats
        return texts + more <= most

    # --- what must hold at every moment ----------------------------------------------------------

    async def check(self) -> None:
        assert not self.wrong, self.wrong
        seats = await self.store.seats(self.clock.now())
        seen: dict[str, str] = {}
        for seat in seats:
            calls = sum(one.kind is Kind.CALL for one in seat.works)
            texts = [one for one in seat.works if one.kind is not Kind.CALL]
            texts = [one for one in texts if one.stage != "wrap_up"]
            assert calls <= seat.agent.capacity.calls, seat
            assert len(texts) <= seat.agent.capacity.chats, seat
            for ticket in seat.works:
                if ticket.status == "offered":
                    before = seen.setdefault(ticket.conversation_id, seat.agent.login)
                    assert before == seat.agent.login, f"offered twice: {ticket}"
        for server in self.servers.values():
            ringing = [ring.leg_id for ring in server.calls.under_way.values()]
            assert len(ringing) == len(set(ringing)), "rung twice at once"

    async def nobody_is_lost(self) -> None:
        """Each customer has a place, or a person, or is the flow's again, or has left."""
        for customer in self.customers.values():
            tickets = await self.store.tickets_of(customer.name)
            in_line = [one for one in tickets if one.status in ("waiting", "offered")]
            with_agent = [
                one
                for one in tickets
                if one.status == "served" and one.stage in ("active", "held", "ringing")
            ]
            if customer.gone:
                assert not in_line, (customer, tickets)
                continue
            assert len(in_line) <= 1, (customer, tickets)
            has = bool(in_line) + bool(with_agent) + (customer.state == "flow")
            assert has >= 1, (customer, tickets)
            if customer.state == "flow":
                assert not in_line and not with_agent, (customer, tickets)
            if customer.state == "queue":
                assert in_line, (customer, tickets)

    # --- the runner, in a few words --------------------------------------------------------------

    def report_to(self, name: str) -> Any:
        async def report(conversation_id: str, event: Event) -> None:
            customer = self.customers.get(conversation_id)
            if customer is None or customer.gone or customer.server != name:
                return
            match event:
                case AgentJoined(id=place) if place == customer.place:
                    if customer.state == "queue":
                        customer.state = "person"
                        customer.joined += 1
                case AgentLeft(id=place) if place == customer.place:
                    customer.state = "flow"
                case QueueFailed(id=place) if place == customer.place:
                    if customer.state == "queue":
                        customer.state = "flow"
                case _:
                    pass

        return report

    # --- servers ---------------------------------------------------------------------------------

    async def start(self, name: str) -> None:
        calls = FakeCalls()
        desk = Desk(
            self.store,
            lambda server: self.servers[server].calls if server in self.servers else NoCalls(),
            self.report_to(name),
            view,
            self.clock,
            self.settings,
            self.bus,
            server=name,
        )
        await desk.start()
        self.servers[name] = Server(name, desk, calls, asyncio.create_task(desk.run()))
        for customer in list(self.customers.values()):  # they come back by themselves
            if customer.server == name and not customer.gone and customer.state != "flow":
                await desk.enqueue(customer.name, Enqueue(id=customer.place))
                if customer.kind is Kind.CALL:
                    customer.state = "queue" if customer.state == "queue" else customer.state

    async def crash(self, name: str) -> None:
        """Nothing is told and nothing is written any more: the tasks are simply gone."""
        server = self.servers.pop(name)
        desk = server.desk
        for stop in desk._unsubscribe:
            stop()
        jobs = [server.running, *desk._tasks, *server.readers]
        for job in jobs:
            job.cancel()
        for screen in server.screens.values():
            screen.close()
        await asyncio.gather(*jobs, return_exceptions=True)
        for ring in list(server.calls.under_way.values()):  # of agents at the other server
            if not ring.outcome.done():
                ring.fail(TelephonyError("the caller's server is gone"))
        for login in server.screens:
            self.known.pop(login, None)
        for customer in self.customers.values():  # their legs come back as other legs
            if customer.server == name and customer.kind is Kind.CALL:
                server.calls.gone.add(f"leg-{customer.name}")

    async def end(self) -> None:
        for name in list(self.servers):
            server = self.servers[name]
            server.running.cancel()
            await asyncio.gather(server.running, return_exceptions=True)
            await server.desk.close()
            for reader in server.readers:
                reader.cancel()
            await asyncio.gather(*server.readers, return_exceptions=True)

    # --- what happens ----------------------------------------------------------------------------

    async def hire(self, login: str) -> None:
        dice = self.dice
        skills = {name: dice.randint(1, 5) for name in SKILLS if dice.random() < 0.5}
        languages = frozenset(one for one in LANGUAGES if dice.random() < 0.5)
        chats = dice.randint(0, 3)
        capacity = Capacity(1, chats, min(chats, dice.choice((0, 0, 1))))
        agent = Agent(login, login, "201", skills=skills, languages=languages, capacity=capacity)
        self.agents[login] = agent
        await self.store.save_agent(agent)

    async def arrives(self) -> None:
        dice, name = self.dice, f"c{len(self.customers)}"
        kind, channel = dice.choice(
            ((Kind.CALL, Channel.VOICE), (Kind.CALL, Channel.VOICE), (Kind.CHAT, Channel.CHAT))
        )
        server = dice.choice(list(self.servers))
        now = self.clock.now()
        leg = Leg(f"leg-{name}", name, Address(channel, "+14155550123"), now)
        status = ConversationStatus.QUEUED
        await self.store.start_conversation(
            Conversation(name, "main", "v1", status, now, language="en"), leg
        )
        self.customers[name] = Customer(name, kind, server, "q1", now)
        wanted = Enqueue(
            "q1",
            tuple(skill for skill in SKILLS if dice.random() < 0.3),
            dice.choice((0, 0, 0, 5)),
            language=dice.choice(("", *LANGUAGES)),
        )
        await self.servers[server].desk.enqueue(name, wanted)

    async def logs_in(self) -> None:
        login = self.dice.choice(list(self.agents))
        if login in self.known:
            return
        server = self.servers[self.dice.choice(list(self.servers))]
        screen = await server.desk.open(login, f"s-{login}")
        server.screens[login] = screen
        self.known[login] = server

        async def taken(_: str) -> None:
            return None

        server.readers.append(asyncio.create_task(screen.write_to(taken)))
        await self.order(login, protocol.SetPresence(to="available"))

    async def order(self, login: str, order: Any) -> None:
        server = self.known[login]
        try:
            await Orders(server.desk).obey(server.screens[login], order)
        except (Conflict, NotAllowed):
            return

    async def agent_acts(self) -> None:
        """An agent does something, sensible or not."""
        if not self.known:
            return
        dice = self.dice
        login = dice.choice(list(self.known))
        seat = self.known[login].desk.floor.seat(login)
        act = dice.choice(("ready", "ready", "away", "out", "work", "work", "work", "work"))
        match act:
            case "ready":
                await self.order(login, protocol.SetPresence(to="available"))
            case "away":
                await self.order(login, protocol.SetPresence(to="away"))
            case "out" if dice.random() < 0.3:
                server = self.known.pop(login)
                await server.desk.sign_out(login, f"s-{login}")
                server.screens.pop(login)
            case _ if seat.works:
                await self.works(login, dice.choice(list(seat.works.values())))
            case _:
                pass

    async def works(self, login: str, work: Work) -> None:
        dice, name = self.dice, work.conversation_id
        match work.stage:
            case Stage.OFFERED | Stage.RINGING if isinstance(work, TextWork):
                order = dice.choice((protocol.Accept, protocol.Accept, protocol.Decline))
                await self.order(login, order(conversation=name))
            case Stage.OFFERED | Stage.RINGING if dice.random() < 0.3:
                await self.order(login, protocol.Decline(conversation=name))
            case Stage.ACTIVE | Stage.HELD:
                await self.talks(login, work)
            case Stage.WRAP_UP:
                await self.order(login, protocol.Done(conversation=name))
            case _:
                pass

    async def talks(self, login: str, work: Work) -> None:
        dice, name = self.dice, work.conversation_id
        to = protocol.Target(kind="agent", value=dice.choice(list(self.agents)))
        if dice.random() < 0.3:
            to = protocol.Target(kind="queue", value=dice.choice(SKILLS))
        choice = dice.random()
        if choice < 0.4:
            await self.order(login, protocol.HangUp(conversation=name))
            if isinstance(work, TalkWork):
                await self.leaves(self.customers[name])
        elif choice < 0.8:
            await self.order(login, protocol.TransferTo(conversation=name, to=to))
        elif isinstance(work, TalkWork):  # the agent hangs up, and the caller stays
            ring = self.ring_of(work)
            if ring is not None:
                ring.end("talked")
        else:
            await self.order(login, protocol.GiveBack(conversation=name))

    def ring_of(self, work: TalkWork) -> FakeRing | None:
        server = self.servers.get(work.ticket.server)
        leg = work.leg.id if work.leg else ""
        return server.calls.under_way.get(leg) if server else None

    async def phones(self) -> None:
        """What the telephones do."""
        rings = [
            ring for server in self.servers.values() for ring in server.calls.under_way.values()
        ]
        if not rings:
            return
        ring = self.dice.choice(rings)
        choice = self.dice.random()
        if ring.answered:
            if choice < 0.3:
                ring.end("talked")
        elif choice < 0.6:
            ring.ring()
            ring.answer()
        elif choice < 0.8:
            ring.end(self.dice.choice(("no_answer", "busy", "unavailable")))
        elif choice < 0.9:
            ring.fail(TelephonyError("Asterisk is away"))

    async def leaves(self, customer: Customer | None = None) -> None:
        there = [one for one in self.customers.values() if not one.gone]
        if customer is None and there:
            customer = self.dice.choice(there)
        if customer is None or customer.gone or customer.server not in self.servers:
            return
        customer.gone = True
        server = self.servers[customer.server]
        leg = f"leg-{customer.name}"
        server.calls.gone.add(leg)
        conversation = await self.store.conversation(customer.name)
        assert conversation is not None
        from dataclasses import replace

        ended = replace(conversation, status=ConversationStatus.ENDED, ended_at=self.clock.now())
        await self.store.save(ended, [])
        await server.desk.withdraw(customer.name)
        await self.store.end_leg(leg, self.clock.now(), "caller")
        ring = server.calls.under_way.get(leg)
        if ring is not None:
            ring.end("talked" if ring.answered else "gone")

    async def time_passes(self, seconds: float) -> None:
        while seconds > 0:
            self.clock.advance(min(1.0, seconds))
            seconds -= 1.0
            for server in list(self.servers.values()):
                await server.desk.tick()
                await server.desk.route()
            await self.settle()

    async def settle(self) -> None:
        """Let everybody do what they are at."""
        for _ in range(3):
            await asyncio.sleep(0.002)

    async def crashes(self) -> None:
        name = self.dice.choice(list(self.servers))
        await self.crash(name)
        if len(self.names) > 1:
            await self.time_passes(self.dice.choice((0, 2, 15)))
        await self.start(name)

    async def live(self) -> None:
        for number in range(self.dice.randint(2, 5)):
            await self.hire(f"a{number}")
        for name in self.names:
            await self.start(name)
        ways = (
            *(3 * [self.arrives]),
            *(2 * [self.logs_in]),
            *(4 * [self.agent_acts]),
            *(3 * [self.phones]),
            self.leaves,
            lambda: self.time_passes(self.dice.choice((1, 1, 5, 20))),
        )
        for _ in range(STEPS):
            self.bus.loses = self.dice.choice((0.0, 0.0, 0.5, 1.0))
            if self.dice.random() < 0.03:
                await self.crashes()
            else:
                await self.dice.choice(ways)()
            await self.settle()
            await self.check()
        await self.time_passes(12)
        await self.check()
        await self.nobody_is_lost()


@pytest_asyncio.fixture
async def names(made: str) -> AsyncIterator[tuple[str, ...]]:
    """PostgreSQL serves several servers, SQLite one."""
    yield ("x", "y") if made.startswith("postgres") else ("x",)


@pytest.mark.timeout(0 if WORLDS > 20 else 600)
async def test_the_line_keeps_its_promises(
    store: Store, names: tuple[str, ...], made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callwork, "SEEN_SECONDS", 0.0)
    first = int(os.environ.get("HOTLINE_WORLD", "0"))
    route = store.route
    for seed in range(first, first + WORLDS):
        await emptied(store)
        hotline = Hotline(seed, store, names)
        try:
            async with asyncio.timeout(_HANGS):
                await hotline.live()
        except BaseException as error:
            error.add_note(f"world {seed} on {made.partition(':')[0]}")
            raise
        finally:
            await hotline.end()
            store.route = route  # type: ignore[method-assign]


async def emptied(store: Store) -> None:
    """A world begins without anybody."""
    from sqlalchemy import delete

    from ivr.store.models import metadata

    for table in reversed(metadata.sorted_tables):
        await store._run(delete(table))
