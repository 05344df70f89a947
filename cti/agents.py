"""Whether an agent is there to be asked, and what changes that: one table, so that no screen, timer
or telephone can bring an agent into a state that the others do not know.

Being busy is no presence: it follows from the works in an agent's hands (`cti.works`) and from how
many they take at once. An ignored or refused offer makes the agent *away*: whoever does not answer
is not asked again until they say that they are back.
"""

from __future__ import annotations

from enum import StrEnum

from ivr.errors import Conflict


class Presence(StrEnum):
    """Whether an agent may be offered customers."""

    OFFLINE = "offline"
    AVAILABLE = "available"
    AWAY = "away"


class AgentEvent(StrEnum):
    """What happened to an agent."""

    LOGGED_IN = "logged_in"
    CAME_BACK = "came_back"
    WENT_AWAY = "went_away"
    MISSED = "missed"
    DECLINED = "declined"
    SCREENS_LOST = "screens_lost"
    LOGGED_OUT = "logged_out"
    FORCED_OUT = "forced_out"


_P, _E = Presence, AgentEvent

TRANSITIONS: dict[tuple[Presence, AgentEvent], Presence] = {
    (_P.OFFLINE, _E.LOGGED_IN): _P.AWAY,
    (_P.OFFLINE, _E.MISSED): _P.OFFLINE,
    (_P.OFFLINE, _E.DECLINED): _P.OFFLINE,
    (_P.OFFLINE, _E.SCREENS_LOST): _P.OFFLINE,
    (_P.OFFLINE, _E.LOGGED_OUT): _P.OFFLINE,
    (_P.OFFLINE, _E.FORCED_OUT): _P.OFFLINE,
    (_P.AVAILABLE, _E.LOGGED_IN): _P.AVAILABLE,
    (_P.AVAILABLE, _E.CAME_BACK): _P.AVAILABLE,
    (_P.AVAILABLE, _E.WENT_AWAY): _P.AWAY,
    (_P.AVAILABLE, _E.MISSED): _P.AWAY,
    (_P.AVAILABLE, _E.DECLINED): _P.AWAY,
    (_P.AVAILABLE, _E.SCREENS_LOST): _P.AWAY,
    (_P.AVAILABLE, _E.LOGGED_OUT): _P.OFFLINE,
    (_P.AVAILABLE, _E.FORCED_OUT): _P.OFFLINE,
    (_P.AWAY, _E.LOGGED_IN): _P.AWAY,
    (_P.AWAY, _E.CAME_BACK): _P.AVAILABLE,
    (_P.AWAY, _E.WENT_AWAY): _P.AWAY,
    (_P.AWAY, _E.MISSED): _P.AWAY,
    (_P.AWAY, _E.DECLINED): _P.AWAY,
    (_P.AWAY, _E.SCREENS_LOST): _P.AWAY,
    (_P.AWAY, _E.LOGGED_OUT): _P.OFFLINE,
    (_P.AWAY, _E.FORCED_OUT): _P.OFFLINE,
}


def step(presence: Presence, event: AgentEvent) -> Presence:
    """The presence after the event. Raises Conflict where the table has no such step."""
    try:
        return TRANSITIONS[presence, event]
    except KeyError:
        raise Conflict(f"`{event}` is not possible while the agent is `{presence}`") from None
