"""`hotline flows …` and `hotline replay` as they are typed: what they print and exit with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from cti import publishing, replaying
from ivr.errors import HotlineError
from ivr.flow.events import DigitsPressed, Started
from ivr.flow.schema import Bundle
from ivr.store.repo import Store
from tests.unit.test_runner import FLOW, World

TESTS = """
flow: main
tests:
  - name: a caller is greeted
    steps:
      - hears: Welcome
"""

app = typer.Typer()
app.add_typer(publishing.flows_app, name="flows")
app.command()(replaying.replay)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Flows, a database, and prompts that need no voice."""
    flows = tmp_path / "flows"
    flows.mkdir()
    (flows / "main.yaml").write_text(FLOW)
    (flows / "main.test.yaml").write_text(TESTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOTLINE_STATE_DIR", str(tmp_path / "var"))
    monkeypatch.delenv("HOTLINE_CONFIG", raising=False)

    async def speak(settings: object, bundle: Bundle) -> None:
        spoken.append(bundle.version)

    spoken: list[str] = []
    monkeypatch.setattr(publishing, "speak", speak)
    monkeypatch.setattr(publishing, "_who", lambda: "ann")
    return flows


def hotline(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def done(*words: object) -> str:
    result = hotline(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def refused(*words: object) -> str:
    """The one line in which a command says why not."""
    result = hotline(*words)
    assert result.exit_code == 1
    assert isinstance(result.exception, HotlineError)
    line = str(result.exception)
    assert "\n" not in line
    return line


def versions() -> list[str]:
    listed = hotline("flows", "list", "--json")
    assert listed.exit_code == 0
    return [json.loads(line)["version"] for line in listed.stdout.splitlines()]


def states() -> list[str]:
    return [json.loads(line)["state"] for line in done("flows", "list", "--json").splitlines()]


def publish(folder: Path, greeting: str, *options: str) -> str:
    (folder / "main.yaml").write_text(FLOW.replace("Welcome.", f"Welcome. {greeting}"))
    done("flows", "publish", *options)
    return versions()[0]


def stored(work: Callable[[Store], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        store = await Store.open(f"sqlite:///{Path('var').absolute() / 'hotline.db'}")
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


# --- publish --------------------------------------------------------------------------------------


def test_a_flow_is_published_with_a_note(folder: Path) -> None:
    output = done("flows", "publish", "--note", "new hours")
    assert "1 tests passed" in output
    [version] = versions()
    assert f"main {version[:12]} answers from now on" in output
    [line] = done("flows", "list", "--json").splitlines()
    told = json.loads(line)
    assert (told["flow"], told["who"], told["note"], told["state"]) == (
        "main",
        "ann",
        "new hours",
        "answers",
    )


def test_publishing_the_same_again_is_no_news(folder: Path) -> None:
    done("flows", "publish")
    assert "answers already" in done("flows", "publish", "main")
    assert len(versions()) == 1


def test_a_lint_error_stops_it(folder: Path) -> None:
    (folder / "main.yaml").write_text(FLOW + "  lost: {end: Lost.}\n")
    result = hotline("flows", "publish")
    assert result.exit_code == 1
    assert "E201" in result.output
    assert "main is not published: 1 errors to mend" in str(result.exception)
    assert versions() == []


def test_a_failed_test_stops_it_unless_tests_are_skipped(folder: Path) -> None:
    (folder / "main.test.yaml").write_text(TESTS.replace("Welcome", "Goodbye"))
    result = hotline("flows", "publish")
    assert result.exit_code == 1
    assert "FAIL" in result.output and "Goodbye" in result.output
    assert versions() == []
    assert "warning: published without running its tests" in done("flows", "publish", "--no-tests")
    assert len(versions()) == 1


def test_a_flow_without_tests_is_published_with_a_warning(folder: Path) -> None:
    (folder / "main.test.yaml").unlink()
    assert "warning: main has no tests" in done("flows", "publish")


def test_an_unknown_flow_is_one_line_with_what_there_is(folder: Path) -> None:
    assert "the folder has: main" in refused("flows", "publish", "night")


def test_the_first_version_cannot_be_held(folder: Path) -> None:
    assert "publish it without --hold first" in refused("flows", "publish", "--hold")


# --- show -----------------------------------------------------------------------------------------


def test_a_version_is_shown_by_its_beginning_and_by_its_flow(folder: Path) -> None:
    first, second = publish(folder, "One."), publish(folder, "Two.")
    assert f"main {first}" in done("flows", "show", first[:8])
    assert f"main {second}" in done("flows", "show", "main")
    text = done("flows", "show", first[:10], "--text")
    assert "One." in text and "Two." not in text
    told = json.loads(done("flows", "show", second, "--json"))
    assert (told["version"], told["files"]) == (second, ["flows/main.yaml"])


@pytest.mark.parametrize("what", ["night", "0123456", "0123456789abcdef", "%", "ABCDEF0123"])
def test_what_is_unknown_is_told_with_what_there_is(folder: Path, what: str) -> None:
    version = publish(folder, "One.")
    assert f"there are: main {version[:12]}" in refused("flows", "show", what)


# --- rollback -------------------------------------------------------------------------------------


def test_rolling_back_goes_further_each_time(folder: Path) -> None:
    first, second, _ = (publish(folder, text) for text in ("One.", "Two.", "Three."))
    assert f"main {second[:12]} answers everyone" in done("flows", "rollback", "main")
    assert states() == ["rolled back", "answers", "earlier"]
    assert f"main {first[:12]} answers everyone" in done("flows", "rollback", "main")
    assert "no other version of main" in refused("flows", "rollback", "main")
    assert states() == ["rolled back", "rolled back", "answers"]


def test_rolling_back_an_unknown_flow_tells_which_there_are(folder: Path) -> None:
    assert "no flow 'night' was published; there are: none" in refused("flows", "rollback", "night")
    publish(folder, "One.")
    assert "there are: main" in refused("flows", "rollback", "night")


# --- rollout --------------------------------------------------------------------------------------


def test_a_held_version_goes_to_some_then_to_all(folder: Path) -> None:
    first = publish(folder, "One.")
    second = publish(folder, "Two.", "--hold")
    assert states() == ["held", "answers"]
    output = done("flows", "rollout", "main", second[:8], "--percent", "12.5")
    assert f"{second[:12]} answers some (rollout: 12.5 %), {first[:12]} the others" in output
    assert states() == ["rollout: 12.5 %", "answers"]
    done("flows", "rollout", "main", second[:8], "--percent", "100")
    assert states() == ["answers", "held", "earlier"]


def test_test_numbers_are_understood_as_the_telephone_does(folder: Path) -> None:
    publish(folder, "One.")
    second = publish(folder, "Two.")
    done("flows", "rollout", "main", second, "--numbers", "+14155550123, (415) 555-0124")
    rollout = stored(lambda store: store.lineup("main")).rollout
    assert rollout.numbers == ("+14155550123", "+14155550124")
    assert states() == ["rollout: 2 numbers", "answers"]
    done("flows", "rollback", "main")
    assert states() == ["rolled back", "answers"]


def test_a_version_that_was_rolled_back_can_be_tried_on_some(folder: Path) -> None:
    publish(folder, "One.")
    second = publish(folder, "Two.")
    done("flows", "rollback", "main")
    done("flows", "rollout", "main", second, "--percent", "1")
    assert states() == ["rollout: 1 %", "answers"]


def test_a_rollout_that_makes_no_sense_is_refused(folder: Path) -> None:
    only = publish(folder, "One.")
    assert "say who gets it" in refused("flows", "rollout", "main", only)
    assert "is all there is of main" in refused("flows", "rollout", "main", only, "--percent", "5")
    assert "no published version of main" in refused(
        "flows", "rollout", "main", "0123456789", "--percent", "5"
    )
    assert "there are: main" in refused("flows", "rollout", "night", only, "--percent", "5")
    assert hotline("flows", "rollout", "main", only, "--percent", "101").exit_code == 2


def test_where_nothing_was_published_yet_the_list_says_so(folder: Path) -> None:
    assert "nothing was published yet" in done("flows", "list")
    assert versions() == []


# --- replay ---------------------------------------------------------------------------------------


@pytest.fixture
def conversation(folder: Path) -> str:
    """One call that was had with the flow; its id."""

    async def work(store: Store) -> None:
        world = World(store, folder)
        await world.call()
        for digits in ("1", "4711", "8265"):
            await world.runner.report("c1", DigitsPressed(digits))
        await world.runner.close()
        other = world.phone("c-other", "l-other")
        await world.runner.begin(other, Started("voice"))
        await world.runner.close()

    Path("var").mkdir()
    stored(work)
    return "c1"


def test_without_a_database_there_is_nothing_to_replay_and_none_is_made(folder: Path) -> None:
    assert "there is no database" in refused("replay", "c1")
    assert not Path("var").exists()


def test_a_replay_prints_the_dialogue_and_that_nothing_differs(conversation: str) -> None:
    output = done("replay", conversation)
    assert "< Welcome." in output
    assert "> pressed [secret]" in output
    assert "8265" not in output
    assert output.rstrip().endswith("no divergence, as far as the record goes")


def test_a_replay_against_a_changed_file_prints_both_sides(conversation: str, folder: Path) -> None:
    changed = folder.parent / "changed" / "main.yaml"
    changed.parent.mkdir()
    changed.write_text(FLOW.replace("Your PIN?", "Your secret?"))
    for against in (changed, changed.parent):
        result = hotline("replay", conversation, "--against", against)
        assert result.exit_code == 1
        assert "divergence at pin, after: pressed 4711" in result.output
        assert 'then  said "Your PIN?" (en)' in result.output
        assert 'now   said "Your secret?" (en)' in result.output
    told = json.loads(hotline("replay", conversation, "--against", changed, "--json").output)
    assert told["divergence"]["node"] == "pin"
    assert told["version"] != told["against"]


def test_a_replay_against_a_published_version(conversation: str, folder: Path) -> None:
    version = publish(folder, "One.")
    result = hotline("replay", conversation, "--against", version[:8])
    assert result.exit_code == 1
    assert "Welcome. One." in result.output


def test_what_cannot_be_replayed_is_one_line_with_what_there_is(
    conversation: str, folder: Path
) -> None:
    assert "the latest are: c-other, c1" in refused("replay", "x")
    assert "several conversations begin with 'c'" in refused("replay", "c")
    assert "no such flow file" in refused("replay", "c1", "--against", folder / "none.yaml")
    assert "there are: main" in refused("replay", "c1", "--against", "0123456789")
    assert done("replay", "c-o")
