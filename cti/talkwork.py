"""An agent's part in a call that is answered: what Asterisk tells of it, and whom the agent has
asked into it.

Several agents may have a part in one call, one after the other or at once. One of them is the
*holder*, whose the customer is; what is told of the call concerns the holder.
"""

from __future__ import annotations

from abc import abstractmethod

from cti.floor import Seat
from cti.popcard import Party
from cti.work import Work, Workplace
from cti.works import Stage, WorkEvent
from ivr.flow.events import AgentLeft
from ivr.model import Leg, Ticket
from ivr.ports import CallEvent, Consulted, Held, Muted, Parked, PhoneSystem


class TalkWork(Work):
    """One agent's part in a call. `calls` are the telephones of the server that has the caller."""

    def __init__(self, place: Workplace, ticket: Ticket, seat: Seat, leg: Leg | None = None):
        super().__init__(place, ticket, seat)
        self.calls: PhoneSystem = place.calls(ticket.server)
        self.leg = leg
        self.passed_on = ""
        self.asking = False  # an order to consult is being carried out
        self.consulted: TalkWork | None = None

    @property
    def holder(self) -> TalkWork:
        """Whose the customer is now."""
        other = self.consulted
        return other.holder if self.outcome and other is not None and other.taken else self

    @abstractmethod
    async def is_consulted(self, state: str) -> None:
        """How far their consultation has come, as `ivr.ports.Consulted` has it."""

    @abstractmethod
    def end(self, outcome: str) -> None:
        """Their part is over: `talked`, `transferred`, or `left` when the customer stays with
        somebody else. The first one counts."""

    async def happened(self, event: CallEvent) -> None:
        """What Asterisk tells of the call while this agent holds it."""
        match event:
            case Held() if self.connected:
                await self._enter(WorkEvent.HELD if event.on else WorkEvent.RETRIEVED)
                await self.note("held" if event.on else "retrieved")
            case Muted():
                self.muted = event.on
            case Consulted():
                await self._on_consulted(event)
            case Parked():
                self.passed_on = "transferred"
                await self.note("parked", place=event.place)
            case _:
                pass
        self.show_card()

    async def _on_consulted(self, event: Consulted) -> None:
        other = self.consulted
        if other is not None:
            await other.is_consulted(event.state)
        party = Party(role="consulted", number=event.number)
        match event.state:
            case "ringing":
                self.consult = party.model_copy(update={"state": "ringing"})
            case "talking":
                self.consult = party
            case "joined":
                self.consult = None
                self.parties = (*self._without(event.number), party)
            case "took_over" if not self.outcome:
                await self._conclude_taken("transferred")
            case "gone":
                self.consult = self.consulted = None
                self.parties = self._without(event.number)
            case _:
                pass

    def _without(self, number: str) -> tuple[Party, ...]:
        return tuple(party for party in self.parties if party.number != number)

    async def _finish(self, outcome: str) -> str:
        """The call is over, and this agent held it; what is to be told as its outcome."""
        if self.consulted is not None:
            self.consulted.end("left")
        outcome = self.passed_on or outcome
        if outcome not in ("transferred", "left"):
            outcome = "talked"
        if not self.outcome:
            await self._conclude_taken("transferred" if outcome == "transferred" else "talked")
        # Somebody outside who took over may have left the customer with us, too.
        if not self.customer_gone and outcome == "talked":
            self._place.tell(self.ticket, AgentLeft(self.ticket.id, self.seat.agent.login))
        return self.outcome

    @property
    def going_on(self) -> bool:
        return self.stage not in (Stage.WRAP_UP, Stage.OVER)
