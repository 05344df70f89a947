"""A telephone in software: registers, calls, answers. The robots have one, and a site without
Asterisk answers its callers with one (`ivr.telephony.extension`).

pyVoIP writes and reads the SIP; our loop carries it. Its own sockets and threads are not used, for
what they do cannot be mended from outside: they poll every 10 ms, lose every refusal but two, miss
a caller's CANCEL, die of one odd datagram, print, keep 8 of the 16 bits of a sample, send no keys
and outlive the phone. So nothing here has a thread, and nothing is left over after `close`. What is
left of pyVoIP's faults ends in `SipMessage` and `_Words`, and nobody else knows pyVoIP.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import IPv4Address
from typing import Any, Literal, Self, cast
from uuid import uuid4

import pyVoIP.VoIP  # noqa: F401 (SIP below can only be imported after it)
import structlog
from pyVoIP import RTP, SIP

from ivr.errors import RemoteProtocolError, TelephonyError
from ivr.telephony.phonecall import (
    BUSY,
    KEY_TYPE,
    NOT_ACCEPTABLE,
    OK,
    UNKNOWN,
    Dialog,
)
from ivr.telephony.phonecall import PhoneCall as PhoneCall
from ivr.telephony.registration import TRIES, Registration
from ivr.telephony.registration import RegistrationRefused as RegistrationRefused
from ivr.telephony.rtp import RtpStream, Ticker
from ivr.telephony.transactions import NotConnected, Transactions
from ivr.wire import sip

log = structlog.get_logger(__name__)

_NUMBER = re.compile(r"[0-9A-Za-z*#+._-]{1,64}")
_FAREWELL = 2.0  # seconds for the answer to a BYE
_PULSE = 1.0  # between signs of life: only who sends to a closed port is told that it is closed
_MOST_CALLS = 50
_RINGING = "180 Ringing"
_NOT_OURS = "405 Method Not Allowed"
_ANSWERED = {"OPTIONS": OK, "BYE": UNKNOWN, "CANCEL": UNKNOWN, "INFO": UNKNOWN}
"""What we say to requests that belong to no call; all others are not ours."""

_REFUSALS = {
    401: "is refused: wrong user or password",
    403: "is not allowed",
    404: "does not exist",
    407: "is refused: wrong user or password",
    408: "did not answer",
    480: "is not available",
    486: "is busy",
    487: "was given up",
    488: "shares no codec with us",
    503: "is not available",
    603: "declined",
}
"""What a final answer to an INVITE says of the number called (RFC 3261, section 21)."""

_KNOWN_CODES = frozenset(int(status.value) for status in SIP.SIPStatus)
_DIRECTIONS = {each.value: each for each in RTP.TransmitType}


class SipMessage(SIP.SIPMessage):
    """pyVoIP's parser, fed with what it can read, and read where it would guess."""

    def parse(self, data: bytes) -> None:
        tidied = sip.tidy(data)
        self.vias, self.routes = tidied.vias, tidied.routes
        self.challenge, self.by_proxy = tidied.challenge, tidied.proxy
        self.body_text = ""
        text = tidied.text
        if text.startswith(b"SIP/2.0 "):
            code = int(text[8:11])
            if code not in _KNOWN_CODES:  # it means what the first of its hundred means
                text = b"SIP/2.0 %d" % (183 if code < 200 else code // 100 * 100) + text[11:]
        # It knows the requests that it sends itself, and no others.
        self.SIPCompatibleMethods = [text.split(b" ", 1)[0].decode("ascii", "replace")]
        super().parse(text)
        self.body_text = text.partition(b"\r\n\r\n")[2].decode("utf-8", "replace")

    def parse_header(self, header: str, data: str) -> None:
        if header in ("From", "To"):
            raw, tag = sip.party(data)
            self.headers[header] = {"raw": raw, "tag": tag}
        elif header != "Via":  # those are copied as they came
            super().parse_header(header, data)

    @staticmethod
    def parse_raw_body(body: bytes, handle: Callable[[str, str], None]) -> None:
        """`ivr.wire.sip.described` reads it: pyVoIP's way ends with the first odd line."""

    @property
    def code(self) -> int:
        return int(self.status)

    @property
    def is_response(self) -> bool:
        return bool(self.type == SIP.SIPMessageType.RESPONSE)

    @property
    def call_id(self) -> str:
        return str(self.headers["Call-ID"])

    @property
    def sequence(self) -> int:
        return int(self.headers["CSeq"]["check"])

    @property
    def is_challenge(self) -> bool:
        return self.code in (401, 407) and bool(self.challenge)

    @property
    def is_stale(self) -> bool:
        """Whether only the challenge was too old, not the password wrong (RFC 7616, 3.3)."""
        return self.challenge.get("stale", "").lower() == "true"

    @property
    def branch(self) -> str:
        found = re.search(r";\s*branch\s*=\s*([^;,\s]+)", self.vias[0])
        return found[1] if found else ""

    @property
    def key(self) -> tuple[str, int, str]:
        """What a request and its answers have in common."""
        return self.call_id, self.sequence, str(self.headers["CSeq"]["method"])

    def tag(self, header: Literal["From", "To"]) -> str:
        return str(self.headers[header]["tag"])

    def party(self, header: Literal["From", "To"]) -> str:
        raw, tag = self.headers[header]["raw"], self.tag(header)
        return f"{raw};tag={tag}" if tag else str(raw)


class _Words(SIP.SIPClient):
    """pyVoIP's writer of SIP messages. It is never started, so it opens no socket."""

    def __init__(self, *args: Any, **named: Any):
        self._registration = uuid4().hex
        self._tag = ""
        super().__init__(*args, **named)

    def gen_call_id(self) -> str:
        """One for all registrations of a phone; pyVoIP's are those of the next phone, too."""
        return self._registration

    def gen_tag(self) -> str:
        """pyVoIP keeps a list of all it ever made."""
        return self._tag or uuid4().hex[:16]

    def gen_invite(self, *args: Any) -> str:
        """The same tag when a challenge is answered; and a way back through a NAT."""
        *_, branch, call_id = args
        self._tag = self.tagLibrary.get(call_id, "")
        try:
            text = str(super().gen_invite(*args))
        finally:
            self._tag = ""
        us = f"<sip:{self.username}@"
        return text.replace(f"{branch}\r\n", f"{branch};rport\r\n", 1).replace(
            f"From: {us}{self.myIP}>", f"From: {us}{self.server}>", 1
        )

    def _gen_response_via_header(self, request: Any) -> str:
        """As they came: pyVoIP would lose some of their parameters, and all of the way back."""
        lines = [f"Via: {via}" for via in request.vias]
        if request.key[2] == "INVITE":
            lines += [f"Record-Route: {route}" for route in request.routes]
        return "".join(f"{line}\r\n" for line in lines)

    def response(self, request: SipMessage, status: str, tag: str = "") -> str:
        """An answer without audio; `tag` is ours in this call."""
        text = str(self.gen_ok(request)).replace(OK, status, 1)
        if "trying" not in status.lower():
            raw, given = request.headers["To"]["raw"], request.tag("To")
            to = f"To: {raw};tag={given or tag or self.gen_tag()}"
            text = re.sub(r"^To: [^\r]*", lambda _: to, text, count=1, flags=re.M)
        return text.replace(";tag=\r\n", "\r\n")  # who has none gets none back

    def taking(self, invite: SipMessage, stream: RtpStream, media: sip.Media, tag: str) -> str:
        """The answer that takes a call, or a change to one."""
        self.tagLibrary[invite.call_id] = invite.tag("To") or tag
        session = str(random.getrandbits(31))
        keys = KEY_TYPE if media.keys is None else media.keys
        how = _DIRECTIONS[media.direction]
        text = str(self.gen_answer(invite, session, _offer(stream, keys), how))
        head, _, body = text.replace(";tag=\r\n", "\r\n").partition("\r\n\r\n")
        for line in media.before:
            body = body.replace("m=audio", f"{line}\r\nm=audio", 1)
        body += "".join(f"{line}\r\n" for line in media.after)
        head = re.sub(r"^Content-Length: \d+", f"Content-Length: {len(body)}", head, flags=re.M)
        return f"{head}\r\n\r\n{body}"


class Softphone:
    """A registered telephone with any number of calls. Opened and closed by `async with`.

    `host` is the phone's own address, "" for the one that leads to the server; `local_port` its SIP
    port and `ports` those for audio, whatever is free unless given. `room` says whether one more
    call may come in. Only `server` is listened to.
    """

    def __init__(
        self,
        user: str,
        password: str,
        *,
        server: str = "127.0.0.1",
        port: int = 5060,
        host: str = "127.0.0.1",
        local_port: int = 0,
        ports: Sequence[int] = (),
        room: Callable[[], bool] | None = None,
        ticker: Ticker | None = None,
    ):
        if not _NUMBER.fullmatch(user):
            raise TelephonyError(f"{user[:80]!r} is no SIP user: letters, digits and *#+._- only")
        self.user = user
        self.host = host
        self.ports = ports
        self.ticker = ticker or Ticker()
        self._password = password
        self._words = _Words(server, port, user, "", phone=cast(Any, None), myIP=host)
        self._server = (server, port)
        self._where = f"SIP at {server}:{port}"
        self._local_port = local_port
        self._room = room or (lambda: len(self._calls) < _MOST_CALLS)
        self._transport: asyncio.DatagramTransport | None = None
        self._transactions = Transactions(self._send)
        self._registration = Registration(
            user, self._where, self._words, self._ask, self._sign_registration
        )
        self._calls: dict[str, PhoneCall] = {}
        self._rung: asyncio.Queue[PhoneCall] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Register, and stay registered. Raises TelephonyError that says why it cannot."""
        await self._bind()
        try:
            await self._registration.register()
        except BaseException:
            self._unbind()
            raise
        self._go_on()

    async def start(self) -> None:
        """Register as soon as the registrar lets us, now or later, and stay registered. Raises
        RegistrationRefused for a wrong password, TelephonyError where there is no port."""
        await self._bind()
        try:
            await self._registration.register()
        except RegistrationRefused:
            self._unbind()
            raise
        except TelephonyError as error:
            log.warning("softphone not registered", user=self.user, reason=str(error))
        except BaseException:
            self._unbind()
            raise
        self._go_on()

    def _go_on(self) -> None:
        self._tasks = {
            asyncio.create_task(self._registration.keep(), name=f"softphone {self.user} registers"),
            asyncio.create_task(self._pulse(), name=f"softphone {self.user} pulse"),
        }

    async def _bind(self) -> None:
        local = (self.host or str(IPv4Address(0)), self._local_port)
        try:
            self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Socket(self), local_addr=local, remote_addr=self._server, family=2
            )
        except OSError as error:
            way = f"{self.host or 'here'}:{self._local_port}" if self._local_port else self.host
            raise TelephonyError(f"no way from {way} to {self._where}: {error}") from None
        self.host, self._words.myPort = self._transport.get_extra_info("sockname")[:2]
        self._words.myIP = self.host

    def _unbind(self) -> None:
        self._transactions.close()
        if self._transport is not None:
            self._transport.close()

    async def close(self) -> None:
        """Hang up every call, unregister, let go of the port. Idempotent; takes a few seconds at
        most, however silent the PBX is."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._transport is None or self._transport.is_closing():
            return
        await asyncio.gather(*(call.hang_up() for call in tuple(self._calls.values())))
        with contextlib.suppress(TelephonyError):
            await self._registration.leave()
        self._unbind()

    async def call(
        self, number: str, seconds: float = 30.0, ringing: Callable[[], None] = lambda: None
    ) -> PhoneCall:
        """Dial, and return the answered call; `ringing` is told when it rings there.

        Raises NotConnected that says what became of it, TelephonyError for what cannot be dialled;
        cancelled or out of time, it stops ringing there."""
        if not _NUMBER.fullmatch(number):
            raise TelephonyError(f"{number[:80]!r} cannot be dialled: letters, digits, *#+._- only")
        call = PhoneCall(self, number)
        try:
            await self._invite(call, seconds, ringing)
        except BaseException:
            await call.hang_up()
            raise
        return call

    async def incoming(self, seconds: float | None = None) -> PhoneCall:
        """The next call that rings here and goes on ringing. Raises TelephonyError if none does."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    call = await self._rung.get()
                    if call.state == "ringing":
                        return call
        except TimeoutError:
            raise TelephonyError(f"nobody called {self.user} within {seconds:g} s") from None

    @property
    def registered(self) -> bool:
        return self._registration.valid

    @property
    def called(self) -> int:
        """How many calls that came in are up or ring."""
        return sum(call.incoming for call in self._calls.values())

    # --- for its calls -------------------------------------------------------------------------

    def _send(self, message: str) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(message.encode())

    def respond(self, request: SipMessage, status: str, tag: str = "") -> None:
        """Answer a request, and every copy of it."""
        self._transactions.answer(request, self._words.response(request, status, tag))

    def accept(self, invite: SipMessage, call: PhoneCall) -> None:
        """Take a call, or a change to one, until that is acknowledged."""
        text = self._words.taking(invite, call.stream, call.media, call.tag)
        self._transactions.insist(invite, text)

    def refuse(self, invite: SipMessage, reason: str, tag: str = "") -> None:
        """Decline a call, or a change to one, until that is acknowledged."""
        self._transactions.insist(invite, self._words.response(invite, reason, tag))

    async def leave(self, dialog: Dialog) -> None:
        """Say goodbye. Raises TelephonyError when nobody says it back."""
        dialog.sequence += 1
        await self._ask(dialog.request("BYE", self._via), _FAREWELL)

    def forget(self, call: PhoneCall) -> None:
        for call_id in [key for key, kept in self._calls.items() if kept is call]:
            del self._calls[call_id]
            self._words.tagLibrary.pop(call_id, None)

    # --- requests of ours ----------------------------------------------------------------------

    @property
    def _via(self) -> str:
        return f"{self.host}:{self._words.myPort}"

    async def _ask(self, text: str, seconds: float) -> SipMessage:
        return await self._transactions.ask(SipMessage(text.encode()), seconds, self._where)

    def _leave_unwanted(self, answer: SipMessage) -> None:
        dialog = Dialog.ours(answer)
        dialog.sequence += 1
        self._send(dialog.request("BYE", self._via))

    async def _invite(self, call: PhoneCall, seconds: float, ringing: Callable[[], None]) -> None:
        await call.stream.open(self.host, self.ports)
        call_id = uuid4().hex
        uri = f"sip:{call.number}@{self._server[0]}"
        offer = _offer(call.stream, KEY_TYPE)
        challenge: SipMessage | None = None
        for tried in range(TRIES + 1):
            branch = self._words.gen_branch()
            text = self._words.gen_invite(
                call.number, "1", offer, RTP.TransmitType.SENDRECV, branch, call_id
            )
            if challenge is not None:
                text = self._with_credentials(text, challenge, "INVITE", uri)
            invite = SipMessage(text.encode())
            answer = await self._transactions.ask(
                invite,
                seconds,
                call.number,
                ringing=ringing,
                give_up=partial(self._give_up, invite),
            )
            if not answer.is_challenge or (tried and not answer.is_stale):
                break
            challenge = answer
        if answer.code != 200:
            meaning = _REFUSALS.get(answer.code, f"was refused: {answer.status}")
            raise NotConnected(f"{call.number} {meaning}", answer.code)
        self._calls[call_id] = call
        try:
            call.began(answer)
        except RemoteProtocolError as error:
            raise NotConnected(str(error), 488) from None

    def _give_up(self, invite: SipMessage, answer: SipMessage | None) -> None:
        """Stop it ringing there, or leave the call that was answered at this very moment."""
        if answer is None:
            self._send(Dialog.ours(invite).request("CANCEL", self._via, invite.branch))
        elif answer.code == 200:
            self._leave_unwanted(answer)

    def _sign_registration(self, text: str, challenge: SipMessage) -> str:
        return self._with_credentials(text, challenge, "REGISTER", f"sip:{self._server[0]}")

    def _with_credentials(self, text: str, challenge: SipMessage, method: str, uri: str) -> str:
        name = "Proxy-Authorization" if challenge.by_proxy else "Authorization"
        value = sip.authorization(
            challenge.challenge,
            user=self.user,
            password=self._password,
            method=method,
            uri=uri,
            nonce=uuid4().hex,
        )
        return text.replace("\r\nContent-Length", f"\r\n{name}: {value}\r\nContent-Length", 1)

    async def _pulse(self) -> None:
        while True:
            await asyncio.sleep(_PULSE)
            if self._calls or self._transactions.waiting:
                self._send("\r\n\r\n")  # RFC 5626, 3.5.1

    # --- what comes in -------------------------------------------------------------------------

    def received(self, datagram: bytes) -> None:
        """Take one datagram from the PBX. Rubbish is dropped: it cannot be answered."""
        if not datagram.strip(b"\r\n\0"):
            return  # a sign of life
        try:
            message = SipMessage(datagram)
            take = self._answered if message.is_response else self._asked
            take(message)
        except TelephonyError as error:
            log.warning("softphone cannot take this", user=self.user, reason=str(error))
        except Exception as error:  # pyVoIP trips over rubbish in every way there is
            log.debug("softphone dropped a datagram", user=self.user, reason=repr(error))

    def lost(self, error: str) -> None:
        """The kernel says that the PBX's port is closed."""
        reason = f"nothing listens for {self._where} ({error}): is Asterisk running?"
        self._transactions.fail(reason)
        for call in tuple(self._calls.values()):
            call.finish(reason)

    def _answered(self, answer: SipMessage) -> None:
        wanted = self._transactions.answered(answer)
        if answer.code < 200 or answer.key[2] != "INVITE":
            return
        branch = "" if answer.code == 200 else answer.branch
        self._send(Dialog.ours(answer).request("ACK", self._via, branch))
        if not wanted and answer.code == 200 and answer.call_id not in self._calls:
            self._leave_unwanted(answer)

    def _asked(self, request: SipMessage) -> None:
        method = request.key[2]
        call = self._calls.get(request.call_id)
        if method == "ACK":
            self._transactions.acknowledged(request.call_id, request.sequence)
            if call is not None:
                call.asked(request)
        elif self._transactions.repeat(request):
            pass
        elif call is not None:
            call.asked(request)
        elif method == "INVITE":
            self._ring(request)
        else:
            self.respond(request, _ANSWERED.get(method, _NOT_OURS))

    def _ring(self, invite: SipMessage) -> None:
        if invite.tag("To"):  # a change to a call that we know nothing of
            self.refuse(invite, UNKNOWN)
            return
        if not self._room():
            self.refuse(invite, BUSY)
            log.warning("call refused: too many at once", user=self.user)
            return
        try:
            call = PhoneCall(self, sip.number(invite.headers["From"]["raw"]), invite)
        except RemoteProtocolError as error:
            self.refuse(invite, NOT_ACCEPTABLE)
            raise TelephonyError(str(error)) from None
        self._calls[invite.call_id] = call
        self.respond(invite, _RINGING, call.tag)
        self._rung.put_nowait(call)


class _Socket(asyncio.DatagramProtocol):
    """The phone's SIP port. Connected, so that the kernel tells when the PBX has closed its own."""

    def __init__(self, phone: Softphone):
        self._phone = phone

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._phone.received(data)

    def error_received(self, exc: Exception) -> None:
        self._phone.lost(str(exc.__class__.__name__))


def _offer(stream: RtpStream, key_type: int) -> dict[int, Any]:
    """What our side of the call takes, as pyVoIP wants it: payload types by port."""
    return {stream.port: {0: RTP.PayloadType.PCMU, key_type: RTP.PayloadType.EVENT}}
