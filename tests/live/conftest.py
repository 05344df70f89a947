"""A real Asterisk of the tests' own, on ports and in a folder of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ivr.config import AsteriskSettings, Settings
from ivr.errors import TelephonyError
from ivr.telephony import pbx
from ivr.telephony.asterisk import Ami
from tests.live.house import House, house_settings

CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "hotline"
_RTP = iter(range(21000, 29000, 200))


def free_ports(kind: socket.SocketKind, count: int) -> list[int]:
    """Ports that nobody uses now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket(socket.AF_INET, kind)) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@pytest.fixture(scope="session")
def live_settings() -> Iterator[Callable[..., Settings]]:
    """Makes the settings of one more instance; all are stopped and deleted in the end."""
    made: list[Settings] = []

    def make(**asterisk: Any) -> Settings:
        ami, agi, audio, http = free_ports(socket.SOCK_STREAM, 4)
        (sip,) = free_ports(socket.SOCK_DGRAM, 1)
        rtp = next(_RTP)
        ports = {"ami_port": ami, "agi_port": agi, "audio_port": audio, "sip_port": sip}
        ports |= {"http_port": http, "parking_seconds": 6}
        ports |= {"rtp_start": rtp, "rtp_end": rtp + 199}
        # Not pytest's own: Asterisk's control socket wants a short path.
        folder = Path(tempfile.mkdtemp(prefix="hotline-live-"))
        settings = Settings(
            state_dir=folder,
            cache_dir=CACHE,
            redial_seconds=0,  # the telephones are few, and their calls many
            asterisk=AsteriskSettings(**(ports | asterisk)),
        )
        made.append(settings)
        return settings

    yield make
    for settings in made:
        pbx.down(settings)
        shutil.rmtree(settings.state_dir)


@pytest.fixture(scope="session")
def live_pbx(live_settings: Callable[..., Settings]) -> Settings:
    """The settings of a PBX that is up for the whole run."""
    settings = live_settings()
    try:
        pbx.up(settings)
    except TelephonyError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    return settings


@pytest_asyncio.fixture(loop_scope="session")
async def ami(live_pbx: Settings) -> AsyncIterator[Ami]:
    """A manager link to that PBX."""
    link = manager(live_pbx)
    await link.start()
    yield link
    async with asyncio.timeout(10):
        while link.channels:
            await asyncio.sleep(0.02)
    await link.stop()


def manager(settings: Settings) -> Ami:
    """The manager link that belongs to an instance."""
    where = settings.asterisk
    secret = pbx.credentials(settings).ami_secret
    return Ami(where.ami_host, where.ami_port, where.ami_user, secret)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def module_house(live_pbx: Settings, request: pytest.FixtureRequest) -> AsyncIterator[House]:
    house = House(house_settings(live_pbx, request.module.__name__))
    yield house
    await house.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def house(module_house: House) -> House:
    """A server on that PBX, up; it stays up from one test of a module to the next."""
    if not module_house.up:
        await module_house.start()
    return module_house
