"""Who works here and who calls: `hotline agent` and `hotline contact`."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cti.accounts import hash_password
from cti.contactbook import find
from cti.customers import NAME
from cti.screenpop import clean, shown_contact
from ivr.config import load_settings
from ivr.errors import SettingsError
from ivr.model import HIGHEST_LEVEL, USUAL_LEVEL, Address, Agent, Capacity, Contact
from ivr.numbers import caller_address, is_nobody
from ivr.store.repo import Store

T = TypeVar("T")

agent_app = typer.Typer(
    help="The people who serve callers.", no_args_is_help=True, rich_markup_mode=None
)
contact_app = typer.Typer(help="The people who call.", no_args_is_help=True, rich_markup_mode=None)
out = Console(highlight=False, soft_wrap=True)

AsJson = Annotated[bool, typer.Option("--json", help="print JSON, one object a line")]
_EXTENSION = re.compile(r"[A-Za-z0-9_-]{1,32}")
_LOGIN = re.compile(r"[A-Za-z0-9._@-]{1,64}")


async def _working(work: Callable[[Store], Awaitable[T]]) -> T:
    store = await Store.open(load_settings().database_url)
    try:
        return await work(store)
    finally:
        await store.close()


def with_store(work: Callable[[Store], Awaitable[T]]) -> T:
    """Do something with the database that the settings name."""
    return asyncio.run(_working(work))


class Role(StrEnum):
    """What an account may do."""

    AGENT = "agent"
    SUPERVISOR = "supervisor"
    DESIGNER = "designer"
    ADMIN = "admin"


@agent_app.command("add")
def agent_add(
    login: Annotated[str, typer.Argument(help="the name to log in with")],
    extension: Annotated[str, typer.Option(help="the phone that rings for them")] = "",
    role: Annotated[
        list[Role] | None, typer.Option(help="repeatable; none: agent, who serves callers")
    ] = None,
    name: Annotated[str, typer.Option(help="how colleagues call them")] = "",
    skill: Annotated[
        list[str] | None,
        typer.Option(help="repeatable, with a level 1 to 5 if need be (billing:5); none: all"),
    ] = None,
    speaks: Annotated[list[str] | None, typer.Option(help="a language; repeatable")] = None,
    calls: Annotated[int, typer.Option(min=0, max=1, help="calls at once")] = 1,
    chats: Annotated[int, typer.Option(min=0, max=20, help="chats and messages at once")] = 4,
    chats_on_call: Annotated[int, typer.Option(min=0, max=20, help="of them during a call")] = 0,
    password: Annotated[str, typer.Option(help="made and printed if not given")] = "",
) -> None:
    """Add an agent, or change one; prints the password if it made one.

    Example: hotline agent add ann --extension 1002 --skill billing:5 --skill repairs --speaks en
    """
    roles = frozenset(given.value for given in role or (Role.AGENT,))
    if Role.AGENT in roles and calls and not extension:
        raise SettingsError(
            "an agent needs a phone: add --extension 1002 (or --calls 0, or --role designer)"
        )
    if extension and not _EXTENSION.fullmatch(extension):
        raise SettingsError(f"extension {extension!r}: 1 to 32 letters, digits, - and _ alone")
    if not _LOGIN.fullmatch(login):
        raise SettingsError(f"login {login!r}: 1 to 64 letters, digits and . _ @ - alone")
    made = password or secrets.token_urlsafe(9)
    agent = Agent(
        login,
        name or login,
        extension,
        roles=roles,
        skills=dict(map(_skill, skill or ())),
        languages=frozenset(speaks or ()),
        capacity=Capacity(calls, chats, chats_on_call),
    )
    with_store(lambda store: store.save_agent(agent, hash_password(made)))
    out.print(f"{login}: password {made}" if not password else f"{login}: saved", markup=False)


def _skill(given: str) -> tuple[str, int]:
    name, _, level = given.partition(":")
    if not name or (level and level not in map(str, range(1, HIGHEST_LEVEL + 1))):
        raise SettingsError(f"skill {given!r}: a name, or a name with a level 1 to 5 (billing:5)")
    return name, int(level or USUAL_LEVEL)


@agent_app.command("list")
def agent_list(as_json: AsJson = False) -> None:
    """List the agents.

    Example: hotline agent list
    """
    agents = with_store(lambda store: store.agents())
    table = Table("login", "name", "extension", "roles", "skills", "languages", "state")
    for agent in agents:
        levels = sorted(agent.skills.items())
        skills = [name if level == USUAL_LEVEL else f"{name}:{level}" for name, level in levels]
        languages = sorted(agent.languages)
        state = "disabled" if agent.disabled else "active"
        if as_json:
            shown = {
                "login": agent.login,
                "name": agent.name,
                "extension": agent.extension,
                "roles": sorted(agent.roles),
                "skills": skills,
                "languages": languages,
                "state": state,
            }
            out.print(json.dumps(shown, ensure_ascii=False), markup=False)
        cells = (
            agent.login,
            agent.name,
            agent.extension,
            " ".join(sorted(agent.roles)),
            " ".join(skills),
            " ".join(languages),
            state,
        )
        # As text: rich would take brackets in a name for markup.
        table.add_row(*map(Text, cells))
    if not as_json:
        out.print(table)


@agent_app.command("disable")
def agent_disable(login: Annotated[str, typer.Argument(help="who may no longer log in")]) -> None:
    """Disable an agent, and end their logins.

    Example: hotline agent disable ann
    """
    with_store(lambda store: _disable(store, login))
    out.print(f"{login}: disabled", markup=False)


async def _disable(store: Store, login: str) -> None:
    agent = await store.agent(login)
    if agent is None:
        raise SettingsError(f"there is no agent {login!r}; see `hotline agent list`")
    await store.save_agent(replace(agent, disabled=True), None)
    await store.revoke_tokens(login)


@contact_app.command("set")
def contact_set(
    number: Annotated[str, typer.Argument(help="the number that they call from, in any writing")],
    name: Annotated[str, typer.Option(help="who they are")] = "",
    language: Annotated[str, typer.Option(help="the language that they are greeted in")] = "",
    contact: Annotated[
        str, typer.Option("--id", help="which contact, where several share the number")
    ] = "",
) -> None:
    """Tell the hotline who calls from a number: the agent's screen shows the name, and the flow
    begins in the language.

    Example: hotline contact set +14155550123 --name "Ann Lindqvist" --language en
    """
    address = caller_address(number, load_settings().region)
    if is_nobody(address):
        raise SettingsError(f"{number!r} is no number that anybody could call from")

    async def work(store: Store) -> Contact:
        known = await _meant(store, address, contact)
        changed = replace(
            known,
            name=clean(name, NAME) or known.name,
            language=language or known.language,
            addresses=tuple(dict.fromkeys((*known.addresses, address))),
        )
        await store.save_contact(changed)
        return changed

    kept = with_store(work)
    shown = f"{address.value}: {kept.name or 'no name'}, {kept.language or 'no language'}"
    out.print(shown, markup=False)


async def _meant(store: Store, address: Address, contact_id: str) -> Contact:
    """Whom a number stands for: the contact that is named, else the only one, else a new one."""
    if contact_id:
        found = await store.contact(contact_id)
        if found is None:
            raise SettingsError(f"there is no contact {contact_id!r}; see `hotline contact find`")
        return found
    there = await store.contacts_by_address(address)
    named = [contact for contact in there if contact.name]
    if len(named) > 1:
        several = ", ".join(f"{one.name} ({one.id})" for one in named)
        raise SettingsError(f"several share {address.value}, say which one by --id: {several}")
    return (named or there or [Contact(uuid.uuid4().hex)])[0]


@contact_app.command("find")
def contact_find(
    text: Annotated[str, typer.Argument(help="a part of a name, or of a number")],
    as_json: AsJson = False,
) -> None:
    """Find customers in the book, twenty at most.

    Example: hotline contact find lindqvist
    """
    region = load_settings().region
    found = with_store(lambda store: find(store, text, region))
    if as_json:
        for one in found:
            out.print(shown_contact(one, region).model_dump_json(), markup=False)
        return
    table = Table("id", "name", "language", "numbers")
    for one in found:
        shown = shown_contact(one, region)
        table.add_row(shown.id, Text(shown.name), shown.language, Text(", ".join(shown.numbers)))
    out.print(table)
