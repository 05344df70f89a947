"""Who gets which customer: a pure function of the line and the free agents, so that it can be
argued about with property tests.

The line is ordered by priority, then by age. Each customer in turn gets the agent who has been free
the longest among those who serve them and have room for one more of the kind. An agent serves a
customer when they speak the language and have all the skills asked for, each at the level that is
wanted after so long a wait (`Levels`); an agent with no skills (or no languages) listed serves
every one. A customer kept for one agent (a transfer) goes to nobody else until that time is over.

So the only reasons for which somebody who came later, or matters less, is served sooner are: nobody
free has the skills or the level, the language, or the room for the kind, or they are being kept for
somebody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ivr.model import Kind, Ticket

_FEW = 3

Levels = Sequence[tuple[float, int]]
"""Which level is wanted from which second of waiting on, in order of the seconds. Empty: any."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An agent as routing sees one. `free_since` is when they last became free, and `room` how many
    more they take of each kind."""

    login: str
    free_since: datetime
    skills: Mapping[str, int] = field(default_factory=dict)
    languages: frozenset[str] = frozenset()
    room: Mapping[Kind, int] = field(default_factory=lambda: {kind: 1 for kind in Kind})


def level_wanted(levels: Levels, waited: float) -> int:
    """The level that an agent must have for somebody who has waited so many seconds."""
    return next((level for since, level in reversed(levels) if waited >= since), 1)


def serves(agent: Candidate, ticket: Ticket, level: int = 1) -> bool:
    """Whether this agent could take this customer at all."""
    skilled = not agent.skills or all(
        agent.skills.get(skill, 0) >= level for skill in ticket.skills
    )
    speaks = not agent.languages or not ticket.language or ticket.language in agent.languages
    return skilled and speaks


def kept_for_another(agent: Candidate, ticket: Ticket, now: datetime) -> bool:
    """Whether the customer waits for somebody else."""
    kept = ticket.reserved_until is not None and now < ticket.reserved_until
    return kept and ticket.reserved != agent.login


def ordered(tickets: Iterable[Ticket]) -> list[Ticket]:
    """The line, first to be served first."""
    return sorted(tickets, key=lambda t: (-t.priority, t.enqueued_at, t.conversation_id, t.id))


def pick(
    tickets: Iterable[Ticket],
    agents: Iterable[Candidate],
    now: datetime,
    levels: Levels = (),
) -> list[tuple[Ticket, Candidate]]:
    """Every assignment that can be made now. No customer appears twice, and no agent either: who
    has got one is asked about the next only when they are seen to have room for it."""
    free = sorted(agents, key=lambda agent: (agent.free_since, agent.login))
    pairs: list[tuple[Ticket, Candidate]] = []
    for ticket in ordered(tickets):
        if not free:
            break
        level = level_wanted(levels, (now - ticket.enqueued_at).total_seconds())
        chosen = next((agent for agent in free if _takes(agent, ticket, level, now)), None)
        if chosen is not None:
            free.remove(chosen)
            pairs.append((ticket, chosen))
    return pairs


def _takes(agent: Candidate, ticket: Ticket, level: int, now: datetime) -> bool:
    # Somebody asked for by name is asked whatever their level.
    wanted = 1 if ticket.reserved == agent.login else level
    return (
        agent.room.get(ticket.kind, 0) > 0
        and serves(agent, ticket, wanted)
        and not kept_for_another(agent, ticket, now)
    )


def expected_wait(place: int, busy_seconds: Sequence[float], staff: int) -> float:
    """Seconds until the customer with `place` others before them is served; -1 while unknown.

    `busy_seconds` are how long the customers of the last hour kept an agent busy. Under a few of
    them, or with no staff, a number would be a guess, and a wrong promise is worse than none.
    """
    if staff < 1 or len(busy_seconds) < _FEW:
        return -1.0
    return (place + 1) * sum(busy_seconds) / len(busy_seconds) / staff
