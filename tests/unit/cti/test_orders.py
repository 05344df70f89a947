"""What an agent's screen may ask for: who may, what becomes of it, who has the customer then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

from cti import protocol
from cti.orders import Orders
from cti.protocol import CallAnswered, CallEnded, Outcome, Pop, PresenceNow, Wrapped
from ivr.errors import Conflict, NotAllowed, StoreError
from ivr.flow.events import AgentJoined, AgentLeft, Event
from ivr.model import Ticket
from ivr.ports import ActionOutcome, CallEvent, Consulted, Held, Muted, Parked
from tests.fakes.calls import PATIENCE, FakeRing
from tests.unit.cti.conftest import Page, World

REFUSED = ActionOutcome("refused", "Asterisk will not")
UNKNOWN = ActionOutcome("unknown", "the link was lost")
BOB = "202"


class Call:
    """Ann on a call with c1, and what can happen then. Bob, with a phone too, is away."""

    def __init__(self, world: World, ann: Page, bob: Page, ring: FakeRing):
        self.world = world
        self.ann = ann
        self.bob = bob
        self.ring = ring

    async def ask(self, order: type[Any], page: Page | None = None, **about: Any) -> Outcome:
        """What becomes of an order with an id."""
        page = page or self.ann
        key = f"o{len(page.seen)}-{order.__name__}-{len(page.screen.login)}"
        known = {"conversation": "c1"} if "conversation" in order.model_fields else {}
        await self.world.act(page, order(id=key, **known, **about))
        return await page.next(Outcome, id=key)

    async def transfer(self, kind: str, value: str, mode: str = "blind", note: str = "") -> Outcome:
        target = protocol.Target(kind=kind, value=value)  # type: ignore[arg-type]
        return await self.ask(protocol.TransferTo, to=target, mode=mode, note=note)

    def tells(self, *events: CallEvent) -> None:
        """Asterisk says what has happened in the call."""
        for event in events:
            self.ring.notify(event)

    async def ticket(self, number: int = -1) -> Ticket:
        return (await self.world.store.tickets_of("c1"))[number]

    async def consult(self, note: str = "please help") -> protocol.PopCard:
        """Ann asks bob, whose phone rings; the card as bob sees it."""
        outcome = await self.transfer("agent", "bob", "attended", note)
        assert outcome.result == "done", outcome.text
        card = (await self.bob.next(Pop)).card
        self.tells(Consulted(BOB, "ringing"))
        await self.bob.next(protocol.PhoneRinging)
        return card

    async def became(self, login: str, *stages: str) -> None:
        """Wait until the store has these stages of the agent's works."""
        async with asyncio.timeout(PATIENCE):
            while tuple(one.stage for one in await self.world.store.works(login)) != stages:
                await asyncio.sleep(0)

    def told(self) -> list[Event]:
        kinds = (AgentJoined, AgentLeft)
        return [event for event in self.world.reports.of("c1") if isinstance(event, kinds)]


@pytest_asyncio.fixture
async def call(world: World) -> AsyncIterator[Call]:
    await world.agent("ann", extension="201")
    await world.agent("bob", extension=BOB)
    ann = await world.page("ann")
    await world.waits("c1")
    bob = await world.page("bob", ready=False)
    ring = await world.calls.next_ring()
    world.clock.advance(5)
    ring.answer()
    await ann.next(CallAnswered)
    await world.reports.next(AgentJoined)
    await world.ticket_becomes("c1", "served")
    yield Call(world, ann, bob, ring)


# --- what the telephone system is asked ----------------------------------------------------------

_PLAIN: Sequence[tuple[type[Any], dict[str, Any], tuple[str, ...]]] = (
    (protocol.Hold, {}, ("hold", "leg-c1", "True")),
    (protocol.Retrieve, {}, ("hold", "leg-c1", "False")),
    (protocol.Mute, {"on": True}, ("mute", "leg-c1", "True")),
    (protocol.SendKeys, {"digits": "12#"}, ("press", "leg-c1", "12#")),
    (protocol.Park, {}, ("park", "leg-c1")),
    (protocol.Complete, {}, ("complete", "leg-c1")),
    (protocol.Cancel, {}, ("cancel", "leg-c1")),
    (protocol.Conference, {}, ("join", "leg-c1")),
)


@pytest.mark.parametrize(("order", "about", "asked"), _PLAIN)
async def test_an_order_is_passed_on_and_its_outcome_told(
    call: Call, order: type[Any], about: dict[str, Any], asked: tuple[str, ...]
) -> None:
    for answer in (ActionOutcome("done"), REFUSED, UNKNOWN):
        call.world.calls.answer = answer
        outcome = await call.ask(order, **about)
        assert (outcome.result, outcome.text) == (answer.result, answer.text)
        assert call.world.calls.orders[-1] == asked
    with pytest.raises(NotAllowed):
        await call.world.act(call.bob, order(conversation="c1", **about))
    call.ring.end("talked")
    await call.ann.stage("wrap_up")
    with pytest.raises(Conflict):
        await call.world.act(call.ann, order(conversation="c1", **about))


async def test_without_an_id_what_is_not_done_is_an_error(call: Call) -> None:
    call.world.calls.answer = REFUSED
    with pytest.raises(Conflict, match="Asterisk will not"):
        await call.world.act(call.ann, protocol.Hold(conversation="c1"))


async def test_an_order_that_may_not_be_is_refused_by_its_id(call: Call) -> None:
    outcome = await call.ask(protocol.Hold, call.bob)
    assert outcome.result == "refused"
    assert "not yours" in outcome.text


async def test_an_order_that_is_asked_for_again_is_done_once(call: Call) -> None:
    """As by a page that lost its connection before it heard of the outcome."""
    order = protocol.Hold(id="again", conversation="c1")
    both = (call.world.act(call.ann, order), call.world.act(call.ann, order))
    await asyncio.gather(*both)
    await Orders(call.world.desk).obey(call.ann.screen, order)
    assert call.world.calls.orders == [("hold", "leg-c1", "True")]
    for _ in range(3):
        assert (await call.ann.next(Outcome)).result == "done"


async def test_what_fails_in_between_is_unknown(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise StoreError("disk full")

    monkeypatch.setattr(call.world.store, "annotate", broken)
    outcome = await call.ask(protocol.WriteNote, text="x")
    assert outcome.result == "unknown"
    assert "disk" not in outcome.text


async def test_what_asterisk_tells_is_what_the_card_shows(call: Call) -> None:
    call.tells(Held(True))
    card = await call.ann.stage("held")
    assert "retrieve" in card.can
    await call.became("ann", "held")
    call.tells(Held(True), Held(False))
    card = await call.ann.stage("active")
    call.tells(Muted(True))
    assert (await call.ann.next(Pop)).card.muted


async def test_parking_ends_the_agents_part(call: Call) -> None:
    call.tells(Parked("701"))
    call.ring.end("talked")
    assert (await call.ann.next(CallEnded)).outcome == "transferred"
    assert (await call.ticket()).status == "passed"
    assert call.told() == [AgentJoined("t1", "ann")]


# --- blind transfers -----------------------------------------------------------------------------


async def test_to_a_colleague_it_keeps_the_age_and_is_theirs_alone(call: Call) -> None:
    world = call.world
    await world.agent("carol", extension="203")
    carol = await world.page("carol")
    began = (await call.ticket()).enqueued_at
    for _ in range(10):
        world.clock.advance(6)
        await world.tick()
    assert (await call.transfer("agent", "bob", note="wants a refund")).result == "done"
    (ended,) = [frame for frame in call.ann.seen if isinstance(frame, CallEnded)]
    assert (ended.outcome, ended.talked) == ("transferred", 60)
    await call.became("ann", "wrap_up")
    assert world.calls.rings.empty(), "bob is away, and carol is not bob"
    await world.tick()
    waiting = await call.ticket()
    assert (waiting.id, waiting.status, waiting.reserved) == ("t1~1", "waiting", "bob")
    assert (waiting.enqueued_at, waiting.context) == (began, "wants a refund")

    await world.act(call.bob, protocol.SetPresence(to="available"))
    card = (await call.bob.next(Pop)).card
    assert (card.from_agent, card.context) == ("ann", "wants a refund")
    ring = await world.calls.next_ring()
    assert (ring.leg_id, ring.extension) == ("leg-c1", BOB)
    ring.answer()
    await call.bob.next(CallAnswered)
    ring.end("talked")
    assert await world.reports.next(AgentLeft) == AgentLeft("t1", "bob")
    assert not [frame for frame in carol.seen if isinstance(frame, Pop)]


async def test_who_is_not_taken_by_that_colleague_is_taken_by_others(call: Call) -> None:
    world = call.world
    await world.act(call.ann, protocol.SetPresence(to="away"))
    await call.transfer("agent", "bob")
    world.clock.advance(world.settings.reserve_seconds + 1)
    await world.agent("carol", extension="203")
    await world.page("carol")
    await world.tick()
    assert (await world.calls.next_ring()).extension == "203"


async def test_to_a_queue_who_serves_it_gets_them(call: Call) -> None:
    world = call.world
    await world.agent("bob", extension=BOB, skills={"billing": 5})
    await world.agent("carol", extension="203", skills={"repairs": 3})
    await world.page("carol")
    assert (await call.transfer("queue", "repairs", note="no water")).result == "done"
    assert (await world.calls.next_ring()).extension == "203"


async def test_to_a_queue_that_nobody_serves_is_refused(call: Call) -> None:
    world = call.world
    for login in ("ann", "bob"):
        await world.agent(login, extension=BOB, skills={"billing": 3})
    outcome = await call.transfer("queue", "repairs")
    assert (outcome.result, outcome.text) == ("refused", "nobody at work serves repairs")
    assert len(await world.store.tickets_of("c1")) == 1
    assert not world.calls.orders


async def test_to_a_number_the_caller_goes_on_without_us(call: Call) -> None:
    assert (await call.transfer("number", "+14155550199")).result == "done"
    assert (await call.ann.next(CallEnded)).outcome == "transferred"
    assert call.world.calls.orders == [("send_to", "leg-c1", "+14155550199")]
    assert call.told() == [AgentJoined("t1", "ann")]


async def test_a_transfer_that_is_refused_changes_nothing(call: Call) -> None:
    call.world.calls.answer = REFUSED
    assert (await call.transfer("agent", "bob")).result == "refused"
    assert (await call.ticket()).status == "withdrawn"
    call.world.calls.answer = ActionOutcome("done")
    call.ring.end("talked")
    assert (await call.ann.next(CallEnded)).outcome == "talked"
    assert await call.world.reports.next(AgentLeft) == AgentLeft("t1", "ann")


async def test_after_a_refused_transfer_the_next_one_goes_through(call: Call) -> None:
    call.world.calls.answer = REFUSED
    await call.transfer("agent", "bob")
    call.world.calls.answer = ActionOutcome("done")
    assert (await call.transfer("agent", "bob")).result == "done"
    assert ((await call.ticket()).id, (await call.ticket()).status) == ("t1~2", "waiting")


@pytest.mark.parametrize("to", ["ann", "nobody"])
async def test_nobody_passes_on_to_themselves_or_to_who_is_not_there(call: Call, to: str) -> None:
    assert (await call.transfer("agent", to)).result == "refused"
    assert (await call.transfer("agent", to, "attended")).result == "refused"
    assert len(await call.world.store.tickets_of("c1")) == 1


async def test_a_caller_who_hangs_up_while_passed_on_waits_nowhere(call: Call) -> None:
    world = call.world
    await call.transfer("agent", "bob")
    await world.desk.withdraw("c1")
    assert (await call.ticket()).status == "withdrawn"
    await world.act(call.bob, protocol.SetPresence(to="available"))
    await world.tick()
    assert world.calls.rings.empty()


async def test_who_is_passed_on_and_finds_nobody_is_the_flows_again(call: Call) -> None:
    world = call.world
    await call.transfer("agent", "bob")
    await world.desk.sign_out("bob", "s-bob")
    await world.act(call.ann, protocol.Done(conversation="c1"))
    await world.desk.sign_out("ann", "s-ann")
    world.clock.advance(1)
    await world.tick()
    assert (await world.reports.next(AgentLeft)).id == "t1"
    assert (await call.ticket()).status == "withdrawn"


# --- attended transfers --------------------------------------------------------------------------


async def test_the_colleague_sees_the_card_before_their_phone_rings(call: Call) -> None:
    card = await call.consult("knows the account")
    assert (card.stage, card.from_agent, card.context) == ("offered", "ann", "knows the account")
    assert [party.role for party in card.parties] == ["agent"]
    assert call.world.calls.orders == [("consult", "leg-c1", BOB)]
    await call.became("bob", "offered")
    card = (await call.ann.next(Pop)).card
    assert card.consult is not None
    assert "complete" in card.can


async def test_completed_the_colleague_has_the_call(call: Call) -> None:
    await call.consult()
    call.tells(Consulted(BOB, "talking"))
    call.world.clock.advance(10)
    assert (await call.ask(protocol.Complete)).result == "done"
    call.tells(Consulted(BOB, "took_over"))
    assert (await call.ann.next(CallEnded)).outcome == "transferred"
    await call.bob.next(CallAnswered)
    await call.became("bob", "active")
    await call.ask(protocol.Done)
    await call.became("ann")

    # Whatever becomes of the call now is bob's, also when ann is done with it.
    assert (await call.ask(protocol.Hold, call.bob)).result == "done"
    call.tells(Held(True))
    await call.bob.stage("held")
    call.world.clock.advance(20)
    call.ring.end("talked")
    ended = await call.bob.next(CallEnded)
    assert (ended.outcome, ended.talked) == ("talked", 20)
    assert await call.world.reports.next(AgentLeft) == AgentLeft("t1", "bob")
    assert [event for event in call.told() if isinstance(event, AgentLeft)] == [
        AgentLeft("t1", "bob")
    ]


async def test_who_took_over_can_pass_the_caller_on(call: Call) -> None:
    await call.consult()
    call.tells(Consulted(BOB, "talking"), Consulted(BOB, "took_over"))
    await call.bob.next(CallAnswered)
    await call.ann.stage("wrap_up")
    await call.ask(protocol.Done)
    order = protocol.TransferTo(
        id="b1", conversation="c1", to=protocol.Target(kind="agent", value="ann"), note="yours"
    )
    await call.world.act(call.bob, order)
    assert (await call.bob.next(CallEnded)).outcome == "transferred"
    assert (await call.bob.next(Outcome, id="b1")).result == "done"
    ring = await call.world.calls.next_ring()
    assert ring.extension == "201"
    assert (await call.ticket()).id == "t1~2"


async def test_cancelled_the_agent_has_the_caller_back(call: Call) -> None:
    await call.consult()
    call.tells(Consulted(BOB, "talking"))
    assert (await call.ask(protocol.Cancel)).result == "done"
    call.tells(Consulted(BOB, "gone"))
    assert (await call.bob.next(CallEnded)).outcome == "gone"
    await call.became("bob")
    await call.became("ann", "active")
    assert (await call.ticket()).status == "withdrawn"
    again = await call.consult()
    assert again.stage == "offered", "and may ask again"


async def test_three_of_them_talk_until_all_hang_up(call: Call) -> None:
    await call.consult()
    call.tells(Consulted(BOB, "talking"))
    await call.ask(protocol.Conference)
    call.tells(Consulted(BOB, "joined"))
    await call.bob.next(CallAnswered)
    await call.became("bob", "active")
    call.ring.end("talked")
    assert (await call.ann.next(CallEnded)).outcome == "talked"
    await call.bob.next(CallEnded)
    assert await call.world.reports.next(AgentLeft) == AgentLeft("t1", "ann")
    assert len([event for event in call.told() if isinstance(event, AgentLeft)]) == 1


async def test_of_three_the_colleague_hangs_up_and_the_agent_goes_on(call: Call) -> None:
    await call.consult()
    call.tells(Consulted(BOB, "talking"), Consulted(BOB, "joined"))
    await call.bob.next(CallAnswered)
    call.tells(Consulted(BOB, "gone"))
    await call.bob.next(CallEnded)
    await call.bob.stage("wrap_up")
    await call.became("ann", "active")
    assert not [event for event in call.told() if isinstance(event, AgentLeft)]
    call.ring.end("talked")
    assert await call.world.reports.next(AgentLeft) == AgentLeft("t1", "ann")


async def test_of_three_the_agent_hangs_up_and_the_colleague_goes_on(call: Call) -> None:
    await call.consult()
    call.tells(Consulted(BOB, "talking"), Consulted(BOB, "joined"))
    await call.bob.next(CallAnswered)
    call.tells(Consulted(BOB, "took_over"))
    assert (await call.ann.next(CallEnded)).outcome == "transferred"
    call.ring.end("talked")
    assert (await call.bob.next(CallEnded)).outcome == "talked"
    assert await call.world.reports.next(AgentLeft) == AgentLeft("t1", "bob")


async def test_a_colleague_who_declines_is_not_rung_on(call: Call) -> None:
    await call.consult()
    assert (await call.ask(protocol.Decline, call.bob)).result == "done"
    assert (await call.bob.next(CallEnded)).outcome == "gone"
    async with asyncio.timeout(PATIENCE):
        while call.world.calls.orders[-1] != ("cancel", "leg-c1"):
            await asyncio.sleep(0)
    call.tells(Consulted(BOB, "gone"))
    await call.became("bob")
    await call.became("ann", "active")


@pytest.mark.parametrize("at", ["ringing", "talking"])
async def test_a_caller_who_hangs_up_ends_the_consultation(call: Call, at: str) -> None:
    await call.consult()
    if at == "talking":
        call.tells(Consulted(BOB, "talking"))
    await call.world.desk.withdraw("c1")
    call.ring.end("talked")
    assert (await call.ann.next(CallEnded)).outcome == "talked"
    assert (await call.bob.next(CallEnded)).outcome == "gone"
    await call.became("bob")
    await call.became("ann", "wrap_up")
    assert not [event for event in call.told() if isinstance(event, AgentLeft)]


async def test_a_consultation_that_is_refused_leaves_nothing_behind(call: Call) -> None:
    call.world.calls.answer = REFUSED
    assert (await call.transfer("agent", "bob", "attended")).result == "refused"
    assert (await call.bob.next(CallEnded)).outcome == "gone"
    await call.became("bob")


async def test_one_is_consulted_at_a_time(call: Call) -> None:
    await call.consult()
    assert (await call.transfer("agent", "bob", "attended")).result == "refused"
    assert (await call.transfer("number", "+14155550199", "attended")).result == "refused"
    assert (await call.transfer("queue", "billing", "attended")).result == "refused"
    assert len(call.world.calls.orders) == 1


async def test_a_colleague_on_a_call_is_not_consulted(call: Call) -> None:
    world = call.world
    await world.act(call.bob, protocol.SetPresence(to="available"))
    await world.waits("c2")
    (await world.calls.next_ring()).answer()
    await call.bob.next(CallAnswered)
    outcome = await call.transfer("agent", "bob", "attended")
    assert (outcome.result, outcome.text) == (
        "refused",
        "Bob is busy; transfer at once instead",
    )


async def test_a_colleague_without_a_screen_is_not_consulted(call: Call) -> None:
    call.world.desk.leave(call.bob.screen)
    outcome = await call.transfer("agent", "bob", "attended")
    assert outcome.result == "refused"
    assert "no screen" in outcome.text


async def test_a_consulted_colleague_is_offered_nobody_else(call: Call) -> None:
    world = call.world
    await world.act(call.bob, protocol.SetPresence(to="available"))
    await call.bob.next(PresenceNow, state="available")
    await call.consult()
    await world.waits("c2")
    await world.tick()
    assert world.calls.rings.empty()
    call.tells(Consulted(BOB, "gone"))
    assert (await world.calls.next_ring()).leg_id == "leg-c2"


async def test_an_outside_number_that_takes_over(call: Call) -> None:
    assert (await call.transfer("number", "+14155550199", "attended")).result == "done"
    call.tells(Consulted("+14155550199", "talking"), Consulted("+14155550199", "took_over"))
    assert (await call.ann.next(CallEnded)).outcome == "transferred"
    assert (await call.ticket()).status == "passed"
    for _ in range(6):
        call.world.clock.advance(1)
        await call.world.tick()
    assert not [event for event in call.told() if isinstance(event, AgentLeft)]
    call.ring.end("talked")
    assert await call.world.reports.next(AgentLeft) == AgentLeft("t1", "ann")


# --- writing up ----------------------------------------------------------------------------------


async def test_more_time_is_a_minute_more_of_wrap_up(call: Call) -> None:
    world = call.world
    assert (await call.ask(protocol.MoreTime)).result == "refused"
    call.ring.end("talked")
    before = await call.ann.stage("wrap_up")
    assert (await call.ask(protocol.MoreTime)).result == "done"
    cards = [frame.card for frame in call.ann.seen if isinstance(frame, Pop)]
    assert before.until is not None and cards[-1].until is not None
    assert (cards[-1].until - before.until).total_seconds() == 60
    world.clock.advance(world.settings.wrap_up_seconds + 30)
    await world.tick()
    await call.became("ann", "wrap_up")
    world.clock.advance(30)
    await world.tick()
    await call.ann.next(Wrapped)
    await call.became("ann")


async def test_done_is_for_what_is_over(call: Call) -> None:
    assert (await call.ask(protocol.Done)).result == "refused"
    call.ring.end("talked")
    await call.ann.stage("wrap_up")
    assert (await call.ask(protocol.Done)).result == "done"
    assert (await call.ask(protocol.Done)).result == "refused"
    await call.became("ann")


async def test_notes_are_taken_after_other_customers_and_after_a_restart(call: Call) -> None:
    world = call.world
    call.ring.end("talked")
    await call.ann.stage("wrap_up")
    await call.ask(protocol.Done)
    await world.waits("c2")
    (await world.calls.next_ring()).answer()
    await call.ann.next(CallAnswered)
    assert (await call.ask(protocol.WriteNote, text="late")).result == "done"
    assert (await call.ask(protocol.WriteNote, call.bob, text="not mine")).result == "refused"
    call.world.desk.floor.seat("ann").works.clear()
    assert (await call.ask(protocol.WriteNote, text="later")).result == "done"
    world.clock.advance(13 * 3600)
    assert (await call.ask(protocol.WriteNote, text="too late")).result == "refused"


async def test_an_agent_who_says_ready_is_done_with_writing_up(call: Call) -> None:
    call.ring.end("talked")
    await call.ann.stage("wrap_up")
    await call.world.act(call.ann, protocol.SetPresence(to="available"))
    await call.ann.next(Wrapped)
    await call.became("ann")


async def test_dialling_is_refused_on_a_call(call: Call) -> None:
    assert (await call.ask(protocol.Dial, number="+14155550123")).result == "refused"
    assert (await call.ask(protocol.Dial, call.bob, number="+14155550123")).result == "done"
    assert call.world.calls.orders == [("dial", BOB, "+14155550123")]


async def test_an_agent_thrown_out_while_it_rings_gives_the_caller_back(world: World) -> None:
    await world.agent("ann", extension="201")
    await world.page("ann")
    await world.waits("c1")
    ring = await world.calls.next_ring()
    seat = world.desk.floor.seat("ann")
    await world.desk.sign_out("ann", "s-ann")
    await world.desk.release(seat)
    await ring.cancelled.wait()
    async with asyncio.timeout(PATIENCE):
        while seat.works or await world.store.works("ann"):
            await asyncio.sleep(0)
    assert not seat.works
