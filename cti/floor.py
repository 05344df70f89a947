"""Who is at work: the agents' seats, their screens, and what each is doing.

Presence in memory is the truth while the server runs; the store's copy is for reports and for the
next start. After a start every agent who was at work counts as one whose screens have just been
lost: the pages come back by themselves within seconds, and callers in line need not be turned away
in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from cti.agents import BUSY, AgentEvent, Presence, step
from cti.protocol import (
    AgentCard,
    Hello,
    PopCard,
    PresenceNow,
    QueueNow,
    ServerMessage,
    Wrapped,
)
from cti.routing import Candidate
from cti.screens import Screen
from ivr import observe
from ivr.errors import HotlineError
from ivr.model import Agent
from ivr.ports import Clock
from ivr.store.repo import Store

log = structlog.get_logger()

SCREENS_GRACE = 30.0
"""Seconds for which an agent without any screen is still expected back."""


@dataclass(slots=True)
class Seat:
    """One agent at work: presence, screens, and the conversation in hand, if there is one."""

    agent: Agent
    since: datetime
    presence: Presence = Presence.OFFLINE
    reason: str = ""
    free_since: datetime | None = None
    screens: set[Screen] = field(default_factory=set)
    lost_at: float | None = None
    card: PopCard | None = None
    answered_at: datetime | None = None
    last_conversation: str = ""
    wrap_until: float | None = None
    wrap_until_at: datetime | None = None
    stored: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def there(self) -> bool:
        """Whether it is worth waiting for this agent: at work, or logged in and back any moment."""
        at_desk = self.presence is not Presence.OFFLINE and (
            bool(self.screens) or self.lost_at is not None
        )
        return self.presence in BUSY or at_desk

    def send(self, message: ServerMessage) -> None:
        for screen in tuple(self.screens):
            screen.send(message)

    def now(self) -> PresenceNow:
        return PresenceNow(
            state=self.presence.value,
            reason=self.reason,
            since=self.since,
            until=self.wrap_until_at,
        )

    def candidate(self) -> Candidate:
        return Candidate(
            self.agent.login,
            self.free_since or self.since,
            self.agent.skills,
            self.agent.languages,
        )


class Floor:
    """All seats of this server."""

    def __init__(self, store: Store, clock: Clock, wrap_up_seconds: float):
        self._store = store
        self._clock = clock
        self._wrap_up_seconds = wrap_up_seconds
        self._seats: dict[str, Seat] = {}

    async def start(self) -> None:
        """Take up the presences of the last run; nobody's call has survived it."""
        agents = {agent.login: agent for agent in await self._store.agents() if not agent.disabled}
        for login, last in (await self._store.presences()).items():
            if login not in agents or last.state == Presence.OFFLINE:
                continue
            ready = last.state in (Presence.AVAILABLE, Presence.OFFERED)
            seat = Seat(agents[login], self._clock.now())
            seat.presence = Presence.AVAILABLE if ready else Presence.AWAY
            seat.reason = "" if ready else last.reason
            seat.free_since = seat.since
            seat.lost_at = self._clock.monotonic()
            self._seats[login] = seat

    def seat(self, login: str) -> Seat:
        return self._seats[login]

    def seats(self) -> Iterable[Seat]:
        return tuple(self._seats.values())

    def free(self) -> list[Candidate]:
        """Who can be offered a caller now: available, with a screen to show the pop on."""
        return [
            seat.candidate()
            for seat in self._seats.values()
            if seat.presence is Presence.AVAILABLE and seat.screens
        ]

    def staff(self) -> list[Candidate]:
        """Everybody who is there, free or not."""
        return [seat.candidate() for seat in self._seats.values() if seat.there]

    def open(self, agent: Agent, session: str, queue: QueueNow) -> Screen:
        """Take in a new page of this agent; its first message is `hello`."""
        seat = self._seats.setdefault(agent.login, Seat(agent, self._clock.now()))
        seat.agent = agent
        self.apply(seat, AgentEvent.LOGGED_IN, seat.reason)
        screen = Screen(agent.login, session)
        seat.screens.add(screen)
        seat.lost_at = None
        observe.SCREENS.inc()
        screen.send(
            Hello(
                agent=_card(agent),
                presence=seat.now(),
                queue=queue,
                now=self._clock.now(),
                card=seat.card,
                answered_at=seat.answered_at,
            )
        )
        return screen

    def close(self, screen: Screen, *, signed_out: bool = False) -> None:
        """Forget a page. Idempotent. The last one's agent is given time to come back, unless they
        have signed out."""
        screen.close()
        seat = self._seats[screen.login]
        if screen not in seat.screens:
            return
        seat.screens.discard(screen)
        observe.SCREENS.dec()
        if not seat.screens:
            seat.lost_at = self._clock.monotonic()
            if signed_out and seat.presence not in (Presence.OFFERED, Presence.TALKING):
                self.apply(seat, AgentEvent.LOGGED_OUT)

    def sign_out(self, login: str, session: str) -> bool:
        """Close the pages that this login had opened; whether there were any."""
        seat = self._seats.get(login)
        mine = [screen for screen in seat.screens if screen.session == session] if seat else []
        for screen in mine:
            self.close(screen, signed_out=True)
        return bool(mine)

    def apply(self, seat: Seat, event: AgentEvent, reason: str = "") -> None:
        """Let something happen to an agent. Raises Conflict when it cannot be now."""
        before, after = seat.presence, step(seat.presence, event)
        if before is after and reason == seat.reason:
            return
        now = self._clock.now()
        seat.presence, seat.reason, seat.since = after, reason, now
        if after is Presence.AVAILABLE:
            seat.free_since = now
        if after is Presence.WRAP_UP:
            seat.wrap_until = self._clock.monotonic() + self._wrap_up_seconds
            seat.wrap_until_at = now + timedelta(seconds=self._wrap_up_seconds)
        elif before is Presence.WRAP_UP:
            seat.wrap_until = seat.wrap_until_at = None
        conversation = seat.card.conversation if seat.card else ""
        if after not in BUSY:
            seat.card = seat.answered_at = None
        seat.send(seat.now())
        if before is Presence.WRAP_UP and conversation:
            seat.send(Wrapped(conversation=conversation))

    async def keep(self, seat: Seat) -> None:
        """Write the seat's presence down. A store that fails costs the report, not the call."""
        async with seat.stored:
            try:
                await self._store.set_presence(
                    seat.agent.login, seat.presence.value, seat.reason, seat.since
                )
            except HotlineError as error:
                log.warning("presence not stored", agent=seat.agent.login, error=str(error))

    async def show(self, seat: Seat, message: ServerMessage) -> bool:
        """Whether at least one of the agent's pages has taken the message; the first one decides,
        so that a page that stopped reading does not hold up the other."""
        waiting = {asyncio.ensure_future(screen.show(message)) for screen in seat.screens}
        shown = False
        while waiting and not shown:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            shown = any(task.result() for task in done)
        return shown

    def tick(self) -> list[Seat]:
        """Let time pass: screens that stayed away and wrap-ups that are over. Returns the seats
        whose presence has changed."""
        now = self._clock.monotonic()
        changed = []
        for seat in self._seats.values():
            before = seat.presence
            if seat.wrap_until is not None and now >= seat.wrap_until:
                self.apply(seat, AgentEvent.WRAPPED_UP)
            if seat.lost_at is not None and now - seat.lost_at >= SCREENS_GRACE:
                seat.lost_at = None
            if seat.lost_at is None and not seat.screens:
                reason = "screen lost" if seat.presence is Presence.AVAILABLE else seat.reason
                self.apply(seat, AgentEvent.SCREENS_LOST, reason)
            if seat.presence is not before:
                changed.append(seat)
        return changed


def _card(agent: Agent) -> AgentCard:
    return AgentCard(
        login=agent.login,
        name=agent.name,
        extension=agent.extension,
        skills=tuple(sorted(agent.skills)),
        languages=tuple(sorted(agent.languages)),
    )
