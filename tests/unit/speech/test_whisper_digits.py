"""What a search among strings of digits tries next, and what it does not believe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.speech.whisper_digits import neighbours, rushed
from ivr.speech.whisper_spelling import digit_words, figures, spaced

NAMES = digit_words("en", False)
STRING = ("one", "three", "eight", "zero")


def test_every_digit_is_tried_at_an_unsure_place() -> None:
    tried = neighbours(STRING, [1], NAMES, [4])
    assert {one[1] for one in tried if one[0] == "one" and one[2:] == STRING[2:]} == {*NAMES} - {
        "three"
    }


def test_neighbours_are_swapped_and_a_doubled_word_gives_way_to_a_missing_one() -> None:
    tried = neighbours(("one", "one", "three", "eight"), [1, 3], NAMES, [4])
    assert ("one", "three", "one", "eight") in tried
    assert ("one", "three", "eight", "eight") in tried


def test_another_length_is_tried_only_where_it_may_be() -> None:
    assert {len(one) for one in neighbours(STRING, [2], NAMES, [4])} == {4}
    assert {len(one) for one in neighbours(STRING, [2], NAMES, [3, 4, 5])} == {3, 4, 5}


def test_zero_may_be_called_oh() -> None:
    names = digit_words("en", True)
    tried = neighbours(STRING, [3], names, [4])
    assert ("one", "three", "eight", "oh") in tried


@given(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=10).map(tuple),
    st.lists(st.integers(0, 9), max_size=3),
)
def test_a_string_is_never_its_own_neighbour(words: tuple[str, ...], places: list[int]) -> None:
    unsure = [place for place in places if place < len(words)]
    tried = neighbours(words, unsure, NAMES, [len(words)])
    assert words not in tried
    assert len(set(tried)) == len(tried)


def test_a_word_needs_time_of_its_own() -> None:
    even = {0: 0.0, 1: 0.3, 2: 0.6}
    assert rushed([1, 1, 1], even, 0.9) == 0
    doubled = {0: 0.0, 1: 0.3, 2: 0.33}
    assert rushed([1, 1, 1], doubled, 0.9) == pytest.approx(50 * 0.09)
    assert rushed([1, 2], {0: 0.0, 1: 0.4, 2: 0.41}, 0.9) == 0  # two tokens are one word
    assert rushed([1, 1], {0: 0.0}, 0.5) > 0  # what begins nowhere has no time at all


@pytest.mark.parametrize("language", ["en", "zh"])
def test_names_of_digits_are_read_back_as_figures(language: str) -> None:
    assert figures(spaced(digit_words(language, False), language)) == "0123456789"
