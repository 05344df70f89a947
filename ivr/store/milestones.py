"""The store's part about what matters of all conversations together: the few timeline entries that
wallboards count and webhooks tell.

They are written in the transaction that writes the timeline, so that none is told that did not
happen, and none that happened is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, insert, select, true, update

from ivr.store.database import Database
from ivr.store.models import conversations, legs, milestones

KINDS = frozenset(
    {
        "call_started",
        "in_line",
        "offered",
        "answered",
        "released",
        "noted",
        "wrapped_up",
        "dequeued",
        "ended",
    }
)
"""The timeline's kinds that are milestones; a filled slot `topic` is one too."""


@dataclass(frozen=True, slots=True)
class Milestone:
    """A timeline entry that others count or are told of. `number` grows with the writing, not
    always with the reading: what was written first may become visible last."""

    number: int
    conversation_id: str
    sequence: int
    at: datetime
    kind: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Live:
    """A conversation that goes on: its status, latest channel, and what it is about, "" unknown."""

    id: str
    status: str
    channel: str
    topic: str
    started_at: datetime


class Milestones(Database):
    """Milestones, and what goes on now."""

    async def milestones(self, since: datetime, until: datetime | None = None) -> list[Milestone]:
        """What happened since then, and not after `until`, in order."""
        ends = milestones.c.at <= until if until else true()
        query = (
            select(milestones)
            .where(milestones.c.at >= since, ends)
            .order_by(milestones.c.at, milestones.c.number)
        )
        return await self._read(lambda db: [milestone_of(row) for row in db.execute(query)])

    async def going_on(self) -> list[Live]:
        """All conversations that are not over, oldest first."""
        latest = (
            select(legs.c.channel)
            .where(legs.c.conversation_id == conversations.c.id)
            .order_by(legs.c.ended_at.is_not(None), legs.c.started_at.desc(), legs.c.id)
            .limit(1)
            .scalar_subquery()
        )
        about = (
            select(milestones.c.topic)
            .where(milestones.c.conversation_id == conversations.c.id, milestones.c.topic != "")
            .order_by(milestones.c.number.desc())
            .limit(1)
            .scalar_subquery()
        )
        query = (
            select(
                conversations.c.id,
                conversations.c.status,
                func.coalesce(latest, "").label("channel"),
                func.coalesce(about, "").label("topic"),
                conversations.c.started_at,
            )
            .where(conversations.c.status.in_(("flow", "queued", "person")))
            .order_by(conversations.c.started_at, conversations.c.id)
        )
        return await self._read(lambda db: [Live(**row._mapping) for row in db.execute(query)])

    async def forget_milestones(self, before: datetime, *, unposted: bool = False) -> int:
        """Delete what nobody counts any more, but not what is still to be told, unless nobody is
        told of anything (`unposted`); how many. What the conversations that go on are about
        stays."""
        if unposted:
            await self._run(
                update(milestones).where(milestones.c.posted.is_(False)).values(posted=True)
            )
        live = select(conversations.c.id).where(conversations.c.status != "ended")
        stays = and_(milestones.c.topic != "", milestones.c.conversation_id.in_(live))
        return await self._run(
            delete(milestones).where(
                milestones.c.at < before, milestones.c.posted.is_(True), ~stays
            )
        )


def write_milestones(db: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Of these rows of a timeline, keep those that are milestones."""
    chosen = [
        {
            "conversation_id": row["conversation_id"],
            "sequence": row["sequence"],
            "at": row["at"],
            "kind": row["kind"],
            "body": row["body"],
            "topic": _topic(row),
            "posted": row["kind"] not in KINDS,  # a topic is counted, not told
        }
        for row in rows
        if row["kind"] in KINDS or _topic(row)
    ]
    if chosen:
        db.execute(insert(milestones), chosen)


def milestone_of(row: Row[Any]) -> Milestone:
    return Milestone(row.number, row.conversation_id, row.sequence, row.at, row.kind, row.body)


def _topic(row: Mapping[str, Any]) -> str:
    body = row["body"]
    named = row["kind"] == "slot_filled" and body.get("slot") == "topic"
    return str(body.get("value", "")) if named else ""
