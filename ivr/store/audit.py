"""The store's part about who uses power over others: written before it is used, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select

from ivr.store.database import Database
from ivr.store.models import audit


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """`who` (a login) was about to do `what` to `whom` (a login, or a conversation's id), from the
    address `source`. `number` counts the entries."""

    at: datetime
    who: str
    what: str
    whom: str
    source: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    number: int = 0


class Audit(Database):
    """The audit log."""

    async def write_audit(self, entry: AuditEntry) -> None:
        await self._run(
            insert(audit).values(
                at=entry.at,
                who=entry.who,
                what=entry.what,
                whom=entry.whom,
                source=entry.source,
                details=dict(entry.details),
            )
        )

    async def audit_log(
        self, before: int = 0, limit: int = 100, who: str = "", whom: str = ""
    ) -> list[AuditEntry]:
        """The latest entries, the latest first; `before` goes on behind that number."""
        query = select(audit).order_by(audit.c.number.desc()).limit(limit)
        if before:
            query = query.where(audit.c.number < before)
        if who:
            query = query.where(audit.c.who == who)
        if whom:
            query = query.where(audit.c.whom == whom)
        return await self._read(
            lambda db: [AuditEntry(**row._mapping) for row in db.execute(query)]
        )
