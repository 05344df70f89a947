"""What an agent's screen may ask for, as one table: each order, and what carries it out.

Whoever has no right to it gets NotAllowed, what cannot be now is a Conflict, each with a line for
the person; everything else comes out as one `Outcome`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from cti import protocol, textorders
from cti.agents import AgentEvent, Presence
from cti.callwork import CallWork
from cti.consultwork import ConsultWork
from cti.floor import Seat
from cti.screens import Screen
from cti.service import Desk
from cti.textwork import TextWork
from cti.work import Work
from cti.works import Stage
from ivr.errors import Conflict, NotAllowed
from ivr.model import Agent, Kind, Ticket
from ivr.ports import ActionOutcome

DONE = ActionOutcome("done")

_NOBODY = "#"
"""For whom a ticket is kept that nobody is to have yet: no login is called so."""

_MOMENT = timedelta(seconds=10)


class Orders:
    """Carries out what screens ask of the desk."""

    def __init__(self, desk: Desk):
        self._desk = desk

    async def obey(self, screen: Screen, message: protocol.ClientMessage) -> None:
        """Do it, and tell the screen what became of it. Raises NotAllowed or Conflict with a line
        for the agent."""
        if isinstance(message, protocol.Ping):
            screen.answer(protocol.Pong())
            return
        if isinstance(message, protocol.Login):
            raise Conflict("this connection is already logged in")
        seat = self._desk.floor.seat(screen.login)
        outcome = await _TABLE[type(message)](self, seat, message)
        if message.id:
            screen.answer(protocol.Outcome(id=message.id, result=outcome.result, text=outcome.text))
        elif outcome.result != "done":
            raise Conflict(outcome.text or "the telephone system did not do it")

    # --- the agent -------------------------------------------------------------------------------

    async def presence(self, seat: Seat, order: protocol.SetPresence) -> ActionOutcome:
        came = order.to == "available"
        event = AgentEvent.CAME_BACK if came else AgentEvent.WENT_AWAY
        for work in list(seat.works.values()):
            if came and work.stage is Stage.WRAP_UP and work.ticket.kind is Kind.CALL:
                await self._desk.wrap_up(work)
        await self._desk.change(seat, event, "" if came else order.reason)
        return DONE

    async def dial(self, seat: Seat, order: protocol.Dial) -> ActionOutcome:
        if not seat.agent.extension:
            raise Conflict("no telephone belongs to this login")
        if any(work.ticket.kind is Kind.CALL and work.connected for work in seat.works.values()):
            raise Conflict("you are on a call")
        calls = self._desk.place.calls(self._desk.server)
        return await calls.dial(seat.agent.extension, order.number)

    # --- offers ----------------------------------------------------------------------------------

    async def seen(self, seat: Seat, order: protocol.Seen) -> ActionOutcome:
        work = seat.works.get(order.conversation)
        if isinstance(work, CallWork):
            work.seen()
        return DONE

    async def accept(self, seat: Seat, order: protocol.Accept) -> ActionOutcome:
        work = _own(seat, order.conversation)
        if not isinstance(work, TextWork):
            raise Conflict("a call is taken by answering the phone")
        if work.stage is not Stage.OFFERED and not work.connected:
            raise Conflict("it is over")
        work.accept()
        return DONE

    async def decline(self, seat: Seat, order: protocol.Decline) -> ActionOutcome:
        work = _own(seat, order.conversation)
        if work.taken:
            raise Conflict("it is already answered; hang up instead")
        work.stop("declined")
        return DONE

    # --- calls -----------------------------------------------------------------------------------

    async def hang_up(self, seat: Seat, order: protocol.HangUp) -> ActionOutcome:
        work = _own(seat, order.conversation)
        if not work.connected:
            raise Conflict("there is no call to end yet; decline it instead")
        if isinstance(work, TextWork):
            work.end("talked")
            return DONE
        call = self._call_of(work)
        assert call.leg is not None
        await call.calls.hang_up(call.leg.id)
        return DONE

    async def hold(self, seat: Seat, order: protocol.Hold) -> ActionOutcome:
        call, leg = self._talk(seat, order.conversation)
        return await call.calls.hold(leg, True)

    async def retrieve(self, seat: Seat, order: protocol.Retrieve) -> ActionOutcome:
        call, leg = self._talk(seat, order.conversation)
        return await call.calls.hold(leg, False)

    async def mute(self, seat: Seat, order: protocol.Mute) -> ActionOutcome:
        call, leg = self._talk(seat, order.conversation)
        return await call.calls.mute(leg, order.on)

    async def keys(self, seat: Seat, order: protocol.SendKeys) -> ActionOutcome:
        call, leg = self._talk(seat, order.conversation)
        return await call.calls.press(leg, order.digits)

    async def park(self, seat: Seat, order: protocol.Park) -> ActionOutcome:
        call, leg = self._talk(seat, order.conversation)
        return await call.calls.park(leg)

    async def complete(self, seat: Seat, order: protocol.Complete) -> ActionOutcome:
        call, leg = self._talk(seat, order.conversation)
        return await call.calls.complete(leg)

    async def cancel(self, seat: Seat, order: protocol.Cancel) -> ActionOutcome:
        call, leg = self._talk(seat, order.conversation)
        return await call.calls.cancel(leg)

    async def conference(self, seat: Seat, order: protocol.Conference) -> ActionOutcome:
        call, leg = self._talk(seat, order.conversation)
        return await call.calls.join(leg)

    # --- passing on ------------------------------------------------------------------------------

    async def transfer(self, seat: Seat, order: protocol.TransferTo) -> ActionOutcome:
        work = _own(seat, order.conversation)
        if not work.connected:
            raise Conflict("there is nobody to transfer")
        if order.mode == "attended":
            return await self._consult(seat, work, order)
        if order.to.kind == "number":
            call, leg = self._talk(seat, order.conversation)
            await work.note("passed_on", to=order.to.value, context=order.note)
            return await call.calls.send_to(leg, order.to.value)
        return await self._pass_on(work, order)

    async def _pass_on(self, work: Work, order: protocol.TransferTo) -> ActionOutcome:
        """Blind, to a colleague or a queue: back into line, at the old age."""
        desk, ticket = self._desk, self._next_ticket(work, order.note)
        now = desk.clock.now()
        if order.to.kind == "agent":
            await self._colleague(order.to.value, work)
            reserved = now + timedelta(seconds=desk.settings.reserve_seconds)
            ticket = replace(ticket, reserved=order.to.value, reserved_until=reserved)
        else:
            ticket = replace(ticket, skills=(order.to.value,))
        # In line before anybody lets go, so that a crash in between loses nobody; but nobody's yet.
        await desk.store.put_ticket(replace(ticket, reserved=_NOBODY, reserved_until=now + _MOMENT))
        await work.note("passed_on", to=order.to.value, context=order.note)
        outcome = await self._let_go(work)
        if outcome.result == "refused":
            await desk.store.withdraw_tickets(ticket.conversation_id)
            return outcome
        desk.line.join(await desk.store.put_ticket(ticket))
        desk.wake()
        return outcome

    async def _let_go(self, work: Work) -> ActionOutcome:
        if isinstance(work, TextWork):
            work.end("transferred")
            return DONE
        call = self._call_of(work)
        assert call.leg is not None
        before, call.passed_on = call.passed_on, "transferred"
        outcome = await call.calls.let_go(call.leg.id)
        if outcome.result == "refused":
            call.passed_on = before
        return outcome

    async def _consult(self, seat: Seat, work: Work, order: protocol.TransferTo) -> ActionOutcome:
        """Attended: the agent talks with the other first, and the customer waits."""
        call, leg = self._talk(seat, order.conversation)
        if call.consult is not None:
            raise Conflict("you are consulting somebody already")
        if order.to.kind == "queue":
            raise Conflict("choose a person to consult; a queue can be transferred to at once")
        consulted: ConsultWork | None = None
        number = order.to.value
        if order.to.kind == "agent":
            colleague = await self._colleague(order.to.value, work)
            consulted = await self._show_colleague(seat, call, colleague, order.note)
            number = colleague.extension
        call.consulted = consulted
        outcome = await call.calls.consult(leg, number)
        if outcome.result == "refused":
            call.consulted = None
            if consulted is not None:
                consulted.end("gone")
        return outcome

    async def _show_colleague(
        self, seat: Seat, call: CallWork, colleague: Agent, note: str
    ) -> ConsultWork:
        """The card and what was written for them, on the colleague's screen before it rings."""
        desk = self._desk
        there = desk.floor.find(colleague.login)
        if there is None or not there.screens:
            raise Conflict(f"{colleague.name} has no screen open here; transfer at once instead")
        ticket = replace(
            self._next_ticket(call, note),
            agent=colleague.login,
            offered_at=desk.clock.now(),
            status="served",
            stage=Stage.OFFERED.value,
        )
        await desk.store.take_ticket(ticket)
        consulted = ConsultWork(desk.place, ticket, there, seat.agent.name)
        if not await consulted.show():
            raise Conflict(f"{colleague.name}'s screen does not answer")
        desk.begin(consulted)
        return consulted

    async def _colleague(self, login: str, work: Work) -> Agent:
        if login == work.seat.agent.login:
            raise Conflict("that is you")
        for at_work in await self._desk.store.seats(self._desk.clock.now()):
            if at_work.agent.login == login and at_work.presence.state != Presence.OFFLINE:
                return at_work.agent
        raise Conflict(f"{login} is not at work")

    def _next_ticket(self, work: Work, note: str) -> Ticket:
        ticket = work.ticket
        first, _, count = ticket.id.partition("~")
        return replace(
            ticket,
            id=f"{first}~{int(count or 0) + 1}",
            skills=(),
            agent="",
            offered_at=None,
            status="waiting",
            stage="",
            reserved="",
            reserved_until=None,
            from_agent=work.seat.agent.login,
            context=note,
        )

    # --- writing up ------------------------------------------------------------------------------

    async def note(self, seat: Seat, order: protocol.WriteNote) -> ActionOutcome:
        ours = order.conversation in seat.works or order.conversation == seat.last_conversation
        if not ours:
            raise NotAllowed("notes can be written for your own conversations alone")
        await self._desk.store.annotate(
            order.conversation,
            seat.agent.login,
            order.text,
            order.disposition,
            self._desk.clock.now(),
        )
        seat.send(protocol.NoteKept(conversation=order.conversation))
        return DONE

    async def done(self, seat: Seat, order: protocol.Done) -> ActionOutcome:
        work = _own(seat, order.conversation)
        if work.stage is not Stage.WRAP_UP:
            raise Conflict("it is not over yet")
        await self._desk.wrap_up(work)
        return DONE

    async def more_time(self, seat: Seat, order: protocol.MoreTime) -> ActionOutcome:
        _own(seat, order.conversation).more_time()
        return DONE

    async def text(self, seat: Seat, order: Any) -> ActionOutcome:
        return await textorders.TABLE[type(order)](self._desk, seat, order)

    # --- finding ---------------------------------------------------------------------------------

    def _talk(self, seat: Seat, conversation_id: str) -> tuple[CallWork, str]:
        """The call that is going on, and its customer's leg."""
        work = _own(seat, conversation_id)
        if isinstance(work, TextWork):
            raise Conflict("this is not a call")
        if not work.connected:
            raise Conflict("nobody is on the line")
        call = self._call_of(work)
        if call.leg is None:
            raise Conflict("the call is over")
        return call, call.leg.id

    def _call_of(self, work: Work) -> CallWork:
        """What drives the call: the work itself, or that of who passed it on."""
        for other in reversed(self._desk.works(work.conversation_id)):
            if isinstance(other, CallWork) and (other is work or other.consulted is work):
                return other
        raise Conflict("the call is over")


def _own(seat: Seat, conversation_id: str) -> Work:
    work = seat.works.get(conversation_id)
    if work is None:
        raise NotAllowed("this conversation is not yours, or no longer")
    return work


_TABLE: Mapping[type, Callable[[Orders, Seat, Any], Awaitable[ActionOutcome]]] = {
    protocol.SetPresence: Orders.presence,
    protocol.Dial: Orders.dial,
    protocol.Seen: Orders.seen,
    protocol.Accept: Orders.accept,
    protocol.Decline: Orders.decline,
    protocol.HangUp: Orders.hang_up,
    protocol.Hold: Orders.hold,
    protocol.Retrieve: Orders.retrieve,
    protocol.Mute: Orders.mute,
    protocol.SendKeys: Orders.keys,
    protocol.Park: Orders.park,
    protocol.TransferTo: Orders.transfer,
    protocol.Complete: Orders.complete,
    protocol.Cancel: Orders.cancel,
    protocol.Conference: Orders.conference,
    protocol.WriteNote: Orders.note,
    protocol.Done: Orders.done,
    protocol.MoreTime: Orders.more_time,
    **dict.fromkeys(textorders.TABLE, Orders.text),
}
