"""The customers of this server who wait for a person: their places, and what they are told of them.

Who is served when is decided over all servers, in the store (`Router`); whose customer it is tells
them of their place, and takes them out of line when nobody can serve them or the wait is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from ivr.flow.events import AgentJoined, AgentLeft, Enqueue, Event, QueueFailed, QueueMoved
from ivr.model import KINDS, AtWork, Kind, Ticket
from ivr.ports import Clock
from ivr.store.repo import Store

log = structlog.get_logger()

PLACE_SECONDS = 30.0
"""How often a waiting customer hears of their place when it has not changed."""

TAKE_UP_SECONDS = 3.0
"""How long an offer waits for the agent's server to take it up."""

NOBODY = "#"
"""For whom a ticket is kept that nobody is to have yet: no login is called so."""

_STAFF_SECONDS = 1.0
_TALKS_SECONDS = 30.0
"""How old what is known of all servers' agents, and of the last hour's talks, may be."""

_NEWS_SECONDS = 3
"""So often, a second each, what the database has of a customer's talk is seen before it is told for
the agent's server, whose own news may have been lost."""

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
        is_closed: Callable[[], bool] = lambda: False,
    ):
        self._store = store
        self._journal = journal
        self._clock = clock
        self._settings = settings
        self._server = server
        self._tell = tell
        self._entering: dict[str, Ticket] = {}
        self._places: dict[str, _Place] = {}
        self._is_closed = is_closed
        self._with_person: dict[str, int] = {}
        self._talks: Sequence[float] = ()
        self._talks_read = -_TALKS_SECONDS
        self._staff: Sequence[AtWork] = ()
        self._staff_read = -_STAFF_SECONDS
        self.waiting = 0
        self.by_kind: Mapping[Kind, int] = {}
        self.oldest: datetime | None = None

    # --- coming and going ------------------------------------------------------------------------

    async def enter(self, conversation_id: str, wanted: Enqueue) -> bool:
        """Take a place in line. The same id again is the same place; False when there is none to
        take any more."""
        place = self._places.get(conversation_id)
        if place is None or place.ticket.place != wanted.id:
            ticket = await self._take_place(conversation_id, wanted)
            if ticket is None:
                return False
            place = self._places[conversation_id] = _Place(ticket)
            body = {"skills": list(wanted.skills), "priority": wanted.priority, "ticket": wanted.id}
            await self._journal.note(conversation_id, "in_line", body)
        place.ahead = -1
        return True

    def served(self, conversation_id: str) -> None:
        """A person has them."""
        self._places.pop(conversation_id, None)
        self._with_person[conversation_id] = 0

    def given_back(self, conversation_id: str) -> None:
        """The person is done, and they are the flow's again."""
        self._with_person.pop(conversation_id, None)

    async def leave(self, conversation_id: str, reason: str) -> list[Ticket]:
        """Take them out of line. Returns what was in line, as it stood. Idempotent."""
        self._entering.pop(conversation_id, None)
        place = self._places.pop(conversation_id, None)
        if self._with_person.pop(conversation_id, None) is not None:
            place = None
        if place is not None:
            # Before anything is awaited: who else ends the conversation asks how long they waited.
            await self._note_left(place.ticket, reason)
        stood: list[Ticket] = []

        async def withdraw() -> None:
            stood.extend(await self._store.withdraw_tickets(conversation_id))

        await self._journal.best_effort(withdraw())
        for ticket in stood:
            if place is None or ticket.id != place.ticket.id:
                await self._note_left(ticket, reason)
        return stood

    async def _note_left(self, ticket: Ticket, reason: str) -> None:
        waited = max(0.0, (self._clock.now() - ticket.enqueued_at).total_seconds())
        body = {"reason": reason, "waited": waited, "ticket": ticket.id}
        await self._journal.note(ticket.conversation_id, "dequeued", body)

    def staff_changed(self) -> None:
        """Somebody has come or gone: what is known of the agents is to be read anew."""
        self._staff_read = -_STAFF_SECONDS

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
            before = await self._store.tickets_of(conversation_id)
            last = next((one for one in reversed(before) if one.place == new.place), None)
            if last is None and (reason := await self._refusal()):
                if self._entering.get(conversation_id) is new:
                    self._tell(new, QueueFailed(new.id, reason))
                return None
            if last is not None and last.handover:  # they had been passed on: that is their place
                kept = replace(last, server=self._server)
                ticket = await self._store.put_ticket(kept)
            else:
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
        if ticket.status in ("served", "passed"):
            self._is_served(ticket)
            return None
        return ticket

    def _is_served(self, ticket: Ticket) -> None:
        """Who asks for a place has been with a person already: a chat may go on, also when the
        customer's server had to be started again; a talk has not survived that."""
        if ticket.kind is not Kind.CALL and ticket.stage in (Stage.ACTIVE, Stage.HELD):
            self._tell(ticket, AgentJoined(ticket.id, ticket.agent))
        else:
            self._tell(ticket, AgentLeft(ticket.id, ticket.agent))

    async def _refusal(self) -> str:
        """Why nobody new is put in line now, "" when they are."""
        if self._is_closed():
            return "closed"
        longest = self._settings.longest_line
        return "full" if longest and await self._store.in_line() >= longest else ""

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
        self._measure(waiting, now)
        ours = [ticket for ticket in waiting if self._is_ours(ticket)]
        if ours:
            await self._look_at_staff(now)
        ahead = 0
        for ticket in waiting:
            place = self._places.get(ticket.conversation_id)
            if place is None or place.ticket.id != ticket.id or ticket.reserved == NOBODY:
                ahead += 1
                continue
            place.ticket = ticket
            waited = (now - ticket.enqueued_at).total_seconds()
            if not any(could_serve(seat, ticket) for seat in self._staff):
                await self._fail(ticket, "nobody")
            elif waited >= self._settings.longest_wait_seconds:
                await self._fail(ticket, "timeout")
            else:
                await self._tell_place(place, ahead, waited)
                ahead += 1
        for conversation_id in self._places.keys() - {one.conversation_id for one in ours}:
            await self._look_after(conversation_id)

    def _is_ours(self, ticket: Ticket) -> bool:
        """Whether this customer is at this server. One who waits again after an agent had them, at
        whichever server, is looked after from now on."""
        place = self._places.get(ticket.conversation_id)
        if place is not None and place.ticket.id == ticket.id:
            return True
        if ticket.server != self._server or not ticket.handover:
            return False
        self._with_person.pop(ticket.conversation_id, None)
        self._places[ticket.conversation_id] = _Place(ticket)
        return True

    def _measure(self, waiting: Sequence[Ticket], now: datetime) -> None:
        self.waiting = len(waiting)
        self.by_kind = Counter(ticket.kind for ticket in waiting)
        self.oldest = min((ticket.enqueued_at for ticket in waiting), default=None)
        observe.WAITING.set(self.waiting)
        for kind in Kind:
            observe.WAITING_BY_KIND.labels(kind.value).set(self.by_kind.get(kind, 0))
        longest = (now - self.oldest).total_seconds() if self.oldest else 0.0
        observe.LONGEST_WAIT.set(max(0.0, longest))

    async def _look_at_staff(self, now: datetime) -> None:
        at = self._clock.monotonic()
        if at - self._staff_read >= _STAFF_SECONDS:
            self._staff_read = at
            self._staff = [seat for seat in await self._store.seats(now) if there(seat)]

    async def catch_up(self) -> None:
        """Tell what agents' servers have told in vain, or could not tell any more: that a customer
        of ours is with a person no longer. Call it every second."""
        for conversation_id in list(self._with_person):
            tickets = await self._store.tickets_of(conversation_id)
            if conversation_id not in self._with_person:
                continue
            if any(_in_good_hands(ticket) for ticket in tickets):
                self._with_person[conversation_id] = 0
                continue
            self._with_person[conversation_id] += 1
            had = [ticket for ticket in tickets if ticket.status in ("served", "passed")]
            last = max(had, key=lambda ticket: ticket.handover, default=None)
            if self._with_person[conversation_id] > _NEWS_SECONDS and last is not None:
                del self._with_person[conversation_id]
                if last.status == "served":  # and not passed on, to where they are now
                    self._tell(last, AgentLeft(last.id, last.agent))

    async def _look_after(self, conversation_id: str) -> None:
        """One of ours who is not waiting any more: offered, or served; or taken out of line behind
        our back, as by a server that took them for lost, and then in line again."""
        place = self._places.get(conversation_id)
        if place is None:  # they left while somebody else was looked after
            return
        stands = {one.id: one for one in await self._store.tickets_of(conversation_id)}
        if self._places.get(conversation_id) is not place:
            return
        ticket = stands.get(place.ticket.id)
        status = ticket.status if ticket is not None else "withdrawn"
        if ticket is not None and status in ("served", "passed"):
            self._tell(ticket, AgentJoined(ticket.id, ticket.agent))
        elif status == "withdrawn":
            try:
                await self._store.put_ticket(place.ticket)
            except HotlineError as error:
                log.error("place in line lost", conversation=conversation_id, error=str(error))
                self._places.pop(conversation_id, None)
                self._tell(place.ticket, QueueFailed(place.ticket.id, "nobody"))
            else:
                if self._places.get(conversation_id) is not place:  # they left at the same moment
                    await self._store.turn_away(place.ticket)

    async def _tell_place(self, place: _Place, ahead: int, waited: float) -> None:
        now = self._clock.monotonic()
        if place.ahead == ahead and now - place.told_at < PLACE_SECONDS:
            return
        place.ahead, place.told_at = ahead, now
        if now - self._talks_read >= _TALKS_SECONDS:
            self._talks_read = now
            self._talks = await self._store.talked_since(self._clock.now() - _HOUR)
        wait = expected_wait(ahead, self._talks, len(self._staff))
        self._tell(place.ticket, QueueMoved(place.ticket.id, ahead, wait, waited))

    async def _fail(self, ticket: Ticket, reason: str) -> None:
        """Turn them away, unless somebody is found for them in the same moment."""
        if not await self._store.turn_away(ticket):
            return
        self._places.pop(ticket.conversation_id, None)
        await self._note_left(ticket, reason)
        if ticket.handover:  # the flow believes them with a person, who has passed them on
            self._tell(ticket, AgentLeft(ticket.id, ticket.from_agent))
        else:
            self._tell(ticket, QueueFailed(ticket.id, reason))


def _in_good_hands(ticket: Ticket) -> bool:
    """Whether this place leads to somebody yet, or somebody has the customer."""
    waits = ticket.status in ("waiting", "offered")
    return waits or (ticket.status == "served" and ticket.stage in _CONNECTED)


_CONNECTED = (Stage.OFFERED, Stage.RINGING, Stage.ACTIVE, Stage.HELD)


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
