"""How what a test wants to hear is found in what was said: by words, not by how they are set."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")
_NOT_WORDS = re.compile(r"(?<!\d)[.,:/]|[.,:/](?!\d)|[^\w\s$£€¥%+*#@&.,:/]|_")
_AT_CJK = re.compile(rf"(?<=[{_CJK}])\s+|\s+(?=[{_CJK}])")


@lru_cache(maxsize=8192)
def fold(text: str) -> str:
    """The form in which texts are compared: lower case, without punctuation but in numbers, single
    spaces, and none around Chinese characters."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = _NOT_WORDS.sub(" ", _APOSTROPHE.sub("", text))
    return _AT_CJK.sub("", " ".join(text.split()))


def find(wanted: str, said: str, start: int = 0) -> int:
    """Where, in a folded text, that ends what is `wanted`; -1 where it is not after `start`.

    Any part of the text will do, but no part of a number: "2.50" is not in "12.50".
    """
    wanted = fold(wanted)
    while (at := said.find(wanted, start)) >= 0:
        end = at + len(wanted)
        if not (_in_number(said, at) or _in_number(said, end)):
            return end
        start = at + 1
    return -1


def _in_number(text: str, at: int) -> bool:
    """Whether a place is inside of a number, or right before or behind its point."""
    return _INSIDE.search(text[max(0, at - 2) : at] + "|" + text[at : at + 2]) is not None


_INSIDE = re.compile(r"\d\|\d|\d[.,:/]\|\d|\d\|[.,:/]\d")
