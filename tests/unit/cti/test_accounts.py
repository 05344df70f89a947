"""Logins below the web: passwords, patience, and what a stored hash is worth."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher

from cti.accounts import (
    LONGEST_PASSWORD,
    Accounts,
    LoginRefused,
    TooManyAttempts,
    hash_password,
)
from ivr.errors import NotAllowed
from ivr.model import Agent
from tests.unit.cti.conftest import World

FAST = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD = "correct horse"


async def accounts(world: World) -> Accounts:
    await world.store.save_agent(Agent("ann", "Ann", "201"), FAST.hash(PASSWORD))
    return Accounts(world.store, world.clock, FAST)


@pytest.mark.parametrize("password", ["", "short", "x" * (LONGEST_PASSWORD + 1)])
def test_passwords_have_a_length(password: str) -> None:
    with pytest.raises(NotAllowed, match="8 to 1024 characters"):
        hash_password(password)


def test_a_hash_is_argon2_and_salted() -> None:
    first, second = hash_password(PASSWORD), hash_password(PASSWORD)
    assert first.startswith("$argon2id$") and first != second


async def test_a_token_is_a_session_and_its_key_is_no_token(world: World) -> None:
    here = await accounts(world)
    token = (await here.login("ann", PASSWORD, "10.0.0.1")).token
    session = await here.session(token)
    assert session.login == "ann" and session.key != token
    with pytest.raises(LoginRefused):
        await here.session(session.key)


async def test_a_disabled_agent_is_out_at_once(world: World) -> None:
    here = await accounts(world)
    session = await here.session((await here.login("ann", PASSWORD, "10.0.0.1")).token)
    await world.store.save_agent(Agent("ann", "Ann", "201", disabled=True))
    with pytest.raises(LoginRefused):
        await here.still(session.key)
    with pytest.raises(LoginRefused):
        await here.login("ann", PASSWORD, "10.0.0.1")


async def test_who_guesses_from_elsewhere_does_not_lock_the_agent_out(world: World) -> None:
    here = await accounts(world)
    for _ in range(3):
        with pytest.raises(LoginRefused, match="wrong"):
            await here.login("ann", "guess", "10.6.6.6")
    with pytest.raises(TooManyAttempts):
        await here.login("ann", "guess", "10.6.6.6")
    assert (await here.login("ann", PASSWORD, "10.0.0.1")).agent.login == "ann"


async def test_one_address_cannot_try_every_login(world: World) -> None:
    here = await accounts(world)
    for number in range(20):
        with pytest.raises(LoginRefused, match="wrong"):
            await here.login(f"agent{number}", "guess", "10.6.6.6")
    with pytest.raises(TooManyAttempts):
        await here.login("ann", PASSWORD, "10.6.6.6")


async def test_a_hash_that_is_none_refuses(world: World) -> None:
    await world.store.save_agent(Agent("bob", "Bob", "202"), "not a hash")
    with pytest.raises(LoginRefused):
        await Accounts(world.store, world.clock, FAST).login("bob", "not a hash", "10.0.0.1")
