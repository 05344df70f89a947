"""What keeps the event loop punctual, on which every call's audio has its clock.

The loop's thread goes before others where the system lets it; what lives as long as the process is
never again looked through for garbage, which would take a fifth of a second; and how long the loop
was blocked by anything at all is counted.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
from pathlib import Path
from typing import Any

import structlog

from ivr.observe import LOOP_BLOCKED
from ivr.ports import FRAME_SECONDS

log = structlog.get_logger(__name__)

_LOOKS = 50  # between two searches for new threads: a second
_THREADS = 1  # the least priority in real time
_LOOP = 2
_ASTERISKS = 10  # as with its own option -p, which however ends it where the system says no


def go_first() -> bool:
    """Put this thread before the machine's other work; whether the system let us (it wants root,
    CAP_SYS_NICE or `LimitRTPRIO=`). Processes started from here on are not put first: recognition
    and synthesis may take what is left.
    """
    return _first(0, _LOOP, os.SCHED_RESET_ON_FORK)


def let_first(pid: int) -> bool:
    """The same for another process that deals with audio, an Asterisk: its threads of now and those
    that they will start."""
    return all([_first(thread, _ASTERISKS, 0) for thread in _threads(pid)])


def _lift() -> None:
    """Put our other threads next: one that is made to wait while it holds the interpreter's lock
    makes the loop wait, too."""
    if not _is_first(0):
        return
    for thread in _threads(os.getpid()):
        if not _is_first(thread):
            _first(thread, _THREADS, os.SCHED_RESET_ON_FORK)


def _threads(pid: int) -> list[int]:
    try:
        return [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:  # it is gone, or this is not Linux
        return []


def _is_first(thread: int) -> bool:
    try:
        return os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR
    except (OSError, AttributeError):  # it has ended
        return True


def _first(thread: int, priority: int, flags: int) -> bool:
    # Niceness would not do: Linux weighs it within a session alone (sched(7), autogroup).
    try:
        os.sched_setscheduler(thread, os.SCHED_RR | flags, os.sched_param(priority))
    except (OSError, AttributeError) as error:
        log.info("calls have no priority over the machine's other work", reason=str(error))
        return False
    return True


def keep_time(reactor: Any) -> None:
    """Have Twisted's timers and the audio clock go by the running loop's clock, as all else does:
    Twisted's own is the time of day, which a machine may set at any time."""
    reactor.seconds = asyncio.get_running_loop().time


def settle() -> None:
    """Collect garbage for the last time from what there is now: call it when all is loaded."""
    gc.collect()
    gc.freeze()


async def watch() -> None:
    """Count how long the loop was blocked, and put new threads first, until cancelled. What falls
    between two looks is seen less the time to the next one, 20 ms at most."""
    loop = asyncio.get_running_loop()
    for look in itertools.count():
        due = loop.time() + FRAME_SECONDS
        await asyncio.sleep(FRAME_SECONDS)
        LOOP_BLOCKED.observe(max(0.0, loop.time() - due))
        if look % _LOOKS == 0:
            _lift()
