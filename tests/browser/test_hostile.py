"""What customers send is text: none of 200 payloads runs, becomes a part of the page, or brings it
out of shape, wherever it stands. The page's fixture fails on any dialog and any script's error."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page

from cti import protocol
from tests.browser import cards
from tests.browser.conftest import FakeServer, Site, log_in
from tests.browser.payloads import payloads

# How many elements of each kind there are, and whether anything has run.
CENSUS = """() => {
  const count = {};
  for (const { localName } of document.querySelectorAll("*"))
    count[localName] = (count[localName] ?? 0) + 1;
  return [count, window.ran ?? null, document.documentElement.scrollWidth];
}"""


def test_there_are_two_hundred() -> None:
    assert len(payloads()) == 200


async def census(page: Page) -> tuple[dict[str, int], Any, int]:
    # Two frames later everything is drawn.
    await page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )
    counted, ran, width = await page.evaluate(CENSUS)
    return counted, ran, width


def call_with(text: str) -> protocol.PopCard:
    return cards.call(
        name=text,
        number=text[:40],
        dialled=text[:40],
        topic=text,
        path=(text, text),
        language=text[:16],
        facts=(
            {"name": text, "value": text, "first": True, "source": "crm"},
            {"name": "b", "value": text, "source": text},
        ),
        transcript=(cards.line("caller", text, 1), cards.line("hotline", text, 2, misheard=True)),
        earlier=({"at": cards.NOW, "topic": text, "outcome": text, "agent": text, "note": text},),
        notes=({"text": text, "agent": text, "at": cards.NOW},),
        matches=({"id": "k", "name": text, "numbers": (text,)},),
        parties=({"role": "consulted", "name": text},),
        from_agent=text,
        context=text,
    )


def chat_with(text: str) -> protocol.PopCard:
    file = {"name": text, "type": text, "bytes": 1, "url": text}
    return cards.chat(
        name=text,
        facts=({"name": "f", "value": text, "first": True},),
        messages=(
            cards.text(1, "customer", text),
            cards.text(2, "customer", "", file=file),
            cards.text(3, "agent", text, name=text, status="sent"),
        ),
    )


@pytest.mark.parametrize("width", [1440, 360])
async def test_none_of_them_runs_or_sticks_out(fake: Any, width: int) -> None:
    harmless = "harmless"
    server: FakeServer = await fake(call_with(harmless), chat_with(harmless), width=width)
    page = server.page
    for conversation, card in (("c1", call_with), ("t1", chat_with)):
        await page.click(f"[data-conversation={conversation}]")
        server.send(protocol.Pop(card=card(harmless)))
        wanted, _, _ = await census(page)
        for text in payloads():
            server.send(protocol.Pop(card=card(text)))
            found, ran, wide = await census(page)
            assert (found, ran) == (wanted, None), text
            assert wide <= width, text
            if text.strip() == text and "\n" not in text:
                shown = await page.evaluate("document.getElementById('who').textContent")
                assert shown == text


async def test_no_text_of_theirs_reaches_a_link(fake: Any) -> None:
    server: FakeServer = await fake(chat_with("harmless"))
    page = server.page
    for text in payloads():
        server.send(protocol.Pop(card=chat_with(text)))
        await census(page)
        links = await page.eval_on_selector_all("a[href]", "all => all.map((one) => one.href)")
        base = page.url.removesuffix("/agent")
        assert all(link.startswith((base, "#")) for link in links), (text, links)


async def test_what_the_server_refuses_is_text_too(fake: Any) -> None:
    server: FakeServer = await fake(cards.call())
    page = server.page
    for text in payloads()[::10]:
        server.refuse = {"park": text}
        await page.click("[data-order=park]")
        await page.locator(".toast").first.wait_for()
        assert (
            await page.evaluate("document.querySelectorAll('.toast img, .toast script').length")
            == 0
        )
        assert await page.evaluate("window.ran ?? null") is None
        assert await page.evaluate("document.documentElement.scrollWidth") <= 1440


async def test_the_policy_would_stop_a_script_that_got_in(opened: Any, site: Site) -> None:
    page = await opened()
    await page.goto("/agent")
    blocked = await page.evaluate(
        """() => {
          let wrong = "";
          try {
            const here = document.createElement("div");
            here.innerHTML = "<img src=x onerror='window.ran=1'>";
          } catch (error) { wrong = error.name; }
          return wrong;
        }"""
    )
    assert blocked == "TypeError", "nothing but lit's own templates becomes markup"
    assert site is not None
    await log_in(page)
    await page.wait_for_selector("agent-bar header")
