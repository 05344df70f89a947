"""The store's part about threads: the texts between a customer and us, numbered from 1 in each.

Whoever writes gives a text an id, and the same id again is the same text. A number is taken in the
transaction that has changed the conversation's row, so that the numbers of a thread have no gaps
and come in the order of writing, whichever server writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from ivr.errors import Conflict
from ivr.model import Address, Channel, ConversationStatus, Leg, Text, TimelineEntry
from ivr.store.database import Database
from ivr.store.entries import append
from ivr.store.models import conversations, legs, messages
from ivr.store.rows import leg_of

_FURTHER = {"delivered": ("sent",), "read": ("", "sent", "delivered"), "failed": ("sent",)}
"""From which statuses a text gets to one: receipts come in any order, and none leads back."""


class Messages(Database):
    """Threads, and the customers' open text legs."""

    async def add_text(self, text: Text, entry: TimelineEntry) -> tuple[Text, bool]:
        """Write a text beside the flow, with its line of the timeline; also whether it is new: the
        same writer's id again is the text that was written before. Raises StoreError where the
        conversation is unknown."""

        def work(db: Connection) -> tuple[Text, bool]:
            known = _same(db, text)
            if known is not None:
                return known, False
            append(db, text.conversation_id, [entry], {})
            # Who waited for the row may have waited for this very text.
            known = _same(db, text)
            if known is not None:
                return known, False
            return write_texts(db, text.conversation_id, [text])[0], True

        return await self._write(work)

    async def text(self, text: Text) -> Text | None:
        """What was written under the same id by the same writer."""
        return await self._read(lambda db: _same(db, text))

    async def texts(self, conversation_id: str, after: int = 0, limit: int = 500) -> list[Text]:
        """A thread behind the text numbered `after`, in order."""
        query = (
            select(messages)
            .where(messages.c.conversation_id == conversation_id, messages.c.number > after)
            .order_by(messages.c.number)
            .limit(limit)
        )
        return await self._read(lambda db: [_text(row) for row in db.execute(query)])

    async def last_texts(self, conversation_id: str, limit: int) -> list[Text]:
        """The latest of a thread, in order."""
        query = (
            select(messages)
            .where(messages.c.conversation_id == conversation_id)
            .order_by(messages.c.number.desc())
            .limit(limit)
        )
        return await self._read(lambda db: [_text(row) for row in db.execute(query)][::-1])

    async def mark_texts(
        self, conversation_id: str, up_to: int, status: str, *, ours: bool
    ) -> list[Text]:
        """How far our texts, or else the customer's, have got; those that this changes."""
        customers = messages.c.who == "customer"
        these = (
            messages.c.conversation_id == conversation_id,
            messages.c.number <= up_to,
            ~customers if ours else customers,
            messages.c.status.in_(_FURTHER[status]),
        )

        def work(db: Connection) -> list[Text]:
            rows = db.execute(
                update(messages).where(*these).values(status=status).returning(*messages.c)
            )
            return sorted(map(_text, rows), key=lambda text: text.number)

        return await self._write(work)

    async def open_thread(self, peer: Address) -> Leg | None:
        """The latest leg of a customer on a text channel that is still open."""
        query = (
            select(legs)
            .join(conversations, conversations.c.id == legs.c.conversation_id)
            .where(
                legs.c.channel == peer.channel,
                legs.c.address == peer.value,
                legs.c.ended_at.is_(None),
                conversations.c.status != ConversationStatus.ENDED,
            )
            .order_by(legs.c.started_at.desc(), legs.c.id)
            .limit(1)
        )
        return await self._read(lambda db: next(map(leg_of, db.execute(query)), None))

    async def knows(self, peer: Address) -> bool:
        """Whether this customer has ever been here, on that channel and as that address."""
        query = select(legs.c.id).where(
            legs.c.channel == peer.channel, legs.c.address == peer.value
        )
        return await self._read(lambda db: db.execute(query.limit(1)).first() is not None)

    async def text_legs(self, conversation_id: str) -> list[Leg]:
        """The open legs of a conversation that are no calls, oldest first."""
        query = (
            select(legs)
            .where(
                legs.c.conversation_id == conversation_id,
                legs.c.ended_at.is_(None),
                legs.c.channel != Channel.VOICE,
            )
            .order_by(legs.c.started_at, legs.c.id)
        )
        return await self._read(lambda db: list(map(leg_of, db.execute(query))))


def write_texts(db: Connection, conversation_id: str, texts: Sequence[Text]) -> list[Text]:
    """Write texts under the next numbers. The transaction must have changed the conversation's row.

    Raises Conflict when one of them has been written before.
    """
    if not texts:
        return []
    if any(_same(db, text) for text in texts):
        raise Conflict(f"a text of conversation {conversation_id} is written already")
    last = select(func.coalesce(func.max(messages.c.number), 0)).where(
        messages.c.conversation_id == conversation_id
    )
    first = int(db.execute(last).scalar_one()) + 1
    numbered = [replace(text, number=number) for number, text in enumerate(texts, first)]
    db.execute(insert(messages), [asdict(text) for text in numbered])
    return numbered


def _same(db: Connection, text: Text) -> Text | None:
    query = select(messages).where(
        messages.c.conversation_id == text.conversation_id,
        messages.c.who == text.who,
        messages.c.author == text.author,
        messages.c.id == text.id,
    )
    return next(map(_text, db.execute(query)), None)


def _text(row: Row[Any]) -> Text:
    values = dict(row._mapping)
    values["choices"] = tuple((key, label) for key, label in values["choices"])
    return Text(**values)
