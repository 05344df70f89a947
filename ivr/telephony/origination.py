"""Calls that begin with us: a supervisor who listens in, and click to dial."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

from ivr.errors import HotlineError
from ivr.ports import ActionOutcome
from ivr.telephony.asterisk import ActionRefused, Ami, AmiEvent

_EXTENSION = re.compile(r"[0-9]{2,6}")
_CHANNEL = re.compile(r"[A-Za-z0-9_.@:/;+-]{1,200}")
_RING_SECONDS = 30
_REFUSED_WITHIN = 1.0
"""A telephone that is not there is told at once; one that rings says nothing for long."""

_MODES = {"listen": "", "whisper": "w", "barge": "B"}
"""ChanSpy's options (Asterisk, app_chanspy)."""


class Origination:
    """Has Asterisk ring one of our telephones, and connects it when it is answered."""

    def __init__(self, ami: Ami, phone_of: Callable[[str], Awaitable[str]]):
        self._ami = ami
        self._phone_of = phone_of

    async def listen(self, extension: str, channel: str, mode: str) -> ActionOutcome:
        """`channel` is the agent's: who whispers is heard there alone."""
        if mode not in _MODES:
            return ActionOutcome("refused", f"one can {', '.join(_MODES)}")
        if not _CHANNEL.fullmatch(channel):
            return ActionOutcome("refused", "nobody is on the line")
        # u: exactly this channel. q: without a word. E: until it ends.
        options = f"uqE{_MODES[mode]}"
        return await self._ring(extension, "ChanSpy", f"{channel},{options}", "")

    async def dial(self, extension: str, target: str, number: str) -> ActionOutcome:
        """`target` is Asterisk's name of whom to call."""
        shown = re.sub(r"[^+0-9]", "", number)
        return await self._ring(extension, "Dial", f"{target},60", shown)

    async def _ring(self, extension: str, app: str, argument: str, shown: str) -> ActionOutcome:
        if not _EXTENSION.fullmatch(extension):
            return ActionOutcome("refused", f"{extension} is no telephone")
        answers: list[AmiEvent] = []
        told = asyncio.Event()

        def follow(event: AmiEvent) -> None:
            if event.name == "OriginateResponse":
                answers.append(event)
                told.set()

        unsubscribe = self._ami.subscribe(follow)
        try:
            reply = await self._ami.action(
                "Originate",
                Channel=await self._phone_of(extension),
                Application=app,
                Data=argument,
                CallerID=f'"{shown}" <{shown}>' if shown else f'"" <{extension}>',
                Timeout=_RING_SECONDS * 1000,
            )
            try:
                async with asyncio.timeout(_REFUSED_WITHIN):
                    while True:
                        await told.wait()
                        told.clear()
                        for event in answers:
                            if event.fields.get("ActionID") == reply.action_id:
                                return _outcome(event, extension)
            except TimeoutError:
                return ActionOutcome("done")
        except ActionRefused as error:
            return ActionOutcome("refused", str(error))
        except HotlineError:
            return ActionOutcome("unknown", "the link to the telephone system was lost")
        finally:
            unsubscribe()


def _outcome(event: AmiEvent, extension: str) -> ActionOutcome:
    if event.fields.get("Response") == "Failure":
        return ActionOutcome("refused", f"telephone {extension} cannot be reached")
    return ActionOutcome("done")
