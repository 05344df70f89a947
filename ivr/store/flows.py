"""The store's part about flows: the text of every version, what was published, and who gets what.

Of a flow's releases the newest that is live answers. A rollout takes some callers out to another
version; what the others get is then the newest live release of any other version than that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select, update

from ivr.model import Lineup, Release, Rollout
from ivr.store.database import Database, upsert
from ivr.store.models import flows, releases, rollouts

MOST_LISTED = 1_000

_LIVE = releases.c.held.is_(False) & releases.c.withdrawn_at.is_(None)


class Flows(Database):
    """Flow versions, their releases and rollouts."""

    # --- texts -----------------------------------------------------------------------------------

    async def save_flow(
        self, version: str, name: str, texts: Mapping[str, str], at: datetime
    ) -> None:
        """Keep a flow's texts for the conversations that begin with it; a version never changes."""

        def work(db: Connection) -> None:
            db.execute(
                upsert(db, flows)
                .values(version=version, name=name, texts=dict(texts), at=at)
                .on_conflict_do_nothing()
            )

        await self._write(work)

    async def flow_texts(self, version: str) -> Mapping[str, str] | None:
        query = select(flows.c.texts).where(flows.c.version == version)
        return await self._read(lambda db: db.execute(query).scalar_one_or_none())

    async def flow_versions(self, prefix: str, limit: int = 10) -> list[tuple[str, str]]:
        """The (version, flow name) of the versions that begin so, oldest first."""
        query = (
            select(flows.c.version, flows.c.name)
            .where(flows.c.version.startswith(prefix, autoescape=True))
            .order_by(flows.c.at, flows.c.version)
            .limit(limit)
        )
        return await self._read(lambda db: [(row.version, row.name) for row in db.execute(query)])

    # --- releases --------------------------------------------------------------------------------

    async def publish(self, release: Release) -> bool:
        """Let a version answer from now on, and end a rollout; False if it did so already.

        A `held` release changes nothing for callers. Its texts must have been kept before.
        """

        def work(db: Connection) -> bool:
            if not release.held:
                ruled = db.execute(delete(rollouts).where(rollouts.c.flow == release.flow)).rowcount
                newest = _newest(db, release.flow)
                if newest is not None and newest.version == release.version:
                    return bool(ruled)
            db.execute(
                insert(releases).values(
                    flow=release.flow,
                    version=release.version,
                    published_at=release.published_at,
                    who=release.who,
                    note=release.note,
                    held=release.held,
                    withdrawn_at=release.withdrawn_at,
                    withdrawn_by=release.withdrawn_by,
                )
            )
            return True

        return await self._write(work)

    async def releases(self, flow: str = "") -> list[Release]:
        """What was published of a flow, or of all, the newest first."""
        query = select(releases).order_by(releases.c.id.desc()).limit(MOST_LISTED)
        if flow:
            query = query.where(releases.c.flow == flow)
        return await self._read(lambda db: [_release(row) for row in db.execute(query)])

    async def lineup(self, flow: str) -> Lineup | None:
        """Which versions of a flow answer now; None if none was ever published."""
        return await self._read(lambda db: _lineup(db, flow))

    async def roll_out(self, rollout: Rollout) -> None:
        """Give a version to some callers, in place of an earlier rollout of the flow."""
        values = {
            "version": rollout.version,
            "since": rollout.since,
            "percent": rollout.percent,
            "numbers": list(rollout.numbers),
            "who": rollout.who,
        }

        def work(db: Connection) -> None:
            db.execute(
                upsert(db, rollouts)
                .values(flow=rollout.flow, **values)
                .on_conflict_do_update(index_elements=["flow"], set_=values)
            )

        await self._write(work)

    async def roll_back(self, flow: str, at: datetime, who: str) -> str | None:
        """Withdraw what was published or rolled out last; the version that answers everyone now.

        None, and nothing is changed, where there is no other version to go back to.
        """

        def work(db: Connection) -> str | None:
            lineup = _lineup(db, flow)
            if lineup is None:
                return None
            unwanted = lineup.rollout.version if lineup.rollout else lineup.version
            base = _newest(db, flow, releases.c.version != unwanted)
            if base is None:
                return None
            db.execute(delete(rollouts).where(rollouts.c.flow == flow))
            db.execute(
                update(releases)
                .where(releases.c.flow == flow, releases.c.id > base.id, _LIVE)
                .values(withdrawn_at=at, withdrawn_by=who)
            )
            return base.version

        return await self._write(work)


def _lineup(db: Connection, flow: str) -> Lineup | None:
    row = db.execute(select(rollouts).where(rollouts.c.flow == flow)).one_or_none()
    rollout = _rollout(row) if row else None
    base = _newest(db, flow, releases.c.version != rollout.version) if rollout else None
    if base is None:
        rollout, base = None, _newest(db, flow)
    return Lineup(base.version, rollout) if base else None


@dataclass(frozen=True, slots=True)
class _Live:
    id: int
    version: str


def _newest(db: Connection, flow: str, *more: ColumnElement[bool]) -> _Live | None:
    query = (
        select(releases.c.id, releases.c.version)
        .where(releases.c.flow == flow, _LIVE, *more)
        .order_by(releases.c.id.desc())
        .limit(1)
    )
    row = db.execute(query).one_or_none()
    return _Live(row.id, row.version) if row else None


def _release(row: Row[Any]) -> Release:
    return Release(
        flow=row.flow,
        version=row.version,
        published_at=row.published_at,
        who=row.who,
        note=row.note,
        held=row.held,
        withdrawn_at=row.withdrawn_at,
        withdrawn_by=row.withdrawn_by,
    )


def _rollout(row: Row[Any]) -> Rollout:
    return Rollout(row.flow, row.version, row.since, row.percent, tuple(row.numbers), row.who)
