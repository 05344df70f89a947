"""Every caller speaks at once, more than recognition can do: what becomes of them and the sound.

Forty callers say a word every few seconds, whatever they are asked, and press a key now and then.
Before that they keep silent for a while, which is the baseline: the same calls, the same prompts.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import httpx2
import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families

from cti import stage
from ivr.config import Settings, load_settings
from ivr.wire.audio import pcm_to_ulaw
from tests.bench.capture import Capture, Watched
from tests.bench.figures import Figure, figure, percentile
from tests.live import voices
from tests.live.sipp import SippResult, run_talkers

CALLERS = 40
_WITHIN = 4.0  # seconds in which they all have called
_SETTLED = _WITHIN + 2.0
_LOOP_SECONDS = 4.0
_MEASURED_SECONDS = 22.0
_CALM_MEASURED_SECONDS = 10.0
_AFTERWARDS = 40.0
_STREAMS = 20
_FIRST_CALLER_PORT = 29000

_FLOW = """\
flow: overload
languages: [en]
start: main
nodes:
  main:
    menu:
      ask: "Billing or repairs?"
      choices:
        billing: {press: 1, say: ["[my] (billing|bill)", payment], then: main}
        repairs: {press: 2, say: [repairs, repair], then: main}
        agent: {press: 0, say: [agent, operator], then: bye}
      tries: 100
      otherwise: bye
  bye: {end: {}}
"""

Samples = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Stage:
    """A running hotline with Whisper for English."""

    settings: Settings
    server: psutil.Process

    async def samples(self) -> Samples:
        """Every sample by its name and labels' values: `name value value`."""
        async with httpx2.AsyncClient(trust_env=False) as client:
            text = (await client.get(stage.url(self.settings) + "/metrics")).text
        return {
            " ".join((sample.name, *sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def state(self) -> str:
        """How English fares, by /readyz, which must stay green."""
        async with httpx2.AsyncClient(trust_env=False) as client:
            answer = await client.get(stage.url(self.settings) + "/readyz")
        assert answer.status_code == httpx2.codes.OK, answer.text
        return str(answer.json()["languages"]["en"])

    def audio_ports(self) -> tuple[int, ...]:
        """Asterisk's ports of some of the audio connections to us."""
        port = self.settings.asterisk.audio_port
        found = sorted(
            one.raddr.port
            for one in self.server.net_connections("tcp")
            if one.laddr.port == port and one.raddr and one.status == psutil.CONN_ESTABLISHED
        )
        return tuple(found[:: max(1, len(found) // _STREAMS)])[:_STREAMS]


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Stage]:
    settings = load_settings()
    speech = settings.speech.model_copy(update={"languages": ("en",), "engine": "whisper"})
    settings = stage.apart(
        settings.model_copy(update={"speech": speech, "log_level": "error", "flow": "overload"}),
        "overload",
    )
    flows = settings.state_dir / "flows"
    flows.mkdir(parents=True, exist_ok=True)
    (flows / "overload.yaml").write_text(_FLOW)
    settings = settings.model_copy(update={"flows_dir": flows})
    async with stage.local_pbx(settings, print), stage.server(settings) as process:
        yield Stage(settings, psutil.Process(process.pid))


async def _voice(*, speaks: bool) -> bytes:
    """A caller on the telephone: a quiet line, and a word on it in the middle."""
    noise = np.random.default_rng(4).normal(0, 20, int(8000 * _LOOP_SECONDS))
    if speaks:
        word = np.frombuffer(await voices.speak("billing", "en"), "<i2")[:16_000]
        noise[4000 : 4000 + len(word)] += word
    return pcm_to_ulaw(noise.clip(-32768, 32767).astype("<i2").tobytes())


@dataclass(frozen=True, slots=True)
class Spell:
    """What so many calls were like: gaps that differ from 20 ms, in seconds; what was counted."""

    sipp: SippResult
    seconds: float
    jitter: list[float]
    before: Samples
    after: Samples

    def grew(self, name: str) -> float:
        return self.after.get(name, 0.0) - self.before.get(name, 0.0)

    def grew_in_all(self, name: str) -> float:
        """Whatever its labels are."""
        return sum(self.grew(one) for one in self.after if one.split()[0] == name)

    def within(self, histogram: str, share: float) -> float:
        """The least bound of a histogram that so large a share of what came does not exceed."""
        bounds = {
            float(name.split()[-1]): self.grew(name)
            for name in self.after
            if name.startswith(f"{histogram}_bucket ")
        }
        wanted = share * max(bounds.values(), default=0.0)
        return min((bound for bound, count in bounds.items() if count >= wanted), default=0.0)


async def _spell(on: Stage, calls: int, seconds: float, number: int, *, speaks: bool) -> Spell:
    """These callers come, are watched for so long, and hang up."""
    before, began = await on.samples(), time.monotonic()
    talking = asyncio.create_task(
        run_talkers(
            on.settings.asterisk.extension,
            await _voice(speaks=speaks),
            port=on.settings.asterisk.sip_port,
            calls=calls,
            within=_WITHIN if calls > 1 else 0.1,
            rounds=max(1, round((_SETTLED + seconds) / 10)),
            media_port=_FIRST_CALLER_PORT + 4 * CALLERS * number,
            caller=f"+1415{number}7",
        )
    )
    jitter: list[float] = []
    if calls > 1:
        await asyncio.sleep(_SETTLED)
        with Capture(Watched(6, "destination", on.audio_ports())) as capture:
            await asyncio.sleep(seconds)
        jitter = capture.deviations()
    sipp = await talking
    seconds = time.monotonic() - began
    return Spell(sipp, seconds, jitter, before, await on.samples())


async def _offered_again(on: Stage) -> float:
    """Seconds until speech is offered again."""
    began = time.monotonic()
    while await on.state() != "ready":
        assert time.monotonic() - began < _AFTERWARDS, "speech is not offered again"
        await asyncio.sleep(0.1)
    return time.monotonic() - began


async def _measure() -> list[Figure]:
    async with running() as on:
        calm = await _spell(on, CALLERS, _CALM_MEASURED_SECONDS, 1, speaks=False)
        crowd = await _spell(on, CALLERS, _MEASURED_SECONDS, 2, speaks=True)
        again = await _offered_again(on)
        one = await _spell(on, 1, 4, 3, speaks=True)
    for each in (calm, crowd, one):
        if each.sipp.failed:
            print(each.sipp.log)
    asked = {by: crowd.grew(f"hotline_spoken_questions_total {by}") for by in ("speech", "keys")}
    understood = crowd.grew("hotline_recognition_seconds_count whisper")
    lost = crowd.grew_in_all("hotline_speech_failures_total")
    print(
        f"of {sum(asked.values()):.0f} questions {asked['speech']:.0f} by speech; utterances: "
        f"{understood:.0f} understood, {lost:.0f} sent back; "
        f"shed {crowd.grew('hotline_speech_shed_total en'):.0f} times; "
        f"recognised within p50 {crowd.within('hotline_recognition_seconds', 0.5):g} s, "
        f"p95 {crowd.within('hotline_recognition_seconds', 0.95):g} s; ticks late p99 <= "
        f"{crowd.within('hotline_tick_late_seconds', 0.99) * 1000:g} ms, without speech "
        f"{calm.within('hotline_tick_late_seconds', 0.99) * 1000:g} ms"
    )

    def tail(spell: Spell, share: float) -> float:
        return percentile(spell.jitter, share) * 1000

    return [
        figure(
            f"{CALLERS} callers all speaking: calls dropped",
            calm.sipp.failed + crowd.sipp.failed + one.sipp.failed,
            "calls",
            0,
        ),
        figure(
            "questions put by keys alone",
            100 * asked["keys"] / max(1.0, sum(asked.values())),
            "%",
            1,
            at_least=True,
        ),
        figure(
            "utterances that were understood",
            understood / crowd.seconds,
            "/s",
            0.5,
            at_least=True,
        ),
        figure(
            "end of speech to result, p95",
            crowd.within("hotline_recognition_seconds", 0.95) * 1000,
            "ms",
            2000,
        ),
        figure("jitter of what leaves us, p99", tail(crowd, 0.99), "ms", 10, tail(calm, 0.99)),
        figure("jitter of what leaves us, longest", tail(crowd, 1), "ms", 60, tail(calm, 1)),
        figure("last caller gone to speech offered again", again, "s", 15),
        figure(
            "a caller afterwards is understood",
            one.grew("hotline_recognition_seconds_count whisper"),
            "utterances",
            1,
            at_least=True,
        ),
    ]


def overload() -> list[Figure]:
    """Everything of one run."""
    return asyncio.run(_measure())


BENCHES: dict[str, Callable[[], list[Figure]]] = {"overload": overload}
