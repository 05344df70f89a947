"""What the core asks of the world, as Protocols of at most five methods and no vendor's types.

Everything behind a port can be replaced by its fake from `tests/fakes`; `tests/contract` runs one
suite on both. Audio everywhere is PCM, 8,000 samples a second, mono, signed 16 bit little-endian;
a *frame* is 20 ms of it: 320 bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from ivr.flow.events import Effect, Enqueue, Event, Fetch, FetchAnswered, Grammar, Invite
from ivr.model import Leg, Text

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


@dataclass(slots=True)
class Line:
    """A call's way to its caller, the same for all its questions. `played` gives the last 600 ms or
    less that left for the caller, whose echo is no answer. What an ear has found out about the
    line's noise and echo it keeps in `known`, for the next question's."""

    played: Callable[[], bytes] = bytes
    known: object = None


@dataclass(frozen=True, slots=True)
class Hearing:
    """How to listen to one question. `complete` and `incomplete` are seconds of trailing silence;
    `progress` judges a partial text; `longest` is the longest utterance taken, in seconds.
    Of a `secret` question nothing that was said is logged."""

    grammar: Grammar
    complete: float
    incomplete: float
    progress: Callable[[str], Progress]
    longest: float = 20.0
    line: Line = field(default_factory=Line)
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
class Wrote:
    """A text is in the thread, or has a new status."""

    text: Text


@dataclass(frozen=True, slots=True)
class Typing:
    """`who` (`customer` or `agent`) is writing, or has stopped. It is not kept."""

    who: str
    on: bool
    name: str = ""


@dataclass(frozen=True, slots=True)
class ReadUpTo:
    """`who` has read the other side's texts up to the one of this number and id."""

    who: str
    number: int
    id: str


TextNews = Wrote | Typing | ReadUpTo
"""What is told of a thread as it happens, to the customer's legs and to agents' screens."""


@runtime_checkable
class TextLeg(LegPort, Protocol):
    """A customer's connection on which texts are read: what the flow says comes to it as texts,
    committed and numbered, and not as `Say`."""

    def show(self, news: TextNews) -> None:
        """Bring it to the customer. Never blocks and never raises: who is not there now reads it in
        the thread."""
        ...


@dataclass(frozen=True, slots=True)
class Ringing:
    """The agent's phone has begun to ring."""

    extension: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The agent and the caller are connected."""

    extension: str


@dataclass(frozen=True, slots=True)
class Held:
    """The caller hears music, or no longer does."""

    on: bool


@dataclass(frozen=True, slots=True)
class Muted:
    """The caller does not hear the agent, or does again."""

    on: bool


@dataclass(frozen=True, slots=True)
class Consulted:
    """Somebody whom the agent asked into the call: `state` is `ringing`, `talking` (to the agent
    alone), `joined` (three-way), `took_over` (the caller is with them, and the agent has left) or
    `gone`."""

    number: str
    state: str


@dataclass(frozen=True, slots=True)
class Parked:
    """The caller is on a parking place, which any telephone can dial."""

    place: str


CallEvent = Ringing | Answered | Held | Muted | Consulted | Parked
"""What a call's agent is told, always as Asterisk has it and never as somebody has asked for it."""


@dataclass(frozen=True, slots=True)
class ActionOutcome:
    """What became of an order to the telephone system: `done`, `refused` (nothing has happened, and
    `text` says why) or `unknown` (the link was lost in between)."""

    result: str
    text: str = ""


class CallControl(Protocol):
    """Calls between callers and agents. Only for legs on the telephone."""

    async def ring(
        self, leg_id: str, extension: str, seconds: float, notify: Callable[[CallEvent], None]
    ) -> str:
        """Ring a phone and connect it with the leg's caller; return when that is over, with the
        outcome: `talked` (answered, and now one side hung up or the agent was let go of; with whom
        the agent consulted too, once they took over), `transferred` (the caller goes on elsewhere,
        without us), `no_answer`, `busy`, `unavailable` (nothing registered), or `gone` (the caller
        left). Not answered or let go of, the caller keeps waiting on the leg with music. Raises
        CallGone if the leg is unknown. Cancelled before the answer, it stops the ringing and never
        notifies again; the caller keeps waiting."""
        ...

    async def hang_up(self, leg_id: str) -> None:
        """End the leg's call. Idempotent."""
        ...

    async def let_go(self, leg_id: str) -> ActionOutcome:
        """End the talk with the agent, but not the call: the caller keeps waiting with music."""
        ...

    async def send_to(self, leg_id: str, number: str) -> ActionOutcome:
        """Let the agent go and connect the caller with a number or extension (blind transfer)."""
        ...


class TalkControl(Protocol):
    """What an agent does in a call that is answered. What has come of it is told by the call's own
    events."""

    async def hold(self, leg_id: str, on: bool) -> ActionOutcome: ...

    async def mute(self, leg_id: str, on: bool) -> ActionOutcome: ...

    async def press(self, leg_id: str, digits: str) -> ActionOutcome: ...

    async def park(self, leg_id: str) -> ActionOutcome: ...


class Consulting(Protocol):
    """A third person in a call: asked by the agent while the caller waits, then connected with the
    caller, let go of, or joined to the call."""

    async def consult(self, leg_id: str, number: str) -> ActionOutcome: ...

    async def complete(self, leg_id: str) -> ActionOutcome:
        """Connect the caller with whom was consulted; the agent leaves."""
        ...

    async def cancel(self, leg_id: str) -> ActionOutcome: ...

    async def join(self, leg_id: str) -> ActionOutcome: ...


class Monitor(Protocol):
    """A supervisor in somebody else's call."""

    async def listen(self, leg_id: str, extension: str, mode: str) -> ActionOutcome:
        """Ring the supervisor's phone and let them hear the call: `listen` (nobody hears them),
        `whisper` (the agent does) or `barge` (everybody does). They leave by hanging up."""
        ...


class Dialler(Protocol):
    """Calls that begin with us."""

    async def dial(self, extension: str, number: str) -> ActionOutcome:
        """Ring an agent's phone and, when it is answered, call this number from it."""
        ...


class PhoneSystem(CallControl, TalkControl, Consulting, Monitor, Dialler, Protocol):
    """All that the human side asks of telephones (`ivr.telephony.telephone`)."""


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

    async def wrote(self, conversation_id: str, news: TextNews) -> None:
        """Something happened in a thread: whoever has it on a screen sees it now, and so do the
        customer's connections at other servers."""
        ...


class Threads(Protocol):
    """The customers' side of text conversations, as the human side sees it (`ivr.texting`)."""

    async def write(self, text: Text) -> Text:
        """Commit what an agent writes, then show it; the same writer's id again is the same text.
        Raises CallGone when the conversation is over, StoreError when it cannot be kept."""
        ...

    async def read(self, conversation_id: str, text_id: str) -> None:
        """An agent has read the customer's texts up to this one."""
        ...

    async def typing(self, conversation_id: str, on: bool, name: str) -> None:
        """An agent is writing, or has stopped."""
        ...

    def show(self, conversation_id: str, news: TextNews) -> None:
        """Bring to the customer's connections here what another server told of."""
        ...


class Bus(Protocol):
    """Carries news between the servers that share a database. News may be lost: what must not be
    stands in the database, and whoever missed the news finds it there a second later."""

    def publish(self, topic: str, body: Mapping[str, Any]) -> None:
        """Tell everybody who listens, ourselves included. Never blocks and never raises."""
        ...

    def subscribe(
        self, topic: str, callback: Callable[[Mapping[str, Any]], None]
    ) -> Callable[[], None]:
        """Be told, on the event loop, in the order of publishing; call what is returned to stop."""
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
