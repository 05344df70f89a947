"""What runs beside the calls goes on, whatever happens to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from cti import app
from ivr.errors import Conflict, StoreError


class Sweeping:
    """A runner, and the manager link that is asked for its channels, as far as sweeping goes."""

    channels: dict[str, str] = {}  # noqa: RUF012

    def __init__(self) -> None:
        self.touched = 0
        self.swept: asyncio.Queue[int] = asyncio.Queue()
        self.troubles = [Conflict("moved"), StoreError("the disk is full")]

    async def touch(self) -> None:
        self.touched += 1

    async def sweep(self, going_on: Callable[[Any], bool]) -> int:
        if self.troubles:
            raise self.troubles.pop()
        self.swept.put_nowait(self.touched)
        return 1


async def test_sweeping_survives_what_goes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "TOUCH_SECONDS", 0.001)
    monkeypatch.setattr(app, "COMES_BACK_WITHIN", 0.005)
    fake = Sweeping()
    work = asyncio.ensure_future(app._sweep(cast(Any, fake), cast(Any, fake), app.SystemClock()))
    async with asyncio.timeout(5):
        assert await fake.swept.get() > 2, "touched each time, and before patience was over too"
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
