"""Asterisk hands us each call over FastAGI: a TCP connection on which we command the call.

The call goes on in the dialplan when the connection ends, so whoever answers a call says with a
channel variable that it came to its proper end (see deploy/asterisk/extensions.conf).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from twisted.internet.protocol import Protocol

from ivr.errors import CallGone, RemoteProtocolError, TelephonyError
from ivr.telephony.listening import listen, stop_listening
from ivr.wire import agi
from ivr.wire.agi import AgiReply, AgiRequest

log = structlog.get_logger(__name__)

COMMAND_SECONDS = 10.0
_HEADER_SECONDS = 5.0
_MOST_CALLS = 1000
_FAREWELL_SECONDS = 5.0

# During a talk nothing is said for minutes, and a machine that loses its power says no goodbye.
_KEEP_ALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}

Answer = Callable[["AgiCall"], Awaitable[None]]


class AgiCall:
    """One call under our command. One command runs at a time; others wait for their turn.

    `gone` is set as soon as the caller has hung up or the connection is lost; `hung_up` only when
    it is known to be the former.
    """

    def __init__(self, request: AgiRequest, connection: _Connection):
        self.request = request
        self.gone = asyncio.Event()
        self.hung_up = asyncio.Event()
        self._connection = connection
        self._turn = asyncio.Lock()
        self._reply: asyncio.Future[AgiReply] | None = None

    async def command(self, *words: str, deadline: float | None = COMMAND_SECONDS) -> AgiReply:
        """Send one command and return Asterisk's reply. No deadline: as long as it takes.

        Raises CallGone when the caller is no longer there, TelephonyError when Asterisk refuses,
        does not answer in time or the connection is lost, LocalProtocolError for what AGI cannot
        carry.
        """
        return await self._send(agi.command(*words), words[0], deadline)

    async def execute(self, app: str, *args: str) -> None:
        """Run a dialplan application until it ends by itself. Raises as `command` does."""
        reply = await self._send(agi.application(app, *args), app, None)
        if reply.result == "-2":
            raise TelephonyError(f"Asterisk has no application {app}: is its module loaded?")
        if reply.result == "-1":
            # Either the caller hung up or the application failed: only the channel knows.
            await self.command("CHANNEL", "STATUS")
            raise TelephonyError(f"{app} failed on {self.request.channel}: see Asterisk's log")

    async def get_variable(self, name: str) -> str:
        """A channel variable or function, "" when it is not set."""
        return (await self.command("GET", "VARIABLE", name)).data

    async def set_variable(self, name: str, value: str) -> None:
        """Set a channel variable or function."""
        await self.command("SET", "VARIABLE", name, value)

    async def answer(self) -> None:
        """Pick up."""
        reply = await self.command("ANSWER")
        if reply.result == "-1":
            await self.command("CHANNEL", "STATUS")
            raise TelephonyError(f"{self.request.channel} could not be answered")

    async def hang_up(self) -> None:
        """End the call, after what runs on it; that it has ended already is fine."""
        try:
            await self.command("HANGUP")
        except CallGone:
            return

    async def _send(self, line: bytes, name: str, deadline: float | None) -> AgiReply:
        async with self._turn:
            if self.gone.is_set():
                raise self._end()
            self._reply = asyncio.get_running_loop().create_future()
            self._connection.send(line)
            try:
                async with asyncio.timeout(deadline):
                    reply = await self._reply
            except TimeoutError:
                # Its answer may still come and would be taken for the next command's.
                self._connection.drop()
                raise TelephonyError(f"Asterisk did not answer {name} in {deadline} s") from None
            except asyncio.CancelledError:
                self._connection.drop()
                raise
            finally:
                self._reply = None
        if reply.code == 511:
            self.lose()
            raise self._end()
        if reply.code != 200:
            raise TelephonyError(f"Asterisk refused {name}: {reply.code} {reply.data[:200]}")
        return reply

    def receive(self, reply: AgiReply) -> None:
        """Asterisk answered."""
        if self._reply is None or self._reply.done():
            if self.gone.is_set():  # what ran on the channel ended with it, and says so now
                return
            if self._reply is not None and self._reply.cancelled():
                return  # nobody waits for it any more, and the connection is about to be dropped
            raise RemoteProtocolError(f"AGI reply that nobody asked for: {reply.code}")
        self._reply.set_result(reply)

    def lose(self) -> None:
        """The caller is gone."""
        self.hung_up.set()
        self._fail()

    def lose_connection(self) -> None:
        """Asterisk, or the way to it, is gone; after a hang-up that is what is expected."""
        self._fail()

    @property
    def cut(self) -> bool:
        """Whether the connection is lost, and the caller may still be there."""
        return self.gone.is_set() and not self.hung_up.is_set()

    def _fail(self) -> None:
        self.gone.set()
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(self._end())

    def _end(self) -> TelephonyError:
        channel = self.request.channel
        if self.hung_up.is_set():
            return CallGone(f"{channel} has hung up")
        return TelephonyError(f"the AGI connection of {channel} was lost")


class _Connection(Protocol):
    """One connection from Asterisk."""

    def __init__(self, server: FastAgiServer):
        self._server = server
        self._reader = agi.AgiReader()
        self._call: AgiCall | None = None
        self._task: asyncio.Task[None] | None = None
        self._late: Any = None

    @property
    def _wire(self) -> Any:
        return self.transport

    def connectionMade(self) -> None:  # noqa: N802
        if len(self._server.connections) >= self._server.most_calls:
            log.error("call refused: too many", most=self._server.most_calls)
            self.drop()
            return
        self._server.connections.add(self)
        self._wire.setTcpNoDelay(True)
        self._wire.setTcpKeepAlive(True)
        for option, value in _KEEP_ALIVE.items():
            self._wire.getHandle().setsockopt(socket.IPPROTO_TCP, option, value)
        self._late = self._server.reactor.callLater(_HEADER_SECONDS, self._too_late)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        try:
            for event in self._reader.receive_data(data):
                match event:
                    case AgiRequest():
                        self._begin(event)
                    case AgiReply():
                        assert self._call is not None
                        self._call.receive(event)
                    case agi.HungUp() if self._call is not None:
                        self._call.lose()
        except RemoteProtocolError as error:
            log.error("agi connection dropped", peer=str(self._wire.getPeer()), error=str(error))
            self.drop()

    def connectionLost(self, reason: Any = None) -> None:  # noqa: N802
        self._server.connections.discard(self)
        self._in_time()
        if self._call is not None:
            self._call.lose_connection()

    def send(self, line: bytes) -> None:
        self._wire.write(line)

    def drop(self) -> None:
        """Leave the call to the dialplan, now."""
        self._wire.abortConnection()

    async def ended(self) -> None:
        """Drop the connection and wait for whoever answers its call."""
        self.drop()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_FAREWELL_SECONDS)
            self._task.cancel()

    def _begin(self, request: AgiRequest) -> None:
        self._in_time()
        self._call = AgiCall(request, self)
        self._task = asyncio.ensure_future(self._serve(self._call))

    async def _serve(self, call: AgiCall) -> None:
        try:
            await self._server.answer(call)
        except CallGone:
            pass
        except TelephonyError as error:  # the way to Asterisk broke: nothing of ours to look for
            log.error("call lost", channel=call.request.channel, error=str(error))
        except Exception as error:
            # The dialplan takes the caller back: without HOTLINE_DONE this is a fault of ours.
            log.exception("call lost to a fault", channel=call.request.channel, error=str(error))
        finally:
            self._wire.loseConnection()

    def _too_late(self) -> None:
        self._late = None
        log.error("agi connection dropped: no request in time", peer=str(self._wire.getPeer()))
        self.drop()

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class FastAgiServer:
    """The listening side. `port` is the port in use, also when 0 was asked for."""

    def __init__(self, reactor: Any, answer: Answer, most_calls: int):
        self.reactor = reactor
        self.answer = answer
        self.most_calls = most_calls
        self.connections: set[_Connection] = set()
        self.port = 0
        self._listening: Any = None

    def listen(self, host: str, port: int) -> None:
        """Raises TelephonyError when the port is taken."""
        self._listening = listen(self.reactor, host, port, lambda: _Connection(self), "agi_port")
        self.port = self._listening.getHost().port

    async def stop(self) -> None:
        """Take no more calls, and leave those that there are to the dialplan."""
        await stop_listening(self._listening)
        await asyncio.gather(*(connection.ended() for connection in list(self.connections)))


def serve(
    reactor: Any, host: str, port: int, answer: Answer, *, most_calls: int = _MOST_CALLS
) -> FastAgiServer:
    """Listen for Asterisk's calls; `answer` is run for each. Raises TelephonyError."""
    server = FastAgiServer(reactor, answer, most_calls)
    server.listen(host, port)
    return server
