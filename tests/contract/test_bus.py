"""What the bus promises, in one process and over Redis alike; and what Redis' absence costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from ivr.bus import MemoryBus, RedisBus
from ivr.errors import SettingsError
from ivr.ports import Bus
from tests.contract.redis import RedisServer, redis_server

PATIENCE = 10.0


class Heard:
    """What one listener was told."""

    def __init__(self) -> None:
        self.all: list[Mapping[str, Any]] = []

    def __call__(self, body: Mapping[str, Any]) -> None:
        self.all.append(body)

    async def until(self, number: int) -> list[Mapping[str, Any]]:
        await until(lambda: len(self.all) >= number)
        return self.all


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.005)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest_asyncio.fixture(params=["memory", "redis"])
async def two(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Bus, Bus]]:
    """The bus as two servers see it."""
    if request.param == "memory":
        bus = MemoryBus()
        yield bus, bus
        return
    running: RedisServer = request.getfixturevalue("redis")
    async with AsyncExitStack() as stack:
        yield await over(running, stack), await over(running, stack)


async def over(running: RedisServer, stack: AsyncExitStack) -> RedisBus:
    bus = await RedisBus.open(running.url)
    stack.push_async_callback(bus.close)
    await until(lambda: bus.connected)
    return bus


async def listening(bus: Bus, other: Bus, topic: str, heard: Heard) -> Callable[[], None]:
    """Subscribe, and wait until it is so: over Redis that takes a moment."""
    stop = bus.subscribe(topic, heard)
    async with asyncio.timeout(PATIENCE):
        while not heard.all:
            other.publish(topic, {"are you": "there"})
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    heard.all.clear()
    return stop


async def test_everybody_who_listens_is_told_in_order(two: tuple[Bus, Bus]) -> None:
    one, other = two
    here, there = Heard(), Heard()
    await listening(one, other, "line", here)
    await listening(other, one, "line", there)
    here.all.clear()
    for number in range(200):
        one.publish("line", {"number": number})
    wanted = [{"number": number} for number in range(200)]
    assert await here.until(200) == wanted
    assert await there.until(200) == wanted


async def test_topics_are_apart(two: tuple[Bus, Bus]) -> None:
    one, other = two
    line, mine = Heard(), Heard()
    await listening(other, one, "line", line)
    await listening(other, one, "server.a", mine)
    one.publish("server.b", {"for": "b"})
    one.publish("server.a", {"for": "a"})
    one.publish("line", {"for": "all"})
    assert await line.until(1) == [{"for": "all"}]
    assert await mine.until(1) == [{"for": "a"}]


async def test_who_has_stopped_is_told_nothing_more(two: tuple[Bus, Bus]) -> None:
    one, other = two
    stopped, stays = Heard(), Heard()
    stop = await listening(other, one, "line", stopped)
    await listening(other, one, "line", stays)
    stopped.all.clear()
    stop()
    stop()
    one.publish("line", {"n": 1})
    await stays.until(1)
    assert stopped.all == []


async def test_a_listener_that_fails_keeps_nobody_from_hearing(two: tuple[Bus, Bus]) -> None:
    one, other = two
    heard = Heard()

    def broken(_: Mapping[str, Any]) -> None:
        raise RuntimeError("no")

    other.subscribe("line", broken)
    await listening(other, one, "line", heard)
    one.publish("line", {"n": 1})
    one.publish("line", {"n": 2})
    assert await heard.until(2) == [{"n": 1}, {"n": 2}]


async def test_words_of_every_kind_come_through(two: tuple[Bus, Bus]) -> None:
    one, other = two
    heard = Heard()
    await listening(other, one, "line", heard)
    body = {"text": '账单 \u0000 \ud800 " </script>', "none": None, "list": [1, {"a": 2.5}]}
    one.publish("line", body)
    assert await heard.until(1) == [body]


async def test_without_redis_nobody_waits_and_it_comes_back_by_itself(redis: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        one, other = await over(redis, stack), await over(redis, stack)
        here, there = Heard(), Heard()
        await listening(other, one, "line", there)
        one.subscribe("line", here)
        redis.kill()
        try:
            await until(lambda: not one.connected and not other.connected)
            for number in range(5000):  # more than is kept
                one.publish("line", {"lost": number})
            assert len(await here.until(5000)) == 5000, "who is in the same process hears it"
        finally:
            redis.start()
        late = Heard()
        one.subscribe("late", late)  # asked for while it was away
        await until(lambda: one.connected and other.connected)
        there.all.clear()
        await listening(other, one, "line", there)
        other.publish("late", {"n": 1})
        assert (await late.until(1))[0] == {"n": 1}


async def test_nonsense_from_elsewhere_is_passed_over(redis: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        one, other = await over(redis, stack), await over(redis, stack)
        heard = Heard()
        await listening(one, other, "line", heard)
        for text in ("", "{", "[]", "3", '{"from": "x"}', '{"from": "x", "body": 3}', "\x00" * 100):
            await other._client.publish("hotline.0.line", text)
        other.publish("line", {"n": 1})
        assert (await heard.until(1))[0] == {"n": 1}


async def test_a_redis_that_is_not_there_at_the_start_is_waited_for() -> None:
    with redis_server() as running:
        running.kill()
        bus = await RedisBus.open(running.url)
        try:
            assert not bus.connected
            bus.publish("line", {"n": 1})
            running.start()
            await until(lambda: bus.connected)
        finally:
            await bus.close()
            await bus.close()


async def test_an_address_that_is_none_is_said_so() -> None:
    with pytest.raises(SettingsError, match="redis_url"):
        await RedisBus.open("localhost:6379")
