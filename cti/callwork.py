"""One caller on the way to one agent: the pop, the ringing, the talk, and what it leaves behind.

The pop is on the screen before the phone rings. Until the answer either side can step back: the
agent declines, or the caller leaves; afterwards the call ends when one of them hangs up, or the
caller is passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import timedelta

import structlog

from cti import protocol
from cti.agents import AgentEvent
from cti.floor import Seat
from cti.talkwork import TalkWork
from cti.work import Workplace
from cti.works import Stage, WorkEvent, step
from ivr import observe
from ivr.errors import CallGone, HotlineError
from ivr.flow.events import AgentJoined
from ivr.model import Leg, Ticket
from ivr.ports import Answered, CallEvent, Ringing

log = structlog.get_logger()

RING_SLACK = 15.0
"""Seconds past the ringing after which a telephone system that says nothing is given up."""

SEEN_SECONDS = 0.3
"""How long the phone waits for the screen to say that the pop is there. One that does not say so
gets its call all the same."""

# What an unanswered offer does to its agent, and the reason that their screen gives for it.
_UNANSWERED: Mapping[str, tuple[AgentEvent | None, str]] = {
    "no_answer": (AgentEvent.MISSED, "missed"),
    "busy": (AgentEvent.MISSED, "busy"),
    "unavailable": (AgentEvent.MISSED, "unavailable"),
    "declined": (AgentEvent.DECLINED, "declined"),
    "gone": (None, ""),
    "withdrawn": (None, ""),
    "failed": (None, ""),
}


class CallWork(TalkWork):
    """One offer of a caller to an agent, up to the end of its wrap-up."""

    def __init__(self, place: Workplace, ticket: Ticket, seat: Seat):
        super().__init__(place, ticket, seat)
        self._picked_at = ticket.offered_at or place.clock.now()
        self._picked = place.clock.monotonic()
        self._ring: asyncio.Task[str] | None = None
        self._stopped = ""
        self._seen = asyncio.Event()

    def seen(self) -> None:
        """The agent's screen shows the pop."""
        self._seen.set()

    def stop(self, why: str) -> None:
        self._stopped = self._stopped or why
        self._seen.set()
        if self._ring is not None:
            self._ring.cancel()

    async def run(self) -> str:
        """Pop, ring, talk. Cancelled, or when the ringing is, it lets go of both and concludes
        nothing: the talk goes on without this server."""
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
        if not self.taken:
            event, why = _UNANSWERED.get(outcome, _UNANSWERED["unavailable"])
            await self._conclude_not_taken(outcome, event, why)
            return outcome
        holder = self.holder
        if holder is self:
            return await self._finish(outcome)
        holder.end(outcome)  # the talk went on with a colleague
        return self.outcome

    def end(self, outcome: str) -> None:
        """What ends this one is the call's own end."""

    async def is_consulted(self, state: str) -> None:
        """Nobody is rung to be consulted by an offer."""

    async def _bring_together(self) -> str:
        place, ticket, seat = self._place, self.ticket, self.seat
        lease = place.settings.ring_seconds + 2 * RING_SLACK
        # The pop does not wait for the database to write; the phone does, which must be ours.
        leasing = asyncio.ensure_future(
            place.store.lease_ticket(ticket, place.clock.now() + timedelta(seconds=lease))
        )
        try:
            _, self.leg = await self.gather()
            shown = await seat.show(protocol.Pop(card=self.card()))
            observe.POP.observe(place.clock.monotonic() - self._picked)
            shown_at = place.clock.now()
        finally:
            await asyncio.wait({leasing})
        if not leasing.result():  # it waits again, or is somebody else's
            return "withdrawn"
        if not shown:
            return "unavailable"
        await self.note("offered", self._picked_at)
        await self.note("pop_shown", shown_at)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SEEN_SECONDS):
                await self._seen.wait()
        if self._stopped or self.leg is None:
            return self._stopped or "gone"
        return await self._talk(self.leg)

    async def _talk(self, leg: Leg) -> str:
        events: asyncio.Queue[CallEvent | None] = asyncio.Queue()

        def notify(event: CallEvent) -> None:
            if self._stopped and not self.taken:
                return  # they were let go of in the same moment
            if isinstance(event, Answered):
                self.mark_taken()  # at once, not when the queue is read
            events.put_nowait(event)

        seconds = self._place.settings.ring_seconds
        extension = self.seat.agent.extension
        ring = asyncio.ensure_future(self.calls.ring(leg.id, extension, seconds, notify))
        self._ring = ring
        ring.add_done_callback(lambda _: events.put_nowait(None))
        overdue = asyncio.get_running_loop().call_later(seconds + RING_SLACK, self._give_up)
        try:
            while (event := await events.get()) is not None:
                await self._happened(event)
        except asyncio.CancelledError:
            ring.cancel()
            raise
        finally:
            overdue.cancel()
        if self._stopped and not self.taken:
            return self._stopped
        outcome = ring.result()
        if outcome in ("talked", "transferred") and not self.taken:  # the news of it was lost
            await self._on_answered()
        return outcome

    def _give_up(self) -> None:
        if not self.taken:
            self.stop("failed")

    # --- what Asterisk tells ---------------------------------------------------------------------

    async def _happened(self, event: CallEvent) -> None:
        try:
            match event:
                case Ringing():
                    await self._on_ringing()
                case Answered():
                    await self._on_answered()
                case _:
                    await self.holder.happened(event)
        except Exception:  # the talk is not to end for what cannot be shown of it
            log.exception("call's news not taken", conversation=self.conversation_id)

    async def _on_ringing(self) -> None:
        if self.stage is not Stage.OFFERED:
            return
        self.stage = step(self.stage, WorkEvent.RANG)
        seconds = self._place.settings.ring_seconds
        self.seat.send(protocol.PhoneRinging(conversation=self.conversation_id, seconds=seconds))
        await self.note("rang")
        self.show_card()

    async def _on_answered(self) -> None:
        if self.stage not in (Stage.OFFERED, Stage.RINGING):
            return
        self._place.tell(self.ticket, AgentJoined(self.ticket.id, self.seat.agent.login))
        await self._taken()
