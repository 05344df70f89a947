"""The voice leg over SIP of our own: one caller of the softphone, from the answer to the hang-up.

It talks and listens with the very parts that a call over Asterisk does: `ivr.telephony.turn` for
the conversation, `AudioLeg` for prompts, music and time. What a dialplan would do is done here: an
agent is a second call, whose audio passes through us and goes to both.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from ivr.errors import CallGone, HotlineError, TelephonyError
from ivr.flow.events import (
    Dequeue,
    Effect,
    Event,
    Record,
    Recorded,
    Started,
    Transfer,
    TransferEnded,
)
from ivr.model import Leg
from ivr.ports import FRAME_BYTES, SAMPLE_RATE, Answered, CallEvent, Ringing
from ivr.telephony.media import AudioLeg
from ivr.telephony.message import VoiceMessage
from ivr.telephony.phonecall import PhoneCall
from ivr.telephony.recording import CallRecording
from ivr.telephony.rtp import RtpStream
from ivr.telephony.transactions import NotConnected
from ivr.telephony.turn import Turns
from ivr.wire.audio import pcm_from_floats, pcm_to_ulaw

if TYPE_CHECKING:
    from ivr.telephony.extension import Extension

log = structlog.get_logger(__name__)

_OUTCOMES = {
    408: "no_answer",
    480: "no_answer",
    486: "busy",
    487: "no_answer",
    600: "busy",
    603: "busy",
}
"""SIP's refusals in the words of `ivr.ports.CallControl`; the others are `unavailable`."""

_TRANSFER_OUTCOMES = {"talked": "answered", "no_answer": "no_answer", "busy": "busy"}
"""Those in the words of `TransferEnded`; the others are refused."""

_RELAYED = 5  # frames of a talk that may wait
_SILENT_SECONDS = 60.0  # without any audio, after which the caller is taken to be gone
_LOOK_SECONDS = 10.0
_LAST_SECONDS = 5.0  # for what is still to be written when the call is over


@cache
def ringback() -> bytes:
    """What a caller hears while a phone rings for them: 425 Hz, one second in five, as PCM."""
    beep = np.sin(np.arange(SAMPLE_RATE) * (2 * np.pi * 425 / SAMPLE_RATE)) * 0.08
    return pcm_from_floats(np.concatenate([beep, np.zeros(4 * SAMPLE_RATE)]), SAMPLE_RATE)


class _RtpWire:
    """What an `AudioLeg` takes for its socket: keeps the frame that is to leave at this tick."""

    def __init__(self) -> None:
        self.frame = b""

    def getHandle(self) -> _RtpWire:  # noqa: N802
        return self

    def send(self, framed: bytes) -> int:
        self.frame = framed[-FRAME_BYTES:]
        return len(framed)

    def write(self, data: bytes) -> None:
        """AudioSocket's goodbye; SIP has its own."""


class PhoneAudio(AudioLeg):
    """One call's audio and keys over RTP, driven by the phone's clock."""

    def __init__(self, stream: RtpStream):
        self._rtp = _RtpWire()
        super().__init__(self._rtp, lambda: None)
        self._talk: deque[bytes] = deque(maxlen=_RELAYED)
        stream.feed(self._next)
        stream.listen(self.receive, filled=False)
        stream.listen_for_keys(self.press)

    def relay(self, frame: bytes) -> None:
        """Let the caller hear a frame of the person they talk with."""
        self._talk.append(frame)

    def _next(self, now: float) -> bytes:
        if self._talk:
            self.play(self._talk.popleft())
        self.tick(now)
        return pcm_to_ulaw(self._rtp.frame)


class PhoneLeg:
    """One call. Implements `ivr.ports.LegPort`."""

    def __init__(self, extension: Extension, call: PhoneCall, leg: Leg):
        self._extension = extension
        self._call = call
        self._leg = leg
        self._audio: PhoneAudio | None = None
        self._other: PhoneCall | None = None
        self._connecting = False
        self._unrecorded = False
        self._broken = False
        self._done = False
        self._beginning: asyncio.Future[None] | None = None
        self._recording = CallRecording(extension)
        self._tasks: set[asyncio.Future[None]] = set()
        self._turns = Turns(
            extension.prompts,
            extension.ears,
            extension.clock,
            extension.music,
            self._report,
            self._finish,
            self._transfer,
            self._keep,
            self._measured,
        )

    @property
    def leg(self) -> Leg:
        return self._leg

    async def perform(self, effects: Sequence[Effect]) -> None:
        if any(isinstance(effect, Dequeue) for effect in effects):
            self._turns.wait_no_longer()
        self._recording.follow(effects)
        self._turns.perform(effects)

    async def close(self, cause: str) -> None:
        log.info("call closed", leg=self._leg.id, cause=cause)
        self._finish()

    # --- the call's life -------------------------------------------------------------------------

    async def run(self, started: Started) -> None:
        """Serve the caller until one side hangs up. Never raises but for cancellation."""
        runner = self._extension.runner
        watching: asyncio.Future[None] | None = None
        try:
            await self._call.answer()
            self._beginning = asyncio.ensure_future(runner.begin(self, started))
            self._beginning.add_done_callback(self._ended)
            watching = asyncio.ensure_future(self._watch())
            await self._converse()
            await self._call.ended()
        except CallGone:
            pass
        except HotlineError as error:
            log.error("call lost to a fault", leg=self._leg.id, error=str(error))
            self._broken = True
        finally:
            if watching is not None:
                watching.cancel()
            self._turns.close()
            if self._audio is not None:
                self._audio.lose()
            await self._call.hang_up()
            if self._beginning is not None:  # what has begun is written, so that it can be ended
                await asyncio.wait({self._beginning})
            await self._recording.end()
            if self._tasks:  # a message that the caller has just left, a ringing that stops
                await asyncio.wait(set(self._tasks), timeout=_LAST_SECONDS)
        if self._beginning is not None:
            served = "completed" if self._done else "hung_up"
            await runner.left(self, "fault" if self._broken else served)

    async def _converse(self) -> None:
        self._audio = audio = PhoneAudio(self._call.stream)
        audio.on_started(self._turns.started)
        await self._announce(audio)
        self._recording.tap(audio)
        audio.on_frame(self._heard)
        audio.on_key(self._pressed)
        audio.on_drained(self._turns.drained)
        self._turns.connect(audio)

    async def _announce(self, audio: PhoneAudio) -> None:
        """Tell the caller first if the call is to be recorded."""
        if not self._extension.settings.recording.enabled or self._beginning is None:
            return
        await asyncio.wait({self._beginning})
        conversation = self._leg.conversation_id
        if language := self._extension.runner.wants_recording(conversation):
            await self._recording.announce(audio, language, conversation, self._leg.id)

    async def _watch(self) -> None:
        """Hang up on a phone that is gone without a word; one that holds the call may be silent."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            quiet = loop.time() - self._call.stream.last_packet
            if self._call.media.remote is not None and quiet > _SILENT_SECONDS:
                log.warning("no audio from the caller", leg=self._leg.id, seconds=round(quiet))
                self._spawn(self._call.hang_up())
                return

    def _heard(self, frame: bytes) -> None:
        if not self._unrecorded:
            self._recording.heard(frame)
        if self._other is not None:
            self._other.stream.relay(frame)
        else:
            self._turns.heard_frame(frame)

    def _pressed(self, key: str) -> None:
        if self._other is not None:
            self._other.stream.relay_key(key)
        else:
            self._turns.pressed_key(key)

    def _finish(self) -> None:
        self._done = True
        self._spawn(self._call.hang_up())

    def _measured(self, turn: Mapping[str, Any]) -> None:
        self._spawn(self._extension.runner.measured(self._leg.conversation_id, turn))

    def _report(self, event: Event) -> None:
        self._spawn(self._extension.runner.report(self._leg.conversation_id, event))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._broken:
            # Nothing would ever be said again: rather the caller dials once more.
            log.error("call broken", leg=self._leg.id, error=repr(error), exc_info=error)
            self._broken = True
            self._spawn(self._call.hang_up())

    # --- with somebody else ----------------------------------------------------------------------

    async def ring(
        self, extension: str, seconds: float, notify: Callable[[CallEvent], None]
    ) -> str:
        """As `ivr.ports.CallControl.ring`."""
        rung = False

        def ringing() -> None:
            nonlocal rung
            if not rung:
                rung = True
                notify(Ringing(extension))

        return await self._connect(
            extension, seconds, ringing, lambda: notify(Answered(extension)), recorded=True
        )

    async def _connect(
        self,
        number: str,
        seconds: float,
        ringing: Callable[[], None],
        answered: Callable[[], None],
        *,
        recorded: bool,
    ) -> str:
        """Call somebody, and let them talk with the caller until one of them hangs up."""
        if self._connecting:
            raise TelephonyError(f"call {self._leg.id} rings another phone already")
        self._connecting = True
        dialling = asyncio.ensure_future(self._call.phone.call(number, seconds, ringing))
        gone = asyncio.ensure_future(self._call.ended())
        other: PhoneCall | None = None
        try:
            await asyncio.wait({dialling, gone}, return_when=asyncio.FIRST_COMPLETED)
            if self._call.state == "ended":
                return "gone"
            other = await dialling
            answered()
            await self._talk(other, gone, recorded)
            return "talked"
        except NotConnected as refusal:
            return _OUTCOMES.get(refusal.code, "unavailable")
        except TelephonyError as error:
            log.warning("not connected", leg=self._leg.id, number=number, error=str(error))
            return "unavailable"
        finally:
            gone.cancel()
            dialling.cancel()
            await asyncio.wait({dialling})
            if other is None and not dialling.cancelled() and dialling.exception() is None:
                other = dialling.result()  # picked up at the very moment
            if other is not None:
                self._spawn(other.hang_up())
            self._connecting = False

    async def _talk(self, other: PhoneCall, gone: asyncio.Future[None], recorded: bool) -> None:
        if self._audio is None:
            return
        if not recorded:  # whom a flow transfers to has been told nothing
            self._unrecorded = True
            self._audio.on_sent(None)
        self._turns.disconnect()
        self._audio.stop()
        self._other = other
        other.stream.listen(self._audio.relay, filled=False)
        other.stream.listen_for_keys(self._call.stream.relay_key)
        ended = asyncio.ensure_future(other.ended())
        try:
            await asyncio.wait({ended, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            self._other = None
            other.stream.close()
            if self._unrecorded:
                self._unrecorded = False
                self._recording.tap(self._audio)
            if self._call.state == "answered":
                self._turns.connect(self._audio)

    async def hang_up(self) -> None:
        """End the talk with the agent if there is one, else the call."""
        if self._other is not None:
            await self._other.hang_up()
        else:
            self._finish()

    # --- what a flow asks of the telephone -------------------------------------------------------

    def _transfer(self, effect: Transfer) -> None:
        if self._connecting or not self._extension.may_dial(effect.to):
            log.warning("transfer refused", leg=self._leg.id, to=effect.to)
            self._report(TransferEnded(effect.id, "refused"))
            return
        if self._audio is not None:
            self._audio.loop(ringback())
        self._spawn(self._carry_out(effect))

    async def _carry_out(self, effect: Transfer) -> None:
        outcome = await self._connect(
            effect.to, effect.ring, lambda: None, lambda: None, recorded=False
        )
        if self._audio is not None:
            self._audio.stop()
        word = _TRANSFER_OUTCOMES.get(outcome, "refused")
        await self._extension.runner.report(
            self._leg.conversation_id, TransferEnded(effect.id, word)
        )

    def _keep(self, effect: Record, message: VoiceMessage) -> None:
        self._spawn(self._store_message(effect, message))

    async def _store_message(self, effect: Record, message: VoiceMessage) -> None:
        reference, leg = "", self._leg
        if message.pcm:
            reference = await self._extension.recordings.keep_message(
                leg.conversation_id, leg.id, effect.id, message.pcm, message.seconds
            )
        await self._extension.runner.report(
            leg.conversation_id, Recorded(effect.id, reference, message.seconds)
        )
