"""`make bench`: figures as a caller, an agent and a designer feel them.

    python -m tests.bench [NAME]

Every figure is measured on this machine against a baseline in the same run, printed as a table and
written to build/bench.json. Exits 1 when a target is missed.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import (
    calls,
    card,
    desk,
    flows,
    load,
    overload,
    prompts,
    recognition,
    recording,
    turns,
    wallboard,
)
from tests.bench.figures import Figure

ALONE = (
    flows.BENCHES
    | recognition.BENCHES
    | load.BENCHES
    | prompts.BENCHES
    | recording.BENCHES
    | overload.BENCHES
    | turns.BENCHES
    | desk.BENCHES
    | card.BENCHES
    | wallboard.BENCHES
)
"""Those that need no running hotline, or set up one of their own."""

NAMES = (*ALONE, *calls.BENCHES)


def measure(names: Sequence[str]) -> list[Figure]:
    figures: list[Figure] = []
    for name in names:
        if name in ALONE:
            print(f"==> {name}", flush=True)
            figures += ALONE[name]()
    on_stage = [name for name in names if name in calls.BENCHES]
    if on_stage:
        figures += asyncio.run(calls.measure(on_stage))
    return figures


def show(figures: Sequence[Figure]) -> None:
    table = Table("figure", "value", "target", "baseline", "ratio", "")
    for each in figures:
        relation = ">=" if each.at_least else "<="
        compared = not math.isnan(each.baseline)
        table.add_row(
            each.name,
            f"{each.value:g} {each.unit}",
            f"{relation} {each.target:g}",
            f"{each.baseline:g}" if compared else "",
            f"{each.ratio:g}" if compared else "",
            "ok" if each.ok else "MISSED",
        )
    Console().print(table)


def write(figures: Sequence[Figure], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    rows = []
    for each in figures:
        row = asdict(each)
        del row["at_least"]
        rows.append({key: None if value != value else value for key, value in row.items()})
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def main(names: Sequence[str]) -> int:
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"no bench {unknown[0]!r}; there are: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    figures = measure(names or NAMES)
    show(figures)
    write(figures, Path("build/bench.json"))
    return 0 if all(each.ok for each in figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
