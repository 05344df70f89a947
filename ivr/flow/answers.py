"""How far what a caller has said so far is an answer: what decides how long to wait for more.

Worked out from the `Expect` alone, on every partial text of a recogniser.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from ivr.flow import spoken
from ivr.flow.events import Expect, Grammar
from ivr.flow.phrases import normalise

_RANK = ("none", "partial", "full", "final")


def progress(expect: Expect, text: str, now: datetime) -> str:
    """`none`, `partial`, `full` (something longer could still match) or `final` (nothing can).

    `now` is not needed as long as what is expected does not depend on the day.
    """
    said = normalise(text[:1_000])
    if not said:
        return "none"
    whole, beginnings = _phrases(expect.grammar)
    far = "none"
    if said in whole:
        far = "full" if said in beginnings or _goes_on(expect, said) else "final"
    elif said in beginnings:
        far = "partial"
    if expect.slot_type and expect.slot_type not in ("yes_no", "choice"):
        value = spoken.progress(
            expect.slot_type,
            text,
            expect.language,
            minimum=expect.keypad.minimum,
            maximum=expect.keypad.maximum,
        )
        far = max(far, value, key=_RANK.index)
    if far == "none" and _only_words(expect.grammar, said):
        far = "partial"
    return far


def _goes_on(expect: Expect, said: str) -> bool:
    """Whether words may follow a "no": the correction."""
    if expect.slot_type != "yes_no" or not expect.grammar.words:
        return False
    return spoken.parse("yes_no", said, expect.language, now=_ANY_DAY) is False


_ANY_DAY = datetime(2000, 1, 1)


def _only_words(grammar: Grammar, said: str) -> bool:
    words, letters = _words(grammar)
    parts = said.split()
    known = words | _phrases(grammar)[0]
    return bool(words) and all(
        part in known or (not part.isascii() and set(part) <= letters) for part in parts
    )


@lru_cache(maxsize=512)
def _words(grammar: Grammar) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(grammar.words), frozenset("".join((*grammar.words, *grammar.phrases)))


@lru_cache(maxsize=512)
def _phrases(grammar: Grammar) -> tuple[frozenset[str], frozenset[str]]:
    """The phrases, and what one of them begins with: by word, or by Chinese character."""
    beginnings = set()
    for phrase in grammar.phrases:
        for end in range(1, len(phrase)):
            if phrase[end] == " " or not (phrase[end - 1].isascii() and phrase[end].isascii()):
                beginnings.add(phrase[:end].strip())
    return frozenset(grammar.phrases), frozenset(beginnings)
