"""The talking and listening of one call: prompts out, one answer in, and who may interrupt whom.

The vocabulary is VoiceXML's: prompts queue up until a question stands at their end; the caller may
speak or press over them (barge-in) where the question allows it; silence is counted from the end
of the last prompt; keys that come early answer the next question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache, partial
from typing import Any

import numpy as np
import structlog

from ivr.flow import answers, keypad
from ivr.flow.events import (
    DigitsPressed,
    Effect,
    End,
    Enqueue,
    Event,
    Expect,
    Leave,
    Record,
    Resumed,
    Say,
    SpeechHeard,
    TimedOut,
    Transfer,
)
from ivr.model import Channel
from ivr.observe import (
    FIRST_PROMPT,
    KEY_TO_PROMPT,
    QUESTIONS,
    SPEECH_FAILURES,
    SPEECH_TO_PROMPT,
)
from ivr.ports import (
    SAMPLE_RATE,
    Clock,
    Heard,
    Hearing,
    Line,
    Listener,
    PartialHeard,
    Prompts,
    Recognizer,
    SpeechEvent,
    SpeechFailed,
    SpeechStarted,
)
from ivr.telephony.message import VoiceMessage
from ivr.telephony.pace import Pace
from ivr.telephony.speaking import Sound, Speaker

log = structlog.get_logger(__name__)

LONGEST_UTTERANCE = 20.0
RECOGNITION_GRACE = 10.0
"""Seconds of one utterance that are listened to, and those that its result may take after that."""

UTTERANCES_LOST = 2
"""So many in a row at one question count as one that was not understood."""

KEYS_KEPT = 64
"""Keys pressed ahead that are kept; more than this is somebody leaning on the keypad."""


@lru_cache(maxsize=1)
def tone() -> bytes:
    """A quarter of a second of 1 kHz, after which a message is taken."""
    wave = np.sin(np.arange(SAMPLE_RATE // 4) * (2 * np.pi * 1000 / SAMPLE_RATE)) * 6000
    return bytes(wave.astype("<i2").tobytes())


class Turns:
    """Prompts and answers of one call, over whatever audio connection it has at the moment.

    `report` is told the answer to a question. When all has been said before it, `finished` is
    called for an `End`, `transfer` for a `Transfer`, and `keep` with the message for a `Record`.
    `measured` is given how each turn went (`ivr.telephony.pace`).
    """

    def __init__(
        self,
        prompts: Prompts,
        ears: Recognizer,
        clock: Clock,
        music: bytes,
        report: Callable[[Event], None],
        finished: Callable[[], None],
        transfer: Callable[[Transfer], None],
        keep: Callable[[Record, VoiceMessage], None],
        measured: Callable[[Mapping[str, Any]], None] = lambda turn: None,
    ):
        self._ears = ears
        self._clock = clock
        self._report = report
        self._finished = finished
        self._transfer = transfer
        self._keep = keep
        self._pace = Pace(measured)
        self._next: Callable[[], None] | None = None
        self._message: tuple[Record, VoiceMessage] | None = None
        self._speaker = Speaker(prompts, music, self._go_on)
        self._expect: Expect | None = None
        self._listener: Listener | None = None
        self._line = Line(self._speaker.played)
        self._timer: asyncio.TimerHandle | None = None
        self._keys = ""
        self._by_speech = False
        self._told_keys_alone: set[str] = set()
        self._lost = "", 0
        self._waiting = False
        self._closed = False
        self._cause = ("answer", clock.monotonic())

    # --- the audio connection --------------------------------------------------------------------

    def connect(self, sound: Sound) -> None:
        """Audio is there: say what has been waiting to be said."""
        self._speaker.connect(sound)
        self._go_on()

    def disconnect(self) -> None:
        """Audio is gone for now (another phone rings, or a fault): stop speaking and listening."""
        self._speaker.disconnect()
        self._stop_listening()
        self._stop_timer()

    def close(self) -> None:
        """The call is over."""
        self._end_message()
        self._closed = True
        self._pace.close(self._clock.monotonic())
        self._expect = None
        self.disconnect()

    # --- from the flow ---------------------------------------------------------------------------

    def perform(self, effects: Sequence[Effect]) -> None:
        """Queue what is to be said, and then await what is expected."""
        if self._closed:
            return
        for effect in effects:
            match effect:
                case Say():
                    self._speaker.say(effect)
                case Expect():
                    self._ask(effect)
                case Enqueue():
                    self._waiting = True
                case End() | Leave(channel=Channel.VOICE):
                    self._withdraw_question()
                    self._next = self._finished
                case Transfer():
                    self._withdraw_question()
                    self._next = partial(self._transfer, effect)
                case Record():
                    self._withdraw_question()
                    self._next = partial(self._sound_tone, effect)
                case _:
                    pass
        self._go_on()

    def wait_no_longer(self) -> None:
        """The queue is left: no more music."""
        self._speaker.silence_music()
        self._waiting = False

    # --- from the caller -------------------------------------------------------------------------

    def heard_frame(self, frame: bytes) -> None:
        if self._message is not None and self._message[1].feed(frame):
            self._end_message()
        if self._listener is not None:
            self._listener.feed(frame)

    def pressed_key(self, key: str) -> None:
        if self._message is not None:
            self._end_message()  # whatever the key: the caller is done
            return
        if len(self._keys) < KEYS_KEPT:
            self._keys += key
        if self._expect is None or "keys" not in self._expect.listen:
            return
        self._cause = ("key", self._clock.monotonic())
        self._pace.key(self._clock.monotonic())
        if self._speaker.speaking and "keys" not in self._expect.barge_in:
            return
        self._stop_speaking()
        self._read_keys(self._expect)

    def _read_keys(self, expect: Expect) -> None:
        """Answer from the keys pressed so far, or wait for the rest of them."""
        read = keypad.read(expect.keypad, self._keys)
        if read.status == "complete":
            self._keys = read.rest
            self._answer(DigitsPressed(read.digits, expect.turn))
        elif read.status == "partial":
            self._start_timer(keypad.GAP, self._keys_ended)
        else:
            self._go_on()

    def _keys_ended(self) -> None:
        if self._expect is not None:
            read = keypad.flush(self._expect.keypad, self._keys)
            self._keys = read.rest
            self._answer(DigitsPressed(read.digits, self._expect.turn))

    def _speech(self, event: SpeechEvent) -> None:
        expect = self._expect
        if expect is None:
            return
        match event:
            case SpeechStarted():
                self._pace.speech_started(event.at)
                # Whatever becomes of the recogniser, the caller is not left in silence for ever.
                self._start_timer(LONGEST_UTTERANCE + RECOGNITION_GRACE, self._recognizer_lost)
                if "speech" in expect.barge_in:
                    self._stop_speaking()
            case Heard():
                self._cause = ("speech", event.ended_at)
                now = self._clock.monotonic()
                self._pace.result(event.text, event.confidence, event.ended_at, now)
                self._answer(
                    SpeechHeard(event.text, event.confidence, event.alternatives, expect.turn)
                )
            case SpeechFailed():
                SPEECH_FAILURES.labels(event.reason).inc()
                log.warning("utterance lost", reason=event.reason)
                self._utterance_lost(expect)
            case PartialHeard():
                self._pace.partial(event.text, self._clock.monotonic())

    def _utterance_lost(self, expect: Expect) -> None:
        """Ask again; but who is asked for ever and never heard must get on, by the keypad or by the
        way that the flow has for those who are not understood."""
        node, times = self._lost
        times = times + 1 if node == expect.node else 1
        if times < UTTERANCES_LOST:
            self._answer(Resumed("voice"))
            self._lost = expect.node, times
            return
        self._pace.decided("lost", self._clock.monotonic())
        self._withdraw_question()
        self._stop_speaking()
        self._lost = expect.node, times
        if "keys" in expect.listen:
            self._tell_keys_alone(expect.language)
        self._report(SpeechHeard("", 0.0, turn=expect.turn))

    def _recognizer_lost(self) -> None:
        self._speech(SpeechFailed("silent"))

    # --- one question ----------------------------------------------------------------------------

    def _ask(self, expect: Expect) -> None:
        self._withdraw_question()
        self._waiting = self._waiting and not expect.wait  # in line one is listened to for ever
        self._expect = expect
        now = self._clock.monotonic()
        self._pace.asked(expect.turn, expect.node, expect.secret, now, self._speaker.playing)
        if "speech" in expect.listen:
            self._by_speech = self._ears.hears(expect.language)
            QUESTIONS.labels("speech" if self._by_speech else "keys").inc()
            if self._by_speech:  # when it is not again, that is news to the caller
                self._told_keys_alone.discard(expect.language)
            elif "keys" in expect.listen:
                self._tell_keys_alone(expect.language)
        if self._keys and "keys" in expect.listen and "keys" in expect.barge_in:
            self._stop_speaking()
            self._read_keys(expect)

    def _tell_keys_alone(self, language: str) -> None:
        if language not in self._told_keys_alone:
            self._told_keys_alone.add(language)
            log.warning("keys alone", language=language)
            text = KEYS_ALONE.get(language, KEYS_ALONE["en"])
            self._speaker.say(Say(text, language, text))

    def _answer(self, event: Event) -> None:
        self._lost = "", 0
        self._pace.decided(_DECISIONS.get(type(event), "lost"), self._clock.monotonic())
        self._withdraw_question()
        self._stop_speaking()
        self._report(event)

    def _withdraw_question(self) -> None:
        self._pace.decided("withdrawn", self._clock.monotonic())
        self._expect = None
        self._stop_listening()
        self._stop_timer()

    def _listen(self) -> None:
        expect = self._expect
        if self._listener is not None or expect is None or "speech" not in expect.listen:
            return
        # As the question was put: who was asked to speak is listened to, and told if it is no use.
        if not self._by_speech:
            return
        self._listener = self._ears.listen(
            Hearing(
                expect.grammar,
                expect.complete,
                expect.incomplete,
                lambda text: answers.progress(expect, text, self._now()),
                LONGEST_UTTERANCE,
                self._line,
                expect.secret,
            ),
            self._speech,
        )

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    # --- speaking --------------------------------------------------------------------------------

    def drained(self) -> None:
        """The audio connection has played everything it was given."""
        if not self._speaker.rendering:
            self._pace.prompt_ended(self._clock.monotonic(), cut=False)
        self._go_on()

    def started(self, at: float) -> None:
        """The first sample after a silence left us at the monotonic time `at`."""
        self._pace.prompt_started(at)
        kind, since = self._cause
        self._cause = ("", at)
        histogram = _GAPS.get(kind)
        if histogram is not None:
            histogram.observe(max(0.0, at - since))

    def _go_on(self) -> None:
        """Do the next thing: speak, or, when all is said, listen, wait, play music or end."""
        if not self._speaker.connected or self._closed:
            return
        if self._expect is not None and "speech" in self._expect.barge_in:
            self._listen()
        if not self._speaker.go_on():
            self._all_said()

    def _all_said(self) -> None:
        if self._next is not None:
            then, self._next = self._next, None
            then()
            return
        if self._expect is not None:
            self._listen()
            if self._keys and "keys" in self._expect.listen and self._timer is None:
                self._read_keys(self._expect)
            if self._expect is not None and self._expect.wait and self._timer is None:
                self._start_timer(self._expect.wait, self._silent)
        if self._waiting:
            self._speaker.play_music()

    def _stop_speaking(self) -> None:
        if self._speaker.playing:
            self._pace.prompt_ended(self._clock.monotonic(), cut=True)
        self._speaker.stop()

    # --- a message -------------------------------------------------------------------------------

    def _sound_tone(self, record: Record) -> None:
        if self._speaker.connected:
            self._next = partial(self._take_message, record)
            self._speaker.play(tone())

    def _take_message(self, record: Record) -> None:
        self._message = record, VoiceMessage(record.maximum)

    def _end_message(self) -> None:
        if self._message is not None:
            record, message = self._message
            self._message = None
            self._keep(record, message)

    # --- patience --------------------------------------------------------------------------------

    def _silent(self) -> None:
        if self._expect is not None:
            self._cause = ("", 0.0)
            self._answer(TimedOut(self._expect.turn))

    def _start_timer(self, seconds: float, then: Callable[[], None]) -> None:
        self._stop_timer()

        def fire() -> None:
            self._timer = None
            then()

        self._timer = asyncio.get_running_loop().call_later(seconds, fire)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _now(self) -> datetime:
        return self._clock.now()


KEYS_ALONE = {
    "en": "I cannot hear speech at the moment. Please use the keypad.",
    "zh": "现在无法听取语音，请使用按键。",
}

_DECISIONS: Mapping[type[Event], str] = {
    SpeechHeard: "answered",
    DigitsPressed: "pressed",
    TimedOut: "timed_out",
}

_GAPS = {"answer": FIRST_PROMPT, "key": KEY_TO_PROMPT, "speech": SPEECH_TO_PROMPT}
