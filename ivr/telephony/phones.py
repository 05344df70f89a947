"""All telephones of this server as the human side sees them (`ivr.ports.PhoneSystem`): Asterisk's
calls and those of our own softphones, which can ring and hang up and no more."""

from __future__ import annotations

from collections.abc import Callable

from ivr.ports import ActionOutcome, CallEvent
from ivr.telephony.extension import Extension
from ivr.telephony.telephone import Telephone

_NOT_HERE = ActionOutcome(
    "refused", "that needs an Asterisk, which this call does not come through"
)


class Phones:
    """Finds whose call it is, and hands the order on."""

    def __init__(self, telephone: Telephone | None, extension: Extension):
        self._telephone = telephone
        self._extension = extension

    async def ring(
        self, leg_id: str, extension: str, seconds: float, notify: Callable[[CallEvent], None]
    ) -> str:
        return await self._extension.ring(leg_id, extension, seconds, notify)

    async def hang_up(self, leg_id: str) -> None:
        await self._extension.hang_up(leg_id)

    async def let_go(self, leg_id: str) -> ActionOutcome:
        if self._extension.has(leg_id):
            await self._extension.hang_up(leg_id)  # of the two, the agent's call
            return ActionOutcome("done")
        return await self._telephone.let_go(leg_id) if self._telephone else _NOT_HERE

    async def send_to(self, leg_id: str, number: str) -> ActionOutcome:
        asterisk = self._asterisk(leg_id)
        return await asterisk.send_to(leg_id, number) if asterisk else _NOT_HERE

    async def hold(self, leg_id: str, on: bool) -> ActionOutcome:
        asterisk = self._asterisk(leg_id)
        return await asterisk.hold(leg_id, on) if asterisk else _NOT_HERE

    async def mute(self, leg_id: str, on: bool) -> ActionOutcome:
        asterisk = self._asterisk(leg_id)
        return await asterisk.mute(leg_id, on) if asterisk else _NOT_HERE

    async def press(self, leg_id: str, digits: str) -> ActionOutcome:
        asterisk = self._asterisk(leg_id)
        return await asterisk.press(leg_id, digits) if asterisk else _NOT_HERE

    async def park(self, leg_id: str) -> ActionOutcome:
        asterisk = self._asterisk(leg_id)
        return await asterisk.park(leg_id) if asterisk else _NOT_HERE

    async def consult(self, leg_id: str, number: str) -> ActionOutcome:
        asterisk = self._asterisk(leg_id)
        return await asterisk.consult(leg_id, number) if asterisk else _NOT_HERE

    async def complete(self, leg_id: str) -> ActionOutcome:
        asterisk = self._asterisk(leg_id)
        return await asterisk.complete(leg_id) if asterisk else _NOT_HERE

    async def cancel(self, leg_id: str) -> ActionOutcome:
        asterisk = self._asterisk(leg_id)
        return await asterisk.cancel(leg_id) if asterisk else _NOT_HERE

    async def join(self, leg_id: str) -> ActionOutcome:
        asterisk = self._asterisk(leg_id)
        return await asterisk.join(leg_id) if asterisk else _NOT_HERE

    async def listen(self, leg_id: str, extension: str, mode: str) -> ActionOutcome:
        asterisk = self._asterisk(leg_id)
        return await asterisk.listen(leg_id, extension, mode) if asterisk else _NOT_HERE

    async def dial(self, extension: str, number: str) -> ActionOutcome:
        return await self._telephone.dial(extension, number) if self._telephone else _NOT_HERE

    def _asterisk(self, leg_id: str) -> Telephone | None:
        return None if self._extension.has(leg_id) else self._telephone
