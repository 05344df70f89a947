"""Cuts what is said into sentences, so that the first is heard while the next are made."""

from __future__ import annotations

import re

LONGEST = 300
"""Characters; a longer sentence is cut at commas, and at last anywhere."""

_CLOSING = r"[\"'’”」』）)\]]*"
# Chinese marks end a sentence wherever they stand, European ones before a space: 12.50 is whole.
_END = re.compile(rf"[。！？；]+{_CLOSING}\s*|[.!?…]+{_CLOSING}\s+|\n+")
_CLAUSE = re.compile(r"(?<=[,;:，、：])\s*")
# What a full stop shortens rather than ends. Where it does both ("at 5 p.m. Press 1.") the two
# sentences stay one: that is said well, if a little later.
_SHORTENED = re.compile(
    r"(?:^|[\s(\"'])(?:mrs?|ms|dr|prof|st|mt|jr|sr|ltd|inc|co|corp|vs|etc|approx|dept|ext|tel|ave|rd"
    r"|e\.g|i\.e|a\.m|p\.m|u\.s|u\.k|[A-Za-z])\.$",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"(?:^|[\s(\"'])(?:no|nos|art|sec|fig|p|pp)\.$", re.IGNORECASE)
_LOOKED_BACK = 10


def sentences(text: str) -> list[str]:
    """What can be spoken on its own, in order; never empty parts, nor ones of marks alone."""
    found: list[str] = []
    begins = 0
    for end in _END.finditer(text):
        if not _shortens(text, end):
            found.append(text[begins : end.end()])
            begins = end.end()
    found.append(text[begins:])
    return [
        part
        for sentence in found
        for part in _shorter(" ".join(sentence.split()))
        if any(map(str.isalnum, part))
    ]


def _shortens(text: str, end: re.Match[str]) -> bool:
    if not end[0].startswith(".") or end[0].startswith(".."):
        return False
    stop = end.start() + 1
    before = text[max(0, stop - _LOOKED_BACK) : stop]
    following = text[end.end() : end.end() + 1]
    return bool(
        _SHORTENED.search(before)
        or following.islower()
        or (following.isdigit() and _NUMBERED.search(before))
    )


def _shorter(sentence: str) -> list[str]:
    if len(sentence) <= LONGEST:
        return [sentence]
    parts = [""]
    for clause in _CLAUSE.split(sentence):
        joint = " " if parts[-1] and parts[-1][-1].isascii() else ""
        if len(parts[-1]) + len(clause) < LONGEST:
            parts[-1] += joint + clause
        else:
            parts.append(clause)
    return [
        part[first : first + LONGEST].strip()
        for part in parts
        for first in range(0, len(part), LONGEST)
    ]
