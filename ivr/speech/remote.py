"""vosk-servers elsewhere: how to reach them, and which are worth asking just now.

A caller who speaks to a server that is away loses utterance after utterance; told to use the keys,
the same caller gets on. So each server has a circuit breaker, and it is tried with a question of
ours, never with a caller's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto

import structlog
from websockets.exceptions import WebSocketException

from ivr.errors import RemoteProtocolError, SpeechError
from ivr.flow.events import Grammar
from ivr.ports import SAMPLE_RATE
from ivr.speech.connection import connection_to
from ivr.speech.messages import END, config_message, parse_message

log = structlog.get_logger(__name__)

_FAILURES = 2  # in a row, after which a server is left alone
_TRY_AGAIN_SECONDS = 5.0
_TRIAL_SECONDS = 4.0
_TRIAL = bytes(SAMPLE_RATE // 5 * 2)
"""A fifth of a second of silence: it costs a server nothing, and every one has an answer to it."""


class Circuit(Enum):
    """Whether utterances go to a server: closed, they do; open, it is left alone; half open, it is
    being tried."""

    CLOSED = auto()
    OPEN = auto()
    HALF_OPEN = auto()


class Happening(Enum):
    """What may change a circuit."""

    ANSWERED = auto()
    FAILED = auto()  # as often in a row as it takes, or a trial
    RESTED = auto()


_AFTER = {
    (Circuit.CLOSED, Happening.FAILED): Circuit.OPEN,
    (Circuit.OPEN, Happening.RESTED): Circuit.HALF_OPEN,
    (Circuit.OPEN, Happening.ANSWERED): Circuit.CLOSED,  # an utterance from before
    (Circuit.HALF_OPEN, Happening.ANSWERED): Circuit.CLOSED,
    (Circuit.HALF_OPEN, Happening.FAILED): Circuit.OPEN,
}
"""What is not in it changes nothing."""


class Remote:
    """One vosk-server elsewhere."""

    def __init__(self, url: str, language: str):
        self.url = url
        self.circuit = Circuit.HALF_OPEN
        self.busy = 0  # utterances under way
        self._language = language
        self._failures = 0
        self._answered_at = 0.0
        self._trying: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when it is known whether it answers."""
        await self._try()
        if self.circuit is Circuit.OPEN:
            self._trying = asyncio.get_running_loop().create_task(self._try_again())

    async def stop(self) -> None:
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.gather(self._trying, return_exceptions=True)

    def judge(self, trouble: str, since: float) -> None:
        """Take note of what became of an utterance, for which it was asked at `since`."""
        if not trouble:
            self._answered_at = asyncio.get_running_loop().time()
            self._failures = 0
            self._happened(Happening.ANSWERED)
            return
        if trouble == "timeout" and self._answered_at > since:
            return  # it has answered others meanwhile: there is too much to do, and nothing broken
        self._failures += 1
        if self._failures >= _FAILURES:
            self._happened(Happening.FAILED)

    def _happened(self, happening: Happening) -> None:
        before, self.circuit = self.circuit, _AFTER.get((self.circuit, happening), self.circuit)
        if before is Circuit.CLOSED and self.circuit is Circuit.OPEN:
            log.error("speech server does not answer", language=self._language, url=self.url)
            if self._trying is None or self._trying.done():
                self._trying = asyncio.get_running_loop().create_task(self._try_again())
        elif before is not Circuit.CLOSED and self.circuit is Circuit.CLOSED:
            log.info("speech server answers", language=self._language, url=self.url)

    async def _try_again(self) -> None:
        while self.circuit is not Circuit.CLOSED:
            await asyncio.sleep(_TRY_AGAIN_SECONDS)
            self._happened(Happening.RESTED)
            await self._try()

    async def _try(self) -> None:
        """Ask it ourselves: one that accepts and stays mute is not there either."""
        answers = await self._answers()
        self._failures = 0
        self._happened(Happening.ANSWERED if answers else Happening.FAILED)

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(_TRIAL_SECONDS), connection_to(self.url) as connection:
                await connection.send(config_message(Grammar(self._language)))
                await connection.send(_TRIAL)
                await connection.send(END)
                async for message in connection:
                    if "text" in parse_message(message):
                        return True
        except (OSError, WebSocketException, RemoteProtocolError):
            pass
        return False


class Farm:
    """The vosk-servers of one language. Implements `ivr.speech.recognition.Workers`."""

    def __init__(self, urls: tuple[str, ...], language: str):
        self._servers = {url: Remote(url, language) for url in urls}
        self._language = language

    async def start(self) -> None:
        """Return when it is known which of them answer; none is no error."""
        await asyncio.gather(*(one.start() for one in self._servers.values()))

    async def stop(self) -> None:
        await asyncio.gather(*(one.stop() for one in self._servers.values()))

    @property
    def size(self) -> int:
        return sum(one.circuit is Circuit.CLOSED for one in self._servers.values())

    @property
    def ready(self) -> bool:
        return self.size > 0

    def judge(self, url: str, trouble: str, since: float) -> None:
        self._servers[url].judge(trouble, since)

    @asynccontextmanager
    async def worker(self, patience: float) -> AsyncIterator[str]:
        """The URL of the least busy server. Raises SpeechError when none answers just now."""
        closed = [one for one in self._servers.values() if one.circuit is Circuit.CLOSED]
        if not closed:
            raise SpeechError(f"no speech server for {self._language} answers")
        chosen = min(closed, key=lambda one: one.busy)
        chosen.busy += 1
        try:
            yield chosen.url
        finally:
            chosen.busy -= 1


def servers_for(language: str, setting: str) -> tuple[str, ...]:
    """The servers that `speech.url` names for a language: several stand behind commas, and
    `{language}` is its code."""
    urls = (url.strip().replace("{language}", language) for url in setting.split(","))
    return tuple(dict.fromkeys(filter(None, urls)))
