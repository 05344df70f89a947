"""One call's recording: what goes into it, from when on, and what never does.

Everything is recorded here, in stereo: left the caller, right whoever talks with them. What passes
between caller and flow is copied from the call's audio connection. The talk with an agent does not
pass through us: Asterisk sends us each side of it over an audio connection of its own (ChanSpy on
an AudioSocket channel). So one process knows when a secret is asked for and stops to the very
frame, with or without the manager link; files lie in one place, also when Asterisk runs elsewhere;
and when anything of it fails, the call does not notice.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from ivr.config import Settings
from ivr.errors import HotlineError
from ivr.flow.events import Effect, End, Enqueue, Expect, Leave, Record, Transfer
from ivr.observe import RECORDING_FAILURES
from ivr.ports import FRAME_SECONDS, Clock, Prompts
from ivr.recordings import Recordings, Track
from ivr.telephony.asterisk import Ami
from ivr.telephony.media import AudioLeg, AudioServer
from ivr.wire.audiosocket import HEADER_BYTES
from ivr.wire.duplex import STEREO_BYTES, Duplex

log = structlog.get_logger(__name__)

SECRET_TAIL = 0.5
"""Seconds for which the caller stays unrecorded after the last key or word of a secret."""

ANNOUNCEMENT_SECONDS = 20.0
_SPY_SECONDS = 5.0
_PIECE_FRAMES = 50
_MOST_BEHIND = 1.0
_CHANNEL = re.compile(r"[A-Za-z0-9_.@:/;+-]{1,200}")


class Switchboard(Protocol):
    """What a recording needs of the telephone that the call is on."""

    settings: Settings
    audio: AudioServer
    ami: Ami
    prompts: Prompts
    clock: Clock
    recordings: Recordings


class CallRecording:
    """The recording of one call, if there is to be one. Nothing of it raises."""

    def __init__(self, telephone: Switchboard):
        self._telephone = telephone
        self._track: Track | None = None
        self._announced = False
        self._beginning: asyncio.Future[None] | None = None
        self._spying: list[asyncio.Future[None]] = []
        self._spies: list[AudioLeg] = []
        self._both = Duplex()
        self._began = 0.0
        self._at = 0
        self._secret = False
        self._unheard = 0

    # --- when ------------------------------------------------------------------------------------

    async def announce(
        self, audio: AudioLeg, language: str, conversation_id: str, leg_id: str
    ) -> None:
        """Tell the caller, to the end and without listening, and begin. Again after this it does
        nothing. Returns early when the call's audio ends; without a voice nothing is recorded."""
        if self._announced:
            return
        texts = self._telephone.recordings.settings.announcement
        spoken = language if language in texts else next(iter(texts))
        if self._beginning is None:
            self._beginning = asyncio.ensure_future(self._begin(conversation_id, leg_id))
        over = asyncio.Event()
        audio.on_drained(over.set)
        audio.on_closed(over.set)
        audio.on_sent(self._sent)
        try:
            async with asyncio.timeout(ANNOUNCEMENT_SECONDS):
                async for piece in self._telephone.prompts.render(texts[spoken], spoken):
                    audio.play(piece)
                if audio.playing:
                    await over.wait()
                    self._announced = not audio.closed
        except TimeoutError:
            log.error("the announcement of a recording hangs", leg=leg_id)
        if not self._announced:
            audio.on_sent(None)
            if not audio.closed:
                self._fail("announcement", leg_id, "it could not be said, so nothing is recorded")

    async def _begin(self, conversation_id: str, leg_id: str) -> None:
        self._track = await self._telephone.recordings.begin(conversation_id, leg_id)
        self._began = self._telephone.clock.monotonic()

    def follow(self, effects: Sequence[Effect]) -> None:
        """What the flow does: a secret begins where it is asked for, and ends with whatever waits
        for something else, never before."""
        for effect in effects:
            match effect:
                case Expect():
                    self._keep_secret(effect.secret)
                case Enqueue() | Transfer() | Record() | End() | Leave():
                    self._keep_secret(False)
                case _:
                    pass

    def _keep_secret(self, secret: bool) -> None:
        if secret != self._secret:
            self._secret = secret
            self._both.forget()
            self._unheard = 0 if secret else round(SECRET_TAIL / FRAME_SECONDS)

    async def end(self) -> None:
        """The call is over. Waits for nothing: what is still to be written is done by itself."""
        self.part()
        if self._beginning is not None:
            self._beginning.add_done_callback(lambda _: self._close())

    def _close(self) -> None:
        self._flush()
        track, self._track = self._track, None
        if track is not None:
            track.end()

    # --- with the flow ---------------------------------------------------------------------------

    def tap(self, audio: AudioLeg) -> None:
        """Record what passes over this connection, from now on."""
        if self._announced:
            self._flush()
            audio.on_sent(self._sent)

    def heard(self, frame: bytes) -> None:
        """A frame from the caller, or from their side of a talk."""
        if self._announced and self._track is not None:
            self._both.left(frame)

    def _sent(self, frame: bytes) -> None:
        self._both.right(frame[HEADER_BYTES:])
        self._tick()

    # --- with an agent ---------------------------------------------------------------------------

    def join(self, caller: str, agent: str, everybody: bool = False) -> None:
        """Caller and agent talk now, on these channels of Asterisk's; with `everybody` the right
        side is all that the agent says and hears, for a third is in the talk."""
        if self._announced and self._track is not None:
            self.part()
            self._flush()
            self._both.forget()
            sides = (caller, self.heard, False), (agent, self._both.right, everybody)
            self._spying = [asyncio.ensure_future(self._spy(*side)) for side in sides]

    def part(self) -> None:
        """They do not talk any more."""
        for spying in self._spying:
            spying.cancel()
        for spy in self._spies:
            spy.hang_up()
        self._spying, self._spies = [], []

    async def _spy(self, channel: str, hear: Callable[[bytes], None], both_ways: bool) -> None:
        """Have Asterisk send us what comes from one channel, or what goes there, too."""
        key = uuid.uuid4()
        where = self._telephone.settings.asterisk
        connecting = self._telephone.audio.expect(key, _SPY_SECONDS)
        try:
            if not _CHANNEL.fullmatch(channel):
                raise HotlineError("no channel to follow")
            # u: exactly this channel. o: only what comes from it. q: without a word. E, S: until
            # it ends.
            await self._telephone.ami.action(
                "Originate",
                Channel=f"AudioSocket/{where.agi_host}:{where.audio_port}/{key}",
                Application="ChanSpy",
                Data=f"{channel},u{'' if both_ways else 'o'}qES",
                Timeout=round(_SPY_SECONDS * 1000),
            )
            spy = await connecting
        except (HotlineError, TimeoutError) as error:
            self._fail("talk", channel, f"one side of a talk is missing: {error}")
            return
        finally:
            connecting.cancel()
        spy.on_frame(hear)
        if not self._spies:  # the first keeps the time for both
            spy.on_sent(lambda _: self._tick())
        self._spies.append(spy)

    def _fail(self, reason: str, what: str, error: str) -> None:
        RECORDING_FAILURES.labels(reason).inc()
        log.error("not recorded", reason=reason, of=what, error=error)

    # --- into the file ---------------------------------------------------------------------------

    def _tick(self) -> None:
        if self._track is None:
            self._both.forget()
            return
        if self._secret:
            self._flush()
            self._both.forget()
            self._at += STEREO_BYTES  # what is skipped is silence
            return
        if self._unheard:
            self._unheard -= 1
            self._both.forget_left()
        if self._both.tick() >= _PIECE_FRAMES:
            self._flush()

    def _flush(self) -> None:
        """Hand on what has been put together."""
        if self._track is None:
            return
        if piece := self._both.take():
            self._track.write(self._at, piece)
            self._at += len(piece)
        elapsed = self._telephone.clock.monotonic() - self._began
        now = int(elapsed / FRAME_SECONDS) * STEREO_BYTES
        if now - self._at > _MOST_BEHIND / FRAME_SECONDS * STEREO_BYTES:
            self._at = now  # a phone rang, or audio was away: so long was there silence
