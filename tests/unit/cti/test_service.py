"""The desk: who gets whom, what everybody is told, and that nobody is lost when things go wrong."""

from __future__ import annotations

import asyncio

import pytest

from cti import protocol
from cti.orders import Orders
from cti.protocol import CallAnswered, CallEnded, PhoneRinging, Pop, PresenceNow, Wrapped
from ivr.errors import Conflict, NotAllowed, StoreError, TelephonyError
from ivr.flow.events import AgentJoined, AgentLeft, Enqueue, QueueFailed, QueueMoved
from ivr.model import Address, Channel, Leg
from ivr.ports import CallFacts
from tests.fakes.calls import PATIENCE
from tests.unit.cti.conftest import World


async def test_a_call_from_line_to_wrap_up(world: World) -> None:
    await world.agent("ann", extension="201")
    page = await world.page("ann")
    world.clock.advance(5)
    await world.waits("c1", pop=(("account", "12345678"),))

    pop = await page.next(Pop)
    assert (pop.card.topic, pop.card.name) == ("billing", "")
    assert pop.card.facts[0] == protocol.PopFact(name="account", value="12345678", first=True)
    assert pop.card.transcript[-1].text == "a person please"

    ring = await world.calls.next_ring()
    assert (ring.leg_id, ring.extension, ring.seconds) == ("leg-c1", "201", 20)
    world.clock.advance(3)
    ring.ring()
    await page.next(PhoneRinging)
    ring.answer()
    await page.next(CallAnswered)
    assert await world.reports.next(AgentJoined) == AgentJoined("t1", "ann")

    world.clock.advance(60)
    ring.end("talked")
    ended = await page.next(CallEnded)
    assert (ended.outcome, ended.talked) == ("talked", 60)
    assert await world.reports.next(AgentLeft) == AgentLeft("t1", "ann")
    assert await world.desk.facts("c1") == CallFacts("ann", 3.0, 60.0)

    note = protocol.WriteNote(conversation="c1", text="paid", disposition="resolved")
    await world.act(page, note)
    await page.next(protocol.NoteKept)
    await world.act(page, protocol.Done(conversation="c1"))
    await page.next(Wrapped)
    assert await world.kinds("c1") == [
        "heard",
        "in_line",
        "offered",
        "pop_shown",
        "rang",
        "answered",
        "released",
        "noted",
        "wrapped_up",
    ]


async def test_the_pop_is_written_before_the_phone_rings(world: World) -> None:
    await world.agent("ann")
    screen = await world.desk.open("ann")
    await Orders(world.desk).obey(screen, protocol.SetPresence(to="available"))
    writes: asyncio.Queue[str] = asyncio.Queue()
    gate = asyncio.Event()

    async def slow(text: str) -> None:
        if '"type":"pop"' in text:
            writes.put_nowait(text)
            await gate.wait()

    writing = asyncio.create_task(screen.write_to(slow))
    await world.waits("c1")
    async with asyncio.timeout(PATIENCE):
        await writes.get()
    assert world.calls.rings.empty()
    gate.set()
    (await world.calls.next_ring()).end("gone")
    screen.close()
    await writing


async def test_no_answer_makes_the_agent_away_and_the_caller_keeps_the_place(world: World) -> None:
    await world.agent("ann")
    await world.agent("bob")
    ann = await world.page("ann")
    await world.waits("c1")
    ring = await world.calls.next_ring()
    world.clock.advance(1)
    await world.waits("c2")
    world.clock.advance(19)
    ring.ring()
    ring.end("no_answer")
    assert (await ann.next(CallEnded)).outcome == "no_answer"
    assert (await world.store.presences())["ann"].state == "away"
    assert (await world.store.presences())["ann"].reason == "missed"

    await world.page("bob")
    assert (await world.calls.next_ring()).leg_id == "leg-c1"
    ticket = (await world.store.tickets_of("c1"))[0]
    assert (ticket.status, ticket.agent) == ("offered", "bob")
    assert "declined" in await world.kinds("c1")
    assert not [event for event in world.reports.of("c1") if isinstance(event, QueueFailed)]


@pytest.mark.parametrize("outcome", ["busy", "unavailable"])
async def test_a_phone_that_cannot_be_reached_makes_its_agent_away(
    world: World, outcome: str
) -> None:
    await world.agent("ann")
    page = await world.page("ann")
    await world.waits("c1")
    (await world.calls.next_ring()).end(outcome)
    assert (await page.next(PresenceNow, state="away")).reason == outcome


async def test_declining_passes_the_caller_on(world: World) -> None:
    await world.agent("ann")
    await world.agent("bob")
    ann = await world.page("ann")
    world.clock.advance(1)
    await world.page("bob")
    await world.waits("c1")
    first = await world.calls.next_ring()
    await world.act(ann, protocol.Decline(conversation="c1"))
    await first.cancelled.wait()
    assert (await ann.next(PresenceNow, state="away")).reason == "declined"
    assert (await world.calls.next_ring()).extension == "203"


async def test_the_caller_leaves_while_it_rings(world: World) -> None:
    await world.agent("ann")
    page = await world.page("ann")
    await world.waits("c1")
    ring = await world.calls.next_ring()
    ring.ring()
    world.clock.advance(4)
    await world.desk.withdraw("c1")
    await ring.cancelled.wait()
    assert (await page.next(CallEnded)).outcome == "gone"
    assert (await world.store.presences())["ann"].state == "available"
    assert (await world.store.tickets_of("c1"))[0].status == "withdrawn"
    assert await world.desk.facts("c1") == CallFacts("", 4.0, 0.0)
    assert not [event for event in world.reports.of("c1") if isinstance(event, AgentLeft)]
    await world.desk.withdraw("c1")


async def test_the_caller_hangs_up_during_the_talk(world: World) -> None:
    await world.agent("ann")
    page = await world.page("ann")
    await world.waits("c1")
    ring = await world.calls.next_ring()
    ring.answer()
    await page.next(CallAnswered)
    world.clock.advance(30)
    await world.desk.withdraw("c1")
    assert await world.desk.facts("c1") == CallFacts("ann", 0.0, 30.0)
    ring.end("talked")
    await page.next(CallEnded)
    await page.stage("wrap_up")
    assert not [event for event in world.reports.of("c1") if isinstance(event, AgentLeft)]
    assert (await world.store.tickets_of("c1"))[0].status == "served"


async def test_an_agent_hangs_up(world: World) -> None:
    await world.agent("ann")
    page = await world.page("ann")
    await world.waits("c1")
    ring = await world.calls.next_ring()
    with pytest.raises(Conflict, match="no call to end"):
        await world.act(page, protocol.HangUp(conversation="c1"))
    ring.answer()
    await page.next(CallAnswered)
    with pytest.raises(Conflict, match="already answered"):
        await world.act(page, protocol.Decline(conversation="c1"))
    await world.act(page, protocol.HangUp(conversation="c1"))
    assert world.calls.hung_up == ["leg-c1"]
    await page.next(CallEnded)


async def test_a_talk_counts_even_when_the_news_of_its_answer_was_lost(world: World) -> None:
    await world.agent("ann")
    page = await world.page("ann")
    await world.waits("c1")
    (await world.calls.next_ring()).end("talked")
    await page.next(CallAnswered)
    await page.stage("wrap_up")
    await world.reports.next(AgentJoined)
    await world.reports.next(AgentLeft)


async def test_nobody_there_fails_at_once(world: World) -> None:
    await world.agent("ann")
    await world.waits("c1")
    assert await world.reports.next(QueueFailed) == QueueFailed("t1", "nobody")
    assert (await world.store.tickets_of("c1"))[0].status == "withdrawn"


async def test_nobody_with_the_skill_is_nobody(world: World) -> None:
    await world.agent("ann", skills={"repairs": 3})
    await world.page("ann")
    await world.waits("c1", skills=("billing",))
    assert (await world.reports.next(QueueFailed)).reason == "nobody"


async def test_busy_and_away_agents_count_as_there(world: World) -> None:
    await world.agent("ann")
    await world.page("ann", ready=False)
    await world.waits("c1")
    moved = await world.reports.next(QueueMoved)
    assert (moved.ahead, moved.wait) == (0, -1.0)


async def test_the_wait_ends_when_the_last_agent_leaves(world: World) -> None:
    await world.agent("ann")
    page = await world.page("ann", ready=False)
    await world.waits("c1")
    world.desk.leave(page.screen)
    world.clock.advance(29)
    await world.tick()
    assert not [event for event in world.reports.of("c1") if isinstance(event, QueueFailed)]
    world.clock.advance(1)
    await world.tick()
    assert (await world.reports.next(QueueFailed)).reason == "nobody"


async def test_a_wait_that_is_too_long_ends(world: World) -> None:
    await world.agent("ann")
    await world.page("ann", ready=False)
    await world.waits("c1")
    world.clock.advance(world.settings.longest_wait_seconds)
    await world.tick()
    assert (await world.reports.next(QueueFailed)).reason == "timeout"


async def test_callers_hear_of_their_place(world: World) -> None:
    await world.agent("ann")
    page = await world.page("ann", ready=False)
    for name in ("c1", "c2", "c3"):
        await world.waits(name)
        assert (await world.reports.next(QueueMoved)).ahead == int(name[1]) - 1
        world.clock.advance(1)
    await world.desk.withdraw("c1")
    assert [(await world.reports.next(QueueMoved)).ahead for _ in range(2)] == [0, 1]
    world.clock.advance(30)
    await world.tick()
    again = [await world.reports.next(QueueMoved) for _ in range(2)]
    assert [(event.ahead, event.waited) for event in again] == [(0, 32.0), (1, 31.0)]
    shown = await page.next(protocol.QueueNow)
    assert (shown.waiting, shown.longest) == (2, 32.0)


async def test_asking_again_keeps_the_place(world: World) -> None:
    await world.agent("ann")
    await world.page("ann", ready=False)
    await world.waits("c1")
    await world.reports.next(QueueMoved)
    world.clock.advance(1)
    await world.waits("c2")
    await world.desk.enqueue("c1", Enqueue(id="t1"))
    places = [event.ahead for event in world.reports.of("c1") if isinstance(event, QueueMoved)]
    async with asyncio.timeout(PATIENCE):
        while len(places) < 2:
            await world.reports.next(QueueMoved)
            places = [e.ahead for e in world.reports.of("c1") if isinstance(e, QueueMoved)]
    assert places == [0, 0]


async def test_priority_goes_first(world: World) -> None:
    await world.agent("ann")
    page = await world.page("ann", ready=False)
    await world.waits("c1")
    await world.waits("vip", priority=10)
    await world.act(page, protocol.SetPresence(to="available"))
    assert (await world.calls.next_ring()).leg_id == "leg-vip"


async def test_fifty_callers_at_once_get_one_agent_each_at_a_time(world: World) -> None:
    for number in range(5):
        await world.agent(f"agent{number}", extension=str(300 + number))
        await world.page(f"agent{number}")
    await asyncio.gather(*(world.waits(f"c{number}") for number in range(50)))
    served = []
    while len(served) < 50:
        ring = await world.calls.next_ring()
        taken = [r.extension for r in world.calls.under_way.values()]
        assert len(taken) == len(set(taken))
        served.append(ring.leg_id)
        ring.end("gone")
    assert len(set(served)) == 50


async def test_after_a_crash_the_place_and_the_agents_are_still_there(world: World) -> None:
    await world.agent("ann")
    await world.page("ann")
    await world.waits("c1")
    await world.calls.next_ring()
    world.clock.advance(3)
    await world.crash()

    second = world.another_desk()
    await second.start()
    world.clock.advance(2)
    await second.enqueue("c1", Enqueue(id="t1"))
    ticket = (await world.store.tickets_of("c1"))[0]
    assert (world.clock.now() - ticket.enqueued_at).total_seconds() == 5
    screen = await second.open("ann")
    write = asyncio.create_task(screen.write_to(_swallow))
    await second.route()
    ring = await world.calls.next_ring()
    assert ring.leg_id == "leg-c1"
    screen.close()
    await write
    await second.close()


async def test_a_person_lost_in_a_crash_ends_the_talk(world: World) -> None:
    await world.agent("ann")
    page = await world.page("ann")
    await world.waits("c1")
    (await world.calls.next_ring()).answer()
    await page.next(CallAnswered)
    await world.reports.next(AgentJoined)
    await world.ticket_becomes("c1", "served")
    await world.crash()

    second = world.another_desk()
    await second.start()
    await second.enqueue("c1", Enqueue(id="t1"))
    assert await world.reports.next(AgentLeft) == AgentLeft("t1", "ann")
    await second.close()


async def test_a_telephone_system_that_fails_is_nobodys_fault(world: World) -> None:
    await world.agent("ann")
    page = await world.page("ann")
    await world.waits("c1")
    (await world.calls.next_ring()).fail(TelephonyError("Asterisk is away"))
    assert (await page.next(CallEnded)).outcome == "failed"
    await world.ticket_becomes("c1", "waiting")
    await world.tick()
    assert world.calls.rings.empty(), "not offered again before the pause is over"
    world.clock.advance(2)
    await world.tick()
    assert (await world.calls.next_ring()).leg_id == "leg-c1"


async def test_a_leg_that_is_gone_leaves_the_line(world: World) -> None:
    await world.agent("ann")
    page = await world.page("ann")
    world.calls.gone.add("leg-c1")
    await world.waits("c1")
    assert (await page.next(CallEnded)).outcome == "gone"
    await world.ticket_becomes("c1", "withdrawn")


async def test_a_place_taken_away_behind_our_back_is_taken_again(world: World) -> None:
    """As by a server that took the conversation for lost while its caller waits."""
    await world.agent("ann")
    page = await world.page("ann", ready=False)
    await world.waits("c1")
    await world.store.withdraw_tickets("c1")
    await world.act(page, protocol.SetPresence(to="available"))
    assert (await world.calls.next_ring()).leg_id == "leg-c1"


async def test_a_place_that_cannot_be_taken_again_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.agent("ann")
    page = await world.page("ann", ready=False)
    await world.waits("c1")
    await world.store.withdraw_tickets("c1")

    async def broken(*_: object) -> None:
        raise StoreError("disk full")

    monkeypatch.setattr(world.store, "put_ticket", broken)
    await world.act(page, protocol.SetPresence(to="available"))
    assert await world.reports.next(QueueFailed) == QueueFailed("t1", "nobody")


async def test_a_caller_who_is_back_on_another_leg_is_rung_there(world: World) -> None:
    """Their first leg broke while it was offered, and the desk is asked again before it knows."""
    await world.agent("ann")
    page = await world.page("ann")
    await world.waits("c1")
    ring = await world.calls.next_ring()
    await world.store.end_leg("leg-c1", world.clock.now(), "fault")
    peer = Address(Channel.VOICE, "+14155550123")
    await world.store.add_leg(Leg("leg-2", "c1", peer, world.clock.now()))
    await world.desk.enqueue("c1", Enqueue(id="t1"))
    ring.end("gone")
    assert (await page.next(CallEnded)).outcome == "gone"
    assert (await world.calls.next_ring()).leg_id == "leg-2"


async def test_a_store_that_fails_does_not_end_the_call(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.agent("ann")
    page = await world.page("ann")
    await world.waits("c1")
    ring = await world.calls.next_ring()

    async def broken(*_: object) -> None:
        raise StoreError("disk full")

    for write in ("append", "serve_ticket", "set_presence"):
        monkeypatch.setattr(world.store, write, broken)
    ring.ring()
    ring.answer()
    await page.next(CallAnswered)
    await world.reports.next(AgentJoined)
    ring.end("talked")
    await page.stage("wrap_up")
    await world.reports.next(AgentLeft)


async def test_the_card_is_renewed_when_more_is_known(world: World) -> None:
    await world.agent("ann")
    page = await world.page("ann")
    await world.waits("c1")
    await page.next(Pop)
    (await world.calls.next_ring()).ring()
    await page.next(PhoneRinging)
    await world.desk.observe("c1")
    await world.tick()
    assert (await page.next(Pop)).card.conversation == "c1"


async def test_wrap_up_ends_by_itself(world: World) -> None:
    await world.agent("ann")
    page = await world.page("ann")
    await world.waits("c1")
    ring = await world.calls.next_ring()
    ring.answer()
    ring.end("talked")
    card = await page.stage("wrap_up")
    assert card.until is not None and card.since is not None
    assert (card.until - card.since).total_seconds() == 60
    world.clock.advance(60)
    await world.tick()
    await page.next(Wrapped)
    late = protocol.WriteNote(conversation="c1", text="typed to the last second")
    await world.act(page, late)
    await page.next(protocol.NoteKept)


async def test_a_page_that_comes_back_sees_the_call_in_hand(world: World) -> None:
    await world.agent("ann")
    page = await world.page("ann")
    await world.waits("c1")
    (await world.calls.next_ring()).answer()
    await page.next(CallAnswered)
    world.desk.leave(page.screen)
    again = await world.desk.open("ann")
    assert not again.closed
    frames: asyncio.Queue[str] = asyncio.Queue()
    write = asyncio.create_task(again.write_to(frames.put))
    hello = protocol.parse_server(await frames.get())
    assert isinstance(hello, protocol.Hello)
    (card,) = hello.cards
    assert (card.conversation, card.stage, card.answered_at) == ("c1", "active", world.clock.now())
    again.close()
    await write


async def test_only_the_agent_in_hand_may_act(world: World) -> None:
    await world.agent("ann")
    await world.agent("eve")
    await world.page("ann")
    eve = await world.page("eve", ready=False)
    await world.waits("c1")
    await world.calls.next_ring()
    for message in (
        protocol.HangUp(conversation="c1"),
        protocol.Decline(conversation="c1"),
        protocol.Done(conversation="c1"),
        protocol.WriteNote(conversation="c1", text="x"),
    ):
        with pytest.raises(NotAllowed):
            await world.act(eve, message)


async def test_signing_out(world: World) -> None:
    await world.agent("ann")
    page = await world.page("ann")
    await world.desk.sign_out("ann", "s-ann")
    assert page.screen.closed
    assert (await world.store.presences())["ann"].state == "offline"
    with pytest.raises(NotAllowed):
        await world.desk.open("nobody")


async def test_a_withdrawal_during_enqueue_leaves_no_ghost(world: World) -> None:
    await world.agent("ann")
    await world.page("ann", ready=False)
    await world.caller("c1")
    entering = asyncio.create_task(world.desk.enqueue("c1", Enqueue(id="t1")))
    await asyncio.sleep(0)
    await world.desk.withdraw("c1")
    await entering
    assert (await world.store.tickets_of("c1"))[0].status == "withdrawn"
    assert not world.reports.of("c1")


async def test_closing_leaves_no_task_behind(world: World) -> None:
    await world.agent("ann")
    await world.page("ann")
    await world.waits("c1")
    ring = await world.calls.next_ring()
    await world.desk.close()
    assert ring.cancelled.is_set()


async def _swallow(_: str) -> None:
    return None


async def test_a_page_that_stops_reading_is_dropped_and_costs_the_others_nothing(
    world: World,
) -> None:
    await world.agent("ann")
    page = await world.page("ann")
    stuck = await world.desk.open("ann")

    async def never(_: str) -> None:
        await asyncio.Event().wait()

    writing = asyncio.create_task(stuck.write_to(never))
    await world.waits("c1")
    await page.next(Pop)
    (await world.calls.next_ring()).end("gone")
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
