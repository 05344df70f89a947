"""What other people's PBXs, lost packets and enemies do to the softphone, on virtual time."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from ivr.errors import CallGone
from ivr.telephony.phonecall import PhoneCall
from ivr.telephony.registration import RegistrationRefused
from ivr.telephony.softphone import Softphone
from ivr.telephony.transactions import NotConnected
from tests.fakes.sip import FakePbx
from tests.virtual import run

RECOVERS_WITHIN = 30.0
PACKETS = 10_000


@asynccontextmanager
async def registered(pbx: FakePbx, **options: object) -> AsyncIterator[Softphone]:
    """A phone that keeps itself registered, as the hotline's does."""
    phone = Softphone("9001", "secret", port=await pbx.open(), **options)  # type: ignore[arg-type]
    await phone.start()
    try:
        yield phone
    finally:
        pbx.silent = False
        await phone.close()
        pbx.close()


def on_a_phone(case: Callable[[Softphone, FakePbx], Awaitable[None]], **options: object) -> None:
    async def whole() -> None:
        pbx = FakePbx()
        async with registered(pbx, **options) as phone:
            await case(phone, pbx)

    run(whole())


async def answered(phone: Softphone, pbx: FakePbx, **headers: str) -> PhoneCall:
    pbx.send(pbx.request("INVITE", "in", **{"sdp": pbx.sdp(), **headers}))
    call = await phone.incoming(5)
    answering = asyncio.ensure_future(call.answer())
    await pbx.until(lambda m: m.startswith("SIP/2.0 200") and "INVITE" in m)
    pbx.send(pbx.request("ACK", "in", cseq_method="ACK"))
    await answering
    return call


def count(pbx: FakePbx, *parts: str) -> int:
    return sum(all(part in message for part in parts) for message in pbx.received)


# --- the registrar -------------------------------------------------------------------------------


def test_a_registrar_that_says_nothing_is_found_again() -> None:
    async def case(phone: Softphone, pbx: FakePbx) -> None:
        loop = asyncio.get_running_loop()
        pbx.silent = True
        with capture_logs() as logs:
            await asyncio.sleep(600)
        assert [phone.registered] == [False]
        told = [entry for entry in logs if "not registered" in entry["event"]]
        assert len(told) == 1  # not once each time
        pbx.silent = False
        back = loop.time()
        while not phone.registered:
            await asyncio.sleep(0.1)
        assert loop.time() - back <= RECOVERS_WITHIN

    on_a_phone(case)


def test_a_registrar_that_has_forgotten_us_learns_of_us_again() -> None:
    async def case(phone: Softphone, pbx: FakePbx) -> None:
        pbx.received.clear()
        await asyncio.sleep(RECOVERS_WITHIN)
        assert pbx.methods().count("REGISTER") >= 2

    on_a_phone(case)


def test_a_registrar_that_is_away_at_the_start_is_waited_for() -> None:
    async def whole() -> None:
        pbx = FakePbx()
        pbx.silent = True
        async with registered(pbx) as phone:
            assert not phone.registered
            pbx.silent = False
            await asyncio.sleep(RECOVERS_WITHIN)
            assert phone.registered

    run(whole())


def test_a_wrong_password_is_one_error_and_is_not_hammered() -> None:
    async def case(phone: Softphone, pbx: FakePbx) -> None:
        pbx.wrong_password = True
        pbx.received.clear()
        with capture_logs() as logs:
            await asyncio.sleep(1000)
        assert not phone.registered
        [told] = [entry for entry in logs if entry["log_level"] == "error"]
        assert told["reason"].endswith("does not register 9001: wrong user or password")
        assert pbx.methods().count("REGISTER") <= 2 * 4  # a challenge, and the answer to it
        pbx.wrong_password = False
        await asyncio.sleep(301)
        assert phone.registered

    on_a_phone(case)


def test_a_wrong_password_at_the_start_is_said_at_once() -> None:
    async def whole() -> None:
        pbx = FakePbx()
        pbx.wrong_password = True
        with pytest.raises(RegistrationRefused, match="wrong user or password"):
            async with registered(pbx):
                pass
        pbx.close()

    run(whole())


def test_a_registrar_may_want_fewer_registrations_or_more() -> None:
    async def whole() -> None:
        pbx = FakePbx()
        pbx.least = 600
        async with registered(pbx) as phone:
            assert phone.registered
            assert "Expires: 600" in pbx.received[-1]
            pbx.least, pbx.granted = 0, 20
            await asyncio.sleep(30)
            pbx.received.clear()
            await asyncio.sleep(60)
            assert pbx.methods().count("REGISTER") >= 2 * 5

    run(whole())


# --- calls that come in --------------------------------------------------------------------------


def test_copies_of_an_invitation_make_one_call_and_get_one_answer() -> None:
    async def case(phone: Softphone, pbx: FakePbx) -> None:
        for _ in range(5):
            pbx.send(pbx.request("INVITE", "in", sdp=pbx.sdp()))
        await answered(phone, pbx)
        assert phone.called == 1
        answers = [m for m in pbx.received if m.startswith("SIP/2.0 180")]
        assert len(answers) > 1 and len(set(answers)) == 1
        taken = [m for m in pbx.received if m.startswith("SIP/2.0 200") and "INVITE" in m]
        pbx.send(pbx.request("INVITE", "in", sdp=pbx.sdp()))
        await asyncio.sleep(0.1)
        again = [m for m in pbx.received if m.startswith("SIP/2.0 200") and "INVITE" in m]
        assert again == [*taken, taken[0]]
        assert len(answers) + len(again) == 7 + 1  # one to each, and the answer when it was taken
        tags = {re.findall(r"^To: .*;tag=(\w+)", m, re.M)[0] for m in answers + taken}
        assert len(tags) == 1

    on_a_phone(case)


def test_an_answer_is_repeated_until_it_is_acknowledged() -> None:
    async def case(phone: Softphone, pbx: FakePbx) -> None:
        pbx.send(pbx.request("INVITE", "in", sdp=pbx.sdp()))
        call = await phone.incoming(5)
        with pytest.raises(CallGone, match="lost while it was answered"):
            await call.answer()
        assert count(pbx, "SIP/2.0 200", "INVITE") == 5
        assert pbx.methods().count("BYE") == 1
        assert phone.called == 0

    on_a_phone(case)


def test_a_refusal_that_was_lost_is_repeated() -> None:
    async def case(phone: Softphone, pbx: FakePbx) -> None:
        pbx.send(pbx.request("INVITE", "in", sdp=pbx.sdp()))
        call = await phone.incoming(5)
        await call.hang_up()
        await asyncio.sleep(2)
        assert count(pbx, "SIP/2.0 486") == 3
        pbx.send(pbx.request("ACK", "in", cseq_method="ACK"))
        await asyncio.sleep(60)
        assert count(pbx, "SIP/2.0 486") == 3

    on_a_phone(case)


def test_more_calls_than_there_is_room_for_hear_that_it_is_busy() -> None:
    async def case(phone: Softphone, pbx: FakePbx) -> None:
        for number in range(500):
            pbx.send(pbx.request("INVITE", f"in{number}", sdp=pbx.sdp()))
            await asyncio.sleep(0.01)
        rang = {m for m in pbx.received if m.startswith("SIP/2.0 180")}
        busy = {m for m in pbx.received if m.startswith("SIP/2.0 486")}
        assert (len(rang), len(busy), phone.called) == (50, 450, 50)
        await asyncio.sleep(60)

    on_a_phone(case)


def test_a_caller_who_gives_up_hears_so_and_a_stranger_cannot() -> None:
    async def case(phone: Softphone, pbx: FakePbx) -> None:
        pbx.send(pbx.request("INVITE", "in", sdp=pbx.sdp()))
        call = await phone.incoming(5)
        pbx.send(pbx.request("CANCEL", "in", cseq="6"))
        await pbx.until(lambda m: m.startswith("SIP/2.0 481") and "CANCEL" in m)
        assert call.state == "ringing"
        pbx.send(pbx.request("CANCEL", "in"))
        await call.ended()
        await pbx.until(lambda m: m.startswith("SIP/2.0 200") and "CANCEL" in m)
        await pbx.until(lambda m: m.startswith("SIP/2.0 487") and "INVITE" in m)
        with pytest.raises(CallGone):
            await call.answer()

    on_a_phone(case)


def test_a_goodbye_to_no_call_or_with_a_strangers_tag_ends_nothing() -> None:
    async def case(phone: Softphone, pbx: FakePbx) -> None:
        call = await answered(phone, pbx)
        pbx.send(pbx.request("BYE", "other", cseq="8"))
        pbx.send(pbx.request("BYE", "in", cseq="9", tag=";tag=guessed"))
        await asyncio.sleep(1)
        assert count(pbx, "SIP/2.0 481") == 2
        assert call.state == "answered"
        for _ in range(2):  # our answer to the first may have been lost
            pbx.send(pbx.request("BYE", "in", cseq="10"))
        await asyncio.sleep(1)
        assert call.ended_by == "them"
        assert count(pbx, "SIP/2.0 200", "CSeq: 10 BYE") == 2

    on_a_phone(case)


def test_a_call_is_held_and_taken_up_again() -> None:
    async def case(phone: Softphone, pbx: FakePbx) -> None:
        call = await answered(phone, pbx)
        hold = pbx.sdp().replace("a=sendrecv", "a=sendonly")
        pbx.send(pbx.request("INVITE", "in", cseq="8", sdp=hold).replace("INVITEin", "two"))
        held = await pbx.until(lambda m: m.startswith("SIP/2.0 200") and "CSeq: 8" in m)
        assert "a=recvonly" in held
        assert [call.media.remote] == [None]
        pbx.send(pbx.request("INVITE", "in", cseq="9", sdp=pbx.sdp()).replace("INVITEin", "three"))
        await pbx.until(lambda m: m.startswith("SIP/2.0 200") and "CSeq: 9" in m)
        assert call.media.remote == pbx.media
        wrong = pbx.sdp().replace("RTP/AVP 0", "RTP/AVP 8")
        pbx.send(pbx.request("INVITE", "in", cseq="10", sdp=wrong).replace("INVITEin", "four"))
        await pbx.until(lambda m: m.startswith("SIP/2.0 488"))
        assert call.state == "answered" and call.media.remote == pbx.media

    on_a_phone(case)


def test_an_invitation_that_leaves_the_offer_to_us() -> None:
    async def case(phone: Softphone, pbx: FakePbx) -> None:
        pbx.send(pbx.request("INVITE", "in"))
        call = await phone.incoming(5)
        answering = asyncio.ensure_future(call.answer())
        taken = await pbx.until(lambda m: m.startswith("SIP/2.0 200") and "INVITE" in m)
        assert "m=audio" in taken and call.media.remote is None
        pbx.send(pbx.request("ACK", "in", cseq_method="ACK", sdp=pbx.sdp()))
        await answering
        assert call.media.remote == pbx.media

    on_a_phone(case)


def test_every_line_of_an_offer_has_its_answer() -> None:
    async def case(phone: Softphone, pbx: FakePbx) -> None:
        video = "m=video 6000 RTP/AVP 31\na=rtpmap:31 H261/90000\n"
        await answered(phone, pbx, sdp=pbx.sdp().replace("m=audio", f"{video}m=audio"))
        taken = next(m for m in pbx.received if m.startswith("SIP/2.0 200") and "INVITE" in m)
        head, _, body = taken.partition("\r\n\r\n")
        assert re.findall(r"^m=(\w+) (\d+)", body, re.M)[0] == ("video", "0")
        assert f"Content-Length: {len(body)}" in head

    on_a_phone(case)


def test_the_way_through_a_proxy_is_the_way_back() -> None:
    async def case(phone: Softphone, pbx: FakePbx) -> None:
        invite = pbx.request("INVITE", "in", sdp=pbx.sdp())
        routed = invite.replace(
            "Call-ID", "Record-Route: <sip:edge;lr>, <sip:core;lr>\nCall-ID"
        ).replace("Via:", "v: SIP/2.0/UDP edge;branch=z9hG4bKe;x=y\nVia:")
        pbx.send(routed)
        call = await phone.incoming(5)
        answering = asyncio.ensure_future(call.answer())
        taken = await pbx.until(lambda m: m.startswith("SIP/2.0 200") and "INVITE" in m)
        assert "Via: SIP/2.0/UDP edge;branch=z9hG4bKe;x=y\r\nVia:" in taken
        assert "Record-Route: <sip:edge;lr>\r\nRecord-Route: <sip:core;lr>" in taken
        pbx.send(pbx.request("ACK", "in", cseq_method="ACK"))
        await answering
        await call.hang_up()
        bye = next(m for m in pbx.received if m.startswith("BYE"))
        assert bye.startswith("BYE sip:asterisk@127.0.0.1:5060 ")
        assert "Route: <sip:edge;lr>\r\nRoute: <sip:core;lr>" in bye

    on_a_phone(case)


def test_keys_may_come_as_messages() -> None:
    async def case(phone: Softphone, pbx: FakePbx) -> None:
        call = await answered(phone, pbx)
        keys: list[str] = []
        call.stream.listen_for_keys(keys.append)
        for cseq, body in (("8", "Signal=5\nDuration=160\n"), ("9", "Signal= #\n"), ("10", "x")):
            text = pbx.request("INFO", "in", cseq=cseq, sdp=body)
            pbx.send(text.replace("z9hG4bKINFOin", f"z9hG4bK{cseq}"))
        await asyncio.sleep(0.5)
        assert keys == ["5", "#"]
        assert count(pbx, "SIP/2.0 200", "INFO") == 3

    on_a_phone(case)


# --- calls that we make --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code"), [("486 Busy Here", 486), ("499 Whatever", 400), ("699 Never", 600)]
)
def test_a_refusal_tells_its_code_known_or_not(status: str, code: int) -> None:
    async def case(phone: Softphone, pbx: FakePbx) -> None:
        pbx.invite_status = status
        with pytest.raises(NotConnected) as caught:
            await phone.call("600", 5)
        assert caught.value.code == code

    on_a_phone(case)


def test_a_phone_that_rings_and_one_that_is_not_there_are_two_things() -> None:
    async def case(phone: Softphone, pbx: FakePbx) -> None:
        pbx.invite_status = ""
        rang: list[bool] = []
        with pytest.raises(NotConnected) as caught:
            await phone.call("600", 3, lambda: rang.append(True))
        assert (caught.value.code, rang) == (408, [True])
        pbx.silent = True
        with pytest.raises(NotConnected) as caught:
            await phone.call("600", 3)
        assert caught.value.code == 503

    on_a_phone(case)


# --- rubbish -------------------------------------------------------------------------------------


def mutated(chance: random.Random, messages: list[bytes]) -> bytes:
    raw = bytearray(chance.choice(messages))
    match chance.randrange(6):
        case 0:
            del raw[chance.randrange(len(raw)) :]
        case 1:
            for _ in range(chance.randrange(1, 20)):
                raw[chance.randrange(len(raw))] = chance.randrange(256)
        case 2:
            at = chance.randrange(len(raw))
            raw[at:at] = chance.randbytes(chance.randrange(200))
        case 3:
            lines = bytes(raw).split(b"\r\n")
            chance.shuffle(lines)
            raw = bytearray(b"\r\n".join(lines))
        case 4:
            lines = bytes(raw).split(b"\r\n")
            del lines[chance.randrange(len(lines))]
            raw = bytearray(b"\r\n".join(lines))
        case _:
            raw = bytearray(chance.randbytes(chance.randrange(1500)))
    return bytes(raw)


def test_ten_thousand_broken_packets_leave_the_phone_and_its_call_whole() -> None:
    async def case(phone: Softphone, pbx: FakePbx) -> None:
        call = await answered(phone, pbx)
        transport = pbx._transport
        assert transport is not None
        texts = [
            pbx.request(method, which, cseq="20", sdp=pbx.sdp())
            for method in ("INVITE", "ACK", "CANCEL", "OPTIONS", "INFO", "NOTIFY")
            for which in ("in", "other")
        ]
        texts.append(pbx.reply(texts[0], "200 OK", sdp=True))
        texts.append(pbx.reply(texts[0], "401 Unauthorized"))
        messages = [text.replace("\n", "\r\n").encode() for text in texts]
        messages += [message.encode() for message in pbx.received]
        chance = random.Random(4)
        failures: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, about: failures.append(about))
        with capture_logs() as logs:
            for sent in range(PACKETS):
                transport.sendto(mutated(chance, messages), pbx.phone)
                transport.sendto(b"", pbx.phone)
                if sent % 20 == 0:
                    await asyncio.sleep(0.001)
            await asyncio.sleep(60)
        assert not failures
        assert not [entry for entry in logs if entry["log_level"] in ("error", "critical")]
        assert call.state == "answered"
        assert phone.registered
        assert phone.called <= 51
        pbx.received.clear()
        pbx.send(pbx.request("OPTIONS", "alive"))
        await pbx.until(lambda m: m.startswith("SIP/2.0 200") and "OPTIONS" in m)
        pbx.send(pbx.request("BYE", "in", cseq="30"))
        await call.ended()

    on_a_phone(case)
