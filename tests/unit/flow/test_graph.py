"""What a drawing of a flow must show, and that nothing in a flow can break out of it."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivr.flow import graph, layout, loader
from ivr.flow.exits import exits
from ivr.flow.graph import Counts
from ivr.flow.layout import Box, Line
from ivr.flow.schema import Flow
from tests.unit.flow.dialogues import water

SVG = "{http://www.w3.org/2000/svg}"


def flow() -> Flow:
    return water().flows["water"]


def sixty() -> Flow:
    nodes = ["  n0: {menu: {ask: Go, choices: {"]
    nodes[0] += ", ".join(f"c{i}: {{press: {i}, say: [w{i}], then: n{i}}}" for i in range(1, 10))
    nodes[0] += "}, otherwise: people}}"
    for i in range(1, 58):
        nodes.append(
            f"  n{i}: {{collect: {{slot: s, ask: Q{i}, otherwise: people}}, "
            f"then: n{i + 9 if i < 48 else 0}}}"
        )
    nodes += ["  people: {queue: {}, then: bye, otherwise: bye}", "  bye: {end: {}}"]
    text = "flow: big\nstart: n0\nslots: {s: {type: text}}\nnodes:\n" + "\n".join(nodes) + "\n"
    return loader.load({"big.yaml": text}).flows["big"]


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def boxes(svg: str) -> dict[str, tuple[float, float, float, float]]:
    found = {}
    for group in ElementTree.fromstring(svg).iter(f"{SVG}g"):
        box = group.find(f"{SVG}rect")
        assert box is not None
        x, y, width, height = (float(box.get(key) or 0) for key in ("x", "y", "width", "height"))
        found[(group.get("id") or "").removeprefix("node-")] = (x, y, width, height)
    return found


# --- SVG ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", [flow, sixty])
def test_every_node_is_drawn_once_and_none_over_another(of: object) -> None:
    drawn = flow() if of is flow else sixty()
    placed = boxes(graph.svg(drawn))
    assert set(placed) == set(drawn.nodes)
    for name, (x, y, width, height) in placed.items():
        for other, (left, top, wide, high) in placed.items():
            apart = x + width <= left or left + wide <= x or y + height <= top or top + high <= y
            assert name == other or apart, (name, other)


def test_every_exit_has_its_label_and_leads_to_its_box() -> None:
    svg = graph.svg(flow())
    shown = texts(svg)
    for label in ("bill · 1", "repairs · 2", "otherwise", "open", "closed", "holiday", "declined"):
        assert label in shown
    root = ElementTree.fromstring(svg)
    tags = [link.get("href") for link in root.iter(f"{SVG}a")]
    lines = [path for path in root.iter(f"{SVG}path") if path.get("marker-end")]
    assert set(tags) <= {f"#node-{name}" for name in flow().nodes}
    every = sum(len(exits(flow(), node)) for node in flow().nodes.values())
    assert len(lines) - 1 + len(tags) == every  # one line is the legend's


def test_misses_are_dashed_and_people_and_endings_have_their_colours() -> None:
    svg = graph.svg(flow())
    assert "stroke-dasharray" in svg
    root = ElementTree.fromstring(svg)
    fills = {}
    for group in root.iter(f"{SVG}g"):
        box = group.find(f"{SVG}rect")
        assert box is not None
        fills[group.get("id")] = box.get("fill")
    assert fills["node-people"] == fills["node-cousin"] == graph.LOOKS["people"].fill
    assert fills["node-bye"] == graph.LOOKS["ends"].fill
    assert fills["node-main"] == graph.LOOKS["asks"].fill


def test_it_reads_from_left_to_right() -> None:
    placed = boxes(graph.svg(flow()))
    assert placed["welcome"][0] < placed["main"][0] < placed["account"][0] < placed["lookup"][0]


def test_counts_are_shown_on_their_exits() -> None:
    shown = texts(graph.svg(flow(), Counts({("main", "billing"): 1234})))
    assert "1234" in shown
    assert "bill · 1 #40;7#41;" in graph.mermaid(flow(), Counts({("main", "billing"): 7}))


def test_who_left_is_shown_on_the_node_and_nothing_lies_over_it() -> None:
    counts = Counts({}, {"main": 20, "bye": 3}, {"main": 5, "bye": 3})
    drawn = graph.svg(flow(), counts)
    assert {"✕ 5 of 20 left here", "✕ 3 of 3 left here"} <= set(texts(drawn))
    assert boxes(drawn)["main"][3] > boxes(graph.svg(flow()))["main"][3]
    assert "<br/>5 of 20 left here" in graph.mermaid(flow(), counts)


HOSTILE = """\
flow: x
start: a
nodes:
  a: {say: '</text><script>alert(1)</script> "q" & \\\\ `x` %%{{init}} click', then: b}
  b:
    menu:
      ask: "]]> --> end subgraph"
      choices: {y: {press: 1, label: '"|] --> evil["<img src=x>', then: c}}
  c: {end: "bye"}
"""


def test_texts_cannot_break_out_of_a_drawing() -> None:
    hostile = loader.load({"x.yaml": HOSTILE}).flows["x"]
    svg = graph.svg(hostile)
    root = ElementTree.fromstring(svg)
    assert not list(root.iter(f"{SVG}script"))
    assert not list(root.iter(f"{SVG}img"))
    mermaid = graph.mermaid(hostile)
    for line in mermaid.splitlines():
        assert re.fullmatch(r"flowchart TD|    (start|n\d+|classDef).*", line)
    assert "<script" not in mermaid
    assert "<img" not in mermaid
    assert "evil[" not in mermaid


def test_a_thousand_nodes_are_drawn_in_a_moment() -> None:
    nodes = "\n".join(
        f"  n{i}: {{confirm: {{ask: Q}}, then: n{i * 7 % 1000}, otherwise: n{(i + 1) % 1000}}}"
        for i in range(1000)
    )
    big = loader.load({"x.yaml": f"flow: x\nstart: n0\nnodes:\n{nodes}\n"}).flows["x"]
    began = time.process_time()
    assert len(boxes(graph.svg(big))) == 1000
    assert time.process_time() - began < 10


# --- Mermaid ------------------------------------------------------------------------------------


def test_mermaid_has_every_exit_with_its_label() -> None:
    mermaid = graph.mermaid(flow())
    ids = dict(re.findall(r'^    (n\d+)[(\[{]+"(\w+)', mermaid, re.M))
    back = {name: own for own, name in ids.items()}
    assert set(back) == set(flow().nodes)
    assert f"start(( )) --> {back['welcome']}" in mermaid
    assert f'{back["main"]} -.->|"otherwise"| {back["people"]}' in mermaid
    assert f'{back["desk"]} -->|"holiday"| {back["closed"]}' in mermaid
    assert f"{back['welcome']} --> {back['main']}" in mermaid


# --- the layout alone ---------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 25).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=60),
        )
    )
)
def test_any_graph_is_placed_without_overlap(case: tuple[int, list[tuple[int, int]]]) -> None:
    count, ends = case
    leaving: dict[int, list[int]] = {number: [] for number in range(count)}
    for source, target in ends:
        leaving[source].append(target)
    shapes = [
        Box(f"b{number}", 30 + 10 * len(ways), 10, [30 + 10 * n for n in range(len(ways))])
        for number, ways in leaving.items()
    ]
    lines = [
        Line(f"b{number}", port, f"b{target}")
        for number, ways in leaving.items()
        for port, target in enumerate(ways)
    ]
    plan = layout.place(shapes, lines)
    assert set(plan.boxes) == {box.name for box in shapes}
    for line, passed in plan.lines.items():
        assert plan.boxes[line.source][0] < plan.boxes[line.target][0]
        columns = [column for column, _ in passed]
        assert columns == list(range(plan.boxes[line.source][0] + 1, plan.boxes[line.target][0]))
    height = {box.name: box.height for box in shapes}
    for column in range(plan.columns):
        tops = sorted((top, name) for name, (where, top) in plan.boxes.items() if where == column)
        for (top, name), (following, _) in pairwise(tops):
            assert top + height[name] <= following + 0.01
