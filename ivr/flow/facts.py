"""What the deployment knows that a flow may ask about: opening hours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Literal


@dataclass(frozen=True, slots=True)
class Calendar:
    """When people are there. `weekly` maps weekdays (0 is Monday) to spans of opening and closing
    times; a span that closes at or before it opens runs past midnight. `holidays` are shut."""

    zone: tzinfo
    weekly: Mapping[int, tuple[tuple[time, time], ...]] = field(default_factory=dict)
    holidays: frozenset[date] = frozenset()

    def at(self, now: datetime) -> Literal["open", "closed", "holiday"]:
        """How things stand at an aware time."""
        local = now.astimezone(self.zone)
        today = local.date()
        yesterday = today - timedelta(days=1)
        if yesterday not in self.holidays and any(
            closes <= opens and local.time() < closes
            for opens, closes in self.weekly.get(yesterday.weekday(), ())
        ):
            return "open"
        if today in self.holidays:
            return "holiday"
        spans = self.weekly.get(today.weekday(), ())
        is_open = any(
            opens <= local.time() and (local.time() < closes or closes <= opens)
            for opens, closes in spans
        )
        return "open" if is_open else "closed"


@dataclass(frozen=True, slots=True)
class Facts:
    """The deployment as flows see it, by the names that flows use."""

    calendars: Mapping[str, Calendar] = field(default_factory=dict)


NOTHING = Facts()
