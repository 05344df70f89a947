"""FastAGI's text protocol without I/O: what Asterisk says about a call, our commands, its replies.

Source: https://docs.asterisk.org/Configuration/Interfaces/Asterisk-Gateway-Interface-AGI/ and, for
quoting and limits, `res/res_agi.c` and `main/app.c` of Asterisk 22.

Asterisk does not escape what it sends: a caller's name with a line break in it would look like
another header. So a header that comes twice, or is none, ends the connection; and what came before
the caller's own words cannot be overwritten by them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ivr.errors import LocalProtocolError, RemoteProtocolError

LONGEST_LINE = 8192
MOST_HEADERS = 128
LONGEST_COMMAND = 2000
"""Bytes. Asterisk reads commands into 2,048 bytes, and would take the rest as another command."""

_MOST_REPLY_LINES = 200
_HEADER = re.compile(r"agi_([a-z0-9_]+): ?(.*)", re.DOTALL)
_REPLY = re.compile(r"(\d{3})(?: result=(\S*))?(?: (.*))?", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z0-9_./:@+-]+")
_NEVER = re.compile(r"[\r\n\0]")
_SEPARATING = re.compile(r'([\\,"()\[\]])')


@dataclass(frozen=True, slots=True)
class AgiRequest:
    """One call, as Asterisk introduces it. Number and name are what the caller claims; "" is none.

    `script` is the path of the dialplan's agi:// address, `extension` what was dialled.
    """

    channel: str
    unique_id: str
    script: str = ""
    caller_id: str = ""
    caller_name: str = ""
    extension: str = ""
    context: str = ""
    language: str = ""
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AgiReply:
    """Asterisk's answer to one command: 200 is fine, 510 unknown, 511 dead channel, 520 usage.

    `result` is the word after `result=`, `data` what stands in parentheses, or the error's text.
    """

    code: int
    result: str = ""
    data: str = ""


@dataclass(frozen=True, slots=True)
class HungUp:
    """The caller is gone; commands still get an answer, but not a useful one."""


AgiEvent = AgiRequest | AgiReply | HungUp


def command(*words: str) -> bytes:
    """One command line; every word is one argument, whatever is in it."""
    for word in words:
        if _NEVER.search(word):
            raise LocalProtocolError(f"AGI cannot carry a line break or NUL: {word[:80]!r}")
    line = " ".join(word if _PLAIN.fullmatch(word) else _quoted(word) for word in words)
    encoded = line.encode("utf-8", "replace") + b"\n"
    if len(encoded) > LONGEST_COMMAND:
        raise LocalProtocolError(f"AGI command of {len(encoded)} bytes: {line[:80]!r}…")
    return encoded


def application(name: str, *arguments: str) -> bytes:
    """The command that runs a dialplan application. Commas and the like in an argument are data."""
    escaped = ",".join(_SEPARATING.sub(r"\\\1", argument) for argument in arguments)
    return command("EXEC", name, escaped)


def _quoted(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


class AgiReader:
    """Turns the bytes of one connection into events, however they are split."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._headers: dict[str, str] | None = {}
        self._reply: list[str] = []

    def receive_data(self, data: bytes) -> list[AgiEvent]:
        """Raises RemoteProtocolError; the connection is then of no more use."""
        self._buffer += data
        events: list[AgiEvent] = []
        while (end := self._buffer.find(b"\n")) >= 0:
            if end > LONGEST_LINE:
                break
            line = self._buffer[:end].decode("utf-8", "replace")
            del self._buffer[: end + 1]
            event = self._header(line) if self._headers is not None else self._reply_line(line)
            if event is not None:
                events.append(event)
        if len(self._buffer) > LONGEST_LINE:
            raise RemoteProtocolError(f"AGI line of more than {LONGEST_LINE} bytes")
        return events

    def _header(self, line: str) -> AgiRequest | None:
        assert self._headers is not None
        if line in ("", "\r"):
            request = _request(self._headers)
            self._headers = None
            return request
        match = _HEADER.fullmatch(line)
        number = len(self._headers) + 1
        if match is None:
            raise RemoteProtocolError(
                f"AGI header {number} is not 'agi_name: value' (a line break in a caller ID?): "
                f"{line[:80]!r}"
            )
        name, value = match.groups()
        if name in self._headers:
            raise RemoteProtocolError(
                f"AGI header agi_{name} came twice (a line break in a caller ID?): {value[:80]!r}"
            )
        if number > MOST_HEADERS:
            raise RemoteProtocolError(f"more than {MOST_HEADERS} AGI headers")
        self._headers[name] = value.removesuffix("\r")
        return None

    def _reply_line(self, line: str) -> AgiReply | HungUp | None:
        if not self._reply and line == "HANGUP":
            return HungUp()
        self._reply.append(line)
        first = self._reply[0]
        if len(self._reply) > _MOST_REPLY_LINES:
            raise RemoteProtocolError(f"AGI reply without an end: {first[:80]!r}")
        if first.startswith("520-") and not line.startswith("520 "):
            return None  # usage follows, until its last line begins with "520 "
        text = "\n".join(self._reply)
        match = _REPLY.fullmatch(text.replace("520-", "520 ", 1))
        if match is None:
            raise RemoteProtocolError(f"not an AGI reply: {text[:80]!r}")
        code, result, rest = int(match[1]), match[2], match[3] or ""
        if result is not None and rest.startswith("(") and ")" not in line:
            return None  # the value of a variable has a line break in it
        self._reply.clear()
        if code == 100:  # "Trying": the answer is still to come
            return None
        if result is not None and rest.startswith("("):
            rest = rest[1 : rest.rindex(")")]
        return AgiReply(code, result or "", rest)


def _request(headers: dict[str, str]) -> AgiRequest:
    for name in ("channel", "uniqueid"):
        if not headers.get(name):
            raise RemoteProtocolError(f"AGI request without agi_{name}")

    def known(name: str) -> str:
        value = headers.get(name, "")
        return "" if value == "unknown" else value

    count = sum(1 for name in headers if name.startswith("arg_"))
    return AgiRequest(
        channel=headers["channel"],
        unique_id=headers["uniqueid"],
        script=headers.get("network_script", ""),
        caller_id=known("callerid"),
        caller_name=known("calleridname"),
        extension=headers.get("extension", ""),
        context=headers.get("context", ""),
        language=headers.get("language", ""),
        arguments=tuple(headers.get(f"arg_{number}", "") for number in range(1, count + 1)),
    )
