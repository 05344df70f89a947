"""One question's ear: finds utterances in a caller's audio and has each one recognised.

It costs only voice detection until somebody speaks; then one utterance is one connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import structlog
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import WebSocketException

from ivr.errors import RemoteProtocolError, SpeechError
from ivr.flow.events import Grammar
from ivr.observe import RECOGNITION
from ivr.ports import (
    FRAME_BYTES,
    FRAME_SECONDS,
    Clock,
    Heard,
    Hearing,
    Line,
    PartialHeard,
    Progress,
    SpeechEvent,
    SpeechFailed,
    SpeechStarted,
)
from ivr.speech.endpoint import Edge, Endpointer, Patience
from ivr.speech.engines import Reading
from ivr.speech.messages import (
    END,
    PEEK,
    config_message,
    joined,
    parse_message,
    parse_result,
    plain,
)
from ivr.speech.vad import VoiceDetector

log = structlog.get_logger(__name__)

_PRE_ROLL = 25  # frames from before the onset: soft first sounds
_CONNECT_SECONDS = 4.0
_ANSWER_SECONDS = 4.0
_SURE = 0.35  # below this a reading that nothing longer could match may still be half a word,
_DOUBT = 0.15  # and below this it is no reason to stop waiting for more

Connecting = AbstractAsyncContextManager[ClientConnection]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a language is recognised. `reads_ahead`: it can be asked in a pause what it has
    got so far. `judge` is told what became of each utterance, with an empty reason when it was
    answered, and on which connection, if there was one."""

    engine: str
    reads_ahead: bool
    open: Callable[[float], Connecting]  # with seconds of patience for a worker to be ready
    ready: Callable[[], bool]
    judge: Callable[[ClientConnection | None, str], None]


class Ear:
    """One question's ear: finds utterances in the frames and has each recognised."""

    def __init__(
        self,
        source: Source,
        hearing: Hearing,
        notify: Callable[[SpeechEvent], None],
        clock: Clock,
    ):
        self._source = source
        self._hearing = hearing
        self._notify = notify
        self._clock = clock
        self._detector = _detector_of(hearing.line)
        self._endpointer = Endpointer(
            Patience(hearing.complete, hearing.incomplete, hearing.longest)
        )
        self._before: deque[bytes] = deque(maxlen=_PRE_ROLL)
        self._take: _Take | None = None
        self._under_way: set[_Take] = set()
        self._closed = False

    def feed(self, frame: bytes) -> None:
        if self._closed or len(frame) != FRAME_BYTES:
            return
        voiced = self._detector.voiced(frame, self._endpointer.speaking)
        edge = self._endpointer.feed(voiced)
        if self._take is None:
            self._before.append(frame)
        else:
            self._take.audio(frame)
        if self._take is not None and voiced:
            self._take.last_voiced = self._clock.monotonic()
        match edge:
            case Edge.BEGAN:
                self._begin()
            case Edge.PAUSED if self._take is not None:
                self._take.pause()
            case Edge.RESUMED if self._take is not None:
                if self._source.reads_ahead:
                    self._endpointer.progress = "none"
                self._take.resume()
            case Edge.ENDED if self._take is not None:
                take, self._take = self._take, None
                take.end()

    def _begin(self) -> None:
        now = self._clock.monotonic()
        take = _Take(self, self._source, self._hearing.grammar, now)
        for frame in self._before:
            take.audio(frame)
        self._before.clear()
        self._take = take
        self._under_way.add(take)
        take.start()
        self._tell(SpeechStarted(now - self._endpointer.since_onset * FRAME_SECONDS))

    def close(self) -> None:
        self._closed = True
        self._take = None
        for take in self._under_way:
            take.cancel()
        self._under_way.clear()

    # --- from the utterances ---------------------------------------------------------------------

    def partial(self, take: _Take, text: str, confidence: float) -> None:
        """What an utterance sounds like so far decides how long to wait for more of it."""
        if self._closed or take is not self._take:
            return
        far: Progress = self._hearing.progress(text) if text else "none"
        if confidence < _SURE and far == "final":
            far = "full"
        if confidence < _DOUBT:
            far = "none"
        self._endpointer.progress = far
        if text:
            self._tell(PartialHeard(text))

    def over(self, take: _Take, outcome: Reading | str, seconds: float) -> None:
        """An utterance has its reading, or the reason why it has none."""
        self._under_way.discard(take)
        if self._closed:
            return
        if self._take is take:  # lost before it ended: what is still said belongs to it
            self._take = None
        if isinstance(outcome, str):
            log.warning("recogniser lost", engine=self._source.engine, reason=outcome)
            self._tell(SpeechFailed(outcome))
            return
        RECOGNITION.labels(self._source.engine).observe(seconds)
        self._tell(
            Heard(
                outcome.text,
                outcome.confidence,
                outcome.alternatives,
                self._source.engine,
                seconds,
                take.last_voiced,
            )
        )

    @property
    def secret(self) -> bool:
        return self._hearing.secret

    def now(self) -> float:
        return self._clock.monotonic()

    def _tell(self, event: SpeechEvent) -> None:
        if not self._closed:
            self._notify(event)


def _detector_of(line: Line) -> VoiceDetector:
    """The one that knows this line's noise and echo from the questions before."""
    if not isinstance(line.known, VoiceDetector):
        line.known = VoiceDetector(line.played)
    return line.known


class _Take:
    """One utterance and its connection.

    A recogniser that reads ahead gets no audio while the caller pauses: it is asked what it has got
    so far, and if nothing more is said that is the result, ready before the pause is over.
    """

    def __init__(self, ear: Ear, source: Source, grammar: Grammar, now: float):
        self._ear = ear
        self._source = source
        self._grammar = grammar
        self._outgoing: asyncio.Queue[bytes | str] = asyncio.Queue()
        self._held: list[bytes] | None = None
        self._peeks = 0  # asked for, less those that were answered
        self._glimpse: Reading | None = None
        self._ended_at: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._connection: ClientConnection | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self.last_voiced = now

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    def cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._task is not None:
            self._task.cancel()

    # --- from the ear ----------------------------------------------------------------------------

    def audio(self, frame: bytes) -> None:
        if self._held is None:
            self._outgoing.put_nowait(frame)
        else:
            self._held.append(frame)

    def pause(self) -> None:
        if self._source.reads_ahead:
            self._held = []
            self._glimpse = None
            self._peeks += 1
            self._outgoing.put_nowait(PEEK)

    def resume(self) -> None:
        held, self._held, self._glimpse = self._held or [], None, None
        if held:
            self._outgoing.put_nowait(b"".join(held))

    def end(self) -> None:
        self._ended_at = self._ear.now()
        if self._glimpse is not None:
            self._over(self._glimpse)
            return
        if self._held is None:
            self._outgoing.put_nowait(END)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(_ANSWER_SECONDS, self._over, "timeout")

    # --- to and from the recogniser --------------------------------------------------------------

    async def _run(self) -> None:
        try:
            async with self._source.open(_CONNECT_SECONDS) as connection:
                self._connection = connection
                await connection.send(config_message(self._grammar))
                sending = asyncio.create_task(self._send(connection))
                try:
                    reading = await self._receive(connection)
                finally:
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)
            self._over(reading)
        except (OSError, WebSocketException, TimeoutError):
            self._over("lost")
        except SpeechError:
            self._over("unavailable")
        except RemoteProtocolError as error:
            # The message may quote what was said.
            reason = "" if self._ear.secret else str(error)
            log.warning("recogniser misbehaves", reason=reason)
            self._over("protocol")

    async def _send(self, connection: ClientConnection) -> None:
        while True:
            message = await self._outgoing.get()
            if isinstance(message, bytes):
                parts = [message]
                while not self._outgoing.empty():
                    further = self._outgoing.get_nowait()
                    if isinstance(further, str):
                        await connection.send(b"".join(parts))
                        parts = []
                        await connection.send(further)
                    else:
                        parts.append(further)
                if parts:
                    await connection.send(b"".join(parts))
            else:
                await connection.send(message)

    async def _receive(self, connection: ClientConnection) -> Reading:
        readings: list[Reading] = []
        language = self._grammar.language
        async for raw in connection:
            message = parse_message(raw)
            if "peek" in message:
                reading = parse_result(message, language)
                self._peeks -= 1
                # An answer to an earlier pause, after which more was said, is not worth a thing.
                if self._peeks == 0 and self._held is not None:
                    if self._ended_at is not None:
                        return reading
                    self._glimpse = reading
                    self._ear.partial(self, reading.text, reading.confidence)
            elif "text" in message:
                readings.append(parse_result(message, language))
                if self._ended_at is not None and "confidence" in message:
                    break
            elif "partial" in message:
                so_far = [*(one.text for one in readings), plain(message["partial"], language)]
                text = ("" if language == "zh" else " ").join(filter(None, so_far))
                self._ear.partial(self, text, 1.0)
        if self._ended_at is None or not readings:
            raise ConnectionResetError("the recogniser closed in the middle")
        return joined(readings, language)

    def _over(self, outcome: Reading | str) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        elif self._task is None:
            return
        self._task = None
        self._source.judge(self._connection, outcome if isinstance(outcome, str) else "")
        ended = self._ended_at if self._ended_at is not None else self._ear.now()
        self._ear.over(self, outcome, max(0.0, self._ear.now() - ended))
