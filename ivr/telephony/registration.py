"""Staying registered: at once, again in good time, and by itself after the registrar was away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from ivr.errors import TelephonyError

if TYPE_CHECKING:
    from ivr.telephony.softphone import SipMessage

log = structlog.get_logger(__name__)

PATIENCE = 5.0  # seconds for the registrar's answer
FAREWELL = 2.0  # and for that to our leaving
TRIES = 3  # of a password, where the PBX calls its own challenge too old

_FOR = 120  # seconds for which we ask
_LONGEST = 3600  # where the registrar insists on more
_RENEW = 20.0  # seconds: a registrar that forgot us is found out, and a NAT kept open
_SOON = 1.0  # seconds after a failure, and twice as long each time …
_LATER = 15.0  # … until this
_REFUSED = 300.0  # seconds: a wrong password does not get better by being repeated
_REFUSALS = frozenset({401, 403, 404, 407})


class RegistrationRefused(TelephonyError):
    """The registrar does not take this user and password: trying again changes nothing."""


class Words(Protocol):
    """Who writes a REGISTER: pyVoIP."""

    default_expires: int

    def gen_first_response(self, deregister: bool = False) -> str: ...


class Registration:
    """One user at one registrar. `ask` sends a request and returns its answer; `sign` adds to one
    what a challenge asks for."""

    def __init__(
        self,
        user: str,
        where: str,
        words: Words,
        ask: Callable[[str, float], Awaitable[SipMessage]],
        sign: Callable[[str, SipMessage], str],
    ):
        self.valid = False
        self._user = user
        self._where = where
        self._words = words
        self._ask = ask
        self._sign = sign
        self._renew_in = _RENEW
        words.default_expires = _FOR

    async def register(self) -> None:
        """Raises RegistrationRefused, TelephonyError for what may get better by itself."""
        answer = await self._send(leave=False, seconds=PATIENCE)
        if answer.code in _REFUSALS:
            why = "wrong user or password" if answer.code in (401, 407) else str(answer.status)
            raise RegistrationRefused(f"{self._where} does not register {self._user}: {why}")
        if answer.code != 200:
            raise TelephonyError(f"{self._where} does not register {self._user}: {answer.status}")
        self.valid = True
        self._renew_in = min(_RENEW, _granted(answer.headers) / 2)

    async def leave(self) -> None:
        """Say that we are no longer there, if we are. Raises TelephonyError."""
        if self.valid:
            self.valid = False
            await self._send(leave=True, seconds=FAREWELL)

    async def _send(self, *, leave: bool, seconds: float) -> SipMessage:
        answer = await self._ask(self._words.gen_first_response(deregister=leave), seconds)
        signed = False
        for _ in range(TRIES + 1):
            if answer.code == 423 and not leave:  # for longer, it says
                wanted = str(answer.headers.get("Min-Expires", ""))
                least = int(wanted) if re.fullmatch(r"\d{1,5}", wanted) else 0
                self._words.default_expires = min(max(least, _FOR), _LONGEST)
            elif not answer.is_challenge or (signed and not answer.is_stale):
                break
            text = self._words.gen_first_response(deregister=leave)
            signed = answer.is_challenge
            answer = await self._ask(self._sign(text, answer) if signed else text, seconds)
        return answer

    async def keep(self) -> None:
        """Register again and again, for ever; what fails is told once."""
        failed = 0 if self.valid else 1
        pause = self._renew_in if self.valid else _SOON
        while True:
            await asyncio.sleep(pause)
            try:
                await self.register()
            except RegistrationRefused as error:
                failed, pause = 1, _REFUSED
                self._tell_lost(str(error))
            except TelephonyError as error:
                failed, pause = min(failed + 1, 10), min(_SOON * 2**failed, _LATER)
                self._tell_lost(str(error))
            else:
                if failed:
                    log.info("softphone registered again", user=self._user)
                failed, pause = 0, self._renew_in

    def _tell_lost(self, reason: str) -> None:
        if self.valid:
            self.valid = False
            log.error("softphone not registered", user=self._user, reason=reason)


def _granted(headers: Mapping[str, Any]) -> float:
    """Seconds for which we are registered; a registrar may grant less than was asked."""
    found = re.search(r"expires\s*=\s*(\d{1,6})", str(headers.get("Contact", "")), re.I)
    said = found[1] if found else str(headers.get("Expires", ""))
    return max(10.0, float(said)) if re.fullmatch(r"\d{1,6}", said) else float(_FOR)
