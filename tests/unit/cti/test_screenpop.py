"""The card: the useful first, and nothing on it that a caller could use against the page."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cti.popcard import PopCard, PopContact
from cti.screenpop import ConversationView, CustomerRecord, build, clean, shown_number
from ivr.model import (
    Address,
    AgentNote,
    Channel,
    Contact,
    Conversation,
    ConversationStatus,
    Dossier,
    Leg,
    PastConversation,
    Ticket,
    TimelineEntry,
)
from tests.browser.payloads import payloads

AT = datetime(2026, 11, 20, 10, tzinfo=UTC)
ANN = Contact("k1", "Ann", "en", (Address(Channel.VOICE, "+14155550123"),))
BOB = Contact("k2", "Bob", "", (Address(Channel.SMS, "+14155550123"),))


def pop(**changed: Any) -> PopCard:
    known: dict[str, Any] = {
        "conversation": Conversation("c1", "main", "v1", ConversationStatus.QUEUED, AT),
        "leg": Leg("l1", "c1", Address(Channel.VOICE, "+14155550123"), AT, dialled="100"),
        "call": True,
        "contact": None,
        "sharing": (),
        "entries": (),
        "earlier": (),
        "notes": (),
        "corrections": {},
    }
    dossier = Dossier(**{name: changed.pop(name, value) for name, value in known.items()})
    given: dict[str, Any] = {"waited": 12.34, "region": "US"}
    view = changed.pop("view", ConversationView())
    ticket = changed.pop("ticket", Ticket("t", "c1", AT))
    return build(view, ticket, dossier, **given, **changed)


def entry(kind: str, **body: Any) -> TimelineEntry:
    return TimelineEntry("c1", AT, kind, body)


def test_what_the_flow_wants_first_comes_first_and_once() -> None:
    card = pop(
        ticket=Ticket("t", "c1", AT, pop=(("account", "12345678"), ("customer.name", "Ann"))),
        view=ConversationView(
            slots={"visit": "2026-11-23", "account": "12345678", "vip": True, "empty": ""}
        ),
    )
    assert [(fact.name, fact.value, fact.first) for fact in card.facts] == [
        ("account", "12345678", True),
        ("customer.name", "Ann", True),
        ("visit", "2026-11-23", False),
        ("vip", "yes", False),
    ]


def test_the_last_utterances_in_their_order() -> None:
    timeline = [entry("said", text=f"prompt {number}") for number in range(20)]
    timeline += [
        entry("heard", text="my bill", confidence=0.9),
        entry("node_entered", text="not an utterance"),
        entry("pressed", digits="1234"),
        entry("pressed", secret=True),
        entry("heard", text=""),
    ]
    card = pop(entries=timeline)
    assert len(card.transcript) == 12
    assert [(line.who, line.text) for line in card.transcript[-3:]] == [
        ("hotline", "prompt 19"),
        ("caller", "my bill"),
        ("caller", "1234"),
    ]


def test_known_name_and_earlier_conversations() -> None:
    past = [
        PastConversation(
            f"o{day}", AT - timedelta(days=day), Channel.VOICE, "main", "done", "n", "bob"
        )
        for day in range(1, 9)
    ]
    card = pop(contact=Contact("k", name="Maria"), earlier=past)
    assert card.earlier[0].channel == "voice"
    assert card.name == "Maria"
    assert len(card.earlier) == 5
    assert (card.earlier[0].topic, card.earlier[0].agent) == ("main", "bob")


@pytest.mark.parametrize(
    ("value", "region", "shown"),
    [
        ("+14155550123", "US", "+1 415-555-0123"),
        ("4155550123", "US", "+1 415-555-0123"),
        ("02079460123", "GB", "+44 20 7946 0123"),
        ("1001", "US", "1001"),
        ("", "US", ""),
        ('"; DROP TABLE', "US", '"; DROP TABLE'),
        ("1\r\n2" + "9" * 4000, "US", "1 2" + "9" * 76 + "…"),
        ("\u202e1234\x00", "US", "1234"),
    ],
)
def test_numbers_are_shown_as_people_write_them(value: str, region: str, shown: str) -> None:
    assert shown_number(value, region) == shown


@given(st.text(alphabet=st.characters(codec=None, categories=None), max_size=300))
def test_clean_text_cannot_steer_the_display(text: str) -> None:
    line = clean(text, 80)
    assert len(line) <= 80
    assert line == line.strip()
    for char in line:
        allowed = unicodedata.category(char) not in {"Cc", "Cs", "Zl", "Zp"}
        assert allowed and char not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    line.encode()


def test_names_in_other_scripts_stay_whole() -> None:
    for name in ("می‌خواهم", "王小明", "Zoë Ångström", "क्‍ष"):
        assert clean(name, 80) == name


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.text(max_size=9), JSON, max_size=5),
    st.lists(st.text(max_size=99), max_size=5),
    st.text(max_size=99),
)
def test_any_conversation_makes_a_small_card(
    slots: dict[str, Any], path: list[str], anything: str
) -> None:
    card = pop(
        view=ConversationView(anything, tuple(path) * 10, slots, anything, anything),
        ticket=Ticket("t", "c1", AT, pop=((anything, anything),) * 40, language=anything),
        leg=Leg("l", "c1", Address(Channel.VOICE, anything), AT, dialled=anything),
        contact=Contact("k", name=anything),
        entries=[entry("heard", text=anything), entry("said", text=slots)] * 40,
    )
    assert len(card.facts) <= 30 and len(card.path) <= 20 and len(card.transcript) <= 12
    text = card.model_dump_json()
    assert json.loads(text)["kind"] == "call"
    assert len(text.encode()) < 64 * 1024


def test_deep_and_huge_values_are_cut() -> None:
    deep: Any = "x"
    for _ in range(500):
        deep = {"in": deep}
    card = pop(view=ConversationView(slots={"deep": deep, "long": "y" * 10_000}))
    assert all(len(fact.value) <= 200 for fact in card.facts)


# --- who it is ------------------------------------------------------------------------------------


def test_a_contact_without_a_name_is_nobody() -> None:
    card = pop(contact=Contact("k9", "", "", ANN.addresses))
    assert (card.contact, card.name, card.matches, card.verified) == (None, "", (), "claimed")


def test_the_only_one_who_has_the_number_is_known() -> None:
    card = pop(contact=ANN, sharing=(ANN,))
    assert card.contact == PopContact(
        id="k1", name="Ann", language="en", numbers=("+1 415-555-0123",)
    )
    assert (card.name, card.matches, card.verified) == ("Ann", (), "known")


def test_of_several_the_agent_chooses() -> None:
    card = pop(contact=Contact("k9"), sharing=(ANN, BOB))
    assert (card.contact, card.name, card.verified) == (None, "", "claimed")
    assert [match.name for match in card.matches] == ["Ann", "Bob"]
    chosen = pop(contact=BOB, sharing=(ANN, BOB))
    assert chosen.contact is not None and chosen.contact.name == "Bob"
    # That somebody has chosen proves nothing, and they may have chosen wrong.
    assert (chosen.verified, len(chosen.matches)) == ("claimed", 2)


def test_somebody_who_calls_from_elsewhere_is_not_known_by_that_number() -> None:
    assert pop(contact=ANN, sharing=()).verified == "claimed"
    assert pop(contact=ANN, sharing=(BOB,)).verified == "claimed"


@pytest.mark.parametrize(
    ("value", "verified"),
    [(True, "verified"), (False, "known"), ("true", "known"), (1, "known"), ({"a": 1}, "known")],
)
def test_a_flow_proves_who_it_is(value: Any, verified: str) -> None:
    card = pop(view=ConversationView(slots={"verified": value}), contact=ANN, sharing=(ANN,))
    assert card.verified == verified


def test_an_agents_word_is_no_proof() -> None:
    assert pop(corrections={"verified": ("yes", "ann")}).verified == "claimed"


# --- what is known --------------------------------------------------------------------------------


def test_what_an_agent_has_corrected_stands_in_place_of_what_was_thought() -> None:
    card = pop(
        ticket=Ticket("t", "c1", AT, pop=(("account", "12345678"),)),
        view=ConversationView(slots={"account": "12345678", "visit": "2026-11-23"}),
        corrections={
            "account": ("12345679", "ann"),
            "company": ("Acme", "bob"),
            "visit": ("", "ann"),
        },
        record=CustomerRecord("ready", (("company", "Old"), ("tier", "gold"))),
    )
    assert [(one.name, one.value, one.first, one.source) for one in card.facts] == [
        ("account", "12345679", True, "ann"),
        ("visit", "", False, "ann"),
        ("company", "Acme", False, "bob"),
        ("tier", "gold", False, "crm"),
    ]


def test_a_record_that_says_otherwise_is_shown_beside() -> None:
    card = pop(
        view=ConversationView(slots={"account": "12345678", "name": "Ann"}),
        record=CustomerRecord("ready", (("account", "87654321"), ("name", "Ann"))),
    )
    assert [(one.name, one.value, one.source) for one in card.facts] == [
        ("account", "12345678", "flow"),
        ("name", "Ann", "flow"),
        ("crm account", "87654321", "crm"),
    ]
    assert card.crm_state == "ready"


def test_notes_of_this_conversation_come_before_older_ones() -> None:
    card = pop(
        entries=[
            entry("noted", agent="ann", note="first"),
            entry("noted", agent="ann", note="second"),
            entry("noted", agent="bob", note=""),
        ],
        notes=[AgentNote("last year", "cat", AT - timedelta(days=300))],
    )
    assert [(note.text, note.agent) for note in card.notes] == [
        ("second", "ann"),
        ("last year", "cat"),
    ]


# --- what was misheard ----------------------------------------------------------------------------


def misheard(*entries: TimelineEntry) -> list[str]:
    return [line.text for line in pop(entries=entries).transcript if line.misheard]


def test_what_fitted_nothing_was_misheard() -> None:
    told = [
        entry("said", text="Billing or repairs?"),
        entry("heard", text="the thing"),
        entry("no_match", node="main", count=1),
        entry("heard", text="billing"),
        entry("matched", choice="billing", node="main"),
    ]
    assert misheard(*told) == ["the thing"]


def test_what_was_taken_for_something_else_was_misheard_and_not_the_no() -> None:
    told = [
        entry("heard", text="fifty"),
        entry("confirming", slots={"amount": 50}),
        entry("said", text="Fifty, right?"),
        entry("heard", text="no"),
        entry("refused", slots={"amount": 50}),
        entry("heard", text="fifteen"),
        entry("slot_filled", slot="amount", value=15),
    ]
    assert misheard(*told) == ["fifty"]


def test_what_was_corrected_later_was_misheard_once() -> None:
    told = [
        entry("heard", text="account one two"),
        entry("slot_filled", slot="account", value="12"),
        entry("heard", text="on Friday"),
        entry("slot_filled", slot="visit", value="2026-11-27"),
        entry("heard", text="no, account one three"),
        entry("corrected", slots={"account": "13"}),
        entry("heard", text="no, one four"),
        entry("corrected", slots={"account": "14"}),
    ]
    assert misheard(*told) == ["account one two", "no, account one three"]


def test_a_choice_that_was_taken_back_was_misheard() -> None:
    told = [
        entry("heard", text="bill please"),
        entry("confirming", choice="billing"),
        entry("heard", text="no"),
        entry("refused", choice="billing"),
        entry("heard", secret=True),
        entry("no_match", node="pin", count=1),
    ]
    assert misheard(*told) == ["bill please"]


# --- whatever it is -------------------------------------------------------------------------------


def plain(card: PopCard) -> None:
    text = card.model_dump_json()
    assert len(text.encode()) < 64 * 1024
    shown = json.dumps(json.loads(text), ensure_ascii=False)
    for char in shown:
        kind = unicodedata.category(char)
        assert kind not in {"Cc", "Cs", "Zl", "Zp"}, repr(char)
        assert kind != "Cf" or char in "\u200c\u200d", repr(char)


@pytest.mark.parametrize("payload", payloads(), ids=lambda text: ascii(text)[:30])
def test_a_payload_is_plain_text_wherever_it_stands(payload: str) -> None:
    person = Contact("k9", payload, payload, (Address(Channel.VOICE, payload),))
    card = pop(
        view=ConversationView(payload, (payload,), {payload: payload, "in": [payload]}, payload),
        ticket=Ticket("t", "c1", AT, pop=((payload, payload),)),
        leg=Leg("l1", "c1", Address(Channel.VOICE, payload), AT, dialled=payload),
        contact=person,
        sharing=(person, ANN),
        entries=[entry("heard", text=payload), entry("noted", agent=payload, note=payload)],
        notes=[AgentNote(payload, payload, AT)],
        earlier=[PastConversation("o", AT, Channel.SMS, payload, payload, payload, payload)],
        corrections={payload: (payload, "ann")},
        record=CustomerRecord("ready", ((payload, payload),)),
    )
    plain(card)


@pytest.mark.parametrize("char", ["\U0001f600", '"', "\\", "王", "<", "a"])
def test_a_card_that_is_full_everywhere_stays_small(char: str) -> None:
    long = char * 5000
    person = Contact("k", long, "en", (Address(Channel.VOICE, long),) * 50)
    past = PastConversation("o", AT, Channel.VOICE, long, long, long, long)
    card = pop(
        view=ConversationView(long, (long,) * 99, {f"{n}{long}": long for n in range(99)}, long),
        ticket=Ticket("t", "c1", AT, pop=tuple((f"p{n}{long}", long) for n in range(99))),
        leg=Leg("l1", "c1", Address(Channel.VOICE, long), AT, dialled=long),
        contact=person,
        sharing=(person,) * 10,
        entries=[entry("heard", text=long), entry("noted", agent="a", note=long)] * 99,
        notes=[AgentNote(long, long, AT)] * 10,
        earlier=[past] * 10,
        corrections={f"{n}{long}": (long, "ann") for n in range(30)},
        record=CustomerRecord("ready", tuple((f"c{n}{long}", long) for n in range(30))),
    )
    plain(card)
    assert card.facts and card.transcript and card.notes and card.earlier and card.path
