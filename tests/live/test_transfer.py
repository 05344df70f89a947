"""A flow's transfer, through a real Asterisk, and through the death of the server meanwhile."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from cti import robots
from ivr.config import Settings
from ivr.errors import TelephonyError
from ivr.telephony.softphone import Softphone
from tests.live.house import Caller, House, house_settings

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

TONE = (b"\x00\x20" * 8 + b"\x00\xe0" * 8) * 500
FLOW = """\
flow: through
languages: [en]
start: ask
nodes:
  ask:
    menu:
      ask: "For the workshop, press 1."
      choices: {workshop: {press: 1, say: [workshop], then: workshop}}
      otherwise: bye
  workshop: {transfer: {to: "9002", ring: 20s}, then: rated, otherwise: bye}
  rated:
    menu:
      ask: "Were you helped? Press 1 for yes."
      choices: {helped: {press: 1, say: [helped], then: bye}}
      otherwise: bye
  bye: {end: {say: "Goodbye."}}
"""


async def hear_each_other(one: Caller, other: Caller) -> None:
    for speaker, listener in ((one, other), (other, one)):
        await asyncio.gather(speaker.call.play(TONE), listener.sound(time.monotonic(), 5))


@pytest.mark.parametrize("dies", [False, True])
async def test_the_flow_goes_on_after_the_talk(
    live_pbx: Settings, tmp_path: Path, dies: bool
) -> None:
    (tmp_path / "through.yaml").write_text(FLOW)
    name = f"through_{dies}"
    house = House(house_settings(live_pbx, name, flows_dir=tmp_path, flow="through"))
    await house.start()
    try:
        async with house.caller() as phone, robots.phone(house.settings, "9002") as workshop:
            caller = await house.call(phone)
            identity = (await house.live()).id
            await caller.sound(0, 5)
            await caller.call.press("1")
            incoming = await workshop.incoming(15)
            await incoming.answer()
            smith = Caller(incoming)
            await hear_each_other(caller, smith)
            if dies:
                await house.kill()
                await hear_each_other(caller, smith)
                await house.start()
                await hear_each_other(caller, smith)
            await incoming.hang_up()
            over = time.monotonic()

            await caller.sound(over, 15)
            state = await house.state(identity)
            while state.node != "rated" and time.monotonic() - over < 15:
                await asyncio.sleep(0.1)
                state = await house.state(identity)
            assert state.node == "rated", "the transfer succeeded, whoever saw it"
            print(f"the flow went on {time.monotonic() - over:.1f} s after the talk")
            assert not await rings_again(workshop)
            await caller.call.press("1")
            ended = await house.until_ended(identity)
            assert ended.outcome == "completed"
        await house.nothing_left()
    finally:
        await house.stop()


async def rings_again(phone: Softphone) -> bool:
    try:
        await phone.incoming(1)
    except TelephonyError:
        return False
    return True
