"""The audio server: its clock, its legs, and peers that misbehave."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from ivr.errors import TelephonyError
from ivr.observe import AUDIO_SOCKETS
from ivr.telephony.media import AudioLeg, AudioServer
from ivr.wire.audiosocket import HANG_UP, SILENCE, AudioReceived, AudioSocketReader, pack

FRAME = 320
VOICE = bytes(range(1, 161)) * 2
KEY = b"\x03\x00\x01"


class Wire:
    """A Twisted transport and its socket, as far as a leg uses them."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.room = 1 << 30
        self.aborted = False

    def getHandle(self) -> Wire:  # noqa: N802
        return self

    def send(self, data: bytes) -> int:
        taken = min(len(data), self.room)
        if not taken:
            raise BlockingIOError
        self.sent += data[:taken]
        self.room -= taken
        return taken

    def write(self, data: bytes) -> None:
        self.sent += data

    def abortConnection(self) -> None:  # noqa: N802
        self.aborted = True

    def heard(self) -> list[bytes]:
        """The frames that were sent so far."""
        events = AudioSocketReader().receive_data(bytes(self.sent))
        return [event.pcm for event in events if isinstance(event, AudioReceived)]


class Playing:
    """A leg on a clock that moves when the test says so."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.leg = AudioLeg(self.wire, lambda: None)
        self.told: list[str] = []
        self.leg.on_started(lambda at: self.told.append(f"started {at:g}"))
        self.leg.on_drained(lambda: self.told.append("drained"))
        self.leg.on_closed(lambda: self.told.append("closed"))
        self.now = 0

    def ticks(self, count: int) -> list[bytes]:
        before = len(self.wire.heard())
        for _ in range(count):
            self.leg.tick(self.now)
            self.now += 1
        return self.wire.heard()[before:]


def test_silence_when_nothing_plays() -> None:
    playing = Playing()
    assert playing.ticks(2) == [bytes(FRAME)] * 2
    assert not playing.leg.playing


def test_prompts_follow_each_other_and_tell_their_start_and_end() -> None:
    playing = Playing()
    playing.ticks(3)
    playing.leg.play(VOICE)
    playing.leg.play(VOICE[::-1])
    assert playing.leg.playing
    assert playing.ticks(2) == [VOICE, VOICE[::-1]]
    assert playing.told == ["started 3"]
    assert playing.leg.playing
    playing.ticks(2)
    assert playing.told == ["started 3", "drained"]
    assert not playing.leg.playing


@given(st.lists(st.integers(0, 900), max_size=8))
def test_pieces_of_any_size_join_without_a_gap(sizes: list[int]) -> None:
    playing = Playing()
    whole = os.urandom(2 * sum(sizes))
    at = 0
    for size in sizes:
        playing.leg.play(whole[at : at + 2 * size])
        at += 2 * size
    frames = -(-len(whole) // FRAME)
    heard = b"".join(playing.ticks(frames + 1))
    assert heard[: len(whole)] == whole
    assert not any(heard[len(whole) :])
    assert not playing.leg.playing


def test_stop_is_heard_in_the_next_frame() -> None:
    playing = Playing()
    playing.leg.play(VOICE * 50 + b"ab")
    playing.leg.loop(VOICE)
    playing.ticks(3)
    playing.leg.stop()
    assert not playing.leg.playing
    assert playing.ticks(2) == [bytes(FRAME)] * 2
    assert playing.told == ["started 0"]
    playing.leg.play(VOICE)
    assert playing.ticks(1) == [VOICE]


def test_music_goes_on_and_on_and_gives_way_to_prompts() -> None:
    playing = Playing()
    low, high = bytes(FRAME - 2) + b"lo", bytes(FRAME - 2) + b"hi"
    playing.leg.loop(low + high)
    assert playing.ticks(3) == [low, high, low]
    assert not playing.leg.playing
    playing.leg.play(VOICE)
    assert playing.ticks(3) == [VOICE, high, low]
    assert playing.told == ["started 3", "drained"]


@pytest.mark.parametrize("size", [2, 160, 320, 322, 640, 1000])
def test_audio_of_any_size_comes_as_frames(size: int) -> None:
    playing, heard = Playing(), []
    playing.leg.on_frame(heard.append)
    whole = os.urandom(3200)
    for at in range(0, len(whole), size):
        playing.leg.receive(whole[at : at + size])
    assert b"".join(heard) == whole
    assert {len(frame) for frame in heard} == {FRAME}


def test_time_passes_for_listeners_while_a_telephone_sends_nothing() -> None:
    playing = Playing()
    heard: list[bytes] = []
    playing.leg.on_frame(heard.append)
    playing.leg.receive(VOICE)
    playing.leg.tick(0.0)
    for frame in range(1, 51):
        playing.leg.tick(frame * 0.02 + 0.001)
    assert heard == [VOICE] + [bytes(FRAME)] * 48
    playing.leg.receive(VOICE)  # the caller speaks again
    for frame in range(51, 53):
        playing.leg.tick(frame * 0.02 + 0.001)
    assert heard[-1] == VOICE


def test_late_audio_is_not_taken_for_silence() -> None:
    playing = Playing()
    heard: list[bytes] = []
    playing.leg.on_frame(heard.append)
    for frame in range(50):
        if frame % 2:  # two frames at a time, as they come after a hiccup
            playing.leg.receive(VOICE * 2)
        playing.leg.tick(frame * 0.02)
    assert heard == [VOICE] * 50


def test_keys_pressed_early_are_kept_but_not_for_ever() -> None:
    playing, keys = Playing(), []
    for _ in range(100):
        playing.leg.press("1")
    playing.leg.on_key(keys.append)
    playing.leg.press("#")
    assert keys == ["1"] * 32 + ["#"]


def test_hang_up_is_said_once_and_ends_everything() -> None:
    playing = Playing()
    playing.leg.play(VOICE * 10)
    playing.ticks(1)
    playing.leg.hang_up()
    playing.leg.hang_up()
    assert playing.wire.sent.endswith(pack(VOICE) + HANG_UP)
    assert (playing.leg.closed, playing.told) == (True, ["started 0", "closed"])
    assert playing.ticks(3) == []
    late: list[str] = []
    playing.leg.on_closed(lambda: late.append("told"))
    assert late == ["told"]


def test_a_peer_that_stops_reading_is_dropped_and_its_stream_stays_in_frames() -> None:
    playing = Playing()
    playing.wire.room = 1000
    playing.leg.loop(VOICE)
    playing.ticks(90)
    assert not playing.wire.aborted
    playing.wire.room = 10_000
    playing.ticks(5)
    assert set(playing.wire.heard()) == {VOICE}
    playing.wire.room = 100
    playing.ticks(150)
    assert playing.wire.aborted


class Ticked:
    """A leg that only remembers when it was fed."""

    def __init__(self, clock: Clock):
        self.clock = clock
        self.at: list[float] = []

    def tick(self, now: float) -> None:
        self.at.append(round(self.clock.seconds(), 3))


def server_on_a_clock() -> tuple[Clock, AudioServer, Ticked]:
    clock = Clock()
    server = AudioServer(clock)
    leg = Ticked(clock)
    server.add(leg)  # type: ignore[arg-type]
    return clock, server, leg


def test_the_clock_does_not_drift() -> None:
    clock, _, leg = server_on_a_clock()
    clock.pump([0.001] * 10_001)
    assert len(leg.at) == 501
    assert leg.at[-1] == pytest.approx(10.0, abs=0.002)


def test_the_clock_catches_up_without_bursts() -> None:
    clock, _, leg = server_on_a_clock()
    clock.pump([0.001] * 100)
    clock.advance(0.2)
    clock.pump([0.001] * 300)
    gaps = [after - before for before, after in zip(leg.at, leg.at[1:], strict=False)]
    assert min(gaps) > 0.0049
    assert len(leg.at) == pytest.approx(0.6 / 0.02, abs=1)


def test_the_clock_does_not_play_back_a_long_sleep() -> None:
    clock, _, leg = server_on_a_clock()
    clock.pump([0.001] * 100)
    before = len(leg.at)
    clock.advance(60)
    clock.pump([0.001] * 100)
    assert len(leg.at) - before <= 7


def test_the_clock_sleeps_when_nobody_listens() -> None:
    clock, server, leg = server_on_a_clock()
    clock.pump([0.001] * 50)
    server.legs.clear()
    clock.pump([0.001] * 50)
    assert not clock.getDelayedCalls()
    server.add(leg)  # type: ignore[arg-type]
    assert clock.getDelayedCalls()


def test_one_legs_fault_does_not_silence_the_others() -> None:
    clock, server, leg = server_on_a_clock()

    class Faulty:
        def tick(self, now: float) -> None:
            raise ValueError("a bug")

    server.add(Faulty())  # type: ignore[arg-type]
    clock.pump([0.02] * 5)
    assert len(leg.at) == 5


# --- over real sockets ---------------------------------------------------------------------------


@asynccontextmanager
async def listening(reactor: Any, **limits: int) -> AsyncIterator[AudioServer]:
    server = AudioServer(reactor, **limits)
    server.listen("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def connecting(
    server: AudioServer, *pieces: bytes
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for piece in pieces:
        writer.write(piece)
    try:
        yield reader, writer
    finally:
        writer.close()


def identity(call: uuid.UUID) -> bytes:
    return b"\x01\x00\x10" + call.bytes


async def nobody_connected(server: AudioServer) -> None:
    async with asyncio.timeout(5):
        while server.connections:
            await asyncio.sleep(0)


async def closed(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(5):
            while await reader.read(65536):
                pass
    except ConnectionError:
        pass
    return True


async def test_a_call_that_is_expected_gets_its_leg(reactor: Any) -> None:
    call = uuid.uuid4()
    async with listening(reactor) as server:
        expected = server.expect(call, 5)
        async with connecting(server, identity(call), KEY + b"7", pack(VOICE)) as (reader, writer):
            leg = await expected
            assert AUDIO_SOCKETS._value.get() == 1
            keys: asyncio.Queue[str] = asyncio.Queue()
            frames: asyncio.Queue[bytes] = asyncio.Queue()
            leg.on_key(keys.put_nowait)
            leg.on_frame(frames.put_nowait)
            writer.write(pack(VOICE) + KEY + b"#")
            async with asyncio.timeout(5):
                assert [await keys.get(), await keys.get()] == ["7", "#"]
                assert await frames.get() == VOICE
                assert await reader.readexactly(len(SILENCE)) == SILENCE
                leg.play(VOICE)
                while await reader.readexactly(len(SILENCE)) != pack(VOICE):
                    pass
            gone = asyncio.Event()
            leg.on_closed(gone.set)
            writer.write(HANG_UP)
            writer.close()
            async with asyncio.timeout(5):
                await gone.wait()
        await nobody_connected(server)
        assert not server.legs
        assert not server.expected
        assert AUDIO_SOCKETS._value.get() == 0


@pytest.mark.parametrize(
    "data",
    [
        identity(uuid.UUID(int=7)),
        pack(VOICE),
        b"\x01\x00\x02ab",
        b"GET / HTTP/1.1\r\n\r\n" + bytes(20_000),
    ],
)
async def test_who_is_not_expected_is_refused(reactor: Any, data: bytes) -> None:
    async with listening(reactor) as server:
        waiting = server.expect(uuid.uuid4(), 5)
        async with connecting(server, data) as (reader, _):
            assert await closed(reader)
        assert not waiting.done()
        waiting.cancel()


async def test_an_identity_is_good_for_one_connection(reactor: Any) -> None:
    call = uuid.uuid4()
    async with listening(reactor) as server:
        expected = server.expect(call, 5)
        async with connecting(server, identity(call)):
            await expected
            async with connecting(server, identity(call)) as (reader, _):
                assert await closed(reader)


async def test_audio_that_does_not_come_is_an_error_in_time(reactor: Any) -> None:
    async with listening(reactor) as server:
        with pytest.raises(TimeoutError, match=r"no audio within 0\.01 s"):
            await server.expect(uuid.uuid4(), 0.01)
        withdrawn = server.expect(uuid.uuid4(), 5)
        withdrawn.cancel()
        await asyncio.sleep(0)
        assert not server.expected


async def test_our_hang_up_waits_for_asterisk_to_close(reactor: Any) -> None:
    call = uuid.uuid4()
    async with listening(reactor) as server:
        expected = server.expect(call, 5)
        async with connecting(server, identity(call)) as (reader, writer):
            leg = await expected
            leg.hang_up()
            writer.write(pack(VOICE) * 10)  # what was under way
            async with asyncio.timeout(5):
                received = b""
                while not received.endswith(HANG_UP):
                    received += await reader.read(1000)
            assert server.connections
            writer.close()
            await nobody_connected(server)


async def test_no_more_connections_than_allowed(reactor: Any) -> None:
    call = uuid.uuid4()
    async with listening(reactor, most_legs=1) as server:
        expected = server.expect(call, 5)
        async with connecting(server, identity(call)):
            await expected
            async with connecting(server, identity(call)) as (reader, _):
                assert await closed(reader)


async def test_a_taken_port_is_said_in_one_line(reactor: Any) -> None:
    async with listening(reactor) as server:
        with pytest.raises(TelephonyError, match=rf"port {server.port} is taken: .*audio_port"):
            AudioServer(reactor).listen("127.0.0.1", server.port)


def test_what_left_in_the_last_600_ms_is_known() -> None:
    playing = Playing()
    playing.leg.play(VOICE * 2)
    playing.ticks(3)
    assert playing.leg.played() == VOICE * 2 + bytes(FRAME)
    playing.ticks(29)
    assert playing.leg.played() == VOICE[:0] + bytes(FRAME) * 30
