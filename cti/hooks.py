"""What webhooks could not tell: to be seen by admins, and sent again."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from cti import access
from cti.accounts import Session
from ivr.ports import Clock
from ivr.store.audit import AuditEntry
from ivr.store.repo import Store


class DeadItem(BaseModel):
    """A message that a webhook did not take for a day; `error` is of the last attempt, and `body`
    what it was sent."""

    model_config = ConfigDict(extra="forbid")

    id: str
    hook: str
    event: str
    conversation: str
    created_at: datetime
    attempts: int
    error: str
    body: dict[str, Any]


def router(store: Store, clock: Clock) -> APIRouter:
    """/api/webhooks."""
    routes = APIRouter()
    signed_in = Depends(access.session)

    @routes.get("/api/webhooks/dead")
    async def dead(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[DeadItem]:
        """What was given up, the latest first."""
        return [
            DeadItem(
                id=one.id,
                hook=one.hook,
                event=one.event,
                conversation=one.conversation_id,
                created_at=one.created_at,
                attempts=one.attempts,
                error=one.error,
                body=dict(one.body),
            )
            for one in await store.dead_deliveries(limit)
        ]

    @routes.post("/api/webhooks/dead/{delivery}", status_code=204)
    async def send_again(
        delivery: Annotated[str, Path(pattern="^[0-9a-f]{32}$")],
        request: Request,
        who: Session = signed_in,
    ) -> None:
        """Send one again, with all its attempts before it."""
        entry = AuditEntry(
            clock.now(), who.login, "webhook_sent_again", delivery, access.peer(request)
        )
        await store.write_audit(entry)
        if not await store.revive_delivery(delivery, clock.now()):
            raise HTTPException(404, "there is no such dead message")

    return routes
