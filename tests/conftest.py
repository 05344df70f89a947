"""One event loop for the whole run, with Twisted's reactor installed on it as in the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
from twisted.internet import asyncioreactor

from ivr.telephony import punctual


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def reactor() -> AsyncIterator[Any]:
    """Twisted's reactor, running on pytest's own loop. Ask for it before any Twisted server."""
    asyncioreactor.install(asyncio.get_running_loop())
    from twisted.internet import reactor as installed

    running: Any = installed
    punctual.keep_time(running)
    running.startRunning(installSignalHandlers=False)
    yield running
