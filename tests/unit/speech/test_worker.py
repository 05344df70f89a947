"""The worker speaks vosk-server's protocol, and nonsense costs one connection."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from ivr.flow.events import Grammar
from ivr.speech import worker
from ivr.speech.engines import Engine, Reading
from ivr.speech.messages import config_message
from ivr.speech.worker import Worker


class Echo:
    """An engine whose audio is UTF-8."""

    def __init__(self, reads_ahead: bool):
        self.reads_ahead = reads_ahead
        self.prepared: list[Grammar] = []

    def prepare(self, grammar: Grammar) -> None:
        self.prepared.append(grammar)

    def utterance(self, grammar: Grammar) -> EchoUtterance:
        return EchoUtterance()


class SlowReading:
    """An engine that reads one utterance at a time, each until it is let go."""

    reads_ahead = True

    def __init__(self) -> None:
        self.reading: queue.Queue[str] = queue.Queue()  # that has begun
        self.go_on = threading.Semaphore(0)

    def prepare(self, grammar: Grammar) -> None: ...

    def utterance(self, grammar: Grammar) -> SlowUtterance:
        return SlowUtterance(self)


class EchoUtterance:
    def __init__(self) -> None:
        self._pcm = b""

    def accept(self, pcm: bytes) -> str:
        self._pcm += pcm
        return self._pcm.decode()

    def read(self) -> Reading:
        return Reading(self._pcm.decode(), 0.9, (("else", 0.1),))


class SlowUtterance(EchoUtterance):
    def __init__(self, engine: SlowReading):
        super().__init__()
        self._engine = engine

    def read(self) -> Reading:
        self._engine.reading.put(self._pcm.decode())
        assert self._engine.go_on.acquire(timeout=5)
        return super().read()


@asynccontextmanager
async def served(engine: Engine) -> AsyncIterator[str]:
    async with serve(Worker(engine, "en").serve, "127.0.0.1", 0, compression=None) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


async def result(connection: ClientConnection) -> dict[str, Any]:
    """The next result; partials before it are not looked at."""
    while "text" not in (answer := json.loads(await connection.recv())):
        pass
    return dict(answer)


async def answers(connection: ClientConnection) -> list[dict[str, Any]]:
    """Everything until the worker closes."""
    found = []
    try:
        async with asyncio.timeout(5):
            while True:
                found.append(json.loads(await connection.recv()))
    except ConnectionClosed:
        return found


async def test_the_public_protocol_partials_and_a_result() -> None:
    async with served(Echo(reads_ahead=False)) as url, connect(url) as connection:
        await connection.send('{"config": {"sample_rate": 8000, "phrase_list": ["bill", "[unk]"]}}')
        await connection.send(b"my ")
        assert json.loads(await connection.recv()) == {"partial": "my "}
        await connection.send(b"bill")
        assert json.loads(await connection.recv()) == {"partial": "my bill"}
        await connection.send('{"eof": 1}')
        (last,) = await answers(connection)
    assert last["text"] == "my bill"
    assert [one["word"] for one in last["result"]] == ["my", "bill"]
    assert last["confidence"] == 0.9
    assert last["alternatives"] == [{"text": "else", "confidence": 0.1}]


async def test_each_piece_of_audio_is_answered_unless_less_is_asked_for() -> None:
    pieces = (b"my ", b"", b"", b"bill")
    async with served(Echo(reads_ahead=False)) as url:
        async with connect(url) as stock:
            await stock.send('{"config": {"sample_rate": 8000.0, "words": 1}}')
            for piece in pieces:
                await stock.send(piece)
            await stock.send('{"eof": 1}')
            assert len(await answers(stock)) == len(pieces) + 1
        async with connect(url) as ours:
            await ours.send(config_message(Grammar("en", ("my bill",))))
            for piece in pieces:
                await ours.send(piece)
            await ours.send('{"eof": 1}')
            partials = [one["partial"] for one in (await answers(ours))[:-1]]
            assert len(set(partials)) == len(partials)


async def test_one_connection_may_have_utterance_after_utterance() -> None:
    async with served(Echo(reads_ahead=False)) as url, connect(url) as connection:
        for said in (b"one", b"two"):
            await connection.send(said)
            assert json.loads(await connection.recv()) == {"partial": said.decode()}
            await connection.send('{"reset": 1}')
            assert (await result(connection))["text"] == said.decode()


async def test_a_peek_answers_and_more_may_follow() -> None:
    engine = Echo(reads_ahead=True)
    async with served(engine) as url, connect(url) as connection:
        await connection.send('{"config": {"phrases": ["a"], "word_list": ["b"]}}')
        await connection.send(b"a")
        await connection.send('{"peek": 1}')
        assert (await result(connection))["text"] == "a"
        await connection.send(b"b")
        await connection.send('{"eof": 1}')
        *_, last = await answers(connection)
    assert last["text"] == "ab" and "peek" not in last
    assert engine.prepared == [Grammar("en", ("a",), ("b",))]


async def test_no_audio_is_no_text() -> None:
    async with served(Echo(reads_ahead=True)) as url, connect(url) as connection:
        await connection.send('{"eof": 1}')
        (last,) = await answers(connection)
    assert (last["text"], last["confidence"]) == ("", 0.0)


@pytest.mark.parametrize(
    "nonsense",
    [
        "",
        "hello",
        "[]",
        '{"config": 7}',
        '{"config": {"sample_rate": 44100}}',
        '{"config": {"phrase_list": "{"}}',
        '{"config": {"phrase_list": [1]}}',
        '{"config": {"word_list": {"a": 1}}}',
    ],
)
async def test_nonsense_is_refused_in_one_line_and_the_next_is_served(nonsense: str) -> None:
    async with served(Echo(reads_ahead=True)) as url:
        async with connect(url) as connection:
            await connection.send(nonsense)
            (refusal,) = await answers(connection)
        assert "\n" not in refusal["error"]
        async with connect(url) as connection:
            await connection.send(b"fine")
            await connection.send('{"eof": 1}')
            assert (await answers(connection))[-1]["text"] == "fine"


async def test_endless_audio_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_LONGEST_AUDIO", 1000)
    async with served(Echo(reads_ahead=True)) as url, connect(url) as connection:
        await connection.send(b"a" * 600)
        await connection.send(b"a" * 600)
        (refusal,) = await answers(connection)
    assert "audio" in refusal["error"]


async def test_too_many_at_once_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Echo(reads_ahead=True)
    async with served(engine) as url, connect(url) as first, connect(url) as second:
        await first.send(b"a")
        await first.send('{"peek": 1}')
        assert (await result(first))["text"] == "a"
        monkeypatch.setattr(worker, "_MOST_WAITING", 0)
        await second.send(b"b")
        (refusal,) = await answers(second)
        monkeypatch.undo()
        await first.send('{"eof": 1}')
        assert (await answers(first))[-1]["text"] == "a"
    assert "busy" in refusal["error"]


async def begun(engine: SlowReading) -> str:
    return await asyncio.to_thread(engine.reading.get, timeout=5)


async def test_utterances_are_read_in_the_order_in_which_they_ask() -> None:
    engine = SlowReading()
    async with served(engine) as url, connect(url) as one, connect(url) as two, connect(url) as few:
        for connection, said in ((one, b"1"), (two, b"2"), (few, b"3")):
            await connection.send(said)
            await connection.send('{"eof": 1}')
            await connection.ping()  # it is read in full before the next one speaks
            await asyncio.sleep(0)
        for said in "123":
            assert await begun(engine) == said
            engine.go_on.release()
        for connection, text in ((few, "3"), (two, "2"), (one, "1")):
            assert (await result(connection))["text"] == text


@pytest.mark.parametrize("more", [0, 200], ids=["at once", "after more than a socket holds"])
async def test_what_nobody_waits_for_any_more_is_not_read(more: int) -> None:
    engine = SlowReading()
    async with served(engine) as url, connect(url) as first, connect(url) as last:
        await first.send(b"first")
        await first.send('{"eof": 1}')
        assert await begun(engine) == "first"
        async with connect(url) as leaver:
            await leaver.send(b"leaver")
            await leaver.send('{"peek": 1}')
            for _ in range(more):
                await leaver.send(bytes(320))
        await last.send(b"last")
        await last.send('{"eof": 1}')
        engine.go_on.release()
        assert await begun(engine) == "last"
        engine.go_on.release()
        assert (await result(last))["text"] == "last"


async def test_a_peek_after_which_more_was_said_is_answered_but_not_read() -> None:
    engine = SlowReading()
    async with served(engine) as url, connect(url) as first, connect(url) as second:
        await first.send(b"first")
        await first.send('{"eof": 1}')
        assert await begun(engine) == "first"
        await second.send(b"second")
        await second.send('{"peek": 1}')
        await second.send(b" thought")
        await (await second.ping())
        engine.go_on.release()
        peeked = await result(second)
        assert (peeked["text"], peeked["peek"]) == ("", True)
        await second.send('{"eof": 1}')
        assert await begun(engine) == "second thought"
        engine.go_on.release()
        assert (await result(second))["text"] == "second thought"


async def test_an_engine_that_fails_costs_one_utterance() -> None:
    class Broken(Echo):
        def utterance(self, grammar: Grammar) -> EchoUtterance:
            self.utterance = super().utterance  # type: ignore[method-assign]
            raise RuntimeError("out of memory")

    async with served(Broken(reads_ahead=True)) as url:
        async with connect(url) as connection:
            await connection.send(b"one")
            assert await answers(connection) == []
        async with connect(url) as connection:
            await connection.send(b"two")
            await connection.send('{"eof": 1}')
            assert (await answers(connection))[-1]["text"] == "two"
