"""`hotline graph`: a flow as a picture, with the ways that real conversations took if asked for."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from cti.designing import open_flow, write
from cti.publishing import shown_time, with_store
from ivr import traffic
from ivr.config import load_settings
from ivr.errors import SettingsError
from ivr.flow import graph as drawing
from ivr.flow.graph import Counts
from ivr.store.repo import Store
from ivr.traffic import Traffic

_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)

_AGO = re.compile(r"([1-9]\d{0,3})([hdw])", re.ASCII)
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_DRAWN = {".svg": drawing.svg, ".mmd": drawing.mermaid}


def graph(
    flow: Annotated[str, typer.Argument(help="a flow file, or a flow's name")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="a .svg or .mmd file to write"),
    ] = None,
    since: Annotated[
        str,
        typer.Option(
            metavar="WHEN", help="count real conversations since then: 7d, 12h, 2w or 2026-11-01"
        ),
    ] = "",
) -> None:
    """Draw a flow: as SVG or Mermaid into a file, or as Mermaid on the terminal.

    With --since each exit says how often it was taken, and each node how many left there; what is
    counted is in the database of the settings.

    Example: hotline graph flows/main.yaml -o main.svg --since 7d
    """
    draw = _DRAWN.get(output.suffix) if output else drawing.mermaid
    if draw is None:
        raise SettingsError(f"{output}: a drawing is a .svg or a .mmd (Mermaid) file")
    bundle = open_flow(flow)
    began = moment(since, datetime.now(UTC)) if since else None
    drawn = draw(bundle.flows[bundle.entry], _count(bundle.entry, began) if began else None)
    if output is not None:
        write(output, drawn)
        return
    for line in drawn.splitlines():
        _out.print(Text(line))


def moment(since: str, now: datetime) -> datetime:
    """The moment that `7d`, `12h`, `2w`, a date here, or a time means. Raises SettingsError."""
    if ago := _AGO.fullmatch(since):
        return now - int(ago[1]) * _UNITS[ago[2]]
    try:
        found = datetime.fromisoformat(since).astimezone()
    except (ValueError, OverflowError):
        raise SettingsError(
            f"--since {since!r} is no time: write 12h, 7d, 2w, or a date like 2026-11-01"
        ) from None
    if found > now:
        raise SettingsError(f"--since {since}: that is still to come")
    return found


def _count(flow: str, since: datetime) -> Counts:
    async def work(store: Store) -> Traffic:
        return await traffic.measure(store, since)

    found = with_store(load_settings(), work, make=False)
    number = found.flows.get(flow, 0)
    cut = f", of the latest {traffic.MOST:,} of all" if found.cut else ""
    came = "1 conversation" if number == 1 else f"{number:,} conversations"
    _err.print(Text(f"{came} came through {flow} since {shown_time(since)}{cut}"))
    return Counts(
        {(node, way): n for (of, node, way), n in found.exits.items() if of == flow},
        {node: n for (of, node), n in found.nodes.items() if of == flow},
        {node: n for (of, node), n in found.lost.items() if of == flow},
    )
