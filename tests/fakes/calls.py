"""A telephone system without telephones: a test says what rings, who answers and who hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ivr.errors import CallGone
from ivr.ports import ActionOutcome, Answered, CallEvent, Ringing

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
    """Implements `ivr.ports.PhoneSystem`. Legs named in `gone` have left; `orders` are what was
    asked for, each of which is `answer`ed."""

    def __init__(self) -> None:
        self.orders: list[tuple[str, ...]] = []
        self.answer = ActionOutcome("done")
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

    async def let_go(self, leg_id: str) -> ActionOutcome:
        outcome = self._ordered("let_go", leg_id)
        attempt = self.under_way.get(leg_id)
        if attempt is not None and outcome.result == "done":
            attempt.end("talked")
        return outcome

    async def send_to(self, leg_id: str, number: str) -> ActionOutcome:
        outcome = self._ordered("send_to", leg_id, number)
        attempt = self.under_way.get(leg_id)
        if attempt is not None and outcome.result == "done":
            attempt.end("transferred")
        return outcome

    async def hold(self, leg_id: str, on: bool) -> ActionOutcome:
        return self._ordered("hold", leg_id, str(on))

    async def mute(self, leg_id: str, on: bool) -> ActionOutcome:
        return self._ordered("mute", leg_id, str(on))

    async def press(self, leg_id: str, digits: str) -> ActionOutcome:
        return self._ordered("press", leg_id, digits)

    async def park(self, leg_id: str) -> ActionOutcome:
        return self._ordered("park", leg_id)

    async def consult(self, leg_id: str, number: str) -> ActionOutcome:
        return self._ordered("consult", leg_id, number)

    async def complete(self, leg_id: str) -> ActionOutcome:
        return self._ordered("complete", leg_id)

    async def cancel(self, leg_id: str) -> ActionOutcome:
        return self._ordered("cancel", leg_id)

    async def join(self, leg_id: str) -> ActionOutcome:
        return self._ordered("join", leg_id)

    async def listen(self, leg_id: str, extension: str, mode: str) -> ActionOutcome:
        return self._ordered("listen", leg_id, extension, mode)

    async def dial(self, extension: str, number: str) -> ActionOutcome:
        return self._ordered("dial", extension, number)

    def _ordered(self, *order: str) -> ActionOutcome:
        self.orders.append(order)
        return self.answer
