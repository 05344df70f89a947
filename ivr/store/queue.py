"""The store's part about what waits: customers for a person, and messages for their channel."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Update, select, update

from ivr.model import Address, Channel, Message, Ticket
from ivr.store.database import Database, upsert
from ivr.store.models import outbox, tickets

HIGHEST_PRIORITY = 1_000_000
"""Priorities come from designers' expressions; beyond this, either way, they are all the same."""

_IN_LINE = tickets.c.status.in_(("waiting", "offered"))


@dataclass(frozen=True, slots=True)
class LeasedMessage:
    """A message that is ours to send until the lease runs out; `attempt` counts from 1."""

    message: Message
    attempt: int


class Queue(Database):
    """Tickets for the router, and the outbox."""

    # --- tickets ---------------------------------------------------------------------------------

    async def put_ticket(self, ticket: Ticket) -> Ticket:
        """Take a place in line, and say how it stands.

        The same (conversation, id) again is the same place: `enqueued_at` is kept, what is asked
        for (skills, priority, language, pop) becomes the new. A withdrawn ticket waits again at its
        old place; one that is offered or served stays so, since the effect may have been repeated.
        """
        values = {
            "skills": list(ticket.skills),
            "priority": max(-HIGHEST_PRIORITY, min(HIGHEST_PRIORITY, ticket.priority)),
            "language": ticket.language,
            "pop": [list(pair) for pair in ticket.pop],
        }

        def work(db: Connection) -> Ticket:
            db.execute(
                upsert(db, tickets)
                .values(
                    conversation_id=ticket.conversation_id,
                    id=ticket.id,
                    enqueued_at=ticket.enqueued_at,
                    status="waiting",
                    agent="",
                    **values,
                )
                .on_conflict_do_update(index_elements=["conversation_id", "id"], set_=values)
            )
            this = _this(ticket.conversation_id, ticket.id)
            db.execute(_back_in_line().where(this, tickets.c.status == "withdrawn"))
            return _ticket(db.execute(select(tickets).where(this)).one())

        return await self._write(work)

    async def waiting_tickets(self) -> list[Ticket]:
        """Whoever waits, in the order of service: priority, then who came first."""
        query = (
            select(tickets)
            .where(tickets.c.status == "waiting")
            .order_by(
                tickets.c.priority.desc(),
                tickets.c.enqueued_at,
                tickets.c.conversation_id,
                tickets.c.id,
            )
        )
        return await self._read(lambda db: [_ticket(row) for row in db.execute(query)])

    async def tickets_of(self, conversation_id: str) -> list[Ticket]:
        """All tickets that a conversation ever had, oldest first."""
        query = (
            select(tickets)
            .where(tickets.c.conversation_id == conversation_id)
            .order_by(tickets.c.enqueued_at, tickets.c.id)
        )
        return await self._read(lambda db: [_ticket(row) for row in db.execute(query)])

    async def offer_ticket(
        self, conversation_id: str, ticket_id: str, agent: str, at: datetime
    ) -> bool:
        """Waiting → offered to this agent; False when somebody else was first, or it is gone."""
        return await self._ticket_becomes(
            update(tickets)
            .where(_this(conversation_id, ticket_id), tickets.c.status == "waiting")
            .values(status="offered", agent=agent, offered_at=at)
        )

    async def return_ticket(self, conversation_id: str, ticket_id: str, agent: str) -> bool:
        """Offered to this agent → waiting, at the old place; False when it was not."""
        return await self._ticket_becomes(
            _back_in_line().where(_this(conversation_id, ticket_id), _offered_to(agent))
        )

    async def serve_ticket(self, conversation_id: str, ticket_id: str, agent: str) -> bool:
        """Offered to this agent → served; False when it was not."""
        return await self._ticket_becomes(
            update(tickets)
            .where(_this(conversation_id, ticket_id), _offered_to(agent))
            .values(status="served")
        )

    async def withdraw_tickets(self, conversation_id: str) -> list[Ticket]:
        """Take a conversation out of line. Returns what was in line as it stood, so that an agent
        to whom it was offered can be told. Idempotent."""
        this = tickets.c.conversation_id == conversation_id

        def work(db: Connection) -> list[Ticket]:
            query = select(tickets).where(this, _IN_LINE).with_for_update()
            stood = [_ticket(row) for row in db.execute(query)]
            db.execute(update(tickets).where(this, _IN_LINE).values(status="withdrawn"))
            return stood

        return await self._write(work)

    async def return_stale_offers(self, before: datetime) -> int:
        """Put back in line what was offered before this time and never answered, as after a crash;
        the number of tickets."""
        return await self._run(
            _back_in_line().where(tickets.c.status == "offered", tickets.c.offered_at < before)
        )

    async def _ticket_becomes(self, change: Update) -> bool:
        return await self._run(change) == 1

    # --- outbox ----------------------------------------------------------------------------------

    async def lease_messages(
        self, now: datetime, seconds: float, limit: int
    ) -> list[LeasedMessage]:
        """Take what is due. Nobody else gets it for so many seconds; then, neither sent nor failed,
        it is due again: its sender has died."""

        def work(db: Connection) -> list[LeasedMessage]:
            due = (
                select(outbox.c.id)
                .where(outbox.c.status == "due", outbox.c.due_at <= now)
                .order_by(outbox.c.due_at, outbox.c.id)
                .limit(limit)
                .with_for_update(skip_locked=True)
            )
            ids = list(db.execute(due).scalars())
            db.execute(
                update(outbox)
                .where(outbox.c.id.in_(ids))
                .values(due_at=now + timedelta(seconds=seconds), attempts=outbox.c.attempts + 1)
            )
            rows = db.execute(
                select(outbox).where(outbox.c.id.in_(ids)).order_by(outbox.c.created_at)
            )
            return [LeasedMessage(_message(row), row.attempts) for row in rows]

        return await self._write(work)

    async def message_sent(self, message_id: str) -> None:
        await self._run(update(outbox).where(outbox.c.id == message_id).values(status="sent"))

    async def message_failed(self, message_id: str, retry_at: datetime | None, error: str) -> None:
        """Try again at `retry_at`; None gives the message up."""
        values: dict[str, Any] = {"error": error}
        values |= {"status": "failed"} if retry_at is None else {"due_at": retry_at}
        await self._run(
            update(outbox)
            .where(outbox.c.id == message_id, outbox.c.status == "due")
            .values(**values)
        )


def post(db: Connection, message: Message) -> None:
    """Put a message into the outbox; the same id again is the same message."""
    db.execute(
        upsert(db, outbox)
        .values(
            id=message.id,
            conversation_id=message.conversation_id,
            channel=message.to.channel,
            address=message.to.value,
            text=message.text,
            created_at=message.created_at,
            status="due",
            due_at=message.created_at,
            attempts=0,
            error="",
        )
        .on_conflict_do_nothing()
    )


def _this(conversation_id: str, ticket_id: str) -> ColumnElement[bool]:
    return (tickets.c.conversation_id == conversation_id) & (tickets.c.id == ticket_id)


def _offered_to(agent: str) -> ColumnElement[bool]:
    return (tickets.c.status == "offered") & (tickets.c.agent == agent)


def _back_in_line() -> Update:
    return update(tickets).values(status="waiting", agent="", offered_at=None)


def _ticket(row: Row[Any]) -> Ticket:
    return Ticket(
        id=row.id,
        conversation_id=row.conversation_id,
        enqueued_at=row.enqueued_at,
        skills=tuple(row.skills),
        priority=row.priority,
        language=row.language,
        pop=tuple((name, value) for name, value in row.pop),
        status=row.status,
        agent=row.agent,
        offered_at=row.offered_at,
    )


def _message(row: Row[Any]) -> Message:
    to = Address(Channel(row.channel), row.address)
    return Message(row.id, row.conversation_id, to, row.text, row.created_at)
