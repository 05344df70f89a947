"""What becomes of callers when something dies: the server, Asterisk, a link, a worker."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Sequence

import httpx2
import numpy as np
import psutil
import pytest
import pytest_asyncio

from cti import protocol, robots, stage
from ivr.config import Settings
from ivr.errors import TelephonyError
from ivr.model import Conversation, TimelineEntry
from ivr.telephony import pbx
from ivr.telephony.softphone import Softphone
from ivr.wire.audiosocket import pack
from tests import mutations
from tests.live import voices
from tests.live.house import ACCOUNT, Agent, Caller, House, house_settings, until

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

HOLD_WITHIN = 2.0
BACK_WITHIN = 20.0
TICKET = "select id, enqueued_at, status from tickets where conversation_id = ?"
TONE = (8000 * np.sin(2 * np.pi * 500 * np.arange(8000) / 8000)).astype("<i2").tobytes()


@pytest_asyncio.fixture(loop_scope="session")
async def caller(house: House) -> AsyncIterator[Softphone]:
    async with house.caller() as phone:
        yield phone
    if house.up:
        await house.nothing_left()


def said(entries: list[TimelineEntry]) -> list[str]:
    return [entry.body["text"] for entry in entries if entry.kind == "said"]


def since(entries: list[TimelineEntry], kind: str) -> list[TimelineEntry]:
    """What came after the last entry of a kind."""
    last = max(at for at, entry in enumerate(entries) if entry.kind == kind)
    return entries[last + 1 :]


async def asked_again(house: House, identity: str, question: str, times: int = 1) -> None:
    """The conversation was taken up, and the question that was open is what was said next."""
    entries = await house.until_entry(identity, "resumed", times)
    while not said(since(entries, "resumed")):
        entries = await house.timeline(identity)
    assert said(since(entries, "resumed"))[-1] == question


async def to_the_bill(house: House, phone: Softphone) -> tuple[Caller, str, str]:
    """A caller who has given their account number and is asked what to do about their bill; the
    conversation, and that question."""
    caller = await house.call(phone)
    identity = (await house.live()).id
    await caller.sound(0, 5)
    await caller.call.press("1")
    await house.until_entry(identity, "pressed")
    await caller.call.press(ACCOUNT)
    entries = await house.until_entry(identity, "fetched")
    while not said(since(entries, "fetched"))[1:]:
        entries = await house.timeline(identity)
    await caller.sound(time.monotonic(), 5)
    return caller, identity, said(entries)[-1]


async def into_the_line(house: House, phone: Softphone) -> tuple[Caller, str]:
    """A caller who has given their account number and waits for a person."""
    caller, identity, _ = await to_the_bill(house, phone)
    await caller.call.press("0")
    await house.until_entry(identity, "in_line")
    return caller, identity


async def into_talk(house: House, phone: Softphone, agent: Agent) -> tuple[Caller, str]:
    """A caller who talks to an agent."""
    caller, identity = await into_the_line(house, phone)
    await agent.screen.set_available()
    incoming = await agent.phone.incoming(15)
    await incoming.answer()
    await agent.saw(protocol.CallAnswered)
    await house.until_entry(identity, "answered")
    agent.call = incoming
    return caller, identity


async def they_hear_each_other(caller: Caller, agent: Agent) -> None:
    other = Caller(agent.call)
    for speaker, listener in ((caller, other), (other, caller)):
        await asyncio.gather(speaker.call.play(TONE), listener.sound(time.monotonic(), 3))


# --- the server ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill -9", "SIGTERM"])
async def test_a_server_that_goes_in_mid_menu_comes_back_to_the_same_question(
    house: House, caller: Softphone, how: str
) -> None:
    on_the_line, identity, question = await to_the_bill(house, caller)
    if how == "kill -9":
        await on_the_line.silence(1.5)
    children = house.process.children(recursive=True)

    lost = time.monotonic()
    if how == "kill -9":
        await house.kill()
    else:
        await house.stop()  # in the middle of the question
        lost = time.monotonic() + 0.2
    held = await on_the_line.sound(lost, 5) - lost
    assert held < HOLD_WITHIN
    await until(lambda: not any(map(psutil.Process.is_running, children)), 5, "no child is left")
    await house.start()
    up = time.monotonic() - lost
    await asked_again(house, identity, question)
    back = time.monotonic() - lost
    print(f"{how}: hold message {held:.2f} s, server up {up:.1f} s, question {back:.1f} s")
    assert back < BACK_WITHIN

    state = await house.state(identity)
    assert (state.node, state.slots["account"]) == ("more", ACCOUNT)
    entries = await house.timeline(identity)
    assert sum("account number" in text for text in said(entries)) == 1
    assert await on_the_line.sound(time.monotonic(), 5)
    await on_the_line.call.press("0")  # it goes on from there
    await house.until_entry(identity, "in_line")
    await on_the_line.call.hang_up()
    await house.until_ended(identity)


async def test_a_server_killed_while_callers_wait_keeps_their_places(
    house: House, caller: Softphone
) -> None:
    async with house.agent("ann", "1001") as ann:
        on_the_line, identity = await into_the_line(house, caller)
        [before] = house.rows(TICKET, identity)
        assert before[2] == "waiting"
        lost = time.monotonic()
        await house.kill()
        await house.start()
        await ann.connect()
        await house.until_entry(identity, "resumed")
        await house.until_metric("hotline_queue_waiting", 1)
        print(f"in line again after {time.monotonic() - lost:.1f} s")
        assert house.rows(TICKET, identity) == [before]

        await ann.screen.set_available()
        popped = await ann.saw(protocol.Pop)
        assert popped.card.conversation == identity
        assert ACCOUNT in {fact.value for fact in popped.card.facts}
        incoming = await ann.phone.incoming(10)
        await on_the_line.call.hang_up()
        await asyncio.wait_for(incoming.ended(), 5)
        await house.until_ended(identity)


@pytest.mark.parametrize("how", ["kill -9", "SIGTERM"])
async def test_a_server_that_goes_in_mid_talk_does_not_disturb_it(
    house: House, caller: Softphone, how: str
) -> None:
    async with house.agent("ann", "1001") as ann:
        on_the_line, identity = await into_talk(house, caller, ann)
        await they_hear_each_other(on_the_line, ann)
        await (house.kill() if how == "kill -9" else house.stop())
        await they_hear_each_other(on_the_line, ann)
        await house.start()
        await they_hear_each_other(on_the_line, ann)
        assert (await house.conversation(identity)).status == "person"

        await ann.call.hang_up()
        await house.until_entry(identity, "parted")
        ended = await house.until_ended(identity)
        assert ended.outcome == "completed"
        await asyncio.wait_for(on_the_line.call.ended(), 10)
        assert on_the_line.call.ended_by == "them"


# --- Asterisk and the links to it ----------------------------------------------------------------


async def test_asterisk_restarted_in_mid_call_ends_it_and_serves_the_next(
    house: House, live_pbx: Settings
) -> None:
    async with house.caller() as phone:
        _, identity, _ = await to_the_bill(house, phone)
        await asyncio.to_thread(pbx.down, live_pbx)
        ended = await house.until_ended(identity)
        assert ended.outcome != "completed"
    await asyncio.to_thread(pbx.up, live_pbx)
    await house.until_metric("hotline_ami_up", 1, 20)
    await house.nothing_left()
    async with house.caller() as phone:
        on_the_line, identity, _ = await to_the_bill(house, phone)
        await on_the_line.call.hang_up()
        await house.until_ended(identity)
    await house.nothing_left()


async def test_the_manager_link_cut_in_mid_call_costs_the_caller_nothing(
    house: House, caller: Softphone
) -> None:
    async with house.agent("ann", "1001") as ann:
        on_the_line, identity = await into_the_line(house, caller)
        house.cut(house.settings.asterisk.ami_port)
        # The call that comes through meanwhile is answered all the same.
        await ann.screen.set_available()
        incoming = await ann.phone.incoming(10)
        await incoming.answer()
        ann.call = incoming
        await they_hear_each_other(on_the_line, ann)
        await house.until_metric("hotline_ami_up", 1)
        await incoming.hang_up()
        await house.until_entry(identity, "released")
        await house.until_ended(identity)
        assert (await house.timeline(identity))[-1].kind != "resumed"


async def test_audio_reset_in_mid_prompt_asks_the_same_question_again(
    house: House, caller: Softphone
) -> None:
    on_the_line, identity, question = await to_the_bill(house, caller)
    await on_the_line.sound(time.monotonic(), 5)
    cut = time.monotonic()
    house.cut(house.settings.asterisk.audio_port)
    await asked_again(house, identity, question)
    again = time.monotonic() - cut
    print(f"asked again {again:.2f} s after the audio was reset")
    assert again < 1
    await on_the_line.sound(time.monotonic(), 3)
    assert (await house.state(identity)).slots["account"] == ACCOUNT
    await on_the_line.call.hang_up()
    await house.until_ended(identity)


async def test_the_command_connection_cut_in_mid_prompt_does_not_end_the_conversation(
    house: House, caller: Softphone
) -> None:
    on_the_line, identity, question = await to_the_bill(house, caller)
    await on_the_line.sound(time.monotonic(), 5)
    house.cut(house.settings.asterisk.agi_port)
    await asked_again(house, identity, question)
    assert (await house.state(identity)).slots["account"] == ACCOUNT
    await on_the_line.call.hang_up()
    await house.until_ended(identity)


# --- the caller ----------------------------------------------------------------------------------


async def test_a_caller_who_gives_up_before_the_answer_leaves_nothing(
    house: House, caller: Softphone
) -> None:
    for wait in (0.0, 0.01, 0.03, 0.06, 0.1):
        calling = asyncio.create_task(caller.call(house.settings.asterisk.extension))
        await asyncio.sleep(wait)
        calling.cancel()
        with contextlib.suppress(asyncio.CancelledError, TelephonyError):
            await (await calling).hang_up()  # it was answered at that very moment
    await house.nothing_left()


@pytest.mark.parametrize(
    "moment", ["first prompt", "keys half entered", "in line", "agent's phone rings", "talk"]
)
async def test_a_caller_who_hangs_up_ends_all_that_was_theirs(
    house: House, caller: Softphone, moment: str
) -> None:
    async with house.agent("ann", "1001") as ann:
        match moment:
            case "first prompt":
                on_the_line = await house.call(caller)
                identity = (await house.live()).id
                await on_the_line.sound(0, 5)
            case "keys half entered":
                on_the_line = await house.call(caller)
                identity = (await house.live()).id
                await on_the_line.call.press("1")
                await house.until_entry(identity, "pressed")
                await on_the_line.call.press(ACCOUNT[:4])
            case "in line":
                on_the_line, identity = await into_the_line(house, caller)
                await house.until_metric("hotline_queue_waiting", 1)
            case "agent's phone rings":
                on_the_line, identity = await into_the_line(house, caller)
                await ann.screen.set_available()
                ann.call = await ann.phone.incoming(10)
            case _:
                on_the_line, identity = await into_talk(house, caller, ann)
        await on_the_line.call.hang_up()
        await house.until_ended(identity)
        await house.nothing_left()
        if moment in ("agent's phone rings", "talk"):
            await asyncio.wait_for(ann.call.ended(), 5)
            ended = await ann.saw(protocol.CallEnded)
            assert ended.outcome == {"talk": "talked"}.get(moment, "gone")
        await until(
            lambda: "0 active channels" in pbx.console(house.settings, "core show channels count")
        )


# --- the recogniser ------------------------------------------------------------------------------


@pytest.mark.models
async def test_a_speech_worker_killed_while_it_listens_costs_one_utterance(
    live_pbx: Settings, module_house: House
) -> None:
    await module_house.stop()
    speech = live_pbx.speech.model_copy(
        update={"engine": "whisper", "languages": ("en",), "voice": "pyttsx3"}
    )
    house = House(house_settings(live_pbx, "speech", speech=speech))
    await house.start()
    try:
        billing = await voices.speak("billing", "en")
        async with house.caller() as phone:
            on_the_line = await house.call(phone)
            identity = (await house.live()).id
            question = said(await house.timeline(identity))[-1]
            await on_the_line.sound(0, 5)
            [worker] = workers(house)
            speaking = asyncio.create_task(on_the_line.call.play(billing * 4))
            await asyncio.sleep(1.0)
            worker.kill()
            killed = time.monotonic()
            await asked_again(house, identity, question)
            again = time.monotonic() - killed
            print(f"asked again {again:.2f} s after the worker was killed")
            assert again < 2
            await speaking
            assert (await house.metrics())["hotline_speech_failures_total"] == 1
            await until(lambda: [one for one in workers(house) if one.pid != worker.pid], 30)
            await on_the_line.call.press("1")
            await house.until_entry(identity, "pressed")
            await on_the_line.call.hang_up()
            await house.until_ended(identity)
        await house.nothing_left()
    finally:
        await house.stop()


def workers(house: House) -> list[psutil.Process]:
    return [child for child in house.process.children() if "ivr.speech.worker" in child.cmdline()]


# --- all at once ---------------------------------------------------------------------------------

NOISE = 60
BLOCKED = "hotline_loop_blocked_seconds_bucket"
MAY_WAIT = 3
"""Blocks of over 100 ms in the whole test: none is ours, but others may have the processor."""


@pytest.mark.models
async def test_everything_at_once_costs_nobody_their_call(
    live_pbx: Settings, module_house: House
) -> None:
    """A worker killed, the voice hung, every audio connection reset, and strangers who send what is
    no audio and no call, byte by byte and out of order."""
    await module_house.stop()
    speech = live_pbx.speech.model_copy(
        update={"engine": "whisper", "languages": ("en",), "voice": "pyttsx3"}
    )
    house = House(house_settings(live_pbx, "all_at_once", speech=speech))
    await house.start()
    try:
        async with house.caller() as phone, robots.phone(house.settings, "9002") as other:
            asked, identity, question = await to_the_bill(house, phone)
            listening = await house.call(other)
            await listening.sound(time.monotonic(), 5)
            [second] = [one.id for one in await conversations(house) if one.id != identity]

            [worker] = workers(house)
            for voice in voices_of(house):
                voice.suspend()
            worker.kill()
            where = house.settings.asterisk
            house.cut(where.audio_port)
            chance = random.Random(4)
            await asyncio.gather(
                *(stranger(where.audio_port, AUDIO, chance) for _ in range(NOISE)),
                *(stranger(where.agi_port, COMMANDS, chance) for _ in range(NOISE)),
            )

            await asked_again(house, identity, question)
            await house.until_entry(second, "resumed")
            for on_the_line in (asked, listening):
                await on_the_line.sound(time.monotonic(), 10)
            assert (await house.state(identity)).slots["account"] == ACCOUNT
            await asked.call.press("0")
            await house.until_entry(identity, "in_line")
            await listening.call.press("2")
            await house.until_entry(second, "pressed")
            blocked = await blocks_over_100_ms(house)
            print(f"{blocked:g} blocks over 100 ms")
            assert blocked <= MAY_WAIT
            for on_the_line in (asked, listening):
                await on_the_line.call.hang_up()
            for one in (identity, second):
                await house.until_ended(one)
        await house.nothing_left()
        for one in (identity, second):
            legs = house.rows("select count(*) from legs where conversation_id = ?", one)
            assert legs == [(1,)], "the dialplan did not have to put anybody through again"
    finally:
        await house.stop()


AUDIO = [
    b"\x01\x00\x10" + bytes(16),
    *(pack(TONE[at : at + 320]) for at in (0, 320)),
    b"\x03\x00\x011",
]
COMMANDS = [
    b"agi_network: yes\n",
    b"agi_channel: PJSIP/none\n",
    b"agi_uniqueid: 1.1\n",
    b"\n",
    b"200 result=0\n",
]


async def stranger(port: int, parts: list[bytes], chance: random.Random) -> None:
    """Connect, and send something broken in small pieces for as long as it is taken."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        for piece in mutations.pieces(mutations.broken(parts, chance)[:400], chance):
            writer.write(piece)
            await writer.drain()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def voices_of(house: House) -> list[psutil.Process]:
    """The processes that speak."""
    children = house.process.children(recursive=True)
    return [one for one in children if "ivr.speech.tts" in one.cmdline()]


async def conversations(house: House) -> Sequence[Conversation]:
    async with house.store() as store:
        return await store.live_conversations()


async def blocks_over_100_ms(house: House) -> float:
    async with httpx2.AsyncClient(trust_env=False) as client:
        text = (await client.get(stage.url(house.settings) + "/metrics")).text
    counted = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(BLOCKED))
    return float(counted[f'{BLOCKED}{{le="+Inf"}}']) - float(counted[f'{BLOCKED}{{le="0.1"}}'])
