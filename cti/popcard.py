"""What a card on an agent's screen is made of: one conversation, and everything known of it.

Values are shown as text and nothing else; `cti.screenpop` makes them out of what the store knows.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

KindName = Literal["call", "chat", "message"]
StageName = Literal["offered", "ringing", "active", "held", "wrap_up"]


class Part(BaseModel):
    """A value in a message: frozen, and refusing fields that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Capacity(Part):
    """How much an agent does at once. `chats` counts messages too, as `chats_on_call` does."""

    calls: int = 1
    chats: int = 4
    chats_on_call: int = 0


class AgentCard(Part):
    """Whose screen this is. `skills` tells each skill's level, 1 to 5."""

    login: str
    name: str
    extension: str
    roles: tuple[str, ...] = ()
    skills: dict[str, int] = {}
    languages: tuple[str, ...] = ()
    capacity: Capacity = Capacity()


class PopFact(Part):
    """One thing known of the customer; `first` marks what the flow wants to be seen first.
    `source` is `flow`, `crm` or the login of the agent who corrected it."""

    name: str
    value: str
    first: bool = False
    source: str = "flow"


class PopLine(Part):
    """One utterance: `who` is `caller` or `hotline`; `misheard` says that it was not understood."""

    who: str
    text: str
    at: datetime
    misheard: bool = False


class PopEarlier(Part):
    """An earlier conversation with this customer, over whichever channel."""

    at: datetime
    topic: str
    outcome: str = ""
    agent: str = ""
    note: str = ""
    channel: str = ""


class PopNote(Part):
    """What an agent wrote down about this customer or conversation."""

    text: str
    agent: str
    at: datetime


class PopContact(Part):
    """A customer in our book. `numbers` are written as people write them."""

    id: str
    name: str
    language: str = ""
    numbers: tuple[str, ...] = ()


class FileCard(Part):
    """A file in a chat. `url` is on this server; the name is the sender's claim."""

    name: str
    type: str
    bytes: int
    url: str


class ChatMessage(Part):
    """One text between a customer and us. `who` is `customer`, `flow` or `agent`; `status` is how
    far a text of ours has got: `sent`, `delivered`, `read` or `failed`."""

    id: str
    who: Literal["customer", "flow", "agent"]
    name: str = ""
    text: str
    at: datetime
    file: FileCard | None = None
    status: Literal["", "sent", "delivered", "read", "failed"] = ""


class Party(Part):
    """Who else is in a call, as Asterisk tells. `role` is `customer`, `agent` or `consulted`."""

    role: Literal["customer", "agent", "consulted"]
    name: str = ""
    number: str = ""
    state: Literal["ringing", "talking", "held"] = "talking"


class PopCard(Part):
    """All that is shown of a conversation. `number` is what the caller ID claims: `verified` says
    how far it is to be believed: `claimed`, `known` (one customer in our book has it) or `verified`
    (the flow has proved it).

    `can` names the orders that are possible now; a page shows buttons for these alone. `until` is
    when wrap-up ends by itself, `consult` is an attended transfer under way, and `context` is what
    `from_agent` wrote when transferring it here. `crm_state` is `` (there is no CRM), `loading`,
    `ready` or `failed`.
    """

    conversation: str
    channel: str
    number: str
    dialled: str
    name: str
    topic: str
    language: str
    waited: float
    path: tuple[str, ...] = ()
    facts: tuple[PopFact, ...] = ()
    transcript: tuple[PopLine, ...] = ()
    earlier: tuple[PopEarlier, ...] = ()
    kind: KindName = "call"
    stage: StageName = "offered"
    since: datetime | None = None
    answered_at: datetime | None = None
    until: datetime | None = None
    verified: Literal["claimed", "known", "verified"] = "claimed"
    contact: PopContact | None = None
    matches: tuple[PopContact, ...] = ()
    crm_state: Literal["", "loading", "ready", "failed"] = ""
    notes: tuple[PopNote, ...] = ()
    messages: tuple[ChatMessage, ...] = ()
    channels: tuple[str, ...] = ()
    muted: bool = False
    parties: tuple[Party, ...] = ()
    consult: Party | None = None
    from_agent: str = ""
    context: str = ""
    can: tuple[str, ...] = ()
