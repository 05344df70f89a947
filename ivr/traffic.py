"""How many real conversations took each way through a flow, and where they stopped.

The timelines of conversations say what the engine decided; each is followed through the version of
the flow that it ran. What a later version has renamed or dropped is counted under its old name.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ivr.errors import HotlineError
from ivr.flow import loader
from ivr.flow.exits import FOLLOWED, Trace
from ivr.flow.schema import Bundle
from ivr.model import Conversation, TimelineEntry
from ivr.store.repo import Store

MOST = 5_000
"""The most conversations that are counted: the latest."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went through the flows.

    `flows` are the conversations that came through each flow, `nodes` and `exits` how often a
    (flow, node) was entered and a (flow, node, exit) taken, and `lost` those (flow, node) at which
    customers left, before any end and without a person. `cut` says that there were more
    conversations than were counted.
    """

    flows: Mapping[str, int] = field(default_factory=dict)
    cut: bool = False
    nodes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    exits: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    lost: Mapping[tuple[str, str], int] = field(default_factory=dict)


_KEPT = 32


async def measure(
    store: Store, since: datetime, kept: dict[str, Bundle] | None = None, limit: int = MOST
) -> Traffic:
    """Count the conversations that began at or after `since`. Raises StoreError.

    `kept` is where a caller who counts often keeps the versions that have been loaded.
    """
    journeys = await store.journeys(since, FOLLOWED | {"flow_ended", "agent_joined"}, limit + 1)
    bundles = {} if kept is None else kept
    if len(bundles) > _KEPT:
        bundles.clear()
    for conversation, _ in journeys:
        if conversation.version in bundles:
            continue
        texts = await store.flow_texts(conversation.version)
        try:
            if texts is not None:
                bundle = await asyncio.to_thread(loader.load, texts, conversation.flow)
                bundles[conversation.version] = bundle
        except HotlineError:
            continue  # kept by a version of ours that took more: it cannot be followed any more
    return await asyncio.to_thread(count, journeys[:limit], bundles, len(journeys) > limit)


def count(
    journeys: Iterable[tuple[Conversation, Iterable[TimelineEntry]]],
    bundles: Mapping[str, Bundle],
    cut: bool = False,
) -> Traffic:
    """Add up journeys through the versions (by content hash) that they ran."""
    flows: Counter[str] = Counter()
    nodes: Counter[tuple[str, str]] = Counter()
    exits: Counter[tuple[str, str, str]] = Counter()
    lost: Counter[tuple[str, str]] = Counter()
    for conversation, entries in journeys:
        bundle = bundles.get(conversation.version)
        if bundle is None:
            continue
        trace = Trace(bundle)
        left = False
        served = False
        try:
            for entry in entries:
                trace.follow([(entry.kind, entry.body)])
                if entry.kind == "flow_ended":
                    left = entry.body.get("outcome") == "hung_up"
                elif entry.kind != "flow_returned":
                    served = entry.kind == "agent_joined"
        except KeyError:
            continue  # an entry was too large to be kept whole
        flows.update({flow for flow, _ in trace.nodes})
        nodes.update(trace.nodes)
        exits.update(trace.exits)
        if trace.nodes and left and not served:
            lost[trace.nodes[-1]] += 1
    return Traffic(flows, cut, nodes, exits, lost)
