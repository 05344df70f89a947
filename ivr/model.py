"""The nouns of the hotline: who talks, about what, and over which wire.

All are frozen: a change is a new value, written by the store. Times are aware UTC datetimes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Channel(StrEnum):
    """How a customer is connected. `terminal` is the simulator and the tests."""

    VOICE = "voice"
    SMS = "sms"
    CHAT = "chat"
    WECHAT = "wechat"
    EMAIL = "email"
    TERMINAL = "terminal"


class Kind(StrEnum):
    """What a customer takes up of an agent: the ear, a quick answer, or an answer some time."""

    CALL = "call"
    CHAT = "chat"
    MESSAGE = "message"


KINDS: Mapping[Channel, Kind] = {
    Channel.VOICE: Kind.CALL,
    Channel.CHAT: Kind.CHAT,
    Channel.TERMINAL: Kind.CHAT,
    Channel.SMS: Kind.MESSAGE,
    Channel.WECHAT: Kind.MESSAGE,
    Channel.EMAIL: Kind.MESSAGE,
}


class ConversationStatus(StrEnum):
    """Where a conversation stands: with the flow, waiting for people, with a person, or over."""

    FLOW = "flow"
    QUEUED = "queued"
    PERSON = "person"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a customer can be reached: a channel and that channel's own name for the customer.

    A telephone address is E.164 where the number could be understood, else the digits as they came.
    It is a claim, not a proof: a caller ID can be forged.
    """

    channel: Channel
    value: str


@dataclass(frozen=True, slots=True)
class Contact:
    """A customer, as far as known."""

    id: str
    name: str = ""
    language: str = ""
    addresses: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """One matter of one customer, over however many legs.

    `version` is the content hash of the flow it began with, and `state` the engine's state as JSON
    (see `ivr.flow.engine.State`); `revision` counts its writes, for optimistic locking.
    """

    id: str
    flow: str
    version: str
    status: ConversationStatus
    started_at: datetime
    contact_id: str | None = None
    language: str = ""
    state: Mapping[str, Any] = field(default_factory=dict)
    revision: int = 0
    ended_at: datetime | None = None
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Leg:
    """One connection of a conversation: a call, an SMS thread, a chat socket.

    `reference` is the wire's own identity of it (for a call Asterisk's unique channel ID), `peer`
    the customer's address on it, and `dialled` the number or extension that the customer reached.
    """

    id: str
    conversation_id: str
    peer: Address
    started_at: datetime
    reference: str = ""
    dialled: str = ""
    ended_at: datetime | None = None
    cause: str = ""


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One thing that happened in a conversation: heard, said, pressed, decided, offered, answered…

    `kind` is a past participle from the vocabulary in `ivr.store.models`; `body` holds JSON values
    only and never the value of a secret slot.
    """

    conversation_id: str
    at: datetime
    kind: str
    body: Mapping[str, Any] = field(default_factory=dict)
    leg_id: str | None = None
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What became of one call, for reports: written when the call is over, one a leg.

    `waited` is seconds in the queue, `talked` seconds with a person.
    """

    leg_id: str
    conversation_id: str
    caller: str
    dialled: str
    started_at: datetime
    ended_at: datetime
    agent: str = ""
    waited: float = 0.0
    talked: float = 0.0
    disposition: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much an agent does at once. `chats` counts messages too, as `chats_on_call` does."""

    calls: int = 1
    chats: int = 4
    chats_on_call: int = 0


HIGHEST_LEVEL = 5
USUAL_LEVEL = 3
"""Of skills, where none is said."""


@dataclass(frozen=True, slots=True)
class Agent:
    """A person who serves customers. `extension` is the telephone that rings for them, and `skills`
    tells each skill's level, from 1 to `HIGHEST_LEVEL`."""

    login: str
    name: str
    extension: str
    roles: frozenset[str] = frozenset({"agent"})
    skills: Mapping[str, int] = field(default_factory=dict)
    languages: frozenset[str] = frozenset()
    disabled: bool = False
    capacity: Capacity = Capacity()


@dataclass(frozen=True, slots=True)
class AgentPresence:
    """Whether an agent takes customers, as last stored. `state` is one of those in `cti.agents`.

    `server` is where their screens are, who says until `alive_until` that this is so; `reachable`
    is whether there is a screen at all, and `free_since` when they last became free.
    """

    login: str
    state: str
    reason: str
    since: datetime
    server: str = ""
    reachable: bool = False
    free_since: datetime | None = None
    alive_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """A place in line. `id` is the engine's `Enqueue.id`, unique within the conversation; asking
    again with the same id keeps `enqueued_at` and so the place.

    `status` is `waiting`, `offered` (to `agent`, since `offered_at`), `served`, `passed` (served
    and transferred by that agent) or `withdrawn`. One that was transferred to an agent is kept
    for them (`reserved`) until `reserved_until`, and tells `context`, what `from_agent` wrote.

    `server` is the one that has the customer's legs. An offer is leased: not answered by
    `lease_until` it waits again. `stage` is how far the conversation has come with `agent`, one of
    those in `cti.works`, "" while it waits.
    """

    id: str
    conversation_id: str
    enqueued_at: datetime
    skills: tuple[str, ...] = ()
    priority: int = 0
    language: str = ""
    pop: tuple[tuple[str, str], ...] = ()
    status: str = "waiting"
    agent: str = ""
    offered_at: datetime | None = None
    kind: Kind = Kind.CALL
    server: str = ""
    lease_until: datetime | None = None
    stage: str = ""
    reserved: str = ""
    reserved_until: datetime | None = None
    from_agent: str = ""
    context: str = ""

    @property
    def place(self) -> str:
        """The `Enqueue.id` that it goes back to; its transfers are `id~1`, `id~2` …"""
        return self.id.partition("~")[0]

    @property
    def handover(self) -> int:
        """Which transfer it came by; 0 for none."""
        count = self.id.partition("~")[2]
        return int(count) if count.isdecimal() else 0


@dataclass(frozen=True, slots=True)
class AtWork:
    """An agent at work as every server sees them: who, whether they are there, and what they have
    in hand."""

    agent: Agent
    presence: AgentPresence
    works: tuple[Ticket, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """A text to or from a customer over a channel that is not a call."""

    id: str
    conversation_id: str
    to: Address
    text: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Text:
    """One text of a conversation's thread, as customer, flow or agent wrote it.

    `id` is the writer's own, so that a repeat is known; `author` is an agent's login, else "", and
    `name` what the customer is shown of them. `number` counts the thread's texts from 1; the store
    gives it out. `status` is how far it has got: `sent`, `delivered`, `read` or `failed` for ours,
    "" or `read` for the customer's. `choices` are (key, label) pairs that answer the question of
    that `turn`; a key may be "". `file` tells of a file that goes with it.
    """

    conversation_id: str
    id: str
    who: str
    text: str
    at: datetime
    author: str = ""
    name: str = ""
    number: int = 0
    status: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    turn: int | None = None
    file: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class PastConversation:
    """An earlier conversation of a customer, in the few words that fit an agent's screen."""

    id: str
    started_at: datetime
    channel: Channel
    flow: str
    outcome: str
    note: str
    agent: str


@dataclass(frozen=True, slots=True)
class AgentNote:
    """What an agent wrote down about an earlier conversation, and when that one ended."""

    text: str
    agent: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Dossier:
    """All that is known of a conversation and its customer, for an agent.

    `leg` is the open call, if there is one (`call`), else the latest leg; `sharing` are those who
    are known at its address, and `contact` is whose conversation it is, as far as that is known.
    `entries` are the latest ones of the timeline that were asked for, `corrections` are value and
    login by name, and `notes` are of earlier conversations.
    """

    conversation: Conversation
    leg: Leg
    call: bool
    contact: Contact | None
    sharing: tuple[Contact, ...]
    entries: Sequence[TimelineEntry]
    earlier: Sequence[PastConversation]
    notes: Sequence[AgentNote]
    corrections: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Release:
    """A version of a flow as it was published; `version` is its content hash.

    A `held` one answers nobody until it is rolled out; one that was withdrawn has been rolled back.
    """

    flow: str
    version: str
    published_at: datetime
    who: str = ""
    note: str = ""
    held: bool = False
    withdrawn_at: datetime | None = None
    withdrawn_by: str = ""

    @property
    def live(self) -> bool:
        return not self.held and self.withdrawn_at is None


@dataclass(frozen=True, slots=True)
class Rollout:
    """A version of a flow that only some callers get: `percent` of them, and these `numbers`."""

    flow: str
    version: str
    since: datetime
    percent: float = 0.0
    numbers: tuple[str, ...] = ()
    who: str = ""


@dataclass(frozen=True, slots=True)
class Lineup:
    """Which versions of a flow answer: `version`, but where a rollout says otherwise."""

    version: str
    rollout: Rollout | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """Audio that is kept: of a `call`, or a `message` that a caller left after the tone.

    `place` names the folder that its file is in (servers may have one each). `state` is `open`
    while it is written, then `kept`, or `lost` if no file came of it. `sha256` is the file's.
    """

    id: str
    conversation_id: str
    leg_id: str
    kind: str
    place: str
    started_at: datetime
    state: str = "open"
    seconds: float = 0.0
    size: int = 0
    sha256: str = ""
