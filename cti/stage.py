"""A stage: a whole hotline that stands apart from any other, for the demo, benchmarks and tests.

It has a folder, ports and a database of its own; the server is a process of its own, as in life.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx2

from cti.accounts import hash_password
from ivr.config import Settings
from ivr.errors import TelephonyError
from ivr.model import Agent
from ivr.store.repo import Store
from ivr.telephony import pbx

_READY_SECONDS = 90.0


def apart(settings: Settings, folder: str) -> Settings:
    """Settings of a hotline that gets into nobody's way, with an empty database."""
    agi, audio, ami, web, sip, http = free_ports(6)
    # Below the ports that the kernel gives out by itself.
    rtp = 13000 + secrets.randbelow(40) * 400
    asterisk = settings.asterisk.model_copy(
        update={
            "agi_port": agi,
            "audio_port": audio,
            "ami_port": ami,
            "sip_port": sip,
            "http_port": http,
            "rtp_start": rtp,
            "rtp_end": rtp + 399,
        }
    )
    state = settings.state_dir / folder
    for name in ("hotline.db", "hotline.db-wal", "hotline.db-shm"):
        (state / name).unlink(missing_ok=True)
    return settings.model_copy(
        update={
            "state_dir": state,
            "asterisk": asterisk,
            "redial_seconds": 0.0,  # the robots are few, and their calls many
            "web": settings.web.model_copy(update={"port": web}),
            "database": settings.database.model_copy(update={"url": ""}),
        }
    )


def free_ports(count: int) -> list[int]:
    """TCP ports of loopback that nobody uses now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def environment(settings: Settings) -> dict[str, str]:
    """The variables that make another process read these settings."""
    variables = {"HOTLINE_CONFIG": os.devnull}
    for name, value in settings.model_dump(mode="json").items():
        if isinstance(value, dict) and name not in ("uses", "calendars"):
            for inner, leaf in value.items():
                shown = leaf if isinstance(leaf, str) else json.dumps(leaf)
                variables[f"HOTLINE_{name}__{inner}".upper()] = shown
        else:
            shown = value if isinstance(value, str) else json.dumps(value)
            variables[f"HOTLINE_{name}".upper()] = shown
    return variables


async def add_agent(settings: Settings, login: str, extension: str, password: str) -> None:
    """Hire an agent who serves everyone."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    store = await Store.open(settings.database_url)
    try:
        agent = Agent(login, login.capitalize(), extension)
        await store.save_agent(agent, await asyncio.to_thread(hash_password, password))
    finally:
        await store.close()


@asynccontextmanager
async def local_pbx(settings: Settings, progress: Callable[[str], None]) -> AsyncIterator[None]:
    """A PBX, up. One that a killed run left behind in the same folder is stopped first."""
    await asyncio.to_thread(pbx.down, settings)
    await asyncio.to_thread(pbx.up, settings, progress)
    try:
        yield
    finally:
        await asyncio.to_thread(pbx.down, settings)


@asynccontextmanager
async def server(settings: Settings) -> AsyncIterator[Process]:
    """The hotline as a process of its own, ready. Raises TelephonyError when it does not start."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cti.cli",
        "serve",
        env={**os.environ, **environment(settings)},
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        await _first(_ready(settings), process.wait())
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _first(ready: Awaitable[None], ended: Awaitable[int]) -> None:
    waiting = [asyncio.ensure_future(ready), asyncio.ensure_future(ended)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if waiting[1].done():
            raise TelephonyError("the hotline did not start: its message stands above")
        await waiting[0]
    finally:
        for task in waiting:
            task.cancel()


async def _ready(settings: Settings) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    async with httpx2.AsyncClient(trust_env=False) as client:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx2.HTTPError):
                if (await client.get(url(settings) + "/readyz")).status_code == httpx2.codes.OK:
                    return
            await asyncio.sleep(0.1)
    raise TelephonyError(f"the hotline was not ready after {_READY_SECONDS:.0f} s")


def url(settings: Settings) -> str:
    return f"http://{settings.web.host}:{settings.web.port}"
