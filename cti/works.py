"""One conversation in an agent's hands, from the offer to the end of its wrap-up: one table of its
stages, and how many of them an agent has room for.

What Asterisk tells may come twice, or after the end of what it is about; such steps lead nowhere
else and are in the table, while what cannot be is a Conflict for whoever asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from ivr.errors import Conflict
from ivr.model import Capacity, Kind


class Stage(StrEnum):
    """How far a conversation has come with its agent."""

    OFFERED = "offered"
    RINGING = "ringing"
    ACTIVE = "active"
    HELD = "held"
    WRAP_UP = "wrap_up"
    OVER = "over"


class WorkEvent(StrEnum):
    """What happened to it."""

    RANG = "rang"
    ANSWERED = "answered"
    NOT_TAKEN = "not_taken"  # missed, declined, failed, or the customer left before the answer
    HELD = "held"
    RETRIEVED = "retrieved"
    ENDED = "ended"  # somebody hung up, or it was transferred, or given back to the flow
    WRAPPED_UP = "wrapped_up"


_S, _E = Stage, WorkEvent

TRANSITIONS: dict[tuple[Stage, WorkEvent], Stage] = {
    (_S.OFFERED, _E.RANG): _S.RINGING,
    (_S.OFFERED, _E.ANSWERED): _S.ACTIVE,
    (_S.OFFERED, _E.NOT_TAKEN): _S.OVER,
    (_S.RINGING, _E.RANG): _S.RINGING,
    (_S.RINGING, _E.ANSWERED): _S.ACTIVE,
    (_S.RINGING, _E.NOT_TAKEN): _S.OVER,
    (_S.ACTIVE, _E.ANSWERED): _S.ACTIVE,
    (_S.ACTIVE, _E.HELD): _S.HELD,
    (_S.ACTIVE, _E.RETRIEVED): _S.ACTIVE,
    (_S.ACTIVE, _E.ENDED): _S.WRAP_UP,
    (_S.HELD, _E.HELD): _S.HELD,
    (_S.HELD, _E.RETRIEVED): _S.ACTIVE,
    (_S.HELD, _E.ENDED): _S.WRAP_UP,
    (_S.WRAP_UP, _E.ENDED): _S.WRAP_UP,
    (_S.WRAP_UP, _E.WRAPPED_UP): _S.OVER,
    (_S.OVER, _E.NOT_TAKEN): _S.OVER,
    (_S.OVER, _E.ENDED): _S.OVER,
    (_S.OVER, _E.WRAPPED_UP): _S.OVER,
}

TAKEN = frozenset({Stage.ACTIVE, Stage.HELD})
"""The agent and the customer are connected."""


def step(stage: Stage, event: WorkEvent) -> Stage:
    """The stage after the event. Raises Conflict where the table has no such step."""
    try:
        return TRANSITIONS[stage, event]
    except KeyError:
        raise Conflict(f"`{event}` is not possible while it is `{stage}`") from None


@dataclass(frozen=True, slots=True)
class Load:
    """One conversation, as far as it takes up room."""

    kind: Kind
    stage: Stage


def room(capacity: Capacity, works: Iterable[Load]) -> dict[Kind, int]:
    """How many more of each kind an agent can take.

    A call takes room until its wrap-up is done, for who writes up a call cannot hear the next one;
    a text only until it is over. While on a call, only `chats_on_call` texts fit; and nobody is
    rung for a call with more texts open than they may have on one.
    """
    held = [load for load in works if load.stage is not Stage.OVER]
    calls = sum(load.kind is Kind.CALL for load in held)
    texts = sum(load.kind is not Kind.CALL and load.stage is not Stage.WRAP_UP for load in held)
    for_texts = capacity.chats_on_call if calls else capacity.chats
    free_calls = 0 if texts > capacity.chats_on_call else capacity.calls - calls
    free_texts = for_texts - texts
    return {
        Kind.CALL: max(0, free_calls),
        Kind.CHAT: max(0, free_texts),
        Kind.MESSAGE: max(0, free_texts),
    }
