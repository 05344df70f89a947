"""The last call from a number, as who rings again may go on with it, on either database."""

from __future__ import annotations

from dataclasses import replace

from ivr.model import Address, Channel
from ivr.store.repo import Store
from tests.contract.test_store import ANN, conversation, later, leg


async def call(store: Store, key: str, seconds: float, **changes: object) -> None:
    """A call that begins then, and ends a minute later."""
    made = replace(leg(f"l-{key}", key), started_at=later(seconds), **changes)  # type: ignore[arg-type]
    await store.start_conversation(conversation(key, later(seconds)), made)
    await store.end_leg(made.id, later(seconds + 60), "hung_up")


async def test_the_last_call_counts(store: Store) -> None:
    assert await store.last_call(ANN, "100") is None
    await call(store, "c1", 0)
    await call(store, "c2", 100)
    found = await store.last_call(ANN, "100")
    assert found is not None
    last, ended = found
    assert (last.id, ended.id, ended.ended_at) == ("c2", "l-c2", later(160))


async def test_a_call_that_goes_on_is_not_over(store: Store) -> None:
    await call(store, "c1", 0)
    going_on = replace(leg("l2", "c2"), started_at=later(100))
    await store.start_conversation(conversation("c2", later(100)), going_on)
    assert await store.last_call(ANN, "100") is None


async def test_other_callers_numbers_and_channels_are_others(store: Store) -> None:
    await call(store, "c1", 0)
    assert await store.last_call(Address(Channel.VOICE, "+14155550199"), "100") is None
    assert await store.last_call(Address(Channel.SMS, ANN.value), "100") is None
    assert await store.last_call(ANN, "200") is None


async def test_a_withheld_number_has_no_last_call(store: Store) -> None:
    nobody = Address(Channel.VOICE, "anonymous")
    await call(store, "c1", 0, peer=nobody)
    assert await store.last_call(nobody, "100") is None
