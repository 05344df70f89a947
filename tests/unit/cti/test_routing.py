"""Who gets whom: fair, complete, and never twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cti.routing import Candidate, expected_wait, ordered, pick, serves
from ivr.model import Kind, Ticket

START = datetime(2026, 11, 20, 10, tzinfo=UTC)
NOW = START + timedelta(minutes=5)
SKILLS = st.sampled_from(["billing", "repairs", "sales"])
LANGUAGES = st.sampled_from(["en", "zh"])
MOMENTS = st.integers(0, 5).map(lambda seconds: START + timedelta(seconds=seconds))

TICKETS = st.lists(
    st.builds(
        Ticket,
        id=st.just("t"),
        conversation_id=st.uuids().map(str),
        enqueued_at=MOMENTS,
        skills=st.lists(SKILLS, max_size=2, unique=True).map(tuple),
        priority=st.integers(-1, 2),
        language=st.one_of(st.just(""), LANGUAGES),
    ),
    max_size=8,
)
AGENTS = st.lists(
    st.builds(
        Candidate,
        login=st.uuids().map(str),
        free_since=MOMENTS,
        skills=st.dictionaries(SKILLS, st.integers(1, 5), max_size=3),
        languages=st.frozensets(LANGUAGES, max_size=2),
    ),
    max_size=8,
)


@settings(max_examples=50, deadline=None)
@given(TICKETS, AGENTS)
def test_every_assignment_fits_and_nothing_appears_twice(
    tickets: list[Ticket], agents: list[Candidate]
) -> None:
    pairs = pick(tickets, agents, NOW)
    assert all(serves(agent, ticket) for ticket, agent in pairs)
    assert len({ticket.conversation_id for ticket, _ in pairs}) == len(pairs)
    assert len({agent.login for _, agent in pairs}) == len(pairs)


@settings(max_examples=50, deadline=None)
@given(TICKETS, AGENTS)
def test_nobody_waits_while_somebody_who_serves_them_is_free(
    tickets: list[Ticket], agents: list[Candidate]
) -> None:
    pairs = pick(tickets, agents, NOW)
    served = {ticket.conversation_id for ticket, _ in pairs}
    busy = {agent.login for _, agent in pairs}
    for ticket in tickets:
        for agent in agents:
            if ticket.conversation_id not in served and agent.login not in busy:
                assert not serves(agent, ticket)


@settings(max_examples=50, deadline=None)
@given(TICKETS, AGENTS)
def test_nobody_is_overtaken(tickets: list[Ticket], agents: list[Candidate]) -> None:
    """Who gets an agent came before everybody that this agent serves and who still waits."""
    pairs = pick(tickets, agents, NOW)
    served = {ticket.conversation_id for ticket, _ in pairs}
    for ticket, agent in pairs:
        for other in tickets:
            if other.conversation_id not in served and serves(agent, other):
                assert ordered([ticket, other])[0] is ticket


@settings(max_examples=50, deadline=None)
@given(TICKETS, AGENTS)
def test_the_longest_free_agent_goes_first(tickets: list[Ticket], agents: list[Candidate]) -> None:
    pairs = pick(tickets[:1], agents, NOW)
    for ticket, agent in pairs:
        able = [other for other in agents if serves(other, ticket)]
        assert agent.free_since == min(other.free_since for other in able)


@settings(max_examples=50, deadline=None)
@given(TICKETS, AGENTS, st.randoms())
def test_the_order_of_asking_does_not_matter(
    tickets: list[Ticket], agents: list[Candidate], random: st.DataObject
) -> None:
    expected = pick(tickets, agents, NOW)
    random.shuffle(tickets)  # type: ignore[attr-defined]
    random.shuffle(agents)  # type: ignore[attr-defined]
    assert pick(tickets, agents, NOW) == expected


def test_priority_then_age() -> None:
    def ticket(name: str, priority: int, second: int) -> Ticket:
        return Ticket("t", name, START + timedelta(seconds=second), priority=priority)

    line = [ticket("late", 0, 9), ticket("early", 0, 1), ticket("vip", 10, 20)]
    assert [ticket.conversation_id for ticket in ordered(line)] == ["vip", "early", "late"]


@pytest.mark.parametrize(
    ("place", "busy", "staff", "wait"),
    [
        (0, [], 3, -1.0),
        (0, [60.0, 60.0], 1, -1.0),
        (0, [60.0, 60.0, 120.0], 1, 80.0),
        (3, [60.0, 60.0, 60.0], 2, 120.0),
        (0, [60.0, 60.0, 60.0], 0, -1.0),
    ],
)
def test_expected_wait(place: int, busy: list[float], staff: int, wait: float) -> None:
    assert expected_wait(place, busy, staff) == wait


def waiting(seconds: float, **about: object) -> Ticket:
    return Ticket("t", "c", NOW - timedelta(seconds=seconds), **about)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "level", "taken"),
    [(0, 3, True), (0, 2, False), (29, 2, False), (30, 2, True), (59, 1, False), (60, 1, True)],
)
def test_the_level_that_is_wanted_falls_with_waiting(
    seconds: float, level: int, taken: bool
) -> None:
    levels = [(0.0, 3), (30.0, 2), (60.0, 1)]
    agent = Candidate("ann", START, {"billing": level})
    assert bool(pick([waiting(seconds, skills=("billing",))], [agent], NOW, levels)) is taken


def test_a_customer_who_is_kept_for_somebody_goes_to_nobody_else_until_the_time_is_over() -> None:
    ann, bob = Candidate("ann", START), Candidate("bob", START + timedelta(seconds=1))
    kept = waiting(5, reserved="bob", reserved_until=NOW + timedelta(seconds=1))
    assert pick([kept], [ann], NOW) == []
    assert pick([kept], [ann, bob], NOW) == [(kept, bob)]
    assert pick([kept], [ann], NOW + timedelta(seconds=1)) == [(kept, ann)]


def test_whom_a_customer_was_transferred_to_needs_no_level() -> None:
    beginner = Candidate("bob", START, {"billing": 1})
    kept = waiting(
        0, skills=("billing",), reserved="bob", reserved_until=NOW + timedelta(seconds=1)
    )
    assert pick([kept], [beginner], NOW, [(0.0, 5)]) == [(kept, beginner)]


def test_a_chat_goes_to_somebody_with_room_for_a_chat() -> None:
    caller = Candidate("ann", START, room={Kind.CALL: 1})
    chatter = Candidate("bob", NOW, room={Kind.CHAT: 2})
    chat = waiting(0, kind=Kind.CHAT)
    assert pick([chat], [caller, chatter], NOW) == [(chat, chatter)]
    assert pick([waiting(0)], [chatter], NOW) == []
