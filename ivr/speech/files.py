"""`hotline hear` and `hotline say`: the recogniser and the voice on files, as calls use them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ivr.clock import SystemClock
from ivr.config import Settings
from ivr.errors import SpeechError, WireError
from ivr.flow.events import Grammar
from ivr.ports import SAMPLE_RATE
from ivr.speech.recognition import Recognition
from ivr.speech.sentences import sentences
from ivr.speech.tts import Voices
from ivr.wire.audio import read_wav, write_wav

_LONGEST_SECONDS = 60
_LARGEST_FILE = 64 << 20
_LARGEST_LIST = 1 << 20
_MOST_PHRASES = 5000


@dataclass(frozen=True, slots=True)
class HearResult:
    """What one recording was taken for; `seconds` is how long that took."""

    file: str
    text: str
    confidence: float
    engine: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


async def hear(
    settings: Settings, wavs: Sequence[Path], phrases: Path | None, language: str
) -> AsyncIterator[HearResult]:
    """Recognise each recording. Raises SpeechError in one line that names the file."""
    grammar = Grammar(language, load_phrases(phrases) if phrases else ())
    recordings = [(wav, load_recording(wav)) for wav in wavs]
    speech = settings.speech.model_copy(update={"languages": (language,), "workers": 1})
    recognition = Recognition(settings.model_copy(update={"speech": speech}), SystemClock())
    reasons: list[str] = []
    try:
        await recognition.start(reasons.append)
        if not recognition.hears(language):
            why = reasons[-1] if reasons else "speech.engine is none"
            raise SpeechError(f"cannot hear {language}: {why}; see `hotline models list`")
        for wav, pcm in recordings:
            heard = await recognition.transcribe(pcm, grammar)
            seconds = round(heard.seconds, 3)
            yield HearResult(str(wav), heard.text, heard.confidence, heard.engine, seconds)
    finally:
        await recognition.stop()


async def say(settings: Settings, text: str, language: str, path: Path) -> None:
    """Speak a text into a WAV file. Raises SpeechError."""
    voices = Voices(settings)
    try:
        pcm = b"".join([await voices.synthesize(one, language) for one in sentences(text)])
    finally:
        await voices.close()
    if not pcm:
        raise SpeechError(f"nothing to say in {text[:40]!r}")
    try:
        await asyncio.to_thread(path.write_bytes, write_wav(pcm))
    except OSError as error:
        raise SpeechError(f"{path}: {error.strerror}") from None


def load_recording(path: Path) -> bytes:
    """Our PCM of a WAV file. Raises SpeechError that names the file."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise SpeechError(f"{path}: a recording has at most {_LARGEST_FILE >> 20} MiB")
        pcm = read_wav(path.read_bytes())
    except OSError as error:
        raise SpeechError(f"{path}: {error.strerror}") from None
    except WireError as error:
        raise SpeechError(f"{path}: {error}") from None
    if not pcm:
        raise SpeechError(f"{path}: there is no sound in it")
    seconds = len(pcm) / 2 / SAMPLE_RATE
    if seconds > _LONGEST_SECONDS:
        raise SpeechError(f"{path}: {seconds:.0f} s long; at most {_LONGEST_SECONDS} s are heard")
    return pcm


def load_phrases(path: Path) -> tuple[str, ...]:
    """What may be said, one phrase a line; empty lines and those that begin with # do not count."""
    try:
        if path.stat().st_size > _LARGEST_LIST:
            raise SpeechError(f"{path}: a list of phrases has at most {_LARGEST_LIST} bytes")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise SpeechError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SpeechError(f"{path}: not UTF-8") from None
    phrases = tuple(
        dict.fromkeys(line.strip().lower() for line in lines if line.strip() and line[0] != "#")
    )
    for number, phrase in enumerate(phrases, 1):
        if len(phrase) > 200:
            raise SpeechError(f"{path}: phrase {number} has more than 200 characters")
    if not phrases:
        raise SpeechError(f"{path}: there are no phrases in it; write one a line")
    if len(phrases) > _MOST_PHRASES:
        raise SpeechError(f"{path}: {len(phrases)} phrases; at most {_MOST_PHRASES} are taken")
    return phrases
