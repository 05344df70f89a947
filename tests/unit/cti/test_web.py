"""The doors: who gets in, what is refused and how, over HTTP and over a real WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import pytest_asyncio
import uvicorn
import websockets
from argon2 import PasswordHasher

from cti import protocol, web
from cti.accounts import Accounts
from cti.agentsocket import LOGIN_REFUSED
from cti.client import AgentClient
from cti.web import MAX_BODY, create_app, server_config
from ivr.config import Settings
from ivr.errors import NotAllowed
from ivr.model import Agent
from tests.fakes.calls import PATIENCE
from tests.unit.cti.conftest import World

PASSWORD = "correct horse"
FAST = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass
class Site:
    world: World
    http: httpx2.AsyncClient
    accounts: Accounts
    parts: dict[str, bool]
    languages: dict[str, str]
    app: Any

    async def token(self, login: str = "ann", password: str = PASSWORD) -> str:
        answer = await self.http.post("/api/login", json={"login": login, "password": password})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])


@pytest_asyncio.fixture
async def site(world: World) -> AsyncIterator[Site]:
    accounts = Accounts(world.store, world.clock, FAST)
    await world.store.save_agent(Agent("ann", "Ann", "201"), FAST.hash(PASSWORD))
    parts = {"asterisk": True}
    languages: dict[str, str] = {}
    app = create_app(
        world.desk, accounts, world.store, Settings(), lambda: parts, lambda: languages
    )
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://hotline") as http:
        yield Site(world, http, accounts, parts, languages, app)


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


@contextlib.asynccontextmanager
async def _served(site: Site) -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = _Quiet(server_config(site.app))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    await site.world.desk.close()
    server.should_exit = server.force_exit = True
    await serving
    listener.close()


@pytest_asyncio.fixture
async def url(site: Site) -> AsyncIterator[str]:
    """The same site behind a real server."""
    async with _served(site) as address:
        yield address


# --- login ----------------------------------------------------------------------------------------


async def test_login_and_logout(site: Site) -> None:
    bearer = {"Authorization": f"Bearer {await site.token()}"}
    await site.world.caller("c1")
    found = await site.http.get("/api/conversations/c1", headers=bearer)
    assert [item["kind"] for item in found.json()["timeline"]] == ["heard"]
    assert (await site.http.post("/api/logout", headers=bearer)).status_code == 204
    assert (await site.http.get("/api/conversations/c1", headers=bearer)).status_code == 401


async def test_a_login_expires(site: Site) -> None:
    bearer = {"Authorization": f"Bearer {await site.token()}"}
    site.world.clock.advance(12 * 3600)
    assert (await site.http.get("/api/conversations/c1", headers=bearer)).status_code == 401


@pytest.mark.parametrize("login", ["ann", "nobody", "disabled", "no-password"])
async def test_every_refusal_is_the_same(site: Site, login: str) -> None:
    await site.world.store.save_agent(
        Agent("disabled", "D", "202", disabled=True), FAST.hash("wrong password")
    )
    await site.world.store.save_agent(Agent("no-password", "N", "203"))
    answer = await site.http.post("/api/login", json={"login": login, "password": "wrong password"})
    assert answer.status_code == 401
    assert answer.json() == {"code": "login", "text": "login or password is wrong"}


async def test_guessing_gets_slower_and_passes(site: Site) -> None:
    async def attempt(password: str) -> httpx2.Response:
        return await site.http.post("/api/login", json={"login": "ann", "password": password})

    waits = []
    for _ in range(6):
        while (answer := await attempt("wrong")).status_code == 429:
            waits.append(int(answer.headers["Retry-After"]))
            site.world.clock.advance(waits[-1] + 0.1)
        assert answer.status_code == 401
    assert waits == [1, 2, 4]
    assert (await attempt(PASSWORD)).status_code == 429, (
        "also with the right one, until the wait is over"
    )
    site.world.clock.advance(10)
    assert (await attempt(PASSWORD)).status_code == 200
    assert (await attempt("wrong")).status_code == 401, "a success starts the count anew"


async def test_many_guesses_at_once_do_not_slip_by(site: Site) -> None:
    answers = await asyncio.gather(
        *(
            site.http.post("/api/login", json={"login": "ann", "password": "wrong"})
            for _ in range(40)
        )
    )
    assert sum(answer.status_code == 401 for answer in answers) <= 6
    assert {answer.status_code for answer in answers} == {401, 429}


async def test_passwords_and_tokens_are_not_logged_or_stored(
    site: Site, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    token = await site.token()
    await site.http.post("/api/login", json={"login": "ann", "password": "a wrong secret"})
    shown = "".join(capsys.readouterr()) + caplog.text
    assert token not in shown and "a wrong secret" not in shown and PASSWORD not in shown
    assert await site.world.store.token_owner(token, site.world.clock.now()) is None
    assert token not in repr(protocol.Login(token=token))


# --- bad input ------------------------------------------------------------------------------------


async def test_a_strangers_input_does_not_come_back(site: Site) -> None:
    evil = "<script>alert(1)</script>"
    answers = [
        await site.http.post("/api/login", json={"login": "x", "password": "y", evil: evil}),
        await site.http.post("/api/login", json={"login": {"a": evil}, "password": evil}),
        await site.http.post("/api/login", content=evil),
        await site.http.get(f"/api/conversations/{evil}"),
        await site.http.get(f"/agent/{evil}"),
        await site.http.get(f"/{evil}"),
        await site.http.get("/api/conversations/x", headers={"Authorization": f"Bearer {evil}"}),
    ]
    assert all(400 <= answer.status_code < 500 for answer in answers)
    assert not [answer.text for answer in answers if "script" in answer.text]


async def test_a_body_has_a_limit(site: Site) -> None:
    answer = await site.http.post("/api/login", content=b"x" * (MAX_BODY + 1))
    assert answer.status_code == 413

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 4096

    assert (await site.http.post("/api/login", content=endless())).status_code == 413


async def test_everything_carries_the_security_headers(site: Site) -> None:
    for path in ("/agent", "/healthz", "/nowhere", "/api/openapi.json"):
        headers = (await site.http.get(path)).headers
        assert "script-src 'self'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"


async def test_a_fault_of_ours_tells_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("secret detail")

    bearer = {"Authorization": f"Bearer {await site.token()}"}
    monkeypatch.setattr(site.world.store, "conversation", broken)
    answer = await site.http.get("/api/conversations/c1", headers=bearer)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "Content-Security-Policy" in answer.headers


# --- health ---------------------------------------------------------------------------------------


async def test_health_readiness_and_metrics(site: Site) -> None:
    assert (await site.http.get("/healthz")).json() == {"status": "ok"}
    assert (await site.http.get("/readyz")).status_code == 200
    site.parts["asterisk"] = False
    not_ready = await site.http.get("/readyz")
    assert (not_ready.status_code, not_ready.json()) == (503, {"asterisk": False})
    site.parts["asterisk"] = True
    degraded = {"en": "ready", "zh": "dead", "ko": "shedding"}
    site.languages.update(degraded)
    answer = await site.http.get("/readyz")
    assert (answer.status_code, answer.json()["languages"]) == (200, degraded)
    assert "hotline_queue_waiting" in (await site.http.get("/metrics")).text


async def test_the_page_and_its_files(site: Site) -> None:
    assert (await site.http.get("/")).headers["Location"] == "/agent"
    for path, kind in {
        "/agent": "text/html",
        "/agent/agent.js": "text/javascript",
        "/agent/agent.css": "text/css",
        "/agent/icon.svg": "image/svg+xml",
    }.items():
        answer = await site.http.get(path)
        assert (answer.status_code, answer.headers["Content-Type"].split(";")[0]) == (200, kind)
    assert (await site.http.get("/agent/index.html")).status_code == 404
    assert (await site.http.get("/agent/..%2fservice.py")).status_code == 404


# --- connections ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-"])
async def test_a_connection_without_a_whole_request_is_dropped(
    url: str, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "REQUEST_SECONDS", 0.2)
    address = httpx2.URL(url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(sent)
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()


async def test_the_rest_of_a_second_request_has_a_time_too(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "REQUEST_SECONDS", 0.2)
    address = httpx2.URL(url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b'{"status":"ok"}'), PATIENCE)
    writer.write(b"GET /")
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    writer.close()


async def test_what_is_in_use_is_not_dropped(
    site: Site, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "REQUEST_SECONDS", 0.2)
    token = await site.token()
    async with (
        httpx2.AsyncClient(base_url=url, trust_env=False) as http,
        websockets.connect(_socket(url), proxy=None) as connection,
    ):
        await connection.send(json.dumps({"type": "login", "token": token}))
        await connection.recv()
        assert (await http.get("/healthz")).status_code == 200
        idle = httpx2.URL(url)
        reader, writer = await asyncio.open_connection(idle.host, idle.port)
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), PATIENCE)  # that one's time is over
        writer.close()
        await connection.send('{"type":"ping"}')
        assert json.loads(await connection.recv())["type"] == "pong"
        assert (await http.get("/healthz")).status_code == 200


async def test_too_many_connections_are_told_so_and_agents_stay(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "MOST_CONNECTIONS", 2)
    token = await site.token()
    async with (
        _served(site) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False) as http,
        websockets.connect(_socket(url), proxy=None) as first,
        websockets.connect(_socket(url), proxy=None) as second,
    ):
        assert (await http.get("/healthz")).status_code == 503
        for connection in (first, second):
            await connection.send(json.dumps({"type": "login", "token": token}))
            assert json.loads(await connection.recv())["type"] == "hello"


# --- the WebSocket --------------------------------------------------------------------------------


async def test_a_whole_call_over_a_real_connection(site: Site, url: str) -> None:
    async with AgentClient(url, "ann", PASSWORD) as agent, asyncio.timeout(PATIENCE):
        seen: list[protocol.ServerMessage] = []
        messages = agent.messages()

        async def until(kind: type[Any]) -> Any:
            async for message in messages:
                seen.append(message)
                if isinstance(message, kind):
                    return message
            raise AssertionError(f"no {kind.__name__}")

        hello = await until(protocol.Hello)
        assert (hello.agent.extension, hello.presence.state) == ("201", "away")
        await agent.set_available()
        await until(protocol.PresenceNow)
        await site.world.waits("c1")
        assert (await until(protocol.Pop)).card.topic == "billing"
        ring = await site.world.calls.next_ring()
        ring.ring()
        await until(protocol.PhoneRinging)
        ring.answer()
        await until(protocol.CallAnswered)
        await agent.hang_up("c1")
        await until(protocol.CallEnded)
        await agent.note("c1", "paid", "resolved")
        await until(protocol.NoteKept)
        await agent.done("c1")
        await until(protocol.Wrapped)
        assert [message.n for message in seen] == list(range(1, len(seen) + 1))


async def test_a_wrong_password_is_told_to_the_client(url: str) -> None:
    with pytest.raises(NotAllowed, match="login or password is wrong"):
        await AgentClient(url, "ann", "wrong").login()


def _socket(url: str) -> str:
    return "ws" + url.removeprefix("http") + "/api/agent"


async def test_another_sites_page_gets_no_connection(url: str) -> None:
    for origin in ("http://evil.example", "null", "http://["):
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(_socket(url), origin=origin, proxy=None)  # type: ignore[arg-type]
        assert refused.value.response.status_code == 403
    host = url.removeprefix("http://")
    async with websockets.connect(_socket(url), origin=f"http://{host}", proxy=None):  # type: ignore[arg-type]
        pass


@pytest.mark.parametrize(
    "first",
    ['{"type": "login", "token": "guessed"}', '{"type": "ping"}', "not JSON", b"\x00\x01", "[]"],
)
async def test_no_valid_login_closes_the_connection(url: str, first: str | bytes) -> None:
    async with websockets.connect(_socket(url), proxy=None) as connection:
        await connection.send(first)
        told = protocol.parse_server(await connection.recv())
        assert isinstance(told, protocol.Error)
        with pytest.raises(websockets.ConnectionClosed):
            await connection.recv()
        assert connection.close_code == LOGIN_REFUSED


async def test_bad_messages_are_answered_and_change_nothing(site: Site, url: str) -> None:
    async with websockets.connect(_socket(url), proxy=None) as connection:
        await connection.send(json.dumps({"type": "login", "token": await site.token()}))
        await connection.recv()
        for bad in ("{", '{"type":"fly"}', '{"type":"presence","to":"king"}', b"\xff", "{}" * 9):
            await connection.send(bad)
            told = json.loads(await connection.recv())
            assert (told["type"], told["code"]) == ("error", "bad_message")
        await connection.send('{"type":"done","conversation":"c9"}')
        assert json.loads(await connection.recv())["code"] == "not_allowed"
        await connection.send('{"type":"ping"}')
        assert json.loads(await connection.recv())["type"] == "pong"


async def test_a_page_that_talks_nonsense_is_closed(site: Site, url: str) -> None:
    async with websockets.connect(_socket(url), proxy=None) as connection:
        await connection.send(json.dumps({"type": "login", "token": await site.token()}))
        with pytest.raises(websockets.ConnectionClosed):
            for _ in range(60):
                await connection.send("nonsense")
                await connection.recv()


async def test_a_frame_has_a_limit(site: Site, url: str) -> None:
    async with websockets.connect(_socket(url), proxy=None) as connection:
        await connection.send("x" * (protocol.MAX_CLIENT_BYTES + 1))
        with pytest.raises(websockets.ConnectionClosed):
            await connection.recv()
        assert connection.close_code == 1009


async def test_logging_out_closes_the_pages(site: Site, url: str) -> None:
    token = await site.token()
    async with websockets.connect(_socket(url), proxy=None) as connection:
        await connection.send(json.dumps({"type": "login", "token": token}))
        await connection.recv()
        await site.http.post("/api/logout", headers={"Authorization": f"Bearer {token}"})
        with pytest.raises(websockets.ConnectionClosed):
            while True:
                await connection.recv()
