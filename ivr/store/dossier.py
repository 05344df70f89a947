"""All that the store knows of one conversation and its customer, read in one transaction: an agent
waits for it, and the telephone waits for the agent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, func, select, text

from ivr.model import (
    AgentNote,
    Channel,
    Contact,
    Conversation,
    Dossier,
    PastConversation,
    TimelineEntry,
)
from ivr.store.contacts import at_address, contacts_of, corrections_of
from ivr.store.database import Database
from ivr.store.models import conversations, legs, timeline
from ivr.store.rows import conversation_of, entry_of, leg_of

_NOTED = text("conversations.note <> ''")
"""In the words of the index `ix_conversations_noted`, which is used for these alone."""

_LAST_ENTRIES = 200


class Dossiers(Database):
    """Reads for agents' screens."""

    async def dossier(
        self, conversation_id: str, kinds: Sequence[str], earlier: int
    ) -> Dossier | None:
        """What is known now, with at most so many earlier conversations and notes. None for a
        conversation that is unknown or has no leg."""

        def work(db: Connection) -> Dossier | None:
            this = select(conversations).where(conversations.c.id == conversation_id)
            row = db.execute(this).one_or_none()
            of_this = (
                select(legs)
                .where(legs.c.conversation_id == conversation_id)
                .order_by(legs.c.started_at, legs.c.id)
            )
            all_legs = list(map(leg_of, db.execute(of_this)))
            if row is None or not all_legs:
                return None
            conversation = conversation_of(row)
            calls = [
                leg for leg in all_legs if leg.peer.channel is Channel.VOICE and not leg.ended_at
            ]
            leg = calls[-1] if calls else all_legs[-1]
            sharing = contacts_of(db, at_address(db, leg.peer)) if leg.peer.value else []
            contact = _whose(db, conversation, sharing)
            whose = contact.id if contact else ""
            before = conversation.started_at
            return Dossier(
                conversation=conversation,
                leg=leg,
                call=bool(calls),
                contact=contact,
                sharing=tuple(one for one in sharing if one.name),
                entries=_entries(db, conversation_id, kinds),
                earlier=earlier_of(db, whose, before, earlier) if whose else (),
                notes=_notes(db, whose, before, earlier) if whose else (),
                corrections=corrections_of(db, conversation_id),
            )

        return await self._read(work)

    async def earlier(
        self, contact_id: str, *, before: datetime, limit: int = 10
    ) -> list[PastConversation]:
        """A customer's conversations that began before, the latest first."""
        return await self._read(lambda db: earlier_of(db, contact_id, before, limit))


def _whose(
    db: Connection, conversation: Conversation, sharing: Sequence[Contact]
) -> Contact | None:
    """Whom it was found or said to be of; until somebody has a name, the only one who has that
    address now."""
    known = {contact.id: contact for contact in sharing}
    own = known.get(conversation.contact_id or "")
    if own is None and conversation.contact_id:
        own = next(iter(contacts_of(db, [conversation.contact_id])), None)
    if own is not None and own.name:
        return own
    named = [contact for contact in sharing if contact.name]
    return named[0] if len(named) == 1 else own


def _entries(db: Connection, conversation_id: str, kinds: Sequence[str]) -> list[TimelineEntry]:
    query = (
        select(timeline)
        .where(timeline.c.conversation_id == conversation_id, timeline.c.kind.in_(kinds))
        .order_by(timeline.c.sequence.desc())
        .limit(_LAST_ENTRIES)
    )
    return [entry_of(row) for row in db.execute(query)][::-1]


def earlier_of(
    db: Connection, contact_id: str, before: datetime, limit: int
) -> list[PastConversation]:
    """A customer's conversations that began before, the latest first."""
    first_channel = (
        select(legs.c.channel)
        .where(legs.c.conversation_id == conversations.c.id)
        .order_by(legs.c.started_at, legs.c.id)
        .limit(1)
        .scalar_subquery()
    )
    query = (
        select(
            conversations.c.id,
            conversations.c.started_at,
            first_channel.label("channel"),
            conversations.c.flow,
            conversations.c.outcome,
            conversations.c.note,
            conversations.c.agent,
        )
        .where(conversations.c.contact_id == contact_id, conversations.c.started_at < before)
        .order_by(conversations.c.started_at.desc(), conversations.c.id)
        .limit(limit)
    )
    return [
        PastConversation(**{**row._mapping, "channel": Channel(row.channel)})
        for row in db.execute(query)
    ]


def _notes(db: Connection, contact_id: str, before: datetime, limit: int) -> list[AgentNote]:
    ended = func.coalesce(conversations.c.ended_at, conversations.c.started_at)
    query = (
        select(conversations.c.note, conversations.c.agent, ended.label("at"))
        .where(
            conversations.c.contact_id == contact_id,
            conversations.c.started_at < before,
            _NOTED,
        )
        .order_by(conversations.c.started_at.desc(), conversations.c.id)
        .limit(limit)
    )
    return [AgentNote(row.note, row.agent, row.at) for row in db.execute(query)]
