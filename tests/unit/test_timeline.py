"""What is written down of a conversation: enough to run it again, and no secret."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

import pytest

from ivr.flow.events import (
    DigitsPressed,
    Effect,
    End,
    Event,
    Expect,
    Fetch,
    Grammar,
    HungUp,
    Note,
    Say,
    SpeechHeard,
    TextReceived,
    event_from_json,
)
from ivr.timeline import EVENT_KINDS, decided, happened

SAMPLES: dict[str, Any] = {"str": "x", "int": 1, "float": 0.5, "int | None": 3, "Any": {"a": [1]}}


@pytest.mark.parametrize("kind", get_args(Event), ids=lambda kind: kind.__name__)
def test_an_event_can_happen_again(kind: type[Any]) -> None:
    values = {each.name: SAMPLES.get(str(each.type), ()) for each in fields(kind)}
    event = kind(**values)
    name, body = happened(event)
    assert name in EVENT_KINDS
    assert event_from_json(body) == event


@pytest.mark.parametrize(
    "event",
    [
        DigitsPressed("8265", 4),
        SpeechHeard("8265", 0.9, (("8265", 0.1),), 4),
        TextReceived("8265", 4),
    ],
)
def test_an_answer_in_secret_is_left_out(event: Event) -> None:
    _, body = happened(event, secret=True)
    assert body == {"event": type(event).__name__, "turn": 4, "secret": True}


def test_what_is_no_answer_is_told_also_in_secret() -> None:
    assert happened(HungUp("voice", "caller"), secret=True)[1]["cause"] == "caller"


def test_what_was_said_and_decided_is_told_without_what_was_sent() -> None:
    effects: list[Effect] = [
        Say("Hello.", "en", "Hello."),
        Expect(1, "pin", "en", Grammar("en"), secret=True),
        Note("node_entered", {"node": "pin"}),
        Fetch("fetch-1", "POST", "crm", "/4711", 3.0, {"X-Pin": "8265"}, {"pin": "8265"}),
        End("completed"),
    ]
    assert list(decided(effects)) == [
        ("said", {"text": "Hello.", "language": "en"}),
        ("node_entered", {"node": "pin"}),
        ("asked", {"id": "fetch-1", "system": "crm", "method": "POST", "path": "/4711"}),
        ("ended", {"outcome": "completed"}),
    ]
