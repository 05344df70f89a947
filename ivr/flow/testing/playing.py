"""Plays a test against its flow and says where the two part: the step, what was expected, and what
happened instead."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, time, timedelta
from typing import Any
from urllib.parse import unquote

from ivr.flow.events import Fetch
from ivr.flow.exits import Trace
from ivr.flow.facts import NOTHING, Calendar, Facts
from ivr.flow.schema import Bundle
from ivr.flow.testing.player import CannotHappen, Player
from ivr.flow.testing.script import Answer, Case, Given, Step, Wanted
from ivr.flow.testing.texts import find, fold
from ivr.flow.yamltree import Branch

_MOST_FETCHES = 1_000
_SHOWN = 3
_MIDNIGHT = time()


@dataclass(frozen=True, slots=True)
class Result:
    """How one test went on one channel.

    Of a failure `line` and `step` say where, `expected` and `happened` what; `said` are the last
    things that the customer heard, and `remarks` what may explain it. `passed` are the (flow, node)
    and `taken` the (flow, node, exit) that the conversation went by.
    """

    file: str
    name: str
    channel: str
    ok: bool
    line: int
    step: str = ""
    expected: str = ""
    happened: str = ""
    said: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    passed: tuple[tuple[str, str], ...] = ()
    taken: tuple[tuple[str, str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        shown = {"file": self.file, "test": self.name, "channel": self.channel, "ok": self.ok}
        if self.ok:
            return {**shown, "line": self.line}
        return {
            **shown,
            "line": self.line,
            "step": self.step,
            "expected": self.expected,
            "happened": self.happened,
            "said": list(self.said),
            "remarks": list(self.remarks),
        }


def run(file: str, case: Case, bundle: Bundle, facts: Facts = NOTHING) -> list[Result]:
    """Play a test on each of its channels."""
    return [_run(file, case, channel, bundle, facts) for channel in case.channels]


class _Failed(Exception):
    """A step did not go as it was written."""

    def __init__(self, expected: str, happened: str):
        super().__init__(expected)
        self.expected = expected
        self.happened = happened


def _run(file: str, case: Case, channel: str, bundle: Bundle, facts: Facts) -> Result:
    play = _Play(replace(case.given, channel=channel), case.several, bundle, facts)
    step, failure = None, None
    try:
        play.begin()
        for step in case.steps:
            play.take(step)
    except _Failed as failed:
        failure = failed
    player = play.player
    trace = Trace(bundle)
    trace.follow((note.kind, note.body) for note in player.notes)
    result = Result(
        file,
        case.name,
        channel,
        failure is None,
        step.line if failure and step else case.line,
        passed=tuple(trace.nodes),
        taken=tuple(trace.exits),
    )
    if failure is None:
        return result
    return replace(
        result,
        step=str(step) if step else "given",
        expected=failure.expected,
        happened=failure.happened,
        said=tuple(player.heard[-_SHOWN:]),
        remarks=tuple(filter(None, (*play.remarks(), player.remark))),
    )


class _Play:
    """One test being played on one channel."""

    def __init__(self, given: Given, several: bool, bundle: Bundle, facts: Facts):
        self._given = given
        self._several = several
        self._asked: dict[str, int] = {}
        self._cursors = [0, 0]
        self._known = given.language in ("", *bundle.flows[bundle.entry].languages)
        self._languages = ", ".join(bundle.flows[bundle.entry].languages)
        self.player = Player(
            bundle,
            given.started(),
            now=given.at,
            facts=replace(facts, calendars={**facts.calendars, **_calendars(given)}),
        )

    def begin(self) -> None:
        if not self._known:
            raise _Failed(f"language {self._given.language}", f"the flow has {self._languages}")
        self._answer_fetches()

    def take(self, step: Step) -> None:
        try:
            _STEPS[step.kind](self, step)
            self._answer_fetches()
        except CannotHappen as error:
            raise _Failed(str(step), str(error)) from None

    def remarks(self) -> list[str]:
        missing = {
            str(note.body.get("calendar"))
            for note in self.player.notes
            if note.kind == "calendar_missing"
        }
        return [
            f"the calendar {name!r} is in neither the settings nor `given: hours:`; taken as open"
            for name in sorted(missing)
        ]

    # --- other systems --------------------------------------------------------------------------

    def _answer_fetches(self) -> None:
        for _ in range(_MOST_FETCHES):
            if (fetch := self.player.fetch) is None:
                return
            answer = self._answer_to(fetch)
            self.player.answer_fetch(answer.status, answer.json, answer.error)
        raise _Failed("an end of the fetches", f"over {_MOST_FETCHES} without the customer")

    def _answer_to(self, fetch: Fetch) -> Answer:
        asked = f"{fetch.method} {fetch.system}{fetch.path}"
        answers = self._given.fetch.get(asked) or self._given.fetch.get(unquote(asked))
        if not answers:
            given = ", ".join(self._given.fetch) or "none"
            raise _Failed(f"a fetch that the test gives: {given}", f"the flow asks {asked}")
        number = self._asked.get(asked, 0)
        self._asked[asked] = number + 1
        answer = answers[min(number, len(answers) - 1)]
        return replace(answer, status=0) if answer.error else answer

    # --- steps ----------------------------------------------------------------------------------

    def hears(self, step: Step) -> None:
        self._find(step.text)

    def reads(self, step: Step) -> None:
        if self.player.invited:
            self._customer(self.player.arrive)
            self._answer_fetches()
        self._find(step.text)

    def _find(self, text: str) -> None:
        said = [self.player.said]
        if self._several:
            said.append(self.player.said_elsewhere())
        for form, texts in enumerate(said):
            cursor = find(text, fold("\n".join(texts)), self._cursors[form])
            if cursor >= 0:
                self._cursors[form] = cursor
                return
        earlier = find(text, fold("\n".join(self.player.said))) >= 0
        happened = "nothing was said" if not self.player.said else "something else was said"
        raise _Failed(f"to hear {text!r}", "that was said only before" if earlier else happened)

    def _customer(self, act: Callable[..., None], *args: Any) -> None:
        self._cursors = [0, 0]
        act(*args)

    def says(self, step: Step) -> None:
        self._customer(self.player.say, step.text, step.confidence)

    def presses(self, step: Step) -> None:
        self._customer(self.player.press, step.text)

    def types(self, step: Step) -> None:
        joins = bool(self.player.invited)
        if joins:
            self._customer(self.player.arrive)
            self._answer_fetches()
        self._cursors = [0, 0]
        self.player.type(step.text, still=joins)

    def silent(self, step: Step) -> None:
        self._cursors = [0, 0]
        for time_of_it in range(step.times):
            self.player.silence(still=time_of_it > 0)
            self._answer_fetches()

    def hangs_up(self, step: Step) -> None:
        self._customer(self.player.hang_up, step.text)

    def happens(self, step: Step) -> None:
        if step.event == "passes":
            self.player.wait(step.value)
            return
        self.player.happen(step.event, step.value)

    def expects(self, step: Step) -> None:
        self._turn_up(step.wanted)
        for wanted in step.wanted:
            try:
                _EXPECTED[wanted.key](self, wanted.value)
            except _Failed as failed:
                raise _Failed(f"{wanted.key} {failed.expected}", failed.happened) from None

    def _turn_up(self, wanted: tuple[Wanted, ...]) -> None:
        """Who is expected on the channel that they were invited to has followed the invitation."""
        if self.player.invited and any(
            one.key == "channel" and one.value.text == self.player.invited for one in wanted
        ):
            self._customer(self.player.arrive)
            self._answer_fetches()

    # --- expectations ---------------------------------------------------------------------------

    def node(self, branch: Branch) -> None:
        _same(branch, self.player.state.node)

    def slots(self, branch: Branch) -> None:
        slots = self.player.slots()
        flows = (self.player.bundle.flows[frame.flow] for frame in self.player.state.frames)
        secret = {slot.name for flow in flows for slot in flow.slots.values() if slot.secret}
        for name, wanted in branch.value.items():
            value = slots.get(name)
            if not _equal(wanted, value):
                happened = "(secret)" if name in secret and value is not None else _shown(value)
                raise _Failed(f"{name} = {_shown(wanted.plain())}", f"{name} = {happened}")

    def language(self, branch: Branch) -> None:
        _same(branch, self.player.state.language)

    def channel(self, branch: Branch) -> None:
        _same(branch, self.player.state.channel)

    def queued(self, branch: Branch) -> None:
        queued = self.player.queued
        if isinstance(branch.value, bool):
            if branch.value != (queued is not None):
                raise _Failed(_shown(branch.value), _shown(queued is not None))
            return
        if queued is None:
            raise _Failed(_shown(branch.plain()), "the customer has not been queued")
        skills, priority = branch.find(["skills"]), branch.find(["priority"])
        if skills is not None:
            names = skills.value if isinstance(skills.value, list) else [skills]
            if {item.text for item in names} != set(queued.skills):
                raise _Failed(_shown(branch.plain()), f"skills {_shown(list(queued.skills))}")
        if priority is not None and priority.value != queued.priority:
            raise _Failed(_shown(branch.plain()), f"priority {queued.priority}")

    def sent(self, branch: Branch) -> None:
        sent = self.player.sent
        if isinstance(branch.value, bool):
            if branch.value != bool(sent):
                raise _Failed(_shown(branch.value), f"{len(sent)} texts were sent")
            return
        channel, text = branch.find(["channel"]), branch.find(["text"])
        if not any(
            (channel is None or one.channel == channel.text)
            and (text is None or find(text.text, fold(one.text)) >= 0)
            for one in sent
        ):
            shown = [f"{one.channel}: {one.text}" for one in sent[-_SHOWN:]]
            happened = "; ".join(shown) or "no text was sent"
            raise _Failed(_shown(branch.plain()), happened)

    def recorded(self, branch: Branch) -> None:
        recorded = self.player.recorded
        if isinstance(branch.value, bool):
            if branch.value != (recorded is not None):
                raise _Failed(_shown(branch.value), _shown(recorded is not None))
        elif recorded is None or find(branch.text, fold(recorded)) < 0:
            raise _Failed(_shown(branch.text), _shown(recorded))

    def ended(self, branch: Branch) -> None:
        state = self.player.state
        if isinstance(branch.value, bool):
            if branch.value != self.player.ended:
                happened = f"ended: {state.outcome}" if self.player.ended else f"at {state.node}"
                raise _Failed(_shown(branch.value), happened)
        elif not self.player.ended or state.outcome != branch.text:
            raise _Failed(branch.text, state.outcome or f"at {state.node}")


def _same(branch: Branch, value: str) -> None:
    if branch.text != value:
        raise _Failed(branch.text, value or "none")


def _equal(wanted: Branch, value: Any) -> bool:
    """Equal as JSON values; a number without quotes is also the text that it was written as."""
    if isinstance(value, str) and not isinstance(wanted.value, dict | list | None):
        return wanted.text == value
    plain = wanted.plain()
    return bool(plain == value) and isinstance(plain, bool) == isinstance(value, bool)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)[:300]


def _calendars(given: Given) -> dict[str, Calendar]:
    """Calendars that are held open, closed or on holiday around the time of the test."""
    always = {day: ((_MIDNIGHT, _MIDNIGHT),) for day in range(7)}
    day = given.at.astimezone(UTC).date()
    around = frozenset(day + timedelta(days=offset) for offset in range(-60, 61))
    kinds = {
        "open": Calendar(UTC, weekly=always),
        "closed": Calendar(UTC),
        "holiday": Calendar(UTC, holidays=around),
    }
    return {name: kinds[how] for name, how in given.hours.items()}


_STEPS: Mapping[str, Callable[[_Play, Step], None]] = {
    "hears": _Play.hears,
    "reads": _Play.reads,
    "says": _Play.says,
    "presses": _Play.presses,
    "types": _Play.types,
    "silent": _Play.silent,
    "hangs_up": _Play.hangs_up,
    "happens": _Play.happens,
    "expect": _Play.expects,
}

_EXPECTED: Mapping[str, Callable[[_Play, Branch], None]] = {
    "node": _Play.node,
    "slots": _Play.slots,
    "language": _Play.language,
    "channel": _Play.channel,
    "queued": _Play.queued,
    "sent": _Play.sent,
    "recorded": _Play.recorded,
    "ended": _Play.ended,
}
