"""All telephone calls of this server: takes them in from Asterisk, and lets agents control them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import uuid
from collections.abc import Callable

import phonenumbers
import structlog

from ivr.config import Settings
from ivr.errors import CallGone, TelephonyError
from ivr.flow.events import Started
from ivr.model import Address, Channel, Leg
from ivr.observe import CALLS, CALLS_TOTAL
from ivr.ports import ActionOutcome, CallEvent, Clock, Prompts, Recognizer
from ivr.recordings import Recordings
from ivr.runner import Runner
from ivr.telephony.asterisk import Ami, AmiEvent
from ivr.telephony.fastagi import AgiCall
from ivr.telephony.media import AudioServer
from ivr.telephony.voice import CONVERSATION, VoiceLeg
from ivr.wire.agi import AgiRequest

log = structlog.get_logger(__name__)

_NUMBER = re.compile(r"\+?[0-9]{2,15}")
_LONGEST_EXTENSION = 6
_LANGUAGE = re.compile(r"[a-z]{2,8}")
_EXTENSION = re.compile(r"[A-Za-z0-9_-]{1,32}")
_DRAIN_SECONDS = 10.0
_NOT_HERE = ActionOutcome("refused", "this telephone system cannot do that")


def caller_address(number: str, region: str) -> Address:
    """The caller's number as E.164 if it is a number, else what came, capped and printable."""
    digits = re.sub(r"[\s().-]", "", number)
    if re.fullmatch(r"\+?\d{7,15}", digits):
        try:
            parsed = phonenumbers.parse(digits, region)
        except phonenumbers.NumberParseException:
            parsed = None
        if parsed is not None and phonenumbers.is_possible_number(parsed):
            e164 = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
            return Address(Channel.VOICE, e164)
    shown = "".join(char for char in number if char.isprintable())
    return Address(Channel.VOICE, "" if shown == "unknown" else shown[:64])


class Telephone:
    """All calls of this server: answers FastAGI, and controls calls for the agents' side
    (`ivr.ports.CallControl`)."""

    def __init__(
        self,
        settings: Settings,
        runner: Runner,
        audio: AudioServer,
        ami: Ami,
        prompts: Prompts,
        ears: Recognizer,
        clock: Clock,
        music: bytes,
        recordings: Recordings,
    ):
        self.settings = settings
        self.runner = runner
        self.audio = audio
        self.ami = ami
        self.prompts = prompts
        self.ears = ears
        self.clock = clock
        self.music = music
        self.recordings = recordings
        # The server goes: calls are let go of and not ended, so that the dialplan can hold the
        # callers until a server is back.
        self.stopping = False
        self._legs: dict[str, VoiceLeg] = {}
        self._left = asyncio.Event()
        ami.subscribe(self._follow)

    def _follow(self, event: AmiEvent) -> None:
        # The call's own connection may not say so: its machine may have lost its power.
        if event.name == "Hangup":
            for voice in self._legs.values():
                if voice.leg.reference == event.fields.get("Uniqueid"):
                    voice.lose()

    def has_ended(self, reference: str) -> bool:
        """Whether Asterisk is known to have no such channel any more."""
        return self.ami.connected and reference not in self.ami.channels

    async def answer(self, call: AgiCall) -> None:
        """Serve one call: the FastAGI server's callback."""
        request = call.request
        conversation_id = await call.get_variable(CONVERSATION)
        again = bool(re.fullmatch(r"[0-9a-f]{32}", conversation_id))
        peer = caller_address(request.caller_id, self.settings.region)
        leg = Leg(
            id=uuid.uuid4().hex,
            conversation_id=conversation_id,
            peer=peer,
            started_at=self.clock.now(),
            reference=request.unique_id,
            dialled=request.extension,
        )
        voice = VoiceLeg(self, call, leg)
        self._legs[leg.id] = voice
        CALLS.inc()
        CALLS_TOTAL.inc()
        try:
            started = Started(Channel.VOICE.value, peer.value, request.extension)
            await voice.run(started, again)
        finally:
            CALLS.dec()
            del self._legs[leg.id]
            self._left.set()

    async def ring(
        self, leg_id: str, extension: str, seconds: float, notify: Callable[[CallEvent], None]
    ) -> str:
        if not _EXTENSION.fullmatch(extension):
            raise TelephonyError(f"{extension!r} is no extension that can ring")
        return await self._leg(leg_id).ring(extension, seconds, notify)

    async def hang_up(self, leg_id: str) -> None:
        voice = self._legs.get(leg_id)
        if voice is not None:
            await voice.hang_up()

    async def let_go(self, leg_id: str) -> ActionOutcome:
        voice = self._legs.get(leg_id)
        if voice is None:
            return ActionOutcome("refused", "the call is over")
        await voice.hang_up()
        return ActionOutcome("done")

    async def send_to(self, leg_id: str, number: str) -> ActionOutcome:
        return _NOT_HERE

    async def hold(self, leg_id: str, on: bool) -> ActionOutcome:
        return _NOT_HERE

    async def mute(self, leg_id: str, on: bool) -> ActionOutcome:
        return _NOT_HERE

    async def press(self, leg_id: str, digits: str) -> ActionOutcome:
        return _NOT_HERE

    async def park(self, leg_id: str) -> ActionOutcome:
        return _NOT_HERE

    async def consult(self, leg_id: str, number: str) -> ActionOutcome:
        return _NOT_HERE

    async def complete(self, leg_id: str) -> ActionOutcome:
        return _NOT_HERE

    async def cancel(self, leg_id: str) -> ActionOutcome:
        return _NOT_HERE

    async def join(self, leg_id: str) -> ActionOutcome:
        return _NOT_HERE

    async def listen(self, leg_id: str, extension: str, mode: str) -> ActionOutcome:
        return _NOT_HERE

    async def dial(self, extension: str, number: str) -> ActionOutcome:
        return _NOT_HERE

    async def hang_up_channel(self, channel: str) -> None:
        """Ask Asterisk to end one channel; that it is gone already is fine."""
        if channel and self.ami.connected:
            try:
                await self.ami.action("Hangup", Channel=channel)
            except TelephonyError as error:
                log.warning("not hung up", channel=channel, error=str(error))

    async def drained(self) -> None:
        """Wait until every call is let go of and what had to be written of it is written."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while self._legs:
                    self._left.clear()
                    await self._left.wait()

    async def tell_language(self, request: AgiRequest, language: str) -> None:
        """Have the dialplan's own messages in the caller's language, should we fail."""
        if self.ami.connected and _LANGUAGE.fullmatch(language):
            try:
                await self.ami.action(
                    "Setvar",
                    Channel=request.channel,
                    Variable="CHANNEL(language)",
                    Value=language,
                )
            except TelephonyError as error:
                log.debug("language not told", channel=request.channel, error=str(error))

    def route(self, number: str) -> str | None:
        """Asterisk's name of what a flow transfers to; None where there is no way."""
        if not _NUMBER.fullmatch(number):
            return None
        if len(number) <= _LONGEST_EXTENSION:
            return f"PJSIP/{number}"
        trunk = self.settings.asterisk.trunk
        return f"PJSIP/{number}@{trunk}" if trunk else None

    def _leg(self, leg_id: str) -> VoiceLeg:
        voice = self._legs.get(leg_id)
        if voice is None:
            raise CallGone(f"call {leg_id} is over")
        return voice
