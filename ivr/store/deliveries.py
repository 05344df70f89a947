"""The store's part about webhooks: what other programs are still to be told, in order for each
conversation, and what they could not be told.

A milestone becomes one delivery for each hook that wants it, in one transaction; it is leased,
sent, and deleted. One that nobody took for a day is *dead*: it stays to be seen and sent again, and
those behind it go on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from ivr.store.database import Database
from ivr.store.milestones import Milestone, milestone_of
from ivr.store.models import deliveries, milestones


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one hook. `attempts` counts those that were begun; `status` is `due` or
    `dead`, and `error` tells why the last attempt failed."""

    id: str
    hook: str
    conversation_id: str
    sequence: int
    event: str
    body: Mapping[str, Any]
    created_at: datetime
    due_at: datetime
    status: str = "due"
    attempts: int = 0
    error: str = ""


Make = Callable[[Milestone], Sequence[Delivery]]
"""Who is to be told of it, and what."""


class Deliveries(Database):
    """What is on its way to other programs."""

    async def post_milestones(self, make: Make, limit: int) -> int:
        """Turn milestones that nobody has looked at yet into deliveries; how many milestones."""

        def work(db: Connection) -> int:
            query = (
                select(milestones)
                .where(milestones.c.posted.is_(False))
                .order_by(milestones.c.number)
                .limit(limit)
                .with_for_update(skip_locked=True)
            )
            rows = list(db.execute(query))
            made = [one for row in rows for one in make(milestone_of(row))]
            if made:
                db.execute(insert(deliveries), [_row(one) for one in made])
            if rows:
                done = [row.number for row in rows]
                db.execute(
                    update(milestones).where(milestones.c.number.in_(done)).values(posted=True)
                )
            return len(rows)

        return await self._write(work)

    async def lease_deliveries(
        self, hook: str, now: datetime, seconds: float, limit: int
    ) -> list[Delivery]:
        """Take what is due at a hook, of each conversation the first. Nobody else gets it for so
        many seconds; then, neither delivered nor failed, it is due again."""
        before = deliveries.alias("before")
        first = ~(
            select(before.c.id)
            .where(
                before.c.status == "due",
                before.c.hook == hook,
                before.c.conversation_id == deliveries.c.conversation_id,
                before.c.sequence < deliveries.c.sequence,
            )
            .exists()
        )

        def work(db: Connection) -> list[Delivery]:
            due = (
                select(deliveries)
                .where(
                    deliveries.c.status == "due",
                    deliveries.c.hook == hook,
                    deliveries.c.due_at <= now,
                    first,
                )
                .order_by(deliveries.c.due_at, deliveries.c.id)
                .limit(limit)
                .with_for_update(skip_locked=True, of=deliveries)
            )
            rows = list(db.execute(due))
            db.execute(
                update(deliveries)
                .where(deliveries.c.id.in_([row.id for row in rows]))
                .values(due_at=now + timedelta(seconds=seconds), attempts=deliveries.c.attempts + 1)
            )
            return [_delivery(row, attempts=row.attempts + 1) for row in rows]

        return await self._write(work)

    async def delivered(self, delivery_id: str) -> None:
        await self._run(delete(deliveries).where(deliveries.c.id == delivery_id))

    async def not_delivered(self, delivery_id: str, retry_at: datetime | None, error: str) -> None:
        """Try again at `retry_at`; None gives it up."""
        values: dict[str, Any] = {"error": error}
        values |= {"status": "dead"} if retry_at is None else {"due_at": retry_at}
        await self._run(update(deliveries).where(deliveries.c.id == delivery_id).values(**values))

    async def dead_deliveries(self, limit: int = 100) -> list[Delivery]:
        """What was given up, the latest first."""
        query = (
            select(deliveries)
            .where(deliveries.c.status == "dead")
            .order_by(deliveries.c.created_at.desc(), deliveries.c.id)
            .limit(limit)
        )
        return await self._read(lambda db: [_delivery(row) for row in db.execute(query)])

    async def revive_delivery(self, delivery_id: str, now: datetime) -> bool:
        """Dead → due again, with all its attempts before it; False when it is not dead."""
        return (
            await self._run(
                update(deliveries)
                .where(deliveries.c.id == delivery_id, deliveries.c.status == "dead")
                .values(status="due", due_at=now, created_at=now, attempts=0)
            )
            == 1
        )

    async def give_up_all_but(self, hooks: Collection[str], why: str) -> int:
        """What is due at hooks that are none of these is dead; how many."""
        return await self._run(
            update(deliveries)
            .where(deliveries.c.status == "due", deliveries.c.hook.not_in(hooks))
            .values(status="dead", error=why)
        )

    async def forget_dead(self, before: datetime) -> int:
        """Delete what was given up and nobody has sent again; how many."""
        return await self._run(
            delete(deliveries).where(
                deliveries.c.status == "dead", deliveries.c.created_at < before
            )
        )


def _row(one: Delivery) -> dict[str, Any]:
    return {
        "id": one.id,
        "hook": one.hook,
        "conversation_id": one.conversation_id,
        "sequence": one.sequence,
        "event": one.event,
        "body": dict(one.body),
        "created_at": one.created_at,
        "due_at": one.due_at,
        "status": one.status,
        "attempts": one.attempts,
        "error": one.error,
    }


def _delivery(row: Row[Any], **changed: Any) -> Delivery:
    return Delivery(**{**row._mapping, **changed})
