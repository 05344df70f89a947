"""The store's part about people: customers and their addresses, agents, presence and logins."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from ivr.model import Address, Agent, AgentPresence, Channel, Contact
from ivr.store.database import Database, upsert
from ivr.store.models import (
    agents,
    clean,
    contact_addresses,
    contacts,
    conversations,
    login_failures,
    presences,
    tokens,
)
from ivr.store.rows import agent_of, presence_of

TOKENS_PER_AGENT = 20
"""How many logins an agent can have at once; a new one ends the oldest beyond that."""

FAILURES_KEPT = timedelta(days=1)

_NOBODY = frozenset({"", "anonymous", "unknown", "restricted", "private", "unavailable"})


class People(Database):
    """Contacts, agents, presences, tokens, failed logins."""

    # --- customers -------------------------------------------------------------------------------

    async def contact(self, contact_id: str) -> Contact | None:
        found = await self._read(lambda db: _contacts(db, [contact_id]))
        return found[0] if found else None

    async def contacts_by_address(self, address: Address) -> list[Contact]:
        """Everyone known at exactly this address, who was in touch last first."""
        return await self._read(lambda db: _contacts(db, _at(db, address)))

    async def save_contact(self, contact: Contact) -> None:
        """Write a customer; the addresses become exactly these, in this order."""

        def work(db: Connection) -> None:
            values = {"name": contact.name, "language": contact.language}
            db.execute(
                upsert(db, contacts)
                .values(id=contact.id, **values)
                .on_conflict_do_update(index_elements=["id"], set_=values)
            )
            db.execute(
                delete(contact_addresses).where(contact_addresses.c.contact_id == contact.id)
            )
            _add_addresses(db, contact)

        await self._write(work)

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


def known_as(db: Connection, address: Address) -> str | None:
    """The id of the customer at this address, who is made known if need be.

    None where the address is nobody's: withheld numbers are not one customer. Where several share
    the address it is the one who was in touch last; `contacts_by_address` tells all of them.
    """
    if address.value.strip().lower() in _NOBODY:
        return None
    if db.dialect.name == "postgresql":  # two calls at once from a new number: one customer
        name = clean(f"{address.channel}:{address.value}")
        db.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))
    if there := _at(db, address):
        return there[0]
    contact = Contact(uuid.uuid4().hex, addresses=(address,))
    db.execute(insert(contacts).values(id=contact.id, name="", language=""))
    _add_addresses(db, contact)
    return contact.id


def _at(db: Connection, address: Address) -> list[str]:
    query = (
        select(contact_addresses.c.contact_id)
        .outerjoin(conversations, conversations.c.contact_id == contact_addresses.c.contact_id)
        .where(
            contact_addresses.c.channel == address.channel,
            contact_addresses.c.value == address.value,
        )
        .group_by(contact_addresses.c.contact_id)
        .order_by(
            func.max(conversations.c.started_at).desc().nulls_last(),
            contact_addresses.c.contact_id,
        )
    )
    return list(db.execute(query).scalars())


def _contacts(db: Connection, ids: Sequence[str]) -> list[Contact]:
    """These customers in this order, without those that do not exist."""
    addresses: dict[str, list[Address]] = {}
    of_these = contact_addresses.c.contact_id.in_(ids)
    query = select(contact_addresses).where(of_these).order_by(contact_addresses.c.position)
    for row in db.execute(query):
        address = Address(Channel(row.channel), row.value)
        addresses.setdefault(row.contact_id, []).append(address)
    found = {
        row.id: Contact(row.id, row.name, row.language, tuple(addresses.get(row.id, ())))
        for row in db.execute(select(contacts).where(contacts.c.id.in_(ids)))
    }
    return [found[contact_id] for contact_id in ids if contact_id in found]


def _add_addresses(db: Connection, contact: Contact) -> None:
    for position, address in enumerate(contact.addresses):
        db.execute(
            upsert(db, contact_addresses)
            .values(
                contact_id=contact.id,
                channel=address.channel,
                value=address.value,
                position=position,
            )
            .on_conflict_do_nothing()
        )
