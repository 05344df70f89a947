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
from ivr.config import load_settings
from ivr.errors import SettingsError
from ivr.model import HIGHEST_LEVEL, USUAL_LEVEL, Agent, Capacity, Contact
from ivr.numbers import caller_address
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
    number: Annotated[str, typer.Argument(help="the number that they call from")],
    name: Annotated[str, typer.Option(help="who they are")] = "",
    language: Annotated[str, typer.Option(help="the language that they are greeted in")] = "",
) -> None:
    """Tell the hotline who calls from a number: the agent's screen shows the name, and the flow
    begins in the language.

    Example: hotline contact set +14155550123 --name "Ann Lindqvist" --language en
    """
    address = caller_address(number, load_settings().region)
    if not address.value:
        raise SettingsError(f"{number!r} is no number that anybody could call from")

    async def work(store: Store) -> Contact:
        known = await store.contacts_by_address(address)
        contact = known[0] if known else Contact(uuid.uuid4().hex, addresses=(address,))
        changed = replace(contact, name=name or contact.name, language=language or contact.language)
        await store.save_contact(changed)
        return changed

    kept = with_store(work)
    shown = f"{address.value}: {kept.name or 'no name'}, {kept.language or 'no language'}"
    out.print(shown, markup=False)
