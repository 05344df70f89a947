"""Audio for what the hotline says: a recording where there is one, else the cache, else a voice.

`sounds/<language>/manifest.yaml` names the recordings:

    Welcome to Acme Water.: welcome.wav

A prompt's text as the designer wrote it, holes included, is looked for first, then the final text.
What a voice has said once is kept under `<state_dir>/prompts`, named by the hash of text, language
and voice; the least recently used goes when there is too much.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

import structlog
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ivr.config import Settings
from ivr.errors import SettingsError, SpeechError, WireError
from ivr.wire.audio import read_wav, write_wav

log = structlog.get_logger(__name__)

_LARGEST_MANIFEST = 1 << 20
_LARGEST_RECORDING = 32 << 20
_MEMORY_BYTES = 32 << 20
_LONGEST_SENTENCE = 300  # characters; beyond, it is cut at commas and at last anywhere
_TRIM_EVERY = 64  # new files

# Where a sentence ends: Chinese marks always, European ones before a space, so that 12.50 is whole.
_SENTENCE = re.compile(r"(?<=[。！？；])\s*|(?<=[.!?])[\"')\]]*\s+|\n+")
_CLAUSE = re.compile(r"(?<=[,;:，、：])\s*")


class _Voice(Protocol):
    def voice(self, language: str) -> str: ...

    async def synthesize(self, text: str, language: str) -> bytes: ...


class PromptStore:
    """Implements `ivr.ports.Prompts`. Raises SettingsError where a manifest is wrong."""

    def __init__(self, settings: Settings, voices: _Voice):
        self._voices = voices
        self._folder = settings.state_dir / "prompts"
        self._limit = settings.speech.prompt_cache_megabytes << 20
        self._recordings = load_recordings(settings.sounds_dir)
        self._memory: OrderedDict[str, bytes] = OrderedDict()
        self._in_memory = 0
        self._making: dict[str, asyncio.Task[bytes]] = {}
        self._written = 0

    def recorded(self, text: str, language: str) -> bool:
        """Whether there is a recording for a designer's text."""
        return _key(text) in self._recordings.get(language, {})

    async def render(self, text: str, language: str, template: str = "") -> AsyncIterator[bytes]:
        recordings = self._recordings.get(language, {})
        for wanted in (template, text):
            recording = recordings.get(_key(wanted)) if wanted else None
            if recording is not None:
                yield recording
                return
        for sentence in sentences(text):
            recording = recordings.get(_key(sentence))
            if recording is not None:
                yield recording
                continue
            try:
                pcm = await self._sentence(sentence, language)
            except SpeechError as error:
                log.error("a sentence is left out", language=language, reason=str(error))
                continue
            if pcm:
                yield pcm

    async def prepare(
        self, texts: Iterable[tuple[str, str]], progress: Callable[[str], None]
    ) -> None:
        """Render what will be said as it stands: (text, language). A failure is logged."""
        wanted = list(dict.fromkeys(texts))
        for number, (text, language) in enumerate(wanted, 1):
            async for _ in self.render(text, language):
                pass
            if number % 20 == 0 or number == len(wanted):
                progress(f"prompts: {number} of {len(wanted)}")

    # --- one sentence ----------------------------------------------------------------------------

    async def _sentence(self, text: str, language: str) -> bytes:
        voice = self._voices.voice(language)
        name = hashlib.sha256("\0".join((voice, language, text)).encode()).hexdigest()
        if name in self._memory:
            self._memory.move_to_end(name)
            return self._memory[name]
        making = self._making.get(name)
        if making is None:
            making = asyncio.ensure_future(self._make(name, text, language))
            self._making[name] = making
            making.add_done_callback(lambda _: self._making.pop(name, None))
        # Shielded, because the caller who asked first may hang up while another waits for it too.
        return await asyncio.shield(making)

    async def _make(self, name: str, text: str, language: str) -> bytes:
        file = self._folder / name[:2] / f"{name}.wav"
        pcm = await asyncio.to_thread(_read_cached, file)
        if pcm is None:
            pcm = await self._voices.synthesize(text, language)
            if pcm:
                await asyncio.to_thread(self._write, file, pcm)
        self._remember(name, pcm)
        return pcm

    def _remember(self, name: str, pcm: bytes) -> None:
        self._memory[name] = pcm
        self._in_memory += len(pcm)
        while self._in_memory > _MEMORY_BYTES and len(self._memory) > 1:
            _, dropped = self._memory.popitem(last=False)
            self._in_memory -= len(dropped)

    def _write(self, file: Path, pcm: bytes) -> None:
        try:
            # Prompts may hold names and balances: they are the hotline's own user's to read.
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)  # one that an earlier version made may be open
            file.parent.mkdir(exist_ok=True)
            partial = file.with_suffix(f".{os.getpid()}")
            partial.write_bytes(write_wav(pcm))
            partial.replace(file)
            self._written += 1
            if self._written % _TRIM_EVERY == 1:
                drop_oldest(self._folder, self._limit)
        except OSError as error:
            log.warning("a prompt is not cached", file=str(file), reason=error.strerror)


def drop_oldest(folder: Path, limit: int) -> None:
    """Remove the least recently used prompts until the rest fits."""
    found = []
    for file in folder.glob("*/*.wav"):
        with contextlib.suppress(FileNotFoundError):
            status = file.stat()
            found.append((status.st_mtime, status.st_size, file))
    total = sum(size for _, size, _ in found)
    for _, size, file in sorted(found):
        if total <= limit:
            return
        file.unlink(missing_ok=True)
        total -= size


def _read_cached(file: Path) -> bytes | None:
    try:
        pcm = read_wav(file.read_bytes())
        os.utime(file)  # its use, for `drop_oldest`
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, WireError) as error:
        log.warning("a cached prompt is made anew", file=str(file), reason=str(error))
        return None
    return pcm


def sentences(text: str) -> list[str]:
    """What can be spoken on its own, in order."""
    found: list[str] = []
    for sentence in filter(None, map(str.strip, _SENTENCE.split(text))):
        if len(sentence) <= _LONGEST_SENTENCE:
            found.append(sentence)
        else:
            found.extend(_shorter(sentence))
    return found


def _shorter(sentence: str) -> list[str]:
    parts = [""]
    for clause in _CLAUSE.split(sentence):
        joint = " " if parts[-1] and parts[-1][-1].isascii() else ""
        if len(parts[-1]) + len(clause) < _LONGEST_SENTENCE:
            parts[-1] += joint + clause
        else:
            parts.append(clause)
    return [
        part[first : first + _LONGEST_SENTENCE].strip()
        for part in parts
        for first in range(0, len(part), _LONGEST_SENTENCE)
    ]


def _key(text: str) -> str:
    return " ".join(text.split())


# --- recordings ----------------------------------------------------------------------------------


def load_recordings(sounds: Path) -> dict[str, dict[str, bytes]]:
    """PCM by language and text. Raises SettingsError that names the file and what is wrong."""
    if not sounds.is_dir():
        return {}
    return {
        manifest.parent.name: _load_manifest(manifest)
        for manifest in sorted(sounds.glob("*/manifest.yaml"))
    }


def _load_manifest(manifest: Path) -> dict[str, bytes]:
    try:
        if manifest.stat().st_size > _LARGEST_MANIFEST:
            raise SettingsError(f"{manifest}: a manifest has at most {_LARGEST_MANIFEST} bytes")
        entries = YAML(typ="safe").load(manifest.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{manifest}: {error}") from None
    except (YAMLError, RecursionError, ValueError) as error:
        raise SettingsError(f"{manifest}: not YAML: {_one_line(error)}") from None
    if not isinstance(entries, Mapping):
        raise SettingsError(f"{manifest}: must be a table of text: file.wav")
    return {
        _key(_text(manifest, text)): _load_file(manifest, text, name)
        for text, name in entries.items()
    }


def _text(manifest: Path, text: object) -> str:
    if not isinstance(text, str) or not text.strip():
        raise SettingsError(f"{manifest}: {text!r} is not a prompt's text: put it in quotes")
    return text


def _load_file(manifest: Path, text: object, name: object) -> bytes:
    where = f"{manifest}: {str(text)[:60]!r}"
    if not isinstance(name, str) or not name.endswith(".wav"):
        raise SettingsError(f"{where}: {name!r} is not the name of a .wav file")
    file = (manifest.parent / name).resolve()
    if not file.is_relative_to(manifest.parent.resolve()):
        raise SettingsError(f"{where}: {name} is outside {manifest.parent}")
    try:
        if file.stat().st_size > _LARGEST_RECORDING:
            raise SettingsError(f"{where}: {name} has more than {_LARGEST_RECORDING} bytes")
        pcm = read_wav(file.read_bytes())
    except OSError as error:
        raise SettingsError(f"{where}: {name}: {error.strerror}") from None
    except WireError as error:
        raise SettingsError(f"{where}: {name}: {error}") from None
    if not pcm:
        raise SettingsError(f"{where}: {name} has no sound in it")
    return pcm


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
