"""One caller on the way to one agent: the pop, the ringing, the talk, and what it leaves behind.

The pop is on the screen before the phone rings. Until the answer either side can step back: the
agent declines, or the caller leaves; afterwards the call ends when one of them hangs up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog

from cti import protocol
from cti.agents import AgentEvent, Presence
from cti.cards import Cards
from cti.floor import Floor, Seat
from cti.journal import Journal
from ivr import observe
from ivr.errors import CallGone, HotlineError
from ivr.flow.events import AgentJoined, AgentLeft, Event
from ivr.model import Leg, Ticket
from ivr.ports import Answered, CallControl, CallEvent, CallFacts, Clock, Ringing
from ivr.store.repo import Store

log = structlog.get_logger()

RING_SLACK = 15.0
"""Seconds past the ringing after which a telephone system that says nothing is given up."""

SEEN_SECONDS = 0.3
"""How long the phone waits for the screen to say that the pop is there. One that does not say so
gets its call all the same."""

# What an unanswered offer does to its agent, and the reason that their screen gives for it.
_UNANSWERED: Mapping[str, tuple[AgentEvent, str]] = {
    "no_answer": (AgentEvent.MISSED, "missed"),
    "busy": (AgentEvent.MISSED, "busy"),
    "unavailable": (AgentEvent.MISSED, "unavailable"),
    "declined": (AgentEvent.DECLINED, "declined"),
    "gone": (AgentEvent.CALLER_LEFT, ""),
    "failed": (AgentEvent.CALLER_LEFT, ""),
}


@dataclass(frozen=True, slots=True)
class Workplace:
    """What every handover works with. `tell` reports to the runner, in order, without waiting."""

    store: Store
    calls: CallControl
    floor: Floor
    cards: Cards
    journal: Journal
    clock: Clock
    ring_seconds: float
    tell: Callable[[str, Event], None]


class Handover:
    """One offer of a caller to an agent, up to the end of their call. `run` it once."""

    def __init__(self, work: Workplace, ticket: Ticket, seat: Seat):
        self.ticket = ticket
        self.seat = seat
        self.leg: Leg | None = None
        self.caller_gone = False
        self._work = work
        self._picked_at = work.clock.now()
        self._picked = work.clock.monotonic()
        self._ring: asyncio.Task[str] | None = None
        self._stopped = ""
        self._seen = asyncio.Event()
        self._answered: float | None = None
        self._waited = 0.0
        self._talked: float | None = None

    @property
    def answered(self) -> bool:
        return self._answered is not None

    @property
    def talked(self) -> float:
        """Seconds of talk, so far or in all."""
        if self._answered is None or self._talked is not None:
            return self._talked or 0.0
        return self._work.clock.monotonic() - self._answered

    def facts(self, before: CallFacts) -> CallFacts:
        """The conversation's facts with this call added."""
        login = self.seat.agent.login
        return CallFacts(login, before.waited + self._waited, before.talked + self.talked)

    def seen(self) -> None:
        """The agent's screen shows the pop."""
        self._seen.set()

    def stop(self, why: str) -> None:
        """End it unanswered, with this outcome. The first one counts."""
        self._stopped = self._stopped or why
        self._seen.set()
        if self._ring is not None:
            self._ring.cancel()

    async def run(self) -> str:
        """Pop, ring, talk. Returns the outcome, one of those that `protocol.CallEnded` lists, when
        the agent has been brought to their next state. Cancelled, or when the ringing is, it lets
        go of both and concludes nothing: the talk goes on without this server."""
        try:
            outcome = await self._bring_together()
        except CallGone:
            outcome = "gone"
        except HotlineError as error:
            log.error("call not put through", agent=self.seat.agent.login, error=str(error))
            outcome = "failed"
        except Exception:
            log.exception("call not put through", agent=self.seat.agent.login)
            outcome = "failed"
        if self.answered:
            await self._conclude_talk()
            return "talked"
        await self._conclude_unanswered(outcome)
        return outcome

    async def renew_card(self) -> None:
        """Show what has become known since."""
        if self.seat.card is None:
            return
        fresh, _ = await self._work.cards.card(self.ticket, self.seat.card.waited)
        if self.seat.card is not None and self.seat.card.conversation == fresh.conversation:
            self.seat.card = fresh
            self.seat.send(protocol.Pop(card=fresh))

    async def _bring_together(self) -> str:
        work, ticket, seat = self._work, self.ticket, self.seat
        waited = (self._picked_at - ticket.enqueued_at).total_seconds()
        taken, (card, self.leg) = await asyncio.gather(
            self._take_ticket(), work.cards.card(ticket, waited)
        )
        if not taken:
            return "gone"
        seat.card = card
        if not await work.floor.show(seat, protocol.Pop(card=seat.card)):
            return "unavailable"
        observe.POP.observe(work.clock.monotonic() - self._picked)
        shown_at = work.clock.now()
        await self._note("offered", self._picked_at)
        await self._note("pop_shown", shown_at)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SEEN_SECONDS):
                await self._seen.wait()
        if self._stopped or self.leg is None:
            return self._stopped or "gone"
        return await self._talk(self.leg)

    async def _take_ticket(self) -> bool:
        """Mark the ticket as offered; False when it has just been withdrawn.

        An earlier offer of ours that could not be taken back, the store being away, is taken back
        first: the line in memory knows better.
        """
        store, ticket, login = self._work.store, self.ticket, self.seat.agent.login
        conversation_id = ticket.conversation_id
        if await store.offer_ticket(conversation_id, ticket.id, login, self._picked_at):
            return True
        for stored in await store.tickets_of(conversation_id):
            if stored.id == ticket.id and stored.status == "offered":
                await store.return_ticket(conversation_id, ticket.id, stored.agent)
        return await store.offer_ticket(conversation_id, ticket.id, login, self._picked_at)

    async def _talk(self, leg: Leg) -> str:
        events: asyncio.Queue[CallEvent | None] = asyncio.Queue()

        def notify(event: CallEvent) -> None:
            if isinstance(event, Answered) and self._answered is None:
                # At once, not when the queue is read: from here on it cannot be declined.
                self._answered = self._work.clock.monotonic()
                now = self._work.clock.now()
                self._waited = max(0.0, (now - self.ticket.enqueued_at).total_seconds())
            events.put_nowait(event)

        ring = asyncio.ensure_future(
            self._work.calls.ring(
                leg.id, self.seat.agent.extension, self._work.ring_seconds, notify
            )
        )
        self._ring = ring
        ring.add_done_callback(lambda _: events.put_nowait(None))
        overdue = asyncio.get_running_loop().call_later(
            self._work.ring_seconds + RING_SLACK, self._give_up
        )
        try:
            while (event := await events.get()) is not None:
                if isinstance(event, Ringing):
                    await self._on_ringing()
                elif self.seat.presence is Presence.OFFERED:
                    await self._on_answered()
        except asyncio.CancelledError:
            ring.cancel()
            raise
        finally:
            overdue.cancel()
        if self._stopped and not self.answered:
            return self._stopped
        outcome = ring.result()
        if outcome == "talked" and not self.answered:  # the news of the answer was lost
            notify(Answered(self.seat.agent.extension))
            await self._on_answered()
        return outcome

    def _give_up(self) -> None:
        if not self.answered:
            self.stop("failed")

    async def _on_ringing(self) -> None:
        conversation_id = self.ticket.conversation_id
        seconds = self._work.ring_seconds
        self.seat.send(protocol.PhoneRinging(conversation=conversation_id, seconds=seconds))
        await self._note("rang")

    async def _on_answered(self) -> None:
        work, ticket, seat, now = self._work, self.ticket, self.seat, self._work.clock.now()
        work.floor.apply(seat, AgentEvent.ANSWERED)
        seat.answered_at = now
        seat.last_conversation = ticket.conversation_id
        seat.send(protocol.CallAnswered(conversation=ticket.conversation_id, at=now))
        work.tell(ticket.conversation_id, AgentJoined(ticket.id, seat.agent.login))
        await work.journal.best_effort(
            work.store.serve_ticket(ticket.conversation_id, ticket.id, seat.agent.login)
        )
        await work.floor.keep(seat)
        await self._note("answered", now, waited=self._waited)

    async def _conclude_talk(self) -> None:
        seat, conversation_id = self.seat, self.ticket.conversation_id
        self._talked = self.talked
        if seat.presence is Presence.OFFERED:  # it failed between the answer and our hearing of it
            self._work.floor.apply(seat, AgentEvent.ANSWERED)
        self._work.floor.apply(seat, AgentEvent.CALL_ENDED)
        talked = round(self._talked, 1)
        seat.send(protocol.CallEnded(conversation=conversation_id, outcome="talked", talked=talked))
        await self._note("released", seconds=self._talked)
        await self._work.floor.keep(seat)
        if not self.caller_gone:
            self._work.tell(conversation_id, AgentLeft(self.ticket.id, seat.agent.login))

    async def _conclude_unanswered(self, outcome: str) -> None:
        ticket, seat = self.ticket, self.seat
        event, reason = _UNANSWERED.get(outcome, _UNANSWERED["unavailable"])
        self._work.floor.apply(seat, event, reason)
        seat.send(protocol.CallEnded(conversation=ticket.conversation_id, outcome=outcome))
        await self._work.floor.keep(seat)
        if outcome == "gone":
            return
        await self._note("declined", reason=outcome)
        if not self.caller_gone:
            await self._work.journal.best_effort(
                self._work.store.return_ticket(ticket.conversation_id, ticket.id, seat.agent.login)
            )

    async def _note(self, kind: str, at: datetime | None = None, **body: object) -> None:
        known = {"agent": self.seat.agent.login, "ticket": self.ticket.id, **body}
        leg_id = self.leg.id if self.leg else None
        await self._work.journal.note(self.ticket.conversation_id, kind, known, leg_id, at)
