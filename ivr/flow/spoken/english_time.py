"""English dates and times.

The text is cut into words; words that carry meaning become tokens in a small canonical form (`N26`
a number, `O3` an ordinal, `M3` a month, `W1` a Tuesday …), the rest is dropped, and one table of
patterns says which sequences mean what. Nothing else is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta

from ivr.flow.spoken import days
from ivr.flow.spoken.english import groups, is_digit_word, tokens
from ivr.flow.spoken.english_words import (
    DATE_WORDS,
    FILLERS,
    HOLIDAYS,
    MONTHS,
    ORDINALS,
    PARTS,
    TENS,
    TIME_WORDS,
    WEEKDAYS,
)

_TYPED_DATES = (
    (re.compile(r"(?<!\d)(\d{4})[-/. ](\d{1,2})[-/. ](\d{1,2})(?!\d)"), "ymd"),
    (re.compile(r"(?<!\d)(\d{1,2})[-/.](\d{1,2})[-/.](\d{4}|\d{2})(?!\d)"), "mdy"),
    (re.compile(r"(?<!\d)(\d{4})(\d{2})(\d{2})(?!\d)"), "ymd"),
    (re.compile(r"(?<!\d)(\d{2})(\d{2})(\d{4})(?!\d)"), "mdy"),
    (re.compile(r"(?<![\d:])(\d{1,2})[-/.](\d{1,2})(?![\d:])"), "md"),
)
_CLOCK = re.compile(
    r"\b(?:at|around|about|by)?\s*\d{1,2}(?::\d\d)\s*(?:[ap]\.?m\b\.?)?"
    r"|\bat\s+\w+(?:\s+(?:oclock|thirty|fifteen))?\s*(?:[ap]\.?\s?m\b\.?)?(?=\s|$)"
    r"|\b(?:in the )?(?:morning|afternoon|evening)\b"
)


def typed_date(text: str, today: date) -> tuple[str, date | None] | None:
    """A date in numerals: the text around it, and the day (None when the calendar lacks it)."""
    for pattern, order in _TYPED_DATES:
        match = pattern.search(text)
        if match is None:
            continue
        fields = dict(zip(order, (int(part) for part in match.groups()), strict=True))
        month, day = fields["m"], fields["d"]
        if month > 12 and order != "ymd":
            month, day = day, month
        if "y" in fields:
            found = days.exact(days.full_year(today, fields["y"]), month, day)
        else:
            found = days.upcoming(today, month, day)
        if found is None and order in ("ymd", "mdy") and match.group().isdigit():
            continue
        return text[: match.start()] + " " + text[match.end() :], found
    return None


def _date_tokens(text: str) -> tuple[list[str], bool]:
    """The canonical tokens of a date, and whether there are words besides that mean something."""
    for name, (month, day) in HOLIDAYS.items():
        text = re.sub(rf"\b{name}\b", f" {_month_name(month)} {day} ", text)
    words = tokens(text)
    found: list[str] = []
    strange, at = False, 0
    while at < len(words):
        word = words[at]
        after = words[at + 1] if at + 1 < len(words) else ""
        if re.fullmatch(r"\d+(?:st|nd|rd|th)", word):
            found.append(f"O{int(word[:-2])}")
        elif word in TENS and after in ORDINALS and ORDINALS[after] < 10:
            found.append(f"O{TENS[word] + ORDINALS[after]}")
            at += 1
        elif word in ORDINALS:
            found.append(f"O{ORDINALS[word]}")
        elif word in MONTHS:
            found.append(f"M{MONTHS[word]}")
        elif word in WEEKDAYS or (word.endswith("s") and word[:-1] in WEEKDAYS):
            found.append(f"W{WEEKDAYS[word] if word in WEEKDAYS else WEEKDAYS[word[:-1]]}")
        elif word in ("a", "an", "one") and after in ("week", "month", "day", "fortnight", "year"):
            found.append("N1")
        elif word in ("a", "couple") and "couple" in (word, after):
            found += ["N2"] if word == "couple" else []
        elif word in DATE_WORDS and not (word == "in" and not _counts(words, at + 1)):
            found.append(word[:-1] if word in ("days", "weeks", "months", "years") else word)
        else:
            numbers, end = _day_groups(words, at)
            if numbers:
                found += [f"N{value}" for value in numbers]
                at = end
                continue
            strange = strange or not (word in FILLERS or not word[0].isalpha())
        at += 1
    return found, strange


def _month_name(month: int) -> str:
    return next(name for name, value in MONTHS.items() if value == month)


def _counts(words: tuple[str, ...], at: int) -> bool:
    return at < len(words) and (words[at] in ("a", "an", "couple") or is_digit_word(words[at]))


def _day_groups(words: tuple[str, ...], at: int) -> tuple[list[str], int]:
    """As `groups`, but leaving "twenty" to the "third" that follows it."""
    numbers, end = groups(words, at)
    if numbers and end < len(words) and words[end] in ORDINALS and words[end - 1] in TENS:
        return groups(words[: end - 1], at) if end - 1 > at else ([], at)
    return numbers, end


_YEAR = r"(?: (?P<year>N\d{4}|N(?:19|20|21) N\d\d|N\d\d|(?:next|this|last) year))?"
_OPTIONAL_WEEKDAY = r"(?:W(?P<weekday>\d) )?"


def _year(said: str, today: date) -> int | None:
    if said.endswith("year"):
        return today.year + {"next": 1, "this": 0, "last": -1}[said.split()[0]]
    digits = said.replace("N", "").replace(" ", "")
    return days.full_year(today, int(digits))


def _dated(match: re.Match[str], today: date) -> date | None:
    fields = match.groupdict()
    month, day = int(fields["month"]), int(fields["day"])
    if fields.get("year"):
        year = _year(fields["year"], today)
        found = days.exact(year, month, day) if year else None
    else:
        found = days.upcoming(today, month, day)
    return _on(found, fields.get("weekday"))


def _on(found: date | None, weekday: str | None) -> date | None:
    return None if found and weekday and found.weekday() != int(weekday) else found


def _this_weekday(match: re.Match[str], today: date) -> date:
    weekday, which = int(match["weekday"]), match["which"]
    if which in ("next", "last"):
        if which == "last" and weekday < today.weekday():
            return days.week_day(today, 0, weekday)
        return days.week_day(today, 1 if which == "next" else -1, weekday)
    return days.upcoming_weekday(today, weekday)


_LENGTHS = {"day": 1, "week": 7, "fortnight": 14}


def _after(match: re.Match[str], today: date) -> date | None:
    fields = match.groupdict()
    count, unit = int(fields["count"] or 1), match["unit"]
    if fields.get("back"):
        count = -count
    start: date | None = today
    if fields.get("weekday"):
        start = days.upcoming_weekday(today, int(match["weekday"]))
    elif fields.get("origin") == "tomorrow":
        start = today + timedelta(days=1)
    assert start is not None
    if unit in ("month", "year"):
        return days.shifted(start, months=count * (12 if unit == "year" else 1))
    return days.shifted(start, days=count * _LENGTHS[unit])


def _in_month(match: re.Match[str], today: date) -> date | None:
    ahead = {"next": 1, "this": 0, "last": -1}[match["which"]]
    return _on(days.in_month(today, ahead, int(match["day"])), match.groupdict().get("weekday"))


_Meaning = Callable[[re.Match[str], date], date | None]
_DATE_PATTERNS: tuple[tuple[re.Pattern[str], _Meaning], ...] = tuple(
    (re.compile(pattern), meaning)
    for pattern, meaning in (
        (r"today|tonight|now", lambda m, today: today),
        (r"tomorrow(?: tonight)?", lambda m, today: today + timedelta(days=1)),
        (r"day after(?: tomorrow)?", lambda m, today: today + timedelta(days=2)),
        (r"yesterday", lambda m, today: today - timedelta(days=1)),
        (r"day before yesterday", lambda m, today: today - timedelta(days=2)),
        (r"W(\d)", lambda m, t: days.upcoming_weekday(t, int(m[1]))),
        (r"(?:today W(\d)|W(\d) today)", lambda m, t: _on(t, m[1] or m[2])),
        (r"(?:tomorrow W(\d)|W(\d) tomorrow)",
         lambda m, t: _on(t + timedelta(days=1), m[1] or m[2])),
        (r"(?P<which>this|coming|next|last)(?: coming)? W(?P<weekday>\d)", _this_weekday),
        (r"(?:W(?P<a>\d) next week|next week W(?P<b>\d))",
         lambda m, t: days.week_day(t, 1, int(m["a"] or m["b"]))),
        (r"(?:W(?P<a>\d) this week|this week W(?P<b>\d))",
         lambda m, t: days.week_day(t, 0, int(m["a"] or m["b"]))),
        (r"W(\d) week", lambda m, t: days.upcoming_weekday(t, int(m[1])) + timedelta(days=7)),
        (r"W(?P<weekday>\d) after next",
         lambda m, t: days.week_day(t, 2, int(m["weekday"]))),
        (r"(?:in )?N(?P<count>\d+) (?P<unit>day|week|fortnight|month|year)(?: from (?:now|today))?",
         _after),
        (r"(?:N(?P<count>\d+) )?(?P<unit>week|fortnight|day|month) from (?:W(?P<weekday>\d)"
         r"|(?P<origin>tomorrow|today|now))", _after),
        (r"N(?P<count>\d+) (?P<unit>day|week|fortnight|month|year) (?P<back>ago)", _after),
        (rf"{_OPTIONAL_WEEKDAY}M(?P<month>\d+) [ON](?P<day>\d\d?){_YEAR}", _dated),
        (rf"{_OPTIONAL_WEEKDAY}[ON](?P<day>\d\d?) M(?P<month>\d+){_YEAR}", _dated),
        (r"M(?P<month>\d+) [ON](?P<day>\d\d?) W(?P<weekday>\d)", _dated),
        (r"(?P<year>N\d{4}|N(?:19|20|21) N\d\d) M(?P<month>\d+) [ON](?P<day>\d\d?)", _dated),
        (r"(?P<year>next year|this year) M(?P<month>\d+) [ON](?P<day>\d\d?)", _dated),
        (rf"{_OPTIONAL_WEEKDAY}O(?P<day>\d+)",
         lambda m, t: _on(days.upcoming_day(t, int(m["day"])), m["weekday"])),
        (rf"{_OPTIONAL_WEEKDAY}[ON](?P<day>\d+) (?P<which>next|this|last) month", _in_month),
        (r"(?P<which>next|this|last) month [ON](?P<day>\d+)", _in_month),
        (r"(?:end|last day)(?: this)? month", lambda m, t: days.in_month(t, 0, 0)),
        (r"(?:end|last day) next month", lambda m, t: days.in_month(t, 1, 0)),
    )
)  # fmt: skip
_BARE_DATE = re.compile(rf"N(?P<month>0?[1-9]|1[0-2]) N(?P<day>\d\d?){_YEAR}")


def day(text: str, now: datetime) -> str | None:
    """The one day that a text names, as YYYY-MM-DD."""
    today = now.date()
    text = re.sub(r"\bthis (?=morning|afternoon|evening)", "today ", text)
    text = _CLOCK.sub(" ", text)
    typed = typed_date(text, today)
    if typed is not None:
        rest, found = typed
        left, _ = _date_tokens(rest)
        weekday = left[0][1:] if len(left) == 1 and left[0].startswith("W") else None
        if left and weekday is None:
            return None
        found = _on(found, weekday)
        return found.isoformat() if found else None
    words, strange = _date_tokens(text)
    said = " ".join(words)
    for pattern, meaning in _DATE_PATTERNS:
        match = pattern.fullmatch(said)
        if match is not None and not (strange and re.fullmatch(r"O\d+", said)):
            found = meaning(match, today)
            return found.isoformat() if found else None
    match = None if strange else _BARE_DATE.fullmatch(said)
    found = _dated(match, today) if match else None
    return found.isoformat() if found else None


# --- times --------------------------------------------------------------------------------------


def _time_tokens(text: str) -> tuple[list[str], set[str], bool]:
    """The canonical tokens of a time, the parts of the day, and whether odd words stand there."""
    found: list[str] = []
    parts: set[str] = set()
    words = tokens(re.sub(r"(\d{1,2})h(\d\d)\b", r"\1:\2", text))
    strange, at = False, 0
    while at < len(words):
        word = words[at]
        after = words[at + 1 : at + 2]
        if word[0].isdigit() and after == (":",) and at + 2 < len(words):
            minutes = words[at + 2]
            if not (re.fullmatch(r"\d{1,2}", word) and re.fullmatch(r"[0-5]\d", minutes)):
                return [], set(), True
            found.append(f"T{word}:{minutes}")
            at += 3 if words[at + 3 : at + 4] != (":",) else 5
            continue
        if word in PARTS:
            if PARTS[word]:
                parts.add(PARTS[word])
            if word == "oclock":
                found.append(word)
        elif re.fullmatch(r"\d{1,2}\.[0-5]\d", word):
            found.append("T" + word.replace(".", ":"))
        elif re.fullmatch(r"(?:[01]?\d|2[0-3])[0-5]\d", word):
            found.append(f"T{word[:-2]}:{word[-2:]}")
        elif word in ("a", "an") and after in (("quarter",), ("hour",), ("half",)):
            found += ["N1"] if after == ("hour",) else []
        elif word in TIME_WORDS and not (
            (word == "to" and not found)
            or (word == "in" and after != ("half",) and not _counts(words, at + 1))
        ):
            found.append(word.removesuffix("s") if word in ("minutes", "hours") else word)
        else:
            numbers, end = groups(words, at)
            if numbers:
                found += [f"N{value}" for value in numbers]
                at = end
                continue
            strange = strange or not (word in FILLERS or word in WEEKDAYS or not word[0].isalpha())
        at += 1
    quarters = "quarter" in found
    return [word for word in found if word != "of" or quarters], parts, strange


_H = r"(?:N|T)(?P<hour>\d{1,2})(?: oclock)?"
_SHARE = r"(?:N(?P<minutes>5|10|20|25|\d\d?(?= minute))|(?P<share>quarter|half))(?: minute)?"
_TIME_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), meaning)
    for pattern, meaning in (
        (rf"(?:{_SHARE} (?:past|after) {_H})", "past"),
        (rf"(?:{_SHARE} (?:to|before|of|till) {_H})", "to"),
        (rf"half {_H}", "half"),
        (r"T(?P<hour>\d\d?):(?P<minutes>\d\d)(?: hour)?", "clock"),
        (r"N(?P<hour>\d\d?) N(?P<minutes>[0-5]\d)(?: hour)?", "clock"),
        (r"N(?P<hour>\d\d?)00(?: hour)?", "clock"),
        (r"N(?P<hour>0)(?: N)(?P<next>\d)00(?: hour)?", "military"),
        (_H, "clock"),
    )
)
_MINUTES = {"quarter": 15, "half": 30}
_DELAYS = tuple(
    (re.compile(pattern), seconds)
    for pattern, seconds in (
        (r"(?:in )?half (?:N1 )?hour(?: from now)?", 1800),
        (r"(?:in )?N(?P<count>\d{1,3}) minute(?: from now)?", 60),
        (r"(?:in )?N(?P<count>\d{1,2}) hour(?: from now)?", 3600),
    )
)
_NAMED = {"noon": 12, "midday": 12, "N12 noon": 12, "midnight": 0, "N12 midnight": 0}


def time(text: str, now: datetime) -> str | None:
    """The one time of day that a text names, as HH:MM; after "at", if there is one."""
    _, at, after = text.rpartition(" at ")
    return (_time(after, now, True) if at else None) or _time(text, now, False)


def _time(text: str, now: datetime, certain: bool) -> str | None:
    if re.search(r"\d/\d", text):
        return None
    words, parts, strange = _time_tokens(text)
    said = " ".join(words)
    certain = certain or re.search(r"\b(?:at|around|about|by)\b", text) is not None
    if said in _NAMED:
        return f"{_NAMED[said]:02d}:00"
    said = re.sub(r" noon$", " N12", re.sub(r" midnight$", " N00", said))
    if said == "now":
        return f"{now.hour:02d}:{now.minute:02d}"
    for pattern, seconds in _DELAYS:
        match = pattern.fullmatch(said)
        if match is not None and ("in" in words or "now" in words):
            later = now + timedelta(seconds=seconds * int(match.groupdict().get("count") or 1))
            return f"{later.hour:02d}:{later.minute:02d}"
    for pattern, meaning in _TIME_PATTERNS:
        match = pattern.fullmatch(said)
        if match is None:
            continue
        if strange and re.fullmatch(r"N\d+( N\d+)?", said) and not parts and not certain:
            return None
        return _told(match, meaning, parts)
    return None


def _told(match: re.Match[str], meaning: str, parts: set[str]) -> str | None:
    fields = match.groupdict()
    minutes = int(fields.get("minutes") or _MINUTES.get(fields.get("share") or "", 0))
    if meaning == "military":
        return f"0{fields['next']}:00" if not parts else None
    if meaning == "half":
        minutes = 30
    # 24-hour forms say so themselves: "oh seven thirty", 07:30, "fifteen hundred".
    exact = fields["hour"].startswith("0") or "hour" in match.group()
    hour = in_part(int(fields["hour"]), parts, exact=exact)
    if hour is None or minutes > 59:
        return None
    if meaning == "to":
        hour, minutes = ((hour - 1) % 24, 60 - minutes) if minutes else (hour, 0)
    return f"{hour:02d}:{minutes:02d}"


def in_part(hour: int, parts: set[str], *, exact: bool = False) -> int | None:
    """The hour on the 24-hour clock, given the part of the day that was named."""
    parts = parts - {"night"} if len(parts) > 1 else parts
    if hour > 24 or len(parts) > 1:
        return None
    part = next(iter(parts), "")
    if hour > 12 or (hour == 0):
        return hour % 24 if part != "am" or hour == 0 else None
    if part == "am":
        return hour % 12
    if part == "pm":
        return hour % 12 + 12
    if part == "night":
        # "Twelve at night" is midnight, "two at night" early, "ten at night" late.
        return 0 if hour == 12 else hour if hour < 5 else hour + 12
    return hour if exact else days.office_hour(hour)
