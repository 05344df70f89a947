"""The linter's rules about the ways through a flow: none, ending nowhere, or in a circle."""

from __future__ import annotations

from collections.abc import Mapping

from ivr.flow.inspection import Found, Inspection
from ivr.flow.schema import (
    QUESTIONS,
    AnyNode,
    CallNode,
    ConfirmNode,
    EndNode,
    FetchNode,
    Flow,
    HoursNode,
    MenuNode,
    OfferNode,
    QueueNode,
    RecordNode,
    TransferNode,
    WhenNode,
    targets,
)


def reachable(flow: Flow) -> set[str]:
    starts = {flow.start, *flow.anytime.values()} & set(flow.nodes)
    reached, ahead = set(starts), list(starts)
    while ahead:
        new = set(targets(flow.nodes[ahead.pop()])) - reached
        reached |= new
        ahead += new
    return reached


def unreachable(at: Inspection) -> Found:
    """E201: no way leads here."""
    reached = reachable(at.flow)
    for name in at.flow.nodes:
        if name not in reached:
            message = f"no way leads to node {name!r}; name it in a 'then', or remove it"
            yield "E201", message, at.node_place(name)


_NEEDS_NO_THEN = (MenuNode, HoursNode, QueueNode, TransferNode, EndNode, WhenNode)


def dead_ends(at: Inspection) -> Found:
    """E202: the flow stops here without an `end`."""
    for name, node in at.flow.nodes.items():
        missing = ""
        if isinstance(node, WhenNode):
            missing = "" if node.then else "'else'"
        elif isinstance(node, ConfirmNode):
            missing = "'then'" if not node.then else "'otherwise'" if not node.no else ""
        elif isinstance(node, QueueNode | TransferNode):
            missing = "" if node.otherwise else "'otherwise'"
        elif not isinstance(node, _NEEDS_NO_THEN) and not node.then:
            missing = "'then'"
        if missing:
            message = f"node {name!r} is a dead end; add {missing}, or lead it to an 'end'"
            yield "E202", message, at.node_place(name)


def _at_once(node: AnyNode, flows: Mapping[str, Flow]) -> tuple[str, ...]:
    """Where a node can lead without the customer having been waited for."""
    if isinstance(node, QueueNode | OfferNode):
        # Nobody may be there, and a customer may not be reachable: then it goes on at once.
        return (node.otherwise,) if node.otherwise else ()
    if isinstance(node, (*QUESTIONS, RecordNode)):
        return ()
    if isinstance(node, CallNode) and node.flow in flows:
        inside = flows[node.flow].nodes.values()
        if any(isinstance(other, QUESTIONS) for other in inside):
            return (node.otherwise,) if node.otherwise else ()
    return targets(node)


def endless(at: Inspection) -> Found:
    """E203: a loop that could run for ever while the customer is never waited for."""
    edges = {
        name: [target for target in _at_once(node, at.flows) if target in at.flow.nodes]
        for name, node in at.flow.nodes.items()
    }
    circling = _peeled(_peeled(edges), backwards=True)
    reported: set[str] = set()
    for name in circling:
        if name in reported or not (loop := _loop(name, circling)):
            continue
        reported |= set(loop)
        way = " → ".join((*loop, name))
        message = f"a loop that never waits for the customer: {way}; put a question or an end in it"
        yield "E203", message, at.node_place(name)


def _peeled(edges: Mapping[str, list[str]], backwards: bool = False) -> dict[str, list[str]]:
    """Without the nodes from which (or, backwards, to which) no loop leads."""
    onward: dict[str, list[str]] = {name: [] for name in edges}
    for name, ends in edges.items():
        for end in ends:
            one, other = (end, name) if backwards else (name, end)
            onward[one].append(other)
    coming: dict[str, list[str]] = {name: [] for name in edges}
    for name, ends in onward.items():
        for end in ends:
            coming[end].append(name)
    left = {name: len(ends) for name, ends in onward.items()}
    done = [name for name, count in left.items() if not count]
    for name in done:
        for before in coming[name]:
            left[before] -= 1
            if not left[before]:
                done.append(before)
    kept = set(edges) - set(done)
    return {name: [end for end in edges[name] if end in kept] for name in edges if name in kept}


def _loop(start: str, edges: Mapping[str, list[str]]) -> list[str]:
    """The shortest way from a node back to itself, empty without one."""
    before: dict[str, str] = {}
    ahead = [start]
    for name in ahead:
        for target in edges[name]:
            if target == start:
                way = [name]
                while way[-1] != start:
                    way.append(before[way[-1]])
                return way[::-1]
            if target not in before:
                before[target] = name
                ahead.append(target)
    return []


def nobody(at: Inspection) -> Found:
    """W305: no way to a person, in this flow or those that it calls."""
    seen, ahead = {at.flow.name}, [at.flow]
    while ahead:
        flow = ahead.pop()
        reached = reachable(flow)
        for name in reached:
            node = flow.nodes[name]
            if isinstance(node, QueueNode | TransferNode):
                return
            if isinstance(node, CallNode) and node.flow in at.flows and node.flow not in seen:
                seen.add(node.flow)
                ahead.append(at.flows[node.flow])
    message = "no way to a person; add a 'queue' or a 'transfer'"
    yield "W305", message, at.flow.where("flow")


def fetch_fails(at: Inspection) -> Found:
    """W306: nothing is said of what happens when a system does not answer."""
    for name, node in at.flow.nodes.items():
        if isinstance(node, FetchNode) and not node.otherwise:
            message = f"node {name!r}: a fetch can fail; say where to go on with 'otherwise'"
            yield "W306", message, at.flow.where("nodes", name, "fetch")
