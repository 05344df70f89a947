"""Softphones and robots against a real Asterisk: audio, keys, endings and refusals."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
import pytest
import pytest_asyncio

from ivr.config import Settings
from ivr.errors import TelephonyError
from ivr.telephony import pbx
from ivr.telephony.asterisk import Ami, AmiEvent
from ivr.telephony.robot import RobotAgentPhone, RobotCaller, RobotResult
from ivr.telephony.script import load_script
from ivr.telephony.softphone import PhoneCall, Softphone
from tests.live import voices
from tests.live.sipp import run_sipp

pytestmark = pytest.mark.live

Phones = Callable[[str], Awaitable[Softphone]]

ECHO, KEYS, SHORT, BUSY = "8600", "8601", "8602", "8603"
_DIAGNOSTICS = (
    f"{ECHO},1,Answer()",
    f"{ECHO},2,Echo()",
    f"{KEYS},1,Answer()",
    f"{KEYS},2,Read(KEYS,,30,,1,5)",
    f"{KEYS},3,UserEvent(KeysRead,Keys:${{KEYS}})",
    f"{SHORT},1,Answer()",
    f"{SHORT},2,Wait(0.5)",
    f"{SHORT},3,Hangup()",
    f"{BUSY},1,Hangup(17)",
)


@pytest.fixture(scope="module")
def diagnostics(live_pbx: Settings) -> Settings:
    """The PBX with some extensions that a hotline has no use for."""
    pbx.console(live_pbx, "module load app_read.so")
    for line in _DIAGNOSTICS:
        pbx.console(live_pbx, f"dialplan add extension {line} into phones replace")
    return live_pbx


@pytest_asyncio.fixture
async def phone(diagnostics: Settings) -> AsyncIterator[Phones]:
    """Makes registered robots' phones by extension."""
    where = diagnostics.asterisk
    async with contextlib.AsyncExitStack() as stack:

        async def make(user: str) -> Softphone:
            password = pbx.credentials(diagnostics).phone(user)
            softphone = Softphone(user, password, server=where.sip_host, port=where.sip_port)
            return await stack.enter_async_context(softphone)

        yield make


async def connected(a: Softphone, b: Softphone) -> tuple[PhoneCall, PhoneCall]:
    """A call from one to the other, answered."""
    calling = asyncio.create_task(a.call(b.user, 10))
    there = await b.incoming(10)
    await there.answer()
    return await calling, there


async def test_echo_gives_back_what_was_said_at_the_quality_of_the_line(phone: Phones) -> None:
    a = await phone("9001")
    call = await a.call(ECHO)
    frames: list[bytes] = []
    call.on_frame(frames.append)
    time = np.arange(8000) / 8000
    sweep = 8000 * np.sin(2 * np.pi * (300 + 1200 * time) * time)
    await call.play(sweep.astype("<i2").tobytes())
    async with asyncio.timeout(5):
        count = len(frames)
        while len(frames) < count + 25:
            await asyncio.sleep(0.02)
    await call.hang_up()
    heard = np.frombuffer(b"".join(frames), "<i2").astype(float)
    lag = int(np.correlate(heard, sweep, "valid").argmax())
    noise = heard[lag : lag + len(sweep)] - sweep
    assert 10 * np.log10((sweep**2).sum() / (noise**2).sum()) > 30  # µ-law itself has 38
    assert lag < 8000 * 0.3


async def test_thirty_keys_arrive_each_once_and_in_order(phone: Phones, ami: Ami) -> None:
    a = await phone("9001")
    keys = "1122333*0099" + "".join(random.Random(1).choices("0123456789", k=18))
    read: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def event(event: AmiEvent) -> None:
        if event.fields.get("UserEvent") == "KeysRead" and not read.done():
            read.set_result(event.fields["Keys"])

    unsubscribe = ami.subscribe(event)
    call = await a.call(KEYS)
    await call.press(keys)
    async with asyncio.timeout(10):
        assert await read == keys
        await call.ended()
    unsubscribe()


async def test_a_hang_up_from_either_side_is_noticed_within_a_second(phone: Phones) -> None:
    a, b = await phone("9001"), await phone("9002")
    for first in (0, 1):
        calls = await connected(a, b)
        await calls[first].hang_up()
        async with asyncio.timeout(1):
            await calls[1 - first].ended()
        assert calls[1 - first].ended_by == "them"
    call = await a.call(SHORT)
    async with asyncio.timeout(1.5):  # half a second of it is the call itself
        await call.ended()


async def test_a_caller_who_gives_up_ends_the_ringing_there(phone: Phones) -> None:
    a, b = await phone("9001"), await phone("9002")
    calling = asyncio.create_task(a.call("9002"))
    there = await b.incoming(10)
    calling.cancel()
    async with asyncio.timeout(1):
        await there.ended()
    assert there.state == "ended"


async def test_refusals_are_told_apart(phone: Phones) -> None:
    a, b = await phone("9001"), await phone("9002")
    with pytest.raises(TelephonyError, match=r"^8999 does not exist$"):
        await a.call("8999")
    with pytest.raises(TelephonyError, match=f"^{BUSY} is busy$"):
        await a.call(BUSY)
    calling = asyncio.create_task(a.call("9002"))
    await (await b.incoming(10)).hang_up()
    with pytest.raises(TelephonyError, match=r"^9002 is busy$"):
        await calling


async def test_a_wrong_password_is_one_clear_line(diagnostics: Settings) -> None:
    where = diagnostics.asterisk
    with pytest.raises(TelephonyError, match=r"does not register 9001: wrong user or password$"):
        await Softphone("9001", "guess", port=where.sip_port).open()


async def test_an_answer_is_acknowledged_so_that_it_comes_once(
    phone: Phones, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await phone("9001")
    answers: list[bytes] = []
    take = a.received

    def received(datagram: bytes) -> None:
        if datagram.startswith(b"SIP/2.0 200") and b"INVITE" in datagram:
            answers.append(datagram)
        take(datagram)

    monkeypatch.setattr(a, "received", received)
    call = await a.call(ECHO)
    frames: list[bytes] = []
    call.on_frame(frames.append)
    async with asyncio.timeout(5):
        while len(frames) < 60:  # 1.2 s: an answer without its ACK comes again after half a second
            await asyncio.sleep(0.02)
    assert len(answers) == 1
    await call.hang_up()


async def test_nothing_is_left_after_closing(diagnostics: Settings) -> None:
    threads, tasks = threading.active_count(), asyncio.all_tasks()
    where = diagnostics.asterisk
    password = pbx.credentials(diagnostics).phone("9003")
    async with Softphone("9003", password, port=where.sip_port) as softphone:
        call = await softphone.call(ECHO)
    assert call.state == "ended"
    assert threading.active_count() == threads
    assert asyncio.all_tasks() == tasks
    assert "PJSIP/9003-" not in pbx.console(diagnostics, "core show channels concise")
    assert "9003/sip" not in pbx.console(diagnostics, "pjsip show contacts")


@pytest.mark.models
async def test_two_robots_understand_each_other(phone: Phones) -> None:
    a, b = await phone("9001"), await phone("9002")
    agent = RobotAgentPhone(
        b,
        voices.hear,
        voices.speak,
        load_script(
            "- says: Hello, this is Ann. How can I help you?\n"
            "- hears: my water has been off since this morning\n"
            "- says: I am sorry. I will send somebody.\n"
            "- hears: thank you\n"
            "- expect: {ended: true}\n",
            "agent.yaml",
        ),
        patience=20,
    )
    caller = RobotCaller(
        a,
        "9002",
        voices.hear,
        voices.speak,
        load_script(
            "- hears: how can I help you\n"
            "- says: My water has been off since this morning.\n"
            "- hears: I will send somebody\n"
            "- says: Thank you very much.\n"
            "- hangs_up: true\n",
            "caller.yaml",
        ),
    )
    results: list[RobotResult] = await asyncio.gather(agent.run(), caller.run())
    assert [result.reason for result in results] == ["", ""]
    assert all(result.ok for result in results)


@pytest.mark.models
async def test_a_robot_that_is_told_something_else_says_what(phone: Phones) -> None:
    a = await phone("9001")
    script = "- says: I would like to pay my bill.\n- hears: your call is important\n  within: 4\n"
    robot = RobotCaller(a, ECHO, voices.hear, voices.speak, load_script(script, "a.yaml"))
    result = await robot.run()
    assert (result.failed, result.line) == (2, 2)
    assert "pay my bill" in result.heard


async def test_fifty_callers_at_once_press_their_keys_and_each_is_read_right(
    diagnostics: Settings, ami: Ami
) -> None:
    pbx.console(diagnostics, f"dialplan add extension {KEYS},1,Goto(phones,{KEYS},1) into hotline")
    read: list[str] = []
    unsubscribe = ami.subscribe(
        lambda event: (
            read.append(event.fields["Keys"])
            if event.fields.get("UserEvent") == "KeysRead"
            else None
        )
    )
    keys = "1122334455667788990012345678*0"
    result = await run_sipp(KEYS, f"w{keys}", port=diagnostics.asterisk.sip_port, ends="callee")
    unsubscribe()
    assert (result.calls, result.failed) == (50, 0), result.log[-2000:]
    assert read == [keys] * 50


async def test_callers_who_are_refused_are_failed_calls(diagnostics: Settings) -> None:
    port = diagnostics.asterisk.sip_port
    pbx.console(diagnostics, f"dialplan add extension {BUSY},1,Hangup(17) into hotline")
    result = await run_sipp(BUSY, "1", port=port, calls=2)
    assert (result.calls, result.failed) == (2, 2)
    assert "486" in result.log


async def test_callers_who_hang_up_themselves_leave_no_channel(diagnostics: Settings) -> None:
    port = diagnostics.asterisk.sip_port
    pbx.console(diagnostics, f"dialplan add extension {ECHO},1,Goto(phones,{ECHO},1) into hotline")
    result = await run_sipp(ECHO, "ww1", port=port, calls=10, tail=0.5)
    assert (result.calls, result.failed) == (10, 0), result.log[-2000:]
    assert "PJSIP" not in pbx.console(diagnostics, "core show channels concise")
