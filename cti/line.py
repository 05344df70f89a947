"""The customers of this server who wait for a person: their places, and what they are told of them.

Who is served when is decided over all servers, in the store (`Router`); whose customer it is tells
them of their place, and takes them out of line when nobody can serve them or the wait is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from cti.agents import Presence
from cti.journal import Journal
from cti.routing import Candidate, Levels, expected_wait, pick, serves
from cti.works import Load, Stage, room
from ivr import observe
from ivr.config import QueueSettings
from ivr.errors import HotlineError
from ivr.flow.events import AgentLeft, Enqueue, Event, QueueFailed, QueueMoved
from ivr.model import KINDS, AtWork, Kind, Ticket
from ivr.ports import Clock
from ivr.store.repo import Store

log = structlog.get_logger()

PLACE_SECONDS = 30.0
"""How often a waiting customer hears of their place when it has not changed."""

TAKE_UP_SECONDS = 3.0
"""How long an offer waits for the agent's server to take it up."""

_HOUR = timedelta(hours=1)


@dataclass(slots=True)
class _Place:
    """A customer in line, and the place that they were last told."""

    ticket: Ticket
    ahead: int = -1
    told_at: float = 0.0


class Line:
    """This server's customers in line. `tell` reports to the runner."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        clock: Clock,
        settings: QueueSettings,
        server: str,
        tell: Callable[[Ticket, Event], None],
    ):
        self._store = store
        self._journal = journal
        self._clock = clock
        self._settings = settings
        self._server = server
        self._tell = tell
        self._entering: dict[str, Ticket] = {}
        self._places: dict[str, _Place] = {}
        self._busy: deque[tuple[datetime, float]] = deque(maxlen=1000)
        self.waiting = 0
        self.oldest: datetime | None = None

    # --- coming and going ------------------------------------------------------------------------

    async def enter(self, conversation_id: str, wanted: Enqueue) -> bool:
        """Take a place in line. The same id again is the same place; False when there is none to
        take any more."""
        place = self._places.get(conversation_id)
        if place is None or place.ticket.id != wanted.id:
            ticket = await self._take_place(conversation_id, wanted)
            if ticket is None:
                return False
            place = self._places[conversation_id] = _Place(ticket)
            body = {"skills": list(wanted.skills), "priority": wanted.priority, "ticket": wanted.id}
            await self._journal.note(conversation_id, "in_line", body)
        place.ahead = -1
        return True

    def join(self, ticket: Ticket) -> None:
        """A customer of ours waits again, as when transferred."""
        self._places[ticket.conversation_id] = _Place(ticket)

    def served(self, conversation_id: str) -> None:
        """A person has them."""
        self._places.pop(conversation_id, None)

    async def leave(self, conversation_id: str, reason: str) -> list[Ticket]:
        """Take them out of line. Returns what was in line, as it stood. Idempotent."""
        self._entering.pop(conversation_id, None)
        self._places.pop(conversation_id, None)
        stood: list[Ticket] = []

        async def withdraw() -> None:
            stood.extend(await self._store.withdraw_tickets(conversation_id))

        await self._journal.best_effort(withdraw())
        for ticket in stood:
            waited = max(0.0, (self._clock.now() - ticket.enqueued_at).total_seconds())
            body = {"reason": reason, "waited": waited, "ticket": ticket.id}
            await self._journal.note(conversation_id, "dequeued", body)
        return stood

    def was_busy(self, seconds: float) -> None:
        """How long a customer kept an agent busy, for the estimates of the next hour."""
        self._busy.append((self._clock.now(), seconds))

    async def _take_place(self, conversation_id: str, wanted: Enqueue) -> Ticket | None:
        """The ticket as stored; None when there is no place to take any more."""
        new = Ticket(
            id=wanted.id,
            conversation_id=conversation_id,
            enqueued_at=self._clock.now(),
            skills=wanted.skills,
            priority=wanted.priority,
            language=wanted.language,
            pop=wanted.pop,
            server=self._server,
        )
        self._entering[conversation_id] = new
        try:
            kind = await self._kind(conversation_id)
            ticket = await self._store.put_ticket(replace(new, kind=kind))
            if self._entering.get(conversation_id) is not new:
                # Withdrawn meanwhile, unless the same was asked for twice at once.
                if conversation_id not in self._entering and conversation_id not in self._places:
                    await self._store.withdraw_tickets(conversation_id)
                return None
        finally:
            if self._entering.get(conversation_id) is new:
                del self._entering[conversation_id]
        if ticket.status == "served":  # a talk with a person that did not survive a crash
            self._tell(ticket, AgentLeft(ticket.id, ticket.agent))
            return None
        return ticket

    async def _kind(self, conversation_id: str) -> Kind:
        """What the customer is on. Somebody on the telephone is to be talked with, whatever else
        they have open."""
        legs = await self._store.legs(conversation_id)
        open_legs = [leg for leg in legs if leg.ended_at is None] or legs
        kinds = [KINDS[leg.peer.channel] for leg in open_legs]
        return Kind.CALL if not kinds or Kind.CALL in kinds else kinds[-1]

    # --- time ------------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Bring it up to date: who cannot be served leaves, and the others hear of their place."""
        now = self._clock.now()
        waiting = await self._store.waiting_tickets()
        self.waiting = len(waiting)
        self.oldest = min((ticket.enqueued_at for ticket in waiting), default=None)
        observe.WAITING.set(self.waiting)
        if not self._places:
            return
        staff = [seat for seat in await self._store.seats(now) if there(seat)]
        ahead = 0
        seen = set()
        for ticket in waiting:
            place = self._places.get(ticket.conversation_id)
            if place is None or place.ticket.id != ticket.id:
                ahead += 1
                continue
            seen.add(ticket.conversation_id)
            place.ticket = ticket
            waited = (now - ticket.enqueued_at).total_seconds()
            if not any(could_serve(seat, ticket) for seat in staff):
                await self._fail(ticket, "nobody")
            elif waited >= self._settings.longest_wait_seconds:
                await self._fail(ticket, "timeout")
            else:
                self._tell_place(place, ahead, waited, len(staff))
                ahead += 1
        for conversation_id in self._places.keys() - seen:
            await self._look_after(conversation_id)

    async def _look_after(self, conversation_id: str) -> None:
        """One of ours who is not waiting any more: offered, or served; or taken out of line behind
        our back, as by a server that took them for lost, and then in line again."""
        place = self._places.get(conversation_id)
        if place is None:  # they left while somebody else was looked after
            return
        stands = {one.id: one for one in await self._store.tickets_of(conversation_id)}
        status = stands[place.ticket.id].status if place.ticket.id in stands else "withdrawn"
        if self._places.get(conversation_id) is not place:
            return
        if status == "served":
            del self._places[conversation_id]
        elif status == "withdrawn":
            try:
                await self._store.put_ticket(place.ticket)
            except HotlineError as error:
                log.error("place in line lost", conversation=conversation_id, error=str(error))
                del self._places[conversation_id]
                self._tell(place.ticket, QueueFailed(place.ticket.id, "nobody"))

    def _tell_place(self, place: _Place, ahead: int, waited: float, staff: int) -> None:
        now = self._clock.monotonic()
        if place.ahead == ahead and now - place.told_at < PLACE_SECONDS:
            return
        place.ahead, place.told_at = ahead, now
        recent = [seconds for at, seconds in self._busy if self._clock.now() - at < _HOUR]
        wait = expected_wait(ahead, recent, staff)
        self._tell(place.ticket, QueueMoved(place.ticket.id, ahead, wait, waited))

    async def _fail(self, ticket: Ticket, reason: str) -> None:
        await self.leave(ticket.conversation_id, reason)
        self._tell(ticket, QueueFailed(ticket.id, reason))


# --- routing -------------------------------------------------------------------------------------


def there(seat: AtWork) -> bool:
    """Whether it is worth waiting for this agent: at work, or expected back any moment."""
    state = seat.presence.state
    return bool(seat.works) or (
        state != Presence.OFFLINE and (seat.presence.reachable or state == Presence.AVAILABLE)
    )


def could_serve(seat: AtWork, ticket: Ticket) -> bool:
    """Whether this agent could take this customer, once they have the time."""
    capacity = seat.agent.capacity
    takes = capacity.calls if ticket.kind is Kind.CALL else capacity.chats
    return takes > 0 and serves(candidate(seat), ticket)


def candidate(seat: AtWork) -> Candidate:
    """An agent at work as routing sees them."""
    agent = seat.agent
    return Candidate(
        agent.login,
        seat.presence.free_since or seat.presence.since,
        agent.skills,
        agent.languages,
        room(agent.capacity, (Load(work.kind, Stage(work.stage)) for work in seat.works)),
    )


def free(seats: Iterable[AtWork]) -> list[Candidate]:
    """Who can be offered somebody now: available, with a screen to show the pop on, and room."""
    ready = (
        candidate(seat)
        for seat in seats
        if seat.presence.state == Presence.AVAILABLE and seat.presence.reachable
    )
    return [agent for agent in ready if any(agent.room.values())]


class Router:
    """Chooses over all servers, for whichever runs it. `offered` is told each offer and the server
    that has to follow it up."""

    def __init__(
        self, store: Store, clock: Clock, levels: Levels, offered: Callable[[Ticket, AtWork], None]
    ):
        self._store = store
        self._clock = clock
        self._levels = levels
        self._offered = offered
        self._hold_until = 0.0

    def hold(self, seconds: float) -> None:
        """Offer nobody for so long: the telephone system has failed."""
        self._hold_until = self._clock.monotonic() + seconds

    async def route(self) -> None:
        """Offer every customer whom somebody can take."""
        while self._clock.monotonic() >= self._hold_until:
            now = self._clock.now()

            def choose(
                waiting: Sequence[Ticket], seats: Sequence[AtWork], now: datetime = now
            ) -> list[tuple[Ticket, str]]:
                pairs = pick(waiting, free(seats), now, self._levels)
                return [(ticket, agent.login) for ticket, agent in pairs]

            lease = now + timedelta(seconds=TAKE_UP_SECONDS)
            offers = await self._store.route(choose, now, lease)
            for ticket, seat in offers:
                self._offered(ticket, seat)
            if not offers:
                return
