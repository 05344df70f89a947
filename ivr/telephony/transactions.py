"""What is said over a lossy wire until it is heard: SIP's transactions (RFC 3261, section 17).

A request of ours is repeated until it is answered. An answer of ours is repeated to whoever repeats
the request, so that nothing is done twice; and the answer to an INVITE, after which nobody repeats
anything, until it is acknowledged. All of it is bounded, whatever comes in.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ivr.errors import TelephonyError

if TYPE_CHECKING:
    from ivr.telephony.softphone import SipMessage

_RESEND = (0.5, 1.0, 2.0, 4.0)  # seconds between copies of a message (timers A and G)
_ANSWERS_KEPT = 256
_MOST_INSISTING = 256


class NotConnected(TelephonyError):
    """A request of ours came to nothing; `code` is SIP's (RFC 3261, section 21), 408 where a phone
    was not picked up, 503 where nobody said a word."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class _Exchange:
    """A request that waits for its answers; `ringing` is told of each that is only a beginning."""

    provisional: asyncio.Future[None]
    final: asyncio.Future[SipMessage]
    ringing: Callable[[], None]


class Transactions:
    """All that is under way between us and one server; `send` is the wire."""

    def __init__(self, send: Callable[[str], None]):
        self._send = send
        self._exchanges: dict[tuple[str, int, str], _Exchange] = {}
        self._answers: OrderedDict[tuple[object, ...], str] = OrderedDict()
        self._insisting: dict[tuple[str, int], asyncio.TimerHandle] = {}

    @property
    def waiting(self) -> bool:
        """Whether we wait for an answer."""
        return bool(self._exchanges)

    # --- requests of ours ----------------------------------------------------------------------

    async def ask(
        self,
        request: SipMessage,
        seconds: float,
        who: str,
        *,
        ringing: Callable[[], None] = lambda: None,
        give_up: Callable[[SipMessage | None], None] = lambda answer: None,
    ) -> SipMessage:
        """Send a request until it is answered; return the final answer. `who` it is that does not
        answer in time, raised as NotConnected. `give_up` is called when nobody wants the answer any
        more, with the one that came at this very moment if one did."""
        loop = asyncio.get_running_loop()
        exchange = _Exchange(loop.create_future(), loop.create_future(), ringing)
        self._exchanges[request.key] = exchange
        both = (exchange.provisional, exchange.final)
        text = request.raw.decode()
        try:
            async with asyncio.timeout(seconds):
                for pause in _RESEND:
                    self._send(text)
                    await asyncio.wait(both, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                    if any(answer.done() for answer in both):
                        break
                return await exchange.final
        except (TimeoutError, asyncio.CancelledError) as error:
            final = exchange.final
            came = final.done() and not final.cancelled() and final.exception() is None
            give_up(final.result() if came else None)
            if isinstance(error, asyncio.CancelledError):
                raise
            code = 408 if exchange.provisional.done() else 503
            raise NotConnected(f"{who} did not answer within {seconds:g} s", code) from None
        finally:
            del self._exchanges[request.key]
            exchange.provisional.cancel()
            exchange.final.cancel()

    def answered(self, answer: SipMessage) -> bool:
        """Take an answer; whether somebody was waiting for it."""
        exchange = self._exchanges.get(answer.key)
        if exchange is None or exchange.final.done():
            return False
        if answer.code >= 200:
            exchange.final.set_result(answer)
            return True
        if not exchange.provisional.done():
            exchange.provisional.set_result(None)
        if answer.code > 100:
            exchange.ringing()
        return True

    def fail(self, reason: str) -> None:
        """Nobody will answer any more."""
        for exchange in self._exchanges.values():
            if not exchange.final.done():
                exchange.final.set_exception(TelephonyError(reason))

    # --- requests of theirs --------------------------------------------------------------------

    def repeat(self, request: SipMessage) -> bool:
        """Answer a copy of an earlier request as that one was answered; False if it is new."""
        before = self._answers.get((*request.key, request.branch))
        if before is not None:
            self._send(before)
        return before is not None

    def answer(self, request: SipMessage, text: str) -> None:
        """Answer a request, and every copy of it that may come."""
        self._answers[(*request.key, request.branch)] = text
        if len(self._answers) > _ANSWERS_KEPT:
            self._answers.popitem(last=False)
        self._send(text)

    def insist(self, invite: SipMessage, text: str) -> None:
        """Answer an INVITE for good, until that is acknowledged."""
        self.answer(invite, text)
        key = invite.call_id, invite.sequence
        self.acknowledged(*key)
        if len(self._insisting) < _MOST_INSISTING:
            self._again(key, text, _RESEND)

    def acknowledged(self, call_id: str, sequence: int) -> None:
        """The other side has our answer."""
        again = self._insisting.pop((call_id, sequence), None)
        if again is not None:
            again.cancel()

    def close(self) -> None:
        """Repeat nothing any more."""
        for again in self._insisting.values():
            again.cancel()
        self._insisting.clear()

    def _again(self, key: tuple[str, int], text: str, pauses: Sequence[float]) -> None:
        def again() -> None:
            del self._insisting[key]
            self._send(text)
            self._again(key, text, pauses[1:])

        if pauses:
            loop = asyncio.get_running_loop()
            self._insisting[key] = loop.call_later(pauses[0], again)
