"""How what happens in a conversation is written down, and read again to be replayed.

A step of the timeline is one event, which led to it, and then what the flow said and decided. An
event's body is the event itself, so that it can happen again; only what a customer answered to a
question for a secret is left out of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ivr.flow.events import (
    AgentJoined,
    AgentLeft,
    ChannelFailed,
    ChannelLive,
    DigitsPressed,
    Effect,
    End,
    Event,
    Fetch,
    FetchAnswered,
    HungUp,
    Note,
    QueueFailed,
    QueueMoved,
    Recorded,
    Resumed,
    Say,
    SpeechHeard,
    Started,
    TextReceived,
    TimedOut,
    TimerFired,
    TransferEnded,
    to_json,
)

Told = tuple[str, Mapping[str, Any]]
"""One line: its kind (of `ivr.store.models.TIMELINE_KINDS`) and its body."""

SAYING = (DigitsPressed, SpeechHeard, TextReceived)
"""Events that hold a customer's own words."""

_KINDS: Mapping[type[Event], str] = {
    Started: "call_started",
    Resumed: "resumed",
    DigitsPressed: "pressed",
    SpeechHeard: "heard",
    TextReceived: "typed",
    TimedOut: "timed_out",
    HungUp: "hung_up",
    FetchAnswered: "fetched",
    QueueMoved: "queue_moved",
    QueueFailed: "turned_away",
    AgentJoined: "joined",
    AgentLeft: "parted",
    ChannelLive: "moved",
    ChannelFailed: "not_moved",
    TransferEnded: "transferred",
    Recorded: "recorded",
    TimerFired: "timer_fired",
}

EVENT_KINDS = frozenset(_KINDS.values())


def happened(event: Event, *, secret: bool = False) -> Told:
    """The line of an event; `secret` says that it answers a question for a secret."""
    body = to_json(event)
    if secret and isinstance(event, SAYING):
        body = {"event": body["event"], "turn": event.turn, "secret": True}
    return _KINDS[type(event)], body


def decided(effects: Iterable[Effect]) -> Iterator[Told]:
    """The lines of what the flow said and decided."""
    for effect in effects:
        match effect:
            case Say():
                yield "said", {"text": effect.text, "language": effect.language}
            case Note():
                yield effect.kind, effect.body
            case Fetch():
                asked = {"system": effect.system, "method": effect.method, "path": effect.path}
                yield "asked", {"id": effect.id, **asked}
            case End():
                yield "ended", {"outcome": effect.outcome}
            case _:
                pass
