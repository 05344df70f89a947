"""Tells other programs what becomes of conversations: signed, in order, and until they have heard.

What is told are milestones of the timeline (`ivr.store.milestones`), committed with it; so a crash
neither loses nor invents anything. Each is POSTed to every hook that wants it. A hook that does not
take one gets it again after growing pauses for a day, and of the same conversation nothing else
meanwhile; then it is dead, stays to be seen and sent again, and those behind it go on.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial

import httpx2
import structlog

from ivr import fetch, observe
from ivr.config import WebhookSettings
from ivr.errors import HotlineError, NotAllowed
from ivr.ports import Clock
from ivr.store.deliveries import Delivery
from ivr.store.milestones import Milestone
from ivr.store.repo import Store

log = structlog.get_logger(__name__)

VERSION = 1

EVENTS: Mapping[str, str] = {
    "call_started": "conversation.started",
    "offered": "conversation.offered",
    "answered": "conversation.answered",
    "ended": "conversation.ended",
    "noted": "conversation.noted",
    "wrapped_up": "conversation.wrapped_up",
}
"""The event of each kind of milestone that is told."""

# Of a milestone's body, what others may know.
_TOLD: Mapping[str, tuple[str, ...]] = {
    "call_started": ("channel", "address", "dialled"),
    "offered": ("agent",),
    "answered": ("agent", "waited"),
    "ended": ("outcome",),
    "noted": ("agent", "note", "disposition"),
    "wrapped_up": ("agent",),
}

PAUSES = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 28_800)
"""Seconds before the second attempt, the third …; together a day. After the last it is dead."""

SECONDS = 10.0
"""How long a hook may take to answer."""

_LEASE = 60.0
_AT_ONCE = 8
_BATCH = 200
_LOOK = 0.5
_TIDY = 60.0
_COUNTED = timedelta(hours=3)
_DEAD_KEPT = timedelta(days=30)
_GONE = 410


class Webhooks:
    """All hooks of the settings. Keep `run` running; `close` it afterwards.

    `client` makes the HTTP client of a hook; `private` is whether it may be at private addresses.
    """

    def __init__(
        self,
        store: Store,
        hooks: Mapping[str, WebhookSettings],
        clock: Clock,
        client: Callable[[bool], httpx2.AsyncClient] | None = None,
    ):
        self._store = store
        self._hooks = hooks
        self._clock = clock
        self._lookups = ThreadPoolExecutor(2, "webhook-lookup")
        make = client or (lambda private: fetch.client(self._lookups, private=private))
        self._clients = {name: make(hook.private) for name, hook in hooks.items()}

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def run(self) -> None:
        """Tell what is to be told, until cancelled. One slow hook holds up no other."""
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(self._again(_TIDY, self.tidy))
            if self._hooks:
                jobs.create_task(self._again(_LOOK, self.post))
            for name in self._hooks:
                jobs.create_task(self._again(_LOOK, partial(self.deliver, name)))

    async def _again(self, seconds: float, work: Callable[[], Awaitable[int]]) -> None:
        while True:
            try:
                while await work():
                    pass
            except HotlineError as error:
                log.warning("webhooks held up", error=str(error))
            await asyncio.sleep(seconds)

    async def tidy(self) -> int:
        """Forget what nobody counts or tells any more."""
        now = self._clock.now()
        await self._store.forget_milestones(now - _COUNTED, unposted=not self._hooks)
        await self._store.give_up_all_but(self._hooks, "the settings name no such webhook any more")
        await self._store.forget_dead(now - _DEAD_KEPT)
        return 0

    async def post(self) -> int:
        """Make deliveries of the milestones that are new; how many milestones."""
        now = self._clock.now()
        return await self._store.post_milestones(lambda one: self._deliveries(one, now), _BATCH)

    def _deliveries(self, one: Milestone, now: datetime) -> list[Delivery]:
        event = EVENTS.get(one.kind, "")
        wanted = [name for name, hook in self._hooks.items() if event in hook.events]
        return [_delivery(one, event, name, now) for name in wanted] if event else []

    async def deliver(self, name: str) -> int:
        """Send a hook what is due; how many were sent, taken or not."""
        due = await self._store.lease_deliveries(name, self._clock.now(), _LEASE, _AT_ONCE)
        await asyncio.gather(*(self._send(name, one) for one in due))
        return len(due)

    async def _send(self, name: str, one: Delivery) -> None:
        status, error = await self._attempt(name, one)
        if not error:
            observe.WEBHOOKS.labels(name, "delivered").inc()
            await self._store.delivered(one.id)
            return
        over = status == _GONE or one.attempts > len(PAUSES)
        observe.WEBHOOKS.labels(name, "dead" if over else "failed").inc()
        log.warning("webhook not delivered", hook=name, attempt=one.attempts, error=error)
        pause = timedelta(seconds=0 if over else PAUSES[one.attempts - 1])
        await self._store.not_delivered(one.id, None if over else self._clock.now() + pause, error)

    async def _attempt(self, name: str, one: Delivery) -> tuple[int, str]:
        """The status, and what is wrong, "" when it was taken. The answer's body is not read."""
        hook = self._hooks[name]
        body = json.dumps(one.body, ensure_ascii=False, separators=(",", ":")).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "hotline-webhook/1",
            "X-Hotline-Event": one.event,
            "X-Hotline-Delivery": one.id,
            "X-Hotline-Signature": signature(hook.secret, body, self._clock.now()),
        }
        try:
            async with (
                asyncio.timeout(SECONDS),
                self._clients[name].stream(
                    "POST", hook.url, content=body, headers=headers
                ) as answer,
            ):
                status = answer.status_code
        except TimeoutError:
            return 0, f"no answer within {SECONDS:.0f} s"
        except NotAllowed:
            return 0, f"it is at a private address; webhooks.{name}.private must allow that"
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            return 0, f"it cannot be reached ({type(error).__name__})"
        return status, "" if httpx2.codes.is_success(status) else f"it answered {status}"


def signature(secret: str, body: bytes, at: datetime) -> str:
    """`t=…,v1=…`: when it was signed (Unix seconds), and HMAC-SHA256 of that, a dot, the body."""
    moment = int(at.timestamp())
    signed = hmac.new(secret.encode(), b"%d." % moment + body, hashlib.sha256)
    return f"t={moment},v1={signed.hexdigest()}"


def _delivery(one: Milestone, event: str, hook: str, now: datetime) -> Delivery:
    # The same milestone at the same hook is the same delivery, whoever makes it.
    name = uuid.uuid5(uuid.NAMESPACE_OID, f"{hook} {one.conversation_id} {one.sequence}").hex
    body = {
        "v": VERSION,
        "id": name,
        "event": event,
        "conversation": one.conversation_id,
        "sequence": one.sequence,
        "at": one.at.isoformat(),
        "data": {key: one.body[key] for key in _TOLD[one.kind] if key in one.body},
    }
    return Delivery(name, hook, one.conversation_id, one.sequence, event, body, now, now)
