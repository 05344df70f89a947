"""What the dialplan does by itself when no server comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from cti import robots
from ivr.config import Settings
from ivr.telephony import pbx
from tests.live.house import Caller

pytestmark = [pytest.mark.live, pytest.mark.timeout(60)]

TONE = (b"\x00\x20" * 8 + b"\x00\xe0" * 8) * 500


async def test_the_fallback_extension_rings_when_no_server_comes_back(
    live_settings: Callable[..., Settings],
) -> None:
    settings = live_settings(fallback="9002")
    await asyncio.to_thread(pbx.up, settings)
    # As in life, but not for a minute.
    pbx.console(settings, "dialplan set global HOTLINE_PATIENCE 1")
    async with (
        robots.phone(settings, robots.CALLER) as phone,
        robots.phone(settings, "9002") as desk,
    ):
        began = time.monotonic()
        caller = Caller(await phone.call(settings.asterisk.extension))
        await caller.sound(began, 5)  # asked to hold, and then told that nobody is there
        incoming = await desk.incoming(30)
        print(f"the fallback rang after {time.monotonic() - began:.1f} s")
        await incoming.answer()
        answering = Caller(incoming)
        await asyncio.gather(
            caller.call.play(TONE),
            answering.sound(time.monotonic(), 5),
        )
        await incoming.hang_up()
        await asyncio.wait_for(caller.call.ended(), 5)
    assert "0 active channels" in pbx.console(settings, "core show channels count")
