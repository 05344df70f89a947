"""The store's part about those who work here: agents, presence and logins."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from ivr.model import Agent, AgentPresence
from ivr.store.database import Database, upsert
from ivr.store.models import agents, login_failures, presences, tokens
from ivr.store.rows import agent_of, presence_of

TOKENS_PER_AGENT = 20
"""How many logins an agent can have at once; a new one ends the oldest beyond that."""

FAILURES_KEPT = timedelta(days=1)


class People(Database):
    """Agents, presences, tokens, failed logins."""

    # --- agents ----------------------------------------------------------------------------------

    async def save_agent(self, agent: Agent, password_hash: str | None = None) -> None:
        """Add an agent or change one; no hash keeps the password as it was."""
        values: dict[str, Any] = {
            "name": agent.name,
            "extension": agent.extension,
            "roles": sorted(agent.roles),
            "skills": dict(sorted(agent.skills.items())),
            "languages": sorted(agent.languages),
            "disabled": agent.disabled,
            "capacity": asdict(agent.capacity),
        }
        if password_hash is not None:
            values["password_hash"] = password_hash

        def work(db: Connection) -> None:
            db.execute(
                upsert(db, agents)
                .values(login=agent.login, **values)
                .on_conflict_do_update(index_elements=["login"], set_=values)
            )

        await self._write(work)

    async def agent(self, login: str) -> Agent | None:
        def work(db: Connection) -> Agent | None:
            row = db.execute(select(agents).where(agents.c.login == login)).one_or_none()
            return agent_of(row) if row else None

        return await self._read(work)

    async def agents(self) -> list[Agent]:
        """All agents by login, the disabled ones too."""
        query = select(agents).order_by(agents.c.login)
        return await self._read(lambda db: [agent_of(row) for row in db.execute(query)])

    async def password_hash(self, login: str) -> str | None:
        """None for an unknown login and for an agent who has no password yet."""
        query = select(agents.c.password_hash).where(agents.c.login == login)
        return await self._read(lambda db: db.execute(query).scalar_one_or_none())

    async def set_presence(self, presence: AgentPresence) -> None:
        """Write how an agent's presence is now, and where."""
        values = {
            "state": presence.state,
            "reason": presence.reason,
            "since": presence.since,
            "server": presence.server,
            "reachable": presence.reachable,
            "free_since": presence.free_since,
            "alive_until": presence.alive_until,
        }

        def work(db: Connection) -> None:
            db.execute(
                upsert(db, presences)
                .values(login=presence.login, **values)
                .on_conflict_do_update(index_elements=["login"], set_=values)
            )

        await self._write(work)

    async def keep_alive(self, server: str, until: datetime) -> None:
        """Say that a server still stands for the presences it has written."""
        await self._run(
            update(presences)
            .where(presences.c.server == server, presences.c.alive_until.is_not(None))
            .values(alive_until=until)
        )

    async def presences(self) -> dict[str, AgentPresence]:
        """The last presence of each agent who ever had one, by login."""
        query = select(presences)
        return await self._read(
            lambda db: {row.login: presence_of(row) for row in db.execute(query)}
        )

    # --- logins ----------------------------------------------------------------------------------

    async def save_token(self, token_hash: str, login: str, expires_at: datetime) -> None:
        def work(db: Connection) -> None:
            db.execute(
                insert(tokens).values(token_hash=token_hash, login=login, expires_at=expires_at)
            )
            newest = (
                select(tokens.c.token_hash)
                .where(tokens.c.login == login)
                .order_by(tokens.c.expires_at.desc())
                .limit(TOKENS_PER_AGENT)
            )
            db.execute(
                delete(tokens).where(tokens.c.login == login, tokens.c.token_hash.not_in(newest))
            )

        await self._write(work)

    async def token_owner(self, token_hash: str, now: datetime) -> str | None:
        """The login of a token that has not expired and whose agent is not disabled."""
        query = (
            select(tokens.c.login)
            .join(agents, agents.c.login == tokens.c.login)
            .where(
                tokens.c.token_hash == token_hash,
                tokens.c.expires_at > now,
                agents.c.disabled.is_(False),
            )
        )
        return await self._read(lambda db: db.execute(query).scalar_one_or_none())

    async def revoke_token(self, token_hash: str) -> None:
        await self._run(delete(tokens).where(tokens.c.token_hash == token_hash))

    async def revoke_tokens(self, login: str) -> None:
        await self._run(delete(tokens).where(tokens.c.login == login))

    async def login_failures(self, login: str, since: datetime) -> int:
        """How often this login, known or not, failed at or after `since` (a day at most)."""
        query = select(func.count()).where(
            login_failures.c.login == login, login_failures.c.at >= since
        )
        return await self._read(lambda db: db.execute(query).scalar_one())

    async def note_login_failure(self, login: str, at: datetime) -> None:
        def work(db: Connection) -> None:
            db.execute(delete(login_failures).where(login_failures.c.at < at - FAILURES_KEPT))
            db.execute(insert(login_failures).values(login=login, at=at))

        await self._write(work)

    async def clear_login_failures(self, login: str) -> None:
        await self._run(delete(login_failures).where(login_failures.c.login == login))
