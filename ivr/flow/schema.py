"""What a flow is made of, and the one table of node kinds that the loader and the JSON Schema read.

A loaded flow is frozen and holds nothing that still has to be checked: expressions are compiled,
prompts parsed, phrases expanded, durations seconds. References to nodes are names that exist; an
empty one means that the designer wrote none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ivr.flow.expr import Compiled, Prompt
from ivr.flow.yamltree import Branch

# --- texts and slots ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wording:
    """One prompt in the languages it is written in; a plain string stands under ""."""

    prompts: Mapping[str, Prompt] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.prompts)

    def choose(self, language: str, default: str) -> tuple[Prompt, str] | None:
        """The prompt for a language and the language it is really in; None where there is none."""
        prompts = self.prompts
        for candidate, spoken in ((language, language), ("", language), (default, default)):
            if candidate in prompts:
                return prompts[candidate], spoken
        return next(((prompt, other) for other, prompt in prompts.items()), None)

    @property
    def names(self) -> frozenset[str]:
        return frozenset().union(*(prompt.names for prompt in self.prompts.values()))


@dataclass(frozen=True, slots=True)
class Slot:
    """What the conversation can learn. `options` are a choice's phrases by language and option."""

    name: str
    type: str
    minimum: int = 0
    maximum: int = 0
    secret: bool = False
    value: Any = None
    options: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


SLOT_TYPES = (
    "digits",
    "number",
    "money",
    "date",
    "time",
    "phone",
    "yes_no",
    "choice",
    "text",
)

# --- nodes --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What every node has: its name, and where it goes on ("" for nowhere)."""

    name: str
    then: str = ""
    otherwise: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SayNode(Node):
    """Says a prompt."""

    prompt: Wording


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking(Node):
    """How a question is put, whatever it asks for. Times are seconds."""

    ask: Wording = Wording()
    no_input: tuple[Wording, ...] = ()
    no_match: tuple[Wording, ...] = ()
    tries: int = 3
    wait: float = 5.0
    complete: float = 0.3
    incomplete: float = 1.2
    barge_in: tuple[str, ...] = ("speech", "keys")
    accept: float = 0.7
    reject: float = 0.35
    listen: tuple[str, ...] | None = None
    confirm: str = "unsure"


@dataclass(frozen=True, slots=True)
class MenuChoice:
    """One way out of a menu; `say` and `label` are by language ("" for every one)."""

    name: str
    then: str
    key: str = ""
    say: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MenuNode(Asking):
    """Asks, and branches."""

    choices: tuple[MenuChoice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectNode(Asking):
    """Fills slots; `asks` are the prompts for single ones of several."""

    slots: tuple[str, ...]
    asks: Mapping[str, Wording] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmNode(Asking):
    """Asks yes or no; `no` is where a no leads, `otherwise` where too many misses do."""

    no: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetNode(Node):
    """Fills slots from expressions, in order."""

    values: tuple[tuple[str, Compiled], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WhenNode(Node):
    """Branches by the first condition that holds; `then` is the else."""

    cases: tuple[tuple[Compiled, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HoursNode(Node):
    """Branches by a calendar."""

    calendar: str
    open: str
    closed: str
    holiday: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageNode(Node):
    """Switches the language to what the prompt `to` comes out as."""

    to: Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchNode(Node):
    """Asks another system. `path` begins with the hole of the system's name."""

    method: str
    system: str
    path: Prompt
    headers: Mapping[str, Prompt] = field(default_factory=dict)
    json: Any = None
    timeout: float = 3.0
    into: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferNode(Asking):
    """Offers to go on over another channel; `otherwise` is where a customer goes who declines."""

    channels: tuple[str, ...]
    message: Wording
    mode: str = "move"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueNode(Node):
    """Hands over to people; `then` is where it goes on when the person is done."""

    skills: tuple[str, ...] = ()
    priority: Compiled | None = None
    pop: tuple[tuple[str, ...], ...] = ()
    waiting: Wording = Wording()
    waiting_unknown: Wording = Wording()
    offer_wait: float = 0.0
    offer_then: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferNode(Node):
    """Connects to a telephone."""

    to: str
    ring: float = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordNode(Node):
    """Takes a message."""

    slot: str
    ask: Wording = Wording()
    maximum: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CallNode(Node):
    """Runs another flow and comes back; `given` fill its slots, `taken` come back from it."""

    flow: str
    given: tuple[tuple[str, Compiled], ...] = ()
    taken: tuple[tuple[str, Compiled], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndNode(Node):
    """Ends the flow, or comes back from it."""

    prompt: Wording = Wording()
    outcome: str = "completed"


AnyNode = (
    SayNode
    | MenuNode
    | CollectNode
    | ConfirmNode
    | SetNode
    | WhenNode
    | HoursNode
    | LanguageNode
    | FetchNode
    | OfferNode
    | QueueNode
    | TransferNode
    | RecordNode
    | CallNode
    | EndNode
)

QUESTIONS = (MenuNode, CollectNode, ConfirmNode, OfferNode)
"""The kinds that wait for the customer's answer."""

# --- flows --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """One flow, loaded. `anytime` says where the global commands lead; a command that is dropped or
    that this flow has no use for is absent, and "" means the engine's own meaning. `people` is the
    queue that is nearest to the start (or else the first in the file), "" without one.

    `tree` is the file it came from, so that whoever finds fault can say where.
    """

    name: str
    file: str
    languages: tuple[str, ...]
    start: str
    nodes: Mapping[str, AnyNode]
    slots: Mapping[str, Slot]
    uses: tuple[str, ...]
    channels: tuple[str, ...]
    anytime: Mapping[str, str]
    people: str
    known: frozenset[str]
    tree: Branch
    record_calls: bool = False

    def where(self, *path: str | int, value: bool = False) -> tuple[int, int]:
        """Line and column of the key (or the value) at a path into the file, as far as it goes."""
        for length in range(len(path), 0, -1):
            parent, branch = self.tree.find(path[: length - 1]), self.tree.find(path[:length])
            if parent is not None and branch is not None:
                place = parent.keys.get(str(path[length - 1]))
                return place if place and not value else (branch.line, branch.column)
        return self.tree.line, self.tree.column


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """The flows of a folder, with the one to begin with.

    `version` is the SHA-256 of the texts of that flow and all that it calls, so that a conversation
    finishes on what it began with.
    """

    entry: str
    flows: Mapping[str, Flow]
    version: str
    texts: Mapping[str, str]


# --- the table of node kinds --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a node's body: the type that `ivr.flow.loader` reads it as, and the field that it
    fills, where that has another name."""

    type: str
    required: bool = False
    into: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of node. `beside` are the keys that may stand beside it; `bare` is the key that a
    body stands for which is not a mapping of keys, and `whole` says that no body is one."""

    node: type[Node]
    keys: Mapping[str, Key]
    beside: tuple[str, ...] = ("then",)
    bare: str = ""
    whole: bool = False


_ASKING = {
    "ask": Key("prompt", required=True),
    "no_input": Key("prompts"),
    "no_match": Key("prompts"),
    "tries": Key("count"),
    "otherwise": Key("node"),
    "wait": Key("duration"),
    "complete": Key("duration"),
    "incomplete": Key("duration"),
    "barge_in": Key("barge_in"),
    "confidence": Key("confidence"),
    "listen": Key("listen"),
}
_CONFIRMED = {"confirm": Key("confirm_mode")}

KINDS: Mapping[str, Kind] = {
    "say": Kind(SayNode, {"prompt": Key("prompt", required=True)}, bare="prompt", whole=True),
    "menu": Kind(
        MenuNode,
        {**_ASKING, **_CONFIRMED, "choices": Key("choices", required=True)},
        beside=("then", "otherwise"),
    ),
    "collect": Kind(
        CollectNode,
        {
            **_ASKING,
            **_CONFIRMED,
            "ask": Key("prompt"),
            "slot": Key("slot", into="slots"),
            "slots": Key("asked_slots"),
        },
        beside=("then", "otherwise"),
    ),
    "confirm": Kind(ConfirmNode, _ASKING, beside=("then", "otherwise")),
    "set": Kind(SetNode, {"values": Key("assignments", required=True)}, bare="values", whole=True),
    "when": Kind(WhenNode, {"cases": Key("cases", required=True)}, bare="cases", whole=True),
    "hours": Kind(
        HoursNode,
        {
            "calendar": Key("name", required=True),
            "open": Key("node", required=True),
            "closed": Key("node", required=True),
            "holiday": Key("node"),
        },
        beside=(),
    ),
    "language": Kind(LanguageNode, {"to": Key("language", required=True)}, bare="to"),
    "fetch": Kind(
        FetchNode,
        {
            **{
                method: Key("url", into="path")
                for method in ("get", "post", "put", "patch", "delete")
            },
            "json": Key("json"),
            "headers": Key("headers"),
            "timeout": Key("duration"),
            "into": Key("new_name"),
        },
        beside=("then", "otherwise"),
    ),
    "offer": Kind(
        OfferNode,
        {
            **{key: read for key, read in _ASKING.items() if key != "otherwise"},
            "channels": Key("channels", required=True),
            "message": Key("message", required=True),
            "mode": Key("mode"),
            "declined": Key("node", into="otherwise"),
        },
    ),
    "queue": Kind(
        QueueNode,
        {
            "skills": Key("names"),
            "priority": Key("expression"),
            "pop": Key("shown"),
            "waiting": Key("waiting"),
            "offer_after": Key("offer_after"),
        },
        beside=("then", "otherwise"),
    ),
    "transfer": Kind(
        TransferNode,
        {"to": Key("number", required=True), "ring": Key("duration")},
        beside=("then", "otherwise"),
    ),
    "record": Kind(
        RecordNode,
        {
            "slot": Key("slot", required=True),
            "ask": Key("prompt"),
            "max": Key("duration", into="maximum"),
        },
        beside=("then", "otherwise"),
    ),
    "call": Kind(
        CallNode,
        {
            "flow": Key("called_flow", required=True),
            "in": Key("given", into="given"),
            "out": Key("taken", into="taken"),
        },
        beside=("then", "otherwise"),
    ),
    "end": Kind(
        EndNode,
        {"say": Key("prompt", into="prompt"), "outcome": Key("name")},
        beside=(),
        bare="say",
    ),
}

FLOW_KEYS: Mapping[str, Key] = {
    "flow": Key("name", required=True),
    "languages": Key("languages"),
    "start": Key("node", required=True),
    "uses": Key("names"),
    "channels": Key("channels"),
    "anytime": Key("anytime"),
    "record_calls": Key("flag"),
    "slots": Key("slots"),
    "nodes": Key("nodes", required=True),
}

SLOT_KEYS: Mapping[str, Key] = {
    "type": Key("slot_type", required=True),
    "length": Key("count"),
    "min": Key("count", into="minimum"),
    "max": Key("count", into="maximum"),
    "secret": Key("flag"),
    "value": Key("value"),
    "of": Key("options"),
}

CHOICE_KEYS: Mapping[str, Key] = {
    "press": Key("press"),
    "say": Key("phrases"),
    "label": Key("label"),
    "then": Key("node"),
}


def targets(node: AnyNode) -> tuple[str, ...]:
    """The nodes that a node names, the likeliest first."""
    match node:
        case MenuNode():
            more = tuple(choice.then for choice in node.choices)
        case ConfirmNode():
            more = (node.no,)
        case WhenNode():
            more = tuple(target for _, target in node.cases)
        case HoursNode():
            more = (node.open, node.closed, node.holiday)
        case QueueNode():
            more = (node.offer_then,)
        case _:
            more = ()
    return tuple(dict.fromkeys(filter(None, (*more, node.then, node.otherwise))))
