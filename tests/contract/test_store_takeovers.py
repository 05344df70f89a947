"""Taking a conversation over from the flow: whoever is first has it, on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

from ivr.model import Address, Channel, Conversation, ConversationStatus, Kind, Leg, Ticket
from ivr.store.repo import Store

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
LEG = Leg("l1", "c1", Address(Channel.CHAT, "b1"), NOON)
WAITING = Ticket("queue-1", "c1", NOON, skills=("billing",), kind=Kind.CHAT)


def taking(login: str) -> Ticket:
    return Ticket(
        f"take-{login}",
        "c1",
        NOON,
        agent=login,
        offered_at=NOON,
        kind=Kind.CHAT,
        server="s1",
        status="served",
        stage="offered",
    )


async def begun(store: Store) -> None:
    conversation = Conversation("c1", "main", "v1", ConversationStatus.FLOW, NOON)
    await store.start_conversation(conversation, LEG)


async def test_out_of_the_flow_it_is_a_new_ticket(store: Store) -> None:
    await begun(store)
    assert await store.take_over(taking("ann")) == taking("ann")
    assert await store.tickets_of("c1") == [taking("ann")]


async def test_out_of_line_it_is_the_place_that_was_waited_at(store: Store) -> None:
    await begun(store)
    await store.put_ticket(WAITING)
    taken = await store.take_over(taking("ann"))
    assert (taken.id, taken.agent, taken.status) == ("queue-1", "ann", "served")
    assert taken.skills == ("billing",)
    assert await store.waiting_tickets() == []


async def test_of_many_at_once_one_has_it(store: Store) -> None:
    await begun(store)
    logins = [f"agent{n}" for n in range(6)]
    taken = await asyncio.gather(*(store.take_over(taking(login)) for login in logins))
    assert len({ticket.agent for ticket in taken}) == 1
    assert len(await store.tickets_of("c1")) == 1


async def test_what_is_written_up_can_be_taken_again(store: Store) -> None:
    await begun(store)
    ticket = await store.take_over(taking("ann"))
    assert (await store.take_over(taking("bob"))).agent == "ann"
    await store.stage_ticket(replace(ticket), "wrap_up")
    assert (await store.take_over(taking("bob"))).agent == "bob"
