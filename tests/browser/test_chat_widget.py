"""The customers' chat in a real browser: a telephone's width, both languages, nothing runs that
somebody wrote, and a lost connection costs nothing."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from cti import protocol
from tests.browser.payloads import payloads
from tests.unit.cti.chatting import screen, serving, staff

PICTURES = Path(__file__).parents[2] / "build" / "pictures"


@contextlib.asynccontextmanager
async def visit(
    browser: Browser, url: str, *, width: int = 390, height: int = 800
) -> AsyncIterator[Page]:
    context = await browser.new_context(viewport={"width": width, "height": height})
    page = await context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))

    def console(message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            wrong.append(message.text)

    page.on("console", console)
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    await page.goto(url)
    yield page
    await context.close()
    assert [one for one in wrong if "WebSocket connection" not in one] == []


async def picture(page: Page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=PICTURES / f"{name}.png", animations="disabled")


@pytest.mark.parametrize(
    ("path", "opener", "first", "choice", "second"),
    [
        ("/chat", "Open the chat", "What is it about?", "the bill", "Your account?"),
        ("/chat/zh", "打开聊天", "请问有什么事？", "账单", "账号？"),
    ],
)
async def test_a_question_is_tapped_and_typed(
    tmp_path: Path, browser: Browser, path: str, opener: str, first: str, choice: str, second: str
) -> None:
    async with serving(tmp_path) as server, visit(browser, server.url + path) as page:
        await page.get_by_role("button", name=opener).click()
        await expect(page.get_by_text(first)).to_be_visible()
        await picture(page, f"chat-question{path.replace('/', '-')}")
        await page.get_by_role("button", name=choice).click()
        await expect(page.get_by_text(second)).to_be_visible()
        await page.get_by_role("textbox").fill("1234")
        await page.keyboard.press("Enter")
        await expect(page.locator("li.customer .text")).to_have_count(2)
        wide = "document.documentElement.scrollWidth > innerWidth"
        assert not await page.evaluate(wide)
        await page.reload()
        await page.get_by_role("button", name=opener).click()
        await expect(page.locator("li.customer .text")).to_have_count(2)


async def test_with_an_agent_through_a_lost_connection(tmp_path: Path, browser: Browser) -> None:
    async with serving(tmp_path) as server:
        await staff(server, "ann")
        async with (
            screen(server, "ann") as ann,
            visit(browser, server.url + "/chat", width=1000) as page,
        ):
            await page.get_by_role("button", name="Open the chat").click()
            await page.get_by_role("button", name="a person").click()
            chat = (await ann.card("offered")).conversation
            await ann.client.accept(chat)
            await ann.card("active")
            await expect(page.get_by_role("status")).to_contain_text("one of our people")
            await ann.say(chat, "Good morning!", "m1")
            await expect(page.get_by_text("Good morning!")).to_be_visible()
            assert (await ann.next(protocol.CustomerRead)).up_to == "m1"
            await ann.client.send(protocol.Typing(conversation=chat, on=True))
            await expect(page.get_by_text("Ann is writing…")).to_be_visible()
            await picture(page, "chat-person")

            await page.context.set_offline(True)
            for one in server.door.sockets():
                await one.close()
            await expect(page.get_by_role("status")).to_contain_text("No connection")
            await page.get_by_role("textbox").fill("Are you there?")
            await page.keyboard.press("Enter")
            await expect(page.get_by_text("sending")).to_be_visible()
            await ann.say(chat, "In the tunnel?", "m2")
            await page.context.set_offline(False)
            await ann.read("Are you there?")
            await expect(page.get_by_text("In the tunnel?")).to_be_visible()
            await expect(page.locator("li.customer .text", has_text="Are you")).to_have_count(1)


async def test_nothing_runs_that_somebody_wrote(tmp_path: Path, browser: Browser) -> None:
    async with serving(tmp_path) as server:
        await staff(server, "ann")
        async with screen(server, "ann") as ann, visit(browser, server.url + "/chat") as page:
            await page.get_by_role("button", name="Open the chat").click()
            await page.get_by_role("button", name="a person").click()
            chat = (await ann.card("offered")).conversation
            await ann.client.accept(chat)
            await ann.card("active")
            for n, payload in enumerate(payloads()[::4][:60]):
                await ann.say(chat, f"{payload} .", f"p{n}")
            await expect(page.locator("li.agent .text")).to_have_count(len(payloads()[::4][:60]))
            assert await page.locator("li.agent .text *").count() == 0
            inside = "document.documentElement.scrollWidth <= innerWidth"
            assert await page.evaluate(inside)


async def test_by_keyboard_alone(tmp_path: Path, browser: Browser) -> None:
    async with serving(tmp_path) as server, visit(browser, server.url + "/chat") as page:
        await page.get_by_role("button", name="Open the chat").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("textbox")).to_be_focused()
        await expect(page.get_by_text("What is it about?")).to_be_visible()
        await page.keyboard.type("the bill")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Your account?")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Open the chat")).to_be_focused()
