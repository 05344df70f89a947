"""The voice leg: one caller on the telephone, from the answer to the hang-up.

The call's channel does one thing at a time, in turns: it is connected to our audio, where the flow
talks and listens (`ivr.telephony.turn`), or it rings another phone. When the caller is served, a
channel variable says so to the dialplan; a call that comes back without it was cut off by a fault
of ours, and is put through again with the conversation's id, so that the caller goes on at the same
question.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog

from ivr.errors import CallGone, HotlineError, TelephonyError
from ivr.flow.events import (
    Dequeue,
    Effect,
    Event,
    Expect,
    Record,
    Recorded,
    Resumed,
    Say,
    Started,
    Transfer,
    TransferEnded,
)
from ivr.model import Channel, Leg
from ivr.ports import Answered, CallEvent, Ringing
from ivr.telephony.asterisk import AmiEvent
from ivr.telephony.fastagi import AgiCall
from ivr.telephony.media import AudioLeg
from ivr.telephony.message import VoiceMessage
from ivr.telephony.recording import CallRecording
from ivr.telephony.turn import Turns

if TYPE_CHECKING:
    from ivr.telephony.telephone import Telephone

log = structlog.get_logger(__name__)

DONE = "HOTLINE_DONE"
CONVERSATION = "HOTLINE_CONVERSATION"
"""Channel variables that the dialplan reads; see deploy/asterisk/extensions.conf."""

_TRANSFER = "HOTLINE_TRANSFER"
"""The one that outlives a server to say which transfer the channel's DIALSTATUS is about."""

_TRANSFER_OUTCOMES = {"talked": "answered", "no_answer": "no_answer", "busy": "busy"}
"""Those in the words of `TransferEnded`; the others are refused."""

_AUDIO_TIMEOUT = 5.0
_CALL_OFF_SECONDS = 5.0
_NEWS_SECONDS = 1.0
"""How much later than a connection's end the manager may tell the channel's."""

_FAULTS_BORNE = 3

_OUTCOMES = {
    "ANSWER": "talked",
    "NOANSWER": "no_answer",
    "BUSY": "busy",
    "CHANUNAVAIL": "unavailable",
    "CONGESTION": "unavailable",
    "CANCEL": "gone",
}
"""Asterisk's DIALSTATUS in the words of `ivr.ports.CallControl`."""


@dataclass
class _Errand:
    """A telephone that the channel is to be connected with instead of talking with the flow.
    `target` is Asterisk's name of it, `extension` ours."""

    target: str
    extension: str
    seconds: float
    notify: Callable[[CallEvent], None]
    outcome: asyncio.Future[str]
    transfer: str = ""
    channel: str = ""
    answered: bool = False
    called_off: bool = False


class VoiceLeg:
    """One call. Implements `ivr.ports.LegPort`."""

    def __init__(self, telephone: Telephone, call: AgiCall, leg: Leg):
        self._telephone = telephone
        self._call = call
        self._leg = leg
        self._audio: AudioLeg | None = None
        self._errand: _Errand | None = None
        self._done = False
        self._broken = False
        self._language = ""
        self._transferred = ""
        self._beginning: asyncio.Future[None] | None = None
        self._recording = CallRecording(telephone)
        self._tasks: set[asyncio.Future[None]] = set()
        self._turns = Turns(
            telephone.prompts,
            telephone.ears,
            telephone.clock,
            telephone.music,
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
        for effect in effects:
            match effect:
                case Dequeue():
                    self._turns.wait_no_longer()
                case Say() | Expect() if effect.language != self._language:
                    self._language = effect.language
                    self._spawn(self._telephone.tell_language(self._call.request, self._language))
                case _:
                    pass
        self._recording.follow(effects)
        self._turns.perform(effects)

    async def close(self, cause: str) -> None:
        log.info("call closed", leg=self._leg.id, cause=cause)
        self._finish()

    # --- the channel's life ----------------------------------------------------------------------

    async def run(self, started: Started, again: bool) -> None:
        """Serve the caller until one side hangs up. Never raises but for cancellation."""
        cause = "hung_up"
        try:
            await self._call.answer()
            if again and await self._call.get_variable("DIALSTATUS") == "ANSWER":
                self._transferred = await self._call.get_variable(_TRANSFER)
            if not (again and await self._telephone.runner.resume(self)):
                # What the call was about is over, or was never stored: it is a new matter.
                self._leg = replace(self._leg, conversation_id=uuid.uuid4().hex)
                await self._call.set_variable(CONVERSATION, self._leg.conversation_id)
                # Audio is connected meanwhile: outside of it Asterisk throws keys away.
                begin = self._telephone.runner.begin(self, started)
                self._beginning = asyncio.ensure_future(begin)
                self._beginning.add_done_callback(self._ended)
            await self._alternate()
            await self._call.set_variable(DONE, "1")
            await self._call.hang_up()
            cause = "completed"
        except CallGone:
            pass
        except HotlineError as error:
            if not (self._telephone.stopping or await self._hung_up()):
                # The dialplan takes the caller back, and puts them through to us again.
                log.error("call lost to a fault", leg=self._leg.id, error=str(error))
                cause = "fault"
        finally:
            self._turns.close()
            if self._audio is not None:
                self._audio.hang_up()
            if self._beginning is not None:  # what has begun is written, so that it can be ended
                await asyncio.wait({self._beginning})
            await self._recording.end()
            if self._tasks:  # a message that the caller has just left
                await asyncio.wait(set(self._tasks), timeout=_CALL_OFF_SECONDS)
            if self._errand is not None and not self._errand.outcome.done():
                await self._abandon(self._errand)
        if self._telephone.stopping:
            return  # nothing has ended: whoever comes next takes it up
        if cause == "fault":
            await self._telephone.runner.lost(self)
        else:
            await self._telephone.runner.left(self, cause)

    async def _hung_up(self) -> bool:
        """Whether a lost connection was the caller's hang-up after all, as the manager tells."""
        if not self._call.cut:
            return False
        if self._telephone.has_ended(self._leg.reference):
            return True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._call.hung_up.wait(), _NEWS_SECONDS)
        return self._call.hung_up.is_set()

    def lose(self) -> None:
        """Asterisk has ended the channel."""
        self._call.lose()

    async def _abandon(self, errand: _Errand) -> None:
        """The call is over, or let go of: then a talk goes on without us, and has no outcome."""
        if not self._telephone.stopping:
            errand.outcome.set_result("gone")
            return
        errand.outcome.cancel()
        if not errand.answered:  # it would ring for a caller who hears the dialplan's message
            await self._telephone.hang_up_channel(errand.channel)

    async def _alternate(self) -> None:
        """Talk with the flow, run errands, until the flow is done. Raises CallGone."""
        faults = 0
        while not self._done:
            if self._broken:
                raise TelephonyError("its flow does not go on")
            if self._errand is not None:
                await self._run_errand(self._errand)
                self._errand = None
                continue
            try:
                await self._converse()
            except TimeoutError:
                faults += 1
            else:
                if self._elsewhere:
                    continue
                faults += 1
            if faults > _FAULTS_BORNE:
                raise TelephonyError("the audio connection was lost too often")
            self._report(Resumed(Channel.VOICE.value))

    async def _converse(self) -> None:
        """Connect the channel with our audio, until either side ends that."""
        settings = self._telephone.settings.asterisk
        key = uuid.uuid4()
        connecting = asyncio.ensure_future(self._telephone.audio.expect(key, _AUDIO_TIMEOUT))
        target = f"{settings.agi_host}:{settings.audio_port}"
        application = asyncio.ensure_future(self._call.execute("AudioSocket", str(key), target))
        either: set[asyncio.Future[Any]] = {connecting, application}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                await application
                raise TelephonyError("Asterisk did not connect the call's audio")
            self._audio = await connecting
            self._audio.on_started(self._turns.started)
            await self._announce(self._audio)
            self._recording.tap(self._audio)
            self._audio.on_frame(self._heard)
            self._audio.on_key(self._turns.pressed_key)
            self._audio.on_drained(self._turns.drained)
            self._turns.connect(self._audio)
            if self._elsewhere:
                self._audio.hang_up()
            try:
                await application
            except TelephonyError as error:
                if isinstance(error, CallGone) or self._call.cut:
                    raise
                # The connection broke; the channel is still there, and gets another.
                log.warning("audio connection lost", leg=self._leg.id, error=str(error))
        finally:
            self._turns.disconnect()
            if self._audio is not None:
                self._audio.hang_up()
            self._audio = None
            for pending in (connecting, application):
                pending.cancel()

    async def _announce(self, audio: AudioLeg) -> None:
        """Tell the caller first if the call is to be recorded."""
        if not self._telephone.settings.recording.enabled:
            return
        if self._beginning is not None:
            await asyncio.wait({self._beginning})
        conversation = self._leg.conversation_id
        if language := self._telephone.runner.wants_recording(conversation):
            await self._recording.announce(audio, language, conversation, self._leg.id)

    def _heard(self, frame: bytes) -> None:
        self._recording.heard(frame)
        self._turns.heard_frame(frame)

    @property
    def _elsewhere(self) -> bool:
        """Whether the channel has something else to do than to talk with the flow."""
        return self._done or self._broken or self._errand is not None

    def _finish(self) -> None:
        self._done = True
        if self._audio is not None:
            self._audio.hang_up()

    def _measured(self, turn: Mapping[str, Any]) -> None:
        self._spawn(self._telephone.runner.measured(self._leg.conversation_id, turn))

    def _report(self, event: Event) -> None:
        self._spawn(self._telephone.runner.report(self._leg.conversation_id, event))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Nothing would ever be said again: rather the dialplan has the caller.
            log.error("call broken", leg=self._leg.id, error=repr(error), exc_info=error)
            self._broken = True
            if self._audio is not None:
                self._audio.hang_up()

    # --- ringing an agent ------------------------------------------------------------------------

    async def ring(
        self, extension: str, seconds: float, notify: Callable[[CallEvent], None]
    ) -> str:
        if self._errand is not None:
            raise TelephonyError(f"call {self._leg.id} rings {self._errand.extension} already")
        outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._errand = errand = _Errand(f"PJSIP/{extension}", extension, seconds, notify, outcome)
        if self._audio is not None:
            self._audio.hang_up()
        try:
            return await asyncio.shield(outcome)
        except asyncio.CancelledError:
            if self._telephone.stopping:
                raise
            errand.called_off = True
            await self._telephone.hang_up_channel(errand.channel)
            # The channel is free for the next errand only when Asterisk has ended this one.
            await asyncio.wait({outcome}, timeout=_CALL_OFF_SECONDS)
            raise

    async def _run_errand(self, errand: _Errand) -> None:
        def follow(event: AmiEvent) -> None:
            if event.fields.get("Uniqueid") != self._leg.reference:
                return
            if event.name == "DialBegin":
                errand.channel = event.fields.get("DestChannel", "")
                if errand.called_off:
                    self._spawn(self._telephone.hang_up_channel(errand.channel))
                else:
                    errand.notify(Ringing(errand.extension))
            elif event.name == "DialEnd" and event.fields.get("DialStatus") == "ANSWER":
                errand.answered = True
                if not errand.called_off:
                    errand.notify(Answered(errand.extension))
                    if not errand.transfer:  # whom a flow transfers to has been told nothing
                        self._recording.join(self._call.request.channel, errand.channel)

        await self._call.set_variable(_TRANSFER, errand.transfer)
        if errand.called_off:
            errand.outcome.set_result("no_answer")
            return
        unsubscribe = self._telephone.ami.subscribe(follow)
        try:
            # g: go on in this channel when the agent hangs up first.
            await self._call.execute("Dial", errand.target, f"{errand.seconds:g}", "g")
            status = await self._call.get_variable("DIALSTATUS")
        finally:
            unsubscribe()
            self._recording.part()
        outcome = _OUTCOMES.get(status, "unavailable")
        if outcome == "talked" and not errand.answered and not errand.called_off:
            # The manager link was down when the agent answered.
            errand.notify(Answered(errand.extension))
        if not errand.outcome.done():
            errand.outcome.set_result(outcome)

    # --- what a flow asks of the telephone -----------------------------------------------------

    def _transfer(self, effect: Transfer) -> None:
        if effect.id == self._transferred:  # the talk went on without us, and is over
            self._report(TransferEnded(effect.id, "answered"))
            return
        target = self._telephone.route(effect.to)
        if target is None or self._errand is not None:
            log.warning("transfer refused", leg=self._leg.id, to=effect.to)
            self._report(TransferEnded(effect.id, "refused"))
            return
        outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._errand = _Errand(
            target, effect.to, effect.ring, lambda event: None, outcome, effect.id
        )
        if self._audio is not None:
            self._audio.hang_up()

        def ended(future: asyncio.Future[str]) -> None:
            if not future.cancelled():
                word = _TRANSFER_OUTCOMES.get(future.result(), "refused")
                self._report(TransferEnded(effect.id, word))

        outcome.add_done_callback(ended)

    def _keep(self, effect: Record, message: VoiceMessage) -> None:
        self._spawn(self._store_message(effect, message))

    async def _store_message(self, effect: Record, message: VoiceMessage) -> None:
        reference, leg = "", self._leg
        if message.pcm:
            reference = await self._telephone.recordings.keep_message(
                leg.conversation_id, leg.id, effect.id, message.pcm, message.seconds
            )
        await self._telephone.runner.report(
            self._leg.conversation_id, Recorded(effect.id, reference, message.seconds)
        )

    async def hang_up(self) -> None:
        """End the talk with the agent if there is one, else the call."""
        if self._errand is not None and self._errand.channel:
            await self._telephone.hang_up_channel(self._errand.channel)
        else:
            self._finish()
