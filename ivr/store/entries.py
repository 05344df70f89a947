"""Rows of timelines: an UPDATE of the conversation takes the next numbers, so none is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, insert, update

from ivr.errors import StoreError
from ivr.model import TimelineEntry
from ivr.store.milestones import write_milestones
from ivr.store.models import conversations, timeline


def append(
    db: Connection, conversation_id: str, entries: Sequence[TimelineEntry], also: Mapping[str, str]
) -> None:
    """Add to a timeline, and change columns of its conversation. Raises StoreError where the
    conversation is unknown."""
    written = db.execute(
        update(conversations)
        .where(conversations.c.id == conversation_id)
        .values(entries=conversations.c.entries + len(entries), **also)
        .returning(conversations.c.entries)
    ).scalar_one_or_none()
    if written is None:
        raise StoreError(f"no conversation {conversation_id} to write the timeline of")
    write_entries(db, entries, written - len(entries))


def write_entries(db: Connection, entries: Sequence[TimelineEntry], last: int) -> None:
    """Write entries behind the one numbered `last`."""
    if not entries:
        return
    rows = [
        {
            "conversation_id": entry.conversation_id,
            "sequence": sequence,
            "at": entry.at,
            "kind": entry.kind,
            "body": entry.body,
            "leg_id": entry.leg_id,
        }
        for sequence, entry in enumerate(entries, last + 1)
    ]
    db.execute(insert(timeline), rows)
    write_milestones(db, rows)
