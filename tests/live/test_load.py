"""Fifty callers at once, through the whole hotline and out again: nobody fails, nothing is left."""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import psutil
import pytest
import pytest_asyncio

from cti import protocol
from ivr.config import Settings
from ivr.store.database import SQLITE_READERS
from ivr.telephony import pbx
from tests.live.house import Agent, House, until
from tests.live.sipp import SippResult, run_sipp

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

CALLS = 50
KEYS = "ww1ww12345678ww0"
THREADS = SQLITE_READERS + (os.cpu_count() or 1) + 4
"""Threads that a server takes under load and keeps: one for each reader of the database, and the
event loop's executor."""
DATABASE_FILES = 2 * (1 + SQLITE_READERS) + 1
"""The database and its log for the writer and for each reader, and the index that they share."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the server's process holds of the machine; those of the database apart, which has a pool
    of connections that fills under load."""

    files: int
    sockets: int
    children: int
    tasks: float
    database_files: int = field(compare=False)
    threads: int = field(compare=False)


async def holdings(house: House) -> Holdings:
    process = house.process
    tasks = (await house.metrics())["hotline_tasks"]
    database = [one for one in process.open_files() if ".db" in one.path]
    sockets = [one for one in process.net_connections() if one.status == psutil.CONN_ESTABLISHED]
    return Holdings(
        files=process.num_fds() - len(database),
        sockets=len(sockets),
        children=len(process.children(recursive=True)),
        tasks=tasks,
        database_files=len(database),
        threads=process.num_threads(),
    )


async def settled(house: House, before: Holdings) -> Holdings:
    """What is held when everything has had time to go; the last look, if something stays."""
    for _ in range(100):
        now = await holdings(house)
        if now == before:
            break
        await asyncio.sleep(0.1)
    return now


def channels(settings: Settings) -> str:
    return pbx.console(settings, "core show channels count").splitlines()[0]


async def dial(house: House, calls: int, caller: str, *, stay: float = 0.0) -> SippResult:
    """Calls that press their way into the queue, and hang up after a while or are hung up."""
    where = house.settings.asterisk
    return await run_sipp(
        where.extension,
        KEYS,
        port=where.sip_port,
        calls=calls,
        tail=stay or 1.0,
        ends="caller" if stay else "callee",
        caller=caller,
    )


async def all_over(house: House, before: Holdings) -> Holdings:
    """Check that every call has ended everywhere; what is held then, if possible as before."""
    await house.nothing_left()
    await until(lambda: channels(house.settings) == "0 active channels", 10, "no channel")
    return await settled(house, before)


def nothing_grew(before: Holdings, after: Holdings) -> None:
    """Nothing but the pools, and these to their bounds."""
    print(f"before {before}\nafter  {after}")
    assert after == before
    assert after.database_files <= DATABASE_FILES
    assert after.threads <= before.threads + THREADS


@dataclass(frozen=True, slots=True)
class Fifty:
    """What fifty calls at once came to."""

    result: SippResult
    before: Holdings
    after: Holdings


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fifty(module_house: House) -> Fifty:
    """One call, and then fifty at once, with nobody at work."""
    house = module_house
    # What is new must be spoken: so that the process that speaks is there from the start.
    shutil.rmtree(house.settings.state_dir / "prompts", ignore_errors=True)
    await house.start()
    first = await dial(house, 1, "+1415500", stay=2)
    assert first.failed == 0, first.log
    before = await holdings(house)
    result = await dial(house, CALLS, "+1415511")
    return Fifty(result, before, await all_over(house, before))


async def test_with_nobody_at_work_fifty_callers_are_told_so(house: House, fifty: Fifty) -> None:
    assert (fifty.result.calls, fifty.result.failed) == (CALLS, 0), fifty.result.log
    nothing_grew(fifty.before, fifty.after)
    assert (await house.metrics())["hotline_calls_taken_total"] == 1 + CALLS

    outcomes = house.rows(
        "select c.outcome, count(*) from conversations c join legs l on l.conversation_id = c.id"
        " where l.address like '+1415511%' group by c.outcome"
    )
    assert outcomes == [("completed", CALLS)]
    pressed = house.rows(
        "select json_extract(t.body, '$.digits'), count(*) from timeline t"
        " join legs l on l.conversation_id = t.conversation_id"
        " where t.kind = 'pressed' and l.address like '+1415511%' group by 1 order by 1"
    )
    assert pressed == [("0", CALLS), ("1", CALLS), ("12345678", CALLS)]


SERVED_BY_EACH = 3


async def serve(agent: Agent) -> list[str]:
    """Take one call after the other, and then no more."""
    served: list[str] = []
    await agent.screen.set_available()
    while len(served) < SERVED_BY_EACH:
        popped = await agent.saw(protocol.Pop, 30)
        if popped.card.conversation in served:  # more has become known of a call that is over
            continue
        assert {"account", "topic"} <= {fact.name for fact in popped.card.facts}
        incoming = await agent.phone.incoming(30)
        await incoming.answer()
        await agent.saw(protocol.CallAnswered)
        await asyncio.sleep(0.5)
        await incoming.hang_up()
        ended = await agent.saw(protocol.CallEnded)
        assert ended.outcome == "talked"
        served.append(popped.card.conversation)
        if len(served) < SERVED_BY_EACH:
            await agent.screen.done(popped.card.conversation)
    return served


async def test_three_agents_serve_the_first_and_the_others_hang_up_in_line(
    house: House, fifty: Fifty
) -> None:
    first = 3 * SERVED_BY_EACH
    async with AsyncExitStack() as stack:
        agents = [
            await stack.enter_async_context(house.agent(f"agent{number}", f"100{number}"))
            for number in (1, 2, 3)
        ]
        served = asyncio.ensure_future(dial(house, first, "+1415522"))
        await house.until_metric("hotline_queue_waiting", first, 30)
        waiting = asyncio.ensure_future(dial(house, CALLS - first, "+1415533", stay=14))
        await house.until_metric("hotline_queue_waiting", CALLS, 30)
        talked = [one for each in await asyncio.gather(*map(serve, agents)) for one in each]
        for result in (await served, await waiting):
            assert result.failed == 0, result.log
    assert len(set(talked)) == first

    nothing_grew(fifty.after, await all_over(house, fifty.after))
    records = house.rows(
        "select substr(caller, 1, 8), agent <> '', talked > 0, waited > 0, count(*)"
        " from call_records where caller like '+1415522%' or caller like '+1415533%'"
        " group by 1, 2, 3, 4 order by 1"
    )
    assert records == [
        ("+1415522", 1, 1, 1, first),
        ("+1415533", 0, 0, 1, CALLS - first),
    ]
