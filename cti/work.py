"""A conversation in an agent's hands: what all kinds have in common.

    offered ─→ ringing ─→ active ⇄ held ─→ wrap-up ─→ over
        └── not taken: the customer keeps their place, the agent is away

Calls (`cti.callwork`) and texts (`cti.textwork`) differ in how they are taken and how they end.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from cti import protocol
from cti.agents import AgentEvent, Presence
from cti.cards import Cards
from cti.floor import Floor, Seat
from cti.journal import Journal
from cti.popcard import Party, PopCard
from cti.works import TAKEN, Stage, WorkEvent, step
from ivr.config import QueueSettings
from ivr.errors import HotlineError
from ivr.flow.events import Event
from ivr.model import Kind, Leg, Ticket
from ivr.ports import CallFacts, Clock, PhoneSystem
from ivr.store.repo import Store

log = structlog.get_logger()

MORE_TIME = 60.0
"""Seconds of wrap-up that an agent gets when asking for more."""

# What a page may offer to do, by kind and stage; `cti.orders` refuses the rest.
_ALWAYS = ("note", "contact", "fact")
_CALL_CAN: Mapping[Stage, tuple[str, ...]] = {
    Stage.OFFERED: ("decline",),
    Stage.RINGING: ("decline",),
    Stage.ACTIVE: ("hang_up", "hold", "mute", "keys", "transfer", "park"),
    Stage.HELD: ("hang_up", "retrieve", "transfer", "park"),
    Stage.WRAP_UP: ("done", "more_time"),
}
_TEXT_CAN: Mapping[Stage, tuple[str, ...]] = {
    Stage.OFFERED: ("accept", "decline"),
    Stage.ACTIVE: ("say", "hang_up", "transfer", "give_back"),
    Stage.WRAP_UP: ("done", "more_time"),
}
_CONSULTING = ("complete", "cancel", "conference", "hang_up", "keys")


@dataclass(frozen=True, slots=True)
class Workplace:
    """What every work is done with. `calls` are those of one server; `tell` reports to the runner
    of the ticket's server, in order and without waiting; `changed` says that somebody may be
    free."""

    store: Store
    calls: Callable[[str], PhoneSystem]
    floor: Floor
    cards: Cards
    journal: Journal
    clock: Clock
    settings: QueueSettings
    tell: Callable[[Ticket, Event], None]
    changed: Callable[[], None]


class Work(ABC):
    """One conversation with one agent. `run` it once; it returns when it is over."""

    def __init__(self, place: Workplace, ticket: Ticket, seat: Seat):
        self.ticket = ticket
        self.seat = seat
        self.stage = Stage.OFFERED
        self.since = place.clock.now()
        self.answered_at: datetime | None = None
        self.customer_gone = False
        self.outcome = ""
        self.over = asyncio.Event()
        self.muted = False
        self.consult: Party | None = None
        self.parties: tuple[Party, ...] = ()
        self._place = place
        self._shown: PopCard | None = None
        self._until: float | None = None
        self._answered: float | None = None
        self._talked: float | None = None
        self._waited = 0.0

    @property
    def conversation_id(self) -> str:
        return self.ticket.conversation_id

    @property
    def taken(self) -> bool:
        """Whether the agent has, or had, the customer."""
        return self._answered is not None

    @property
    def connected(self) -> bool:
        return self.stage in TAKEN

    @property
    def talked(self) -> float:
        """Seconds together, so far or in all."""
        if self._answered is None or self._talked is not None:
            return self._talked or 0.0
        return self._place.clock.monotonic() - self._answered

    @property
    def wrap_up_over(self) -> bool:
        return self._until is not None and self._place.clock.monotonic() >= self._until

    def facts(self, before: CallFacts) -> CallFacts:
        """The conversation's facts with this work added."""
        login = self.seat.agent.login
        return CallFacts(login, before.waited + self._waited, before.talked + self.talked)

    @abstractmethod
    async def run(self) -> str:
        """Returns the outcome, one of those that `protocol.CallEnded` lists, when the agent has
        been brought to what comes next."""

    @abstractmethod
    def stop(self, why: str) -> None:
        """End it before it is taken, with this outcome. The first one counts."""

    # --- the card --------------------------------------------------------------------------------

    async def gather(self) -> tuple[PopCard, Leg | None]:
        """The card as it is now, and the call that can be put through, if there is one."""
        waited = self._shown.waited if self._shown else self._waiting_time()
        card, leg = await self._place.cards.card(self.ticket, waited)
        self._shown = card
        return self.card(), leg

    async def renew_card(self) -> None:
        """Show what has become known since."""
        await self.gather()
        self.show_card()

    def card(self) -> PopCard:
        """The card that was gathered last, with how the work stands now."""
        assert self._shown is not None, "gather() comes first"
        left = None if self._until is None else self._until - self._place.clock.monotonic()
        return self._shown.model_copy(
            update={
                "kind": self.ticket.kind.value,
                "stage": self.stage.value,
                "since": self.since,
                "answered_at": self.answered_at,
                "until": None
                if left is None
                else self._place.clock.now() + timedelta(seconds=max(0.0, left)),
                "muted": self.muted,
                "consult": self.consult,
                "parties": self.parties,
                "from_agent": self.ticket.from_agent,
                "context": self.ticket.context,
                "can": self._can(),
            }
        )

    def show_card(self) -> None:
        if self._shown is not None and self.stage is not Stage.OVER:
            self.seat.send(protocol.Pop(card=self.card()))

    @property
    def shown(self) -> PopCard | None:
        """The card as the screens have it, None while there is none."""
        return None if self._shown is None else self.card()

    def _can(self) -> tuple[str, ...]:
        table = _CALL_CAN if self.ticket.kind is Kind.CALL else _TEXT_CAN
        if self.consult is not None and self.connected:
            return _CONSULTING + _ALWAYS
        return table.get(self.stage, ()) + (_ALWAYS if self.taken else ())

    # --- its stages ------------------------------------------------------------------------------

    async def _enter(self, event: WorkEvent) -> None:
        """Bring it to the next stage, here and in the store, and tell the agent's screens."""
        before = self.stage
        self.stage = step(before, event)
        if self.stage is before:
            return
        now = self.since = self._place.clock.now()
        store, ticket, stage = self._place.store, self.ticket, self.stage.value
        if self.stage is Stage.WRAP_UP:
            self._until = self._place.clock.monotonic() + self._place.settings.wrap_up_seconds
            passed = self.outcome == "transferred"
            await self._store(store.end_ticket(ticket, stage, now, self.talked, passed=passed))
        else:
            await self._store(store.stage_ticket(ticket, stage))

    async def _taken(self) -> None:
        """Agent and customer are connected."""
        place, ticket, seat, now = self._place, self.ticket, self.seat, self._place.clock.now()
        if self._answered is None:
            self.mark_taken()
        self.stage = step(self.stage, WorkEvent.ANSWERED)
        self.since = self.answered_at = now
        seat.send(protocol.CallAnswered(conversation=ticket.conversation_id, at=now))
        self.show_card()
        if not await self._store(place.store.serve_ticket(ticket, self.stage.value)):
            await self._store(place.store.stage_ticket(ticket, self.stage.value))
        await self.note("answered", now, waited=self._waited)

    def mark_taken(self) -> None:
        """From this moment on it cannot be declined."""
        if self._answered is None:
            self._answered = self._place.clock.monotonic()
            self._waited = self._waiting_time()

    async def _conclude_taken(self, outcome: str) -> None:
        """It is over: now it is written up."""
        self._talked = self.talked
        self.outcome = outcome
        self.consult, self.parties, self.muted = None, (), False
        if self.stage in (Stage.OFFERED, Stage.RINGING):  # it ended before we heard of the answer
            self.stage = step(self.stage, WorkEvent.ANSWERED)
        await self._enter(WorkEvent.ENDED)
        talked = round(self._talked, 1)
        self.seat.send(
            protocol.CallEnded(conversation=self.conversation_id, outcome=outcome, talked=talked)
        )
        self.show_card()
        await self.note("released", seconds=self._talked, outcome=outcome)
        self.over.set()

    async def _conclude_not_taken(self, outcome: str, event: AgentEvent | None, why: str) -> None:
        """The customer keeps their place, unless they are `gone`, or have it already (the offer was
        `withdrawn`). `event` is what it does to the agent, if anything."""
        place, seat = self._place, self.seat
        self.stage = step(self.stage, WorkEvent.NOT_TAKEN)
        self.outcome = shown = "gone" if outcome == "withdrawn" else outcome
        self._leave_seat()
        if event is not None and seat.presence is not Presence.OFFLINE:
            place.floor.apply(seat, event, why)
        await place.floor.keep(seat)
        seat.send(protocol.CallEnded(conversation=self.conversation_id, outcome=shown))
        self.over.set()
        if shown == "gone":
            return
        await self.note("declined", reason=outcome)
        if not self.customer_gone:
            await self._store(place.store.return_ticket(self.ticket))

    async def wrap_up(self) -> None:
        """The agent is done with it. Idempotent."""
        if self.stage is Stage.OVER:
            return
        await self._enter(WorkEvent.WRAPPED_UP)
        await self.note("wrapped_up")
        seat = self.seat
        self._leave_seat()
        if not seat.works:
            seat.free_since = self._place.clock.now()
        seat.send(protocol.Wrapped(conversation=self.conversation_id))
        await self._place.floor.keep(seat)
        self._place.changed()

    async def abandon(self) -> None:
        """It has failed in a way that nobody foresaw: whatever becomes of the customer, the agent
        is not kept by it."""
        self.stage = Stage.OVER
        self._leave_seat()
        self.over.set()
        self.seat.send(protocol.CallEnded(conversation=self.conversation_id, outcome="failed"))
        self.seat.send(protocol.Wrapped(conversation=self.conversation_id))
        if not await self._store(self._place.store.return_ticket(self.ticket)):
            await self._store(self._place.store.stage_ticket(self.ticket, self.stage.value))

    def _leave_seat(self) -> None:
        # Unless the same conversation has come to the same agent again meanwhile.
        if self.seat.works.get(self.conversation_id) is self:
            del self.seat.works[self.conversation_id]

    def more_time(self) -> None:
        if self._until is not None:
            self._until += MORE_TIME
            self.show_card()

    # --- the record ------------------------------------------------------------------------------

    async def note(self, kind: str, at: datetime | None = None, **body: object) -> None:
        known = {"agent": self.seat.agent.login, "ticket": self.ticket.id, **body}
        await self._place.journal.note(self.conversation_id, kind, known, None, at)

    async def _store(self, write: Awaitable[object]) -> bool:
        """A write that the two can do without; whether it was done."""
        try:
            return bool(await write)
        except HotlineError as error:
            log.error("not stored", conversation=self.conversation_id, error=str(error))
            return False

    def _waiting_time(self) -> float:
        waited = (self._place.clock.now() - self.ticket.enqueued_at).total_seconds()
        return max(0.0, waited)
