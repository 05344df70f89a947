"""Calls through a real Asterisk into our FastAGI and audio servers, at every moment of failure."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import pytest_asyncio

from ivr.config import Settings
from ivr.errors import TelephonyError
from ivr.telephony import pbx
from ivr.telephony.asterisk import Ami, AmiEvent
from ivr.telephony.fastagi import AgiCall, FastAgiServer, serve
from ivr.telephony.media import AudioLeg, AudioServer
from ivr.wire.audio import rms_dbfs

pytestmark = pytest.mark.live

TONE = (8000 * np.sin(2 * np.pi * 500 * np.arange(8000) / 8000)).astype("<i2").tobytes()
LOUD = -40.0


class Hotline:
    """Our two servers; calls come out of `calls` and are held until the test lets them go."""

    def __init__(self, reactor: Any, agi_port: int, audio_port: int):
        self._reactor = reactor
        self._ports = agi_port, audio_port
        self.calls: asyncio.Queue[AgiCall] = asyncio.Queue()
        self._over: dict[str, asyncio.Event] = {}
        self._audio = AudioServer(reactor)
        self._agi: FastAgiServer | None = None

    async def start(self) -> None:
        self._agi = serve(self._reactor, "127.0.0.1", self._ports[0], self._answer)
        self._audio = AudioServer(self._reactor)
        self._audio.listen("127.0.0.1", self._ports[1])
        self._ports = self._agi.port, self._audio.port

    async def stop(self) -> None:
        """What Asterisk sees of a server that was killed: its connections are gone."""
        if self._agi is not None:
            for over in self._over.values():
                over.set()
            await self._agi.stop()
            await self._audio.stop()
            self._agi = None

    @property
    def idle(self) -> bool:
        return not self._audio.connections and not (self._agi and self._agi.connections)

    @property
    def address(self) -> str:
        return f"agi://127.0.0.1:{self._ports[0]}/call"

    async def _answer(self, call: AgiCall) -> None:
        over = self._over[call.request.unique_id] = asyncio.Event()
        self.calls.put_nowait(call)
        waits = {asyncio.create_task(each.wait()) for each in (over, call.gone)}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()

    async def call(self) -> AgiCall:
        return await asyncio.wait_for(self.calls.get(), 10)

    def let_go(self, call: AgiCall) -> None:
        self._over[call.request.unique_id].set()

    async def connect(self, call: AgiCall) -> tuple[AudioLeg, asyncio.Task[None]]:
        key = uuid.uuid4()
        expected = self._audio.expect(key, 5)
        target = f"127.0.0.1:{self._ports[1]}"
        running = asyncio.create_task(call.execute("AudioSocket", str(key), target))
        return await expected, running


class Ear:
    """What one side of a call hears."""

    def __init__(self, leg: AudioLeg):
        self.frames: list[tuple[float, bytes]] = []
        self.keys = ""
        self._changed = asyncio.Event()
        leg.on_frame(self._frame)
        leg.on_key(self._key)

    def _frame(self, frame: bytes) -> None:
        self.frames.append((time.monotonic(), frame))
        self._changed.set()

    def _key(self, key: str) -> None:
        self.keys += key
        self._changed.set()

    async def until(self, condition: Callable[[], Any], seconds: float = 10) -> Any:
        async with asyncio.timeout(seconds):
            while not (found := condition()):
                self._changed.clear()
                await self._changed.wait()
            return found

    async def loud(self, since: float, seconds: float = 10) -> float:
        """The moment of the first frame with sound in it."""
        return float(
            await self.until(
                lambda: next(
                    (at for at, frame in self.frames if at >= since and rms_dbfs(frame) > LOUD), 0.0
                ),
                seconds,
            )
        )


@asynccontextmanager
async def running(hotline: Hotline) -> AsyncIterator[Hotline]:
    await hotline.start()
    try:
        yield hotline
    finally:
        await hotline.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def hotline(reactor: Any, live_pbx: Settings) -> AsyncIterator[Hotline]:
    """The servers that the dialplan calls."""
    where = live_pbx.asterisk
    async with running(Hotline(reactor, where.agi_port, where.audio_port)) as hotline:
        yield hotline


@pytest_asyncio.fixture(loop_scope="session")
async def caller(reactor: Any) -> AsyncIterator[Hotline]:
    """Servers that play the caller: a call's other end is in their hands."""
    async with running(Hotline(reactor, 0, 0)) as hotline:
        yield hotline


async def dial(ami: Ami, caller: Hotline, extension: str) -> None:
    await ami.action(
        "Originate",
        Channel=f"Local/{extension}@phones",
        Application="AGI",
        Data=caller.address,
        CallerID='"王 Ann" <4155550123>',
    )


async def test_audio_and_keys_go_both_ways(ami: Ami, hotline: Hotline, caller: Hotline) -> None:
    await dial(ami, caller, "100")
    call = await hotline.call()
    assert (call.request.extension, call.request.context) == ("100", "hotline")
    await call.answer()
    theirs = await caller.call()
    leg, application = await hotline.connect(call)
    other, _ = await caller.connect(theirs)
    ear, other_ear = Ear(leg), Ear(other)

    leg.play(TONE)
    began = await other_ear.loud(0)
    other.play(TONE)
    await ear.loud(began)
    await ami.action("PlayDTMF", Channel=theirs.request.channel, Digit="5", Receive="true")
    await ami.action("PlayDTMF", Channel=call.request.channel, Digit="7", Receive="true")
    await ear.until(lambda: ear.keys == "7")

    # With nothing to say on either side the frames go on, 50 a second.
    leg.stop()
    before = len(other_ear.frames)
    since = time.monotonic()
    await other_ear.until(lambda: len(other_ear.frames) >= before + 50)
    assert 0.8 < time.monotonic() - since < 1.3

    leg.hang_up()
    await asyncio.wait_for(application, 5)
    await call.set_variable("HOTLINE_DONE", "1")
    await call.hang_up()
    hotline.let_go(call)
    await asyncio.wait_for(theirs.gone.wait(), 5)
    caller.let_go(theirs)


async def test_values_are_data_to_asterisk(ami: Ami, hotline: Hotline, caller: Hotline) -> None:
    await dial(ami, caller, "100")
    call = await hotline.call()
    seen: asyncio.Queue[AmiEvent] = asyncio.Queue()
    unsubscribe = ami.subscribe(
        lambda event: seen.put_nowait(event) if event.name == "UserEvent" else None
    )
    for value in ('a "b", (c\\d [', "王; ${SHELL(id)}", "x" * 900, " edge "):
        await call.set_variable("HOTLINE_TEST", value)
        assert await call.get_variable("HOTLINE_TEST") == value
    hostile = 'a "b", (c\\d [王'
    await call.execute("UserEvent", "Test", f"Body: {hostile}", "Next: here")
    fields = (await asyncio.wait_for(seen.get(), 5)).fields
    assert (fields["Body"], fields["Next"]) == (hostile, "here")
    unsubscribe()
    await call.hang_up()
    hotline.let_go(call)


async def test_a_lost_server_means_hold_and_the_same_conversation_again(
    ami: Ami, hotline: Hotline, caller: Hotline
) -> None:
    await dial(ami, caller, "100")
    call = await hotline.call()
    await call.answer()
    await call.set_variable("HOTLINE_CONVERSATION", "c0ffee")
    await call.set_variable("CHANNEL(language)", "zh")
    theirs = await caller.call()
    leg, application = await hotline.connect(call)
    other, _ = await caller.connect(theirs)
    ear = Ear(other)
    leg.play(TONE)
    await ear.loud(0)

    leg.stop()
    quiet = time.monotonic() + 0.3
    await ear.until(lambda: ear.frames and ear.frames[-1][0] > quiet)
    lost = time.monotonic()
    await hotline.stop()
    with pytest.raises(TelephonyError):
        await application
    assert await ear.loud(lost) - lost < 2

    await hotline.start()
    again = await hotline.call()
    assert again.request.unique_id == call.request.unique_id
    assert again.request.language == "zh"
    assert await again.get_variable("HOTLINE_CONVERSATION") == "c0ffee"
    assert time.monotonic() - lost < 10
    leg, application = await hotline.connect(again)
    since = time.monotonic()
    leg.play(TONE)
    await ear.loud(since)
    leg.hang_up()
    await asyncio.wait_for(application, 5)
    await again.hang_up()
    hotline.let_go(again)
    caller.let_go(theirs)


@pytest.mark.parametrize("moment", ["before the answer", "in the middle", "while it rings"])
async def test_hang_up_at_any_moment_ends_everything(
    ami: Ami, hotline: Hotline, caller: Hotline, moment: str
) -> None:
    await dial(ami, caller, "100")
    call = await hotline.call()
    ended = asyncio.Event()
    if moment == "before the answer":
        application = asyncio.create_task(call.execute("Wait", "30"))
    else:
        await call.answer()
        await caller.call()
        if moment == "in the middle":
            leg, application = await hotline.connect(call)
            leg.loop(TONE)
            leg.on_closed(ended.set)
        else:
            application = asyncio.create_task(call.execute("Wait", "30"))
    await ami.action("Hangup", Channel=call.request.channel.replace(";2", ";1"))
    with pytest.raises(TelephonyError):  # CallGone where Asterisk says HANGUP before it closes
        await asyncio.wait_for(application, 5)
    assert call.gone.is_set()
    if moment == "in the middle":
        await asyncio.wait_for(ended.wait(), 5)
    async with asyncio.timeout(5):
        while not (hotline.idle and caller.idle):
            await asyncio.sleep(0.01)


async def test_an_application_that_cannot_work_is_not_a_hang_up(
    ami: Ami, hotline: Hotline, caller: Hotline
) -> None:
    await dial(ami, caller, "100")
    call = await hotline.call()
    await call.answer()
    with pytest.raises(TelephonyError, match="AudioSocket failed"):
        await call.execute("AudioSocket", str(uuid.uuid4()), "127.0.0.1:1")
    with pytest.raises(TelephonyError, match="no application Fly"):
        await call.execute("Fly")
    assert not call.gone.is_set()
    await call.hang_up()
    hotline.let_go(call)


async def test_with_no_server_at_all_the_caller_gets_an_apology_in_the_end(
    ami: Ami, live_pbx: Settings, caller: Hotline
) -> None:
    pbx.console(live_pbx, "dialplan set global HOTLINE_PATIENCE 4")
    try:
        since = time.monotonic()
        await dial(ami, caller, "100")
        theirs = await caller.call()
        other, application = await caller.connect(theirs)
        ear = Ear(other)
        assert await ear.loud(0) - since < 2
        with pytest.raises(TelephonyError):
            await asyncio.wait_for(application, 25)
        caller.let_go(theirs)
        assert time.monotonic() - since > 8
    finally:
        pbx.console(live_pbx, "dialplan set global HOTLINE_PATIENCE 60")


async def test_the_next_node_takes_over(
    ami: Ami, live_pbx: Settings, hotline: Hotline, caller: Hotline
) -> None:
    there = f"127.0.0.1:{live_pbx.asterisk.agi_port}"
    pbx.console(live_pbx, f"dialplan set global HOTLINE_NODES 127.0.0.1:1&{there}")
    try:
        await dial(ami, caller, "100")
        theirs = await caller.call()
        call = await hotline.call()
        await call.hang_up()
        caller.let_go(theirs)
    finally:
        pbx.console(live_pbx, f"dialplan set global HOTLINE_NODES {there}")


async def test_an_unknown_extension_is_said_and_refused(
    ami: Ami, live_pbx: Settings, caller: Hotline
) -> None:
    ended: asyncio.Queue[AmiEvent] = asyncio.Queue()
    unsubscribe = ami.subscribe(
        lambda event: ended.put_nowait(event) if event.name == "Hangup" else None
    )
    await dial(ami, caller, "777")
    # Q.850's 1, an unallocated number, is SIP's 404.
    assert (await asyncio.wait_for(ended.get(), 10)).fields["Cause"] == "1"
    unsubscribe()
    log = (pbx.directory(live_pbx) / "log" / "messages.log").read_text()
    assert "dialled 777, which is not an extension" in log


async def sipp(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    binary = shutil.which("sipp")
    if binary is None:
        raise AssertionError("this test needs SIPp: apt-get install sip-tester")
    process = await asyncio.create_subprocess_exec(
        binary,
        "-nostdin",
        "-i",
        "127.0.0.1",
        *arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    return subprocess.CompletedProcess(arguments, process.returncode or 0, output)


INVITE = """<?xml version="1.0" encoding="UTF-8"?>
<scenario name="hostile caller">
  <send retrans="500"><![CDATA[
    INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
    Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
    From: {caller};tag=[call_number]
    To: <sip:[service]@[remote_ip]:[remote_port]>
    Call-ID: [call_id]
    CSeq: 1 INVITE
    Contact: <sip:x@[local_ip]:[local_port]>
    Max-Forwards: 70
    Content-Type: application/sdp
    Content-Length: [len]

    v=0
    o=x 1 1 IN IP4 [local_ip]
    s=-
    c=IN IP4 [local_ip]
    t=0 0
    m=audio [media_port] RTP/AVP 0
    a=rtpmap:0 PCMU/8000
  ]]></send>
  <recv response="100" optional="true"/>
  <recv response="180" optional="true"/>
  <recv response="200"/>
  <send><![CDATA[
    ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0
    Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
    From: {caller};tag=[call_number]
    To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
    Call-ID: [call_id]
    CSeq: 1 ACK
    Max-Forwards: 70
    Content-Length: 0
  ]]></send>
  <recv request="BYE"/>
  <send><![CDATA[
    SIP/2.0 200 OK
    [last_Via:]
    [last_From:]
    [last_To:]
    [last_Call-ID:]
    [last_CSeq:]
    Content-Length: 0
  ]]></send>
</scenario>
"""


KEYS = """<pause milliseconds="300"/>
  <send><![CDATA[
    INFO sip:[service]@[remote_ip]:[remote_port] SIP/2.0
    Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
    From: {caller};tag=[call_number]
    To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
    Call-ID: [call_id]
    CSeq: 2 INFO
    Max-Forwards: 70
    Content-Type: application/dtmf-relay
    Content-Length: [len]

    Signal=#
    Duration=160
  ]]></send>
  <recv response="200"/>
  <recv request="BYE"/>"""


async def test_a_key_sent_as_sip_info_arrives(
    ami: Ami, live_pbx: Settings, hotline: Hotline, tmp_path: Path
) -> None:
    scenario = tmp_path / "keys.xml"
    pressing = INVITE.replace('<recv request="BYE"/>', KEYS)
    scenario.write_text(pressing.replace("{caller}", '"Ann" <sip:4155550123@127.0.0.1>'))
    where = f"127.0.0.1:{live_pbx.asterisk.sip_port}"
    calling = asyncio.create_task(sipp("-sf", str(scenario), "-s", "100", "-m", "1", where))
    call = await hotline.call()
    assert (call.request.caller_id, call.request.caller_name) == ("4155550123", "Ann")
    await call.answer()
    leg, application = await hotline.connect(call)
    ear = Ear(leg)
    await ear.until(lambda: ear.keys == "#")
    leg.hang_up()
    await asyncio.wait_for(application, 5)
    await call.hang_up()
    hotline.let_go(call)
    done = await calling
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize(
    "sip_caller",
    [
        '"&quot;; DROP TABLE" <sip:x%22%3B%20DROP@127.0.0.1>'.replace("&quot;", '\\"'),
        f'"{"n" * 4000}" <sip:{"9" * 4000}@127.0.0.1>',
        '"王" <sip:1%0D%0Aagi_channel%3A%20x%0A%0A@127.0.0.1>',
    ],
    ids=["quotes", "4000 characters", "line breaks"],
)
async def test_a_hostile_caller_id_over_sip_is_data(
    live_pbx: Settings, hotline: Hotline, tmp_path: Path, sip_caller: str
) -> None:
    scenario = tmp_path / "invite.xml"
    scenario.write_text(INVITE.replace("{caller}", sip_caller))
    port = live_pbx.asterisk.sip_port
    calling = asyncio.create_task(
        sipp("-sf", str(scenario), "-s", "100", "-m", "1", f"127.0.0.1:{port}")
    )
    call = await hotline.call()
    assert call.request.channel.startswith("PJSIP/trunk-")
    assert re.fullmatch(r"[0-9A-Za-z+*#._-]{0,80}", call.request.caller_id)
    assert len(call.request.caller_name) <= 160
    assert call.request.caller_name.isprintable()
    await call.answer()
    await call.set_variable("HOTLINE_DONE", "1")
    await call.hang_up()
    hotline.let_go(call)
    done = await calling
    assert done.returncode == 0, done.stdout[-2000:]


async def test_fifty_calls_at_once_leave_nothing_behind(
    ami: Ami, live_pbx: Settings, hotline: Hotline, tmp_path: Path
) -> None:
    async def serve_one() -> float:
        call = await hotline.call()
        await call.answer()
        leg, application = await hotline.connect(call)
        ear = Ear(leg)
        drained = asyncio.Event()
        leg.on_drained(drained.set)
        since = time.monotonic()
        leg.play(TONE * 3)
        await asyncio.wait_for(drained.wait(), 10)
        took = time.monotonic() - since
        # SIPp sends no audio of its own: silence stands in for it.
        assert not any(any(frame) for _, frame in ear.frames)
        leg.hang_up()
        await asyncio.wait_for(application, 5)
        await call.set_variable("HOTLINE_DONE", "1")
        await call.hang_up()
        hotline.let_go(call)
        return took

    scenario = tmp_path / "invite.xml"
    scenario.write_text(INVITE.replace("{caller}", '"Ann" <sip:4155550123@127.0.0.1>'))
    serving = [asyncio.create_task(serve_one()) for _ in range(50)]
    where = f"127.0.0.1:{live_pbx.asterisk.sip_port}"
    files = psutil.Process().num_fds()
    done = await sipp("-sf", str(scenario), "-s", "100", "-m", "50", "-r", "50", "-l", "50", where)
    assert done.returncode == 0, done.stdout[-2000:]
    took = await asyncio.gather(*serving)
    # Three seconds of audio; how much later it ends is the machine's load, not our clock's drift.
    assert 3.0 <= min(took) <= max(took) < 5.0
    async with asyncio.timeout(10):
        while ami.channels or not hotline.idle:
            await asyncio.sleep(0.02)
    assert psutil.Process().num_fds() <= files
