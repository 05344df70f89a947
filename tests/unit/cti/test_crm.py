"""The customer's record: it comes when it comes, and whatever the other system does, the card is
there at once and holds plain values alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from cti import crm as under_test
from cti.crm import AGAIN_SECONDS, Crm, facts_of
from cti.popcard import PopCard
from cti.protocol import Pop
from cti.screenpop import CustomerRecord, clean
from ivr.config import CrmSettings
from ivr.fetch import HttpFetcher
from ivr.flow.events import Fetch, FetchAnswered
from ivr.model import Address, Channel, Contact, Conversation, ConversationStatus, Dossier, Leg
from tests.browser.payloads import payloads
from tests.fakes.calls import PATIENCE, VirtualClock
from tests.unit.cti.conftest import World
from tests.unit.test_fetch import Answer, hangs_up, says, server

CALLER = "+14155550123"


class FakeFetcher:
    """Another system that answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Fetch] = []
        self.answers: list[asyncio.Future[FetchAnswered]] = []

    async def fetch(self, request: Fetch) -> FetchAnswered:
        self.asked.append(request)
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]

    async def answer(self, value: Any, status: int = 200, error: str = "") -> None:
        async with asyncio.timeout(PATIENCE):
            while not self.answers or self.answers[-1].done():
                await asyncio.sleep(0)
        self.answers[-1].set_result(FetchAnswered(self.asked[-1].id, status, value, error))
        for _ in range(10):
            await asyncio.sleep(0)


def dossier(number: str = CALLER, **about: Any) -> Dossier:
    known: dict[str, Any] = {"contact": None, "corrections": {}, **about}
    at = VirtualClock().now()
    return Dossier(
        conversation=Conversation("c1", "main", "v1", ConversationStatus.QUEUED, at),
        leg=Leg("l1", "c1", Address(Channel.VOICE, number), at),
        call=True,
        sharing=(),
        entries=(),
        earlier=(),
        notes=(),
        **known,
    )


def settings(path: str = "/customers/by-number/{number}", **about: Any) -> CrmSettings:
    return CrmSettings(system="crm", path=path, **about)


def ignore(conversation_id: str) -> None:
    """Nobody looks at the card any more."""


# --- asking ---------------------------------------------------------------------------------------


async def test_it_is_asked_once_and_shown_when_it_has_come() -> None:
    there, told = FakeFetcher(), list[str]()
    crm = Crm(there, settings(fields=("name", "account.balance")), VirtualClock())
    for _ in range(3):
        assert crm.record(dossier(), {}, told.append) == CustomerRecord("loading")
        await asyncio.sleep(0)
    await there.answer({"name": "Ann", "account": {"balance": 12.5}, "more": 1})
    assert told == ["c1"]
    ready = CustomerRecord("ready", (("name", "Ann"), ("account.balance", "12.5")))
    assert crm.record(dossier(), {}, told.append) == ready
    [asked] = there.asked
    assert (asked.method, asked.system, asked.path, asked.timeout) == (
        "GET",
        "crm",
        "/customers/by-number/%2B14155550123",
        3,
    )


@pytest.mark.parametrize(
    ("path", "known", "slots"),
    [
        ("/{number}", dossier("anonymous"), {}),
        ("/{number}", dossier(""), {}),
        ("/{contact}", dossier(), {}),
        ("/{contact}", dossier(contact=Contact("k9")), {}),
        ("/{account}", dossier(), {}),
        ("/{account}", dossier(), {"account": ".."}),
        ("/{account}", dossier(), {"account": {"a": 1}}),
        ("/{account}", dossier(), {"account": True}),
        ("/{account}", dossier(), {"account": "9" * 200}),
    ],
)
async def test_without_what_it_is_asked_by_nothing_is_asked(
    path: str, known: Dossier, slots: dict[str, Any]
) -> None:
    there = FakeFetcher()
    crm = Crm(there, settings(path), VirtualClock())
    assert crm.record(known, slots, ignore) == CustomerRecord("")
    await asyncio.sleep(0)
    assert there.asked == []


async def test_a_value_cannot_lead_elsewhere() -> None:
    there = FakeFetcher()
    crm = Crm(there, settings("/a/{account}/b"), VirtualClock())
    crm.record(dossier(), {"account": "../x?y#z//%2e@h\r\n"}, ignore)
    await asyncio.sleep(0)
    assert there.asked[0].path == "/a/..%2Fx%3Fy%23z%2F%2F%252e%40h%0D%0A/b"
    await crm.close()


async def test_what_an_agent_has_corrected_is_asked_anew() -> None:
    there = FakeFetcher()
    crm = Crm(there, settings("/{account}"), VirtualClock())
    crm.record(dossier(), {"account": "1"}, ignore)
    await there.answer({"tier": "gold"})
    corrected = dossier(corrections={"account": ("2", "ann"), "number": ("+1", "ann")})
    assert crm.record(corrected, {"account": "1"}, ignore).state == "loading"
    await there.answer({"tier": "tin"})
    assert crm.record(corrected, {"account": "1"}, ignore).facts == (("tier", "tin"),)
    assert [one.path for one in there.asked] == ["/1", "/2"]


@pytest.mark.parametrize(
    "answer",
    [
        {"value": None, "error": "it cannot be reached"},
        {"value": None, "status": 404},
        {"value": {"name": "Ann"}, "status": 500},
        {"value": ["a list"]},
        {"value": "text"},
    ],
)
async def test_a_failure_is_told_and_tried_again_later(answer: dict[str, Any]) -> None:
    there, clock, told = FakeFetcher(), VirtualClock(), list[str]()
    crm = Crm(there, settings(), clock)
    crm.record(dossier(), {}, told.append)
    await there.answer(**answer)
    assert crm.record(dossier(), {}, told.append) == CustomerRecord("failed")
    assert told == ["c1"]
    clock.advance(AGAIN_SECONDS)
    assert crm.record(dossier(), {}, told.append).state == "loading"
    await there.answer({"name": "Ann"})
    assert crm.record(dossier(), {}, told.append).state == "ready"


async def test_only_so_many_conversations_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "_MOST_KEPT", 1)
    there = FakeFetcher()
    crm = Crm(there, settings("/{n}"), VirtualClock())
    crm.record(dossier(), {"n": 1}, ignore)
    assert len(crm._asked) == 1
    await crm.close()


# --- what comes back ------------------------------------------------------------------------------


def test_without_fields_all_that_is_plain_is_shown() -> None:
    answer = {"name": "Ann", "vip": True, "debts": 0, "orders": [1], "address": {}, "nothing": None}
    assert facts_of(answer, ()) == [("name", "Ann"), ("vip", "yes"), ("debts", "0")]


def test_a_field_may_be_anywhere_or_nowhere() -> None:
    answer = {"a": {"b": {"c": [1, {"d": 2}]}}, "x": "y"}
    fields = ("a.b.c", "a.b.nothing", "x.y", "", "a..b", "x")
    assert facts_of(answer, fields) == [("a.b.c", "1, d: 2"), ("x", "y")]


@pytest.mark.parametrize("payload", payloads(), ids=lambda text: ascii(text)[:30])
def test_a_payload_stays_a_plain_value(payload: str) -> None:
    for name, value in facts_of({payload: payload, "n": {payload: [payload] * 9}}, ()):
        assert (name, value) == (clean(name, 80), clean(value, 200))
    [(_, nested)] = facts_of({"n": {"k": payload}}, ("n",))
    assert nested == clean(nested, 200)


# --- on an agent's screen, with a real connection -------------------------------------------------


Connect = Callable[[World, Answer], Awaitable[None]]


@pytest_asyncio.fixture
async def connected(world: World) -> AsyncIterator[Connect]:
    """Give the desk a CRM that answers like that."""
    closing: list[Callable[[], Awaitable[None]]] = []

    async def connect(world: World, answer: Answer) -> None:
        context = server(answer)
        told = await context.__aenter__()
        fetcher = HttpFetcher({"crm": f"http://127.0.0.1:{told.port}/api"}, private=True)
        crm = Crm(fetcher, settings(seconds=0.2), world.clock)
        world.desk.place.cards._crm = crm

        async def close() -> None:
            await crm.close()
            await fetcher.close()
            await context.__aexit__(None, None, None)

        closing.append(close)

    yield connect
    for close in closing:
        await close()


async def card_of(world: World, state: str) -> PopCard:
    """Take a call, and wait until its card says so of the record."""
    await world.agent("ann")
    page = await world.page("ann")
    await world.waits("c1")
    ring = await world.calls.next_ring()  # the phone rings without waiting for the record
    card = await page.stage("offered")
    while card.crm_state != state:
        card = (await page.next(Pop)).card
    ring.end("gone")
    return card


async def hangs(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(PATIENCE)


async def floods(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n{")
    for _ in range(1000):
        writer.write(b" " * 10_000)
        await writer.drain()


METADATA = "Location: http://169.254.169.254/latest/meta-data/\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        hangs,
        floods,
        hangs_up,
        says(b"{}", "500 Oh"),
        says(b"", "302 Found", METADATA),
        says(b"<html>"),
        says(b"[" * 60_000),
        says(b'{"n": ' + b"9" * 10_000 + b"}"),
    ],
    ids=["hangs", "10 MB", "hangs up", "500", "redirects", "HTML", "deep", "huge number"],
)
async def test_a_system_that_fails_costs_the_agent_nothing(
    world: World, connected: Connect, answer: Answer
) -> None:
    await connected(world, answer)
    card = await card_of(world, "failed")
    assert {fact.source for fact in card.facts} == {"flow"}


async def test_a_record_is_on_the_card_when_it_has_come(world: World, connected: Connect) -> None:
    body = {"tier": "gold", "note": "\u202e<script>" + "x" * 5000, "account": "87654321"}
    await connected(world, says(json.dumps(body).encode()))
    card = await card_of(world, "ready")
    shown = {fact.name: (fact.value, fact.source) for fact in card.facts}
    assert shown["tier"] == ("gold", "crm")
    assert shown["account"] == ("12345678", "flow")
    assert shown["crm account"] == ("87654321", "crm")
    assert shown["note"][0].startswith("<script>") and len(shown["note"][0]) == 200
