"""`hotline lint`: every finding where it is, with the line of the file below it on a terminal."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Container, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ivr.config import Settings, load_settings
from ivr.errors import SettingsError, SpeechError
from ivr.flow import jsonschema, loader
from ivr.flow import lint as rules
from ivr.flow.inspection import Knows
from ivr.flow.lint import Finding
from ivr.flow.loader import FlowErrors
from ivr.flow.testing import script
from ivr.speech import models, recorded

TEST_SUFFIX = ".test.yaml"

_out = Console(highlight=False, soft_wrap=True)


def check(
    paths: Sequence[Path],
    *,
    knows: Knows | None = None,
    recorded: Mapping[str, Container[str]] | None = None,
) -> tuple[list[Finding], dict[str, str]]:
    """The findings in flow files, test files and folders of flows, and the texts of all files.

    A file is judged together with the flows beside it, since it may call them.
    """
    findings: list[Finding] = []
    texts: dict[str, str] = {}
    for path in paths:
        if not path.exists():
            raise SettingsError(f"{path}: no such file or folder")
    tests = [path for path in paths if path.name.endswith(TEST_SUFFIX)]
    files = [path for path in paths if path.is_file() and path not in tests]
    for folder in dict.fromkeys(
        [*(path for path in paths if path.is_dir()), *(file.parent for file in files)]
    ):
        asked = [file for file in files if file.parent == folder]
        beside = loader.flow_files(folder)
        if folder in paths and not beside:
            raise SettingsError(f"{folder}: no flow files (*.yaml) in this folder")
        found, errors = loader.read_files(dict.fromkeys([*asked, *beside]))
        texts |= found
        judged = [_finding(error) for error in errors]
        judged += rules.lint(found, knows=knows, recorded=recorded)
        wanted = {str(file) for file in (beside if folder in paths else asked)}
        findings += [finding for finding in judged if finding.file in wanted]
    for path in tests:
        found, errors = loader.read_files([path])
        texts |= found
        findings += map(_finding, errors)
        for name, text in found.items():
            try:
                script.read(text, name)
            except FlowErrors as error:
                findings += map(_finding, error.errors)
    return sorted(set(findings)), texts


def _finding(error: Any) -> Finding:
    return Finding(error.file, error.line, error.column, error.code, error.message)


# --- what the deployment knows ------------------------------------------------------------------


def recogniser_knows(settings: Settings) -> Knows:
    """Which words the installed recogniser knows. Only Vosk has a list; the others hear anything.

    A model is loaded when the first word in its language is asked for.
    """

    @cache
    def words(language: str) -> Callable[[str], bool] | None:
        model = None if settings.speech.url else models.find(settings, language)
        path = models.path_of(settings, model) if model and model.engine == "vosk" else None
        if path is None:
            return None
        from ivr.speech.vosk import VoskEngine  # a native library, for those alone who have it

        try:
            return VoskEngine(path, language).knows
        except SpeechError:
            return None  # the recogniser would not start with it either, and says so itself

    def knows(language: str, word: str) -> bool:
        known = words(language)
        if known is None or known(word):
            return True
        # Where a Chinese word ends is not written: each of its characters will do.
        return language.startswith("zh") and all(map(known, word))

    return knows


class _Recorded(Container[str]):
    """The recorded prompts of a language, however their spaces are written."""

    def __init__(self, texts: Container[str]):
        self._texts = texts

    def __contains__(self, text: object) -> bool:
        return " ".join(str(text).split()) in self._texts


def recordings(sounds: Path) -> dict[str, Container[str]]:
    """The recorded prompts of each language that has any. Raises SettingsError."""
    loaded = recorded.load(sounds)
    return {language: _Recorded(texts) for language, texts in loaded.items() if texts}


# --- the command --------------------------------------------------------------------------------


def report(
    out: Console, findings: Sequence[Finding], texts: Mapping[str, str], *, as_json: bool = False
) -> None:
    """Print findings; on a terminal each with its line of the file, and a caret at the place."""
    lines: dict[str, list[str]] = {}
    width = max(20, out.width - 4)
    for finding in findings:
        if as_json:
            shown = {
                "file": finding.file,
                "line": finding.line,
                "column": finding.column,
                "code": finding.code,
                "message": finding.message,
            }
            out.print(json.dumps(shown, ensure_ascii=False), markup=False)
            continue
        if not out.is_terminal:
            out.print(_plain(str(finding)), markup=False)
            continue
        colour = "bold red" if finding.code.startswith("E") else "bold yellow"
        place = f"{finding.file}:{finding.line}:{finding.column}: "
        out.print(Text.assemble(place, (finding.code, colour), f" {_plain(finding.message)}"))
        if finding.file not in lines:
            lines[finding.file] = texts.get(finding.file, "").splitlines()
        if 0 < finding.line <= len(lines[finding.file]):
            source, caret = pointed(lines[finding.file][finding.line - 1], finding.column, width)
            out.print(Text(f"  {source}", style="dim"))
            out.print(Text(f"  {caret}", style=colour))


def pointed(line: str, column: int, width: int) -> tuple[str, str]:
    """As much of a line as fits a terminal, and a line below it with a caret under the column.

    Chinese characters are two cells wide.
    """
    shown = _plain(line)
    cells = [_cells(char) for char in shown]
    at = max(0, min(column - 1, len(line)))
    first, last = 0, len(shown)
    if sum(cells) > width:
        first = at
        while first and sum(cells[first - 1 : at]) <= width * 2 // 3:
            first -= 1
        last = first
        while last < len(shown) and sum(cells[first : last + 1]) <= width:
            last += 1
    return shown[first:last], " " * sum(cells[first:at]) + "^"


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


def _cells(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def lint(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH...", help="flow files or folders")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, one object a line")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="print the JSON Schema of flow files, for editors")
    ] = False,
) -> None:
    """Check flow files, and print every finding as file:line:col: CODE message.

    Exits 1 when there is an error (a code with E); warnings alone (W) are let pass.

    Example: hotline lint flows/
    """
    if schema:
        text = json.dumps(jsonschema.document(), indent=2, ensure_ascii=False)
        _out.print(text, markup=False)
        return
    settings = load_settings()
    findings, texts = check(
        paths or [settings.flows_dir],
        knows=recogniser_knows(settings),
        recorded=recordings(settings.sounds_dir),
    )
    report(_out, findings, texts, as_json=as_json)
    if any(finding.code.startswith("E") for finding in findings):
        raise typer.Exit(1)
