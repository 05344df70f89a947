"""What the store promises about customers, on SQLite and on PostgreSQL alike: one telephone number
is one address, who is not known has no name, and what an agent says of them stays."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ivr.errors import Conflict, StoreError
from ivr.model import (
    Address,
    AgentNote,
    Channel,
    Contact,
    Conversation,
    ConversationStatus,
    Leg,
    TimelineEntry,
)
from ivr.store.contacts import MOST_CORRECTIONS
from ivr.store.repo import Store

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ANN = Address(Channel.VOICE, "+14155550123")
TEXTS = Address(Channel.SMS, ANN.value)
WEB = Address(Channel.CHAT, "browser-1")


async def calls(
    store: Store, key: str = "c1", peer: Address = ANN, hours: float = 0
) -> Conversation:
    at = NOON + timedelta(hours=hours)
    conversation = Conversation(key, "main", "v1", ConversationStatus.FLOW, at)
    leg = Leg(f"leg-{key}", key, peer, at)
    return await store.start_conversation(conversation, leg)


async def whose(store: Store, key: str = "c1") -> str | None:
    found = await store.conversation(key)
    assert found is not None
    return found.contact_id


# --- who has which address ------------------------------------------------------------------------


async def test_a_contact_is_written_over(store: Store) -> None:
    await store.save_contact(Contact("k1", "Ann", "en", (ANN, WEB)))
    assert await store.contact("k1") == Contact("k1", "Ann", "en", (ANN, WEB))
    changed = Contact("k1", "安", "zh", (WEB,))
    await store.save_contact(changed)
    assert await store.contact("k1") == changed
    assert await store.contacts_by_address(ANN) == []
    assert await store.contacts_by_address(WEB) == [changed]
    assert await store.contact("k2") is None


async def test_the_only_one_at_a_number_is_who_calls_or_texts_from_it(store: Store) -> None:
    await store.save_contact(Contact("k1", "Ann", addresses=(ANN,)))
    assert (await calls(store)).contact_id == "k1"
    assert (await calls(store, "c2", TEXTS)).contact_id == "k1"
    assert await store.contact("k1") == Contact("k1", "Ann", addresses=(ANN, TEXTS))
    web = Address(Channel.CHAT, ANN.value)
    assert (await calls(store, "c3", web)).contact_id != "k1"


async def test_of_those_who_share_a_number_nobody_is_guessed(store: Store) -> None:
    await store.save_contact(Contact("k1", "Ann", addresses=(ANN,)))
    await store.save_contact(Contact("k2", "Bob", addresses=(ANN,)))
    assert [c.id for c in await store.contacts_by_address(ANN)] == ["k1", "k2"]
    shared = (await calls(store)).contact_id
    assert shared not in (None, "k1", "k2")
    assert (await calls(store, "c2")).contact_id == shared
    await store.identify("c2", Contact("k2"), "ann", NOON)
    assert [c.id for c in await store.contacts_by_address(ANN)] == ["k2", "k1", shared]
    # What is not known to be anybody's is not given to the next who shares the number.
    await store.save_contact(Contact("k3", "Cat", addresses=(ANN,)))
    assert await whose(store) == shared


async def test_who_takes_a_number_gets_what_happened_at_it(store: Store) -> None:
    nobody = (await calls(store)).contact_id
    assert nobody is not None
    await calls(store, "c2", TEXTS)
    await store.save_contact(Contact(nobody, "", "zh", (ANN, TEXTS)))
    await store.save_contact(Contact("k1", "Ann", addresses=(ANN,)))
    assert [await whose(store, key) for key in ("c1", "c2")] == ["k1", "k1"]
    assert await store.contact(nobody) is None
    known = await store.contact("k1")
    assert known is not None and known.language == "zh"
    assert await store.contacts_by_address(TEXTS) == [known]


async def test_many_calls_while_a_number_gets_its_owner(store: Store) -> None:
    await asyncio.gather(
        *(calls(store, f"c{n}") for n in range(10)),
        store.save_contact(Contact("k1", "Ann", addresses=(ANN,))),
        *(calls(store, f"c{n}") for n in range(10, 20)),
    )
    assert {await whose(store, f"c{n}") for n in range(20)} == {"k1"}


# --- what an agent says ---------------------------------------------------------------------------


async def test_an_agent_says_who_it_is_and_the_timeline_who_said_so(store: Store) -> None:
    nobody = (await calls(store)).contact_id
    made = Contact("k1", "Maria", "es", (ANN,))
    assert await store.identify("c1", made, "ann", NOON, new=True) == made
    assert await whose(store) == "k1"
    assert await store.contact(nobody or "") is None
    [entry] = await store.timeline("c1")
    assert (entry.kind, dict(entry.body)) == (
        "identified",
        {"agent": "ann", "contact": "k1", "name": "Maria"},
    )
    # Said again it is the same contact, with what is new of it.
    again = await store.identify("c1", Contact("k1", language="en"), "bob", NOON, new=True)
    assert again == replace(made, language="en")
    assert (await calls(store, "c2")).contact_id == "k1"


async def test_nobody_can_be_chosen_who_does_not_exist(store: Store) -> None:
    before = (await calls(store)).contact_id
    assert await store.identify("c1", Contact("k9", "Zoe"), "ann", NOON) is None
    assert await whose(store) == before
    assert await store.timeline("c1") == []
    with pytest.raises(StoreError):
        await store.identify("c9", Contact("k1", "Ann"), "ann", NOON, new=True)
    assert await store.contact("k1") is None


async def test_the_flow_goes_on_and_does_not_forget_who_it_is(store: Store) -> None:
    running = await calls(store)
    await store.identify("c1", Contact("k1", "Maria"), "ann", NOON, new=True)
    await store.save(replace(running, state={"node": "main"}))
    assert await whose(store) == "k1"


async def test_corrections_are_kept_the_last_of_a_name_counts(store: Store) -> None:
    await calls(store)
    await store.correct("c1", "account", "12345679", "ann", NOON)
    await store.correct("c1", "visit", "Monday", "ann", NOON)
    await store.correct("c1", "account", "12345678", "bob", NOON)
    dossier = await store.dossier("c1", (), 5)
    assert dossier is not None
    assert dossier.corrections == {"account": ("12345678", "bob"), "visit": ("Monday", "ann")}
    kinds = [entry.kind for entry in await store.timeline("c1")]
    assert kinds == ["fact_corrected"] * 3
    for number in range(MOST_CORRECTIONS - 2):
        await store.correct("c1", f"n{number}", "x", "ann", NOON)
    with pytest.raises(Conflict):
        await store.correct("c1", "one more", "x", "ann", NOON)
    await store.correct("c1", "visit", "Tuesday", "ann", NOON)
    with pytest.raises(StoreError):
        await store.correct("c9", "account", "1", "ann", NOON)


# --- finding --------------------------------------------------------------------------------------


async def test_contacts_are_found_by_name_and_number(store: Store) -> None:
    other = Address(Channel.VOICE, "+442079460123")
    await store.save_contact(Contact("k1", "Åsa Öberg", addresses=(ANN,)))
    await store.save_contact(Contact("k2", "Bob 100%", addresses=(other,)))
    await calls(store, peer=Address(Channel.VOICE, "+14155550199"))  # has no name

    async def found(name: str = "", digits: str = "", limit: int = 9) -> list[str]:
        return [contact.id for contact in await store.find_contacts(name, digits, limit)]

    assert await found("ÖBERG") == await found("åsa") == ["k1"]
    assert await found("0%") == ["k2"]
    assert await found("_") == await found("%%") == []
    assert await found(digits="5550") == ["k1"]
    assert await found(digits="0123") == ["k2", "k1"]
    assert await found("bob", "4155") == ["k2", "k1"]
    assert await found("bob", "4155", limit=1) == ["k2"]
    assert await found() == []


# --- all of it at once ----------------------------------------------------------------------------


async def test_a_dossier_holds_what_is_known_of_the_customer(store: Store) -> None:
    await store.save_contact(Contact("k1", "Ann", addresses=(ANN,)))
    for number in range(8):
        await calls(store, f"old{number}", ANN if number % 2 else TEXTS, hours=number)
        if number < 3:
            await store.annotate(f"old{number}", "bob", f"note {number}", "resolved", NOON)
    await calls(store, hours=100)
    told = [
        TimelineEntry("c1", NOON, kind, {"text": kind}) for kind in ("heard", "fetched", "said")
    ]
    await store.append(told)
    dossier = await store.dossier("c1", ("heard", "said"), 4)
    assert dossier is not None
    assert dossier.contact is not None and dossier.contact.id == "k1"
    assert (dossier.call, dossier.leg.id) == (True, "leg-c1")
    assert [one.id for one in dossier.sharing] == ["k1"]
    assert [one.kind for one in dossier.entries] == ["heard", "said"]
    assert [(one.id, one.channel) for one in dossier.earlier] == [
        ("old7", Channel.VOICE),
        ("old6", Channel.SMS),
        ("old5", Channel.VOICE),
        ("old4", Channel.SMS),
    ]
    # However long ago: what somebody wrote down is what the next one wants to know.
    assert dossier.notes == [
        AgentNote(f"note {number}", "bob", NOON + timedelta(hours=number)) for number in (2, 1, 0)
    ]


async def test_a_dossier_of_somebody_chosen_tells_their_story(store: Store) -> None:
    await calls(store, "old", WEB)
    await store.identify("old", Contact("k2", "Bob"), "ann", NOON, new=True)
    await calls(store, hours=1)
    before = await store.dossier("c1", (), 5)
    assert before is not None and not before.earlier
    assert before.contact is not None and before.contact.name == ""
    assert before.sharing == ()
    await store.identify("c1", Contact("k2", addresses=(ANN,)), "ann", NOON)
    after = await store.dossier("c1", (), 5)
    assert after is not None and after.contact is not None
    assert after.contact.id == "k2"
    assert [one.id for one in after.earlier] == ["old"]


async def test_there_is_no_dossier_of_what_is_unknown(store: Store) -> None:
    assert await store.dossier("c9", (), 5) is None
