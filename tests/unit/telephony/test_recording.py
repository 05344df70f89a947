"""What goes into the recording of a call, from when on, and what never does, on virtual time."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from ivr.config import RecordingSettings, Settings
from ivr.errors import TelephonyError
from ivr.flow.events import End, Enqueue, Expect, Fetch, Grammar, Say
from ivr.observe import RECORDING_FAILURES
from ivr.ports import FRAME_SECONDS
from ivr.telephony.recording import SECRET_TAIL, CallRecording
from ivr.wire.audiosocket import pack
from tests import virtual

CALLER, FLOW, AGENT, PIN = 1000, 2000, 3000, 4711
ANNOUNCEMENT = 500
SILENT = bytes(320)


def frame(level: int) -> bytes:
    return struct.pack("<h", level) * 160


class Audio:
    """An audio connection on a 20 ms clock: `says` is what we send when nothing is played."""

    def __init__(self) -> None:
        self.says = 0
        self.hears: int | None = 0
        self.closed = False
        self._queue: list[bytes] = []
        self._callbacks: dict[str, Callable[..., None] | None] = {}
        self._task = asyncio.ensure_future(self._run())

    def __getattr__(self, name: str) -> Callable[[Any], None]:
        assert name.startswith("on_"), name
        return lambda callback: self._callbacks.__setitem__(name, callback)

    @property
    def playing(self) -> bool:
        return bool(self._queue)

    def play(self, pcm: bytes) -> None:
        self._queue += [pcm[at : at + 320] for at in range(0, len(pcm), 320)]

    def hang_up(self) -> None:
        if not self.closed:
            self.closed = True
            self._task.cancel()
            self._tell("on_closed")

    def _tell(self, name: str, *values: bytes) -> None:
        if (callback := self._callbacks.get(name)) is not None:
            callback(*values)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(FRAME_SECONDS)
            if self.hears is not None:
                self._tell("on_frame", frame(self.hears))
            was_playing = self.playing
            piece = self._queue.pop(0) if self._queue else frame(self.says)
            self._tell("on_sent", pack(piece))
            if was_playing and not self.playing:
                self._tell("on_drained")


class Tape:
    """A track in memory."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.ended = False

    def write(self, at: int, samples: bytes) -> None:
        assert at >= 0 and at % 640 == 0
        self.content.extend(bytes(max(0, at + len(samples) - len(self.content))))
        self.content[at : at + len(samples)] = samples

    def end(self) -> None:
        self.ended = True

    @property
    def seconds(self) -> float:
        return len(self.content) / 640 * FRAME_SECONDS

    def levels(self, begin: float, end: float) -> tuple[set[int], set[int]]:
        """Which levels stand left and right between two times."""
        first, last = (round(at / FRAME_SECONDS) * 640 for at in (begin, end))
        pairs = [
            struct.unpack_from("<hh", self.content, at)
            for at in range(first, min(last, len(self.content)), 640)
        ]
        return {left for left, _ in pairs}, {right for _, right in pairs}


class Rig:
    """One call with its recording, and an Asterisk that connects spies."""

    def __init__(self, *, allowed: bool = True, voice: bool = True):
        self.tape = Tape() if allowed else None
        self.spied: list[str] = []
        self.spies: list[Audio] = []
        self.manager_up = True
        self.hangs: asyncio.Event | None = None
        self.settings = Settings(recording=RecordingSettings(enabled=True))
        self._awaited: list[asyncio.Future[Any]] = []
        self._voice = voice
        telephone: Any = SimpleNamespace(
            settings=self.settings,
            audio=SimpleNamespace(expect=self._expect),
            ami=SimpleNamespace(action=self._action),
            prompts=SimpleNamespace(render=self._render),
            clock=virtual.LoopClock(),
            recordings=SimpleNamespace(settings=self.settings.recording, begin=self._begin),
        )
        self.said: list[tuple[str, str]] = []
        self.recording = CallRecording(telephone)
        self.audio = Audio()

    async def _begin(self, conversation_id: str, leg_id: str) -> Tape | None:
        if self.hangs is not None:
            await self.hangs.wait()
        return self.tape

    async def _render(self, text: str, language: str, template: str = "") -> AsyncIterator[bytes]:
        self.said.append((text, language))
        if self._voice:
            yield frame(ANNOUNCEMENT) * 100

    def _expect(self, key: Any, timeout: float) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._awaited.append(future)
        return future

    async def _action(self, name: str, /, **fields: Any) -> None:
        if not self.manager_up:
            raise TelephonyError("the manager link is down")
        assert (name, fields["Application"]) == ("Originate", "ChanSpy")
        self.spied.append(fields["Data"])
        spy = Audio()
        self.spies.append(spy)
        self._awaited.pop(0).set_result(spy)

    def converse(self) -> None:
        """As the voice leg does with an audio connection."""
        audio: Any = self.audio
        self.recording.tap(audio)
        audio.on_frame(self.recording.heard)
        self.audio.hears, self.audio.says = CALLER, FLOW

    async def begin(self, language: str = "en") -> None:
        audio: Any = self.audio
        await self.recording.announce(audio, language, "c1", "leg")
        self.converse()

    def ask(self, *, secret: bool = False) -> None:
        expect = Expect(1, "n", "en", Grammar("en"), secret=secret)
        self.recording.follow([Say("?", "en", "?"), expect])


def call(work: Callable[[Rig], Coroutine[Any, Any, None]], **rig: Any) -> Rig:
    """Run a call to its end."""

    async def run() -> Rig:
        made = Rig(**rig)
        await work(made)
        await made.recording.end()
        made.audio.hang_up()
        await asyncio.sleep(0)
        return made

    return virtual.run(run())


def failed(reason: str) -> float:
    return float(RECORDING_FAILURES.labels(reason)._value.get())


# --- the announcement ----------------------------------------------------------------------------


def test_nothing_of_the_caller_is_recorded_before_they_have_been_told() -> None:
    async def work(rig: Rig) -> None:
        rig.audio.hears = CALLER
        rig.audio._callbacks["on_frame"] = rig.recording.heard
        await rig.begin()
        await asyncio.sleep(3)

    rig = call(work)
    assert rig.tape is not None and rig.tape.ended
    assert rig.said == [("This call may be recorded.", "en")]
    assert rig.tape.levels(0, 1.96)[0] == {0}
    assert rig.tape.levels(0.5, 1.96)[1] == {ANNOUNCEMENT}  # that they were told is on the tape
    assert rig.tape.levels(2.2, 4.8) == ({CALLER}, {FLOW})
    assert rig.tape.seconds == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize(
    ("language", "told"),
    [("zh", ("本次通话可能会被录音。", "zh")), ("fr", ("This call may be recorded.", "en"))],
)
def test_the_announcement_is_in_the_callers_language(language: str, told: tuple[str, str]) -> None:
    assert call(lambda rig: rig.begin(language)).said == [told]


def test_a_caller_who_cannot_be_told_is_not_recorded() -> None:
    before = failed("announcement")

    async def work(rig: Rig) -> None:
        await rig.begin()
        await asyncio.sleep(3)

    rig = call(work, voice=False)
    assert rig.tape is not None and not rig.tape.content and rig.tape.ended
    assert failed("announcement") == before + 1


def test_who_hangs_up_during_the_announcement_is_not_recorded() -> None:
    async def work(rig: Rig) -> None:
        asyncio.get_running_loop().call_later(0.5, rig.audio.hang_up)
        await rig.begin()

    rig = call(work)
    assert rig.tape is not None and rig.tape.levels(0, 9)[0] <= {0}


def test_they_are_told_once() -> None:
    async def work(rig: Rig) -> None:
        await rig.begin()
        await rig.begin()

    assert len(call(work).said) == 1


def test_a_call_goes_on_when_there_can_be_no_recording() -> None:
    async def work(rig: Rig) -> None:
        await rig.begin()
        rig.ask(secret=True)
        rig.recording.join("PJSIP/9001-1", "PJSIP/1001-1")
        await asyncio.sleep(1)

    assert call(work, allowed=False).spied == []


def test_a_call_does_not_wait_for_a_recording_that_cannot_begin() -> None:
    """A database or a disk that hangs; when it is back, what was begun is ended."""
    back = asyncio.Event()

    async def work() -> None:
        rig = Rig()
        rig.hangs = back
        await rig.begin()
        await asyncio.sleep(1)
        before = asyncio.get_running_loop().time()
        await rig.recording.end()
        assert asyncio.get_running_loop().time() == before
        rig.audio.hang_up()
        assert rig.tape is not None and not rig.tape.ended
        back.set()
        await asyncio.sleep(0.1)
        assert rig.tape.ended

    virtual.run(work())


# --- secrets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "after", [End(), Enqueue("q"), Expect(2, "m", "en", Grammar("en"))], ids=lambda one: type(one)
)
def test_a_secret_is_not_recorded_from_either_side(after: Any) -> None:
    async def work(rig: Rig) -> None:
        await rig.begin()  # until 2 s
        await asyncio.sleep(2)
        rig.ask(secret=True)  # at 4 s
        rig.audio.hears = rig.audio.says = PIN
        await asyncio.sleep(3)
        rig.recording.follow([Fetch("f", "POST", "crm", "/x", 3.0)])  # the answer is under way
        await asyncio.sleep(1)
        rig.recording.follow([Say("Thanks.", "en", "Thanks."), after])  # at 8 s
        rig.audio.says = FLOW
        await asyncio.sleep(SECRET_TAIL - 0.04)  # the last key's tone dies away
        rig.audio.hears = CALLER
        await asyncio.sleep(2)

    rig = call(work)
    assert rig.tape is not None
    assert struct.pack("<h", PIN) not in bytes(rig.tape.content)
    assert rig.tape.levels(3, 3.9) == ({CALLER}, {FLOW})
    assert rig.tape.levels(4.1, 7.9) == ({0}, {0})
    assert rig.tape.levels(8.1, 8.4) == ({0}, {FLOW})
    assert rig.tape.levels(8.7, 10) == ({CALLER}, {FLOW})


def test_a_secret_that_is_asked_for_again_stays_one() -> None:
    async def work(rig: Rig) -> None:
        await rig.begin()
        rig.ask(secret=True)
        rig.audio.hears = PIN
        for _ in range(3):
            await asyncio.sleep(0.7)
            rig.ask(secret=True)
        await asyncio.sleep(0.7)

    rig = call(work)
    assert rig.tape is not None and struct.pack("<h", PIN) not in bytes(rig.tape.content)


def test_a_call_that_comes_back_at_a_secret_question_is_silent_until_its_answer() -> None:
    async def work(rig: Rig) -> None:
        rig.ask(secret=True)  # what the flow asks again, before audio is there
        await rig.begin()
        rig.audio.hears = PIN
        await asyncio.sleep(2)

    rig = call(work)
    assert rig.tape is not None and struct.pack("<h", PIN) not in bytes(rig.tape.content)


# --- the talk ------------------------------------------------------------------------------------


async def talk(rig: Rig) -> None:
    await rig.begin()  # until 2 s
    await asyncio.sleep(1)
    rig.audio.hang_up()  # the agent's phone rings
    await asyncio.sleep(4)
    rig.recording.join("PJSIP/9001-1", "PJSIP/1001-1")  # at 7 s
    await asyncio.sleep(0)
    for spy, level in zip(rig.spies, (CALLER, AGENT), strict=False):
        spy.hears = level
    await asyncio.sleep(3)
    rig.recording.part()
    rig.audio = Audio()
    rig.converse()  # at 10 s
    await asyncio.sleep(2)


def test_both_sides_of_a_talk_are_recorded_at_their_time() -> None:
    rig = call(talk)
    assert rig.tape is not None
    assert rig.spied == ["PJSIP/9001-1,uoqES", "PJSIP/1001-1,uoqES"]
    assert all(spy.closed for spy in rig.spies)
    assert rig.tape.levels(2.2, 2.9) == ({CALLER}, {FLOW})
    assert rig.tape.levels(3.1, 6.9) == ({0}, {0})
    assert rig.tape.levels(7.2, 9.8) == ({CALLER}, {AGENT})
    assert rig.tape.levels(10.2, 11.9) == ({CALLER}, {FLOW})
    assert rig.tape.seconds == pytest.approx(12, abs=0.1)


def test_a_talk_that_cannot_be_followed_is_missing_and_nothing_else() -> None:
    before = failed("talk")

    async def work(rig: Rig) -> None:
        rig.manager_up = False
        await talk(rig)

    rig = call(work)
    assert rig.tape is not None
    assert failed("talk") == before + 2
    assert rig.tape.levels(7.2, 9.8) == ({0}, {0})
    assert rig.tape.levels(10.2, 11.9) == ({CALLER}, {FLOW})


@pytest.mark.parametrize("channel", ["", "PJSIP/1001-1,s(evil)", "a\r\nAction: Logoff", "x" * 300])
def test_nothing_but_a_channel_is_followed(channel: str) -> None:
    async def work(rig: Rig) -> None:
        await rig.begin()
        rig.recording.join("PJSIP/9001-1", channel)
        await asyncio.sleep(1)

    assert call(work).spied == ["PJSIP/9001-1,uoqES"]
