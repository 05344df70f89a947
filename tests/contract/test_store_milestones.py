"""What the store promises wallboards, webhooks and auditors, on every database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ivr.model import (
    Address,
    Channel,
    Conversation,
    ConversationStatus,
    Leg,
    TimelineEntry,
)
from ivr.store.audit import AuditEntry
from ivr.store.deliveries import Delivery
from ivr.store.milestones import Milestone
from ivr.store.repo import Store
from tests.contract.test_store import NOON, later


async def _begun(store: Store, name: str, channel: Channel = Channel.VOICE) -> None:
    leg = Leg(f"leg-{name}", name, Address(channel, "+14155550123"), NOON)
    conversation = Conversation(name, "main", "v1", ConversationStatus.FLOW, NOON)
    body = {"channel": channel.value}
    await store.start_conversation(
        conversation, leg, [TimelineEntry(name, NOON, "call_started", body)]
    )


def _made(one: Milestone, hook: str = "crm", **changed: Any) -> Delivery:
    at = one.at
    values: dict[str, Any] = {"event": one.kind, "body": {"n": one.sequence}, **changed}
    return Delivery(
        f"{one.number}.{hook}", hook, one.conversation_id, one.sequence, created_at=at, due_at=at,
        **values,
    )  # fmt: skip


async def test_a_timelines_milestones_are_kept_with_it(store: Store) -> None:
    await _begun(store, "c1")
    await store.append(
        [
            TimelineEntry("c1", later(1), "heard", {"text": "billing"}),
            TimelineEntry("c1", later(2), "slot_filled", {"slot": "topic", "value": "billing"}),
            TimelineEntry("c1", later(3), "slot_filled", {"slot": "pin", "secret": True}),
            TimelineEntry("c1", later(4), "in_line", {"ticket": "t1"}),
        ]
    )
    kept = await store.milestones(NOON)
    assert [(one.kind, one.sequence) for one in kept] == [
        ("call_started", 1),
        ("slot_filled", 3),
        ("in_line", 5),
    ]
    assert [one.kind for one in await store.milestones(later(4))] == ["in_line"]


async def test_what_goes_on_is_told_with_channel_and_topic(store: Store) -> None:
    await _begun(store, "c1")
    await _begun(store, "c2", Channel.CHAT)
    filled = {"slot": "topic", "value": "repairs"}
    await store.append([TimelineEntry("c2", later(2), "slot_filled", filled)])
    assert [(one.id, one.channel, one.topic, one.status) for one in await store.going_on()] == [
        ("c1", "voice", "", "flow"),
        ("c2", "chat", "repairs", "flow"),
    ]


async def test_old_milestones_go_but_not_what_is_still_to_be_told(store: Store) -> None:
    await _begun(store, "c1")
    filled = {"slot": "topic", "value": "repairs"}
    await store.append([TimelineEntry("c1", later(1), "slot_filled", filled)])
    assert await store.forget_milestones(later(99)) == 0
    assert await store.forget_milestones(later(99), unposted=True) == 1
    assert [one.topic for one in await store.going_on()] == ["repairs"], "it still goes on"


async def test_each_milestone_is_posted_once(store: Store) -> None:
    await _begun(store, "c1")
    assert await store.post_milestones(lambda one: [_made(one), _made(one, "bi")], 10) == 1
    assert await store.post_milestones(lambda one: [_made(one)], 10) == 0
    for hook in ("crm", "bi"):
        [leased] = await store.lease_deliveries(hook, NOON, 30, 10)
        assert (leased.hook, leased.attempts) == (hook, 1)
    assert await store.give_up_all_but(["crm"], "it is not in the settings any more") == 1
    assert [one.hook for one in await store.dead_deliveries()] == ["bi"]


async def test_a_conversations_deliveries_keep_their_order_at_each_hook(store: Store) -> None:
    await _begun(store, "c1")
    await _begun(store, "c2")
    await store.append([TimelineEntry("c1", later(1), "ended", {"outcome": "done"})])
    await store.post_milestones(lambda one: [_made(one)], 10)
    now = later(10)
    first = await store.lease_deliveries("crm", now, 30, 10)
    assert [(one.conversation_id, one.event) for one in first] == [
        ("c1", "call_started"),
        ("c2", "call_started"),
    ]
    assert await store.lease_deliveries("crm", now, 30, 10) == [], "leased, or behind one that is"
    await store.not_delivered(first[0].id, now + timedelta(seconds=60), "down")
    await store.delivered(first[1].id)
    assert await store.lease_deliveries("crm", now + timedelta(seconds=59), 30, 10) == []
    [again] = await store.lease_deliveries("crm", now + timedelta(seconds=60), 30, 10)
    assert (again.event, again.attempts, again.error) == ("call_started", 2, "down")
    await store.delivered(again.id)
    [last] = await store.lease_deliveries("crm", now + timedelta(seconds=60), 30, 10)
    assert last.event == "ended"


async def test_a_lease_that_runs_out_is_due_again(store: Store) -> None:
    await _begun(store, "c1")
    await store.post_milestones(lambda one: [_made(one)], 10)
    [one] = await store.lease_deliveries("crm", NOON, 30, 10)
    assert await store.lease_deliveries("crm", later(29), 30, 10) == []
    assert [two.id for two in await store.lease_deliveries("crm", later(30), 30, 10)] == [one.id]


async def test_dead_deliveries_are_seen_and_sent_again(store: Store) -> None:
    await _begun(store, "c1")
    await store.append([TimelineEntry("c1", later(1), "ended", {})])
    await store.post_milestones(lambda one: [_made(one)], 10)
    [one] = await store.lease_deliveries("crm", later(2), 30, 10)
    await store.not_delivered(one.id, None, "410")
    [dead] = await store.dead_deliveries()
    assert (dead.id, dead.status, dead.error, dead.body) == (one.id, "dead", "410", {"n": 1})
    [behind] = await store.lease_deliveries("crm", later(2), 30, 10)
    assert behind.event == "ended", "those behind it go on"
    assert await store.revive_delivery(one.id, later(3))
    assert not await store.revive_delivery(one.id, later(3))
    assert [two.id for two in await store.lease_deliveries("crm", later(3), 30, 10)] == [one.id]
    await store.not_delivered(one.id, None, "410")
    assert await store.forget_dead(later(100)) == 1
    assert await store.dead_deliveries() == []


@pytest.mark.parametrize("evil", ["<script>", "\0\ud800", "x" * 999])
async def test_the_audit_log_is_told_latest_first(store: Store, evil: str) -> None:
    for what in ("listen", "logout", "away"):
        await store.write_audit(AuditEntry(NOON, "sue", what, "ann", "10.0.0.1", {"why": evil}))
    await store.write_audit(AuditEntry(NOON, "ada", "logout", "sue", "10.0.0.2"))
    latest = await store.audit_log(limit=2)
    assert [(one.who, one.what) for one in latest] == [("ada", "logout"), ("sue", "away")]
    rest = await store.audit_log(before=latest[-1].number)
    assert [one.what for one in rest] == ["logout", "listen"]
    assert [one.who for one in await store.audit_log(whom="sue")] == ["ada"]
    assert len(await store.audit_log(who="sue")) == 3
