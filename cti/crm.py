"""The customer's record in another system, asked once for each conversation and never waited for.

A card is shown with what is known at that moment; when the record has come, or has not, the card is
made anew. How to ask stands in the settings alone, and what comes back is data: plain values of the
fields that the settings name.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import structlog

from cti.screenpop import NO_RECORD, CustomerRecord, clean
from ivr.config import CrmSettings
from ivr.flow.events import Fetch
from ivr.model import Dossier
from ivr.numbers import is_nobody
from ivr.ports import Clock, Fetcher

log = structlog.get_logger()

MOST_FIELDS = 20
AGAIN_SECONDS = 30.0
"""After a failure the next card asks again, but not sooner."""

_MOST_KEPT = 2000  # conversations
_HOLE = re.compile(r"\{([^{}]*)\}")
_LONGEST_VALUE = 120


@dataclass(slots=True)
class _Asked:
    """What was asked for a conversation: the answer, and for a failure when to ask again."""

    path: str
    record: CustomerRecord
    again_at: float = 0.0


class Crm:
    """Records by conversation. `close` gives up what is still being asked."""

    def __init__(self, fetcher: Fetcher, settings: CrmSettings, clock: Clock):
        self._fetcher = fetcher
        self._settings = settings
        self._clock = clock
        self._asked: OrderedDict[str, _Asked] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def record(
        self, dossier: Dossier, slots: Mapping[str, Any], changed: Callable[[str], None]
    ) -> CustomerRecord:
        """What is known now. Asks where nothing is known yet, or where it is to be asked with other
        values than before, and calls `changed` with the conversation once there is an answer."""
        path = self._path(dossier, slots)
        if not path:
            return NO_RECORD
        conversation_id = dossier.conversation.id
        asked = self._asked.get(conversation_id)
        if asked is not None and asked.path == path:
            self._asked.move_to_end(conversation_id)
            failed = asked.record.state == "failed"
            if not failed or self._clock.monotonic() < asked.again_at:
                return asked.record
        asked = _Asked(path, CustomerRecord("loading"))
        self._asked[conversation_id] = asked
        while len(self._asked) > _MOST_KEPT:
            self._asked.popitem(last=False)
        task = asyncio.ensure_future(self._ask(conversation_id, asked, changed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return asked.record

    async def _ask(
        self, conversation_id: str, asked: _Asked, changed: Callable[[str], None]
    ) -> None:
        settings = self._settings
        request = Fetch(
            f"crm-{secrets.token_hex(8)}", "GET", settings.system, asked.path, settings.seconds
        )
        # The fetcher keeps the time itself; whatever it does, a screen must not show for ever that
        # it is loading.
        reason, facts = "", list[tuple[str, str]]()
        try:
            async with asyncio.timeout(settings.seconds + 1):
                answer = await self._fetcher.fetch(request)
            if answer.error or not 200 <= answer.status < 300 or not isinstance(answer.json, dict):
                reason = answer.error or f"status {answer.status}"
            else:
                facts = facts_of(answer.json, settings.fields)
        except Exception as error:
            reason = type(error).__name__
        if reason:
            # Neither the path nor the answer is logged: both are about a person.
            log.warning("no record of the customer", system=settings.system, reason=reason)
            asked.again_at = self._clock.monotonic() + AGAIN_SECONDS
        asked.record = CustomerRecord("failed" if reason else "ready", tuple(facts))
        if self._asked.get(conversation_id) is asked:
            changed(conversation_id)

    def _path(self, dossier: Dossier, slots: Mapping[str, Any]) -> str:
        """What to ask for; "" where something is not known that the settings ask by."""
        if not self._settings.system:
            return ""
        leg, contact = dossier.leg, dossier.contact
        named = contact is not None and bool(contact.name)
        values: dict[str, Any] = {
            **slots,
            **{name: value for name, (value, _) in dossier.corrections.items()},
            "number": "" if is_nobody(leg.peer) else leg.peer.value,
            "contact": contact.id if contact is not None and named else "",
        }
        missing = False

        def fill(hole: re.Match[str]) -> str:
            nonlocal missing
            value = values.get(hole[1], "")
            plain = isinstance(value, str | int) and not isinstance(value, bool)
            text = str(value) if plain else ""
            # Dots alone would climb to another folder.
            if not text.strip(".") or len(text) > _LONGEST_VALUE:
                missing = True
            return quote(text, safe="", errors="replace")

        path = _HOLE.sub(fill, self._settings.path)
        return "" if missing else path


def facts_of(answer: Mapping[str, Any], fields: Sequence[str]) -> list[tuple[str, str]]:
    """The fields by name, those inside others with dots between; where none are named, all that
    are plain values."""
    if not fields:
        plain = {
            name: value
            for name, value in answer.items()
            if isinstance(value, str | int | float) or value is None
        }
        found = list(plain.items())
    else:
        found = [(name, _inside(answer, name)) for name in fields]
    shown = ((clean(name, 80), clean(value, 200)) for name, value in found[:MOST_FIELDS])
    return [(name, value) for name, value in shown if name and value]


def _inside(answer: Mapping[str, Any], name: str) -> Any:
    value: Any = answer
    for step in name.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(step)
    return value
