"""Workers that die are replaced, those that never start are reported, and none is left over."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from ivr.errors import SpeechError
from ivr.speech import pool as pools
from ivr.speech.pool import WorkerPool

GOOD = "import os, sys; print(1000 + os.getpid() % 50000, flush=True); sys.stdin.read()"
BROKEN = "raise SystemExit('no model')"
SILENT = "import sys; sys.stdin.read()"
STUBBORN = "import threading; print(7, flush=True); threading.Event().wait()"


def pool(script: str, size: int = 1) -> WorkerPool:
    return WorkerPool("fake", Path("model"), "en", size, (sys.executable, "-c", script))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_the_least_busy_worker_is_chosen() -> None:
    workers = pool(GOOD, size=2)
    await workers.start()
    async with workers.worker(5) as first:
        while len(workers.pids) < 2 or len(workers._workers) < 2:
            await asyncio.sleep(0)
        async with workers.worker(5) as second:
            assert first != second
    await workers.stop()


async def test_a_killed_worker_is_replaced() -> None:
    workers = pool(GOOD)
    await workers.start()
    (pid,) = workers.pids
    async with workers.worker(5) as url:
        os.kill(pid, signal.SIGKILL)
        while pid in workers.pids:
            await asyncio.sleep(0)
    async with workers.worker(5) as again:
        assert again != url
    await workers.stop()


@pytest.mark.parametrize("script", [GOOD, STUBBORN])
async def test_nothing_is_left_over(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_LEAVE_SECONDS", 0.1)
    workers = pool(script)
    await workers.start()
    (pid,) = workers.pids
    await workers.stop()
    assert not alive(pid)
    await workers.stop()


@pytest.mark.parametrize("script", [BROKEN, SILENT])
async def test_a_worker_that_never_gets_ready_is_an_error(
    script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "_LOAD_SECONDS", 0.3)
    monkeypatch.setattr(pools, "_LEAVE_SECONDS", 0.1)
    workers = pool(script)
    with pytest.raises(SpeechError, match="no fake worker for en"):
        await workers.start()
    assert not workers.pids


async def test_without_a_living_worker_the_pool_is_not_ready(tmp_path: Path) -> None:
    born = tmp_path / "born"
    once = f"import pathlib; pathlib.Path({str(born)!r}).touch(exist_ok=False); {GOOD}"
    workers = pool(once)
    assert not workers.ready
    await workers.start()
    assert workers.ready
    (pid,) = workers.pids
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        while workers.ready:
            await asyncio.sleep(0.01)
    assert workers._stillborn, "the first that does not start in its place tells"
    await workers.stop()


@pytest.mark.parametrize("seconds", [0.0, 60.0])
async def test_a_worker_is_not_missed_while_it_is_being_replaced(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "_REPLACED_WITHIN", seconds)
    workers = pool(GOOD)
    await workers.start()
    (pid,) = workers.pids
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        while workers._workers:
            await asyncio.sleep(0)
    assert workers.ready is bool(seconds)
    await workers.stop()


async def test_a_worker_that_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_LEAVE_SECONDS", 0.1)
    monkeypatch.setattr(pools, "_REPLACED_WITHIN", 0.0)
    workers = pool(STUBBORN.replace("print(7", "import os; print(os.getpid() % 60000"))
    await workers.start()
    (pid,) = workers.pids
    async with asyncio.timeout(10):
        async with workers.worker(5) as url:
            now = asyncio.get_running_loop().time
            workers.judge(url, "timeout", now())
            workers.judge(url, "", now())
            workers.judge(url, "timeout", now())
            assert workers.ready, "only those in a row count"
            workers.judge(url, "lost", now())
            workers.judge(url, "protocol", now())
            assert workers.ready, "an error may be the utterance's own"
            workers.judge(url, "timeout", now())
            assert not workers.ready
            workers.judge(url, "timeout", now())
        async with workers.worker(5) as again:
            assert again != url
    assert not alive(pid)
    await workers.stop()


async def test_a_worker_with_too_much_to_do_is_not_taken_to_hang() -> None:
    workers = pool(GOOD)
    await workers.start()
    async with workers.worker(5) as url:
        asked = asyncio.get_running_loop().time()
        for _ in range(5):
            workers.judge(url, "", asked)
            workers.judge(url, "timeout", asked)
            workers.judge(url, "timeout", asked)
        assert workers.ready, "it answered others while these waited"
    await workers.stop()
