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


def said(effects: Iterable[Effect]) -> str:
    """All that one step says, without its question's choices; "" for nothing."""
    lines = (effect.text.strip() for effect in effects if isinstance(effect, Say))
    return "\n".join(filter(None, lines))


def asked(effects: Iterable[Effect]) -> Expect | None:
    """The question of one step, of which there is one at most."""
    return next((effect for effect in effects if isinstance(effect, Expect)), None)


def choices(expect: Expect) -> list[str]:
    """A line for each choice: its key, if it has one, and its label. Either answers."""
    return [f"{choice.key} {choice.label}".strip() for choice in expect.choices]
