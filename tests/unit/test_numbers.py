"""One telephone number is one address, however somebody writes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.model import Address, Channel
from ivr.numbers import caller_address, is_nobody, normalised

SAN_FRANCISCO, LONDON = "+14155550123", "+442079460123"


@pytest.mark.parametrize(
    ("number", "region", "e164"),
    [
        ("+1 (415) 555-0123", "US", SAN_FRANCISCO),
        ("415.555.0123", "US", SAN_FRANCISCO),
        ("1-415-555-0123", "US", SAN_FRANCISCO),
        ("４１５ ５５５ ０１２３", "US", SAN_FRANCISCO),
        ("+1\u2011415\u2011555\u20110123", "GB", SAN_FRANCISCO),
        ("00 1 415 555 0123", "GB", SAN_FRANCISCO),
        ("020/7946 0123", "GB", LONDON),
        ("+44 (0)20 7946 0123", "US", LONDON),
        ("011 44 20 7946 0123", "US", LONDON),
        ("139 0013 9000", "CN", "+8613900139000"),
        ("5550123", "US", ""),
        ("1001", "US", ""),
        ("", "US", ""),
        ("anonymous", "US", ""),
        ("+1415555abc0123", "US", ""),
        ("+" + "1" * 60, "US", ""),
    ],
)
def test_a_number_in_any_writing(number: str, region: str, e164: str) -> None:
    assert normalised(number, region) == e164


def test_what_is_no_number_stays_as_it_came() -> None:
    assert caller_address("1001", "US") == Address(Channel.VOICE, "1001")
    assert caller_address("unknown", "US") == Address(Channel.VOICE, "")
    assert caller_address("ann\r\n\x00@example.com", "US").value == "ann@example.com"
    assert len(caller_address("x" * 1000, "US").value) == 64


@pytest.mark.parametrize("value", ["", " ", "anonymous", "Restricted", "UNKNOWN"])
def test_a_withheld_number_is_nobodys(value: str) -> None:
    assert is_nobody(Address(Channel.VOICE, value))
    assert not is_nobody(Address(Channel.VOICE, value + "1"))


@given(st.text(max_size=80))
def test_nothing_hurts(text: str) -> None:
    e164 = normalised(text, "US")
    assert not e164 or normalised(e164, "GB") == e164
    assert len(caller_address(text, "US").value) <= 64
