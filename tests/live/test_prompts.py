"""A voice that hangs or dies in mid-call costs the caller a sentence at most, never the call."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from ivr.config import Settings
from tests.live.house import Caller, House, house_settings, until

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

FLOW = """
flow: main
languages: [en]
start: ask
slots: {number: {type: digits, length: 4}}
nodes:
  ask:
    collect: {slot: number, ask: Please key in four digits., confirm: never, otherwise: bye}
    then: told
  told: {say: "Your number is {number:digits}.", then: more}
  more:
    menu:
      ask: For another one, press 1.
      choices: {again: {press: 1, say: again, then: forget}}
      otherwise: bye
  forget: {set: {number: "null"}, then: ask}
  bye: {end: Goodbye.}
"""


@pytest_asyncio.fixture(loop_scope="session", params=["piper", "pyttsx3"])
async def spoken_for(
    live_pbx: Settings, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[House, str]]:
    """A hotline, and the voice that it speaks with."""
    (tmp_path / "main.yaml").write_text(FLOW)
    settings = house_settings(live_pbx, f"voice-{request.param}", flows_dir=tmp_path)
    speech = settings.speech.model_copy(update={"voice": request.param})
    house = House(settings.model_copy(update={"speech": speech}))
    await house.start()
    yield house, request.param
    await house.stop()


async def voice_process(house: House, voice: str) -> psutil.Process:
    def found() -> psutil.Process | None:
        for child in house.process.children():
            if child.cmdline()[-2:] == ["ivr.speech.tts", voice]:
                return child
        return None

    process = await until(found, 15, f"a process of {voice}")
    assert process is not None
    return process


async def told(caller: Caller, digits: str) -> float:
    """Seconds from the last digit to the sentence that says them back; returns after the menu."""
    await caller.silence()
    await caller.call.press(digits)
    pressed = time.monotonic()
    heard = await caller.sound(pressed + 0.05, 10)
    await caller.silence()
    await caller.call.press("1")
    await caller.sound(time.monotonic(), 5)
    return heard - pressed


async def test_a_voice_in_trouble_costs_no_caller_the_call(
    spoken_for: tuple[House, str],
) -> None:
    house, voice = spoken_for
    async with house.caller() as phone:
        caller = await house.call(phone)
        await caller.sound(0, 5)
        calm = await told(caller, "4821")

        hung = await voice_process(house, voice)
        hung.send_signal(signal.SIGSTOP)
        waited = await told(caller, "9377")
        await until(lambda: not hung.is_running(), 10, "the end of the voice that hung")
        after = await told(caller, "1122")

        (await voice_process(house, voice)).kill()
        died = await told(caller, "6604")
        print(
            f"{voice}: {calm:.2f} s from the last key; {waited:.2f} s when it hangs, "
            f"{after:.2f} s after that, {died:.2f} s when it was killed"
        )
        # The deadline of a short sentence, and the time to start a process.
        assert waited < 5
        assert max(calm, after) < 2.5
        assert died < 5
        assert (await house.metrics())["hotline_voice_faults_total"] >= 1
        await caller.call.hang_up()
    await house.nothing_left()
