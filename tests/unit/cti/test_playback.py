"""Who may hear recordings, and that it is written down; and that a player can seek in them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio
from argon2 import PasswordHasher

from cti.accounts import Accounts
from cti.playback import SAME_HEARING
from cti.web import create_app
from ivr.config import RecordingSettings, Settings
from ivr.errors import StoreError
from ivr.model import Agent, Ticket, TimelineEntry
from ivr.recordings import Recordings
from tests.unit.cti.conftest import World

PASSWORD = "correct horse"
FAST = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
SECOND = b"\1\2\3\4" * 8000


@dataclass
class Site:
    world: World
    http: httpx2.AsyncClient
    recordings: Recordings
    call: str
    message: str

    async def get(
        self, path: str, login: str = "sue", headers: dict[str, str] | None = None
    ) -> httpx2.Response:
        who = {"login": login, "password": PASSWORD}
        token = (await self.http.post("/api/login", json=who)).json()["token"]
        sent = {"Authorization": f"Bearer {token}", **(headers or {})}
        return await self.http.get(path, headers=sent)

    async def heard(self) -> list[str]:
        """Who has been given what, as the timeline tells."""
        entries = await self.world.store.timeline("c1")
        return [
            f"{entry.body['agent']} {entry.body['reference']}"
            for entry in entries
            if entry.kind == "listened"
        ]


@pytest_asyncio.fixture
async def site(world: World, tmp_path: Path) -> AsyncIterator[Site]:
    """A call that ann took, recorded, and a message that its caller left."""
    accounts = Accounts(world.store, world.clock, FAST)
    roles = {"sue": "supervisor", "ada": "admin", "dee": "designer", "ann": "agent", "bob": "agent"}
    for login, role in roles.items():
        agent = Agent(login, login.title(), "201", roles=frozenset({role}))
        await world.store.save_agent(agent, FAST.hash(PASSWORD))
    await world.caller("c1")
    served = Ticket("t1", "c1", world.clock.now(), status="served", agent="ann", stage="over")
    await world.store.take_ticket(served)
    kept = Recordings(world.store, tmp_path, RecordingSettings(), world.clock, keep_free=0)
    track = await kept.begin("c1", "leg-c1")
    assert track is not None
    track.write(0, SECOND)
    track.end()
    await kept.close()
    message = await kept.keep_message("c1", "leg-c1", "record-1", SECOND, 2.0)
    call = next(one.id for one in await world.store.recordings("c1") if one.kind == "call")
    app = create_app(world.desk, accounts, world.store, Settings(), dict, dict, kept)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://hotline") as http:
        yield Site(world, http, kept, call, message)


@pytest.mark.parametrize(
    ("login", "kinds"),
    [
        ("sue", {"call", "message"}),
        ("ada", {"call", "message"}),
        ("ann", {"message"}),
        ("bob", set()),
    ],
)
async def test_everyone_is_given_what_they_may_hear(
    site: Site, login: str, kinds: set[str]
) -> None:
    listed = await site.get("/api/conversations/c1/recordings", login)
    assert listed.status_code == 200
    assert {one["kind"] for one in listed.json()} == kinds
    assert all(one["there"] and one["state"] == "kept" for one in listed.json())
    for kind, reference in (("call", site.call), ("message", site.message)):
        answer = await site.get(f"/api/recordings/{reference}", login)
        assert answer.status_code == (200 if kind in kinds else 404)
    assert len(await site.heard()) == len(kinds)


async def test_nobody_hears_without_a_login(site: Site) -> None:
    for path in (f"/api/recordings/{site.call}", "/api/conversations/c1/recordings"):
        assert (await site.http.get(path)).status_code == 401
    assert await site.heard() == []


async def test_it_is_a_wav_file_with_a_harmless_name(site: Site) -> None:
    answer = await site.get(f"/api/recordings/{site.call}")
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    name = f"call-{site.call}.wav"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert re.fullmatch(r"call-[0-9a-f]{32}\.wav", name)
    assert answer.content[:4] == b"RIFF" and answer.content.endswith(SECOND)


async def test_a_player_can_seek(site: Site) -> None:
    whole = (await site.get(f"/api/recordings/{site.call}")).content
    for asked, status, piece in (
        ("bytes=44-1043", 206, whole[44:1044]),
        ("bytes=-100", 206, whole[-100:]),
        (f"bytes={len(whole)}-", 416, b""),
    ):
        answer = await site.get(f"/api/recordings/{site.call}", headers={"Range": asked})
        assert answer.status_code == status
        assert status != 206 or answer.content == piece
    assert len(await site.heard()) == 1  # one hearing, however many pieces
    site.world.clock.advance(SAME_HEARING + 1)
    await site.get(f"/api/recordings/{site.call}", headers={"Range": "bytes=44-"})
    assert await site.heard() == [f"sue {site.call}"] * 2


async def test_what_cannot_be_written_down_cannot_be_heard(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(entries: list[TimelineEntry]) -> None:
        raise StoreError("the database is away")

    monkeypatch.setattr(site.world.store, "append", away)
    assert (await site.get(f"/api/recordings/{site.call}")).status_code == 503


@pytest.mark.parametrize("reference", ["..%2f..%2fetc%2fpasswd", "place", "0" * 32, "x" * 5000])
async def test_nothing_else_is_a_recording(site: Site, reference: str) -> None:
    assert (await site.get(f"/api/recordings/{reference}")).status_code == 404


async def test_what_is_gone_is_not_found(site: Site, tmp_path: Path) -> None:
    (tmp_path / f"{site.call}.wav").unlink()
    assert (await site.get(f"/api/recordings/{site.call}")).status_code == 404
    listed = (await site.get("/api/conversations/c1/recordings")).json()
    assert {one["kind"]: one["there"] for one in listed} == {"call": False, "message": True}
