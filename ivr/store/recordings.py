"""The store's part about recordings: which there are, of what, and what has become of each file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from ivr.model import Recording
from ivr.store.database import Database, upsert
from ivr.store.models import recordings


class RecordingRows(Database):
    """One row a file; the row is there before the file, and goes after it."""

    async def begin_recording(self, recording: Recording) -> None:
        """Write that a recording begins. The same id again begins it anew."""
        values = asdict(recording)

        def work(db: Connection) -> None:
            db.execute(
                upsert(db, recordings)
                .values(**values)
                .on_conflict_do_update(index_elements=[recordings.c.id], set_=values)
            )

        await self._write(work)

    async def finish_recording(
        self, recording_id: str, state: str, seconds: float = 0.0, size: int = 0, sha256: str = ""
    ) -> None:
        """Write what has become of it: `kept` or `lost`."""
        await self._run(
            update(recordings)
            .where(recordings.c.id == recording_id)
            .values(state=state, seconds=seconds, size=size, sha256=sha256)
        )

    async def forget_recordings(self, ids: Iterable[str]) -> None:
        """Delete rows whose files are gone."""
        await self._run(delete(recordings).where(recordings.c.id.in_(list(ids))))

    async def recording(self, recording_id: str) -> Recording | None:
        query = select(recordings).where(recordings.c.id == recording_id)

        def work(db: Connection) -> Recording | None:
            row = db.execute(query).one_or_none()
            return _recording(row) if row else None

        return await self._read(work)

    async def recordings(self, conversation_id: str) -> list[Recording]:
        """Those of a conversation, oldest first."""
        query = (
            select(recordings)
            .where(recordings.c.conversation_id == conversation_id)
            .order_by(recordings.c.started_at, recordings.c.id)
        )
        return await self._read(lambda db: [_recording(row) for row in db.execute(query)])

    async def recordings_in(self, place: str, state: str) -> list[Recording]:
        """Those of one folder in a state, oldest first."""
        query = (
            select(recordings)
            .where(recordings.c.place == place, recordings.c.state == state)
            .order_by(recordings.c.started_at, recordings.c.id)
        )
        return await self._read(lambda db: [_recording(row) for row in db.execute(query)])

    async def recordings_before(self, place: str, moment: datetime, limit: int) -> list[Recording]:
        """Those of one folder that began before that moment and are not being written, oldest
        first."""
        query = (
            select(recordings)
            .where(
                recordings.c.place == place,
                recordings.c.started_at < moment,
                recordings.c.state != "open",
            )
            .order_by(recordings.c.started_at, recordings.c.id)
            .limit(limit)
        )
        return await self._read(lambda db: [_recording(row) for row in db.execute(query)])

    async def recorded_bytes(self, place: str) -> int:
        """How much the files of one folder take, those that are being written left out."""
        query = select(func.coalesce(func.sum(recordings.c.size), 0)).where(
            recordings.c.place == place
        )
        return await self._read(lambda db: int(db.execute(query).scalar_one()))


def _recording(row: Row[Any]) -> Recording:
    return Recording(**row._mapping)
