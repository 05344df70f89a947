"""What a customer's chat and the server say to each other, one JSON text frame a message.

The texts of a conversation are numbered from 1. A chat that was away names the last number that it
has, and is sent what follows; a text that it wrote carries an id of its own, so that it is sent
again until it is `accepted`, and is there once. `docs/chat-protocol.md` shows an example of each.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from ivr.errors import RemoteProtocolError
from ivr.model import Text

MAX_BYTES = 32 * 1024
"""The largest frame that a customer may send."""

TEXT_CHARACTERS = 4_000
PAGE = 200
"""So many texts are sent at once; `more` tells that there are others."""

_MAX_SERVER_BYTES = 4 * 1024 * 1024
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")

State = Literal["none", "flow", "queued", "person", "ended"]
Number = Annotated[int, Field(ge=0, lt=2**31)]


def _written(text: str) -> str:
    text = _CONTROLS.sub("", text)
    if not text.strip():
        raise ValueError("there is nothing in this text")
    return text


class _Frame(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    v: Literal[1] = 1


# --- from the customer --------------------------------------------------------------------------


class Open(_Frame):
    """The first frame: who this is, if they have been here, and what of which conversation this
    chat has."""

    type: Literal["open"] = "open"
    token: str = Field("", max_length=128, pattern=r"^[A-Za-z0-9_-]*$", repr=False)
    conversation: str = Field("", max_length=64)
    after: Number = 0


class Begin(_Frame):
    """Begin a conversation, unless one goes on."""

    type: Literal["begin"] = "begin"
    language: str = Field("", max_length=16, pattern=r"^[A-Za-z-]*$")


class Write(_Frame):
    """Write a text. `turn` is that of the question whose choice was tapped: too late for it, the
    text answers nothing. The same id again is the same text."""

    type: Literal["text"] = "text"
    id: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._:-]+$")
    text: Annotated[str, Field(min_length=1, max_length=TEXT_CHARACTERS), AfterValidator(_written)]
    turn: Annotated[int, Field(ge=0, lt=2**31)] | None = None


class Writes(_Frame):
    """The customer is writing, or has stopped."""

    type: Literal["typing"] = "typing"
    on: bool


class Got(_Frame):
    """Our texts up to this number have arrived."""

    type: Literal["got"] = "got"
    up_to: Number


class Read(_Frame):
    """Our texts up to this number have been read."""

    type: Literal["read"] = "read"
    up_to: Number


class History(_Frame):
    """Send the texts behind this number."""

    type: Literal["history"] = "history"
    after: Number


class End(_Frame):
    """The customer ends the conversation."""

    type: Literal["end"] = "end"


class Ping(_Frame):
    """Are you there?"""

    type: Literal["ping"] = "ping"


ClientFrame = Open | Begin | Write | Writes | Got | Read | History | End | Ping

# --- from the server ----------------------------------------------------------------------------


class Choice(BaseModel):
    """A way to answer: its label is what a tap sends; the key may be typed instead, if there is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    label: str


class Message(BaseModel):
    """One text of the thread. `who` is `customer`, `flow` or `agent`, whose `name` is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    id: str
    who: Literal["customer", "flow", "agent"]
    name: str = ""
    text: str
    at: datetime
    choices: tuple[Choice, ...] = ()
    turn: int | None = None
    status: Literal["", "sent", "delivered", "read", "failed"] = ""

    @classmethod
    def of(cls, text: Text) -> Message:
        choices = tuple(Choice(key=key, label=label) for key, label in text.choices)
        return cls.model_validate(
            {
                "number": text.number,
                "id": text.id,
                "who": text.who,
                "name": text.name,
                "text": text.text,
                "at": text.at,
                "choices": choices,
                "turn": text.turn,
                "status": text.status,
            }
        )


class Thread(_Frame):
    """Texts in order; `more` says that others follow, to be had by `history`."""

    type: Literal["thread"] = "thread"
    messages: tuple[Message, ...]
    more: bool = False


class Opened(_Frame):
    """The first answer, and the one to `begin`. `token` is the customer's own from now on: whoever
    has it reads this thread. `conversation` is empty while none goes on."""

    type: Literal["opened"] = "opened"
    token: str = Field(repr=False)
    conversation: str = ""
    state: State = "none"
    messages: tuple[Message, ...] = ()
    more: bool = False


class NewMessage(_Frame):
    """A text has come into the thread."""

    type: Literal["message"] = "message"
    message: Message


class Accepted(_Frame):
    """The customer's text is kept, under this number."""

    type: Literal["accepted"] = "accepted"
    id: str
    number: int


class AgentTyping(_Frame):
    """An agent is writing, or has stopped."""

    type: Literal["typing"] = "typing"
    on: bool
    name: str = ""


class AgentRead(_Frame):
    """The customer's texts up to this number have been read."""

    type: Literal["read"] = "read"
    up_to: int


class StateNow(_Frame):
    """Who answers now: the `flow`, nobody yet (`queued`), a `person`, or it is `ended`."""

    type: Literal["state"] = "state"
    state: State


class Pong(_Frame):
    """Here."""

    type: Literal["pong"] = "pong"


class Error(_Frame):
    """What was sent has changed nothing. `code` is `bad_message`, `too_fast`, `over` (there is no
    conversation to do it in), `unavailable` (try again) or `refused`; `id` is that of the text."""

    type: Literal["error"] = "error"
    code: str
    text: str
    id: str = ""


ServerFrame = (
    Opened | Thread | NewMessage | Accepted | AgentTyping | AgentRead | StateNow | Pong | Error
)

_CLIENT: TypeAdapter[ClientFrame] = TypeAdapter(Annotated[ClientFrame, Field(discriminator="type")])
_SERVER: TypeAdapter[ServerFrame] = TypeAdapter(Annotated[ServerFrame, Field(discriminator="type")])


def parse_client(text: str | bytes) -> ClientFrame:
    """What a chat said. Raises RemoteProtocolError with one line that names the field."""
    frame: ClientFrame = _parse(_CLIENT, text, MAX_BYTES)
    return frame


def parse_server(text: str | bytes) -> ServerFrame:
    """What the server said, for clients. Raises RemoteProtocolError."""
    frame: ServerFrame = _parse(_SERVER, text, _MAX_SERVER_BYTES)
    return frame


def _parse(adapter: TypeAdapter[Any], text: str | bytes, limit: int) -> Any:
    size = len(text) if isinstance(text, bytes) else len(text.encode("utf-8", "surrogatepass"))
    if size > limit:
        raise RemoteProtocolError(f"the message has {size} bytes; at most {limit} are taken")
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        # The peer's own bytes do not belong into our answer.
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        known = first["type"] != "extra_forbidden"
        field = ".".join(str(part) for part in first["loc"] if known) or "message"
        raise RemoteProtocolError(f"{field[:80]}: {first['msg'][:200]}") from None
    except ValueError as error:  # lone surrogates, before pydantic sees any JSON
        raise RemoteProtocolError(f"message: {type(error).__name__}") from None
