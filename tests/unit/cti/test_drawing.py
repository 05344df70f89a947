"""`hotline graph` as it is typed: files by their ending, and the ways of real conversations."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from cti import cli
from cti.drawing import moment
from ivr.errors import HotlineError, SettingsError
from ivr.flow import loader
from ivr.flow.events import Started
from ivr.flow.testing.player import Player
from ivr.model import Address, Channel, Conversation, ConversationStatus, Leg, TimelineEntry
from ivr.store.repo import Store
from tests.unit.flow.dialogues import WATER

NOW = datetime.now(UTC)


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A flow file; settings without a database yet."""
    monkeypatch.setenv("HOTLINE_STATE_DIR", str(tmp_path / "var"))
    monkeypatch.delenv("HOTLINE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "water.yaml"
    path.write_text(WATER, encoding="utf-8")
    return path


def hotline(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def refused(*words: object) -> str:
    result = hotline(*words)
    assert result.exit_code == 1 and isinstance(result.exception, HotlineError)
    line = str(result.exception)
    assert "\n" not in line
    return line


async def held(store: Store, name: str, ago: timedelta, *keys: str) -> None:
    """A call in the store that pressed these keys and hung up."""
    bundle = loader.load({"water.yaml": WATER})
    player = Player(bundle, Started("voice", "+14155550123"))
    for key in keys:
        player.press(key)
    player.hang_up()
    at = NOW - ago
    await store.save_flow(bundle.version, "water", bundle.texts, at)
    conversation = Conversation(name, "water", bundle.version, ConversationStatus.ENDED, at)
    leg = Leg(f"l-{name}", name, Address(Channel.VOICE, "+14155550123"), at)
    entries = [TimelineEntry(name, at, note.kind, note.body) for note in player.notes]
    await store.start_conversation(conversation, leg, entries)


def calls_came(folder: Path) -> None:
    async def work() -> None:
        store = await Store.open(f"sqlite:///{folder / 'var' / 'hotline.db'}")
        await held(store, "c1", timedelta(hours=1), "1")
        await held(store, "c2", timedelta(days=2), "1")
        await held(store, "c3", timedelta(days=30), "2")
        await store.close()

    asyncio.run(work())


def test_drawings_are_written_by_their_ending(flow: Path) -> None:
    folder = flow.parent
    assert hotline("graph", flow).output.startswith("flowchart TD")
    assert hotline("graph", flow, "-o", folder / "a.mmd").exit_code == 0
    assert (folder / "a.mmd").read_text(encoding="utf-8").startswith("flowchart TD")
    assert hotline("graph", flow, "-o", folder / "a.svg").exit_code == 0
    ElementTree.parse(folder / "a.svg")
    assert ".svg or a .mmd" in refused("graph", flow, "-o", folder / "a.png")


def test_real_conversations_are_counted_on_the_exits_and_where_they_left(flow: Path) -> None:
    calls_came(flow.parent)
    week = hotline("graph", flow, "--since", "7d")
    assert week.exit_code == 0
    assert "2 conversations came through water since" in week.stderr
    assert "bill · 1 #40;2#41;" in week.stdout and "repairs · 2 #40;0#41;" in week.stdout
    assert "<br/>2 of 2 left here" in week.stdout
    day = (NOW - timedelta(days=40)).date()
    assert hotline("graph", flow, "-o", "a.svg", "--since", day).exit_code == 0
    shown = Path("a.svg").read_text(encoding="utf-8")
    assert "✕ 2 of 2 left here" in shown and "✕ 1 of 1 left here" in shown
    assert "1 conversation came through" in hotline("graph", flow, "--since", "2h").stderr


def test_without_a_database_it_says_so_and_makes_none(flow: Path) -> None:
    told = refused("graph", flow, "--since", "7d")
    assert f"there is no database {flow.parent / 'var' / 'hotline.db'}" in told
    assert "state_dir" in told
    assert not (flow.parent / "var").exists()


@pytest.mark.parametrize("since", ["soon", "7", "0d", "-1d", "99999d", "2026-13-01", "٣d", "7d "])
def test_what_is_no_time_is_refused_with_what_is_one(flow: Path, since: str) -> None:
    assert "write 12h, 7d, 2w, or a date like 2026-11-01" in refused(
        "graph", flow, "--since", since
    )


def test_a_time_is_a_moment_past() -> None:
    now = datetime(2026, 11, 20, tzinfo=UTC)
    with pytest.raises(SettingsError, match="still to come"):
        moment("2026-12-24", now)
    assert moment("2w", now) == now - timedelta(days=14)
    assert moment("2026-11-01T10:00:00+01:00", now) == datetime(2026, 11, 1, 9, tzinfo=UTC)
