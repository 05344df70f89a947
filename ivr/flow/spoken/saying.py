"""How values are said and printed, per language: the way back from `ivr.flow.spoken.parse`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from ivr.flow.spoken.english_words import row

FORMATS = ("digits", "money", "number", "date", "time", "minutes", "spell")
_SPOKEN_LIMIT = 10**15


@dataclass(frozen=True, slots=True)
class _Currency:
    """A currency: its sign, and its units as a language says them (one, several)."""

    sign: str
    en: tuple[str, str]
    en_part: tuple[str, str]
    zh: str
    zh_part: str


_CURRENCIES = {
    "USD": _Currency("$", ("dollar", "dollars"), ("cent", "cents"), "美元", "美分"),
    "CNY": _Currency("¥", ("yuan", "yuan"), ("fen", "fen"), "元", "分"),
    "EUR": _Currency("€", ("euro", "euros"), ("cent", "cents"), "欧元", "欧分"),
    "GBP": _Currency("£", ("pound", "pounds"), ("penny", "pence"), "英镑", "便士"),
}
_HOME_CURRENCY = {"en": "USD", "zh": "CNY"}

_ONES = row(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
_TENS = row("- - twenty thirty forty fifty sixty seventy eighty ninety")
_SCALES = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (1000, "thousand"))
_ORDINALS = row(
    "- first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth "
    "thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
)
_MONTHS = row(
    "January February March April May June July August September October November December"
)
_HAN = "零一二三四五六七八九"
_HAN_UNITS = (
    (10**12, "万亿"), (10**8, "亿"), (10**4, "万"), (1000, "千"), (100, "百"), (10, "十"),
)  # fmt: skip
_EN_MARKS = {
    "+": "plus", "-": "dash", "_": "underscore", ".": "dot", "@": "at", "*": "star", "#": "hash",
    "/": "slash",
}  # fmt: skip
_ZH_MARKS = {
    "+": "加", "-": "杠", "_": "下划线", ".": "点", "@": "艾特", "*": "星号", "#": "井号",
    "/": "斜杠",
}  # fmt: skip


# --- whole numbers in words ---------------------------------------------------------------------


def english_number(value: int) -> str:
    """A whole number in American words, without hyphens: 123 is "one hundred twenty three"."""
    if value < 0:
        return "minus " + english_number(-value)
    if value < 20:
        return _ONES[value]
    if value < 100:
        tens, ones = divmod(value, 10)
        return _TENS[tens] + (f" {_ONES[ones]}" if ones else "")
    if value < 1000:
        hundreds, rest = divmod(value, 100)
        return f"{_ONES[hundreds]} hundred" + (f" {english_number(rest)}" if rest else "")
    scale, name = next(pair for pair in _SCALES if value >= pair[0])
    count, rest = divmod(value, scale)
    return f"{english_number(count)} {name}" + (f" {english_number(rest)}" if rest else "")


def chinese_number(value: int, *, counting: bool = False) -> str:
    """A whole number in Chinese: 205 is 二百零五. `counting` says 两 for a bare 2."""
    if value < 0:
        return "负" + chinese_number(-value, counting=counting)
    if value == 2 and counting:
        return "两"
    text = _chinese(value)
    return text[1:] if text.startswith("一十") else text


def _chinese(value: int, *, first: bool = True) -> str:
    """两百 and 两千 begin a number; within one it is 一千二百."""
    if value < 10:
        return _HAN[value]
    scale, unit = next(pair for pair in _HAN_UNITS if value >= pair[0])
    count, rest = divmod(value, scale)
    pair = count == 2 and scale != 10 and (first or scale != 100)
    head = ("两" if pair else _chinese(count)) + unit
    if not rest:
        return head
    return head + ("零" if rest < scale // 10 else "") + _chinese(rest, first=False)


_MEASURES = re.compile(
    r"\s*(?:[位个人天次件条家张份只台辆间晚年周块元角岁倍遍句笔户本部套瓶包杯步页栋排]"
    r"|分钟|小时|公里|公斤|种|名(?!字)|点钟)"
)


def before_measure(said: str, before: str, after: str) -> str:
    """A bare two as it is said before what is counted: 两位, and not 二位; but 第二位."""
    counted = said in ("2", "二") and not before.endswith("第") and _MEASURES.match(after)
    return "两" if counted else said


def _words(value: int, language: str) -> str:
    return chinese_number(value) if language == "zh" else english_number(value)


# --- reading values -----------------------------------------------------------------------------


def _number(value: Any) -> Decimal | None:
    """The value as a finite decimal of a size that can be said, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    text = str(value).strip()
    if len(text) > 40 or not re.fullmatch(r"[+-]?\d+(\.\d+)?(e[+-]?\d{1,2})?", text, re.IGNORECASE):
        return None
    number = Decimal(text)
    return number if abs(number) < _SPOKEN_LIMIT else None


def _day(value: Any) -> date | None:
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value[:10]) if isinstance(value, str) else None
    except ValueError:
        return None


def _clock(value: Any) -> tuple[int, int] | None:
    if isinstance(value, datetime):
        return value.hour, value.minute
    if not isinstance(value, str):
        return None
    match = re.match(r"(?:\d{4}-\d\d-\d\d[T ])?(\d\d):(\d\d)", value)
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        return None
    return int(match[1]), int(match[2])


# --- one function a format ----------------------------------------------------------------------


def plain(value: Any, language: str) -> str:
    """A value with no format asked for: 12 rather than 12.0, and truth in the customer's words."""
    if isinstance(value, bool):
        return {"zh": ("否", "是")}.get(language, ("no", "yes"))[value]
    if isinstance(value, float) and value.is_integer() and abs(value) < _SPOKEN_LIMIT:
        return str(int(value))
    if isinstance(value, int) and abs(value) >= 10**300:
        return ""
    return str(value)


def _digits(value: Any, language: str) -> str:
    text = plain(value, language)
    if language == "zh":
        return "".join(_HAN[int(c)] if c in "0123456789" else _ZH_MARKS.get(c, c) for c in text)
    marks = (_ONES[int(c)] if c in "0123456789" else _EN_MARKS.get(c, c) for c in text)
    return " ".join(mark for mark in marks if mark.strip())


def _spell(value: Any, language: str) -> str:
    marks = _ZH_MARKS if language == "zh" else _EN_MARKS
    said = []
    for char in plain(value, language):
        if char in "0123456789":
            said.append(_HAN[int(char)] if language == "zh" else _ONES[int(char)])
        elif char.strip():
            said.append(marks.get(char, char.upper()))
    return " ".join(said)


def _say_number(number: Decimal, language: str) -> str:
    number = number.quantize(Decimal("0.000001"), ROUND_HALF_UP)
    sign = "" if number >= 0 else {"zh": "负"}.get(language, "minus ")
    whole, _, rest = f"{abs(number):f}".partition(".")
    said = sign + _words(int(whole), language)
    rest = rest.rstrip("0")
    if not rest:
        return said if int(whole) else _words(0, language)
    if language == "zh":
        return said + "点" + _digits(rest, "zh")
    return f"{said} point {_digits(rest, 'en')}"


def _print_number(number: Decimal) -> str:
    text = f"{number:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _say_money(amount: Decimal, language: str, currency: str) -> str:
    unit = _CURRENCIES.get(currency)
    if unit is None:
        return f"{_say_number(amount, language)} {currency}"
    sign = "" if amount >= 0 else {"zh": "负"}.get(language, "minus ")
    whole, part = divmod(int(abs(amount) * 100), 100)
    if language == "zh":
        head = chinese_number(whole, counting=True) + unit.zh if whole or not part else ""
        if currency != "CNY":
            cents = chinese_number(part, counting=True) + unit.zh_part if part else ""
            return sign + head + cents
        jiao, fen = divmod(part, 10)
        tail = f"{chinese_number(jiao, counting=True)}角" if jiao else "零" if head and fen else ""
        return sign + head + tail + (f"{chinese_number(fen, counting=True)}分" if fen else "")
    said = []
    if whole or not part:
        said.append(f"{english_number(whole)} {unit.en[whole != 1]}")
    if part:
        said.append(f"{english_number(part)} {unit.en_part[part != 1]}")
    return sign + " and ".join(said)


def _print_money(amount: Decimal, language: str, currency: str) -> str:
    unit = _CURRENCIES.get(currency)
    sign = "-" if amount < 0 else ""
    if unit is None:
        return f"{amount:,.2f} {currency}"
    if language == "zh":
        return f"{amount:,.2f}{unit.zh}"
    return f"{sign}{unit.sign}{abs(amount):,.2f}"


def _say_year(year: int) -> str:
    century, rest = divmod(year, 100)
    if rest == 0:
        return english_number(year) if century % 10 == 0 else f"{english_number(century)} hundred"
    if century % 10 == 0 and rest < 10:
        return english_number(year)
    return f"{english_number(century)} {'oh ' if rest < 10 else ''}{english_number(rest)}"


def ordinal(day: int) -> str:
    """A day of the month as it is said: 23 is "twenty third"."""
    if day <= 20:
        return _ORDINALS[day]
    if day == 30:
        return "thirtieth"
    return f"{_TENS[day // 10]} {_ORDINALS[day % 10]}"


def _near(day: date, now: datetime | None) -> bool:
    return now is not None and 0 <= (day - now.date()).days < 300


def _date(day: date, language: str, voice: bool, now: datetime | None) -> str:
    near = _near(day, now)
    if language == "zh":
        if not voice:
            return f"{'' if near else f'{day.year}年'}{day.month}月{day.day}日"
        year = "" if near else _digits(str(day.year), "zh") + "年"
        return f"{year}{chinese_number(day.month)}月{chinese_number(day.day)}日"
    month = _MONTHS[day.month - 1]
    if not voice:
        return f"{month} {day.day}" + ("" if near else f", {day.year}")
    return f"{month} {ordinal(day.day)}" + ("" if near else f", {_say_year(day.year)}")


_ZH_PARTS = ((5, "凌晨"), (9, "早上"), (12, "上午"), (13, "中午"), (18, "下午"), (24, "晚上"))


def _time(hour: int, minute: int, language: str, voice: bool) -> str:
    if language == "zh":
        if not voice:
            return f"{hour:02d}:{minute:02d}"
        part = next(name for end, name in _ZH_PARTS if hour < end)
        said = f"{part}{chinese_number(hour if hour <= 12 else hour - 12, counting=True)}点"
        if minute == 30:
            return said + "半"
        return said + (f"{'零' if minute < 10 else ''}{chinese_number(minute)}分" if minute else "")
    half, twelve = ("am", "pm")[hour >= 12], hour % 12 or 12
    if not voice:
        return f"{twelve}:{minute:02d} {half.upper()}"
    if minute == 0 and hour % 12 == 0:
        return "noon" if hour else "midnight"
    minutes = f" {'oh ' if minute < 10 else ''}{english_number(minute)}" if minute else ""
    return f"{english_number(twelve)}{minutes} {' '.join(half)}"


def _minutes(seconds: Decimal, language: str, voice: bool) -> str:
    if seconds < 0:
        return {"zh": "几分钟"}.get(language, "a few minutes")
    if seconds < 60:
        if language == "zh":
            return "不到一分钟" if voice else "不到1分钟"
        return "less than a minute"
    hours, minutes = divmod(int((seconds / 60).quantize(Decimal(1), ROUND_HALF_UP)), 60)
    if language == "zh":
        pieces = [(hours, "小时"), (minutes, "分钟")]
        return "".join(
            (chinese_number(count, counting=True) if voice else str(count)) + unit
            for count, unit in pieces
            if count
        )
    return " ".join(
        f"{english_number(count) if voice else count} {unit}{'' if count == 1 else 's'}"
        for count, unit in ((hours, "hour"), (minutes, "minute"))
        if count
    )


def render(
    fmt: str,
    value: Any,
    language: str,
    *,
    voice: bool,
    currency: str = "",
    now: datetime | None = None,
) -> str:
    """The value as people say it (`voice`) or print it. Never raises: what does not fit is as is.

    `minutes` takes seconds. Money is in `currency`, by default the language's (USD for en, CNY for
    zh). With `now`, a date of the next 300 days loses its year, as people would leave it out.
    """
    if value is None:
        return ""
    if fmt == "digits":
        return _digits(value, language) if voice else plain(value, language)
    if fmt == "spell":
        return _spell(value, language) if voice else plain(value, language)
    if fmt == "date" and (day := _day(value)) is not None:
        return _date(day, language, voice, now)
    if fmt == "time" and (clock := _clock(value)) is not None:
        return _time(*clock, language, voice)
    if fmt == "minutes" and isinstance(value, float) and not math.isfinite(value):
        return _minutes(Decimal(-1), language, voice)
    number = _number(value) if fmt in ("money", "number", "minutes") else None
    if number is None:
        return plain(value, language)
    if fmt == "minutes":
        return _minutes(number, language, voice)
    if fmt == "number":
        return _say_number(number, language) if voice else _print_number(number)
    amount = number.quantize(Decimal("0.01"), ROUND_HALF_UP)
    code = currency or _HOME_CURRENCY.get(language, "USD")
    show = _say_money if voice else _print_money
    return show(amount, language, code)
