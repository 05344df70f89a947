"""A colleague who is consulted about a call: they see its card and what was written for them before
their phone rings, and have the call when it is completed.

The call itself is driven by the work of whoever consults (`cti.callwork`), which tells this one.
"""

from __future__ import annotations

import asyncio

import structlog

from cti import protocol
from cti.floor import Seat
from cti.popcard import Party
from cti.work import Work, Workplace
from cti.works import Stage, WorkEvent, step
from ivr.errors import HotlineError
from ivr.flow.events import AgentJoined, AgentLeft
from ivr.model import Ticket

log = structlog.get_logger()


class ConsultWork(Work):
    """One consultation, up to the end of the talk with the customer if it comes to that."""

    def __init__(self, place: Workplace, ticket: Ticket, seat: Seat, colleague: str):
        super().__init__(place, ticket, seat)
        self._colleague = colleague
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def show(self) -> bool:
        """The pop, before the phone rings; whether a screen has taken it."""
        try:
            await self.gather()
        except HotlineError as error:
            log.error("no card for the consulted", error=str(error))
            return False
        self.parties = (Party(role="agent", name=self._colleague),)
        return await self.seat.show(protocol.Pop(card=self.card()))

    async def run(self) -> str:
        """Until the talk with the customer, or the consultation without one, is over."""
        outcome = await self._end
        if not self.taken:
            await self._conclude_not_taken("gone", None, "")
            return "gone"
        await self._conclude_taken(outcome)
        if not self.customer_gone and outcome == "talked":
            self._place.tell(self.ticket, AgentLeft(self.ticket.id, self.seat.agent.login))
        return outcome

    def stop(self, why: str) -> None:
        if not self.taken:
            self.end(why)

    def end(self, outcome: str) -> None:
        """The first outcome counts."""
        if not self._end.done():
            self._end.set_result(outcome)

    async def consulted(self, state: str) -> None:
        """How far the consultation has come, as `ivr.ports.Consulted` has it."""
        match state:
            case "ringing" if self.stage is Stage.OFFERED:
                self.stage = step(self.stage, WorkEvent.RANG)
                seconds = self._place.settings.ring_seconds
                self.seat.send(
                    protocol.PhoneRinging(conversation=self.conversation_id, seconds=seconds)
                )
            case "took_over" | "joined":
                self.parties = ()
                if not self.taken:
                    self._place.tell(
                        self.ticket, AgentJoined(self.ticket.id, self.seat.agent.login)
                    )
                    await self._taken()
            case "gone":
                self.end("talked" if self.taken else "gone")
        self.show_card()
