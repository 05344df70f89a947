"""What the core asks of the world, as Protocols of at most five methods and no vendor's types.

Everything behind a port can be replaced by its fake from `tests/fakes`; `tests/contract` runs one
suite on both. Audio everywhere is PCM, 8,000 samples a second, mono, signed 16 bit little-endian;
a *frame* is 20 ms of it: 320 bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ivr.flow.events import Effect, Enqueue, Event, Fetch, FetchAnswered, Grammar, Invite
from ivr.model import Leg

FRAME_BYTES = 320
FRAME_SECONDS = 0.02
SAMPLE_RATE = 8000


class Clock(Protocol):
    """Time, so that tests can bend it."""

    def now(self) -> datetime:
        """The wall clock, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...


# --- speech -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The caller has begun to speak; `at` is the monotonic time of the first speech frame."""

    at: float


@dataclass(frozen=True, slots=True)
class PartialHeard:
    """What the utterance sounds like so far."""

    text: str


@dataclass(frozen=True, slots=True)
class Heard:
    """An utterance has ended. `text` is "" for speech that fits nothing expected.

    `confidence` is 0…1; `seconds` is how long recognition took after the end of the utterance, and
    `ended_at` the monotonic time of the last frame with speech in it.
    """

    text: str
    confidence: float
    alternatives: tuple[tuple[str, float], ...] = ()
    engine: str = ""
    seconds: float = 0.0
    ended_at: float = 0.0


@dataclass(frozen=True, slots=True)
class SpeechFailed:
    """The recogniser was lost during this utterance (a worker died or was too slow): ask again."""

    reason: str


SpeechEvent = SpeechStarted | PartialHeard | Heard | SpeechFailed

Progress = str
"""How far a partial text is an answer: `none`, `partial`, `full` (something longer could still
match) or `final` (nothing longer can)."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """How to listen to one question. `complete` and `incomplete` are seconds of trailing silence;
    `progress` judges a partial text; `longest` is the longest utterance taken, in seconds.
    `played` gives the last 600 ms or less that left for the caller, whose echo is no answer. Of a
    `secret` question nothing that was said is logged."""

    grammar: Grammar
    complete: float
    incomplete: float
    progress: Callable[[str], Progress]
    longest: float = 20.0
    played: Callable[[], bytes] = bytes
    secret: bool = False


class Listener(Protocol):
    """One question's ear, from the first prompt until the answer."""

    def feed(self, frame: bytes) -> None:
        """Take one frame. Never blocks and never raises."""
        ...

    def close(self) -> None:
        """Stop listening and forget; nothing is notified after this. Idempotent."""
        ...


class Recognizer(Protocol):
    """Turns callers' speech into text, outside this process."""

    def listen(self, hearing: Hearing, notify: Callable[[SpeechEvent], None]) -> Listener:
        """Open an ear. `notify` is called on the event loop; after a `Heard` the ear goes on
        listening for the next utterance until it is closed."""
        ...

    def hears(self, language: str) -> bool:
        """Whether speech in this language is understood here and now (else: keys alone)."""
        ...


class Synthesizer(Protocol):
    """Turns a sentence into audio."""

    async def synthesize(self, text: str, language: str) -> bytes:
        """PCM of the whole sentence. Raises SpeechError."""
        ...


class Prompts(Protocol):
    """Audio for what is said, from recordings, the cache or synthesis."""

    def render(self, text: str, language: str, template: str = "") -> AsyncIterator[bytes]:
        """PCM in pieces that can be played as they come, sentence by sentence. A sentence that
        cannot be made is left out and logged: it never raises for that."""
        ...


# --- a customer's connection ---------------------------------------------------------------------


class LegPort(Protocol):
    """One customer's connection: carries out effects, and reports events to the runner."""

    @property
    def leg(self) -> Leg: ...

    async def perform(self, effects: Sequence[Effect]) -> None:
        """Carry out `Say`, `Expect`, `Transfer`, `Record` and `End`, in order; what a channel
        cannot do it ignores. Returns at once: playing and listening go on by themselves."""
        ...

    async def close(self, cause: str) -> None:
        """Leave the customer now."""
        ...


@dataclass(frozen=True, slots=True)
class Ringing:
    """The agent's phone has begun to ring."""

    extension: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The agent and the caller are connected."""

    extension: str


CallEvent = Ringing | Answered


class CallControl(Protocol):
    """Calls between callers and agents. Only for legs on the telephone."""

    async def ring(
        self, leg_id: str, extension: str, seconds: float, notify: Callable[[CallEvent], None]
    ) -> str:
        """Ring a phone and connect it with the leg's caller; return when that is over, with the
        outcome: `talked` (answered, and now one side hung up), `no_answer`, `busy`, `unavailable`
        (nothing registered), or `gone` (the caller left). Not answered, the caller keeps waiting
        on the leg with music. Raises CallGone if the leg is unknown. Cancelled before the answer,
        it stops the ringing and never notifies again; the caller keeps waiting."""
        ...

    async def hang_up(self, leg_id: str) -> None:
        """End the leg's call. Idempotent."""
        ...


# --- people --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What people had to do with a conversation, for its call record: who answered last, and
    seconds waited in line and talked in all."""

    agent: str = ""
    waited: float = 0.0
    talked: float = 0.0


class Desk(Protocol):
    """The human side, as the machine side sees it (implemented by `cti.service`)."""

    async def enqueue(self, conversation_id: str, wanted: Enqueue) -> None:
        """Put a conversation in line. The same id again is the same place in line."""
        ...

    async def withdraw(self, conversation_id: str) -> None:
        """Take it out of line, or tell its agent that the customer is gone. Idempotent."""
        ...

    async def observe(self, conversation_id: str) -> None:
        """Something changed in a conversation (its timeline grew): refresh who watches it."""
        ...

    async def facts(self, conversation_id: str) -> CallFacts:
        """What to put into the call record. Ask after `withdraw`, when the caller is gone."""
        ...


# --- other systems --------------------------------------------------------------------------------


class Fetcher(Protocol):
    """Calls the systems that a flow's `uses` names."""

    async def fetch(self, request: Fetch) -> FetchAnswered:
        """Never raises: a failure is an answer with an `error`."""
        ...


class Inviter(Protocol):
    """Takes a conversation to another channel."""

    async def invite(self, conversation_id: str, invitation: Invite) -> None: ...


EventSink = Callable[[str, Event], Awaitable[None]]
"""Where adapters report: (conversation id, event)."""
