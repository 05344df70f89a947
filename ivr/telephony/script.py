"""What a robot is to do on a call: the `steps:` of a flow test, with lines in every error.

A script is a list of steps, or a mapping with `steps:` and perhaps `language:`. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ivr.errors import FlowError
from ivr.flow.yamltree import Branch, read
from ivr.wire.rtp import KEYS

_MOST_STEPS = 1000
_LONGEST_TEXT = 1000
_LONGEST_SECONDS = 600.0
PATIENCE = 20.0
"""Seconds within which what a step waits for must happen, unless the step says `within:`."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do or to wait for.

    `text` is what is heard, said or pressed, `times` how often to keep silent. `after` is seconds
    from the moment at which the other side began to speak; `barge_in` speaks over it.
    """

    kind: str
    line: int
    text: str = ""
    times: int = 0
    within: float = PATIENCE
    after: float = 0.0
    barge_in: bool = False


@dataclass(frozen=True, slots=True)
class Script:
    """The steps of one call, spoken in `language`."""

    steps: tuple[Step, ...]
    language: str = "en"


def load_script(text: str, file: str) -> Script:
    """Read a script. Raises FlowError with the line of the first thing that is wrong."""
    reader = _Reader(file)
    tree = read(text, file)
    language = "en"
    if isinstance(tree.value, dict):
        for key, (line, column) in tree.keys.items():
            if key not in ("steps", "language"):
                raise reader.wrong(
                    "E002", f"unknown key {key!r}: a script has steps and language", line, column
                )
        if "language" in tree.value:
            language = reader.text(tree.value["language"])
        if "steps" not in tree.value:
            raise reader.wrong("E004", "a script needs steps:", tree.line, tree.column)
        tree = tree.value["steps"]
    if not isinstance(tree.value, list) or not 0 < len(tree.value) <= _MOST_STEPS:
        message = f"steps must be a list of 1 to {_MOST_STEPS} steps"
        raise reader.wrong("E003", message, tree.line, tree.column)
    return Script(tuple(reader.step(branch) for branch in tree.value), language)


class _Reader:
    """Turns YAML values into steps; knows the file for its errors."""

    def __init__(self, file: str):
        self._file = file

    def wrong(self, code: str, message: str, line: int, column: int) -> FlowError:
        return FlowError(code, message, file=self._file, line=line, column=column)

    def step(self, branch: Branch) -> Step:
        known = ", ".join(_KINDS)
        kinds = [key for key in branch.keys if key in _KINDS]
        if len(kinds) != 1:
            given = ", ".join(branch.keys) or branch.text or "nothing"
            message = f"a step is exactly one of {known}; here is {given}"
            raise self.wrong("E002", message, branch.line, branch.column)
        kind = kinds[0]
        options = {"within", "after"} | ({"barge_in"} if kind == "says" else set())
        fields: dict[str, Any] = {}
        for key, (line, column) in branch.keys.items():
            if key == kind:
                fields |= _KINDS[kind](self, branch.value[key])
            elif key not in options:
                message = (
                    f"unknown key {key!r} beside {kind}: known are {', '.join(sorted(options))}"
                )
                raise self.wrong("E002", message, line, column)
            else:
                value = branch.value[key]
                fields[key] = self.yes_or_no(value) if key == "barge_in" else self.seconds(value)
        return Step(kind, branch.line, **fields)

    def refuse(self, branch: Branch, wanted: str) -> FlowError:
        found = branch.text[:60] or type(branch.value).__name__
        return self.wrong("E003", f"{wanted}, not {found!r}", branch.line, branch.column)

    def text(self, branch: Branch) -> str:
        if isinstance(branch.value, dict | list) or not 0 < len(branch.text) <= _LONGEST_TEXT:
            raise self.refuse(branch, f"a text of 1 to {_LONGEST_TEXT} characters is wanted")
        return branch.text

    def said(self, branch: Branch) -> str:
        """A text, or the {text, confidence} of a flow test; a real ear has its own confidence."""
        if not isinstance(branch.value, dict):
            return self.text(branch)
        for key, (line, column) in branch.keys.items():
            if key not in ("text", "confidence"):
                raise self.wrong("E002", f"unknown key {key!r} in says", line, column)
        if "text" not in branch.value:
            raise self.wrong("E004", "says needs a text:", branch.line, branch.column)
        return self.text(branch.value["text"])

    def pressed(self, branch: Branch) -> str:
        keys = self.text(branch).upper()
        if any(key not in KEYS for key in keys):
            raise self.refuse(branch, "keys are 0 to 9, *, # and A to D")
        return keys

    def times(self, branch: Branch) -> int:
        if isinstance(branch.value, bool) or branch.value not in range(1, 21):
            raise self.refuse(branch, "1 to 20 times are wanted")
        return int(branch.value)

    def seconds(self, branch: Branch) -> float:
        value = branch.value
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not 0 <= value <= _LONGEST_SECONDS
        ):
            raise self.refuse(branch, f"seconds from 0 to {_LONGEST_SECONDS:g} are wanted")
        return float(value)

    def yes_or_no(self, branch: Branch) -> bool:
        if not isinstance(branch.value, bool):
            raise self.refuse(branch, "true or false is wanted")
        return branch.value

    def hung_up(self, branch: Branch) -> str:
        if branch.value is not True:
            raise self.refuse(branch, "true is wanted")
        return ""

    def expected(self, branch: Branch) -> str:
        """Of what a flow test expects a robot sees only whether the call has ended."""
        if not isinstance(branch.value, dict):
            raise self.refuse(branch, "a mapping is wanted")
        return "ended" if branch.plain().get("ended") is True else ""


_KINDS: Mapping[str, Callable[[_Reader, Branch], dict[str, Any]]] = {
    "hears": lambda reader, branch: {"text": reader.text(branch)},
    "says": lambda reader, branch: {"text": reader.said(branch)},
    "presses": lambda reader, branch: {"text": reader.pressed(branch)},
    "silent": lambda reader, branch: {"times": reader.times(branch)},
    "hangs_up": lambda reader, branch: {"text": reader.hung_up(branch)},
    "expect": lambda reader, branch: {"text": reader.expected(branch)},
}
