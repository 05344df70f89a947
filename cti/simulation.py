"""A conversation with a flow, played by its designer on the page: the terminal's simulator, told as
values that a page can draw."""

from __future__ import annotations

import json
from typing import Any

from ivr.channels.terminal import Terminal
from ivr.flow.exits import Trace
from ivr.flow.facts import Facts
from ivr.flow.schema import Bundle
from ivr.flow.shapes import BUILT_IN_NAMES
from ivr.flow.testing.script import Given

MOST_LINES = 1_000
"""The most that a designer may say, type and do in one simulation."""

_LONGEST_VALUE = 300
_PASSED = 400


class Simulation:
    """One simulated conversation. It reads no clock and asks no network: fetches are answered by
    the designer, and time passes when nothing else can happen."""

    def __init__(self, bundle: Bundle, given: Given, facts: Facts):
        self._lines: list[dict[str, str]] = []
        self._bundle = bundle
        self._taken = 0
        self._followed = 0
        self._trace = Trace(bundle)
        self._terminal = Terminal(bundle, given, self._show, facts)

    def line(self, text: str) -> None:
        """Take one line: what the customer says or types, or a command with a slash."""
        self._taken += 1
        if self._taken > MOST_LINES:
            self._show("wrong", f"a simulation takes {MOST_LINES} lines; begin another")
        elif not self._terminal.over:
            self._terminal.line(text)

    def recording(self, name: str) -> str:
        """The conversation so far, as a test file."""
        return self._terminal.recording(name)

    def told(self) -> dict[str, Any]:
        """How it stands, with the lines that were shown since the last time."""
        player = self._terminal.player
        state = player.state
        notes = player.notes[self._followed :]
        self._followed = len(player.notes)
        self._trace.follow((note.kind, note.body) for note in notes)
        lines, self._lines = self._lines, []
        expect = player.expect
        fetch = player.fetch
        return {
            "flow": state.flow,
            "node": state.node,
            "passed": [list(one) for one in self._trace.nodes[-_PASSED:]],
            "taken": [list(one) for one in self._trace.exits[-_PASSED:]],
            "lines": lines,
            "channel": state.channel,
            "language": state.language,
            "over": self._terminal.over,
            "waiting": state.waiting.kind,
            "invited": player.invited,
            "expected": None
            if expect is None
            else {
                "choices": [
                    {"name": choice.name, "label": choice.label, "key": choice.key}
                    for choice in expect.choices
                ],
                "slot_type": expect.slot_type,
                "listen": list(expect.listen),
                "secret": expect.secret,
                "keys": player.voice and "keys" in expect.listen,
                "minimum": expect.keypad.minimum,
                "maximum": expect.keypad.maximum,
            },
            "fetch": None if fetch is None else f"{fetch.method} {fetch.system}{fetch.path}",
            "slots": self._slots(),
            "at": player.now.isoformat(),
        }

    def _slots(self) -> list[dict[str, Any]]:
        state = self._terminal.player.state
        secrets = state.frames[-1].secrets if state.frames else {}
        known = {**state.public_values(), **state.slots}
        shown = [
            {"name": name, "value": _short(value), "secret": False}
            for name, value in known.items()
            if value is not None and name not in BUILT_IN_NAMES
        ]
        return shown + [{"name": name, "value": "", "secret": True} for name in secrets]

    def _show(self, kind: str, text: str) -> None:
        self._lines.append({"kind": kind, "text": text})


def _short(value: Any) -> Any:
    """A value that a page can show; of a long one its beginning as text."""
    if isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"
