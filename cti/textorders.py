"""What agents ask for in a text conversation: to write, to show that they do, to take it over.

Who speaks is the engine's state, which an agent's joining and leaving change: whoever has the
conversation in hand may write, and the flow is silent meanwhile.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from cti import protocol
from cti.floor import Seat
from cti.service import Desk
from cti.textwork import TextWork
from cti.work import Work
from cti.works import TAKEN
from ivr.errors import CallGone, Conflict, NotAllowed
from ivr.flow.events import TAKEN_OVER
from ivr.model import KINDS, Channel, ConversationStatus, Text, Ticket
from ivr.ports import ActionOutcome, Threads

DONE = ActionOutcome("done")


async def say(desk: Desk, seat: Seat, order: protocol.SayText) -> ActionOutcome:
    """Write to the customer. The same id again is the same text."""
    work, texts = _in_hand(desk, seat, order.conversation)
    if not order.text.strip():
        raise Conflict("there is nothing in this text")
    agent = seat.agent
    text = Text(
        conversation_id=work.conversation_id,
        id=order.id,
        who="agent",
        text=order.text,
        at=desk.clock.now(),
        author=agent.login,
        name=agent.name,
        status="sent",
    )
    try:
        await texts.write(text)
    except CallGone as gone:
        raise Conflict(str(gone)) from None
    return DONE


async def typing(desk: Desk, seat: Seat, order: protocol.Typing) -> ActionOutcome:
    """The agent is writing, or has stopped."""
    work, texts = _in_hand(desk, seat, order.conversation)
    await texts.typing(work.conversation_id, order.on, seat.agent.name)
    return DONE


async def read(desk: Desk, seat: Seat, order: protocol.Read) -> ActionOutcome:
    """The agent has read the customer's texts up to this one."""
    work = _own(seat, order.conversation)
    if desk.texts is not None and isinstance(work, TextWork) and work.taken:
        await desk.texts.read(work.conversation_id, order.up_to)
    return DONE


async def take(desk: Desk, seat: Seat, order: protocol.Take) -> ActionOutcome:
    """Take a text conversation over from the flow, or out of line. Whoever is first has it."""
    conversation_id = order.conversation
    mine = seat.works.get(conversation_id)
    if isinstance(mine, TextWork) and mine.connected:
        return DONE
    if mine is not None:
        raise Conflict("it is offered to you: accept it" if not mine.taken else "end it first")
    conversation = await desk.store.conversation(conversation_id)
    if conversation is None or conversation.status is ConversationStatus.ENDED:
        raise Conflict("this conversation is over")
    legs = [leg for leg in await desk.store.legs(conversation_id) if leg.ended_at is None]
    if not legs or any(leg.peer.channel is Channel.VOICE for leg in legs):
        raise Conflict("only what is written can be taken over; a call rings")
    now = desk.clock.now()
    wanted = Ticket(
        id=f"{TAKEN_OVER}{secrets.token_hex(4)}",
        conversation_id=conversation_id,
        enqueued_at=now,
        language=conversation.language,
        status="served",
        agent=seat.agent.login,
        offered_at=now,
        kind=KINDS[legs[-1].peer.channel],
        server=desk.server,
        stage="offered",
    )
    ticket = await desk.store.take_over(wanted)
    if ticket.agent != seat.agent.login:
        raise Conflict(f"{ticket.agent} has it")
    if seat.works.get(conversation_id) is None:
        desk.take_up(ticket, seat)
    return DONE


async def give_back(desk: Desk, seat: Seat, order: protocol.GiveBack) -> ActionOutcome:
    """Let the flow go on where it was."""
    work = _own(seat, order.conversation)
    if not isinstance(work, TextWork) or not work.connected:
        raise Conflict("there is nothing to give back")
    work.end("returned")
    return DONE


def _in_hand(desk: Desk, seat: Seat, conversation_id: str) -> tuple[TextWork, Threads]:
    work = _own(seat, conversation_id)
    if not isinstance(work, TextWork):
        raise Conflict("this is not a chat")
    if work.stage not in TAKEN or work.customer_gone or desk.texts is None:
        raise Conflict("nobody would read it: the chat is not yours yet, or is over")
    return work, desk.texts


def _own(seat: Seat, conversation_id: str) -> Work:
    work = seat.works.get(conversation_id)
    if work is None:
        raise NotAllowed("this conversation is not yours, or no longer")
    return work


TABLE: Mapping[type, Callable[[Desk, Seat, Any], Awaitable[ActionOutcome]]] = {
    protocol.SayText: say,
    protocol.Typing: typing,
    protocol.Read: read,
    protocol.Take: take,
    protocol.GiveBack: give_back,
}
