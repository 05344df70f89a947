"""What designers write in quotes and braces: expressions (`ivr.flow.cel`), prompts with holes.

A prompt is parsed once, when its flow is loaded, and what fills it is never parsed at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ivr.flow import spoken
from ivr.flow.cel import Compiled, compile_expression
from ivr.flow.cel_values import EvaluationError

__all__ = [
    "Compiled",
    "EvaluationError",
    "Hole",
    "Prompt",
    "clean_value",
    "compile_expression",
    "parse_prompt",
]

TEMPLATE_LIMIT = 4_000
VALUE_LIMIT = 500

_NAME = r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*"
_HOLE = re.compile(rf"\{{\s*({_NAME})\s*(?::\s*(\w*)\s*)?\}}")


@dataclass(frozen=True, slots=True)
class Hole:
    """A place in a prompt that a value fills: the value's path and its format, if any."""

    path: tuple[str, ...]
    format: str = ""
    column: int = 0


@dataclass(frozen=True, slots=True)
class Prompt:
    """A designer's text with holes. `names` are the slots and fetched things that fill them."""

    template: str
    parts: tuple[str | Hole, ...]
    names: frozenset[str]

    def render(
        self,
        names: Mapping[str, Any],
        language: str,
        *,
        voice: bool,
        now: datetime | None = None,
    ) -> str:
        """The text with every hole filled, never failing: what is missing is left out.

        Values are inserted as data: on one line, without control characters, at most 500 characters
        each, and never read again as a template. With `now` a near date is said without its year.
        """
        texts = [
            part
            if isinstance(part, str)
            else _filled(part, _lookup(names, part.path), language, voice, now)
            for part in self.parts
        ]
        if voice and language == "zh":
            for at, part in enumerate(self.parts[:-1]):
                if isinstance(part, Hole):
                    before = texts[at - 1] if at else ""
                    texts[at] = spoken.before_measure(texts[at], before, texts[at + 1])
        return "".join(texts)


def _lookup(names: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = names
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _filled(hole: Hole, value: Any, language: str, voice: bool, now: datetime | None) -> str:
    if value is None:
        return ""
    if hole.format:
        text = spoken.render(hole.format, value, language, voice=voice, now=now)
    elif isinstance(value, list | tuple):
        items = (_filled(hole, item, language, voice, now) for item in value[:20])
        text = ("、" if language == "zh" else ", ").join(item for item in items if item)
    elif isinstance(value, Mapping):
        text = ""
    else:
        text = spoken.plain(value, language)
    return clean_value(text)


def clean_value(text: str) -> str:
    """A value as data in running text: one line, nothing unprintable, of bearable length."""
    printable = "".join(char if char.isprintable() else " " for char in text[: VALUE_LIMIT * 2])
    return " ".join(printable.split())[:VALUE_LIMIT]


def parse_prompt(template: str) -> Prompt:
    """The prompt of a template. Raises ValueError with one line that names column and fault.

    `{name}`, `{a.b}` and `{name:format}` are holes; `{{` and `}}` stand for braces.
    """
    if len(template) > TEMPLATE_LIMIT:
        raise ValueError(f"the prompt is longer than {TEMPLATE_LIMIT} characters")
    parts: list[str | Hole] = []
    literal, at = "", 0
    while at < len(template):
        char = template[at]
        if template[at : at + 2] in ("{{", "}}"):
            literal, at = literal + char, at + 2
        elif char == "}":
            raise ValueError(f"column {at + 1}: a '}}' without its '{{'; write '}}}}' for a brace")
        elif char != "{":
            literal, at = literal + char, at + 1
        else:
            hole, at = _hole(template, at)
            parts += [literal, hole] if literal else [hole]
            literal = ""
    if literal:
        parts.append(literal)
    names = frozenset(part.path[0] for part in parts if isinstance(part, Hole))
    return Prompt(template, tuple(parts), names)


def _hole(template: str, at: int) -> tuple[Hole, int]:
    match = _HOLE.match(template, at)
    if match is None:
        raise ValueError(
            f"column {at + 1}: write {{name}} or {{name:format}} here, or '{{{{' for a brace"
        )
    path, form = match.group(1), match.group(2)
    if form is not None and form not in spoken.FORMATS:
        raise ValueError(
            f"column {at + 1}: {form!r} is not a format; there are {', '.join(spoken.FORMATS)}"
        )
    return Hole(tuple(path.split(".")), form or "", at + 1), match.end()
