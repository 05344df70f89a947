"""Who is at work here: the agents' seats at this server, their screens, and what they have in hand.

What decides at once stands in memory; what other servers must see of it (presence, and whether
there is a screen) is written to the store, where all of them route from. After a start every agent
who was at work counts as one whose screens have just been lost: the pages come back by themselves
within seconds, and callers in line need not be turned away in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from cti.agents import AgentEvent, Presence, step
from cti.protocol import Hello, PresenceNow, ServerMessage, Welcome
from cti.screens import Screen, Stream
from ivr import observe
from ivr.errors import HotlineError
from ivr.model import Agent, AgentPresence
from ivr.ports import ActionOutcome, Clock
from ivr.store.repo import Store

if TYPE_CHECKING:
    from cti.work import Work

log = structlog.get_logger()

SCREENS_GRACE = 30.0
"""Seconds for which an agent without any screen is still expected back."""

ALIVE_SECONDS = 10.0
"""For so long a server stands for its agents' presences without saying so again; it does so every
third of that."""


@dataclass(slots=True)
class Seat:
    """One agent at work: presence, screens, their news, the conversations in hand by id, and what
    became of their latest orders."""

    agent: Agent
    since: datetime
    presence: Presence = Presence.OFFLINE
    reason: str = ""
    free_since: datetime | None = None
    screens: set[Screen] = field(default_factory=set)
    stream: Stream = field(default_factory=Stream)
    lost_at: float | None = None
    works: dict[str, Work] = field(default_factory=dict)
    answered: dict[str, asyncio.Future[ActionOutcome]] = field(default_factory=dict)
    stored: asyncio.Lock = field(default_factory=asyncio.Lock)

    def send(self, message: ServerMessage) -> None:
        """Tell all of the agent's screens."""
        text = self.stream.frame(message)
        for screen in tuple(self.screens):
            screen.put(text)

    async def show(self, message: ServerMessage) -> bool:
        """Whether at least one of the agent's pages has taken the message; the first one decides,
        so that a page that stopped reading does not hold up the other."""
        text = self.stream.frame(message)
        waiting = {asyncio.ensure_future(screen.show(text)) for screen in self.screens}
        shown = False
        while waiting and not shown:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            shown = any(task.result() for task in done)
        return shown

    def now(self) -> PresenceNow:
        return PresenceNow(state=self.presence.value, reason=self.reason, since=self.since)


class Floor:
    """All seats of this server, which is called `server` among the others."""

    def __init__(self, store: Store, clock: Clock, server: str):
        self._store = store
        self._clock = clock
        self._server = server
        self._seats: dict[str, Seat] = {}
        self._said_alive = 0.0

    async def start(self) -> None:
        """Take up the presences of this server's last run."""
        agents = {agent.login: agent for agent in await self._store.agents() if not agent.disabled}
        for login, last in (await self._store.presences()).items():
            ours = last.server in ("", self._server) or not self._store.shared
            if not ours or login not in agents or last.state == Presence.OFFLINE:
                continue
            seat = Seat(agents[login], self._clock.now())
            seat.presence, seat.reason = Presence(last.state), last.reason
            seat.free_since = last.free_since or seat.since
            seat.lost_at = self._clock.monotonic()
            self._seats[login] = seat
            await self.keep(seat)

    async def close(self) -> None:
        """Drop all screens. The others are told that nobody is to be reached here."""
        for seat in self.seats():
            for screen in tuple(seat.screens):
                self.close_screen(screen)
            await self.keep(seat)

    def seat(self, login: str) -> Seat:
        return self._seats[login]

    def find(self, login: str) -> Seat | None:
        return self._seats.get(login)

    def seats(self) -> Iterable[Seat]:
        return tuple(self._seats.values())

    def open(self, agent: Agent, session: str) -> Screen:
        """Take in a new page of this agent, which is still to be greeted."""
        seat = self._seats.setdefault(agent.login, Seat(agent, self._clock.now()))
        seat.agent = agent
        self.apply(seat, AgentEvent.LOGGED_IN, seat.reason)
        screen = Screen(agent.login, session)
        seat.screens.add(screen)
        seat.lost_at = None
        observe.SCREENS.inc()
        return screen

    def greet(self, screen: Screen, hello: Hello, stream: str, after: int) -> None:
        """Tell a page everything, or, when it knows some of it, the rest. What it is sent from now
        on follows upon that."""
        seat = self._seats[screen.login]
        missed = seat.stream.since(stream, after)
        if missed is None:
            update = {"stream": seat.stream.id, "n": seat.stream.n}
            screen.put(hello.model_copy(update=update).model_dump_json())
            return
        screen.answer(Welcome(stream=stream))
        for text in missed:
            screen.put(text)

    def close_screen(self, screen: Screen, *, signed_out: bool = False) -> None:
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
            if signed_out:
                self.apply(seat, AgentEvent.LOGGED_OUT)

    def sign_out(self, login: str, session: str) -> bool:
        """Close the pages that this login had opened; whether there were any."""
        seat = self._seats.get(login)
        mine = [screen for screen in seat.screens if screen.session == session] if seat else []
        for screen in mine:
            self.close_screen(screen, signed_out=True)
        return bool(mine)

    def dismiss(self, seat: Seat) -> None:
        """Throw an agent out: the pages close, and want a new login."""
        self.apply(seat, AgentEvent.FORCED_OUT)
        for screen in tuple(seat.screens):
            screen.dismissed = True
            self.close_screen(screen)

    def apply(self, seat: Seat, event: AgentEvent, reason: str = "") -> None:
        """Let something happen to an agent. Raises Conflict when it cannot be now."""
        before, after = seat.presence, step(seat.presence, event)
        if before is after and reason == seat.reason:
            return
        seat.presence, seat.reason, seat.since = after, reason, self._clock.now()
        if after is Presence.AVAILABLE:
            seat.free_since = seat.since
        seat.send(seat.now())

    async def keep(self, seat: Seat) -> None:
        """Write the seat down for those who route. A store that fails costs the next customer, not
        this one."""
        async with seat.stored:
            there = seat.presence is not Presence.OFFLINE
            # Who is ready needs a screen for the pop; who is away is expected back for a while.
            expected = seat.presence is Presence.AWAY and seat.lost_at is not None
            until = self._clock.now() + timedelta(seconds=ALIVE_SECONDS)
            presence = AgentPresence(
                seat.agent.login,
                seat.presence.value,
                seat.reason,
                seat.since,
                self._server,
                bool(seat.screens) or expected,
                seat.free_since,
                until if there or seat.works else None,
            )
            try:
                await self._store.set_presence(presence)
            except HotlineError as error:
                log.warning("presence not stored", agent=seat.agent.login, error=str(error))

    async def stay_alive(self) -> None:
        """Say now and then that this server still stands for its agents."""
        now = self._clock.monotonic()
        if now - self._said_alive < ALIVE_SECONDS / 3:
            return
        self._said_alive = now
        until = self._clock.now() + timedelta(seconds=ALIVE_SECONDS)
        await self._store.keep_alive(self._server, until)

    def tick(self) -> list[Seat]:
        """Let time pass: screens that stayed away. Returns the seats that have changed by it."""
        now = self._clock.monotonic()
        changed = []
        for seat in self._seats.values():
            before, expected = seat.presence, seat.lost_at
            if seat.lost_at is not None and now - seat.lost_at >= SCREENS_GRACE:
                seat.lost_at = None
            if seat.lost_at is None and not seat.screens:
                reason = "screen lost" if seat.presence is Presence.AVAILABLE else seat.reason
                self.apply(seat, AgentEvent.SCREENS_LOST, reason)
            if seat.presence is not before or seat.lost_at != expected:
                changed.append(seat)
        return changed
