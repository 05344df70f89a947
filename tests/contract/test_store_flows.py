"""What the store promises about published flows, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ivr.errors import HotlineError
from ivr.model import (
    Address,
    Channel,
    Conversation,
    ConversationStatus,
    Leg,
    Lineup,
    Release,
    Rollout,
)
from ivr.store.repo import Store

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


async def published(store: Store, *versions: str, flow: str = "main") -> None:
    for number, version in enumerate(versions):
        at = NOON + timedelta(seconds=number)
        await store.save_flow(version, flow, {f"{flow}.yaml": version}, at)
        await store.publish(Release(flow, version, at, "ann", f"note {version}"))


async def answers(store: Store, flow: str = "main") -> str | None:
    lineup = await store.lineup(flow)
    return lineup.version if lineup else None


async def test_nothing_answers_before_the_first_release(store: Store) -> None:
    assert await store.lineup("main") is None
    assert await store.releases() == []
    assert await store.roll_back("main", NOON, "ann") is None


async def test_the_newest_release_answers_and_all_are_remembered(store: Store) -> None:
    await published(store, "a", "b")
    await published(store, "x", flow="other")
    assert await store.lineup("main") == Lineup("b")
    assert await store.releases("main") == [
        Release("main", "b", NOON + timedelta(seconds=1), "ann", "note b"),
        Release("main", "a", NOON, "ann", "note a"),
    ]
    assert [release.version for release in await store.releases()] == ["x", "b", "a"]


async def test_publishing_what_answers_already_changes_nothing(store: Store) -> None:
    await published(store, "a")
    assert not await store.publish(Release("main", "a", NOON))
    assert len(await store.releases("main")) == 1


async def test_only_what_was_kept_can_be_published(store: Store) -> None:
    with pytest.raises(HotlineError):
        await store.publish(Release("main", "unknown", NOON))


async def test_rolling_back_goes_one_release_further_each_time(store: Store) -> None:
    await published(store, "a", "b", "c")
    assert await store.roll_back("main", NOON, "bob") == "b" == await answers(store)
    assert await store.roll_back("main", NOON, "bob") == "a" == await answers(store)
    assert await store.roll_back("main", NOON, "bob") is None
    assert await answers(store) == "a"
    newest = (await store.releases("main"))[0]
    assert (newest.version, newest.withdrawn_at, newest.withdrawn_by) == ("c", NOON, "bob")


async def test_what_was_rolled_back_can_be_published_again(store: Store) -> None:
    await published(store, "a", "b")
    await store.roll_back("main", NOON, "bob")
    assert await store.publish(Release("main", "b", NOON))
    assert await answers(store) == "b"
    assert await store.roll_back("main", NOON, "bob") == "a"


async def test_other_flows_are_not_rolled_back(store: Store) -> None:
    await published(store, "x", flow="other")
    await published(store, "a", "b")
    await store.roll_back("main", NOON, "bob")
    assert await answers(store, "other") == "x"


async def test_a_held_release_answers_nobody(store: Store) -> None:
    await published(store, "a")
    await store.save_flow("b", "main", {}, NOON)
    assert await store.publish(Release("main", "b", NOON, held=True))
    assert await store.lineup("main") == Lineup("a")
    assert await store.publish(Release("main", "b", NOON))
    assert await store.lineup("main") == Lineup("b")


async def test_a_rollout_leaves_the_others_where_they_were(store: Store) -> None:
    await published(store, "a", "b")
    rollout = Rollout("main", "b", NOON, 12.5, ("+14155550123",), "ann")
    await store.roll_out(rollout)
    assert await store.lineup("main") == Lineup("a", rollout)
    more = replace(rollout, percent=50.0)
    await store.roll_out(more)
    assert await store.lineup("main") == Lineup("a", more)


async def test_an_older_version_can_be_rolled_out_too(store: Store) -> None:
    await published(store, "a", "b")
    rollout = Rollout("main", "a", NOON, 10.0)
    await store.roll_out(rollout)
    assert await store.lineup("main") == Lineup("b", rollout)
    assert await store.roll_back("main", NOON, "bob") == "b"
    assert await store.lineup("main") == Lineup("b")


async def test_rolling_back_ends_a_rollout(store: Store) -> None:
    await published(store, "a", "b")
    await store.roll_out(Rollout("main", "b", NOON, 50.0))
    assert await store.roll_back("main", NOON, "bob") == "a"
    assert await store.lineup("main") == Lineup("a")


async def test_publishing_ends_a_rollout(store: Store) -> None:
    await published(store, "a", "b")
    await store.roll_out(Rollout("main", "b", NOON, 50.0))
    assert await store.publish(Release("main", "b", NOON))
    assert await store.lineup("main") == Lineup("b")


async def test_a_rollout_of_the_only_version_is_for_everyone(store: Store) -> None:
    await published(store, "a")
    await store.roll_out(Rollout("main", "a", NOON, 50.0))
    assert await store.lineup("main") == Lineup("a")


async def test_a_version_is_found_by_its_beginning(store: Store) -> None:
    await published(store, "abc1", "abd2")
    assert await store.flow_versions("abc") == [("abc1", "main")]
    assert await store.flow_versions("ab") == [("abc1", "main"), ("abd2", "main")]
    assert await store.flow_versions("%") == []


async def test_a_conversation_is_found_by_its_beginning(store: Store) -> None:
    for key in ("abc_1", "abcd2"):
        conversation = Conversation(key, "main", "v", ConversationStatus.FLOW, NOON)
        leg = Leg(f"leg-{key}", key, Address(Channel.VOICE, ""), NOON)
        await store.start_conversation(conversation, leg)
    assert await store.conversation_ids("abc_") == ["abc_1"]
    assert await store.conversation_ids("ab") == ["abc_1", "abcd2"]
