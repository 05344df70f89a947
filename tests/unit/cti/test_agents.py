"""Presence: whatever happens in whatever order, an agent is in a state that the table allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cti.agents import TRANSITIONS, AgentEvent, Presence, step
from ivr.errors import Conflict

E, P = AgentEvent, Presence


@pytest.mark.parametrize(
    ("events", "ends"),
    [
        ([E.LOGGED_IN], P.AWAY),
        ([E.LOGGED_IN, E.CAME_BACK], P.AVAILABLE),
        ([E.LOGGED_IN, E.CAME_BACK, E.MISSED], P.AWAY),
        ([E.LOGGED_IN, E.CAME_BACK, E.DECLINED, E.CAME_BACK], P.AVAILABLE),
        ([E.LOGGED_IN, E.CAME_BACK, E.SCREENS_LOST], P.AWAY),
        ([E.LOGGED_IN, E.CAME_BACK, E.WENT_AWAY, E.LOGGED_IN], P.AWAY),
        ([E.LOGGED_IN, E.CAME_BACK, E.LOGGED_OUT], P.OFFLINE),
        ([E.LOGGED_IN, E.CAME_BACK, E.FORCED_OUT], P.OFFLINE),
    ],
)
def test_the_ways_of_a_day(events: list[AgentEvent], ends: Presence) -> None:
    presence = P.OFFLINE
    for event in events:
        presence = step(presence, event)
    assert presence is ends


@given(st.lists(st.sampled_from(AgentEvent)))
def test_no_order_of_events_leaves_the_table(events: list[AgentEvent]) -> None:
    presence = P.OFFLINE
    for event in events:
        try:
            after = step(presence, event)
        except Conflict as refused:
            assert event in str(refused) and presence in str(refused)
            assert (presence, event) not in TRANSITIONS
            continue
        # Only an agent's own word makes available: nobody is offered who has not asked for it.
        if after is P.AVAILABLE and presence is not P.AVAILABLE:
            assert event is E.CAME_BACK
        presence = after


def test_every_screen_may_open_and_close_at_any_time() -> None:
    for presence in Presence:
        step(presence, E.LOGGED_IN)
        step(presence, E.SCREENS_LOST)
        step(presence, E.FORCED_OUT)
