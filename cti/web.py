"""The doors for people and machines over HTTP: login, the agents' WebSocket and page, health.

Errors become statuses here and nowhere else. Nothing that a stranger sends comes back in an answer,
a token never stands in a URL, and every request has a size and a time after which it is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import structlog
import uvicorn
from fastapi import Depends, FastAPI, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from cti import (
    access,
    contactbook,
    designer,
    directory,
    embed,
    hooks,
    playback,
    protocol,
    staff,
    wallboard,
)
from cti.access import Door, Gate, session
from cti.accounts import Accounts, LoginRefused, Session, TooManyAttempts
from cti.agentsocket import INTERNAL, AgentSocket, SocketProtocol, error_message
from cti.board import Board
from cti.service import Desk
from cti.supervision import Supervision
from cti.workshop import Workshop
from ivr.config import Settings
from ivr.errors import Conflict, HotlineError, NotAllowed, StoreError
from ivr.recordings import Recordings
from ivr.store.repo import Store

log = structlog.get_logger()

MAX_BODY = 16 * 1024
BODY_SECONDS = 10.0
REQUEST_SECONDS = 10.0
MOST_CONNECTIONS = 10_000
"""With more, the agents' WebSockets counted, requests are answered with 503."""

_PAGE = Path(__file__).parent / "desktop"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_ASSETS = {
    path.relative_to(_PAGE).as_posix(): _TYPES[path.suffix]
    for path in _PAGE.rglob("*")
    if path.suffix in _TYPES
}

# The first that fits counts.
_STATUSES: tuple[tuple[type[HotlineError], int], ...] = (
    (TooManyAttempts, 429),
    (LoginRefused, 401),
    (NotAllowed, 403),
    (Conflict, 409),
    (StoreError, 503),
    (HotlineError, 500),
)

_POLICY = b"content-security-policy"
_HEADERS = [
    (_POLICY,
     b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
     b"img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(self)"),
    (b"cache-control", b"no-store"),
]  # fmt: skip

_TRUSTED = "require-trusted-types-for 'script'; trusted-types lit-html"


def _further(own: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers that an answer gets besides its own: what websites elsewhere may load or frame
    says so itself, and a policy that leaves the framing open is added to ours."""
    said = {name for name, value in own if name == b"cross-origin-resource-policy"}
    if any(name == _POLICY and b"frame-ancestors" in value for name, value in own):
        said |= {_POLICY, b"x-frame-options"}
    return [header for header in _HEADERS if header[0] not in said]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LoginRequest(_Strict):
    """An agent's credentials."""

    login: str = Field(min_length=1, max_length=255)
    password: str = Field(min_length=1, max_length=1024, repr=False)


class LoginAnswer(_Strict):
    """`token` goes into `Authorization: Bearer …` and into the WebSocket's `login` message."""

    token: str = Field(repr=False)
    login: str
    name: str
    extension: str
    expires_at: datetime


class TimelineItem(_Strict):
    """One thing that happened."""

    sequence: int
    at: datetime
    kind: str
    body: dict[str, Any]
    leg: str | None = None


class ConversationAnswer(_Strict):
    """A conversation and what happened in it."""

    id: str
    flow: str
    status: str
    language: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str
    timeline: list[TimelineItem]


class ErrorAnswer(_Strict):
    """What went wrong: `code` for programs, `text` for people."""

    code: str
    text: str


def create_app(
    desk: Desk,
    accounts: Accounts,
    store: Store,
    settings: Settings,
    ready: Callable[[], Mapping[str, bool]],
    languages: Callable[[], Mapping[str, str]] = dict,
    recordings: Recordings | None = None,
) -> FastAPI:
    """The application. `ready` names what must be up to take calls, and whether it is; `languages`
    how the recognition of each fares, without which callers still have their keys."""
    app = FastAPI(
        title="Hotline",
        version="1",
        summary="Agents' login, the conversations, and how the hotline is.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses={"4XX": {"model": ErrorAnswer}, "5XX": {"model": ErrorAnswer}},
        dependencies=[Depends(Gate(accounts))],
    )
    app.add_middleware(_Guard)
    _map_errors(app)

    signed_in = Depends(session)
    workshop = Workshop(settings.flows_dir, settings.sounds_dir)
    app.include_router(designer.router(workshop, accounts, store, settings.facts))

    app.include_router(staff.router(Supervision(desk), store, desk.clock))
    board = Board(store, desk.clock, settings.queue)
    app.include_router(wallboard.router(board, accounts, desk.bus))
    app.include_router(hooks.router(store, desk.clock))
    app.include_router(embed.router(settings.embed.origins, _HEADERS[0][1].decode()))
    app.include_router(directory.router(store, desk.clock, session))
    app.include_router(contactbook.router(store, desk.clock, settings.region))

    if recordings is not None:
        app.include_router(playback.router(recordings, store, session))

    @app.post("/api/login")
    async def login(wanted: LoginRequest, request: Request) -> LoginAnswer:
        """Log in with a password; the token is good for twelve hours."""
        fresh = await accounts.login(wanted.login, wanted.password, access.peer(request))
        return LoginAnswer(
            token=fresh.token,
            login=fresh.agent.login,
            name=fresh.agent.name,
            extension=fresh.agent.extension,
            expires_at=fresh.expires_at,
        )

    @app.post("/api/logout", status_code=204)
    async def logout(who: Session = signed_in) -> None:
        """End this login and close the pages that it opened."""
        await accounts.logout(who)
        await desk.sign_out(who.login, who.key)

    @app.get("/api/conversations/{conversation_id}")
    async def conversation(
        conversation_id: str,
        who: Session = signed_in,
        after: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    ) -> ConversationAnswer:
        """A conversation with everything that happened in it since the entry numbered `after`."""
        found = await store.conversation(conversation_id)
        if found is None:
            raise HTTPException(404, "there is no such conversation")
        entries = await store.timeline(conversation_id, after)
        return ConversationAnswer(
            id=found.id,
            flow=found.flow,
            status=found.status,
            language=found.language,
            started_at=found.started_at,
            ended_at=found.ended_at,
            outcome=found.outcome,
            timeline=[
                TimelineItem(
                    sequence=entry.sequence,
                    at=entry.at,
                    kind=entry.kind,
                    body=dict(entry.body),
                    leg=entry.leg_id,
                )
                for entry in entries
            ],
        )

    @app.websocket("/api/agent")
    async def agent(socket: WebSocket) -> None:
        await AgentSocket(socket, desk, Door(accounts, ("WS", "/api/agent"))).serve()

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    async def readyz(response: Response) -> dict[str, bool | dict[str, str]]:
        parts = ready()
        if not all(parts.values()):
            response.status_code = 503
        states = dict(languages())
        return {**parts, **({"languages": states} if states else {})}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False)
    async def front() -> RedirectResponse:
        return RedirectResponse("/agent")

    @app.get("/agent", include_in_schema=False)
    async def page() -> FileResponse:
        # Beside the policy of all pages: nothing but lit's own templates becomes markup here.
        trusted = {"content-security-policy": _TRUSTED}
        return FileResponse(_PAGE / "index.html", media_type="text/html", headers=trusted)

    @app.get("/agent/{name:path}", include_in_schema=False)
    async def asset(name: str) -> FileResponse:
        if name not in _ASSETS:
            raise HTTPException(404, "there is no such page")
        return FileResponse(_PAGE / name, media_type=_ASSETS[name])

    plain = app.openapi
    app.openapi = lambda: access.describe(plain())  # type: ignore[method-assign]
    return app


def server_config(app: FastAPI) -> uvicorn.Config:
    """How the application is to be served; the listening socket is the caller's."""
    return uvicorn.Config(
        app,
        http=RequestInTime,
        limit_concurrency=MOST_CONNECTIONS,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=15,
        h11_max_incomplete_event_size=16 * 1024,
        ws=SocketProtocol,
        ws_max_size=protocol.MAX_CLIENT_BYTES,
        ws_per_message_deflate=False,
        ws_ping_interval=2,  # a screen that does not read is found within five seconds, and
        ws_ping_timeout=3,  # a network that stalls for three costs nobody the connection
    )


class RequestInTime(H11Protocol):
    """HTTP that drops a connection on which no whole request has come in time."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering or self.transport.get_protocol() is not self:
            self._wait_no_more()
        elif self._deadline is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _wait_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Guard:
    """Around everything: security headers, and a body that is small and comes in time."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                own = list(message.get("headers", []))
                message = {**message, "headers": [*own, *_further(own)]}
            await send(message)

        body = await _body(receive)
        if isinstance(body, JSONResponse):
            await body(scope, receive, guarded)
            return
        given = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return given.pop() if given else await receive()

        try:
            await self._app(scope, again, guarded)
        except Exception:
            log.exception("request failed", path=scope["path"])
            if started:
                raise
            await _answer(500, "internal", INTERNAL)(scope, receive, guarded)


async def _body(receive: Receive) -> bytes | JSONResponse:
    """The request's body, or the answer to one that is too large or too slow."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                body.extend(message.get("body", b""))
                if len(body) > MAX_BODY:
                    return _answer(413, "too_large", f"at most {MAX_BODY} bytes are taken")
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        return _answer(408, "too_slow", f"send the request within {BODY_SECONDS:.0f} seconds")


def _map_errors(app: FastAPI) -> None:
    @app.exception_handler(HotlineError)
    async def refused(request: Request, error: HotlineError) -> JSONResponse:
        status = next(status for kind, status in _STATUSES if isinstance(error, kind))
        told = error_message(error)
        response = _answer(status, told.code, told.text)
        if isinstance(error, TooManyAttempts):
            response.headers["Retry-After"] = str(error.retry_after)
        if status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        # Only names of ours and the reason: what was sent may be a password, or markup.
        first = error.errors()[0]
        if first["type"] == "extra_forbidden":
            return _answer(422, "bad_request", f"{first['loc'][0]}: it has an unknown field")
        field = ".".join(str(part) for part in first["loc"])
        return _answer(422, "bad_request", f"{field}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        return _answer(error.status_code, "refused", str(error.detail), error.headers)


def _answer(
    status: int, code: str, text: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    return JSONResponse(ErrorAnswer(code=code, text=text).model_dump(), status, headers)
