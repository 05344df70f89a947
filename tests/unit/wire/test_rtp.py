"""What a telephone puts on the wire, packet by packet, and what it makes of rubbish."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.errors import LocalProtocolError, RemoteProtocolError
from ivr.wire.rtp import PCMU, SILENCE, KeyReader, Packet, Sender, parse


def sent(sender: Sender, ticks: int) -> list[list[Packet]]:
    return [[parse(datagram) for datagram in sender.tick()] for _ in range(ticks)]


@given(
    st.integers(0, 127),
    st.integers(0, 65535),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=200),
    st.booleans(),
)
def test_a_packet_survives_the_wire(
    kind: int, sequence: int, timestamp: int, ssrc: int, payload: bytes, marker: bool
) -> None:
    packet = Packet(kind, sequence, timestamp, ssrc, payload, marker)
    assert parse(packet.encode()) == packet


@given(st.binary(max_size=64))
def test_rubbish_is_refused_or_read_but_never_breaks(datagram: bytes) -> None:
    try:
        packet = parse(datagram)
    except RemoteProtocolError:
        return
    assert len(packet.payload) <= len(datagram) - 12


def test_contributors_extension_and_padding_are_not_audio() -> None:
    header = bytes([0x80 | 0x20 | 0x10 | 0x02, 0]) + bytes(10)
    datagram = header + bytes(8) + b"\xbe\xde\x00\x01" + bytes(4) + b"audio" + b"\x00\x00\x03"
    assert parse(datagram).payload == b"audio"


def test_silence_is_sent_when_there_is_nothing_to_say() -> None:
    packets = [packet for tick in sent(Sender(ssrc=1), 3) for packet in tick]
    assert [packet.payload for packet in packets] == [SILENCE] * 3
    assert [packet.sequence for packet in packets] == [0, 1, 2]
    assert [packet.timestamp for packet in packets] == [0, 160, 320]


def test_counters_wrap_around() -> None:
    sender = Sender(ssrc=1, sequence=65535, timestamp=2**32 - 160)
    packets = [packet for tick in sent(sender, 2) for packet in tick]
    assert [packet.sequence for packet in packets] == [65535, 0]
    assert [packet.timestamp for packet in packets] == [2**32 - 160, 0]


def test_the_last_piece_of_audio_is_filled_up() -> None:
    sender = Sender(ssrc=1)
    sender.play(b"\x01" * 200)
    assert sender.playing
    first, second = (tick[0] for tick in sent(sender, 2))
    assert first.payload == b"\x01" * 160
    assert second.payload == b"\x01" * 40 + b"\xff" * 120
    assert not sender.playing


def test_a_key_is_one_event_that_grows_and_ends_three_times() -> None:
    sender = Sender(ssrc=1, key_type=96)
    sender.press("1")
    ticks = sent(sender, 5)
    assert [len(tick) for tick in ticks] == [1, 1, 1, 1, 3]
    packets = [packet for tick in ticks for packet in tick]
    assert {packet.payload_type for packet in packets} == {96}
    assert {packet.timestamp for packet in packets} == {0}
    assert [packet.marker for packet in packets] == [True] + [False] * 6
    assert [packet.payload[2:] for packet in packets[:5]] == [
        (160 * tick).to_bytes(2, "big") for tick in range(1, 6)
    ]
    assert [packet.payload[:2] for packet in packets[4:]] == [b"\x01\x8a"] * 3
    assert not sender.pressing


def test_the_same_key_twice_is_two_events_with_silence_between() -> None:
    sender = Sender(ssrc=1)
    sender.press("55")
    kinds = [tick[0].payload_type for tick in sent(sender, 18)]
    assert kinds == [101] * 5 + [PCMU] * 4 + [101] * 5 + [PCMU] * 4


def test_speech_waits_for_keys_and_is_not_lost() -> None:
    sender = Sender(ssrc=1)
    sender.press("#")
    sender.play(b"\x02" * 160)
    ticks = sent(sender, 10)
    assert [tick[0].payload_type for tick in ticks[:5]] == [101] * 5
    assert b"\x02" * 160 in [tick[0].payload for tick in ticks]


def test_stopping_forgets_what_was_not_sent() -> None:
    sender = Sender(ssrc=1)
    sender.play(bytes(1600))
    sender.stop()
    assert not sender.playing


def test_a_key_that_no_telephone_has_is_our_fault() -> None:
    sender = Sender(ssrc=1)
    with pytest.raises(LocalProtocolError, match="the key 'X'"):
        sender.press("12x")
    assert not sender.pressing


# --- keys that come ------------------------------------------------------------------------------


def test_every_key_is_told_once_whatever_is_lost_doubled_or_late() -> None:
    sender = Sender(ssrc=5, timestamp=0xFFFFFF00, key_type=96)
    sender.press("11#")
    packets = []
    while sender.pressing:
        packets += [parse(datagram) for datagram in sender.tick()]
    keys = [packet for packet in packets if packet.payload_type == 96]
    for heard in (
        keys,
        keys[::2],
        [*keys, *keys],
        [keys[6], keys[0], *keys[13:14], keys[20], keys[2]],
    ):
        reader = KeyReader()
        assert "".join(map(reader.read, heard)) == "11#"


@pytest.mark.parametrize(
    "payload", [b"", b"\x01", b"\x01\x0a\x00", b"\x10\x0a\x00\xa0", b"\xff" * 4]
)
def test_what_is_no_key_is_nothing(payload: bytes) -> None:
    assert KeyReader().read(Packet(96, 1, 0, 1, payload)) == ""
