"""A colleague who is consulted about a call: they see its card and what was written for them before
their phone rings, and have the call when it is completed.

The call itself is driven by the work of whoever was rung for it (`cti.callwork`), which tells this
one what becomes of it.
"""

from __future__ import annotations

import asyncio

import structlog

from cti import protocol
from cti.floor import Seat
from cti.popcard import Party
from cti.talkwork import TalkWork
from cti.work import Workplace
from cti.works import Stage, WorkEvent, step
from ivr.errors import HotlineError
from ivr.flow.events import AgentJoined
from ivr.model import Leg, Ticket

log = structlog.get_logger()

_SLACK = 15.0
"""Seconds past the ringing after which a consultation of which nothing is heard was none."""


class ConsultWork(TalkWork):
    """One consultation, up to the end of the talk with the customer if it comes to that."""

    def __init__(self, place: Workplace, ticket: Ticket, seat: Seat, leg: Leg, colleague: str):
        super().__init__(place, ticket, seat, leg)
        self.parties = (Party(role="agent", name=colleague),)
        self._heard = False
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def show(self) -> bool:
        """The pop, before the phone rings; whether a screen has taken it, and the colleague has not
        declined."""
        try:
            await self.gather()
        except HotlineError as error:
            log.error("no card for the consulted", error=str(error))
            return False
        return await self.seat.show(protocol.Pop(card=self.card())) and not self._end.done()

    async def run(self) -> str:
        """Until the talk with the customer, or the consultation without one, is over."""
        loop = asyncio.get_running_loop()
        unheard = self._place.settings.ring_seconds + _SLACK
        overdue = loop.call_later(unheard, self._give_up)
        try:
            outcome = await self._end
        finally:
            overdue.cancel()
        if not self.taken:
            if outcome == "declined":
                await self._let_them_know()
            await self._conclude_not_taken("gone", None, "")
            await self._store(self._place.store.drop_ticket(self.ticket))
            return "consulted"
        return await self._finish(outcome)

    def stop(self, why: str) -> None:
        if not self.taken:
            self.end(why)

    def end(self, outcome: str) -> None:
        if not self._end.done():
            self._end.set_result(outcome)

    def _give_up(self) -> None:
        if not self._heard:
            self.end("gone")

    async def is_consulted(self, state: str) -> None:
        self._heard = True
        match state:
            case "ringing" if self.stage is Stage.OFFERED:
                self.stage = step(self.stage, WorkEvent.RANG)
                seconds = self._place.settings.ring_seconds
                self.seat.send(
                    protocol.PhoneRinging(conversation=self.conversation_id, seconds=seconds)
                )
            case "took_over" | "joined" if self.going_on:
                if state == "took_over":
                    self.parties = ()
                if not self.taken:
                    login = self.seat.agent.login
                    self._place.tell(self.ticket, AgentJoined(self.ticket.id, login))
                    await self._taken()
            case "gone":
                self.end("left" if self.taken else "gone")
            case _:
                pass
        self.show_card()

    async def _let_them_know(self) -> None:
        """Who consults goes back to the customer."""
        assert self.leg is not None
        try:
            await self.calls.cancel(self.leg.id)
        except HotlineError as error:
            log.warning("consultation not cancelled", error=str(error))
