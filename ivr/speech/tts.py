"""Speaks sentences: piper where it is installed, pyttsx3 on espeak-ng, in processes of their own.

pyttsx3 loses queued phrases, hangs with threads and prints to standard output; so each voice is a
child process that says one phrase at a time, by deadlines that grow with the text, and is killed
and started again when it misses one. Where a voice fails before it has said anything, another says
the sentence. The only module that imports `pyttsx3`.

The child (`python -m ivr.speech.tts VOICE`) says `{"ready": true}` in a line once its voice is
loaded, reads a JSON object a line, `{"text", "language"}`, and answers with lines `{"bytes": n}`,
each followed by so many bytes of PCM, and at last `{"end": true}` or `{"error": "…"}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import tempfile
import wave
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soxr
import structlog

from ivr.config import Settings
from ivr.errors import SpeechError
from ivr.observe import VOICE_FAULTS
from ivr.ports import SAMPLE_RATE
from ivr.speech import loudness, piper
from ivr.speech.loudness import Samples
from ivr.wire.audio import pcm_from_floats

log = structlog.get_logger(__name__)

LONGEST_TEXT = 1000  # characters; a prompt is split into sentences long before that
_FIRST_SECONDS = 2.0  # from its turn until it must have begun to speak
_EACH_SECONDS = 0.01  # more for each character
_NEXT_SECONDS = 3.0  # between two pieces of a sentence
_TURN_SECONDS = 0.5  # a caller waits for a voice that is loading or busy, if another can stand in
_LAST_SECONDS = 3.0  # and if none can
_PATIENT_SECONDS = 60.0  # who renders ahead waits
_START_SECONDS = 30.0
_LEAVE_SECONDS = 2.0
_FAULTS = 2  # in a row, after which a voice rests before it is started again
_REST_SECONDS = 1.0  # and twice that after each further one
_LONGEST_REST = 60.0
_LARGEST_LINE = 1 << 16
_LARGEST_PCM = 16_000 * 180
_ATTEMPTS = 4

_ESPEAK_VOICES = {"en": "gmw/en-us", "zh": "sit/cmn", "ko": "ko"}
_WORDS_A_MINUTE = {"en": 160, "zh": 175}


class Voices:
    """Implements `ivr.ports.Synthesizer`. `command` starts a child, given the voice's name."""

    def __init__(self, settings: Settings, command: tuple[str, ...] = ()):
        self._settings = settings
        self._command = command or (sys.executable, "-m", "ivr.speech.tts")
        self._children: dict[str, _Child] = {}

    def voice(self, language: str) -> str:
        """Who speaks this language, in which edition: what would sound different has another
        name. Raises SpeechError where nobody does."""
        name = self._order(language)[0]
        edition = piper.edition() if name == "piper" else _espeak_edition()
        return f"{name} {edition}, {loudness.LOUDNESS:g} LUFS, form {loudness.FORM}"

    async def warm(self, languages: Iterable[str]) -> None:
        """Return when the voices of these languages are loaded, or cannot be: that is logged."""
        names = set()
        for language in languages:
            with contextlib.suppress(SpeechError):
                names.update(self._order(language))
        await asyncio.gather(*(self._warm(name) for name in names))

    async def speak(
        self, text: str, language: str, play: Callable[[bytes], None], *, patient: bool = False
    ) -> bool:
        """Give `play` PCM piece by piece. True if the language's own voice spoke, false if another
        stood in for it; `patient` is who would rather wait for it. Raises SpeechError where none
        could, or one stopped halfway."""
        text = speakable(text)
        if len(text) > LONGEST_TEXT:
            raise SpeechError(
                f"a text of {len(text)} characters; at most {LONGEST_TEXT} are spoken"
            )
        order = self._order(language)
        for number, name in enumerate(order if text else ()):
            begun, last = False, number == len(order) - 1
            waits = _LAST_SECONDS if last else _TURN_SECONDS

            def passed_on(pcm: bytes) -> None:
                nonlocal begun
                begun = True
                play(pcm)

            try:
                await self._child(name).speak(
                    text, language, passed_on, _PATIENT_SECONDS if patient else waits
                )
                return name == order[0]
            except SpeechError as error:
                if begun or last:
                    raise
                log.warning("a voice is stood in for", voice=name, reason=str(error))
        return True

    async def synthesize(self, text: str, language: str) -> bytes:
        pieces: list[bytes] = []
        await self.speak(text, language, pieces.append, patient=True)
        return b"".join(pieces)

    async def close(self) -> None:
        """End the children. Idempotent."""
        await asyncio.gather(*(child.close() for child in self._children.values()))

    def _order(self, language: str) -> list[str]:
        """Who is asked, one after the other; the only voice of a language gets a second try."""
        if language not in _ESPEAK_VOICES:
            known = ", ".join(_ESPEAK_VOICES)
            raise SpeechError(f"no voice for language {language!r}; there are {known}")
        wanted = self._settings.speech.voice
        if wanted != "pyttsx3" and language in piper.LANGUAGES and piper.installed():
            return ["piper", "pyttsx3"]
        return ["pyttsx3", "pyttsx3"]

    async def _warm(self, name: str) -> None:
        with contextlib.suppress(SpeechError):  # logged where it is started
            await self._child(name).ready()

    def _child(self, name: str) -> _Child:
        if name not in self._children:
            self._children[name] = _Child(name, (*self._command, name))
        return self._children[name]


@cache
def _espeak_edition() -> str:
    return version("pyttsx3")


def speakable(text: str) -> str:
    """The text without anything that a synthesiser could take for a command: it is data."""
    text = re.sub(r"\[\[|\]\]|[<>{}\\|`~^*_#=]", " ", text)
    text = "".join(one if one.isprintable() else " " for one in text)
    text = " ".join(text.replace("&", " and ").split())
    return text if any(map(str.isalnum, text)) else ""


class _Child:
    """One voice's process: started when it is needed, killed when it is late.

    A voice that fails again and again rests, so that a broken one costs no processor; meanwhile it
    refuses at once.
    """

    def __init__(self, name: str, command: tuple[str, ...]):
        self._name = name
        self._command = command
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._starting: asyncio.Task[asyncio.subprocess.Process] | None = None
        self._faults = 0
        self._rests_until = 0.0

    async def ready(self) -> asyncio.subprocess.Process:
        """The process with its voice loaded. Raises SpeechError."""
        if self._process is not None and self._process.returncode is None:
            return self._process
        if self._starting is None:
            if (rest := self._rests_until - asyncio.get_running_loop().time()) > 0:
                raise SpeechError(f"{self._name} failed too often and rests for {rest:.1f} s")
            await self._kill()
            self._starting = asyncio.ensure_future(self._start())
            self._starting.add_done_callback(self._started)
        # Shielded: who gives up waiting leaves it to start for the next.
        return await asyncio.shield(self._starting)

    async def speak(
        self, text: str, language: str, play: Callable[[bytes], None], waits: float
    ) -> None:
        """`waits` is how many seconds for its turn, and for the voice to load. Raises
        SpeechError."""
        request = json.dumps({"text": text, "language": language}) + "\n"
        loop = asyncio.get_running_loop()
        turn = loop.time() + waits
        try:
            async with asyncio.timeout_at(turn):
                await self._turn.acquire()
        except TimeoutError:
            raise SpeechError(f"{self._name} has too much to say") from None
        try:
            try:
                async with asyncio.timeout_at(turn):
                    process = await self.ready()
            except TimeoutError:
                raise SpeechError(f"{self._name} is still being started") from None
            begin = loop.time() + _FIRST_SECONDS + _EACH_SECONDS * len(text)
            async with self._answering(len(text)):
                refusal = await _ask(process, request, play, begin)
        finally:
            self._turn.release()
        if refusal:
            raise SpeechError(f"{self._name} cannot say {len(text)} characters: {refusal[:200]}")

    async def close(self) -> None:
        async with self._turn:
            if self._starting is not None:
                self._starting.cancel()
                await asyncio.gather(self._starting, return_exceptions=True)
            process = self._process
            if process is not None and process.stdin is not None:
                process.stdin.close()  # this tells it to tidy up and leave
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), _LEAVE_SECONDS)
            await self._kill()

    # --- its life --------------------------------------------------------------------------------

    @asynccontextmanager
    async def _answering(self, length: int) -> AsyncIterator[None]:
        """In the middle of an answer the next one could not be told from it: so a process whose
        answer was not read to its end is killed, and the next one started at once."""
        try:
            yield
        except TimeoutError:
            raise await self._faulted("hung", f"at {length} characters") from None
        except _FAULTS_OF_ITS as error:
            raise await self._faulted("died", f"at {length} characters: {error!r}") from None
        except BaseException:  # nobody waits for the answer any more
            await self._kill()
            raise
        self._faults = 0

    async def _faulted(self, how: str, detail: str) -> SpeechError:
        VOICE_FAULTS.labels(self._name, how).inc()
        self._faults += 1
        await self._kill()
        if (more := self._faults - _FAULTS) > 0:
            rest = min(_LONGEST_REST, _REST_SECONDS * 2 ** min(more - 1, 10))
            self._rests_until = asyncio.get_running_loop().time() + rest
        elif self._starting is None and how != "does not start":
            self._starting = asyncio.ensure_future(self._start())
            self._starting.add_done_callback(self._started)
        return SpeechError(f"{self._name} {how} {detail}")

    async def _start(self) -> asyncio.subprocess.Process:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                process_group=0,  # Ctrl-C is for the server, which ends it in its own order
            )
        except OSError as error:
            raise await self._faulted("does not start", repr(error)) from None
        try:
            async with asyncio.timeout(_START_SECONDS):
                if not (await _answer(process)).get("ready"):
                    raise ValueError("it does not say that it is ready")
        except BaseException as error:
            await _end(process)
            if isinstance(error, _FAULTS_OF_ITS):
                raise await self._faulted("does not start", repr(error)) from None
            raise
        self._process = process
        return process

    def _started(self, task: asyncio.Task[asyncio.subprocess.Process]) -> None:
        self._starting = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a voice does not start", voice=self._name, reason=str(error))

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await _end(process)


# Whatever may come of reading what a broken process writes.
_FAULTS_OF_ITS = (OSError, ValueError, LookupError, RecursionError, asyncio.IncompleteReadError)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
    # Its pipes are closed here rather than by the garbage collector after the loop is gone.
    process._transport.close()  # type: ignore[attr-defined]


async def _ask(
    process: asyncio.subprocess.Process,
    request: str,
    play: Callable[[bytes], None],
    deadline: float,
) -> str:
    """Why it cannot be said; empty when it was."""
    assert process.stdin is not None and process.stdout is not None
    loop = asyncio.get_running_loop()
    left = _LARGEST_PCM
    process.stdin.write(request.encode())
    while True:
        async with asyncio.timeout_at(deadline):
            await process.stdin.drain()
            answer = await _answer(process)
            if "bytes" not in answer:
                return "" if answer.get("end") else str(answer["error"])
            left -= (size := int(answer["bytes"]))
            if size < 0 or left < 0:
                raise ValueError(f"an answer of {size} bytes")
            pcm = await process.stdout.readexactly(size)
        play(pcm)
        deadline = loop.time() + _NEXT_SECONDS


async def _answer(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise ConnectionResetError("it ended")
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise ValueError("not an answer")
    return answer


# --- the child -----------------------------------------------------------------------------------


class _Voice(Protocol):
    def speak(self, text: str, language: str) -> Iterator[Samples]:
        """Levelled samples at the telephone's rate, as they come."""
        ...


class _Pyttsx3:
    """espeak-ng through pyttsx3: a sentence in 15 ms, and so in one piece."""

    def __init__(self, folder: Path):
        import pyttsx3
        from pyttsx3.drivers import _espeak

        self._settle = _espeak.Synchronize
        self._engine = pyttsx3.init("espeak")
        self._file = folder / "phrase.wav"

    def speak(self, text: str, language: str) -> Iterator[Samples]:
        # On a busy machine pyttsx3 now and then writes a file with nothing in it.
        for _ in range(_ATTEMPTS):
            samples = self._once(text, language)
            if samples.any():
                break
        yield loudness.trim(loudness.level(samples))

    def _once(self, text: str, language: str) -> Samples:
        self._file.unlink(missing_ok=True)
        self._engine.setProperty("voice", _ESPEAK_VOICES[language])
        self._engine.setProperty("rate", _WORDS_A_MINUTE.get(language, 165))
        self._engine.save_to_file(text, str(self._file))
        self._engine.runAndWait()
        # And it comes back before espeak's thread has written the file.
        self._settle()
        with wave.open(str(self._file)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            rate = file.getframerate()
        floats = (samples / 32768).astype(np.float32)
        return np.asarray(soxr.resample(floats, rate, SAMPLE_RATE), np.float32)


_MAKERS: dict[str, Callable[[Path], _Voice]] = {
    "pyttsx3": _Pyttsx3,
    "piper": lambda folder: piper.Piper(),
}


def serve(name: str) -> None:
    """The child's life: until standard input ends."""
    # Libraries print; what they print must not come between the answers.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.nice(5)
    with tempfile.TemporaryDirectory(prefix="hotline-voice-") as folder:
        voice = _MAKERS[name](Path(folder))
        _write(answers, {"ready": True})
        while line := sys.stdin.buffer.readline(_LARGEST_LINE):
            try:
                request = json.loads(line)
                for samples in voice.speak(request["text"], request["language"]):
                    if samples.size:
                        pcm = pcm_from_floats(samples, SAMPLE_RATE)
                        _write(answers, {"bytes": len(pcm)}, pcm)
                _write(answers, {"end": True})
            except BrokenPipeError:
                raise
            except Exception as error:  # whatever a library raises, the next phrase may work
                _write(answers, {"error": f"{type(error).__name__}: {error}"})


def _write(stream: Any, answer: dict[str, Any], after: bytes = b"") -> None:
    view = memoryview(json.dumps(answer).encode() + b"\n" + after)
    while view:
        view = view[stream.write(view) :]


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # the server was killed in mid-sentence
        serve(sys.argv[1])
