"""The audio of all calls: AudioSocket connections from Asterisk, and one 20 ms clock for all.

Every leg gets a frame at every tick, silence when nothing plays: Asterisk sends RTP only for what
it gets from us, and telephones, gateways and recorders take gaps for a dead call. One clock for all
is cheaper than a timer each, and its lateness is the health of the whole.
"""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import structlog
from twisted.internet.protocol import Protocol

from ivr.errors import RemoteProtocolError
from ivr.observe import AUDIO_SOCKETS, TICK_LATE
from ivr.ports import FRAME_BYTES, FRAME_SECONDS
from ivr.telephony.listening import listen, stop_listening
from ivr.wire.audiosocket import (
    HANG_UP,
    PACKED_FRAME_BYTES,
    SILENCE,
    AudioReceived,
    AudioSocketEvent,
    AudioSocketReader,
    Failed,
    Identified,
    KeyPressed,
    pack,
)

log = structlog.get_logger(__name__)

_IDENTIFY_SECONDS = 5.0
_FAREWELL_SECONDS = 2.0
_MOST_LEGS = 1000
_SHORTEST_TICK = 0.005
"""After a late tick the next ones come this close until the clock is caught up: no bursts."""
_LONGEST_CATCHING_UP = 0.5
_SEND_BUFFER = 16 * 1024
_FRAMES_REFUSED = 100
"""A peer that takes nothing for this many ticks (2 s) is dropped."""
_KEYS_KEPT = 32
_GAP_SECONDS = 0.06
_SILENT = bytes(FRAME_BYTES)
_ECHO_FRAMES = 30
_HEADER_BYTES = PACKED_FRAME_BYTES - FRAME_BYTES


class AudioLeg:
    """One call's audio and keys, both ways. All callbacks run on the event loop.

    Prompts (`play`) follow each other without a gap; music (`loop`) is heard whenever no prompt is.
    """

    def __init__(self, wire: Any, farewell: Callable[[], None]) -> None:
        self._wire = wire
        self._farewell = farewell
        self._socket: socket.socket = wire.getHandle()
        self._prompts: deque[bytes] = deque()
        self._at = 0
        self._carry = b""
        self._music = b""
        self._music_at = 0
        self._left: deque[bytes] = deque(maxlen=_ECHO_FRAMES)
        self._sounding = False
        self._rest = b""
        self._refused = 0
        self._heard = b""
        self._hearing = True
        self._heard_at = 0.0
        self._early_keys = ""
        self._closed = False
        self._frame: Callable[[bytes], None] | None = None
        self._key: Callable[[str], None] | None = None
        self._drained: Callable[[], None] | None = None
        self._started: Callable[[float], None] | None = None
        self._gone: Callable[[], None] | None = None
        self._sent: Callable[[bytes], None] | None = None

    # --- to the caller ---------------------------------------------------------------------------

    @property
    def playing(self) -> bool:
        """Whether any of what was given to `play` is still to be heard."""
        return self._sounding or bool(self._prompts) or bool(self._carry)

    def play(self, pcm: bytes) -> None:
        """Append to the prompts. Of any length: pieces of a stream join without a click."""
        if self._carry:
            pcm = self._carry + pcm
        odd = len(pcm) % FRAME_BYTES
        if len(pcm) > odd:
            self._prompts.append(pack(pcm[:-odd] if odd else pcm))
        self._carry = pcm[-odd:] if odd else b""

    def loop(self, pcm: bytes) -> None:
        """Play music over and over, beneath the prompts, until `stop`."""
        self._music = _packed(pcm)
        self._music_at = 0

    def stop(self) -> None:
        """Silence, from the next frame on. `on_drained` is not told."""
        self._prompts.clear()
        self._at = 0
        self._carry = self._music = b""
        self._sounding = False

    def played(self) -> bytes:
        """What left for the caller in the last 600 ms, which is how late an echo may come."""
        return b"".join(frame[_HEADER_BYTES:] for frame in self._left)

    def hang_up(self) -> None:
        """End the audio; the call itself goes on in AGI. Idempotent."""
        if not self._closed:
            self._wire.write(self._rest + HANG_UP)
            self._rest = b""
            self._farewell()
            self.lose()

    @property
    def closed(self) -> bool:
        return self._closed

    # --- from the caller, each told to one callback ----------------------------------------------

    def on_frame(self, callback: Callable[[bytes], None]) -> None:
        """Every 320 bytes from the caller; silence while their telephone saves it (DTX), so that
        time passes for who listens."""
        self._frame = callback

    def on_key(self, callback: Callable[[str], None]) -> None:
        """Every key from the caller, those pressed before this included."""
        self._key = callback
        keys, self._early_keys = self._early_keys, ""
        for key in keys:
            callback(key)

    def on_drained(self, callback: Callable[[], None]) -> None:
        """The last prompt has been heard to its end."""
        self._drained = callback

    def on_started(self, callback: Callable[[float], None]) -> None:
        """The first sample of a prompt after silence has left, at this monotonic time."""
        self._started = callback

    def on_closed(self, callback: Callable[[], None]) -> None:
        """The connection is gone, by whomever. Told at once if it is already."""
        self._gone = callback
        if self._closed:
            callback()

    def on_sent(self, callback: Callable[[bytes], None] | None) -> None:
        """Every frame that leaves, packed as it goes on the wire: one a tick, silence too."""
        self._sent = callback

    # --- the clock and the connection ------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Send the next frame. It is a matter of microseconds, for it runs 50 times a second."""
        if self._hearing:
            self._hearing = False
            self._heard_at = now
        elif now - self._heard_at >= _GAP_SECONDS and self._frame is not None and not self._closed:
            self._frame(_SILENT)
        prompts = self._prompts
        if not prompts and self._carry:
            prompts.append(pack(self._carry + bytes(len(self._carry) % 2)))
            self._carry = b""
        if prompts:
            at = self._at
            packed = prompts[0]
            self._send(packed[at : at + PACKED_FRAME_BYTES])
            at += PACKED_FRAME_BYTES
            if at >= len(packed):
                prompts.popleft()
                at = 0
            self._at = at
            if not self._sounding:
                self._sounding = True
                if self._started is not None:
                    self._started(now)
            return
        if self._music:
            at = self._music_at
            self._send(self._music[at : at + PACKED_FRAME_BYTES])
            at += PACKED_FRAME_BYTES
            self._music_at = at if at < len(self._music) else 0
        else:
            self._send(SILENCE)
        if self._sounding:
            self._sounding = False
            if self._drained is not None:
                self._drained()

    def _send(self, frame: bytes) -> None:
        # Straight to the socket: Twisted's write would register with epoll for every frame, which
        # costs five times as much. A frame that cannot be sent now is worth nothing later.
        if self._closed:
            return
        self._left.append(frame)
        if self._sent is not None:
            self._sent(frame)
        wanted = self._rest + frame if self._rest else frame
        try:
            sent = self._socket.send(wanted)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the connection's end is reported by Twisted
        if sent == len(wanted):
            self._rest = b""
            self._refused = 0
            return
        # The stream must stay in frames: one that was begun is finished first the next time.
        begun = len(self._rest)
        self._rest = self._rest[sent:] if sent <= begun else wanted[sent:]
        self._refused = 0 if sent else self._refused + 1
        if self._refused > _FRAMES_REFUSED:
            log.error("audio connection dropped: Asterisk does not read")
            self._wire.abortConnection()

    def receive(self, pcm: bytes) -> None:
        """Audio from the caller, in pieces of any size."""
        self._hearing = True
        if self._frame is None:
            return
        if len(pcm) == FRAME_BYTES and not self._heard:
            self._frame(pcm)
            return
        heard = self._heard + pcm
        whole = len(heard) - len(heard) % FRAME_BYTES
        self._heard = heard[whole:]
        for at in range(0, whole, FRAME_BYTES):
            self._frame(heard[at : at + FRAME_BYTES])

    def press(self, key: str) -> None:
        """A key from the caller."""
        if self._key is not None:
            self._key(key)
        elif len(self._early_keys) < _KEYS_KEPT:
            self._early_keys += key

    def lose(self) -> None:
        """The connection is gone."""
        if not self._closed:
            self._closed = True
            self.stop()
            if self._gone is not None:
                self._gone()


@lru_cache(maxsize=4)
def _packed(pcm: bytes) -> bytes:
    """Music is long, and the same for every caller."""
    return pack(pcm)


class _Connection(Protocol):
    """One connection from Asterisk, until it has said which call it is, and then that call's."""

    def __init__(self, server: AudioServer):
        self._server = server
        self._reader = AudioSocketReader()
        self._leg: AudioLeg | None = None
        self._late: Any = None

    @property
    def _wire(self) -> Any:
        return self.transport

    def connectionMade(self) -> None:  # noqa: N802
        if len(self._server.connections) >= self._server.most_legs:
            log.error("audio connection refused: too many", most=self._server.most_legs)
            self._wire.abortConnection()
            return
        self._server.connections.add(self)
        AUDIO_SOCKETS.inc()
        self._wire.setTcpNoDelay(True)
        self._wire.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._late = self._server.reactor.callLater(_IDENTIFY_SECONDS, self._too_late)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        try:
            for event in self._reader.receive_data(data):
                if self._leg is None:
                    self._identify(event)
                elif isinstance(event, AudioReceived):
                    self._leg.receive(event.pcm)
                elif isinstance(event, KeyPressed):
                    self._leg.press(event.key)
                else:
                    if isinstance(event, Failed):
                        log.warning("asterisk reports an audio error", code=event.code)
                    self._leg.hang_up()
        except RemoteProtocolError as error:
            self._refuse(str(error))

    def connectionLost(self, reason: Any = None) -> None:  # noqa: N802
        if self in self._server.connections:
            self._server.connections.remove(self)
            AUDIO_SOCKETS.dec()
        self._in_time()
        if self._leg is not None:
            self._server.legs.discard(self._leg)
            self._leg.lose()

    def end(self) -> None:
        """The server goes away."""
        if self._leg is not None:
            self._leg.hang_up()
        else:
            self._wire.abortConnection()

    def _identify(self, event: AudioSocketEvent) -> None:
        if not isinstance(event, Identified):
            raise RemoteProtocolError("AudioSocket: the first frame is not the call's identity")
        awaiting = self._server.expected.pop(event.id, None)
        if awaiting is None or awaiting.done():
            raise RemoteProtocolError(f"AudioSocket: nobody expects the call {event.id}")
        self._in_time()
        self._leg = AudioLeg(self._wire, self._await_close)
        self._server.add(self._leg)
        awaiting.set_result(self._leg)

    def _await_close(self) -> None:
        # Asterisk closes when it is told to hang up. Were we first, with its audio still unread,
        # TCP would reset the connection and the application would fail instead of end.
        self._in_time()
        self._late = self._server.reactor.callLater(_FAREWELL_SECONDS, self._drop)

    def _drop(self) -> None:
        self._late = None
        self._wire.abortConnection()

    def _refuse(self, reason: str) -> None:
        log.error("audio connection refused", peer=str(self._wire.getPeer()), error=reason)
        self._wire.abortConnection()

    def _too_late(self) -> None:
        self._late = None
        self._refuse("AudioSocket: no identity in time")

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class AudioServer:
    """The listening side and the clock. `port` is the port in use, also when 0 was asked for."""

    def __init__(self, reactor: Any, *, most_legs: int = _MOST_LEGS):
        self.reactor = reactor
        self.most_legs = most_legs
        self.port = 0
        self.connections: set[_Connection] = set()
        self.legs: set[AudioLeg] = set()
        self.expected: dict[uuid.UUID, asyncio.Future[AudioLeg]] = {}
        self._listening: Any = None
        self._due = 0.0
        self._next: Any = None

    def listen(self, host: str, port: int) -> None:
        """Raises TelephonyError when the port is taken."""
        self._listening = listen(self.reactor, host, port, lambda: _Connection(self), "audio_port")
        self.port = self._listening.getHost().port

    async def stop(self) -> None:
        """Close the port and all legs."""
        await stop_listening(self._listening)
        for connection in list(self.connections):
            connection.end()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def expect(self, call: uuid.UUID, timeout: float) -> asyncio.Future[AudioLeg]:
        """Await the connection of one call; from this moment on it is let in. Raises TimeoutError.

        Cancelling the future withdraws the invitation.
        """
        awaiting: asyncio.Future[AudioLeg] = asyncio.get_running_loop().create_future()
        self.expected[call] = awaiting
        late = self.reactor.callLater(timeout, _expire, awaiting, timeout)

        def settled(_: asyncio.Future[AudioLeg]) -> None:
            self.expected.pop(call, None)
            if late.active():
                late.cancel()

        awaiting.add_done_callback(settled)
        return awaiting

    # --- the clock -------------------------------------------------------------------------------

    def add(self, leg: AudioLeg) -> None:
        """Feed a leg from the next tick on. The clock stands still while there is none."""
        self.legs.add(leg)
        if self._next is None:
            self._due = self.reactor.seconds()
            self._next = self.reactor.callLater(0, self._tick)

    def _tick(self) -> None:
        self._next = None
        if not self.legs:
            return
        now = self.reactor.seconds()
        late = now - self._due
        TICK_LATE.observe(max(0.0, late))
        for leg in tuple(self.legs):
            try:
                leg.tick(now)
            except Exception as error:  # one call's fault is not the others'
                log.exception("a leg's callback failed", error=str(error))
        self._due += FRAME_SECONDS
        if late > _LONGEST_CATCHING_UP:
            self._due = now + FRAME_SECONDS
        wait = self._due - self.reactor.seconds()
        self._next = self.reactor.callLater(max(wait, _SHORTEST_TICK), self._tick)


def _expire(awaiting: asyncio.Future[AudioLeg], seconds: float) -> None:
    if not awaiting.done():
        awaiting.set_exception(TimeoutError(f"Asterisk sent no audio within {seconds:g} s"))
