"""The worker speaks vosk-server's protocol, and nonsense costs one connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from ivr.flow.events import Grammar
from ivr.speech import worker
from ivr.speech.engines import Reading
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


class EchoUtterance:
    def __init__(self) -> None:
        self._pcm = b""

    def accept(self, pcm: bytes) -> str:
        self._pcm += pcm
        return self._pcm.decode()

    def read(self) -> Reading:
        return Reading(self._pcm.decode(), 0.9, (("else", 0.1),))


@asynccontextmanager
async def served(engine: Echo) -> AsyncIterator[str]:
    async with serve(Worker(engine, "en").serve, "127.0.0.1", 0, compression=None) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


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
        await connection.send(b"bill")
        await connection.send('{"eof": 1}')
        first, second, last = await answers(connection)
    assert first == {"partial": "my "}
    assert second == {"partial": "my bill"}
    assert last["text"] == "my bill"
    assert [one["word"] for one in last["result"]] == ["my", "bill"]
    assert last["confidence"] == 0.9
    assert last["alternatives"] == [{"text": "else", "confidence": 0.1}]


async def test_a_peek_answers_and_more_may_follow() -> None:
    engine = Echo(reads_ahead=True)
    async with served(engine) as url, connect(url) as connection:
        await connection.send('{"config": {"phrases": ["a"], "word_list": ["b"]}}')
        await connection.send(b"a")
        await connection.send('{"peek": 1}')
        assert json.loads(await connection.recv())["text"] == "a"
        await connection.send(b"b")
        await connection.send('{"eof": 1}')
        (last,) = await answers(connection)
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
        assert json.loads(await first.recv())["text"] == "a"
        monkeypatch.setattr(worker, "_MOST_WAITING", 0)
        await second.send(b"b")
        (refusal,) = await answers(second)
        monkeypatch.undo()
        await first.send('{"eof": 1}')
        assert (await answers(first))[-1]["text"] == "a"
    assert "busy" in refusal["error"]
