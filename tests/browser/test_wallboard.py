"""The wallboard in a real browser: it is right within a second, it acts, and it fits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from cti import protocol
from ivr.model import Agent, TimelineEntry
from tests.browser.conftest import FAST, PASSWORD, Opener, Site

UNNAMED = """[...document.querySelectorAll('button,input,select')].filter(one =>
  !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length)).length"""
EVIL = "<img src=x onerror=alert(1)>\u202e"


async def _staff(site: Site) -> None:
    store = site.world.store
    for login, name, roles, skills in (
        ("sue", "Sue Park", {"supervisor"}, {}),
        ("ann", "Ann Lindqvist", {"agent"}, {"billing": 5, "repairs": 2}),
        ("bob", "王小明", {"agent"}, {"billing": 3}),
        ("eve", EVIL, {"agent"}, {"repairs": 3}),
    ):
        agent = Agent(login, name, "201", roles=frozenset(roles), skills=skills)
        await store.save_agent(agent, FAST.hash(PASSWORD))


async def _log_in(page: Page, login: str = "sue") -> None:
    await page.goto("/wallboard")
    await page.fill("input[name=login]", login)
    await page.fill("input[name=password]", PASSWORD)
    await page.press("input[name=password]", "Enter")


async def _at_work(site: Site) -> dict[str, Any]:
    pages = {}
    for login in ("ann", "bob", "eve"):
        pages[login] = await site.world.page(login, ready=login != "bob")
    return pages


async def _busy_house(site: Site) -> Any:
    """One on the telephone with Ann, three in line."""
    await _staff(site)
    pages = await _at_work(site)
    world, now = site.world, site.world.clock.now()
    await world.waits("c1", skills=("billing",), language="en")
    ring = await world.calls.next_ring()
    ring.answer()
    await pages["ann"].next(protocol.CallAnswered)
    for n, (skill, language) in enumerate(
        (("billing", "en"), ("billing", "zh"), ("billing", "en"))
    ):
        await world.waits(f"w{n}", skills=(skill,), language=language)
    told = []
    for name, topic in (("c1", "billing"), ("w0", "billing"), ("w1", EVIL)):
        told.append(TimelineEntry(name, now, "call_started", {"channel": "voice"}))
        filled = {"slot": "topic", "value": topic}
        told.append(TimelineEntry(name, now, "slot_filled", filled))
    await world.store.append(told)
    return pages


async def test_the_board_is_right_within_a_second(site: Site, opened: Opener) -> None:
    await _busy_house(site)
    page = await opened()
    await _log_in(page)
    figures = page.locator(".figure strong")
    await expect(figures.nth(0)).to_have_text("3")
    await expect(page.locator("li[data-login=ann]")).to_contain_text("talking")
    await expect(page.locator(".queues tbody tr")).to_have_count(2)
    await site.world.waits("w9", skills=("billing",), language="en")
    await expect(figures.nth(0)).to_have_text("4", timeout=1500)
    assert await page.locator("img[src=x]").count() == 0, "names are text"


async def test_a_supervisor_acts_and_it_is_written_down(site: Site, opened: Opener) -> None:
    pages = await _busy_house(site)
    page = await opened()
    await _log_in(page)
    ann = page.locator("li[data-login=ann]")
    await ann.locator("[data-act=listen]").click()
    await page.locator("dialog button[type=submit]").click()
    await expect(page.locator(".told")).to_have_text("Done.")
    assert site.world.calls.orders == [("listen", "leg-c1", "201", "listen")]
    await page.locator("li[data-login=eve] [data-act=send_away]").click()
    await page.fill("dialog input[name=reason]", "training")
    await page.press("dialog input[name=reason]", "Enter")
    assert (await pages["eve"].next(protocol.PresenceNow, state="away")).reason == "training"
    await page.locator(".line [data-act=reassign]").first.click()
    await page.select_option("dialog select", "agent bob")
    await page.locator("dialog button[type=submit]").click()
    await expect(page.locator(".line")).to_contain_text("→ bob")
    await page.locator("li[data-login=bob] [data-act=force_out]").click()
    await page.locator("dialog button.danger").click()
    await expect(page.locator("li[data-login=bob]")).to_have_count(0)
    log = await site.world.store.audit_log()
    assert [(one.what, one.whom) for one in reversed(log)] == [
        ("listen", "c1"),
        ("sent_away", "eve"),
        ("reassigned", "w0"),
        ("forced_out", "bob"),
    ]
    await page.locator("li[data-login=eve] [data-act=force_out]").focus()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Escape")
    await expect(page.locator("li[data-login=eve] [data-act=force_out]")).to_be_focused()


async def test_an_agent_is_told_that_the_board_is_not_for_them(site: Site, opened: Opener) -> None:
    await _staff(site)
    page = await opened()
    await _log_in(page, "ann")
    await expect(page.locator("[role=alert]")).to_contain_text("role")


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("width", [1440, 390])
async def test_the_board_fits(site: Site, opened: Opener, width: int, language: str) -> None:
    await _busy_house(site)
    page = await opened(width, 900, language)
    await _log_in(page)
    await expect(page.locator(".figure strong").nth(0)).to_have_text("3")
    wide = await page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width
    assert await page.evaluate(UNNAMED) == 0
    if folder := os.environ.get("HOTLINE_PICTURES"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        picture = Path(folder) / f"wallboard-{width}-{language}.png"
        await page.screenshot(path=picture, full_page=True)
