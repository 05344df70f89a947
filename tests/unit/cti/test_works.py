"""What a conversation can come to in an agent's hands, and how much an agent can take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cti.works import TRANSITIONS, Load, Stage, WorkEvent, room, step
from ivr.errors import Conflict
from ivr.model import Capacity, Kind


@pytest.mark.parametrize(
    ("events", "stage"),
    [
        (["rang", "answered", "ended", "wrapped_up"], "over"),
        (["answered", "held", "retrieved", "ended"], "wrap_up"),
        (["answered", "held", "ended"], "wrap_up"),
        (["not_taken"], "over"),
        (["rang", "not_taken"], "over"),
        (["rang", "rang", "answered", "answered", "held", "held"], "held"),
        (["answered", "ended", "ended"], "wrap_up"),
    ],
)
def test_the_ways_of_a_conversation(events: list[str], stage: str) -> None:
    at = Stage.OFFERED
    for event in events:
        at = step(at, WorkEvent(event))
    assert at == stage


@pytest.mark.parametrize(
    ("stage", "event"),
    [("offered", "held"), ("wrap_up", "held"), ("active", "wrapped_up"), ("over", "answered")],
)
def test_what_cannot_be_is_refused(stage: str, event: str) -> None:
    with pytest.raises(Conflict, match=event):
        step(Stage(stage), WorkEvent(event))


def test_nothing_that_is_over_comes_back() -> None:
    assert {after for (stage, _), after in TRANSITIONS.items() if stage is Stage.OVER} == {
        Stage.OVER
    }


def call(stage: str = "active") -> Load:
    return Load(Kind.CALL, Stage(stage))


def chat(stage: str = "active") -> Load:
    return Load(Kind.CHAT, Stage(stage))


@pytest.mark.parametrize(
    ("works", "calls", "texts"),
    [
        ([], 1, 4),
        ([call()], 0, 0),
        ([call("offered")], 0, 0),
        ([call("wrap_up")], 0, 0),
        ([call("over")], 1, 4),
        ([chat()], 0, 3),
        ([chat("wrap_up")], 1, 4),
        ([chat(), chat(), chat(), chat()], 0, 0),
    ],
)
def test_one_call_or_four_chats(works: list[Load], calls: int, texts: int) -> None:
    free = room(Capacity(), works)
    assert (free[Kind.CALL], free[Kind.CHAT], free[Kind.MESSAGE]) == (calls, texts, texts)


def test_chats_on_a_call_when_it_is_allowed() -> None:
    capacity = Capacity(chats_on_call=2)
    assert room(capacity, [call(), chat()])[Kind.CHAT] == 1
    assert room(capacity, [chat(), chat()])[Kind.CALL] == 1
    assert room(capacity, [chat(), chat(), chat()])[Kind.CALL] == 0


@given(
    st.lists(
        st.builds(Load, st.sampled_from(Kind), st.sampled_from([s for s in Stage if s != "over"]))
    ),
    st.builds(Capacity, st.integers(0, 3), st.integers(0, 5), st.integers(0, 5)),
)
def test_more_in_hand_never_makes_more_room_for_the_same(
    works: list[Load], capacity: Capacity
) -> None:
    before = room(capacity, works)
    assert all(free >= 0 for free in before.values())
    after = room(capacity, [*works, chat()])
    assert after[Kind.CHAT] <= before[Kind.CHAT]
    assert after[Kind.CALL] <= before[Kind.CALL]
