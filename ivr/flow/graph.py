"""Draws a flow: as Mermaid for documents, and as SVG for looking at.

Texts of the designer's and counts are data: they are escaped, cut to fit and free of control
characters wherever they stand.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from ivr.flow import layout, schema
from ivr.flow.exits import Exit, exits, kind
from ivr.flow.schema import AnyNode, Flow, Wording


@dataclass(frozen=True, slots=True)
class Counts:
    """How real conversations went: how often they took an exit, by (node, exit), came to a node,
    and were `lost` there, the customer leaving."""

    exits: Mapping[tuple[str, str], int]
    nodes: Mapping[str, int] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)

    def left(self, node: str) -> str:
        """What is said of those who left at a node; "" where none did."""
        lost = self.lost.get(node, 0)
        return f"{lost} of {max(lost, self.nodes.get(node, 0))} left here" if lost else ""


@dataclass(frozen=True, slots=True)
class Look:
    """What a sort of node looks like: fill, border, and what the legend calls it."""

    fill: str
    line: str
    legend: str


LOOKS: Mapping[str, Look] = {
    "asks": Look("#e8f1fd", "#2f6fbf", "asks"),
    "says": Look("#ffffff", "#8a94a3", "says"),
    "decides": Look("#f3f4f6", "#8a94a3", "decides"),
    "systems": Look("#f3ecfd", "#7d52c4", "other systems and flows"),
    "people": Look("#e3f6e8", "#23904a", "people"),
    "ends": Look("#3f4650", "#23272e", "ends"),
}

_SORTS: Mapping[str, str] = {
    "say": "says",
    "menu": "asks",
    "collect": "asks",
    "confirm": "asks",
    "offer": "asks",
    "record": "asks",
    "set": "decides",
    "when": "decides",
    "hours": "decides",
    "language": "decides",
    "fetch": "systems",
    "call": "systems",
    "queue": "people",
    "transfer": "people",
    "end": "ends",
}
_MISS = "#c2410c"
_LOST = "#b42318"
_LINK = "#5b6675"


def sort(node: AnyNode) -> str:
    """Which of `LOOKS` a node has."""
    return _SORTS[kind(node)]


def summary(flow: Flow, node: AnyNode) -> str:
    """What a node says or does, in the flow's first language, on one line."""
    language = flow.languages[0]
    match node:
        case schema.SayNode() | schema.EndNode():
            text = _template(node.prompt, language)
        case schema.Asking() | schema.RecordNode():
            text = _template(node.ask, language)
            if isinstance(node, schema.CollectNode) and not text:
                text = ", ".join(node.slots)
        case schema.SetNode():
            text = ", ".join(f"{name} = {value.source}" for name, value in node.values)
        case schema.HoursNode():
            text = node.calendar
        case schema.LanguageNode():
            text = node.to.template
        case schema.FetchNode():
            text = f"{node.method} {node.path.template}"
        case schema.QueueNode():
            text = ", ".join(node.skills)
        case schema.TransferNode():
            text = node.to
        case schema.CallNode():
            text = node.flow
        case _:
            text = ""
    return _plain(text)


def _template(wording: Wording, language: str) -> str:
    chosen = wording.choose(language, language)
    return chosen[0].template if chosen else ""


def _plain(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


# --- Mermaid ------------------------------------------------------------------------------------


def mermaid(flow: Flow, counts: Counts | None = None) -> str:
    """The flow as a Mermaid flowchart, every exit an arrow."""
    ids = {name: f"n{number}" for number, name in enumerate(_nodes(flow))}
    lines = ["flowchart TD", f"    start(( )) --> {ids[flow.start]}"]
    for name, own in ids.items():
        node = flow.nodes[name]
        opening, closing = _SHAPES.get(sort(node), ("[", "]"))
        left = counts.left(name) if counts else ""
        text = _quoted(name, summary(flow, node)) + (f"<br/>{left}" if left else "")
        lines.append(f'    {own}{opening}"{text}"{closing}:::{sort(node)}')
    for name, own in ids.items():
        for way in exits(flow, flow.nodes[name]):
            arrow = "-.->" if way.miss else "-->"
            label = _cut(_counted(way, counts), 40)
            shown = f'|"{_mermaid_text(label)}"|' if label != "then" else ""
            lines.append(f"    {own} {arrow}{shown} {ids[way.target]}")
    for name, look in LOOKS.items():
        ink = "#fff" if name == "ends" else "#1b1f24"
        lines.append(f"    classDef {name} fill:{look.fill},stroke:{look.line},color:{ink}")
    return "\n".join(lines) + "\n"


_SHAPES = {"asks": ("([", "])"), "decides": ("{{", "}}"), "ends": ("((", "))")}


def _nodes(flow: Flow) -> list[str]:
    """The nodes, the start first."""
    return [flow.start, *(name for name in flow.nodes if name != flow.start)]


def _counted(way: Exit, counts: Counts | None) -> str:
    label = _plain(way.label)
    return f"{label} ({counts.exits.get((way.node, way.name), 0)})" if counts else label


def _quoted(name: str, text: str) -> str:
    short = _cut(text, 60)
    return _mermaid_text(name) + (f"<br/>{_mermaid_text(short)}" if short else "")


def _mermaid_text(text: str) -> str:
    """As Mermaid's entity codes: everything that could be its syntax or HTML."""
    return "".join(
        char if char.isalnum() or char in " .,:-_?!·/=" else f"#{ord(char)};" for char in text
    )


# --- SVG ----------------------------------------------------------------------------------------

_WIDTH, _COLUMN_GAP, _MARGIN, _TOP = 236.0, 76.0, 24.0, 84.0
_HEAD, _TEXT_LINE, _ROW, _FOOT = 27.0, 14.0, 19.0, 5.0
_TEXT_CHARACTERS, _TEXT_LINES, _TITLE_CHARACTERS = 39, 2, 24


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A node as it will be drawn."""

    name: str
    node: AnyNode
    text: tuple[str, ...]
    ways: tuple[Exit, ...]
    left: str = ""

    @property
    def head(self) -> float:
        return _HEAD + len(self.text) * _TEXT_LINE + (4 if self.text else 0)

    @property
    def height(self) -> float:
        rows = len(self.ways) + bool(self.left)
        return self.head + rows * _ROW + (_FOOT if rows else 2)

    def port(self, number: int) -> float:
        return self.head + number * _ROW + _ROW / 2


def svg(flow: Flow, counts: Counts | None = None) -> str:
    """The flow as a picture that stands alone, from left to right."""
    drawn = {}
    for name in _nodes(flow):
        node = flow.nodes[name]
        text = tuple(_wrap(summary(flow, node), _TEXT_CHARACTERS, _TEXT_LINES))
        left = counts.left(name) if counts else ""
        drawn[name] = _Drawn(name, node, text, exits(flow, node), left)
    boxes = [
        layout.Box(one.name, one.height, _HEAD / 2, [one.port(n) for n in range(len(one.ways))])
        for one in drawn.values()
    ]
    lines = [
        layout.Line(one.name, number, way.target)
        for one in drawn.values()
        for number, way in enumerate(one.ways)
    ]
    plan = layout.place(boxes, lines)
    width = plan.columns * (_WIDTH + _COLUMN_GAP) - _COLUMN_GAP + 2 * _MARGIN
    width = max(width, _LEGEND_WIDTH + 2 * _MARGIN)
    height = plan.height + _TOP + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family={quoteattr(_FONTS)} font-size="12">',
        f"<title>{escape(_plain(flow.name))}</title>",
        _ARROWS,
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        *_legend(flow),
    ]
    for one in drawn.values():
        for number, way in enumerate(one.ways):
            line = layout.Line(one.name, number, way.target)
            if line in plan.lines:
                parts.append(_line(plan, line, one.port(number), way))
    for one in drawn.values():
        led = {line.port for line in plan.lines if line.source == one.name}
        parts += _box(flow, one, plan.boxes[one.name], led, counts)
    return "\n".join([*parts, "</svg>"]) + "\n"


_FONTS = "Inter, Segoe UI, Helvetica, Arial, Noto Sans CJK SC, Microsoft YaHei, sans-serif"
_LEGEND_WIDTH = 860.0
_ARROWS = (
    "<defs>"
    + "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        f'orient="auto"><path d="M0,0.5 L7.5,4 L0,7.5 z" fill="{colour}"/></marker>'
        for name, colour in (("arrow", _LINK), ("missed", _MISS))
    )
    + "</defs>"
)


def _at(column: int) -> float:
    return _MARGIN + column * (_WIDTH + _COLUMN_GAP)


def _legend(flow: Flow) -> list[str]:
    x, y = _MARGIN, 50.0
    parts = [_text(x, 30, _plain(flow.name), size=18, weight="bold")]
    for look in LOOKS.values():
        parts.append(
            f'<rect x="{x:.0f}" y="{y - 10:.0f}" width="14" height="14" rx="3" fill="{look.fill}" '
            f'stroke="{look.line}"/>'
        )
        parts.append(_text(x + 20, y + 1, look.legend, fill="#444b55"))
        x += 40 + 6.4 * len(look.legend)
    parts.append(
        f'<path d="M{x:.0f},{y - 3:.0f} h34" stroke="{_MISS}" stroke-dasharray="5 3" '
        f'fill="none" marker-end="url(#missed)"/>'
    )
    parts.append(_text(x + 42, y + 1, "when it does not work", fill="#444b55"))
    x += 190
    parts.append(_text(x, y + 1, "▸ name: goes on at that box", fill="#444b55"))
    return parts


def _line(plan: layout.Layout, line: layout.Line, port: float, way: Exit) -> str:
    column, top = plan.boxes[line.source]
    x, y = _at(column) + _WIDTH, top + port + _TOP
    path = [f"M{x:.1f},{y:.1f}"]
    end_column, end_top = plan.boxes[line.target]
    stops = [*plan.lines[line], (end_column, end_top + _HEAD / 2)]
    for column, at in stops:
        to_x, to_y = _at(column), at + _TOP
        bend = (to_x - x) / 2
        path.append(f"C{x + bend:.1f},{y:.1f} {to_x - bend:.1f},{to_y:.1f} {to_x:.1f},{to_y:.1f}")
        x, y = to_x, to_y
        if column != end_column:
            x += _WIDTH
            path.append(f"H{x:.1f}")
    dash = ' stroke-dasharray="5 3"' if way.miss else ""
    colour, marker = (_MISS, "missed") if way.miss else (_LINK, "arrow")
    return (
        f'<path d="{" ".join(path)}" fill="none" stroke="{colour}" stroke-width="1.4"{dash} '
        f'marker-end="url(#{marker})"/>'
    )


def _box(
    flow: Flow, one: _Drawn, place: tuple[int, float], led: set[int], counts: Counts | None
) -> list[str]:
    look = LOOKS[sort(one.node)]
    x, y = _at(place[0]), place[1] + _TOP
    dark = sort(one.node) == "ends"
    ink, faint = ("#ffffff", "#c9ced6") if dark else ("#1b1f24", "#5b6675")
    start = one.name == flow.start
    parts = [
        f"<g id={quoteattr('node-' + one.name)}>",
        f"<title>{escape(_cut(summary(flow, one.node) or one.name, 400))}</title>",
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{_WIDTH:.0f}" height="{one.height:.1f}" rx="7" '
        f'fill="{look.fill}" stroke="{look.line}" stroke-width="{3 if start else 1.4}"/>',
        _text(x + 10, y + 18, _cut(one.name, _TITLE_CHARACTERS), weight="bold", size=13, fill=ink),
        _text(x + _WIDTH - 10, y + 18, kind(one.node), anchor="end", fill=faint, size=11),
    ]
    for number, text in enumerate(one.text):
        at = y + _HEAD + 9 + number * _TEXT_LINE
        parts.append(_text(x + 10, at, text, fill=ink if dark else "#3a414b", size=11))
    for number, way in enumerate(one.ways):
        parts += _row(flow, one, way, x, y + one.port(number), number in led, counts)
    if one.left:
        at = y + one.port(len(one.ways))
        parts.append(f'<path d="M{x:.1f},{at - _ROW / 2:.1f} h{_WIDTH:.0f}" stroke="#00000014"/>')
        red = "#ffb3a7" if dark else _LOST
        parts.append(_text(x + 10, at + 4, f"✕ {one.left}", fill=red, weight="bold", size=11))
    return [*parts, "</g>"]


def _row(
    flow: Flow, one: _Drawn, way: Exit, x: float, y: float, led: bool, counts: Counts | None
) -> list[str]:
    """One exit: its label, and where it goes if no line shows that."""
    ink = _MISS if way.miss else "#1b1f24"
    top = y - _ROW / 2
    parts = [f'<path d="M{x:.1f},{top:.1f} h{_WIDTH:.0f}" stroke="#00000014"/>']
    number = f"{counts.exits.get((way.node, way.name), 0)}" if counts else ""
    if led:
        parts.append(f'<circle cx="{x + _WIDTH:.1f}" cy="{y:.1f}" r="3" fill="{ink}"/>')
        room = 34 - len(number)
        label = _cut(_plain(way.label), room)
        right = x + _WIDTH - 10
    else:
        target = _cut(way.target, 15)
        look = LOOKS[sort(flow.nodes[way.target])]
        wide = 20 + 6.1 * _columns_of(target)
        left = x + _WIDTH - wide - 6
        dark = sort(flow.nodes[way.target]) == "ends"
        dash = ' stroke-dasharray="3 2"' if way.miss else ""
        parts += [
            f"<a href={quoteattr('#node-' + way.target)}>",
            f'<rect x="{left:.1f}" y="{y - 7.5:.1f}" width="{wide:.1f}" height="15" rx="7.5" '
            f'fill="{look.fill}" stroke="{look.line}"{dash}/>',
            _text(left + 6, y + 4, f"▸ {target}", size=11, fill="#ffffff" if dark else "#1b1f24"),
            "</a>",
        ]
        label = _cut(_plain(way.label), int((_WIDTH - wide - 30) / 6.2) - len(number))
        right = left - 6
    parts.append(_text(x + 10, y + 4, label, fill=ink, size=11))
    if number:
        parts.append(_text(right, y + 4, number, anchor="end", fill="#5b6675", size=10))
    return parts


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 12,
    fill: str = "#1b1f24",
    weight: str = "normal",
    anchor: str = "start",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{fill}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


def _columns_of(text: str) -> int:
    """How wide a text is, in Latin characters."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _cut(text: str, most: int) -> str:
    if _columns_of(text) <= most:
        return text
    while text and _columns_of(text) > most - 1:
        text = text[:-1]
    return text.rstrip() + "…"


def _wrap(text: str, width: int, most: int) -> list[str]:
    """At most so many lines of a text, the last cut off where there is more."""
    lines: list[str] = []
    while text and len(lines) < most - 1 and _columns_of(text) > width:
        line = _cut(text, width)[:-1]
        at = line.rfind(" ")
        line = line[:at] if at > len(line) // 2 else line
        lines.append(line.rstrip())
        text = text[len(line) :].lstrip()
    return [*lines, _cut(text, width)] if text else lines
