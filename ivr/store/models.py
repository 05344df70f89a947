"""The tables, and what may stand in them: the schema as one page.

    contacts ─┬─ contact_addresses       a customer, and where they can be reached
              └─ conversations ─┬─ legs ── call_records     one connection; what became of the call
                                ├─ timeline     everything heard, said, pressed and decided
                                ├─ messages     the texts of its thread, numbered
                                ├─ corrections  what agents know better than the flow
                                ├─ tickets      places in line for a person
                                └─ outbox       messages on their way out
    recordings         files of calls and messages, until their retention is over
    agents ─┬─ presences     whether they take calls now
            └─ tokens        their logins, hashed
    login_failures     attempts that failed, for throttling
    flows ── releases  the text of every flow version that a conversation may be pinned to; when it
                       was published, by whom, and whether it was rolled back
    rollouts           the version that only some callers of a flow get
    milestones         what wallboards count of all timelines, and webhooks tell
    deliveries         what webhooks are still to tell
    audit              who has used power over others, written before it was used

The rules that every table keeps:

- Times go in aware and come out as UTC (`Moment`).
- Text may come from anyone who can dial a number. `Words` and `Json` make it storable on both
  databases: NUL and lone surrogates become U+FFFD, and each column's length is a cap at which a
  longer text is cut. A comparison cuts and cleans the same way, so what was stored is found again.
- `conversations.revision` counts writes of the row for optimistic locking; `entries` is the number
  of its timeline entries, and so the last `sequence` given out. Taking the next numbers by an
  UPDATE of that row is what makes them gapless.
- `contacts.sought` is the name as it is compared in a search: case-folded.
- `conversations.agent`, `note` and `disposition` repeat the latest wrap-up, so that the list of a
  customer's earlier conversations is one query over one table.
- A message takes its number in the transaction that has changed its conversation's row: gapless,
  like a timeline's. Whoever wrote it gave it an id, by which a repeat is known.
- The primary key of a ticket is (conversation, id), the id being the flow engine's: asking twice is
  the same place in line.
- Nothing is deleted with its parent by the database; conversations are kept. A recording's row is
  there before its file and is deleted after it, so that whoever finds one without the other knows.

A change to this file needs a new revision in `migrations/versions`; a test compares the two.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    text,
)

TIMELINE_KINDS: Mapping[str, str] = {
    # the connection
    "call_started": "a leg began: channel, address, what was dialled",
    "resumed": "the customer is back after a fault of ours; the same question is asked again",
    "hung_up": "the customer left: channel and cause",
    "ended": "the conversation is over: outcome",
    "fault": "something of ours failed and the conversation went on: what, and what was done",
    # talking with the flow
    "said": "a prompt was said or printed: text, and how much of it before it was interrupted",
    "heard": "an utterance was recognised: text, confidence, alternatives",
    "pressed": "keys were pressed (stars in place of a secret slot's)",
    "typed": "a text was received on a text channel",
    "turn": "how a question and its answer went, in seconds: prompt, speech, result, next prompt",
    "timed_out": "the question's wait passed in silence",
    "no_input": "silence where an answer was expected: count",
    "no_match": "an answer that fits nothing: count",
    "matched": "an answer was understood: choice or slot",
    "confirmed": "the customer said yes or no to what was understood",
    # what the flow decided
    "node_entered": "the flow moved to a node",
    "slot_filled": "the conversation learnt a value (never a secret one)",
    "language_switched": "the flow goes on in another language",
    "branched": "a condition or calendar was decided: which way",
    "asked": "another system is asked: its name, method and path, never what is sent in secret",
    "fetched": "another system has answered: status and answer, or the error",
    "invited": "the customer was offered to go on over another channel",
    "moved": "the conversation went on over another channel",
    "not_moved": "the other channel could not be reached or was not taken up: reason",
    "timer_fired": "a time that the flow had set was over",
    "transferred": "the call was transferred: to whom, and the outcome",
    "recorded": "the customer left a message: reference, seconds",
    "call_recorded": "a recording of the call was kept: reference, seconds",
    "listened": "somebody was given a recording to hear: agent, reference",
    # people
    "queued": "the flow asked for a place in line: skills, priority",
    "in_line": "that place was taken: ticket, skills, priority",
    "queue_moved": "the customer was told a new place in line: how many ahead, waited",
    "turned_away": "nobody could take the conversation: nobody, closed, full, timeout",
    "dequeued": "the place in line was given up: reason",
    "offered": "the router chose an agent",
    "pop_shown": "the agent's screen shows the conversation",
    "rang": "the agent's phone began to ring",
    "declined": "the agent did not take the call: no answer, busy, unavailable",
    "answered": "agent and customer are connected",
    "held": "the agent put the customer on hold",
    "retrieved": "the agent took the customer off hold",
    "released": "agent and customer are no longer connected: seconds, who hung up",
    "joined": "the flow was told that a person has taken over",
    "wrapped_up": "the agent is done with writing it up",
    "parted": "the flow was told that the person is done and the customer still there",
    "wrote": "the agent wrote to the customer: agent, id, text",
    "noted": "the agent's wrap-up: agent, note, disposition",
    "identified": "an agent said who the customer is: agent, contact, name",
    "fact_corrected": "an agent corrected what is known: agent, name, value",
}
"""What can stand in `timeline.kind`, each with its meaning and what its body tells."""

BODY_CHARACTERS = 160_000
"""A timeline body that is longer as JSON is replaced by its beginning, under `cut`. The largest
answer that `ivr.fetch` takes still fits, so that a replay has it."""


def clean(text: str) -> str:
    """Text that both databases can hold: no NUL, no lone surrogates."""
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", "\ufffd")


def _clean_json(value: Any) -> Any:
    match value:
        case str():
            return clean(value)
        case float() if not math.isfinite(value):
            return None
        case Mapping():
            return {clean(str(key)): _clean_json(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_clean_json(inner) for inner in value]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def to_json(value: Any) -> str:
    """JSON that both databases can hold. The common case, nothing wrong in it, costs one pass."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
        text.encode()
        if "\\u0000" not in text:
            return text
    except ValueError:  # a lone surrogate, or a number that JSON has no word for
        pass
    return json.dumps(_clean_json(value), ensure_ascii=False, allow_nan=False, default=_plain)


class Moment(TypeDecorator[datetime]):
    """A point in time: aware in, aware UTC out, on databases with and without time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"a time without zone: {value}")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Words(TypeDecorator[str]):
    """Text of at most `length` characters from anyone; longer text is cut, harmful text cleaned."""

    impl = String
    cache_ok = True

    def __init__(self, length: int):
        super().__init__(length)
        self.length = length

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else clean(value)[: self.length]


class Body(TypeDecorator[Any]):
    """What a timeline entry tells, as JSON, kept to a size that a screen can show."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        text = to_json(value)
        return value if len(text) <= BODY_CHARACTERS else {"cut": text[:4_000]}


_KEY = 80  # our own identifiers
_NAME = 255  # addresses, logins, extensions, references

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

contacts = Table(
    "contacts",
    metadata,
    Column("id", Words(_KEY), primary_key=True),
    Column("name", Words(_NAME), nullable=False),
    Column("language", Words(35), nullable=False),
    Column("sought", Words(_NAME), nullable=False, server_default=""),
)

contact_addresses = Table(
    "contact_addresses",
    metadata,
    Column("contact_id", Words(_KEY), ForeignKey("contacts.id"), primary_key=True),
    Column("channel", Words(16), primary_key=True),
    Column("value", Words(_NAME), primary_key=True),
    Column("position", Integer, nullable=False),
    Index(None, "channel", "value"),
)

conversations = Table(
    "conversations",
    metadata,
    Column("id", Words(_KEY), primary_key=True),
    Column("contact_id", Words(_KEY), ForeignKey("contacts.id")),
    Column("flow", Words(_NAME), nullable=False),
    Column("version", Words(_KEY), nullable=False),
    Column("status", Words(16), nullable=False, index=True),
    Column("language", Words(35), nullable=False),
    Column("state", JSON, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("entries", Integer, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("touched_at", Moment),
    Column("ended_at", Moment),
    Column("outcome", Words(_NAME), nullable=False),
    Column("agent", Words(_NAME), nullable=False),
    Column("note", Words(4_000), nullable=False),
    Column("disposition", Words(_NAME), nullable=False),
    Index(None, "contact_id", "started_at"),
    Index(
        "ix_conversations_noted",
        "contact_id",
        "started_at",
        sqlite_where=text("note <> ''"),
        postgresql_where=text("note <> ''"),
    ),
)

legs = Table(
    "legs",
    metadata,
    Column("id", Words(_KEY), primary_key=True),
    Column(
        "conversation_id",
        Words(_KEY),
        ForeignKey("conversations.id"),
        nullable=False,
        index=True,
    ),
    Column("channel", Words(16), nullable=False),
    Column("address", Words(_NAME), nullable=False),
    Column("reference", Words(_NAME), nullable=False, index=True),
    Column("dialled", Words(_NAME), nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("cause", Words(_NAME), nullable=False),
    Index(None, "channel", "address"),
)

timeline = Table(
    "timeline",
    metadata,
    Column("conversation_id", Words(_KEY), ForeignKey("conversations.id"), primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("at", Moment, nullable=False),
    Column("kind", Words(40), nullable=False),
    Column("body", Body, nullable=False),
    Column("leg_id", Words(_KEY)),
)

call_records = Table(
    "call_records",
    metadata,
    Column("leg_id", Words(_KEY), primary_key=True),
    Column(
        "conversation_id",
        Words(_KEY),
        ForeignKey("conversations.id"),
        nullable=False,
        index=True,
    ),
    Column("caller", Words(_NAME), nullable=False),
    Column("dialled", Words(_NAME), nullable=False),
    Column("started_at", Moment, nullable=False, index=True),
    Column("ended_at", Moment, nullable=False),
    Column("agent", Words(_NAME), nullable=False),
    Column("waited", Float, nullable=False),
    Column("talked", Float, nullable=False),
    Column("disposition", Words(_NAME), nullable=False),
    Column("note", Words(4_000), nullable=False),
)

messages = Table(
    "messages",
    metadata,
    Column("conversation_id", Words(_KEY), ForeignKey("conversations.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("id", Words(_KEY), nullable=False),
    Column("who", Words(16), nullable=False),
    Column("author", Words(_NAME), nullable=False),
    Column("name", Words(_NAME), nullable=False),
    Column("text", Words(20_000), nullable=False),
    Column("at", Moment, nullable=False),
    Column("status", Words(16), nullable=False),
    Column("choices", Body, nullable=False),
    Column("turn", Integer),
    Column("file", Body),
    Index(None, "conversation_id", "who", "author", "id", unique=True),
)

corrections = Table(
    "corrections",
    metadata,
    Column("conversation_id", Words(_KEY), ForeignKey("conversations.id"), primary_key=True),
    Column("name", Words(_NAME), primary_key=True),
    Column("value", Words(4_000), nullable=False),
    Column("agent", Words(_NAME), nullable=False),
    Column("at", Moment, nullable=False),
)

agents = Table(
    "agents",
    metadata,
    Column("login", Words(_NAME), primary_key=True),
    Column("name", Words(_NAME), nullable=False),
    Column("extension", Words(_NAME), nullable=False),
    Column("roles", JSON, nullable=False),
    Column("skills", JSON, nullable=False),
    Column("languages", JSON, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("password_hash", Words(_NAME)),
    Column("capacity", JSON),
)

presences = Table(
    "presences",
    metadata,
    Column("login", Words(_NAME), ForeignKey("agents.login"), primary_key=True),
    Column("state", Words(40), nullable=False),
    Column("reason", Words(_NAME), nullable=False),
    Column("since", Moment, nullable=False),
    Column("server", Words(_KEY), nullable=False),
    Column("reachable", Boolean, nullable=False),
    Column("free_since", Moment),
    Column("alive_until", Moment),
)

tokens = Table(
    "tokens",
    metadata,
    Column("token_hash", Words(_NAME), primary_key=True),
    Column("login", Words(_NAME), ForeignKey("agents.login"), nullable=False, index=True),
    Column("expires_at", Moment, nullable=False),
)

login_failures = Table(
    "login_failures",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("login", Words(_NAME), nullable=False, index=True),
    Column("at", Moment, nullable=False, index=True),
)

tickets = Table(
    "tickets",
    metadata,
    Column("conversation_id", Words(_KEY), ForeignKey("conversations.id"), primary_key=True),
    Column("id", Words(_NAME), primary_key=True),
    Column("enqueued_at", Moment, nullable=False),
    Column("skills", JSON, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("language", Words(35), nullable=False),
    Column("pop", JSON, nullable=False),
    Column("status", Words(16), nullable=False, index=True),
    Column("agent", Words(_NAME), nullable=False),
    Column("offered_at", Moment),
    Column("kind", Words(16), nullable=False),
    Column("server", Words(_KEY), nullable=False),
    Column("lease_until", Moment),
    Column("stage", Words(16), nullable=False, index=True),
    Column("reserved", Words(_NAME), nullable=False),
    Column("reserved_until", Moment),
    Column("from_agent", Words(_NAME), nullable=False),
    Column("context", Words(4_000), nullable=False),
    Column("talked", Float),
    Column("ended_at", Moment, index=True),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Words(_NAME), primary_key=True),
    Column(
        "conversation_id",
        Words(_KEY),
        ForeignKey("conversations.id"),
        nullable=False,
        index=True,
    ),
    Column("channel", Words(16), nullable=False),
    Column("address", Words(_NAME), nullable=False),
    Column("text", Words(20_000), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("status", Words(16), nullable=False),
    Column("due_at", Moment, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Words(1_000), nullable=False),
    Index(None, "status", "due_at"),
)

flows = Table(
    "flows",
    metadata,
    Column("version", Words(_KEY), primary_key=True),
    Column("name", Words(_NAME), nullable=False),
    Column("texts", JSON, nullable=False),
    Column("at", Moment, nullable=False),
)

releases = Table(
    "releases",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("flow", Words(_NAME), nullable=False, index=True),
    Column("version", Words(_KEY), ForeignKey("flows.version"), nullable=False),
    Column("published_at", Moment, nullable=False),
    Column("who", Words(_NAME), nullable=False),
    Column("note", Words(4_000), nullable=False),
    Column("held", Boolean, nullable=False),
    Column("withdrawn_at", Moment),
    Column("withdrawn_by", Words(_NAME), nullable=False),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("flow", Words(_NAME), primary_key=True),
    Column("version", Words(_KEY), ForeignKey("flows.version"), nullable=False),
    Column("since", Moment, nullable=False),
    Column("percent", Float, nullable=False),
    Column("numbers", JSON, nullable=False),
    Column("who", Words(_NAME), nullable=False),
)

recordings = Table(
    "recordings",
    metadata,
    Column("id", Words(_KEY), primary_key=True),
    # No foreign keys: a call is recorded also when its beginning could not be written yet.
    Column("conversation_id", Words(_KEY), nullable=False, index=True),
    Column("leg_id", Words(_KEY), nullable=False),
    Column("kind", Words(16), nullable=False),
    Column("place", Words(_KEY), nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("state", Words(16), nullable=False),
    Column("seconds", Float, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", Words(_KEY), nullable=False),
    Index(None, "place", "started_at"),
)

milestones = Table(
    "milestones",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("conversation_id", Words(_KEY), ForeignKey("conversations.id"), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("at", Moment, nullable=False, index=True),
    Column("kind", Words(40), nullable=False),
    Column("body", Body, nullable=False),
    Column("topic", Words(_NAME), nullable=False),
    Column("posted", Boolean, nullable=False),
    Index(None, "conversation_id", "topic"),
    Index(None, "posted", "number"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Words(_NAME), primary_key=True),
    Column("hook", Words(_NAME), nullable=False),
    Column("conversation_id", Words(_KEY), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("event", Words(40), nullable=False),
    Column("body", Body, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("due_at", Moment, nullable=False),
    Column("status", Words(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Words(1_000), nullable=False),
    Index(None, "status", "due_at"),
    Index(None, "conversation_id", "hook", "sequence"),
)

audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("who", Words(_NAME), nullable=False, index=True),
    Column("what", Words(40), nullable=False),
    Column("whom", Words(_NAME), nullable=False, index=True),
    Column("source", Words(_NAME), nullable=False),
    Column("details", Body, nullable=False),
)
