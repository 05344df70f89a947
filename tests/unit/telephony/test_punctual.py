"""What keeps the event loop punctual."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from typing import Any

import pytest
from twisted.internet.asyncioreactor import AsyncioSelectorReactor

from ivr.observe import LOOP_BLOCKED
from ivr.telephony import punctual

_POLICIES = """
import asyncio, os, subprocess, sys, threading
from ivr.telephony import punctual
allowed = punctual.go_first()
go = threading.Event()
thread = threading.Thread(target=go.wait)
thread.start()
async def main():
    watching = asyncio.ensure_future(punctual.watch())
    await asyncio.sleep(0.05)
asyncio.run(main())
print(os.sched_getscheduler(thread.native_id) & ~os.SCHED_RESET_ON_FORK)
go.set()
child = [sys.executable, "-c", "import os; print(os.sched_getscheduler(0))"]
print(allowed, os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK)
print(subprocess.check_output(child, text=True))
"""


def test_the_loop_and_its_threads_go_first_and_its_children_do_not() -> None:
    told = subprocess.check_output([sys.executable, "-c", _POLICIES], text=True).split()
    threads, allowed, ours, childs = told[-4:]
    assert (allowed == "True") == (int(ours) == os.SCHED_RR)
    assert threads == ours
    assert int(childs) == os.SCHED_OTHER


def test_an_asterisk_goes_first_if_it_may() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        allowed = punctual.let_first(process.pid)
        assert (os.sched_getscheduler(process.pid) == os.SCHED_RR) == allowed
        process.kill()
    assert punctual.let_first(process.pid)  # it is gone, and nobody of it is late


def test_without_the_right_to_it_nothing_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError("not yours")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert not punctual.go_first()


def test_what_is_loaded_is_no_more_looked_through() -> None:
    frozen = gc.get_freeze_count()
    try:
        punctual.settle()
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()


async def test_a_block_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    observed: list[float] = []
    monkeypatch.setattr(LOOP_BLOCKED, "observe", observed.append)
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    watching = asyncio.ensure_future(punctual.watch())
    await asyncio.sleep(0)
    now += 0.5  # the loop did not get to anything for so long
    while not observed:
        await asyncio.sleep(0)
    watching.cancel()
    assert observed == [pytest.approx(0.48)]


async def test_twisted_goes_by_the_clock_of_the_loop() -> None:
    loop = asyncio.get_running_loop()
    reactor: Any = AsyncioSelectorReactor(loop)
    punctual.keep_time(reactor)
    assert reactor.seconds() == pytest.approx(loop.time(), abs=1)
    called = asyncio.Event()
    reactor.callLater(0.001, called.set)
    await asyncio.wait_for(called.wait(), 5)
