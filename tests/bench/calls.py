"""What calls cost and how long people wait, beside the same in Asterisk's own dialplan."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import psutil

from cti import protocol, robots, stage
from cti.client import AgentClient
from ivr.config import Settings, load_settings
from ivr.store.repo import Store
from ivr.telephony import pbx
from ivr.telephony.softphone import PhoneCall, Softphone
from ivr.wire.audio import rms_dbfs
from tests.bench.figures import Figure, figure, median_and_tail, percentile

CALLS = 30
AT_ONCE = 5
LOAD = 50
LOUD = -45.0
PLAIN = "6600"
"""An extension with the same kind of menu in Asterisk's own dialplan, as the baseline."""


# --- the stage -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stage:
    """A running hotline with an agent, and a telephone to call it."""

    settings: Settings
    server: psutil.Process
    asterisk: psutil.Process
    phone: Softphone
    agent_login: str
    agent_password: str


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Stage]:
    """Speech stands apart: its models would hide what calls themselves cost."""
    settings = load_settings()
    speech = settings.speech.model_copy(update={"engine": "none"})
    settings = stage.apart(
        settings.model_copy(update={"speech": speech, "log_level": "error"}), "bench"
    )
    password = secrets.token_urlsafe(12)
    await stage.add_agent(settings, "bench", "1001", password)
    async with stage.local_pbx(settings, print), stage.server(settings) as process:
        _plain_menu(settings)
        async with robots.phone(settings, robots.CALLER) as phone:
            yield Stage(
                settings,
                psutil.Process(process.pid),
                psutil.Process(pbx.status(settings).pid),
                phone,
                "bench",
                password,
            )


def _plain_menu(settings: Settings) -> None:
    """The baseline: answer, ask, read one key, speak."""
    sound = str(pbx.directory(settings) / "sounds" / "en" / "hold")
    pbx.console(settings, "module load app_read.so")
    steps = ("Answer", f"Read(KEY,{sound},1,,1,10)", f"Playback({sound})", "Hangup")
    for number, step in enumerate(steps, 1):
        application = step.replace(",", "\\,")
        pbx.console(settings, f"dialplan add extension {PLAIN},{number},{application} into phones")


class Ear:
    """When a call is loud and when it is not, by the loop's clock."""

    def __init__(self, call: PhoneCall):
        self._loop = asyncio.get_running_loop()
        self._loud = asyncio.Event()
        self.quiet_since = self._loop.time()
        self.loud_at = 0.0
        call.on_frame(self._frame)

    def _frame(self, frame: bytes) -> None:
        now = self._loop.time()
        if rms_dbfs(frame) > LOUD:
            if not self._loud.is_set():
                self.loud_at = now
                self._loud.set()
            self.quiet_since = now

    async def sound(self) -> float:
        """When the next sound begins."""
        self._loud.clear()
        await self._loud.wait()
        return self.loud_at

    async def silence(self, seconds: float) -> None:
        """Return when it has been quiet for so long."""
        while self._loop.time() - self.quiet_since < seconds:
            await asyncio.sleep(0.02)


# --- the figures ---------------------------------------------------------------------------------


async def first_prompt(on: Stage) -> list[Figure]:
    """From the answer (200 OK at the caller) to the first sample of the first prompt."""
    ours = [await _answer_to_sound(on, on.settings.asterisk.extension) for _ in range(CALLS)]
    theirs = [await _answer_to_sound(on, PLAIN) for _ in range(CALLS)]
    return median_and_tail("answer to first prompt", ours, theirs, 200)


async def _answer_to_sound(on: Stage, extension: str) -> float:
    call = await on.phone.call(extension)
    answered = asyncio.get_running_loop().time()
    async with asyncio.timeout(10):
        heard = await Ear(call).sound()
    await call.hang_up()
    return (heard - answered) * 1000


async def key_to_prompt(on: Stage) -> list[Figure]:
    """From letting go of a key, in the silence after a menu, to the next prompt."""
    ours = await _in_batches(lambda: _key_to_sound(on, on.settings.asterisk.extension, "3", "9"))
    theirs = await _in_batches(lambda: _key_to_sound(on, PLAIN, "", "9"))
    return median_and_tail("key to next prompt", ours, theirs, 100)


async def _in_batches(call: Callable[[], Awaitable[float]]) -> list[float]:
    """A few at once: the menus take their time."""
    measured: list[float] = []
    while len(measured) < CALLS:
        measured += await asyncio.gather(*(call() for _ in range(AT_ONCE)))
    return measured


async def _key_to_sound(on: Stage, extension: str, first: str, key: str) -> float:
    """`first` leads to a menu that is shorter than the first one."""
    call = await on.phone.call(extension)
    ear = Ear(call)
    async with asyncio.timeout(60):
        await ear.sound()
        if first:
            await call.press(first)
            await ear.sound()
        await ear.silence(1.0)
        sounding = asyncio.ensure_future(ear.sound())
        await asyncio.sleep(0)
        await call.press(key)
        pressed = asyncio.get_running_loop().time()
        heard = await sounding
    await call.hang_up()
    return (heard - pressed) * 1000


async def pop(on: Stage) -> list[Figure]:
    """From the queue's choice to the pop on the agent's socket, and how far ahead of the INVITE."""
    store = await Store.open(on.settings.database_url, migrate=False)
    delays, leads = [], []
    try:
        async with (
            robots.phone(on.settings, "1001") as desk,
            AgentClient(stage.url(on.settings), on.agent_login, on.agent_password) as screen,
        ):
            await screen.set_available()
            messages = screen.messages()
            for _ in range(CALLS):
                call = await on.phone.call(on.settings.asterisk.extension)
                await call.press("0")
                ringing = asyncio.ensure_future(_rung_at(desk))
                async with asyncio.timeout(20):
                    card = await anext(
                        m
                        async for m in messages
                        if isinstance(m, protocol.Pop) and m.card.stage == "offered"
                    )
                    popped, popped_wall = asyncio.get_running_loop().time(), time.time()
                    incoming, rung = await ringing
                leads.append((rung - popped) * 1000)
                await incoming.answer()
                await incoming.hang_up()
                await call.hang_up()
                conversation = card.card.conversation
                async with asyncio.timeout(10):
                    await anext(m async for m in messages if isinstance(m, protocol.CallEnded))
                    await screen.done(conversation)
                    while not (chosen := await _offered_at(store, conversation)):
                        await asyncio.sleep(0.02)
                delays.append((popped_wall - chosen) * 1000)
    finally:
        await store.close()
    return [
        figure("queue's choice to pop, p95", percentile(delays, 0.95), "ms", 50, math.nan),
        figure(
            "INVITE before pop (must be none)",
            sum(lead <= 0 for lead in leads),
            "calls",
            0,
            math.nan,
        ),
    ]


async def _rung_at(desk: Softphone) -> tuple[PhoneCall, float]:
    incoming = await desk.incoming(20)
    return incoming, asyncio.get_running_loop().time()


async def _offered_at(store: Store, conversation: str) -> float:
    for entry in await store.timeline(conversation):
        if entry.kind == "offered":
            return entry.at.timestamp()
    return 0.0


async def memory(on: Stage) -> list[Figure]:
    """What fifty callers in the menu cost, ours and Asterisk's."""
    ours, theirs = on.server.memory_info().rss, on.asterisk.memory_info().rss
    calls = await asyncio.gather(
        *(on.phone.call(on.settings.asterisk.extension) for _ in range(LOAD))
    )
    await asyncio.sleep(5)
    ours, theirs = on.server.memory_info().rss - ours, on.asterisk.memory_info().rss - theirs
    await asyncio.gather(*(call.hang_up() for call in calls))
    return [
        figure(f"memory for {LOAD} calls", ours / 2**20, "MiB", 100, max(theirs, 1) / 2**20),
        figure("memory of the server", on.server.memory_info().rss / 2**20, "MiB", 400, math.nan),
    ]


BENCHES: dict[str, Callable[[Stage], Awaitable[list[Figure]]]] = {
    "memory": memory,
    "first_prompt": first_prompt,
    "key_to_prompt": key_to_prompt,
    "pop": pop,
}


async def measure(names: Sequence[str]) -> list[Figure]:
    """All figures of these benches, from one run."""
    figures = []
    async with running() as on:
        for name in names:
            print(f"==> {name}", flush=True)
            figures += await BENCHES[name](on)
    return figures
