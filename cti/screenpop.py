"""What an agent sees before saying hello: everything the caller already told us, the useful first.

All of it is plain text from callers and other systems. It is cut to length, and characters that
steer a display (controls, bidirectional overrides) are taken out, so that a caller's name cannot
repaint the page around it. Each part of a card has a share of its size, so that one that is full
does not crowd the others out.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import phonenumbers

from cti.popcard import PopCard, PopContact, PopEarlier, PopFact, PopLine, PopNote
from ivr.model import (
    AgentNote,
    Channel,
    Contact,
    Dossier,
    PastConversation,
    Ticket,
    TimelineEntry,
)

P = TypeVar("P")

VERIFIED = "verified"
"""The slot or fetched value that is true once a flow has proved who calls."""

_LIMITS = {"name": 80, "value": 200, "step": 80, "line": 300, "note": 500}
_FACTS = 30
_STEPS = 20
_LINES = 12
EARLIER = 5
_NOTES = 10
_MATCHES = 8
_NUMBERS = 5
_ITEMS = 20
_DEPTH = 3

# Bytes of JSON; a whole card stays under 64 KiB, the texts of a chat not counted.
_SHARES = {"facts": 18_000, "path": 4_000, "lines": 12_000, "earlier": 9_000, "notes": 9_000}
_MATCH_BYTES = 6_000

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

# What tells that an utterance was understood (and as what), or that it was not.
_UNDERSTOOD = frozenset({"matched", "slot_filled", "confirming"})
_MISHEARD = frozenset({"no_match", "refused", "corrected"})

KINDS = (*_SPOKEN, *sorted(_UNDERSTOOD | _MISHEARD), "noted")
"""The kinds of timeline entries that a card is made of."""


@dataclass(frozen=True, slots=True)
class ConversationView:
    """What may be shown of a conversation's flow: never a secret slot, of which `secret` has the
    names alone. Made by whoever knows the engine's state; `path` is the way through the flow in
    words, oldest first."""

    topic: str = ""
    path: tuple[str, ...] = ()
    slots: Mapping[str, Any] = field(default_factory=dict)
    language: str = ""
    node: str = ""
    secret: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CustomerRecord:
    """What another system knows of the customer, by name. `state` is as `PopCard.crm_state`."""

    state: Literal["", "loading", "ready", "failed"] = ""
    facts: tuple[tuple[str, str], ...] = ()


NO_RECORD = CustomerRecord()


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
    dossier: Dossier,
    *,
    waited: float,
    region: str,
    record: CustomerRecord = NO_RECORD,
) -> PopCard:
    """Put everything that is known into the order in which an agent needs it. `waited` is seconds
    in line."""
    leg, contact = dossier.leg, dossier.contact
    person = contact if contact is not None and contact.name else None
    choice = person is None or len(dossier.sharing) > 1
    matches = dossier.sharing[:_MATCHES] if choice else ()
    transcript = _transcript(dossier.entries)
    return PopCard(
        conversation=ticket.conversation_id,
        channel=leg.peer.channel.value,
        number=shown_number(leg.peer.value, region),
        dialled=clean(leg.dialled, _LIMITS["name"]),
        name=clean(person.name, _LIMITS["name"]) if person else "",
        topic=clean(view.topic, _LIMITS["step"]),
        language=clean(ticket.language or view.language, 16),
        waited=round(max(0.0, waited), 1),
        path=_last(
            (clean(step, _LIMITS["step"]) for step in reversed(view.path[-_STEPS:])),
            _SHARES["path"],
        ),
        facts=_first(_facts(ticket.pop, view.slots, dossier.corrections, record), _SHARES["facts"]),
        transcript=_last(reversed(transcript), _SHARES["lines"]),
        earlier=_first(map(shown_past, dossier.earlier[:EARLIER]), _SHARES["earlier"]),
        verified=_verified(view, person, dossier.sharing),
        contact=shown_contact(person, region) if person else None,
        matches=_first((shown_contact(one, region) for one in matches), _MATCH_BYTES),
        crm_state=record.state,
        notes=_first(_notes(dossier.entries, dossier.notes), _SHARES["notes"]),
    )


def shown_contact(contact: Contact, region: str) -> PopContact:
    """A customer in our book, as agents see one."""
    numbers = dict.fromkeys(
        address.value
        for address in contact.addresses
        if address.channel in (Channel.VOICE, Channel.SMS)
    )
    return PopContact(
        id=contact.id,
        name=clean(contact.name, _LIMITS["name"]),
        language=clean(contact.language, 16),
        numbers=tuple(shown_number(number, region) for number in list(numbers)[:_NUMBERS]),
    )


def _verified(
    view: ConversationView, person: Contact | None, sharing: Sequence[Contact]
) -> Literal["claimed", "known", "verified"]:
    if view.slots.get(VERIFIED) is True:
        return "verified"
    known = person is not None and [one.id for one in sharing] == [person.id]
    return "known" if known else "claimed"


def _facts(
    pop: Sequence[tuple[str, str]],
    slots: Mapping[str, Any],
    corrections: Mapping[str, tuple[str, str]],
    record: CustomerRecord,
) -> list[PopFact]:
    """What the flow wants first, then what it learnt, then what only an agent or another system
    knows; each name once. What an agent has corrected stands in place of what was thought."""
    known = [(name, value, True, "flow") for name, value in pop[:_FACTS]]
    known += [
        (name, value, False, "flow")
        for name, value in slots.items()
        if value not in (None, "", {}, [])
    ]
    known += [(name, value, False, "flow") for name, (value, _) in corrections.items()]
    known += [(name, value, False, "crm") for name, value in record.facts]
    corrected = {clean(name, _LIMITS["name"]): told for name, told in corrections.items()}
    facts: dict[str, PopFact] = {}
    for given, value, first, source in known:
        name, shown = clean(given, _LIMITS["name"]), clean(value, _LIMITS["value"])
        if source == "crm" and name in facts:
            if name in corrected or facts[name].value == shown:
                continue
            name = f"crm {name}"  # the two do not agree: let the agent see it
        if name in facts or len(facts) >= _FACTS:
            continue
        if name in corrected:
            shown, source = clean(corrected[name][0], _LIMITS["value"]), corrected[name][1]
        facts[name] = PopFact(name=name, value=shown, first=first, source=source)
    return list(facts.values())


def _transcript(entries: Sequence[TimelineEntry]) -> list[PopLine]:
    """The last utterances. The customer's are marked that fitted nothing, and those of which the
    customer said afterwards that they were understood wrong."""
    lines: list[PopLine] = []
    meant: dict[str, int] = {}  # the line from which we have each slot, or choice
    spoken = -1
    for entry in entries:
        who, words = _SPOKEN.get(entry.kind, ("", ""))
        if who:
            text = clean(entry.body.get(words, ""), _LIMITS["line"])
            if text:
                lines.append(PopLine(who=who, text=text, at=entry.at))
            if who == "caller":
                spoken = len(lines) - 1 if text else -1
            continue
        wrong = []
        if entry.kind == "no_match":
            wrong = [spoken]
        elif entry.kind in _MISHEARD:
            wrong = [meant.pop(name, -1) for name in _subjects(entry)]
        for index in wrong:
            if index >= 0:
                lines[index] = lines[index].model_copy(update={"misheard": True})
        if entry.kind in _UNDERSTOOD or entry.kind == "corrected":
            meant.update(dict.fromkeys(_subjects(entry), spoken))
    return lines[-_LINES:]


def _subjects(entry: TimelineEntry) -> Iterator[str]:
    """What a decision is about: slots by name, or the choice."""
    slots = entry.body.get("slots")
    if isinstance(slots, Mapping):
        yield from map(str, slots)
    if "slot" in entry.body:
        yield str(entry.body["slot"])
    if "choice" in entry.body:
        yield "\0choice"


def shown_past(past: PastConversation) -> PopEarlier:
    """An earlier conversation, as agents see one."""
    return PopEarlier(
        at=past.started_at,
        topic=clean(past.flow, _LIMITS["step"]),
        outcome=clean(past.outcome, _LIMITS["step"]),
        agent=clean(past.agent, _LIMITS["name"]),
        note=clean(past.note, _LIMITS["note"]),
        channel=past.channel.value,
    )


def _notes(entries: Sequence[TimelineEntry], before: Sequence[AgentNote]) -> list[PopNote]:
    """This conversation's, the last one of each agent, and then those of earlier ones."""
    here = {
        str(entry.body.get("agent", "")): AgentNote(
            str(entry.body.get("note", "")), str(entry.body.get("agent", "")), entry.at
        )
        for entry in entries
        if entry.kind == "noted"
    }
    return [
        PopNote(
            text=clean(note.text, _LIMITS["note"]),
            agent=clean(note.agent, _LIMITS["name"]),
            at=note.at,
        )
        for note in [*here.values(), *before][:_NOTES]
        if note.text
    ]


def _first(parts: Iterable[P], size: int) -> tuple[P, ...]:
    """As many of the first as fit into so many bytes of JSON."""
    kept: list[P] = []
    for part in parts:
        text = part if isinstance(part, str) else part.model_dump_json()  # type: ignore[attr-defined]
        size -= len(json.dumps(text, ensure_ascii=False).encode()) + 1
        if size < 0:
            break
        kept.append(part)
    return tuple(kept)


def _last(parts: Iterable[P], size: int) -> tuple[P, ...]:
    """As many of these, the latest first, as fit; told in the order of time."""
    return _first(parts, size)[::-1]
