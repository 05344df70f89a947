"""What supervisors do to agents and conversations, on whichever server these are.

An agent's seat and works are in the memory of the server that has their screens. What is not here
is asked of the others over the bus: whoever has it does it and answers; when nobody answers, what
became of it is unknown. The audit log is the caller's (`cti.staff`), and is written before.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

import structlog

from cti import protocol
from cti.agents import AgentEvent, Presence
from cti.callwork import CallWork
from cti.orders import Orders
from cti.service import Desk
from ivr.errors import Conflict, HotlineError
from ivr.model import Agent, AtWork, Ticket
from ivr.ports import ActionOutcome

log = structlog.get_logger()

TOPIC = "supervision"
ANSWER_SECONDS = 3.0
"""How long the other servers have to say that they did it."""

Mode = Literal["listen", "whisper", "barge"]
_DONE = ActionOutcome("done")
_UNKNOWN = ActionOutcome("unknown", "no server has answered; look at the board")


class Supervision:
    """A supervisor's orders. `close` it with the desk."""

    def __init__(self, desk: Desk):
        self._desk = desk
        self._orders = Orders(desk)
        self._asked: dict[str, asyncio.Future[ActionOutcome]] = {}
        self._unsubscribe = desk.bus.subscribe(TOPIC, self._heard)

    def close(self) -> None:
        self._unsubscribe()

    # --- agents ----------------------------------------------------------------------------------

    async def log_out(self, login: str) -> None:
        """Throw an agent out: their tokens are worth nothing any more, their screens close, what
        they are offered goes to others. Calls in progress go on."""
        await self._desk.store.revoke_tokens(login)
        order = {"order": "log_out", "login": login}
        await self._obey(order)
        self._desk.bus.publish(TOPIC, {**order, "from": self._desk.server})

    async def send_away(self, login: str, reason: str) -> ActionOutcome:
        """Nobody new for this agent until they say that they are back. Raises Conflict."""
        if not any(seat.agent.login == login for seat in await self._seats()):
            raise Conflict(f"{login} is not at work")
        return await self._do({"order": "send_away", "login": login, "reason": reason})

    # --- conversations ---------------------------------------------------------------------------

    async def monitor(self, who: Agent, conversation_id: str, mode: Mode) -> ActionOutcome:
        """Ring the supervisor's phone and let them into the call. Raises Conflict."""
        if not who.extension:
            raise Conflict("no telephone belongs to your login")
        await self._in_hand(conversation_id)
        return await self._do(
            {
                "order": "monitor",
                "conversation": conversation_id,
                "extension": who.extension,
                "mode": mode,
            }
        )

    async def reassign(self, who: str, conversation_id: str, to: protocol.Target) -> ActionOutcome:
        """Give a conversation to an agent or a queue: at once when it waits, else by a transfer in
        the name of the agent who has it. Raises Conflict."""
        if to.kind == "agent":
            await self._at_work(to.value)
        ticket = await self._ticket(conversation_id)
        match ticket.status:
            case "waiting":
                return await self._move_in_line(ticket, to)
            case "offered":
                raise Conflict(f"it is being offered to {ticket.agent}; try again in a moment")
        return await self._do(
            {
                "order": "reassign",
                "conversation": conversation_id,
                "kind": to.kind,
                "value": to.value,
                "who": who,
            }
        )

    async def _move_in_line(self, ticket: Ticket, to: protocol.Target) -> ActionOutcome:
        desk = self._desk
        if to.kind == "agent":
            until = desk.clock.now() + timedelta(seconds=desk.settings.reserve_seconds)
            moved = replace(ticket, skills=(), reserved=to.value, reserved_until=until)
        else:
            moved = replace(ticket, skills=(to.value,), reserved="", reserved_until=None)
        await desk.store.put_ticket(moved)
        desk.wake()
        return _DONE

    async def _ticket(self, conversation_id: str) -> Ticket:
        """The place in line, or the work, that can be given to somebody else."""
        for ticket in reversed(await self._desk.store.tickets_of(conversation_id)):
            if ticket.status in ("waiting", "offered") or ticket.stage in ("active", "held"):
                return ticket
        raise Conflict("nobody has this conversation, and it does not wait")

    async def _in_hand(self, conversation_id: str) -> None:
        if (await self._ticket(conversation_id)).status != "served":
            raise Conflict("nobody has taken this call yet")

    async def _at_work(self, login: str) -> None:
        for seat in await self._seats():
            if seat.agent.login == login and seat.presence.state != Presence.OFFLINE:
                return
        raise Conflict(f"{login} is not at work")

    async def _seats(self) -> list[AtWork]:
        return await self._desk.store.seats(self._desk.clock.now())

    # --- here, or wherever it is -----------------------------------------------------------------

    async def _do(self, order: Mapping[str, Any]) -> ActionOutcome:
        """Carry out what only one server can. Raises Conflict."""
        here = await self._obey(order)
        if here is not None:
            return here
        number = secrets.token_hex(8)
        answer: asyncio.Future[ActionOutcome] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._desk.bus.publish(TOPIC, {**order, "from": self._desk.server, "ask": number})
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                outcome = await answer
        except TimeoutError:
            return _UNKNOWN
        finally:
            del self._asked[number]
        return _settled(outcome)

    def _heard(self, body: Mapping[str, Any]) -> None:
        if body.get("from") == self._desk.server:
            return
        if "answer" in body:
            asked = self._asked.get(str(body["answer"]))
            if asked is not None and not asked.done():
                asked.set_result(ActionOutcome(str(body["result"]), str(body["text"])))
            return
        self._desk.spawn(self._for_another(body))

    async def _for_another(self, order: Mapping[str, Any]) -> None:
        try:
            outcome = await self._obey(order)
        except HotlineError as error:
            outcome = ActionOutcome("refused", str(error))
        if outcome is not None and "ask" in order:
            answer = {"answer": order["ask"], "result": outcome.result, "text": outcome.text}
            self._desk.bus.publish(TOPIC, {**answer, "from": self._desk.server})

    async def _obey(self, order: Mapping[str, Any]) -> ActionOutcome | None:
        """Do it when what it is about is here; None when it is not. Raises Conflict."""
        match order["order"]:
            case "log_out":
                return await self._log_out(str(order["login"]))
            case "send_away":
                return await self._send_away(str(order["login"]), str(order["reason"]))
            case "monitor":
                return await self._monitor(order)
            case "reassign":
                return await self._reassign(order)
        return None

    async def _log_out(self, login: str) -> ActionOutcome | None:
        seat = self._desk.floor.find(login)
        if seat is None:
            return None
        await self._desk.release(seat)
        self._desk.floor.dismiss(seat)
        await self._desk.floor.keep(seat)
        self._desk.wake()
        return _DONE

    async def _send_away(self, login: str, reason: str) -> ActionOutcome | None:
        seat = self._desk.floor.find(login)
        if seat is None or not (seat.screens or seat.works):
            return None
        await self._desk.change(seat, AgentEvent.WENT_AWAY, reason)
        return _DONE

    async def _monitor(self, order: Mapping[str, Any]) -> ActionOutcome | None:
        works = self._desk.works(str(order["conversation"]))
        for work in reversed(works):
            if isinstance(work, CallWork) and work.connected and work.leg is not None:
                return _settled(
                    await work.calls.listen(work.leg.id, order["extension"], order["mode"])
                )
        if any(work.connected for work in works):
            raise Conflict("this is not a call")
        return None

    async def _reassign(self, order: Mapping[str, Any]) -> ActionOutcome | None:
        for work in reversed(self._desk.works(str(order["conversation"]))):
            if not work.connected:
                continue
            transfer = protocol.TransferTo(
                conversation=work.conversation_id,
                to=protocol.Target(kind=order["kind"], value=order["value"]),
                mode="blind",
                note=f"reassigned by {order['who']}",
            )
            return _settled(await self._orders.transfer(work.seat, transfer))
        return None


def _settled(outcome: ActionOutcome) -> ActionOutcome:
    if outcome.result == "refused":
        raise Conflict(outcome.text or "it was refused")
    return outcome
