"""Who may open a board, what it is told first, and when it closes."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
import websockets

import cti
from cti.agentsocket import LOGIN_REFUSED
from tests.fakes.calls import PATIENCE
from tests.unit.cti.test_access import staff
from tests.unit.cti.test_staff import ask
from tests.unit.cti.test_web import Site
from tests.unit.cti.test_web import site as site
from tests.unit.cti.test_web import url as url


def _socket(url: str) -> str:
    return "ws" + url.removeprefix("http") + "/api/wallboard"


async def _refusal(url: str, *frames: str) -> tuple[int, list[str]]:
    seen = []
    async with websockets.connect(_socket(url), proxy=None) as it:
        for frame in frames:
            await it.send(frame)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            async with asyncio.timeout(PATIENCE):
                while True:
                    seen.append(json.loads(await it.recv())["type"])
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, seen


def login(token: str) -> str:
    return json.dumps({"type": "login", "token": token})


@pytest.mark.parametrize("who", ["sue", "ada"])
async def test_supervisors_are_told_everything_first(site: Site, url: str, who: str) -> None:
    await staff(site)
    async with websockets.connect(_socket(url), proxy=None) as it, asyncio.timeout(PATIENCE):
        await it.send(login(await site.token(who)))
        board: dict[str, Any] = json.loads(await it.recv())
        assert (board["v"], board["type"], board["line"]["waiting"]) == (1, "board", 0)
        assert set(board) >= {"queues", "service", "agents", "channels", "topics", "waiting"}
        await it.send('{"type":"ping"}')
        while json.loads(await it.recv())["type"] != "pong":
            pass


@pytest.mark.parametrize("who", ["ann", "dee"])
async def test_others_are_refused(site: Site, url: str, who: str) -> None:
    await staff(site)
    token = await site.token(who)
    assert await _refusal(url, login(token)) == (LOGIN_REFUSED, ["error"])


@pytest.mark.parametrize(
    "frame", ['{"type":"ping"}', "nonsense", "{}", '{"type":"login","token":"stolen"}']
)
async def test_who_does_not_log_in_is_refused(site: Site, url: str, frame: str) -> None:
    assert await _refusal(url, frame) == (LOGIN_REFUSED, ["error"])


async def test_a_board_that_talks_nonsense_is_closed(site: Site, url: str) -> None:
    await staff(site)
    code, seen = await _refusal(url, login(await site.token("sue")), '{"type":"dance"}')
    assert code == 1008 and set(seen) <= {"board"}


async def test_a_supervisor_who_is_thrown_out_sees_nothing_more(site: Site, url: str) -> None:
    await staff(site)
    async with websockets.connect(_socket(url), proxy=None) as it, asyncio.timeout(PATIENCE):
        await it.send(login(await site.token("sue")))
        await it.recv()
        assert (await ask(site, "ada", "POST", "agents/sue/logout")).status_code == 204
        with pytest.raises(websockets.ConnectionClosed) as closed:
            while True:
                await it.recv()
    assert closed.value.rcvd is not None and closed.value.rcvd.code == LOGIN_REFUSED


async def test_the_page_is_there(site: Site) -> None:
    answer = await site.http.get("/wallboard")
    assert answer.status_code == 200 and "wallboard.js" in answer.text


def test_both_languages_say_the_same_things() -> None:
    text = (Path(cti.__file__).parent / "desktop/wallboard-texts.js").read_text("utf-8")
    tables = re.findall(r"\n  (?:en|zh): \{\n(.*?)\n  \},", text, re.DOTALL)
    english, chinese = (set(re.findall(r'(?:^|, |    )(\w+): "', one, re.M)) for one in tables)
    assert english == chinese and len(english) > 60
    page = (Path(cti.__file__).parent / "desktop/wallboard.js").read_text("utf-8")
    said = set(re.findall(r'say\("(\w+)"', page)) | set(re.findall(r'_button\("(\w+)"', page))
    assert said <= english
