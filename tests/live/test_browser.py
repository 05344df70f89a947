"""A call through a real Asterisk to an agent who has a browser and nothing else."""

from __future__ import annotations

import asyncio
import math
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from cti import stage
from ivr.config import Settings
from tests.browser.conftest import browser as browser
from tests.live.house import PASSWORD, House, house_settings

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

FLOW = """\
flow: main
languages: [en]
start: people
nodes:
  people: {queue: {skills: []}, then: bye, otherwise: bye}
  bye: {end: {}}
"""
TONE = b"".join(
    struct.pack("<h", int(8000 * math.sin(2 * math.pi * 440 * place / 8000)))
    for place in range(8000 * 20)
)


@pytest_asyncio.fixture(loop_scope="session")
async def house(live_pbx: Settings, tmp_path: Path) -> AsyncIterator[House]:
    (tmp_path / "main.yaml").write_text(FLOW)
    house = House(house_settings(live_pbx, "browser", flows_dir=tmp_path))
    await house.start()
    yield house
    await house.stop()


async def log_in(browser: Browser, house: House, login: str) -> Page:
    context = await browser.new_context(base_url=stage.url(house.settings), locale="en")
    page = await context.new_page()
    await page.goto("/agent")
    await page.fill("[name=login]", login)
    await page.fill("[name=password]", PASSWORD)
    await page.click("button[type=submit]")
    await expect(page.locator(".phone-state.ready")).to_be_visible(timeout=15_000)
    return page


async def level(page: Page, side: str, least: float) -> None:
    meter = page.locator(f"meter[data-of={side}]")
    async with asyncio.timeout(20):
        while float(await meter.evaluate("(one) => one.value")) < least:
            await asyncio.sleep(0.1)


async def test_from_login_to_wrap_up_in_the_browser_alone(browser: Browser, house: House) -> None:
    await stage.add_agent(house.settings, "ann", "1002", PASSWORD)
    page = await log_in(browser, house, "ann")
    await page.click("#come-back")
    async with house.caller() as phone:
        caller = await house.call(phone)
        identity = (await house.live()).id
        await page.locator(".callbar [data-order=answer]").click(timeout=20_000)
        await expect(page.locator(".callbar .state")).to_have_text("Connected", timeout=15_000)

        playing = asyncio.ensure_future(caller.call.play(TONE))
        await level(page, "heard", 0.5)
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        await caller.sound(time.monotonic(), 10)  # the browser's microphone beeps

        await page.click("[data-order=hold]")
        await expect(page.locator(".callbar .state")).to_have_text("On hold", timeout=10_000)
        await page.click("[data-order=retrieve]")
        await expect(page.locator(".callbar .state")).to_have_text("Connected", timeout=10_000)

        await page.fill(".wrap-up textarea", "Handled in a browser.")
        await page.click("[data-order=hang_up]")
        await expect(page.locator(".callbar .state")).to_have_text(
            "Call ended, wrap-up", timeout=15_000
        )
        await page.locator(".wrap-up .choices label").first.click()
        await page.click("[data-order=done]")
        await expect(page.locator(".idle h1")).to_have_text("Ready")
        noted = [one.body for one in await house.timeline(identity) if one.kind == "noted"]
        assert (noted[-1]["note"], noted[-1]["disposition"]) == (
            "Handled in a browser.",
            "resolved",
        )
    await page.context.close()


async def test_attended_transfer_to_a_second_browser(browser: Browser, house: House) -> None:
    await stage.add_agent(house.settings, "cleo", "1003", PASSWORD)
    await stage.add_agent(house.settings, "dora", "1004", PASSWORD)
    cleo = await log_in(browser, house, "cleo")
    await cleo.click("#come-back")
    dora = await log_in(browser, house, "dora")
    async with house.caller() as phone:
        caller = await house.call(phone)
        await cleo.locator(".callbar [data-order=answer]").click(timeout=20_000)
        await expect(cleo.locator(".callbar .state")).to_have_text("Connected", timeout=15_000)
        await cleo.click("[data-order=transfer]")
        await cleo.click(".targets >> text=Dora")
        await cleo.fill("work-transfer [name=note]", "Wants to pay in parts.")
        await cleo.click("text=Talk to them first")

        # The story is on the second screen before its telephone rings.
        await expect(dora.locator(".handed p")).to_have_text(
            "Wants to pay in parts.", timeout=10_000
        )
        await dora.locator("[data-order=answer]").first.click(timeout=15_000)
        await expect(cleo.locator(".parties")).to_contain_text("talking", timeout=15_000)
        await level(dora, "heard", 0.3)  # the first browser's microphone
        await cleo.click("[data-order=complete]")
        await expect(cleo.locator(".callbar .state")).to_have_text(
            "Call ended, wrap-up", timeout=15_000
        )
        await expect(dora.locator(".callbar .state")).to_have_text("Connected", timeout=15_000)
        await caller.sound(time.monotonic(), 10)  # the second browser's microphone
        await dora.click("[data-order=hang_up]")
        await expect(dora.locator(".callbar .state")).to_have_text(
            "Call ended, wrap-up", timeout=15_000
        )
    await cleo.context.close()
    await dora.context.close()
