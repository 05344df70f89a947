"""A conversation in memory around one voice leg: its flow, prompts, ears and recordings.

Every text is a steady sound of its own, one that µ-law carries exactly: whatever way audio takes to
a caller or from one, each frame of it tells which text it is of.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Any

from ivr.config import RecordingSettings
from ivr.flow import engine, loader
from ivr.flow.events import Event, Started
from ivr.ports import (
    FRAME_BYTES,
    FRAME_SECONDS,
    Heard,
    Hearing,
    LegPort,
    Listener,
    SpeechEvent,
    SpeechStarted,
)
from ivr.wire.audio import ulaw_to_pcm
from tests.virtual import EPOCH

SECONDS = 1.0
"""How long a prompt takes, whatever it says."""

MUSIC = "(music)"
TONE = "(another sound)"
SILENCE = bytes(FRAME_BYTES)
_FIRST_CODE = 0x90
_texts: list[str] = [MUSIC]


def sound(text: str, seconds: float = FRAME_SECONDS) -> bytes:
    """PCM of a text."""
    if text not in _texts:
        _texts.append(text)
    code = _FIRST_CODE + _texts.index(text)
    assert code < 0xD0, "too many texts"
    return ulaw_to_pcm(bytes([code])) * (round(seconds / FRAME_SECONDS) * FRAME_BYTES // 2)


def text_of(frame: bytes) -> str:
    """Which text a frame is of, "" for silence."""
    if not any(frame):
        return ""
    return next((text for text in _texts if frame[:8] == sound(text)[:8]), TONE)


class SteadyPrompts:
    """Says every text as its sound, in pieces that do not end where frames do."""

    async def render(self, text: str, language: str, template: str = "") -> AsyncIterator[bytes]:
        pcm = sound(text, SECONDS)
        yield pcm[:1002]
        yield pcm[1002:]


class SteadyEars:
    """Understands those sounds; `asked` are the languages in which it listened."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def hears(self, language: str) -> bool:
        return True

    def listen(self, hearing: Hearing, notify: Callable[[SpeechEvent], None]) -> Listener:
        self.asked.append(hearing.grammar.language)
        return _SteadyEar(hearing, notify)


class _SteadyEar:
    def __init__(self, hearing: Hearing, notify: Callable[[SpeechEvent], None]):
        self._hearing = hearing
        self._notify: Callable[[SpeechEvent], None] | None = notify
        self._said = ""
        self._quiet = 0.0

    def feed(self, frame: bytes) -> None:
        now = asyncio.get_running_loop().time()
        if any(frame):
            self._quiet = 0.0
            if not self._said and self._notify is not None:
                self._said = text_of(frame)
                self._notify(SpeechStarted(now))
        elif self._said:
            self._quiet += FRAME_SECONDS
            if self._quiet >= self._hearing.complete and self._notify is not None:
                said, self._said = self._said, ""
                self._notify(Heard(said, 0.95, ended_at=now))

    def close(self) -> None:
        self._notify = None


class Dialogue:
    """A runner of one conversation without a database; `left` is what became of it."""

    def __init__(self, flow: str):
        self.events: list[Event] = []
        self.left_by: list[str] = []
        self.turns: list[Mapping[str, Any]] = []
        self._bundle = loader.load({"main.yaml": flow}, "main")
        self._state: Any = None
        self._port: LegPort | None = None

    async def begin(self, port: LegPort, started: Started) -> None:
        self._port = port
        self._state, effects = engine.start(self._bundle, started, self._now())
        await port.perform(effects)

    async def resume(self, port: LegPort) -> bool:
        return False

    async def report(self, conversation_id: str, event: Event) -> None:
        assert self._port is not None
        self.events.append(event)
        self._state, effects = engine.advance(self._bundle, self._state, event, self._now())
        await self._port.perform(effects)

    async def left(self, port: LegPort, cause: str) -> None:
        self.left_by.append(cause)

    async def lost(self, port: LegPort) -> None:
        self.left_by.append("lost")

    async def measured(self, conversation_id: str, turn: Mapping[str, Any]) -> None:
        self.turns.append(turn)

    def wants_recording(self, conversation_id: str) -> str:
        return "en"

    def _now(self) -> datetime:
        return EPOCH


class Messages:
    """Keeps voice messages as (PCM, seconds), and of a recorded call its stereo samples."""

    def __init__(self) -> None:
        self.kept: list[tuple[bytes, float]] = []
        self.settings = RecordingSettings()
        self.samples = b""

    async def begin(self, conversation_id: str, leg_id: str) -> Messages:
        return self

    def write(self, at: int, samples: bytes) -> None:
        self.samples += samples

    def end(self) -> None: ...

    def recorded(self) -> tuple[set[str], set[str]]:
        """What of a call was recorded, of the caller and of those who talked with them."""
        frames = [self.samples[at : at + 640] for at in range(0, len(self.samples), 640)]
        sides = [
            {text_of(b"".join(f[i : i + 2] for i in range(side, len(f), 4))) for f in frames}
            for side in (0, 2)
        ]
        return sides[0], sides[1]

    async def keep_message(
        self, conversation_id: str, leg_id: str, name: str, pcm: bytes, seconds: float
    ) -> str:
        self.kept.append((pcm, seconds))
        return name
