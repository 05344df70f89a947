"""The tutorial is true: its files and commands, done one after the other, print what it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cti import cli

PAGE = (Path(__file__).parents[2] / "docs/tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PROMPT = "$ hotline "
SKIPPED = "…"


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOTLINE_CONFIG", raising=False)
    (tmp_path / "flows").mkdir()
    return tmp_path


def test_what_the_page_shows_is_what_happens(empty: Path) -> None:
    for language, block in BLOCKS:
        if language == "yaml":
            name = block.splitlines()[0].removeprefix("# ")
            (empty / name).write_text(block, encoding="utf-8")
        elif language == "console":
            for session in block.split(PROMPT)[1:]:
                _same(session)
    assert (empty / "main.svg").read_text(encoding="utf-8").startswith("<svg")


def _same(session: str) -> None:
    """Run a command with the lines that are typed; its output must be the one shown."""
    command, _, shown = session.partition("\n")
    typed = "".join(line[2:] + "\n" for line in shown.splitlines() if line.startswith("> "))
    result = CliRunner().invoke(cli.app, shlex.split(command), input=typed)
    assert result.exit_code == 0, result.output
    lines = _timeless(result.output)
    wanted = _timeless(shown)
    if SKIPPED in wanted:
        first, last = wanted.index(SKIPPED), wanted.index(SKIPPED) + 1 - len(wanted)
        lines = [*lines[:first], SKIPPED, *lines[last:]]
    assert lines == wanted, command


def _timeless(output: str) -> list[str]:
    """The lines of an output, without the time that it took."""
    return re.sub(r" in \d+\.\d s$", "", output.strip(), flags=re.MULTILINE).splitlines()


def test_each_command_that_takes_a_pbx_or_a_voice_is_there() -> None:
    program = typer.main.get_command(cli.app)
    shell = [block for language, block in BLOCKS if language == "sh"]
    lines = [line for block in shell for line in block.splitlines()]
    assert len(lines) >= 4
    for line in lines:
        name, *words = shlex.split(line)
        assert name == "hotline"
        _parses(program, words)


def _parses(command: Any, words: list[str]) -> None:
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)
