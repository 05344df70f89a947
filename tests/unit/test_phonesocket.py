"""The telephone in the page: who gets an account, and who gets through to Asterisk's WebSocket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import websockets
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from websockets.sync.server import ServerConnection, serve

from cti.access import session
from cti.phonesocket import PASS_HOURS, BrowserPhones, router
from ivr.config import AsteriskSettings, Settings
from ivr.model import Agent

NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


class Agents:
    async def agent(self, login: str) -> Agent | None:
        known = {"ann": Agent("ann", "Ann", "1001"), "eve": Agent("eve", "Eve", "")}
        return known.get(login)


def phones(port: int, clock: Clock | None = None) -> BrowserPhones:
    settings = Settings(asterisk=AsteriskSettings(http_port=port))
    store: Any = Agents()
    return BrowserPhones(
        settings,
        store,
        clock or Clock(),
        lambda extension: f"w{extension}" if extension == "1001" else "",
        lambda name: f"password of {name}",
    )


@pytest.fixture
def asterisk() -> Iterator[int]:
    """A WebSocket that answers each frame in capitals, as `sip` alone."""

    def answer(connection: ServerConnection) -> None:
        assert connection.subprotocol == "sip"
        for frame in connection:
            connection.send(str(frame).upper())

    with serve(answer, "127.0.0.1", 0, subprotocols=[websockets.Subprotocol("sip")]) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.socket.getsockname()[1]
        server.shutdown()


@contextmanager
def page(made: BrowserPhones, login: str = "ann") -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(router(made))
    app.dependency_overrides[session] = lambda: SimpleNamespace(login=login)
    with TestClient(app) as client:
        yield client


def test_an_agent_gets_an_account_and_its_frames_go_both_ways(asterisk: int) -> None:
    with page(phones(asterisk)) as client:
        account = client.get("/api/phone").json()
        ws = account.pop("ws")
        assert account == {
            "uri": "sip:w1001@hotline",
            "password": "password of w1001",
            "extension": "1001",
        }
        for _ in range(2):  # JsSIP comes back to the same address
            with client.websocket_connect(ws, subprotocols=["sip"]) as socket:
                assert socket.accepted_subprotocol == "sip"
                socket.send_text("register sip:hotline")
                assert socket.receive_text() == "REGISTER SIP:HOTLINE"


def test_who_has_no_telephone_gets_none(asterisk: int) -> None:
    with page(phones(asterisk), "eve") as client:
        assert client.get("/api/phone").status_code == 404
    with page(phones(0)) as client:
        assert client.get("/api/phone").status_code == 404


def refused(client: TestClient, ws: str, **headers: str) -> bool:
    try:
        with client.websocket_connect(ws, subprotocols=["sip"], headers=headers):
            return False
    except WebSocketDisconnect as error:
        return error.code == 1008


def test_nobody_else_gets_through(asterisk: int) -> None:
    clock = Clock()
    made = phones(asterisk, clock)
    with page(made) as client:
        ws = client.get("/api/phone").json()["ws"]
        assert refused(client, "/api/phone/ws")
        assert refused(client, "/api/phone/ws?pass=guess")
        assert refused(client, ws, origin="https://elsewhere.example")
        assert not refused(client, ws)
        clock.at += timedelta(hours=PASS_HOURS)
        assert refused(client, ws)
        later = client.get("/api/phone").json()["ws"]
        made.forget("ann")
        assert refused(client, later)


def test_an_asterisk_that_is_away_is_told_by_closing() -> None:
    with page(phones(9)) as client:
        ws = client.get("/api/phone").json()["ws"]
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(ws) as socket:
            socket.receive_text()
