"""Whatever comes over the wire is understood, or refused in one line."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ivr.errors import RemoteProtocolError
from ivr.flow.events import Grammar
from ivr.speech.engines import Reading
from ivr.speech.messages import (
    config_message,
    joined,
    parse_config,
    parse_message,
    parse_result,
    result_message,
)


def test_a_grammar_arrives_as_it_was_sent() -> None:
    for value in ((), ("digits", 8, 8), ("date",)):
        grammar = Grammar("zh", ("账单", "报修"), ("一", "二"), *value)
        assert parse_config(json.loads(config_message(grammar)), "zh") == grammar


def test_results_of_one_utterance_are_joined() -> None:
    parts = [Reading("my", 1.0), Reading("", 0.0), Reading("bill", 0.5)]
    assert joined(parts, "en") == Reading("my bill", 0.75)
    assert joined([Reading("", 0.0)] * 2, "en") == Reading("", 0.0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={"sample_rate": JSON, "phrase_list": JSON, "phrases": JSON, "word_list": JSON}
        | {"value": JSON | st.fixed_dictionaries({"kind": st.just("digits"), "minimum": JSON})},
    )
)
def test_a_configuration_is_a_grammar_or_refused(config: dict[str, Any]) -> None:
    try:
        grammar = parse_config({"config": config}, "en")
    except RemoteProtocolError as error:
        assert "\n" not in str(error)
    else:
        assert all(isinstance(text, str) for text in (*grammar.phrases, *grammar.words))


def test_a_result_survives_json() -> None:
    message = json.loads(result_message(Reading("我要报修", 0.8), peek=True))
    assert message["text"] == "我要报修" and message["peek"]


@given(st.text(max_size=60) | st.binary(max_size=60))
def test_any_message_is_understood_or_refused(raw: str | bytes) -> None:
    try:
        message = parse_message(raw)
        parse_result(message, "en")
    except RemoteProtocolError as error:
        assert "\n" not in str(error)


@given(
    st.dictionaries(
        st.sampled_from(["text", "result", "confidence", "alternatives"]),
        st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
    )
)
def test_any_result_is_understood_or_refused(message: dict[str, Any]) -> None:
    try:
        reading = parse_result(message, "en")
    except RemoteProtocolError:
        return
    assert isinstance(reading.text, str)


def test_chinese_words_are_joined_and_unknown_ones_left_out() -> None:
    message = {"text": "查询 [unk] 账单", "result": []}
    assert parse_result(message, "zh").text == "查询账单"
