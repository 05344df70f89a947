"""What a caller can rely on during a question: to interrupt, to press ahead, to be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ivr.flow.events import (
    Choice,
    DigitsPressed,
    End,
    Enqueue,
    Event,
    Expect,
    Grammar,
    Keypad,
    Record,
    Resumed,
    Say,
    SpeechHeard,
    TimedOut,
    Transfer,
)
from ivr.ports import (
    Heard,
    Hearing,
    Listener,
    PartialHeard,
    SpeechEvent,
    SpeechFailed,
    SpeechStarted,
)
from ivr.telephony.turn import Turns
from tests.virtual import LoopClock, run

SECOND = b"\0" * 16_000
MUSIC = b"music"
MENU = Expect(
    turn=1,
    node="main",
    language="en",
    grammar=Grammar("en", ("billing", "repairs")),
    keypad=Keypad(options=("1", "2")),
    choices=(Choice("billing", "billing", "1"), Choice("repairs", "repairs", "2")),
)
ACCOUNT = Expect(
    turn=2,
    node="account",
    language="en",
    grammar=Grammar("en", words=("one", "two")),
    keypad=Keypad(minimum=8, maximum=8),
    slot_type="digits",
)


class Line:
    """An audio connection that plays in virtual time."""

    def __init__(self, drained: Callable[[], None], started: Callable[[float], None]):
        self.sounds: list[bytes] = []
        self.cut_at: list[float] = []
        self.looping: bytes | None = None
        self._drained = drained
        self._started = started
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def playing(self) -> bool:
        return self._timer is not None

    def play(self, pcm: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.sounds.append(pcm)
        if self._timer is None:
            loop.call_soon(self._started, loop.time())
        self._until = max(self._until, loop.time()) + len(pcm) / 16_000
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(self._until, self._end)

    def loop(self, pcm: bytes) -> None:
        self.looping = pcm

    def stop(self) -> None:
        self.looping = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._until = 0.0
            self.cut_at.append(asyncio.get_running_loop().time())

    def played(self) -> bytes:
        return b"".join(self.sounds[-1:])

    def _end(self) -> None:
        self._timer = None
        self._drained()


class Spoken:
    """Prompts that last one second a sentence."""

    async def render(self, text: str, language: str, template: str = "") -> AsyncIterator[bytes]:
        for _ in filter(None, text.split(".")):
            yield SECOND


@dataclass
class Ear:
    """A recogniser that the test speaks for."""

    deaf: bool = False
    notify: Callable[[SpeechEvent], None] | None = None
    hearing: Hearing | None = None
    opened: int = 0

    def hears(self, language: str) -> bool:
        return not self.deaf

    def listen(self, hearing: Hearing, notify: Callable[[SpeechEvent], None]) -> Listener:
        self.opened += 1
        self.hearing, self.notify = hearing, notify
        return self

    def feed(self, frame: bytes) -> None: ...

    def close(self) -> None:
        self.notify = None


@dataclass
class Call:
    """The turns of one call, with everything around them in the test's hand."""

    ear: Ear
    reported: list[tuple[float, Event]] = field(default_factory=list)
    ended_at: list[float] = field(default_factory=list)
    transfers: list[tuple[float, str]] = field(default_factory=list)
    messages: list[tuple[float, float]] = field(default_factory=list)
    paces: list[Mapping[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.turns = Turns(
            Spoken(),
            self.ear,
            LoopClock(),
            MUSIC,
            lambda event: self.reported.append((loop.time(), event)),
            lambda: self.ended_at.append(loop.time()),
            lambda effect: self.transfers.append((loop.time(), effect.to)),
            lambda effect, message: self.messages.append((loop.time(), message.seconds)),
            self.paces.append,
        )
        self.line = Line(self.turns.drained, self.turns.started)
        self.turns.connect(self.line)

    @property
    def events(self) -> list[Event]:
        return [event for _, event in self.reported]


def call(scene: Callable[[Call], Coroutine[Any, Any, None]], ear: Ear | None = None) -> Call:
    async def play() -> Call:
        talk = Call(ear or Ear())
        await scene(talk)
        return talk

    return run(play())


def say(text: str) -> Say:
    return Say(text, "en", text)


def test_silence_is_counted_from_the_end_of_the_prompt() -> None:
    async def scene(talk: Call) -> None:
        talk.turns.perform([say("One. Two. Three"), MENU])
        await asyncio.sleep(60)

    [(at, event)] = call(scene).reported
    assert event == TimedOut(1)
    assert at == pytest.approx(3 + MENU.wait, abs=0.01)


def test_a_key_stops_the_prompt_and_answers() -> None:
    async def scene(talk: Call) -> None:
        talk.turns.perform([say("One. Two. Three"), MENU])
        await asyncio.sleep(0.5)
        talk.turns.pressed_key("2")
        await asyncio.sleep(60)

    talk = call(scene)
    assert talk.events == [DigitsPressed("2", 1)]
    assert talk.line.cut_at == [0.5]


def test_keys_pressed_ahead_answer_the_questions_to_come() -> None:
    async def scene(talk: Call) -> None:
        for key in "112345678":
            talk.turns.pressed_key(key)
        talk.turns.perform([say("Welcome"), say("Billing or repairs?"), MENU])
        await asyncio.sleep(0)
        talk.turns.perform([say("Your account number?"), ACCOUNT])
        await asyncio.sleep(60)

    talk = call(scene)
    assert talk.events == [DigitsPressed("1", 1), DigitsPressed("12345678", 2)]
    assert talk.line.sounds == []


def test_an_unfinished_entry_is_taken_after_a_pause_and_not_before() -> None:
    async def scene(talk: Call) -> None:
        talk.turns.perform([ACCOUNT])
        for key in "1234":
            await asyncio.sleep(1.5)
            talk.turns.pressed_key(key)
        await asyncio.sleep(60)

    [(at, event)] = call(scene).reported
    assert event == DigitsPressed("1234", 2)
    assert at > 6 + 2


def test_speech_stops_the_prompt_and_its_text_answers() -> None:
    async def scene(talk: Call) -> None:
        talk.turns.perform([say("One. Two. Three"), MENU])
        await asyncio.sleep(1.2)
        assert talk.ear.notify is not None
        talk.ear.notify(SpeechStarted(1.2))
        assert not talk.line.playing
        await asyncio.sleep(1)
        talk.ear.notify(Heard("billing", 0.9, ended_at=2.0))
        await asyncio.sleep(60)

    assert call(scene).events == [SpeechHeard("billing", 0.9, (), 1)]


def test_where_speech_may_not_interrupt_listening_begins_after_the_prompt() -> None:
    async def scene(talk: Call) -> None:
        stern = Expect(
            1, "main", "en", Grammar("en", ("billing",)), barge_in=("keys",), keypad=Keypad(("1",))
        )
        talk.turns.perform([say("One. Two"), stern])
        await asyncio.sleep(1)
        assert talk.ear.opened == 0
        await asyncio.sleep(1.5)
        assert talk.ear.opened == 1

    call(scene)


def test_where_keys_may_not_interrupt_they_are_kept_for_the_end_of_the_prompt() -> None:
    async def scene(talk: Call) -> None:
        stern = Expect(
            1, "main", "en", Grammar("en", ("billing",)), barge_in=(), keypad=Keypad(("1",))
        )
        talk.turns.perform([say("One. Two"), stern])
        await asyncio.sleep(0.5)
        talk.turns.pressed_key("1")
        await asyncio.sleep(60)

    [(at, event)] = call(scene).reported
    assert event == DigitsPressed("1", 1)
    assert at == pytest.approx(2, abs=0.01)


def test_a_lost_recogniser_asks_again_instead_of_counting_a_miss() -> None:
    async def scene(talk: Call) -> None:
        talk.turns.perform([say("One"), MENU])
        await asyncio.sleep(2)
        assert talk.ear.notify is not None
        talk.ear.notify(SpeechStarted(2.0))
        talk.ear.notify(SpeechFailed("worker died"))
        await asyncio.sleep(60)

    assert call(scene).events == [Resumed("voice")]


def test_a_recogniser_that_never_answers_does_not_leave_the_caller_in_silence() -> None:
    async def scene(talk: Call) -> None:
        talk.turns.perform([say("One"), MENU])
        await asyncio.sleep(2)
        assert talk.ear.notify is not None
        talk.ear.notify(SpeechStarted(2.0))
        await asyncio.sleep(60)

    assert call(scene).events == [Resumed("voice")]


def test_without_a_recogniser_the_caller_is_told_once_to_use_the_keypad() -> None:
    async def scene(talk: Call) -> None:
        talk.turns.perform([say("Billing or repairs"), MENU])
        await asyncio.sleep(60)
        talk.turns.perform([say("Billing or repairs"), MENU])
        await asyncio.sleep(60)

    talk = call(scene, Ear(deaf=True))
    assert talk.ear.opened == 0
    assert len(talk.line.sounds) == 1 + 2 + 1


def test_when_speech_was_offered_in_between_the_keypad_is_news_again() -> None:
    async def scene(talk: Call) -> None:
        for talk.ear.deaf in (True, True, False, True):
            talk.turns.perform([say("Billing or repairs"), MENU])
            await asyncio.sleep(60)

    talk = call(scene)
    assert talk.ear.opened == 1
    assert len(talk.line.sounds) == 3 + 1 + 1 + 3, "told before the first and the last"


def test_a_question_keeps_the_way_in_which_it_was_put() -> None:
    async def scene(talk: Call) -> None:
        talk.turns.perform([say("Billing or repairs"), replace(MENU, barge_in=frozenset())])
        talk.ear.deaf = True  # callers elsewhere keep every recogniser busy now
        await asyncio.sleep(2)
        assert talk.ear.notify is not None, "who was asked to speak is listened to"
        talk.ear.notify(SpeechStarted(2.0))
        talk.ear.notify(SpeechFailed("unavailable"))
        await asyncio.sleep(0)
        talk.turns.perform([say("Billing or repairs"), MENU])
        await asyncio.sleep(5)
        assert talk.ear.notify is None

    talk = call(scene)
    assert talk.events[0] == Resumed("voice")
    assert len(talk.line.sounds) == 1 + 2 + 1, "asked again, by keys alone"


def test_prompts_of_two_steps_follow_each_other() -> None:
    async def scene(talk: Call) -> None:
        talk.turns.perform([say("One moment. Please")])
        await asyncio.sleep(0.1)
        talk.turns.perform([say("Here it is"), MENU])
        await asyncio.sleep(60)

    talk = call(scene)
    assert talk.line.cut_at in ([], [3 + MENU.wait])
    assert talk.reported[0][0] == pytest.approx(3 + MENU.wait, abs=0.01)


def test_the_end_waits_for_the_last_word() -> None:
    async def scene(talk: Call) -> None:
        talk.turns.perform([say("Goodbye. Thank you"), End()])
        await asyncio.sleep(60)

    talk = call(scene)
    assert talk.ended_at == [pytest.approx(2, abs=0.01)]


def test_a_transfer_waits_for_the_last_word() -> None:
    async def scene(talk: Call) -> None:
        talk.turns.perform([say("One moment. Please"), Transfer("t1", "1002", 20)])
        await asyncio.sleep(60)

    assert call(scene).transfers == [(pytest.approx(2, abs=0.01), "1002")]


LOUD = b"\x00\x20" * 160
QUIET = bytes(320)


async def speak(talk: Call, frame: bytes, seconds: float) -> None:
    for _ in range(round(seconds * 50)):
        talk.turns.heard_frame(frame)
        await asyncio.sleep(0.02)


def test_a_message_is_taken_after_the_tone_until_the_caller_falls_silent() -> None:
    async def scene(talk: Call) -> None:
        talk.turns.perform([say("Speak"), Record("r1", 120)])
        await speak(talk, LOUD, 1)  # over the prompt: not a part of it
        await speak(talk, QUIET, 2)
        await speak(talk, LOUD, 4)
        await speak(talk, QUIET, 10)

    [(at, seconds)] = call(scene).messages
    assert at == pytest.approx(1 + 2 + 4 + 3, abs=0.1)
    assert seconds == pytest.approx(1.75 + 4, abs=0.1)


@pytest.mark.parametrize("end", ["key", "hang-up", "maximum"])
def test_a_message_ends_by_key_hang_up_or_length_and_is_kept(end: str) -> None:
    async def scene(talk: Call) -> None:
        talk.turns.perform([say("Speak"), Record("r1", 3)])
        await asyncio.sleep(1.3)
        await speak(talk, LOUD, 2)
        if end == "key":
            talk.turns.pressed_key("#")
        elif end == "hang-up":
            talk.turns.close()
        await speak(talk, LOUD, 5)

    [(_, seconds)] = call(scene).messages
    assert seconds == pytest.approx(3 if end == "maximum" else 2, abs=0.05)


def test_nothing_said_is_no_message() -> None:
    async def scene(talk: Call) -> None:
        talk.turns.perform([say("Speak"), Record("r1", 120)])
        await speak(talk, QUIET, 20)

    [(at, seconds)] = call(scene).messages
    assert seconds == 0
    assert at < 11


def test_who_waits_in_the_queue_is_heard_through_the_music_and_never_timed_out() -> None:
    async def work() -> None:
        waits = replace(MENU, wait=0.0, listen=("speech",), keypad=Keypad())
        call = Call(Ear())
        call.turns.connect(call.line)
        call.turns.perform([Enqueue("q1"), waits])
        await asyncio.sleep(600)
        assert call.reported == [] and call.line.looping == MUSIC
        assert call.ear.notify is not None
        call.ear.notify(SpeechStarted(600.0))
        assert call.line.looping is None
        call.ear.notify(Heard("", 0.1))
        assert [event for _, event in call.reported] == [SpeechHeard("", 0.1, turn=1)]
        call.turns.perform([replace(waits, turn=2)])
        await asyncio.sleep(1)
        assert call.line.looping == MUSIC and call.ear.notify is not None

    run(work())


def test_who_cannot_be_heard_in_the_queue_is_not_sent_to_the_keypad() -> None:
    async def work() -> None:
        call = Call(Ear(deaf=True))
        call.turns.connect(call.line)
        call.turns.perform([Enqueue("q1"), replace(MENU, wait=0.0, listen=("speech",))])
        await asyncio.sleep(5)
        assert call.line.sounds == [] and call.line.looping == MUSIC

    run(work())


def test_music_plays_in_the_queue_and_makes_way_for_the_place_in_line() -> None:
    async def scene(talk: Call) -> None:
        talk.turns.perform([say("You are number two"), Enqueue("q1")])
        await asyncio.sleep(0.5)
        assert talk.line.looping is None
        await asyncio.sleep(1)
        assert talk.line.looping == MUSIC
        talk.turns.perform([say("You are next")])
        await asyncio.sleep(0.5)
        assert talk.line.looping is None
        await asyncio.sleep(1)
        assert talk.line.looping == MUSIC
        talk.turns.disconnect()
        talk.turns.connect(talk.line)
        assert talk.line.looping == MUSIC

    call(scene)


def test_after_the_call_nothing_is_said_or_reported() -> None:
    async def scene(talk: Call) -> None:
        talk.turns.perform([say("One"), MENU])
        await asyncio.sleep(0.5)
        talk.turns.close()
        talk.turns.perform([say("Two"), MENU])
        talk.turns.pressed_key("1")
        await asyncio.sleep(60)

    assert call(scene).events == []


def test_a_prompt_that_cannot_be_rendered_costs_that_sentence_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    render = Spoken.render

    def faulty(self: Spoken, text: str, language: str, template: str = "") -> AsyncIterator[bytes]:
        if text == "Bad":
            raise ValueError("a voice's fault")
        return render(self, text, language, template)

    monkeypatch.setattr(Spoken, "render", faulty)

    async def scene(talk: Call) -> None:
        talk.turns.perform([say("Bad"), say("Good"), End()])
        await asyncio.sleep(60)

    talk = call(scene)
    assert talk.line.sounds == [SECOND]
    assert talk.ended_at


def test_a_recogniser_that_fails_again_counts_as_a_miss_and_keys_are_offered() -> None:
    async def scene(talk: Call) -> None:
        for turn in (1, 2, 3):
            talk.turns.perform([say("Billing or repairs"), replace(MENU, turn=turn)])
            await asyncio.sleep(3)
            assert talk.ear.notify is not None
            talk.ear.notify(SpeechFailed("worker died"))

    talk = call(scene)
    missed = [SpeechHeard("", 0.0, turn=turn) for turn in (2, 3)]
    assert talk.events == [Resumed("voice"), *missed]
    assert len(talk.line.sounds) == 3 + 2  # the question, and once the two sentences about keys


def test_a_recogniser_that_fails_now_and_then_only_has_the_question_repeated() -> None:
    async def scene(talk: Call) -> None:
        for event in (SpeechFailed("died"), Heard("billing", 0.9, (), 0.0)) * 2:
            talk.turns.perform([say("Billing or repairs"), MENU])
            await asyncio.sleep(3)
            assert talk.ear.notify is not None
            talk.ear.notify(event)

    heard = SpeechHeard("billing", 0.9, (), 1)
    assert call(scene).events == [Resumed("voice"), heard] * 2


def test_the_ear_knows_what_is_played() -> None:
    async def scene(talk: Call) -> None:
        talk.turns.perform([say("One"), MENU])
        await asyncio.sleep(0.5)
        assert talk.ear.hearing is not None
        assert talk.ear.hearing.line.played() == SECOND
        talk.turns.disconnect()
        assert talk.ear.hearing.line.played() == b""

    call(scene)


def test_how_a_spoken_turn_went_is_told_when_the_next_prompt_is_heard() -> None:
    async def scene(talk: Call) -> None:
        talk.turns.perform([say("One. Two. Three"), MENU])
        await asyncio.sleep(1)
        assert talk.ear.notify is not None
        talk.ear.notify(SpeechStarted(0.95))
        talk.ear.notify(PartialHeard("bill"))
        await asyncio.sleep(1)
        talk.ear.notify(Heard("billing", 0.9, ended_at=1.75))
        assert talk.paces == []
        await asyncio.sleep(0.5)
        talk.turns.perform([say("Your account?"), ACCOUNT])
        await asyncio.sleep(0.1)

    [pace] = call(scene).paces
    assert pace == {
        "turn": 1,
        "node": "main",
        "prompt_started": 0.0,
        "speech_started": 0.95,
        "prompt_cut": 1.0,
        "partials": [{"at": 1.0, "text": "bill"}],
        "speech_ended": 1.75,
        "result": 2.0,
        "text": "billing",
        "confidence": 0.9,
        "decision": "answered",
        "decided": 2.0,
        "next_prompt": 2.5,
    }


def test_how_a_turn_of_keys_and_one_of_silence_went_is_told() -> None:
    async def scene(talk: Call) -> None:
        talk.turns.perform([say("One. Two"), MENU])
        await asyncio.sleep(0.5)
        talk.turns.pressed_key("1")
        talk.turns.perform([say("One"), replace(MENU, turn=2)])
        await asyncio.sleep(7)
        talk.turns.close()

    keyed, silent = call(scene).paces
    assert (keyed["decision"], keyed["keys"], keyed["prompt_cut"]) == ("pressed", [0.5], 0.5)
    assert keyed["next_prompt"] == 0.5
    assert (silent["decision"], silent["prompt_ended"]) == ("timed_out", 1.0)
    assert silent["timed_out"] == 1 + MENU.wait
    assert "next_prompt" not in silent


def test_of_a_question_for_a_secret_there_are_times_alone() -> None:
    async def scene(talk: Call) -> None:
        secret = replace(ACCOUNT, secret=True)
        for turn in (1, 2):
            talk.turns.perform([say("Your PIN?"), replace(secret, turn=turn)])
            await asyncio.sleep(2)
            assert talk.ear.notify is not None
            assert talk.ear.hearing is not None and talk.ear.hearing.secret
            if turn == 1:
                talk.ear.notify(SpeechStarted(1.5))
                talk.ear.notify(PartialHeard("one two"))
                talk.ear.notify(Heard("one two", 0.9, ended_at=1.9))
            else:
                for key in "47114711":
                    talk.turns.pressed_key(key)
        talk.turns.close()

    spoken, pressed = call(scene).paces
    for pace in (spoken, pressed):
        assert pace["secret"] is True
        assert not {"text", "confidence", "partials", "keys", "last_key"} & set(pace)
    assert "47" not in str(pressed.values())
    assert spoken["result"] == 2.0
