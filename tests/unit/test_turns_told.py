"""How turns went stands in the timeline, and a replay runs as if it did not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ivr.errors import StoreError
from ivr.flow import loader
from ivr.flow.events import DigitsPressed, Started
from ivr.replay import replay
from ivr.store.repo import Store
from tests.unit.test_runner import FLOW, World

TURN = {"turn": 1, "node": "main", "prompt_started": 0.02, "prompt_cut": 1.3, "decided": 1.3}


@pytest_asyncio.fixture(loop_scope="session")
async def world(tmp_path: Path) -> AsyncIterator[World]:
    (tmp_path / "main.yaml").write_text(FLOW)
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")
    made = World(store, tmp_path)
    await made.library.publish(tmp_path, "main")
    await made.runner.begin(made.phone(), Started("voice", "+14155550123", "100"))
    yield made
    await store.close()


async def test_a_turn_is_written_beside_its_event_and_replays_as_before(world: World) -> None:
    await world.runner.report("c1", DigitsPressed("1", 1))
    await world.runner.measured("c1", TURN)
    await world.runner.report("c1", DigitsPressed("12345678", 2))
    entries = await world.store.timeline("c1")
    assert [entry.body for entry in entries if entry.kind == "turn"] == [TURN]
    bundle = loader.load({"main.yaml": FLOW}, "main")
    with_turns = replay(bundle, entries, entries[0].at)
    assert with_turns.divergence is None and not with_turns.stopped
    others = [entry for entry in entries if entry.kind != "turn"]
    assert replay(bundle, others, entries[0].at) == with_turns


async def test_a_turn_that_cannot_be_written_costs_nothing_but_itself(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(entries: object) -> None:
        raise StoreError("away")

    monkeypatch.setattr(world.store, "append", away)
    await world.runner.measured("c1", TURN)
    await world.runner.report("c1", DigitsPressed("1", 1))
    assert "pressed" in [entry.kind for entry in await world.store.timeline("c1")]
