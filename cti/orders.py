"""What an agent's screen may ask for, as one table: each order, and what carries it out.

Whoever has no right to it gets NotAllowed, what cannot be now is a Conflict, each with a line for
the person; everything else comes out as one `Outcome`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import structlog

from cti import protocol, textorders
from cti.agents import AgentEvent, Presence
from cti.callwork import CallWork
from cti.consultwork import ConsultWork
from cti.floor import Seat
from cti.line import NOBODY, candidate, could_serve
from cti.screens import Screen
from cti.service import Desk
from cti.talkwork import TalkWork
from cti.textwork import TextWork
from cti.work import Work
from cti.works import Stage
from ivr.errors import CallGone, Conflict, NotAllowed
from ivr.model import Agent, AtWork, Kind, Ticket
from ivr.ports import ActionOutcome

log = structlog.get_logger()

DONE = ActionOutcome("done")

_UNKNOWN = ActionOutcome("unknown", "something failed in between; look at the card")

_KEPT_OUTCOMES = 200
"""Of so many of an agent's latest orders it is known what became of them."""

_MOMENT = timedelta(seconds=10)
"""So long nobody is offered a customer whom an agent is just letting go of."""

_LETTING_GO = 5.0
"""Seconds in which the telephone system, once asked, lets go."""

_NOTES_WITHIN = timedelta(hours=12)
"""So long after an offer its agent may write the note, also when wrap-up is over."""


class Orders:
    """Carries out what screens ask of the desk."""

    def __init__(self, desk: Desk):
        self._desk = desk
        self._passing = desk.passing

    async def obey(self, screen: Screen, message: protocol.ClientMessage) -> None:
        """Do it, and tell the screen what became of it. Raises NotAllowed or Conflict with a line
        for the agent."""
        if isinstance(message, protocol.Ping):
            screen.answer(protocol.Pong())
            return
        if isinstance(message, protocol.Login):
            raise Conflict("this connection is already logged in")
        seat = self._desk.floor.seat(screen.login)
        if not message.id:
            outcome = await _TABLE[type(message)](self, seat, message)
            if outcome.result != "done":
                raise Conflict(outcome.text or "the telephone system did not do it")
            return
        outcome = await self._once(seat, message)
        screen.answer(protocol.Outcome(id=message.id, result=outcome.result, text=outcome.text))

    async def _once(self, seat: Seat, message: Any) -> ActionOutcome:
        """Carry out what has an id, or say what became of it if that has been asked for before, as
        by a page that lost its connection in between."""
        known = seat.answered.get(message.id)
        if known is None:
            known = asyncio.ensure_future(self._outcome(seat, message))
            seat.answered[message.id] = known
            while len(seat.answered) > _KEPT_OUTCOMES:
                del seat.answered[next(iter(seat.answered))]
        return await asyncio.shield(known)

    async def _outcome(self, seat: Seat, message: Any) -> ActionOutcome:
        try:
            return await _TABLE[type(message)](self, seat, message)
        except (NotAllowed, Conflict) as error:
            return ActionOutcome("refused", str(error))
        except Exception as error:
            log.exception("order failed", agent=seat.agent.login, order=message.type)
            gone = isinstance(error, CallGone)
            return ActionOutcome("refused", "the call is over") if gone else _UNKNOWN

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
        call, leg = self._talk(seat, order.conversation)
        await call.calls.hang_up(leg)
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
        if work.over.is_set() or work in self._passing:
            raise Conflict("it is being transferred already")
        self._passing.add(work)
        try:
            return await self._pass_on(work, order)
        finally:
            self._passing.discard(work)

    async def _pass_on(self, work: Work, order: protocol.TransferTo) -> ActionOutcome:
        """Blind, to a colleague or a queue: back into line, at the old age."""
        desk, store = self._desk, self._desk.store
        ticket = await self._next_ticket(work, order.note)
        now = desk.clock.now()
        if order.to.kind == "agent":
            await self._colleague(order.to.value, work)
            reserved = now + timedelta(seconds=desk.settings.reserve_seconds)
            ticket = replace(ticket, reserved=order.to.value, reserved_until=reserved)
        else:
            ticket = replace(ticket, skills=(order.to.value,))
            if not any(could_serve(seat, ticket) for seat in await self._there()):
                raise Conflict(f"nobody at work serves {order.to.value}")
        # In line before anybody lets go, so that a crash in between loses nobody; but nobody's yet.
        await store.put_ticket(replace(ticket, reserved=NOBODY, reserved_until=now + _MOMENT))
        await work.note("passed_on", to=order.to.value, context=order.note)
        outcome = await self._let_go(work)
        if outcome.result != "done":
            await store.turn_away(ticket)
            return outcome
        if not await store.keep_ticket_for(ticket):
            return DONE  # the customer has left meanwhile
        await desk.line_changed()
        return outcome

    async def _let_go(self, work: Work) -> ActionOutcome:
        """End the agent's part, and not the customer's. What the telephone system is asked and does
        not confirm counts as done when it happens all the same."""
        if isinstance(work, TextWork):
            work.end("transferred")
            return DONE
        call, leg = self._talk(work.seat, work.conversation_id)
        before, call.passed_on = call.passed_on, "transferred"
        outcome = await call.calls.let_go(leg)
        if outcome.result != "refused":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LETTING_GO):
                    await call.over.wait()
                outcome = DONE
        if outcome.result != "done":
            call.passed_on = before
        return outcome

    async def _consult(self, seat: Seat, work: Work, order: protocol.TransferTo) -> ActionOutcome:
        """Attended: the agent talks with the other first, and the customer waits."""
        call, leg = self._talk(seat, order.conversation)
        if call.asking or call.consult is not None or call.consulted is not None:
            raise Conflict("you are consulting somebody already")
        if order.to.kind == "queue":
            raise Conflict("choose a person to consult; a queue can be transferred to at once")
        call.asking = True
        try:
            number = order.to.value
            if order.to.kind == "agent":
                colleague = await self._colleague(order.to.value, work)
                call.consulted = await self._show_colleague(seat, call, colleague, order.note)
                number = colleague.extension
            if not call.connected:
                raise Conflict("the call is over")
            outcome = await call.calls.consult(leg, number)
        except BaseException:
            self._not_consulted(call)
            raise
        finally:
            call.asking = False
        if outcome.result == "refused":
            self._not_consulted(call)
        return outcome

    def _not_consulted(self, call: TalkWork) -> None:
        if call.consulted is not None:
            call.consulted.end("gone")
        call.consulted = None

    async def _show_colleague(
        self, seat: Seat, call: TalkWork, colleague: Agent, note: str
    ) -> ConsultWork:
        """The card and what was written for them, on the colleague's screen before it rings."""
        desk, now = self._desk, self._desk.clock.now()
        there = desk.floor.find(colleague.login)
        if there is None or not there.screens:
            raise Conflict(f"{colleague.name} has no screen open here; transfer at once instead")
        if not colleague.extension:
            raise Conflict(f"{colleague.name} has no telephone")
        assert call.leg is not None
        ticket = replace(
            await self._next_ticket(call, note),
            agent=colleague.login,
            offered_at=now,
            status="served",
            stage=Stage.OFFERED.value,
        )
        try:
            ticket = await desk.store.take_ticket(ticket, now, _takes_calls)
        except Conflict:
            raise Conflict(f"{colleague.name} is busy; transfer at once instead") from None
        consulted = ConsultWork(desk.place, ticket, there, call.leg, seat.agent.name)
        desk.begin(consulted)
        if not await consulted.show():
            consulted.end("gone")
            raise Conflict(f"{colleague.name} does not take it")
        return consulted

    async def _colleague(self, login: str, work: Work) -> Agent:
        if login == work.seat.agent.login:
            raise Conflict("that is you")
        for at_work in await self._there():
            if at_work.agent.login == login and at_work.presence.state != Presence.OFFLINE:
                return at_work.agent
        raise Conflict(f"{login} is not at work")

    async def _there(self) -> list[AtWork]:
        return await self._desk.store.seats(self._desk.clock.now())

    async def _next_ticket(self, work: Work, note: str) -> Ticket:
        """The customer's next place: theirs alone, so that it is not taken for an earlier one."""
        ticket = work.ticket
        earlier = await self._desk.store.tickets_of(ticket.conversation_id)
        first = ticket.place
        number = 1 + max(one.handover for one in earlier if one.place == first)
        return replace(
            ticket,
            id=f"{first}~{number}",
            skills=(),
            agent="",
            offered_at=None,
            lease_until=None,
            status="waiting",
            stage="",
            reserved="",
            reserved_until=None,
            from_agent=work.seat.agent.login,
            context=note,
        )

    # --- writing up ------------------------------------------------------------------------------

    async def note(self, seat: Seat, order: protocol.WriteNote) -> ActionOutcome:
        if not await self._served(seat, order.conversation):
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

    async def _served(self, seat: Seat, conversation_id: str) -> bool:
        """Whether it is in this agent's hands, or was today; also before we were started."""
        work = seat.works.get(conversation_id)
        if work is not None and work.taken:
            return True
        since = self._desk.clock.now() - _NOTES_WITHIN
        return any(
            one.agent == seat.agent.login
            and one.status in ("served", "passed")
            and one.offered_at is not None
            and one.offered_at >= since
            for one in await self._desk.store.tickets_of(conversation_id)
        )

    async def done(self, seat: Seat, order: protocol.Done) -> ActionOutcome:
        work = _own(seat, order.conversation)
        if work.stage is not Stage.WRAP_UP:
            raise Conflict("it is not over yet")
        await self._desk.wrap_up(work)
        return DONE

    async def contact(self, seat: Seat, order: protocol.SetContact) -> ActionOutcome:
        _taken(seat, order.conversation)
        outcome = await self._desk.customers.identify(seat.agent.login, order)
        self._desk.renew(order.conversation)
        return outcome

    async def fact(self, seat: Seat, order: protocol.CorrectFact) -> ActionOutcome:
        _taken(seat, order.conversation)
        outcome = await self._desk.customers.correct(seat.agent.login, order)
        self._desk.renew(order.conversation)
        return outcome

    async def more_time(self, seat: Seat, order: protocol.MoreTime) -> ActionOutcome:
        work = _own(seat, order.conversation)
        if work.stage is not Stage.WRAP_UP:
            raise Conflict("it is not over yet")
        work.more_time()
        return DONE

    async def text(self, seat: Seat, order: Any) -> ActionOutcome:
        return await textorders.TABLE[type(order)](self._desk, seat, order)

    # --- finding ---------------------------------------------------------------------------------

    def _talk(self, seat: Seat, conversation_id: str) -> tuple[TalkWork, str]:
        """The call that is going on, and its customer's leg."""
        work = _own(seat, conversation_id)
        if not isinstance(work, TalkWork):
            raise Conflict("this is not a call")
        if not work.connected:
            raise Conflict("nobody is on the line")
        if work.leg is None:
            raise Conflict("the call is over")
        return work, work.leg.id


def _takes_calls(seat: AtWork) -> bool:
    """Whether they could pick up the phone now, whether or not they are asked by the line."""
    return candidate(seat).room[Kind.CALL] > 0


def _own(seat: Seat, conversation_id: str) -> Work:
    work = seat.works.get(conversation_id)
    if work is None:
        raise NotAllowed("this conversation is not yours, or no longer")
    return work


def _taken(seat: Seat, conversation_id: str) -> Work:
    """Who has not taken the customer yet cannot know more of them than the card."""
    work = _own(seat, conversation_id)
    if not work.taken:
        raise Conflict("take the conversation first")
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
    protocol.SetContact: Orders.contact,
    protocol.CorrectFact: Orders.fact,
    **dict.fromkeys(textorders.TABLE, Orders.text),
}
