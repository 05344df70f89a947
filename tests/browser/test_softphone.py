"""The telephone in the page: registered, rung, answered and heard over real WebRTC.

The PBX is a few lines of SIP on the page's own socket, and a second peer connection with a tone.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Page, WebSocketRoute, expect

from tests.browser import cards
from tests.browser.conftest import FakeServer

ACCOUNT = {
    "uri": "sip:201@pbx.invalid",
    "password": "secret",
    "ws": "/api/phone/ws?pass=p",
    "extension": "201",
}

# The other end: offers a call with a tone in it, and knows how loud the answer is.
CALLER = """async () => {
  const context = new AudioContext();
  const tone = new OscillatorNode(context, { frequency: 440 });
  const out = new MediaStreamAudioDestinationNode(context);
  tone.connect(out);
  tone.start();
  const peer = window.caller = new RTCPeerConnection();
  for (const track of out.stream.getTracks()) peer.addTrack(track, out.stream);
  peer.ontrack = ({ streams: [stream] }) => {
    new Audio().srcObject = stream;
    const ear = new AnalyserNode(context);
    new MediaStreamAudioSourceNode(context, { mediaStream: stream }).connect(ear);
    window.loud = () => {
      const wave = new Float32Array(ear.fftSize);
      ear.getFloatTimeDomainData(wave);
      return Math.max(...wave.map(Math.abs));
    };
  };
  await peer.setLocalDescription(await peer.createOffer());
  await new Promise((done) => {
    const look = () => peer.iceGatheringState === "complete" && done();
    peer.onicegatheringstatechange = look;
    look();
  });
  return peer.localDescription.sdp;
}"""


@dataclass
class Pbx:
    """The registrar, and one caller."""

    page: Page
    refuse: bool = False
    route: WebSocketRoute | None = None
    heard: list[str] = field(default_factory=list)

    async def start(self) -> None:
        await self.page.route("**/api/phone", lambda route: route.fulfill(json=ACCOUNT))
        await self.page.route_web_socket("**/api/phone/ws?pass=p", self._connected)

    def _connected(self, route: WebSocketRoute) -> None:
        self.route = route
        route.on_message(lambda text: self._said(str(text)))

    def _said(self, text: str) -> None:
        self.heard.append(text)
        method = text.split(" ", 1)[0]
        if method in ("REGISTER", "BYE"):
            assert self.route is not None
            self.route.send(self._answer(text, "403 No" if self.refuse else "200 OK"))

    def _answer(self, request: str, status: str) -> str:
        kept = re.findall(r"^(?:Via|From|Call-ID|CSeq|Contact): .*$", request, re.M | re.I)
        to = re.findall(r"^To: .*$", request, re.M | re.I)[0].strip()
        lines = [f"SIP/2.0 {status}", *[one.strip() for one in kept]]
        lines += [to if ";tag=" in to else f"{to};tag=pbx", "Expires: 120", "Content-Length: 0"]
        return "\r\n".join(lines) + "\r\n\r\n"

    def invite(self, sdp: str) -> None:
        contact = re.search(r"^Contact: <([^>]+)>", self.heard[0], re.M | re.I)
        assert contact is not None
        self._send(f"INVITE {contact[1]} SIP/2.0", "1 INVITE", "<sip:201@pbx.invalid>", sdp)

    def acknowledge(self, answer: str) -> None:
        to = re.search(r"^To: (.*)$", answer, re.M | re.I)
        contact = re.search(r"^Contact: <([^>]+)>", answer, re.M | re.I)
        assert to is not None
        assert contact is not None
        self._send(f"ACK {contact[1]} SIP/2.0", "1 ACK", to[1].strip(), "")

    def _send(self, first: str, cseq: str, to: str, sdp: str) -> None:
        assert self.route is not None
        head = [
            first,
            f"Via: SIP/2.0/WS pbx.invalid;branch=z9hG4bK{cseq[-3:]}",
            "Max-Forwards: 70",
            'From: "Maria" <sip:+14155550123@pbx.invalid>;tag=c1',
            f"To: {to}",
            "Call-ID: call-1",
            f"CSeq: {cseq}",
            "Contact: <sip:pbx@pbx.invalid;transport=ws>",
            *(["Content-Type: application/sdp"] if sdp else []),
            f"Content-Length: {len(sdp.encode())}",
        ]
        self.route.send("\r\n".join(head) + "\r\n\r\n" + sdp)

    async def until(self, begin: str) -> str:
        async with asyncio.timeout(15):
            while not (found := [one for one in self.heard if one.startswith(begin)]):
                await asyncio.sleep(0.02)
        return found[-1]

    async def call(self) -> None:
        self.invite(await self.page.evaluate(CALLER))

    async def connect(self) -> None:
        """The page has answered."""
        answer = await self.until("SIP/2.0 200")
        self.acknowledge(answer)
        sdp = answer.split("\r\n\r\n", 1)[1]
        await self.page.evaluate(
            "(sdp) => caller.setRemoteDescription({ type: 'answer', sdp })", sdp
        )


async def registered(fake: Any, **about: Any) -> tuple[FakeServer, Pbx]:
    server: FakeServer = await fake(**about)
    pbx = Pbx(server.page)
    await pbx.start()
    await server.page.reload()
    return server, pbx


async def loudness(page: Page, side: str) -> float:
    return float(await page.locator(f"meter[data-of={side}]").evaluate("(one) => one.value"))


async def test_a_call_is_answered_and_heard_on_both_sides(fake: Any) -> None:
    server, pbx = await registered(fake)
    page = server.page
    await expect(page.locator(".phone-state.ready")).to_be_visible()
    await pbx.call()
    await page.locator(".phone [data-order=answer]").click()
    await pbx.connect()
    async with asyncio.timeout(15):
        while await loudness(page, "heard") < 0.5:
            await asyncio.sleep(0.05)
        while await loudness(page, "spoken") < 0.3:
            await asyncio.sleep(0.05)
        while not await page.evaluate("window.loud ? loud() > 0.05 : false"):
            await asyncio.sleep(0.05)
    await page.click("text=Microphone off")
    async with asyncio.timeout(15):
        while await loudness(page, "spoken") > 0:
            await asyncio.sleep(0.05)
    await page.click(".phone button.danger")
    await pbx.until("BYE")
    await expect(page.locator(".phone meter")).to_have_count(0)


async def test_it_answers_by_itself_when_told_to_and_never_otherwise(fake: Any) -> None:
    server, pbx = await registered(fake)
    page = server.page
    await expect(page.locator(".phone-state.ready")).to_be_visible()
    await page.click("agent-bar .menu summary >> nth=-1")
    await expect(page.locator("[name=autoAnswer]")).not_to_be_checked()
    await page.check("[name=autoAnswer]")
    await pbx.call()
    await pbx.connect()
    await expect(page.locator(".phone meter")).to_have_count(2)


async def test_trouble_with_the_microphone_is_told_by_name(fake: Any) -> None:
    server, pbx = await registered(fake)
    page = server.page
    await expect(page.locator(".phone-state.ready")).to_be_visible()
    await page.evaluate(
        """() => { navigator.mediaDevices.getUserMedia = async () => {
          throw new DOMException("", "NotAllowedError"); }; }"""
    )
    await pbx.call()
    await page.locator(".phone [data-order=answer]").click()
    await expect(page.locator(".toast")).to_contain_text("microphone is not allowed")
    await expect(page.locator(".phone [data-order=answer]")).to_be_visible()


async def test_without_a_telephone_there_is_none(fake: Any) -> None:
    server: FakeServer = await fake(cards.call())
    await expect(server.page.locator(".phone-state")).to_have_count(0)


async def test_a_refused_registration_is_told(fake: Any) -> None:
    server, pbx = await registered(fake)
    pbx.refuse = True
    await server.page.reload()
    await expect(server.page.locator(".phone-state.failed")).to_be_visible()
