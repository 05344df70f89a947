"""The hotline as an extension of another PBX: a real Asterisk, which here is any SIP PBX. It
registers, is called, hears keys and speech, rings an agent's phone and carries the talk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ivr.config import Settings, SoftphoneAccount, SoftphoneSettings
from ivr.telephony import pbx
from ivr.telephony.softphone import Softphone
from tests.live.house import House, house_settings
from tests.live.test_faults import (
    into_talk,
    into_the_line,
    they_hear_each_other,
    to_the_bill,
)

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

EXTENSION = "9005"
BACK_WITHIN = 30.0


def extension_settings(live_pbx: Settings, name: str) -> Settings:
    """A server without Asterisk that is extension 9005 of one."""
    password = pbx.credentials(live_pbx).phone(EXTENSION)
    asterisk = live_pbx.asterisk.model_copy(update={"enabled": False, "extension": EXTENSION})
    softphone = SoftphoneSettings(
        server=live_pbx.asterisk.sip_host,
        port=live_pbx.asterisk.sip_port,
        accounts={EXTENSION: SoftphoneAccount(password=password)},
        calls=2,
    )
    return house_settings(live_pbx, name, asterisk=asterisk, softphone=softphone)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def module_house(live_pbx: Settings, request: pytest.FixtureRequest) -> AsyncIterator[House]:
    house = House(extension_settings(live_pbx, request.module.__name__))
    yield house
    await house.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def caller(house: House) -> AsyncIterator[Softphone]:
    async with house.caller() as phone:
        yield phone
    await house.nothing_left()


async def test_a_caller_goes_through_the_flow_up_to_the_queue_and_talks_to_an_agent(
    house: House, caller: Softphone
) -> None:
    async with house.agent("ann", "1001") as agent:
        on_the_line, identity = await into_talk(house, caller, agent)
        kinds = [entry.kind for entry in await house.timeline(identity)]
        assert kinds.count("pressed") >= 3
        await they_hear_each_other(on_the_line, agent)
        await agent.call.hang_up()
        async with asyncio.timeout(30):
            await on_the_line.call.ended()
    assert on_the_line.call.ended_by == "them"
    await house.until_ended(identity)
    [leg] = house.rows("select address, dialled from legs where conversation_id = ?", identity)
    assert leg == ("9001", EXTENSION)


async def test_keys_lead_from_prompt_to_prompt(house: House, caller: Softphone) -> None:
    on_the_line, _, _ = await to_the_bill(house, caller)
    await on_the_line.sound(time.monotonic(), 10)
    await on_the_line.call.hang_up()


async def test_a_caller_who_hangs_up_in_the_queue_stops_the_ringing(
    house: House, caller: Softphone
) -> None:
    async with house.agent("bob", "1002") as agent:
        on_the_line, identity = await into_the_line(house, caller)
        await agent.screen.set_available()
        ringing = await agent.phone.incoming(15)
        await on_the_line.call.hang_up()
        async with asyncio.timeout(5):
            await ringing.ended()
    await house.until_ended(identity)


async def test_more_callers_than_allowed_hear_that_it_is_busy(
    house: House, caller: Softphone
) -> None:
    calls = [await caller.call(EXTENSION), await caller.call(EXTENSION)]
    with pytest.raises(Exception, match="9005 is busy"):
        await caller.call(EXTENSION)
    for call in calls:
        await call.hang_up()
    await house.until_metric("hotline_softphone_refused_total", 1)


async def test_a_registrar_that_was_away_is_found_again(
    live_pbx: Settings, house: House, caller: Softphone
) -> None:
    await asyncio.to_thread(pbx.down, live_pbx)
    await house.until_metric("hotline_softphone_registered", 0, 30)
    await asyncio.to_thread(pbx.up, live_pbx)
    up = time.monotonic()
    await house.until_metric("hotline_softphone_registered", 1, BACK_WITHIN)
    assert time.monotonic() - up < BACK_WITHIN
    async with house.caller() as again:
        on_the_line = await house.call(again)
        await on_the_line.sound(0, 5)
        await on_the_line.call.hang_up()
