"""Gathers what one conversation's card is made of, in as few steps as there are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cti import screenpop
from cti.crm import Crm
from cti.popcard import PopCard
from cti.screenpop import NO_RECORD, ConversationView
from cti.threads import message
from ivr.errors import CallGone
from ivr.model import Conversation, Leg, Ticket
from ivr.store.repo import Store

TEXTS = 50
"""So many of a thread's latest texts are on a card."""


class Cards:
    """Makes cards. `view` tells what may be shown of a conversation's flow; `changed` is told of a
    conversation whose customer's record has come since."""

    def __init__(
        self,
        store: Store,
        view: Callable[[Conversation], ConversationView],
        region: str,
        crm: Crm | None = None,
        changed: Callable[[str], None] = lambda conversation_id: None,
    ):
        self._store = store
        self._view = view
        self._region = region
        self._crm = crm
        self._changed = changed

    async def card(self, ticket: Ticket, waited: float) -> tuple[PopCard, Leg | None]:
        """The card, and the call that can be put through, if there is one.

        Raises CallGone for a conversation that the store does not know.
        """
        conversation_id = ticket.conversation_id
        # At once, not one after the other: an agent waits for this, and the phone for the agent.
        dossier, texts = await asyncio.gather(
            self._store.dossier(conversation_id, screenpop.KINDS, screenpop.EARLIER),
            self._store.last_texts(conversation_id, TEXTS),
        )
        if dossier is None:
            raise CallGone(f"conversation {conversation_id} is not in the store")
        view = self._view(dossier.conversation)
        record = self._crm.record(dossier, view.slots, self._changed) if self._crm else NO_RECORD
        card = screenpop.build(
            view, ticket, dossier, waited=waited, region=self._region, record=record
        )
        thread = tuple(message(text) for text in texts)
        return card.model_copy(update={"messages": thread}), dossier.leg if dossier.call else None
