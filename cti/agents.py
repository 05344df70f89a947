"""What an agent may be doing, and what changes it: one table, so that no screen, timer or telephone
can bring an agent into a state that the others do not know.

An ignored or refused offer makes the agent *away*: whoever does not answer is not asked again until
they say that they are back.
"""

from __future__ import annotations

from enum import StrEnum

from ivr.errors import Conflict


class Presence(StrEnum):
    """What an agent is doing."""

    OFFLINE = "offline"
    AVAILABLE = "available"
    AWAY = "away"
    OFFERED = "offered"
    TALKING = "talking"
    WRAP_UP = "wrap_up"


class AgentEvent(StrEnum):
    """What happened to an agent."""

    LOGGED_IN = "logged_in"
    CAME_BACK = "came_back"
    WENT_AWAY = "went_away"
    OFFERED = "offered"
    ANSWERED = "answered"
    MISSED = "missed"
    DECLINED = "declined"
    CALLER_LEFT = "caller_left"
    CALL_ENDED = "call_ended"
    WRAPPED_UP = "wrapped_up"
    SCREENS_LOST = "screens_lost"
    LOGGED_OUT = "logged_out"


_P, _E = Presence, AgentEvent

# Losing every screen changes nothing while a telephone is at the agent's ear: the call goes on.
TRANSITIONS: dict[tuple[Presence, AgentEvent], Presence] = {
    (_P.OFFLINE, _E.LOGGED_IN): _P.AWAY,
    (_P.OFFLINE, _E.SCREENS_LOST): _P.OFFLINE,
    (_P.OFFLINE, _E.LOGGED_OUT): _P.OFFLINE,
    (_P.AVAILABLE, _E.LOGGED_IN): _P.AVAILABLE,
    (_P.AVAILABLE, _E.CAME_BACK): _P.AVAILABLE,
    (_P.AVAILABLE, _E.WENT_AWAY): _P.AWAY,
    (_P.AVAILABLE, _E.OFFERED): _P.OFFERED,
    (_P.AVAILABLE, _E.SCREENS_LOST): _P.AWAY,
    (_P.AVAILABLE, _E.LOGGED_OUT): _P.OFFLINE,
    (_P.AWAY, _E.LOGGED_IN): _P.AWAY,
    (_P.AWAY, _E.CAME_BACK): _P.AVAILABLE,
    (_P.AWAY, _E.WENT_AWAY): _P.AWAY,
    (_P.AWAY, _E.SCREENS_LOST): _P.AWAY,
    (_P.AWAY, _E.LOGGED_OUT): _P.OFFLINE,
    (_P.OFFERED, _E.LOGGED_IN): _P.OFFERED,
    (_P.OFFERED, _E.ANSWERED): _P.TALKING,
    (_P.OFFERED, _E.MISSED): _P.AWAY,
    (_P.OFFERED, _E.DECLINED): _P.AWAY,
    (_P.OFFERED, _E.CALLER_LEFT): _P.AVAILABLE,
    (_P.OFFERED, _E.SCREENS_LOST): _P.OFFERED,
    (_P.TALKING, _E.LOGGED_IN): _P.TALKING,
    (_P.TALKING, _E.CALL_ENDED): _P.WRAP_UP,
    (_P.TALKING, _E.SCREENS_LOST): _P.TALKING,
    (_P.WRAP_UP, _E.LOGGED_IN): _P.WRAP_UP,
    (_P.WRAP_UP, _E.WRAPPED_UP): _P.AVAILABLE,
    (_P.WRAP_UP, _E.CAME_BACK): _P.AVAILABLE,
    (_P.WRAP_UP, _E.WENT_AWAY): _P.AWAY,
    (_P.WRAP_UP, _E.SCREENS_LOST): _P.WRAP_UP,
    (_P.WRAP_UP, _E.LOGGED_OUT): _P.OFFLINE,
}

BUSY = frozenset({Presence.OFFERED, Presence.TALKING, Presence.WRAP_UP})
"""At work for a customer: not free, but somebody whom it is worth waiting for."""


def step(presence: Presence, event: AgentEvent) -> Presence:
    """The presence after the event. Raises Conflict where the table has no such step."""
    try:
        return TRANSITIONS[presence, event]
    except KeyError:
        raise Conflict(f"`{event}` is not possible while the agent is `{presence}`") from None
