"""The recogniser port: callers' speech goes out to worker processes, or to a vosk-server elsewhere.

Which recogniser hears which language is decided at start. What is lost on the way (a worker, an
answer) is told as `SpeechFailed` for that utterance alone, and everything has a deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Literal, Protocol

import structlog
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import WebSocketException

from ivr.config import Settings
from ivr.errors import RemoteProtocolError, SpeechError
from ivr.flow.events import Grammar
from ivr.observe import SPEECH_SHED, SPEECH_STATE
from ivr.ports import (
    SAMPLE_RATE,
    Clock,
    Heard,
    Hearing,
    Listener,
    SpeechEvent,
)
from ivr.speech import models, vad
from ivr.speech.connection import RecognizerConnection, connection_to
from ivr.speech.ear import Ear, Source
from ivr.speech.engines import Reading
from ivr.speech.load import Load
from ivr.speech.messages import END, config_message, joined, parse_message, parse_result
from ivr.speech.pool import WorkerPool
from ivr.speech.remote import Farm, servers_for
from ivr.speech.vad import trim

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 0.05
_WATCH_SECONDS = 0.5
_FILE_SECONDS = 90.0


State = Literal["ready", "shedding", "dead"]
"""How a language fares: offered to callers, not offered because it cannot keep up, or away."""

STATES: tuple[State, ...] = ("ready", "shedding", "dead")

_OURS = ("whisper", "vosk")
"""Engines behind our own worker, which can be asked in a pause; a stock vosk-server cannot."""

_COST = {"whisper": 0.4, "vosk": 0.05, "vosk-server": 0.05}
"""Seconds of a worker that an utterance takes after its end, until that is measured."""


class Workers(Protocol):
    """Recognisers of one language: processes of ours, or servers elsewhere."""

    @property
    def ready(self) -> bool:
        """Whether callers may be asked to speak."""
        ...

    @property
    def size(self) -> int:
        """How many take utterances now."""
        ...

    def worker(self, patience: float) -> AbstractAsyncContextManager[str]:
        """The URL of the least busy one. Raises SpeechError when none is ready in time."""
        ...

    def judge(self, url: str, trouble: str, since: float) -> None:
        """Take note of what became of an utterance that was asked about at `since`: `timeout`,
        `lost`, `protocol`, or "" when it was answered."""
        ...

    async def stop(self) -> None: ...


class Recognition:
    """Implements `ivr.ports.Recognizer`."""

    def __init__(self, settings: Settings, clock: Clock):
        self._settings = settings
        self._clock = clock
        self._served: dict[str, _Served] = {}

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that are understood just now."""
        return tuple(language for language in self._served if self.hears(language))

    @property
    def states(self) -> dict[str, State]:
        """How each language of the settings fares."""
        speech = self._settings.speech
        wanted = () if speech.engine == "none" else speech.languages
        return {language: self._state(language) for language in (*wanted, *self._served)}

    def _is(self, language: str, state: State) -> bool:
        return self._state(language) == state

    def _state(self, language: str) -> State:
        served = self._served.get(language)
        return "dead" if served is None else served.state

    @property
    def worker_pids(self) -> frozenset[int]:
        """The worker processes of now, for diagnostics and tests."""
        pools = (one.workers for one in self._served.values())
        return frozenset(p for pool in pools if isinstance(pool, WorkerPool) for p in pool.pids)

    async def start(self, progress: Callable[[str], None]) -> None:
        """Start what the settings ask for; a language without a recogniser is told, not raised."""
        speech = self._settings.speech
        if speech.engine == "none":
            return
        await asyncio.to_thread(vad.prepare)
        for language in speech.languages:
            for state in STATES:
                SPEECH_STATE.labels(language, state).set_function(
                    partial(self._is, language, state)
                )
        start = self._reach if speech.url else self._start
        try:
            await asyncio.gather(*(start(one, progress) for one in speech.languages))
        except BaseException:
            await self.stop()
            raise

    async def _reach(self, language: str, progress: Callable[[str], None]) -> None:
        urls = servers_for(language, self._settings.speech.url)
        farm = Farm(urls, language)
        self.use(language, farm, "vosk-server")
        await farm.start()
        shown = ", ".join(urls)
        if farm.ready:
            progress(f"{language} is recognised at {shown}")
        else:
            progress(f"nothing answers at {shown}: callers use their keys until it does")

    async def _start(self, language: str, progress: Callable[[str], None]) -> None:
        loop = asyncio.get_running_loop()

        def tell(line: str) -> None:
            loop.call_soon_threadsafe(progress, line)

        model = await asyncio.to_thread(models.obtain, self._settings, language, tell)
        path = None if model is None else models.path_of(self._settings, model)
        if model is None or path is None:
            progress(f"no recogniser for {language}: callers use their keys")
            log.warning("no recogniser", language=language)
            return
        progress(f"loading {model.name}")
        pool = WorkerPool(model.engine, path, language, self._settings.speech.workers)
        self.use(language, pool, model.engine)
        try:
            await pool.start()
        except SpeechError as error:
            progress(f"no recogniser for {language}: {error}")
            log.error("no recogniser", language=language, reason=str(error))
            del self._served[language]
            return
        progress(f"{language} is recognised by {model.name}")

    def use(self, language: str, workers: Workers, engine: str) -> None:
        """Have a language recognised by these, which are ended in `stop`."""
        self._served[language] = _Served(language, engine, workers)

    async def stop(self) -> None:
        """End the workers."""
        served, self._served = self._served, {}
        await asyncio.gather(*(one.stop() for one in served.values()))

    def hears(self, language: str) -> bool:
        """Whether somebody is there who understands a language now, and keeps up: a worker may have
        died, and every caller may be speaking."""
        return self._state(language) == "ready"

    def listen(self, hearing: Hearing, notify: Callable[[SpeechEvent], None]) -> Listener:
        served = self._served.get(hearing.grammar.language)
        if served is None:
            raise SpeechError(f"no recogniser for {hearing.grammar.language}")
        return Ear(served.source, hearing, notify, self._clock)

    async def transcribe(self, pcm: bytes, grammar: Grammar) -> Heard:
        """What a whole recording is, silence around it aside. Raises SpeechError."""
        served = self._served.get(grammar.language)
        if served is None:
            raise SpeechError(f"no recogniser for {grammar.language}: see `hotline models list`")
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(_FILE_SECONDS), served.open(_FILE_SECONDS) as connection:
                await connection.send(config_message(grammar))
                spoken = trim(pcm)
                for first in range(0, len(spoken), SAMPLE_RATE):
                    await connection.send(spoken[first : first + SAMPLE_RATE])
                await connection.send(END)
                reading = await _final(connection, grammar.language)
        except (OSError, TimeoutError, WebSocketException, RemoteProtocolError) as error:
            raise SpeechError(f"recogniser: {error or type(error).__name__}") from None
        now = self._clock.monotonic()
        return Heard(
            reading.text, reading.confidence, reading.alternatives, served.engine, now - began, now
        )


class _Served:
    """One language, the recognisers that serve it, and whether they keep up."""

    def __init__(self, language: str, engine: str, workers: Workers):
        self.engine = engine
        self.workers = workers
        self.load = Load(lambda: workers.size, _COST.get(engine, _COST["vosk"]))
        self.source = Source(
            engine, engine in _OURS, self._admit, lambda: workers.ready, self._judge
        )
        self._language = language
        self._shedding = False
        self._watching: asyncio.TimerHandle | None = None

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        await self.workers.stop()

    @property
    def state(self) -> State:
        if not self.workers.ready:
            return "dead"
        return "shedding" if self._look() else "ready"

    def _look(self) -> bool:
        """Whether speech is shed. While it is, this is looked at every so often, so that the log
        has the moment when it ends."""
        loop = asyncio.get_running_loop()
        shedding = self.load.shedding(loop.time())
        if shedding != self._shedding:
            self._shedding = shedding
            figures = {
                "language": self._language,
                "in_hand": self.load.in_hand,
                "seconds_an_utterance": round(self.load.seconds, 2),
            }
            if shedding:
                SPEECH_SHED.labels(self._language).inc()
                log.warning("speech is shed: new questions are asked by keys alone", **figures)
            else:
                log.info("speech is offered again", **figures)
        if shedding and self._watching is None:
            self._watching = loop.call_later(_WATCH_SECONDS, self._look_again)
        return shedding

    def _look_again(self) -> None:
        self._watching = None
        self._look()

    @asynccontextmanager
    async def _admit(self, wait: float) -> AsyncIterator[ClientConnection]:
        """A connection for a caller's utterance. Raises SpeechError at once when there are more
        before it than it can wait for."""
        takes = self.load.takes()
        self._look()
        if not takes:
            raise SpeechError(f"recognition of {self._language} does not keep up")
        async with self.open(wait) as connection:
            yield connection

    @asynccontextmanager
    async def open(self, wait: float) -> AsyncIterator[RecognizerConnection]:
        """A connection for an utterance, with seconds of patience for a worker to be ready."""
        work = self.load.utterance()
        try:
            async with AsyncExitStack() as held:
                connection = await self._connect(held, wait)
                connection.work = work
                yield connection
        finally:
            work.over(asyncio.get_running_loop().time())
            self._look()

    async def _connect(self, held: AsyncExitStack, wait: float) -> RecognizerConnection:
        loop = asyncio.get_running_loop()
        latest = loop.time() + wait
        while True:
            asked = loop.time()
            url = await held.enter_async_context(self.workers.worker(latest - asked))
            try:
                return await held.enter_async_context(connection_to(url))
            except (OSError, WebSocketException) as error:
                # This one hangs, or is away and nobody knows it yet.
                hangs = isinstance(error, TimeoutError)
                self.workers.judge(url, "timeout" if hangs else "lost", asked)
                await held.aclose()
                if loop.time() > latest:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)

    def _judge(self, connection: ClientConnection | None, trouble: str) -> None:
        # One that could not be opened has been judged already.
        if isinstance(connection, RecognizerConnection):
            self.workers.judge(connection.url, trouble, connection.asked_at)


async def _final(connection: ClientConnection, language: str) -> Reading:
    """What comes after the end of the audio. A stock server cuts long speech into several results
    and closes after the last; ours sends one and marks it with a confidence."""
    readings: list[Reading] = []
    async for raw in connection:
        message = parse_message(raw)
        if "text" in message and "peek" not in message:
            readings.append(parse_result(message, language))
            if "confidence" in message:
                break
    if not readings:
        raise RemoteProtocolError("the recogniser closed without a result")
    return joined(readings, language)
