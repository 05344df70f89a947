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
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
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
from ivr.ports import CallEvent
from ivr.telephony.fastagi import AgiCall
from ivr.telephony.following import Errand
from ivr.telephony.media import AudioLeg
from ivr.telephony.message import VoiceMessage
from ivr.telephony.recording import CallRecording
from ivr.telephony.talk import AGENT, TRANSFER, After, Talk
from ivr.telephony.turn import Turns

if TYPE_CHECKING:
    from ivr.telephony.telephone import Telephone

log = structlog.get_logger(__name__)

DONE = "HOTLINE_DONE"
CONVERSATION = "HOTLINE_CONVERSATION"
"""Channel variables that the dialplan reads; see deploy/asterisk/extensions.conf."""

_TRANSFER_OUTCOMES = {"talked": "answered", "no_answer": "no_answer", "busy": "busy"}
"""Those in the words of `TransferEnded`; the others are refused."""

_AUDIO_TIMEOUT = 5.0
_CALL_OFF_SECONDS = 5.0
_NEWS_SECONDS = 1.0
"""How much later than a connection's end the manager may tell the channel's."""

_FAULTS_BORNE = 3


class VoiceLeg:
    """One call. Implements `ivr.ports.LegPort`."""

    def __init__(self, telephone: Telephone, call: AgiCall, leg: Leg):
        self._telephone = telephone
        self._call = call
        self._leg = leg
        self._audio: AudioLeg | None = None
        self._errand: Talk | None = None
        self._returns = False
        self._done = False
        self._broken = False
        self._language = ""
        self._transferred = ""
        self._beginning: asyncio.Future[None] | None = None
        self.recording = CallRecording(telephone)
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

    @property
    def call(self) -> AgiCall:
        return self._call

    @property
    def finished(self) -> bool:
        return self._done or self._broken

    @property
    def talk(self) -> Talk | None:
        """What an agent can control now."""
        return None if self._errand is None or self._errand.errand.transfer else self._errand

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
        self.recording.follow(effects)
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
            if again:
                await self._retrieve()
            if again and await self._call.get_variable("DIALSTATUS") == "ANSWER":
                self._transferred = await self._call.get_variable(TRANSFER)
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
            cause = "fault" if self._returns else cause
        except HotlineError as error:
            if self._returns:
                cause = "fault"
            elif not (self._telephone.stopping or await self._hung_up()):
                # The dialplan takes the caller back, and puts them through to us again.
                log.error("call lost to a fault", leg=self._leg.id, error=str(error))
                cause = "fault"
        finally:
            self._turns.close()
            if self._audio is not None:
                self._audio.hang_up()
            if self._beginning is not None:  # what has begun is written, so that it can be ended
                await asyncio.wait({self._beginning})
            await self.recording.end()
            if self._tasks:  # a message that the caller has just left
                await asyncio.wait(set(self._tasks), timeout=_CALL_OFF_SECONDS)
            if self._errand is not None and not self._errand.errand.outcome.done():
                await self._abandon(self._errand)
        if self._telephone.stopping:
            return  # nothing has ended: whoever comes next takes it up
        if self._errand is not None and cause != "fault":
            self._errand.dismiss()
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

    async def _retrieve(self) -> None:
        """Give a caller who was on hold when a server died back to their agent."""
        channel = await self._call.get_variable(AGENT)
        if channel and (await self._call.command("CHANNEL", "STATUS", channel)).result != "-1":
            await self._call.set_variable(AGENT, "")
            await self._call.execute("Bridge", channel)

    async def _abandon(self, talk: Talk) -> None:
        """The call is over, or let go of: then a talk goes on without us, and has no outcome."""
        outcome = talk.errand.outcome
        if not self._telephone.stopping:
            outcome.set_result("gone")
            return
        outcome.cancel()
        if not talk.answered:  # it would ring for a caller who hears the dialplan's message
            for channel in talk.errand.ringing.values():
                await self._telephone.hang_up_channel(channel)

    async def _alternate(self) -> None:
        """Talk with the flow, run errands, until the flow is done. Raises CallGone."""
        faults = 0
        while not self._done:
            if self._broken:
                raise TelephonyError("its flow does not go on")
            if self._errand is not None:
                await self._run_errand(self._errand)
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
        async with self._connected() as (audio, application):
            audio.on_started(self._turns.started)
            await self._announce(audio)
            self.recording.tap(audio)
            audio.on_frame(self._heard)
            audio.on_key(self._turns.pressed_key)
            audio.on_drained(self._turns.drained)
            self._turns.connect(audio)
            if self._elsewhere:
                audio.hang_up()
            try:
                await self._until_disconnected(application)
            finally:
                self._turns.disconnect()

    async def listen_to_music(self, began: Callable[[], None], until: asyncio.Event) -> None:
        """Let the caller hear music, until then or until the call is to end."""
        for _ in range(_FAULTS_BORNE):
            async with self._connected() as (audio, application):
                audio.loop(self._telephone.music)
                began()
                stop = asyncio.ensure_future(until.wait())
                both: set[asyncio.Future[Any]] = {stop, application}
                try:
                    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    stop.cancel()
                audio.hang_up()
                await self._until_disconnected(application)
            if until.is_set() or self.finished:
                return
        raise TelephonyError("the audio connection was lost too often")

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[AudioLeg, asyncio.Future[None]]]:
        """The channel's audio, and the application that ends with it."""
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
            yield self._audio, application
        finally:
            if self._audio is not None:
                self._audio.hang_up()
            self._audio = None
            for pending in (connecting, application):
                pending.cancel()

    async def _until_disconnected(self, application: asyncio.Future[None]) -> None:
        try:
            await application
        except TelephonyError as error:
            if isinstance(error, CallGone) or self._call.cut:
                raise
            # The connection broke; the channel is still there, and gets another.
            log.warning("audio connection lost", leg=self._leg.id, error=str(error))

    async def _announce(self, audio: AudioLeg) -> None:
        """Tell the caller first if the call is to be recorded."""
        if not self._telephone.settings.recording.enabled:
            return
        if self._beginning is not None:
            await asyncio.wait({self._beginning})
        conversation = self._leg.conversation_id
        if language := self._telephone.runner.wants_recording(conversation):
            await self.recording.announce(audio, language, conversation, self._leg.id)

    def _heard(self, frame: bytes) -> None:
        self.recording.heard(frame)
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
            rings = self._errand.errand.extension
            raise TelephonyError(f"call {self._leg.id} rings {rings} already")
        target = self._telephone.phones_of(extension)
        talk = self._set_out(target, extension, seconds, notify)
        outcome = talk.errand.outcome
        try:
            return await asyncio.shield(outcome)
        except asyncio.CancelledError:
            if self._telephone.stopping:
                raise
            talk.call_off()
            # The channel is free for the next errand only when Asterisk has ended this one.
            await asyncio.wait({outcome}, timeout=_CALL_OFF_SECONDS)
            raise

    def _set_out(
        self,
        target: str,
        extension: str,
        seconds: float,
        notify: Callable[[CallEvent], None],
        transfer: str = "",
    ) -> Talk:
        outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        errand = Errand(target, extension, seconds, notify, outcome, transfer)
        self._errand = talk = Talk(self._telephone, self, errand)
        if self._audio is not None:
            self._audio.hang_up()
        return talk

    async def _run_errand(self, talk: Talk) -> None:
        after = After.FLOW
        try:
            after = await talk.run()
        finally:
            self._returns = talk.returns
        match after:
            case After.END:
                self._finish()
            case After.FAILED:
                self._report(Resumed(Channel.VOICE.value))
            case After.LEFT | After.RETURNS:
                raise CallGone("the channel has gone elsewhere")
            case After.FLOW:
                pass
        self._errand = None

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
        talk = self._set_out(target, effect.to, effect.ring, lambda event: None, effect.id)

        def ended(future: asyncio.Future[str]) -> None:
            if not future.cancelled():
                word = _TRANSFER_OUTCOMES.get(future.result(), "refused")
                self._report(TransferEnded(effect.id, word))

        talk.errand.outcome.add_done_callback(ended)

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
        talk = self._errand
        if talk is None or (await talk.let_go()).result == "refused":
            self._finish()
            if talk is not None:
                talk.call_off()
