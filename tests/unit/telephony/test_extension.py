"""Agents and transfers on the softphone's leg: a second call that is bridged, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from ivr.errors import CallGone, SettingsError, TelephonyError
from ivr.flow.events import TransferEnded
from ivr.ports import Answered, CallEvent, Ringing
from ivr.telephony.phoneleg import ringback
from tests.contract.legs import PhoneCaller, RtpEnd, calling_softphone
from tests.fakes.dialogue import MUSIC, sound, text_of
from tests.virtual import run

FLOW = """
flow: main
languages: [en]
start: main
nodes:
  main:
    menu:
      ask: Main menu.
      choices:
        person: {press: 6, say: person, then: people}
        inside: {press: 7, say: inside, then: over}
        outside: {press: 8, say: outside, then: far}
      otherwise: bye
  people: {queue: {skills: []}, then: bye, otherwise: bye}
  over: {transfer: {to: "1005", ring: 20s}, then: bye, otherwise: main}
  far: {transfer: {to: "+442079460123", ring: 20s}, then: bye, otherwise: main}
  bye: {end: Farewell.}
"""


class Agent(RtpEnd):
    """The phone that rings: what it hears, and the PBX's side of its call."""

    def __init__(self, caller: PhoneCaller):
        super().__init__()
        self.pbx = caller.pbx
        self.heard: list[str] = []
        self.keys = ""

    def frame(self, pcm: bytes) -> None:
        self.heard.append(text_of(pcm))

    def key(self, key: str) -> None:
        self.keys += key

    async def invited(self) -> str:
        return await self.pbx.until(lambda m: m.startswith("INVITE") and "Authorization" in m)

    async def answer(self) -> None:
        """Pick up."""
        self.pbx.media = await self.open()
        invite = await self.invited()
        self.aim(invite)
        self.pbx.send(self.pbx.reply(invite, "200 OK", sdp=True))

    def hang_up(self) -> None:
        invite = next(m for m in self.pbx.received if m.startswith("INVITE"))
        call_id = invite.split("Call-ID: ")[1].split("\r\n")[0]
        ours = invite.split("From: ")[1].split(";tag=")[1].split("\r\n")[0]
        self.pbx.send(self.pbx.request("BYE", call_id, cseq="99", tag=f";tag={ours}"))


def on_a_call(
    case: Callable[[PhoneCaller, Agent], Awaitable[None]], *, recording: bool = False
) -> None:
    async def whole() -> None:
        async with calling_softphone(FLOW, recording=recording) as caller:
            agent = Agent(caller)
            caller.pbx.invite_status = ""  # a phone that rings until the test says more
            await caller.hears("Main menu.")
            await case(caller, agent)
            agent.close()

    run(whole())


async def in_line(caller: PhoneCaller) -> str:
    await caller.press("6")
    await caller.hears(MUSIC)
    [leg] = caller.extension._legs
    return leg


def ring(
    caller: PhoneCaller, leg: str, seen: list[CallEvent], seconds: float = 20
) -> asyncio.Future[str]:
    return asyncio.ensure_future(caller.extension.ring(leg, "1001", seconds, seen.append))


async def cancelled(caller: PhoneCaller) -> None:
    await caller.pbx.until(lambda m: m.startswith("CANCEL"))


def test_an_agent_is_rung_talks_and_the_flow_goes_on_after_the_talk() -> None:
    async def case(caller: PhoneCaller, agent: Agent) -> None:
        leg = await in_line(caller)
        seen: list[CallEvent] = []
        talking = ring(caller, leg, seen)
        await agent.invited()
        await asyncio.sleep(1)
        assert caller.hearing == MUSIC  # while it rings
        assert seen == [Ringing("1001")]
        await agent.answer()
        await caller.hears("")
        assert seen == [Ringing("1001"), Answered("1001")]
        await asyncio.gather(caller.says("hello agent", 1.0), agent.say(sound("hello caller", 1.0)))
        await asyncio.sleep(0.2)
        assert caller.heard_for("hello caller") == pytest.approx(1.0, abs=0.06)
        assert agent.heard.count("hello agent") * 0.02 == pytest.approx(1.0, abs=0.06)
        await caller.press("42")
        await asyncio.sleep(0.5)
        assert agent.keys == "42"
        assert not caller.dialogue.events[1:]  # a talk answers no question
        agent.hang_up()
        assert await talking == "talked"
        await caller.hears(MUSIC)

    on_a_call(case)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("486 Busy Here", "busy"),
        ("603 Decline", "busy"),
        ("480 Temporarily Unavailable", "no_answer"),
        ("404 Not Found", "unavailable"),
        ("503 Service Unavailable", "unavailable"),
    ],
)
def test_what_becomes_of_ringing(status: str, outcome: str) -> None:
    async def case(caller: PhoneCaller, agent: Agent) -> None:
        leg = await in_line(caller)
        caller.pbx.invite_status = status
        assert await ring(caller, leg, []) == outcome
        assert caller.hearing == MUSIC

    on_a_call(case)


def test_nobody_answers_and_the_ringing_stops() -> None:
    async def case(caller: PhoneCaller, agent: Agent) -> None:
        leg = await in_line(caller)
        assert await ring(caller, leg, [], 3) == "no_answer"
        await cancelled(caller)
        caller.pbx.silent = True
        assert await ring(caller, leg, [], 3) == "unavailable"
        caller.pbx.silent = False

    on_a_call(case)


def test_ringing_that_is_called_off_stops_and_tells_nothing_more() -> None:
    async def case(caller: PhoneCaller, agent: Agent) -> None:
        leg = await in_line(caller)
        seen: list[CallEvent] = []
        ringing = ring(caller, leg, seen)
        await agent.invited()
        with pytest.raises(TelephonyError, match="rings another phone already"):
            await caller.extension.ring(leg, "1002", 5, seen.append)
        await asyncio.sleep(0.1)
        ringing.cancel()
        await asyncio.gather(ringing, return_exceptions=True)
        await cancelled(caller)
        assert seen == [Ringing("1001")]
        assert caller.hearing == MUSIC

    on_a_call(case)


@pytest.mark.parametrize("talking", [False, True])
def test_a_caller_who_hangs_up_leaves_no_phone_behind(talking: bool) -> None:
    async def case(caller: PhoneCaller, agent: Agent) -> None:
        leg = await in_line(caller)
        ringing = ring(caller, leg, [])
        await agent.invited()
        if talking:
            await agent.answer()
            await caller.hears("")
        await asyncio.sleep(0.1)
        await caller.hang_up()
        assert await ringing == ("talked" if talking else "gone")
        await caller.left()
        if talking:
            await caller.pbx.until(lambda m: m.startswith("BYE"))
        else:
            await cancelled(caller)
        with pytest.raises(CallGone):
            await caller.extension.ring(leg, "1001", 5, lambda event: None)
        await caller.extension.hang_up(leg)

    on_a_call(case)


def test_an_agent_who_hangs_up_on_the_screen_ends_the_talk_and_not_the_call() -> None:
    async def case(caller: PhoneCaller, agent: Agent) -> None:
        leg = await in_line(caller)
        talking = ring(caller, leg, [])
        await agent.answer()
        await caller.hears("")
        await caller.extension.hang_up(leg)
        assert await talking == "talked"
        await caller.hears(MUSIC)
        await caller.extension.hang_up(leg)
        await caller.ended()

    on_a_call(case)


def test_a_transfer_rings_is_answered_and_over() -> None:
    async def case(caller: PhoneCaller, agent: Agent) -> None:
        await caller.press("7")
        await agent.invited()
        await asyncio.sleep(0.5)
        assert caller.hearing  # that it rings
        await agent.answer()
        await asyncio.sleep(1)
        agent.hang_up()
        await caller.hears("Farewell.")
        [ended] = [e for e in caller.dialogue.events if isinstance(e, TransferEnded)]
        assert ended.outcome == "answered"

    on_a_call(case)


@pytest.mark.parametrize(
    ("key", "status", "outcome"),
    [("7", "486 Busy Here", "busy"), ("7", "404 Not Found", "refused"), ("8", "", "refused")],
)
def test_a_transfer_that_fails_goes_on_in_the_flow(key: str, status: str, outcome: str) -> None:
    async def case(caller: PhoneCaller, agent: Agent) -> None:
        caller.pbx.invite_status = status
        await caller.press(key)
        await caller.hears("")
        await caller.hears("Main menu.")
        [ended] = [e for e in caller.dialogue.events if isinstance(e, TransferEnded)]
        assert ended.outcome == outcome
        if key == "8":  # an outside number: nothing of it leaves us
            assert "INVITE" not in caller.pbx.methods()

    on_a_call(case)


@pytest.mark.parametrize(("key", "kept"), [("6", True), ("7", False)])
def test_a_talk_with_an_agent_is_recorded_and_one_after_a_transfer_is_not(
    key: str, kept: bool
) -> None:
    async def case(caller: PhoneCaller, agent: Agent) -> None:
        await caller.press(key)
        if kept:
            await caller.hears(MUSIC)
            [leg] = caller.extension._legs
            talking = ring(caller, leg, [])
        await agent.answer()
        await asyncio.sleep(0.5)
        await asyncio.gather(caller.says("hello agent", 1.0), agent.say(sound("hello caller", 1.0)))
        await asyncio.sleep(0.5)
        agent.hang_up()
        await caller.hears(MUSIC if kept else "Farewell.")
        if kept:
            assert await talking == "talked"
        await caller.hang_up()
        await caller.left()
        theirs, ours = caller.messages.recorded()
        assert "Main menu." in ours
        assert ("hello agent" in theirs, "hello caller" in ours) == (kept, kept)

    on_a_call(case, recording=True)


@pytest.mark.parametrize("extension", ["", "1@elsewhere", "1001;x=y", "1" * 40])
def test_what_is_no_extension_is_not_rung(extension: str) -> None:
    async def case(caller: PhoneCaller, agent: Agent) -> None:
        leg = await in_line(caller)
        with pytest.raises(TelephonyError, match="no extension"):
            await caller.extension.ring(leg, extension, 5, lambda event: None)

    on_a_call(case)


def test_a_phone_that_is_gone_without_a_word_is_hung_up() -> None:
    async def case(caller: PhoneCaller, agent: Agent) -> None:
        await in_line(caller)
        caller.mute()
        await asyncio.sleep(75)
        await caller.pbx.until(lambda m: m.startswith("BYE"))
        assert await caller.left() == "hung_up"

    on_a_call(case)


def test_a_flow_that_breaks_ends_the_call_as_a_fault() -> None:
    async def case(caller: PhoneCaller, agent: Agent) -> None:
        async def fail(conversation_id: str, event: Any) -> None:
            raise RuntimeError("a bug")

        cast(Any, caller.dialogue).report = fail
        caller.rtp.press("6")
        await caller.ended()
        assert await caller.left() == "fault"

    on_a_call(case)


def test_a_stop_ends_calls_and_registrations_and_writes_what_is_to_be_written() -> None:
    async def case(caller: PhoneCaller, agent: Agent) -> None:
        assert caller.extension.registered
        await caller.extension.stop()
        assert caller.dialogue.left_by == ["hung_up"]
        last = [m for m in caller.pbx.received if m.startswith("REGISTER")][-1]
        assert "Expires: 0" in last
        assert not caller.extension.registered

    on_a_call(case)


def test_a_wrong_password_names_its_setting() -> None:
    async def whole() -> None:
        with pytest.raises(SettingsError, match=r"set softphone\.accounts\.100\.password"):
            async with calling_softphone(FLOW, wrong_password=True):
                pass

    run(whole())


def test_ringback_is_mostly_silence_and_loops() -> None:
    pcm = ringback()
    assert len(pcm) == 5 * 16_000
    assert any(pcm[:16_000]) and not any(pcm[16_000:])
