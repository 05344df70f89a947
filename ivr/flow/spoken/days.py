"""Which day a person means, once the words are understood: the calendar rules both languages share.

- A day and month without a year, or a bare day of the month, is the next such date; today counts.
- A bare weekday is the next such day; today counts.
- The weekday of this, the next or the last week (next Tuesday, 本周二, 下周二, 上周二) is that
  day of the calendar week, and weeks begin on Monday. Only English "this Tuesday", said after
  Tuesday, looks forward all the same: nobody makes an appointment for the past.
- A year of two digits is the one closest to now that is at most twenty years ahead.
- A weekday that contradicts the date it is said with is a slip: there is no answer.
"""

from __future__ import annotations

import calendar
from datetime import date, timedelta


def exact(year: int, month: int, day: int) -> date | None:
    """The date if the calendar has it and it lies within 1900 to 2199."""
    if not 1900 <= year <= 2199 or not 1 <= month <= 12:
        return None
    return date(year, month, day) if 1 <= day <= calendar.monthrange(year, month)[1] else None


def upcoming(today: date, month: int, day: int) -> date | None:
    """The next such date, today included; 29 February waits for its leap year."""
    for year in range(today.year, today.year + 9):
        found = exact(year, month, day)
        if found is not None and found >= today:
            return found
    return None


def upcoming_day(today: date, day: int) -> date | None:
    """The next such day of a month, today included."""
    for ahead in range(12):
        found = in_month(today, ahead, day)
        if found is not None and found >= today:
            return found
    return None


def in_month(today: date, ahead: int, day: int) -> date | None:
    """That day of this month (0), the next (1), the last (-1) …; day 0 is the month's last."""
    months = today.year * 12 + today.month - 1 + ahead
    year, month = divmod(months, 12)
    return exact(year, month + 1, day or calendar.monthrange(year, month + 1)[1])


def upcoming_weekday(today: date, weekday: int) -> date:
    """The next such weekday (Monday is 0), today included."""
    return today + timedelta(days=(weekday - today.weekday()) % 7)


def week_day(today: date, weeks: int, weekday: int) -> date:
    """That weekday of the calendar week `weeks` from this one."""
    return today + timedelta(days=weekday - today.weekday() + 7 * weeks)


def full_year(today: date, year: int) -> int:
    """A year as it was meant: 26 is 2026, 84 is 1984, 1984 is itself."""
    if year >= 100:
        return year
    century = today.year // 100 * 100
    return century + year if century + year <= today.year + 20 else century - 100 + year


def shifted(today: date, *, days: int = 0, months: int = 0) -> date | None:
    """So many days or months from today, if that is within bounds. The 31st shortens."""
    if abs(days) > 4_000 or abs(months) > 120:
        return None
    if months:
        target = in_month(today, months, 1)
        if target is None:
            return None
        last = calendar.monthrange(target.year, target.month)[1]
        return target.replace(day=min(today.day, last))
    return today + timedelta(days=days)


def office_hour(hour: int) -> int:
    """The hour meant where neither morning nor afternoon is said: one to six are past noon."""
    return hour + 12 if 1 <= hour <= 6 else hour
