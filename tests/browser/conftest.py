"""A real browser before a real server: Debian's Chromium, driven by Playwright.

The server is ours with a telephone system that only pretends. What no server can be brought to do
on command (cut a line, send 200 payloads) is done by a `FakeServer` on the page's own socket, which
speaks the messages of `cti.protocol` and no others.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Dialog,
    Page,
    WebSocketRoute,
    async_playwright,
)

from cti import protocol
from ivr.model import Agent
from tests.unit.cti.conftest import World as World
from tests.unit.cti.conftest import hasty as hasty
from tests.unit.cti.conftest import world as world
from tests.unit.cti.test_web import FAST, PASSWORD
from tests.unit.cti.test_web import Site as Site
from tests.unit.cti.test_web import site as site
from tests.unit.cti.test_web import url as url

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
]

NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)


@pytest_asyncio.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        missing = "chromium is missing: deploy/install-packages test"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    async with async_playwright() as playwright:
        # Its own HTTP proxy settings would send loopback elsewhere.
        chromium = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        await chromium.close()


Opener = Callable[..., Any]


@pytest_asyncio.fixture
async def opened(browser: Browser, url: str) -> AsyncIterator[Opener]:
    """Opens pages that must not stumble: no dialog, no error, nothing that the policy refused."""
    contexts = []
    wrong: list[str] = []

    async def open_page(width: int = 1440, height: int = 900, language: str = "en") -> Page:
        context = await browser.new_context(
            viewport={"width": width, "height": height}, base_url=url, locale=language
        )
        contexts.append(context)
        await context.add_init_script(f"localStorage.setItem('language', '{language}')")
        page = await context.new_page()

        async def dialog(shown: Dialog) -> None:
            wrong.append(f"dialog: {shown.message}")
            await shown.dismiss()

        def console(message: ConsoleMessage) -> None:
            harmless = ("Failed to load resource", "TrustedHTML")  # the latter throws as well
            if message.type == "error" and not any(one in message.text for one in harmless):
                wrong.append(message.text)

        page.on("dialog", dialog)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", console)
        return page

    yield open_page
    for context in contexts:
        await context.close()
    assert wrong == []


@dataclass
class FakeServer:
    """The other end of the page's socket."""

    page: Page
    n: int = 0
    orders: list[dict[str, Any]] = field(default_factory=list)
    refuse: dict[str, str] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    deaf: bool = False
    hello: protocol.Hello | None = None
    routes: list[WebSocketRoute] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        await self.page.route_web_socket("**/api/agent", self._connected)

    def _connected(self, route: WebSocketRoute) -> None:
        self.routes.append(route)
        if self.deaf:
            return
        route.on_message(lambda text: self._heard(route, str(text)))

    def _heard(self, route: WebSocketRoute, text: str) -> None:
        protocol.parse_client(text)  # the page sends nothing that the server would not understand
        order = json.loads(text)
        self.orders.append(order)
        self._news.set()
        match order["type"]:
            case "login" if order["stream"] == "s" and order["after"] == self.n - len(self.missed):
                route.send(protocol.encode(protocol.Welcome(stream="s"), 0))
                for frame in self.missed:
                    route.send(frame)
                self.missed.clear()
            case "login":
                assert self.hello is not None
                route.send(protocol.encode(self.hello, self.n))
            case "ping":
                route.send(protocol.encode(protocol.Pong(), 0))
            case kind if order.get("id") and kind not in self.silent:
                why = self.refuse.get(kind, "")
                result = "refused" if why else "done"
                answer = protocol.Outcome(id=order["id"], result=result, text=why)
                route.send(protocol.encode(answer, 0))

    def send(self, message: Any) -> None:
        """News, as the server numbers them."""
        self.n += 1
        self.routes[-1].send(protocol.encode(message, self.n))

    def send_while_away(self, message: Any) -> None:
        self.n += 1
        self.missed.append(protocol.encode(message, self.n))

    async def cut(self) -> None:
        await self.routes[-1].close(code=1011)

    async def order(self, kind: str, **wanted: Any) -> dict[str, Any]:
        """The first order of this kind with these values, now or soon; it is done with."""
        async with asyncio.timeout(10):
            while True:
                for order in self.orders:
                    if order["type"] == kind and all(order[k] == v for k, v in wanted.items()):
                        self.orders.remove(order)
                        return order
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), 0.5)


def hello(**about: Any) -> protocol.Hello:
    values: dict[str, Any] = {
        "stream": "s",
        "agent": protocol.AgentCard(
            login="ann",
            name="Ann Lindqvist",
            extension="201",
            roles=("agent",),
            skills={"billing": 5},
        ),
        "presence": protocol.PresenceState(state="available", since=NOW),
        "queue": protocol.QueueState(waiting=2, longest=71.5),
        "now": NOW,
        "reasons": ("break", "lunch", "training"),
        "replies": (
            protocol.CannedReply(
                name="hello",
                text={
                    "en": "Hello {name}, I am looking at account {account} for {purpose}.",
                    "zh": "{name}您好，我正在查看账户 {account}。",
                },
            ),
        ),
    }
    return protocol.Hello.model_validate(values | about)


async def log_in(page: Page) -> None:
    await page.goto("/agent")
    await page.fill("[name=login]", "ann")
    await page.fill("[name=password]", PASSWORD)
    await page.click("button[type=submit]")


@pytest_asyncio.fixture
async def fake(opened: Opener, site: Site) -> Callable[..., Any]:
    """A page that is logged in at a fake server, which has said hello."""

    async def start(
        *cards: protocol.PopCard,
        width: int = 1440,
        height: int = 900,
        language: str = "en",
        **about: Any,
    ) -> FakeServer:
        page = await opened(width, height, language)
        server = FakeServer(page, n=len(cards))
        server.hello = hello(cards=cards, **about)
        await server.start()
        await log_in(page)
        await page.wait_for_selector("agent-bar header")
        return server

    return start


async def hire(site: Site, login: str, **about: Any) -> None:
    values = {"name": login.title(), "extension": "20" + str(len(login)), **about}
    await site.world.store.save_agent(Agent(login, **values), FAST.hash(PASSWORD))
