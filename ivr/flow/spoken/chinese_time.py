"""Chinese dates and times: patterns over the folded text, in characters or numerals."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta

from ivr.flow.spoken import days
from ivr.flow.spoken.chinese import (
    FILLERS,
    HOLIDAYS,
    NUMBER,
    PARTS,
    RELATIVE_DAYS,
    WEEKDAYS,
    YEARS,
    fold,
    value,
    whole,
    without,
)
from ivr.flow.spoken.english_time import typed_date

_SMALL = r"(?:[一二两三四五六七八九]?十[一二三四五六七八九]?|[零〇]?[一二两三四五六七八九]|\d{1,2})"
_YEAR_NUMBER = r"(?:[零〇一二两三四五六七八九]{2,4}|两千零?[一二三四五六七八九十]*|\d{4}|\d{2})"
_YEAR = rf"(?:(?P<year>{_YEAR_NUMBER})年|(?P<which>{'|'.join(YEARS)}))?"
_WEEK = r"(?:周|星期|礼拜)"
_SINCE = "(?:之后|以后|后)"
_AGO = "(?:之前|以前|前)"
_UNITS = r"(?P<unit>天|日|周|个?星期|个?礼拜|个月|年)"
_HOLIDAY = "|".join(sorted(HOLIDAYS, key=len, reverse=True))
_RELATIVE = "|".join(sorted(RELATIVE_DAYS, key=len, reverse=True))
_CLOCK = re.compile(
    rf"(?:{'|'.join(PARTS)})?(?:{_SMALL}(?:点|时)(?:{_SMALL}分?|半|[一三]刻|整|钟)?|\d{{1,2}}:\d\d)"
    rf"|{'|'.join(part for part in PARTS if part[0] not in '今明')}"
)


def _dated(match: re.Match[str], today: date) -> date | None:
    month, day = whole(match["month"]), whole(match["day"])
    if month is None or day is None:
        return None
    fields = match.groupdict()
    if fields.get("year"):
        year = whole(fields["year"])
        return days.exact(days.full_year(today, year), month, day) if year is not None else None
    if fields.get("which"):
        return days.exact(today.year + YEARS[fields["which"]], month, day)
    return days.upcoming(today, month, day)


def _weekday(match: re.Match[str], today: date) -> date | None:
    weekday = WEEKDAYS[match["day"]] if match["day"] in WEEKDAYS else int(match["day"]) - 1
    which = match["which"] or ""
    if weekday < 0:
        return None
    if not which:
        return days.upcoming_weekday(today, weekday)
    return days.week_day(today, which.count("下") - which.count("上"), weekday)


def _after(match: re.Match[str], today: date) -> date | None:
    count = whole(match["count"])
    if count is None:
        return None
    count = -count if match.groupdict().get("back") else count
    unit = match["unit"].removeprefix("个")
    if unit in ("月", "年"):
        return days.shifted(today, months=count * (12 if unit == "年" else 1))
    return days.shifted(today, days=count * (1 if unit in "天日" else 7))


def _in_month(match: re.Match[str], today: date) -> date | None:
    day = whole(match["day"])
    which = match["which"]
    return days.in_month(today, which.count("下") - which.count("上"), day) if day else None


def _holiday(match: re.Match[str], today: date) -> date | None:
    month, day = HOLIDAYS[match["name"]]
    if match["which"]:
        return days.exact(today.year + YEARS[match["which"]], month, day)
    return days.upcoming(today, month, day)


def _this_day(match: re.Match[str], today: date) -> date | None:
    day = whole(match["day"])
    return days.upcoming_day(today, day) if day and day <= 31 else None


_Meaning = Callable[[re.Match[str], date], date | None]
_PATTERNS: tuple[tuple[re.Pattern[str], _Meaning], ...] = tuple(
    (re.compile(pattern), meaning)
    for pattern, meaning in (
        (rf"{_YEAR}年?(?P<month>{_SMALL})月份?(?P<day>{_SMALL})[号日]?", _dated),
        (rf"(?P<year>\d{{4}}|[零〇一二两三四五六七八九]{{4}})(?P<month>{_SMALL})月(?P<day>{_SMALL})[号日]?",
         _dated),
        (rf"(?P<which>上个?上个?|上个?|下个?下个?|下个?|这个?|本)?{_WEEK}(?P<day>[一二三四五六日天末1-7])",
         _weekday),
        (rf"(?P<name>{_RELATIVE})", lambda m, t: t + timedelta(days=RELATIVE_DAYS[m["name"]])),
        (rf"过?(?P<count>{NUMBER}){_UNITS}{_SINCE}", _after),
        (rf"过(?P<count>{NUMBER}){_UNITS}", _after),
        (rf"(?P<count>{NUMBER}){_UNITS}(?P<back>{_AGO})", _after),
        (rf"(?P<which>下个?下个?|下个?|上个?|这个?|本)月(?P<day>{_SMALL})[号日]?", _in_month),
        (r"下个?月底|下个?月最后一天", lambda m, t: days.in_month(t, 1, 0)),
        (r"(?:这个?|本)?月底|(?:这个?|本)月最后一天", lambda m, t: days.in_month(t, 0, 0)),
        (rf"(?P<day>{_SMALL})[号日]", _this_day),
        (rf"(?P<which>{'|'.join(YEARS)})?(?P<name>{_HOLIDAY})", _holiday),
    )
)  # fmt: skip
_WITH_WEEKDAY = re.compile(
    rf"(?<=[号日]){_WEEK}(?P<day>[一二三四五六日天])$|^{_WEEK}(?P<first>[一二三四五六日天])(?=.+[号日]$)"
)


def day(text: str, now: datetime) -> str | None:
    """The one day that a text names, as YYYY-MM-DD."""
    today = now.date()
    text = fold(text)
    if re.search("明后天|农历|阴历|腊月|正月|除夕|初[一二三四五六七八九十]", text):
        return None
    spoken_numerals = re.fullmatch(r"[零〇一二两三四五六七八九幺]{8}", without(text, FILLERS))
    if spoken_numerals:
        text = str(value(spoken_numerals.group()))
    typed = typed_date(text, today) if not re.search(r"[月年]", text) else None
    if typed is not None:
        rest, found = typed
        return (
            found.isoformat()
            if found and not without(_CLOCK.sub("", rest), FILLERS).strip()
            else None
        )
    text = _CLOCK.sub("", re.sub("([今明昨])[早晚]", r"\1天", text))
    extra = _WITH_WEEKDAY.search(text)
    if extra:
        text = text[: extra.start()] + text[extra.end() :]
    readings = _read(text, today) or _read(without(text, FILLERS), today)
    if len(readings) != 1:
        return None
    found = readings.pop()
    if extra and found.weekday() != WEEKDAYS[extra["day"] or extra["first"]]:
        return None
    return found.isoformat()


def _read(text: str, today: date) -> set[date]:
    """Every day named; each pattern eats what it understands."""
    found: set[date] = set()
    for pattern, meaning in _PATTERNS:
        while (match := pattern.search(text)) is not None:
            named = meaning(match, today)
            if named is None:
                return set()
            found.add(named)
            text = text[: match.start()] + "|" + text[match.end() :]
    return found


# --- times --------------------------------------------------------------------------------------

_NUMERALS = "零〇一二两三四五六七八九十\\d"
_MINUTE = (
    r"(?:[二三四五]?十[一二三四五六七八九]?|[零〇]?[一二两三四五六七八九]|\d{1,2})"
    rf"(?![{_NUMERALS}])"
)
_HOUR = (
    rf"(?<![{_NUMERALS}])"
    r"(?:二十[一二三四]?|十[一二三四五六七八九]?|[零〇]?[一二两三四五六七八九]|[零〇]|\d{1,2})"
)
_SHARES = {
    "一刻": 15,
    "三刻": 45,
    "两刻": 30,
    "二刻": 30,
    "半": 30,
    "整": 0,
    "钟": 0,
    "": 0,
    "一刻钟": 15,
}
_TIMES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"差(?P<lack>{_MINUTE}分钟?|一刻钟?)钟?(?:到)?(?P<hour>{_HOUR})点",
        rf"(?P<hour>{_HOUR})点差(?P<lack>{_MINUTE}分钟?|一刻钟?)",
        rf"(?P<hour>{_HOUR})点过?(?P<share>一刻钟?|三刻|[两二]刻|半|整|钟)",
        rf"(?P<hour>{_HOUR})[点时]过?(?P<minute>{_MINUTE})分?",
        r"(?P<hour>\d{1,2})[:.](?P<minute>[0-5]\d)(?::\d\d)?",
        rf"(?P<hour>{_HOUR})[点时](?![{_NUMERALS}])",
    )
)
_NAMED = {"正午": 12, "中午": 12, "半夜": 0, "午夜": 0, "零点": 0}
_DELAY = re.compile(
    rf"(?:过)?(?:(?P<hours>{NUMBER})个?(?P<half>半)?(?:小时|钟头)|(?P<halfhour>半个?(?:小时|钟头))"
    rf"|(?P<minutes>{NUMBER})分钟|(?P<quarter>一刻钟))(?:之后|以后|后)"
)


def time(text: str, now: datetime) -> str | None:
    """The one time of day that a text names, as HH:MM."""
    text = fold(text)
    delay = _DELAY.search(text)
    if delay:
        return _delayed(delay, now)
    if re.search("现在|马上", text):
        return f"{now.hour:02d}:{now.minute:02d}"
    parts = {kind for word, kind in PARTS.items() if word in text}
    for pattern in _TIMES:
        found = [_told(match, parts) for match in pattern.finditer(text)]
        if found:
            return found[0] if len(set(found)) == 1 else None
    plain = without(text, FILLERS)
    if plain in _NAMED:
        return f"{_NAMED[plain]:02d}:00"
    if re.fullmatch(r"(?:[01]?\d|2[0-3])[0-5]\d", plain):
        return _clock(int(plain[:-2]), int(plain[-2:]), parts, exact=len(plain) == 4)
    bare = re.fullmatch(rf"({_HOUR})", without(plain, list(PARTS)))
    hour = whole(bare[1]) if bare else None
    return _clock(hour, 0, parts, exact=False) if hour is not None else None


def _delayed(match: re.Match[str], now: datetime) -> str | None:
    minutes = 15 if match["quarter"] else 30 if match["half"] or match["halfhour"] else 0
    hours = value(match["hours"]) if match["hours"] else None
    more = value(match["minutes"]) if match["minutes"] else None
    total = minutes + int((hours or 0) * 60) + int(more or 0)
    if total > 24 * 60:
        return None
    later = now + timedelta(minutes=total)
    return f"{later.hour:02d}:{later.minute:02d}"


def _told(match: re.Match[str], parts: set[str]) -> str | None:
    fields = match.groupdict()
    hour = whole(fields["hour"])
    if hour is None:
        return None
    exact = fields["hour"][0] in "零〇0"
    if fields.get("lack"):
        lack = fields["lack"].rstrip("分钟")
        minutes = 15 if lack == "一刻" else whole(lack)
        told = _clock(hour, 0, parts, exact=exact)
        if not minutes or minutes > 59 or told is None:
            return None
        return f"{(int(told[:2]) - 1) % 24:02d}:{60 - minutes:02d}"
    if fields.get("minute"):
        minutes = whole(fields["minute"])
        return _clock(hour, minutes, parts, exact=exact) if minutes is not None else None
    return _clock(hour, _SHARES[fields.get("share") or ""], parts, exact=exact)


def _clock(hour: int, minutes: int, parts: set[str], *, exact: bool) -> str | None:
    """The time on the 24-hour clock, given the parts of the day that were named."""
    if hour > 24 or minutes > 59 or len(parts) > 1 or (hour == 24 and minutes):
        return None
    part = next(iter(parts), "")
    if hour > 12 or hour == 0:
        found: int | None = hour % 24 if part not in ("am", "early") or hour in (0, 24) else None
    elif part in ("am", "early"):
        found = hour if part == "am" and hour != 12 else hour % 12
        found = None if part == "am" and hour == 12 else found
    elif part == "pm":
        found = hour % 12 + 12
    elif part == "noon":
        found = hour if hour in (10, 11, 12) else hour + 12 if hour <= 3 else None
    elif part == "night":
        # 晚上十二点 is midnight, 半夜两点 early, 晚上八点 late.
        found = 0 if hour == 12 else hour if hour < 5 else hour + 12
    else:
        found = hour if exact else days.office_hour(hour)
    return f"{found:02d}:{minutes:02d}" if found is not None else None
