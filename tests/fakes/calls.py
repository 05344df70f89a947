"""A telephone system without telephones: a test says what rings, who answers and who hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ivr.errors import CallGone
from ivr.ports import Answered, CallEvent, Ringing

PATIENCE = 5.0
"""Seconds of real time after which a test that waits for something has failed."""


class VirtualClock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self._now = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
        self._monotonic = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds


@dataclass
class FakeRing:
    """One attempt to reach an agent's phone."""

    leg_id: str
    extension: str
    seconds: float
    notify: Callable[[CallEvent], None]
    outcome: asyncio.Future[str]
    answered: bool = False
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def ring(self) -> None:
        self.notify(Ringing(self.extension))

    def answer(self) -> None:
        self.answered = True
        self.notify(Answered(self.extension))

    def end(self, outcome: str) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def fail(self, error: Exception) -> None:
        self.outcome.set_exception(error)


class FakeCalls:
    """Implements `ivr.ports.CallControl`. Legs named in `gone` have left."""

    def __init__(self) -> None:
        self.rings: asyncio.Queue[FakeRing] = asyncio.Queue()
        self.under_way: dict[str, FakeRing] = {}
        self.hung_up: list[str] = []
        self.gone: set[str] = set()

    async def next_ring(self) -> FakeRing:
        async with asyncio.timeout(PATIENCE):
            return await self.rings.get()

    async def ring(
        self, leg_id: str, extension: str, seconds: float, notify: Callable[[CallEvent], None]
    ) -> str:
        if leg_id in self.gone:
            raise CallGone(f"no leg {leg_id}")
        attempt = FakeRing(
            leg_id, extension, seconds, notify, asyncio.get_running_loop().create_future()
        )
        self.under_way[leg_id] = attempt
        self.rings.put_nowait(attempt)
        try:
            return await attempt.outcome
        except asyncio.CancelledError:
            attempt.cancelled.set()
            raise
        finally:
            self.under_way.pop(leg_id, None)

    async def hang_up(self, leg_id: str) -> None:
        self.hung_up.append(leg_id)
        attempt = self.under_way.get(leg_id)
        if attempt is not None:
            attempt.end("talked" if attempt.answered else "gone")
