"""What an agent's screen and the server say to each other, one JSON text frame a message.

Every message carries the protocol's version `v`; every server message also a number `n` that counts
up by one on its connection, so that a screen notices a gap. The first frame of a connection is the
client's `login`, the first answer `hello` with all that is going on. A message that cannot be
understood is answered with an `error` that says why, and changes nothing.
`docs/agent-protocol.md` shows an example of each.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ivr.errors import RemoteProtocolError

VERSION = 1
MAX_CLIENT_BYTES = 32 * 1024
"""The largest frame a screen may send."""

_MAX_SERVER_BYTES = 1024 * 1024

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")

Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._:-]+$")]
FreeText = Annotated[
    str, Field(max_length=4000), AfterValidator(lambda text: _CONTROLS.sub("", text))
]
PresenceName = Literal["offline", "available", "away", "offered", "talking", "wrap_up"]
Disposition = Literal[
    "", "resolved", "follow_up", "transferred", "wrong_number", "no_customer", "other"
]
DISPOSITIONS: tuple[str, ...] = tuple(name for name in get_args(Disposition) if name)
"""How a conversation with a person can come out, for the reports."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Message(_Part):
    v: Literal[1] = 1


# --- from the screen ----------------------------------------------------------------------------


class Login(_Message):
    """The first frame: the token that `POST /api/login` gave."""

    type: Literal["login"] = "login"
    token: str = Field(min_length=1, max_length=256, repr=False)


class SetPresence(_Message):
    """Ready for customers, or not."""

    type: Literal["presence"] = "presence"
    to: Literal["available", "away"]
    reason: str = Field("", max_length=80)


class Decline(_Message):
    """Not this one: the caller goes to somebody else, and the agent is away."""

    type: Literal["decline"] = "decline"
    conversation: Id


class HangUp(_Message):
    """End the call."""

    type: Literal["hang_up"] = "hang_up"
    conversation: Id


class WriteNote(_Message):
    """Keep what the conversation came to. Sent again, it replaces what was sent before."""

    type: Literal["note"] = "note"
    conversation: Id
    text: FreeText = ""
    disposition: Disposition = ""


class Done(_Message):
    """Wrap-up is over."""

    type: Literal["done"] = "done"
    conversation: Id


class Seen(_Message):
    """The pop is on the screen: now the phone may ring."""

    type: Literal["seen"] = "seen"
    conversation: Id


class Ping(_Message):
    """Are you there?"""

    type: Literal["ping"] = "ping"


ClientMessage = Login | SetPresence | Decline | HangUp | WriteNote | Done | Seen | Ping

# --- from the server ----------------------------------------------------------------------------


class _Numbered(_Message):
    n: int = 0


class AgentCard(_Part):
    """Whose screen this is."""

    login: str
    name: str
    extension: str
    skills: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()


class PopFact(_Part):
    """One thing known of the customer; `first` marks what the flow wants to be seen first."""

    name: str
    value: str
    first: bool = False


class PopLine(_Part):
    """One utterance: `who` is `caller` or `hotline`."""

    who: str
    text: str
    at: datetime


class PopEarlier(_Part):
    """An earlier conversation with this customer."""

    at: datetime
    topic: str
    outcome: str = ""
    agent: str = ""
    note: str = ""


class PopCard(_Part):
    """All that is shown of a conversation. `number` is what the caller ID claims: no proof."""

    conversation: str
    channel: str
    number: str
    dialled: str
    name: str
    topic: str
    language: str
    waited: float
    path: tuple[str, ...]
    facts: tuple[PopFact, ...]
    transcript: tuple[PopLine, ...]
    earlier: tuple[PopEarlier, ...]


class PresenceState(_Part):
    """What the agent is doing now, why, and since when. `until` is when wrap-up ends by itself."""

    state: PresenceName
    reason: str = ""
    since: datetime
    until: datetime | None = None


class PresenceNow(PresenceState, _Numbered):
    """The agent's presence has changed."""

    type: Literal["presence"] = "presence"


class QueueState(_Part):
    """The line as it is now; `longest` is the longest wait in seconds."""

    waiting: int
    longest: float


class QueueNow(QueueState, _Numbered):
    """The line has changed."""

    type: Literal["queue"] = "queue"


class Pop(_Numbered):
    """A customer is coming, and this is what they want. Sent again when more becomes known."""

    type: Literal["pop"] = "pop"
    card: PopCard


class PhoneRinging(_Numbered):
    """The agent's telephone rings."""

    type: Literal["ringing"] = "ringing"
    conversation: str
    seconds: float


class CallAnswered(_Numbered):
    """Agent and caller hear each other."""

    type: Literal["answered"] = "answered"
    conversation: str
    at: datetime


class CallEnded(_Numbered):
    """It is over. `outcome` is `talked`, `no_answer`, `busy`, `unavailable`, `declined`, `failed`
    (the telephone system's fault) or `gone` (the caller left before the answer)."""

    type: Literal["ended"] = "ended"
    conversation: str
    outcome: str
    talked: float = 0.0


class NoteKept(_Numbered):
    """The note is in the record."""

    type: Literal["noted"] = "noted"
    conversation: str


class Wrapped(_Numbered):
    """Wrap-up is over; the card can go."""

    type: Literal["wrapped"] = "wrapped"
    conversation: str


class Hello(_Numbered):
    """Everything a screen needs to start, also in the middle of a call."""

    type: Literal["hello"] = "hello"
    agent: AgentCard
    presence: PresenceState
    queue: QueueState
    now: datetime
    card: PopCard | None = None
    answered_at: datetime | None = None
    dispositions: tuple[str, ...] = DISPOSITIONS


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
    | PresenceNow
    | QueueNow
    | Pop
    | PhoneRinging
    | CallAnswered
    | CallEnded
    | NoteKept
    | Wrapped
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
        field = ".".join(str(part) for part in first["loc"]) or "message"
        raise RemoteProtocolError(f"{field[:80]}: {first['msg'][:200]}") from None
    except ValueError as error:  # lone surrogates, before pydantic sees any JSON
        raise RemoteProtocolError(f"message: {type(error).__name__}") from None
