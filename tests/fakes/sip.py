"""A PBX of one socket, for the softphone's unit tests: registers, answers, rings, misbehaves."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any


class FakePbx(asyncio.DatagramProtocol):
    """Keeps every datagram as text in `received`; `on_invite` decides what becomes of a call."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self.phone: tuple[str, int] = ("", 0)
        self.media: tuple[str, int] = ("127.0.0.1", 9)
        self.invite_status = "200 OK"
        self.silent = False
        self.wrong_password = False
        self.least = 0  # seconds of a registration that are not too brief
        self.granted = 0  # seconds that are given whatever is asked
        self.stale = 0  # so many right answers to a challenge are called too old
        self._changed = asyncio.Event()
        self._transport: asyncio.DatagramTransport | None = None

    async def open(self) -> int:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        port: int = self._transport.get_extra_info("sockname")[1]
        return port

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def until(self, condition: Callable[[str], bool], seconds: float = 5.0) -> str:
        """The first message, past or to come, of which the condition holds."""
        async with asyncio.timeout(seconds):
            while True:
                for message in self.received:
                    if condition(message):
                        return message
                self._changed.clear()
                await self._changed.wait()

    def methods(self) -> list[str]:
        return [message.split(" ", 1)[0] for message in self.received if message.strip()]

    def send(self, message: str) -> None:
        assert self._transport is not None
        self._transport.sendto(message.replace("\n", "\r\n").encode(), self.phone)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        message = data.decode()
        self.received.append(message)
        self._changed.set()
        self.phone = addr
        if self.silent or message.startswith(("SIP/2.0", "ACK", "\r\n")):
            return
        if message.startswith("INVITE"):
            self._invited(message)
        elif message.startswith("REGISTER") and (
            self.wrong_password or "Authorization:" not in message
        ):
            self.send(self.reply(message, "401 Unauthorized"))
        elif message.startswith("REGISTER") and 0 < _expires(message) < self.least:
            brief = self.reply(message, "423 Interval Too Brief")
            self.send(brief.replace("Contact:", f"Min-Expires: {self.least}\nContact:"))
        elif message.startswith("REGISTER") and self.granted:
            short = self.reply(message, "200 OK")
            self.send(short.replace(":5060>", f":5060>;expires={self.granted}"))
        elif message.startswith("REGISTER") and self.stale:
            self.stale -= 1
            answer = self.reply(message, "401 Unauthorized")
            self.send(answer.replace('nonce="n1"', 'nonce="n2",stale=true'))
        elif message.startswith("CANCEL"):
            self.send(self.reply(message, "200 OK"))
            invite = next(kept for kept in self.received if kept.startswith("INVITE"))
            self.send(self.reply(invite, "487 Request Terminated"))
        else:
            self.send(self.reply(message, "200 OK"))

    def _invited(self, message: str) -> None:
        if "Authorization:" not in message:
            self.send(self.reply(message, "401 Unauthorized"))
            return
        self.send(self.reply(message, "180 Ringing"))
        if self.invite_status:
            self.send(self.reply(message, self.invite_status, sdp=self.invite_status == "200 OK"))

    def reply(self, request: str, status: str, *, sdp: bool = False) -> str:
        copied = re.findall(r"^(?:Via|From|Call-ID|CSeq): .*$", request, re.M)
        (to,) = re.findall(r"^To: .*$", request, re.M)
        lines = [f"SIP/2.0 {status}", *(line.strip() for line in copied)]
        lines.append(to.strip() + ("" if ";tag=" in to else ";tag=pbx"))
        if status.startswith("401"):
            lines.append('WWW-Authenticate: Digest realm="pbx",nonce="n1",algorithm=MD5,qop="auth"')
        lines.append("Contact: <sip:127.0.0.1:5060>")
        return self._with_body(lines, self.sdp() if sdp else "")

    def request(self, method: str, call_id: str, **headers: str) -> str:
        begun = "INVITE" if method == "CANCEL" else method  # a CANCEL has the branch of its INVITE
        lines = [
            f"{method} sip:robot@127.0.0.1 SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1:5060;rport;branch=z9hG4bK{begun}{call_id}",
            'From: "Ann" <sip:9002@127.0.0.1>;tag=pbx',
            f"To: <sip:robot@127.0.0.1>{headers.get('tag', '')}",
            "Contact: <sip:asterisk@127.0.0.1:5060>",
            f"Call-ID: {call_id}",
            f"CSeq: {headers.get('cseq', '7')} {headers.get('cseq_method', method)}",
        ]
        return self._with_body(lines, headers.get("sdp", ""))

    def sdp(self) -> str:
        host, port = self.media
        return (
            f"v=0\no=- 1 1 IN IP4 {host}\ns=pbx\nc=IN IP4 {host}\nt=0 0\n"
            f"m=audio {port} RTP/AVP 0 96\na=rtpmap:0 PCMU/8000\n"
            "a=rtpmap:96 telephone-event/8000\na=fmtp:96 0-16\na=sendrecv\n"
        )

    def _with_body(self, lines: list[str], body: str) -> str:
        if body:
            lines.append("Content-Type: application/sdp")
        lines.append(f"Content-Length: {len(body) + body.count(chr(10))}")
        return "\n".join(lines) + "\n\n" + body


def _expires(message: str) -> int:
    return int(re.findall(r"^Expires: (\d+)", message, re.M)[0])
