"""The card: the useful first, and nothing on it that a caller could use against the page."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cti.protocol import PopCard
from cti.screenpop import ConversationView, ScreenPop, build, clean, shown_number
from ivr.model import Address, Channel, Contact, Leg, PastConversation, Ticket, TimelineEntry

AT = datetime(2026, 11, 20, 10, tzinfo=UTC)


def pop(**changed: Any) -> ScreenPop:
    values: dict[str, Any] = {
        "view": ConversationView(),
        "ticket": Ticket("t", "c1", AT),
        "leg": Leg("l1", "c1", Address(Channel.VOICE, "+14155550123"), AT, dialled="100"),
        "contact": None,
        "earlier": [],
        "timeline": [],
        "waited": 12.34,
        "region": "US",
        **changed,
    }
    return build(values.pop("view"), values.pop("ticket"), values.pop("leg"), **values)


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
    card = pop(timeline=timeline)
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
        timeline=[entry("heard", text=anything), entry("said", text=slots)] * 40,
    )
    assert len(card.facts) <= 30 and len(card.path) <= 20 and len(card.transcript) <= 12
    text = PopCard.model_validate(card, from_attributes=True).model_dump_json()
    assert json.loads(text)["kind"] == "call"
    assert len(text.encode()) < 64 * 1024


def test_deep_and_huge_values_are_cut() -> None:
    deep: Any = "x"
    for _ in range(500):
        deep = {"in": deep}
    card = pop(view=ConversationView(slots={"deep": deep, "long": "y" * 10_000}))
    assert all(len(fact.value) <= 200 for fact in card.facts)
