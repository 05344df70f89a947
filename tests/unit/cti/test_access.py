"""Who may do what: every way in has its row, and nobody gets further than their role."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx2
import pytest
import websockets
from fastapi.routing import APIRoute, APIWebSocketRoute
from prometheus_client import REGISTRY
from starlette.routing import BaseRoute

from cti.access import TABLE, Role
from cti.accounts import TOKEN_LIFE
from cti.agentsocket import LOGIN_REFUSED
from ivr.model import Agent
from tests.fakes.calls import PATIENCE
from tests.unit.cti.test_web import FAST, PASSWORD, Site
from tests.unit.cti.test_web import site as site
from tests.unit.cti.test_web import url as url

ROLES = {"ann": "agent", "sue": "supervisor", "dee": "designer", "ada": "admin"}
FILLED = {
    "conversation_id": "c1",
    "recording_id": "r1",
    "contact_id": "k1",
    "login": "ann",
    "file": "main.yaml",
}


def filled(path: str) -> str:
    return re.sub(r"{(\w+)}", lambda found: FILLED.get(found[1], "x" * 32), path)


def counted(reason: str) -> float:
    return REGISTRY.get_sample_value("hotline_refused_total", {"reason": reason}) or 0.0


async def staff(site: Site) -> None:
    for login, role in ROLES.items():
        roles = frozenset({role})
        agent = Agent(login, login.title(), "201", roles=roles)
        await site.world.store.save_agent(agent, FAST.hash(PASSWORD))


async def bearer(site: Site, login: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {await site.token(login)}"}


def every_route(routes: list[BaseRoute]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for route in routes:
        if isinstance(route, APIRoute):
            found += [(method, route.path) for method in route.methods or ()]
        elif isinstance(route, APIWebSocketRoute):
            found.append(("WS", route.path))
        elif inner := getattr(getattr(route, "original_router", None), "routes", None):
            found += every_route(inner)
    return found


def test_every_way_in_has_a_row(site: Site) -> None:
    ways = set(every_route(site.app.routes))
    assert len(ways) > 25
    assert sorted(ways - set(TABLE)) == [], "add a row to cti.access.TABLE"


async def test_a_way_without_a_row_is_refused(site: Site) -> None:
    @site.app.get("/api/forgotten")
    async def forgotten() -> dict[str, str]:
        return {"secret": "x"}

    await staff(site)
    answer = await site.http.get("/api/forgotten", headers=await bearer(site, "ada"))
    assert answer.status_code == 403 and "secret" not in answer.text


@pytest.mark.parametrize("login", ROLES)
async def test_no_role_reaches_above_itself(site: Site, login: str) -> None:
    await staff(site)
    headers, mine = await bearer(site, login), Role(ROLES[login])
    closed = [way for way, roles in TABLE.items() if roles and mine not in roles and way[0] != "WS"]
    there = set(every_route(site.app.routes))
    before = counted("role")
    for method, path in (ways := [way for way in closed if way in there]):
        answer = await site.http.request(method, filled(path), headers=headers, json={})
        assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed"), path
    assert counted("role") - before == len(ways)


async def test_nobody_gets_in_without_a_good_token(site: Site) -> None:
    await staff(site)
    there = set(every_route(site.app.routes))
    ways = [way for way, roles in TABLE.items() if roles and way[0] != "WS" and way in there]
    stolen = (await bearer(site, "ada"))["Authorization"][:-1] + "x"
    for given in ({}, {"Authorization": stolen}, {"Authorization": "Basic YWRhOng="}):
        before = counted("token")
        for method, path in ways:
            answer = await site.http.request(method, filled(path), headers=given, json={})
            assert answer.status_code == 401, path
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert counted("token") - before == len(ways)


async def test_a_token_ends_with_its_time_its_account_and_its_role(site: Site) -> None:
    await staff(site)
    headers = await bearer(site, "ada")
    assert (await site.http.get("/api/audit", headers=headers)).status_code == 200
    await site.world.store.save_agent(Agent("ada", "Ada", "201"))
    assert (await site.http.get("/api/audit", headers=headers)).status_code == 403
    await site.world.store.save_agent(Agent("ada", "Ada", "201", roles=frozenset({"admin"})))
    assert (await site.http.get("/api/audit", headers=headers)).status_code == 200
    site.world.clock.advance(TOKEN_LIFE.total_seconds())
    assert (await site.http.get("/api/audit", headers=headers)).status_code == 401


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://hotline.evil", "[::"])
async def test_pages_of_other_sites_are_refused(site: Site, origin: str) -> None:
    await staff(site)
    headers = {**await bearer(site, "ada"), "Origin": origin}
    before = counted("origin")
    assert (await site.http.get("/api/accounts", headers=headers)).status_code == 403
    credentials = {"login": "ada", "password": PASSWORD}
    answer = await site.http.post("/api/login", json=credentials, headers={"Origin": origin})
    assert answer.status_code == 403 and "token" not in answer.json()
    assert counted("origin") - before == 2
    ours = {**headers, "Origin": "http://hotline"}
    assert (await site.http.get("/api/accounts", headers=ours)).status_code == 200


@pytest.mark.parametrize("path", ["/api/agent", "/api/designer"])
async def test_a_socket_wants_the_role_the_origin_and_a_good_token(
    site: Site, url: str, path: str
) -> None:
    await staff(site)
    socket = "ws" + url.removeprefix("http") + path
    with pytest.raises(websockets.InvalidStatus):
        async with websockets.connect(socket, origin="https://evil.example", proxy=None):  # type: ignore[arg-type]
            pass
    for token in (await site.token("sue"), "stolen"):
        async with websockets.connect(socket, proxy=None) as connection:
            await connection.send(json.dumps({"type": "login", "token": token}))
            with pytest.raises(websockets.ConnectionClosed) as closed:
                async with asyncio.timeout(PATIENCE):
                    while True:
                        assert "hello" not in str(await connection.recv())
            assert closed.value.rcvd is not None and closed.value.rcvd.code >= LOGIN_REFUSED


async def test_a_thousand_guesses_of_one_login_from_a_thousand_addresses(site: Site) -> None:
    """After fifty, an address that the login is not known at has to wait."""

    async def attempt(peer: str, password: str = "a wrong guess") -> int:
        transport = httpx2.ASGITransport(site.app, client=(peer, 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://hotline") as http:
            given = {"login": "ann", "password": password}
            return (await http.post("/api/login", json=given)).status_code

    assert await attempt("10.1.1.1", PASSWORD) == 200
    before = counted("password"), counted("guessing")
    statuses = [await attempt(f"10.{n // 250}.7.{n % 250}") for n in range(1000)]
    refused: dict[int, int] = {status: statuses.count(status) for status in set(statuses)}
    assert set(refused) == {401, 429} and refused[401] <= 51
    assert counted("password") - before[0] == refused[401]
    assert counted("guessing") - before[1] == refused[429]
    assert await attempt("10.1.1.1", PASSWORD) == 200, "whom it is known at does not wait"
    assert await attempt("10.99.9.9", PASSWORD) == 429
    site.world.clock.advance(31)
    assert await attempt("10.99.9.9", PASSWORD) == 200


async def test_a_thousand_guesses_from_one_address(site: Site) -> None:
    statuses = []
    for n in range(1000):
        given = {"login": f"agent{n % 100}", "password": "a wrong guess"}
        statuses.append((await site.http.post("/api/login", json=given)).status_code)
        site.world.clock.advance(0.5)
    # 500 seconds: 20 at once, then one a minute at most.
    assert statuses.count(401) <= 20 + 1 + 6 + 500 // 60
    assert statuses.count(401) + statuses.count(429) == 1000


def test_the_description_names_the_roles(site: Site) -> None:
    schema: dict[str, Any] = site.app.openapi()
    audit = schema["paths"]["/api/audit"]["get"]
    assert (audit["x-roles"], audit["security"]) == (["admin"], [{"login": []}])
    assert "security" not in schema["paths"]["/api/login"]["post"]
    described = {
        (method.upper(), path) for path, ways in schema["paths"].items() for method in ways
    }
    for way, roles in TABLE.items():
        if roles and way[0] != "WS" and way in set(every_route(site.app.routes)):
            assert way in described, way
