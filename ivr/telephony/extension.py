"""The hotline as an extension of any SIP PBX or provider, for sites without Asterisk.

Each account is a softphone of its own; all share one clock and one limit of calls. Whatever the
other PBX does or fails to do, the hotline goes on: an account that is not registered is tried
again, and `/readyz` says so.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable
from typing import Any

import structlog

from ivr.config import Settings
from ivr.errors import CallGone, SettingsError, TelephonyError
from ivr.flow.events import Started
from ivr.model import Channel, Leg
from ivr.numbers import caller_address
from ivr.observe import CALLS, CALLS_TOTAL, SOFTPHONE_REFUSED, SOFTPHONES
from ivr.ports import CallControl, CallEvent, Clock, Prompts, Recognizer
from ivr.recordings import Recordings
from ivr.runner import Runner
from ivr.telephony.phonecall import PhoneCall
from ivr.telephony.phoneleg import PhoneLeg
from ivr.telephony.rtp import Ticker
from ivr.telephony.softphone import RegistrationRefused, Softphone

log = structlog.get_logger(__name__)

_EXTENSION = re.compile(r"[A-Za-z0-9_-]{1,32}")
_NUMBER = re.compile(r"\+?[0-9]{2,15}")
_WITHHELD = frozenset({"anonymous", "unavailable", "restricted", "unknown"})
_LONGEST_EXTENSION = 6
_LONGEST_REFERENCE = 100
_DRAIN_SECONDS = 10.0


class Extension:
    """All calls of the softphones: answers them, and controls them for the agents' side
    (`ivr.ports.CallControl`). Calls of others' it hands to `otherwise`."""

    audio: Any = None
    ami: Any = None
    """What a recording asks of Asterisk to hear a talk; ours passes through us anyway."""

    def __init__(
        self,
        settings: Settings,
        runner: Runner,
        prompts: Prompts,
        ears: Recognizer,
        clock: Clock,
        music: bytes,
        recordings: Recordings,
        otherwise: CallControl | None = None,
    ):
        self.settings = settings
        self.runner = runner
        self.prompts = prompts
        self.ears = ears
        self.clock = clock
        self.music = music
        self.recordings = recordings
        self._otherwise = otherwise
        self._phones: list[Softphone] = []
        self._legs: dict[str, PhoneLeg] = {}
        self._serving: set[asyncio.Future[None]] = set()
        self._answering: set[asyncio.Future[None]] = set()

    # --- the phones ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Register, and answer from now on. Raises SettingsError for a wrong password or a port
        that is taken; a server that is away is waited for."""
        wanted = self.settings.softphone
        ticker = Ticker()
        for number, (user, account) in enumerate(wanted.accounts.items()):
            phone = Softphone(
                user,
                account.password,
                server=wanted.server,
                port=wanted.port,
                host=wanted.host,
                local_port=wanted.local_port + number if wanted.local_port else 0,
                ports=range(wanted.rtp_start, wanted.rtp_end + 1, 2),
                room=self._room,
                ticker=ticker,
            )
            try:
                await phone.start()
            except RegistrationRefused as error:
                raise SettingsError(f"{error}; set softphone.accounts.{user}.password") from None
            except TelephonyError as error:
                raise SettingsError(f"{error}; see softphone.host and local_port") from None
            self._phones.append(phone)
            self._answering.add(asyncio.ensure_future(self._answer(phone)))
        SOFTPHONES.set_function(lambda: sum(phone.registered for phone in self._phones))

    async def stop(self) -> None:
        """Take no more calls, end those that are up, and leave the registrars. What has to be
        written of the calls is written when this returns."""
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        SOFTPHONES.set_function(lambda: 0)
        await asyncio.gather(*(phone.close() for phone in self._phones))
        if self._serving:
            await asyncio.wait(set(self._serving), timeout=_DRAIN_SECONDS)

    @property
    def registered(self) -> bool:
        """Whether every account can be called."""
        return all(phone.registered for phone in self._phones)

    def _room(self) -> bool:
        room = sum(phone.called for phone in self._phones) < self.settings.softphone.calls
        if not room:
            SOFTPHONE_REFUSED.inc()
        return room

    async def _answer(self, phone: Softphone) -> None:
        while True:
            call = await phone.incoming()
            serving = asyncio.ensure_future(self._serve(phone, call))
            self._serving.add(serving)
            serving.add_done_callback(self._serving.discard)

    async def _serve(self, phone: Softphone, call: PhoneCall) -> None:
        number = "" if call.number.lower() in _WITHHELD else call.number
        peer = caller_address(number, self.settings.region)
        dialled = call.dialled if _NUMBER.fullmatch(call.dialled) else phone.user
        leg = Leg(
            id=uuid.uuid4().hex,
            conversation_id=uuid.uuid4().hex,
            peer=peer,
            started_at=self.clock.now(),
            reference="".join(filter(str.isprintable, call.reference))[:_LONGEST_REFERENCE],
            dialled=dialled,
        )
        served = PhoneLeg(self, call, leg)
        self._legs[leg.id] = served
        CALLS.inc()
        CALLS_TOTAL.inc()
        try:
            await served.run(Started(Channel.VOICE.value, peer.value, dialled))
        except Exception as error:  # one call's fault is not the others'
            log.exception("call lost to a bug", leg=leg.id, error=str(error))
            await call.hang_up()
        finally:
            CALLS.dec()
            del self._legs[leg.id]

    # --- calls with others -----------------------------------------------------------------------

    def may_dial(self, number: str) -> bool:
        """Whether a flow may transfer there."""
        inside = len(number) <= _LONGEST_EXTENSION
        return bool(_NUMBER.fullmatch(number)) and (inside or self.settings.softphone.outside)

    async def ring(
        self, leg_id: str, extension: str, seconds: float, notify: Callable[[CallEvent], None]
    ) -> str:
        served = self._legs.get(leg_id)
        if served is None and self._otherwise is not None:
            return await self._otherwise.ring(leg_id, extension, seconds, notify)
        if served is None:
            raise CallGone(f"call {leg_id} is over")
        if not _EXTENSION.fullmatch(extension):
            raise TelephonyError(f"{extension!r} is no extension that can ring")
        return await served.ring(extension, seconds, notify)

    def has(self, leg_id: str) -> bool:
        """Whether a leg is one of ours."""
        return leg_id in self._legs

    async def hang_up(self, leg_id: str) -> None:
        served = self._legs.get(leg_id)
        if served is not None:
            await served.hang_up()
        elif self._otherwise is not None:
            await self._otherwise.hang_up(leg_id)
