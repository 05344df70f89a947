"""A telephone in software, for robots and diagnostics on loopback: registers, calls, answers.

pyVoIP writes and reads the SIP; our loop carries it. Its own sockets and threads are not used, for
what they do cannot be mended from outside: they poll every 10 ms, lose every refusal but two, miss
a caller's CANCEL, die of one odd datagram, print, keep 8 of the 16 bits of a sample, send no keys
and outlive the phone. So nothing here has a thread, and nothing is left over after `close`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self, cast
from uuid import uuid4

import pyVoIP.VoIP  # noqa: F401 (SIP below can only be imported after it)
import structlog
from pyVoIP import RTP, SIP

from ivr.errors import CallGone, LocalProtocolError, TelephonyError
from ivr.telephony.rtp import RtpStream

CallState = Literal["ringing", "answered", "ended"]

log = structlog.get_logger(__name__)

_NUMBER = re.compile(r"[0-9A-Za-z*#+._-]{1,64}")
_KEY_TYPE = 101
_RESEND = (0.5, 1.0, 2.0, 4.0)  # seconds between copies of a message (RFC 3261, timers A and G)
_REGISTERED_FOR = 120  # seconds
_PATIENCE = 5.0  # for the answer to anything but an INVITE
_FAREWELL = 2.0  # for the answer to a BYE or to a last REGISTER
_PULSE = 1.0  # between signs of life: only who sends to a closed port is told that it is closed
_MOST_CALLS = 50
_TRIES = 3  # of a password, where the PBX calls its own challenge too old
_OK = "200 OK"
_BUSY = "486 Busy Here"
_UNKNOWN = "481 Call/Transaction Does Not Exist"
_NOT_OURS = "405 Method Not Allowed"

_REFUSALS = {
    401: "is refused: wrong user or password",
    403: "is not allowed",
    404: "does not exist",
    408: "did not answer",
    480: "is not available",
    486: "is busy",
    487: "was given up",
    488: "shares no codec with us",
    503: "is not available",
    603: "declined",
}
"""What a final answer to an INVITE says of the number called (RFC 3261, section 21)."""


class _Message(SIP.SIPMessage):
    """pyVoIP's parser, which otherwise gives up on requests that it does not send itself."""

    def parse(self, data: bytes) -> None:
        self.SIPCompatibleMethods = [data.split(b" ", 1)[0].decode("ascii", "replace")]
        super().parse(data)

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
    def is_challenge(self) -> bool:
        return self.code == 401 and {"realm", "nonce"} <= set(self.authentication)

    @property
    def is_stale(self) -> bool:
        """Whether only the challenge was too old, not the password wrong (RFC 7616, 3.3)."""
        return self.authentication.get("stale", "").lower() == "true"

    @property
    def branch(self) -> str:
        return str(self.headers["Via"][0].get("branch", ""))

    @property
    def key(self) -> tuple[str, str, str]:
        """What a request and its answers have in common."""
        return self.call_id, self.headers["CSeq"]["check"], self.headers["CSeq"]["method"]

    def party(self, header: Literal["From", "To"]) -> str:
        value = self.headers[header]
        return f"{value['raw']};tag={value['tag']}" if value["tag"] else str(value["raw"])

    def media(self) -> tuple[tuple[str, int], int]:
        """Where the other side wants µ-law, and its payload type for keys.

        Raises TelephonyError where it does not want it."""
        for line in self.body.get("m", ()):
            if line["type"] == "audio" and "0" in line["methods"]:
                maps = {kind: about.get("rtpmap") for kind, about in line["attributes"].items()}
                keys = [
                    k for k, about in maps.items() if about and about["name"] == "telephone-event"
                ]
                address = self.body["c"][0]["address"]
                return (address, line["port"]), int(keys[0]) if keys else _KEY_TYPE
        raise TelephonyError("the other side speaks no µ-law: allow ulaw on its endpoint")


class _Words(SIP.SIPClient):
    """pyVoIP's writer of SIP messages. It is never started, so it opens no socket."""

    def gen_call_id(self) -> str:
        """Unlike pyVoIP's, not the same again for the next phone on this port."""
        return uuid4().hex


@dataclass(frozen=True)
class _Exchange:
    """A request that waits for its answers."""

    provisional: asyncio.Future[None]
    final: asyncio.Future[_Message]


@dataclass
class _Dialog:
    """What every later request of one call repeats (RFC 3261, section 12)."""

    call_id: str
    local: str
    remote: str
    target: str
    sequence: int

    @classmethod
    def ours(cls, message: _Message) -> _Dialog:
        """Of a call that we began, from the INVITE or from what was answered to it."""
        target = message.headers["Contact"] if message.code == 200 else message.headers["To"]["raw"]
        sequence = int(message.headers["CSeq"]["check"])
        local, remote = message.party("From"), message.party("To")
        return cls(message.call_id, local, remote, _uri(target), sequence)

    @classmethod
    def theirs(cls, invite: _Message, tag: str) -> _Dialog:
        """Of a call that rings here, to which we gave `tag`."""
        local = f"{invite.headers['To']['raw']};tag={tag}"
        return cls(invite.call_id, local, invite.party("From"), _uri(invite.headers["Contact"]), 0)

    def request(self, method: str, via: str, branch: str = "") -> str:
        """A request of this dialog; with the branch of an earlier one it belongs to that one."""
        branch = branch or f"z9hG4bK{uuid4().hex}"
        return (
            f"{method} {self.target} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {via};branch={branch};rport\r\n"
            "Max-Forwards: 70\r\n"
            f"From: {self.local}\r\n"
            f"To: {self.remote}\r\n"
            f"Call-ID: {self.call_id}\r\n"
            f"CSeq: {self.sequence} {method}\r\n"
            "Content-Length: 0\r\n\r\n"
        )


def _uri(address: str) -> str:
    """The URI of a Contact or To header, with or without its angle brackets."""
    found = re.search(r"<([^<>\s]+)>", address)
    return found[1] if found else address.split(";")[0].strip()


class PhoneCall:
    """One call. `number` is the other side, `answered_at` the loop's time of the answer, and
    `ended_by` is "us", "them", or says what failed."""

    def __init__(self, phone: Softphone, number: str, offer: _Message | None = None):
        self.number = number
        self.state: CallState = "ringing"
        self.ended_by = ""
        self.answered_at = 0.0
        self._phone = phone
        self._dialog: _Dialog | None = None
        self.stream = RtpStream()
        self._offer = offer  # the other side's INVITE, where it was they who called
        self._answer = ""  # our last word on it, for when they ask again
        self._acknowledged = asyncio.Event()
        self._over = asyncio.Event()

    async def answer(self) -> None:
        """Take an incoming call. Raises CallGone when the caller has given up."""
        if self.state != "ringing" or self._offer is None:
            raise CallGone(f"the call from {self.number} does not ring any more")
        await self.stream.open(self._phone.host)
        self._answer = self._phone.accept(self._offer, self.stream)
        tag = self._phone.words.tagLibrary[self._offer.call_id]
        self.began(_Dialog.theirs(self._offer, tag), self._offer)
        for pause in _RESEND:
            self._phone.send(self._answer)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._acknowledged.wait(), pause)
                return
        self.finish("the PBX did not acknowledge our answer")
        raise CallGone(f"the call from {self.number} was lost while it was answered")

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

    async def hang_up(self) -> None:
        """End the call, or decline it while it rings. Idempotent."""
        if self.state == "ended":
            return
        self.finish("us")
        if self._dialog is not None:
            with contextlib.suppress(TelephonyError):
                await self._phone.leave(self._dialog)
        elif self._offer is not None:
            self._phone.refuse(self._offer)

    async def ended(self) -> None:
        """Return when the call is over."""
        await self._over.wait()

    def _require_answered(self) -> None:
        if self.state == "ended":
            raise CallGone(f"the call with {self.number} is over: ended by {self.ended_by}")
        if self.state == "ringing":
            raise TelephonyError(f"the call with {self.number} is not answered yet")

    def began(self, dialog: _Dialog, description: _Message) -> None:
        self._dialog = dialog
        self.stream.aim(*description.media())
        self.state = "answered"
        self.answered_at = asyncio.get_running_loop().time()

    def finish(self, by: str) -> None:
        if self.state != "ended":
            self.state = "ended"
            self.ended_by = by
            self.stream.close()
            self._over.set()
            self._phone.forget(self)

    def asked(self, request: _Message) -> str:
        """The answer to a request of the other side within this call, "" for none."""
        words = self._phone.words
        match request.key[2]:
            case "ACK":
                self._acknowledged.set()
                return ""
            case "BYE":
                self.finish("them")
            case "CANCEL" if self.state == "ringing" and self._offer is not None:
                self._phone.refuse(self._offer, "487 Request Terminated")
                self.finish("them")
            case "INVITE" if self._offer is not None and request.key == self._offer.key:
                return self._answer  # a copy of the first
            case "INVITE":
                self.stream.aim(*request.media())
                return self._phone.accept(request, self.stream)
        return str(words.gen_ok(request))


class Softphone:
    """A registered telephone with any number of calls. Opened and closed by `async with`.

    `host` is the phone's own address; its ports are whatever is free. Only `server` is listened to.
    """

    def __init__(
        self,
        user: str,
        password: str,
        *,
        server: str = "127.0.0.1",
        port: int = 5060,
        host: str = "127.0.0.1",
    ):
        if not _NUMBER.fullmatch(user):
            raise TelephonyError(f"{user[:80]!r} is no SIP user: letters, digits and *#+._- only")
        self.user = user
        self.host = host
        self.words = _Words(server, port, user, password, phone=cast(Any, None), myIP=host)
        self.words.default_expires = _REGISTERED_FOR
        self._server = (server, port)
        self._where = f"SIP at {server}:{port}"
        self._transport: asyncio.DatagramTransport | None = None
        self._exchanges: dict[tuple[str, str, str], _Exchange] = {}
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
        loop = asyncio.get_running_loop()
        try:
            self._transport, _ = await loop.create_datagram_endpoint(
                lambda: _Socket(self), local_addr=(self.host, 0), remote_addr=self._server
            )
        except OSError as error:
            raise TelephonyError(f"no way from {self.host} to {self._where}: {error}") from None
        self.words.myPort = self._transport.get_extra_info("sockname")[1]
        try:
            await self._register(_PATIENCE)
        except BaseException:
            self._transport.close()
            raise
        self._tasks = {
            asyncio.create_task(self._stay_registered(), name=f"softphone {self.user} registers"),
            asyncio.create_task(self._pulse(), name=f"softphone {self.user} pulse"),
        }

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
            await self._register(_FAREWELL, leave=True)
        self._transport.close()

    async def call(self, number: str, seconds: float = 30.0) -> PhoneCall:
        """Dial, and return the answered call. Raises TelephonyError that says what became of it;
        cancelled or out of time, it stops ringing there."""
        if not _NUMBER.fullmatch(number):
            raise TelephonyError(f"{number[:80]!r} cannot be dialled: letters, digits, *#+._- only")
        call = PhoneCall(self, number)
        try:
            await self._invite(call, seconds)
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

    # --- for its calls -------------------------------------------------------------------------

    def send(self, message: str) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(message.encode())

    async def leave(self, dialog: _Dialog) -> None:
        """Say goodbye. Raises TelephonyError when nobody says it back."""
        dialog.sequence += 1
        await self._exchange(dialog.request("BYE", self._via), _FAREWELL)

    def accept(self, invite: _Message, stream: RtpStream) -> str:
        """The answer that takes a call, or a change to one."""
        _, key_type = invite.media()
        session = str(random.getrandbits(31))
        offer = _offer(stream, key_type)
        return str(self.words.gen_answer(invite, session, offer, RTP.TransmitType.SENDRECV))

    def refuse(self, invite: _Message, reason: str = _BUSY) -> None:
        self.send(self.words.gen_busy(invite).replace(_BUSY, reason, 1))

    def forget(self, call: PhoneCall) -> None:
        for call_id in [key for key, kept in self._calls.items() if kept is call]:
            del self._calls[call_id]
            self.words.tagLibrary.pop(call_id, None)

    # --- requests of ours ----------------------------------------------------------------------

    @property
    def _via(self) -> str:
        return f"{self.host}:{self.words.myPort}"

    async def _exchange(self, text: str, seconds: float, who: str = "") -> _Message:
        """Send a request until it is answered; return the final answer. Raises TelephonyError."""
        loop = asyncio.get_running_loop()
        request = _Message(text.encode())
        exchange = _Exchange(loop.create_future(), loop.create_future())
        self._exchanges[request.key] = exchange
        both = (exchange.provisional, exchange.final)
        try:
            async with asyncio.timeout(seconds):
                for pause in _RESEND:
                    self.send(text)
                    await asyncio.wait(both, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                    if any(answer.done() for answer in both):
                        break
                return await exchange.final
        except (TimeoutError, asyncio.CancelledError) as error:
            if request.key[2] == "INVITE":
                self._give_up(request, exchange.final)
            if isinstance(error, asyncio.CancelledError):
                raise
            who = who or self._where
            raise TelephonyError(f"{who} did not answer within {seconds:g} s") from None
        finally:
            del self._exchanges[request.key]
            exchange.provisional.cancel()
            exchange.final.cancel()

    def _give_up(self, invite: _Message, final: asyncio.Future[_Message]) -> None:
        """Stop it ringing there, or leave the call that was answered at this very moment."""
        if final.done() and not final.cancelled() and final.result().code == 200:
            self._leave_unwanted(final.result())
        else:
            self.send(_Dialog.ours(invite).request("CANCEL", self._via, invite.branch))

    def _leave_unwanted(self, answer: _Message) -> None:
        dialog = _Dialog.ours(answer)
        dialog.sequence += 1
        self.send(dialog.request("BYE", self._via))

    async def _register(self, seconds: float, *, leave: bool = False) -> None:
        answer = await self._exchange(self.words.gen_first_response(deregister=leave), seconds)
        for tried in range(_TRIES):
            if not answer.is_challenge or (tried and not answer.is_stale):
                break
            text = self.words.gen_register(answer, deregister=leave)
            answer = await self._exchange(text, seconds)
        if answer.code != 200:
            why = "wrong user or password" if answer.code == 401 else str(answer.status)
            raise TelephonyError(f"{self._where} does not register {self.user}: {why}")

    async def _invite(self, call: PhoneCall, seconds: float) -> None:
        await call.stream.open(self.host)
        call_id = self.words.gen_call_id()
        offer = _offer(call.stream, _KEY_TYPE)
        credentials = ""
        for tried in range(_TRIES + 1):
            branch = self.words.gen_branch()
            text = self.words.gen_invite(
                call.number, "1", offer, RTP.TransmitType.SENDRECV, branch, call_id
            ).replace("\r\nContent-Length", f"\r\n{credentials}Content-Length", 1)
            answer = await self._exchange(text, seconds, call.number)
            if not answer.is_challenge or (tried and not answer.is_stale):
                break
            credentials = self._credentials(answer)
        if answer.code != 200:
            meaning = _REFUSALS.get(answer.code, f"was refused: {answer.status}")
            raise TelephonyError(f"{call.number} {meaning}")
        self._calls[call_id] = call
        call.began(_Dialog.ours(answer), answer)

    def _credentials(self, challenge: _Message) -> str:
        about = challenge.authentication
        response = self.words.gen_authorization(challenge).decode()
        return (
            f'Authorization: Digest username="{self.user}",realm="{about["realm"]}",'
            f'nonce="{about["nonce"]}",uri="sip:{self._server[0]};transport=UDP",'
            f'response="{response}",algorithm=MD5\r\n'
        )

    async def _stay_registered(self) -> None:
        while True:
            await asyncio.sleep(_REGISTERED_FOR / 3)
            try:
                await self._register(_PATIENCE)
            except TelephonyError as error:
                log.warning("softphone not registered", user=self.user, reason=str(error))

    async def _pulse(self) -> None:
        while True:
            await asyncio.sleep(_PULSE)
            if self._calls or self._exchanges:
                self.send("\r\n\r\n")  # RFC 5626, 3.5.1

    # --- what comes in -------------------------------------------------------------------------

    def received(self, datagram: bytes) -> None:
        """Take one datagram from the PBX. Rubbish is dropped: it cannot be answered."""
        try:
            message = _Message(datagram)
            take = self._answered if message.is_response else self._asked
            take(message)
        except TelephonyError as error:
            log.warning("softphone cannot take this", user=self.user, reason=str(error))
        except Exception as error:  # pyVoIP trips over rubbish in every way there is
            log.debug("softphone dropped a datagram", user=self.user, reason=repr(error))

    def lost(self, error: str) -> None:
        """The kernel says that the PBX's port is closed."""
        reason = f"nothing listens for {self._where} ({error}): is Asterisk running?"
        for exchange in self._exchanges.values():
            if not exchange.final.done():
                exchange.final.set_exception(TelephonyError(reason))
        for call in tuple(self._calls.values()):
            call.finish(reason)

    def _answered(self, answer: _Message) -> None:
        exchange = self._exchanges.get(answer.key)
        if answer.code < 200:
            if exchange is not None and not exchange.provisional.done():
                exchange.provisional.set_result(None)
            return
        if answer.key[2] == "INVITE":
            branch = "" if answer.code == 200 else answer.branch
            self.send(_Dialog.ours(answer).request("ACK", self._via, branch))
        if exchange is not None and not exchange.final.done():
            exchange.final.set_result(answer)
        elif answer.key[2] == "INVITE" and answer.code == 200 and answer.call_id not in self._calls:
            self._leave_unwanted(answer)

    def _asked(self, request: _Message) -> None:
        method = request.key[2]
        call = self._calls.get(request.call_id)
        if call is not None:
            self.send(call.asked(request))
        elif method == "INVITE":
            self._ring(request)
        elif method != "ACK":
            status = {"OPTIONS": _OK, "BYE": _UNKNOWN, "CANCEL": _UNKNOWN}.get(method, _NOT_OURS)
            self.send(self.words.gen_ok(request).replace(_OK, status, 1))

    def _ring(self, invite: _Message) -> None:
        try:
            invite.media()
        except TelephonyError:
            self.refuse(invite, "488 Not Acceptable Here")
            raise
        if len(self._calls) >= _MOST_CALLS:
            self.refuse(invite)
            return
        self.send(self.words.gen_ringing(invite))
        call = PhoneCall(self, str(invite.headers["From"]["number"]), invite)
        self._calls[invite.call_id] = call
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
