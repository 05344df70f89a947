"""The designer's workshop: the flows of a folder as they are on disk, and word when they change.

Everybody who looks shares one reading. The folder is watched only while somebody looks, by asking
for times and sizes: that works on every kind of disk, with every kind of editor.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from cti import linting
from ivr.errors import FlowError, SettingsError
from ivr.flow import lint, loader, yamltree
from ivr.flow.lint import Finding
from ivr.flow.loader import FlowErrors
from ivr.flow.schema import Bundle, Flow

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.15
"""How often the folder is looked at while somebody watches."""

MOST_FILES = 200

_Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """One flow file. `flow` is None while it does not load; `name` may be known even so. `places`
    are the lines on which its nodes begin, by name."""

    file: str
    name: str
    text: str
    findings: tuple[Finding, ...]
    flow: Flow | None = None
    places: Mapping[str, int] = field(default_factory=dict)

    @property
    def errors(self) -> int:
        return sum(finding.code.startswith("E") for finding in self.findings)

    def node_at(self, line: int) -> str:
        """The node that a line of the file belongs to, "" for none."""
        before = [(at, name) for name, at in self.places.items() if at <= line]
        return max(before)[1] if before else ""

    def source(self, node: str) -> str:
        """A node as it is written."""
        lines = self.text.splitlines()
        first = self.places[node]
        after = [at for at in self.places.values() if at > first]
        last = min(after, default=len(lines) + 1)
        part = lines[first - 1 : last - 1]
        while part and (not part[-1].strip() or part[-1].lstrip().startswith("#")):
            part.pop()
        return "\n".join(part)


@dataclass(frozen=True, slots=True)
class Reading:
    """All files of the folder, as they were read at one moment; `serial` counts readings."""

    serial: int = 0
    sheets: Mapping[str, Sheet] = field(default_factory=dict)

    def bundle(self, file: str) -> Bundle:
        """The flow of a file with those that it calls. Raises FlowErrors, and KeyError."""
        wanted = self.sheets[file]
        good = {sheet.file: sheet.text for sheet in self.sheets.values() if sheet.flow is not None}
        if wanted.flow is None:
            raise FlowErrors(
                [
                    FlowError(
                        one.code, one.message, file=one.file, line=one.line, column=one.column
                    )
                    for one in wanted.findings
                ]
                or [FlowError("E001", "it does not load", file=file)]
            )
        return loader.load(good, wanted.name)


class Workshop:
    """The folder of flows, and those who look at it."""

    def __init__(self, flows: Path, sounds: Path):
        self._flows = flows
        self._sounds = sounds
        self._stamp: _Stamp | None = None
        self._reading = Reading()
        self._one_at_a_time = asyncio.Lock()
        self._watchers: set[Callable[[Reading], None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def look(self) -> Reading:
        """The flows as they are on disk now."""
        async with self._one_at_a_time:
            stamp = await asyncio.to_thread(_stamp, self._flows)
            if stamp != self._stamp:
                serial = self._reading.serial + 1
                # A long flow takes a while, and calls go on meanwhile.
                sheets = await asyncio.to_thread(_read, self._flows, self._sounds)
                self._reading, self._stamp = Reading(serial, sheets), stamp
            return self._reading

    @contextlib.contextmanager
    def watched(self, changed: Callable[[Reading], None]) -> Iterator[None]:
        """Call `changed` with every new reading while this lasts."""
        self._watchers.add(changed)
        if self._task is None:
            self._task = asyncio.ensure_future(self._watch())
        try:
            yield
        finally:
            self._watchers.discard(changed)
            if not self._watchers and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _watch(self) -> None:
        seen = 0
        while True:
            try:
                reading = await self.look()
            except Exception:
                log.exception("the flows cannot be looked at")
            else:
                # Who has just come asks for the first reading by itself.
                if seen not in (0, reading.serial):
                    for changed in list(self._watchers):
                        changed(reading)
                seen = reading.serial
            await asyncio.sleep(LOOK_SECONDS)


def _stamp(folder: Path) -> _Stamp:
    found = []
    for path in loader.flow_files(folder)[:MOST_FILES]:
        with contextlib.suppress(OSError):
            stat = path.stat()
            found.append((path.name, stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def _read(folder: Path, sounds: Path) -> dict[str, Sheet]:
    paths = loader.flow_files(folder)[:MOST_FILES]
    texts, errors = loader.read_files(paths)
    texts = {Path(name).name: text for name, text in texts.items()}
    try:
        recorded = linting.recordings(sounds)
    except SettingsError as error:
        log.warning("recordings are not looked at", error=str(error))
        recorded = {}
    flows, wrong = loader.read(texts)
    findings = lint.judge(flows, wrong, recorded=recorded)
    by_file = {flow.file: flow for flow in flows.values()}
    sheets = {}
    for file, text in texts.items():
        own = tuple(finding for finding in findings if finding.file == file)
        sheets[file] = _sheet(Sheet(file, "", text, own, by_file.get(file)))
    for unread in errors:
        file = Path(unread.file).name
        finding = Finding(file, unread.line, unread.column, unread.code, unread.message)
        sheets[file] = Sheet(file, "", "", (finding,))
    return dict(sorted(sheets.items()))


def _sheet(sheet: Sheet) -> Sheet:
    """With its name and places, as far as the file can be made out."""
    try:
        tree = sheet.flow.tree if sheet.flow else yamltree.read(sheet.text, sheet.file)
    except FlowError:
        return sheet
    name, nodes = tree.find(["flow"]), tree.find(["nodes"])
    places = {key: line for key, (line, _) in nodes.keys.items()} if nodes else {}
    return replace(sheet, name=name.text if name else "", places=places)
