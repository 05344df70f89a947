"""The FastAGI server, against a client that speaks like Asterisk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from ivr.errors import CallGone, LocalProtocolError, TelephonyError
from ivr.telephony.fastagi import AgiCall, Answer, FastAgiServer, serve
from ivr.wire.agi import AgiReply, AgiRequest
from tests.unit.wire.test_agi import environment


class Caller:
    """Asterisk's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.reader = reader
        self.writer = writer

    async def told(self) -> str:
        """The next command."""
        return (await asyncio.wait_for(self.reader.readline(), 5)).decode().strip()

    async def answers(self, expected: str, reply: str) -> None:
        assert await self.told() == expected
        self.says(reply)

    def says(self, line: str) -> None:
        self.writer.write(line.encode() + b"\n")

    async def closed(self) -> bool:
        try:
            return await asyncio.wait_for(self.reader.read(), 5) == b""
        except ConnectionError:
            return True


@asynccontextmanager
async def listening(reactor: Any, answer: Answer, **limits: int) -> AsyncIterator[FastAgiServer]:
    server = serve(reactor, "127.0.0.1", 0, answer, **limits)
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def calling(server: FastAgiServer, request: bytes | None = None) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(environment() if request is None else request)
    try:
        yield Caller(reader, writer)
    finally:
        writer.close()


class Answering:
    """Runs one coroutine on the call, and keeps what became of it."""

    def __init__(self, serve_call: Any):
        self._serve = serve_call
        self.outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def __call__(self, call: AgiCall) -> None:
        try:
            self.outcome.set_result(await self._serve(call))
        except BaseException as error:
            self.outcome.set_exception(error)

    async def result(self) -> Any:
        return await asyncio.wait_for(self.outcome, 5)


async def test_a_call_is_answered_commanded_and_left_to_the_dialplan(reactor: Any) -> None:
    async def talk(call: AgiCall) -> tuple[str, str]:
        await call.answer()
        await call.set_variable("NAME", 'Ann "; DROP')
        await call.execute("Playback", "hello, world")
        return call.request.caller_id, await call.get_variable("DIALSTATUS")

    answering = Answering(talk)
    async with listening(reactor, answering) as server, calling(server) as caller:
        await caller.answers("ANSWER", "200 result=0")
        await caller.answers(r'SET VARIABLE NAME "Ann \"; DROP"', "200 result=1")
        await caller.answers(r'EXEC Playback "hello\\, world"', "200 result=0")
        await caller.answers("GET VARIABLE DIALSTATUS", "200 result=1 (BUSY)")
        assert await answering.result() == ("4155550123", "BUSY")
        assert await caller.closed()


async def test_commands_wait_for_their_turn(reactor: Any) -> None:
    async def talk(call: AgiCall) -> list[str]:
        return list(await asyncio.gather(call.get_variable("A"), call.get_variable("B")))

    answering = Answering(talk)
    async with listening(reactor, answering) as server, calling(server) as caller:
        await caller.answers("GET VARIABLE A", "200 result=1 (first)")
        await caller.answers("GET VARIABLE B", "200 result=0")
        assert await answering.result() == ["first", ""]


@pytest.mark.parametrize("way", ["HANGUP line", "511"])
async def test_hang_up_ends_what_waits(reactor: Any, way: str) -> None:
    gone: list[AgiCall] = []

    async def talk(call: AgiCall) -> None:
        gone.append(call)
        await call.execute("AudioSocket", "x")

    answering = Answering(talk)
    async with listening(reactor, answering) as server, calling(server) as caller:
        await caller.told()
        if way == "HANGUP line":
            caller.says("HANGUP")
        else:
            caller.says("511 Command Not Permitted on a dead channel")
        with pytest.raises(CallGone):
            await answering.result()
        assert gone[0].gone.is_set()
        with pytest.raises(CallGone):
            await gone[0].command("ANSWER")
        await gone[0].hang_up()


async def test_a_reply_that_comes_as_its_command_is_given_up_is_no_fault() -> None:
    """A caller hangs up while the call's audio is taken away: both end at once."""
    sent: list[bytes] = []
    drops: list[bool] = []
    connection: Any = SimpleNamespace(send=sent.append, drop=lambda: drops.append(True))
    call = AgiCall(AgiRequest("PJSIP/1", "1.1"), connection)
    application = asyncio.ensure_future(call.execute("AudioSocket", "x"))
    await asyncio.sleep(0)
    application.cancel()
    call.receive(AgiReply(200, "-1"))
    with pytest.raises(asyncio.CancelledError):
        await application
    assert (len(sent), drops) == (1, [True])


@pytest.mark.parametrize("hung_up", [False, True])
async def test_a_lost_connection_is_told_from_a_hang_up(reactor: Any, hung_up: bool) -> None:
    served: list[AgiCall] = []

    async def talk(call: AgiCall) -> None:
        served.append(call)
        await call.execute("AudioSocket", "x")

    answering = Answering(talk)
    async with listening(reactor, answering) as server, calling(server) as caller:
        await caller.told()
        if hung_up:
            caller.says("HANGUP")
        caller.writer.close()
        with pytest.raises(TelephonyError) as caught:
            await answering.result()
        assert isinstance(caught.value, CallGone) == hung_up
        assert (served[0].cut, served[0].hung_up.is_set()) == (not hung_up, hung_up)


async def test_an_application_that_fails_is_told_from_a_hang_up(reactor: Any) -> None:
    async def talk(call: AgiCall) -> None:
        await call.execute("AudioSocket", "x")

    answering = Answering(talk)
    async with listening(reactor, answering) as server, calling(server) as caller:
        await caller.answers("EXEC AudioSocket x", "200 result=-1")
        await caller.answers("CHANNEL STATUS", "200 result=6")
        with pytest.raises(TelephonyError, match="AudioSocket failed") as caught:
            await answering.result()
        assert not isinstance(caught.value, CallGone)

    answering = Answering(talk)
    async with listening(reactor, answering) as server, calling(server) as caller:
        await caller.answers("EXEC AudioSocket x", "200 result=-1")
        await caller.answers("CHANNEL STATUS", "511 dead")
        with pytest.raises(CallGone):
            await answering.result()

    answering = Answering(talk)
    async with listening(reactor, answering) as server, calling(server) as caller:
        await caller.answers("EXEC AudioSocket x", "200 result=-2")
        with pytest.raises(TelephonyError, match="no application AudioSocket"):
            await answering.result()


async def test_a_refused_command_is_an_error(reactor: Any) -> None:
    async def talk(call: AgiCall) -> None:
        await call.command("FLY")

    answering = Answering(talk)
    async with listening(reactor, answering) as server, calling(server) as caller:
        await caller.answers("FLY", "510 Invalid or unknown command")
        with pytest.raises(TelephonyError, match="refused FLY: 510 Invalid"):
            await answering.result()


async def test_an_answer_that_does_not_come_in_time_ends_the_connection(reactor: Any) -> None:
    async def talk(call: AgiCall) -> None:
        await call.command("GET", "VARIABLE", "A", deadline=0.02)

    answering = Answering(talk)
    async with listening(reactor, answering) as server, calling(server) as caller:
        await caller.told()
        with pytest.raises(TelephonyError, match="did not answer GET"):
            await answering.result()
        assert await caller.closed()


async def test_what_agi_cannot_carry_is_not_sent(reactor: Any) -> None:
    async def talk(call: AgiCall) -> str:
        with pytest.raises(LocalProtocolError):
            await call.set_variable("A", "x\nHANGUP")
        return await call.get_variable("A")

    answering = Answering(talk)
    async with listening(reactor, answering) as server, calling(server) as caller:
        await caller.answers("GET VARIABLE A", "200 result=1 (fine)")
        assert await answering.result() == "fine"


@pytest.mark.parametrize(
    "request_text", [b"GET / HTTP/1.1\r\n", environment("x\nevil"), b"agi_x: " + b"9" * 9000]
)
async def test_a_peer_that_is_no_asterisk_is_dropped(reactor: Any, request_text: bytes) -> None:
    async def talk(call: AgiCall) -> None:
        raise AssertionError("must not be reached")

    async with (
        listening(reactor, talk) as server,
        calling(server, request_text) as caller,
    ):
        assert await caller.closed()


async def test_a_client_that_closes_before_its_headers_leaves_nothing(reactor: Any) -> None:
    answering = Answering(lambda call: call.get_variable("A"))
    async with listening(reactor, answering) as server:
        async with calling(server, b"agi_network: yes\n"):
            pass
        async with calling(server) as caller:
            await caller.answers("GET VARIABLE A", "200 result=1 (still here)")
            assert await answering.result() == "still here"


async def test_no_more_calls_than_allowed(reactor: Any) -> None:
    answering = Answering(lambda call: call.get_variable("A"))
    async with listening(reactor, answering, most_calls=1) as server, calling(server) as first:
        await first.told()
        async with calling(server) as second:
            assert await second.closed()
        first.says("200 result=1 (mine)")
        assert await answering.result() == "mine"


async def test_a_fault_of_ours_leaves_the_call_to_the_dialplan(reactor: Any) -> None:
    async def fail(call: AgiCall) -> None:
        raise ValueError("a bug")

    async with listening(reactor, fail) as server, calling(server) as caller:
        assert await caller.closed()


async def test_a_reply_that_nobody_asked_for_ends_the_connection(reactor: Any) -> None:
    answering = Answering(lambda call: call.gone.wait())
    async with listening(reactor, answering) as server, calling(server) as caller:
        caller.says("200 result=1")
        assert await caller.closed()
        assert await answering.result()


async def test_the_end_of_what_ran_when_the_caller_hung_up_is_no_error(reactor: Any) -> None:
    answering = Answering(lambda call: call.execute("AudioSocket", "x"))
    async with listening(reactor, answering) as server, calling(server) as caller:
        await caller.told()
        with capture_logs() as logged:
            caller.says("HANGUP")
            caller.says("200 result=-1")
            with pytest.raises(CallGone):
                await answering.result()
            assert await caller.closed()
    assert not logged


async def test_stopping_ends_calls_and_frees_the_port(reactor: Any) -> None:
    answering = Answering(lambda call: call.execute("AudioSocket", "x"))
    async with listening(reactor, answering) as server, calling(server) as caller:
        await caller.told()
        port = server.port
        await server.stop()
        with pytest.raises(TelephonyError, match="connection"):
            await answering.result()
        again = serve(reactor, "127.0.0.1", port, answering)
        with pytest.raises(TelephonyError, match=rf"port {port} is taken: .*asterisk\.agi_port"):
            serve(reactor, "127.0.0.1", port, answering)
        await again.stop()
