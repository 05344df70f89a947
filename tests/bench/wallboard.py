"""What a wallboard costs: one look at 500 agents at work, 200 conversations and two busy hours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from cti.board import Board
from cti.screens import Screen
from ivr.clock import SystemClock
from ivr.config import QueueSettings
from ivr.model import (
    Address,
    Agent,
    AgentPresence,
    Channel,
    Conversation,
    ConversationStatus,
    Kind,
    Leg,
    Ticket,
    TimelineEntry,
)
from ivr.store.repo import Store
from tests.bench.figures import Figure, figure, percentile

AGENTS, LIVE, PAST, LOOKS = 500, 200, 3000, 20


def wallboard() -> list[Figure]:
    """The first look, and those that follow each second."""
    return asyncio.run(_measured())


async def _measured() -> list[Figure]:
    with TemporaryDirectory() as folder:
        store = await Store.open(f"sqlite:///{Path(folder) / 'hotline.db'}")
        clock = SystemClock()
        await _house(store, clock)
        board = Board(store, clock, QueueSettings())
        sent: list[str] = []
        screen = Screen("sue")
        first = await _look(board)
        writing = asyncio.create_task(screen.write_to(lambda text: _keep(sent, text)))
        board.watch(screen)
        looks, spent = [], []
        for n in range(LOOKS):
            at = clock.now()
            for agent in range(5):
                login = f"agent{(n * 5 + agent) % AGENTS}"
                await store.set_presence(_there(login, clock, "away"))
            began = time.process_time()
            looks.append(await _look(board))
            spent.append(time.process_time() - began)
            assert clock.now() > at
        board.leave(screen)
        screen.close()
        await writing
        await store.close()
    bytes_sent = max(map(len, sent[1:]), default=0) / 1024
    return [
        figure("wallboard, first look", first, "s", 5),
        figure("wallboard, a look, p50", percentile(looks, 0.5) * 1000, "ms", 250),
        figure("wallboard, processor per look", percentile(spent, 0.5) * 1000, "ms", 250),
        figure("wallboard, largest change sent", bytes_sent, "KiB", 32),
    ]


async def _keep(sent: list[str], text: str) -> None:
    sent.append(text)


async def _look(board: Board) -> float:
    began = time.perf_counter()
    await board.look()
    return time.perf_counter() - began


def _there(login: str, clock: SystemClock, state: str) -> AgentPresence:
    now = clock.now()
    later = now + timedelta(hours=1)
    return AgentPresence(login, state, "", now, "s1", True, now, later)


async def _house(store: Store, clock: SystemClock) -> None:
    now = clock.now()
    for n in range(AGENTS):
        login = f"agent{n}"
        await store.save_agent(Agent(login, f"Agent {n}", str(1000 + n), skills={"billing": 3}))
        await store.set_presence(_there(login, clock, "available"))
    for n in range(PAST + LIVE):
        live = n >= PAST
        at = now - timedelta(seconds=7000 * (1 - n / (PAST + LIVE)))
        name, state = f"c{n}", ConversationStatus.PERSON if live else ConversationStatus.ENDED
        leg = Leg(f"l{n}", name, Address(Channel.VOICE, f"+1415555{n:04}"), at)
        filled = {"slot": "topic", "value": f"topic{n % 12}"}
        told: Sequence[tuple[str, dict[str, object]]] = (
            ("call_started", {"channel": "voice"}),
            ("slot_filled", filled),
            ("in_line", {}),
            ("offered", {}),
            ("answered", {"waited": 5.0}),
            *(() if live else (("released", {"seconds": 60.0}), ("ended", {}))),
        )
        entries = [TimelineEntry(name, at, kind, body) for kind, body in told]
        await store.start_conversation(Conversation(name, "main", "v", state, at), leg, entries)
        if live:
            busy = Ticket(
                "t", name, at, ("billing",), kind=Kind.CALL, agent=f"agent{n % AGENTS}",
                stage="active",
            )  # fmt: skip
            await store.take_ticket(busy)


BENCHES = {"wallboard": wallboard}
