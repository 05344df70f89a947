"""The files of recordings, and the one thread that touches them: nobody else waits for a disk.

A recording's file can be played at any moment of its life: its header is kept true with every
second that is written, and what was never written is silence, which takes no space. It is locked
while it is written; the kernel lets go of the lock of a server that died, so that the next one can
tell its files from those of a server that lives and shares the folder.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import queue
import re
import shutil
import stat
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ivr.ports import SAMPLE_RATE
from ivr.wire.audio import WAV_HEADER_BYTES, wav_header

T = TypeVar("T")

CHANNELS = 2
SECOND_BYTES = 2 * CHANNELS * SAMPLE_RATE

_MEGABYTE = 1024 * 1024
_NAME = re.compile(r"([0-9a-f]{32})\.wav")
_PLACE = "place"
_STALE_SECONDS = 60.0


class Disk:
    """The thread that touches files, so that nobody else ever waits for a disk. It is a daemon: one
    that hangs in the kernel does not keep the process from ending."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def ask(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Do this after all that was asked before; its result or OSError."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="recordings", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def job() -> None:
            result: Any = None
            error: Exception | None = None
            try:
                result = work()
            except Exception as caught:
                error = caught
            try:
                loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:  # the loop has ended meanwhile
                return

        self._work.put(job)
        return future

    def _run(self) -> None:
        while True:
            self._work.get()()


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
        future.exception()  # seen: nobody may be waiting any more


@dataclass(frozen=True, slots=True)
class Finished:
    """A file as it was left."""

    seconds: float
    size: int
    sha256: str


class RecordingFile:
    """One recording's file, in the disk's thread. It can be played at any moment: its header is
    kept true, and what was not written is silence."""

    def __init__(self, path: Path, keep_free: int):
        self._path = path
        self._keep_free = keep_free
        self._descriptor = -1
        self._size = 0

    def write(self, at: int, samples: bytes) -> None:
        """Raises OSError."""
        if shutil.disk_usage(self._path.parent).free < self._keep_free + len(samples):
            raise OSError(errno.ENOSPC, "too little space is left on the disk")
        if self._descriptor < 0:
            self._make()
        _write(self._descriptor, samples, WAV_HEADER_BYTES + at)
        self._size = max(self._size, at + len(samples))
        _write(self._descriptor, wav_header(CHANNELS, self._size), 0)

    def _make(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def finish(self) -> Finished | None:
        """Close it; None if nothing was ever written. Raises OSError."""
        if self._descriptor < 0:
            return None
        try:
            return _finished(self._descriptor)
        finally:
            os.close(self._descriptor)
            self._descriptor = -1


def _write(descriptor: int, content: bytes, at: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, at)
        content, at = content[written:], at + written


def _finished(descriptor: int) -> Finished:
    """Make the header fit what there is, have it on the disk, and take its measure."""
    size = max(0, os.fstat(descriptor).st_size - WAV_HEADER_BYTES)
    size -= size % (2 * CHANNELS)
    os.ftruncate(descriptor, WAV_HEADER_BYTES + size)
    _write(descriptor, wav_header(CHANNELS, size), 0)
    os.fsync(descriptor)
    digest = hashlib.sha256()
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        while piece := file.read(_MEGABYTE):
            digest.update(piece)
    return Finished(size / SECOND_BYTES, WAV_HEADER_BYTES + size, digest.hexdigest())


def mended(path: Path) -> Finished | None:
    """A file that a server which died has left; None while its server lives. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _finished(descriptor)
    except BlockingIOError:
        return None
    finally:
        os.close(descriptor)


def replace(path: Path, content: bytes, keep_free: int) -> None:
    """Write a whole file, or none. Raises OSError."""
    if shutil.disk_usage(path.parent).free < keep_free + len(content):
        raise OSError(errno.ENOSPC, "too little space is left on the disk")
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(part, flags, 0o600)
    try:
        _write(descriptor, content, 0)
        os.fsync(descriptor)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def place_of(folder: Path) -> str:
    """The name of a folder, which it keeps when it is moved or mounted elsewhere; made when it is
    new. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / _PLACE
    if not file.exists():
        fresh = folder / f"{_PLACE}-{uuid.uuid4().hex}"
        fresh.write_text(uuid.uuid4().hex)
        try:
            os.link(fresh, file)  # whoever is first names it
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return file.read_text()[:32]


def files_in(folder: Path) -> dict[str, os.stat_result]:
    """What there is by id; nothing that is not ours."""
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            name = _NAME.fullmatch(entry.name)
            if name is not None and stat.S_ISREG(
                (about := entry.stat(follow_symlinks=False)).st_mode
            ):
                found[name[1]] = about
    return found


def drop_parts(folder: Path) -> None:
    """Delete what a crash left of files that were to be written whole. Raises OSError."""
    for part in folder.glob("*.part"):
        if time.time() - part.stat().st_mtime > _STALE_SECONDS:
            part.unlink(missing_ok=True)
