"""One figure of a benchmark: what was measured, what it should be, and what it is compared with."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `ratio` is value to baseline; a baseline of nan is none."""

    name: str
    value: float
    unit: str
    target: float
    baseline: float
    ratio: float
    ok: bool
    machine: str
    at_least: bool = False


def figure(
    name: str,
    value: float,
    unit: str,
    target: float,
    baseline: float = math.nan,
    *,
    at_least: bool = False,
) -> Figure:
    """A figure that is fine when it is at most (or at least) its target."""
    ratio = value / baseline if baseline else math.nan
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    fine = value >= target if at_least else value <= target
    return Figure(
        name,
        round(value, 2),
        unit,
        round(target, 2),
        round(baseline, 2),
        round(ratio, 2),
        fine,
        machine,
        at_least,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median_and_tail(
    name: str, ours: Sequence[float], theirs: Sequence[float], target: float
) -> list[Figure]:
    """Median and 95th percentile, in milliseconds."""
    return [
        figure(f"{name}, {label}", percentile(ours, at), "ms", target, percentile(theirs, at))
        for label, at in (("p50", 0.5), ("p95", 0.95))
    ]
