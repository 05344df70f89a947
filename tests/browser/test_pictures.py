"""The newcomer's way through the agent's page, as the README shows it.

With `HOTLINE_PICTURES` set to a folder, the pictures are made on the way (`deploy/pictures`).
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from cti import protocol
from tests.browser import cards
from tests.browser.conftest import NOW, FakeServer
from tests.browser.test_softphone import Pbx

FOLDER = os.environ.get("HOTLINE_PICTURES", "")


async def picture(page: Page, name: str) -> None:
    if FOLDER:
        # What moves or counts would make another file each time.
        await page.screenshot(path=Path(FOLDER) / f"{name}.png", animations="disabled")


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_from_login_to_a_call_that_is_written_up(fake: Any, language: str) -> None:
    server: FakeServer = await fake(
        language=language,
        height=800,
        presence=protocol.PresenceState(state="away", since=NOW),
        queue=protocol.QueueState(waiting=0, longest=0),
    )
    page, end = server.page, "" if language == "en" else f"-{language}"
    pbx = Pbx(page)
    await pbx.start()
    await page.reload()
    await expect(page.locator(".phone-state.ready")).to_be_visible()
    await picture(page, f"agent-away{end}")

    await page.click("#come-back")
    await server.order("presence", to="available")
    server.send(protocol.PresenceNow(state="available", since=NOW))
    ringing = cards.call(
        stage="ringing", since=NOW, answered_at=None, can=("decline",), notes=(), channels=()
    )
    server.send(protocol.Pop(card=ringing.model_copy(update={"stage": "offered"})))
    await server.order("seen")
    server.send(protocol.Pop(card=ringing))
    await pbx.call()
    answer = page.locator(".callbar [data-order=answer]")
    await expect(answer).to_be_visible()
    await picture(page, f"pop{end}")

    await answer.click()
    await pbx.connect()
    server.send(protocol.Pop(card=cards.call(answered_at=NOW, since=NOW)))
    chats = (cards.chat(), cards.chat(conversation="t2", name="陈伟", topic="repairs"))
    for chat in chats:
        server.send(protocol.Pop(card=chat))
    news = cards.text(9, "customer", "还在吗？")
    server.send(protocol.NewMessage(conversation="t2", message=news))
    await expect(page.locator(".badge")).to_be_visible()
    await expect(page.locator(".phone meter")).to_have_count(2)
    await picture(page, f"agent-talk{end}")
    await page.click("[data-conversation=t1]")
    await picture(page, f"agent-chat{end}")

    wrap = cards.call(
        stage="wrap_up",
        until=NOW + timedelta(seconds=45),
        can=("done", "more_time", "note", "contact", "fact"),
    )
    await page.click("[data-conversation=c1]")
    await page.click("[data-order=hang_up]")
    await server.order("hang_up", conversation="c1")
    server.send(protocol.Pop(card=wrap))
    await page.fill(".wrap-up textarea", "Explained the tariff; a new bill is sent on Monday.")
    await page.locator(".wrap-up .choices label").first.click()
    await server.order("note", disposition="resolved")
    await picture(page, f"agent-wrap-up{end}")
    await page.click("[data-order=done]")
    await server.order("done")


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_the_same_on_a_telephone(fake: Any, language: str) -> None:
    server: FakeServer = await fake(
        cards.call(), cards.chat(), width=390, height=844, language=language
    )
    await expect(server.page.locator("#who")).to_be_visible()
    await picture(server.page, f"agent-390{'' if language == 'en' else '-zh'}")
    await server.page.click("[data-conversation=t1]")
    await expect(server.page.locator(".composer")).to_be_visible()
