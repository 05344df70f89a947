"""A chat or message thread in an agent's hands: several of them go on at once beside each other.

The offer pops as a call's does; instead of a phone that rings, the agent accepts it on the screen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import structlog

from cti import protocol
from cti.agents import AgentEvent
from cti.floor import Seat
from cti.work import Work, Workplace
from cti.works import Stage
from ivr import observe
from ivr.errors import CallGone, HotlineError
from ivr.flow.events import AgentJoined, AgentLeft
from ivr.model import Ticket

log = structlog.get_logger()

_LEASE_SLACK = 15.0

_NOT_ACCEPTED: Mapping[str, tuple[AgentEvent | None, str]] = {
    "no_answer": (AgentEvent.MISSED, "missed"),
    "unavailable": (AgentEvent.MISSED, "unavailable"),
    "declined": (AgentEvent.DECLINED, "declined"),
    "gone": (None, ""),
    "withdrawn": (None, ""),
    "failed": (None, ""),
}


class TextWork(Work):
    """One offer of a text conversation to an agent, up to the end of its wrap-up."""

    def __init__(self, place: Workplace, ticket: Ticket, seat: Seat):
        super().__init__(place, ticket, seat)
        self._picked_at = ticket.offered_at or place.clock.now()
        self._picked = place.clock.monotonic()
        self._answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def accept(self) -> None:
        """The agent takes it. Too late is harmless."""
        if not self._answer.done():
            self.mark_taken()
            self._answer.set_result("accepted")

    def stop(self, why: str) -> None:
        if not self._answer.done():
            self._answer.set_result(why)

    def end(self, outcome: str) -> None:
        """It is over, or goes to somebody else. The first outcome counts."""
        if not self._end.done():
            self._end.set_result(outcome)

    async def run(self) -> str:
        try:
            answer = await self._offer()
        except CallGone:
            answer = "gone"
        except HotlineError as error:
            log.error("text not put through", agent=self.seat.agent.login, error=str(error))
            answer = "failed"
        if answer != "accepted":
            event, why = _NOT_ACCEPTED.get(answer, _NOT_ACCEPTED["unavailable"])
            await self._conclude_not_taken(answer, event, why)
            return answer
        if self.stage in (Stage.OFFERED, Stage.RINGING):
            self._place.tell(self.ticket, AgentJoined(self.ticket.id, self.seat.agent.login))
            await self._taken()
        outcome = await self._end
        await self._conclude_taken(outcome)
        if outcome in ("talked", "returned") and not self.customer_gone:
            self._place.tell(self.ticket, AgentLeft(self.ticket.id, self.seat.agent.login))
        return outcome

    async def _offer(self) -> str:
        place, ticket, seat = self._place, self.ticket, self.seat
        if ticket.status == "served":  # taken over from the flow: nobody need be asked
            await self.gather()
            seat.send(protocol.Pop(card=self.card()))
            self.mark_taken()
            return "accepted"
        seconds = place.settings.accept_seconds
        until = place.clock.now() + timedelta(seconds=seconds + _LEASE_SLACK)
        leasing = asyncio.ensure_future(place.store.lease_ticket(ticket, until))
        try:  # the pop does not wait for the database to write
            await self.gather()
            shown = await seat.show(protocol.Pop(card=self.card()))
            observe.POP.observe(place.clock.monotonic() - self._picked)
            shown_at = place.clock.now()
        finally:
            await asyncio.wait({leasing})
        if not leasing.result():
            return "gone"
        if not shown:
            return "unavailable"
        await self.note("offered", self._picked_at)
        await self.note("pop_shown", shown_at)
        loop = asyncio.get_running_loop()
        late = loop.call_later(seconds, self.stop, "no_answer")
        try:
            return await self._answer
        finally:
            late.cancel()
