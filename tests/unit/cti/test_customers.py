"""What agents say of a customer: it is on every screen at once, under their name, and for good."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from cti import protocol
from cti.popcard import PopCard
from cti.protocol import CorrectFact, Pop, SetContact
from cti.screenpop import ConversationView
from ivr.errors import Conflict, NotAllowed
from ivr.flow.events import Enqueue
from ivr.model import Address, Channel, Contact, Conversation
from tests.fakes.calls import PATIENCE
from tests.unit.cti.conftest import Page, World

_IDS = itertools.count()

NUMBER = "+14155550123"
ANN = Address(Channel.VOICE, NUMBER)


async def talking(world: World, name: str = "c1", login: str = "ann") -> Page:
    """An agent who has a caller on the line."""
    await world.agent(login)
    page = await world.page(login)
    await world.waits(name)
    ring = await world.calls.next_ring()
    ring.ring()
    ring.answer()
    await page.stage("active")
    return page


async def asked(world: World, page: Page, order: protocol.ClientMessage) -> protocol.Outcome:
    order_id = f"o{next(_IDS)}"
    await world.act(page, order.model_copy(update={"id": order_id}))
    return await page.next(protocol.Outcome, id=order_id)


def shown(world: World, login: str = "ann") -> PopCard:
    card = world.desk.floor.seat(login).works["c1"].shown
    assert card is not None
    return card


async def card_with(page: Page, **wanted: object) -> PopCard:
    """The next card of which these are so."""
    while True:
        card = (await page.next(Pop)).card
        if all(getattr(card, name) == value for name, value in wanted.items()):
            return card


async def the_timeline(world: World, kind: str) -> list[dict[str, object]]:
    return [dict(one.body) for one in await world.store.timeline("c1") if one.kind == kind]


# --- who it is ------------------------------------------------------------------------------------


async def test_a_caller_from_a_new_number_is_nobody_yet(world: World) -> None:
    await world.agent("ann")
    page = await world.page("ann")
    await world.waits("c1")
    card = (await page.next(Pop)).card
    assert (card.contact, card.name, card.matches, card.verified) == (None, "", (), "claimed")


async def test_a_caller_is_named_and_known_when_they_ring_again(world: World) -> None:
    page = await talking(world)
    order = SetContact(conversation="c1", name="Maria Gonzalez", language="es")
    assert (await asked(world, page, order)).result == "done"
    card = await card_with(page, name="Maria Gonzalez")
    assert card.verified == "known"
    assert card.contact is not None
    assert card.contact.numbers == ("+1 415-555-0123",)
    [said] = await the_timeline(world, "identified")
    assert (said["agent"], said["name"]) == ("ann", "Maria Gonzalez")
    # The flow greets them in their language, and the next pop has the name and what was before.
    assert [one.language for one in await world.store.contacts_by_address(ANN)] == ["es"]
    await world.agent("bob")
    bob = await world.page("bob")
    world.clock.advance(1)
    await world.waits("c2")
    again = (await bob.next(Pop)).card
    assert (again.stage, again.name, again.verified) == ("offered", "Maria Gonzalez", "known")
    assert [past.channel for past in again.earlier] == ["voice"]


async def test_of_those_who_share_a_number_one_is_chosen(world: World) -> None:
    await world.store.save_contact(Contact("k1", "Ann Lee", "en", (ANN,)))
    await world.store.save_contact(Contact("k2", "Bob Lee", "", (Address(Channel.SMS, NUMBER),)))
    await world.caller("old")
    await world.store.identify("old", Contact("k2"), "cat", world.clock.now())
    await world.store.annotate("old", "cat", "Moves in May.", "", world.clock.now())
    world.clock.advance(60)
    page = await talking(world)
    card = shown(world)
    assert (card.contact, card.name, card.earlier) == (None, "", ())
    assert sorted(match.id for match in card.matches) == ["k1", "k2"]
    assert (await asked(world, page, SetContact(conversation="c1", contact="k2"))).result == "done"
    card = await card_with(page, name="Bob Lee")
    assert card.verified == "claimed"
    assert [past.note for past in card.earlier] == ["Moves in May."]
    assert [note.text for note in card.notes] == ["Moves in May."]


async def test_a_name_or_language_can_be_changed_alone(world: World) -> None:
    await world.store.save_contact(Contact("k1", "Ann", "en", (ANN,)))
    page = await talking(world)
    await asked(world, page, SetContact(conversation="c1", contact="k1", language="zh"))
    await asked(world, page, SetContact(conversation="c1", contact="k1", name="Anna"))
    assert await world.store.contact("k1") == Contact("k1", "Anna", "zh", (ANN,))


async def test_a_number_is_not_remembered_unless_wanted(world: World) -> None:
    page = await talking(world)
    order = SetContact(conversation="c1", name="Visitor", remember=False)
    assert (await asked(world, page, order)).result == "done"
    card = await card_with(page, name="Visitor")
    assert card.contact is not None and card.contact.numbers == ()
    assert card.verified == "claimed"
    again = await world.caller("c2")
    conversation = await world.store.conversation(again)
    assert conversation is not None and conversation.contact_id != card.contact.id


async def test_a_withheld_number_is_nobodys(world: World) -> None:
    await world.agent("ann")
    page = await world.page("ann")
    await world.caller("c1", "anonymous")
    await world.desk.enqueue("c1", Enqueue(id="t1"))
    ring = await world.calls.next_ring()
    ring.answer()
    await page.stage("active")
    await asked(world, page, SetContact(conversation="c1", name="Maria"))
    card = await card_with(page, name="Maria")
    assert card.contact is not None and card.contact.numbers == ()


async def test_the_same_order_again_makes_nobody_twice(world: World) -> None:
    page = await talking(world)
    for name in ("Maria", "Maria", "MARIA"):
        await asked(world, page, SetContact(conversation="c1", name=name))
    assert len(await world.store.find_contacts("maria", "", 9)) == 1


@pytest.mark.parametrize(
    "order",
    [
        SetContact(conversation="c1"),
        SetContact(conversation="c1", name="\u202e \u200b"),
        SetContact(conversation="c1", contact="k9", name="Zoe"),
        CorrectFact(conversation="c1", name="\u2066", value="x"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    world: World, order: SetContact | CorrectFact
) -> None:
    page = await talking(world)
    outcome = await asked(world, page, order)
    assert (outcome.result, bool(outcome.text)) == ("refused", True)
    assert await world.store.find_contacts("z", "", 9) == []
    assert not await the_timeline(world, "identified")
    assert not await the_timeline(world, "fact_corrected")


async def test_only_who_has_the_customer_may_say_who_it_is(world: World) -> None:
    await talking(world)
    await world.agent("bob")
    bob = await world.page("bob")
    with pytest.raises(NotAllowed):
        await world.act(bob, SetContact(conversation="c1", name="Mallory"))
    await world.waits("c2")
    await bob.next(Pop)
    with pytest.raises(Conflict):  # offered, and not taken yet
        await world.act(bob, CorrectFact(conversation="c2", name="account", value="1"))


# --- what is known --------------------------------------------------------------------------------


async def test_a_correction_is_shown_kept_and_goes_with_the_customer(world: World) -> None:
    page = await talking(world)
    order = CorrectFact(conversation="c1", name="account", value="12345679")
    assert (await asked(world, page, order)).result == "done"
    card = await card_with(page)
    fact = next(one for one in card.facts if one.name == "account")
    assert (fact.value, fact.source) == ("12345679", "ann")
    [written] = await the_timeline(world, "fact_corrected")
    assert written == {"agent": "ann", "name": "account", "value": "12345679"}
    await world.agent("bob")
    bob = await world.page("bob")
    to = protocol.Target(kind="agent", value="bob")
    transfer = protocol.TransferTo(conversation="c1", to=to, note="pays in parts", id="o2")
    await world.act(page, transfer)
    await world.tick()
    card = (await bob.next(Pop)).card
    fact = next(one for one in card.facts if one.name == "account")
    assert (fact.value, fact.source, card.context) == ("12345679", "ann", "pays in parts")


async def test_a_correction_survives_a_restart(world: World) -> None:
    page = await talking(world)
    await asked(world, page, CorrectFact(conversation="c1", name="account", value="1"))
    ticket = (await world.store.tickets_of("c1"))[0]
    card, _ = await world.another_desk().place.cards.card(ticket, 0)
    assert [(one.value, one.source) for one in card.facts if one.name == "account"] == [
        ("1", "ann")
    ]


async def test_a_secret_is_not_to_be_written_down(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def view(conversation: Conversation) -> ConversationView:
        return ConversationView(secret=frozenset({"pin"}))

    monkeypatch.setattr(world.desk.customers, "_view", view)
    page = await talking(world)
    outcome = await asked(world, page, CorrectFact(conversation="c1", name="pin", value="1234"))
    assert outcome.result == "refused"
    assert "1234" not in str(await world.store.timeline("c1"))


async def test_other_servers_are_told(world: World) -> None:
    heard: asyncio.Queue[object] = asyncio.Queue()
    world.desk.bus.subscribe("desks", heard.put_nowait)
    page = await talking(world)
    await asked(world, page, CorrectFact(conversation="c1", name="account", value="1"))
    async with asyncio.timeout(PATIENCE):
        while (body := await heard.get()) and isinstance(body, dict):
            if (body["kind"], body["conversation"]) == ("grew", "c1"):
                break
