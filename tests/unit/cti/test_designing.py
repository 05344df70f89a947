"""The designer's commands as they are typed: what they print, write and exit with."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from cti import cli
from ivr.errors import HotlineError
from tests.unit.flow.dialogues import WATER

GOOD = """\
flow: water
tests:
  - name: greets
    channels: [voice, sms]
    steps:
      - hears: Welcome
"""
BAD = """\
flow: water
tests:
  - name: greets badly
    steps:
      - hears: Goodbye
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "water.yaml").write_text(WATER, encoding="utf-8")
    (tmp_path / "water.test.yaml").write_text(GOOD, encoding="utf-8")
    return tmp_path


def hotline(*words: object, typed: str = "") -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words], input=typed)


def refused(*words: object) -> str:
    """The one line in which a command says why not."""
    result = hotline(*words)
    assert result.exit_code == 1 and isinstance(result.exception, HotlineError)
    line = str(result.exception)
    assert "\n" not in line
    return line


# --- hotline test -------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["", "water.yaml", "water.test.yaml"])
def test_tests_pass(folder: Path, what: str) -> None:
    result = hotline("test", folder / what if what else folder)
    assert result.exit_code == 0
    assert "greets (voice)" in result.output
    assert "greets (sms)" in result.output
    assert "2 passed, 0 failed" in result.output


def test_a_failure_names_file_and_line_and_exits_with_1(folder: Path) -> None:
    (folder / "bad.test.yaml").write_text(BAD, encoding="utf-8")
    result = hotline("test", folder)
    assert result.exit_code == 1
    assert f"FAIL  {folder / 'bad.test.yaml'}:5: greets badly (voice)" in result.output
    assert "expected  to hear 'Goodbye'" in result.output
    assert "last said Say billing" in result.output


def test_json_is_one_object_a_line(folder: Path) -> None:
    (folder / "bad.test.yaml").write_text(BAD, encoding="utf-8")
    result = hotline("test", folder, "--json", "--cover")
    shown = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["ok"] for one in shown if "ok" in one] == [False, True, True]
    assert shown[0]["line"] == 5
    assert shown[-1]["flow"] == "water"


def test_junit_is_written(folder: Path) -> None:
    (folder / "worse.test.yaml").write_text(
        "flow: nowhere\ntests: [{name: x, steps: [{hears: a}]}]"
    )
    assert hotline("test", folder, "--junit", folder / "out.xml").exit_code == 1
    suites = ElementTree.parse(folder / "out.xml").getroot()
    assert [suite.get("errors") for suite in suites] == ["0", "1"]


def test_too_little_coverage_fails(folder: Path) -> None:
    result = hotline("test", folder, "--fail-under", "10")
    assert result.exit_code == 1
    assert "exit billing to account is never taken" in result.output
    assert "(under 10 %)" in result.output
    assert hotline("test", folder, "--cover").exit_code == 0


def test_nothing_to_test_is_no_success(tmp_path: Path) -> None:
    result = hotline("test", tmp_path)
    assert result.exit_code == 1
    assert f"there is no *.test.yaml in {tmp_path}" in result.output
    flow = tmp_path / "water.yaml"
    flow.write_text(WATER, encoding="utf-8")
    untested = refused("test", flow)
    assert f"{flow} has no tests beside it" in untested
    assert f"--record {tmp_path / 'water.test.yaml'}" in untested
    for absent in ("absent", "absent.yaml", "absent.test.yaml"):
        assert f"{absent}: no such file or folder" in refused("test", tmp_path / absent)


def test_a_broken_flow_stops_its_own_tests_only(folder: Path) -> None:
    (folder / "broken.yaml").write_text("flow: broken\nstart: a\nnodes: {a: {say: hi, then: b}}\n")
    assert hotline("test", folder).exit_code == 0
    (folder / "broken.test.yaml").write_text(GOOD.replace("flow: water", "flow: broken"))
    result = hotline("test", folder)
    assert result.exit_code == 1
    assert f"{folder / 'broken.yaml'}:3:" in result.output
    assert "E101" in result.output
    assert "2 passed, 0 failed, 1 errors in files" in result.output


def test_a_test_of_no_flow_is_told_at_its_line(folder: Path) -> None:
    path = folder / "lost.test.yaml"
    path.write_text(GOOD.replace("flow: water", "flow: wine"), encoding="utf-8")
    result = hotline("test", path)
    assert result.exit_code == 1
    assert f"{path}:1:1: E103 there is no flow 'wine'" in result.output


def test_bytes_that_are_no_text_are_told(folder: Path) -> None:
    (folder / "x.test.yaml").write_bytes(b"\xff\xfe\x00")
    result = hotline("test", folder)
    assert result.exit_code == 1
    assert "E001 cannot be read" in result.output


# --- hotline simulate ---------------------------------------------------------------------------


def test_lines_may_be_piped_in(folder: Path) -> None:
    result = hotline("simulate", folder / "water.yaml", typed="billing\n/press 12\n/hangup\n")
    assert result.exit_code == 0
    assert "< Welcome to Acme Water." in result.output
    assert "> billing" in result.output
    assert "* the conversation is over (hung_up)" in result.output


def test_sms_in_chinese(folder: Path) -> None:
    flags = ("--channel", "sms", "--language", "zh")
    result = hotline("simulate", folder / "water.yaml", *flags, typed="2\n")
    assert "1 账单" in result.output


def test_a_recording_is_a_test_and_overwrites_nothing(folder: Path) -> None:
    record = folder / "new.test.yaml"
    typed = "/press 1\n/press 12345678\n/fetch 500\n/nobody\n"
    assert (
        hotline("simulate", folder / "water.yaml", "--record", record, typed=typed).exit_code == 0
    )
    assert hotline("test", record).exit_code == 0
    again = hotline("simulate", folder / "water.yaml", "--record", record, typed=typed)
    assert isinstance(again.exception, HotlineError)
    assert "exists already" in str(again.exception)


@pytest.mark.parametrize("words", [("absent.yaml",), ("water.yaml", "--language", "fr")])
def test_what_cannot_be_simulated_is_told_in_a_line(folder: Path, words: tuple[str, ...]) -> None:
    result = hotline("simulate", folder / words[0], *words[1:])
    assert isinstance(result.exception, HotlineError)
    assert "\n" not in str(result.exception)


def test_a_flow_that_is_not_there_is_told_with_those_that_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOTLINE_CONFIG", raising=False)
    monkeypatch.setenv("HOTLINE_FLOWS_DIR", str(folder))
    for command in ("simulate", "graph"):
        assert "no such file" in refused(command, folder / "absent.yaml")
        assert "no flow 'wine'; the folder has: water" in refused(command, "wine")
        assert hotline(command, folder).exit_code == 0
    (folder / "wine.yaml").write_text(WATER.replace("flow: water", "flow: wine"), encoding="utf-8")
    told = refused("graph", folder)
    assert f"name one flow of this folder: {folder / 'water.yaml'}, {folder / 'wine.yaml'}" in told
    monkeypatch.setenv("HOTLINE_FLOWS_DIR", str(folder / "none"))
    assert f"there are no flow files in {folder / 'none'}" in refused("graph", "wine")


# --- help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["test", "simulate", "graph", "lint", "replay"])
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    result = hotline(command, "--help")
    assert result.exit_code == 0
    assert f"Example: hotline {command}" in result.output
