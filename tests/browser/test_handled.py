"""A call handled by browser alone: the page and the real desk, with a telephone that pretends; the
colleague is a program that speaks the same protocol."""

from __future__ import annotations

import asyncio
from typing import Any

from playwright.async_api import Page, expect

from cti import protocol
from cti.client import AgentClient
from ivr.ports import Held
from tests.browser.conftest import Site, hire, log_in
from tests.unit.cti.test_web import PASSWORD


async def ready(page: Page) -> None:
    await log_in(page)
    await page.click("#come-back")
    await expect(page.locator(".idle h1")).to_have_text("Ready")


async def test_from_login_to_a_call_that_is_written_up(opened: Any, site: Site) -> None:
    page = await opened()
    await ready(page)
    await site.world.waits("c1", pop=(("account", "12345678"),))
    await expect(page.locator(".facts.first .value").first).to_have_text("12345678")
    ring = await site.world.calls.next_ring()
    ring.ring()
    await expect(page.locator(".callbar .state")).to_have_text("Your phone is ringing")
    ring.answer()
    await expect(page.locator(".callbar .state")).to_have_text("Connected")
    await page.click("[data-order=hold]")
    ring.notify(Held(True))
    await expect(page.locator(".callbar .state")).to_have_text("On hold")
    await page.click("[data-order=retrieve]")
    ring.notify(Held(False))
    await expect(page.locator(".callbar .state")).to_have_text("Connected")
    assert site.world.calls.orders == [("hold", "leg-c1", "True"), ("hold", "leg-c1", "False")]
    await page.fill(".wrap-up textarea", "Paid by card.")
    await page.click("[data-order=hang_up]")
    await expect(page.locator(".callbar .state")).to_have_text("Call ended, wrap-up")
    await page.click(".wrap-up >> text=Resolved")
    await page.click("[data-order=done]")
    await expect(page.locator(".idle h1")).to_have_text("Ready")
    noted = [one.body for one in await site.world.store.timeline("c1") if one.kind == "noted"]
    assert (noted[-1]["note"], noted[-1]["disposition"]) == ("Paid by card.", "resolved")


async def test_a_colleague_gets_the_customer_with_what_was_written(
    opened: Any, site: Site, url: str
) -> None:
    page = await opened()
    await ready(page)
    await site.world.waits("c1")
    ring = await site.world.calls.next_ring()
    ring.answer()
    await hire(site, "bob")
    async with AgentClient(url, "bob", PASSWORD) as bob:
        await bob.set_available()
        await page.click("[data-order=transfer]")
        await page.click(".targets >> text=Bob")
        await page.fill("work-transfer [name=note]", "Wants to pay in parts.")
        await page.click("text=Transfer now")
        async with asyncio.timeout(10):
            async for news in bob.messages():
                if isinstance(news, protocol.Pop):
                    assert (news.card.from_agent, news.card.context) == (
                        "ann",
                        "Wants to pay in parts.",
                    )
                    break
    await expect(page.locator(".callbar .state")).to_have_text("Call ended, wrap-up")


async def test_the_page_finds_its_call_again_after_a_reload(opened: Any, site: Site) -> None:
    page = await opened()
    await ready(page)
    await site.world.waits("c1")
    ring = await site.world.calls.next_ring()
    ring.answer()
    await expect(page.locator(".callbar .state")).to_have_text("Connected")
    await page.reload()
    await expect(page.locator(".callbar .state")).to_have_text("Connected")
    await page.click("agent-bar .menu summary >> nth=-1")
    await page.click("#logout")
    await expect(page.locator("[name=password]")).to_be_visible()
    async with asyncio.timeout(10):
        while (await site.world.store.presences())["ann"].state != "offline":
            await asyncio.sleep(0.02)


async def test_a_wrong_password_is_told(opened: Any, site: Site) -> None:
    page = await opened()
    await page.goto("/agent")
    await page.fill("[name=login]", "ann")
    await page.fill("[name=password]", "wrong password")
    await page.click("button[type=submit]")
    await expect(page.locator(".error")).to_have_text("login or password is wrong")
    await expect(page.locator("[name=password]")).to_be_focused()
    await page.click(".language")
    await expect(page.locator("h1")).to_have_text("热线")


async def test_the_designers_page_logs_in_the_same_way(opened: Any, site: Site) -> None:
    await hire(site, "dee", roles=("designer",))
    page = await opened()
    await page.goto("/designer")
    await page.fill("[name=login]", "dee")
    await page.fill("[name=password]", PASSWORD)
    await page.click("#login button[type=submit]")
    await expect(page.locator("#workshop")).to_be_visible()
    await page.click("#logout")
    await expect(page.locator("#login")).to_be_visible()
    await page.fill("[name=login]", "ann")
    await page.fill("[name=password]", PASSWORD)
    await page.click("#login button[type=submit]")
    await expect(page.locator("#login-error")).to_contain_text("designer")
