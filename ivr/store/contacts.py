"""The store's part about customers: who they are, where they can be reached, and what agents have
corrected of what was thought to be known.

A conversation from an address that nobody is known at gets a contact without a name, which holds
what happened at this address until somebody says who it was. A named contact that takes the address
takes that over too, unless several share it. A telephone number is one address, whether it calls or
texts.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, or_, select, update

from ivr.errors import Conflict
from ivr.model import Address, Channel, Contact, TimelineEntry
from ivr.numbers import is_nobody
from ivr.store.database import Database, upsert
from ivr.store.entries import append
from ivr.store.models import (
    clean,
    contact_addresses,
    contacts,
    conversations,
    corrections,
)

MOST_CORRECTIONS = 30
"""Facts of one conversation that agents can correct."""

MOST_ADDRESSES = 50
"""Of one contact; what comes beyond is left out."""

_SHARING = 10

_TELEPHONE = (Channel.VOICE, Channel.SMS)
_SAME: Mapping[Channel, tuple[Channel, ...]] = dict.fromkeys(_TELEPHONE, _TELEPHONE)


class Contacts(Database):
    """Contacts and corrections."""

    async def contact(self, contact_id: str) -> Contact | None:
        found = await self._read(lambda db: contacts_of(db, [contact_id]))
        return found[0] if found else None

    async def contacts_by_address(self, address: Address) -> list[Contact]:
        """Everyone known at exactly this address, who was in touch last first; ten at most."""
        return await self._read(lambda db: contacts_of(db, at_address(db, address)))

    async def find_contacts(self, name: str, digits: str, limit: int) -> list[Contact]:
        """The named contacts in whose name that text is, or in one of whose numbers these digits
        are, ordered by name. Either may be empty."""
        ways = []
        if name:
            ways.append(contacts.c.sought.contains(name.casefold(), autoescape=True))
        if digits:
            numbered = select(contact_addresses.c.contact_id).where(
                contact_addresses.c.channel.in_(_TELEPHONE),
                contact_addresses.c.value.contains(digits, autoescape=True),
            )
            ways.append(contacts.c.id.in_(numbered))
        if not ways:
            return []
        query = (
            select(contacts.c.id)
            .where(contacts.c.name != "", or_(*ways))
            .order_by(contacts.c.sought, contacts.c.id)
            .limit(limit)
        )
        return await self._read(lambda db: contacts_of(db, list(db.execute(query).scalars())))

    async def save_contact(self, contact: Contact) -> None:
        """Write a customer; the addresses become exactly these, in this order."""
        await self._write(lambda db: _save(db, contact))

    async def identify(
        self, conversation_id: str, given: Contact, agent: str, at: datetime, *, new: bool = False
    ) -> Contact | None:
        """Say whose conversation it is, and write that into its timeline.

        What `given` has of name, language and addresses is added to what is known of the contact
        of that id. None where there is none, unless it is a `new` one. Raises StoreError where the
        conversation is unknown.
        """

        def work(db: Connection) -> Contact | None:
            found = contacts_of(db, [given.id])
            if not found and not new:
                return None
            known = found[0] if found else Contact(given.id)
            changed = replace(
                known,
                name=given.name or known.name,
                language=given.language or known.language,
                addresses=tuple(dict.fromkeys((*known.addresses, *given.addresses))),
            )
            if changed != known or not found:
                _save(db, changed)
            body = {"agent": agent, "contact": changed.id, "name": changed.name}
            entry = TimelineEntry(conversation_id, at, "identified", body)
            append(db, conversation_id, [entry], {"contact_id": changed.id})
            return changed

        return await self._write(work)

    async def correct(
        self, conversation_id: str, name: str, value: str, agent: str, at: datetime
    ) -> None:
        """Keep an agent's correction of what is known, and write it into the timeline. The last one
        of a name counts. Raises Conflict beyond `MOST_CORRECTIONS` names, StoreError where the
        conversation is unknown."""
        values = {"value": value, "agent": agent, "at": at}
        entry = TimelineEntry(
            conversation_id, at, "fact_corrected", {"agent": agent, "name": name, "value": value}
        )

        def work(db: Connection) -> None:
            append(db, conversation_id, [entry], {})  # first: it makes others wait their turn
            named = corrections_of(db, conversation_id)
            if name not in named and len(named) >= MOST_CORRECTIONS:
                raise Conflict(f"{MOST_CORRECTIONS} facts are corrected already; write a note")
            db.execute(
                upsert(db, corrections)
                .values(conversation_id=conversation_id, name=name, **values)
                .on_conflict_do_update(index_elements=["conversation_id", "name"], set_=values)
            )

        await self._write(work)


def known_as(db: Connection, address: Address) -> str | None:
    """The id of the customer at this address: the one named contact that has it, else one without
    a name, who is made if need be; of several named ones nobody can say which it is.

    None where the address is nobody's: withheld numbers are not one customer.
    """
    if is_nobody(address):
        return None
    _take_turns(db, [address])
    found = contacts_of(db, at_address(db, address))
    named = [contact for contact in found if contact.name]
    nameless = [contact for contact in found if not contact.name]
    contact = named[0] if len(named) == 1 else next(iter(nameless), None)
    if contact is None:
        contact = Contact(uuid.uuid4().hex, addresses=(address,))
        db.execute(insert(contacts).values(id=contact.id, name="", language="", sought=""))
        _add_addresses(db, contact)
    elif address not in contact.addresses:  # known for texts, and calls for the first time
        _add_addresses(db, replace(contact, addresses=(*contact.addresses, address)))
    return contact.id


def at_address(db: Connection, address: Address) -> list[str]:
    """The ids of the contacts at this address, who was in touch last first; the named ones before
    the others, so that a limit cuts nobody off who is known."""
    latest = (
        select(func.max(conversations.c.started_at))
        .where(conversations.c.contact_id == contacts.c.id)
        .scalar_subquery()
    )
    query = (
        select(contacts.c.id)
        .where(contacts.c.id.in_(_having(address)))
        .order_by(contacts.c.name == "", latest.desc().nulls_last(), contacts.c.id)
        .limit(_SHARING)
    )
    return list(db.execute(query).scalars())


def contacts_of(db: Connection, ids: Sequence[str]) -> list[Contact]:
    """These customers in this order, without those that do not exist."""
    if not ids:
        return []
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


def corrections_of(db: Connection, conversation_id: str) -> dict[str, tuple[str, str]]:
    """What agents have corrected: value and login by name, the earliest first."""
    query = (
        select(corrections)
        .where(corrections.c.conversation_id == conversation_id)
        .order_by(corrections.c.at, corrections.c.name)
    )
    return {row.name: (row.value, row.agent) for row in db.execute(query)}


def _having(address: Address) -> Select[Any]:
    return select(contact_addresses.c.contact_id).where(
        contact_addresses.c.channel.in_(_SAME.get(address.channel, (address.channel,))),
        contact_addresses.c.value == address.value,
    )


def _save(db: Connection, contact: Contact) -> None:
    _take_turns(db, contact.addresses)
    values = {"name": contact.name, "language": contact.language, "sought": contact.name.casefold()}
    db.execute(
        upsert(db, contacts)
        .values(id=contact.id, **values)
        .on_conflict_do_update(index_elements=["id"], set_=values)
    )
    db.execute(delete(contact_addresses).where(contact_addresses.c.contact_id == contact.id))
    _add_addresses(db, contact)
    if contact.name:
        for address in contact.addresses:
            _take_over(db, contact, address)


def _take_over(db: Connection, contact: Contact, address: Address) -> None:
    """Whose the address is now gets what had happened at it while it was nobody's."""
    there = contacts_of(db, list(db.execute(_having(address).distinct()).scalars()))
    if any(other.name and other.id != contact.id for other in there):
        return
    for other in there:
        spare = all(_same(one, address) for one in other.addresses)
        if other.id == contact.id or not spare:
            continue
        this = conversations.c.contact_id == other.id
        db.execute(update(conversations).where(this).values(contact_id=contact.id))
        if other.language and not contact.language:
            mine = contacts.c.id == contact.id
            db.execute(update(contacts).where(mine).values(language=other.language))
        db.execute(delete(contact_addresses).where(contact_addresses.c.contact_id == other.id))
        db.execute(delete(contacts).where(contacts.c.id == other.id))


def _same(one: Address, other: Address) -> bool:
    together = _SAME.get(one.channel, (one.channel,))
    return one.value == other.value and other.channel in together


def _take_turns(db: Connection, addresses: Sequence[Address]) -> None:
    """Of two at once who may both make a customer at an address known, one waits."""
    if db.dialect.name != "postgresql":  # SQLite has one writer anyway
        return
    names = {
        clean(f"{_SAME.get(address.channel, (address.channel,))[0]}:{address.value}")
        for address in addresses
    }
    for name in sorted(names):  # one order for all, so nobody deadlocks
        db.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


def _add_addresses(db: Connection, contact: Contact) -> None:
    for position, address in enumerate(contact.addresses[:MOST_ADDRESSES]):
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
