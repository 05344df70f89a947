"""Which version answers: what was published, what is rolled out to whom, what files say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from ivr import library as flows
from ivr.errors import SettingsError, StoreError
from ivr.flow import loader
from ivr.flow.events import DigitsPressed, Started
from ivr.flow.schema import Bundle
from ivr.library import Library, read_folder, release, takes
from ivr.model import Release, Rollout
from ivr.store.repo import Store
from tests.unit.test_runner import FLOW, World
from tests.virtual import EPOCH

OTHER = FLOW.replace("Welcome.", "Hello.")
CALLERS = [f"+1415555{number:04}" for number in range(2_000)]


@pytest_asyncio.fixture(loop_scope="session")
async def world(tmp_path: Path) -> AsyncIterator[World]:
    (tmp_path / "main.yaml").write_text(FLOW)
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")
    yield World(store, tmp_path)
    await store.close()


async def publish(world: World, text: str) -> Bundle:
    """As `hotline flows publish` does it, in another process."""
    (world.folder / "main.yaml").write_text(text)
    bundle = read_folder(world.folder, "main")
    await release(world.store, bundle, world.clock, who="ann")
    return bundle


async def opened(world: World, *, republish: bool = False) -> Bundle:
    world.restart()
    return await world.library.open(world.folder, "main", republish=republish)


# --- at start -------------------------------------------------------------------------------------


async def test_the_folders_flow_is_published_where_nothing_was(world: World) -> None:
    bundle = await opened(world)
    assert world.library.current is bundle
    [first] = await world.store.releases("main")
    assert first.version == bundle.version


async def test_what_was_published_answers_whatever_the_files_say(world: World) -> None:
    first = await opened(world)
    (world.folder / "main.yaml").write_text(OTHER)
    with capture_logs() as logs:
        again = await opened(world)
    assert again.version == first.version
    [told] = logs
    assert "the flow files are not what answers" in told["event"]
    assert told["answers"] == first.version[:12]


async def test_files_that_are_broken_do_not_keep_a_server_from_starting(world: World) -> None:
    first = await opened(world)
    (world.folder / "main.yaml").write_text("flow: [")
    assert (await opened(world)).version == first.version


async def test_a_designers_changed_file_answers_after_a_restart(world: World) -> None:
    first = await opened(world, republish=True)
    (world.folder / "main.yaml").write_text(OTHER)
    second = await opened(world, republish=True)
    assert second.version != first.version
    assert len(await world.store.releases("main")) == 2
    await opened(world, republish=True)
    assert len(await world.store.releases("main")) == 2


async def test_what_was_rolled_back_stays_so_until_the_file_changes(world: World) -> None:
    first = await opened(world, republish=True)
    await publish(world, OTHER)
    await world.store.roll_back("main", EPOCH, "ann")
    assert (await opened(world, republish=True)).version == first.version


async def test_no_flow_of_that_name_is_one_line_that_says_which_there_are(world: World) -> None:
    with pytest.raises(SettingsError, match="no flow 'night'; the folder has: main"):
        await Library(world.store, world.clock).open(world.folder, "night", republish=False)


# --- while running --------------------------------------------------------------------------------


async def test_a_new_conversation_gets_what_was_published_meanwhile(world: World) -> None:
    await opened(world)
    assert await world.library.refresh("main") is None
    second = await publish(world, OTHER)
    newest = await world.library.refresh("main")
    assert newest is not None and newest.version == second.version
    phone = world.phone()
    await world.runner.begin(phone, Started("voice"))
    assert phone.said[0] == "Hello."


async def test_a_conversation_stays_on_its_version_also_across_a_restart(world: World) -> None:
    first = await opened(world)
    await world.runner.begin(world.phone(), Started("voice"))
    await publish(world, FLOW.replace("Your account?", "Your number?"))
    await world.library.refresh("main")
    await opened(world)
    again = world.phone(leg_id="l2")
    assert await world.runner.resume(again)
    await world.runner.report("c1", DigitsPressed("1"))
    assert again.said[-1] == "Your account?"
    stored = await world.store.conversation("c1")
    assert stored is not None and stored.version == first.version


async def test_rolling_back_is_followed_too(world: World) -> None:
    first = await opened(world)
    await publish(world, OTHER)
    await world.library.refresh("main")
    await world.store.roll_back("main", EPOCH, "ann")
    await world.library.refresh("main")
    assert world.library.current.version == first.version


async def test_a_published_flow_that_does_not_load_is_told_once(world: World) -> None:
    first = await opened(world)
    await world.store.save_flow("bad", "main", {"main.yaml": "flow: ["}, EPOCH)
    await world.store.publish(Release("main", "bad", EPOCH))
    with capture_logs() as logs:
        assert await world.library.refresh("main") is None
        assert await world.library.refresh("main") is None
    assert [entry["event"] for entry in logs] == ["the published flow cannot be used"]
    assert world.library.current.version == first.version


async def test_a_database_that_is_away_is_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opened(world)
    monkeypatch.setattr(flows, "FOLLOW_SECONDS", 0)
    real, asked = world.store.lineup, 0

    async def away(flow: str) -> object:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise StoreError("the database is away")
        return await real(flow)

    monkeypatch.setattr(world.store, "lineup", away)
    second = await publish(world, OTHER)

    class Seen(Exception):
        pass

    def changed(bundle: Bundle) -> None:
        assert bundle.version == second.version
        raise Seen

    with pytest.raises(Seen):
        await world.library.follow("main", changed)


def test_a_change_is_seen_within_two_seconds() -> None:
    assert flows.FOLLOW_SECONDS <= 1.5


# --- rollouts -------------------------------------------------------------------------------------


async def test_a_rollout_answers_its_share_and_leaves_the_rest(world: World) -> None:
    first = await opened(world)
    second = await publish(world, OTHER)
    numbers = (CALLERS[0],)
    await world.store.roll_out(Rollout("main", second.version, EPOCH, 25.0, numbers))
    await world.library.refresh("main")
    got = {caller: world.library.answers(caller).version for caller in CALLERS}
    assert set(got.values()) == {first.version, second.version}
    share = list(got.values()).count(second.version) / len(got)
    assert 0.2 < share < 0.3
    assert got[CALLERS[0]] == second.version
    assert world.library.current.version == first.version
    assert {bundle.version for bundle in world.library.answering} == set(got.values())
    await opened(world)
    assert got == {caller: world.library.answers(caller).version for caller in CALLERS}


async def test_a_caller_of_a_rollout_begins_with_its_version(world: World) -> None:
    await opened(world)
    second = await publish(world, OTHER)
    rollout = Rollout("main", second.version, EPOCH, numbers=("+14155550123",))
    await world.store.roll_out(rollout)
    await world.library.refresh("main")
    phone = world.phone()
    await world.runner.begin(phone, Started("voice", "+14155550123", "100"))
    assert phone.said[0] == "Hello."


def test_a_rollout_that_grows_keeps_those_it_had() -> None:
    few = {c for c in CALLERS if takes(Rollout("main", "v", EPOCH, 10), c)}
    more = {c for c in CALLERS if takes(Rollout("main", "v", EPOCH, 30), c)}
    assert 0 < len(few) < len(more)
    assert few < more


def test_another_version_is_tried_on_others() -> None:
    one = {c for c in CALLERS if takes(Rollout("main", "v", EPOCH, 10), c)}
    two = {c for c in CALLERS if takes(Rollout("main", "w", EPOCH, 10), c)}
    assert one != two


def test_nobody_everybody_and_those_who_withhold_their_number() -> None:
    nobody, everybody = Rollout("main", "v", EPOCH, 0), Rollout("main", "v", EPOCH, 100)
    assert not any(takes(nobody, caller) for caller in ["", *CALLERS])
    assert all(takes(everybody, caller) for caller in ["", *CALLERS])
    assert not takes(Rollout("main", "v", EPOCH, 99.9, ("",)), "")


def test_everything_fixed_can_be_spoken_beforehand() -> None:
    """Changing prompts with a hole for each value, and the engine's own sentences too."""
    text = (
        "flow: main\nlanguages: [en, zh]\nstart: bye\nslots: {name: {type: text}}\nnodes:\n"
        "  bye: {end: {en: 'Thank you, {name}. Bye.', zh: 再见。}}\n"
    )
    prompts = flows.fixed_prompts(loader.load({"main.yaml": text}, "main"))
    assert (f"Thank you, {flows.HOLE}. Bye.", "en") in prompts
    assert ("再见。", "zh") in prompts
    assert (f"I heard {flows.HOLE}. Is that right?", "en") in prompts
    assert ("这次请用按键输入。", "zh") in prompts
    assert not any("{" in text for text, _ in prompts)
