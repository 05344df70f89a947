"""What an agent sees before saying hello: everything the caller already told us, the useful first.

All of it is plain text from callers and other systems. It is cut to length, and characters that
steer a display (controls, bidirectional overrides) are taken out, so that a caller's name cannot
repaint the page around it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import phonenumbers

from ivr.model import Contact, Leg, PastConversation, Ticket, TimelineEntry

_LIMITS = {"name": 80, "value": 200, "step": 80, "line": 300, "note": 500}
_FACTS = 30
_STEPS = 20
_LINES = 12
EARLIER = 5
_ITEMS = 20
_DEPTH = 3

# Joiners are format characters too, but Persian and Hindi names are misspelt without them.
_KEPT_FORMATS = frozenset("\u200c\u200d")
_SPACES = frozenset({"Cc", "Zl", "Zp", "Zs"})
_DROPPED = frozenset({"Cf", "Cs", "Co", "Cn"})

# Who speaks in each kind of timeline entry, and which field of its body holds the words.
_SPOKEN: Mapping[str, tuple[str, str]] = {
    "said": ("hotline", "text"),
    "heard": ("caller", "text"),
    "pressed": ("caller", "digits"),
    "typed": ("caller", "text"),
}


@dataclass(frozen=True, slots=True)
class ConversationView:
    """What may be shown of a conversation's flow: never a secret slot. Made by whoever knows the
    engine's state; `path` is the way through the flow in words, oldest first."""

    topic: str = ""
    path: tuple[str, ...] = ()
    slots: Mapping[str, Any] = field(default_factory=dict)
    language: str = ""
    node: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing known. `first` marks what the flow's `pop` asked to be shown first."""

    name: str
    value: str
    first: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One utterance: `who` is `caller` or `hotline`."""

    who: str
    text: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier conversation with the same customer."""

    at: datetime
    topic: str
    outcome: str = ""
    agent: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class ScreenPop:
    """One conversation on an agent's screen. `number` is what the caller ID claims, "" if withheld;
    `waited` is seconds in line."""

    conversation: str
    channel: str
    number: str
    dialled: str
    name: str
    topic: str
    language: str
    waited: float
    path: tuple[str, ...]
    facts: tuple[Fact, ...]
    transcript: tuple[Line, ...]
    earlier: tuple[Earlier, ...]


def clean(value: object, limit: int) -> str:
    """One line of plain text of at most `limit` characters."""
    text = value if isinstance(value, str) else _worded(value)
    kept: list[str] = []
    for char in text[: limit * 4]:
        category = unicodedata.category(char)
        if category in _SPACES:
            kept.append(" ")
        elif category not in _DROPPED or char in _KEPT_FORMATS:
            kept.append(char)
    line = " ".join("".join(kept).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def _worded(value: object, depth: int = 0) -> str:
    if value is None or depth > _DEPTH:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        pairs = list(value.items())[:_ITEMS]
        return ", ".join(f"{key}: {_worded(inner, depth + 1)}" for key, inner in pairs)
    if isinstance(value, (list, tuple)):
        return ", ".join(_worded(inner, depth + 1) for inner in value[:_ITEMS])
    return str(value)


def shown_number(value: str, region: str) -> str:
    """A telephone number as people write it; what is none, as it came."""
    text = clean(value, _LIMITS["name"])
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return text
    if not phonenumbers.is_possible_number(number):
        return text
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL))


def build(
    view: ConversationView,
    ticket: Ticket,
    leg: Leg,
    *,
    contact: Contact | None,
    earlier: Iterable[PastConversation],
    timeline: Sequence[TimelineEntry],
    waited: float,
    region: str,
) -> ScreenPop:
    """Put everything that is known into the order in which an agent needs it."""
    return ScreenPop(
        conversation=ticket.conversation_id,
        channel=leg.peer.channel.value,
        number=shown_number(leg.peer.value, region),
        dialled=clean(leg.dialled, _LIMITS["name"]),
        name=clean(contact.name, _LIMITS["name"]) if contact else "",
        topic=clean(view.topic, _LIMITS["step"]),
        language=clean(ticket.language or view.language, 16),
        waited=round(max(0.0, waited), 1),
        path=tuple(clean(step, _LIMITS["step"]) for step in view.path[-_STEPS:]),
        facts=_facts(ticket.pop, view.slots),
        transcript=_transcript(timeline),
        earlier=tuple(_past(past) for past in list(earlier)[:EARLIER]),
    )


def _facts(pop: Sequence[tuple[str, str]], slots: Mapping[str, Any]) -> tuple[Fact, ...]:
    facts = [
        Fact(clean(name, _LIMITS["name"]), clean(value, _LIMITS["value"]), first=True)
        for name, value in pop[:_FACTS]
    ]
    named = {name for name, _ in pop}
    rest = [
        Fact(clean(name, _LIMITS["name"]), clean(value, _LIMITS["value"]))
        for name, value in dict(slots).items()
        if name not in named and value not in (None, "", {}, [])
    ]
    return tuple((facts + rest)[:_FACTS])


def _transcript(timeline: Sequence[TimelineEntry]) -> tuple[Line, ...]:
    lines: list[Line] = []
    for entry in reversed(timeline):
        who, words = _SPOKEN.get(entry.kind, ("", ""))
        text = clean(entry.body.get(words, ""), _LIMITS["line"]) if who else ""
        if text:
            lines.append(Line(who, text, entry.at))
        if len(lines) == _LINES:
            break
    return tuple(reversed(lines))


def _past(past: PastConversation) -> Earlier:
    return Earlier(
        at=past.started_at,
        topic=clean(past.flow, _LIMITS["step"]),
        outcome=clean(past.outcome, _LIMITS["step"]),
        agent=clean(past.agent, _LIMITS["name"]),
        note=clean(past.note, _LIMITS["note"]),
    )
