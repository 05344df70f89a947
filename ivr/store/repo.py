"""Everything that must outlive the process, as one `Store`: this file's part is conversations.

Values of `ivr.model` go in and come out; no row, session or connection leaves the package. Every
method is one transaction, and raises StoreError when the database cannot do its part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from ivr.errors import Conflict, StoreError
from ivr.model import (
    Address,
    CallRecord,
    Conversation,
    ConversationStatus,
    Leg,
    Message,
    Text,
    TimelineEntry,
)
from ivr.store.audit import Audit
from ivr.store.contacts import Contacts, known_as
from ivr.store.database import upsert
from ivr.store.deliveries import Deliveries
from ivr.store.dossier import Dossiers
from ivr.store.entries import append, write_entries
from ivr.store.flows import Flows
from ivr.store.messages import Messages, write_texts
from ivr.store.milestones import Milestones
from ivr.store.models import call_records, contact_addresses, conversations, legs, timeline
from ivr.store.outbox import Outbox, post
from ivr.store.people import People
from ivr.store.queue import Queue
from ivr.store.recordings import RecordingRows
from ivr.store.rows import conversation_of, entry_of, leg_of


class Store(
    People, Contacts, Dossiers, Queue, Outbox, Flows, RecordingRows, Messages, Audit, Milestones,
    Deliveries,
):  # fmt: skip
    """The database: `await Store.open(url)`, and `close()` at the end."""

    # --- conversations ---------------------------------------------------------------------------

    async def start_conversation(
        self,
        conversation: Conversation,
        leg: Leg,
        entries: Sequence[TimelineEntry] = (),
        texts: Sequence[Text] = (),
    ) -> Conversation:
        """Write a new conversation with its first leg, and find or make its customer. The texts of
        its thread are numbered from 1.

        Returns it with `contact_id`: the one customer who is known at the leg's address, else one
        without a name; None where the address is empty or withheld. Raises Conflict when the id is
        taken.
        """

        def work(db: Connection) -> Conversation:
            contact_id = conversation.contact_id or known_as(db, leg.peer)
            known = replace(conversation, contact_id=contact_id)
            db.execute(
                insert(conversations).values(
                    id=known.id,
                    contact_id=known.contact_id,
                    revision=known.revision,
                    started_at=known.started_at,
                    entries=len(entries),
                    agent="",
                    note="",
                    disposition="",
                    **_state(known),
                )
            )
            db.execute(insert(legs).values(_leg_row(leg)))
            write_entries(db, entries, 0)
            write_texts(db, known.id, texts)
            return known

        return await self._write(work)

    async def conversation(self, conversation_id: str) -> Conversation | None:
        query = select(conversations).where(conversations.c.id == conversation_id)

        def work(db: Connection) -> Conversation | None:
            row = db.execute(query).one_or_none()
            return conversation_of(row) if row else None

        return await self._read(work)

    async def conversation_ids(self, prefix: str, limit: int = 10) -> list[str]:
        """The conversations whose id begins so, the latest first."""
        query = (
            select(conversations.c.id)
            .where(conversations.c.id.startswith(prefix, autoescape=True))
            .order_by(conversations.c.started_at.desc(), conversations.c.id)
            .limit(limit)
        )
        return await self._read(lambda db: list(db.execute(query).scalars()))

    async def live_conversations(self) -> list[Conversation]:
        """Those that have not ended, oldest first."""
        query = (
            select(conversations)
            .where(conversations.c.status != ConversationStatus.ENDED)
            .order_by(conversations.c.started_at)
        )
        return await self._read(lambda db: [conversation_of(row) for row in db.execute(query)])

    async def touch(self, conversation_ids: Iterable[str], at: datetime) -> None:
        """Tell the other servers that somebody has these in hand."""
        this = conversations.c.id.in_(list(conversation_ids))
        await self._run(update(conversations).where(this).values(touched_at=at))

    async def stale_conversations(self, before: datetime) -> list[Conversation]:
        """Those that have not ended and that nobody has touched since then, oldest first."""
        query = (
            select(conversations)
            .where(
                conversations.c.status != ConversationStatus.ENDED,
                func.coalesce(conversations.c.touched_at, conversations.c.started_at) < before,
            )
            .order_by(conversations.c.started_at)
        )
        return await self._read(lambda db: [conversation_of(row) for row in db.execute(query)])

    async def save(
        self,
        conversation: Conversation,
        entries: Sequence[TimelineEntry] = (),
        messages: Iterable[Message] = (),
    ) -> Conversation:
        """Write a conversation's new state with what happened and what is to be sent, all or none.

        Returns it with the next revision. Raises Conflict when it was written since it was read.
        The entries must be of this conversation.
        """
        return (await self.save_with_texts(conversation, entries, (), messages))[0]

    async def save_with_texts(
        self,
        conversation: Conversation,
        entries: Sequence[TimelineEntry],
        texts: Sequence[Text],
        messages: Iterable[Message] = (),
    ) -> tuple[Conversation, list[Text]]:
        """As `save`, with what is added to the thread, which comes back numbered. Raises Conflict
        also when one of the texts was written before."""

        def work(db: Connection) -> tuple[Conversation, list[Text]]:
            written = db.execute(
                update(conversations)
                .where(
                    conversations.c.id == conversation.id,
                    conversations.c.revision == conversation.revision,
                )
                .values(
                    revision=conversations.c.revision + 1,
                    entries=conversations.c.entries + len(entries),
                    **_state(conversation),
                )
                .returning(conversations.c.entries)
            ).scalar_one_or_none()
            if written is None:
                raise Conflict(
                    f"conversation {conversation.id} is not at revision {conversation.revision} "
                    "any more"
                )
            write_entries(db, entries, written - len(entries))
            for message in messages:
                post(db, message)
            numbered = write_texts(db, conversation.id, texts)
            return replace(conversation, revision=conversation.revision + 1), numbered

        return await self._write(work)

    # --- legs ------------------------------------------------------------------------------------

    async def add_leg(self, leg: Leg) -> None:
        """Write a further leg of a conversation; one that is known already is left as it is."""

        def work(db: Connection) -> None:
            db.execute(upsert(db, legs).values(_leg_row(leg)).on_conflict_do_nothing())

        await self._write(work)

    async def end_leg(self, leg_id: str, ended_at: datetime, cause: str) -> None:
        """The first end counts; ending again changes nothing."""
        await self._run(
            update(legs)
            .where(legs.c.id == leg_id, legs.c.ended_at.is_(None))
            .values(ended_at=ended_at, cause=cause)
        )

    async def leg(self, leg_id: str) -> Leg | None:
        query = select(legs).where(legs.c.id == leg_id)
        return await self._read(lambda db: next(map(leg_of, db.execute(query)), None))

    async def legs(self, conversation_id: str) -> list[Leg]:
        """All legs of a conversation, oldest first."""
        query = (
            select(legs)
            .where(legs.c.conversation_id == conversation_id)
            .order_by(legs.c.started_at, legs.c.id)
        )
        return await self._read(lambda db: list(map(leg_of, db.execute(query))))

    async def last_call(self, caller: Address, dialled: str) -> tuple[Conversation, Leg] | None:
        """The latest call from this number to that one, as far as it is over."""
        # By way of the customer, whose conversations have an index.
        known = select(contact_addresses.c.contact_id).where(
            contact_addresses.c.channel == caller.channel,
            contact_addresses.c.value == caller.value,
        )
        query = (
            select(legs)
            .join(conversations, conversations.c.id == legs.c.conversation_id)
            .where(
                conversations.c.contact_id.in_(known),
                legs.c.channel == caller.channel,
                legs.c.address == caller.value,
                legs.c.dialled == dialled,
            )
            .order_by(conversations.c.started_at.desc(), legs.c.started_at.desc(), legs.c.id)
            .limit(1)
        )

        def work(db: Connection) -> tuple[Conversation, Leg] | None:
            leg = next(map(leg_of, db.execute(query)), None)
            if leg is None or leg.ended_at is None:
                return None
            this = select(conversations).where(conversations.c.id == leg.conversation_id)
            return conversation_of(db.execute(this).one()), leg

        return await self._read(work)

    # --- the timeline ----------------------------------------------------------------------------

    async def append(self, entries: Sequence[TimelineEntry]) -> None:
        """Add to timelines without touching what the flow knows: no revision is used up."""
        grouped: dict[str, list[TimelineEntry]] = {}
        for entry in entries:
            grouped.setdefault(entry.conversation_id, []).append(entry)

        def work(db: Connection) -> None:
            for conversation_id in sorted(grouped):  # one order for all, so nobody deadlocks
                append(db, conversation_id, grouped[conversation_id], {})

        await self._write(work)

    async def timeline(self, conversation_id: str, after: int = 0) -> list[TimelineEntry]:
        """What happened since the entry numbered `after`, in order."""
        query = (
            select(timeline)
            .where(timeline.c.conversation_id == conversation_id, timeline.c.sequence > after)
            .order_by(timeline.c.sequence)
        )
        return await self._read(lambda db: [entry_of(row) for row in db.execute(query)])

    async def journeys(
        self, since: datetime, kinds: Iterable[str], limit: int
    ) -> list[tuple[Conversation, list[TimelineEntry]]]:
        """The latest conversations that began at or after `since`, each with its entries of these
        kinds, in order."""
        latest = (
            select(conversations)
            .where(conversations.c.started_at >= since)
            .order_by(conversations.c.started_at.desc(), conversations.c.id)
            .limit(limit)
        )
        within = latest.with_only_columns(conversations.c.id).subquery()
        happened = (
            select(timeline)
            .where(timeline.c.conversation_id.in_(select(within.c.id)), timeline.c.kind.in_(kinds))
            .order_by(timeline.c.conversation_id, timeline.c.sequence)
        )

        def work(db: Connection) -> list[tuple[Conversation, list[TimelineEntry]]]:
            found: dict[str, tuple[Conversation, list[TimelineEntry]]] = {
                row.id: (conversation_of(row), []) for row in db.execute(latest)
            }
            for row in db.execute(happened):
                if row.conversation_id in found:
                    found[row.conversation_id][1].append(entry_of(row))
            return list(found.values())

        return await self._read(work)

    # --- records ---------------------------------------------------------------------------------

    async def write_record(self, record: CallRecord) -> None:
        """Write what became of a call; the first record of a leg counts.

        A wrap-up that was noted before the call was over is taken into the record.
        """
        this = conversations.c.id == record.conversation_id

        def work(db: Connection) -> None:
            noted = db.execute(
                select(
                    conversations.c.agent, conversations.c.disposition, conversations.c.note
                ).where(this)
            ).one_or_none()
            if noted is None:
                raise StoreError(f"no conversation {record.conversation_id} for the call's record")
            agent = record.agent or noted.agent
            mine = agent == noted.agent
            db.execute(
                upsert(db, call_records)
                .values(
                    leg_id=record.leg_id,
                    conversation_id=record.conversation_id,
                    caller=record.caller,
                    dialled=record.dialled,
                    started_at=record.started_at,
                    ended_at=record.ended_at,
                    agent=agent,
                    waited=record.waited,
                    talked=record.talked,
                    disposition=record.disposition or (noted.disposition if mine else ""),
                    note=record.note or (noted.note if mine else ""),
                )
                .on_conflict_do_nothing()
            )
            if agent and not noted.agent:
                db.execute(update(conversations).where(this).values(agent=agent))

        await self._write(work)

    async def records(self, conversation_id: str) -> list[CallRecord]:
        query = (
            select(call_records)
            .where(call_records.c.conversation_id == conversation_id)
            .order_by(call_records.c.started_at, call_records.c.leg_id)
        )
        return await self._read(
            lambda db: [CallRecord(**row._mapping) for row in db.execute(query)]
        )

    async def annotate(
        self, conversation_id: str, agent: str, note: str, disposition: str, at: datetime
    ) -> None:
        """Keep an agent's wrap-up: in the timeline, on the conversation, and on the agent's records
        of it. The last one counts; the timeline keeps all."""
        wrap_up = {"agent": agent, "note": note, "disposition": disposition}
        entry = TimelineEntry(conversation_id, at, "noted", wrap_up)

        def work(db: Connection) -> None:
            append(db, conversation_id, [entry], wrap_up)
            db.execute(
                update(call_records)
                .where(
                    call_records.c.conversation_id == conversation_id,
                    call_records.c.agent.in_(("", agent)),
                )
                .values(**wrap_up)
            )

        await self._write(work)


def _state(conversation: Conversation) -> dict[str, Any]:
    """The columns that the flow changes. Whose conversation it is is not one of them: an agent may
    have said so meanwhile."""
    return {
        "flow": conversation.flow,
        "version": conversation.version,
        "status": conversation.status,
        "language": conversation.language,
        "state": conversation.state,
        "ended_at": conversation.ended_at,
        "outcome": conversation.outcome,
    }


def _leg_row(leg: Leg) -> dict[str, Any]:
    return {
        "id": leg.id,
        "conversation_id": leg.conversation_id,
        "channel": leg.peer.channel,
        "address": leg.peer.value,
        "reference": leg.reference,
        "dialled": leg.dialled,
        "started_at": leg.started_at,
        "ended_at": leg.ended_at,
        "cause": leg.cause,
    }
