"""The designers' page: who gets in, what is drawn, what is pushed, and how a simulation goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
import pytest_asyncio
import uvicorn
import websockets
from argon2 import PasswordHasher

import cti
from cti import designersocket, workshop
from cti.accounts import Accounts
from cti.agentsocket import LOGIN_REFUSED
from cti.designersocket import MOST_PAGES, NO_DESIGNER
from cti.simulation import MOST_LINES, Simulation
from cti.web import create_app, server_config
from ivr.config import Settings
from ivr.flow import loader
from ivr.flow.events import Started
from ivr.flow.facts import NOTHING
from ivr.flow.testing.player import Player
from ivr.flow.testing.script import Given
from ivr.model import (
    Address,
    Agent,
    Channel,
    Conversation,
    ConversationStatus,
    Leg,
    Release,
    TimelineEntry,
)
from tests.fakes.calls import PATIENCE
from tests.unit.cti.conftest import World

PASSWORD = "correct horse"
FAST = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)

FLOW = """\
flow: main
languages: [en, zh]
start: hello
uses: [crm]
slots:
  account: {type: digits, length: 4}
  pin: {type: digits, length: 4, secret: true}

nodes:
  hello: {say: {en: Welcome., zh: 欢迎。}, then: main}

  # the menu
  main:
    menu:
      ask: {en: "For a bill, press 1. For an agent, press 0.", zh: 账单请按1，人工请按0。}
      choices:
        bill: {press: 1, say: {en: [bill], zh: [账单]}, then: account}
        agent: {press: 0, say: {en: [agent], zh: [人工]}, then: people}
      otherwise: people
  account:
    collect: {slot: account, ask: {en: Account?, zh: 账号？}, otherwise: people}
    then: pin
  pin:
    collect: {slot: pin, ask: {en: PIN?, zh: 密码？}, otherwise: people}
    then: lookup
  lookup:
    fetch: {get: "{crm}/customers/{account}", into: customer}
    then: balance
    otherwise: people
  balance: {say: {en: "You owe {customer.due:money}.", zh: "欠费{customer.due:money}。"}, then: bye}
  people: {queue: {}, then: bye, otherwise: bye}
  bye: {end: {en: Goodbye., zh: 再见。}}
"""


@dataclass
class Site:
    world: World
    http: httpx2.AsyncClient
    folder: Path
    app: Any

    async def bearer(self, login: str = "dee") -> dict[str, str]:
        answer = await self.http.post("/api/login", json={"login": login, "password": PASSWORD})
        return {"Authorization": f"Bearer {answer.json()['token']}"}

    async def get(self, path: str, login: str = "dee") -> httpx2.Response:
        return await self.http.get(f"/api/designer/{path}", headers=await self.bearer(login))

    def write(self, name: str, text: str) -> None:
        """As an editor saves; a file system's clock may be too coarse to tell two saves apart."""
        path = self.folder / name
        before = path.stat().st_mtime_ns if path.exists() else 0
        path.write_text(text, "utf-8")
        if before:
            os.utime(path, ns=(before + 1_000_000, before + 1_000_000))


@pytest_asyncio.fixture
async def site(world: World, tmp_path: Path) -> AsyncIterator[Site]:
    accounts = Accounts(world.store, world.clock, FAST)
    for login, roles in (("dee", {"designer"}), ("ada", {"agent", "admin"}), ("ann", {"agent"})):
        agent = Agent(login, login.title(), "201", roles=frozenset(roles))
        await world.store.save_agent(agent, FAST.hash(PASSWORD))
    settings = Settings(flows_dir=tmp_path, sounds_dir=tmp_path / "sounds")
    app = create_app(world.desk, accounts, world.store, settings, dict)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://hotline") as http:
        made = Site(world, http, tmp_path, app)
        made.write("main.yaml", FLOW)
        yield made


# --- over HTTP ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("login", "status"), [("dee", 200), ("ada", 200), ("ann", 403)])
async def test_designers_and_admins_alone_get_in(site: Site, login: str, status: int) -> None:
    answer = await site.get("flows", login)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["code"] == "not_allowed"
    assert (await site.http.get("/api/designer/flows")).status_code == 401


async def test_a_flow_is_told_as_it_is_drawn(site: Site) -> None:
    files = (await site.get("flows")).json()
    assert files["files"] == [{"file": "main.yaml", "flow": "main", "errors": 0, "warnings": 0}]
    drawing = (await site.get("flows/main.yaml")).json()
    assert (drawing["loads"], drawing["start"], drawing["findings"]) == (True, "hello", [])
    nodes = {node["name"]: node for node in drawing["nodes"]}
    main = nodes["main"]
    assert (main["kind"], main["sort"], main["line"]) == ("menu", "asks", 13)
    assert main["text"] == "For a bill, press 1. For an agent, press 0."
    assert main["source"].startswith("  main:\n    menu:") and "otherwise: people" in main["source"]
    assert "# the menu" not in nodes["hello"]["source"]
    assert [(way["label"], way["target"], way["miss"]) for way in main["exits"]] == [
        ("bill · 1", "account", False),
        ("agent · 0", "people", False),
        ("otherwise", "people", True),
    ]
    assert nodes["people"]["sort"] == "people"


async def test_a_flow_that_does_not_load_has_findings_at_its_nodes(site: Site) -> None:
    site.write("main.yaml", FLOW.replace("then: pin", "then: pni"))
    drawing = (await site.get("flows/main.yaml")).json()
    assert (drawing["loads"], drawing["nodes"]) == (False, [])
    (found,) = drawing["findings"]
    assert (found["code"], found["node"], found["line"]) == ("E101", "account", 22)
    site.write("main.yaml", "flow: [")
    drawing = (await site.get("flows/main.yaml")).json()
    assert [found["code"] for found in drawing["findings"]] == ["E001"]
    assert drawing["flow"] == ""


async def test_a_broken_file_does_not_hide_the_others(site: Site) -> None:
    site.write("other.yaml", "flow: other\nnope: 1\n")
    (site.folder / "third.yaml").write_bytes(b"\xff")
    site.write("main.test.yaml", "flow: main\ntests: []\n")
    files = {one["file"]: one for one in (await site.get("flows")).json()["files"]}
    assert set(files) == {"main.yaml", "other.yaml", "third.yaml"}
    assert files["other.yaml"]["errors"] > 0
    assert (await site.get("flows/main.yaml")).json()["loads"]


@pytest.mark.parametrize("file", ["none.yaml", "../main.yaml", "main.test.yaml", "%2e%2e%2fx"])
async def test_an_unknown_flow_is_not_found(site: Site, file: str) -> None:
    for path in (quote(file, safe=""), quote(file, safe="") + "/versions"):
        answer = await site.get(f"flows/{path}")
        assert answer.status_code == 404


async def played(world: World, name: str, text: str, *keys: str, leave: bool = True) -> None:
    """A conversation in the store as if it had been held."""
    bundle = loader.load({"main.yaml": text}, "main")
    player = Player(bundle, Started("voice", "+14155550123"))
    for key in keys:
        player.press(key)
    if leave:
        player.hang_up()
    now = world.clock.now()
    await world.store.save_flow(bundle.version, "main", bundle.texts, now)
    status = ConversationStatus.ENDED if leave else ConversationStatus.FLOW
    conversation = Conversation(name, "main", bundle.version, status, now)
    leg = Leg(f"l-{name}", name, Address(Channel.VOICE, "+14155550123"), now)
    entries = [TimelineEntry(name, now, note.kind, note.body) for note in player.notes]
    await world.store.start_conversation(conversation, leg, entries)


async def test_traffic_is_counted_on_nodes_and_exits(site: Site) -> None:
    since = quote(site.world.clock.now().isoformat())
    await played(site.world, "c1", FLOW, "1", "1234")
    await played(site.world, "c2", FLOW, "1")
    await played(site.world, "c3", FLOW, "0")
    await played(site.world, "c4", FLOW, leave=False)
    counted = (await site.get(f"flows/main.yaml/traffic?since={since}")).json()
    assert (counted["conversations"], counted["cut"]) == (4, False)
    assert counted["nodes"]["main"] == 4
    assert counted["exits"]["main"] == {"bill": 2, "agent": 1}
    assert counted["lost"] == {"pin": 1, "account": 1, "people": 1}
    later = quote("2100-01-01T00:00:00+00:00")
    nothing = (await site.get(f"flows/main.yaml/traffic?since={later}")).json()
    assert (nothing["conversations"], nothing["nodes"]) == (0, {})
    assert (await site.get("flows/main.yaml/traffic?since=soon")).status_code == 422


async def test_traffic_of_an_older_version_is_followed_through_that_version(site: Site) -> None:
    await played(
        site.world, "c1", FLOW.replace("account:\n    collect", "account:\n    collect"), "1"
    )
    await played(site.world, "c2", FLOW.replace("pin", "secret"), "1", "1234")
    since = quote("2000-01-01T00:00:00+00:00")
    counted = (await site.get(f"flows/main.yaml/traffic?since={since}")).json()
    assert counted["nodes"]["account"] == 2
    assert counted["nodes"]["secret"] == 1, "a node of then, by its name of then"


async def test_versions_and_their_differences(site: Site) -> None:
    empty = (await site.get("flows/main.yaml/versions")).json()
    assert (empty["answering"], empty["releases"]) == ("", [])
    assert len(empty["draft"]) == 64
    old = FLOW.replace("Goodbye.", "Bye.")
    for text, note in ((old, "first"), (FLOW, "kinder")):
        bundle = loader.load({"flows/main.yaml": text}, "main")
        now = site.world.clock.now()
        await site.world.store.save_flow(bundle.version, "main", bundle.texts, now)
        await site.world.store.publish(Release("main", bundle.version, now, "dee", note))
    found = (await site.get("flows/main.yaml/versions")).json()
    assert [(one["note"], one["state"]) for one in found["releases"]] == [
        ("kinder", "live"),
        ("first", "live"),
    ]
    assert found["answering"] == found["draft"] == found["releases"][0]["version"]
    first = found["releases"][1]["version"]
    changed = (await site.get(f"flows/main.yaml/differences?old={first}")).json()
    assert "-  bye: {end: {en: Bye., zh: 再见。}}" in changed["lines"]
    assert "+  bye: {end: {en: Goodbye., zh: 再见。}}" in changed["lines"]
    same = await site.get(f"flows/main.yaml/differences?old={first}&new={first}")
    assert same.json() == {"lines": [], "cut": False}
    assert (await site.get(f"flows/main.yaml/differences?old={'0' * 64}")).status_code == 404
    assert (await site.get("flows/main.yaml/differences?old=x")).status_code == 422


async def test_the_page_is_served_under_the_strict_policy(site: Site) -> None:
    page = await site.http.get("/designer")
    assert page.status_code == 200
    assert "script-src 'self';" in page.headers["content-security-policy"]
    for name in re.findall(r'(?:src|href)="(/designer/[^"]+)"', page.text):
        assert (await site.http.get(name)).status_code == 200
    for name in ("designer.html", "agent.js", "vendor/SHA256SUMS", "../web.py", "vendor/../x"):
        assert (await site.http.get(f"/designer/{quote(name)}")).status_code == 404


# --- over the WebSocket ---------------------------------------------------------------------------


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


@pytest_asyncio.fixture
async def url(site: Site) -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = _Quiet(server_config(site.app))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    yield f"ws://127.0.0.1:{listener.getsockname()[1]}/api/designer"
    server.should_exit = server.force_exit = True
    await serving
    listener.close()


class Page:
    """A designer's page."""

    def __init__(self, connection: Any):
        self._connection = connection

    async def send(self, **message: Any) -> None:
        await self._connection.send(json.dumps(message))

    async def next(self, kind: str) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            while True:
                message: dict[str, Any] = json.loads(await self._connection.recv())
                if message["type"] == kind:
                    return message

    async def say(self, line: str) -> dict[str, Any]:
        await self.send(type="line", text=line)
        return await self.next("simulation")


@contextlib.asynccontextmanager
async def page(site: Site, url: str, login: str = "dee") -> AsyncIterator[Page]:
    token = (await site.bearer(login))["Authorization"].split()[1]
    async with websockets.connect(url, proxy=None) as connection:
        opened = Page(connection)
        await opened.send(type="login", token=token)
        await opened.next("hello")
        yield opened


async def closed_with(site: Site, url: str, login: str) -> int:
    token = (await site.bearer(login))["Authorization"].split()[1]
    async with websockets.connect(url, proxy=None) as connection:
        await connection.send(json.dumps({"type": "login", "token": token}))
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(websockets.ConnectionClosed):
                while True:
                    await connection.recv()
    return connection.close_code or 0


async def test_who_is_no_designer_is_told_so(site: Site, url: str) -> None:
    assert await closed_with(site, url, "ann") == NO_DESIGNER
    async with websockets.connect(url, proxy=None) as connection:
        await connection.send(json.dumps({"type": "login", "token": "x"}))
        with pytest.raises(websockets.ConnectionClosed):
            await connection.recv()
            await connection.recv()
    assert connection.close_code == LOGIN_REFUSED
    with pytest.raises(websockets.InvalidStatus):
        await websockets.connect(url, origin="http://elsewhere", proxy=None)  # type: ignore[arg-type]


async def test_pages_of_one_designer_are_limited(site: Site, url: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(MOST_PAGES):
            await stack.enter_async_context(page(site, url))
        assert await closed_with(site, url, "dee") == NO_DESIGNER
    async with page(site, url):
        pass


async def test_a_saved_file_is_pushed(site: Site, url: str) -> None:
    async with page(site, url) as first, page(site, url, "ada") as second:
        before = (await site.get("flows")).json()["serial"]
        site.write("main.yaml", FLOW.replace("Welcome.", "Hello."))
        for one in (first, second):
            assert (await one.next("changed"))["serial"] > before
        nodes = (await site.get("flows/main.yaml")).json()["nodes"]
        assert nodes[0]["text"] == "Hello."
        site.write("new.yaml", "flow: new\n")
        await first.next("changed")
        (site.folder / "new.yaml").unlink()
        await first.next("changed")
        assert len((await site.get("flows")).json()["files"]) == 1


async def test_a_simulation_goes_step_by_step(site: Site, url: str) -> None:
    async with page(site, url) as designer:
        await designer.send(type="start", file="main.yaml", at="2026-11-20T10:00:00Z")
        now = await designer.next("simulation")
        assert (now["fresh"], now["node"], now["waiting"]) == (True, "main", "answer")
        assert [line["text"] for line in now["lines"]] == [
            "Welcome.",
            "For a bill, press 1. For an agent, press 0.",
        ]
        assert [choice["key"] for choice in now["expected"]["choices"]] == ["1", "0"]
        now = await designer.say("bill")
        assert (now["fresh"], now["node"], now["expected"]["slot_type"]) == (
            False,
            "account",
            "digits",
        )
        assert ["main", "main", "bill"] in now["taken"]
        now = await designer.say("/press 1234")
        assert now["slots"][0] == {"name": "account", "value": "1234", "secret": False}
        assert now["expected"]["secret"]
        now = await designer.say("/press 9876")
        assert now["fetch"] == "GET crm/customers/1234"
        assert "9876" not in json.dumps(now)
        assert {"name": "pin", "value": "", "secret": True} in now["slots"]
        now = await designer.say('/fetch {"due": 12.5}')
        assert now["over"]
        assert "You owe twelve dollars and fifty cents." in [line["text"] for line in now["lines"]]
        await designer.send(type="record")
        text = (await designer.next("recording"))["text"]
        assert text.startswith('flow: "main"\n') and "9876" not in text


async def test_a_simulation_as_a_text_channel_in_another_language(site: Site, url: str) -> None:
    async with page(site, url) as designer:
        await designer.send(type="start", file="main.yaml", channel="sms", language="zh")
        now = await designer.next("simulation")
        assert now["lines"][0]["text"].startswith("欢迎。")
        now = await designer.say("人工")
        assert (now["node"], now["waiting"]) == ("people", "queue")


async def test_a_simulation_stays_on_the_version_that_it_began_with(site: Site, url: str) -> None:
    async with page(site, url) as designer:
        await designer.send(type="start", file="main.yaml")
        await designer.next("simulation")
        site.write("main.yaml", FLOW.replace("Account?", "Which account?"))
        await designer.next("changed")
        assert (await designer.say("bill"))["lines"][-1]["text"] == "Account?"
        await designer.send(type="start", file="main.yaml")
        await designer.next("simulation")
        assert (await designer.say("bill"))["lines"][-1]["text"] == "Which account?"


@pytest.mark.parametrize(
    "message",
    [
        {"type": "line", "text": "bill"},
        {"type": "record"},
        {"type": "start", "file": "none.yaml"},
        {"type": "start", "file": "broken.yaml"},
        {"type": "start", "file": "main.yaml", "channel": "pigeon"},
        {"type": "line", "text": "x" * 3_000},
        {"type": "dance"},
        {"type": "login", "token": "again"},
        {"file": "main.yaml"},
        [],
    ],
)
async def test_what_makes_no_sense_is_answered_and_changes_nothing(
    site: Site, url: str, message: Any
) -> None:
    site.write("broken.yaml", "flow: broken\nnope: 1\n")
    async with page(site, url) as designer:
        await designer._connection.send(json.dumps(message))
        told = await designer.next("error")
        assert told["code"] == "refused"
        assert "\n" not in told["text"]
        await designer.send(type="start", file="main.yaml")
        assert (await designer.next("simulation"))["node"] == "main"


async def test_a_page_that_talks_nonsense_is_closed(site: Site, url: str) -> None:
    async with page(site, url) as designer:
        for _ in range(designersocket._BAD_MESSAGES):
            await designer._connection.send("{")
        with pytest.raises(websockets.ConnectionClosed):
            await designer.next("nothing")


# --- the parts ------------------------------------------------------------------------------------


def test_a_simulation_takes_so_many_lines_and_no_more() -> None:
    menu = "{menu: {ask: A, choices: {b: {press: 1, then: a}}}}"
    endless = f"flow: f\nstart: a\nnodes: {{a: {menu}}}\n"
    simulation = Simulation(loader.load({"f.yaml": endless}), Given(), NOTHING)
    for _ in range(MOST_LINES):
        simulation.line("/press 1")
    simulation.told()
    simulation.line("/press 1")
    (told,) = simulation.told()["lines"]
    assert told["kind"] == "wrong"


async def test_nobody_looks_at_the_disk_for_nobody(tmp_path: Path) -> None:
    (tmp_path / "main.yaml").write_text(FLOW)
    shop = workshop.Workshop(tmp_path, tmp_path)
    with shop.watched(lambda reading: None):
        assert shop._task is not None
    assert shop._task is None
    first = await shop.look()
    assert await shop.look() is first, "a file is read once, as long as it stays as it is"


# --- the page, as far as it can be judged without a browser ---------------------------------------

DESKTOP = Path(cti.__file__).parent / "desktop"
SCRIPTS = {name: (DESKTOP / name).read_text("utf-8") for name in ("designer.js", "drawing.js")}
PAGE = (DESKTOP / "designer.html").read_text("utf-8")


def texts(language: str) -> set[str]:
    table = re.search(
        rf"\n  {language}: {{\n(.*?)\n  }},", (DESKTOP / "texts.js").read_text("utf-8"), re.DOTALL
    )
    assert table is not None
    return set(re.findall(r'(?:^|[{,]\s+)(\w+): "', table[1], re.MULTILINE)) | {"other_language"}


def test_both_languages_say_the_same_things() -> None:
    assert len(texts("en")) > 80
    assert texts("en") == texts("zh")


def test_every_text_of_the_page_is_translated() -> None:
    used = set(re.findall(r'data-(?:text|label)="(\w+)"', PAGE))
    used |= set(re.findall(r'\bsay\("(\w+)"', SCRIPTS["designer.js"]))
    used |= {"asks", "says", "decides", "systems", "people", "ends", "misses"}
    assert used <= texts("en")


@pytest.mark.parametrize("name", SCRIPTS)
def test_texts_of_flows_cannot_become_markup(name: str) -> None:
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "srcdoc",
    ):
        assert way not in SCRIPTS[name]
    assert "<style" not in PAGE and " style=" not in PAGE and "onclick" not in PAGE
    assert not re.search(r"<script(?![^>]* src=)", PAGE)
    assert not re.search(r'(?:src|href)="(?!/(?:agent|designer)/)', PAGE)


@pytest.mark.parametrize(
    "element", sorted(set(re.findall(r'\$\("([\w-]+)"\)', SCRIPTS["designer.js"])))
)
def test_what_the_script_looks_for_is_on_the_page(element: str) -> None:
    assert f'id="{element}"' in PAGE
