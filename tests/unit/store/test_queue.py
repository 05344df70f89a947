"""A place in line is kept, whatever is asked of it and how often: compared with a plain list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from ivr.model import (
    Address,
    Agent,
    AgentPresence,
    AtWork,
    Channel,
    Conversation,
    ConversationStatus,
    Kind,
    Leg,
    Ticket,
)
from ivr.store.repo import Store

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
FOREVER = NOON + timedelta(days=365)
CALLS = ("c0", "c1", "c2", "c3")
AGENTS = ("ann", "bob")
LEASE = timedelta(seconds=30)


Step = tuple[str, str, str, int, int]


@dataclass
class Line:
    """What the queue should be: the tickets as they stand, by conversation."""

    tickets: dict[str, Ticket] = field(default_factory=dict)

    def put(self, ticket: Ticket) -> None:
        old = self.tickets.get(ticket.conversation_id)
        if old is None:
            self.tickets[ticket.conversation_id] = ticket
            return
        self.tickets[old.conversation_id] = replace(old, priority=ticket.priority)
        if old.status == "withdrawn":
            self.become(old.conversation_id, "waiting")

    def become(self, key: str, status: str, agent: str = "", at: datetime | None = None) -> None:
        lease = at and at + LEASE
        stage = "offered" if status == "offered" else ""
        self.tickets[key] = replace(
            self.tickets[key],
            status=status,
            agent=agent,
            offered_at=at,
            lease_until=lease,
            stage=stage,
        )

    def stands(self, key: str, status: str, agent: str = "") -> bool:
        ticket = self.tickets.get(key)
        return ticket is not None and (ticket.status, ticket.agent) == (status, agent)

    def waiting(self) -> list[Ticket]:
        waiting = [t for t in self.tickets.values() if t.status == "waiting"]
        return sorted(waiting, key=lambda t: (-t.priority, t.enqueued_at, t.conversation_id))


steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "offer", "return", "serve", "withdraw", "stale"]),
        st.sampled_from(CALLS),
        st.sampled_from(AGENTS),
        st.integers(-2, 2),
        st.integers(0, 300),
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None)
@given(steps=steps)
async def test_the_line_is_what_a_plain_list_would_be(steps: list[Step]) -> None:
    store = await Store.open("sqlite://")
    try:
        for call in CALLS:
            await store.start_conversation(
                Conversation(call, "main", "v1", ConversationStatus.FLOW, NOON),
                Leg(f"leg-{call}", call, Address(Channel.VOICE, "+1"), NOON),
            )
        for login in AGENTS:
            await store.save_agent(Agent(login, login, "1"))
            presence = AgentPresence(login, "available", "", NOON, "s", True, NOON, FOREVER)
            await store.set_presence(presence)
        await follow(steps, store, Line())
    finally:
        await store.close()


def only(
    key: str, agent: str, waiting: Sequence[Ticket], _: Sequence[AtWork]
) -> list[tuple[Ticket, str]]:
    return [(ticket, agent) for ticket in waiting if ticket.conversation_id == key]


async def follow(steps: list[Step], store: Store, line: Line) -> None:
    """Do each step to both, and compare."""
    for step, key, agent, priority, seconds in steps:
        at = NOON + timedelta(seconds=seconds)
        match step:
            case "put":
                # A chat: of those on a call the store itself knows that they take no other.
                ticket = Ticket("q1", key, at, priority=priority, kind=Kind.CHAT)
                line.put(ticket)
                assert await store.put_ticket(ticket) == line.tickets[key]
            case "offer":
                expected = line.stands(key, "waiting")
                offers = await store.route(partial(only, key, agent), at, at + LEASE)
                assert bool(offers) == expected
                if expected:
                    line.become(key, "offered", agent, at)
            case "return":
                expected = line.stands(key, "offered", agent)
                assert await store.return_ticket(Ticket("q1", key, at, agent=agent)) == expected
                if expected:
                    line.become(key, "waiting")
            case "serve":
                expected = line.stands(key, "offered", agent)
                this = Ticket("q1", key, at, agent=agent)
                assert await store.serve_ticket(this, "active") == expected
                if expected:
                    line.tickets[key] = replace(
                        line.tickets[key], status="served", stage="active", lease_until=None
                    )
            case "withdraw":
                stood = line.tickets.get(key)
                left = stood is not None and stood.status in ("waiting", "offered")
                assert await store.withdraw_tickets(key) == ([stood] if left else [])
                if stood is not None and left:
                    line.tickets[key] = replace(stood, status="withdrawn", stage="")
            case "stale":
                for other, one in list(line.tickets.items()):
                    if one.status == "offered" and one.lease_until and one.lease_until < at:
                        line.become(other, "waiting")
                await store.return_expired(at)
        assert await store.waiting_tickets() == line.waiting()
    for call in CALLS:
        assert await store.tickets_of(call) == [t for t in [line.tickets.get(call)] if t]
