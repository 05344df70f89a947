"""How what a flow says and asks looks where it is read: SMS, chat and the terminal alike."""

from __future__ import annotations

from collections.abc import Iterable

from ivr.flow.events import Effect, Expect, Say


def message(effects: Iterable[Effect]) -> str:
    """One text of all that one step says, with the choices of its question; "" for nothing."""
    lines: list[str] = []
    for effect in effects:
        match effect:
            case Say():
                lines.append(effect.text.strip())
            case Expect():
                lines += choices(effect)
            case _:
                pass
    return "\n".join(filter(None, lines))


def choices(expect: Expect) -> list[str]:
    """A line for each choice: its key, if it has one, and its label. Either answers."""
    return [f"{choice.key} {choice.label}".strip() for choice in expect.choices]
