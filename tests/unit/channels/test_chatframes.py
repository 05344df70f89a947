"""The chat's protocol: the page that describes it is true, and nothing that comes breaks it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.channels import chatframes as frames
from ivr.errors import RemoteProtocolError

PAGE = (Path(__file__).parents[3] / "docs/chat-protocol.md").read_text(encoding="utf-8")
EXAMPLES = {
    side: re.findall(rf"^```json {side}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for side in ("client", "server")
}


def test_every_message_is_on_the_page_and_every_example_is_read() -> None:
    for side, parse, kinds in (
        ("client", frames.parse_client, get_args(frames.ClientFrame)),
        ("server", frames.parse_server, get_args(frames.ServerFrame)),
    ):
        shown = {type(parse(example)) for example in EXAMPLES[side]}
        assert shown == set(kinds), side


@pytest.mark.parametrize("example", EXAMPLES["client"])
def test_an_example_cut_anywhere_is_refused_in_one_line(example: str) -> None:
    for end in range(len(example.rstrip())):
        with pytest.raises(RemoteProtocolError) as refused:
            frames.parse_client(example[:end])
        assert "\n" not in str(refused.value)


@given(st.binary(max_size=300) | st.text(max_size=300))
def test_anything_at_all_is_a_frame_or_refused(text: bytes | str) -> None:
    try:
        frames.parse_client(text)
    except RemoteProtocolError as refused:
        assert len(str(refused)) < 400


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(st.sampled_from(EXAMPLES["client"]), st.text(max_size=8), _JSON)
def test_a_field_changed_to_anything_is_a_frame_or_refused(
    example: str, name: str, value: object
) -> None:
    changed = json.loads(example)
    for field in (name, *changed):
        try:
            frames.parse_client(json.dumps({**changed, field: value}))
        except RemoteProtocolError as refused:
            assert "\n" not in str(refused)


def test_a_text_is_cleaned_and_one_of_nothing_is_refused() -> None:
    written = frames.parse_client(json.dumps({"type": "text", "id": "a", "text": "a\u0000b\u0007"}))
    assert isinstance(written, frames.Write) and written.text == "ab"
    with pytest.raises(RemoteProtocolError, match="nothing in this text"):
        frames.parse_client(json.dumps({"type": "text", "id": "a", "text": " \n "}))


def test_no_frame_is_larger_than_is_taken() -> None:
    with pytest.raises(RemoteProtocolError, match="at most 32768"):
        frames.parse_client(" " * (frames.MAX_BYTES + 1))
