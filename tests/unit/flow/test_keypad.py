"""The keypad: keys pressed ahead are cut into the answers to one question after the other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.flow import keypad
from ivr.flow.events import Keypad
from ivr.flow.keypad import KeysRead

MENU = Keypad(options=("1", "2", "0"))
LONG = Keypad(options=("1", "10", "12"))
ACCOUNT = Keypad(minimum=8, maximum=8)
AMOUNT = Keypad(minimum=1, maximum=6)


@pytest.mark.parametrize(
    ("asked", "keys", "expected"),
    [
        (MENU, "", KeysRead("empty")),
        (MENU, "1", KeysRead("complete", "1")),
        (MENU, "112345678", KeysRead("complete", "1", "12345678")),
        (MENU, "5", KeysRead("complete", "5")),
        (LONG, "1", KeysRead("partial", "1")),
        (LONG, "10", KeysRead("complete", "10")),
        (LONG, "13", KeysRead("complete", "1", "3")),
        (LONG, "2", KeysRead("complete", "2")),
        (ACCOUNT, "1234567", KeysRead("partial", "1234567")),
        (ACCOUNT, "12345678", KeysRead("complete", "12345678")),
        (ACCOUNT, "123456789", KeysRead("complete", "12345678", "9")),
        (ACCOUNT, "12345678#1", KeysRead("complete", "12345678", "1")),
        (ACCOUNT, "123#", KeysRead("complete", "123")),
        (AMOUNT, "12*50#", KeysRead("complete", "12*50")),
        (AMOUNT, "12", KeysRead("partial", "12")),
    ],
)
def test_an_answer_is_cut_off_the_beginning(asked: Keypad, keys: str, expected: KeysRead) -> None:
    assert keypad.read(asked, keys) == expected


@pytest.mark.parametrize(
    ("asked", "keys", "expected"),
    [
        (MENU, "", KeysRead("empty")),
        (LONG, "1", KeysRead("complete", "1")),
        (AMOUNT, "12", KeysRead("complete", "12")),
        (ACCOUNT, "123", KeysRead("complete", "123")),
    ],
)
def test_a_pause_takes_what_there_is(asked: Keypad, keys: str, expected: KeysRead) -> None:
    assert keypad.flush(asked, keys) == expected


KEYPADS = st.builds(
    Keypad,
    options=st.lists(st.text("0123456789*#", min_size=1, max_size=4), max_size=5).map(tuple),
    minimum=st.integers(0, 3),
    maximum=st.integers(0, 8),
)


@given(KEYPADS, st.text("0123456789*#ABCD", max_size=30))
def test_no_key_is_lost_but_terminators_and_the_end_is_always_reached(
    asked: Keypad, keys: str
) -> None:
    rest, cut = keys, ""
    for _ in range(len(keys) + 1):
        now = keypad.read(asked, rest)
        if now.status == "partial":
            now = keypad.flush(asked, rest)
        if now.status == "empty":
            break
        cut, rest = cut + now.digits, now.rest
    assert rest == ""
    assert cut.replace("#", "") == keys.replace("#", "")
