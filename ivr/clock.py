"""The machine's own clock, for every program of the hotline; tests have clocks of their own."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """`ivr.ports.Clock`: the machine's own."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()
