"""What the flow engine is told and what it asks for: the contract between a flow and the world.

Events are past tense and come from the world; effects are imperative and go out to it. Both are
frozen values that survive JSON (`to_json`, `event_from_json`), so that yesterday's call can be
replayed. A *turn* is one question asked; it is counted up with every `Expect`, and an event that
answers a question names the turn it answers, so that a late answer to an earlier question is told
from an answer to this one. `turn=None` means "whatever is asked now".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

TAKEN_OVER = "take-"
"""How the ids of those begin who take a conversation over unasked, in the middle of the flow."""

# --- events -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """A customer arrived on a channel. `address` is the caller's number or the channel's own name.

    `language` is what is already known of the customer, "" if nothing. `dropped` is where their
    last call broke off, as `ivr.flow.standing` tells it; None where there is nothing to go on with.
    """

    channel: str
    address: str = ""
    dialled: str = ""
    language: str = ""
    dropped: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Resumed:
    """The customer is back on the wire after a fault of ours: ask the same question again."""

    channel: str


@dataclass(frozen=True, slots=True)
class DigitsPressed:
    """Keys that answer a question, as `ivr.flow.keypad` cut them from what was pressed.

    The terminator is not included. An impossible entry comes too: the engine calls it no-match.
    """

    digits: str
    turn: int | None = None


@dataclass(frozen=True, slots=True)
class SpeechHeard:
    """What a recogniser made of an utterance.

    `confidence` is 0…1. `text` is "" where there was speech that fits nothing that was expected.
    `alternatives` are further readings, best first, without `text` itself.
    """

    text: str
    confidence: float
    alternatives: tuple[tuple[str, float], ...] = ()
    turn: int | None = None


@dataclass(frozen=True, slots=True)
class TextReceived:
    """The customer typed or tapped something on a text channel."""

    text: str
    turn: int | None = None


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The question's `wait` passed in silence."""

    turn: int | None = None


@dataclass(frozen=True, slots=True)
class HungUp:
    """The customer left the channel."""

    channel: str = ""
    cause: str = ""


@dataclass(frozen=True, slots=True)
class FetchAnswered:
    """The answer to a `Fetch`. `error` is "" when an answer came, whatever its status."""

    id: str
    status: int = 0
    json: Any = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class QueueMoved:
    """The customer's place: `ahead` others first, `wait` is an estimate in seconds, -1 unknown."""

    id: str
    ahead: int
    wait: float = -1.0
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class AgentJoined:
    """A person has taken the conversation over: from the queue, whose id this is, or unasked
    (`TAKEN_OVER`). From now on they speak, and the flow is silent."""

    id: str
    agent: str


@dataclass(frozen=True, slots=True)
class AgentLeft:
    """The person is done, and the customer is still there: the flow goes on behind the queue, or
    asks again what it asked when they took over."""

    id: str
    agent: str = ""


@dataclass(frozen=True, slots=True)
class QueueFailed:
    """Nobody can take this conversation: `reason` is `nobody`, `closed`, `full` or `timeout`."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class ChannelLive:
    """The customer has turned up on the channel that an `Invite` named."""

    id: str
    channel: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class ChannelFailed:
    """An `Invite` could not be delivered or was not taken up in time."""

    id: str
    channel: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TransferEnded:
    """How a `Transfer` came out: `answered`, `busy`, `no_answer` or `refused`."""

    id: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """A message was taken: `reference` names it in the store, "" when nothing was left."""

    id: str
    reference: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A `SetTimer` ran out."""

    id: str


Event = (
    Started
    | Resumed
    | DigitsPressed
    | SpeechHeard
    | TextReceived
    | TimedOut
    | HungUp
    | FetchAnswered
    | QueueMoved
    | AgentJoined
    | AgentLeft
    | QueueFailed
    | ChannelLive
    | ChannelFailed
    | TransferEnded
    | Recorded
    | TimerFired
)

# --- what an Expect is made of ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choice:
    """One way out of a menu, as a channel shows it: `key` may be "" (say or tap only)."""

    name: str
    label: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Keypad:
    """Which keys answer a question.

    Either one of `options` is pressed, or between `minimum` and `maximum` digits, which
    `terminator` may end early. `maximum=0` means that no free digits are wanted.
    """

    options: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int = 0
    terminator: str = "#"


@dataclass(frozen=True, slots=True)
class Grammar:
    """What may be said: whole `phrases`, and `words` of which any sequence may be said.

    `words` carry digits, numbers and dates, where no list of whole phrases could be complete. Where
    all of them make one value, `kind` is its slot type, and `minimum` and `maximum` are how many
    digits it has (0 is no bound): the reader of `ivr.flow.spoken` is the grammar of the words.
    Everything is lower case, without punctuation, in `language`.
    """

    language: str
    phrases: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    kind: str = ""
    minimum: int = 0
    maximum: int = 0


# --- effects ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Say:
    """Say (or print) this. `text` is final; `template` is the designer's text with its holes
    unfilled, which names a recording in the sounds manifest. They are equal where there are none.
    """

    text: str
    language: str
    template: str = ""


@dataclass(frozen=True, slots=True)
class Expect:
    """Await an answer to the prompts before it. What is expected, never how.

    Times are seconds; a `wait` of 0 is for ever. `slot_type` is "" for a menu, `yes_no` for a
    confirmation, else the slot's type. `listen` and `barge_in` are subsets of {"speech", "keys"}.
    How far an unfinished utterance has come towards an answer is told by
    `ivr.flow.answers.progress(expect, text)`.
    """

    turn: int
    node: str
    language: str
    grammar: Grammar
    keypad: Keypad = Keypad()
    choices: tuple[Choice, ...] = ()
    slot_type: str = ""
    wait: float = 5.0
    complete: float = 0.3
    incomplete: float = 1.2
    listen: tuple[str, ...] = ("speech", "keys")
    barge_in: tuple[str, ...] = ("speech", "keys")
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Fetch:
    """Call a system that the deployment's settings name. `path` is already quoted.

    `json` and `headers` may hold secret values: never store or log this effect whole.
    """

    id: str
    method: str
    system: str
    path: str
    timeout: float
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None


@dataclass(frozen=True, slots=True)
class Enqueue:
    """Hand the conversation to people. `pop` are (name, value) pairs to show first."""

    id: str
    skills: tuple[str, ...] = ()
    priority: int = 0
    pop: tuple[tuple[str, str], ...] = ()
    language: str = ""


@dataclass(frozen=True, slots=True)
class Dequeue:
    """Leave the queue: the customer chose something else or is gone."""

    id: str


@dataclass(frozen=True, slots=True)
class Invite:
    """Offer to go on over `channel`; `text` still has `{link}` and `{code}` to be filled."""

    id: str
    channel: str
    text: str
    language: str
    mode: str = "move"


@dataclass(frozen=True, slots=True)
class Transfer:
    """Connect the customer to a number or extension, ringing for `ring` seconds."""

    id: str
    to: str
    ring: float


@dataclass(frozen=True, slots=True)
class Record:
    """Take a voice message (a text or a file elsewhere) of at most `maximum` seconds."""

    id: str
    maximum: float


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Fire `TimerFired(id)` after `seconds`, unless the conversation ends first. Setting an id
    again moves the timer; `seconds=0` stops it."""

    id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Note:
    """Write one line into the timeline: what the engine decided and why. Never holds a secret."""

    kind: str
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class End:
    """Nothing more will be said: let the last prompt finish, then leave the channel."""

    outcome: str = "completed"


@dataclass(frozen=True, slots=True)
class Leave:
    """The conversation goes on elsewhere: let the last prompt finish, then leave this channel."""

    channel: str


Effect = (
    Say
    | Expect
    | Fetch
    | Enqueue
    | Dequeue
    | Invite
    | Transfer
    | Record
    | SetTimer
    | Note
    | Leave
    | End
)

_EVENTS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        Started,
        Resumed,
        DigitsPressed,
        SpeechHeard,
        TextReceived,
        TimedOut,
        HungUp,
        FetchAnswered,
        QueueMoved,
        AgentJoined,
        AgentLeft,
        QueueFailed,
        ChannelLive,
        ChannelFailed,
        TransferEnded,
        Recorded,
        TimerFired,
    )
}


def to_json(event: Event) -> dict[str, Any]:
    """The event as JSON values, its kind under `event`."""
    return {"event": type(event).__name__, **asdict(event)}


def event_from_json(value: Mapping[str, Any]) -> Event:
    """The inverse of `to_json`. Raises KeyError or TypeError on anything else."""
    fields = dict(value)
    kind = _EVENTS[fields.pop("event")]
    if kind is SpeechHeard:
        fields["alternatives"] = tuple((text, conf) for text, conf in fields["alternatives"])
    event: Event = kind(**fields)
    return event
