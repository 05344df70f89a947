"""A place in line is kept, whatever is asked of it and how often: compared with a plain list."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from ivr.model import Address, Channel, Conversation, ConversationStatus, Leg, Ticket
from ivr.store.repo import Store

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
CALLS = ("c0", "c1", "c2", "c3")
AGENTS = ("ann", "bob")


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
        self.tickets[key] = replace(self.tickets[key], status=status, agent=agent, offered_at=at)

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
        await follow(steps, store, Line())
    finally:
        await store.close()


async def follow(steps: list[Step], store: Store, line: Line) -> None:
    """Do each step to both, and compare."""
    for step, key, agent, priority, seconds in steps:
        at = NOON + timedelta(seconds=seconds)
        match step:
            case "put":
                ticket = Ticket("q1", key, at, priority=priority)
                line.put(ticket)
                assert await store.put_ticket(ticket) == line.tickets[key]
            case "offer":
                expected = line.stands(key, "waiting")
                assert await store.offer_ticket(key, "q1", agent, at) == expected
                if expected:
                    line.become(key, "offered", agent, at)
            case "return":
                expected = line.stands(key, "offered", agent)
                assert await store.return_ticket(key, "q1", agent) == expected
                if expected:
                    line.become(key, "waiting")
            case "serve":
                expected = line.stands(key, "offered", agent)
                assert await store.serve_ticket(key, "q1", agent) == expected
                if expected:
                    line.become(key, "served", agent, line.tickets[key].offered_at)
            case "withdraw":
                stood = line.tickets.get(key)
                left = stood is not None and stood.status in ("waiting", "offered")
                assert await store.withdraw_tickets(key) == ([stood] if left else [])
                if stood is not None and left:
                    line.tickets[key] = replace(stood, status="withdrawn")
            case "stale":
                for other, one in list(line.tickets.items()):
                    if one.status == "offered" and one.offered_at and one.offered_at < at:
                        line.become(other, "waiting")
                await store.return_stale_offers(at)
        assert await store.waiting_tickets() == line.waiting()
    for call in CALLS:
        assert await store.tickets_of(call) == [t for t in [line.tickets.get(call)] if t]
