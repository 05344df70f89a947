"""Lets people hear recordings: who may, as a file that a browser can seek in, and never unnoticed.

Supervisors hear everything; an agent hears the messages of customers whom they have served. Who is
given what is written into the conversation's timeline first: what cannot be written down cannot be
heard.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Literal

import structlog
from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from cti.accounts import Session
from ivr.errors import NotAllowed
from ivr.model import Agent, Recording, TimelineEntry
from ivr.ports import Clock
from ivr.recordings import MESSAGE, Recordings
from ivr.store.repo import Store

log = structlog.get_logger(__name__)

ROLES = frozenset({"supervisor", "admin"})

SAME_HEARING = 300.0
"""Seconds for which a player may come back for further pieces without another entry."""

_MOST_HEARINGS = 1000


class RecordingItem(BaseModel):
    """A recording of a call, or a message that the caller left. `there` says whether it can be
    heard here and now, at `/api/recordings/{id}`."""

    model_config = ConfigDict(extra="forbid")

    id: str
    kind: Literal["call", "message"]
    state: Literal["open", "kept", "lost"]
    started_at: datetime
    seconds: float
    size: int
    sha256: str
    there: bool


class _Hearings:
    """Who has lately been given what, so that a seeking player does not fill the timeline."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._since: OrderedDict[tuple[str, str], float] = OrderedDict()

    def fresh(self, login: str, recording: str) -> bool:
        now = self._clock.monotonic()
        since = self._since.get((login, recording))
        return since is None or now - since > SAME_HEARING

    def begin(self, login: str, recording: str) -> None:
        self._since[login, recording] = self._clock.monotonic()
        self._since.move_to_end((login, recording))
        while len(self._since) > _MOST_HEARINGS:
            self._since.popitem(last=False)


def router(
    recordings: Recordings, store: Store, session: Callable[..., Awaitable[Session]]
) -> APIRouter:
    """The recordings' part of the API. `session` is the dependency that knows who asks."""
    api = APIRouter()
    signed_in = Depends(session)
    clock = recordings.clock
    hearings = _Hearings(clock)

    async def listener(who: Session) -> Agent:
        agent = await store.agent(who.login)
        if agent is None or agent.disabled:
            raise NotAllowed("this agent is unknown or disabled")
        return agent

    async def may_hear(agent: Agent, recording: Recording) -> bool:
        if agent.roles & ROLES:
            return True
        if recording.kind != MESSAGE:
            return False
        tickets = await store.tickets_of(recording.conversation_id)
        return any(one.agent == agent.login and one.status == "served" for one in tickets)

    @api.get("/api/conversations/{conversation_id}/recordings")
    async def list_recordings(
        conversation_id: str, who: Session = signed_in
    ) -> list[RecordingItem]:
        """The recordings of a conversation that whoever asks may hear."""
        agent = await listener(who)
        return [
            RecordingItem(
                id=one.id,
                kind="message" if one.kind == MESSAGE else "call",
                state="kept" if one.state == "kept" else "lost" if one.state == "lost" else "open",
                started_at=one.started_at,
                seconds=one.seconds,
                size=one.size,
                sha256=one.sha256,
                there=await recordings.file(one) is not None,
            )
            for one in await store.recordings(conversation_id)
            if await may_hear(agent, one)
        ]

    @api.get(
        "/api/recordings/{recording_id}",
        response_class=FileResponse,
        responses={
            200: {"content": {"audio/wav": {}}, "description": "the file"},
            206: {"content": {"audio/wav": {}}, "description": "the pieces that `Range` asks for"},
        },
    )
    async def hear(recording_id: str, who: Session = signed_in) -> FileResponse:
        """A recording's file; `Range` is understood. The conversation's timeline tells who heard
        it."""
        agent = await listener(who)
        recording = await store.recording(recording_id)
        if recording is None or not await may_hear(agent, recording):
            # Not told apart: an agent need not learn which calls were recorded.
            raise HTTPException(404, "there is no such recording for you")
        path = await recordings.file(recording)
        if path is None:
            raise HTTPException(404, "its file is not here: not finished, lost or elsewhere")
        if hearings.fresh(agent.login, recording.id):
            body = {"agent": agent.login, "reference": recording.id}
            entry = TimelineEntry(recording.conversation_id, clock.now(), "listened", body)
            await store.append([entry])
            hearings.begin(agent.login, recording.id)
        log.info("recording heard", agent=agent.login, recording=recording.id)
        return FileResponse(
            path, media_type="audio/wav", filename=f"{recording.kind}-{recording.id}.wav"
        )

    return api
