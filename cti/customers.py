"""What agents say of the customers whom they have before them: who they are, and what is known of
them wrongly. It is in the store, and in the timeline under the agent's name, before it is shown.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable

from cti import protocol
from cti.screenpop import ConversationView, clean
from ivr.errors import CallGone
from ivr.model import Channel, Contact, Conversation, Dossier
from ivr.numbers import is_nobody
from ivr.ports import ActionOutcome, Clock
from ivr.store.repo import Store

NAME = 80
"""Characters of a contact's name, and of a fact's."""

VALUE = 200


class Customers:
    """Carries out the orders `contact` and `fact`; `view` tells what may be shown of a
    conversation's flow."""

    def __init__(
        self, store: Store, view: Callable[[Conversation], ConversationView], clock: Clock
    ):
        self._store = store
        self._view = view
        self._clock = clock

    async def identify(self, login: str, order: protocol.SetContact) -> ActionOutcome:
        """Say who the customer is. Raises CallGone for a conversation that is not in the store."""
        dossier = await self._dossier(order.conversation)
        name = clean(order.name, NAME)
        peer = dossier.leg.peer
        reachable = not is_nobody(peer) and peer.channel is not Channel.TERMINAL
        addresses = (peer,) if order.remember and reachable else ()
        known = await self._store.contact(order.contact) if order.contact else None
        if order.contact and (known is None or not (known.name or name)):
            return ActionOutcome("refused", "there is no such contact")
        if not order.contact and not name:
            return ActionOutcome("refused", "a new contact needs a name")
        contact_id = order.contact or _new(dossier, name, login, order)
        given = Contact(contact_id, name, order.language, addresses)
        now = self._clock.now()
        await self._store.identify(order.conversation, given, login, now, new=not order.contact)
        return ActionOutcome("done")

    async def correct(self, login: str, order: protocol.CorrectFact) -> ActionOutcome:
        """Correct what is known. Raises CallGone for a conversation that is not in the store, and
        Conflict where too much is corrected already."""
        dossier = await self._dossier(order.conversation)
        name = clean(order.name, NAME)
        if not name:
            return ActionOutcome("refused", "what is corrected needs a name")
        if name in self._view(dossier.conversation).secret:
            return ActionOutcome("refused", "it is a secret, and is not kept")
        value = clean(order.value, VALUE)
        await self._store.correct(order.conversation, name, value, login, self._clock.now())
        return ActionOutcome("done")

    async def _dossier(self, conversation_id: str) -> Dossier:
        dossier = await self._store.dossier(conversation_id, (), 0)
        if dossier is None:
            raise CallGone(f"conversation {conversation_id} is not in the store")
        return dossier


def _new(dossier: Dossier, name: str, login: str, order: protocol.SetContact) -> str:
    """The id of a contact to be made: the same again for the same order, or the same name."""
    own = dossier.contact
    if own is not None and own.name.casefold() == name.casefold():
        return own.id
    if not order.id:
        return uuid.uuid4().hex
    told = "\0".join((order.conversation, login, order.id))
    return hashlib.sha256(told.encode()).hexdigest()[:32]
