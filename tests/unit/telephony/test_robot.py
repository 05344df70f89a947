"""The robots on a line whose other side is the test, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from ivr.errors import SpeechError
from ivr.telephony.robot import RobotAgentPhone, RobotCaller, RobotEvent, RobotResult
from ivr.telephony.script import load_script
from tests.fakes.phone import FakeLine, FakePhone, Voices
from tests.virtual import run

WELCOME = "Welcome to Acme Water"
MENU = "say billing or press one"
ACCOUNT = "what is your account number"


def follow(
    script: str,
    prepare: Callable[[FakeLine], None],
    *,
    voices: Voices | None = None,
    refusal: str = "",
) -> tuple[RobotResult, FakeLine, list[RobotEvent]]:
    """Run a script against a line that `prepare` sets up."""
    emitted: list[RobotEvent] = []
    voice = voices or Voices()

    async def work() -> tuple[RobotResult, FakeLine]:
        line = FakeLine(voice)
        prepare(line)
        phone = FakePhone(line, refusal=refusal)
        steps = load_script(script, "a.yaml")
        robot = RobotCaller(phone, "100", voice.hear, voice.speak, steps, emitted.append)
        return await robot.run(), line

    result, line = run(work())
    return result, line, emitted


def kinds(events: list[RobotEvent]) -> list[str]:
    return [event.kind for event in events]


def test_a_conversation_from_the_first_word_to_the_last() -> None:
    def hotline(line: FakeLine) -> None:
        line.say(f"{WELCOME}. {MENU}")
        line.on_speech = lambda text: line.say(ACCOUNT)
        line.on_keys = lambda keys: line.say("goodbye")

    script = """
    - hears: Welcome to ACME water!
    - hears: press one
    - says: billing
    - hears: account number
    - presses: "12345678"
    - hears: goodbye
    - hangs_up: true
    """
    result, line, events = follow(script, hotline)
    assert result.ok, result.reason
    assert result.failed is None
    assert kinds(events) == [
        *("dialled", "answered", "heard", "said", "heard", "pressed", "heard", "hung_up"),
    ]
    assert [what for _, what in line.done] == ["said billing", "pressed 12345678"]
    assert line.state == "ended"
    assert line.ended_by == "us"
    assert [event.text for event in events if event.kind == "pressed"] == ["12345678"]
    assert list(result.events) == events


def test_what_is_not_heard_fails_with_step_line_and_what_was_heard_instead() -> None:
    script = "- hears: Welcome\n- hears: your balance\n  within: 3\n"
    result, line, events = follow(script, lambda line: line.say(f"{WELCOME}. {MENU}"))
    assert not result.ok
    assert (result.failed, result.line) == (2, 2)
    assert result.expected == "hears your balance"
    assert result.heard == f"{WELCOME}. {MENU}"
    assert "within 3 s heard instead" in result.reason
    assert events[-1].kind == "failed"
    assert not events[-1].ok
    assert events[-1].t == pytest.approx(4.2, abs=0.8)
    assert line.state == "ended"


def test_a_dead_line_says_that_nothing_was_heard() -> None:
    result, _, events = follow("- {hears: Welcome, within: 2}", lambda line: None)
    assert result.reason == "within 2 s nothing was heard"
    assert events[-1].t == pytest.approx(2.0, abs=0.05)


def test_speech_waits_until_the_prompt_is_over() -> None:
    def hotline(line: FakeLine) -> None:
        line.say(f"{WELCOME}. {MENU}", 6.0)

    _, line, _ = follow("[{hears: Welcome}, {says: billing}]", hotline)
    ((at, what),) = line.done
    assert what == "said billing"
    assert 6.5 < at < 7.5


def test_barging_in_speaks_over_the_prompt_at_the_time_the_script_says() -> None:
    def hotline(line: FakeLine) -> None:
        line.say(f"{WELCOME}. {MENU}", 6.0)
        line.on_speech = lambda text: line.hush()

    script = "[{hears: Welcome}, {says: billing, barge_in: true, after: 3.5}]"
    result, line, _ = follow(script, hotline)
    ((at, _),) = line.done
    assert at == pytest.approx(3.5, abs=0.1)
    assert result.speech[0].started == pytest.approx(0.02, abs=0.03)
    assert result.speech[0].ended == pytest.approx(3.5, abs=0.1)


def test_words_count_while_the_prompt_still_goes_on() -> None:
    script = "[{hears: Welcome}, {presses: 1}]"
    _, line, _ = follow(script, lambda line: line.say(WELCOME, 8.0))
    ((at, _),) = line.done
    assert at < 3.0


def test_keys_need_no_silence_and_can_wait_for_the_prompt() -> None:
    _, line, _ = follow("[{presses: 1, after: 2}]", lambda line: line.say(MENU, 8.0))
    ((at, _),) = line.done
    assert at == pytest.approx(2.0, abs=0.1)


def test_what_was_said_before_an_answer_does_not_count_after_it() -> None:
    script = "[{hears: Welcome}, {presses: 1}, {hears: Welcome, within: 2}]"
    result, _, _ = follow(script, lambda line: line.say(WELCOME))
    assert result.failed == 3


def test_the_next_prompt_counts_even_when_it_follows_at_once() -> None:
    def hotline(line: FakeLine) -> None:
        line.say(WELCOME, 5.0)

        def pressed(keys: str) -> None:
            line.hush()
            line.say(ACCOUNT)

        line.on_keys = pressed

    script = "[{hears: Welcome}, {presses: 1}, {hears: account number}]"
    result, _, _ = follow(script, hotline)
    assert result.ok, result.reason


def test_silence_lasts_until_it_was_asked_again_so_many_times() -> None:
    def hotline(line: FakeLine) -> None:
        for text in (MENU, "I did not hear you", "use the keypad"):
            line.say(text)
            line.wait(5.0)

    script = "[{hears: press one}, {silent: 2}, {hears: use the keypad}]"
    result, _, events = follow(script, hotline)
    assert result.ok, result.reason
    assert [event.kind for event in events].count("silent") == 2


def test_silence_that_nobody_minds_fails() -> None:
    result, _, _ = follow("[{silent: 1, within: 4}]", lambda line: line.say(MENU))
    assert result.reason == "nothing was asked again within 4 s"


def test_a_call_that_ends_fails_at_once_and_says_so() -> None:
    def hotline(line: FakeLine) -> None:
        line.say("all our lines are busy")
        asyncio.get_running_loop().call_later(2.0, line.end)

    result, _, events = follow("[{hears: Welcome}]", hotline)
    assert result.reason.startswith("before the call ended heard instead: 'all our lines")
    assert [event.text for event in events if event.kind == "hung_up"] == ["them"]
    assert events[-1].t == pytest.approx(2.0, abs=0.1)


def test_the_last_words_before_the_end_are_heard() -> None:
    def hotline(line: FakeLine) -> None:
        line.say("goodbye")
        asyncio.get_running_loop().call_later(1.05, line.end)

    result, _, _ = follow("[{hears: goodbye}, {expect: {ended: true}}]", hotline)
    assert result.ok, result.reason


def test_a_call_that_ends_under_a_robot_that_speaks_fails() -> None:
    def hotline(line: FakeLine) -> None:
        asyncio.get_running_loop().call_later(1.0, line.end)

    result, _, _ = follow("[{says: billing}]", hotline)
    assert result.failed == 1
    assert "ended" in result.reason


def test_an_end_that_does_not_come_fails() -> None:
    result, _, _ = follow("[{expect: {ended: true}, within: 3}]", lambda line: None)
    assert result.reason == "the call was still up after 3 s"


def test_what_a_robot_cannot_see_is_skipped_and_said() -> None:
    result, _, events = follow("[{expect: {node: main}}]", lambda line: None)
    assert result.ok
    assert "skipped" in kinds(events)


def test_a_recogniser_that_fails_is_told_not_hidden() -> None:
    voices = Voices()
    voices.error = SpeechError("the worker died")
    result, _, events = follow(
        "[{hears: x, within: 3}]", lambda line: line.say(MENU), voices=voices
    )
    heard = [event for event in events if event.kind == "heard"]
    assert not result.ok
    assert heard[0].text == "(the worker died)"
    assert not heard[0].ok


def test_the_ear_is_told_what_is_expected_and_only_while_it_is() -> None:
    voices = Voices()
    follow("[{hears: press one}, {presses: 1}]", lambda line: line.say(MENU), voices=voices)
    assert set(voices.expected) <= {"press one", ""}
    assert "press one" in voices.expected


def test_a_number_that_refuses_fails_the_call_itself() -> None:
    result, _, events = follow("[{hears: x}]", lambda line: None, refusal="does not exist")
    assert result.failed == 0
    assert result.reason == "100 does not exist"
    assert kinds(events) == ["dialled", "failed"]


def test_clicks_are_not_words() -> None:
    def hotline(line: FakeLine) -> None:
        line.say(MENU, 0.1)
        line.wait(2)
        line.say(WELCOME)

    _, _, events = follow("[{hears: Welcome}]", hotline)
    assert [event.text for event in events if event.kind == "heard"] == [WELCOME]


async def _as_agent(line: FakeLine, voice: Voices, script: str, **options: float) -> RobotResult:
    steps = load_script(script, "agent.yaml")
    robot = RobotAgentPhone(FakePhone(line), voice.hear, voice.speak, steps, **options)
    return await robot.run()


def test_an_agent_answers_after_a_moment_and_talks() -> None:
    async def work() -> tuple[RobotResult, FakeLine]:
        voice = Voices()
        line = FakeLine(voice, ringing=True)
        line.on_speech = lambda text: line.say("my water is off")
        script = "[{says: how can I help}, {hears: water is off}, {hangs_up: true}]"
        return await _as_agent(line, voice, script, delay=2.0), line

    result, line = run(work())
    assert result.ok, result.reason
    assert line.done[0] == (pytest.approx(2.0), "answered")
    assert result.events[0].kind == "rang"


def test_an_agent_whose_caller_gives_up_fails_the_call() -> None:
    async def work() -> RobotResult:
        voice = Voices()
        line = FakeLine(voice, ringing=True)
        asyncio.get_running_loop().call_later(0.5, line.end)
        return await _as_agent(line, voice, "[{says: hello}]")

    assert run(work()).failed == 0


def test_a_robot_that_is_cancelled_hangs_up() -> None:
    async def work() -> FakeLine:
        voice = Voices()
        line = FakeLine(voice)
        steps = load_script("[{hears: never}]", "a.yaml")
        robot = RobotCaller(FakePhone(line), "100", voice.hear, voice.speak, steps)
        task = asyncio.create_task(robot.run())
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return line

    assert run(work()).ended_by == "us"


def test_a_robot_told_to_hang_up_does() -> None:
    async def work() -> RobotResult:
        voice = Voices()
        line = FakeLine(voice)
        steps = load_script("[{hears: never}]", "a.yaml")
        robot = RobotCaller(FakePhone(line), "100", voice.hear, voice.speak, steps)
        task = asyncio.create_task(robot.run())
        await asyncio.sleep(1.0)
        await robot.hang_up()
        return await task

    assert run(work()).reason == "before the call ended nothing was heard"
