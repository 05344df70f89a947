"""What every voice leg promises to a caller, checked on each of them, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import pytest
from structlog.testing import capture_logs

from ivr.flow.events import DigitsPressed, Recorded, SpeechHeard, TimedOut
from tests.contract.legs import LEGS, Caller
from tests.fakes.dialogue import MUSIC, SECONDS, TONE, text_of
from tests.virtual import run

FLOW = """
flow: main
languages: [en, zh]
start: main
slots: {pin: {type: digits, length: 4, secret: true}}
nodes:
  main:
    menu:
      ask: {en: Main menu., zh: 主菜单。}
      choices:
        billing: {press: 1, say: {en: billing, zh: 账单}, then: bill}
        pin: {press: 2, say: {en: pin, zh: 密码}, then: pin}
        chinese: {press: 3, say: {en: chinese, zh: 中文}, then: tongue}
        message: {press: 4, say: {en: message, zh: 留言}, then: note}
        goodbye: {press: 5, say: {en: goodbye, zh: 再见}, then: bye}
        person: {press: 6, say: {en: person, zh: 客服}, then: people}
      no_input: [{en: Nothing was heard., zh: 没有听到。}]
      otherwise: bye
  bill: {say: {en: Your bill., zh: 您的账单。}, then: main}
  pin: {collect: {slot: pin, ask: {en: Your PIN?, zh: 密码？}, otherwise: bye}, then: bye}
  tongue: {language: {to: zh}, then: main}
  note: {record: {slot: said, ask: {en: Speak now., zh: 请留言。}, max: 20s}, then: bye}
  people: {queue: {skills: []}, then: bye, otherwise: bye}
  bye: {end: {en: Farewell., zh: 再会。}}
""".replace("secret: true}}", "secret: true}, said: {type: text}}")

STOPS_WITHIN = 0.1  # seconds


async def a_prompt_is_heard_whole(caller: Caller) -> None:
    await caller.hears("Main menu.")
    await caller.hears_the_end("Main menu.")
    assert caller.heard_for("Main menu.") == pytest.approx(SECONDS, abs=0.02)
    first = next(at for at, (_, text) in enumerate(caller.heard) if text)
    said = [text for _, text in caller.heard[first : first + 50]]
    assert set(said) == {"Main menu."}  # without a gap


async def frames_come_every_20_ms(caller: Caller) -> None:
    await caller.hears("Main menu.")
    began, count = caller.now, len(caller.heard)
    await caller.hears("Nothing was heard.")
    assert len(caller.heard) - count == pytest.approx((caller.now - began) / 0.02, abs=2)


async def a_key_stops_the_prompt(caller: Caller) -> None:
    await caller.hears("Main menu.")
    pressed = caller.now
    pressing = asyncio.ensure_future(caller.press("1"))
    await caller.hears_the_end("Main menu.")
    assert caller.now - pressed <= STOPS_WITHIN
    await caller.hears("Your bill.")
    await pressing
    assert [e.digits for e in caller.dialogue.events if isinstance(e, DigitsPressed)] == ["1"]


async def speech_stops_the_prompt(caller: Caller) -> None:
    await caller.hears("Main menu.")
    began = caller.now
    speaking = asyncio.ensure_future(caller.says("billing"))
    await caller.hears_the_end("Main menu.")
    assert caller.now - began <= STOPS_WITHIN
    await speaking
    await caller.hears("Your bill.")
    assert [e.text for e in caller.dialogue.events if isinstance(e, SpeechHeard)] == ["billing"]


async def keys_pressed_ahead_answer_the_next_question(caller: Caller) -> None:
    await caller.hears("Main menu.")
    await caller.press("15")
    await caller.hears("Farewell.")
    pressed = [e.digits for e in caller.dialogue.events if isinstance(e, DigitsPressed)]
    assert pressed == ["1", "5"]


async def a_repeated_key_is_pressed_twice(caller: Caller) -> None:
    await caller.hears("Main menu.")
    await caller.press("2")
    await caller.hears("Your PIN?")
    await caller.press("4411")
    await caller.hears("Farewell.")
    pressed = [e.digits for e in caller.dialogue.events if isinstance(e, DigitsPressed)]
    assert pressed == ["2", "4411"]


async def silence_is_counted_from_the_end_of_the_prompt(caller: Caller) -> None:
    await caller.hears("Main menu.")
    await caller.hears_the_end("Main menu.")
    ended = caller.now
    await caller.hears("Nothing was heard.")
    assert caller.now - ended == pytest.approx(5.0, abs=0.2)
    assert isinstance(caller.dialogue.events[0], TimedOut)


async def a_hang_up_in_mid_prompt_ends_everything(caller: Caller) -> None:
    await caller.hears("Main menu.")
    await caller.hang_up()
    assert await caller.left() == "hung_up"
    heard = len(caller.heard)
    await asyncio.sleep(10)
    assert len(caller.heard) - heard <= 2  # what was on the wire
    assert caller.dialogue.left_by == ["hung_up"]
    assert not caller.dialogue.events


async def the_end_waits_for_the_last_prompt(caller: Caller) -> None:
    await caller.hears("Main menu.")
    await caller.press("5")
    await caller.ended()
    assert caller.heard_for("Farewell.") == pytest.approx(SECONDS, abs=0.02)
    assert await caller.left() == "completed"


async def a_secret_is_in_no_log(caller: Caller) -> None:
    with capture_logs() as logs:
        await caller.hears("Main menu.")
        await caller.press("2")
        await caller.hears("Your PIN?")
        await caller.press("4711")
        await caller.ended()
        await caller.left()
    assert len(caller.dialogue.turns) == 2
    assert "4711" not in str(logs) + str(caller.dialogue.turns)
    assert any(isinstance(e, DigitsPressed) and e.digits == "4711" for e in caller.dialogue.events)


async def a_change_of_language_changes_prompts_and_ears(caller: Caller) -> None:
    await caller.hears("Main menu.")
    await caller.press("3")
    await caller.hears("主菜单。")
    await caller.says("账单")
    await caller.hears("您的账单。")
    assert caller.ears.asked[0] == "en"
    assert caller.ears.asked[-1] == "zh"


async def a_message_is_taken_after_the_tone(caller: Caller) -> None:
    await caller.hears("Main menu.")
    await caller.press("4")
    await caller.hears("Speak now.")
    await caller.hears(TONE)
    await caller.hears_the_end(TONE)
    await caller.says("my tap leaks", 2.0)
    await caller.hears("Farewell.")
    [(pcm, seconds)] = caller.messages.kept
    assert seconds == pytest.approx(2.0, abs=0.1)
    assert text_of(pcm[-320:]) == "my tap leaks"
    assert any(isinstance(e, Recorded) and e.reference for e in caller.dialogue.events)


async def who_hangs_up_under_a_message_has_left_it(caller: Caller) -> None:
    await caller.hears("Main menu.")
    await caller.press("4")
    await caller.hears(TONE)
    await caller.hears_the_end(TONE)
    await caller.says("my tap leaks", 1.0)
    await caller.hang_up()
    await caller.left()
    [(_, seconds)] = caller.messages.kept
    assert seconds == pytest.approx(1.0, abs=0.1)


async def who_waits_hears_music(caller: Caller) -> None:
    await caller.hears("Main menu.")
    await caller.press("6")
    await caller.hears(MUSIC)
    await asyncio.sleep(3)
    assert {text for _, text in caller.heard[-100:]} == {MUSIC}


CASES: tuple[Callable[[Caller], Awaitable[None]], ...] = (
    a_prompt_is_heard_whole,
    frames_come_every_20_ms,
    a_key_stops_the_prompt,
    speech_stops_the_prompt,
    keys_pressed_ahead_answer_the_next_question,
    a_repeated_key_is_pressed_twice,
    silence_is_counted_from_the_end_of_the_prompt,
    a_hang_up_in_mid_prompt_ends_everything,
    the_end_waits_for_the_last_prompt,
    a_secret_is_in_no_log,
    a_change_of_language_changes_prompts_and_ears,
    a_message_is_taken_after_the_tone,
    who_hangs_up_under_a_message_has_left_it,
    who_waits_hears_music,
)


@pytest.mark.parametrize("leg", LEGS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_every_leg_keeps_the_promise(leg: str, case: Callable[[Caller], Awaitable[None]]) -> None:
    connect: Callable[[str], AbstractAsyncContextManager[Caller]] = LEGS[leg]

    async def keep() -> None:
        async with connect(FLOW) as caller:
            await case(caller)

    run(keep())
