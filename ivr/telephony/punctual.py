"""What keeps the event loop punctual, on which every call's audio has its clock.

The loop's thread goes before others where the system lets it; what lives as long as the process is
never again looked through for garbage, which would take a fifth of a second; and how long the loop
was blocked by anything at all is counted.
"""

from __future__ import annotations

import asyncio
import gc
import os

import structlog

from ivr.observe import LOOP_BLOCKED
from ivr.ports import FRAME_SECONDS

log = structlog.get_logger(__name__)

_NICENESS = -10


def go_first() -> bool:
    """Put this thread before the machine's other work; whether the system let us (it wants root,
    CAP_SYS_NICE or `LimitNICE=`). Threads and processes started from here on are not put first:
    recognition and synthesis may take what is left.
    """
    try:
        # On Linux this is the thread's alone, and the flag keeps its children from inheriting it.
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    except (OSError, AttributeError) as error:
        log.info("calls have no priority over the machine's other work", reason=str(error))
        return False
    return True


def settle() -> None:
    """Collect garbage for the last time from what there is now: call it when all is loaded."""
    gc.collect()
    gc.freeze()


async def watch() -> None:
    """Count how long the loop was blocked, until cancelled. What falls between two looks is seen
    less the time to the next one, 20 ms at most."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + FRAME_SECONDS
        await asyncio.sleep(FRAME_SECONDS)
        LOOP_BLOCKED.observe(max(0.0, loop.time() - due))
