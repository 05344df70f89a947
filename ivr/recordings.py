"""Recordings and voice messages: their files, their rows, and their end when the retention is over.

A recording must never cost a call anything. Files are written by a thread of their own, from a
queue whose size is bounded: when the disk is slow, seconds are missing from a recording (silence
stands for them, so that the rest keeps its time); when it fails, the recording ends, an operator is
told, and the call goes on.

A file is named by its row's id and by nothing of the caller's, and is ours alone to read. Its row
is committed before it is made, and deleted after it: whatever a crash leaves is found by `sweep`.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import structlog

from ivr import disk
from ivr.config import RecordingSettings
from ivr.disk import Disk, Finished, RecordingFile
from ivr.errors import HotlineError, StoreError
from ivr.model import Recording, TimelineEntry
from ivr.observe import RECORDING_FAILURES, RECORDINGS
from ivr.ports import SAMPLE_RATE, Clock
from ivr.store.repo import Store
from ivr.wire.audio import WAV_HEADER_BYTES, write_wav

log = structlog.get_logger(__name__)

CALL, MESSAGE = "call", "message"

MOST_WAITING = 64 * 1024 * 1024
"""Bytes that may wait for the disk, those of all calls together: ten seconds of 200 calls."""

PATIENCE_SECONDS = 5.0
"""How long somebody waits for the disk: a caller who has left a message, or who wants to hear."""

SWEEP_SECONDS = 3600.0

_KEEP_FREE = 512 * 1024 * 1024
"""Bytes of the disk that recordings leave alone: the database may be on the same."""

_MOST_AT_ONCE = 500
_QUIET_SECONDS = 30.0
_NEW_SECONDS = 60.0
_CLOSE_SECONDS = 5.0
_MEGABYTE = 1024 * 1024


class Track:
    """One recording that is being made. Nothing of it ever raises or waits."""

    def __init__(self, archive: Recordings, row: Recording, file: RecordingFile):
        self._archive = archive
        self._row = row
        self._file = file
        self._failed = False
        self._late = False

    def write(self, at: int, samples: bytes) -> None:
        """Stereo samples that begin `at` so many bytes after the beginning."""
        if self._failed:
            return
        if not self._archive.reserve(len(samples)):
            if not self._late:
                self._late = True
                self._archive.fall_behind()
            return
        writing = self._archive.disk.ask(lambda: self._file.write(at, samples))
        writing.add_done_callback(lambda done: self._written(done, len(samples)))

    def _written(self, done: asyncio.Future[None], size: int) -> None:
        self._archive.release(size, kept=not done.exception())
        if (error := done.exception()) is not None and not self._failed:
            self._failed = True
            self._tell("disk", str(error))
        elif self._archive.full and not self._failed:
            self._failed = True
            self._tell("quota", "recording.quota_megabytes is used up")

    def _tell(self, reason: str, error: str) -> None:
        RECORDING_FAILURES.labels(reason).inc()
        log.error("recording is not whole", recording=self._row.id, reason=reason, error=error)

    def end(self) -> None:
        """The call is over: the rest is done by itself."""
        self._archive.finish(self._row, self._file)


class Recordings:
    """All recordings of this server's folder."""

    def __init__(
        self,
        store: Store,
        folder: Path,
        settings: RecordingSettings,
        clock: Clock,
        *,
        keep_free: int = _KEEP_FREE,
    ):
        self.disk = Disk()
        self._store = store
        self._folder = folder
        self._settings = settings
        self.clock = clock
        self._keep_free = keep_free
        self._place = ""
        self._used = 0
        self._waiting = 0
        self._behind_since = -math.inf
        self._open: set[str] = set()
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def settings(self) -> RecordingSettings:
        return self._settings

    async def close(self) -> None:
        """Finish what is being written, if the disk lets us in time; a `sweep` does it else."""
        if self._ending:
            await asyncio.wait(set(self._ending), timeout=_CLOSE_SECONDS)

    # --- making ----------------------------------------------------------------------------------

    async def begin(self, conversation_id: str, leg_id: str) -> Track | None:
        """A recording of a call; None, and an error in the log, where there can be none."""
        row = await self._row(uuid.uuid4().hex, conversation_id, leg_id, CALL)
        if row is None:
            return None
        self._open.add(row.id)
        RECORDINGS.inc()
        return Track(self, row, RecordingFile(self._path(row.id), self._keep_free))

    async def keep_message(
        self, conversation_id: str, leg_id: str, name: str, pcm: bytes, seconds: float
    ) -> str:
        """Keep a voice message; its reference, "" (and an error in the log) if that fails. The same
        name in a conversation again takes the place of the first."""
        reference = hashlib.sha256(f"{conversation_id} {name}".encode()).hexdigest()[:32]
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                row = await self._row(reference, conversation_id, leg_id, MESSAGE)
                if row is None:
                    return ""
                content = write_wav(pcm)
                path = self._path(row.id)
                await self.disk.ask(lambda: disk.replace(path, content, self._keep_free))
                self._used += len(content)
                digest = hashlib.sha256(content).hexdigest()
                await self._store.finish_recording(row.id, "kept", seconds, len(content), digest)
        except TimeoutError:
            return self._lost("slow", conversation_id, "the disk does not answer")
        except OSError as error:
            return self._lost("disk", conversation_id, str(error))
        except StoreError as error:
            return self._lost("database", conversation_id, str(error))
        return reference

    def _lost(self, reason: str, conversation_id: str, error: str) -> str:
        RECORDING_FAILURES.labels(reason).inc()
        log.error("not recorded", conversation=conversation_id, reason=reason, error=error)
        return ""

    async def _row(
        self, recording_id: str, conversation_id: str, leg_id: str, kind: str
    ) -> Recording | None:
        """The committed beginning of a recording."""
        try:
            place = await self._known_place()
            if self.full:
                self._lost("quota", conversation_id, "recording.quota_megabytes is used up")
                return None
            now = self.clock.now()
            row = Recording(recording_id, conversation_id, leg_id, kind, place, now)
            await self._store.begin_recording(row)
        except OSError as error:
            self._lost("disk", conversation_id, str(error))
            return None
        except StoreError as error:
            self._lost("database", conversation_id, str(error))
            return None
        return row

    async def _known_place(self) -> str:
        if not self._place:
            self._place = await self.disk.ask(lambda: disk.place_of(self._folder))
            self._used = await self._store.recorded_bytes(self._place)
        return self._place

    # --- what tracks ask -------------------------------------------------------------------------

    def reserve(self, size: int) -> bool:
        """Room for so many bytes in the queue for the disk."""
        if self._waiting + size > MOST_WAITING:
            return False
        self._waiting += size
        return True

    def fall_behind(self) -> None:
        """One more recording has a gap: said once for all of them, and counted."""
        RECORDING_FAILURES.labels("slow").inc()
        now = self.clock.monotonic()
        if now - self._behind_since > _QUIET_SECONDS:
            self._behind_since = now
            log.error("the disk does not keep up: recordings have gaps", folder=str(self._folder))

    def release(self, size: int, *, kept: bool) -> None:
        self._waiting -= size
        self._used += size if kept else 0

    @property
    def full(self) -> bool:
        return self._used >= self._settings.quota_megabytes * _MEGABYTE

    def finish(self, row: Recording, file: RecordingFile) -> None:
        """Close a file and write what has become of it. The same again changes nothing."""
        if row.id in self._open:
            self._open.discard(row.id)
            RECORDINGS.dec()
            task = asyncio.ensure_future(self._finish(row, file.finish))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _finish(self, row: Recording, measure: Callable[[], Finished | None]) -> None:
        try:
            done = await self.disk.ask(measure)
            if done is None:
                await self._store.forget_recordings([row.id])
                return
            state, seconds = "kept", round(done.seconds, 2)
            await self._store.finish_recording(row.id, state, seconds, done.size, done.sha256)
            body = {"reference": row.id, "seconds": seconds}
            entry = TimelineEntry(row.conversation_id, self.clock.now(), "call_recorded", body)
            await self._store.append([entry])
        except (OSError, HotlineError) as error:  # the next sweep takes it up
            log.error("recording not finished", recording=row.id, error=str(error))

    # --- hearing ---------------------------------------------------------------------------------

    def _path(self, recording_id: str) -> Path:
        return self._folder / f"{recording_id}.wav"

    async def file(self, recording: Recording) -> Path | None:
        """Where it can be read; None while it is written, when it is lost, or in another folder."""
        path = self._path(recording.id)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                here = recording.place == await self._known_place() and recording.state == "kept"
                return path if here and await self.disk.ask(path.is_file) else None
        except (OSError, StoreError):  # a disk that does not answer is an OSError too
            return None

    # --- keeping house ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep house for ever."""
        while True:
            try:
                await self.sweep()
            except (OSError, HotlineError) as error:
                RECORDING_FAILURES.labels("sweep").inc()
                log.error("recordings not swept", folder=str(self._folder), error=str(error))
            await asyncio.sleep(SWEEP_SECONDS)

    async def sweep(self) -> None:
        """Delete what is past its retention, mend what a crash has left, and find files without a
        row and rows without a file. Raises OSError, StoreError."""
        place = await self._known_place()
        await self._expire(place)
        for row in await self._store.recordings_in(place, "open"):
            if row.id not in self._open:
                await self._mend(row)
        await self.disk.ask(lambda: disk.drop_parts(self._folder))
        files = await self.disk.ask(lambda: disk.files_in(self._folder))
        kept = {row.id for row in await self._store.recordings_in(place, "kept")}
        for lost in sorted(kept - files.keys()):
            log.error("a recording's file is gone", recording=lost)
            await self._store.finish_recording(lost, "lost")
        strays = [one for one in files.keys() - kept if await self._store.recording(one) is None]
        await self._drop_strays({one: files[one] for one in strays})
        self._used = sum(files[one].st_size for one in files.keys() - set(strays))

    @property
    def _retention(self) -> timedelta:
        return timedelta(days=self._settings.retention_days)

    async def _expire(self, place: str) -> None:
        while True:
            before = self.clock.now() - self._retention
            rows = await self._store.recordings_before(place, before, _MOST_AT_ONCE)
            for row in rows:
                path = self._path(row.id)
                await self.disk.ask(partial(path.unlink, missing_ok=True))
            if rows:
                await self._store.forget_recordings(row.id for row in rows)
                log.info("recordings deleted after their retention", count=len(rows))
            if len(rows) < _MOST_AT_ONCE:
                return

    async def _mend(self, row: Recording) -> None:
        """A row that was left open: by a server that died, or by one that lives beside us."""
        path = self._path(row.id)
        try:
            if row.kind == MESSAGE:
                content = await self.disk.ask(path.read_bytes)
                digest = hashlib.sha256(content).hexdigest()
                seconds = max(0, len(content) - WAV_HEADER_BYTES) / (2 * SAMPLE_RATE)
                await self._store.finish_recording(row.id, "kept", seconds, len(content), digest)
            elif (done := await self.disk.ask(lambda: disk.mended(path))) is not None:
                await self._store.finish_recording(
                    row.id, "kept", round(done.seconds, 2), done.size, done.sha256
                )
                log.warning("recording of an earlier run mended", recording=row.id)
        except FileNotFoundError:
            if (self.clock.now() - row.started_at).total_seconds() > _NEW_SECONDS:
                await self._store.finish_recording(row.id, "lost")
        except OSError as error:
            log.error("recording not mended", recording=row.id, error=str(error))

    async def _drop_strays(self, strays: dict[str, os.stat_result]) -> None:
        """Files that no row knows: nobody can hear them, and they are deleted when a recording of
        their age would be."""
        old = time.time() - self._retention.total_seconds()
        for stray, about in strays.items():
            if about.st_mtime < old:
                path = self._path(stray)
                await self.disk.ask(partial(path.unlink, missing_ok=True))
        if strays:
            log.warning("recordings without a row", count=len(strays), folder=str(self._folder))
