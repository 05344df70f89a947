"""Keeps recogniser processes alive: starts them, notices when one dies, starts another.

A worker that dies takes with it only the utterances it was hearing. One that hangs is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from ivr.errors import SpeechError

log = structlog.get_logger(__name__)

_PROGRAM = (sys.executable, "-m", "ivr.speech.worker")
_LOAD_SECONDS = 120.0
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 30.0
_GOOD_LIFE = 60.0  # seconds after which a death is not the last start's fault
_LEAVE_SECONDS = 2.0
_REPLACED_WITHIN = 4.0  # seconds, for which an utterance waits for a worker too
_UNANSWERED = 2  # utterances in a row, after which a worker is taken to hang


@dataclass(slots=True)
class _Worker:
    process: asyncio.subprocess.Process
    busy: int = 0  # utterances under way
    unanswered: int = 0
    answered_at: float = 0.0


class WorkerPool:
    """Recogniser processes for one language, all with the same model. Implements
    `ivr.speech.recognition.Workers`."""

    def __init__(
        self,
        engine: str,
        model: Path,
        language: str,
        size: int,
        program: tuple[str, ...] = _PROGRAM,
    ):
        self.engine = engine
        self._language = language
        threads = min(2, os.cpu_count() or 1)
        self._command = (
            *program,
            *("--engine", engine, "--model", str(model)),
            *("--language", language, "--threads", str(threads)),
        )
        self._size = size
        self._keepers: list[asyncio.Task[None]] = []
        self._workers: dict[str, _Worker] = {}  # those that are ready, by URL
        self._changed = asyncio.Condition()
        self._stillborn = 0
        self._replaced_by = 0.0
        self.pids: set[int] = set()

    async def start(self) -> None:
        """Return when the first worker is ready. Raises SpeechError when each one fails to load."""
        self._keepers = [asyncio.create_task(self._keep()) for _ in range(self._size)]
        try:
            await self._wait_for_one(_LOAD_SECONDS)
        except SpeechError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End every worker, and wait for that."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers = []

    @property
    def ready(self) -> bool:
        """Whether a worker is there to be spoken to, or one that died is just being replaced:
        callers need not be sent to their keys for that."""
        if self._workers:
            return True
        return not self._stillborn and asyncio.get_running_loop().time() < self._replaced_by

    @property
    def size(self) -> int:
        """Workers that are ready."""
        return len(self._workers)

    def judge(self, url: str, trouble: str, since: float) -> None:
        """Take note of what became of an utterance that was a worker's from `since` on; one that
        hangs is ended, and another started. Only silence speaks against it: an error may be the
        utterance's own, and a death is noticed anyway."""
        worker = self._workers.get(url)
        if worker is None or trouble not in ("", "timeout"):
            return
        if not trouble:
            worker.unanswered = 0
            worker.answered_at = asyncio.get_running_loop().time()
            return
        if worker.answered_at > since:
            return  # it has answered others meanwhile: it has too much to do, and does it
        worker.unanswered += 1
        if worker.unanswered >= _UNANSWERED:
            log.error("speech worker hangs", language=self._language, pid=worker.process.pid)
            self._gone(url)
            with contextlib.suppress(ProcessLookupError):
                worker.process.kill()

    @asynccontextmanager
    async def worker(self, patience: float) -> AsyncIterator[str]:
        """The URL of the least busy worker. Raises SpeechError when none is ready in time."""
        await self._wait_for_one(patience)
        url, worker = min(self._workers.items(), key=lambda one: one[1].busy)
        worker.busy += 1
        try:
            yield url
        finally:
            worker.busy -= 1

    async def _wait_for_one(self, patience: float) -> None:
        async def ready() -> None:
            async with self._changed:
                await self._changed.wait_for(lambda: self._workers or self._hopeless)

        try:
            await asyncio.wait_for(ready(), patience)
        except TimeoutError:
            ready_at_all = False
        else:
            ready_at_all = bool(self._workers)
        if not ready_at_all:
            raise SpeechError(f"no {self.engine} worker for {self._language} is ready")

    @property
    def _hopeless(self) -> bool:
        """Whether no worker has ever got ready, and each was tried."""
        return self._stillborn >= self._size

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        while True:
            born = loop.time()
            try:
                await self._live()
            except (OSError, SpeechError) as error:
                log.error("speech worker does not start", language=self._language, reason=error)
                async with self._changed:
                    self._stillborn += 1
                    self._changed.notify_all()
            pause = _FIRST_PAUSE if loop.time() - born > _GOOD_LIFE else pause
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _live(self) -> None:
        """One worker's life."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            process_group=0,  # Ctrl-C is for the server, which ends it in its own order
        )
        self.pids.add(process.pid)
        url = ""
        try:
            url = await self._ready(process)
            code = await process.wait()
            log.warning("speech worker died", language=self._language, code=code)
        finally:
            self._gone(url)
            await _end(process)
            self.pids.discard(process.pid)

    def _gone(self, url: str) -> None:
        if self._workers.pop(url, None) is not None:
            self._replaced_by = asyncio.get_running_loop().time() + _REPLACED_WITHIN

    async def _ready(self, process: asyncio.subprocess.Process) -> str:
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), _LOAD_SECONDS)
        except TimeoutError:
            raise SpeechError(f"no sign of readiness in {_LOAD_SECONDS:.0f} s") from None
        if not line.strip().isdigit():
            raise SpeechError("it ended while loading its model; see its message above")
        url = f"ws://127.0.0.1:{int(line)}"
        async with self._changed:
            self._workers[url] = _Worker(process)
            self._stillborn = 0
            self._changed.notify_all()
        return url


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        if process.stdin is not None:
            process.stdin.close()  # this tells it to leave
        try:
            await asyncio.wait_for(asyncio.shield(process.wait()), _LEAVE_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
