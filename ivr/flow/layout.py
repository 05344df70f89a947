"""Places boxes in columns and leads lines between them, so that a drawing reads from left to right.

The method is Sugiyama's, in its simplest form: take cycles apart, put each box one column behind
the last that leads to it, order columns by the middle of their neighbours, then move boxes as near
to their neighbours as their order allows. Lines that would make a thicket are not led at all:
those that go back, those to a box that everything leads to, and long ones. The box that such a
line starts from names its target instead (`Layout.lines` lacks it).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

_CROWD = 4
"""A box with so many lines towards it gets only the first of them."""

_LONGEST = 3
"""The most columns that a line spans, unless it is the only one to its box."""

_SWEEPS = 12
_LINE_HEIGHT = 14.0


@dataclass(frozen=True, slots=True)
class Box:
    """What is to be placed. `ports` are how far below its top each of its lines begins, `entry`
    where lines arrive."""

    name: str
    height: float
    entry: float
    ports: Sequence[float]


@dataclass(frozen=True, slots=True)
class Line:
    """A line from a port of a box to another box."""

    source: str
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is. `boxes` maps names to (column, top); `lines` maps those lines that are
    led to the (column, y) that they pass through between their ends; `height` is the whole."""

    boxes: Mapping[str, tuple[int, float]]
    lines: Mapping[Line, tuple[tuple[int, float], ...]]
    columns: int
    height: float


@dataclass(slots=True, eq=False)
class _Cell:
    """A box in its column, or a place that a long line passes through there."""

    column: int
    box: Box | None
    top: float = 0.0
    before: list[tuple[_Cell, float]] = field(default_factory=list)
    after: list[tuple[_Cell, float]] = field(default_factory=list)

    @property
    def height(self) -> float:
        return self.box.height if self.box else _LINE_HEIGHT

    @property
    def entry(self) -> float:
        return self.box.entry if self.box else _LINE_HEIGHT / 2


def place(boxes: Sequence[Box], lines: Sequence[Line], *, gap: float = 22.0) -> Layout:
    """Lay out boxes, the first of which is the start. Lines to boxes that there are not are left
    out."""
    names = {box.name for box in boxes}
    known = [line for line in dict.fromkeys(lines) if {line.source, line.target} <= names]
    kept = _thin(_forward([box.name for box in boxes], known), known)
    column = _columns([box.name for box in boxes], kept)
    kept = _short(kept, column)
    cells = {box.name: _Cell(column[box.name], box) for box in boxes}
    grid: list[list[_Cell]] = [[] for _ in range(max(column.values(), default=0) + 1)]
    for box in boxes:
        grid[column[box.name]].append(cells[box.name])
    through = {line: _lead(line, cells, grid) for line in kept}
    _order(grid)
    _settle(grid, gap)
    top = min((cell.top for cell in _all(grid)), default=0.0)
    for cell in _all(grid):
        cell.top -= top
    return Layout(
        {name: (cell.column, cell.top) for name, cell in cells.items()},
        {
            line: tuple((cell.column, cell.top + cell.entry) for cell in passed)
            for line, passed in through.items()
        },
        len(grid),
        max((cell.top + cell.height for cell in _all(grid)), default=0.0),
    )


# --- which lines are led ------------------------------------------------------------------------


def _forward(names: Sequence[str], lines: Sequence[Line]) -> list[Line]:
    """The lines less those that close a circle, nearest to the start first.

    What leads nearer to the start goes back; what leads across goes on unless it closes a circle.
    """
    leaving = _leaving(names, lines)
    depth: dict[str, int] = {}
    found: list[Line] = []
    for root in names:
        ahead = [] if root in depth else [root]
        depth.setdefault(root, 0)
        for name in ahead:
            for line in leaving[name]:
                found.append(line)
                if line.target not in depth:
                    depth[line.target] = depth[name] + 1
                    ahead.append(line.target)
    kept = [line for line in found if depth[line.source] < depth[line.target]]
    following = _leaving(names, [])
    for line in found:
        if depth[line.source] == depth[line.target] and not _leads(
            following, line.target, line.source
        ):
            following[line.source].append(line)
            kept.append(line)
    order = {line: number for number, line in enumerate(found)}
    return sorted(kept, key=lambda line: order[line])


def _leaving(names: Sequence[str], lines: Sequence[Line]) -> dict[str, list[Line]]:
    leaving: dict[str, list[Line]] = {name: [] for name in names}
    for line in lines:
        leaving[line.source].append(line)
    return leaving


def _leads(leaving: Mapping[str, list[Line]], start: str, end: str) -> bool:
    """Whether lines lead from one box to another; only among boxes of one depth is that asked."""
    ahead = [start]
    for name in ahead:
        ahead += [line.target for line in leaving[name] if line.target not in ahead]
    return end in ahead


def _thin(lines: Sequence[Line], every: Sequence[Line]) -> list[Line]:
    """Without the crowds: to a box that many of all the lines lead to, only the first is led."""
    arriving = Counter(line.target for line in every)
    seen: set[str] = set()
    kept = []
    for line in lines:
        if arriving[line.target] < _CROWD or line.target not in seen:
            kept.append(line)
        seen.add(line.target)
    return kept


def _columns(names: Sequence[str], lines: Sequence[Line]) -> dict[str, int]:
    """The longest way from the start to each box."""
    column = dict.fromkeys(names, 0)
    arriving: dict[str, int] = dict.fromkeys(names, 0)
    leaving: dict[str, list[str]] = {name: [] for name in names}
    for line in lines:
        arriving[line.target] += 1
        leaving[line.source].append(line.target)
    ahead = [name for name in names if not arriving[name]]
    for name in ahead:
        for target in leaving[name]:
            column[target] = max(column[target], column[name] + 1)
            arriving[target] -= 1
            if not arriving[target]:
                ahead.append(target)
    return column


def _short(lines: Sequence[Line], column: Mapping[str, int]) -> list[Line]:
    def span(line: Line) -> int:
        return column[line.target] - column[line.source]

    nearest: dict[str, int] = {}
    for line in lines:
        nearest[line.target] = min(nearest.get(line.target, 1 << 30), span(line))
    return [line for line in lines if span(line) <= max(_LONGEST, nearest[line.target])]


# --- where they go ------------------------------------------------------------------------------


def _lead(line: Line, cells: Mapping[str, _Cell], grid: list[list[_Cell]]) -> list[_Cell]:
    """Lead a line through the columns between its ends; returns the places that it passes."""
    at, target = cells[line.source], cells[line.target]
    assert at.box is not None
    port, passed = at.box.ports[line.port], []
    for column in range(at.column + 1, target.column):
        cell = _Cell(column, None)
        grid[column].append(cell)
        passed.append(cell)
        _join(at, port, cell)
        at, port = cell, _LINE_HEIGHT / 2
    _join(at, port, target)
    return passed


def _join(left: _Cell, port: float, right: _Cell) -> None:
    left.after.append((right, port))
    right.before.append((left, port))


def _order(grid: list[list[_Cell]]) -> None:
    """Order each column by the middle of what its cells are joined to, back and forth."""
    place = {id(cell): float(number) for cells in grid for number, cell in enumerate(cells)}

    def left(cell: _Cell) -> list[float]:
        return [place[id(other)] + port / (other.height + 1) for other, port in cell.before]

    def right(cell: _Cell) -> list[float]:
        return [place[id(other)] for other, _ in cell.after]

    best, fewest = [list(cells) for cells in grid], _crossings(grid)
    for sweep in range(_SWEEPS):
        look, columns = (left, grid) if sweep % 2 == 0 else (right, grid[::-1])
        for cells in columns:
            middle = {}
            for cell in cells:
                near = look(cell)
                middle[id(cell)] = sum(near) / len(near) if near else place[id(cell)]
            cells.sort(key=lambda cell: middle[id(cell)])
            place.update((id(cell), float(number)) for number, cell in enumerate(cells))
        if (crossings := _crossings(grid)) < fewest:
            best, fewest = [list(cells) for cells in grid], crossings
    for cells, ordered in zip(grid, best, strict=True):
        cells[:] = ordered


def _crossings(grid: list[list[_Cell]]) -> int:
    count = 0
    for cells, following in pairwise(grid):
        place = {id(cell): number for number, cell in enumerate(following)}
        ends = [
            place[id(target)]
            for cell in cells
            for target, _ in sorted(cell.after, key=lambda joined: joined[1])
        ]
        count += sum(
            first > second for number, first in enumerate(ends) for second in ends[number + 1 :]
        )
    return count


def _settle(grid: list[list[_Cell]], gap: float) -> None:
    """Move each column's cells as near to their neighbours as their order allows."""
    for cells in grid:
        top = 0.0
        for cell in cells:
            cell.top = top
            top += cell.height + gap
    for sweep in range(_SWEEPS):
        forwards = sweep % 2 == 0
        for cells in grid if forwards else grid[::-1]:
            wishes, weights = [], []
            for cell in cells:
                near = (
                    [other.top + port - cell.entry for other, port in cell.before]
                    if forwards
                    else [other.top + other.entry - port for other, port in cell.after]
                )
                wishes.append(sum(near) / len(near) if near else cell.top)
                weights.append((1.0 if cell.box else 3.0) if near else 0.1)
            room = [cell.height + gap for cell in cells]
            for cell, top in zip(cells, _nearest(wishes, weights, room), strict=True):
                cell.top = top


def _nearest(
    wishes: Sequence[float], weights: Sequence[float], room: Sequence[float]
) -> list[float]:
    """The places nearest to what is wished for (least squares) that leave everybody room."""
    offset, offsets = 0.0, []
    for height in room:
        offsets.append(offset)
        offset += height
    # Pools of neighbours that wish to be in each other's place share the mean of their wishes.
    pools: list[tuple[float, float, int]] = []
    for wish, weight, before in zip(wishes, weights, offsets, strict=True):
        pools.append((wish - before, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (first, heavy, many), (second, light, few) = pools[-2], pools[-1]
            mean = (first * heavy + second * light) / (heavy + light)
            pools[-2:] = [(mean, heavy + light, many + few)]
    bases = [base for base, _, count in pools for _ in range(count)]
    return [base + before for base, before in zip(bases, offsets, strict=True)]


def _all(grid: Iterable[list[_Cell]]) -> Iterable[_Cell]:
    return (cell for cells in grid for cell in cells)
