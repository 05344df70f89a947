"""Webhooks: signed, in order, until they are taken; and the page about them is true."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from pydantic import ValidationError

from ivr import webhooks
from ivr.config import WebhookSettings
from ivr.model import Address, Channel, Conversation, ConversationStatus, Leg, TimelineEntry
from ivr.store.repo import Store
from ivr.webhooks import EVENTS, PAUSES, Webhooks
from tests.fakes.calls import VirtualClock

SECRET = "a secret that is long enough"
PAGE = (Path(__file__).parents[2] / "docs/webhooks.md").read_text("utf-8")


class Other:
    """Another program, which takes what it is sent, or does not."""

    def __init__(self) -> None:
        self.status = 204
        self.taken: list[httpx2.Request] = []
        self.bodies: list[dict[str, Any]] = []

    def client(self, private: bool) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.MockTransport(self._answer))

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        if self.status < 300:
            self.taken.append(request)
            self.bodies.append(json.loads(request.content))
        return httpx2.Response(self.status)

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(body["conversation"], body["event"].split(".")[1]) for body in self.bodies]


class House:
    """A store whose conversations are told to others."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = VirtualClock()
        self.other = Other()
        self.hooks = self.with_hooks(
            crm=WebhookSettings(url="https://crm.example/x", secret=SECRET)
        )

    def with_hooks(self, **hooks: WebhookSettings) -> Webhooks:
        return Webhooks(self.store, hooks, self.clock, self.other.client)

    async def begin(self, name: str) -> None:
        now = self.clock.now()
        leg = Leg(f"leg-{name}", name, Address(Channel.VOICE, "+14155550123"), now)
        conversation = Conversation(name, "main", "v1", ConversationStatus.FLOW, now)
        body = {"channel": "voice", "address": "+14155550123", "dialled": "100", "dropped": None}
        await self.store.start_conversation(
            conversation, leg, [TimelineEntry(name, now, "call_started", body)]
        )

    async def happens(self, name: str, *kinds: str, **body: Any) -> None:
        now = self.clock.now()
        await self.store.append([TimelineEntry(name, now, kind, body) for kind in kinds])

    async def go(self) -> None:
        await self.hooks.post()
        while await self.hooks.deliver("crm"):
            pass


@pytest_asyncio.fixture
async def house() -> AsyncIterator[House]:
    store = await Store.open("sqlite://")
    house = House(store)
    yield house
    await house.hooks.close()
    await store.close()


async def test_what_becomes_of_a_conversation_is_told_in_order(house: House) -> None:
    await house.begin("c1")
    await house.happens("c1", "heard", text="my PIN is 1234")
    await house.happens("c1", "offered", "answered", agent="ann", ticket="t1", waited=6.2)
    await house.happens("c1", "noted", agent="ann", note="Paid.", disposition="resolved")
    await house.happens("c1", "wrapped_up", agent="ann")
    await house.happens("c1", "ended", outcome="done")
    await house.go()
    assert [event for _, event in house.other.told] == [
        "started",
        "offered",
        "answered",
        "noted",
        "wrapped_up",
        "ended",
    ]
    assert house.other.bodies[0]["data"] == {
        "channel": "voice",
        "address": "+14155550123",
        "dialled": "100",
    }
    assert house.other.bodies[2]["data"] == {"agent": "ann", "waited": 6.2}
    assert "1234" not in str(house.other.bodies)
    await house.go()
    assert len(house.other.bodies) == 6, "each once"


async def test_a_hook_that_is_away_gets_it_later_and_in_order(house: House) -> None:
    await house.begin("c1")
    await house.begin("c2")
    await house.happens("c1", "ended", outcome="done")
    house.other.status = 503
    await house.go()
    house.other.status = 200
    await house.go()
    assert house.other.told == [], "its pause is not over, and what is behind it waits"
    house.clock.advance(PAUSES[0])
    await house.go()
    assert house.other.told[-1] == ("c1", "ended")
    assert sorted(house.other.told) == [("c1", "ended"), ("c1", "started"), ("c2", "started")]


async def test_after_a_day_it_is_dead_and_can_be_sent_again(house: House) -> None:
    await house.begin("c1")
    house.other.status = 500
    began, attempts = house.clock.now(), 0
    await house.hooks.post()
    while not await house.store.dead_deliveries():
        attempts += await house.hooks.deliver("crm")
        house.clock.advance(60)
    assert attempts == len(PAUSES) + 1
    lasted = house.clock.now() - began
    assert timedelta(hours=23) < lasted < timedelta(hours=25)
    [dead] = await house.store.dead_deliveries()
    assert (dead.event, dead.error) == ("conversation.started", "it answered 500")
    house.other.status = 200
    assert await house.store.revive_delivery(dead.id, house.clock.now())
    await house.go()
    assert house.other.told == [("c1", "started")]
    assert house.other.bodies[0]["id"] == dead.id


async def test_a_hook_that_is_gone_is_not_asked_again(house: House) -> None:
    await house.begin("c1")
    house.other.status = 410
    await house.go()
    [dead] = await house.store.dead_deliveries()
    assert dead.attempts == 1


async def test_a_hook_is_told_what_it_wants_alone(house: House) -> None:
    wants = ("conversation.ended",)
    house.hooks = house.with_hooks(
        crm=WebhookSettings(url="https://crm.example/x", secret=SECRET, events=wants)
    )
    await house.begin("c1")
    await house.happens("c1", "ended", outcome="done")
    await house.go()
    assert house.other.told == [("c1", "ended")]


async def test_what_happened_before_there_was_a_hook_is_not_told(house: House) -> None:
    await house.begin("c1")
    await house.with_hooks().tidy()
    await house.go()
    assert house.other.told == []


async def test_what_is_due_at_a_hook_that_is_no_more_is_dead(house: House) -> None:
    await house.begin("c1")
    await house.hooks.post()
    await house.with_hooks().tidy()
    assert [one.hook for one in await house.store.dead_deliveries()] == ["crm"]


async def test_private_addresses_are_refused_unless_allowed(house: House) -> None:
    hook = WebhookSettings(url="https://127.0.0.1:1/x", secret=SECRET)
    guarded = Webhooks(house.store, {"crm": hook}, house.clock)
    await house.begin("c1")
    await guarded.post()
    await guarded.deliver("crm")
    await guarded.close()
    house.clock.advance(9)
    [one] = await house.store.lease_deliveries("crm", house.clock.now(), 1, 1)
    assert "private must allow that" in one.error


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://crm.example/x"},
        {"url": "ftp://crm.example/x", "private": True},
        {"url": "https://user:pass@crm.example/x"},
        {"secret": "short"},
        {"events": ("conversation.eaten",)},
        {"events": ()},
    ],
)
def test_a_wrong_hook_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WebhookSettings(**{"url": "https://crm.example/x", "secret": SECRET, **wrong})


# --- the page -------------------------------------------------------------------------------------


async def test_the_example_on_the_page_knows_a_genuine_message(house: House) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    names: dict[str, Any] = {}
    exec(code, names)
    genuine = names["genuine"]
    await house.begin("c1")
    await house.go()
    [request] = house.other.taken
    header, body = request.headers["X-Hotline-Signature"], request.content
    now = house.clock.now().timestamp()
    assert genuine(SECRET, header, body, now)
    assert not genuine(SECRET, header, body + b" ", now)
    assert not genuine("another secret 123456", header, body, now)
    assert not genuine(SECRET, header, body, now + 301), "played again"
    for nonsense in ("", "t=x,v1=y", "v1=", "t=1"):
        assert not genuine(SECRET, nonsense, body, now)
    assert request.headers["X-Hotline-Delivery"] == house.other.bodies[0]["id"]


def test_the_page_tells_every_event_and_what_it_holds() -> None:
    rows = dict(re.findall(r"^\| `(conversation\.\w+)` \|[^|]*\| (.*?) \|$", PAGE, re.M))
    assert set(rows) == set(EVENTS.values())
    for kind, event in EVENTS.items():
        assert set(re.findall(r"`(\w+)`", rows[event])) == set(webhooks._TOLD[kind])
    [sent] = re.findall(r"^```json\n(.*?)^```", PAGE, re.M | re.S)
    assert set(json.loads(sent)) == {
        "v", "id", "event", "conversation", "sequence", "at", "data",
    }  # fmt: skip
