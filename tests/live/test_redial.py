"""A caller who rings again goes on where the call dropped, and what was secret is nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from cti import stage
from ivr.config import Settings
from tests.live.house import House, house_settings
from tests.live.test_faults import said

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

PIN = "82651947"
ACCOUNT = "4711"
FLOW = """\
flow: redial
start: main
record_calls: true
slots:
  account: {type: digits, length: 4}
  pin: {type: digits, length: 8, secret: true}
  amount: {type: number}
nodes:
  main: {menu: {ask: Bill or repair?, choices: {bill: {press: 1, then: account}}}}
  account: {collect: {slot: account, ask: Account?}, then: pin}
  pin: {collect: {slot: pin, ask: PIN?}, then: amount}
  amount: {collect: {slot: amount, ask: How much?}, then: bye}
  bye: {end: Goodbye.}
"""
OFFER = "Welcome back."


class Line:
    """A caller who presses an answer to each question as soon as it is asked."""

    def __init__(self, house: House, call: Any, identity: str):
        self._house, self.call, self.identity = house, call, identity

    async def hears(self, text: str) -> None:
        while not said(await self._house.until_entry(self.identity, "said"))[-1].startswith(text):
            await self._house.until_entry(self.identity, "said")

    async def answers(self, question: str, keys: str) -> None:
        await self.hears(question)
        await self.call.press(keys)

    async def drops(self) -> None:
        await self.call.hang_up()
        await self._house.until_ended(self.identity)


async def test_a_dropped_call_is_gone_on_with_and_its_secret_is_nowhere(
    live_pbx: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "redial.yaml").write_text(FLOW)
    recordings = tmp_path / "recordings"
    kept = live_pbx.recording.model_copy(update={"enabled": True, "folder": str(recordings)})
    settings = house_settings(
        live_pbx,
        "redial",
        flows_dir=tmp_path,
        flow="redial",
        redial_seconds=600.0,
        recording=kept,
        log_level="debug",
    )
    house = House(settings)
    await house.start()
    try:
        async with house.caller() as phone:

            async def call() -> Line:
                on_the_line = await house.call(phone)
                return Line(house, on_the_line.call, (await house.live()).id)

            first = await call()
            await first.answers("Bill", "1")
            await first.answers("Account?", ACCOUNT)
            await first.hears("PIN?")
            await first.drops()

            second = await call()
            await second.answers(OFFER, "1")
            await second.hears("PIN?")
            assert "How much?" not in said(await house.timeline(second.identity))
            assert (await house.state(second.identity)).slots == {"account": ACCOUNT}
            await second.answers("PIN?", PIN)
            await second.hears("How much?")
            await second.drops()

            third = await call()
            await third.answers(OFFER, "1")
            await third.answers("PIN?", PIN)  # it was secret, and is asked for again
            await third.hears("How much?")
            await third.drops()

            fourth = await call()
            await fourth.answers(OFFER, "2")
            await fourth.hears("Bill")
            assert (await house.state(fourth.identity)).slots == {}
            await fourth.drops()
            fifth = await call()
            await fifth.hears("Bill")
            await fifth.drops()
            timelines = repr([await house.timeline(each.identity) for each in (first, second)])
        async with httpx2.AsyncClient(trust_env=False) as client:
            metrics = (await client.get(stage.url(settings) + "/metrics")).text
    finally:
        await house.stop()
    output = "".join(capfd.readouterr())
    assert ACCOUNT in timelines and "hotline_" in metrics and output
    traces = {"timeline": timelines, "metrics": metrics, "log": output}
    files = [*settings.state_dir.rglob("*"), *recordings.rglob("*")]
    for path in files:
        if path.is_file() and not path.is_symlink():
            traces[str(path)] = path.read_bytes().decode("latin-1")
    assert any(path.suffix == ".db" for path in files)
    assert any(path.suffix == ".wav" for path in files), "the calls were recorded"
    for where, text in traces.items():
        assert PIN not in text, where
        assert " ".join(PIN) not in text, where
        assert "DTMF" not in text or "logs" not in where, where
