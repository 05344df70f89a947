"""Writes a conversation that somebody played down as a test, which passes as it stands.

The value of a secret slot is not written: zeros stand in its place, as many as there were keys.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ivr.flow.testing.player import Player
from ivr.flow.testing.script import Answer, Given
from ivr.flow.testing.texts import fold

_LONGEST_HEARD = 80
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n")


class Recorder:
    """Collects the steps of one conversation as they are played."""

    def __init__(self, flow: str, given: Given):
        self._flow = flow
        self._given = given
        self._steps: list[str] = []
        self._answers: dict[str, list[Answer]] = {}
        self._heard = 0

    def did(self, step: str, value: Any, *, secret: bool = False) -> None:
        """The customer did something; `secret` says that it answers a question for a secret."""
        if secret and step in ("says", "types", "presses"):
            value = "0" * (sum(char.isdigit() for char in str(value)) or 4)
        self._steps.append(f"{step}: {_yaml(value)}")

    def answered(self, asked: str, answer: Answer) -> None:
        """Another system was asked, and what it answered."""
        self._answers.setdefault(asked, []).append(answer)

    def heard(self, player: Player) -> None:
        """The customer has heard what was said up to now."""
        verb = "hears" if player.voice else "reads"
        for text in player.heard[self._heard :]:
            if part := _telling(text):
                self._steps.append(f"{verb}: {_yaml(part)}")
        self._heard = len(player.heard)

    def finish(self, player: Player, name: str) -> str:
        """The whole test file. What the conversation has come to is expected at its end."""
        given = self._given
        lines = [f"flow: {_yaml(self._flow)}", "tests:", f"  - name: {_yaml(name)}", "    given:"]
        told = {
            "channel": given.channel,
            "language": given.language,
            "caller": given.caller,
            "at": given.at.isoformat(),
        }
        lines += [f"      {key}: {_yaml(value)}" for key, value in told.items() if value]
        if self._answers:
            lines.append("      fetch:")
            lines += [
                f"        {_yaml(asked)}: {_yaml(_written(answers))}"
                for asked, answers in self._answers.items()
            ]
        lines.append("    steps:")
        lines += [f"      - {step}" for step in self._steps]
        lines.append(f"      - expect: {_yaml(self._outcome(player))}")
        return "\n".join(lines) + "\n"

    def _outcome(self, player: Player) -> dict[str, Any]:
        state = player.state
        outcome: dict[str, Any] = {"node": state.node, "channel": state.channel}
        if slots := {name: value for name, value in state.slots.items() if value is not None}:
            outcome["slots"] = slots
        if player.ended:
            outcome["ended"] = True
        return outcome


def _written(answers: list[Answer]) -> Any:
    shown = [
        {"error": answer.error} if answer.error else {"status": answer.status, "json": answer.json}
        for answer in answers
    ]
    return shown[0] if len(shown) == 1 else shown


def _telling(text: str) -> str:
    """A part of a prompt that is long enough to know it by: its first sentence with words."""
    for sentence in _SENTENCE_END.split(text):
        part = sentence.strip()
        if len(part) > _LONGEST_HEARD:
            part = part[:_LONGEST_HEARD].rsplit(" ", 1)[0]
        if fold(part):
            return part
    return ""


def _yaml(value: Any) -> str:
    """A value on one line: JSON is YAML, once no character in it is special to YAML."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in text)
