"""Two sides of a call stay together, however the network brings them."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from ivr.wire.duplex import MOST_AHEAD, STEREO_BYTES, Duplex


def frame(level: int) -> bytes:
    return struct.pack("<h", level) * 160


def levels(stereo: bytes) -> list[tuple[int, int]]:
    """The two sides' levels, frame by frame."""
    return [struct.unpack_from("<hh", stereo, at) for at in range(0, len(stereo), STEREO_BYTES)]


def test_each_side_has_its_channel() -> None:
    both = Duplex()
    for level in (1, 2):
        both.left(frame(level))
        both.right(frame(-level))
        both.tick()
    taken = both.take()
    assert levels(taken) == [(1, -1), (2, -2)]
    assert taken == struct.pack("<hh", 1, -1) * 160 + struct.pack("<hh", 2, -2) * 160
    assert both.take() == b""


def test_a_side_that_is_missing_is_silent() -> None:
    both = Duplex()
    both.right(frame(7))
    both.tick()
    both.left(frame(5))
    both.tick()
    assert levels(both.take()) == [(0, 7), (5, 0)]


def test_what_is_forgotten_is_not_heard_later() -> None:
    both = Duplex()
    both.left(frame(9))
    both.forget()
    both.tick()
    assert levels(both.take()) == [(0, 0)]


@given(st.lists(st.tuples(st.integers(0, 25), st.integers(0, 2)), max_size=60))
def test_the_clock_alone_decides_how_long_it_is(arrivals: list[tuple[int, int]]) -> None:
    both = Duplex()
    came = 0
    for lefts, rights in arrivals:
        for _ in range(lefts):
            came += 1
            both.left(frame(came))
        for _ in range(rights):
            both.right(frame(-1))
        both.tick()
    heard = [left for left, _ in levels(both.take())]
    assert len(heard) == len(arrivals)
    said = [level for level in heard if level]
    assert said == sorted(set(said))  # in order, nothing twice
    if said and heard[-1]:
        assert came - heard[-1] < MOST_AHEAD  # never further behind than the bound
