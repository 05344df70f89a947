"""What the store promises about recordings, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ivr.model import Recording
from ivr.store.repo import Store

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
FIRST = Recording("r1", "c1", "leg", "call", "here", NOON)


async def begun(store: Store, *recordings: Recording) -> None:
    for recording in recordings:
        await store.begin_recording(recording)


async def test_a_recording_is_open_until_it_is_finished(store: Store) -> None:
    await begun(store, FIRST)
    assert await store.recording("r1") == FIRST
    assert await store.recordings_in("here", "open") == [FIRST]
    large = 5 * 2**32
    await store.finish_recording("r1", "kept", 2.5, large, "ab" * 32)
    kept = replace(FIRST, state="kept", seconds=2.5, size=large, sha256="ab" * 32)
    assert await store.recording("r1") == kept
    assert await store.recordings_in("here", "open") == []
    assert await store.recorded_bytes("here") == large
    assert await store.recorded_bytes("there") == 0


async def test_one_that_begins_again_takes_the_place_of_the_first(store: Store) -> None:
    await begun(store, FIRST)
    await store.finish_recording("r1", "kept", 2.5, 100, "ab" * 32)
    again = replace(FIRST, started_at=NOON + timedelta(minutes=1))
    await begun(store, again)
    assert await store.recordings("c1") == [again]


async def test_those_of_a_conversation_come_in_order(store: Store) -> None:
    later = replace(FIRST, id="r0", started_at=NOON + timedelta(seconds=1))
    await begun(store, later, FIRST, replace(FIRST, id="r9", conversation_id="c2"))
    assert [one.id for one in await store.recordings("c1")] == ["r1", "r0"]
    assert await store.recording("nowhere") is None


async def test_what_is_old_and_finished_in_one_folder_is_found_and_forgotten(store: Store) -> None:
    await begun(
        store,
        FIRST,
        replace(FIRST, id="r2", state="kept"),
        replace(FIRST, id="r3", state="lost"),
        replace(FIRST, id="r4", state="kept", place="there"),
        replace(FIRST, id="r5", state="kept", started_at=NOON + timedelta(hours=1)),
    )
    before = NOON + timedelta(minutes=1)
    assert [one.id for one in await store.recordings_before("here", before, 9)] == ["r2", "r3"]
    assert [one.id for one in await store.recordings_before("here", before, 1)] == ["r2"]
    await store.forget_recordings(["r2", "r3", "gone"])
    assert [one.id for one in await store.recordings("c1")] == ["r1", "r4", "r5"]
