"""Who may do what: one table for every route and every socket, asked before anything else is done.

A way that does not stand in the table is refused, so that none is opened by forgetting it. Who is
refused is counted and logged, with the address that asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal
from urllib.parse import urlsplit

import structlog
from starlette.requests import HTTPConnection, Request

from cti.accounts import Accounts, LoginRefused, Session
from ivr import observe
from ivr.errors import NotAllowed

log = structlog.get_logger()


class Role(StrEnum):
    """What an account may do."""

    AGENT = "agent"
    SUPERVISOR = "supervisor"
    DESIGNER = "designer"
    ADMIN = "admin"


Roles = frozenset[Role]
Way = tuple[str, str]
"""A method, or `WS` for a socket, and the path as the route has it."""

_AGENTS = frozenset({Role.AGENT})
_SERVING = frozenset({Role.AGENT, Role.SUPERVISOR, Role.ADMIN})
_DESIGNERS = frozenset({Role.DESIGNER, Role.ADMIN})
_SUPERVISORS = frozenset({Role.SUPERVISOR, Role.ADMIN})
_ADMINS = frozenset({Role.ADMIN})
_ANYBODY = frozenset(Role)
_PUBLIC: Roles = frozenset()
"""Nobody need be logged in: pages and their files, health, and whatever checks by itself."""

TABLE: Mapping[Way, Roles] = {
    # the way in, and the pages; what they show is asked for below
    ("POST", "/api/login"): _PUBLIC,
    ("GET", "/api/openapi.json"): _PUBLIC,
    ("GET", "/healthz"): _PUBLIC,
    ("GET", "/readyz"): _PUBLIC,
    ("GET", "/metrics"): _PUBLIC,
    ("GET", "/"): _PUBLIC,
    ("GET", "/agent"): _PUBLIC,
    ("GET", "/agent/{name:path}"): _PUBLIC,
    ("GET", "/designer"): _PUBLIC,
    ("GET", "/designer/{name:path}"): _PUBLIC,
    ("GET", "/wallboard"): _PUBLIC,
    ("GET", "/embed"): _PUBLIC,
    ("GET", "/api/embed"): _PUBLIC,
    ("GET", "/chat"): _PUBLIC,
    ("GET", "/chat/{name}"): _PUBLIC,
    ("WS", "/api/phone/ws"): _PUBLIC,  # its address has a pass
    ("WS", "/api/chat"): _PUBLIC,
    # everybody who is logged in
    ("POST", "/api/logout"): _ANYBODY,
    # agents
    ("WS", "/api/agent"): _AGENTS,
    ("GET", "/api/phone"): _AGENTS,
    ("GET", "/api/directory"): _SERVING,
    ("GET", "/api/contacts"): _SERVING,
    ("POST", "/api/contacts"): _SERVING,
    ("GET", "/api/contacts/{contact_id}"): _SERVING,
    ("PATCH", "/api/contacts/{contact_id}"): _SERVING,
    ("GET", "/api/conversations/{conversation_id}"): _SERVING,
    ("GET", "/api/conversations/{conversation_id}/recordings"): _SERVING,
    ("GET", "/api/recordings/{recording_id}"): _SERVING,
    # designers
    ("WS", "/api/designer"): _DESIGNERS,
    ("GET", "/api/designer/flows"): _DESIGNERS,
    ("GET", "/api/designer/flows/{file}"): _DESIGNERS,
    ("GET", "/api/designer/flows/{file}/traffic"): _DESIGNERS,
    ("GET", "/api/designer/flows/{file}/versions"): _DESIGNERS,
    ("GET", "/api/designer/flows/{file}/differences"): _DESIGNERS,
    # supervisors
    ("WS", "/api/wallboard"): _SUPERVISORS,
    ("POST", "/api/agents/{login}/logout"): _SUPERVISORS,
    ("POST", "/api/agents/{login}/away"): _SUPERVISORS,
    ("POST", "/api/conversations/{conversation_id}/monitor"): _SUPERVISORS,
    ("POST", "/api/conversations/{conversation_id}/reassign"): _SUPERVISORS,
    ("POST", "/api/conversations/{conversation_id}/take"): _SUPERVISORS,
    # admins
    ("GET", "/api/accounts"): _ADMINS,
    ("POST", "/api/accounts"): _ADMINS,
    ("PATCH", "/api/accounts/{login}"): _ADMINS,
    ("POST", "/api/accounts/{login}/password"): _ADMINS,
    ("DELETE", "/api/accounts/{login}/tokens"): _ADMINS,
    ("GET", "/api/audit"): _ADMINS,
    ("GET", "/api/webhooks/dead"): _ADMINS,
    ("POST", "/api/webhooks/dead/{delivery}"): _ADMINS,
}

FROM_PAGES = frozenset({("POST", "/api/login")})
"""Public ways that pages of other sites may not use; nor may they use any that wants a login."""


def same_origin(headers: Mapping[str, str]) -> bool:
    """A page of ours, or a program that is no browser (and needs a token anyway)."""
    origin = headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == headers.get("host", "")
    except ValueError:
        return False


def peer(connection: HTTPConnection) -> str:
    """The address that asks."""
    return connection.client.host if connection.client else ""


Reason = Literal["origin", "token", "role", "password", "guessing"]


def refused(reason: Reason, **about: Any) -> None:
    """Count and log somebody who is not let in."""
    observe.REFUSED.labels(reason).inc()
    log.warning("refused", reason=reason, **about)


def require(roles: frozenset[str], way: Way) -> None:
    """Raises NotAllowed for who has none of the way's roles."""
    wanted = TABLE.get(way, _PUBLIC)
    if not roles & wanted:
        named = " or ".join(sorted(wanted)) or "of nobody"
        raise NotAllowed(f"this needs the role {named}; ask your supervisor")


class Door:
    """The way in over one socket: `accounts`, but only for who has a role for it."""

    def __init__(self, accounts: Accounts, way: Way):
        self._accounts = accounts
        self._way = way

    async def session(self, token: str) -> Session:
        """Whose token this is. Raises LoginRefused, or NotAllowed."""
        try:
            who = await self._accounts.session(token)
        except LoginRefused:
            refused("token", path=self._way[1])
            raise
        return self._may(who)

    async def still(self, key: str) -> Session:
        """The session, if it is still good for this. Raises LoginRefused or NotAllowed."""
        return self._may(await self._accounts.still(key))

    def _may(self, who: Session) -> Session:
        try:
            require(who.roles, self._way)
        except NotAllowed:
            refused("role", path=self._way[1], login=who.login)
            raise
        return who


class Gate:
    """A dependency of the whole application: lets a request through to its route, or does not."""

    def __init__(self, accounts: Accounts):
        self._accounts = accounts

    async def __call__(self, connection: HTTPConnection) -> None:
        """Raises NotAllowed or LoginRefused. Who asks is in the request's state."""
        path = connection.scope["route"].path
        way = (connection.scope.get("method", "WS"), path)
        if way not in TABLE:
            raise NotAllowed("nobody may do this")
        if way[0] == "WS":
            return  # the token is in the first message: its `Door` decides
        if TABLE[way] or way in FROM_PAGES:
            self._from_here(connection, path)
        if TABLE[way]:
            connection.state.session = await self._who(connection, way)

    def _from_here(self, connection: HTTPConnection, path: str) -> None:
        if not same_origin(connection.headers):
            refused("origin", path=path, peer=peer(connection))
            raise NotAllowed("pages of other sites may not do this")

    async def _who(self, connection: HTTPConnection, way: Way) -> Session:
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        try:
            if scheme.lower() != "bearer" or not token:
                raise LoginRefused("please log in")
            who = await self._accounts.session(token.strip())
        except LoginRefused:
            refused("token", path=way[1], peer=peer(connection))
            raise
        try:
            require(who.roles, way)
        except NotAllowed:
            refused("role", path=way[1], peer=peer(connection), login=who.login)
            raise
        return who


async def session(request: Request) -> Session:
    """The dependency of a route that asks who has been let through."""
    who: Session = request.state.session
    return who


def describe(schema: dict[str, Any]) -> dict[str, Any]:
    """Write the table into an OpenAPI schema: which operations want a login, and whose."""
    schema.setdefault("components", {})["securitySchemes"] = {
        "login": {"type": "http", "scheme": "bearer", "description": "the token of `/api/login`"}
    }
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            roles = next(
                (one for (verb, way), one in TABLE.items()
                 if verb == method.upper() and way.replace(":path}", "}") == path),
                _PUBLIC,
            )  # fmt: skip
            if roles:
                operation["security"] = [{"login": []}]
                operation["x-roles"] = sorted(roles)
    return schema
