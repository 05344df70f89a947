"""The book of customers over REST, for the agents' page and for other programs: find, read, make
and change. Numbers may be written in any way, and are the same number in all of them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from cti.access import session
from cti.accounts import Session
from cti.customers import NAME
from cti.popcard import PopContact, PopEarlier
from cti.screenpop import clean, shown_contact, shown_past
from ivr.errors import Conflict
from ivr.model import Address, Channel, Contact
from ivr.numbers import caller_address, is_nobody
from ivr.ports import Clock
from ivr.store.repo import Store

log = structlog.get_logger(__name__)

MOST_FOUND = 20
MOST_NUMBERS = 10
_FEWEST_DIGITS = 3
_EARLIER = 20

Name = Annotated[str, Field(max_length=200), AfterValidator(lambda text: clean(text, NAME))]
Language = Annotated[str, Field(max_length=16, pattern=r"^[A-Za-z-]*$")]
Numbers = Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=MOST_NUMBERS)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewContact(_Strict):
    """A customer to be entered. `numbers` are telephone numbers."""

    name: Annotated[Name, Field(min_length=1)]
    language: Language = ""
    numbers: Numbers = []


class ContactChange(_Strict):
    """What is to be different; what is left out stays. `numbers` replaces all of them."""

    name: Annotated[Name, Field(min_length=1)] | None = None
    language: Language | None = None
    numbers: Numbers | None = None


class ContactsFound(_Strict):
    """At most 20, by name."""

    contacts: list[PopContact]


class ContactAnswer(_Strict):
    """A customer, and the latest conversations with them over all channels."""

    contact: PopContact
    earlier: list[PopEarlier]


async def find(store: Store, text: str, region: str, limit: int = MOST_FOUND) -> list[Contact]:
    """Contacts whose name has this in it, or one of whose numbers has; a whole number may be
    written in any way."""
    sought = clean(text, NAME)
    whole = caller_address(sought, region).value
    digits = re.sub(r"\D", "", whole if whole.startswith("+") else sought).lstrip("0")
    numeric = not re.search(r"[^\W\d_]", sought) and len(digits) >= _FEWEST_DIGITS
    return await store.find_contacts("" if numeric else sought, digits if numeric else "", limit)


def addresses(numbers: Sequence[str], region: str) -> tuple[Address, ...]:
    """Telephone addresses, each once. Raises Conflict for what nobody can call from."""
    found = [caller_address(number.strip(), region) for number in numbers]
    for count, address in enumerate(found, 1):
        if is_nobody(address) or not any(char.isdigit() for char in address.value):
            raise Conflict(f"number {count} is no telephone number")
    return tuple(dict.fromkeys(found))


def router(store: Store, clock: Clock, region: str) -> APIRouter:
    """The book, for those who serve customers."""
    routes = APIRouter()
    signed_in = Depends(session)

    async def known(contact_id: str) -> Contact:
        contact = await store.contact(contact_id)
        if contact is None or not contact.name:
            raise HTTPException(404, "there is no such contact")
        return contact

    @routes.get("/api/contacts")
    async def contacts(
        q: Annotated[str, Query(min_length=1, max_length=200)], who: Session = signed_in
    ) -> ContactsFound:
        """Find customers by a part of their name, or of a number."""
        found = await find(store, q, region)
        return ContactsFound(contacts=[shown_contact(one, region) for one in found])

    @routes.get("/api/contacts/{contact_id}")
    async def contact(contact_id: str, who: Session = signed_in) -> ContactAnswer:
        """A customer and what they were in touch about."""
        found = await known(contact_id)
        earlier = await store.earlier(contact_id, before=clock.now(), limit=_EARLIER)
        return ContactAnswer(
            contact=shown_contact(found, region), earlier=[shown_past(past) for past in earlier]
        )

    @routes.post("/api/contacts", status_code=201)
    async def make(wanted: NewContact, who: Session = signed_in) -> PopContact:
        """Enter a customer. One of the same name with one of the numbers is not entered again."""
        at = addresses(wanted.numbers, region)
        for address in at:
            for other in await store.contacts_by_address(address):
                if other.name.casefold() == wanted.name.casefold():
                    raise Conflict("this contact exists already")
        made = Contact(uuid.uuid4().hex, wanted.name, wanted.language, at)
        await store.save_contact(made)
        log.info("contact made", agent=who.login, contact=made.id)
        return shown_contact(made, region)

    @routes.patch("/api/contacts/{contact_id}")
    async def change(
        contact_id: str, wanted: ContactChange, who: Session = signed_in
    ) -> PopContact:
        """Change a customer. Addresses that are no telephone numbers stay."""
        before = await known(contact_id)
        after = replace(
            before,
            name=wanted.name or before.name,
            language=before.language if wanted.language is None else wanted.language,
            addresses=before.addresses
            if wanted.numbers is None
            else _with_numbers(before, addresses(wanted.numbers, region)),
        )
        await store.save_contact(after)
        log.info("contact changed", agent=who.login, contact=contact_id)
        return shown_contact(after, region)

    return routes


def _with_numbers(contact: Contact, numbers: Sequence[Address]) -> tuple[Address, ...]:
    """The contact's addresses with these for all telephone numbers, which may be texted too."""
    values = {address.value for address in numbers}
    others = [
        address
        for address in contact.addresses
        if address.channel is not Channel.VOICE
        and (address.channel is not Channel.SMS or address.value in values)
    ]
    return (*numbers, *others)
