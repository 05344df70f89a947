"""How a robot makes sense of a line: when somebody speaks, and whether it was what was expected.

Pure: frames and their times go in, utterances come out.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

from ivr.ports import FRAME_SECONDS
from ivr.wire.audio import rms_dbfs

_LOUD = -45.0  # dBFS; line noise and comfort noise stay below, prompts lie at -25 to -15
_ONSET = 3  # loud frames that are speech; fewer are a click
_LEAD = 8  # frames kept from before the onset: soft consonants
_PAUSE = 0.4
_LONGEST = 12.0

_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NUMBERS = frozenset(
    (*_SMALL, *_TENS, "hundred", "thousand", *"零〇一二两三四五六七八九十百千万幺")
)
_TOKEN = re.compile(r"\$?\d+(?:\.\d\d)?|[㐀-鿿]|[^\W\d_㐀-鿿]+")
_MONEY = re.compile(r"\$(\d+)(?:\.(\d\d))?")


@dataclass(frozen=True, slots=True)
class Utterance:
    """Something said, from its first loud frame to its last; `pcm` has some more around it."""

    started: float
    ended: float
    pcm: bytes


class Ear:
    """Cuts what is heard into utterances at pauses, by loudness.

    An utterance longer than `longest` is cut where it stands, so that music cannot fill the memory.
    """

    def __init__(self, pause: float = _PAUSE, longest: float = _LONGEST):
        self._pause = pause
        self._longest = longest
        self._lead: deque[bytes] = deque(maxlen=_LEAD)
        self._loud_run = 0
        self._frames: list[bytes] = []
        self._started = 0.0
        self.last_loud = 0.0

    @property
    def speaking(self) -> bool:
        """Whether somebody speaks; pauses within a sentence count as speech."""
        return bool(self._frames)

    @property
    def started(self) -> float:
        """When the present utterance began."""
        return self._started

    def so_far(self) -> bytes:
        """The present utterance up to now."""
        return b"".join(self._frames)

    def feed(self, frame: bytes, at: float) -> Utterance | None:
        """Take 20 ms that arrived at `at`; return an utterance that is thereby complete."""
        loud = rms_dbfs(frame) > _LOUD
        self._loud_run = self._loud_run + 1 if loud else 0
        if not self.speaking:
            self._lead.append(frame)
            if self._loud_run < _ONSET:
                return None
            self._frames = list(self._lead)
            self._lead.clear()
            self._started = at - (_ONSET - 1) * FRAME_SECONDS
            self.last_loud = at
            return None
        self._frames.append(frame)
        if loud:
            self.last_loud = at
        if at - self.last_loud >= self._pause or at - self._started >= self._longest:
            return self.cut()
        return None

    def cut(self) -> Utterance | None:
        """End the present utterance here, if there is one; what goes on is another."""
        self._loud_run = 0
        if not self._frames:
            return None
        ended, self._frames = Utterance(self._started, self.last_loud, self.so_far()), []
        return ended


def similarity(expected: str, heard: str) -> float:
    """How well `expected` is found as a part of `heard`, 0…1: letters that agree, in order.

    Case, punctuation, and whether a number is written in digits or words make no difference; but
    numbers must agree as numbers, for a wrong amount is a wrong prompt however alike it looks.
    """
    pairs = ((wanted, said) for wanted in _readings(expected) for said in _readings(heard))
    return max((_best_part(wanted, said) for wanted, said in pairs if wanted), default=0.0)


def _best_part(wanted: tuple[str, ...], said: tuple[str, ...]) -> float:
    letters = SequenceMatcher(None, "", "".join(wanted), autojunk=False)
    numbers = [word for word in wanted if word in _NUMBERS]
    best = 0.0
    for size in range(max(1, len(wanted) - 2), len(wanted) + 3):
        for start in range(max(1, len(said) - size + 1)):
            part = said[start : start + size]
            letters.set_seq1("".join(part))
            if letters.real_quick_ratio() <= best or letters.quick_ratio() <= best:
                continue
            score = letters.ratio()
            if numbers:
                found = [word for word in part if word in _NUMBERS]
                score = min(score, SequenceMatcher(None, found, numbers, autojunk=False).ratio())
            best = max(best, score)
    return best


def _readings(text: str) -> Iterator[tuple[str, ...]]:
    """The words of a text, with its numbers as one number or as digits one by one."""
    tokens = _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold().replace("'", ""))
    yield tuple(word for token in tokens for word in _spoken(token, _cardinal))
    yield tuple(word for token in tokens for word in _spoken(token, _digits))


def _spoken(token: str, number: Callable[[str], list[str]]) -> list[str]:
    if money := _MONEY.fullmatch(token):
        cents = [*_cardinal(money[2]), "cents"] if money[2] else []
        return [*_cardinal(money[1]), "dollars", *(["and"] if cents else []), *cents]
    if token.isdecimal():
        return number(token)
    if token[0].isdecimal():
        whole, _, part = token.partition(".")
        return [*_cardinal(whole), "point", *_digits(part)]
    return [token]


def _digits(token: str) -> list[str]:
    return [_SMALL[int(digit)] for digit in token]


def _cardinal(token: str) -> list[str]:
    if len(token) > 6 or (len(token) > 1 and token[0] == "0"):
        return _digits(token)
    value = int(token)
    words: list[str] = []
    if value >= 1000:
        words += [*_cardinal(str(value // 1000)), "thousand"]
    if value % 1000 >= 100:
        words += [_SMALL[value % 1000 // 100], "hundred"]
    rest = value % 100
    if rest >= 20:
        words.append(_TENS[rest // 10 - 2])
        rest %= 10
    if rest or not words:
        words.append(_SMALL[rest])
    return words
