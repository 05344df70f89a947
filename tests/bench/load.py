"""What two hundred callers cost who all hear and send audio, beside the same menu in a dialplan.

Every caller sends real RTP all the time and speaks for one second in ten, so that a tenth of them
speak at any moment, and presses a key every ten seconds, at which the menu's prompt begins anew.
Sizes grow within one run. The baseline is the same menu in Asterisk's own dialplan (Background and
WaitExten) with the same callers, right afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import httpx2
import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families

from cti import stage
from ivr.config import Settings, load_settings
from ivr.speech.tts import Voices
from ivr.telephony import pbx, punctual
from ivr.wire.audio import pcm_to_ulaw
from tests.bench.capture import Capture, Watched
from tests.bench.figures import Figure, figure, percentile
from tests.live import voices
from tests.live.sipp import SippResult, run_talkers

SIZES = (10, 50, 100, 200)
PLAIN = "6601"
"""An extension with the same menu in Asterisk's own dialplan."""

_LOOP_SECONDS = 10
_SPEECH_SECONDS = 1
_SETTLE_SECONDS = 2.0
_MEASURE_SECONDS = 10.0
_STEP_SECONDS = _LOOP_SECONDS + _SETTLE_SECONDS + _MEASURE_SECONDS
_SPARE_ROUNDS = 2  # a step takes a little longer than its seconds
_STREAMS = 20
"""Connections whose every frame is timed."""

_LOG_SHOWN = 4000
_FIRST_RTP_PORT = 16000
_FIRST_CALLER_PORT = 29000
_ASK = (
    "For your bill, say billing, or press 1. For a leak or no water, say repairs, or press 2. "
    "For moving house or opening times, say other, or press 3. "
    "For a person, say agent, or press 0."
)
_FLOW = f"""\
flow: load
languages: [en]
start: main
nodes:
  main:
    menu:
      ask: "{_ASK}"
      choices:
        billing: {{press: 1, say: ["[my] (billing|bill)", payment], then: main}}
        repairs: {{press: 2, say: [repairs, repair], then: main}}
        other: {{press: 3, say: [other, "something else"], then: main}}
        agent: {{press: 0, say: [agent, operator], then: bye}}
      tries: 100
      otherwise: bye
  bye: {{end: {{}}}}
"""


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds so far, and bytes of memory, of the parties."""

    server: float
    asterisk: float
    recognisers: float
    sipp: float
    server_memory: int
    asterisk_memory: int


@dataclass(frozen=True, slots=True)
class Load:
    """What a number of calls came to: CPU as seconds a call-second, jitter in seconds. `sent` is
    of what left us, `received` of what Asterisk sent to the callers."""

    calls: int
    up: int
    server: float
    asterisk: float
    recognisers: float
    sipp: float
    server_memory: int
    asterisk_memory: int
    sent: list[float]
    received: list[float]
    late: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Run:
    """All sizes of one menu, and how many calls SIPp saw fail."""

    loads: list[Load]
    failed: int
    log: str


# --- the stage -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stage:
    """A running hotline whose flow is the menu."""

    settings: Settings
    server: psutil.Process
    asterisk: psutil.Process


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Stage]:
    """The menu with speech, on recognisers of its own for English."""
    settings = load_settings()
    speech = settings.speech.model_copy(update={"languages": ("en",)})
    settings = stage.apart(
        settings.model_copy(update={"speech": speech, "log_level": "error", "flow": "load"}), "load"
    )
    flows = settings.state_dir / "flows"
    flows.mkdir(parents=True, exist_ok=True)
    (flows / "load.yaml").write_text(_FLOW)
    asterisk = settings.asterisk.model_copy(
        update={"rtp_start": _FIRST_RTP_PORT, "rtp_end": _FIRST_RTP_PORT + 1999}
    )
    settings = settings.model_copy(update={"flows_dir": flows, "asterisk": asterisk})
    async with stage.local_pbx(settings, print), stage.server(settings) as process:
        await _plain_menu(settings)
        yield Stage(settings, psutil.Process(process.pid), psutil.Process(pbx.status(settings).pid))


async def _plain_menu(settings: Settings) -> None:
    """The baseline, with the very prompt, in the callers' own codec."""
    spoken = Voices(settings)
    try:
        pcm = await spoken.synthesize(_ASK, "en")
    finally:
        await spoken.close()
    sound = pbx.directory(settings) / "sounds" / "en" / "menu"
    sound.with_suffix(".ulaw").write_bytes(pcm_to_ulaw(pcm))
    lines = {
        f"{PLAIN},1": "Answer into hotline",
        f"{PLAIN},2": "Goto(plain,s,1) into hotline",
        "s,1": f"Background({sound}) into plain",
        "s,2": "WaitExten(5) into plain",
        "s,3": "Goto(s,1) into plain",
        **{f"{key},1": "Goto(s,1) into plain" for key in "123"},
        "0,1": "Hangup into plain",
    }
    for place, step in lines.items():
        escaped = step.replace(",", "\\,")
        pbx.console(settings, f"dialplan add extension {place},{escaped}")


async def _voice() -> bytes:
    """Ten seconds of a caller on the telephone: a word, and a quiet line."""
    word = np.frombuffer(await voices.speak("billing", "en"), "<i2")
    noise = np.random.default_rng(4).normal(0, 20, 8000 * _LOOP_SECONDS)
    word = word[: 8000 * _SPEECH_SECONDS]
    noise[4000 : 4000 + len(word)] += word
    return pcm_to_ulaw(noise.clip(-32768, 32767).astype("<i2").tobytes())


# --- one run -------------------------------------------------------------------------------------


async def _run(on: Stage, menu: Literal["ours", "plain"], sizes: tuple[int, ...]) -> Run:
    """Grow to each size, let it settle, measure, go on; in the end everyone hangs up."""
    extension = on.settings.asterisk.extension if menu == "ours" else PLAIN
    ulaw = await _voice()
    callers: list[asyncio.Task[SippResult]] = []
    processes: list[psutil.Process] = []
    loads: list[Load] = []

    def began(pid: int) -> None:
        punctual.let_first(pid)  # what is late by SIPp's own fault measures nothing
        processes.append(psutil.Process(pid))

    before = 0
    for number, size in enumerate(sizes):
        left = len(sizes) - number
        rounds = math.ceil(left * _STEP_SECONDS / _LOOP_SECONDS) + _SPARE_ROUNDS
        callers.append(
            asyncio.create_task(
                run_talkers(
                    extension,
                    ulaw,
                    port=on.settings.asterisk.sip_port,
                    calls=size - before,
                    within=_LOOP_SECONDS,
                    rounds=rounds,
                    media_port=_FIRST_CALLER_PORT + 4 * before,
                    caller=f"+1415{number}{'5' if menu == 'ours' else '6'}",
                    began=began,
                )
            )
        )
        before = size
        await asyncio.sleep(_LOOP_SECONDS + _SETTLE_SECONDS)
        loads.append(await _measure(on, menu, size, processes))
        print(_line(menu, loads[-1]), flush=True)
    results = await asyncio.gather(*callers)
    log = "\n".join(result.log for result in results if result.failed)
    return Run(loads, sum(result.failed for result in results), log)


async def _measure(on: Stage, menu: str, size: int, sipp: list[psutil.Process]) -> Load:
    with contextlib.ExitStack() as stack:
        sent = received = None
        ours = _ours(on)
        if ours:
            sent = stack.enter_context(
                Capture(Watched(6, "destination", tuple(ours[:: max(1, len(ours) // _STREAMS)])))
            )
        theirs = _theirs(on)
        received = stack.enter_context(
            Capture(Watched(17, "source", tuple(theirs[:: max(1, len(theirs) // _STREAMS)])))
        )
        ticks = await _ticks(on)
        began, first = time.monotonic(), _used(on, sipp)
        await asyncio.sleep(_MEASURE_SECONDS)
        last, seconds = _used(on, sipp), time.monotonic() - began
        ticked = await _ticks(on)
    share = 1 / (seconds * size)
    late = {bound: ticked[bound] - ticks.get(bound, 0.0) for bound in ticked}
    return Load(
        calls=size,
        up=len(_ours(on)) if menu == "ours" else len(theirs),
        server=(last.server - first.server) * share,
        asterisk=(last.asterisk - first.asterisk) * share,
        recognisers=(last.recognisers - first.recognisers) * share,
        sipp=(last.sipp - first.sipp) * share,
        server_memory=last.server_memory,
        asterisk_memory=last.asterisk_memory,
        sent=sent.deviations() if sent is not None else [],
        received=received.deviations(),
        late=(_bound(late, 0.5), _bound(late, 0.99)),
    )


def _ours(on: Stage) -> list[int]:
    """Asterisk's ports of the audio connections to us."""
    port = on.settings.asterisk.audio_port
    return sorted(
        one.raddr.port
        for one in on.server.net_connections("tcp")
        if one.laddr.port == port and one.raddr and one.status == psutil.CONN_ESTABLISHED
    )


def _theirs(on: Stage) -> list[int]:
    """The ports from which Asterisk sends the callers' audio; the odd ones are RTCP's."""
    first, last = on.settings.asterisk.rtp_start, on.settings.asterisk.rtp_end
    return sorted(
        one.laddr.port
        for one in on.asterisk.net_connections("udp")
        if first <= one.laddr.port <= last and one.laddr.port % 2 == 0
    )


def _used(on: Stage, sipp: list[psutil.Process]) -> Used:
    return Used(
        server=_cpu(on.server),
        asterisk=_cpu(on.asterisk),
        recognisers=sum(map(_cpu, on.server.children(recursive=True))),
        sipp=sum(_cpu(one) for one in sipp if one.is_running()),
        server_memory=on.server.memory_info().rss,
        asterisk_memory=on.asterisk.memory_info().rss,
    )


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def _ticks(on: Stage) -> Mapping[float, float]:
    """The server's own account of its clock: how many ticks came at most so late."""
    async with httpx2.AsyncClient(trust_env=False) as client:
        text = (await client.get(stage.url(on.settings) + "/metrics")).text
    return {
        float(sample.labels["le"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "hotline_tick_late_seconds_bucket"
    }


def _bound(cumulative: Mapping[float, float], share: float) -> float:
    """The least bound that so large a share does not exceed."""
    wanted = share * max(cumulative.values(), default=0.0)
    return min((bound for bound, count in cumulative.items() if count >= wanted), default=0.0)


def _line(menu: str, load: Load) -> str:
    def milli(values: list[float]) -> str:
        if not values:
            return "-"
        return " / ".join(f"{percentile(values, at) * 1000:.1f}" for at in (0.5, 0.99, 1.0))

    core = 100 * load.calls
    parts = (
        f"{menu:5} {load.calls:3} calls ({load.up} up): % of a core:",
        f"server {load.server * core:.0f}, Asterisk {load.asterisk * core:.0f},",
        f"recognisers {load.recognisers * core:.0f}, SIPp {load.sipp * core:.0f};",
        f"jitter p50/p99/max ms: from us {milli(load.sent)},",
        f"at the caller {milli(load.received)};",
        f"ticks late p50/p99 <= {load.late[0] * 1000:g}/{load.late[1] * 1000:g} ms;",
        f"MiB: server {load.server_memory / 2**20:.0f},",
        f"Asterisk {load.asterisk_memory / 2**20:.0f}",
    )
    return " ".join(parts)


# --- the figures ---------------------------------------------------------------------------------


async def load(sizes: tuple[int, ...] = SIZES) -> list[Figure]:
    """Everything of one run of each menu."""
    async with running() as on:
        ours = await _run(on, "ours", sizes)
        plain = await _run(on, "plain", sizes)
    for run in (ours, plain):
        if run.failed:
            print(run.log[:_LOG_SHOWN])
    missing = sum(each.calls - each.up for each in ours.loads)
    figures = [
        figure("load: calls dropped", ours.failed, "calls", 0, plain.failed),
        figure("load: calls without audio when it was measured", missing, "calls", 0),
    ]
    for mine, theirs in zip(ours.loads, plain.loads, strict=True):
        figures += _at(mine, theirs)
    few, many = ours.loads[0], ours.loads[-1]
    memory = (many.server_memory - few.server_memory) / (many.calls - few.calls)
    theirs_grew = many.asterisk_memory - few.asterisk_memory
    return [
        *figures,
        figure(
            f"server's CPU a call, {many.calls} calls to {few.calls}",
            many.server / few.server,
            "times",
            1.0,
        ),
        figure(
            f"memory a call, {few.calls} to {many.calls} calls",
            memory / 2**20,
            "MiB",
            1.0,
            theirs_grew / (many.calls - few.calls) / 2**20,
        ),
    ]


def _at(ours: Load, plain: Load) -> list[Figure]:
    """The figures of one size. CPU is in milliseconds for each second of a call; a server with few
    calls also pays for having them understood, and may take more for each."""
    calls = f"{ours.calls} calls"

    def jitter(name: str, share: float, values: list[float], target: float) -> Figure:
        heard = percentile(plain.received, share) * 1000
        return figure(
            f"{name}, {calls}, p{share * 100:.0f}",
            percentile(values, share) * 1000,
            "ms",
            target,
            heard,
        )

    return [
        jitter("jitter of what leaves us", 0.5, ours.sent, 10),
        jitter("jitter of what leaves us", 0.99, ours.sent, 10),
        jitter("jitter at the caller", 0.99, ours.received, 20),
        figure(
            f"server's CPU, {calls}",
            ours.server * 1000,
            "ms/s",
            (1.5 if ours.calls == SIZES[-1] else 3) * ours.asterisk * 1000,
            plain.asterisk * 1000,
        ),
        figure(
            f"Asterisk's CPU, {calls}",
            ours.asterisk * 1000,
            "ms/s",
            3 * plain.asterisk * 1000,
            plain.asterisk * 1000,
        ),
        figure(
            f"memory of the server, {calls}",
            ours.server_memory / 2**20,
            "MiB",
            400,
            plain.asterisk_memory / 2**20,
        ),
    ]


BENCHES: dict[str, Callable[[], list[Figure]]] = {"load": lambda: asyncio.run(load())}
