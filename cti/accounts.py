"""Agents' logins: argon2 passwords, opaque tokens, and patience that wears out.

Guessing gets slower with every failure, for the address that guesses; the agent elsewhere is not
locked out by it. Who guesses one login from many addresses makes strangers to it wait, but not an
address from which it was logged in to lately. An unknown login costs as much time as a known one,
and gets the same answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from ivr import observe
from ivr.errors import NotAllowed
from ivr.model import Agent
from ivr.ports import Clock
from ivr.store.repo import Store

log = structlog.get_logger()

TOKEN_LIFE = timedelta(hours=12)
SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 1024
_AT_ONCE = 2  # argon2 takes 64 MiB and tens of milliseconds each
_WAITING = 20
_MEMORY = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class _Patience:
    """After `free` failures each further one doubles the wait, from one second up to `longest`."""

    free: int
    longest: int

    def wait(self, failures: int) -> int:
        over = failures - self.free
        return 0 if over < 0 else min(self.longest, 2 ** min(over, 20))


_ONE_LOGIN = _Patience(free=3, longest=300)
_ONE_ADDRESS = _Patience(free=20, longest=60)
_FROM_ANYWHERE = _Patience(free=50, longest=30)
_KNOWN = 10_000
"""How many addresses are remembered from which somebody has logged in."""


class LoginRefused(NotAllowed):
    """Login or password is wrong, or the token is unknown or has expired."""


class TooManyAttempts(LoginRefused):
    """Wait `retry_after` seconds."""

    def __init__(self, retry_after: int):
        super().__init__(f"too many failed logins; try again in {retry_after} seconds")
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Session:
    """A login that is valid now. `key` identifies it, and cannot be used to log in; `roles` are the
    account's as they are now, not as they were at the login."""

    login: str
    key: str
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Login:
    """A fresh login: the token is shown once and stored only as a hash."""

    token: str
    agent: Agent
    expires_at: datetime


_hasher = PasswordHasher()


def hash_password(password: str) -> str:
    """For `Store.save_agent`. Raises NotAllowed for a password that is too short or too long."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise NotAllowed(
            f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters; "
            f"this one has {len(password)}"
        )
    return _hasher.hash(password)


class Accounts:
    """Checks logins and tokens."""

    def __init__(self, store: Store, clock: Clock, hasher: PasswordHasher = _hasher):
        self._store = store
        self._clock = clock
        self._hasher = hasher
        self._nobody = ""
        self._hashing = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._known: OrderedDict[str, None] = OrderedDict()

    async def login(self, login: str, password: str, peer: str) -> Login:
        """Raises LoginRefused, or TooManyAttempts. `peer` is the address that asks."""
        if self._waiting >= _WAITING:
            _refused("guessing", peer)
            raise TooManyAttempts(1)
        self._waiting += 1
        try:
            async with self._hashing:  # the count is read inside: parallel guesses do not slip by
                await self._be_patient(login, peer)
                agent = await self._checked(login, password)
        finally:
            self._waiting -= 1
        if agent is None:
            now = self._clock.now()
            for name in (_pair(login, peer), peer, _pair(login, "*")):
                await self._store.note_login_failure(name, now)
            _refused("password", peer)
            raise LoginRefused("login or password is wrong")
        await self._store.clear_login_failures(_pair(login, peer))
        self._remember(_pair(login, peer))
        token = secrets.token_urlsafe(32)
        expires_at = self._clock.now() + TOKEN_LIFE
        await self._store.save_token(_key(token), agent.login, expires_at)
        return Login(token, agent, expires_at)

    async def session(self, token: str) -> Session:
        """Whose token this is. Raises LoginRefused."""
        return await self.still(_key(token))

    async def still(self, key: str) -> Session:
        """The session, if it is still valid. Raises LoginRefused."""
        login = await self._store.token_owner(key, self._clock.now())
        if login is None:
            raise LoginRefused("please log in again")
        agent = await self._store.agent(login)
        return Session(login, key, agent.roles if agent is not None else frozenset())

    async def logout(self, session: Session) -> None:
        await self._store.revoke_token(session.key)

    async def _be_patient(self, login: str, peer: str) -> None:
        now = self._clock.now()
        pair = _pair(login, peer)
        asked = [(pair, _ONE_LOGIN), (peer, _ONE_ADDRESS)]
        if pair not in self._known:
            asked.append((_pair(login, "*"), _FROM_ANYWHERE))
        for name, patience in asked:
            wait = patience.wait(await self._store.login_failures(name, now - _MEMORY))
            # The last failure is younger than the wait: any within it says so.
            since = now - timedelta(seconds=wait)
            if wait and await self._store.login_failures(name, since):
                _refused("guessing", peer)
                raise TooManyAttempts(wait)

    def _remember(self, pair: str) -> None:
        self._known[pair] = None
        self._known.move_to_end(pair)
        while len(self._known) > _KNOWN:
            self._known.popitem(last=False)

    async def _checked(self, login: str, password: str) -> Agent | None:
        stored = await self._store.password_hash(login)
        right = await asyncio.to_thread(self._verify, stored, password[:LONGEST_PASSWORD])
        agent = await self._store.agent(login)
        return agent if right and agent is not None and not agent.disabled else None

    def _verify(self, stored: str | None, password: str) -> bool:
        """Runs in a thread. Without a stored hash it takes as long and says no."""
        if not self._nobody:
            self._nobody = self._hasher.hash(secrets.token_urlsafe(16))
        try:
            self._hasher.verify(stored or self._nobody, password)
        except (VerificationError, InvalidHashError):
            return False
        return stored is not None


def _key(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _refused(reason: str, peer: str) -> None:
    """Count it and log it; not the login, which may be a password in the wrong field."""
    observe.REFUSED.labels(reason).inc()
    log.warning("login refused", reason=reason, peer=peer)


def _pair(login: str, peer: str) -> str:
    return f"{peer} {login}"
