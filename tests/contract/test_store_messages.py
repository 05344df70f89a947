"""What the store promises about threads, on SQLite and on PostgreSQL alike: numbered without gaps,
each text once, and receipts that lead on and never back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from ivr.errors import Conflict, StoreError
from ivr.model import (
    Address,
    Channel,
    Conversation,
    ConversationStatus,
    Leg,
    Text,
    TimelineEntry,
)
from ivr.store.repo import Store

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
BROWSER = Address(Channel.CHAT, "b1")


def text(given: str, who: str = "customer", **about: Any) -> Text:
    return Text("c1", given, who, f"text {given}", NOON, **about)


def wrote(of: Text) -> TimelineEntry:
    return TimelineEntry(of.conversation_id, NOON, "wrote", {"id": of.id})


async def begun(store: Store, *texts: Text, chat: str = "c1", leg: str = "l1") -> Conversation:
    conversation = Conversation(chat, "main", "v1", ConversationStatus.FLOW, NOON)
    return await store.start_conversation(conversation, Leg(leg, chat, BROWSER, NOON), (), texts)


async def test_a_thread_begins_with_its_conversation_and_counts_on(store: Store) -> None:
    hello = text("f1", "flow", status="sent", choices=(("1", "Billing"), ("", "帮助")), turn=1)
    conversation = await begun(store, hello)
    asked, answered = text("m1"), text("f2", "flow", status="sent")
    saved, numbered = await store.save_with_texts(conversation, (), (asked, answered))
    assert saved.revision == conversation.revision + 1
    assert [(one.number, one.id) for one in numbered] == [(2, "m1"), (3, "f2")]
    by_ann = text("a1", "agent", author="ann", name="Ann", status="sent", file={"name": "bill"})
    assert await store.add_text(by_ann, wrote(by_ann)) == (replace(by_ann, number=4), True)
    assert await store.texts("c1") == [
        replace(hello, number=1),
        *numbered,
        replace(by_ann, number=4),
    ]
    assert [one.number for one in await store.texts("c1", after=2)] == [3, 4]
    assert [one.number for one in await store.last_texts("c1", 2)] == [3, 4]
    assert [entry.kind for entry in await store.timeline("c1")] == ["wrote"]


async def test_the_same_id_again_is_the_same_text(store: Store) -> None:
    conversation = await begun(store)
    first = text("a1", "agent", author="ann")
    await store.add_text(first, wrote(first))
    again = replace(first, text="something else")
    known, new = await store.add_text(again, wrote(again))
    assert (known.text, known.number, new) == ("text a1", 1, False)
    assert len(await store.timeline("c1")) == 1
    # Another writer's own id is no repeat: nobody can keep an agent's text from being written.
    _, numbered = await store.save_with_texts(conversation, (), (text("a1"),))
    assert numbered[0].number == 2
    bobs = replace(first, author="bob")
    assert (await store.add_text(bobs, wrote(bobs)))[0].number == 3
    assert (await store.text(first)) == known
    assert await store.text(text("a2")) is None


async def test_a_step_with_a_text_that_is_known_is_not_written(store: Store) -> None:
    conversation = await begun(store)
    conversation, _ = await store.save_with_texts(conversation, (), (text("m1"),))
    with pytest.raises(Conflict):
        await store.save_with_texts(conversation, (wrote(text("m1")),), (text("m1"),))
    assert await store.timeline("c1") == []
    fresh = await store.conversation("c1")
    assert fresh is not None and fresh.revision == conversation.revision


async def test_writers_at_once_get_numbers_of_their_own(store: Store) -> None:
    await begun(store)
    texts = [text(f"a{n % 10}", "agent", author="ann") for n in range(20)]
    written = await asyncio.gather(*(store.add_text(one, wrote(one)) for one in texts))
    assert sorted(one.number for one, new in written if new) == list(range(1, 11))
    assert [one.number for one in await store.texts("c1")] == list(range(1, 11))


async def test_a_text_of_no_conversation_is_refused(store: Store) -> None:
    with pytest.raises(StoreError):
        await store.add_text(text("a1"), wrote(text("a1")))


async def test_receipts_lead_on_and_never_back(store: Store) -> None:
    await begun(
        store,
        text("f1", "flow", status="sent"),
        text("m1"),
        text("a1", "agent", status="sent"),
        text("a2", "agent", status="sent"),
    )
    changed = await store.mark_texts("c1", 3, "read", ours=True)
    assert [(one.id, one.status) for one in changed] == [("f1", "read"), ("a1", "read")]
    changed = await store.mark_texts("c1", 4, "delivered", ours=True)
    assert [one.id for one in changed] == ["a2"]
    assert await store.mark_texts("c1", 4, "delivered", ours=True) == []
    assert [one.id for one in await store.mark_texts("c1", 9, "read", ours=False)] == ["m1"]
    statuses = [one.status for one in await store.texts("c1")]
    assert statuses == ["read", "read", "read", "delivered"]


async def test_a_customers_open_thread_is_found_again(store: Store) -> None:
    assert await store.open_thread(BROWSER) is None
    assert not await store.knows(BROWSER)
    conversation = await begun(store)
    found = await store.open_thread(BROWSER)
    assert found is not None and (found.id, found.conversation_id) == ("l1", "c1")
    assert await store.knows(BROWSER)
    assert not await store.knows(replace(BROWSER, channel=Channel.SMS))
    assert [leg.id for leg in await store.text_legs("c1")] == ["l1"]
    call = Leg("l2", "c1", Address(Channel.VOICE, "b1"), NOON)
    await store.add_leg(call)
    assert [leg.id for leg in await store.text_legs("c1")] == ["l1"]
    await store.save(replace(conversation, status=ConversationStatus.ENDED))
    assert await store.open_thread(BROWSER) is None
