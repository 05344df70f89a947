"""What every recogniser promises to a call, checked on the fake, on a stock vosk-server, on
Whisper and on Vosk; and how often the real ones are right."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from websockets.asyncio.server import ServerConnection, serve

from ivr.config import Settings, SpeechSettings
from ivr.flow.events import Grammar
from ivr.ports import (
    FRAME_BYTES,
    Heard,
    Hearing,
    PartialHeard,
    Recognizer,
    SpeechEvent,
    SpeechFailed,
    SpeechStarted,
)
from ivr.speech.recognition import Recognition
from ivr.speech.tts import Voices
from ivr.wire.audio import read_wav
from tests.fakes.speech import FakeRecognizer, fake_speech
from tests.unit.speech.test_vad import pcm, vowel

DATA = Path(__file__).parents[2].parent / "shared" / "data"
SILENCE = bytes(FRAME_BYTES * 100)
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Clock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


@dataclass
class Subject:
    """A recogniser, and how to speak to it."""

    recognizer: Recognizer
    language: str
    phrases: tuple[str, str]
    speech: dict[str, bytes]  # the two phrases, and "other": something that is neither
    lose: Callable[[], None]
    rejects: bool = True

    def hearing(self) -> Hearing:
        def progress(text: str) -> str:
            return "full" if text in self.phrases else "none"

        return Hearing(Grammar(self.language, self.phrases), 0.3, 1.2, progress)


def _settings(languages: tuple[str, ...], engine: Any = "auto") -> Settings:
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "hotline"
    return Settings(cache_dir=cache, speech=SpeechSettings(languages=languages, engine=engine))


async def _real(
    language: str, engine: Any, phrases: tuple[str, str], other: str
) -> AsyncIterator[Subject]:
    settings = _settings((language,), engine)
    recognition = Recognition(settings, Clock())
    voices = Voices(settings)
    try:
        await recognition.start(lambda line: None)
        assert recognition.hears(language), "the test extras bring this model as a package"
        said = {text: await voices.synthesize(text, language) for text in (*phrases, other)}
        said["other"] = said[other]

        def lose() -> None:
            for pid in recognition.worker_pids:
                os.kill(pid, signal.SIGKILL)

        yield Subject(recognition, language, phrases, said, lose, rejects=engine != "vosk")
    finally:
        await voices.close()
        pids = recognition.worker_pids
        await recognition.stop()
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


class StockServer:
    """A vosk-server as published: it knows nothing of what we add to its protocol, and tells no
    confidence. What was said it knows by its length."""

    def __init__(self) -> None:
        self.connections: set[ServerConnection] = set()

    async def serve(self, connection: ServerConnection) -> None:
        self.connections.add(connection)
        spoken = 0
        async for message in connection:
            if isinstance(message, bytes):
                spoken += int(np.count_nonzero(np.abs(np.frombuffer(message, "<i2")) > 500))
                await connection.send('{"partial": ""}')
                continue
            command = json.loads(message)
            assert len(command) == 1
            if "config" in command:
                assert isinstance(command["config"]["sample_rate"], int)
            elif "eof" in command:
                text = "billing" if spoken < 4500 else "repairs" if spoken < 7500 else ""
                await connection.send(json.dumps({"text": text}))
                return
            else:
                raise AssertionError(f"a stock server ends at {command}")

    def lose(self) -> None:
        for connection in self.connections:
            connection.transport.abort()


async def _stock() -> AsyncIterator[Subject]:
    server = StockServer()
    async with serve(server.serve, "127.0.0.1", 0, compression=None) as running:
        url = f"ws://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}"
        recognition = Recognition(
            Settings(speech=SpeechSettings(languages=("en",), url=url)), Clock()
        )
        await recognition.start(lambda line: None)
        lengths = {"billing": 0.6, "repairs": 1.0, "other": 1.6}
        said = {text: pcm(vowel(seconds)) for text, seconds in lengths.items()}
        yield Subject(recognition, "en", ("billing", "repairs"), said, server.lose)
        await recognition.stop()


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="session",
    params=[
        "fake",
        "stock vosk-server",
        pytest.param("whisper", marks=pytest.mark.models),
        pytest.param("vosk", marks=pytest.mark.models),
    ],
)
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "fake":
        fake = FakeRecognizer(("en",))
        said = {text: fake_speech(text) for text in ("billing", "repairs", "other")}
        yield Subject(fake, "en", ("billing", "repairs"), said, fake.lose)
    elif request.param == "stock vosk-server":
        async for one in _stock():
            yield one
    elif request.param == "whisper":
        async for one in _real("en", "whisper", ("billing", "repairs"), "my cat ate the carpet"):
            yield one
    else:
        async for one in _real("ko", "vosk", ("상담원", "안녕하세요"), "여섯"):
            yield one


class Listening:
    """An ear with its events, and a way to wait for one."""

    def __init__(self, subject: Subject):
        self.events: list[SpeechEvent] = []
        self._news = asyncio.Event()
        self.ear = subject.recognizer.listen(subject.hearing(), self._note)

    def _note(self, event: SpeechEvent) -> None:
        self.events.append(event)
        self._news.set()

    async def feed(self, pcm: bytes) -> None:
        """Much faster than on a call; only the order of frames counts."""
        for first in range(0, len(pcm) - FRAME_BYTES + 1, FRAME_BYTES):
            self.ear.feed(pcm[first : first + FRAME_BYTES])
            await asyncio.sleep(0)

    async def until(self, kind: type[Any], times: int = 1) -> Any:
        async with asyncio.timeout(30):
            while len(found := [one for one in self.events if isinstance(one, kind)]) < times:
                self._news.clear()
                await self._news.wait()
        return found[-1]

    def without_partials(self) -> list[type]:
        return [type(one) for one in self.events if not isinstance(one, PartialHeard)]


async def test_hears_its_own_language_and_no_other(subject: Subject) -> None:
    assert subject.recognizer.hears(subject.language)
    assert not subject.recognizer.hears("xx")


async def test_an_utterance_begins_and_is_understood(subject: Subject) -> None:
    listening = Listening(subject)
    before = time.monotonic()
    await listening.feed(SILENCE + subject.speech[subject.phrases[0]] + SILENCE)
    heard = await listening.until(Heard)
    listening.ear.close()
    assert listening.without_partials() == [SpeechStarted, Heard]
    assert heard.text == subject.phrases[0]
    assert 0.5 < heard.confidence <= 1
    assert heard.engine
    assert before <= heard.ended_at <= time.monotonic()


async def test_one_ear_hears_one_utterance_after_another(subject: Subject) -> None:
    listening = Listening(subject)
    for number, phrase in enumerate(reversed(subject.phrases), 1):
        await listening.feed(subject.speech[phrase] + SILENCE)
        assert (await listening.until(Heard, number)).text == phrase
    listening.ear.close()


async def test_silence_is_not_speech(subject: Subject) -> None:
    listening = Listening(subject)
    await listening.feed(SILENCE * 5)
    listening.ear.close()
    assert listening.events == []


async def test_what_fits_nothing_is_heard_as_that(subject: Subject) -> None:
    listening = Listening(subject)
    await listening.feed(SILENCE + subject.speech["other"] + SILENCE)
    heard = await listening.until(Heard)
    listening.ear.close()
    if subject.rejects:
        assert not heard.text or heard.confidence < 0.35
    else:  # Vosk's Korean model has no [unk]: it must choose, but only from what may be said
        assert heard.text in {"", *subject.phrases}


async def test_a_closed_ear_says_nothing_more(subject: Subject) -> None:
    listening = Listening(subject)
    await listening.feed(SILENCE + subject.speech[subject.phrases[0]])
    listening.ear.close()
    listening.ear.close()
    known = list(listening.events)
    await listening.feed(SILENCE)
    assert listening.events == known


async def test_frames_that_are_none_do_no_harm(subject: Subject) -> None:
    listening = Listening(subject)
    for wrong in (b"", b"\0", bytes(FRAME_BYTES - 1), bytes(FRAME_BYTES * 3)):
        listening.ear.feed(wrong)
    listening.ear.close()
    assert listening.events == []


async def test_a_lost_recogniser_costs_one_utterance(subject: Subject) -> None:
    listening = Listening(subject)
    await listening.feed(SILENCE + subject.speech[subject.phrases[0]])
    await listening.until(SpeechStarted)
    if not isinstance(subject.recognizer, FakeRecognizer):
        await asyncio.sleep(0.2)  # the connection to the worker opens meanwhile
    subject.lose()
    await listening.until(SpeechFailed)
    listening.ear.close()

    if isinstance(subject.recognizer, Recognition):
        await subject.recognizer.transcribe(  # waits for the next worker to be there
            subject.speech[subject.phrases[1]], Grammar(subject.language, subject.phrases)
        )
    again = Listening(subject)
    await again.feed(SILENCE + subject.speech[subject.phrases[1]] + SILENCE)
    assert (await again.until(Heard)).text == subject.phrases[1]
    again.ear.close()


# --- how often they are right --------------------------------------------------------------------


def _recordings(folder: str) -> list[Path]:
    found = sorted((DATA / folder).glob("*.wav"))
    if not found:
        reason = f"the recordings of {folder} are not beside the project"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def whisper() -> AsyncIterator[Recognition]:
    settings = _settings(("en", "zh"), "whisper")
    recognition = Recognition(settings, Clock())
    await recognition.start(lambda line: None)
    assert set(recognition.languages) == {"en", "zh"}
    yield recognition
    await recognition.stop()


@pytest.mark.models
async def test_spoken_english_digits_are_understood(whisper: Recognition) -> None:
    grammar = Grammar("en", DIGITS)
    files = _recordings("digits-dev")
    wrong = []
    for file in files:
        heard = await whisper.transcribe(read_wav(file.read_bytes()), grammar)
        if heard.text != DIGITS[int(file.name[0])]:
            wrong.append((file.name, heard.text))
    assert len(wrong) <= 0.03 * len(files), wrong


@pytest.mark.models
async def test_mandarin_phrases_are_told_from_seven_others(whisper: Recognition) -> None:
    files = _recordings("zh-dev")
    phrases = (DATA / "zh-dev" / "phrases.txt").read_text(encoding="utf-8").split()
    chance = random.Random(11)
    wrong = []
    for file, phrase in zip(files, phrases, strict=True):
        options = [phrase, *chance.sample([one for one in phrases if one != phrase], 7)]
        chance.shuffle(options)
        heard = await whisper.transcribe(read_wav(file.read_bytes()), Grammar("zh", tuple(options)))
        if heard.text != phrase:
            wrong.append((phrase, heard.text))
    assert len(wrong) <= 1, wrong


@pytest.mark.models
async def test_speech_outside_the_grammar_is_seldom_taken_for_something(
    whisper: Recognition,
) -> None:
    grammar = Grammar("en", ("billing", "repairs", "speak to an agent", "opening hours"))
    files = _recordings("digits-dev")[::4]
    taken = 0
    for file in files:
        heard = await whisper.transcribe(read_wav(file.read_bytes()), grammar)
        taken += heard.confidence >= 0.7 and bool(heard.text)
    assert taken <= 0.05 * len(files)


@pytest.mark.models
async def test_a_number_is_heard_digit_by_digit(whisper: Recognition) -> None:
    files = _recordings("digits-dev")
    chance = random.Random(3)
    grammar = Grammar("en", ("agent", "repeat"), DIGITS)
    right = 0
    for _ in range(10):
        digits = [chance.randrange(10) for _ in range(5)]
        speaker = chance.choice(("jackson", "theo"))
        parts = [
            read_wav(
                chance.choice(
                    [f for f in files if f.name.startswith(f"{d}_{speaker}")]
                ).read_bytes()
            )
            for d in digits
        ]
        heard = await whisper.transcribe(bytes(1600).join(parts), grammar)
        right += heard.text == " ".join(DIGITS[digit] for digit in digits)
    assert right >= 8
