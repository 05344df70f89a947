"""What may be said for a choice: phrases with `(a|b)` and `[optional]` parts, and what fits them.

Everything is compared in one normal form, so that what a recogniser heard, what a customer typed
and what a designer wrote meet: lower case, full-width forms narrowed, no punctuation, single
spaces, and no spaces at all between Chinese characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import TypeVar

M = TypeVar("M")

LIMIT = 200
"""The most phrases that one pattern may stand for: beyond it the designer has made a mistake."""

_LENGTH_LIMIT = 300
_DEPTH_LIMIT = 8
_CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_BETWEEN_CJK = re.compile(rf"(?<=[{_CJK}])\s+(?=[{_CJK}])")
_NOT_SPOKEN = re.compile(r"[^\w'*#+]+|_+")
_MARK = re.compile(r"[][()|]")


@lru_cache(maxsize=4096)
def normalise(text: str) -> str:
    """The form in which phrases and what was heard or typed are compared."""
    text = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    text = " ".join(_NOT_SPOKEN.sub(" ", text).split())
    return _BETWEEN_CJK.sub("", text)


def expand(pattern: str) -> tuple[str, ...]:
    """Every phrase that a pattern stands for, normalised, the plainest (no optional part) first.

    Raises ValueError, with one line for the designer, on brackets that do not pair, on a pattern
    that says nothing, and on one that stands for more than `LIMIT` phrases.
    """
    phrases = tuple(dict.fromkeys(filter(None, map(normalise, _readings(pattern)))))
    if not phrases:
        raise ValueError(f"the phrase {pattern!r} says nothing")
    return phrases


def label(pattern: str) -> str:
    """The pattern's plainest reading as the designer spelled it: what a text channel prints."""
    readings = (" ".join(reading.split()) for reading in _readings(pattern))
    return next(reading for reading in readings if normalise(reading))


def _readings(pattern: str) -> list[str]:
    if len(pattern) > _LENGTH_LIMIT:
        raise ValueError(f"the phrase is longer than {_LENGTH_LIMIT} characters")
    readings, end = _alternatives(pattern, 0, "", 0)
    assert end == len(pattern)
    return readings


def _alternatives(pattern: str, at: int, closing: str, depth: int) -> tuple[list[str], int]:
    """Read up to `closing` ("" is the end of the pattern) and return what follows it too."""
    if depth > _DEPTH_LIMIT:
        raise ValueError(f"the phrase {pattern!r} has brackets nested over {_DEPTH_LIMIT} deep")
    done: list[str] = []
    current = [""]
    while True:
        mark = _MARK.search(pattern, at)
        literal = pattern[at : mark.start() if mark else len(pattern)]
        current = _joined(pattern, current, [literal])
        if mark is None:
            if closing:
                raise ValueError(f"the phrase {pattern!r} lacks a {closing!r}")
            return done + current, len(pattern)
        at = mark.end()
        match mark.group():
            case "|" if closing:
                done, current = done + current, [""]
            case "(":
                inside, at = _alternatives(pattern, at, ")", depth + 1)
                current = _joined(pattern, current, inside)
            case "[":
                inside, at = _alternatives(pattern, at, "]", depth + 1)
                current = _joined(pattern, current, ["", *inside])
            case sign if sign == closing:
                return done + current, at
            case sign:
                raise ValueError(f"the phrase {pattern!r} has a {sign!r} out of place")


def _joined(pattern: str, heads: list[str], tails: list[str]) -> list[str]:
    if len(heads) * len(tails) > LIMIT:
        raise ValueError(f"the phrase {pattern!r} stands for more than {LIMIT} phrases")
    return [head + tail for tail in tails for head in heads]


def find(text: str, phrases: Mapping[str, M]) -> tuple[M, bool] | None:
    """What a normalised text means, and whether it is a phrase as it stands.

    `phrases` maps normalised phrases to their meanings. A text that only contains phrases counts
    when they all mean the same: "my bill please" is the bill, "the bill or a repair" is nothing.
    A phrase within a longer one that was heard does not count: "go back" is not "back".
    """
    if text in phrases:
        return phrases[text], True
    rest = f" {text} "
    meanings: list[M] = []
    for phrase in sorted(phrases, key=len, reverse=True):
        heard = phrase if phrase[0] >= "\u3400" and len(phrase) > 1 else f" {phrase} "
        if heard in rest:
            meanings.append(phrases[phrase])
            rest = rest.replace(heard, " | ")
    if not meanings or any(meaning != meanings[0] for meaning in meanings):
        return None
    return meanings[0], False
