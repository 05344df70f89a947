"""Threads: what customers and agents write to each other, kept before it is shown.

A customer's text goes through the flow (`ivr.runner`), which is silent while a person has the
conversation; an agent's goes beside it. Either way it is in the database first, under a number of
the thread, and then on every leg and screen that there is; whoever was away reads it later.
"""

from __future__ import annotations

from ivr.errors import CallGone
from ivr.model import ConversationStatus, Text, TimelineEntry
from ivr.ports import Clock, ReadUpTo, TextNews, Typing, Wrote
from ivr.runner import Runner
from ivr.store.repo import Store


class Texting:
    """`ivr.ports.Threads` for the human side, and what the customers' channels report."""

    def __init__(self, store: Store, runner: Runner, clock: Clock):
        self._store = store
        self._runner = runner
        self._clock = clock

    # --- the agents' side ------------------------------------------------------------------------

    async def write(self, text: Text) -> Text:
        """Commit what an agent writes, then show it; the same writer's id again is the same text.
        Raises CallGone when the conversation is over, StoreError when it cannot be kept."""
        conversation = await self._store.conversation(text.conversation_id)
        if conversation is None or conversation.status is ConversationStatus.ENDED:
            raise CallGone("the conversation is over")
        body = {"agent": text.author, "id": text.id, "text": text.text}
        entry = TimelineEntry(text.conversation_id, self._clock.now(), "wrote", body)
        kept, new = await self._store.add_text(text, entry)
        if new:
            await self._tell(text.conversation_id, Wrote(kept))
        return kept

    async def read(self, conversation_id: str, text_id: str) -> None:
        """An agent has read the customer's texts up to this one."""
        wanted = Text(conversation_id, text_id, "customer", "", self._clock.now())
        text = await self._store.text(wanted)
        if text is None:
            return
        changed = await self._store.mark_texts(conversation_id, text.number, "read", ours=False)
        if changed:
            news = ReadUpTo("agent", changed[-1].number, changed[-1].id)
            await self._tell(conversation_id, news)

    async def typing(self, conversation_id: str, on: bool, name: str) -> None:
        """An agent is writing, or has stopped."""
        await self._tell(conversation_id, Typing("agent", on, name))

    def show(self, conversation_id: str, news: TextNews) -> None:
        """Bring to the customer's legs here what another server told of."""
        self._runner.show(conversation_id, news)

    # --- the customers' side ---------------------------------------------------------------------

    async def received(self, text: Text) -> Text:
        """A customer has written; see `Runner.received`."""
        return await self._runner.received(text)

    async def got(self, conversation_id: str, up_to: int, status: str) -> None:
        """The customer has our texts up to this number: `delivered`, or `read`."""
        changed = await self._store.mark_texts(conversation_id, up_to, status, ours=True)
        for text in changed:
            if text.who == "agent":
                await self._runner.tell_desk(conversation_id, Wrote(text))
        if changed and status == "read":
            news = ReadUpTo("customer", changed[-1].number, changed[-1].id)
            await self._runner.tell_desk(conversation_id, news)

    async def writes(self, conversation_id: str, on: bool) -> None:
        """The customer is writing, or has stopped."""
        await self._runner.tell_desk(conversation_id, Typing("customer", on))

    async def _tell(self, conversation_id: str, news: TextNews) -> None:
        self._runner.show(conversation_id, news)
        await self._runner.tell_desk(conversation_id, news)
