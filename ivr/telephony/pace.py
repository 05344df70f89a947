"""The pace of each turn: when the prompt, the caller and the recogniser began and ended. Pure.

It is measured on the line and not decided by the flow, so that it stands in the timeline beside the
events and takes no part in a replay. Of a question for a secret it has times alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ivr.observe import TURN_GAP

_MOST = 20
"""Partial texts and keys of one turn that are written down."""


@dataclass(slots=True)
class _Turn:
    """One question and its answer. Times are monotonic seconds, 0 for what has not been."""

    number: int
    node: str
    secret: bool
    asked: float
    times: dict[str, float] = field(default_factory=dict)
    partials: list[tuple[float, str]] = field(default_factory=list)
    keys: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def gap(self, since: str, until: str) -> float | None:
        if since not in self.times or until not in self.times:
            return None
        return self.times[until] - self.times[since]

    def told(self) -> Mapping[str, Any]:
        """As it is written down: seconds after the question was put."""
        told: dict[str, Any] = {"turn": self.number, "node": self.node, **self.facts}
        told |= {name: self._after(at) for name, at in self.times.items()}
        if self.keys and not self.secret:
            told["keys"] = [self._after(at) for at in self.keys]
        if self.partials and not self.secret:
            told["partials"] = [{"at": self._after(at), "text": text} for at, text in self.partials]
        if self.secret:
            told["secret"] = True
        return told

    def _after(self, at: float) -> float:
        return round(at - self.asked, 3)


GAPS: Mapping[str, tuple[str, str]] = {
    "prompt_to_speech": ("prompt_started", "speech_started"),
    "speech_to_silence": ("speech_started", "prompt_cut"),
    "speech_to_result": ("speech_ended", "result"),
    "result_to_prompt": ("result", "next_prompt"),
    "speech_to_prompt": ("speech_ended", "next_prompt"),
    "prompt_to_key": ("prompt_started", "first_key"),
    "key_to_silence": ("first_key", "prompt_cut"),
    "key_to_prompt": ("last_key", "next_prompt"),
    "silence_to_decision": ("prompt_ended", "timed_out"),
}
"""What is counted of a turn, between which two of its moments."""


class Pace:
    """Follows the turns of one call. `tell` is given each of them when it is over, which is when
    the next prompt is heard."""

    def __init__(self, tell: Callable[[Mapping[str, Any]], None]):
        self._tell = tell
        self._now: _Turn | None = None
        self._before: _Turn | None = None

    def asked(self, number: int, node: str, secret: bool, at: float, playing: bool) -> None:
        """A question is put; its prompt may be `playing` already."""
        self._over(self._now)
        self._now = _Turn(number, node, secret, at)
        if playing:
            self._mark("prompt_started", at)

    def prompt_started(self, at: float) -> None:
        before, self._before = self._before, None
        if before is not None:
            before.times["next_prompt"] = at
            self._over(before)
        self._mark("prompt_started", at)

    def prompt_ended(self, at: float, cut: bool) -> None:
        if self._now is not None and "prompt_started" in self._now.times:
            self._mark("prompt_cut" if cut else "prompt_ended", at)

    def speech_started(self, at: float) -> None:
        self._mark("speech_started", at)

    def partial(self, text: str, at: float) -> None:
        turn = self._now
        if turn is None or turn.secret or len(turn.partials) >= _MOST:
            return
        if not turn.partials or turn.partials[-1][1] != text:
            turn.partials.append((at, text))

    def result(self, text: str, confidence: float, ended_at: float, at: float) -> None:
        if self._now is not None:
            self._mark("speech_ended", ended_at)
            self._mark("result", at)
            if not self._now.secret:
                self._now.facts |= {"text": text, "confidence": round(confidence, 3)}

    def key(self, at: float) -> None:
        turn = self._now
        if turn is not None:
            self._mark("first_key", at)
            if not turn.secret:
                turn.times["last_key"] = at
                if len(turn.keys) < _MOST:
                    turn.keys.append(at)

    def decided(self, how: str, at: float) -> None:
        """The question is over: `answered`, `pressed`, `timed_out`, `lost` or `withdrawn`."""
        turn, self._now = self._now, None
        if turn is None:
            return
        turn.facts["decision"] = how
        turn.times["timed_out" if how == "timed_out" else "decided"] = at
        self._over(self._before)
        self._before = turn

    def close(self, at: float) -> None:
        """The call is over, and with it whatever turn it was in."""
        self.decided("withdrawn", at)
        before, self._before = self._before, None
        self._over(before)

    def _mark(self, name: str, at: float) -> None:
        if self._now is not None:
            self._now.times.setdefault(name, at)

    def _over(self, turn: _Turn | None) -> None:
        if turn is None:
            return
        for name, (since, until) in GAPS.items():
            gap = turn.gap(since, until)
            if gap is not None and gap >= 0:
                TURN_GAP.labels(name).observe(gap)
        self._tell(turn.told())
