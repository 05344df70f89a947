"""What the wallboards show: the line, the service, the agents and the conversations of all servers,
worked out once a second for however many boards look, and not at all while none does.

A board is sent everything once, and then only what has changed; moments are told and not ages, so
that what merely grows older costs nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog

from cti.line import could_serve, there
from cti.routing import expected_wait
from cti.screens import Screen
from ivr import observe
from ivr.config import QueueSettings
from ivr.errors import HotlineError
from ivr.model import AtWork, Ticket
from ivr.ports import Clock
from ivr.store.milestones import Live, Milestone
from ivr.store.repo import Store

log = structlog.get_logger()

EVERY = 1.0
"""Seconds between two looks."""

WINDOW = timedelta(hours=1)
"""What is counted of the past; growth compares it with the one before."""

MOST_WAITING = 100
"""So many of those who wait are shown one by one."""

_SLICE = timedelta(minutes=5)
_LATE = timedelta(seconds=30)
"""A milestone may become visible so long after its time."""

Shown = dict[str, Any]


class Tally:
    """Counts milestones by the minute. Each is taken once, however often it is read."""

    def __init__(self, answer_within: float):
        self._within = answer_within
        self._minutes: dict[int, Counter[tuple[str, str]]] = {}
        self._taken: dict[int, set[int]] = {}
        self.talks: deque[tuple[datetime, float]] = deque(maxlen=1000)

    def take(self, milestones: Iterable[Milestone], now: datetime) -> None:
        oldest = _minute(now - 2 * WINDOW)
        for one in milestones:
            minute = _minute(one.at)
            taken = self._taken.setdefault(minute, set())
            if one.number in taken or minute < oldest:
                continue
            taken.add(one.number)
            counted = self._minutes.setdefault(minute, Counter())
            for name in self._names(one):
                counted[name] += 1
        for minute in [minute for minute in self._taken if minute < oldest]:
            del self._taken[minute]
            self._minutes.pop(minute, None)

    def _names(self, one: Milestone) -> Iterable[tuple[str, str]]:
        body = one.body
        match one.kind:
            case "call_started":
                yield "channel", str(body.get("channel", ""))
            case "slot_filled":
                yield "topic", str(body.get("value", ""))
            case "answered":
                yield "answered", ""
                if float(body.get("waited", 0.0)) <= self._within:
                    yield "within", ""
            case "dequeued" if body.get("reason") in ("left", "gone"):
                yield "abandoned", ""
            case "dequeued":
                yield "turned_away", ""
            case "released":
                self.talks.append((one.at, float(body.get("seconds", 0.0))))

    def counts(self, now: datetime) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
        """The last hour's, and those of the hour before."""
        last: Counter[tuple[str, str]] = Counter()
        before: Counter[tuple[str, str]] = Counter()
        edge = _minute(now - WINDOW)
        for minute, counted in self._minutes.items():
            (last if minute > edge else before).update(counted)
        return last, before


class Board:
    """One for all wallboards of this server."""

    def __init__(self, store: Store, clock: Clock, settings: QueueSettings):
        self._store = store
        self._clock = clock
        self._settings = settings
        self._watchers: set[Screen] = set()
        self._task: asyncio.Task[None] | None = None
        self._tally: Tally | None = None
        self._read_to: datetime | None = None
        self._last: Shown = {}

    def watch(self, screen: Screen) -> None:
        """Send a board everything, as soon as it is known, and from then on what changes."""
        if self._last and self._task is not None:
            screen.put(_frame("board", self._last, self._clock.now()))
        self._watchers.add(screen)
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._run())

    def leave(self, screen: Screen) -> None:
        """Idempotent. The last one's leaving ends the work."""
        self._watchers.discard(screen)
        if not self._watchers and self._task is not None:
            self._task.cancel()
            self._task, self._tally, self._last = None, None, {}

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            try:
                await self.look()
            except HotlineError as error:
                log.warning("wallboards not renewed", error=str(error))
            due = max(due + EVERY, loop.time() + EVERY / 4)
            await asyncio.sleep(due - loop.time())

    async def look(self) -> Shown:
        """Work everything out, and tell the boards what is new."""
        began = self._clock.monotonic()
        now = self._clock.now()
        tally = await self._counted(now)
        waiting = await self._store.waiting_tickets()
        seats = await self._store.seats(now)
        live = await self._store.going_on()
        shown = board(waiting, seats, live, tally, self._settings, now)
        last, self._last = self._last, shown
        fresh = differences(last, shown)
        if not last:
            text = _frame("board", shown, now)
        elif fresh:
            text = _frame("changes", fresh, now)
        else:
            text = ""
        for screen in tuple(self._watchers) if text else ():
            screen.put(text)
        observe.WALLBOARD.observe(self._clock.monotonic() - began)
        return shown

    async def _counted(self, now: datetime) -> Tally:
        """The tally, with what has happened since the last look."""
        tally = self._tally
        if tally is None:
            tally = self._tally = Tally(self._settings.answer_within_seconds)
            self._read_to = now - 2 * WINDOW
        assert self._read_to is not None
        # In slices: two busy hours at once would hold the loop up.
        start = self._read_to
        while start < now:
            end = min(start + _SLICE, now)
            since = start - _LATE
            tally.take(await self._store.milestones(since, end), now)
            start = end
        self._read_to = now
        return tally


def board(
    waiting: list[Ticket],
    seats: list[AtWork],
    live: list[Live],
    tally: Tally,
    settings: QueueSettings,
    now: datetime,
) -> Shown:
    """Everything that a wallboard shows."""
    last, before = tally.counts(now)
    oldest = min((ticket.enqueued_at for ticket in waiting), default=None)
    return {
        "line": {"waiting": len(waiting), "oldest": oldest},
        "queues": _queues(waiting, seats, tally, now),
        "waiting": [_waiter(ticket) for ticket in waiting[:MOST_WAITING]],
        "service": _service(last, settings.answer_within_seconds),
        "channels": _growth("channel", Counter(one.channel for one in live), last, before),
        "topics": _growth("topic", Counter(one.topic for one in live), last, before),
        "agents": {seat.agent.login: _agent(seat) for seat in seats},
    }


def differences(old: Shown, new: Shown) -> Shown:
    """What of the new is not in the old: whole parts, but agents one by one, None for one who has
    left."""
    fresh = {name: part for name, part in new.items() if name != "agents" and old.get(name) != part}
    then, now = old.get("agents", {}), new["agents"]
    agents = {login: one for login, one in now.items() if then.get(login) != one}
    agents |= dict.fromkeys(then.keys() - now.keys())
    return fresh | ({"agents": agents} if agents else {})


def _queues(waiting: list[Ticket], seats: list[AtWork], tally: Tally, now: datetime) -> list[Shown]:
    staff = [seat for seat in seats if there(seat)]
    recent = [seconds for at, seconds in tally.talks if now - at < WINDOW]
    queues: dict[tuple[tuple[str, ...], str, str], list[Ticket]] = {}
    for ticket in waiting:
        key = (tuple(sorted(ticket.skills)), ticket.kind.value, ticket.language)
        queues.setdefault(key, []).append(ticket)
    return [
        {
            "skills": list(skills),
            "kind": kind,
            "language": language,
            "waiting": len(tickets),
            "oldest": min(ticket.enqueued_at for ticket in tickets),
            "staff": (able := sum(could_serve(seat, tickets[0]) for seat in staff)),
            "estimated": round(expected_wait(len(tickets), recent, able)),
        }
        for (skills, kind, language), tickets in sorted(queues.items())
    ]


def _waiter(ticket: Ticket) -> Shown:
    return {
        "conversation": ticket.conversation_id,
        "kind": ticket.kind.value,
        "skills": list(ticket.skills),
        "language": ticket.language,
        "since": ticket.enqueued_at,
        "priority": ticket.priority,
        "reserved": ticket.reserved,
    }


def _service(last: Mapping[tuple[str, str], int], within: float) -> Shown:
    """Of the last hour. The level counts who was answered in time among all who were answered or
    hung up waiting; None while there is nobody to count."""
    answered, abandoned = last.get(("answered", ""), 0), last.get(("abandoned", ""), 0)
    asked = answered + abandoned
    return {
        "within_seconds": within,
        "answered": answered,
        "in_time": last.get(("within", ""), 0),
        "abandoned": abandoned,
        "turned_away": last.get(("turned_away", ""), 0),
        "level": round(last.get(("within", ""), 0) / asked, 3) if asked else None,
        "abandonment": round(abandoned / asked, 3) if asked else None,
    }


def _growth(
    what: str,
    now: Mapping[str, int],
    last: Mapping[tuple[str, str], int],
    before: Mapping[tuple[str, str], int],
) -> list[Shown]:
    """By name: how many go on now, and how many came in the last hour and the one before."""
    names = {name for kind, name in (*last, *before) if kind == what} | set(now)
    rows: list[Shown] = [
        {
            "name": name,
            "now": now.get(name, 0),
            "hour": last.get((what, name), 0),
            "before": before.get((what, name), 0),
        }
        for name in names
    ]
    return sorted(rows, key=lambda row: (-row["now"], -row["hour"], row["name"]))[:50]


def _agent(seat: AtWork) -> Shown:
    return {
        "name": seat.agent.name or seat.agent.login,
        "presence": seat.presence.state,
        "reason": seat.presence.reason,
        "since": seat.presence.since,
        "skills": sorted(seat.agent.skills),
        "works": [
            {
                "conversation": work.conversation_id,
                "kind": work.kind.value,
                "stage": work.stage,
                "since": work.offered_at,
            }
            for work in seat.works
        ],
    }


def _minute(at: datetime) -> int:
    return int(at.timestamp()) // 60


def _frame(kind: str, shown: Shown, now: datetime) -> str:
    message = {"v": 1, "type": kind, "now": now, **shown}
    return json.dumps(message, ensure_ascii=False, default=datetime.isoformat)
