"""The recogniser port: callers' speech goes out to worker processes, or to a vosk-server elsewhere.

Which recogniser hears which language is decided at start. What is lost on the way (a worker, an
answer) is told as `SpeechFailed` for that utterance alone, and everything has a deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import WebSocketException

from ivr.config import Settings
from ivr.errors import RemoteProtocolError, SpeechError
from ivr.flow.events import Grammar
from ivr.ports import (
    SAMPLE_RATE,
    Clock,
    Heard,
    Hearing,
    Listener,
    SpeechEvent,
)
from ivr.speech import models
from ivr.speech.ear import Ear, Source
from ivr.speech.engines import Reading
from ivr.speech.messages import END, config_message, joined, parse_message, parse_result
from ivr.speech.pool import WorkerPool
from ivr.speech.remote import Remote, connection_to
from ivr.speech.vad import trim

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 0.05
_FILE_SECONDS = 90.0


class Recognition:
    """Implements `ivr.ports.Recognizer`."""

    def __init__(self, settings: Settings, clock: Clock):
        self._settings = settings
        self._clock = clock
        self._pools: dict[str, WorkerPool] = {}
        self._sources: dict[str, Source] = {}
        self._remote: Remote | None = None

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that are understood just now."""
        return tuple(language for language in self._sources if self.hears(language))

    @property
    def worker_pids(self) -> frozenset[int]:
        """The worker processes of now, for diagnostics and tests."""
        return frozenset(pid for pool in self._pools.values() for pid in pool.pids)

    async def start(self, progress: Callable[[str], None]) -> None:
        """Start what the settings ask for; a language without a recogniser is told, not raised."""
        speech = self._settings.speech
        if speech.engine == "none":
            return
        if speech.url:
            self._remote = remote = Remote(speech.url)
            source = Source(
                "vosk-server",
                False,
                lambda _: connection_to(speech.url),
                lambda: remote.ready,
                lambda _, trouble: remote.judge(trouble),
            )
            self._sources = dict.fromkeys(speech.languages, source)
            await remote.start()
            if remote.ready:
                progress(f"speech is recognised at {speech.url}")
            else:
                progress(f"nothing answers at {speech.url}: callers use their keys until it does")
            return
        try:
            await asyncio.gather(*(self._start(one, progress) for one in speech.languages))
        except BaseException:
            await self.stop()
            raise

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
        self._pools[language] = pool
        try:
            await pool.start()
        except SpeechError as error:
            progress(f"no recogniser for {language}: {error}")
            log.error("no recogniser", language=language, reason=str(error))
            del self._pools[language]
            return
        self.use(language, pool, model.engine)
        progress(f"{language} is recognised by {model.name}")

    def use(self, language: str, pool: WorkerPool, engine: str) -> None:
        """Have a language recognised by the workers of a pool, which are ended in `stop`."""
        self._pools[language] = pool
        self._sources[language] = Source(
            engine,
            engine == "whisper",
            lambda wait: _pooled(pool, wait),
            lambda: pool.ready,
            lambda connection, trouble: _judge(pool, connection, trouble),
        )

    async def stop(self) -> None:
        """End the workers."""
        pools, self._pools, self._sources = self._pools, {}, {}
        if self._remote is not None:
            await self._remote.stop()
        await asyncio.gather(*(pool.stop() for pool in pools.values()))

    def hears(self, language: str) -> bool:
        """Whether somebody is there who understands a language now; a worker may have died."""
        source = self._sources.get(language)
        return source is not None and source.ready()

    def listen(self, hearing: Hearing, notify: Callable[[SpeechEvent], None]) -> Listener:
        source = self._sources.get(hearing.grammar.language)
        if source is None:
            raise SpeechError(f"no recogniser for {hearing.grammar.language}")
        return Ear(source, hearing, notify, self._clock)

    async def transcribe(self, pcm: bytes, grammar: Grammar) -> Heard:
        """What a whole recording is, silence around it aside. Raises SpeechError."""
        source = self._sources.get(grammar.language)
        if source is None:
            raise SpeechError(f"no recogniser for {grammar.language}: see `hotline models list`")
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(_FILE_SECONDS), source.open(_FILE_SECONDS) as connection:
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
            reading.text, reading.confidence, reading.alternatives, source.engine, now - began, now
        )


@asynccontextmanager
async def _pooled(pool: WorkerPool, wait: float) -> AsyncIterator[ClientConnection]:
    loop = asyncio.get_running_loop()
    latest = loop.time() + wait
    async with AsyncExitStack() as held:
        while True:
            try:
                url = await held.enter_async_context(pool.worker(latest - loop.time()))
                connection = await held.enter_async_context(connection_to(url))
                break
            except (OSError, WebSocketException) as error:
                # This worker hangs, or has died and the pool does not know it yet.
                if isinstance(error, TimeoutError):
                    pool.judge(url, answered=False)
                await held.aclose()
                if loop.time() > latest:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
        yield connection


def _judge(pool: WorkerPool, connection: ClientConnection | None, trouble: str) -> None:
    """Only silence speaks against a worker: an error may be the utterance's own."""
    if connection is not None and trouble in ("", "timeout"):
        pool.judge(f"ws://127.0.0.1:{connection.remote_address[1]}", answered=not trouble)


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
