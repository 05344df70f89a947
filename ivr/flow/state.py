"""Where one conversation stands in its flow: everything that a restart must not lose.

Frozen, made of JSON values, and equal to what `from_json(to_json())` gives back. The values of
secret slots stand apart, under one key, `secrets`, so that the store can seal them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ivr.flow.schema import Bundle

PATH_LIMIT = 100
HISTORY_LIMIT = 20


@dataclass(frozen=True, slots=True)
class Frame:
    """One flow under way: the top one runs, those below wait for it to come back.

    `values` are what was fetched or came back from called flows, `history` the questions that
    "go back" can return to, and `refused` how often a value was called wrong, by slot or menu.
    """

    flow: str
    node: str = ""
    slots: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[str, ...] = ()
    refused: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pending:
    """An answer that waits for a yes: `kind` is `choice`, `slots` or `command`."""

    kind: str
    values: Mapping[str, Any]
    confidence: float = 1.0
    how: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """The question that is open, whose `turn` is the state's. `slot` is the one of a `collect` that
    is asked for, `filled` those that this visit has filled; misses count on their own."""

    slot: str = ""
    filled: tuple[str, ...] = ()
    pending: Pending | None = None
    no_input: int = 0
    no_match: int = 0
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the flow waits for. `kind`: `answer`, `fetch`, `queue`, `person`, `invite`, `transfer`,
    `record`, `redial` (whether to go on with a dropped call), or "" when it is over. `channels` are
    those still to be tried by an invitation, and `asked` says that the customer asked for it, in
    the middle of a question."""

    kind: str = ""
    id: str = ""
    channels: tuple[str, ...] = ()
    channel: str = ""
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """What a person has interrupted who took over unasked, and to which the flow comes back: what
    it waited for, and the question that was open. Where an answer of another system has come
    meanwhile, `waiting` is of kind `node`, and its id names where the flow goes on."""

    waiting: Waiting
    question: Question = Question()


@dataclass(frozen=True, slots=True)
class Place:
    """A place in line, kept while an offer is made. `depth` counts the flows then under way."""

    id: str
    node: str
    depth: int = 1
    ahead: int = -1
    offered: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """A conversation's whole state. `status` is a value of `ivr.model.ConversationStatus`;
    `channels` are the live ones and `channel` the one that is asked on; `path` is the nodes that
    were passed, oldest first, and `serial` the last number given to an effect's id. `left_at` is
    where a caller who rings again may go on (`ivr.flow.standing`): once a secret was told, where it
    was asked for ({}: at the very beginning); once the call dropped, where that was; and what is
    offered while it is. `taken` is what a person has interrupted who has the conversation now."""

    version: str
    language: str
    channel: str
    channels: tuple[str, ...] = ()
    address: str = ""
    dialled: str = ""
    status: str = "flow"
    frames: tuple[Frame, ...] = ()
    turn: int = 0
    serial: int = 0
    waiting: Waiting = Waiting()
    question: Question = Question()
    place: Place | None = None
    path: tuple[str, ...] = ()
    outcome: str = ""
    left_at: Mapping[str, Any] | None = None
    taken: Taken | None = None

    @property
    def flow(self) -> str:
        """The flow that runs."""
        return self.frames[-1].flow if self.frames else ""

    @property
    def node(self) -> str:
        """The node that the customer is at."""
        return self.frames[-1].node if self.frames else ""

    @property
    def slots(self) -> Mapping[str, Any]:
        """What the running flow has learned, without secrets; unset slots are absent."""
        return self.frames[-1].slots if self.frames else {}

    def public_slots(self, bundle: Bundle) -> dict[str, Any]:
        """What the whole conversation has learned and people may see, the first flow's first."""
        shown: dict[str, Any] = {}
        for frame in self.frames:
            flow = bundle.flows.get(frame.flow)
            for name, value in frame.slots.items():
                slot = flow.slots.get(name) if flow else None
                if slot is None or not slot.secret:
                    shown.setdefault(name, value)
        return shown

    def public_values(self) -> dict[str, Any]:
        """What was fetched or came back from called flows."""
        shown: dict[str, Any] = {}
        for frame in self.frames:
            for name, value in frame.values.items():
                shown.setdefault(name, value)
        return shown

    def to_json(self) -> dict[str, Any]:
        """The state as JSON values; `secrets` holds one mapping for each frame."""
        value = asdict(self)
        value["frames"] = [dict(frame) for frame in value["frames"]]
        value["secrets"] = [frame.pop("secrets") for frame in value["frames"]]
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> State:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError on anything else."""
        fields = dict(value)
        secrets = fields.pop("secrets")
        frames = tuple(
            Frame(**{**frame, "history": tuple(frame["history"]), "secrets": hidden})
            for frame, hidden in zip(fields["frames"], secrets, strict=True)
        )
        place, taken = fields["place"], fields.get("taken")
        fields.update(
            frames=frames,
            question=_question(fields["question"]),
            waiting=_waiting(fields["waiting"]),
            place=Place(**place) if place is not None else None,
            channels=tuple(fields["channels"]),
            path=tuple(fields["path"]),
            left_at=fields.get("left_at"),
            taken=None
            if taken is None
            else Taken(_waiting(taken["waiting"]), _question(taken["question"])),
        )
        return cls(**fields)


def _question(value: Mapping[str, Any]) -> Question:
    pending = value["pending"]
    given = {
        "filled": tuple(value["filled"]),
        "pending": None if pending is None else Pending(**pending),
    }
    return Question(**{**value, **given})


def _waiting(value: Mapping[str, Any]) -> Waiting:
    return Waiting(**{**value, "channels": tuple(value["channels"])})
