"""What supervisors and admins do over REST: accounts, logins, agents at work, and conversations.

Who may stands in `cti.access`. Whatever uses power over somebody is written to the audit log first:
what cannot be written down is not done.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import asdict, replace
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from cti import access
from cti.access import Role
from cti.accounts import LONGEST_PASSWORD, SHORTEST_PASSWORD, Session, hash_password
from cti.protocol import Target
from cti.supervision import Supervision
from ivr.errors import Conflict, NotAllowed
from ivr.model import HIGHEST_LEVEL, Agent, Capacity
from ivr.ports import ActionOutcome, Clock
from ivr.store.audit import AuditEntry
from ivr.store.repo import Store

LOGIN = r"^[A-Za-z0-9._@-]{1,64}$"
_EXTENSION = r"^[A-Za-z0-9_-]{0,32}$"
_ID = r"^[A-Za-z0-9._:-]{1,80}$"

LoginPath = Annotated[str, Path(pattern=LOGIN)]
IdPath = Annotated[str, Path(pattern=_ID)]
Skill = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
Words = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Password = Annotated[str, Field(min_length=SHORTEST_PASSWORD, max_length=LONGEST_PASSWORD)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CapacityItem(_Part):
    """How much an agent does at once; `chats` counts messages too."""

    calls: int = Field(1, ge=0, le=1)
    chats: int = Field(4, ge=0, le=20)
    chats_on_call: int = Field(0, ge=0, le=20)


class AccountItem(_Part):
    """An account, as it is stored."""

    login: str
    name: str
    extension: str
    roles: list[str]
    skills: dict[str, int]
    languages: list[str]
    capacity: CapacityItem
    disabled: bool


class AccountChange(_Part):
    """What is to become different; what is left out stays."""

    name: Words | None = None
    extension: Annotated[str, Field(pattern=_EXTENSION)] | None = None
    roles: Annotated[list[Role], Field(min_length=1, max_length=4)] | None = None
    skills: (
        Annotated[dict[Skill, Annotated[int, Field(ge=1, le=HIGHEST_LEVEL)]], Field(max_length=100)]
        | None
    ) = None
    languages: (
        Annotated[
            list[Annotated[str, Field(pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$")]],
            Field(max_length=50),
        ]
        | None
    ) = None
    capacity: CapacityItem | None = None
    disabled: bool | None = None


class NewAccount(AccountChange):
    """An account to be made. Without a password one is made and answered, this once."""

    login: str = Field(pattern=LOGIN)
    password: Password | None = Field(None, repr=False)


class PasswordChange(_Part):
    """Without a password one is made and answered, this once."""

    password: Password | None = Field(None, repr=False)


class PasswordAnswer(_Part):
    """`password` is "" for one that was given."""

    login: str
    password: str = Field(repr=False)


class AwayRequest(_Part):
    """Why the agent is sent away; they read it."""

    reason: str = Field("", max_length=80, pattern=r"^[^\x00-\x1f\x7f]*$")


class MonitorRequest(_Part):
    """`listen`: nobody hears you; `whisper`: the agent does; `barge`: both do."""

    mode: Literal["listen", "whisper", "barge"] = "listen"


class ReassignRequest(_Part):
    """To an agent (login) or a queue (skill)."""

    kind: Literal["agent", "queue"]
    value: str = Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")


class ActionAnswer(_Part):
    """`unknown`: the link was lost in between; the board shows what has become of it."""

    result: Literal["done", "unknown"]
    text: str = ""


class AuditItem(_Part):
    """`who` was about to do `what` to `whom`, from the address `source`."""

    number: int
    at: datetime
    who: str
    what: str
    whom: str
    source: str
    details: dict[str, Any]


def router(supervision: Supervision, store: Store, clock: Clock) -> APIRouter:
    """Everything for supervisors and admins but the board."""
    routes = APIRouter()
    signed_in = Depends(access.session)

    async def audit(who: Session, request: Request, what: str, whom: str, **details: Any) -> None:
        entry = AuditEntry(clock.now(), who.login, what, whom, access.peer(request), details)
        await store.write_audit(entry)

    async def known(login: str) -> Agent:
        agent = await store.agent(login)
        if agent is None:
            raise HTTPException(404, "there is no such account")
        return agent

    # --- accounts --------------------------------------------------------------------------------

    @routes.get("/api/accounts")
    async def accounts() -> list[AccountItem]:
        """All accounts, by login."""
        return [_item(agent) for agent in await store.agents()]

    @routes.post("/api/accounts", status_code=201)
    async def add(wanted: NewAccount, request: Request, who: Session = signed_in) -> PasswordAnswer:
        """Make an account."""
        if await store.agent(wanted.login) is not None:
            raise Conflict("there is an account with this login")
        agent = _changed(Agent(wanted.login, wanted.login, ""), wanted)
        await audit(who, request, "account_added", wanted.login, roles=sorted(agent.roles))
        made = wanted.password or secrets.token_urlsafe(9)
        await store.save_agent(agent, await asyncio.to_thread(hash_password, made))
        return PasswordAnswer(login=agent.login, password="" if wanted.password else made)

    @routes.patch("/api/accounts/{login}")
    async def change(
        login: LoginPath, wanted: AccountChange, request: Request, who: Session = signed_in
    ) -> AccountItem:
        """Change an account. One that is disabled is logged out everywhere."""
        before = await known(login)
        after = _changed(before, wanted)
        await _an_admin_stays(store, before, after)
        given = wanted.model_dump(exclude_none=True, mode="json")
        await audit(who, request, "account_changed", login, **given)
        await store.save_agent(after)
        if after.disabled:
            await supervision.log_out(login)
        return _item(after)

    @routes.post("/api/accounts/{login}/password")
    async def reset_password(
        login: LoginPath, wanted: PasswordChange, request: Request, who: Session = signed_in
    ) -> PasswordAnswer:
        """Give an account a new password; its logins are over."""
        agent = await known(login)
        await audit(who, request, "password_reset", login)
        made = wanted.password or secrets.token_urlsafe(9)
        await store.save_agent(agent, await asyncio.to_thread(hash_password, made))
        await supervision.log_out(login)
        return PasswordAnswer(login=login, password="" if wanted.password else made)

    @routes.delete("/api/accounts/{login}/tokens", status_code=204)
    async def revoke_tokens(login: LoginPath, request: Request, who: Session = signed_in) -> None:
        """End all logins of an account; its screens close."""
        await known(login)
        await audit(who, request, "tokens_revoked", login)
        await supervision.log_out(login)

    # --- agents at work --------------------------------------------------------------------------

    @routes.post("/api/agents/{login}/logout", status_code=204)
    async def log_out(login: LoginPath, request: Request, who: Session = signed_in) -> None:
        """Throw an agent out: logins end, screens close, offers go to others. Calls in progress go
        on. An admin can be thrown out by an admin alone."""
        agent = await known(login)
        if Role.ADMIN in agent.roles and Role.ADMIN not in who.roles:
            access.refused("role", path=request.url.path, login=who.login)
            raise NotAllowed("this account is an admin's")
        await audit(who, request, "forced_out", login)
        await supervision.log_out(login)

    @routes.post("/api/agents/{login}/away")
    async def send_away(
        login: LoginPath, wanted: AwayRequest, request: Request, who: Session = signed_in
    ) -> ActionAnswer:
        """Nobody new for this agent until they say that they are back."""
        await known(login)
        await audit(who, request, "sent_away", login, reason=wanted.reason)
        return _answer(await supervision.send_away(login, wanted.reason))

    # --- conversations ---------------------------------------------------------------------------

    @routes.post("/api/conversations/{conversation_id}/monitor")
    async def monitor(
        conversation_id: IdPath,
        wanted: MonitorRequest,
        request: Request,
        who: Session = signed_in,
    ) -> ActionAnswer:
        """Ring your telephone, and let you into somebody's call."""
        await audit(who, request, wanted.mode, conversation_id)
        agent = await known(who.login)
        return _answer(await supervision.monitor(agent, conversation_id, wanted.mode))

    @routes.post("/api/conversations/{conversation_id}/reassign")
    async def reassign(
        conversation_id: IdPath,
        wanted: ReassignRequest,
        request: Request,
        who: Session = signed_in,
    ) -> ActionAnswer:
        """Give a conversation that waits, or that an agent has, to an agent or a queue."""
        given = wanted.model_dump()
        await audit(who, request, "reassigned", conversation_id, **given)
        to = Target(kind=wanted.kind, value=wanted.value)
        return _answer(await supervision.reassign(who.login, conversation_id, to))

    @routes.post("/api/conversations/{conversation_id}/take")
    async def take(
        conversation_id: IdPath, request: Request, who: Session = signed_in
    ) -> ActionAnswer:
        """Have a conversation that waits, or that an agent has, given to yourself; you have to be
        at work."""
        await audit(who, request, "taken_over", conversation_id)
        to = Target(kind="agent", value=who.login)
        return _answer(await supervision.reassign(who.login, conversation_id, to))

    # --- the log ---------------------------------------------------------------------------------

    @routes.get("/api/audit")
    async def log(
        before: Annotated[int, Query(ge=0, lt=2**31)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        who: Annotated[str, Query(max_length=255)] = "",
        whom: Annotated[str, Query(max_length=255)] = "",
    ) -> list[AuditItem]:
        """The audit log, the latest first; `before` goes on behind that number."""
        entries = await store.audit_log(before, limit, who, whom)
        return [AuditItem(**{**asdict(one), "details": dict(one.details)}) for one in entries]

    return routes


def _item(agent: Agent) -> AccountItem:
    return AccountItem(
        login=agent.login,
        name=agent.name,
        extension=agent.extension,
        roles=sorted(agent.roles),
        skills=dict(sorted(agent.skills.items())),
        languages=sorted(agent.languages),
        capacity=CapacityItem(**asdict(agent.capacity)),
        disabled=agent.disabled,
    )


def _changed(agent: Agent, wanted: AccountChange) -> Agent:
    """Raises Conflict where the account could not be used so."""
    new: dict[str, Any] = {
        name: value
        for name in ("name", "extension", "skills", "disabled")
        if (value := getattr(wanted, name)) is not None
    }
    if wanted.roles is not None:
        new["roles"] = frozenset(role.value for role in wanted.roles)
    if wanted.languages is not None:
        new["languages"] = frozenset(wanted.languages)
    if wanted.capacity is not None:
        new["capacity"] = Capacity(**wanted.capacity.model_dump())
    changed = replace(agent, **new)
    if Role.AGENT in changed.roles and changed.capacity.calls and not changed.extension:
        raise Conflict("an agent who takes calls needs an extension; or set capacity.calls to 0")
    return changed


async def _an_admin_stays(store: Store, before: Agent, after: Agent) -> None:
    """Raises Conflict when nobody could undo it."""
    if not _admin(before) or _admin(after):
        return
    others = (one for one in await store.agents() if one.login != before.login)
    if not any(map(_admin, others)):
        raise Conflict("this is the last admin; make another one first")


def _admin(agent: Agent) -> bool:
    return Role.ADMIN in agent.roles and not agent.disabled


def _answer(outcome: ActionOutcome) -> ActionAnswer:
    if outcome.result == "refused":
        raise Conflict(outcome.text or "it was refused")
    return ActionAnswer(result="done" if outcome.result == "done" else "unknown", text=outcome.text)
