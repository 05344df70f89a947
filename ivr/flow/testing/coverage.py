"""Which nodes and exits of a flow its tests have never gone by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ivr.flow.exits import exits
from ivr.flow.schema import Bundle, CallNode, Flow
from ivr.flow.testing.playing import Result


@dataclass(frozen=True, slots=True)
class Missed:
    """A node, or one of its exits, that no test has taken; where it stands in the flow file."""

    line: int
    node: str
    exit: str = ""
    target: str = ""

    def __str__(self) -> str:
        if not self.exit:
            return f"node {self.node} is never entered"
        return f"node {self.node}: exit {self.exit} to {self.target} is never taken"


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of one flow was taken: `nodes` and `exits` are (taken, all)."""

    flow: str
    file: str
    nodes: tuple[int, int]
    exits: tuple[int, int]
    missed: tuple[Missed, ...]

    @property
    def percent(self) -> float:
        taken, whole = self.nodes[0] + self.exits[0], self.nodes[1] + self.exits[1]
        return 100.0 * taken / whole if whole else 100.0

    def to_json(self) -> dict[str, Any]:
        return {
            "flow": self.flow,
            "file": self.file,
            "percent": round(self.percent, 2),
            "nodes": list(self.nodes),
            "exits": list(self.exits),
            "missed": [
                {"line": one.line, "node": one.node, "exit": one.exit, "target": one.target}
                for one in self.missed
            ],
        }


def measure(bundle: Bundle, results: Iterable[Result]) -> list[Coverage]:
    """The coverage of the bundle's first flow and of all that it calls, by all of the results."""
    passed: set[tuple[str, str]] = set()
    taken: set[tuple[str, str, str]] = set()
    for result in results:
        passed.update(result.passed)
        taken.update(result.taken)
    return [_of(flow, passed, taken) for flow in _reached(bundle)]


def _reached(bundle: Bundle) -> list[Flow]:
    names = [bundle.entry]
    for name in names:
        for node in bundle.flows[name].nodes.values():
            if isinstance(node, CallNode) and node.flow not in names:
                names.append(node.flow)
    return [bundle.flows[name] for name in names]


def _of(flow: Flow, passed: set[tuple[str, str]], taken: set[tuple[str, str, str]]) -> Coverage:
    ways = [way for node in flow.nodes.values() for way in exits(flow, node)]
    nodes = [name for name in flow.nodes if (flow.name, name) not in passed]
    unused = [way for way in ways if (flow.name, way.node, way.name) not in taken]
    missed = [Missed(flow.where("nodes", name)[0], name) for name in nodes]
    missed += [
        Missed(flow.where("nodes", way.node)[0], way.node, way.name, way.target)
        for way in unused
        if way.node not in nodes
    ]
    return Coverage(
        flow.name,
        flow.file,
        (len(flow.nodes) - len(nodes), len(flow.nodes)),
        (len(ways) - len(unused), len(ways)),
        tuple(sorted(missed, key=lambda one: (one.line, one.node, one.exit))),
    )
