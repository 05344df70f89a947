"""The ways out of a node, by name: what drawings draw, tests cover, and traffic is counted by.

Only what the designer wrote is an exit. Global commands and the engine's own last resorts (people,
else goodbye) lead out of every question and belong to none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ivr.flow import schema
from ivr.flow.schema import KINDS, AnyNode, Bundle, Flow

_KIND_NAMES = {kind.node: name for name, kind in KINDS.items()}


@dataclass(frozen=True, slots=True)
class Exit:
    """One way from `node` to `target`. `name` is unique within the node; `label` is for people."""

    node: str
    name: str
    target: str
    label: str = ""
    miss: bool = False


def kind(node: AnyNode) -> str:
    """A node's kind, as the flow file calls it."""
    return _KIND_NAMES[type(node)]


def exits(flow: Flow, node: AnyNode) -> tuple[Exit, ...]:
    """A node's ways out, in the order in which they were written. `miss` marks those for when it
    did not work: misses, failures, refusals."""
    ways: list[tuple[str, str, str, bool]] = []
    last = True
    match node:
        case schema.MenuNode():
            for choice in node.choices:
                ways.append((choice.name, choice.then or node.then, _label(flow, choice), False))
        case schema.ConfirmNode():
            ways = [("yes", node.then, "", False), ("no", node.no or node.otherwise, "", False)]
            last = bool(node.no) and node.no != node.otherwise
        case schema.OfferNode():
            ways = [("accepted", node.then, "", False), ("declined", node.otherwise, "", True)]
            last = False
        case schema.WhenNode():
            for number, (condition, target) in enumerate(node.cases, 1):
                ways.append((str(number), target, condition.source, False))
            ways.append(("else", node.then, "", False))
        case schema.HoursNode():
            ways = [("open", node.open, "", False), ("closed", node.closed, "", False)]
            if flow.tree.find(["nodes", node.name, "hours", "holiday"]) is not None:
                ways.append(("holiday", node.holiday, "", False))
        case schema.QueueNode():
            ways = [("then", node.then, "", False)]
            if node.offer_then:
                ways.append(("offer_after", node.offer_then, f"after {node.offer_wait:g} s", False))
        case _:
            ways = [("then", node.then, "", False)]
    if last:
        ways.append(("otherwise", node.otherwise, "", True))
    return tuple(
        Exit(node.name, name, target, label or name, miss)
        for name, target, label, miss in ways
        if target
    )


def _label(flow: Flow, choice: schema.MenuChoice) -> str:
    labels = choice.labels
    text = labels.get(flow.languages[0]) or labels.get("") or choice.name
    return f"{text} · {choice.key}" if choice.key else text


# --- which exits a conversation took ------------------------------------------------------------

Note = tuple[str, Mapping[str, Any]]
"""A line of what the engine decided: its kind and body, from an effect or from the timeline."""


class Trace:
    """Follows the engine's notes through the flows, and tells the nodes and exits that they passed.

    `nodes` holds (flow, node) and `exits` (flow, node, exit), each as often as it was passed.
    """

    def __init__(self, bundle: Bundle):
        self._bundle = bundle
        self._exits: dict[tuple[str, str], tuple[Exit, ...]] = {}
        self._at: list[tuple[str, str]] = []
        self._decided: Note | None = None
        self.nodes: list[tuple[str, str]] = []
        self.exits: list[tuple[str, str, str]] = []

    def follow(self, notes: Iterable[Note]) -> None:
        """Go on with the notes of the next step, or of several."""
        for name, body in notes:
            if name == "node_entered":
                self._enter(str(body["flow"]), str(body["node"]))
            elif name == "flow_called":
                self._at.append((str(body["flow"]), ""))
                self._decided = None
            elif name in _DECIDING:
                # A later decision at a node outdoes an earlier one: "repeat", then an answer.
                self._decided = (name, body)
            if name == "flow_returned":
                del self._at[-1:]

    def _enter(self, flow: str, node: str) -> None:
        while self._at and self._at[-1][0] != flow:
            # A command led out of a called flow.
            self._at.pop()
        here = self._at.pop() if self._at else (flow, "")
        if here[1] and (way := self._way(here, node)):
            self.exits.append((*here, way))
        self._at.append((flow, node))
        self.nodes.append((flow, node))
        self._decided = None

    def _way(self, here: tuple[str, str], target: str) -> str:
        """The exit that leads to the target; "" where something else than an exit did."""
        if here not in self._exits:
            flow = self._bundle.flows[here[0]]
            self._exits[here] = exits(flow, flow.nodes[here[1]])
        ways = [way.name for way in self._exits[here] if way.target == target]
        if self._decided is not None:
            name, body = self._decided
            ways = [way for way in _DECIDING[name](body) if way in ways]
        return ways[0] if ways else ""


def _succeeded(key: str, good: str) -> Callable[[Mapping[str, Any]], tuple[str, ...]]:
    return lambda body: ("then",) if body.get(key) == good else ("otherwise", "then")


def _answered(body: Mapping[str, Any]) -> tuple[str, ...]:
    name = str(body.get("choice"))
    return (name, *{"yes": ("accepted", "declined"), "no": ("declined",)}.get(name, ()))


_DECIDING: Mapping[str, Callable[[Mapping[str, Any]], tuple[str, ...]]] = {
    "commanded": lambda body: (),
    "stuck": lambda body: (),
    "matched": _answered,
    "slot_filled": lambda body: ("then",),
    "tries_used_up": lambda body: ("otherwise", "no", "declined"),
    "branched": lambda body: (str(body.get("way")),),
    "fetch_answered": lambda body: ("then",),
    "fetch_failed": lambda body: ("otherwise", "then"),
    "channel_moved": lambda body: ("accepted",),
    "agent_left": lambda body: ("then",),
    "queue_failed": lambda body: ("otherwise",),
    "transfer_ended": _succeeded("outcome", "answered"),
    "message_taken": lambda body: ("then",),
    "flow_returned": _succeeded("outcome", "completed"),
}
"""The notes that decide where a node leads, and the exits that each can stand for."""

FOLLOWED = frozenset({"node_entered", "flow_called", "flow_returned", *_DECIDING})
"""The kinds of notes that a `Trace` looks at."""
