"""The store's part about messages on their way out: leased, sent, tried again, or given up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, select, update

from ivr.model import Address, Channel, Message
from ivr.store.database import Database, upsert
from ivr.store.models import outbox


@dataclass(frozen=True, slots=True)
class LeasedMessage:
    """A message that is ours to send until the lease runs out; `attempt` counts from 1."""

    message: Message
    attempt: int


class Outbox(Database):
    """Messages for channels that are not calls."""

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


def _message(row: Row[Any]) -> Message:
    to = Address(Channel(row.channel), row.address)
    return Message(row.id, row.conversation_id, to, row.text, row.created_at)
