"""The desk: callers in line, agents at work, and the call that brings them together.

    enqueue ─→ in line ─→ offered ─→ pop on the screen ─→ phone rings ─→ talking ─→ wrap-up
                  ↑                        │ not answered: the agent is away, the place is kept
                  └────────────────────────┘

What decides is in memory and changes without waiting (`Floor.apply`, `_route`), so that no two
callers get one agent; the store is told afterwards, and its failure costs a report, never a call.
Reports to the runner leave in order for each conversation, and never while the runner waits for us.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from cti import protocol, screenpop
from cti.agents import AgentEvent
from cti.cards import Cards
from cti.floor import Floor, Seat
from cti.handover import RING_SLACK, Handover, Workplace
from cti.journal import Journal
from cti.protocol import QueueNow
from cti.routing import expected_wait, ordered, pick, serves
from cti.screenpop import ConversationView
from cti.screens import Screen
from ivr import observe
from ivr.config import QueueSettings
from ivr.errors import Conflict, HotlineError, NotAllowed
from ivr.flow.events import AgentLeft, Enqueue, Event, QueueFailed, QueueMoved
from ivr.model import Conversation, Ticket
from ivr.ports import CallControl, CallFacts, Clock, EventSink
from ivr.store.repo import Store

log = structlog.get_logger()

TICK_SECONDS = 1.0
PLACE_SECONDS = 30.0
"""How often a waiting caller hears of their place when it has not changed."""
RETRY_SECONDS = 2.0
"""How long nobody is offered a caller after the telephone system has failed."""
_RECENT_CALLS = 20


@dataclass(slots=True)
class _Place:
    """A caller in line, and the place that they were last told."""

    ticket: Ticket
    ahead: int = -1
    told_at: float = 0.0


class Desk:
    """`ivr.ports.Desk`, and what the agents' screens ask of it.

    `view` tells what may be shown of a conversation's flow. Start with `start`, then keep `run`
    running; `close` ends every call's supervision.
    """

    def __init__(
        self,
        store: Store,
        calls: CallControl,
        report: EventSink,
        view: Callable[[Conversation], ConversationView],
        clock: Clock,
        settings: QueueSettings,
        region: str = "US",
    ):
        self._store = store
        self._calls = calls
        self._report = report
        self._clock = clock
        self._settings = settings
        self._journal = Journal(store, clock)
        self._floor = Floor(store, clock, settings.wrap_up_seconds)
        self._work = Workplace(
            store=store,
            calls=calls,
            floor=self._floor,
            cards=Cards(store, view, region),
            journal=self._journal,
            clock=clock,
            ring_seconds=settings.ring_seconds,
            tell=self._tell,
        )
        self._entering: dict[str, Ticket] = {}
        self._line: dict[str, _Place] = {}
        self._offers: dict[str, Handover] = {}
        self._asked_again: set[str] = set()
        self._hold_until = 0.0
        self._busy: deque[float] = deque(maxlen=_RECENT_CALLS)
        self._stale: set[str] = set()
        self._queue_shown: tuple[int, datetime | None] = (0, None)
        self._tasks: set[asyncio.Task[None]] = set()
        self._telling: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Take up the last run's agents and put its unanswered offers back into line; the callers
        come back by themselves through `enqueue`."""
        # Not those of another server on this database whose phones ring just now.
        ringing = timedelta(seconds=self._settings.ring_seconds + RING_SLACK)
        await self._store.return_stale_offers(self._clock.now() - ringing)
        await self._floor.start()

    async def run(self) -> None:
        """Let time pass, until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                await self.tick()
            except Exception:  # time must go on for everybody else
                log.exception("tick failed")

    async def close(self) -> None:
        """Stop supervising: screens are dropped, ringing phones stop."""
        for seat in self._floor.seats():
            for screen in tuple(seat.screens):
                self._floor.close(screen)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- the machine's side ----------------------------------------------------------------------

    async def enqueue(self, conversation_id: str, wanted: Enqueue) -> None:
        """Put a conversation in line. The same id again is the same place in line."""
        offer = self._offers.get(conversation_id)
        if offer is not None and offer.ticket.id == wanted.id:
            self._asked_again.add(conversation_id)
            return
        place = self._line.get(conversation_id)
        if place is None or place.ticket.id != wanted.id:
            ticket = await self._take_place(conversation_id, wanted)
            if ticket is None:
                return
            place = self._line[conversation_id] = _Place(ticket)
            body = {"skills": list(wanted.skills), "priority": wanted.priority, "ticket": wanted.id}
            await self._journal.note(conversation_id, "in_line", body)
        place.ahead = -1
        await self._refresh()

    async def withdraw(self, conversation_id: str) -> None:
        """Take it out of line, or tell its agent that the customer is gone. Idempotent."""
        self._entering.pop(conversation_id, None)
        place = self._line.pop(conversation_id, None)
        offer = self._offers.get(conversation_id)
        if offer is not None:
            offer.caller_gone = True
        waiting = place.ticket if place else None
        if offer is not None and not offer.answered:
            offer.stop("gone")
            waiting = offer.ticket
        await self._leave_line(conversation_id, waiting, "left")
        await self._refresh()

    async def observe(self, conversation_id: str) -> None:
        """Something changed in a conversation: its agent's card is made anew within a second."""
        if conversation_id in self._offers:
            self._stale.add(conversation_id)

    async def facts(self, conversation_id: str) -> CallFacts:
        """What to put into the call record. Ask after `withdraw`, when the caller is gone."""
        offer = self._offers.get(conversation_id)
        if offer is None or not offer.answered:
            return await self._journal.facts(conversation_id)
        return offer.facts(await self._journal.facts(conversation_id, offer.ticket.id))

    # --- the agents' side ------------------------------------------------------------------------

    async def open(self, login: str, session: str = "") -> Screen:
        """Take in a page. Raises NotAllowed for an agent who is unknown, disabled or without a
        telephone."""
        agent = await self._store.agent(login)
        if agent is None or agent.disabled:
            raise NotAllowed("this agent is unknown or disabled; ask your supervisor")
        if not agent.extension:
            raise NotAllowed("no telephone belongs to this login; designers work at /designer")
        screen = self._floor.open(agent, session, self._queue_now())
        try:
            await self._floor.keep(self._floor.seat(login))
            await self._refresh()
        except BaseException:
            self._floor.close(screen)
            raise
        return screen

    def leave(self, screen: Screen) -> None:
        """The page's connection is over. Idempotent."""
        self._floor.close(screen)

    async def sign_out(self, login: str, session: str) -> None:
        """Close the pages which that login opened; with none left the agent is offline."""
        if self._floor.sign_out(login, session):
            await self._floor.keep(self._floor.seat(login))
            await self._refresh()

    async def obey(self, screen: Screen, message: protocol.ClientMessage) -> None:
        """Do what an agent's page asks. Raises NotAllowed or Conflict with a line for the agent."""
        seat = self._floor.seat(screen.login)
        match message:
            case protocol.SetPresence():
                came = message.to == "available"
                event = AgentEvent.CAME_BACK if came else AgentEvent.WENT_AWAY
                await self._change(seat, event, "" if came else message.reason)
            case protocol.Decline():
                offer = self._in_hand(seat, message.conversation)
                if offer.answered:
                    raise Conflict("the call is already answered; hang up instead")
                offer.stop("declined")
            case protocol.HangUp():
                offer = self._in_hand(seat, message.conversation)
                if not offer.answered or offer.leg is None:
                    raise Conflict("there is no call to end yet; decline it instead")
                await self._calls.hang_up(offer.leg.id)
            case protocol.WriteNote():
                await self._keep_note(seat, message)
                screen.send(protocol.NoteKept(conversation=message.conversation))
            case protocol.Done():
                self._own(seat, message.conversation)
                await self._change(seat, AgentEvent.WRAPPED_UP)
            case protocol.Seen():
                if (shown := self._offers.get(message.conversation)) and shown.seat is seat:
                    shown.seen()
            case protocol.Ping():
                screen.send(protocol.Pong())
            case protocol.Login():
                raise Conflict("this connection is already logged in")

    # --- time ------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Do what is due: end wraps-ups, miss lost screens, end waits that are too long, and tell
        screens and callers what has changed."""
        for seat in self._floor.tick():
            await self._floor.keep(seat)
        stale, self._stale = self._stale, set()
        for conversation_id in stale:
            offer = self._offers.get(conversation_id)
            if offer is not None:
                self._spawn(offer.renew_card())
        await self._refresh()
        shown = (len(self._line), self._oldest())
        if shown != self._queue_shown:
            self._queue_shown = shown
            for seat in self._floor.seats():
                seat.send(self._queue_now())

    # --- the line --------------------------------------------------------------------------------

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
        )
        self._entering[conversation_id] = new
        try:
            ticket = await self._store.put_ticket(new)
            if self._entering.get(conversation_id) is not new:
                # Withdrawn meanwhile, unless the same was asked for twice at once.
                if conversation_id not in self._entering and conversation_id not in self._line:
                    await self._store.withdraw_tickets(conversation_id)
                return None
        finally:
            if self._entering.get(conversation_id) is new:
                del self._entering[conversation_id]
        if ticket.status == "served":  # a call with a person that did not survive a crash
            self._tell(conversation_id, AgentLeft(ticket.id, ticket.agent))
            return None
        return ticket

    async def _refresh(self) -> None:
        """Bring the line up to date: who cannot be served leaves, who can be is offered, and the
        others hear of their place."""
        staff = self._floor.staff()
        now = self._clock.now()
        for conversation_id, place in list(self._line.items()):
            waited = (now - place.ticket.enqueued_at).total_seconds()
            if not any(serves(agent, place.ticket) for agent in staff):
                await self._fail(conversation_id, "nobody")
            elif waited >= self._settings.longest_wait_seconds:
                await self._fail(conversation_id, "timeout")
        self._route()
        self._tell_places(len(staff))
        observe.WAITING.set(len(self._line))

    def _route(self) -> None:
        """Offer every caller whom somebody can take. Without waiting: nothing is picked twice."""
        if self._clock.monotonic() < self._hold_until:
            return
        waiting = [place.ticket for place in self._line.values()]
        for ticket, candidate in pick(waiting, self._floor.free()):
            seat = self._floor.seat(candidate.login)
            self._floor.apply(seat, AgentEvent.OFFERED)
            del self._line[ticket.conversation_id]
            offer = Handover(self._work, ticket, seat)
            self._offers[ticket.conversation_id] = offer
            self._spawn(self._serve(offer))

    async def _serve(self, offer: Handover) -> None:
        outcome = await offer.run()
        conversation_id = offer.ticket.conversation_id
        place: _Place | None = None
        if outcome == "gone" and not offer.caller_gone:
            place = await self._place_after(offer)
        elif outcome != "talked" and not offer.caller_gone:
            place = _Place(offer.ticket)
        self._close(offer)
        if outcome == "talked":
            self._busy.append(offer.talked)
        elif outcome == "failed":
            self._hold_until = self._clock.monotonic() + RETRY_SECONDS
        if place is not None:
            self._line.setdefault(conversation_id, place)
        await self._refresh()

    async def _place_after(self, offer: Handover) -> _Place | None:
        """The place of a caller whose call could not be found: none when they are gone, but they
        may be back on another leg, or the ticket was taken out of line behind our back."""
        ticket = offer.ticket
        conversation_id = ticket.conversation_id
        try:
            stood = await self._store.withdraw_tickets(conversation_id)
            here = conversation_id in self._asked_again or ticket.id not in [t.id for t in stood]
            if not here and not offer.caller_gone:
                self._close(offer)  # whoever asks from now on takes a new place
                await self._note_leaving(ticket, "gone")
                return None
            stored = await self._store.put_ticket(ticket)
            if offer.caller_gone:  # as the runner has said meanwhile
                await self._store.withdraw_tickets(conversation_id)
                return None
            if stored.status == "waiting":
                return _Place(stored)
            reason = f"another server has it as {stored.status}"
        except HotlineError as error:
            reason = str(error)
        log.error("place in line lost", conversation=conversation_id, error=reason)
        self._tell(conversation_id, QueueFailed(ticket.id, "nobody"))
        await self._note_leaving(ticket, "failed")
        return None

    def _close(self, offer: Handover) -> None:
        conversation_id = offer.ticket.conversation_id
        if self._offers.get(conversation_id) is offer:
            del self._offers[conversation_id]
            self._asked_again.discard(conversation_id)

    def _tell_places(self, staff: int) -> None:
        now = self._clock.monotonic()
        for ahead, ticket in enumerate(ordered(place.ticket for place in self._line.values())):
            place = self._line[ticket.conversation_id]
            if place.ahead == ahead and now - place.told_at < PLACE_SECONDS:
                continue
            place.ahead, place.told_at = ahead, now
            wait = expected_wait(ahead, self._busy, staff)
            waited = self._waited(ticket)
            self._tell(ticket.conversation_id, QueueMoved(ticket.id, ahead, wait, waited))

    async def _fail(self, conversation_id: str, reason: str) -> None:
        place = self._line.pop(conversation_id, None)
        if place is not None:
            await self._leave_line(conversation_id, place.ticket, reason)
            self._tell(conversation_id, QueueFailed(place.ticket.id, reason))

    async def _leave_line(self, conversation_id: str, ticket: Ticket | None, reason: str) -> None:
        await self._journal.best_effort(self._store.withdraw_tickets(conversation_id))
        if ticket is not None:
            await self._note_leaving(ticket, reason)

    async def _note_leaving(self, ticket: Ticket, reason: str) -> None:
        body = {"reason": reason, "waited": self._waited(ticket), "ticket": ticket.id}
        await self._journal.note(ticket.conversation_id, "dequeued", body)

    def _waited(self, ticket: Ticket) -> float:
        return max(0.0, (self._clock.now() - ticket.enqueued_at).total_seconds())

    def _oldest(self) -> datetime | None:
        return min((place.ticket.enqueued_at for place in self._line.values()), default=None)

    def _queue_now(self) -> QueueNow:
        oldest = self._oldest()
        longest = (self._clock.now() - oldest).total_seconds() if oldest else 0.0
        return QueueNow(waiting=len(self._line), longest=round(max(0.0, longest), 1))

    # --- what agents may do ----------------------------------------------------------------------

    def _own(self, seat: Seat, conversation_id: str) -> None:
        if seat.card is None or seat.card.conversation != conversation_id:
            raise NotAllowed("this conversation is not yours, or no longer")

    def _in_hand(self, seat: Seat, conversation_id: str) -> Handover:
        self._own(seat, conversation_id)
        offer = self._offers.get(conversation_id)
        if offer is None or offer.seat is not seat:
            raise Conflict("the call is over")
        return offer

    async def _change(self, seat: Seat, event: AgentEvent, reason: str = "") -> None:
        self._floor.apply(seat, event, screenpop.clean(reason, 80))
        await self._floor.keep(seat)
        await self._refresh()

    async def _keep_note(self, seat: Seat, message: protocol.WriteNote) -> None:
        if message.conversation != seat.last_conversation:
            raise NotAllowed("notes can be written for your latest conversation alone")
        await self._store.annotate(
            message.conversation,
            seat.agent.login,
            message.text,
            message.disposition,
            self._clock.now(),
        )

    # --- the runner, tasks -----------------------------------------------------------------------

    def _tell(self, conversation_id: str, event: Event) -> None:
        """Report to the runner, after whatever was reported of this conversation before."""
        before = self._telling.get(conversation_id)

        async def tell() -> None:
            if before is not None:
                await asyncio.wait([before])
            await self._report(conversation_id, event)

        task = self._spawn(tell())
        self._telling[conversation_id] = task

        def told(done: asyncio.Task[None]) -> None:
            if self._telling.get(conversation_id) is done:
                del self._telling[conversation_id]

        task.add_done_callback(told)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("desk task failed", error=repr(error))
