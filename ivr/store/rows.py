"""Rows as the values that they stand for, where several parts of the store read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row

from ivr.model import (
    HIGHEST_LEVEL,
    USUAL_LEVEL,
    Address,
    Agent,
    AgentPresence,
    Capacity,
    Channel,
    Conversation,
    ConversationStatus,
    Leg,
    TimelineEntry,
)


def agent_of(row: Row[Any]) -> Agent:
    return Agent(
        row.login,
        row.name,
        row.extension,
        frozenset(row.roles),
        _levels(row.skills),
        frozenset(row.languages),
        row.disabled,
        Capacity(**row.capacity) if row.capacity else Capacity(),
    )


def presence_of(row: Row[Any]) -> AgentPresence:
    return AgentPresence(
        row.login,
        row.state,
        row.reason,
        row.since,
        row.server,
        row.reachable,
        row.free_since,
        row.alive_until,
    )


def leg_of(row: Row[Any]) -> Leg:
    return Leg(
        id=row.id,
        conversation_id=row.conversation_id,
        peer=Address(Channel(row.channel), row.address),
        started_at=row.started_at,
        reference=row.reference,
        dialled=row.dialled,
        ended_at=row.ended_at,
        cause=row.cause,
    )


def conversation_of(row: Row[Any]) -> Conversation:
    return Conversation(
        id=row.id,
        flow=row.flow,
        version=row.version,
        status=ConversationStatus(row.status),
        started_at=row.started_at,
        contact_id=row.contact_id,
        language=row.language,
        state=row.state,
        revision=row.revision,
        ended_at=row.ended_at,
        outcome=row.outcome,
    )


def entry_of(row: Row[Any]) -> TimelineEntry:
    return TimelineEntry(row.conversation_id, row.at, row.kind, row.body, row.leg_id, row.sequence)


def _levels(stored: Mapping[str, int] | list[str]) -> dict[str, int]:
    """Skills had no levels once: those stand in a list."""
    if isinstance(stored, list):
        return dict.fromkeys(stored, USUAL_LEVEL)
    return {name: max(1, min(HIGHEST_LEVEL, int(level))) for name, level in stored.items()}
