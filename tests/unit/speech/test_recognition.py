"""How an ear gets on with recognisers: ours, a stock vosk-server, and broken ones."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from websockets.asyncio.server import ServerConnection, serve

from ivr.config import Settings, SpeechSettings
from ivr.errors import SpeechError
from ivr.flow.events import Grammar
from ivr.ports import FRAME_BYTES, Heard, Hearing, Line, PartialHeard, SpeechFailed, SpeechStarted
from ivr.speech import connection as lines
from ivr.speech import ear as ears_module
from ivr.speech import load as load_module
from ivr.speech import pool as pools
from ivr.speech import recognition, remote
from ivr.speech.ear import Ear
from ivr.speech.pool import WorkerPool
from ivr.speech.recognition import Recognition
from tests.unit.speech.test_vad import pcm, vowel

WORD = pcm(vowel(0.5))
SILENCE = bytes(FRAME_BYTES * 80)
SHEDDING = {"language": "en", "state": "shedding"}
GRAMMAR = Grammar("en", ("bill", "my bill"))
Serve = Callable[[ServerConnection], Awaitable[None]]


class Clock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class Listening:
    """An ear on a recogniser at a URL, with its events."""

    def __init__(self, ears: Recognition, progress: str = "none"):
        self.events: list[Any] = []
        self._news = asyncio.Event()
        hearing = Hearing(GRAMMAR, 0.3, 1.2, lambda text: progress)
        self.ear = ears.listen(hearing, self._note)

    def _note(self, event: Any) -> None:
        self.events.append(event)
        self._news.set()

    def feed(self, sound: bytes) -> None:
        for first in range(0, len(sound) - FRAME_BYTES + 1, FRAME_BYTES):
            self.ear.feed(sound[first : first + FRAME_BYTES])

    async def until(self, kind: type[Any]) -> Any:
        async with asyncio.timeout(5):
            while not any(isinstance(one, kind) for one in self.events):
                self._news.clear()
                await self._news.wait()
        return next(one for one in self.events if isinstance(one, kind))


def tried(server: Serve) -> Serve:
    """A server that answers when it is tried, whatever it does with callers: their questions have
    phrases."""

    async def serving(connection: ServerConnection) -> None:
        config = await connection.recv()
        if "phrase_list" not in json.loads(config)["config"]:
            assert isinstance(await connection.recv(), bytes)
            assert json.loads(await connection.recv()) == {"eof": 1}
            await connection.send('{"text": ""}')
            return
        await server(connection)

    return serving


@asynccontextmanager
async def ears_at(server: Serve, reads_ahead: bool = False) -> AsyncIterator[Recognition]:
    async with serve(tried(server), "127.0.0.1", 0, compression=None) as running:
        url = f"ws://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}"
        ears = Recognition(Settings(speech=SpeechSettings(languages=("en",), url=url)), Clock())
        await ears.start(lambda line: None)
        if reads_ahead:
            served = ears._served["en"]
            served.source = replace(served.source, engine="whisper", reads_ahead=True)
        yield ears
        await ears.stop()


async def stock(connection: ServerConnection) -> None:
    """A vosk-server as published: a partial for each piece, and it closes after the result."""
    async for message in connection:
        if isinstance(message, bytes):
            await connection.send('{"partial": "my"}')
            continue
        words = [{"word": "my", "conf": 1.0}, {"word": "bill", "conf": 0.8}]
        await connection.send(json.dumps({"result": words, "text": "my bill"}))
        return


async def test_a_stock_server_will_do() -> None:
    async with ears_at(stock) as ears:
        assert ears.hears("en") and not ears.hears("zh")
        listening = Listening(ears)
        listening.feed(SILENCE + WORD)
        assert (await listening.until(PartialHeard)).text == "my"
        listening.feed(SILENCE)
        heard = await listening.until(Heard)
        listening.ear.close()
        assert (heard.text, heard.confidence) == ("my bill", 0.9)
        assert heard.engine == "vosk-server"
        assert isinstance(listening.events[0], SpeechStarted)
        whole = await ears.transcribe(WORD, GRAMMAR)
        assert whole.text == "my bill"


async def test_long_speech_comes_in_several_results() -> None:
    async def server(connection: ServerConnection) -> None:
        async for message in connection:
            if isinstance(message, str):
                await connection.send('{"text": "my bill"}')
                await connection.send('{"text": "bill"}')
                return

    async with ears_at(server) as ears:
        assert (await ears.transcribe(WORD, GRAMMAR)).text == "my bill bill"


async def test_silence_opens_no_connection() -> None:
    async def server(connection: ServerConnection) -> None:
        raise AssertionError("nobody spoke")

    async with ears_at(server) as ears:
        listening = Listening(ears)
        listening.feed(SILENCE * 4)
        listening.ear.close()
        assert listening.events == []


def result(text: str, confidence: float = 0.9, **more: Any) -> str:
    return json.dumps({"text": text, "confidence": confidence, "alternatives": [], **more})


async def test_what_is_read_in_the_pause_is_the_result() -> None:
    asked: list[str] = []

    async def server(connection: ServerConnection) -> None:
        async for message in connection:
            if isinstance(message, str):
                asked.append(next(iter(json.loads(message))))
                if asked[-1] == "peek":
                    await connection.send(result("bill", peek=1))

    async with ears_at(server, reads_ahead=True) as ears:
        listening = Listening(ears, progress="final")
        listening.feed(SILENCE + WORD + bytes(FRAME_BYTES * 15))
        await listening.until(PartialHeard)
        listening.feed(bytes(FRAME_BYTES))
        heard = listening.events[-1]
        listening.ear.close()
    assert isinstance(heard, Heard) and heard.text == "bill"
    assert asked == ["peek"]


async def test_a_reading_from_before_more_was_said_does_not_count() -> None:
    async def server(connection: ServerConnection) -> None:
        audio = 0
        async for message in connection:
            if isinstance(message, bytes):
                audio += len(message)
            elif "peek" in message:
                long = audio > 1.5 * len(WORD) + 25 * FRAME_BYTES
                await connection.send(result("my bill" if long else "my", peek=1))

    async with ears_at(server, reads_ahead=True) as ears:
        listening = Listening(ears)
        listening.feed(SILENCE + WORD + bytes(FRAME_BYTES * 20) + WORD + SILENCE)
        assert (await listening.until(Heard)).text == "my bill"
        listening.ear.close()


async def test_a_doubtful_partial_does_not_end_the_wait() -> None:
    async def server(connection: ServerConnection) -> None:
        async for message in connection:
            if isinstance(message, str) and "peek" in message:
                await connection.send(result("bill", 0.1, peek=1))

    async with ears_at(server, reads_ahead=True) as ears:
        listening = Listening(ears, progress="final")
        listening.feed(SILENCE + WORD + bytes(FRAME_BYTES * 15))
        await listening.until(PartialHeard)
        listening.feed(bytes(FRAME_BYTES * 20))
        assert not any(isinstance(one, Heard) for one in listening.events)
        listening.feed(SILENCE)
        assert (await listening.until(Heard)).confidence == 0.1
        listening.ear.close()


@pytest.mark.parametrize(("confidence", "frames"), [(0.4, 16), (0.2, 21), (0.1, 66)])
async def test_the_surer_a_reading_the_sooner_it_is_the_answer(
    confidence: float, frames: int
) -> None:
    async def server(connection: ServerConnection) -> None:
        async for message in connection:
            if isinstance(message, str) and "peek" in message:
                await connection.send(result("bill", confidence, peek=1))

    async with ears_at(server, reads_ahead=True) as ears:
        listening = Listening(ears, progress="final")
        listening.feed(SILENCE + WORD + bytes(FRAME_BYTES * 15))
        await listening.until(PartialHeard)
        silent = 15
        while not any(isinstance(one, Heard) for one in listening.events):
            listening.feed(bytes(FRAME_BYTES))
            silent += 1
        listening.ear.close()
    assert silent <= frames
    assert silent > frames - 15


async def test_what_is_known_of_a_line_is_known_at_the_next_question() -> None:
    async with ears_at(stock) as ears:
        line = Line()
        hearing = Hearing(GRAMMAR, 0.3, 1.2, lambda text: "none", line=line)
        for ear in (ears.listen(hearing, lambda event: None) for _ in range(2)):
            ear.feed(bytes(FRAME_BYTES))
            known = line.known
            ear.close()
        assert known is not None and line.known is known


async def closes(connection: ServerConnection) -> None:
    await connection.recv()


async def resets(connection: ServerConnection) -> None:
    await connection.recv()
    connection.transport.abort()


async def babbles(connection: ServerConnection) -> None:
    await connection.send("}{")
    await connection.wait_closed()


async def refuses(connection: ServerConnection) -> None:
    await connection.send('{"error": "busy"}')
    await connection.wait_closed()


async def lies(connection: ServerConnection) -> None:
    async for message in connection:
        if isinstance(message, str) and "eof" in message:
            await connection.send('{"text": "bill", "confidence": "much", "alternatives": 3}')


async def says_nothing(connection: ServerConnection) -> None:
    await connection.wait_closed()


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (closes, "lost"),
        (resets, "lost"),
        (babbles, "protocol"),
        (refuses, "protocol"),
        (lies, "protocol"),
        (says_nothing, "timeout"),
    ],
)
async def test_a_fault_costs_one_utterance(
    server: Serve, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ears_module, "_ANSWER_SECONDS", 0.2)
    async with ears_at(server) as ears:
        listening = Listening(ears)
        listening.feed(SILENCE + WORD + SILENCE)
        failed = await listening.until(SpeechFailed)
        listening.ear.close()
    assert failed.reason == reason
    assert [type(one) for one in listening.events] == [SpeechStarted, SpeechFailed]


async def test_nobody_listening_at_the_url_is_a_lost_utterance() -> None:
    settings = Settings(speech=SpeechSettings(languages=("en",), url="ws://127.0.0.1:1"))
    ears = Recognition(settings, Clock())
    await ears.start(lambda line: None)
    listening = Listening(ears)
    listening.feed(SILENCE + WORD)
    assert (await listening.until(SpeechFailed)).reason == "unavailable", "at once, not in 4 s"
    with pytest.raises(SpeechError):
        await ears.transcribe(WORD, GRAMMAR)
    with pytest.raises(SpeechError, match="no recogniser for fr"):
        await ears.transcribe(WORD, Grammar("fr"))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.01)


async def test_a_server_that_is_away_is_not_counted_on_until_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote, "_TRY_AGAIN_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"ws://127.0.0.1:{port}"
    ears = Recognition(Settings(speech=SpeechSettings(languages=("en",), url=url)), Clock())
    told: list[str] = []
    await ears.start(told.append)
    assert told == [f"nothing answers at {url}: callers use their keys until it does"]
    assert not ears.hears("en") and ears.languages == ()
    async with serve(tried(stock), "127.0.0.1", port):
        await until(lambda: ears.hears("en"))
        assert ears.languages == ("en",)
    await ears.stop()


@pytest.mark.parametrize("fault", [says_nothing, resets, closes])
async def test_a_server_that_fails_is_left_alone_until_it_has_answered_a_trial(
    fault: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ears_module, "_ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(remote, "_TRY_AGAIN_SECONDS", 0.05)
    well = True
    trials = 0

    async def server(connection: ServerConnection) -> None:
        nonlocal trials
        trials += not well
        await (tried(stock) if well else fault)(connection)

    async def utterance(ears: Recognition) -> None:
        listening = Listening(ears)
        listening.feed(SILENCE + WORD + SILENCE)
        await listening.until(SpeechFailed)
        listening.ear.close()

    async with serve(server, "127.0.0.1", 0, compression=None) as running:
        url = f"ws://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}"
        ears = Recognition(Settings(speech=SpeechSettings(languages=("en",), url=url)), Clock())
        await ears.start(lambda line: None)
        well = False
        monkeypatch.setattr(remote, "_TRIAL_SECONDS", 0.05)
        await utterance(ears)
        assert ears.hears("en"), "one lost utterance is no proof"
        await utterance(ears)
        assert not ears.hears("en") and ears.states == {"en": "dead"}
        await until(lambda: trials > 5)
        assert not ears.hears("en"), "no caller is spent on finding out"
        monkeypatch.setattr(remote, "_TRIAL_SECONDS", 4.0)
        well = True
        await until(lambda: ears.hears("en"))
        await ears.stop()


async def test_of_several_servers_those_that_answer_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        away = free.getsockname()[1]
    async with serve(tried(stock), "127.0.0.1", 0, compression=None) as running:
        there = next(iter(running.sockets)).getsockname()[1]
        url = f"ws://127.0.0.1:{away}/{{language}}, ws://127.0.0.1:{there}/{{language}}"
        ears = Recognition(Settings(speech=SpeechSettings(languages=("en",), url=url)), Clock())
        await ears.start(lambda line: None)
        assert ears.hears("en")
        for _ in range(3):
            assert (await ears.transcribe(WORD, GRAMMAR)).text == "my bill"
        await ears.stop()


async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


@pytest.mark.parametrize("greets", [True, False])
async def test_a_worker_that_accepts_and_never_answers_is_ended(
    greets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ears_module, "_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(ears_module, "_CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(pools, "_REPLACED_WITHIN", 0.0)
    monkeypatch.setattr(lines, "CONNECT_SECONDS", 0.2)
    server: Any = (
        serve(says_nothing, "127.0.0.1", 0, compression=None)
        if greets
        else asyncio.start_server(mute, "127.0.0.1", 0)
    )
    async with await server as running:
        port = next(iter(running.sockets)).getsockname()[1]
        script = f"import sys; print({port}, flush=True); sys.stdin.read()"
        program = (sys.executable, "-c", script)
        pool = WorkerPool("vosk", Path("model"), "en", 1, program)
        await pool.start()
        ears = Recognition(Settings(), Clock())
        ears.use("en", pool, "vosk")
        (hung,) = ears.worker_pids
        for _ in range(2):
            assert ears.hears("en")
            listening = Listening(ears)
            listening.feed(SILENCE + WORD + SILENCE)
            await listening.until(SpeechFailed)
            listening.ear.close()
        assert not ears.hears("en") and ears.languages == ()
        await until(lambda: ears.hears("en"))
        assert hung not in ears.worker_pids
        await ears.stop()


async def test_speech_beyond_what_recognition_can_do_is_shed_and_offered_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load_module, "CALM_SECONDS", 0.2)
    monkeypatch.setattr(recognition, "_COST", {"vosk-server": 0.4, "vosk": 0.4})
    go_on = asyncio.Event()

    async def server(connection: ServerConnection) -> None:
        async for message in connection:
            if isinstance(message, str):
                await go_on.wait()
                await connection.send(result("bill"))
                return

    async with ears_at(server) as ears:
        callers = [Listening(ears) for _ in range(10)]
        for each in callers:
            each.feed(SILENCE + WORD + SILENCE)
        turned_away = [await each.until(SpeechFailed) for each in callers[4:]]
        assert {one.reason for one in turned_away} == {"unavailable"}, "at once, for 1.6 s are full"
        assert not ears.hears("en") and ears.languages == ()
        assert ears.states == {"en": "shedding"}, "which is not dead"
        assert REGISTRY.get_sample_value("hotline_speech_state", SHEDDING) == 1
        go_on.set()
        for each in callers[:4]:
            assert (await each.until(Heard)).text == "bill", "who was let in is heard"
        await until(lambda: ears.hears("en"))
        assert ears.states == {"en": "ready"}
        assert REGISTRY.get_sample_value("hotline_speech_state", SHEDDING) == 0
        for each in callers:
            each.ear.close()


async def test_a_caller_who_hangs_up_is_no_load_any_more() -> None:
    async with ears_at(says_nothing) as ears:
        callers = [Listening(ears) for _ in range(3)]
        for each in callers:
            each.feed(SILENCE + WORD)
        load = ears._served["en"].load
        await until(lambda: load.in_hand == 3)
        for each in callers:
            each.ear.close()
        await until(lambda: load.in_hand == 0)


async def test_the_states_tell_the_language_that_is_dead_from_the_one_that_is_not() -> None:
    def only_english(connection: ServerConnection, request: Any) -> Any:
        return None if request.path == "/en" else connection.respond(404, "no such model\n")

    async with serve(tried(stock), "127.0.0.1", 0, process_request=only_english) as running:
        port = next(iter(running.sockets)).getsockname()[1]
        settings = Settings(speech=SpeechSettings(url=f"ws://127.0.0.1:{port}/{{language}}"))
        ears = Recognition(settings, Clock())
        assert ears.states == {"en": "dead", "zh": "dead"}
        await ears.start(lambda line: None)
        assert ears.states == {"en": "ready", "zh": "dead"}
        await ears.stop()


async def test_an_ear_may_be_closed_by_its_own_news() -> None:
    async with ears_at(stock) as ears:
        told: list[Any] = []
        holder: list[Ear] = []

        def note(event: Any) -> None:
            told.append(event)
            holder[0].close()

        ear = ears.listen(Hearing(GRAMMAR, 0.3, 1.2, lambda text: "none"), note)
        assert isinstance(ear, Ear)
        holder.append(ear)
        sound = SILENCE + WORD + SILENCE
        for first in range(0, len(sound), FRAME_BYTES):
            ear.feed(sound[first : first + FRAME_BYTES])
        await asyncio.sleep(0)
        assert [type(one) for one in told] == [SpeechStarted]


async def test_without_an_engine_nothing_is_heard() -> None:
    ears = Recognition(Settings(speech=SpeechSettings(engine="none")), Clock())
    await ears.start(lambda line: None)
    assert ears.languages == ()
    await ears.stop()
