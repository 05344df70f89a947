"""Streams of audio and of commands that are broken in every way, through the real servers.

    python -m tests.mutations [COUNT]

sends COUNT frames, and as many lines, in calls that are broken or odd, and prints how many calls
were let go of and the longest time that one piece of data kept the loop. A few thousand are a unit
test; a million of each take a minute or two.
What is only odd (any split, repeated or swapped audio, kinds and headers that nobody knows) must
cost no call; what is broken may cost its own call and nothing else.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import structlog
from twisted.internet.task import Clock

from ivr.errors import HotlineError
from ivr.telephony.fastagi import AgiCall, FastAgiServer
from ivr.telephony.media import AudioLeg, AudioServer
from ivr.wire.audiosocket import HANG_UP, pack

_FRAME = 320


@dataclass(slots=True)
class Tally:
    """What became of the calls; `parts` are frames or lines, `longest` is CPU seconds of the worst
    piece of data."""

    parts: int = 0
    calls: int = 0
    dropped: int = 0
    longest: float = 0.0


@dataclass(slots=True)
class Wire:
    """A Twisted transport with its socket, that takes everything and is nobody."""

    aborted: bool = False
    sent: bytearray = field(default_factory=bytearray)

    def getHandle(self) -> Wire:  # noqa: N802
        return self

    def getPeer(self) -> str:  # noqa: N802
        return "nobody"

    def setTcpNoDelay(self, on: bool) -> None:  # noqa: N802
        pass

    def setTcpKeepAlive(self, on: bool) -> None:  # noqa: N802
        pass

    def setsockopt(self, *option: int) -> None:
        pass

    def send(self, data: bytes) -> int:
        self.sent += data
        return len(data)

    def write(self, data: bytes) -> None:
        self.sent += data

    def abortConnection(self) -> None:  # noqa: N802
        self.aborted = True

    def loseConnection(self) -> None:  # noqa: N802
        self.aborted = True


class Reactor(Clock):
    """Hands out connections instead of listening."""

    def listenTCP(self, port: int, factory: Any, interface: str) -> Any:  # noqa: N802
        self.factory = factory
        return SimpleNamespace(getHost=lambda: SimpleNamespace(port=1), stopListening=lambda: None)

    def connect(self) -> tuple[Any, Wire]:
        """One more connection, and the transport that it writes to."""
        connection, wire = self.factory.buildProtocol(None), Wire()
        connection.makeConnection(wire)
        return connection, wire


def broken(parts: list[bytes], chance: random.Random) -> bytes:
    """The parts with one to four things wrong: in their order, or in their bytes."""
    parts = list(parts)
    for _ in range(chance.randint(0, 2)):
        _disorder(parts, chance)
    data = bytearray(b"".join(parts))
    for _ in range(chance.randint(1, 2)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[at : at + chance.choice((1, 2, 3, 160, 1000))]
            case 2:
                data[at:at] = chance.randbytes(chance.choice((1, 2, 3, 320, 9000)))
            case 3 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case _:
                del data[at:]
    return bytes(data)


def _disorder(parts: list[bytes], chance: random.Random) -> None:
    one, other = chance.randrange(len(parts)), chance.randrange(len(parts))
    match chance.randrange(3):
        case 0:
            parts[one], parts[other] = parts[other], parts[one]
        case 1:
            parts.insert(one, parts[other])
        case _:
            del parts[one]
            parts.append(b"")


def pieces(data: bytes, chance: random.Random) -> Iterator[bytes]:
    """The data in pieces of one size, of any sizes, or byte by byte."""
    largest = chance.choice((1, 3, 323, 5000, 1 << 16))
    if largest == 1 and len(data) > 2000:
        largest = 7
    at = 0
    while at < len(data):
        size = largest if largest < 8 else chance.randint(1, largest)
        yield data[at : at + size]
        at += size


def _feed(connection: Any, wire: Wire, data: bytes, chance: random.Random, tally: Tally) -> None:
    for piece in pieces(data, chance):
        if wire.aborted:
            return
        began = time.thread_time()
        connection.dataReceived(piece)
        tally.longest = max(tally.longest, time.thread_time() - began)


# --- audio ---------------------------------------------------------------------------------------


def _audio_parts(call: uuid.UUID, chance: random.Random) -> list[bytes]:
    audio = [pack(chance.randbytes(_FRAME)) for _ in range(4)]
    keys = [b"\x03\x00\x01" + key for key in (b"1", b"#")]
    return [b"\x01\x00\x10" + call.bytes, *audio, *keys, b"\x42\x00\x02zz", b"\x10\x00\x04abcd"]


def _odd(parts: list[bytes], chance: random.Random) -> bytes:
    """Everything after the first part in another order, some of it twice."""
    first, *rest = parts
    rest += chance.sample(rest, 2)
    chance.shuffle(rest)
    return b"".join((first, *rest))


class Audio:
    """An audio server with one healthy call, and broken ones beside it."""

    def __init__(self) -> None:
        self._reactor = Reactor()
        self._server = AudioServer(self._reactor)
        self._server.listen("127.0.0.1", 0)
        self.tally = Tally()
        self.heard = 0
        call = uuid.uuid4()
        self._server.expect(call, 5)
        self._healthy, self._healthy_wire = self._reactor.connect()
        self._healthy.dataReceived(b"\x01\x00\x10" + call.bytes)
        [leg] = self._server.legs
        leg.on_frame(self._count)

    def _count(self, frame: bytes) -> None:
        assert len(frame) == _FRAME
        self.heard += 1

    async def call(self, seed: int) -> None:
        """One broken or odd call, from its first byte to its end."""
        chance = random.Random(seed)
        identity = uuid.UUID(int=chance.getrandbits(128))
        awaiting = self._server.expect(identity, 5)
        connection, wire = self._reactor.connect()
        parts = _audio_parts(identity, chance)
        odd = chance.random() < 0.3
        got: list[bytes] = []
        if odd:
            _feed(connection, wire, parts[0], chance, self.tally)
            (await awaiting).on_frame(got.append)
        _feed(
            connection,
            wire,
            _odd(parts, chance).removeprefix(parts[0]) if odd else broken(parts, chance),
            chance,
            self.tally,
        )
        self._next_to_it()
        self.tally.parts += len(parts)
        self.tally.calls += 1
        self.tally.dropped += wire.aborted
        assert not (odd and wire.aborted), f"seed {seed}: dropped for nothing"
        assert not odd or len(got) >= 4, f"seed {seed}: audio was lost"
        if awaiting.done():
            leg: AudioLeg = awaiting.result()
            leg.hang_up()
            assert wire.sent.endswith(HANG_UP)
        awaiting.cancel()
        await asyncio.sleep(0)
        connection.connectionLost()
        assert len(self._server.connections) == len(self._server.legs) == 1, f"seed {seed}: left"
        assert not self._server.expected

    def _next_to_it(self) -> None:
        """The healthy call hears, and is heard."""
        heard, sent = self.heard, len(self._healthy_wire.sent)
        self._healthy.dataReceived(pack(bytes(_FRAME)))
        self._reactor.advance(0.02)
        assert self.heard == heard + 1
        assert len(self._healthy_wire.sent) > sent
        self._healthy_wire.sent.clear()
        assert not self._healthy_wire.aborted


# --- commands ------------------------------------------------------------------------------------

_HEADERS = {
    "network": "yes",
    "network_script": "call",
    "request": "agi://127.0.0.1/call",
    "channel": "PJSIP/trunk-00000001",
    "language": "en",
    "uniqueid": "1795304689.1",
    "callerid": "+14155550123",
    "calleridname": "Ann O'Néill",
    "context": "hotline",
    "extension": "100",
    "priority": "1",
}
_REPLIES = (
    b"200 result=1 (one)\n",
    b"520-Invalid command syntax.  Proper usage follows:\n",
    b"Usage: ANSWER\n520 End of proper usage.\n",
    b"200 result=0\n",
    b"510 Invalid or unknown command\n",
    b"200 result=-1\n",
    b"HANGUP\n",
)


class Commands:
    """A FastAGI server whose calls command what they can, and what each comes to."""

    def __init__(self) -> None:
        self._reactor = Reactor()
        self._server = FastAgiServer(self._reactor, self._answer, 1000)
        self._server.listen("127.0.0.1", 0)
        self._served = 0
        self._over: set[str] = set()
        self.tally = Tally()

    async def _answer(self, call: AgiCall) -> None:
        self._served += 1
        for name in ("A", "B", "C", "D"):
            try:
                await call.get_variable(name)
            except HotlineError:
                if call.gone.is_set():
                    break
        self._over.add(call.request.unique_id)

    async def call(self, seed: int) -> None:
        """One broken or odd call, from its first byte to its end."""
        chance = random.Random(seed)
        connection, wire = self._reactor.connect()
        headers = [f"agi_{name}: {value}\n".encode() for name, value in _HEADERS.items()]
        odd = chance.random() < 0.3
        if odd:
            chance.shuffle(headers)
            headers.insert(chance.randrange(len(headers)), b"agi_news_%d: ok\n" % seed)
            parts = [*headers, b"\n"]
            _feed(connection, wire, b"".join(parts), chance, self.tally)
            assert not wire.aborted, f"seed {seed}: dropped for nothing"
        else:
            _feed(connection, wire, broken([*headers, b"\n"], chance), chance, self.tally)
        for _ in range(4):
            await asyncio.sleep(0)
            reply = chance.choice(_REPLIES)
            data = b"200 result=1 (x)\n" if odd else broken([reply], chance)
            _feed(connection, wire, data, chance, self.tally)
        for _ in range(6):
            await asyncio.sleep(0)
        self.tally.parts += len(headers) + 5
        self.tally.calls += 1
        self.tally.dropped += wire.aborted and not odd
        assert not odd or _HEADERS["uniqueid"] in self._over, f"seed {seed}: not served"
        connection.connectionLost()
        for _ in range(6):
            await asyncio.sleep(0)
        assert not self._server.connections, f"seed {seed}: left"
        assert len(self._over) <= self._served
        self._over.clear()


async def run(make: Callable[[], Audio | Commands], count: int) -> Tally:
    """So many frames or lines, in calls that each have a seed of their own."""
    server = make()
    tasks = len(asyncio.all_tasks())
    while server.tally.parts < count:
        await server.call(server.tally.calls)
    assert len(asyncio.all_tasks()) == tasks, "calls go on"
    return server.tally


def _silent(logger: Any, name: str, event: Any) -> Any:
    """What each of a million calls would have logged."""
    raise structlog.DropEvent


def main(count: int) -> None:
    structlog.configure(processors=[_silent])
    gc.freeze()  # as the server does, for a collection is not the data's fault
    for make in (Audio, Commands):
        began = time.monotonic()
        tally = asyncio.run(run(make, count))
        print(
            f"{make.__name__}: {tally.parts} in {tally.calls} calls, {tally.dropped} let go of, "
            f"longest piece {tally.longest * 1000:.1f} ms, {time.monotonic() - began:.0f} s"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
