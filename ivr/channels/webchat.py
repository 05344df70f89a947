"""Chat on web pages and in apps: a customer's pages come and go, their leg stays.

A customer is whoever has the token that we gave them; we keep its hash alone, which is their
address. Their leg lasts as long as the conversation, over lost connections, closed pages and
restarts of ours: what it has not shown stands in the thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from weakref import WeakValueDictionary

import structlog

from ivr.channels import chatframes as frames
from ivr.errors import CallGone
from ivr.flow import events
from ivr.flow.events import Effect, Leave, Note, Started
from ivr.model import Address, Channel, ConversationStatus, Leg, Text
from ivr.ports import Clock, ReadUpTo, TextNews, Typing, Wrote
from ivr.runner import Runner
from ivr.store.repo import Store
from ivr.texting import Texting

log = structlog.get_logger(__name__)

LONGEST_THREAD = 5_000
"""Texts in one conversation; beyond that the customer writes no more into it."""

_STATES: Mapping[str, frames.State] = {
    "queued": "queued",
    "agent_joined": "person",
    "agent_left": "flow",
    "left_queue": "flow",
    "queue_failed": "flow",
}
"""What the engine notes, and who answers from then on."""

_STANDS: Mapping[ConversationStatus, frames.State] = {
    ConversationStatus.FLOW: "flow",
    ConversationStatus.QUEUED: "queued",
    ConversationStatus.PERSON: "person",
    ConversationStatus.ENDED: "ended",
}


class Page(Protocol):
    """One connection of a customer's page or app."""

    def put(self, text: str) -> None:
        """Put a frame on its way. Never waits and never raises."""
        ...


class ChatLeg:
    """`ivr.ports.TextLeg` over as many pages as the customer has open, or none."""

    def __init__(self, leg: Leg, chats: Webchat, state: frames.State):
        self._leg = leg
        self._chats = chats
        self._pages: set[Page] = set()
        self.state = state
        self.longest = 0

    @property
    def leg(self) -> Leg:
        return self._leg

    async def perform(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Note() if effect.kind in _STATES:
                    self._now(_STATES[effect.kind])
                case events.End():
                    self._now("ended")
                    self._chats.leave(self, effect.outcome)
                case Leave() if effect.channel == Channel.CHAT:
                    self._chats.leave(self, "moved")
                case _:
                    pass

    async def close(self, cause: str) -> None:
        self._now("ended")
        await self._chats.left(self, cause)

    def show(self, news: TextNews) -> None:
        match news:
            case Wrote(text):
                self.longest = max(self.longest, text.number)
                self._tell(frames.NewMessage(message=frames.Message.of(text)))
            case Typing("agent", on, name):
                self._tell(frames.AgentTyping(on=on, name=name))
            case ReadUpTo("agent", number, _):
                self._tell(frames.AgentRead(up_to=number))
            case _:
                pass

    def attach(self, page: Page) -> None:
        self._pages.add(page)

    def detach(self, page: Page) -> None:
        self._pages.discard(page)

    def _now(self, state: frames.State) -> None:
        if state != self.state and self.state != "ended":
            self.state = state
            self._tell(frames.StateNow(state=state))

    def _tell(self, frame: frames.ServerFrame) -> None:
        text = frame.model_dump_json()
        for page in tuple(self._pages):
            page.put(text)


class Webchat:
    """All chats of this server."""

    def __init__(self, store: Store, runner: Runner, texting: Texting, clock: Clock):
        self.texting = texting
        self._store = store
        self._runner = runner
        self._clock = clock
        self._legs: dict[str, ChatLeg] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._leaving: set[asyncio.Task[None]] = set()

    async def customer(self, token: str) -> tuple[str, Address]:
        """Whose token this is. A token that we have not given is nobody's: they get a new one."""
        if token:
            peer = _peer(token)
            if await self._store.knows(peer):
                return token, peer
        token = secrets.token_urlsafe(32)
        return token, _peer(token)

    async def find(self, peer: Address) -> ChatLeg | None:
        """The customer's conversation that goes on; None if there is none."""
        async with self._turn(peer):
            return await self._find(peer)

    async def begin(self, peer: Address, language: str) -> ChatLeg:
        """The customer's conversation, a new one where none goes on. Raises StoreError."""
        async with self._turn(peer):
            chat = await self._find(peer)
            if chat is not None:
                return chat
            leg = Leg(
                id=secrets.token_hex(16),
                conversation_id=secrets.token_hex(16),
                peer=peer,
                started_at=self._clock.now(),
            )
            chat = self._legs[leg.conversation_id] = ChatLeg(leg, self, "flow")
            try:
                started = Started(Channel.CHAT.value, peer.value, language=language)
                await self._runner.begin(chat, started)
            except BaseException:
                self._legs.pop(leg.conversation_id, None)
                raise
            return chat

    async def write(self, chat: ChatLeg, text_id: str, text: str, turn: int | None) -> Text:
        """A customer's text. Raises CallGone when the conversation is over or too long, StoreError
        when it cannot be kept now."""
        if chat.longest >= LONGEST_THREAD:
            raise CallGone("this conversation has become too long")
        wrote = Text(
            conversation_id=chat.leg.conversation_id,
            id=text_id,
            who="customer",
            text=text,
            at=self._clock.now(),
            turn=turn,
        )
        return await self.texting.received(wrote)

    async def thread(self, chat: ChatLeg, after: int) -> tuple[tuple[frames.Message, ...], bool]:
        """A page of the thread behind that number, and whether there is more."""
        conversation_id = chat.leg.conversation_id
        texts = await self._store.texts(conversation_id, after, frames.PAGE + 1)
        messages = tuple(frames.Message.of(text) for text in texts[: frames.PAGE])
        return messages, len(texts) > frames.PAGE

    def leave(self, chat: ChatLeg, cause: str) -> None:
        """The flow has let go of the leg, in the middle of a step: tell the runner after it."""
        task = asyncio.ensure_future(self.left(chat, cause))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def left(self, chat: ChatLeg, cause: str) -> None:
        """The conversation has left this channel. Idempotent."""
        if self._legs.pop(chat.leg.conversation_id, None) is not None:
            await self._runner.left(chat, cause)

    async def _find(self, peer: Address) -> ChatLeg | None:
        leg = await self._store.open_thread(peer)
        if leg is None:
            return None
        known = self._legs.get(leg.conversation_id)
        if known is not None:
            return known
        conversation = await self._store.conversation(leg.conversation_id)
        if conversation is None:
            return None
        chat = ChatLeg(leg, self, _STANDS[conversation.status])
        last = await self._store.last_texts(leg.conversation_id, 1)
        chat.longest = last[-1].number if last else 0
        self._legs[leg.conversation_id] = chat
        if await self._runner.rejoin(chat):
            return chat
        self._legs.pop(leg.conversation_id, None)
        return None

    def _turn(self, peer: Address) -> asyncio.Lock:
        """One at a time for each customer: two pages that open at once are one conversation."""
        lock = self._turns.get(peer.value)
        if lock is None:
            lock = self._turns[peer.value] = asyncio.Lock()
        return lock


def _peer(token: str) -> Address:
    return Address(Channel.CHAT, hashlib.sha256(token.encode()).hexdigest()[:40])


def opened(token: str, chat: ChatLeg | None, **thread: Any) -> frames.Opened:
    """How it stands, for a page that has just come."""
    if chat is None:
        return frames.Opened(token=token)
    conversation_id = chat.leg.conversation_id
    return frames.Opened(token=token, conversation=conversation_id, state=chat.state, **thread)
