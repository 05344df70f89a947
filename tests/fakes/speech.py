"""A recogniser, a voice and prompts that need no model: their speech is letters in sound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable

from ivr.errors import SpeechError
from ivr.ports import (
    FRAME_BYTES,
    FRAME_SECONDS,
    Heard,
    Hearing,
    Listener,
    SpeechEvent,
    SpeechFailed,
    SpeechStarted,
)

_LOUD = 8000
_SILENT = bytes(FRAME_BYTES)


def fake_speech(text: str) -> bytes:
    """PCM that a `FakeRecognizer` understands: each letter is a frame of a loudness of its own."""
    return b"".join(
        (_LOUD + ord(letter) % 20_000).to_bytes(2, "little") * (FRAME_BYTES // 2) for letter in text
    )


def _letter(frame: bytes) -> str:
    return chr(int.from_bytes(frame[:2], "little") - _LOUD)


class FakeRecognizer:
    """Hears `fake_speech` in the given languages; `deaf` hears nothing at all."""

    def __init__(self, languages: tuple[str, ...] = ("en", "zh"), deaf: bool = False):
        self._languages = () if deaf else languages
        self.listeners: list[FakeListener] = []

    def hears(self, language: str) -> bool:
        return language in self._languages

    def listen(self, hearing: Hearing, notify: Callable[[SpeechEvent], None]) -> Listener:
        if not self.hears(hearing.grammar.language):
            raise SpeechError(f"no recogniser for {hearing.grammar.language}")
        listener = FakeListener(hearing, notify)
        self.listeners.append(listener)
        return listener

    def lose(self) -> None:
        """Every utterance under way is lost, as when a worker dies."""
        for listener in self.listeners:
            listener.lose()


class FakeListener:
    """Ends an utterance after the silence that the hearing asks for."""

    def __init__(self, hearing: Hearing, notify: Callable[[SpeechEvent], None]):
        self.hearing = hearing
        self._notify = notify
        self._text = ""
        self._silence = 0
        self.closed = False

    def feed(self, frame: bytes) -> None:
        if self.closed or len(frame) != FRAME_BYTES:
            return
        now = asyncio.get_running_loop().time()
        if frame != _SILENT:
            self._silence = 0
            if not self._text:
                self._notify(SpeechStarted(now))
            self._text += _letter(frame)
            return
        if not self._text:
            return
        self._silence += 1
        full = self.hearing.progress(self._text) in ("full", "final")
        wanted = self.hearing.complete if full else self.hearing.incomplete
        if self._silence * FRAME_SECONDS >= wanted:
            said, self._text = self._text, ""
            grammar = self.hearing.grammar
            words = set(said.split())
            fits = said in grammar.phrases or words <= set(grammar.words)
            self._notify(Heard(said if fits else "", 0.95 if fits else 0.0, (), "fake", 0.0, now))

    def lose(self) -> None:
        if self._text and not self.closed:
            self._text = ""
            self._notify(SpeechFailed("lost"))

    def close(self) -> None:
        self.closed = True


class FakeVoices:
    """Says a text in 20 ms a letter; what it has said is kept in `said`."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        self.warmed: set[str] = set()
        self.loading: asyncio.Event | None = None
        self.edition = "1"
        self.failing: set[str] = set()
        self.stands_in = False
        self.gate: asyncio.Event | None = None

    def voice(self, language: str) -> str:
        return f"fake {self.edition}"

    async def warm(self, languages: Iterable[str]) -> None:
        if self.loading is not None:
            await self.loading.wait()
        self.warmed.update(languages)

    async def speak(
        self, text: str, language: str, play: Callable[[bytes], None], *, patient: bool = False
    ) -> bool:
        """The first letter is there before the others; `gate` stands between them."""
        self.said.append((text, language))
        if text in self.failing:
            raise SpeechError(f"cannot say {text!r}")
        play(fake_speech(text[:1]))
        if self.gate is not None:
            await self.gate.wait()
        play(fake_speech(text[1:]))
        return not self.stands_in

    async def synthesize(self, text: str, language: str) -> bytes:
        pieces: list[bytes] = []
        await self.speak(text, language, pieces.append)
        return b"".join(pieces)


class FakePrompts:
    """Every text is `fake_speech` in one piece."""

    async def render(self, text: str, language: str, template: str = "") -> AsyncIterator[bytes]:
        yield fake_speech(text)
