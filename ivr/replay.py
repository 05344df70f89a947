"""Runs what happened in a conversation once more, through the same or another version of its flow,
and finds where the two first part.

The events come from the timeline, with their times; what the flow then says and decides is compared
with what the timeline says it did. Secrets are not in the timeline: where a customer answered a
question for one, a stand-in answers that comes to the same (a valid value, a miss, a command).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from ivr.errors import StoreError
from ivr.flow import engine, lexicon, questions, spoken
from ivr.flow.events import (
    DigitsPressed,
    Event,
    SpeechHeard,
    Started,
    TextReceived,
    event_from_json,
)
from ivr.flow.facts import NOTHING, Facts
from ivr.flow.schema import Bundle, Slot
from ivr.flow.state import State
from ivr.model import TimelineEntry
from ivr.store.models import to_json
from ivr.timeline import EVENT_KINDS, SAYING, Told, decided

SECRET = "[secret]"  # noqa: S105

_COMPARED = frozenset(
    {
        "said", "node_entered", "matched", "branched", "slot_filled", "no_input",
        "no_match", "tries_used_up", "confirming", "confirmed", "refused", "corrected",
        "keys_only", "commanded", "language_switched", "language_unknown", "queued",
        "left_queue", "agent_joined", "agent_left", "queue_failed", "asked", "fetch_failed",
        "fetch_answered", "channel_invited", "channel_moved", "channel_failed",
        "channel_left", "transferring", "transfer_ended", "message_taken",
        "calendar_missing", "flow_called", "flow_returned", "call_refused", "stuck",
        "mismatch", "flow_ended", "redial_offered", "redial_taken", "redial_declined",
    }
)  # fmt: skip
"""What counts as the same course of things: what was said, and what the engine decided. A failed
expression decides nothing by itself, and may have failed for a secret that is not in the record."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing said or done, `at` seconds after the start; `who` is `flow` or `world`."""

    at: float
    who: str
    text: str


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where two courses part: at which `node`, `after` what, and what came `then` and `now`; "" is
    nothing at all."""

    at: float
    node: str
    after: str
    then: str
    now: str


@dataclass(frozen=True, slots=True)
class Replay:
    """What came out. `stopped` says why a replay could not go on to the end, "" if it did."""

    dialogue: tuple[Line, ...]
    divergence: Divergence | None = None
    stopped: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Step:
    """One event of the record, and what the flow then said and decided."""

    at: datetime
    kind: str
    body: Mapping[str, Any]
    told: tuple[Told, ...]

    @property
    def secret(self) -> bool:
        return bool(self.body.get("secret"))


def replay(
    bundle: Bundle,
    entries: Iterable[TimelineEntry],
    started_at: datetime,
    facts: Facts = NOTHING,
) -> Replay:
    """Run the events of a timeline through a flow until it parts from what the timeline tells.

    Raises StoreError where the timeline has no beginning.
    """
    steps = list(_steps(entries))
    if not steps or steps[0].kind != "call_started":
        raise StoreError("the record does not tell how the conversation began; nothing to replay")
    dialogue: list[Line] = []
    state: State | None = None
    node = ""
    for step in steps:
        at = round((step.at - started_at).total_seconds(), 3)
        if "cut" in step.body:
            return Replay(tuple(dialogue), stopped=f"what was {step.kind} was too long to be kept")
        event = None if step.secret else _event(step)
        after = _happening(step)
        dialogue.append(Line(at, "world", after))
        if step.secret and not step.told:
            continue  # It came too late, and nothing came of it.
        if step.secret and state is not None and state.question.secret:
            event = _stand_in(bundle, state, step)
        if event is None:
            parted = Divergence(at, node, after, "asked in secret", "not asked in secret")
            return Replay(tuple(dialogue), parted)
        if state is None:
            assert isinstance(event, Started)
            state, effects = engine.start(bundle, event, started_at, facts)
        else:
            state, effects = engine.advance(bundle, state, event, step.at, facts)
        now = [_plain(told) for told in decided(effects) if _compared(told)]
        then = list(step.told)
        for number in range(max(len(then), len(now))):
            old, new = (side[number] if number < len(side) else None for side in (then, now))
            if old != new:
                parted = Divergence(at, node, after, _told(old), _told(new))
                return Replay(tuple(dialogue), parted)
            assert old is not None
            if old[0] == "said":
                dialogue.append(Line(at, "flow", str(old[1].get("text", ""))))
            elif old[0] == "node_entered":
                node = str(old[1].get("node", ""))
    return Replay(tuple(dialogue))


def _event(step: _Step) -> Event:
    try:
        return event_from_json(step.body)
    except (KeyError, TypeError, ValueError):
        raise StoreError(f"the record's {step.kind} entry cannot be read") from None


# --- the record ----------------------------------------------------------------------------------


def _steps(entries: Iterable[TimelineEntry]) -> Iterator[_Step]:
    first: TimelineEntry | None = None
    told: list[Told] = []
    for entry in entries:
        if "event" in entry.body or ("cut" in entry.body and entry.kind in EVENT_KINDS):
            if first is not None:
                yield _Step(first.at, first.kind, first.body, tuple(told))
            first, told = entry, []
        elif _compared((entry.kind, entry.body)):
            told.append(_plain((entry.kind, entry.body)))
    if first is not None:
        yield _Step(first.at, first.kind, first.body, tuple(told))


def _compared(told: Told) -> bool:
    # The desk's own lines carry a ticket.
    return told[0] in _COMPARED and "ticket" not in told[1]


def _plain(told: Told) -> Told:
    """A line as the store gives it back, without the names of effects, which are arbitrary."""
    body = json.loads(to_json(told[1]))
    return told[0], {key: value for key, value in body.items() if key != "id"}


# --- in words ------------------------------------------------------------------------------------


def _happening(step: _Step) -> str:
    words = _HAPPENINGS.get(str(step.body["event"]))
    details = SECRET if step.secret else words(step.body) if words else ""
    return f"{step.kind.replace('_', ' ')} {details}".strip()


_HAPPENINGS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "Started": lambda body: f"{body['channel']} {body['address']}",
    "DigitsPressed": lambda body: str(body["digits"]),
    "SpeechHeard": lambda body: f'"{body["text"]}" ({body["confidence"]:.2f})',
    "TextReceived": lambda body: f'"{body["text"]}"',
    "HungUp": lambda body: f"{body['channel']} {body['cause']}",
    "FetchAnswered": lambda body: str(body["error"] or f"status {body['status']}"),
    "QueueMoved": lambda body: f"{body['ahead']} ahead",
    "AgentJoined": lambda body: str(body["agent"]),
    "AgentLeft": lambda body: str(body["agent"]),
    "QueueFailed": lambda body: str(body["reason"]),
    "ChannelLive": lambda body: str(body["channel"]),
    "ChannelFailed": lambda body: f"{body['channel']} {body['reason']}",
    "TransferEnded": lambda body: str(body["outcome"]),
    "Recorded": lambda body: f"{body['seconds']:g} s",
    "TimerFired": lambda body: str(body["id"]),
}


def _told(told: Told | None) -> str:
    if told is None:
        return ""
    kind, body = told
    if kind == "said":
        return f'said "{body.get("text", "")}" ({body.get("language", "")})'
    shown = ", ".join(
        f"{key} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for key, value in body.items()
    )
    return f"{kind.replace('_', ' ')}: {shown}" if shown else kind.replace("_", " ")


# --- secrets -------------------------------------------------------------------------------------


def _stand_in(bundle: Bundle, state: State, step: _Step) -> Event:
    """An answer that comes to what the secret one did."""
    flow = bundle.flows[state.flow]
    slot = flow.slots[state.question.slot]
    kind = next(kind for kind in SAYING if kind.__name__ == step.body["event"])
    sure, words = 1.0, None
    for noted, body in step.told:
        words = _words(noted, body, slot, state.language, kind, step.at)
        if words is not None:
            sure = float(body.get("confidence", 1.0))
            break
    turn = step.body.get("turn")
    words = words or ""
    if kind is SpeechHeard:
        return SpeechHeard(words, sure, turn=turn)
    return DigitsPressed(words, turn) if kind is DigitsPressed else TextReceived(words, turn)


def _words(
    noted: str, body: Mapping[str, Any], slot: Slot, language: str, kind: type, now: datetime
) -> str | None:
    """What may have been said for the flow to have noted this; None for other notes."""
    yes, no = lexicon.in_language(lexicon.YES_NO, language)
    match noted, body:
        case "slot_filled", {"secret": True}:
            return _value(slot, language, kind, now)
        case (("commanded" | "confirming"), {"command": str(command)}):
            phrases = lexicon.in_language(lexicon.ANYTIME, language)
            return phrases.get(command, ("",))[0]
        case "confirmed", _:
            return "1" if kind is DigitsPressed else yes
        case "refused", _:
            return "2" if kind is DigitsPressed else no
        case "no_match", _:
            return ""
    return None


def _value(slot: Slot, language: str, kind: type, now: datetime) -> str:
    """Some value that the slot takes, as keys or as words."""
    options = slot.options.get(language, {})
    digits = "0" * (slot.minimum or min(4, slot.maximum or 4))
    phrases = [phrase for said in options.values() for phrase in said]
    candidates = [digits, *_VALUES, *phrases]
    for words in candidates:
        if kind is DigitsPressed:
            value = spoken.parse_keys(
                slot.type,
                words,
                language=language,
                now=now,
                minimum=slot.minimum,
                maximum=slot.maximum,
                options=options,
            )
        else:
            value = questions.parse(slot, words, language, now)
        if value is not None:
            return words
    return digits


_VALUES = ("1", "0101", "01012030", "2030-01-01", "1200", "12:00", "4155550123", "yes", "是")
"""Values of every type, as keys and as words."""
