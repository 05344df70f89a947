"""Reads a `*.test.yaml`: who talks to which flow, and what must be heard. Every error has its line.

What may stand in one is under Testing in `docs/flow-language.md`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ivr.errors import FlowError
from ivr.flow import yamltree
from ivr.flow.events import Started
from ivr.flow.keypad import KEYS
from ivr.flow.loader import FlowErrors
from ivr.flow.testing.player import MORNING, SURE
from ivr.flow.testing.texts import fold
from ivr.flow.yamltree import Branch
from ivr.model import Channel

CALLER = "+14155550123"
"""The customer's number where a test gives none: one that nobody has."""

TRANSFERS = ("answered", "busy", "no_answer", "refused")
"""How a transfer may come out."""

_MOST_TESTS = 10_000
_MOST_STEPS = 1_000
LONGEST_TEXT = 2_000
_MOST_TIMES = 100
_LONGEST_WAIT = 7 * 86_400.0
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h)\Z")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_CHANNELS = tuple(channel.value for channel in Channel)


@dataclass(frozen=True, slots=True)
class Answer:
    """What another system answers. `error` is why it does not."""

    status: int = 200
    json: Any = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Given:
    """How a conversation comes about. `fetch` goes by `METHOD system/path`, `hours` by calendar."""

    channel: str = Channel.VOICE.value
    language: str = ""
    caller: str = CALLER
    dialled: str = ""
    at: datetime = MORNING
    fetch: Mapping[str, tuple[Answer, ...]] = field(default_factory=dict)
    hours: Mapping[str, str] = field(default_factory=dict)

    def started(self) -> Started:
        """How the conversation begins, for the engine."""
        return Started(self.channel, self.caller, self.dialled, self.language)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One thing that an `expect` wants: its key, value, and where it is written."""

    key: str
    value: Branch
    line: int


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the customer (or the world) does, or that is checked.

    `text` is what is heard, said, typed or pressed, or the channel that is left; `event` and
    `value` are what happens; `wanted` is what is expected.
    """

    kind: str
    line: int
    text: str = ""
    confidence: float = SURE
    times: int = 1
    event: str = ""
    value: Any = None
    wanted: tuple[Wanted, ...] = ()

    def __str__(self) -> str:
        match self.kind:
            case "silent":
                return f"silent: {self.times}"
            case "happens":
                return f"happens: {self.event}: {self.value}"
            case "expect":
                return f"expect: {', '.join(wanted.key for wanted in self.wanted)}"
            case _:
                return f"{self.kind}: {self.text}"


@dataclass(frozen=True, slots=True)
class Case:
    """One test: it is played once on each of `channels`, which may be the only one that `given`
    names. Where there are several, amounts may be written as either sort of channel has them."""

    name: str
    line: int
    given: Given
    channels: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def several(self) -> bool:
        return len(self.channels) > 1


@dataclass(frozen=True, slots=True)
class TestFile:
    """The tests of one file, for one flow."""

    __test__ = False

    file: str
    flow: str
    line: int
    cases: tuple[Case, ...]


def read(text: str, file: str) -> TestFile:
    """Read a test file. Raises FlowErrors with everything that is wrong with it."""
    try:
        tree = yamltree.read(text, file)
    except FlowError as error:
        raise FlowErrors([error]) from None
    reader = _Reader(file)
    tests = reader.tests(tree)
    if reader.errors:
        raise FlowErrors(reader.errors)
    return tests


def duration(text: str) -> float | None:
    """The seconds of a time like 500ms, 3s, 10m or 2h, up to a week; None of anything else."""
    match = _DURATION.match(text)
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    return seconds if 0 < seconds <= _LONGEST_WAIT else None


class _Wrong(Exception):
    """A value that cannot be used; what is wrong has been noted already."""


class _Reader:
    """Turns branches into tests, noting every error and going on with the next test or step."""

    def __init__(self, file: str):
        self.errors: list[FlowError] = []
        self._file = file

    # --- errors ---------------------------------------------------------------------------------

    def _refuse(self, code: str, message: str, place: Branch | tuple[int, int]) -> _Wrong:
        line, column = (place.line, place.column) if isinstance(place, Branch) else place
        self.errors.append(FlowError(code, message, file=self._file, line=line, column=column))
        return _Wrong()

    def _wanted(self, branch: Branch, wanted: str) -> _Wrong:
        found = repr(branch.text[:60]) if branch.text else type(branch.value).__name__
        return self._refuse("E003", f"{wanted} is wanted here, not {found}", branch)

    # --- shapes ---------------------------------------------------------------------------------

    def _mapping(self, branch: Branch, what: str, keys: tuple[str, ...] = ()) -> dict[str, Branch]:
        if not isinstance(branch.value, dict):
            raise self._wanted(branch, f"a mapping ({what})")
        for key in branch.value:
            if keys and key not in keys:
                message = f"unknown key {key!r} in {what}; known are {', '.join(keys)}"
                self._refuse("E002", message, branch.keys[key])
        return {key: value for key, value in branch.value.items() if not keys or key in keys}

    def _list(self, branch: Branch, what: str, most: int) -> list[Branch]:
        if not isinstance(branch.value, list) or not 0 < len(branch.value) <= most:
            raise self._wanted(branch, f"a list of 1 to {most} {what}")
        return branch.value

    def _each(self, branches: list[Branch], read: Callable[[Branch], Any]) -> Iterator[Any]:
        for branch in branches:
            try:
                yield read(branch)
            except _Wrong:
                continue

    def text(self, branch: Branch) -> str:
        """A text that is not empty; a number counts as it was written."""
        value = branch.value
        if isinstance(value, dict | list | None) or not 0 < len(branch.text) <= LONGEST_TEXT:
            raise self._wanted(branch, f"a text of 1 to {LONGEST_TEXT} characters")
        return branch.text

    def _one_of(self, branch: Branch, known: tuple[str, ...]) -> str:
        if branch.text not in known or isinstance(branch.value, dict | list):
            raise self._wanted(branch, f"one of {', '.join(known)}")
        return branch.text

    def _flag(self, branch: Branch) -> bool:
        if branch.value is not True:
            raise self._wanted(branch, "true")
        return True

    def _count(self, branch: Branch, least: int, most: int) -> int:
        value = branch.value
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._wanted(branch, f"a number from {least} to {most}")
        return value

    # --- the file -------------------------------------------------------------------------------

    def tests(self, tree: Branch) -> TestFile:
        try:
            keys = self._mapping(tree, "a test file", ("flow", "tests"))
            for key in ("flow", "tests"):
                if key not in keys:
                    raise self._refuse("E004", f"a test file needs the key {key!r}", tree)
            flow = self.text(keys["flow"])
            cases = self._list(keys["tests"], "tests", _MOST_TESTS)
            found = tuple(self._each(cases, self._case))
            return TestFile(self._file, flow, keys["flow"].line, found)
        except _Wrong:
            return TestFile(self._file, "", 0, ())

    def _case(self, branch: Branch) -> Case:
        keys = self._mapping(branch, "a test", ("name", "given", "channels", "steps"))
        for key in ("name", "steps"):
            if key not in keys:
                raise self._refuse("E004", f"a test needs the key {key!r}", branch)
        name = self.text(keys["name"])
        given = self._given(keys["given"]) if "given" in keys else Given()
        channels: tuple[str, ...] = (given.channel,)
        if "channels" in keys:
            items = self._list(keys["channels"], "channels", len(_CHANNELS))
            channels = tuple(dict.fromkeys(self._one_of(item, _CHANNELS) for item in items))
        steps = self._list(keys["steps"], "steps", _MOST_STEPS)
        return Case(name, branch.line, given, channels, tuple(self._each(steps, self._step)))

    def _given(self, branch: Branch) -> Given:
        read: Mapping[str, Callable[[Branch], Any]] = {
            "channel": lambda item: self._one_of(item, _CHANNELS),
            "language": self.text,
            "caller": lambda item: item.text if item.text == "" else self.text(item),
            "dialled": self.text,
            "at": self._time,
            "fetch": self._answers,
            "hours": self._hours,
        }
        keys = self._mapping(branch, "given", tuple(read))
        return replace(Given(), **{key: read[key](item) for key, item in keys.items()})

    def _time(self, branch: Branch) -> datetime:
        try:
            at = datetime.fromisoformat(branch.text)
            at = at if at.tzinfo else at.replace(tzinfo=UTC)
            if not 1990 <= at.year <= 2200:
                raise ValueError
            return at
        except ValueError:
            raise self._wanted(branch, 'a time like "2026-11-20T10:00:00+00:00"') from None

    def _hours(self, branch: Branch) -> dict[str, str]:
        calendars = self._mapping(branch, "hours")
        known = ("open", "closed", "holiday")
        return {name: self._one_of(item, known) for name, item in calendars.items()}

    def _answers(self, branch: Branch) -> dict[str, tuple[Answer, ...]]:
        answers = {}
        for key, item in self._mapping(branch, "fetch").items():
            method, _, address = key.strip().partition(" ")
            if not address.strip() or not method.isalpha():
                message = f"{key!r} is no request; write it like 'GET crm/customers/12345678'"
                raise self._refuse("E003", message, branch.keys[key])
            several = item.value if isinstance(item.value, list) and item.value else [item]
            asked = f"{method.upper()} {address.strip().lstrip('/')}"
            answers[asked] = tuple(self._answer(one) for one in several)
        return answers

    def _answer(self, branch: Branch) -> Answer:
        keys = self._mapping(branch, "an answer", ("status", "json", "error"))
        status = self._count(keys["status"], 100, 599) if "status" in keys else 200
        json = keys["json"].plain() if "json" in keys else None
        return Answer(status, json, self.text(keys["error"]) if "error" in keys else "")

    # --- steps ----------------------------------------------------------------------------------

    def _step(self, branch: Branch) -> Step:
        given = self._mapping(branch, "a step")
        kinds = [key for key in given if key in _STEPS]
        strange = [key for key in given if key not in _STEPS and key not in _FOR_ROBOTS]
        if len(kinds) != 1 or strange:
            known, found = ", ".join(_STEPS), ", ".join(given) or "nothing"
            message = f"a step is exactly one of {known}; here is {found}"
            raise self._refuse("E002", message, branch)
        kind = kinds[0]
        return Step(kind, branch.keys[kind][0], **_STEPS[kind](self, given[kind]))

    def heard(self, branch: Branch) -> dict[str, Any]:
        text = self.text(branch)
        if not fold(text):
            raise self._wanted(branch, "a text with at least one letter or digit")
        return {"text": text}

    def said(self, branch: Branch) -> dict[str, Any]:
        if not isinstance(branch.value, dict):
            return {"text": self.text(branch)}
        keys = self._mapping(branch, "says", ("text", "confidence"))
        if "text" not in keys:
            raise self._refuse("E004", "says needs a text", branch)
        # A text that is empty is a noise in which nothing can be made out.
        mumbled = keys["text"].value == ""
        said: dict[str, Any] = {"text": "" if mumbled else self.text(keys["text"])}
        if "confidence" in keys:
            value = keys["confidence"].value
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise self._wanted(keys["confidence"], "a number from 0 to 1")
            said["confidence"] = float(value)
        return said

    def pressed(self, branch: Branch) -> dict[str, Any]:
        keys = "".join(self.text(branch).upper().split())
        if not keys or not set(keys) <= KEYS:
            raise self._wanted(branch, "keys, of 0 to 9, *, # and A to D,")
        return {"text": keys}

    def silent(self, branch: Branch) -> dict[str, Any]:
        times = 1 if branch.value is True else self._count(branch, 1, _MOST_TIMES)
        return {"times": times}

    def hung_up(self, branch: Branch) -> dict[str, Any]:
        text = "" if branch.value is True else self._one_of(branch, _CHANNELS)
        return {"text": text}

    def happened(self, branch: Branch) -> dict[str, Any]:
        keys = self._mapping(branch, "happens", tuple(_EVENTS))
        if len(keys) != 1:
            raise self._refuse("E003", f"happens takes one of {', '.join(_EVENTS)}", branch)
        ((event, item),) = keys.items()
        return {"event": event, "value": _EVENTS[event](self, item)}

    def reason(self, branch: Branch) -> str:
        known = ("nobody", "closed", "full", "timeout")
        return known[0] if branch.value is True else self._one_of(branch, known)

    def outcome(self, branch: Branch) -> str:
        return self._one_of(branch, TRANSFERS)

    def passed(self, branch: Branch) -> float:
        seconds = duration(branch.text)
        if seconds is None:
            raise self._wanted(branch, "a time of at most a week like 500ms, 3s, 10m or 2h")
        return seconds

    def expected(self, branch: Branch) -> dict[str, Any]:
        keys = self._mapping(branch, "expect", tuple(EXPECTED))
        if not branch.value:
            raise self._wanted(branch, f"something to expect ({', '.join(EXPECTED)})")
        for key, item in keys.items():
            EXPECTED[key](self, item)
        wanted = (Wanted(key, item, branch.keys[key][0]) for key, item in keys.items())
        return {"wanted": tuple(wanted)}

    def slots(self, branch: Branch) -> None:
        self._mapping(branch, "slots")

    def queued(self, branch: Branch) -> None:
        if isinstance(branch.value, bool):
            return
        keys = self._mapping(branch, "queued", ("skills", "priority"))
        skills = keys.get("skills")
        if skills is not None and isinstance(skills.value, dict | None):
            raise self._wanted(skills, "a list of skills")
        if "priority" in keys:
            self._count(keys["priority"], -1000, 1000)

    def sent(self, branch: Branch) -> None:
        if isinstance(branch.value, bool):
            return
        keys = self._mapping(branch, "sent", ("channel", "text"))
        if "channel" in keys:
            self._one_of(keys["channel"], _CHANNELS)
        if "text" in keys:
            self.heard(keys["text"])

    def ended(self, branch: Branch) -> None:
        if not isinstance(branch.value, bool):
            self.text(branch)


def _channel(reader: _Reader, branch: Branch) -> None:
    reader._one_of(branch, _CHANNELS)


_STEPS: Mapping[str, Callable[[_Reader, Branch], dict[str, Any]]] = {
    "hears": _Reader.heard,
    "reads": _Reader.heard,
    "says": _Reader.said,
    "presses": _Reader.pressed,
    "types": lambda reader, branch: {"text": reader.text(branch)},
    "silent": _Reader.silent,
    "hangs_up": _Reader.hung_up,
    "happens": _Reader.happened,
    "expect": _Reader.expected,
}
_FOR_ROBOTS = ("within", "after", "barge_in")

_EVENTS: Mapping[str, Callable[[_Reader, Branch], Any]] = {
    "joined": _Reader.text,
    "left": _Reader._flag,
    "nobody": _Reader.reason,
    "ahead": lambda reader, branch: reader._count(branch, 0, 10_000),
    "transfer": _Reader.outcome,
    "undelivered": _Reader._flag,
    "passes": _Reader.passed,
}

EXPECTED: Mapping[str, Callable[[_Reader, Branch], Any]] = {
    "node": _Reader.text,
    "slots": _Reader.slots,
    "language": _Reader.text,
    "channel": _channel,
    "queued": _Reader.queued,
    "sent": _Reader.sent,
    "recorded": _Reader.ended,
    "ended": _Reader.ended,
}
"""What an `expect` may want, and how its value is read."""
