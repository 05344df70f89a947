"""A telephone line on virtual time, and a voice that a fake ear understands without an engine.

Each text is a square wave of an amplitude of its own, so that any piece of it can be told again,
and two that follow each other without a pause are heard as both.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from typing import Literal

from ivr.errors import CallGone, TelephonyError
from ivr.ports import FRAME_BYTES, FRAME_SECONDS

SILENCE = bytes(FRAME_BYTES)


class Voices:
    """`speak` and `hear` of a robot. Every text lasts `seconds`, whatever its length."""

    def __init__(self, seconds: float = 1.0):
        self.seconds = seconds
        self.expected: list[str] = []
        self.error: Exception | None = None
        self._texts: list[str] = []

    def pcm(self, text: str, seconds: float | None = None) -> bytes:
        if text not in self._texts:
            self._texts.append(text)
        level = 2000 + 100 * self._texts.index(text)
        frames = round((seconds or self.seconds) / FRAME_SECONDS)
        return struct.pack("<2h", level, -level) * (frames * FRAME_BYTES // 4)

    async def speak(self, text: str, language: str) -> bytes:
        return self.pcm(text)

    async def hear(self, pcm: bytes, expected: str) -> tuple[str, float]:
        self.expected.append(expected)
        if self.error is not None:
            raise self.error
        found: list[str] = []
        for start in range(0, len(pcm), FRAME_BYTES):
            (level,) = struct.unpack_from("<h", pcm, start)
            if level and (text := self._texts[(level - 2000) // 100]) not in found[-1:]:
                found.append(text)
        return " ".join(found), 1.0


class FakeLine:
    """An answered call whose other side is the test: `say` queues audio, `done` keeps a record."""

    state: Literal["ringing", "answered", "ended"]

    def __init__(self, voices: Voices, *, ringing: bool = False):
        self.state = "ringing" if ringing else "answered"
        self.ended_by = ""
        self.done: list[tuple[float, str]] = []
        self.on_keys: Callable[[str], None] = lambda keys: None
        self.on_speech: Callable[[str], None] = lambda text: None
        self._voices = voices
        self._queue: deque[bytes] = deque()
        self._listeners: list[Callable[[bytes], None]] = []
        self._over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.call_later(FRAME_SECONDS, self._tick)

    def say(self, text: str, seconds: float | None = None) -> None:
        self.audio(self._voices.pcm(text, seconds))

    def wait(self, seconds: float) -> None:
        self.audio(SILENCE * round(seconds / FRAME_SECONDS))

    def audio(self, pcm: bytes) -> None:
        self._queue.extend(pcm[at : at + FRAME_BYTES] for at in range(0, len(pcm), FRAME_BYTES))

    def hush(self) -> None:
        self._queue.clear()

    def end(self, by: str = "them") -> None:
        if self.state != "ended":
            self.state, self.ended_by = "ended", by
            self._over.set()

    def _tick(self) -> None:
        if self.state == "ended":
            return
        frame = self._queue.popleft() if self._queue else SILENCE
        for listener in tuple(self._listeners):
            listener(frame)
        self._loop.call_later(FRAME_SECONDS, self._tick)

    def on_frame(self, callback: Callable[[bytes], None]) -> Callable[[], None]:
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    async def answer(self) -> None:
        if self.state == "ended":
            raise CallGone("the caller gave up")
        self.state = "answered"
        self.done.append((self._loop.time(), "answered"))

    async def play(self, pcm: bytes) -> None:
        text, _ = await self._voices.hear(pcm, "")
        self.done.append((self._loop.time(), f"said {text}"))
        self.on_speech(text)
        await self._while_up(len(pcm) / FRAME_BYTES * FRAME_SECONDS)

    async def press(self, keys: str) -> None:
        self.done.append((self._loop.time(), f"pressed {keys}"))
        await self._while_up(0.18 * len(keys))
        self.on_keys(keys)

    async def hang_up(self) -> None:
        self.end("us")

    async def ended(self) -> None:
        await self._over.wait()

    async def _while_up(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            return
        raise CallGone("the call ended")


class FakePhone:
    """Connects to one line, or refuses."""

    def __init__(self, line: FakeLine, *, refusal: str = ""):
        self._line = line
        self._refusal = refusal

    async def call(self, number: str, seconds: float) -> FakeLine:
        if self._refusal:
            raise TelephonyError(f"{number} {self._refusal}")
        return self._line

    async def incoming(self, seconds: float | None) -> FakeLine:
        return self._line
