"""FastAGI's text: what Asterisk says, however it is split, and what a caller smuggles into it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.errors import LocalProtocolError, RemoteProtocolError
from ivr.wire.agi import (
    LONGEST_LINE,
    AgiEvent,
    AgiReader,
    AgiReply,
    AgiRequest,
    HungUp,
    application,
    command,
)

ENVIRONMENT = (
    "agi_network: yes\nagi_network_script: call\nagi_request: agi://127.0.0.1:4573/call\n"
    "agi_channel: PJSIP/trunk-00000001\nagi_language: en\nagi_type: PJSIP\n"
    "agi_uniqueid: 1795293898.1\nagi_version: 22.10.1\nagi_callerid: {number}\n"
    "agi_calleridname: {name}\nagi_context: hotline\nagi_extension: 100\nagi_priority: 7\n"
    "agi_enhanced: 0.0\nagi_arg_1: one\nagi_arg_2: \n\n"
)


def environment(number: str = "4155550123", name: str = "Ann") -> bytes:
    return ENVIRONMENT.format(number=number, name=name).encode()


def read(data: bytes) -> list[AgiEvent]:
    return AgiReader().receive_data(data)


def replies(text: str) -> list[AgiEvent]:
    reader = AgiReader()
    reader.receive_data(environment())
    return reader.receive_data(text.encode())


def test_the_request_names_the_call() -> None:
    assert read(environment()) == [
        AgiRequest(
            channel="PJSIP/trunk-00000001",
            unique_id="1795293898.1",
            script="call",
            caller_id="4155550123",
            caller_name="Ann",
            extension="100",
            context="hotline",
            language="en",
            arguments=("one", ""),
        )
    ]


def test_an_unknown_caller_has_no_number() -> None:
    (request,) = read(environment("unknown", "unknown"))
    assert isinstance(request, AgiRequest)
    assert (request.caller_id, request.caller_name) == ("", "")


@pytest.mark.parametrize(
    "caller",
    ['"; DROP TABLE contacts', "9" * 4000, "王小明", "a\rb", "agi_x: y", "${SHELL(id)}", ""],
)
def test_a_hostile_caller_id_is_data(caller: str) -> None:
    (request,) = read(environment(caller, caller))
    assert isinstance(request, AgiRequest)
    assert request.caller_id == request.caller_name == caller
    assert request.extension == "100"


@pytest.mark.parametrize(
    "caller",
    ["x\nagi_channel: PJSIP/other", "x\nagi_extension: 911", "x\nevil", "x\n200 result=1", "x\n\n"],
)
def test_a_line_break_in_a_caller_id_never_becomes_a_header(caller: str) -> None:
    reader = AgiReader()
    with pytest.raises(RemoteProtocolError) as caught:
        reader.receive_data(environment(caller))
        reader.receive_data(b"200 result=0\n")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"agi_channel: " + b"x" * (LONGEST_LINE + 1), "line of more than"),
        (b"agi_channel: " + b"x" * (LONGEST_LINE + 1) + b"\n", "line of more than"),
        (b"".join(b"agi_h%d: x\n" % n for n in range(200)), "more than 128"),
        (b"GET / HTTP/1.1\r\n", "not 'agi_name: value'"),
        (b"\n", "without agi_channel"),
        (b"agi_channel: x\n\n", "without agi_uniqueid"),
    ],
)
def test_what_is_no_request_is_refused_in_one_line(data: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason) as caught:
        read(data)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ("200 result=0\n", AgiReply(200, "0")),
        ("200 result=1 (value)\n", AgiReply(200, "1", "value")),
        ("200 result=1 (a (b) c)\n", AgiReply(200, "1", "a (b) c")),
        ("200 result=1 ()\n", AgiReply(200, "1", "")),
        ("200 result=1 (two\nlines)\n", AgiReply(200, "1", "two\nlines")),
        ("200 result=0 endpos=4000\n", AgiReply(200, "0", "endpos=4000")),
        ("200 result=-1\n", AgiReply(200, "-1")),
        ("510 Invalid or unknown command\n", AgiReply(510, "", "Invalid or unknown command")),
        ("511 Command Not Permitted\n", AgiReply(511, "", "Command Not Permitted")),
        ("HANGUP\n", HungUp()),
        ("100 Trying...\n200 result=3\n", AgiReply(200, "3")),
    ],
)
def test_replies(text: str, event: AgiEvent) -> None:
    assert replies(text) == [event]


def test_usage_is_read_to_its_end() -> None:
    text = "520-Invalid command syntax.  Proper usage follows:\nUsage: ANSWER\n520 End of usage.\n"
    (reply,) = replies(text + "")
    assert isinstance(reply, AgiReply)
    assert reply.code == 520
    assert replies(text + "200 result=0\n")[1:] == [AgiReply(200, "0")]


@pytest.mark.parametrize("text", ["what\n", "\n", "20 result=1\n", "520-x\n" + "y\n" * 300])
def test_what_is_no_reply_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        replies(text)


WHOLE = environment("王") + b"200 result=1 (x\ny)\nHANGUP\n520-a\nb\n520 c\n511 gone\n"


@pytest.mark.parametrize("size", range(1, 40))
def test_every_size_of_piece_reads_the_same(size: int) -> None:
    reader = AgiReader()
    events: list[AgiEvent] = []
    for at in range(0, len(WHOLE), size):
        events += reader.receive_data(WHOLE[at : at + size])
    assert events == read(WHOLE)
    assert len(events) == 5


@pytest.mark.parametrize("split", range(len(WHOLE)))
def test_every_split_and_truncation_reads_the_same(split: int) -> None:
    reader = AgiReader()
    first = reader.receive_data(WHOLE[:split])
    assert first == read(WHOLE)[: len(first)]
    assert first + reader.receive_data(WHOLE[split:]) == read(WHOLE)


@given(at=st.integers(0, len(WHOLE) - 1), byte=st.binary(max_size=3))
def test_mutated_input_is_data_or_one_clear_error(at: int, byte: bytes) -> None:
    try:
        read(WHOLE[:at] + byte + WHOLE[at + 1 :])
    except RemoteProtocolError as error:
        assert "\n" not in str(error)


@given(st.binary())
def test_garbage_is_data_or_one_clear_error(data: bytes) -> None:
    try:
        read(data)
    except RemoteProtocolError as error:
        assert "\n" not in str(error)


def unquote(line: bytes) -> list[str]:
    """Asterisk's `parse_args`."""
    words: list[str] = []
    quoted = escaped = False
    between = True
    for char in line.decode().removesuffix("\n"):
        if char == '"' and not escaped:
            quoted = not quoted
            if quoted and between:
                words.append("")
                between = False
        elif char in " \t" and not quoted and not escaped:
            between = True
        elif char == "\\" and not escaped:
            escaped = True
            continue
        else:
            if between:
                words.append("")
                between = False
            words[-1] += char
        escaped = False
    return words


def separate(text: str) -> list[str]:
    """Asterisk's `__ast_app_separate_args` with commas, which removes quotes and backslashes."""
    arguments, depth, brackets, quoted = [""], 0, 0, False
    chars = iter(text)
    for char in chars:
        if char == "\\":
            arguments[-1] += next(chars, "")
        elif char == '"':
            quoted = not quoted
        elif char == "," and not (quoted or depth or brackets):
            arguments.append("")
        else:
            depth += {"(": 1, ")": -1}.get(char, 0)
            brackets += {"[": 1, "]": -1}.get(char, 0)
            arguments[-1] += char
    return arguments


LINE = st.text(
    st.characters(blacklist_characters="\r\n\0", blacklist_categories=["Cs"]), max_size=60
)


@given(st.lists(LINE, min_size=1, max_size=6))
def test_every_word_arrives_as_it_was(words: list[str]) -> None:
    assert unquote(command("SET", *words)) == ["SET", *words]


@given(st.lists(LINE, min_size=1, max_size=5))
def test_every_argument_of_an_application_arrives_as_it_was(arguments: list[str]) -> None:
    verb, name, joined = unquote(application("Dial", *arguments))
    assert (verb, name) == ("EXEC", "Dial")
    assert separate(joined) == arguments


@pytest.mark.parametrize("word", ["a\nb", "a\rHANGUP", "a\0b", "x" * 2001])
def test_what_agi_cannot_carry_is_our_bug(word: str) -> None:
    with pytest.raises(LocalProtocolError):
        command("SET", "VARIABLE", "name", word)
    with pytest.raises(LocalProtocolError):
        application("Dial", word)
