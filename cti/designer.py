"""What the designers' page asks of the server: drawings and findings, traffic, versions, and over
one WebSocket word of every change on disk and a simulator.

Who gets in stands in `cti.access`. Nothing here writes: files are the designer's own editor's,
versions are published by `hotline flows`.
"""

from __future__ import annotations

import asyncio
import difflib
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query, WebSocket
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from cti.access import Door
from cti.accounts import Accounts
from cti.designersocket import DesignerSocket
from cti.workshop import Reading, Sheet, Workshop
from ivr import traffic
from ivr.flow import exits, graph, loader
from ivr.flow.facts import Facts
from ivr.flow.loader import FlowErrors
from ivr.flow.schema import Bundle
from ivr.store.repo import Store

_LONGEST_DIFFERENCE = 4_000
_LONGEST_COMPARED = 20_000
_LONGEST_SOURCE = 8_000

_PAGE = Path(__file__).parent / "desktop"
_ASSETS = {
    "designer.js": "text/javascript",
    "drawing.js": "text/javascript",
    "session.js": "text/javascript",
    "texts.js": "text/javascript",
    "designer.css": "text/css",
    "vendor/elk-api.js": "text/javascript",
    "vendor/elk-worker.min.js": "text/javascript",
}

# --- answers -------------------------------------------------------------------------------------


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FlowFile(_Part):
    """A flow file of the folder, and how many errors and warnings it has."""

    file: str
    flow: str
    errors: int
    warnings: int


class FlowFiles(_Part):
    """The folder; `serial` counts its changes."""

    serial: int
    files: list[FlowFile]


class FoundItem(_Part):
    """One finding; `node` is where it is, "" outside of any."""

    line: int
    column: int
    code: str
    message: str
    node: str


class ExitItem(_Part):
    """One way out of a node."""

    name: str
    label: str
    target: str
    miss: bool


class NodeItem(_Part):
    """A node: its kind and sort (for the colour), what it says, and how it is written."""

    name: str
    kind: str
    sort: str
    text: str
    line: int
    source: str
    exits: list[ExitItem]


class Drawing(_Part):
    """A flow to draw. While it does not load there are findings alone."""

    serial: int
    file: str
    flow: str
    loads: bool
    languages: list[str] = []
    start: str = ""
    nodes: list[NodeItem] = []
    findings: list[FoundItem] = []


class TrafficAnswer(_Part):
    """How often real conversations entered each node, left at it, and took each exit."""

    conversations: int
    cut: bool
    nodes: dict[str, int]
    lost: dict[str, int]
    exits: dict[str, dict[str, int]]


class ReleaseItem(_Part):
    """A published version; `state` is `live`, `held` or `withdrawn`."""

    version: str
    at: datetime
    who: str
    note: str
    state: Literal["live", "held", "withdrawn"]


class Versions(_Part):
    """What was published of a flow, newest first, and what answers; `draft` is the file's own."""

    draft: str
    answering: str
    rollout: str
    percent: float
    releases: list[ReleaseItem]


class Difference(_Part):
    """A unified difference, line by line; `cut` says that there is more."""

    lines: list[str]
    cut: bool


def _drawing(reading: Reading, sheet: Sheet) -> Drawing:
    found = [
        FoundItem(
            line=one.line,
            column=one.column,
            code=one.code,
            message=one.message,
            node=sheet.node_at(one.line),
        )
        for one in sheet.findings
    ]
    flow = sheet.flow
    drawing = Drawing(
        serial=reading.serial,
        file=sheet.file,
        flow=sheet.name,
        loads=flow is not None,
        findings=found,
    )
    if flow is None:
        return drawing
    nodes = [
        NodeItem(
            name=name,
            kind=exits.kind(node),
            sort=graph.sort(node),
            text=graph.summary(flow, node),
            line=sheet.places[name],
            source=sheet.source(name)[:_LONGEST_SOURCE],
            exits=[
                ExitItem(name=way.name, label=way.label, target=way.target, miss=way.miss)
                for way in exits.exits(flow, node)
            ],
        )
        for name, node in flow.nodes.items()
    ]
    update = {"languages": list(flow.languages), "start": flow.start, "nodes": nodes}
    return drawing.model_copy(update=update)


# --- over HTTP -----------------------------------------------------------------------------------


def router(
    workshop: Workshop,
    accounts: Accounts,
    store: Store,
    facts: Facts,
) -> APIRouter:
    """Everything under /designer and /api/designer."""
    routes = APIRouter()
    counting = asyncio.Lock()
    pages: Counter[str] = Counter()
    kept: dict[str, Bundle] = {}

    door = Door(accounts, ("WS", "/api/designer"))

    async def sheet(file: str) -> tuple[Reading, Sheet]:
        reading = await workshop.look()
        if file not in reading.sheets:
            raise HTTPException(404, "there is no such flow file")
        return reading, reading.sheets[file]

    @routes.get("/api/designer/flows")
    async def flows() -> FlowFiles:
        """The flow files of the folder."""
        reading = await workshop.look()
        files = [
            FlowFile(
                file=one.file,
                flow=one.name,
                errors=one.errors,
                warnings=len(one.findings) - one.errors,
            )
            for one in reading.sheets.values()
        ]
        return FlowFiles(serial=reading.serial, files=files)

    @routes.get("/api/designer/flows/{file}")
    async def drawing(file: str) -> Drawing:
        """A flow, to be drawn, with what the linter finds."""
        return await asyncio.to_thread(_drawing, *await sheet(file))

    @routes.get("/api/designer/flows/{file}/traffic")
    async def counts(file: str, since: datetime) -> TrafficAnswer:
        """How real conversations went through a flow since a moment."""
        _, wanted = await sheet(file)
        aware = since if since.tzinfo else since.replace(tzinfo=UTC)
        async with counting:
            found = await traffic.measure(store, aware, kept)
        ways: dict[str, dict[str, int]] = {}
        for (flow, node, way), number in found.exits.items():
            if flow == wanted.name:
                ways.setdefault(node, {})[way] = number
        return TrafficAnswer(
            conversations=found.flows.get(wanted.name, 0),
            cut=found.cut,
            nodes={node: n for (flow, node), n in found.nodes.items() if flow == wanted.name},
            lost={node: n for (flow, node), n in found.lost.items() if flow == wanted.name},
            exits=ways,
        )

    @routes.get("/api/designer/flows/{file}/versions")
    async def versions(file: str) -> Versions:
        """What was published of a flow, and what answers."""
        reading, wanted = await sheet(file)
        lineup = await store.lineup(wanted.name)
        rollout = lineup.rollout if lineup else None
        draft = await asyncio.to_thread(_draft, reading, wanted)
        return Versions(
            draft=draft,
            answering=lineup.version if lineup else "",
            rollout=rollout.version if rollout else "",
            percent=rollout.percent if rollout else 0.0,
            releases=[
                ReleaseItem(
                    version=one.version,
                    at=one.published_at,
                    who=one.who,
                    note=one.note,
                    state="held" if one.held else "live" if one.live else "withdrawn",
                )
                for one in await store.releases(wanted.name)
            ],
        )

    @routes.get("/api/designer/flows/{file}/differences")
    async def differences(
        file: str,
        old: Annotated[str, Query(pattern="^[0-9a-f]{64}$")],
        new: Annotated[str, Query(pattern="^([0-9a-f]{64})?$")] = "",
    ) -> Difference:
        """What changed from one version to another, or to the files as they are now."""
        reading, wanted = await sheet(file)
        sides = []
        for version in (old, new):
            if version:
                texts = await store.flow_texts(version)
                if texts is None:
                    raise HTTPException(404, "there is no such version")
            else:
                texts = {one.file: one.text for one in reading.sheets.values()}
            sides.append(await asyncio.to_thread(_own_texts, texts, wanted.name))
        return await asyncio.to_thread(_difference, *sides)

    @routes.websocket("/api/designer")
    async def live(socket: WebSocket) -> None:
        await DesignerSocket(socket, workshop, door, facts, pages).serve()

    @routes.get("/designer", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(_PAGE / "designer.html", media_type="text/html")

    @routes.get("/designer/{name:path}", include_in_schema=False)
    async def asset(name: str) -> FileResponse:
        if name not in _ASSETS:
            raise HTTPException(404, "there is no such page")
        return FileResponse(_PAGE / name, media_type=_ASSETS[name])

    return routes


def _draft(reading: Reading, sheet: Sheet) -> str:
    try:
        return reading.bundle(sheet.file).version
    except FlowErrors:
        return ""


def _own_texts(texts: Mapping[str, str], name: str) -> dict[str, list[str]]:
    """The lines of a flow's file and of those that it calls; of all where it does not load."""
    try:
        wanted = {flow.file for flow in loader.called(loader.load(texts, name))}
    except FlowErrors:
        wanted = set(texts)
    return {Path(file).name: text.splitlines() for file, text in texts.items() if file in wanted}


def _difference(old: Mapping[str, list[str]], new: Mapping[str, list[str]]) -> Difference:
    lines: list[str] = []
    for file in sorted({*old, *new}):
        before, after = old.get(file, []), new.get(file, [])
        if len(before) + len(after) > _LONGEST_COMPARED:
            lines.append(f"@@ {file} is too long to be compared")
            continue
        lines += difflib.unified_diff(before, after, file, file, lineterm="")
    return Difference(lines=lines[:_LONGEST_DIFFERENCE], cut=len(lines) > _LONGEST_DIFFERENCE)
