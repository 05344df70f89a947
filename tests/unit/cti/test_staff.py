"""What supervisors and admins may do, and that it is written down before it is done."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
import websockets

from cti import protocol
from cti.agentsocket import LOGIN_REFUSED
from ivr.errors import StoreError
from ivr.model import Agent
from ivr.ports import ActionOutcome
from tests.fakes.calls import PATIENCE
from tests.unit.cti.test_access import bearer, staff
from tests.unit.cti.test_web import FAST, PASSWORD, Site
from tests.unit.cti.test_web import site as site
from tests.unit.cti.test_web import url as url


async def ask(site: Site, login: str, method: str, path: str, body: Any = None) -> httpx2.Response:
    return await site.http.request(
        method, f"/api/{path}", headers=await bearer(site, login), json=body
    )


async def audited(site: Site) -> list[tuple[str, str, str]]:
    return [(one.who, one.what, one.whom) for one in await site.world.store.audit_log()]


# --- accounts -------------------------------------------------------------------------------------


async def test_an_account_is_made_changed_and_disabled(site: Site) -> None:
    await staff(site)
    new = {"login": "bob", "extension": "202", "skills": {"billing": 5}, "languages": ["en"]}
    made = await ask(site, "ada", "POST", "accounts", new)
    assert made.status_code == 201
    token = await site.token("bob", made.json()["password"])
    assert (await ask(site, "ada", "POST", "accounts", new)).status_code == 409
    changed = await ask(site, "ada", "PATCH", "accounts/bob", {"roles": ["agent", "supervisor"]})
    assert changed.json() == {
        "login": "bob",
        "name": "bob",
        "extension": "202",
        "roles": ["agent", "supervisor"],
        "skills": {"billing": 5},
        "languages": ["en"],
        "capacity": {"calls": 1, "chats": 4, "chats_on_call": 0},
        "disabled": False,
    }
    assert changed.json() in (await ask(site, "ada", "GET", "accounts")).json()
    await ask(site, "ada", "PATCH", "accounts/bob", {"disabled": True})
    gone = await site.http.get("/api/directory", headers={"Authorization": f"Bearer {token}"})
    assert gone.status_code == 401
    assert await audited(site) == [
        ("ada", "account_changed", "bob"),
        ("ada", "account_changed", "bob"),
        ("ada", "account_added", "bob"),
    ]


async def test_a_new_password_ends_the_logins(site: Site) -> None:
    await staff(site)
    headers = await bearer(site, "ann")
    given = await ask(site, "ada", "POST", "accounts/ann/password", {"password": "new and long"})
    assert given.json() == {"login": "ann", "password": ""}
    assert (await site.http.get("/api/directory", headers=headers)).status_code == 401
    await site.token("ann", "new and long")
    made = (await ask(site, "ada", "POST", "accounts/ann/password", {})).json()["password"]
    await site.token("ann", made)
    assert "new and long" not in str(await site.world.store.audit_log()) and made not in str(
        await site.world.store.audit_log()
    )


async def test_tokens_are_revoked(site: Site) -> None:
    await staff(site)
    headers = await bearer(site, "sue")
    assert (await ask(site, "ada", "DELETE", "accounts/sue/tokens")).status_code == 204
    assert (await site.http.get("/api/directory", headers=headers)).status_code == 401


@pytest.mark.parametrize("change", [{"disabled": True}, {"roles": ["agent"]}])
async def test_an_admin_stays(site: Site, change: dict[str, Any]) -> None:
    await staff(site)
    assert (await ask(site, "ada", "PATCH", "accounts/ada", change)).status_code == 409
    second = Agent("eve", "Eve", "", roles=frozenset({"admin"}))
    await site.world.store.save_agent(second, FAST.hash(PASSWORD))
    assert (await ask(site, "ada", "PATCH", "accounts/ada", change)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"roles": []},
        {"roles": ["root"]},
        {"extension": "1&Local/2"},
        {"skills": {"x": 6}},
        {"languages": ["<b>"]},
        {"login": "x"},
        {"name": "\x1b[2J"},
    ],
)
async def test_what_is_no_account_is_refused(site: Site, body: dict[str, Any]) -> None:
    await staff(site)
    assert (await ask(site, "ada", "PATCH", "accounts/ann", body)).status_code == 422
    assert await audited(site) == []


# --- agents at work -------------------------------------------------------------------------------


async def test_who_is_forced_out_is_out_everywhere_but_in_the_call(site: Site, url: str) -> None:
    await staff(site)
    token = await site.token("ann")
    async with websockets.connect("ws" + url.removeprefix("http") + "/api/agent", proxy=None) as it:
        await it.send(json.dumps({"type": "login", "token": token}))
        await it.send(json.dumps({"type": "presence", "to": "available", "id": "o1"}))
        while json.loads(await it.recv())["type"] != "outcome":
            pass
        await site.world.waits("c1")
        ring = await site.world.calls.next_ring()
        ring.answer()
        await site.world.ticket_becomes("c1", "served")
        assert (await ask(site, "sue", "POST", "agents/ann/logout")).status_code == 204
        with pytest.raises(websockets.ConnectionClosed) as closed:
            async with asyncio.timeout(PATIENCE):
                while True:
                    await it.recv()
    assert closed.value.rcvd is not None and closed.value.rcvd.code == LOGIN_REFUSED
    assert not ring.outcome.done() and not ring.cancelled.is_set(), "the talk goes on"
    presences = await site.world.store.presences()
    assert presences["ann"].state == "offline"
    ring.end("talked")
    gone = await site.http.get("/api/directory", headers={"Authorization": f"Bearer {token}"})
    assert gone.status_code == 401
    assert await audited(site) == [("sue", "forced_out", "ann")]


async def test_offers_of_who_is_forced_out_wait_again(site: Site) -> None:
    await staff(site)
    page = await site.world.page("ann")
    await site.world.waits("c1")
    ring = await site.world.calls.next_ring()
    await ask(site, "sue", "POST", "agents/ann/logout")
    async with asyncio.timeout(PATIENCE):
        await ring.cancelled.wait()
    await site.world.ticket_becomes("c1", "waiting")
    assert page.screen.closed
    assert (await site.world.store.presences())["ann"].state == "offline"


async def test_a_supervisor_cannot_throw_an_admin_out(site: Site) -> None:
    await staff(site)
    headers = await bearer(site, "ada")
    assert (await ask(site, "sue", "POST", "agents/ada/logout")).status_code == 403
    assert (await site.http.get("/api/audit", headers=headers)).status_code == 200


async def test_an_agent_is_sent_away_and_reads_why(site: Site) -> None:
    await staff(site)
    page = await site.world.page("ann")
    sent = await ask(site, "sue", "POST", "agents/ann/away", {"reason": "training"})
    assert sent.json() == {"result": "done", "text": ""}
    now = await page.next(protocol.PresenceNow, state="away")
    assert now.reason == "training"
    assert (await ask(site, "sue", "POST", "agents/dee/away", {})).status_code == 409
    assert (await ask(site, "sue", "POST", "agents/nobody/away", {})).status_code == 404


# --- conversations --------------------------------------------------------------------------------


async def _talking(site: Site) -> Any:
    page = await site.world.page("ann")
    await site.world.waits("c1")
    ring = await site.world.calls.next_ring()
    ring.answer()
    await page.next(protocol.CallAnswered)
    return ring


@pytest.mark.parametrize("mode", ["listen", "whisper", "barge"])
async def test_a_supervisor_listens_to_a_call(site: Site, mode: str) -> None:
    await staff(site)
    await _talking(site)
    answer = await ask(site, "sue", "POST", "conversations/c1/monitor", {"mode": mode})
    assert answer.json()["result"] == "done"
    assert site.world.calls.orders == [("listen", "leg-c1", "201", mode)]
    assert await audited(site) == [("sue", mode, "c1")]


async def test_what_the_telephones_refuse_is_told(site: Site) -> None:
    await staff(site)
    await _talking(site)
    site.world.calls.answer = ActionOutcome("refused", "phone 201 is busy")
    answer = await ask(site, "sue", "POST", "conversations/c1/monitor", {})
    assert (answer.status_code, answer.json()["text"]) == (409, "phone 201 is busy")
    assert (await ask(site, "sue", "POST", "conversations/zz/monitor", {})).status_code == 409


async def test_who_waits_is_given_to_an_agent(site: Site) -> None:
    await staff(site)
    await site.world.agent("cal", skills={"repairs": 3})
    await site.world.page("cal", ready=False)
    await site.world.waits("c1", skills=("repairs",))
    await site.world.agent("bob", skills={"billing": 3})
    page = await site.world.page("bob", ready=False)
    to = {"kind": "agent", "value": "bob"}
    assert (await ask(site, "sue", "POST", "conversations/c1/reassign", to)).status_code == 200
    await site.world.act(page, protocol.SetPresence(to="available"))
    assert (await page.next(protocol.Pop)).card.conversation == "c1"
    assert await audited(site) == [("sue", "reassigned", "c1")]


async def test_who_waits_is_given_to_a_queue(site: Site) -> None:
    await staff(site)
    await site.world.agent("bob", skills={"repairs": 3})
    await site.world.page("bob", ready=False)
    await site.world.waits("c1", skills=("repairs",))
    to = {"kind": "queue", "value": "billing"}
    assert (await ask(site, "sue", "POST", "conversations/c1/reassign", to)).status_code == 200
    [ticket] = await site.world.store.tickets_of("c1")
    assert ticket.skills == ("billing",)


async def test_what_an_agent_has_is_given_to_another(site: Site) -> None:
    await staff(site)
    await _talking(site)
    await site.world.agent("bob")
    bob = await site.world.page("bob")
    to = {"kind": "agent", "value": "bob"}
    answer = await ask(site, "sue", "POST", "conversations/c1/reassign", to)
    assert answer.status_code == 200, answer.text
    card = (await bob.next(protocol.Pop)).card
    assert (card.conversation, card.from_agent, card.context) == ("c1", "ann", "reassigned by sue")


async def test_a_supervisor_who_is_at_work_takes_a_conversation_over(site: Site) -> None:
    await staff(site)
    await _talking(site)
    path = "conversations/c1/take"
    assert (await ask(site, "sue", "POST", path)).status_code == 409, "she is not at work"
    both = Agent("sue", "Sue", "209", roles=frozenset({"agent", "supervisor"}))
    await site.world.store.save_agent(both)
    page = await site.world.page("sue")
    assert (await ask(site, "sue", "POST", path)).status_code == 200
    assert (await page.next(protocol.Pop)).card.conversation == "c1"
    assert await audited(site) == [("sue", "taken_over", "c1")] * 2


async def test_nobody_is_given_what_is_not_there(site: Site) -> None:
    await staff(site)
    to = {"kind": "queue", "value": "billing"}
    assert (await ask(site, "sue", "POST", "conversations/c9/reassign", to)).status_code == 409
    away = {"kind": "agent", "value": "bob"}
    await site.world.waits("c1")
    assert (await ask(site, "sue", "POST", "conversations/c1/reassign", away)).status_code == 409


async def test_what_cannot_be_written_down_is_not_done(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await staff(site)
    await _talking(site)
    headers = await bearer(site, "ada")

    async def broken(*_: Any) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(site.world.store, "write_audit", broken)
    for path, body in (("agents/ann/logout", None), ("conversations/c1/monitor", {})):
        answer = await site.http.post(f"/api/{path}", headers=headers, json=body)
        assert answer.status_code == 503
    assert site.world.calls.orders == []
    assert (await site.world.store.presences())["ann"].state == "available"


async def test_the_log_tells_who_whom_and_from_where(site: Site) -> None:
    await staff(site)
    await ask(site, "sue", "POST", "agents/ann/away", {"reason": "x"})
    await ask(site, "sue", "POST", "agents/ann/logout")
    [last, first] = (await ask(site, "ada", "GET", "audit")).json()
    assert (last["who"], last["what"], last["whom"]) == ("sue", "forced_out", "ann")
    assert first["details"] == {"reason": "x"} and first["source"] == "127.0.0.1"
    page = (await ask(site, "ada", "GET", f"audit?before={last['number']}&who=sue")).json()
    assert page == [first]
