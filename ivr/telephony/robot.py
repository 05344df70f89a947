"""Robots on the telephone: a caller that follows a script, and an agent's phone that does.

What they do is real: they hear by recognising audio, speak by synthesis and press keys on the wire.
Hearing and voice come in as two functions, so that this module knows no engine:

    hear(pcm, expected) -> (text, confidence)   what was said. `expected` is what the script waits
                                                for, "" if nothing, for engines that need phrases
    speak(text, language) -> pcm                as `ivr.ports.Synthesizer.synthesize`
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from ivr.errors import CallGone, HotlineError, TelephonyError
from ivr.telephony.ear import Ear, Utterance, similarity
from ivr.telephony.script import Script, Step

Hear = Callable[[bytes, str], Awaitable[tuple[str, float]]]
Speak = Callable[[str, str], Awaitable[bytes]]

MATCH = 0.78
"""The least similarity that counts as hearing what was expected. Measured with Whisper tiny.en on a
piper voice at 8 kHz: 0.89 and more for the prompt itself, 0.72 and less for any other."""

_QUIET = 0.6  # seconds without speech after which the other side has finished
_NO_INPUT = 1.5  # quiet that is waiting, not a breath between two sentences
_GLIMPSE = 2.0  # seconds of an unfinished utterance that are worth another look
_SHORTEST = 0.2  # seconds; of less, recognisers make words that nobody said
_HEARING = 30.0  # seconds within which a recogniser must answer
_LAST_WORDS = 10.0  # for what is still to be recognised when the script is over

Kind = Literal[
    "dialled",
    "rang",
    "answered",
    "heard",
    "said",
    "pressed",
    "silent",
    "skipped",
    "hung_up",
    "failed",
]


@dataclass(frozen=True, slots=True)
class RobotEvent:
    """One thing on the timeline, in seconds since dialling (or ringing): from `t` until `until`."""

    t: float
    kind: Kind
    text: str = ""
    ok: bool = True
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class Speech:
    """When the other side spoke, from the first loud 20 ms to the last, without a long pause."""

    started: float
    ended: float


@dataclass(frozen=True, slots=True)
class RobotResult:
    """How a script came out. `failed` numbers the step from 1; 0 is the call itself."""

    ok: bool
    events: tuple[RobotEvent, ...]
    speech: tuple[Speech, ...]
    failed: int | None = None
    line: int = 0
    expected: str = ""
    heard: str = ""
    reason: str = ""


class Line(Protocol):
    """A call as a robot needs it: `ivr.telephony.softphone.PhoneCall`."""

    state: Literal["ringing", "answered", "ended"]
    ended_by: str

    def on_frame(self, callback: Callable[[bytes], None], /) -> Callable[[], None]: ...
    async def answer(self) -> None: ...
    async def play(self, pcm: bytes, /) -> None: ...
    async def press(self, keys: str, /) -> None: ...
    async def hang_up(self) -> None: ...
    async def ended(self) -> None: ...


class Phone(Protocol):
    """A telephone as a robot needs it: `ivr.telephony.softphone.Softphone`."""

    async def call(self, number: str, seconds: float, /) -> Line: ...
    async def incoming(self, seconds: float | None, /) -> Line: ...


class _StepFailedError(Exception):
    """What was awaited did not happen; its text says what did."""


class _Robot(ABC):
    """What caller and agent share: one call's ear, timeline and script."""

    def __init__(
        self,
        phone: Phone,
        hear: Hear,
        speak: Speak,
        script: Script,
        emit: Callable[[RobotEvent], None] = lambda event: None,
    ):
        self._phone = phone
        self._hear = hear
        self._speak = speak
        self._script = script
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._events: list[RobotEvent] = []
        self._speech: list[Speech] = []
        self._line: Line | None = None
        self._ear = Ear()
        self._utterances: asyncio.Queue[Utterance] = asyncio.Queue()
        self._unrecognised = 0
        self._texts: list[str] = []  # heard since the robot last did something itself
        self._glimpse = ""  # of the unfinished utterance
        self._wanted = ""
        self._acted_at = 0.0
        self._stirred = asyncio.Event()

    @abstractmethod
    async def _connect(self) -> Line:
        """The answered call. Raises TelephonyError when there is none."""

    async def run(self) -> RobotResult:
        """Do it all, and hang up at the end whatever happens. Failures are in the result."""
        self._began = self._loop.time()
        try:
            voices = {
                step.text: await self._speak(step.text, self._script.language)
                for step in self._script.steps
                if step.kind == "says"
            }
            self._line = line = await self._connect()
        except HotlineError as error:
            return self._fail(0, 0, "an answered call", str(error))
        self._note("answered")
        stop = line.on_frame(self._frame)
        helpers = [
            asyncio.create_task(self._recognise(), name="robot recognises"),
            asyncio.create_task(self._watch(line), name="robot watches the line"),
        ]
        try:
            return await self._follow(line, voices)
        finally:
            stop()
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await line.hang_up()

    async def hang_up(self) -> None:
        """End the call now, as told from outside; the script then fails at what it was doing."""
        if self._line is not None:
            await self._line.hang_up()

    # --- the script ----------------------------------------------------------------------------

    async def _follow(self, line: Line, voices: dict[str, bytes]) -> RobotResult:
        for number, step in enumerate(self._script.steps, 1):
            try:
                match step.kind:
                    case "hears":
                        await self._hears(step)
                    case "says":
                        await self._says(step, line, voices[step.text])
                    case "presses":
                        await self._presses(step, line)
                    case "silent":
                        await self._silent(step)
                    case "hangs_up":
                        await self._after(step)
                        await self._leave(line)
                    case "expect":
                        await self._expect(step, line)
            except (_StepFailedError, CallGone) as failure:
                return self._fail(
                    number, step.line, f"{step.kind} {step.text}".strip(), str(failure)
                )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                while self._unrecognised:
                    await self._stir()
        if line.state != "ended":
            await self._leave(line)
        return RobotResult(True, tuple(self._events), tuple(self._speech))

    async def _hears(self, step: Step) -> None:
        self._wanted = step.text
        self._glimpse = ""
        found = await self._until(lambda: self._matches(step.text), step.within)
        if not found and self._ear.speaking:  # what is being said now counts, too
            self._complete(self._ear.cut())
            found = await self._until(lambda: self._matches(step.text), 0)
        self._wanted = ""
        if not found:
            raise _StepFailedError(self._instead(step))

    async def _says(self, step: Step, line: Line, pcm: bytes) -> None:
        if step.barge_in:
            await self._after(step)
        elif not await self._until(lambda: self._quiet(_QUIET), step.within):
            raise _StepFailedError(
                f"the other side did not stop speaking within {step.within:g} s "
                "(barge_in: true speaks over it)"
            )
        began = self._act()
        await line.play(pcm)
        self._note("said", step.text, began=began)

    async def _presses(self, step: Step, line: Line) -> None:
        await self._after(step)
        began = self._act()
        try:
            await line.press(step.text)
        except CallGone:
            raise
        except TelephonyError as error:
            raise _StepFailedError(str(error)) from None
        self._note("pressed", step.text, began=began)

    async def _silent(self, step: Step) -> None:
        for _ in range(step.times):
            waited = await self._until(lambda: self._quiet(_NO_INPUT), step.within)
            began = self._act()
            asked = waited and await self._until(lambda: self._ear.speaking, step.within)
            if not asked:
                raise _StepFailedError(f"nothing was asked again within {step.within:g} s")
            self._note("silent", began=began)

    async def _expect(self, step: Step, line: Line) -> None:
        if step.text != "ended":
            self._note("skipped", "expect: only `hotline test` can look inside the flow")
        elif not await self._until(lambda: line.state == "ended", step.within):
            raise _StepFailedError(f"the call was still up after {step.within:g} s")

    async def _after(self, step: Step) -> None:
        """Wait until the other side has spoken for `after` seconds; without one do not wait."""
        if not step.after and not step.barge_in:
            return
        if not await self._until(lambda: self._ear.speaking, step.within):
            raise _StepFailedError(f"the other side said nothing within {step.within:g} s")
        due = self._ear.started + step.after
        await self._until(lambda: self._loop.time() >= due, step.after + 1.0)

    async def _leave(self, line: Line) -> None:
        await line.hang_up()
        self._note("hung_up", "us")

    # --- the ear -------------------------------------------------------------------------------

    def _frame(self, frame: bytes) -> None:
        self._complete(self._ear.feed(frame, self._loop.time()))
        self._stirred.set()

    def _complete(self, utterance: Utterance | None) -> None:
        if utterance is not None:
            if utterance.ended - utterance.started >= _SHORTEST:
                self._unrecognised += 1
                self._utterances.put_nowait(utterance)
            self._speech.append(
                Speech(utterance.started - self._began, utterance.ended - self._began)
            )

    async def _recognise(self) -> None:
        """Make text of utterances in order, and of an unfinished one when something is awaited:
        a prompt may go on long after the words that the script waits for."""
        looked = 0.0
        while True:
            if self._utterances.empty():
                said = self._ear.so_far() if self._wanted else b""
                if self._loop.time() - max(looked, self._ear.started) > _GLIMPSE and said:
                    started = self._ear.started
                    text, _ = await self._understand(said)
                    looked = self._loop.time()
                    if self._ear.speaking and self._ear.started == started >= self._acted_at:
                        self._glimpse = text
                await self._stir()
                continue
            utterance = self._utterances.get_nowait()
            text, confidence = await self._understand(utterance.pcm)
            if utterance.started >= self._acted_at:
                self._texts.append(text)
            self._glimpse = ""
            self._unrecognised -= 1
            began, ended = utterance.started - self._began, utterance.ended - self._began
            self._append(RobotEvent(began, "heard", text, confidence > 0, ended))
            self._stirred.set()

    async def _understand(self, pcm: bytes) -> tuple[str, float]:
        try:
            async with asyncio.timeout(_HEARING):
                return await self._hear(pcm, self._wanted)
        except HotlineError as error:
            return f"({error})", 0.0
        except TimeoutError:
            return f"(the recogniser did not answer within {_HEARING:g} s)", 0.0

    async def _watch(self, line: Line) -> None:
        await line.ended()
        self._complete(self._ear.cut())
        if line.ended_by != "us":
            self._note("hung_up", line.ended_by)
        self._stirred.set()

    def _act(self) -> float:
        """Begin to do something: what was heard up to now is no answer to it."""
        self._complete(self._ear.cut())
        self._texts.clear()
        self._glimpse = ""
        self._acted_at = self._loop.time()
        return self._acted_at - self._began

    def _matches(self, expected: str) -> bool:
        return similarity(expected, " ".join((*self._texts, self._glimpse))) >= MATCH

    def _quiet(self, seconds: float) -> bool:
        return not self._ear.speaking and self._loop.time() - self._ear.last_loud >= seconds

    def _instead(self, step: Step) -> str:
        heard = " ".join((*self._texts, self._glimpse)).strip()
        ended = self._line is not None and self._line.state == "ended"
        when = "before the call ended" if ended else f"within {step.within:g} s"
        return f"{when} heard instead: {heard[-400:]!r}" if heard else f"{when} nothing was heard"

    # --- waiting and telling -------------------------------------------------------------------

    async def _stir(self) -> None:
        self._stirred.clear()
        await self._stirred.wait()

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for a condition; False when the time is over, or the call is and all of it is heard.

        What was said in time counts even when its recognition takes longer."""
        deadline = self._loop.time() + seconds
        while not condition():
            ended = self._line is not None and self._line.state == "ended"
            if not self._unrecognised and (ended or self._loop.time() >= deadline):
                return condition()
            await self._stir()
        return True

    def _note(self, kind: Kind, text: str = "", *, began: float | None = None) -> None:
        now = self._loop.time() - self._began
        self._append(RobotEvent(now if began is None else began, kind, text, True, now))

    def _append(self, event: RobotEvent) -> None:
        self._events.append(event)
        self._emit(event)

    def _fail(self, number: int, line: int, expected: str, reason: str) -> RobotResult:
        where = f"step {number} (line {line})" if number else "the call"
        now = self._loop.time() - self._began
        self._append(RobotEvent(now, "failed", f"{where}: {expected}: {reason}", False, now))
        heard = " ".join((*self._texts, self._glimpse)).strip()
        events, speech = tuple(self._events), tuple(self._speech)
        return RobotResult(False, events, speech, number, line, expected, heard, reason)


class RobotCaller(_Robot):
    """A customer made of a script: dials `number` and follows it."""

    def __init__(
        self,
        phone: Phone,
        number: str,
        hear: Hear,
        speak: Speak,
        script: Script,
        emit: Callable[[RobotEvent], None] = lambda event: None,
        *,
        patience: float = 30.0,
    ):
        super().__init__(phone, hear, speak, script, emit)
        self._number = number
        self._patience = patience

    async def _connect(self) -> Line:
        self._began = self._loop.time()
        self._note("dialled", self._number)
        return await self._phone.call(self._number, self._patience)


class RobotAgentPhone(_Robot):
    """An agent's telephone made of a script: answers the next call after `delay` and follows it."""

    def __init__(
        self,
        phone: Phone,
        hear: Hear,
        speak: Speak,
        script: Script,
        emit: Callable[[RobotEvent], None] = lambda event: None,
        *,
        delay: float = 1.0,
        patience: float | None = None,
    ):
        super().__init__(phone, hear, speak, script, emit)
        self._delay = delay
        self._patience = patience

    async def _connect(self) -> Line:
        line = await self._phone.incoming(self._patience)
        self._began = self._loop.time()
        self._note("rang")
        await asyncio.sleep(self._delay)
        await line.answer()
        return line
