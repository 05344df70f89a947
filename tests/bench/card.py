"""How long an agent waits for the card of a customer who has called ten thousand times before."""

from __future__ import annotations

import asyncio
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert

from cti.cards import Cards
from cti.screenpop import ConversationView
from ivr.model import (
    Address,
    Channel,
    Contact,
    Conversation,
    ConversationStatus,
    Leg,
    Ticket,
    TimelineEntry,
)
from ivr.store.models import conversations, legs
from ivr.store.repo import Store
from tests.bench.figures import Figure, figure, percentile

HISTORY = 10_000
ENTRIES = 200
ROUNDS = 200
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
NEW, PEER = Address(Channel.VOICE, "+14155550100"), Address(Channel.VOICE, "+14155550123")


def card() -> list[Figure]:
    return asyncio.run(_card())


async def _card() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        store = await Store.open(f"sqlite:///{Path(folder) / 'hotline.db'}")
        try:
            await store.save_contact(Contact("new", "New", addresses=(NEW,)))
            await store.save_contact(Contact("k1", "Ann", addresses=(PEER,)))
            await store._write(_history)
            await _begin(store, "first", NEW)
            await _begin(store, "last", PEER)
            few, many = await _cards(store, "first", "last")
        finally:
            await store.close()
    middle = percentile(many, 0.5)
    return [figure("card after 10,000 conversations", middle, "ms", 10, percentile(few, 0.5))]


def _history(db: Connection) -> None:
    """At once: ten thousand transactions to be on disk would take minutes."""
    rows: list[dict[str, Any]] = [
        {
            "id": f"h{number}",
            "contact_id": "k1",
            "flow": "main",
            "version": "v1",
            "status": ConversationStatus.ENDED,
            "language": "en",
            "state": {},
            "revision": 0,
            "entries": 0,
            "started_at": NOON - timedelta(hours=HISTORY - number),
            "outcome": "completed",
            "agent": "bob",
            "note": "" if number % 1000 else "a note",
            "disposition": "",
        }
        for number in range(HISTORY)
    ]
    db.execute(insert(conversations), rows)
    channel = {"channel": PEER.channel, "address": PEER.value, "reference": "", "cause": ""}
    db.execute(
        insert(legs),
        [
            {
                "id": f"leg-{row['id']}",
                "conversation_id": row["id"],
                "dialled": "100",
                "started_at": row["started_at"],
                **channel,
            }
            for row in rows
        ],
    )


async def _begin(store: Store, key: str, peer: Address) -> None:
    conversation = Conversation(key, "main", "v1", ConversationStatus.QUEUED, NOON)
    await store.start_conversation(conversation, Leg(f"leg-{key}", key, peer, NOON))
    told = [
        TimelineEntry(key, NOON, ("said", "heard", "fetched")[n % 3], {"text": f"words {n}"})
        for n in range(ENTRIES)
    ]
    await store.append(told)


async def _cards(store: Store, *keys: str) -> list[list[float]]:
    """Milliseconds for each of many cards of these conversations, made in turn."""
    cards = Cards(store, lambda conversation: ConversationView(slots={"account": "1"}), "US")
    taken: list[list[float]] = [[] for _ in keys]
    for _ in range(ROUNDS):
        for key, times in zip(keys, taken, strict=True):
            before = time.perf_counter()
            made, _leg = await cards.card(Ticket("t1", key, NOON), 1.0)
            times.append((time.perf_counter() - before) * 1000)
            assert made.name
    return taken


BENCHES = {"card": card}
