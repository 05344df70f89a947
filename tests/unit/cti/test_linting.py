"""`hotline lint`: what it reads, what it prints, and with which code it ends."""

from __future__ import annotations

import io
import json
import os
import unicodedata
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from cti import linting
from ivr.config import Settings
from ivr.errors import SettingsError
from ivr.flow import jsonschema
from ivr.wire.audio import write_wav

GOOD = """\
flow: main
start: a
nodes:
  a: {say: Hello., then: p}
  p: {queue: {}, then: b, otherwise: b}
  b: {end: Bye.}
"""
BAD = GOOD.replace("then: p}", "then: q}", 1)
TEST = "flow: main\ntests: [{name: x, steps: [{hears: Hello}]}]\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("HOTLINE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    flows = tmp_path / "flows"
    flows.mkdir()
    return flows


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(linting.lint)
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return result.exit_code, result.stdout


def test_nothing_found(folder: Path) -> None:
    (folder / "main.yaml").write_text(GOOD)
    (folder / "main.test.yaml").write_text(TEST)
    assert run("flows") == (0, "")
    assert run() == (0, ""), "without a path: the folder of the settings"
    assert run("flows/main.yaml", "flows/main.test.yaml") == (0, "")


def test_an_error_exits_with_one_and_a_warning_does_not(folder: Path) -> None:
    (folder / "main.yaml").write_text(BAD)
    code, printed = run("flows/main.yaml")
    assert code == 1
    assert printed.startswith("flows/main.yaml:4:26: E101 unknown node 'q'")
    warned = GOOD.replace("queue: {}, then: b, otherwise: b", "say: So., then: b")
    (folder / "main.yaml").write_text(warned)
    code, printed = run("flows")
    assert (code, printed.count("\n")) == (0, 1)
    assert "W305" in printed


def test_json_has_one_object_a_line(folder: Path) -> None:
    (folder / "main.yaml").write_text(BAD)
    code, printed = run("flows", "--json")
    first = json.loads(printed.splitlines()[0])
    assert code == 1
    assert (first["file"], first["line"], first["column"], first["code"]) == (
        "flows/main.yaml", 4, 26, "E101",
    )  # fmt: skip
    assert "unknown node" in first["message"]


def test_a_file_alone_is_judged_with_those_that_it_calls(folder: Path) -> None:
    calling = GOOD.replace("a: {say: Hello., then: p}", "a: {call: {flow: other}, then: p}")
    (folder / "main.yaml").write_text(calling)
    (folder / "other.yaml").write_text(BAD.replace("main", "other"))
    assert run("flows/main.yaml") == (0, "")
    code, printed = run("flows")
    assert code == 1
    assert "other.yaml" in printed


def test_a_file_that_shares_its_name_with_one_beside_it_is_judged_by_itself(folder: Path) -> None:
    (folder / "main.yaml").write_text(GOOD)
    (folder / "copy.yaml").write_text(GOOD)
    assert run("flows/main.yaml") == (0, "")
    assert "is in flows/copy.yaml already" in run("flows")[1]


def test_tests_are_read_as_tests(folder: Path) -> None:
    (folder / "main.yaml").write_text(GOOD)
    (folder / "main.test.yaml").write_text("flow: main\ntests: 5\n")
    code, printed = run("flows/main.test.yaml")
    assert code == 1
    assert printed.startswith("flows/main.test.yaml:2:8: E003 ")


def test_what_cannot_be_read_is_a_finding(folder: Path) -> None:
    (folder / "main.yaml").write_bytes(b"\xff\xfe")
    (folder / "other.yaml").write_text(BAD.replace("main", "other"))
    code, printed = run("flows")
    assert code == 1
    assert "flows/main.yaml:0:0: E001 cannot be read" in printed
    assert "flows/other.yaml:4:26: E101" in printed
    with pytest.raises(SettingsError, match=r"flows/none.yaml: no such file"):
        run("flows/none.yaml")


def test_a_folder_without_flows_is_no_success(folder: Path) -> None:
    (folder / "main.test.yaml").write_text(TEST)
    with pytest.raises(SettingsError, match=r"flows: no flow files \(\*\.yaml\) in this folder"):
        run("flows")


def test_the_schema_is_printed(folder: Path) -> None:
    code, printed = run("--schema")
    assert (code, json.loads(printed)) == (0, jsonschema.document())


# --- on a terminal --------------------------------------------------------------------------------


def shown(text: str, width: int = 80) -> list[str]:
    out = io.StringIO()
    terminal = Console(
        file=out,
        force_terminal=True,
        color_system=None,
        width=width,
        highlight=False,
        _environ={"TERM": "xterm"},  # of a dumb one rich does not believe the width
    )
    path = Path("x.yaml")
    path.write_text(text, "utf-8")
    findings, texts = linting.check([path])
    linting.report(terminal, findings, texts)
    return out.getvalue().splitlines()


def cells(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def test_a_caret_stands_under_the_place(folder: Path) -> None:
    place, line, caret = shown(BAD)[:3]
    assert place.startswith("x.yaml:4:26: E101")
    assert line == "    a: {say: Hello., then: q}"
    assert line[caret.index("^")] == "q"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_caret_counts_wide_characters_and_long_lines_are_cut(folder: Path, width: int) -> None:
    text = BAD.replace("Hello.", "欢迎致电爱美水务。" * 9)
    _, line, caret = shown(text, width)[:3]
    assert cells(line) <= width
    before = next(at for at in range(len(line)) if cells(line[:at]) == caret.index("^"))
    assert line[before:] == "q}"


def test_control_characters_do_not_reach_the_terminal(folder: Path) -> None:
    lines = shown(BAD.replace("Hello.", '"\\x1b[2J\u202e"').replace("a: {", "a: {\u202esay2: 1, "))
    assert "\u202e" not in "".join(lines)


# --- what is installed ----------------------------------------------------------------------------


def test_words_are_known_where_no_recogniser_has_a_list(tmp_path: Path) -> None:
    speech = {"engine": "none"}
    knows = linting.recogniser_knows(Settings(cache_dir=tmp_path, speech=speech))
    assert knows("en", "xyzzy")


@pytest.mark.models
def test_vosk_tells_which_words_it_knows(tmp_path: Path) -> None:
    knows = linting.recogniser_knows(Settings(cache_dir=tmp_path, speech={"engine": "vosk"}))
    assert knows("ko", "안녕")
    assert not knows("ko", "xyzzy")


def test_recordings_are_found_however_their_spaces_are_written(tmp_path: Path) -> None:
    (tmp_path / "en").mkdir()
    (tmp_path / "zh").mkdir()
    (tmp_path / "zh" / "manifest.yaml").write_text("# none yet\n")
    (tmp_path / "en" / "hello.wav").write_bytes(write_wav(b"\0\20\0\360" * 400))
    (tmp_path / "en" / "manifest.yaml").write_text('"Hello  there.": hello.wav\n')
    recorded = linting.recordings(tmp_path)
    assert list(recorded) == ["en"], "a language without any is not recorded at all"
    assert "Hello there." in recorded["en"]
    assert "Hello\nthere." in recorded["en"]
    assert "Bye." not in recorded["en"]
