"""Gathers from the store what one conversation's card is made of, in as few steps as there are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict

from cti import screenpop
from cti.protocol import PopCard
from cti.screenpop import ConversationView
from cti.threads import message
from ivr.errors import CallGone
from ivr.model import Channel, Contact, Conversation, Leg, PastConversation, Ticket
from ivr.store.repo import Store

TEXTS = 50
"""So many of a thread's latest texts are on a card."""


class Cards:
    """Makes cards. `view` tells what may be shown of a conversation's flow."""

    def __init__(self, store: Store, view: Callable[[Conversation], ConversationView], region: str):
        self._store = store
        self._view = view
        self._region = region

    async def card(self, ticket: Ticket, waited: float) -> tuple[PopCard, Leg | None]:
        """The card, and the call that can be put through, if there is one.

        Raises CallGone for a conversation that the store does not know.
        """
        conversation_id = ticket.conversation_id
        # At once, not one after the other: an agent waits for this, and the phone for the agent.
        conversation, legs, timeline, texts = await asyncio.gather(
            self._store.conversation(conversation_id),
            self._store.legs(conversation_id),
            self._store.timeline(conversation_id),
            self._store.last_texts(conversation_id, TEXTS),
        )
        if conversation is None or not legs:
            raise CallGone(f"conversation {conversation_id} is not in the store")
        calls = [leg for leg in legs if leg.peer.channel is Channel.VOICE and not leg.ended_at]
        contact: Contact | None = None
        earlier: list[PastConversation] = []
        if conversation.contact_id:
            contact, earlier = await asyncio.gather(
                self._store.contact(conversation.contact_id),
                self._store.earlier(
                    conversation.contact_id,
                    before=conversation.started_at,
                    limit=screenpop.EARLIER,
                ),
            )
        pop = screenpop.build(
            self._view(conversation),
            ticket,
            calls[-1] if calls else legs[-1],
            contact=contact,
            earlier=earlier,
            timeline=timeline,
            waited=waited,
            region=self._region,
        )
        card = PopCard.model_validate(asdict(pop))
        thread = tuple(message(text) for text in texts)
        return card.model_copy(update={"messages": thread}), calls[-1] if calls else None
