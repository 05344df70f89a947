"""The telephones of another server: what is ordered there happens once, and what happens there is
heard here in order, also when news is lost or one of the two dies."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from cti.remotecalls import ANSWER_SECONDS, SILENCE_SECONDS, RemoteCalls
from ivr.bus import MemoryBus
from ivr.errors import CallGone, TelephonyError
from ivr.ports import ActionOutcome, Answered, CallEvent, Consulted, Held, Ringing
from tests.fakes.calls import FakeCalls
from tests.virtual import run


class LossyBus(MemoryBus):
    """Loses what `loses` says."""

    def __init__(self) -> None:
        super().__init__()
        self.loses: Callable[[Mapping[str, Any]], bool] = lambda _: False
        self.sent: list[Mapping[str, Any]] = []

    def publish(self, topic: str, body: Mapping[str, Any]) -> None:
        self.sent.append(body)
        if not self.loses(body):
            super().publish(topic, body)


class Two:
    """Two servers; the callers are at x, the agent at y."""

    def __init__(self) -> None:
        self.bus = LossyBus()
        self.phones = FakeCalls()
        self.x = RemoteCalls(self.bus, "x", self.phones)
        self.y = RemoteCalls(self.bus, "y", FakeCalls())
        self.calls = self.y.of("x")
        self.told: list[CallEvent] = []

    def ring(self) -> asyncio.Task[str]:
        return asyncio.ensure_future(self.calls.ring("leg", "201", 20, self.told.append))

    async def close(self) -> None:
        await self.x.close()
        await self.y.close()


def together(test: Callable[[Two], Awaitable[None]]) -> None:
    async def whole() -> None:
        two = Two()
        try:
            await test(two)
        finally:
            await two.close()

    run(whole())


def test_our_own_telephones_are_asked_directly() -> None:
    async def test(two: Two) -> None:
        assert two.x.of("x") is two.x.of("") is two.phones

    together(test)


def test_a_talk_from_the_first_ring_to_its_end() -> None:
    async def test(two: Two) -> None:
        ring = two.ring()
        attempt = await two.phones.next_ring()
        assert (attempt.leg_id, attempt.extension, attempt.seconds) == ("leg", "201", 20)
        attempt.ring()
        attempt.answer()
        for event in (Held(True), Held(False), Consulted("202", "ringing")):
            attempt.notify(event)
        await asyncio.sleep(3600)  # a talk may be long
        attempt.end("talked")
        assert await ring == "talked"
        wanted = [Ringing("201"), Answered("201"), Held(True), Held(False)]
        assert two.told == [*wanted, Consulted("202", "ringing")]

    together(test)


def test_orders_and_their_outcomes() -> None:
    async def test(two: Two) -> None:
        orders = [
            (two.calls.hold("leg", True), ("hold", "leg", "True")),
            (two.calls.mute("leg", False), ("mute", "leg", "False")),
            (two.calls.press("leg", "1#"), ("press", "leg", "1#")),
            (two.calls.park("leg"), ("park", "leg")),
            (two.calls.consult("leg", "202"), ("consult", "leg", "202")),
            (two.calls.complete("leg"), ("complete", "leg")),
            (two.calls.cancel("leg"), ("cancel", "leg")),
            (two.calls.join("leg"), ("join", "leg")),
            (two.calls.let_go("leg"), ("let_go", "leg")),
            (two.calls.send_to("leg", "+1"), ("send_to", "leg", "+1")),
            (two.calls.listen("leg", "300", "whisper"), ("listen", "leg", "300", "whisper")),
            (two.calls.dial("201", "+1"), ("dial", "201", "+1")),
        ]
        two.phones.answer = ActionOutcome("refused", "no")
        for order, asked in orders:
            assert await order == ActionOutcome("refused", "no")
            assert two.phones.orders[-1] == asked
        await two.calls.hang_up("leg")
        await asyncio.sleep(0.1)
        assert two.phones.hung_up == ["leg"]

    together(test)


@pytest.mark.parametrize("lost", ["order", "outcome"])
def test_an_order_that_is_not_answered_is_unknown_and_never_repeated(lost: str) -> None:
    async def test(two: Two) -> None:
        two.bus.loses = lambda body: body["kind"] == lost
        began = asyncio.get_running_loop().time()
        assert (await two.calls.hold("leg", True)).result == "unknown"
        assert asyncio.get_running_loop().time() - began == ANSWER_SECONDS
        await asyncio.sleep(60)
        assert len(two.phones.orders) == (0 if lost == "order" else 1)

    together(test)


def test_an_unknown_order_is_none() -> None:
    async def test(two: Two) -> None:
        outcome = await two.y.order("x", "__init__", "leg")
        assert outcome.result == "unknown"

    together(test)


def test_cancelled_it_stops_ringing() -> None:
    async def test(two: Two) -> None:
        ring = two.ring()
        attempt = await two.phones.next_ring()
        attempt.ring()
        await asyncio.sleep(1)
        ring.cancel()
        await attempt.cancelled.wait()

    together(test)


@pytest.mark.parametrize("lost", ["over", "watch"])
def test_it_stops_ringing_also_when_the_agents_server_dies(lost: str) -> None:
    async def test(two: Two) -> None:
        ring = two.ring()
        attempt = await two.phones.next_ring()
        two.bus.loses = lambda body: body["from"] == "y"
        ring.cancel()
        began = asyncio.get_running_loop().time()
        await attempt.cancelled.wait()
        assert asyncio.get_running_loop().time() - began <= SILENCE_SECONDS + 2

    together(test)


def test_an_answered_call_goes_on_when_the_agents_server_dies() -> None:
    async def test(two: Two) -> None:
        ring = two.ring()
        attempt = await two.phones.next_ring()
        attempt.answer()
        await asyncio.sleep(1)
        two.bus.loses = lambda body: body["from"] == "y"
        ring.cancel()
        await asyncio.sleep(3600)
        assert not attempt.cancelled.is_set()

    together(test)


def test_the_death_of_the_callers_server_ends_it() -> None:
    async def test(two: Two) -> None:
        ring = two.ring()
        await two.phones.next_ring()
        two.bus.loses = lambda body: body["from"] == "x"
        with pytest.raises(TelephonyError, match="gone"):
            await ring

    together(test)


def test_while_the_bus_is_away_nobody_is_taken_for_dead() -> None:
    async def test(two: Two) -> None:
        ring = two.ring()
        attempt = await two.phones.next_ring()
        attempt.answer()
        await asyncio.sleep(1)
        two.bus.loses = lambda _: True
        two.bus.connected = False
        await asyncio.sleep(120)
        two.bus.loses = lambda _: False
        two.bus.connected = True
        attempt.end("talked")
        assert await ring == "talked"
        assert two.told == [Answered("201")]

    together(test)


def test_what_goes_wrong_there_is_told_here() -> None:
    async def test(two: Two) -> None:
        two.phones.gone.add("leg")
        with pytest.raises(CallGone):
            await two.ring()
        two.phones.gone.clear()
        ring = two.ring()
        (await two.phones.next_ring()).fail(TelephonyError("Asterisk is away"))
        with pytest.raises(TelephonyError, match="Asterisk is away"):
            await ring

    together(test)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_news_is_lost_each_event_is_told_once_and_in_order(seed: int) -> None:
    dice = random.Random(seed)

    async def test(two: Two) -> None:
        ring = two.ring()
        attempt = await two.phones.next_ring()
        two.bus.loses = lambda _: dice.random() < 0.4
        events: list[CallEvent] = [Ringing("201"), Answered("201")]
        events += [Consulted(str(number), "ringing") for number in range(20)]
        for event in events:
            attempt.notify(event)
            await asyncio.sleep(dice.random())
        attempt.end("talked")
        assert await ring == "talked"
        assert two.told == events

    together(test)
