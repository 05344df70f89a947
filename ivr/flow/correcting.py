"""What a correction makes of a value: what it names is changed, and the rest of the value is kept.

"No, the ninth" makes the ninth of March of the fifth, "no, in the evening" eight in the evening of
eight in the morning, "not five, nine" 1239 of 1235. How much of a date a text names is found out by
reading it as if said on two very different days.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from ivr.flow import spoken
from ivr.flow.phrases import normalise
from ivr.flow.questions import parse, spread
from ivr.flow.schema import Slot
from ivr.flow.spoken import days, english_words

_ONE_DAY, _ANOTHER = datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 6, 10, tzinfo=UTC)
"""A Monday and a Tuesday, of different years, months and days of the month."""

_NEAR_DAYS = 300

_NOT = {
    "en": re.compile(r"(?:no )?(?:sorry )?(?:it is |it's |that's |i said )?not (.+)"),
    "zh": re.compile(r"(?:不对)?不是(.+?)(?:而是|应该是|是)(.+)"),
}
_BUT = re.compile(r"^(?:but |it is |it's |i said |i mean |rather |its )+")
_ENDING = {
    "en": re.compile(r"(?:it |the )?(?:last|end|ends|ending)\b.*?\b(?:is|are|was|in|with) (.+)"),
    "zh": re.compile(r"(?:最后|末尾|尾号|后面?).{0,3}?是(.+)"),
}

Values = Mapping[str, Any]


def instead(
    slots: Sequence[Slot], text: str, before: Values, language: str, now: datetime
) -> dict[str, Any]:
    """The values after a "not this, that" which names a part of one; {} where it does not."""
    for wrong, right in pairs(text, language):
        for slot in slots:
            old = before[slot.name]
            if slot.type in ("digits", "phone"):
                value = _replaced(slot, wrong, right, str(old), language, now)
            elif mended(slot, wrong, old, language, now) == old:
                value = mended(slot, right, old, language, now)
            elif slot.type == "number":
                text_value = _replaced(slot, wrong, right, str(old), language, now)
                value = parse(slot, text_value, language, now) if text_value else None
            else:
                continue
            if value is not None and value != old:
                return {**before, slot.name: value}
    return {}


def pairs(text: str, language: str) -> Iterator[tuple[str, str]]:
    """What was wrong and what is right, in every way in which the text may be cut in two."""
    match = _NOT["zh" if language == "zh" else "en"].fullmatch(normalise(text))
    if match is None:
        return
    if language == "zh":
        yield match[1], match[2]
        return
    words = match[1].split()[:24]
    for cut in range(1, len(words)):
        yield " ".join(words[:cut]), _BUT.sub("", " ".join(words[cut:]))


def _replaced(
    slot: Slot, wrong: str, right: str, before: str, language: str, now: datetime
) -> str | None:
    """Digits in place of others that stand in the value exactly once."""
    old, new = (spoken.parse("digits", text, language, now=now) for text in (wrong, right))
    if not old or not new or before.count(old) != 1:
        return None
    value = before.replace(old, new)
    if slot.type == "number":
        return value
    fits: str | None = parse(slot, value, language, now)
    return fits


def values(
    slots: Sequence[Slot],
    text: str,
    before: Values,
    language: str,
    now: datetime,
    *,
    bare: bool = True,
) -> dict[str, Any]:
    """The values after a correction; {} where the text corrects none of them. `bare` says that a
    number alone may do so."""
    if len(slots) == 1 and bare:
        value = mended(slots[0], text, before[slots[0].name], language, now)
        return {} if value is None else {**before, slots[0].name: value}

    def read(slot: Slot, piece: str) -> Any:
        # A bare number does not tell which of them it corrects.
        return mended(slot, piece, before[slot.name], language, now, bare=False)

    found = spread(normalise(text), slots, read)
    return {**before, **found} if found else {}


def mended(
    slot: Slot, text: str, before: Any, language: str, now: datetime, *, bare: bool = True
) -> Any:
    """One value after a correction, None where the text is none."""
    whole = parse(slot, text, language, now)
    mend = _MENDED.get(slot.type)
    if mend is None or not isinstance(before, str | int | float) or isinstance(before, bool):
        return whole
    value = mend(normalise(text), before, whole, language, now, bare)
    return whole if value is None else value


def aligned(slot: Slot, text: str, before: Any, language: str, now: datetime) -> str | None:
    """A number of which a part was said again, and differently in one digit: "five six seven nine"
    of 12345678. It is likely, and no more than that; None where it is not even that."""
    if slot.type not in ("digits", "phone") or not isinstance(before, str):
        return None
    ending = _ENDING["zh" if language == "zh" else "en"].search(normalise(text))
    said = spoken.parse("digits", ending[1] if ending else text, language, now=now)
    if not said or len(said) >= len(before):
        return None
    starts = [len(before) - len(said)] if ending else range(len(before) - len(said) + 1)
    found = {
        before[:at] + said + before[at + len(said) :]
        for at in starts
        if ending or (len(said) > 2 and _differing(before[at : at + len(said)], said) == 1)
    }
    return found.pop() if len(found) == 1 else None


def _differing(one: str, other: str) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


# --- one function a type ------------------------------------------------------------------------


def _date(text: str, before: str, whole: Any, language: str, now: datetime, bare: bool) -> Any:
    try:
        old = date.fromisoformat(before)
    except (TypeError, ValueError):
        return None
    today = now.date()
    day = (
        _named(text, old, today, language)
        if whole
        else _bare(text, old, language)
        if bare or not _is_number(text, language)
        else None
    )
    if day is None or (day < today <= old):
        return None
    return day.isoformat()


def _named(text: str, old: date, today: date, language: str) -> date | None:
    """What a text that names a day makes of the old one; None where it leaves nothing of it."""
    one, other = (
        date.fromisoformat(found) if found else None
        for found in (spoken.parse("date", text, language, now=at) for at in (_ONE_DAY, _ANOTHER))
    )
    if one is None or other is None or one == other:
        return None
    week = timedelta(days=7)
    soon = one - _ONE_DAY.date() < week and other - _ANOTHER.date() < week
    if soon and one.weekday() == other.weekday():
        return old + timedelta(days=one.weekday() - old.weekday())
    if one.day != other.day:
        return None  # relative to today
    if one.month != other.month:
        return days.exact(old.year, old.month, one.day)
    if 0 <= (old - today).days < _NEAR_DAYS:
        return None  # the next such day
    return days.exact(old.year, one.month, one.day)


def _is_number(text: str, language: str) -> bool:
    return spoken.parse("number", text, language, now=_ONE_DAY) is not None


def _bare(text: str, old: date, language: str) -> date | None:
    """A month, a year or the number of a day."""
    chinese = language == "zh"
    if "月" in text if chinese else not english_words.MONTHS.keys().isdisjoint(text.split()):
        whole = f"{text}15号" if chinese else f"{text} 15"
        found = spoken.parse("date", whole, language, now=_ONE_DAY)
        return days.exact(old.year, date.fromisoformat(found).month, old.day) if found else None
    plain = text.removesuffix("年")
    digits = spoken.parse("digits", plain, language, now=_ONE_DAY, minimum=4, maximum=4)
    if digits and 1900 <= int(digits) < 2200:
        return days.exact(int(digits), old.month, old.day)
    number = spoken.parse("number", text, language, now=_ONE_DAY)
    return days.exact(old.year, old.month, number) if isinstance(number, int) else None


def _time(text: str, before: str, whole: Any, language: str, now: datetime, bare: bool) -> Any:
    try:
        old = time.fromisoformat(before)
    except (TypeError, ValueError):
        return None

    def read(said: str) -> Any:
        return spoken.parse("time", said, language, now=now)

    hour, chinese = old.hour % 12 or 12, language == "zh"
    if whole is None:
        number = spoken.parse("number", text.removesuffix("分"), language, now=now)
        if isinstance(number, int):
            return f"{old.hour:02d}:{number:02d}" if bare and 24 <= number < 60 else None
        # A part of the day alone.
        return read(
            f"{text}{hour}点{old.minute}分" if chinese else f"{hour}:{old.minute:02d} {text}"
        )
    if days.office_hour(hour) == old.hour or text.startswith(("0", "oh", "零")):
        return None
    # The part of the day was said, and is not taken back.
    halves = [read(f"{part}{text}" if chinese else f"{text} {part}") for part in _HALVES[chinese]]
    kept = halves[old.hour >= 12]
    return kept if None not in halves and halves[0] != halves[1] else None


_HALVES = {False: ("am", "pm"), True: ("上午", "下午")}


def _money(text: str, before: Any, whole: Any, language: str, now: datetime, bare: bool) -> Any:
    """Cents alone change the cents alone."""
    if isinstance(before, str) or whole is None or not 0 < whole < 1 <= before:
        return None
    return round(int(before) + whole, 2)


_MENDED: Mapping[str, Callable[[str, Any, Any, str, datetime, bool], Any]] = {
    "date": _date,
    "time": _time,
    "money": _money,
}
