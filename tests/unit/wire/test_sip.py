"""SIP and SDP as they come from PBXs, providers and people who mean harm."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivr.errors import RemoteProtocolError
from ivr.wire import sip

INVITE = (
    "INVITE sip:100@192.0.2.1 SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKa\r\n"
    "From: Ann <sip:ann@192.0.2.9>;tag=1\r\n"
    "To: <sip:100@192.0.2.1>\r\n"
    "Call-ID: c1\r\n"
    "CSeq: 7 INVITE\r\n"
    "\r\n"
)
AUDIO = "v=0\r\nc=IN IP4 192.0.2.9\r\nm=audio 4000 RTP/AVP 0 96\r\na=rtpmap:96 telephone-event/8000"


def headers(text: str) -> list[str]:
    return sip.tidy(text.encode()).text.decode().split("\r\n\r\n")[0].split("\r\n")


@pytest.mark.parametrize(
    ("written", "tidied"),
    [
        ("Call-ID: c1", "Call-ID: c1"),
        ("i: c1", "Call-ID: c1"),
        ("CALL-id  :c1", "Call-ID: c1"),
        ("Call-ID:\r\n\t c1", "Call-ID: c1"),
    ],
)
def test_a_header_may_be_written_in_many_ways(written: str, tidied: str) -> None:
    assert tidied in [
        line.replace(":  ", ": ") for line in headers(INVITE.replace("Call-ID: c1", written))
    ]


def test_compact_names_lone_newlines_and_lists_in_one_line() -> None:
    text = (
        INVITE.replace("Via: ", "v: SIP/2.0/UDP proxy;branch=z9hG4bKp, ")
        .replace("From", "f")
        .replace("To:", "t:")
        .replace("\r\n", "\n")
        .replace("\n\n", "\r\n\r\n")
    )
    tidied = sip.tidy(text.encode())
    assert tidied.vias == (
        "SIP/2.0/UDP proxy;branch=z9hG4bKp",
        "SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKa",
    )
    assert b"From: Ann <sip:ann@192.0.2.9>;tag=1\r\n" in tidied.text


def test_the_way_back_through_proxies_is_kept_in_its_order() -> None:
    routes = 'Record-Route: <sip:a;lr>, "b, c" <sip:b;lr>\r\nRecord-Route: <sip:c;lr>\r\n'
    tidied = sip.tidy(INVITE.replace("CSeq", routes + "CSeq").encode())
    assert tidied.routes == ("<sip:a;lr>", '"b, c" <sip:b;lr>', "<sip:c;lr>")


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "hello",
        "INVITE",
        "SIP/2.0 2000 OK",
        *(
            re.sub(f"{name}: .*\r\n", "", INVITE)
            for name in ("Via", "From", "To", "Call-ID", "CSeq")
        ),
        INVITE.replace("7 INVITE", "x INVITE"),
        INVITE.replace("7 INVITE", f"{'7' * 5000} INVITE"),
        INVITE.replace("\r\n\r\n", "\r\n" + "X: y\r\n" * 200 + "\r\n"),
        INVITE + "x" * sip.LARGEST,
    ],
)
def test_what_cannot_be_answered_is_no_message(broken: str) -> None:
    with pytest.raises(RemoteProtocolError):
        sip.tidy(broken.encode())


@settings(deadline=None)
@given(st.data())
def test_no_mutation_breaks_the_reader_or_forges_a_line(data: st.DataObject) -> None:
    raw = bytearray((INVITE + AUDIO).encode())
    for _ in range(data.draw(st.integers(0, 8))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=6))
    try:
        tidied = sip.tidy(bytes(raw))
    except RemoteProtocolError:
        return
    head = tidied.text.partition(b"\r\n\r\n")[0].decode()
    assert not re.search(r"\r(?!\n)|(?<!\r)\n|\0", head)
    for value in (*tidied.vias, *tidied.routes, *tidied.challenge.values()):
        assert "\r" not in value and "\n" not in value


# --- the digest ----------------------------------------------------------------------------------


def asked(value: str, name: str = "WWW-Authenticate") -> sip.Tidied:
    answer = INVITE.replace("INVITE sip:100@192.0.2.1 SIP/2.0", "SIP/2.0 401 Unauthorized")
    return sip.tidy(answer.replace("CSeq", f"{name}: {value}\r\nCSeq").encode())


def test_a_digest_is_computed_as_rfc_2617_shows() -> None:
    challenge = asked(
        'Digest realm="testrealm@host.com", qop="auth,auth-int", '
        'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    ).challenge
    value = sip.authorization(
        challenge,
        user="Mufasa",
        password="Circle Of Life",
        method="GET",
        uri="/dir/index.html",
        nonce="0a4f113b",
    )
    assert 'response="6629fae49393a05397450978507c4ef1"' in value
    assert 'opaque="5ccc069c403ebaf9f0171e9517f40e41"' in value
    assert "nc=00000001" in value


@pytest.mark.parametrize(
    ("value", "usable"),
    [
        ('Digest realm="a, b",nonce="n,1"', True),
        ('DIGEST nonce="n", realm="r", algorithm=md5', True),
        ('Digest realm="r",nonce="n",algorithm=SHA-256', False),
        ('Digest realm="r"', False),
        ('Basic realm="r"', False),
        ("", False),
    ],
)
def test_only_what_can_be_computed_is_a_challenge(value: str, usable: bool) -> None:
    assert bool(asked(value).challenge) is usable


def test_a_proxy_may_ask_and_the_first_that_we_can_compute_counts() -> None:
    strong, plain = 'Digest realm="r",nonce="1",algorithm=SHA-256', 'Digest realm="r",nonce="2"'
    both = f"{strong}\r\nProxy-Authenticate: {plain}"
    found = asked(both, "proxy-authenticate")
    assert (found.proxy, found.challenge["nonce"]) == (True, "2")


# --- audio ---------------------------------------------------------------------------------------


def test_where_audio_goes_and_what_keys_are() -> None:
    assert sip.described(AUDIO) == sip.Media(("192.0.2.9", 4000), 96, "sendrecv")


def test_an_address_of_the_audio_itself_wins() -> None:
    own = AUDIO.replace("m=audio", "m=video 6000 RTP/AVP 31\r\nc=IN IP4 192.0.2.7\r\nm=audio")
    media = sip.described(own + "\r\nc=IN IP4 192.0.2.8\r\nm=text 0 RTP/AVP 98")
    assert media.remote == ("192.0.2.8", 4000)
    assert media.before == ("m=video 0 RTP/AVP 31",)
    assert media.after == ("m=text 0 RTP/AVP 98",)


@pytest.mark.parametrize(
    ("line", "direction"),
    [("a=sendonly", "recvonly"), ("a=inactive", "inactive")],
)
def test_a_call_on_hold_is_sent_nothing(line: str, direction: str) -> None:
    media = sip.described(f"{AUDIO}\r\n{line}")
    assert (media.remote, media.direction) == (None, direction)
    assert sip.described(AUDIO.replace("192.0.2.9", "0.0.0.0")).remote is None


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        AUDIO.replace("AVP 0", "AVP 8"),
        AUDIO.replace("RTP/AVP", "RTP/SAVPF"),
        AUDIO.replace("4000", "0"),
        AUDIO.replace("4000", "70000"),
        AUDIO.replace("4000", "x"),
        AUDIO.replace("192.0.2.9", "pbx.example.com"),
        AUDIO.replace("192.0.2.9", "224.0.0.1"),
        AUDIO.replace("192.0.2.9", "255.255.255.255"),
        AUDIO.replace("IP4 192.0.2.9", "IP6 ::1"),
        AUDIO.replace("c=", "x="),
        "m=audio 4000 RTP/AVP" + " 0" * 5000 + " x",
        "m=audio 1 RTP/AVP 0\r\n" * 20,
    ],
)
def test_audio_that_we_cannot_send_is_refused(wrong: str) -> None:
    with pytest.raises(RemoteProtocolError):
        sip.described(wrong)


@settings(deadline=None)
@given(
    st.text(max_size=200)
    | st.builds(
        lambda at, put: AUDIO[:at] + put + AUDIO[at:],
        st.integers(0, len(AUDIO)),
        st.text(max_size=5),
    )
)
def test_no_description_breaks_the_reader(text: str) -> None:
    try:
        media = sip.described(text)
    except RemoteProtocolError:
        return
    assert media.remote is None or 0 < media.remote[1] < 65536


# --- who -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "raw", "tag", "number"),
    [
        ("<sip:100@a>;tag=x", "<sip:100@a>", "x", "100"),
        ('"A;tag=no" <sip:100@a>; tag = x;y=z', '"A;tag=no" <sip:100@a>', "x", "100"),
        ("sip:100@a", "sip:100@a", "", "100"),
        ("<sips:%2B4420@a;user=phone>", "<sips:%2B4420@a;user=phone>", "", "+4420"),
        ("<tel:+4420;phone-context=x>", "<tel:+4420;phone-context=x>", "", "+4420"),
        ("<sip:a.example.com>", "<sip:a.example.com>", "", ""),
        ("", "", "", ""),
    ],
)
def test_who_a_header_names(header: str, raw: str, tag: str, number: str) -> None:
    assert sip.party(header) == (raw, tag)
    assert sip.number(header) == number
