"""What recording costs the calls: a share of a core, and how long it keeps the audio clock waiting,
on a disk that is well and on one that stalls."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ivr import disk
from ivr.clock import SystemClock
from ivr.config import RecordingSettings, Settings
from ivr.model import Address, Channel, Conversation, ConversationStatus, Leg
from ivr.ports import FRAME_BYTES, FRAME_SECONDS
from ivr.recordings import Recordings
from ivr.store.repo import Store
from ivr.telephony.recording import CallRecording
from ivr.wire.audiosocket import pack
from tests.bench.figures import Figure, figure, percentile

CALLS = 200
SECONDS = 8
STALL = 2.0


async def _ticks(folder: Path, *, recorded: bool) -> tuple[float, list[float]]:
    """`CALLS` calls for `SECONDS`, recorded or not: CPU seconds of the event loop's thread, and how
    long each tick of all of them took."""
    store = await Store.open("sqlite://")
    clock = SystemClock()
    leg = Leg("leg", "c", Address(Channel.VOICE, ""), clock.now())
    conversation = Conversation("c", "main", "v", ConversationStatus.FLOW, clock.now())
    await store.start_conversation(conversation, leg)
    archive = Recordings(store, folder, RecordingSettings(), clock, keep_free=0)
    telephone: Any = SimpleNamespace(
        settings=Settings(), clock=clock, recordings=archive, audio=None, ami=None, prompts=None
    )
    made = [CallRecording(telephone) for _ in range(CALLS)]
    heard, sent = b"\1\2" * (FRAME_BYTES // 2), pack(b"\3\4" * (FRAME_BYTES // 2))
    for number, each in enumerate(made if recorded else ()):
        each._track = await archive.begin("c", f"leg-{number}")
        each._announced = True
        each._began = clock.monotonic()
        for _ in range(number % 50):  # calls begin at different times
            each._sent(sent)
    ticks = []
    spent, due = time.thread_time(), time.perf_counter()
    for _ in range(round(SECONDS / FRAME_SECONDS)):
        due += FRAME_SECONDS
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tick = time.perf_counter()
        for each in made:
            each.heard(heard)
            each._sent(sent)
        ticks.append(1000 * (time.perf_counter() - tick))
    spent = time.thread_time() - spent
    for each in made:
        each._close()
    await archive.close()
    await store.close()
    return spent, ticks


def _measured(*, recorded: bool = True) -> tuple[float, list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_ticks(Path(folder), recorded=recorded))


def recording() -> list[Figure]:
    idle, before = _measured(recorded=False)
    busy, well = _measured()
    write, stalled = disk.RecordingFile.write, False

    def stalls(self: disk.RecordingFile, at: int, samples: bytes) -> None:
        nonlocal stalled
        if not stalled:
            stalled = True
            time.sleep(STALL)
        write(self, at, samples)

    disk.RecordingFile.write = stalls  # type: ignore[method-assign]
    try:
        _, ill = _measured()
    finally:
        disk.RecordingFile.write = write  # type: ignore[method-assign]
    share = 100 * (busy - idle) / SECONDS / CALLS
    names = (f"recording {CALLS} calls, a tick p99", "the same while the disk stalls for 2 s")
    return [
        figure("recording a call, share of a core", share, "%", 0.1),
        *(
            figure(name, percentile(ticks, 0.99), "ms", 10, percentile(before, 0.99))
            for name, ticks in zip(names, (well, ill), strict=True)
        ),
    ]


BENCHES: Mapping[str, Callable[[], list[Figure]]] = {"recording": recording}
