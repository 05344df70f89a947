"""What one call says: prompts in their order, a sentence at a time, and music while it waits.

Prompts are rendered while they play: what has been given to the audio connection is said without a
gap, and all of it stops at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

import structlog

from ivr.flow.events import Say
from ivr.ports import Prompts

log = structlog.get_logger(__name__)


class Sound(Protocol):
    """What a call's audio connection offers (`ivr.telephony.media.AudioLeg`)."""

    @property
    def playing(self) -> bool: ...

    def play(self, pcm: bytes) -> None: ...

    def loop(self, pcm: bytes) -> None: ...

    def stop(self) -> None: ...

    def played(self) -> bytes: ...


class Speaker:
    """The prompts of one call, over whatever audio connection it has at the moment. `given` is
    called when all that was queued has been given to it."""

    def __init__(self, prompts: Prompts, music: bytes, given: Callable[[], None]):
        self._prompts = prompts
        self._music = music
        self._given = given
        self._sound: Sound | None = None
        self._says: deque[Say] = deque()
        self._task: asyncio.Task[None] | None = None
        self._music_on = False

    # --- the audio connection --------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self._sound is not None

    def connect(self, sound: Sound) -> None:
        self._sound = sound

    def disconnect(self) -> None:
        """The connection is gone: nothing of what was queued is said."""
        self._sound = None
        self.stop()

    @property
    def playing(self) -> bool:
        """Whether anything is heard of us just now."""
        return self._sound is not None and self._sound.playing

    def played(self) -> bytes:
        """The last 600 ms or less that left for the caller."""
        return self._sound.played() if self._sound is not None else b""

    def play(self, pcm: bytes) -> None:
        """Play a sound behind what was given."""
        if self._sound is not None:
            self._sound.play(pcm)

    # --- prompts ---------------------------------------------------------------------------------

    def say(self, say: Say) -> None:
        """Queue a prompt; it is heard at the next `go_on`. Music falls silent for it."""
        self._says.append(say)
        self.silence_music()

    @property
    def rendering(self) -> bool:
        """Whether there is more to say than what the connection has been given."""
        return bool(self._says) or self._task is not None

    @property
    def speaking(self) -> bool:
        return self.rendering or self.playing

    def go_on(self) -> bool:
        """Say what is queued; False when all has been said."""
        if self._says and self._task is None:
            self._task = asyncio.ensure_future(self._speak())
        return self.speaking

    def stop(self) -> None:
        """Fall silent now, and forget what is queued."""
        self._says.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._music_on = False
        if self._sound is not None:
            self._sound.stop()

    async def _speak(self) -> None:
        """Give the queued prompts to the audio connection, a sentence at a time."""
        try:
            while self._says:
                say = self._says.popleft()
                try:
                    async for piece in self._prompts.render(say.text, say.language, say.template):
                        if (sound := self._sound) is None:
                            return
                        sound.play(piece)
                except Exception:  # a sentence is lost rather than the call
                    log.exception("prompt not said", language=say.language)
        finally:
            if self._task is asyncio.current_task():
                self._task = None
        self._given()

    # --- music -----------------------------------------------------------------------------------

    def play_music(self) -> None:
        """Until something is said."""
        if self._sound is not None and not self._music_on:
            self._music_on = True
            self._sound.loop(self._music)

    def silence_music(self) -> None:
        if self._music_on and self._sound is not None:
            self._sound.stop()
        self._music_on = False
