"""All telephone calls of this server: takes them in from Asterisk, and lets agents control them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from ivr.config import Settings
from ivr.errors import CallGone, TelephonyError
from ivr.flow.events import Started
from ivr.model import Channel, Leg
from ivr.numbers import caller_address
from ivr.observe import CALLS, CALLS_TOTAL
from ivr.ports import ActionOutcome, CallEvent, Clock, Prompts, Recognizer
from ivr.recordings import Recordings
from ivr.runner import Runner
from ivr.telephony.asterisk import LINK_UP, ActionRefused, Ami, AmiEvent
from ivr.telephony.fastagi import AgiCall
from ivr.telephony.media import AudioServer
from ivr.telephony.origination import Origination
from ivr.telephony.pbx import AGENT_PHONES, WEB_PREFIX
from ivr.telephony.talk import Talk
from ivr.telephony.voice import CONVERSATION, VoiceLeg
from ivr.wire.agi import AgiRequest

log = structlog.get_logger(__name__)

_NUMBER = re.compile(r"\+?[0-9]{2,15}")
_LONGEST_EXTENSION = 6
_LANGUAGE = re.compile(r"[a-z]{2,8}")
_EXTENSION = re.compile(r"[A-Za-z0-9_-]{1,32}")
_DRAIN_SECONDS = 10.0
_OVER = ActionOutcome("refused", "the call is over")
_NOBODY = ActionOutcome("refused", "nobody is on the line")
_KEYS = re.compile(r"[0-9A-D*#]{1,32}")
_BETWEEN_DIGITS = re.compile(r"[\s().\-]")


def browser_phone(settings: Settings, extension: str) -> str:
    """The endpoint of an extension's telephone in the browser; "" where there can be none."""
    there = settings.asterisk.http_port and extension in AGENT_PHONES
    return WEB_PREFIX + extension if there else ""


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
        self._tasks: set[asyncio.Future[object]] = set()
        self._unwanted: set[str] = set()
        self._origination = Origination(ami, self._first_phone)
        ami.subscribe(self._follow)

    def _follow(self, event: AmiEvent) -> None:
        # The call's own connection may not say so: its machine may have lost its power.
        if event.name == "Hangup":
            for voice in self._legs.values():
                if voice.leg.reference == event.fields.get("Uniqueid"):
                    voice.lose()
        elif event.name == LINK_UP:
            there = {one.unique_id for one in self.ami.channels.values()}
            unwanted, self._unwanted = self._unwanted & there, set()
            for channel in unwanted:
                self.spawn(self.hang_up_channel(channel))

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
        return await self._order(leg_id, Talk.let_go)

    async def send_to(self, leg_id: str, number: str) -> ActionOutcome:
        return await self._order(leg_id, lambda talk: talk.send_to(number))

    async def hold(self, leg_id: str, on: bool) -> ActionOutcome:
        return await self._order(leg_id, lambda talk: talk.hold(on))

    async def mute(self, leg_id: str, on: bool) -> ActionOutcome:
        return await self._order(leg_id, lambda talk: talk.mute(on))

    async def press(self, leg_id: str, digits: str) -> ActionOutcome:
        if not _KEYS.fullmatch(digits):
            return ActionOutcome("refused", "keys are 0 to 9, *, # and A to D")
        return await self._order(leg_id, lambda talk: talk.press(digits))

    async def park(self, leg_id: str) -> ActionOutcome:
        return await self._order(leg_id, Talk.park)

    async def consult(self, leg_id: str, number: str) -> ActionOutcome:
        return await self._order(leg_id, lambda talk: talk.consult(number))

    async def complete(self, leg_id: str) -> ActionOutcome:
        return await self._order(leg_id, Talk.complete)

    async def cancel(self, leg_id: str) -> ActionOutcome:
        return await self._order(leg_id, Talk.cancel)

    async def join(self, leg_id: str) -> ActionOutcome:
        return await self._order(leg_id, Talk.join)

    async def listen(self, leg_id: str, extension: str, mode: str) -> ActionOutcome:
        voice = self._legs.get(leg_id)
        if voice is None:
            return _OVER
        if voice.talk is None or not voice.talk.agent.channel:
            return _NOBODY
        return await self._origination.listen(extension, voice.talk.agent.channel, mode)

    async def dial(self, extension: str, number: str) -> ActionOutcome:
        target = self.route(number)
        if target is None:
            return ActionOutcome("refused", f"there is no way to {number}")
        return await self._origination.dial(extension, target, number)

    def busy(self, extension: str) -> bool:
        """Whether this telephone is in use, with us or with anybody else."""
        mine = tuple(f"PJSIP/{one}-" for one in (extension, WEB_PREFIX + extension))
        return any(channel.name.startswith(mine) for channel in self.ami.channels.values())

    async def _order(
        self, leg_id: str, order: Callable[[Talk], Awaitable[ActionOutcome]]
    ) -> ActionOutcome:
        voice = self._legs.get(leg_id)
        if voice is None:
            return _OVER
        return await order(voice.talk) if voice.talk is not None else _NOBODY

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Have something done on the side, to its end."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def hang_up_channel(self, channel: str) -> bool:
        """Ask Asterisk to end one channel, by its name or unique id, and again when the manager
        link is back if need be; that it is gone already is fine."""
        if not channel:
            return False
        try:
            await self.ami.action("Hangup", Channel=channel)
        except ActionRefused as error:
            if self.ami.connected:
                log.debug("not hung up", channel=channel, error=str(error))
                return False
            self._unwanted.add(channel)
        except TelephonyError:
            self._unwanted.add(channel)
        return True

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
        """Asterisk's name of what is to be called; None where there is no way."""
        number = _BETWEEN_DIGITS.sub("", number)
        if not _NUMBER.fullmatch(number):
            return None
        if len(number) <= _LONGEST_EXTENSION:
            return self.phones_of(number)
        trunk = self.settings.asterisk.trunk
        return f"PJSIP/{number}@{trunk}" if trunk else None

    def phones_of(self, extension: str) -> str:
        """Asterisk's name of an extension's telephone on the desk."""
        return f"PJSIP/{extension}"

    async def reachable(self, target: str, ask: Callable[[str], Awaitable[str]]) -> str:
        """The same extension's telephone in the browser, too, where one is registered. `ask` gives
        the value of one of Asterisk's functions."""
        extension = target.removeprefix("PJSIP/")
        browser = browser_phone(self.settings, extension)
        if not browser or not await ask(f"PJSIP_DIAL_CONTACTS({browser})"):
            return target
        desk = await ask(f"PJSIP_DIAL_CONTACTS({extension})")
        return f"{target}&PJSIP/{browser}" if desk else f"PJSIP/{browser}"

    async def asked(self, function: str) -> str:
        """One of Asterisk's functions, by way of the manager."""
        return (await self.ami.action("Getvar", Variable=function)).fields.get("Value", "")

    async def _first_phone(self, extension: str) -> str:
        """The telephone that the agent uses: the one in the browser, if there is one."""
        return (await self.reachable(self.phones_of(extension), self.asked)).split("&")[-1]

    def _leg(self, leg_id: str) -> VoiceLeg:
        voice = self._legs.get(leg_id)
        if voice is None:
            raise CallGone(f"call {leg_id} is over")
        return voice
