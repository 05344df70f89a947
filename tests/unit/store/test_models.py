"""Whatever a caller sends can be written as JSON and text that both databases hold."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr import timeline as told
from ivr.store.models import TIMELINE_KINDS, clean, timeline, to_json

anything = st.text(st.characters(codec=None))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | anything,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(anything, inner, max_size=4),
    max_leaves=12,
)


@given(anything)
def test_cleaned_text_can_be_stored(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode()
    assert "\0" not in cleaned
    assert clean(cleaned) == cleaned


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_harmless_text_is_left_alone(text: str) -> None:
    assert clean(text) == text


def test_a_pair_of_surrogates_is_the_character_that_it_means() -> None:
    assert clean("\ud83d\ude00 \ud83d") == "😀 \ufffd"


@given(json_values)
def test_any_value_becomes_json_that_can_be_stored(value: Any) -> None:
    text = to_json(value)
    text.encode()
    json.loads(text, parse_constant=pytest.fail)
    assert "\0" not in str(json.loads(text))


@given(st.lists(st.integers() | st.text(st.characters(codec="utf-8", exclude_characters="\0"))))
def test_harmless_values_come_back_as_they_were(value: list[Any]) -> None:
    assert json.loads(to_json(value)) == value


def test_read_only_mappings_and_sets_are_values_too() -> None:
    value = {"slots": MappingProxyType({"a": 1}), "skills": frozenset({"b", "a"})}
    assert json.loads(to_json(value)) == {"slots": {"a": 1}, "skills": ["a", "b"]}


def test_what_is_no_value_is_refused() -> None:
    with pytest.raises(TypeError, match="object is not a JSON value"):
        to_json({"a": object()})


def test_every_kind_fits_its_column_and_has_a_meaning() -> None:
    longest = timeline.c.kind.type.length
    assert all(len(kind) <= longest and meaning for kind, meaning in TIMELINE_KINDS.items())


def test_every_kind_that_an_event_is_written_as_is_in_the_vocabulary() -> None:
    assert set(TIMELINE_KINDS) >= told.EVENT_KINDS
