"""A recogniser that hangs, and a farm that is away: what callers hear, through a real Asterisk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import psutil
import pytest
from websockets.asyncio.server import ServerConnection, serve

from cti import stage
from ivr.config import Settings
from ivr.model import TimelineEntry
from tests.live import voices
from tests.live.house import House, house_settings, until

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

LATE = "hotline_tick_late_seconds_bucket"
BLOCKED = 50
"""Ticks in a row that a blocked second makes late: no fault may hold the audio up for that long,
whoever else uses the machine; how late they are is measured in tests/bench."""


def said(entries: list[TimelineEntry]) -> list[str]:
    return [entry.body["text"] for entry in entries if entry.kind == "said"]


def workers(house: House) -> list[psutil.Process]:
    return [child for child in house.process.children() if "ivr.speech.worker" in child.cmdline()]


async def state(house: House) -> str:
    """How English fares; /readyz stays green whatever it is, but for no speech at all."""
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.get(stage.url(house.settings) + "/readyz")
    return str(answer.json()["languages"]["en"])


async def until_state(house: House, wanted: str, seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while await state(house) != wanted:
            await asyncio.sleep(0.1)


async def ticks_over_100_ms(house: House) -> float:
    async with httpx2.AsyncClient(trust_env=False) as client:
        text = (await client.get(stage.url(house.settings) + "/metrics")).text
    counted = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(LATE))
    return float(counted[f'{LATE}{{le="+Inf"}}']) - float(counted[f'{LATE}{{le="0.1"}}'])


@asynccontextmanager
async def hotline(pbx: Settings, others: House, **speech: object) -> AsyncIterator[House]:
    await others.stop()
    changed = pbx.speech.model_copy(update={"languages": ("en",), "voice": "pyttsx3", **speech})
    house = House(house_settings(pbx, "hears", speech=changed))
    await house.start()
    try:
        yield house
    finally:
        await house.stop()


@pytest.mark.models
async def test_a_speech_worker_that_hangs_is_replaced_and_the_caller_gets_on(
    live_pbx: Settings, module_house: House
) -> None:
    billing = await voices.speak("billing", "en")
    async with hotline(live_pbx, module_house, engine="whisper") as house, house.caller() as phone:
        caller = await house.call(phone)
        identity = (await house.live()).id
        question = said(await house.timeline(identity))[-1]
        await caller.sound(0, 5)
        [worker] = workers(house)
        worker.suspend()
        await caller.call.play(billing)
        entries = await house.until_entry(identity, "resumed")
        while len(said(entries)) < 2:
            entries = await house.timeline(identity)
        assert said(entries)[-1] == question, "asked again"
        await caller.call.play(billing)
        # A second one lost is one that was not understood, and by now it is known who is to blame.
        await house.until_entry(identity, "heard")
        await until(lambda: not worker.is_running(), 30, "the end of the worker that hangs")
        await until(lambda: bool(workers(house)), 30, "another worker")
        await until_state(house, "ready")
        await caller.silence()
        await caller.call.play(billing)
        entries = await house.until_entry(identity, "heard", 2)
        texts = [entry.body["text"] for entry in entries if entry.kind == "heard"]
        assert texts[-1] in ("bill", "billing")
        assert await ticks_over_100_ms(house) < BLOCKED, "nobody's audio waited for it"
        await caller.call.hang_up()
        await house.nothing_left()


class StockServer:
    """A vosk-server as published, who understands everyone to say billing; it can be spoilt."""

    def __init__(self) -> None:
        self.fault = ""

    async def serve(self, connection: ServerConnection) -> None:
        async for message in connection:
            if self.fault == "resets":
                connection.transport.abort()
            elif self.fault == "mute" or (isinstance(message, str) and "config" in message):
                continue
            elif isinstance(message, bytes):
                await connection.send('{"partial": ""}')
            else:
                await connection.send('{"text": "billing"}')
                return


@pytest.mark.parametrize("fault", ["mute", "resets"])
async def test_a_farm_that_fails_leaves_callers_their_keys_until_it_is_back(
    fault: str, live_pbx: Settings, module_house: House
) -> None:
    billing = await voices.speak("billing", "en")
    farm = StockServer()
    async with serve(farm.serve, "127.0.0.1", 0, compression=None) as running:
        url = f"ws://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}"
        async with hotline(live_pbx, module_house, url=url) as house, house.caller() as phone:
            assert await state(house) == "ready"
            caller = await house.call(phone)
            identity = (await house.live()).id
            await caller.sound(0, 5)
            farm.fault = fault
            await caller.call.play(billing)
            await house.until_entry(identity, "resumed")
            await caller.sound(time.monotonic(), 5)
            await caller.call.play(billing)
            [missed] = [
                entry
                for entry in await house.until_entry(identity, "heard")
                if entry.kind == "heard"
            ]
            assert not missed.body["text"], "the second loss counts as one not understood"
            await until_state(house, "dead")
            await caller.call.press("1")
            await house.until_entry(identity, "pressed")
            farm.fault = ""
            await until_state(house, "ready")
            assert await ticks_over_100_ms(house) < BLOCKED, "nobody's audio waited for it"
            await caller.call.hang_up()
            await house.nothing_left()
