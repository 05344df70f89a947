"""What a flow designer types to try a flow: `hotline test` and `hotline simulate`.

Neither needs a PBX, a database or a network.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console
from rich.text import Text

from ivr.channels.terminal import Terminal
from ivr.config import load_settings
from ivr.errors import FlowError, SettingsError
from ivr.flow import loader, yamltree
from ivr.flow.facts import NOTHING, Facts
from ivr.flow.loader import FlowErrors
from ivr.flow.schema import Bundle
from ivr.flow.testing import coverage, playing, reports, script
from ivr.flow.testing.coverage import Coverage
from ivr.flow.testing.playing import Result
from ivr.flow.testing.script import Given, TestFile
from ivr.model import Channel

_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)

TEST_SUFFIX = ".test.yaml"
SHOWN = 5


# --- flows and their files ----------------------------------------------------------------------


@dataclass
class _Folders:
    """Flows by folder, each folder read once."""

    texts: dict[Path, dict[str, str]] = field(default_factory=dict)
    bundles: dict[Path, Bundle] = field(default_factory=dict)

    def bundle(self, folder: Path, name: str) -> Bundle:
        """The flow `name` of a folder. A file that does not load stops only those that need it."""
        if folder not in self.texts:
            self.texts[folder] = loader.load_folder(folder)
        texts = self.texts[folder]
        known = self.bundles.get(folder)
        if known is None or name not in known.flows:
            known = self.bundles[folder] = _load(texts, name)
        return replace(known, entry=name)


def _load(texts: dict[str, str], name: str) -> Bundle:
    try:
        return loader.load(texts, name)
    except FlowErrors as error:
        broken = {one.file for one in error.errors}
        rest = {file: text for file, text in texts.items() if file not in broken}
        try:
            return loader.load(rest, name)
        except FlowErrors:
            raise error from None


def open_flow(flow: str) -> Bundle:
    """The flow of a file, of a folder that has but one, or of a name in the settings' folder."""
    path = Path(flow)
    if path.is_dir():
        files = [str(file) for file in loader.flow_files(path)]
        if len(files) != 1:
            raise SettingsError(f"{path}: name one flow of this folder: {_several(files)}")
        path = Path(files[0])
    if path.is_file() or path.suffix in (".yaml", ".yml"):
        return _Folders().bundle(path.parent, _name(path))
    folder = load_settings().flows_dir
    if not loader.flow_files(folder):
        raise SettingsError(
            f"there is no flow {flow!r}, since there are no flow files in {folder}; name a file, "
            "or set flows_dir"
        )
    return _Folders().bundle(folder, flow)


def _several(names: Sequence[str]) -> str:
    """Some of what there is."""
    return ", ".join(names[:SHOWN]) + " …" * (len(names) > SHOWN) if names else "there is none"


def _name(path: Path) -> str:
    """The name that a flow file gives its flow."""
    tree = yamltree.read(loader.read_text(path), str(path))
    name = tree.find(["flow"])
    if name is None or not name.text:
        raise FlowError(
            "E004", "this is no flow: the key 'flow' is missing", file=str(path), line=1
        )
    return name.text


def write(path: Path, text: str) -> None:
    """Write a file that was asked for. Raises SettingsError."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: cannot be written: {error.strerror}") from None


# --- hotline test -------------------------------------------------------------------------------


def run_tests(
    paths: Sequence[Path],
    out: Console,
    *,
    as_json: bool = False,
    junit: Path | None = None,
    cover: bool = False,
    fail_under: float | None = None,
    facts: Facts = NOTHING,
) -> int:
    """Run the tests under the paths and print how they went; returns the exit code."""
    began = time.monotonic()
    folders = _Folders()
    results: dict[Path, list[tuple[Bundle, Result]]] = {}
    errors: list[FlowError] = []
    for path in list(_test_files(paths)):
        try:
            tests, bundle = _load_tests(path, folders)
        except FlowErrors as error:
            new = [one for one in error.errors if str(one) not in map(str, errors)]
            _print_errors(out, new, as_json)
            errors += new
            continue
        for case in tests.cases:
            for result in playing.run(tests.file, case, bundle, facts):
                results.setdefault(path.parent, []).append((bundle, result))
                _print_result(out, result, as_json)
    every = [result for found in results.values() for _, result in found]
    failed = sum(not result.ok for result in every)
    low = False
    if cover or fail_under is not None:
        covered = [one for found in results.values() for one in _covered(found)]
        low = not covered or any(one.percent < (fail_under or 0.0) for one in covered)
        _print_coverage(out, covered, fail_under, as_json)
    if junit is not None:
        write(junit, reports.junit(every, errors))
    if not as_json:
        wrong = f", {len(errors)} errors in files" if errors else ""
        seconds = time.monotonic() - began
        _say(out, f"{len(every) - failed} passed, {failed} failed{wrong} in {seconds:.1f} s")
    if not every and not errors:
        where = _several([str(path) for path in paths])
        _err.print(f"hotline: there is no *{TEST_SUFFIX} in {where}", markup=False)
    return int(bool(failed or errors or low or not every))


def _test_files(paths: Sequence[Path]) -> Iterator[Path]:
    """The test files meant: those of folders, and those beside flow files."""
    seen: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise SettingsError(f"{path}: no such file or folder")
        if path.is_dir():
            found: Iterable[Path] = sorted(path.rglob(f"*{TEST_SUFFIX}"))
        elif path.name.endswith(TEST_SUFFIX) or not path.name.endswith(".yaml"):
            found = [path]
        else:
            tests = path.with_name(path.name.removesuffix(".yaml") + TEST_SUFFIX)
            if not tests.exists():
                raise SettingsError(
                    f"{path} has no tests beside it; "
                    f"`hotline simulate {path} --record {tests}` makes a first one"
                )
            found = [tests]
        for one in found:
            if one not in seen:
                seen.add(one)
                yield one


def _load_tests(path: Path, folders: _Folders) -> tuple[TestFile, Bundle]:
    try:
        tests = script.read(loader.read_text(path), str(path))
        bundle = folders.bundle(path.parent, tests.flow)
    except FlowError as error:
        raise FlowErrors([error]) from None
    except FlowErrors as error:
        if any(one.file for one in error.errors):
            raise
        # The folder has no such flow: that is this file's fault.
        (missing,) = error.errors
        raise FlowErrors(
            [FlowError(missing.code, missing.message, file=tests.file, line=tests.line, column=1)]
        ) from None
    return tests, bundle


def _covered(found: Sequence[tuple[Bundle, Result]]) -> list[Coverage]:
    results = [result for _, result in found]
    bundles = {bundle.entry: bundle for bundle, _ in found}
    measured = [one for bundle in bundles.values() for one in coverage.measure(bundle, results)]
    return list({one.flow: one for one in measured}.values())


def _print_errors(out: Console, errors: Iterable[FlowError], as_json: bool) -> None:
    for error in errors:
        if as_json:
            shown = {
                "file": error.file,
                "line": error.line,
                "column": error.column,
                "code": error.code,
                "message": error.message,
            }
            _say(out, json.dumps(shown, ensure_ascii=False))
        else:
            _say(out, str(error), "red")


def _print_result(out: Console, result: Result, as_json: bool) -> None:
    if as_json:
        _say(out, json.dumps(result.to_json(), ensure_ascii=False))
        return
    for line in reports.lines(result):
        _say(out, line, "" if result.ok else "red")


def _print_coverage(
    out: Console, covered: Iterable[Coverage], fail_under: float | None, as_json: bool
) -> None:
    for one in covered:
        if as_json:
            _say(out, json.dumps(one.to_json(), ensure_ascii=False))
            continue
        nodes, exits = one.nodes, one.exits
        low = fail_under is not None and one.percent < fail_under
        _say(
            out,
            f"cover {one.file}: {one.percent:.1f} % of {one.flow}: "
            f"{nodes[0]} of {nodes[1]} nodes, {exits[0]} of {exits[1]} exits"
            + (f" (under {fail_under:g} %)" if low else ""),
            "red" if low else "",
        )
        for missed in one.missed:
            _say(out, f"    {one.file}:{missed.line}: {missed}")


def _say(out: Console, line: str, style: str = "") -> None:
    out.print(Text(line, style=style))


# --- hotline simulate ---------------------------------------------------------------------------

_STYLES = {
    "said": ("<", "bold"),
    "sent": ("@", "cyan"),
    "asked": ("?", "magenta"),
    "event": ("*", "dim"),
    "told": (" ", ""),
    "wrong": ("!", "red"),
}


def run_simulator(
    bundle: Bundle,
    given: Given,
    out: Console,
    lines: Iterable[str],
    *,
    record: Path | None = None,
    facts: Facts = NOTHING,
) -> int:
    """Play a flow with the lines of a designer; returns the exit code."""
    if record is not None and record.exists():
        raise SettingsError(f"{record} exists already; name a new file, or remove it first")

    def show(kind: str, text: str) -> None:
        mark, style = _STYLES[kind]
        _say(out, f"{mark} {text}", style)

    terminal = Terminal(bundle, given, show, facts)
    try:
        for line in lines if not terminal.over else ():
            terminal.line(line)
            if terminal.over:
                break
    finally:
        if record is not None:
            write(record, terminal.recording(f"{bundle.entry} as it was simulated"))
            _say(out, f"  recorded in {record}; `hotline test {record}` plays it")
    return 0


def typed_lines(stream: TextIO, out: Console) -> Iterator[str]:
    """Lines from a keyboard, or from a file, which are printed as if they had been typed."""
    if stream.isatty():
        while True:
            try:
                yield input("> ")
            except (EOFError, KeyboardInterrupt):
                return
    while line := stream.readline(script.LONGEST_TEXT):
        _say(out, "> " + reports.plain(line))
        yield line


# --- the commands -------------------------------------------------------------------------------


def test(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="test files, flow files or folders")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, one object a line")] = False,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write the results as JUnit XML too")
    ] = None,
    cover: Annotated[
        bool, typer.Option("--cover", help="list the nodes and exits that no test takes")
    ] = False,
    fail_under: Annotated[
        float | None,
        typer.Option(metavar="PERCENT", min=0, max=100, help="exit 1 if a flow is covered less"),
    ] = None,
) -> None:
    """Run every *.test.yaml against its flow: no telephone, no network, no waiting.

    Exits 1 when a test fails, and shows the step, what was expected and what happened.

    Example: hotline test flows/ --cover --fail-under 100
    """
    code = run_tests(paths, _out, as_json=as_json, junit=junit, cover=cover, fail_under=fail_under)
    raise typer.Exit(code)


def simulate(
    flow: Annotated[str, typer.Argument(help="a flow file, or a flow's name")],
    channel: Annotated[
        Channel, typer.Option(help="as which channel would say or print it")
    ] = Channel.VOICE,
    language: Annotated[str, typer.Option(help="what the customer is known to speak")] = "",
    caller: Annotated[str, typer.Option(help="the customer's number or name")] = script.CALLER,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write what was played as a test")
    ] = None,
) -> None:
    """Talk with a flow in the terminal: a line is what the customer says or types.

    Commands begin with a slash: /press 123, /silent, /hangup, /slots, /why, /fetch; /help lists
    them all. Lines may also be piped in.

    Example: hotline simulate flows/main.yaml --channel sms
    """
    bundle = open_flow(flow)
    languages = bundle.flows[bundle.entry].languages
    if language and language not in languages:
        raise SettingsError(
            f"the flow {bundle.entry} speaks {', '.join(languages)}, not {language}"
        )
    now = datetime.now().astimezone().replace(microsecond=0)
    given = Given(channel=channel.value, language=language, caller=caller, at=now)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    lines = typed_lines(sys.stdin, _out)
    raise typer.Exit(run_simulator(bundle, given, _out, lines, record=record))
