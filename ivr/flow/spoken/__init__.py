"""Values as people say, press, type and hear them: where a flow's slots meet language.

`parse` reads speech and typing alike, `parse_keys` the keypad, `words`, `phrases` and `progress`
tell a recogniser what to expect and when it has heard enough, and `render` says a value back.

Where a person could be understood in two ways, this is what is understood:

- Dates: see `ivr.flow.spoken.days`. "3/5" is the fifth of March in both languages, "25/12" can only
  be Christmas. "Next Tuesday" and 下周二 are Tuesday of the calendar week after this one.
- Times without morning or afternoon follow office hours: one to six are past noon, seven to eleven
  before it, twelve is noon. A leading zero ("oh seven thirty", 07:30) is the 24-hour clock.
  "Half three" is 15:30, as in Britain.
- Amounts: "twelve fifty" and "two fifty" are 12.50 and 2.50; "twelve hundred" is 1200; 十二块五 is
  12.50 and 一万二 is 12000.
- Digits: "one hundred twenty three" is 123, "one eight hundred" 1800, "twenty three" 23; where a
  length is asked for, the reading that has it is taken. "double oh seven" is 007.
- After a slip ("three, no, four"; 三，不对，四) the correction counts.
- Two different values ("three or four") are no value.

Each language's reader is tried first, then the other's: people mix them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from types import ModuleType
from typing import Any, Literal

import phonenumbers

from ivr.flow.phrases import expand, find, normalise
from ivr.flow.spoken import chinese, chinese_time, days, english, english_time, english_words
from ivr.flow.spoken.saying import FORMATS, before_measure, plain, render
from ivr.flow.spoken.vocabulary import PHRASES, WORDS

__all__ = [
    "FORMATS",
    "KINDS",
    "before_measure",
    "parse",
    "parse_keys",
    "phrases",
    "plain",
    "progress",
    "render",
    "words",
]

KINDS = ("digits", "number", "money", "date", "time", "phone", "yes_no", "choice", "text")
TEXT_LIMIT = 500
_TEXT_SLOT_LIMIT = 2_000
_HOME_REGION = {"en": "US", "zh": "CN"}
_NUMBERS: dict[str, ModuleType] = {"en": english, "zh": chinese}
_WORDS: dict[str, ModuleType] = {"en": english_words, "zh": chinese}
_TIMES: dict[str, ModuleType] = {"en": english_time, "zh": chinese_time}

Options = Mapping[str, Sequence[str]]


# --- understanding ------------------------------------------------------------------------------


def parse(
    kind: str,
    text: str,
    language: str,
    *,
    now: datetime,
    minimum: int = 0,
    maximum: int = 0,
    options: Options | None = None,
    region: str = "US",
) -> Any:
    """The value of `kind` that a person would find in what was said or typed, or None.

    digits: str; number: int or float; money: float; date: "YYYY-MM-DD"; time: "HH:MM"; phone:
    E.164, or bare digits where no country can be told (`region` is the one assumed); yes_no: bool;
    choice: the option's name; text: str. `minimum` and `maximum` are lengths, for digits only; 0 is
    no bound. Never raises on any text. `now` is the time where the customer is.
    """
    if kind == "text":
        return _free_text(text)
    text = _narrow(text)
    if not text:
        return None
    if kind == "choice":
        return _choice(text, options or {})
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is not a kind of slot; there are {', '.join(KINDS)}")
    asked = _Asked(now, minimum, maximum, region, language)
    own, other = ("zh", "en") if language == "zh" else ("en", "zh")
    value = _corrected(kind, text, own, asked)
    # Only where the script says so: what is doubtful in one language stays so in the other.
    if value is None and (_HAN.search(text) is not None) == (other == "zh"):
        value = _corrected(kind, text, other, asked)
    return value


_HAN = re.compile("[\u4e00-\u9fff]")


def _narrow(text: str) -> str:
    text = unicodedata.normalize("NFKC", text[:TEXT_LIMIT]).casefold().replace("’", "'")
    return " ".join("".join(c if c.isprintable() else " " for c in text[:TEXT_LIMIT]).split())


def _free_text(text: str) -> str | None:
    kept = "".join(char if char.isprintable() or char == "\n" else " " for char in text)
    return kept.strip()[:_TEXT_SLOT_LIMIT].strip() or None


@dataclass(frozen=True, slots=True)
class _Asked:
    """What was asked for, besides its kind: the bounds, and where and when the customer is."""

    now: datetime
    minimum: int
    maximum: int
    region: str
    language: str


def _corrected(kind: str, text: str, reader: str, asked: _Asked) -> Any:
    """The value after the last slip of the tongue; the words before it count when none follow."""
    if kind == "yes_no":
        return _yes_no(text, reader)

    def read(piece: str) -> Any:
        negated = _WORDS[reader].NEGATED.search(piece) is not None
        return None if negated else _READERS[kind](piece, reader, asked)

    pieces = [piece.strip(" ,.") for piece in _WORDS[reader].CORRECTIONS.split(text)]
    pieces = [piece for piece in pieces if piece]
    if len(pieces) < 2:
        return read(text)
    for piece in reversed(pieces):
        value = read(piece)
        if value is not None:
            return value
        if _touches(kind, piece, reader):
            return None
    return None


def _touches(kind: str, text: str, language: str) -> bool:
    """Whether any word of the kind stands in the text."""
    if any(char.isdigit() for char in text):
        return True
    known = set(words("digits" if kind in ("digits", "phone") else kind, language))
    if language == "zh":
        return any(word in text for word in known)
    return any(token in known for token in english.tokens(text))


def _digits(text: str, reader: str, asked: _Asked) -> str | None:
    return pick_digits(_digit_runs(text, reader), asked.minimum, asked.maximum)


def _digit_runs(text: str, reader: str) -> list[list[str]]:
    """The readings of each stretch of digits; one that can be read in no way is none."""
    return [run for run in _NUMBERS[reader].digit_runs(text) if run]


def pick_digits(runs: list[list[str]], minimum: int, maximum: int) -> str | None:
    """Of the stretches of digits in a text the one that fits, or all of them together."""

    def fitting(readings: list[str]) -> str | None:
        fits = (digits for digits in readings if _fits(digits, minimum, maximum))
        return next(fits, None)

    found = {digits for run in runs if (digits := fitting(run)) is not None}
    if len(found) == 1 and (len(runs) == 1 or minimum):
        return found.pop()
    together = fitting(["".join(run[0] for run in runs)]) if len(runs) > 1 and minimum else None
    if not found:
        return together
    return found.pop() if len(found) == 1 else None


def _fits(digits: str, minimum: int, maximum: int) -> bool:
    return max(minimum, 1) <= len(digits) <= (maximum or 64)


def _number(text: str, reader: str, asked: _Asked) -> Any:
    return _NUMBERS[reader].number(text)


def _money(text: str, reader: str, asked: _Asked) -> Any:
    return _NUMBERS[reader].money(text)


def _date(text: str, reader: str, asked: _Asked) -> Any:
    return _TIMES[reader].day(text, asked.now)


def _time(text: str, reader: str, asked: _Asked) -> Any:
    return _TIMES[reader].time(text, asked.now)


def _phone(text: str, reader: str, asked: _Asked) -> str | None:
    abroad = re.search(r"\+|\bplus\b|^00\d|加(?=[零〇一二三四五六七八九幺\d])", text) is not None
    runs = _digit_runs(text, reader)
    readings = runs[0] if len(runs) == 1 else []
    if len(runs) > 1:
        long = [run for run in runs if len(run[0]) >= 7]
        readings = long[0] if len(long) == 1 else [] if long else ["".join(run[0] for run in runs)]
    bare = None
    for digits in readings:
        number = phone_number(digits, asked.region, asked.language, abroad=abroad)
        if number is not None and number.startswith("+"):
            return number
        bare = bare or number
    return bare


def phone_number(digits: str, region: str, language: str, *, abroad: bool = False) -> str | None:
    """E.164 where the digits are valid in the region or the language's home, else as they are."""
    if abroad:
        number = _valid("+" + digits.removeprefix("00"), None)
        return number or (digits if 7 <= len(digits) <= 15 else None)
    for country in dict.fromkeys((region, _HOME_REGION.get(language, region))):
        number = _valid(digits, country)
        if number is not None:
            return number
    return digits if 3 <= len(digits) <= 15 else None


@lru_cache(maxsize=1_024)
def _valid(digits: str, region: str | None) -> str | None:
    try:
        number = phonenumbers.parse(digits, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _yes_no(text: str, reader: str) -> bool | None:
    said, known = _polite(text, reader), _yes_no_phrases(reader)
    meant = find(said, known)
    if meant is None or (meant == ("yes", False) and _denied(said, known, reader)):
        return None
    return {"yes": True, "no": False}.get(meant[0])


def _denied(said: str, known: Mapping[str, str], language: str) -> bool:
    """Whether a "not" stands beside the yes: "not so sure", 不太好."""
    for phrase in sorted(known, key=len, reverse=True):
        said = said.replace(phrase, " ") if len(phrase) > 1 else said
    return _NOT[language].search(said) is not None


_NOT = {"en": re.compile(r"\bnot\b|n't\b"), "zh": re.compile("[不没别]")}


@lru_cache(maxsize=8)
def _yes_no_phrases(language: str) -> dict[str, str]:
    module = _WORDS[language]
    meanings = (("yes", module.YES), ("no", module.NO), ("unsure", module.UNSURE))
    return {normalise(phrase): meaning for meaning, said in meanings for phrase in said}


_POLITE = {
    "en": re.compile(
        r"\b(?:um+|uh|er|erm|ah|oh|well|hm+|please|thanks|thank you|i think|i guess|sir|madam"
        r"|ma'am|actually|so)\b"
    ),
    "zh": re.compile(
        "谢谢|麻烦你?您?|[嗯呃额啊哦噢吧呢嘛呀](?=.)|那个|我觉得|应该(?=是|对|不|没)|请|[吧呢嘛呀啊哦]$"
    ),
}  # fmt: skip


def _polite(text: str, language: str) -> str:
    """Without the words around an answer; unless nothing else is left."""
    said = normalise(text.translate(chinese.FOLDED) if language == "zh" else text)
    if said in _yes_no_phrases(language):
        return said
    bare = normalise(_POLITE[language].sub(" ", said))
    return bare or said


_Read = Callable[[str, str, _Asked], Any]
_READERS: dict[str, _Read] = {
    "digits": _digits,
    "number": _number,
    "money": _money,
    "date": _date,
    "time": _time,
    "phone": _phone,
}


def _choice(text: str, options: Options) -> str | None:
    meanings = _option_phrases(_frozen(options))
    meant = find(normalise(text), meanings)
    return None if meant is None else meant[0]


def _frozen(options: Options) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((name, tuple(said)) for name, said in options.items())


@lru_cache(maxsize=256)
def _option_phrases(options: tuple[tuple[str, tuple[str, ...]], ...]) -> dict[str, str]:
    """Each phrase's option; a phrase of two options means neither."""
    found: dict[str, set[str]] = {}
    for name, patterns in options:
        for pattern in (*patterns, name.replace("_", " ")):
            for phrase in _expanded(pattern):
                found.setdefault(phrase, set()).add(name)
    return {phrase: names.pop() for phrase, names in found.items() if len(names) == 1}


def _expanded(pattern: str) -> tuple[str, ...]:
    try:
        return expand(pattern)
    except ValueError:
        return ()


# --- keys ---------------------------------------------------------------------------------------


def parse_keys(
    kind: str,
    digits: str,
    *,
    language: str,
    now: datetime,
    minimum: int = 0,
    maximum: int = 0,
    options: Options | None = None,
    region: str = "US",
) -> Any:
    """The value that keys stand for, or None.

    date: MMDD, YYYYMMDD or MMDDYYYY, never day before month; time: HHMM on the 24-hour clock, HMM
    or the hour alone by office hours; money and number: `*` is the decimal point; yes_no: 1 and 2;
    choice: the n-th option's number; `text` cannot be pressed.
    """
    if not re.fullmatch(r"[0-9*]{1,64}", digits):
        return None
    if kind == "digits":
        return digits if digits.isdigit() and _fits(digits, minimum, maximum) else None
    read = _KEYED.get(kind)
    if read is not None:
        return read(digits, now)
    if kind == "phone":
        number = digits.lstrip("*")
        return phone_number(number, region, language) if number.isdigit() else None
    if kind == "choice" and digits.isdigit() and options:
        names = list(options)
        return names[int(digits) - 1] if 1 <= int(digits) <= len(names) else None
    return None


def _keyed_number(keys: str, now: datetime) -> int | float | None:
    if not re.fullmatch(r"\d{1,15}|\d{0,12}\*\d{1,6}", keys):
        return None
    return float(keys.replace("*", ".")) if "*" in keys else int(keys)


def _keyed_money(keys: str, now: datetime) -> float | None:
    amount = _keyed_number(keys, now) if re.fullmatch(r"\d{1,12}|\d{0,12}\*\d{1,2}", keys) else None
    return None if amount is None else float(amount)


def _keyed_date(keys: str, now: datetime) -> str | None:
    """Eight keys are read both ways round; two valid dates are none."""
    today = now.date()
    if not keys.isdigit() or len(keys) not in (4, 8):
        return None
    if len(keys) == 4:
        found = {days.upcoming(today, int(keys[:2]), int(keys[2:]))}
    else:
        found = {
            days.exact(int(keys[:4]), int(keys[4:6]), int(keys[6:])),
            days.exact(int(keys[4:]), int(keys[:2]), int(keys[2:4])),
        }
    found.discard(None)
    day = found.pop() if len(found) == 1 else None
    return day.isoformat() if day else None


def _keyed_time(keys: str, now: datetime) -> str | None:
    if not re.fullmatch(r"\d{1,4}", keys):
        return None
    if len(keys) <= 2:
        hour, minute = days.office_hour(int(keys)), 0
        hour = int(keys) if keys.startswith("0") else hour
    else:
        hour, minute = int(keys[:-2]), int(keys[-2:])
        hour = hour if len(keys) == 4 else days.office_hour(hour)
    return f"{hour:02d}:{minute:02d}" if hour < 24 and minute < 60 else None


def _keyed_yes_no(keys: str, now: datetime) -> bool | None:
    return {"1": True, "2": False}.get(keys)


_KEYED: dict[str, Callable[[str, datetime], Any]] = {
    "number": _keyed_number,
    "money": _keyed_money,
    "date": _keyed_date,
    "time": _keyed_time,
    "yes_no": _keyed_yes_no,
}


# --- what a recogniser needs --------------------------------------------------------------------


def words(kind: str, language: str, options: Options | None = None) -> tuple[str, ...]:
    """Every word of which answers of this kind are made, lower case; any sequence may be said."""
    if kind == "choice":
        said = (phrase for phrase in _option_phrases(_frozen(options or {})))
        return tuple(dict.fromkeys(word for phrase in said for word in phrase.split()))
    return WORDS.get((kind, language), ())


def phrases(kind: str, language: str, options: Options | None = None) -> tuple[str, ...]:
    """Whole answers of this kind, for those that are said in one piece (yes_no, choice)."""
    if kind == "choice":
        return tuple(_option_phrases(_frozen(options or {})))
    return PHRASES.get((kind, language), ())


Progress = Literal["none", "partial", "full", "final"]
_EVER = datetime(2026, 6, 15, 12, 0)


def progress(
    kind: str,
    text: str,
    language: str,
    *,
    minimum: int = 0,
    maximum: int = 0,
    options: Options | None = None,
) -> Progress:
    """How far a text has come: none of an answer, part of one, one that may go on, or its end."""
    if kind == "text":
        return "full" if text.strip() else "none"
    said = _narrow(text)
    if kind == "choice":
        return _choice_progress(normalise(said), options or {})
    value = parse(kind, said, language, now=_EVER, minimum=minimum, maximum=maximum)
    if value is None:
        if kind == "yes_no" or not _touches(kind, said, language):
            return "none"
        return "partial"
    last = said.split()[-1] if language != "zh" else said[-1]
    if kind == "digits":
        return "final" if maximum and len(value) >= maximum and last not in _GROWING else "full"
    if kind == "phone":
        return "final" if value.startswith("+") and not _phone_grows(value) else "full"
    return "final" if kind in _ENDS and _ENDS[kind].search(said) else "full"


_ENDS = {
    "time": re.compile(r"\b[ap]\.?\s?m\b\.?$|\b(?:noon|midnight)$|[半刻]$"),
    "date": re.compile(r"(?:today|tomorrow|[今明昨后前]天|\d{4}-\d\d-\d\d)$"),
}
_GROWING = frozenset(english_words.TENS) | {"hundred", "thousand", "十", "百", "千"}


def _phone_grows(number: str) -> bool:
    return any(_valid(number + digit, None) for digit in "059")


def _choice_progress(said: str, options: Options) -> Progress:
    known = _option_phrases(_frozen(options))
    if not said:
        return "none"
    longer = any(phrase.startswith(said) and phrase != said for phrase in known)
    if said in known:
        return "full" if longer else "final"
    if longer:
        return "partial"
    return "full" if find(said, known) else "none"
