"""The pop in another site's page: the example of the documentation in a real browser, on an origin
of its own; and one on a site that may not."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from cti import protocol
from cti.web import create_app
from ivr.config import EmbedSettings, Settings
from tests.browser.conftest import PASSWORD, Site
from tests.fakes.calls import PATIENCE
from tests.unit.cti.test_web import _served

EXAMPLE = (Path(__file__).parents[2] / "docs/embedding.md").read_text("utf-8")
KEEPS = """<script>
  window.told = [];
  addEventListener("message", (event) => told.push(event.data));
</script>"""


@dataclass
class Sites:
    """The hotline, a CRM that may show the pop, and a site that may not: three origins."""

    page: Page
    crm: str
    other: str


@contextlib.asynccontextmanager
async def _site(body: Callable[[], str]) -> AsyncIterator[str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n"
            writer.write((head + body()).encode())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest_asyncio.fixture
async def sites(site: Site, browser: Browser) -> AsyncIterator[Sites]:
    """The example on two sites; each page keeps all that it was told in `told`."""
    [example] = re.findall(r"^```html\n(.*?)^```", EXAMPLE, re.M | re.S)
    urls: list[str] = []

    def body() -> str:
        return KEEPS + example.replace("HOTLINE", urls[0])

    async with _site(body) as crm, _site(body) as other:
        settings = Settings(embed=EmbedSettings(origins=(crm,)))
        world = site.world
        site.app = create_app(world.desk, site.accounts, world.store, settings, dict)
        async with _served(site) as url:
            urls.append(url)
            context = await browser.new_context()
            yield Sites(await context.new_page(), crm, other)
            await context.close()


async def _log_in(page: Page) -> None:
    frame = page.frame_locator("#hotline")
    await frame.locator("input[name=login]").fill("ann")
    await frame.locator("input[name=password]").fill(PASSWORD)
    await frame.locator("input[name=password]").press("Enter")
    await expect(frame.locator("header b")).to_have_text("Away")


async def _told(page: Page, kind: str, **wanted: Any) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        while True:
            for one in await page.evaluate("told"):
                matches = all(one.get(key) == value for key, value in wanted.items())
                if one.get("type") == kind and matches:
                    return dict(one)
            await asyncio.sleep(0.05)


async def test_the_crm_hears_of_a_call_and_dials(site: Site, sites: Sites) -> None:
    page = sites.page
    await page.goto(sites.crm)
    await _log_in(page)
    await page.click("#call")
    await expect(page.locator("#outcome")).to_contain_text("call-1: done")
    assert site.world.calls.orders == [("dial", "201", "+1 415 555 0123")]
    ask = "document.getElementById('hotline').contentWindow.postMessage(%s, hotline)"
    await page.evaluate(ask % "{hotline: 1, type: 'presence', to: 'available', id: 'p1'}")
    await _told(page, "outcome", id="p1", result="done")
    await _told(page, "state", presence="available")
    await site.world.waits("c1")
    pop = await _told(page, "pop", conversation="c1")
    assert re.sub(r"[^+\d]", "", pop["number"]) == "+14155550123"
    assert (pop["topic"], pop["facts"]["account"]) == ("billing", "12345678")
    await expect(page.locator("#caller")).to_have_text(f"{pop['number']} about billing")
    ring = await site.world.calls.next_ring()
    ring.answer()
    await _told(page, "answered", conversation="c1")
    ring.end("talked")
    assert (await _told(page, "ended", conversation="c1"))["outcome"] == "talked"
    for wrong in ("{hotline: 1, type: 'hang_up', id: 'w'}", "{hotline: 1, type: 'dial', id: 'w'}"):
        await page.evaluate(ask % wrong)
        assert (await _told(page, "outcome", id="w"))["result"] == "refused"
        await page.evaluate("told.length = 0")
    await page.evaluate(ask % "{hotline: 1, type: 'dial', number: '1&SIP/x', id: 'x'}")
    assert (await _told(page, "outcome", id="x"))["result"] == "refused"
    assert len(site.world.calls.orders) == 1


async def test_another_site_cannot_show_it(sites: Sites) -> None:
    page = sites.page
    await page.goto(sites.other)
    frame = page.frames[-1]
    assert frame != page.main_frame and await frame.locator("hotline-pop").count() == 0
    assert await page.evaluate("told") == []


async def test_only_the_page_around_is_heard_and_only_from_its_site(
    site: Site, sites: Sites
) -> None:
    """As when a browser did not keep the frame out, or somebody opened it as a window."""
    page = sites.page
    await page.goto(sites.crm)
    await _log_in(page)
    frame = page.frames[1]
    data = "data: {hotline: 1, type: 'dial', number: '1'}"
    for origin, source in ((sites.other, "parent"), (sites.crm, "window"), ("null", "parent")):
        about = f"{{{data}, origin: '{origin}', source: {source}}}"
        await frame.evaluate(f"dispatchEvent(new MessageEvent('message', {about}))")
    await page.click("#call")
    await expect(page.locator("#outcome")).to_contain_text("call-1: done")
    assert site.world.calls.orders == [("dial", "201", "+1 415 555 0123")]


async def test_nobody_may_frame_it_unless_the_settings_say_so(site: Site) -> None:
    closed = await site.http.get("/embed")
    assert "frame-ancestors 'none'" in closed.headers["Content-Security-Policy"]
    framed = Settings(embed=EmbedSettings(origins=("https://crm.test",)))
    site.app = create_app(site.world.desk, site.accounts, site.world.store, framed, dict)
    transport = httpx2.ASGITransport(site.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://hotline") as http:
        embed, agent = await http.get("/embed"), await http.get("/agent")
        assert (await http.get("/api/embed")).json() == {"origins": ["https://crm.test"]}
    assert "frame-ancestors https://crm.test;" in embed.headers["Content-Security-Policy"] + ";"
    assert "X-Frame-Options" not in embed.headers
    assert "script-src 'self'" in embed.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in agent.headers["Content-Security-Policy"]


@pytest.mark.parametrize("wrong", ["crm.example.com", "https://x/path", "*", "https://a b"])
def test_an_origin_is_one(wrong: str) -> None:
    with pytest.raises(ValueError, match="origins"):
        EmbedSettings(origins=(wrong,))


def test_protocol_and_page_agree() -> None:
    text = (Path(protocol.__file__).parent / "desktop/embed.js").read_text("utf-8")
    for kind in ("hello", "presence", "pop", "answered", "ended", "wrapped", "outcome", "error"):
        assert f'case "{kind}"' in text
