"""One call of a softphone: what may be asked of it, and what its every request repeats."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from ivr.errors import CallGone, LocalProtocolError, RemoteProtocolError, TelephonyError
from ivr.telephony.rtp import RtpStream
from ivr.wire import sip
from ivr.wire.rtp import KEYS

if TYPE_CHECKING:
    from ivr.telephony.softphone import SipMessage, Softphone

CallState = Literal["ringing", "answered", "ended"]

KEY_TYPE = 101
"""The payload type of telephone events in our own offers."""

OK = "200 OK"
BUSY = "486 Busy Here"
UNKNOWN = "481 Call/Transaction Does Not Exist"
NOT_ACCEPTABLE = "488 Not Acceptable Here"
CANCELLED = "487 Request Terminated"
PENDING = "491 Request Pending"

_ACKNOWLEDGED_WITHIN = 8.0  # seconds; the answer is repeated meanwhile


@dataclass
class Dialog:
    """What every later request of one call repeats (RFC 3261, section 12)."""

    call_id: str
    local: str
    remote: str
    target: str
    sequence: int
    routes: tuple[str, ...] = ()

    @classmethod
    def ours(cls, message: SipMessage) -> Dialog:
        """Of a call that we began, from the INVITE or from what was answered to it."""
        taken = message.is_response and message.code == 200
        target = message.headers.get("Contact", "") if taken else ""
        return cls(
            message.call_id,
            message.party("From"),
            message.party("To"),
            _uri(target or message.headers["To"]["raw"]),
            message.sequence,
            tuple(reversed(message.routes)),
        )

    @classmethod
    def theirs(cls, invite: SipMessage, tag: str) -> Dialog:
        """Of a call that rings here, to which we gave `tag`."""
        local = f"{invite.headers['To']['raw']};tag={tag}"
        target = invite.headers.get("Contact") or invite.headers["From"]["raw"]
        return cls(invite.call_id, local, invite.party("From"), _uri(target), 0, invite.routes)

    def request(self, method: str, via: str, branch: str = "") -> str:
        """A request of this dialog; with the branch of an earlier one it belongs to that one."""
        branch = branch or f"z9hG4bK{uuid4().hex}"
        routes = "".join(f"Route: {route}\r\n" for route in self.routes)
        return (
            f"{method} {self.target} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {via};branch={branch};rport\r\n"
            "Max-Forwards: 70\r\n"
            f"{routes}"
            f"From: {self.local}\r\n"
            f"To: {self.remote}\r\n"
            f"Call-ID: {self.call_id}\r\n"
            f"CSeq: {self.sequence} {method}\r\n"
            "Content-Length: 0\r\n\r\n"
        )


def _uri(address: str) -> str:
    """The URI of a Contact or To header, with or without its angle brackets."""
    found = re.search(r"<([^<>\s]+)>", address)
    return found[1] if found else address.split(";")[0].split(",")[0].strip()


class PhoneCall:
    """One call. `number` is the other side, `dialled` what they dialled where they called us,
    `answered_at` the loop's time of the answer, and `ended_by` is "us", "them", or says what
    failed."""

    def __init__(self, phone: Softphone, number: str, offer: SipMessage | None = None):
        self.number = number
        self.dialled = "" if offer is None else sip.number(offer.headers["To"]["raw"])
        self.state: CallState = "ringing"
        self.ended_by = ""
        self.answered_at = 0.0
        self.stream = RtpStream(phone.ticker)
        self.tag = uuid4().hex[:16]
        self._phone = phone
        self._dialog: Dialog | None = None
        self._offer = offer  # the other side's INVITE, where it was they who called
        self._media = sip.Media(None, KEY_TYPE, "sendrecv")
        self._acknowledged = asyncio.Event()
        self._over = asyncio.Event()
        if offer is not None and offer.body_text:
            self._media = sip.described(offer.body_text)

    @property
    def phone(self) -> Softphone:
        """The telephone that it is a call of."""
        return self._phone

    @property
    def incoming(self) -> bool:
        return self._offer is not None

    @property
    def media(self) -> sip.Media:
        """What the other side last said of its audio."""
        return self._media

    @property
    def reference(self) -> str:
        """SIP's own name of this call, "" before a call of ours is taken."""
        begun = self._offer or self._dialog
        return begun.call_id if begun is not None else ""

    async def answer(self) -> None:
        """Take an incoming call. Raises CallGone when the caller has given up, TelephonyError where
        there is no port for its audio."""
        if self.state != "ringing" or self._offer is None:
            raise CallGone(f"the call from {self.number} does not ring any more")
        await self.stream.open(self._phone.host, self._phone.ports)
        if self._over.is_set():
            raise CallGone(f"the call from {self.number} does not ring any more")
        self._dialog = Dialog.theirs(self._offer, self.tag)
        self._phone.accept(self._offer, self)
        self._begin()
        try:
            await asyncio.wait_for(self._acknowledged.wait(), _ACKNOWLEDGED_WITHIN)
        except TimeoutError:
            await self.hang_up()
            self.ended_by = "the PBX did not acknowledge our answer"
            raise CallGone(f"the call from {self.number} was lost while it was answered") from None
        if self._over.is_set():
            raise CallGone(f"the call from {self.number} was given up while it was answered")

    def on_frame(self, callback: Callable[[bytes], None]) -> Callable[[], None]:
        """Have every 20 ms that are heard (320 bytes; silence where nothing came) until the call
        ends or the returned function is called."""
        return self.stream.listen(callback)

    async def play(self, pcm: bytes) -> None:
        """Speak, and return when all was sent; cancelled, it stops at once. Raises CallGone when
        the call ends meanwhile."""
        self._require_answered()
        await self.stream.play(pcm)

    async def press(self, keys: str) -> None:
        """Press keys, 100 ms each, and return when the last is let go. Speech waits for them.

        Raises CallGone when the call ends meanwhile, TelephonyError for what is no key."""
        self._require_answered()
        try:
            await self.stream.press(keys)
        except LocalProtocolError as error:
            raise TelephonyError(str(error)) from None

    async def hang_up(self, reason: str = BUSY) -> None:
        """End the call, or decline it for this reason while it rings. Idempotent."""
        if self.state == "ended":
            return
        self.finish("us")
        if self._dialog is not None:
            with contextlib.suppress(TelephonyError):
                await self._phone.leave(self._dialog)
        elif self._offer is not None:
            self._phone.refuse(self._offer, reason, self.tag)

    async def ended(self) -> None:
        """Return when the call is over."""
        await self._over.wait()

    def _require_answered(self) -> None:
        if self.state == "ended":
            raise CallGone(f"the call with {self.number} is over: ended by {self.ended_by}")
        if self.state == "ringing":
            raise TelephonyError(f"the call with {self.number} is not answered yet")

    # --- for the phone -------------------------------------------------------------------------

    def began(self, answer: SipMessage) -> None:
        """The other side has taken a call that we made. Raises RemoteProtocolError where it says
        nothing of audio that we speak."""
        self._dialog = Dialog.ours(answer)
        self._media = sip.described(answer.body_text)
        self._begin()

    def _begin(self) -> None:
        self.stream.aim(self._media.remote, self._media.keys or KEY_TYPE)
        self.state = "answered"
        self.answered_at = asyncio.get_running_loop().time()

    def finish(self, by: str) -> None:
        """It is over, and nothing more is to be said about it."""
        if self.state != "ended":
            self.state = "ended"
            self.ended_by = by
            self.stream.close()
            self._over.set()
            self._acknowledged.set()
            self._phone.forget(self)

    def asked(self, request: SipMessage) -> None:
        """A request of the other side within this call, not a copy of an earlier one."""
        method = request.key[2]
        if method == "CANCEL":
            self._cancelled(request)
        elif not self._belongs(request):
            self._phone.respond(request, UNKNOWN)
        elif method == "ACK":
            self._acknowledge(request)
        elif method == "BYE":
            self._phone.respond(request, OK, self.tag)
            self.finish("them")
        elif method == "INVITE" and self._dialog is None:  # we have not answered the first yet
            self._phone.refuse(request, PENDING, self.tag)
        elif method == "INVITE":
            self._renew(request)
        elif method == "INFO":
            self._phone.respond(request, OK, self.tag)
            found = re.search(r"^Signal\s*=\s*([0-9*#A-D])\s*$", request.body_text, re.M)
            if found and found[1] in KEYS:
                self.stream.press_heard(found[1])
        else:
            self._phone.respond(request, OK, self.tag)

    def _belongs(self, request: SipMessage) -> bool:
        """Whether its tags are those of this call, not only its Call-ID."""
        if self._dialog is None:
            return self._offer is not None and request.tag("From") == self._offer.tag("From")
        theirs, ours = sip.party(self._dialog.remote)[1], sip.party(self._dialog.local)[1]
        return request.tag("From") == theirs and request.tag("To") in (ours, "")

    def _cancelled(self, request: SipMessage) -> None:
        offer = self._offer
        if offer is None or request.sequence != offer.sequence or request.branch != offer.branch:
            self._phone.respond(request, UNKNOWN)
            return
        self._phone.respond(request, OK, self.tag)
        if self.state == "ringing" and self._dialog is None:
            self._phone.refuse(offer, CANCELLED, self.tag)
            self.finish("them")

    def _acknowledge(self, request: SipMessage) -> None:
        if self._dialog is None:
            return
        if request.body_text and self._media.remote is None and self._offer is not None:
            # They had left the offer to us; this is their answer to it.
            with contextlib.suppress(RemoteProtocolError):
                self._renewed(sip.described(request.body_text))
        self._acknowledged.set()

    def _renew(self, invite: SipMessage) -> None:
        """Hold, resume, a change of address; without a description it only asks for ours."""
        try:
            if invite.body_text:
                self._renewed(sip.described(invite.body_text))
        except RemoteProtocolError:
            self._phone.refuse(invite, NOT_ACCEPTABLE, self.tag)
            return
        if self._dialog is not None and invite.headers.get("Contact"):
            self._dialog.target = _uri(invite.headers["Contact"])
        self._phone.accept(invite, self)

    def _renewed(self, media: sip.Media) -> None:
        self._media = media
        self.stream.aim(media.remote, media.keys or KEY_TYPE)
