"""A customer for tests: speaks, presses, types and remembers what was said, on the pure engine.

After every step the state is put through JSON, so that whatever a test does also proves that
nothing is lost between two steps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ivr.flow import engine, keypad, loader
from ivr.flow.events import (
    DigitsPressed,
    Effect,
    End,
    Event,
    Expect,
    Fetch,
    FetchAnswered,
    HungUp,
    Note,
    Say,
    SpeechHeard,
    Started,
    TextReceived,
    TimedOut,
)
from ivr.flow.facts import NOTHING, Facts
from ivr.flow.schema import Bundle
from ivr.flow.state import State

NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)


def bundle(*texts: str, entry: str = "") -> Bundle:
    """The bundle of flows given as texts."""
    return loader.load({f"flow{n}.yaml": text for n, text in enumerate(texts, 1)}, entry)


class Caller:
    """One conversation. `said` is what was said since the last thing the customer did."""

    def __init__(
        self,
        flows: Bundle,
        *,
        channel: str = "voice",
        language: str = "",
        caller: str = "+14155550123",
        at: datetime = NOW,
        fetch: Mapping[str, Mapping[str, Any]] | None = None,
        facts: Facts = NOTHING,
        dropped: Mapping[str, Any] | None = None,
    ):
        self.flows, self.now, self.facts = flows, at, facts
        self.answers = dict(fetch or {})
        self.effects: list[Effect] = []
        self.keys = ""
        self.expect: Expect | None = None
        started = Started(channel, caller, "100", language, dropped)
        self._take(*engine.start(flows, started, at, facts))

    def tell(self, event: Event) -> None:
        """Let something happen."""
        self.effects = []
        self.advance(event)

    def advance(self, event: Event) -> None:
        self._take(*engine.advance(self.flows, self.state, event, self.now, self.facts))

    def _take(self, state: State, effects: tuple[Effect, ...]) -> None:
        assert State.from_json(json.loads(json.dumps(state.to_json()))) == state
        self.state = state
        self.effects += effects
        for effect in effects:
            if isinstance(effect, Expect):
                self.expect = effect
            elif isinstance(effect, Fetch) and self.answers:
                wanted = f"{effect.method} {effect.system}{effect.path}"
                assert wanted in self.answers, f"the test gives no answer to: {wanted}"
                given = self.answers[wanted]
                answer = FetchAnswered(
                    effect.id, given.get("status", 200), given.get("json"), given.get("error", "")
                )
                self.advance(answer)

    def says(self, text: str, confidence: float = 0.9) -> None:
        self.tell(SpeechHeard(text, confidence))

    def types(self, text: str) -> None:
        self.tell(TextReceived(text))

    def presses(self, keys: str) -> None:
        """Press keys one after the other without a pause, then pause."""
        self.effects = []
        self.keys += keys
        while self.keys and self.expect and self.state.waiting.kind in ("answer", "redial"):
            read = keypad.read(self.expect.keypad, self.keys)
            if read.status == "partial":
                read = keypad.flush(self.expect.keypad, self.keys)
            self.keys = read.rest
            self.advance(DigitsPressed(read.digits, self.expect.turn))

    def is_silent(self, times: int = 1) -> None:
        self.effects = []
        for _ in range(times):
            self.advance(TimedOut())

    def hangs_up(self) -> None:
        self.tell(HungUp("", "normal"))

    @property
    def said(self) -> str:
        return " ".join(effect.text for effect in self.effects if isinstance(effect, Say))

    @property
    def notes(self) -> list[str]:
        return [effect.kind for effect in self.effects if isinstance(effect, Note)]

    def note(self, kind: str) -> Mapping[str, Any]:
        return next(
            effect.body
            for effect in self.effects
            if isinstance(effect, Note) and effect.kind == kind
        )

    def did(self, kind: type[Any]) -> Any:
        """The last effect of a kind since the customer did something; None without one."""
        found = [effect for effect in self.effects if isinstance(effect, kind)]
        return found[-1] if found else None

    @property
    def ended(self) -> bool:
        return self.state.status == "ended" and self.did(End) is not None

    @property
    def question(self) -> Expect:
        """What is asked now."""
        assert self.expect is not None
        return self.expect
