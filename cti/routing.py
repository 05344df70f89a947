"""Who gets which caller: a pure function of the line and the free agents, so that it can be argued
about with property tests.

The line is ordered by priority, then by age. Each caller in turn gets the agent who has been free
the longest among those who serve them. An agent serves a caller when they have all the skills asked
for and speak the language; an agent with no skills (or no languages) listed serves every one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ivr.model import Ticket

_FEW = 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """An agent as routing sees one. `free_since` is when they last became free."""

    login: str
    free_since: datetime
    skills: frozenset[str] = frozenset()
    languages: frozenset[str] = frozenset()


def serves(agent: Candidate, ticket: Ticket) -> bool:
    """Whether this agent could take this caller at all."""
    skilled = not agent.skills or agent.skills.issuperset(ticket.skills)
    speaks = not agent.languages or not ticket.language or ticket.language in agent.languages
    return skilled and speaks


def ordered(tickets: Iterable[Ticket]) -> list[Ticket]:
    """The line, first to be served first."""
    return sorted(tickets, key=lambda t: (-t.priority, t.enqueued_at, t.conversation_id, t.id))


def pick(tickets: Iterable[Ticket], agents: Iterable[Candidate]) -> list[tuple[Ticket, Candidate]]:
    """Every assignment that can be made now; neither a caller nor an agent appears twice."""
    free = sorted(agents, key=lambda agent: (agent.free_since, agent.login))
    pairs: list[tuple[Ticket, Candidate]] = []
    for ticket in ordered(tickets):
        chosen = next((agent for agent in free if serves(agent, ticket)), None)
        if chosen is not None:
            free.remove(chosen)
            pairs.append((ticket, chosen))
    return pairs


def expected_wait(place: int, busy_seconds: Sequence[float], staff: int) -> float:
    """Seconds until the caller with `place` others before them is served; -1 while unknown.

    `busy_seconds` are how long the last callers kept an agent busy. Under a few of them, or with no
    staff, a number would be a guess, and a wrong promise is worse than none.
    """
    if staff < 1 or len(busy_seconds) < _FEW:
        return -1.0
    return (place + 1) * sum(busy_seconds) / len(busy_seconds) / staff
