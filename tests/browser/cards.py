"""Cards as a busy agent has them, for tests and pictures."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from cti import protocol
from tests.browser.conftest import NOW

_AGO = timedelta(minutes=3)


def call(**about: Any) -> protocol.PopCard:
    values: dict[str, Any] = {
        "conversation": "c1",
        "kind": "call",
        "stage": "active",
        "since": NOW - _AGO,
        "answered_at": NOW - _AGO,
        "channel": "voice",
        "number": "+1 415-555-0123",
        "verified": "known",
        "dialled": "100",
        "name": "Maria Gonzalez",
        "topic": "billing",
        "language": "en",
        "waited": 42.0,
        "path": ("welcome", "main", "billing", "account", "people"),
        "facts": (
            {"name": "account", "value": "12345678", "first": True},
            {"name": "balance", "value": "87.20 USD", "first": True, "source": "crm"},
            {"name": "visit", "value": "2026-11-23"},
            {"name": "tariff", "value": "Family 20", "source": "crm"},
        ),
        "transcript": (
            line("hotline", "Welcome. What is it about?", 0),
            line("caller", "my bill is too high", 6),
            line("hotline", "What is your account number?", 10),
            line("caller", "one two free for", 15, misheard=True),
            line("hotline", "I did not understand. Please say or press all eight digits.", 18),
            line("caller", "one two three four five six seven eight", 26),
            line("caller", "I want to talk to somebody please", 40),
        ),
        "earlier": (
            {
                "at": NOW - timedelta(days=3),
                "topic": "main",
                "outcome": "completed",
                "agent": "bob",
                "note": "Sent a copy of the bill.",
                "channel": "voice",
            },
            {
                "at": NOW - timedelta(days=20),
                "topic": "support",
                "outcome": "resolved",
                "agent": "",
                "note": "",
                "channel": "chat",
            },
        ),
        "notes": (
            {
                "text": "Prefers to be called in the morning.",
                "agent": "bob",
                "at": NOW - timedelta(days=3),
            },
        ),
        "channels": ("sms", "email"),
        "can": (
            *("hang_up", "hold", "mute", "keys", "transfer", "park", "text_to"),
            *("note", "contact", "fact"),
        ),
    }
    return protocol.PopCard.model_validate(values | about)


def line(who: str, text: str, second: int, misheard: bool = False) -> protocol.PopLine:
    return protocol.PopLine(
        who=who, text=text, at=NOW - _AGO + timedelta(seconds=second), misheard=misheard
    )


def text(number: int, who: str, words: str, **about: Any) -> protocol.ChatMessage:
    values = {
        "id": f"m{number}",
        "who": who,
        "text": words,
        "at": NOW - _AGO + timedelta(seconds=10 * number),
    }
    return protocol.ChatMessage.model_validate(values | about)


def chat(**about: Any) -> protocol.PopCard:
    values: dict[str, Any] = {
        "conversation": "t1",
        "kind": "chat",
        "stage": "active",
        "since": NOW - _AGO,
        "answered_at": NOW - _AGO,
        "channel": "chat",
        "number": "",
        "dialled": "",
        "name": "Wei Chen",
        "topic": "delivery",
        "language": "en",
        "waited": 8.0,
        "facts": ({"name": "order", "value": "A-4711", "first": True},),
        "messages": (
            text(1, "flow", "What is your order number?"),
            text(2, "customer", "A-4711"),
            text(3, "flow", "A person will be with you in a moment."),
            text(4, "customer", "Is it coming on Sunday?"),
            text(
                5,
                "customer",
                "",
                file={
                    "name": "parcel.jpg",
                    "type": "image/jpeg",
                    "bytes": 183_211,
                    "url": "/api/files/f1",
                },
            ),
            text(6, "agent", "Let me look.", name="Ann Lindqvist", status="read"),
        ),
        "can": ("say", "hang_up", "transfer", "give_back", "note", "contact", "fact"),
    }
    return protocol.PopCard.model_validate(values | about)
