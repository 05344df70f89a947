"""What an agent's screen and the server say to each other, one JSON text frame a message.

Every message carries the protocol's version `v`. What the server tells (*news*) is numbered for the
agent and not for the connection: `n` counts up by one, alike on all of the agent's screens, within
one `stream`. A screen that comes back names the last number it has seen and is sent what it missed,
or, when that is too long ago, `hello` with everything. What the screen asks for (*orders*) may
carry an `id`; an order that does something is answered by exactly one `outcome` with that id. A
message that cannot be understood is answered with an `error` that says why, and changes nothing.
`docs/agent-protocol.md` shows an example of each.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from cti.popcard import AgentCard as AgentCard
from cti.popcard import Capacity as Capacity
from cti.popcard import ChatMessage as ChatMessage
from cti.popcard import FileCard as FileCard
from cti.popcard import Part
from cti.popcard import Party as Party
from cti.popcard import PopCard as PopCard
from cti.popcard import PopContact as PopContact
from cti.popcard import PopEarlier as PopEarlier
from cti.popcard import PopFact as PopFact
from cti.popcard import PopLine as PopLine
from cti.popcard import PopNote as PopNote
from ivr.errors import RemoteProtocolError

VERSION = 1
MAX_CLIENT_BYTES = 32 * 1024
"""The largest frame a screen may send."""

_MAX_SERVER_BYTES = 4 * 1024 * 1024

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")

Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._:-]+$")]
OrderId = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._:-]*$")]
FreeText = Annotated[
    str, Field(max_length=4000), AfterValidator(lambda text: _CONTROLS.sub("", text))
]
ShortText = Annotated[
    str, Field(max_length=200), AfterValidator(lambda text: _CONTROLS.sub("", text))
]
PresenceName = Literal["offline", "available", "away"]
Disposition = Literal[
    "", "resolved", "follow_up", "transferred", "wrong_number", "no_customer", "other"
]
DISPOSITIONS: tuple[str, ...] = tuple(name for name in get_args(Disposition) if name)
"""How a conversation with a person can come out, for the reports."""


class _Message(Part):
    v: Literal[1] = 1


# --- orders, from the screen --------------------------------------------------------------------


class Login(_Message):
    """The first frame: the token that `POST /api/login` gave, and what this screen has seen."""

    type: Literal["login"] = "login"
    token: str = Field(min_length=1, max_length=256, repr=False)
    stream: OrderId = ""
    after: int = Field(0, ge=0, lt=2**53)


class _Order(_Message):
    id: OrderId = ""


class SetPresence(_Order):
    """Ready for customers, or not."""

    type: Literal["presence"] = "presence"
    to: Literal["available", "away"]
    reason: str = Field("", max_length=80)


class _About(_Order):
    conversation: Id


class Seen(_About):
    """The pop is on the screen: now the phone may ring."""

    type: Literal["seen"] = "seen"


class Accept(_About):
    """Take a chat or message that is offered. A call is taken by answering the phone."""

    type: Literal["accept"] = "accept"


class Decline(_About):
    """Not this one: the customer goes to somebody else, and the agent is away."""

    type: Literal["decline"] = "decline"


class HangUp(_About):
    """End it: the call, or the chat."""

    type: Literal["hang_up"] = "hang_up"


class Hold(_About):
    """Let the customer hear music."""

    type: Literal["hold"] = "hold"


class Retrieve(_About):
    """Take the customer off hold."""

    type: Literal["retrieve"] = "retrieve"


class Mute(_About):
    """Let the customer not hear the agent, or hear them again."""

    type: Literal["mute"] = "mute"
    on: bool


class SendKeys(_About):
    """Press keys into the call."""

    type: Literal["keys"] = "keys"
    digits: str = Field(min_length=1, max_length=32, pattern=r"^[0-9A-D*#]+$")


class Target(Part):
    """Whom to transfer to: an agent's login, a queue's skill, or a telephone number."""

    kind: Literal["agent", "queue", "number"]
    value: ShortText = Field(min_length=1)


class TransferTo(_About):
    """Pass the customer on. `blind` lets go at once; `attended` first talks to the other, and then
    wants `complete`, `cancel` or `conference`. `note` is shown to whoever takes it."""

    type: Literal["transfer"] = "transfer"
    to: Target
    mode: Literal["blind", "attended"] = "blind"
    note: FreeText = ""


class Complete(_About):
    """Connect the customer with whom the agent has consulted, and leave."""

    type: Literal["complete"] = "complete"


class Cancel(_About):
    """Let go of whom the agent has consulted, and go back to the customer."""

    type: Literal["cancel"] = "cancel"


class Conference(_About):
    """Three-way: whom the agent has consulted joins the call."""

    type: Literal["conference"] = "conference"


class Park(_About):
    """Leave the customer on a parking place that any telephone can dial."""

    type: Literal["park"] = "park"


class WriteNote(_About):
    """Keep what the conversation came to. Sent again, it replaces what was sent before."""

    type: Literal["note"] = "note"
    text: FreeText = ""
    disposition: Disposition = ""


class Done(_About):
    """Wrap-up is over."""

    type: Literal["done"] = "done"


class MoreTime(_About):
    """A minute more of wrap-up."""

    type: Literal["more_time"] = "more_time"


class SayText(_About):
    """Write to the customer. The id makes a repeat harmless."""

    type: Literal["say"] = "say"
    id: Id
    text: FreeText = Field(min_length=1)


class Typing(_About):
    """The agent is writing, or has stopped."""

    type: Literal["typing"] = "typing"
    on: bool


class Read(_About):
    """The agent has read the customer's texts up to this one."""

    type: Literal["read"] = "read"
    up_to: Id


class Take(_About):
    """Take a conversation over from the flow: from now on the agent speaks."""

    type: Literal["take"] = "take"


class GiveBack(_About):
    """Give it back to the flow, which goes on where it was."""

    type: Literal["give_back"] = "give_back"


class SetContact(_About):
    """Say who the customer is: a contact that exists (`contact`), or a new one (empty). A name or
    language that is given is kept; `remember` adds the customer's address to the contact."""

    type: Literal["contact"] = "contact"
    contact: OrderId = ""
    name: ShortText = ""
    language: str = Field("", max_length=16, pattern=r"^[A-Za-z-]*$")
    remember: bool = True


class CorrectFact(_About):
    """Correct what is known. It is kept in the record, and goes with every transfer."""

    type: Literal["fact"] = "fact"
    name: ShortText = Field(min_length=1)
    value: ShortText


class TextTo(_About):
    """Send the customer a text over another channel."""

    type: Literal["text_to"] = "text_to"
    id: Id
    channel: str = Field(max_length=16, pattern=r"^[a-z]+$")
    text: FreeText = Field(min_length=1)


class Dial(_Order):
    """Ring the agent's phone, and then this number."""

    type: Literal["dial"] = "dial"
    number: str = Field(min_length=1, max_length=40, pattern=r"^[+0-9 ().-]+$")


class Ping(_Message):
    """Are you there?"""

    type: Literal["ping"] = "ping"


ClientMessage = (
    Login
    | SetPresence
    | Seen
    | Accept
    | Decline
    | HangUp
    | Hold
    | Retrieve
    | Mute
    | SendKeys
    | TransferTo
    | Complete
    | Cancel
    | Conference
    | Park
    | WriteNote
    | Done
    | MoreTime
    | SayText
    | Typing
    | Read
    | Take
    | GiveBack
    | SetContact
    | CorrectFact
    | TextTo
    | Dial
    | Ping
)

# --- news, from the server ----------------------------------------------------------------------


class _Numbered(_Message):
    n: int = 0


class PresenceState(Part):
    """What the agent is doing now, why, and since when."""

    state: PresenceName
    reason: str = ""
    since: datetime


class PresenceNow(PresenceState, _Numbered):
    """The agent's presence has changed."""

    type: Literal["presence"] = "presence"


class QueueState(Part):
    """The line as it is now; `longest` is the longest wait in seconds."""

    waiting: int
    longest: float


class QueueNow(QueueState, _Numbered):
    """The line has changed."""

    type: Literal["queue"] = "queue"


class Pop(_Numbered):
    """A customer is coming, and this is what they want; or something about a conversation in hand
    has changed. It is the whole card each time, and takes the place of the one before."""

    type: Literal["pop"] = "pop"
    card: PopCard


class PhoneRinging(_Numbered):
    """The agent's telephone rings, for so many seconds."""

    type: Literal["ringing"] = "ringing"
    conversation: str
    seconds: float


class CallAnswered(_Numbered):
    """Agent and customer are connected."""

    type: Literal["answered"] = "answered"
    conversation: str
    at: datetime


class CallEnded(_Numbered):
    """It is over. `outcome` is `talked`, `transferred`, `returned` (to the flow), `no_answer`,
    `busy`, `unavailable`, `declined`, `failed` (the telephone system's fault) or `gone` (the
    customer left before the answer). The card stays for wrap-up after `talked`, `transferred` and
    `returned`."""

    type: Literal["ended"] = "ended"
    conversation: str
    outcome: str
    talked: float = 0.0


class NewMessage(_Numbered):
    """A text in a conversation in hand, or the new status of one."""

    type: Literal["message"] = "message"
    conversation: str
    message: ChatMessage


class CustomerTyping(_Numbered):
    """The customer is writing, or has stopped."""

    type: Literal["typing"] = "typing"
    conversation: str
    on: bool


class CustomerRead(_Numbered):
    """The customer has read up to this text."""

    type: Literal["read"] = "read"
    conversation: str
    up_to: str


class NoteKept(_Numbered):
    """The note is in the record."""

    type: Literal["noted"] = "noted"
    conversation: str


class Wrapped(_Numbered):
    """Wrap-up is over; the card can go."""

    type: Literal["wrapped"] = "wrapped"
    conversation: str


class Outcome(_Numbered):
    """What became of the order with this id: `done`, `refused` (nothing has happened), or `unknown`
    (the link was lost in between: look at the card). `text` is for the person."""

    type: Literal["outcome"] = "outcome"
    id: str
    result: Literal["done", "refused", "unknown"]
    text: str = ""


class CannedReply(Part):
    """A text that agents send often, by language; `{name}` stands for a fact of the card."""

    name: str
    text: dict[str, str]


class Hello(_Numbered):
    """Everything a screen needs to start, also in the middle of calls and chats."""

    type: Literal["hello"] = "hello"
    stream: str = ""
    agent: AgentCard
    presence: PresenceState
    queue: QueueState
    now: datetime
    cards: tuple[PopCard, ...] = ()
    dispositions: tuple[str, ...] = DISPOSITIONS
    reasons: tuple[str, ...] = ()
    replies: tuple[CannedReply, ...] = ()


class Welcome(_Numbered):
    """The screen has missed nothing but what follows."""

    type: Literal["resumed"] = "resumed"
    stream: str


class Pong(_Numbered):
    """Here."""

    type: Literal["pong"] = "pong"


class Error(_Numbered):
    """What was asked for did not happen. `code` is `bad_message`, `not_allowed`, `conflict`,
    `login` or `internal`; `text` is for the person."""

    type: Literal["error"] = "error"
    code: str
    text: str


ServerMessage = (
    Hello
    | Welcome
    | PresenceNow
    | QueueNow
    | Pop
    | PhoneRinging
    | CallAnswered
    | CallEnded
    | NewMessage
    | CustomerTyping
    | CustomerRead
    | NoteKept
    | Wrapped
    | Outcome
    | Pong
    | Error
)

_CLIENT: TypeAdapter[ClientMessage] = TypeAdapter(
    Annotated[ClientMessage, Field(discriminator="type")]
)
_SERVER: TypeAdapter[ServerMessage] = TypeAdapter(
    Annotated[ServerMessage, Field(discriminator="type")]
)


def parse_client(text: str | bytes) -> ClientMessage:
    """What a screen said. Raises RemoteProtocolError with one line that names the field."""
    message: ClientMessage = _parse(_CLIENT, text, MAX_CLIENT_BYTES)
    return message


def parse_server(text: str | bytes) -> ServerMessage:
    """What the server said, for clients. Raises RemoteProtocolError."""
    message: ServerMessage = _parse(_SERVER, text, _MAX_SERVER_BYTES)
    return message


def encode(message: ServerMessage, n: int) -> str:
    """The frame with its number."""
    return message.model_copy(update={"n": n}).model_dump_json()


def _parse(adapter: TypeAdapter[Any], text: str | bytes, limit: int) -> Any:
    size = len(text) if isinstance(text, bytes) else len(text.encode("utf-8", "surrogatepass"))
    if size > limit:
        raise RemoteProtocolError(f"the message has {size} bytes; at most {limit} are taken")
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        # `input` and `url` are left out: the peer's own bytes do not belong into our answer.
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        named = ".".join(str(part) for part in first["loc"])
        field = "".join(filter(str.isprintable, named)) or "message"  # a peer may name one so
        raise RemoteProtocolError(f"{field[:80]}: {first['msg'][:200]}") from None
    except ValueError as error:  # lone surrogates, before pydantic sees any JSON
        raise RemoteProtocolError(f"message: {type(error).__name__}") from None
