"""The protocol: its documentation is true, and nothing that a peer sends can do more than fail."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cti import protocol
from cti.protocol import ClientMessage, ServerMessage, encode, parse_client, parse_server
from cti.web import LoginAnswer, LoginRequest
from ivr.errors import RemoteProtocolError

DOCUMENT = Path(__file__).parents[3] / "docs" / "agent-protocol.md"
EXAMPLES = re.findall(r"```json (\w+)\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
READERS: dict[str, Any] = {
    "client": parse_client,
    "server": parse_server,
    "request": LoginRequest.model_validate_json,
    "response": LoginAnswer.model_validate_json,
}


@pytest.mark.parametrize(("side", "example"), EXAMPLES)
def test_every_example_in_the_documentation_is_valid(side: str, example: str) -> None:
    message = READERS[side](example)
    assert json.loads(message.model_dump_json()).keys() >= json.loads(example).keys()


@pytest.mark.parametrize(("side", "union"), [("client", ClientMessage), ("server", ServerMessage)])
def test_every_message_has_an_example(side: str, union: Any) -> None:
    kinds = {kind.model_fields["type"].default for kind in get_args(union)}
    shown = {json.loads(example)["type"] for where, example in EXAMPLES if where == side}
    assert shown == kinds


@pytest.mark.parametrize("example", [text for side, text in EXAMPLES if side == "server"])
def test_server_messages_survive_the_wire(example: str) -> None:
    message = parse_server(example)
    again = parse_server(encode(message, 77))
    assert again.n == 77
    assert again.model_copy(update={"n": message.n}) == message


CLIENT_EXAMPLES = [" ".join(text.split()) for side, text in EXAMPLES if side == "client"]


@pytest.mark.parametrize("example", CLIENT_EXAMPLES)
def test_no_beginning_of_a_message_is_a_message(example: str) -> None:
    for length in range(len(example)):
        with pytest.raises(RemoteProtocolError):
            parse_client(example[:length])


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(CLIENT_EXAMPLES), st.integers(0, 200), st.binary(max_size=4))
def test_mutated_messages_fail_in_one_line(example: str, at: int, noise: bytes) -> None:
    raw = example.encode()
    mutated = raw[:at] + noise + raw[at + len(noise) :]
    try:
        parse_client(mutated)
    except RemoteProtocolError as error:
        assert "\n" not in str(error) and len(str(error)) < 400


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.characters(codec=None, categories=None)) | st.binary())
def test_anything_else_fails_in_one_line(anything: str | bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_client(anything)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"v": 2, "type": "ping"}', "v: "),
        ('{"type": "fly"}', "fly"),
        ('{"v": 1}', "type"),
        ('{"type": "presence", "to": "king"}', "to: "),
        ('{"type": "note", "conversation": "c1", "text": "x", "html": "<b>"}', "html"),
        ('{"type": "done", "conversation": "../../etc"}', "conversation"),
        ('{"type": "note", "conversation": "c", "text": "' + "x" * 4001 + '"}', "text"),
        ('{"type": "note", "conversation": "c", "disposition": "fun"}', "disposition"),
        ('"' + "x" * protocol.MAX_CLIENT_BYTES + '"', "bytes"),
        ("[" * 10_000, "message"),
    ],
)
def test_what_is_wrong_is_named(text: str, says: str) -> None:
    with pytest.raises(RemoteProtocolError, match=re.escape(says)):
        parse_client(text)


def test_a_note_keeps_its_lines_and_loses_controls() -> None:
    text = json.dumps({"type": "note", "conversation": "c", "text": "a\nb\tc\x00\x1b[31m\r\nd"})
    message = parse_client(text)
    assert isinstance(message, protocol.WriteNote)
    assert message.text == "a\nb\tc[31m\nd"


def test_the_longest_note_in_any_script_fits_a_frame() -> None:
    note = protocol.WriteNote(conversation="c" * 64, text="😀" * 4000)
    assert parse_client(note.model_dump_json()) == note


def test_a_field_that_nobody_knows_is_named_in_one_line() -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        parse_client('{"type": "ping", "a\\nb": 1}')
    assert "\n" not in str(refused.value)
