"""Writes down what people do in conversations, and tells it again for the call record.

Nobody waits for it: what is noted while the database writes goes together into the next write,
in its order. A write that fails is logged and forgotten: two people who talk must not be cut off
because a database is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog

from ivr.errors import HotlineError
from ivr.model import TimelineEntry
from ivr.ports import CallFacts, Clock
from ivr.store.repo import Store

log = structlog.get_logger()


class Journal:
    """The timeline of conversations, as far as people are concerned."""

    def __init__(self, store: Store, clock: Clock):
        self._store = store
        self._clock = clock
        self._noted: list[TimelineEntry] = []
        self._writing: asyncio.Task[None] | None = None

    async def note(
        self,
        conversation_id: str,
        kind: str,
        body: Mapping[str, Any],
        leg_id: str | None = None,
        at: datetime | None = None,
    ) -> None:
        self._noted.append(
            TimelineEntry(conversation_id, at or self._clock.now(), kind, body, leg_id)
        )
        if self._writing is None:
            self._writing = asyncio.ensure_future(self._write())

    async def settled(self) -> None:
        """Return when everything that was noted is written."""
        while self._writing is not None:
            await asyncio.wait({self._writing})

    async def _write(self) -> None:
        try:
            while self._noted:
                entries, self._noted = self._noted, []
                try:
                    await self._store.append(entries)
                except HotlineError:  # it may be the fault of one conversation alone
                    for entry in entries:
                        await self.best_effort(self._store.append([entry]))
        finally:
            self._writing = None

    async def best_effort(self, write: Coroutine[Any, Any, Any]) -> None:
        """A write that the call can do without."""
        try:
            await write
        except HotlineError as error:
            log.error("not stored", error=str(error))

    async def facts(self, conversation_id: str, but_ticket: str = "") -> CallFacts:
        """What has been written so far, without the ticket that is still being talked about."""
        await self.settled()
        entries = await self._store.timeline(conversation_id)
        return _facts([entry for entry in entries if entry.body.get("ticket") != but_ticket])


def _facts(entries: Sequence[TimelineEntry]) -> CallFacts:
    agent, waited, talked = "", 0.0, 0.0
    for entry in entries:
        match entry.kind:
            case "answered":
                agent = str(entry.body.get("agent", ""))
                waited += float(entry.body.get("waited", 0.0))
            case "dequeued":
                waited += float(entry.body.get("waited", 0.0))
            case "released":
                talked += float(entry.body.get("seconds", 0.0))
    return CallFacts(agent, waited, talked)
