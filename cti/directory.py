"""Whom a customer can be passed on to: the colleagues at work, and the skills that they serve."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict

from cti.accounts import Session
from cti.agents import Presence
from ivr.ports import Clock
from ivr.store.repo import Store


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Colleague(_Part):
    """An agent at work, wherever. `presence` is `available` or `away`."""

    login: str
    name: str
    presence: str
    skills: list[str]


class DirectoryAnswer(_Part):
    """`queues` are the skills that anybody who may log in has."""

    agents: list[Colleague]
    queues: list[str]


def router(store: Store, clock: Clock, session: Callable[..., Awaitable[Session]]) -> APIRouter:
    """The directory, for everybody who is logged in."""
    routes = APIRouter(dependencies=[Depends(session)])

    @routes.get("/api/directory")
    async def directory() -> DirectoryAnswer:
        """The colleagues at work, those who are available first, and the queues."""
        at_work = [
            Colleague(
                login=seat.agent.login,
                name=seat.agent.name or seat.agent.login,
                presence=str(seat.presence.state),
                skills=sorted(seat.agent.skills),
            )
            for seat in await store.seats(clock.now())
            if seat.presence.state != Presence.OFFLINE
        ]
        at_work.sort(key=lambda one: (one.presence != Presence.AVAILABLE, one.name, one.login))
        skills = {skill for one in await store.agents() if not one.disabled for skill in one.skills}
        return DirectoryAnswer(agents=at_work, queues=sorted(skills))

    return routes
