"""The softphone against a PBX that is one socket of the test."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ivr.errors import CallGone, TelephonyError
from ivr.telephony.softphone import PhoneCall, Softphone
from ivr.wire.audio import ulaw_to_pcm
from ivr.wire.rtp import Packet, parse
from tests.fakes.sip import FakePbx


class FakeMedia(asyncio.DatagramProtocol):
    """The PBX's end of the audio."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self.peer: tuple[str, int] = ("", 0)
        self._changed = asyncio.Event()
        self._transport: asyncio.DatagramTransport | None = None

    async def open(self) -> tuple[str, int]:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        address: tuple[str, int] = self._transport.get_extra_info("sockname")
        return address

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.peer = addr
        self.packets.append(parse(data))
        self._changed.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.packets) < count:
                self._changed.clear()
                await self._changed.wait()

    def send(self, datagram: bytes) -> None:
        assert self._transport is not None
        self._transport.sendto(datagram, self.peer)


@pytest_asyncio.fixture
async def media() -> AsyncIterator[FakeMedia]:
    media = FakeMedia()
    yield media
    media.close()


@pytest_asyncio.fixture
async def pbx(media: FakeMedia) -> AsyncIterator[FakePbx]:
    pbx = FakePbx()
    pbx.media = await media.open()
    yield pbx
    pbx.close()


@pytest_asyncio.fixture
async def phone(pbx: FakePbx) -> AsyncIterator[Softphone]:
    async with Softphone("9001", "secret", port=await pbx.open()) as phone:
        yield phone


async def rung(phone: Softphone, pbx: FakePbx) -> PhoneCall:
    """A call that rings on the phone."""
    pbx.send(pbx.request("INVITE", "in", sdp=pbx.sdp()))
    return await phone.incoming(5)


async def answered(phone: Softphone, pbx: FakePbx) -> PhoneCall:
    """The same, taken and acknowledged."""
    call = await rung(phone, pbx)
    answering = asyncio.create_task(call.answer())
    await pbx.until(lambda message: message.startswith("SIP/2.0 200") and "INVITE" in message)
    pbx.send(pbx.request("ACK", "in", cseq_method="ACK"))
    await answering
    return call


# --- registering --------------------------------------------------------------------------------


async def test_registers_with_a_digest_and_leaves_nothing_behind(pbx: FakePbx) -> None:
    tasks, threads = asyncio.all_tasks(), threading.active_count()
    async with Softphone("9001", "secret", port=await pbx.open()):
        pass
    registers = [message for message in pbx.received if message.startswith("REGISTER")]
    assert ["Authorization" in message for message in registers] == [False, True, False, True]
    assert ["Expires: 0" in message for message in registers] == [False, False, True, True]
    secret, target = (
        hashlib.md5(part.encode()).hexdigest()
        for part in ("9001:pbx:secret", "REGISTER:sip:127.0.0.1")
    )
    ours = re.findall(r'cnonce="(\w+)"', registers[1])[0]
    expected = hashlib.md5(f"{secret}:n1:00000001:{ours}:auth:{target}".encode()).hexdigest()
    assert f'response="{expected}"' in registers[1]
    assert asyncio.all_tasks() == tasks
    assert threading.active_count() == threads


async def test_a_wrong_password_is_said_in_one_line(pbx: FakePbx) -> None:
    pbx.wrong_password = True
    port = await pbx.open()
    with pytest.raises(TelephonyError) as caught:
        await Softphone("9001", "guess", port=port).open()
    expected = f"SIP at 127.0.0.1:{port} does not register 9001: wrong user or password"
    assert str(caught.value) == expected


async def test_a_challenge_that_was_too_old_is_answered_again(pbx: FakePbx) -> None:
    pbx.stale = 1
    async with Softphone("9001", "secret", port=await pbx.open()):
        assert pbx.methods().count("REGISTER") == 3


async def test_a_port_on_which_nothing_listens_is_said_at_once(pbx: FakePbx) -> None:
    port = await pbx.open()
    pbx.close()
    await asyncio.sleep(0)
    with pytest.raises(TelephonyError, match=r"nothing listens .* is Asterisk running\?"):
        await Softphone("9001", "secret", port=port).open()


async def test_a_user_that_would_break_a_header_is_refused() -> None:
    with pytest.raises(TelephonyError, match="is no SIP user"):
        Softphone("9001>\r\nX: y", "secret")


# --- calling ------------------------------------------------------------------------------------


async def test_a_call_is_answered_acknowledged_and_ended(phone: Softphone, pbx: FakePbx) -> None:
    call = await phone.call("600", 5)
    assert call.state == "answered"
    ack = await pbx.until(lambda m: m.startswith("ACK sip:127.0.0.1:5060"))
    assert ";tag=pbx" in ack  # pyVoIP would have made up a tag, and the call be dropped after 32 s
    await call.hang_up()
    await call.hang_up()
    assert (call.state, call.ended_by) == ("ended", "us")
    assert pbx.methods().count("BYE") == 1
    with pytest.raises(CallGone):
        await call.play(bytes(320))


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        ("404 Not Found", "600 does not exist"),
        ("486 Busy Here", "600 is busy"),
        ("480 Temporarily Unavailable", "600 is not available"),
        ("603 Decline", "600 declined"),
        ("500 Internal Server Error", "600 was refused: 500 Internal Server Error"),
    ],
)
async def test_a_refusal_says_what_became_of_the_call(
    phone: Softphone, pbx: FakePbx, status: str, meaning: str
) -> None:
    pbx.invite_status = status
    with pytest.raises(TelephonyError) as caught:
        await phone.call("600", 5)
    assert str(caught.value) == meaning
    await pbx.until(lambda _: pbx.methods().count("ACK") == 2)  # the challenge's, the refusal's


async def test_a_call_that_nobody_answers_is_cancelled(phone: Softphone, pbx: FakePbx) -> None:
    pbx.invite_status = ""
    with pytest.raises(TelephonyError, match=r"600 did not answer within 0\.2 s"):
        await phone.call("600", 0.2)
    await pbx.until(lambda m: m.startswith("CANCEL"))
    await pbx.until(lambda m: m.startswith("ACK") and m.count("pbx") >= 1)


async def test_an_answer_that_comes_too_late_is_hung_up(phone: Softphone, pbx: FakePbx) -> None:
    pbx.invite_status = ""
    calling = asyncio.create_task(phone.call("600", 5))
    invite = await pbx.until(lambda m: m.startswith("INVITE") and "Authorization" in m)
    calling.cancel()
    await asyncio.wait([calling])
    pbx.send(pbx.reply(invite, "200 OK", sdp=True))
    await pbx.until(lambda m: m.startswith("BYE"))


@pytest.mark.parametrize("number", ["", "1\r\nX: y", "100;a=b", "100@elsewhere", "1" * 65, "a b"])
async def test_what_cannot_be_a_number_is_not_dialled(
    phone: Softphone, pbx: FakePbx, number: str
) -> None:
    with pytest.raises(TelephonyError, match="cannot be dialled"):
        await phone.call(number)
    assert "INVITE" not in pbx.methods()


async def test_a_pbx_that_dies_ends_the_call(phone: Softphone, pbx: FakePbx) -> None:
    call = await phone.call("600", 5)
    pbx.close()
    async with asyncio.timeout(5):
        await call.ended()
    assert "is Asterisk running?" in call.ended_by


# --- being called -------------------------------------------------------------------------------


async def test_a_call_rings_is_answered_and_hung_up_by_them(phone: Softphone, pbx: FakePbx) -> None:
    call = await answered(phone, pbx)
    assert (call.state, call.number) == ("answered", "9002")
    pbx.send(pbx.request("BYE", "in", cseq="8"))
    async with asyncio.timeout(5):
        await call.ended()
    assert call.ended_by == "them"
    await pbx.until(lambda m: m.startswith("SIP/2.0 200") and "BYE" in m)


async def test_a_caller_who_gives_up_stops_the_ringing(phone: Softphone, pbx: FakePbx) -> None:
    call = await rung(phone, pbx)
    pbx.send(pbx.request("CANCEL", "in"))
    async with asyncio.timeout(5):
        await call.ended()
    await pbx.until(lambda m: m.startswith("SIP/2.0 487") and "INVITE" in m)
    with pytest.raises(CallGone):
        await call.answer()


async def test_a_ringing_call_can_be_declined(phone: Softphone, pbx: FakePbx) -> None:
    call = await rung(phone, pbx)
    await call.hang_up()
    await pbx.until(lambda m: m.startswith("SIP/2.0 486"))


async def test_an_invitation_that_comes_twice_rings_once(phone: Softphone, pbx: FakePbx) -> None:
    call = await answered(phone, pbx)
    pbx.send(pbx.request("INVITE", "in", sdp=pbx.sdp()))
    pbx.send(pbx.request("OPTIONS", "o"))
    await pbx.until(lambda m: m.startswith("SIP/2.0 200") and "OPTIONS" in m)
    assert call.state == "answered"
    with pytest.raises(TelephonyError, match="nobody called 9001"):
        await phone.incoming(0.01)


async def test_a_call_without_our_codec_is_refused(phone: Softphone, pbx: FakePbx) -> None:
    pbx.send(
        pbx.request(
            "INVITE", "in", sdp=pbx.sdp().replace("0 96", "8 96").replace("0 PCMU", "8 PCMA")
        )
    )
    await pbx.until(lambda m: m.startswith("SIP/2.0 488"))


async def test_a_description_that_contradicts_itself_is_refused(
    phone: Softphone, pbx: FakePbx
) -> None:
    pbx.send(pbx.request("INVITE", "in", sdp=pbx.sdp().replace("0 96", "8 96")))
    await pbx.until(lambda m: m.startswith("SIP/2.0 488"))


async def test_requests_that_are_not_ours_are_refused(phone: Softphone, pbx: FakePbx) -> None:
    pbx.send(pbx.request("NOTIFY", "n"))
    await pbx.until(lambda m: m.startswith("SIP/2.0 405"))
    pbx.send(pbx.request("BYE", "b"))
    await pbx.until(lambda m: m.startswith("SIP/2.0 481"))


# --- audio and keys -----------------------------------------------------------------------------


async def test_audio_is_sent_evenly_and_keys_as_the_pbx_wants_them(
    phone: Softphone, pbx: FakePbx, media: FakeMedia
) -> None:
    call = await phone.call("600", 5)
    await call.play(ulaw_to_pcm(b"\x10" * 160) * 3)
    await call.press("5")
    await media.until(len(media.packets) + 4)  # they may still be in the socket
    assert [packet.payload for packet in media.packets].count(b"\x10" * 160) == 3
    keys = [packet for packet in media.packets if packet.payload_type == 96]
    assert len(keys) == 7
    sequences = [packet.sequence for packet in media.packets]
    assert all((b - a) & 0xFFFF == 1 for a, b in pairwise(sequences))
    with pytest.raises(TelephonyError, match="no telephone has the key"):
        await call.press("5x")


async def test_every_frame_comes_once_whole_and_in_sixteen_bits(
    phone: Softphone, pbx: FakePbx, media: FakeMedia
) -> None:
    call = await phone.call("600", 5)
    frames: list[bytes] = []
    call.on_frame(frames.append)
    await media.until(1)
    first, second = bytes(range(160)), bytes(range(96, 256))
    media.send(Packet(0, 65535, 0, 1, first).encode())
    for rubbish in (b"", b"\x00" * 40, Packet(101, 1, 0, 1, b"key.").encode(), b"\x80"):
        media.send(rubbish)
    media.send(Packet(0, 65535, 0, 1, first).encode())  # again
    media.send(Packet(0, 0, 160, 1, second).encode())
    media.send(Packet(0, 65000, 0, 1, first).encode())  # far too late
    async with asyncio.timeout(5):
        while len([frame for frame in frames if any(frame)]) < 2:
            await media.until(len(media.packets) + 1)
    loud = [frame for frame in frames if any(frame)]
    assert loud == [ulaw_to_pcm(first), ulaw_to_pcm(second)]


async def test_a_line_without_audio_is_silence_not_standstill(
    phone: Softphone, pbx: FakePbx, media: FakeMedia
) -> None:
    call = await phone.call("600", 5)
    frames: list[bytes] = []
    stop = call.on_frame(frames.append)
    await media.until(25)
    assert 15 <= len(frames) <= 30
    assert set(frames) == {bytes(320)}
    stop()
    count = len(frames)
    await media.until(30)
    assert len(frames) == count


async def test_speech_that_is_cancelled_stops_at_once(
    phone: Softphone, pbx: FakePbx, media: FakeMedia
) -> None:
    call = await phone.call("600", 5)
    playing = asyncio.create_task(call.play(ulaw_to_pcm(b"\x10" * 8000)))
    await media.until(5)
    playing.cancel()
    await asyncio.wait([playing])
    at = len(media.packets)
    await media.until(at + 3)
    assert {packet.payload for packet in media.packets[at + 1 :]} == {b"\xff" * 160}


async def test_a_call_that_ends_under_speech_says_so(phone: Softphone, pbx: FakePbx) -> None:
    call = await answered(phone, pbx)
    playing = asyncio.create_task(call.play(bytes(320 * 500)))
    await asyncio.sleep(0)
    pbx.send(pbx.request("BYE", "in", cseq="8"))
    with pytest.raises(CallGone):
        await playing


# --- rubbish ------------------------------------------------------------------------------------

INVITE = FakePbx.request(
    FakePbx.__new__(FakePbx), "INVITE", "f", sdp="v=0\nc=IN IP4 127.0.0.1\nm=audio 4000 RTP/AVP 0\n"
).replace("\n", "\r\n")


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None
)
@given(
    data=st.one_of(
        st.binary(max_size=100),
        st.builds(
            lambda at, put, drop: INVITE.encode()[:at] + put + INVITE.encode()[at + drop :],
            st.integers(0, len(INVITE)),
            st.binary(max_size=4),
            st.integers(0, 40),
        ),
        st.integers(0, len(INVITE)).map(lambda at: INVITE.encode()[:at]),
    )
)
def test_no_datagram_breaks_the_phone(data: bytes) -> None:
    async def take() -> None:
        Softphone("9001", "secret").received(data)

    asyncio.new_event_loop().run_until_complete(take())


def test_the_invite_that_is_broken_above_is_a_good_one() -> None:
    async def take() -> str:
        phone = Softphone("9001", "secret")
        phone.received(INVITE.encode())
        return (await phone.incoming(1)).number

    assert re.fullmatch("9002", asyncio.run(take()))
