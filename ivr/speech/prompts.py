"""Audio for what the hotline says: a recording where there is one, else the cache, else a voice.

A prompt's text as the designer wrote it, holes included, is looked for among the recordings first
(`ivr.speech.recorded`), then the final text, then each sentence. What a voice has said once is
kept in memory and under `<state_dir>/prompts`; a sentence that is being made is heard as it comes,
by everybody who waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Protocol

import structlog

from ivr.config import Settings
from ivr.errors import SpeechError, WireError
from ivr.library import HOLE
from ivr.observe import SENTENCE
from ivr.speech import recorded
from ivr.speech.sentences import sentences
from ivr.wire.audio import read_wav, write_wav

log = structlog.get_logger(__name__)

_MEMORY_BYTES = 32 << 20
_TRIM_SHARE = 16  # the folder is looked through when so much of its limit was written
_ABANDONED = 3600.0  # seconds after which a file that was begun is no longer being written


class _Voice(Protocol):
    def voice(self, language: str) -> str: ...

    async def warm(self, languages: Iterable[str]) -> None: ...

    async def speak(
        self, text: str, language: str, play: Callable[[bytes], None], *, patient: bool = False
    ) -> bool: ...


class PromptStore:
    """Implements `ivr.ports.Prompts`. Raises SettingsError where a manifest is wrong."""

    def __init__(self, settings: Settings, voices: _Voice):
        self._voices = voices
        self._cache = PromptCache(
            settings.state_dir / "prompts", settings.speech.prompt_cache_megabytes << 20
        )
        self._recordings = recorded.load(settings.sounds_dir)
        self._making: dict[str, _Rendering] = {}
        self._warming: set[asyncio.Future[None]] = set()

    def recorded(self, text: str, language: str) -> bool:
        """Whether there is a recording for a designer's text."""
        return recorded.key(text) in self._recordings.get(language, {})

    async def render(self, text: str, language: str, template: str = "") -> AsyncIterator[bytes]:
        recordings = self._recordings.get(language, {})
        for wanted in (template, text) if recordings else ():
            if (recording := recordings.get(recorded.key(wanted))) is not None:
                yield recording
                return
        for sentence in sentences(text):
            if (recording := recordings.get(sentence)) is not None:
                yield recording
                continue
            try:
                async for pcm in self._sentence(sentence, language):
                    yield pcm
            except SpeechError as error:
                log.error("a sentence is left out", language=language, reason=str(error))

    async def prepare(
        self, texts: Iterable[tuple[str, str]], progress: Callable[[str], None]
    ) -> None:
        """Render what will be said as it stands: (text, language); of a text with holes, the
        sentences without one. A failure is logged."""
        wanted = [
            (sentence, language)
            for text, language in dict.fromkeys(texts)
            if not self.recorded(text, language)
            for sentence in sentences(text)
            if HOLE not in sentence and not self.recorded(sentence, language)
        ]
        wanted = list(dict.fromkeys(wanted))
        # Whether or not anything is to be made now: the first changing prompt must find them warm.
        languages = {language for _, language in wanted}
        self._warming.add(warming := asyncio.ensure_future(self._voices.warm(languages)))
        warming.add_done_callback(self._warming.discard)
        if not all(self._there(*each) for each in wanted):
            await warming
        for number, (sentence, language) in enumerate(wanted, 1):
            try:
                async for _ in self._sentence(sentence, language, patient=True):
                    pass
            except SpeechError as error:
                log.error("a sentence is not ready", language=language, reason=str(error))
            if number % 50 == 0 or number == len(wanted):
                progress(f"prompts: {number} of {len(wanted)} sentences")

    # --- one sentence ----------------------------------------------------------------------------

    def _there(self, sentence: str, language: str) -> bool:
        try:
            name = self._name(sentence, language)
        except SpeechError:
            return True
        return self._cache.holds(name)

    def _name(self, sentence: str, language: str) -> str:
        voice = self._voices.voice(language)
        return hashlib.sha256("\0".join((voice, language, sentence)).encode()).hexdigest()

    async def _sentence(
        self, text: str, language: str, *, patient: bool = False
    ) -> AsyncIterator[bytes]:
        """Raises SpeechError, at once or after some of it."""
        asked = time.monotonic()
        name = self._name(text, language)
        pcm = self._cache.remembered(name)
        if pcm is not None:
            SENTENCE.labels("memory").observe(time.monotonic() - asked)
            yield pcm
            return
        rendering = self._making.get(name)
        if rendering is None:
            # A task of its own, because the caller who asked first may hang up while another waits.
            rendering = self._making[name] = _Rendering()
            rendering.follow(self._make(name, text, language, rendering, patient))
        first = True
        async for pcm in rendering.pieces():
            if first:
                SENTENCE.labels(rendering.source).observe(time.monotonic() - asked)
            first = False
            yield pcm

    async def _make(
        self, name: str, text: str, language: str, rendering: _Rendering, patient: bool
    ) -> None:
        try:
            pcm = await self._cache.read(name)
            if pcm is not None:
                rendering.source = "file"
                rendering.play(pcm)
            elif await self._voices.speak(text, language, rendering.play, patient=patient):
                await self._cache.write(name, rendering.whole)
        finally:
            del self._making[name]


class _Rendering:
    """A sentence while it is made, for all who want it."""

    def __init__(self) -> None:
        self.source = "voice"
        self.task: asyncio.Task[None]
        self._pieces: list[bytes] = []
        self._more = asyncio.Event()

    @property
    def whole(self) -> bytes:
        return b"".join(self._pieces)

    def follow(self, making: Coroutine[None, None, None]) -> None:
        self.task = asyncio.ensure_future(making)
        self.task.add_done_callback(lambda _: self._wake())

    def play(self, pcm: bytes) -> None:
        self._pieces.append(pcm)
        self._wake()

    def _wake(self) -> None:
        self._more.set()
        self._more = asyncio.Event()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Those that are there, then the others as they come. Raises what the making raises."""
        sent = 0
        while True:
            while sent < len(self._pieces):
                sent += 1
                yield self._pieces[sent - 1]
            if self.task.done():
                self.task.result()
                return
            await self._more.wait()


# --- what was said before ------------------------------------------------------------------------


class PromptCache:
    """Sentences by name: the last ones in memory, the others as files, the least recently used of
    which go when there is too much. Several servers may share the folder."""

    def __init__(self, folder: Path, limit: int):
        self._folder = folder
        self._limit = limit
        self._memory: OrderedDict[str, bytes] = OrderedDict()
        self._in_memory = 0
        self._unchecked = limit  # bytes written since the folder was looked through: do it at once

    def remembered(self, name: str) -> bytes | None:
        if name in self._memory:
            self._memory.move_to_end(name)
        return self._memory.get(name)

    def holds(self, name: str) -> bool:
        """Whether it need not be made, as far as that can be seen at a glance."""
        return name in self._memory or self._file(name).exists()

    async def read(self, name: str) -> bytes | None:
        pcm = await asyncio.to_thread(_read, self._file(name))
        if pcm is not None:
            self._remember(name, pcm)
        return pcm

    async def write(self, name: str, pcm: bytes) -> None:
        if pcm:
            self._remember(name, pcm)
            await asyncio.to_thread(self._write, name, pcm)

    def _file(self, name: str) -> Path:
        return self._folder / name[:2] / f"{name}.wav"

    def _remember(self, name: str, pcm: bytes) -> None:
        self._in_memory += len(pcm) - len(self._memory.pop(name, b""))
        self._memory[name] = pcm
        while self._in_memory > _MEMORY_BYTES and len(self._memory) > 1:
            _, dropped = self._memory.popitem(last=False)
            self._in_memory -= len(dropped)

    def _write(self, name: str, pcm: bytes) -> None:
        file = self._file(name)
        # Another server may be writing the same sentence, with our process id on its machine.
        partial = file.with_suffix(f".{secrets.token_hex(8)}.part")
        try:
            # Prompts may hold names and balances: they are the hotline's own user's to read.
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)  # one that an earlier version made may be open
            file.parent.mkdir(exist_ok=True)
            with partial.open("wb") as written:
                written.write(write_wav(pcm))
                written.flush()
                os.fsync(written.fileno())  # the name must not outlive the content
            partial.replace(file)
            self._unchecked += len(pcm)
            if self._unchecked > self._limit // _TRIM_SHARE:
                self._unchecked = 0
                self._touch()
                drop_oldest(self._folder, self._limit)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            log.warning("a prompt is not cached", file=str(file), reason=error.strerror)

    def _touch(self) -> None:
        """What is played from memory is in use too."""
        for name in list(self._memory):
            with contextlib.suppress(OSError):
                os.utime(self._file(name))


def drop_oldest(folder: Path, limit: int) -> None:
    """Remove the least recently used prompts until the rest fits, and what was never finished."""
    found = []
    for file in folder.glob("*/*"):
        with contextlib.suppress(OSError):
            status = file.stat()
            if file.suffix == ".wav":
                found.append((status.st_mtime, status.st_size, file))
            elif status.st_mtime < time.time() - _ABANDONED:
                file.unlink()
    total = sum(size for _, size, _ in found)
    for _, size, file in sorted(found):
        if total <= limit:
            return
        file.unlink(missing_ok=True)
        total -= size


def _read(file: Path) -> bytes | None:
    try:
        content = file.read_bytes()
        pcm = read_wav(content)
        if content != write_wav(pcm):
            raise WireError("it is not whole")
        os.utime(file)  # its use, for `drop_oldest`
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, WireError) as error:
        log.warning("a cached prompt is made anew", file=str(file), reason=str(error))
        return None
    return pcm
