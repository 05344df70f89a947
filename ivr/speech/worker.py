"""A recogniser in a process of its own: native code may end it, and then nothing else stops.

    python -m ivr.speech.worker --engine whisper --model DIR --language en

prints the port it listens on and serves the WebSocket protocol of the public vosk-server: first
`{"config": {"sample_rate": 8000, "phrase_list": […]}}`, then audio as binary messages, then
`{"eof": 1}`; answers are `{"partial": …}` to each piece of audio and, last,
`{"text": …, "result": [{"conf": …}]}`. `{"reset": 1}` is an end after which another one may begin.
What only this server knows, a stock one ignores:

- `phrases` and `word_list` in the configuration, where `phrase_list` is both together;
- `quiet` in it: a partial is sent only when it has changed, not for each piece;
- `confidence` and `alternatives` (`[{"text", "confidence"}]`) in a result;
- `{"peek": 1}`: answer with the result as it would be if the audio ended here, marked `"peek"`.

Whoever closes the connection wants no answer any more: what still waits to be decoded for it is not
decoded. Utterances take turns, a step at a time, in the order in which they ask.

It ends when its standard input does, and so with its parent however that died.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import structlog
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from ivr.errors import HotlineError, RemoteProtocolError
from ivr.flow.events import Grammar
from ivr.ports import SAMPLE_RATE
from ivr.speech.engines import Engine, Reading, Utterance
from ivr.speech.messages import parse_config, result_message

T = TypeVar("T")

log = structlog.get_logger(__name__)

_NICENESS = 5  # recognition may take all that is left, never what the calls' clocks need
_MOST_WAITING = 32
_LONGEST_AUDIO = 90 * SAMPLE_RATE * 2
_LARGEST_MESSAGE = 1 << 20
_MOST_MESSAGES = 6000  # of one connection, unread; more than its audio has in frames of 20 ms


def load(engine: str, model: Path, language: str, threads: int) -> Engine:
    """Raises SpeechError, or whatever the engine's library raises for a model it cannot use."""
    if engine == "vosk":
        from ivr.speech.vosk import VoskEngine

        return VoskEngine(model, language)
    from ivr.speech.whisper import WhisperEngine

    return WhisperEngine(model, language, threads)


class Worker:
    """Serves one engine to many connections, one decoding at a time."""

    def __init__(self, engine: Engine, language: str):
        self._engine = engine
        self._language = language
        self._thread = ThreadPoolExecutor(1)
        self._waiting = 0

    async def serve(self, connection: ServerConnection) -> None:
        """One connection, which is one utterance."""
        # Read all the time, or a connection that is closed would not be known to be.
        inbox: asyncio.Queue[bytes | str] = asyncio.Queue()
        conversing = asyncio.create_task(self._converse(connection, inbox))
        taken = 0
        try:
            async for message in connection:
                taken += len(message)
                if taken > _LONGEST_AUDIO or inbox.qsize() >= _MOST_MESSAGES:
                    raise RemoteProtocolError(f"more than {_LONGEST_AUDIO} bytes of audio")
                inbox.put_nowait(message)
        except ConnectionClosed:
            pass
        except RemoteProtocolError as error:
            await _refuse(connection, error)
        finally:
            conversing.cancel()
            await asyncio.gather(conversing, return_exceptions=True)

    async def _converse(
        self, connection: ServerConnection, inbox: asyncio.Queue[bytes | str]
    ) -> None:
        try:
            await self._recognise(connection, inbox)
            await connection.close()
        except ConnectionClosed:
            pass
        except RemoteProtocolError as error:
            await _refuse(connection, error)
        except Exception:
            log.exception("an utterance cannot be recognised")
            await connection.close(1011)

    async def _recognise(
        self, connection: ServerConnection, inbox: asyncio.Queue[bytes | str]
    ) -> None:
        grammar = Grammar(self._language)
        utterance: Utterance | None = None
        shown = ""
        quiet = False
        following: bytes | str | None = None
        while True:
            message = await inbox.get() if following is None else following
            following = None
            if isinstance(message, bytes):
                parts = [message]
                while following is None and not inbox.empty():
                    further = inbox.get_nowait()
                    if isinstance(further, bytes):
                        parts.append(further)
                    else:
                        following = further
                if utterance is None:
                    utterance = await self._decode(self._engine.utterance, grammar)
                if self._engine.reads_ahead:
                    partial = utterance.accept(b"".join(parts))
                else:
                    partial = await self._decode(utterance.accept, b"".join(parts))
                # Stock clients await an answer to each piece before they send the next one.
                for _ in range(int(partial != shown) if quiet else len(parts)):
                    await connection.send(json.dumps({"partial": partial}, ensure_ascii=False))
                shown = partial
                continue
            command = _command(message)
            if "config" in command:
                grammar = parse_config(command, self._language)
                quiet = command["config"].get("quiet") is True
                await self._decode(self._engine.prepare, grammar)
            elif command.keys() & {"peek", "reset", "eof"}:
                peek = "peek" in command
                reading = Reading("", 0.0)
                if utterance is not None:
                    wanted = inbox.empty if peek else _always
                    reading = await self._decode(_read, utterance, wanted)
                await connection.send(result_message(reading, peek=peek))
                if "eof" in command:
                    return
                if "reset" in command:
                    utterance, shown = None, ""

    async def _decode(self, call: Callable[..., T], *args: Any) -> T:
        """Have it done by the engine's thread in its turn. Cancelled before, it never is."""
        if self._waiting >= _MOST_WAITING:
            raise RemoteProtocolError("busy: too many utterances wait for this recogniser")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)
        finally:
            self._waiting -= 1


def _read(utterance: Utterance, wanted: Callable[[], bool]) -> Reading:
    """What was asked in a pause, after which more was said, is not worth the time by now."""
    return utterance.read() if wanted() else Reading("", 0.0)


def _always() -> bool:
    return True


async def _refuse(connection: ServerConnection, error: RemoteProtocolError) -> None:
    with contextlib.suppress(ConnectionClosed):
        await connection.send(json.dumps({"error": str(error)}))
        await connection.close()


def _command(message: str) -> dict[str, Any]:
    try:
        command = json.loads(message)
    except ValueError:
        command = None
    if not isinstance(command, dict):
        raise RemoteProtocolError(f"not a JSON object: {message[:80]!r}")
    return command


async def _until_parent_ends() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while await reader.read(4096):
        pass


async def run(engine: Engine, language: str, host: str, port: int) -> None:
    """Serve until standard input ends; the port goes to standard output."""
    worker = Worker(engine, language)
    async with serve(
        worker.serve, host, port, max_size=_LARGEST_MESSAGE, compression=None
    ) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)  # noqa: T201
        await _until_parent_ends()
    os._exit(0)  # a decoding that is still under way need not be waited for


def main() -> None:
    parser = argparse.ArgumentParser(prog="ivr.speech.worker", description=__doc__)
    parser.add_argument("--engine", choices=("vosk", "whisper"), required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--language", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()
    os.nice(_NICENESS)
    try:
        engine = load(args.engine, args.model, args.language, args.threads)
    except HotlineError as error:
        raise SystemExit(str(error)) from None
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(engine, args.language, args.host, args.port))


if __name__ == "__main__":
    main()
