"""How quickly a caller is let in and answered, on a real Asterisk with real audio.

`barge_in`: from the first packet of speech that leaves a telephone to the end of the last of the
prompt that comes there; and what else stops a prompt.
`answer`: from the end of speech to the first sample of the answer, beside the same audio where an
utterance ends after 800 ms of silence, whatever was said, and is decoded then.

The caller's telephone, Asterisk's audio and the hotline's voice leg share this process's loop; the
recognisers are processes of their own, as in life.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from twisted.internet import asyncioreactor

from cti import robots, stage
from ivr.clock import SystemClock
from ivr.config import Settings, SpeechSettings, load_settings
from ivr.flow.events import Choice, Event, Expect, Grammar, Say, SpeechHeard
from ivr.ports import FRAME_BYTES, Hearing, LegPort, Listener, Recognizer, SpeechEvent
from ivr.recordings import Recordings
from ivr.speech.ear import Ear
from ivr.speech.endpoint import Edge, Endpointer, Patience
from ivr.speech.music import hold_music
from ivr.speech.recognition import Recognition
from ivr.speech.tts import Voices
from ivr.speech.vad import VoiceDetector
from ivr.store.repo import Store
from ivr.telephony import fastagi, media, pbx, punctual
from ivr.telephony.asterisk import Ami
from ivr.telephony.softphone import PhoneCall
from ivr.telephony.telephone import Telephone
from ivr.wire.audio import pcm_to_ulaw, read_wav, rms_dbfs
from tests import sounds
from tests.bench.figures import Figure, figure, percentile
from tests.live import voices

LOUD = -45.0
SPEAKING = -20.0  # dBFS
DATA = Path(__file__).parents[2].parent / "shared" / "data"
"""Recordings beside the project, of two people's digits and of Mandarin phrases."""

BARGE_INS = 16  # of each of three kinds
ANSWERS = 40
STOCK_SILENCE = 0.8
_ECHO_LOSS = 20.0  # dB
_OFFLINE_NOISE = 20.0  # seconds of each kind at each level
_LIVE_SECONDS = 20.0
_LEVELS = (-15.0, -25.0, -35.0)

_ENGLISH = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_KOREAN = (
    *("안녕하세요", "예약", "확인", "환불", "해지", "아니요", "월요일", "서비스", "상담원", "전화"),
)
_KOREAN_LEVELS = (-12.0, -16.0, -20.0, -26.0)  # dBFS; each phrase is said at each

_PROMPTS = (
    "Welcome to Acme Water. Say billing, or press 1. Say repairs, or press 2. For a person, agent.",
    "What is your eight digit account number? You can say it, or type it on the keypad.",
    "Nobody can take your call now. Please call again tomorrow between nine and five. Goodbye.",
)


# --- a hotline without a flow --------------------------------------------------------------------


class Sounds:
    """Prompts: `long` is half a minute without a pause, `talk` a voice, anything else a short
    tone."""

    def __init__(self) -> None:
        chance = np.random.default_rng(1)
        steady = sounds.pcm(sounds.at(sounds.pink(chance, 30), SPEAKING))
        tone = np.sin(np.arange(2400) * 2 * np.pi * 440 / 8000) * 0.2
        self._sounds = {"long": steady, "": sounds.pcm(tone)}

    def talk(self, pcm: bytes) -> None:
        self._sounds["talk"] = pcm

    async def render(self, text: str, language: str, template: str = "") -> AsyncIterator[bytes]:
        yield self._sounds.get(text, self._sounds[""])


@dataclass
class Questions:
    """Stands for the runner: asks the same question again and again."""

    prompt: str
    phrases: tuple[str, ...]
    language: str
    answers: list[Event] = field(default_factory=list)
    turns: list[Mapping[str, Any]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    _port: LegPort | None = None

    async def begin(self, port: LegPort, started: Event) -> None:
        self._port = port
        await self._ask()

    async def resume(self, port: LegPort) -> bool:
        return False

    async def report(self, conversation_id: str, event: Event) -> None:
        self.answers.append(event)
        self.news.set()
        await self._ask()

    async def measured(self, conversation_id: str, turn: Mapping[str, Any]) -> None:
        self.turns.append(turn)

    async def left(self, port: LegPort, cause: str) -> None: ...

    async def lost(self, port: LegPort) -> None: ...

    def wants_recording(self, conversation: str) -> str:
        return ""

    async def _ask(self) -> None:
        assert self._port is not None
        expect = Expect(
            len(self.answers),
            "main",
            self.language,
            Grammar(self.language, self.phrases),
            choices=tuple(Choice(phrase, phrase) for phrase in self.phrases),
            wait=0.0,
        )
        await self._port.perform([Say(self.prompt, self.language, self.prompt), expect])


class Stock:
    """The same recogniser with an endpoint that knows nothing of what was said."""

    def __init__(self, recognition: Recognition):
        self._recognition = recognition

    def hears(self, language: str) -> bool:
        return self._recognition.hears(language)

    def listen(self, hearing: Hearing, notify: Callable[[SpeechEvent], None]) -> Listener:
        patient = replace(
            hearing,
            complete=STOCK_SILENCE,
            incomplete=STOCK_SILENCE,
            progress=lambda text: "none",
        )
        source = self._recognition._served[hearing.grammar.language].source
        return Ear(replace(source, reads_ahead=False), patient, notify, SystemClock())


@dataclass
class House:
    """A PBX, and whatever answers its calls."""

    settings: Settings
    reactor: Any
    ami: Ami
    audio: media.AudioServer
    store: Store
    prompts: Sounds

    @contextlib.asynccontextmanager
    async def call(self, questions: Questions, ears: Recognizer) -> AsyncIterator[PhoneCall]:
        clock = SystemClock()
        archive = Recordings(
            self.store, self.settings.state_dir / "recordings", self.settings.recording, clock
        )
        runner: Any = questions
        telephone = Telephone(
            self.settings, runner, self.audio, self.ami, self.prompts, ears, clock, b"", archive
        )
        where = self.settings.asterisk
        answering = fastagi.serve(self.reactor, where.agi_host, where.agi_port, telephone.answer)
        try:
            async with robots.phone(self.settings, robots.CALLER) as phone:
                call = await phone.call(where.extension)
                yield call
                await call.hang_up()
                await telephone.drained()
        finally:
            await answering.stop()
            await archive.close()


@cache
def _runner() -> asyncio.Runner:
    """One loop for both benches: Twisted's reactor can be installed but once."""
    return asyncio.Runner()


@cache
def _reactor(loop: asyncio.AbstractEventLoop) -> Any:
    asyncioreactor.install(loop)
    from twisted.internet import reactor

    running: Any = reactor
    punctual.keep_time(running)
    running.startRunning(installSignalHandlers=False)
    return running


@contextlib.asynccontextmanager
async def _house() -> AsyncIterator[House]:
    reactor = _reactor(asyncio.get_running_loop())
    settings = load_settings().model_copy(update={"log_level": "error"})
    settings = stage.apart(settings, "bench-turns")
    with tempfile.TemporaryDirectory() as folder:
        async with stage.local_pbx(settings, print):
            where = settings.asterisk
            secret = pbx.credentials(settings).ami_secret
            ami = Ami(where.ami_host, where.ami_port, where.ami_user, secret)
            await ami.start()
            audio = media.AudioServer(reactor)
            audio.listen(where.agi_host, where.audio_port)
            store = await Store.open(f"sqlite+aiosqlite:///{Path(folder) / 'turns.db'}")
            try:
                yield House(settings, reactor, ami, audio, store, Sounds())
            finally:
                await audio.stop()
                await ami.stop()
                await store.close()


@contextlib.asynccontextmanager
async def _recognition(language: str, engine: Any) -> AsyncIterator[Recognition]:
    base = load_settings()
    speech = SpeechSettings(languages=(language,), engine=engine, workers=1)
    recognition = Recognition(base.model_copy(update={"speech": speech}), SystemClock())
    await recognition.start(print)
    try:
        if not recognition.hears(language):
            raise SystemExit(f"no {engine} for {language}: install the test extras")
        yield recognition
    finally:
        await recognition.stop()


class Hush:
    """When a call was last loud, and when it got loud again."""

    def __init__(self, call: PhoneCall):
        self._loop = asyncio.get_running_loop()
        self.loud_at = self.began_at = 0.0
        call.on_frame(self._frame)

    def _frame(self, frame: bytes) -> None:
        if rms_dbfs(frame) > LOUD:
            now = self._loop.time()
            if now - self.loud_at > 0.15:
                self.began_at = now
            self.loud_at = now

    async def sound(self, since: float, seconds: float = 8.0) -> float:
        """The first sound that begins after a moment; nan where none does."""
        until = self._loop.time() + seconds
        while self.began_at <= since:
            if self._loop.time() > until:
                return math.nan
            await asyncio.sleep(0.01)
        return self.began_at

    async def silence(self, seconds: float) -> float:
        """When it fell silent, once it has been for so long."""
        while self._loop.time() - self.loud_at < seconds:
            await asyncio.sleep(0.01)
        return self.loud_at


# --- what callers say ----------------------------------------------------------------------------


def _from_its_onset(pcm: bytes, below: float = 20.0, level: float = SPEAKING) -> bytes:
    """Speech at a level, from the first 10 ms that are within so many dB of its loudest."""
    speech = sounds.spoken_at(sounds.floats(pcm), level)
    return sounds.pcm(speech[sounds.onset(speech, below) :])


def _whole(pcm: bytes, level: float = SPEAKING) -> bytes:
    """The same to the last 10 ms within 40 dB of its loudest: with less a "six" has no s."""
    speech = sounds.floats(_from_its_onset(pcm, 40, level))
    return sounds.pcm(speech[: len(speech) - sounds.onset(speech[::-1], 40)])


def _recorded(folder: str, first: str, count: int) -> list[bytes]:
    """So many of the recordings whose names begin with one of these digits."""
    files = [file for file in sorted((DATA / folder).glob("*.wav")) if file.name[0] in first]
    if not files:
        raise SystemExit(f"{DATA / folder}: no recordings to speak with")
    return [read_wav(files[n * len(files) // count].read_bytes()) for n in range(count)]


class Speaking:
    """What a telephone sends next, which tells when the first of it left."""

    def __init__(self, pcm: bytes):
        rest = pcm_to_ulaw(pcm)
        self._frames = deque(rest[at : at + 160] for at in range(0, len(rest), 160))
        self.began_at = 0.0
        self.over = asyncio.Event()

    def __call__(self, now: float) -> bytes:
        self.began_at = self.began_at or now
        if not self._frames:
            self.over.set()
            return b""
        return self._frames.popleft()


# --- barge-in ------------------------------------------------------------------------------------


async def _let_in(house: House, ears: Recognizer, said: Sequence[bytes]) -> list[float]:
    """Milliseconds from the first packet of speech that leaves the caller's telephone to the end
    of the last one of the prompt that comes there."""
    chance = np.random.default_rng(3)
    found: list[float] = []
    questions = Questions("long", _ENGLISH, "en")
    async with house.call(questions, ears) as call:
        hush = Hush(call)
        await hush.sound(0.0)
        for speech in said:
            await asyncio.sleep(float(chance.uniform(0.5, 0.9)))
            speaking = Speaking(speech)
            call.stream.feed(speaking)
            silent_since = await hush.silence(0.2)
            found.append((silent_since + 0.02 - speaking.began_at) * 1000)
            await speaking.over.wait()
            call.stream.feed(None)
            await hush.sound(silent_since, 15)  # asked again
    return found


async def _stopped_live(house: House, ears: Recognizer) -> int:
    """How many prompts stop while a telephone returns them at -20 dB, over noises of all kinds."""
    chance = np.random.default_rng(4)
    prompts = [sounds.spoken_at(sounds.floats(voices._synthesize(p)), SPEAKING) for p in _PROMPTS]
    house.prompts.talk(sounds.pcm(np.tile(np.concatenate(prompts), 5)))
    sudden = sum(make(chance, _LIVE_SECONDS) * 0.02 for make in sounds.SUDDEN.values())
    noise = sounds.pcm(np.asarray(sudden) + sounds.at(sounds.street(chance, _LIVE_SECONDS), -50))
    questions = Questions("talk", _ENGLISH, "en")
    async with house.call(questions, ears) as call:
        noises = deque(
            noise[at : at + FRAME_BYTES] for at in range(0, len(noise) - 320, FRAME_BYTES)
        )

        def return_it(frame: bytes) -> None:
            echo = sounds.floats(frame) * 10 ** (-_ECHO_LOSS / 20)
            if noises:
                call.stream.relay(sounds.pcm(echo + sounds.floats(noises.popleft())))

        call.on_frame(return_it)
        await asyncio.sleep(_LIVE_SECONDS)
    cut = sum("prompt_cut" in turn or "speech_started" in turn for turn in questions.turns)
    return max(cut, len(questions.answers))


def _taken_for_speech(near: sounds.Floats, far: sounds.Floats | None = None) -> int:
    """How often a detector, and an endpointer behind it, take this for speech."""
    heard, sent = sounds.pcm(near), b"" if far is None else sounds.pcm(far)
    left: deque[bytes] = deque(maxlen=30)
    detector = VoiceDetector(lambda: b"".join(left))
    endpointer = Endpointer(Patience(0.3, 1.2, 20.0))
    count = 0
    for at in range(0, len(heard) - FRAME_BYTES + 1, FRAME_BYTES):
        if sent:
            left.append(sent[at : at + FRAME_BYTES])
        voiced = detector.voiced(heard[at : at + FRAME_BYTES], endpointer.speaking)
        count += endpointer.feed(voiced) is Edge.BEGAN
    return count


def _false_stops() -> tuple[dict[str, int], float]:
    """By what, and in how many minutes of it altogether."""
    chance = np.random.default_rng(21)
    found: dict[str, int] = {}
    seconds = 0.0

    def count(name: str, near: sounds.Floats, far: sounds.Floats | None = None) -> None:
        nonlocal seconds
        seconds += len(near) / sounds.RATE
        found[name] = found.get(name, 0) + _taken_for_speech(near, far)

    for level in _LEVELS:
        for name, make in sounds.STEADY.items():
            count(name, sounds.at(make(chance, _OFFLINE_NOISE), level))
        for name, make in sounds.SUDDEN.items():
            count(name, make(chance, _OFFLINE_NOISE) * 10 ** (level / 20))
    count("music", sounds.floats(hold_music()[: 60 * 16_000]))
    prompts = np.concatenate(
        [sounds.spoken_at(sounds.floats(voices._synthesize(p)), SPEAKING) for p in _PROMPTS]
    )
    for delay in (0.02, 0.08, 0.2, 0.4):
        late = np.concatenate([np.zeros(int(delay * sounds.RATE)), prompts])[: len(prompts)]
        echo = late * 10 ** (-_ECHO_LOSS / 20) + chance.normal(0, 10**-3, len(prompts))
        count("echo", echo, prompts)
    return found, seconds / 60


def barge_in() -> list[Figure]:
    """Speech stops a prompt, and nothing else does."""
    return _runner().run(_barge_in())


async def _barge_in() -> list[Figure]:
    voiced = _recorded("digits-dev", "0189", BARGE_INS) + _recorded("zh-dev", "0", BARGE_INS)
    said = [_from_its_onset(pcm) for pcm in voiced]
    soft = [_from_its_onset(pcm) for pcm in _recorded("digits-dev", "234567", BARGE_INS)]
    async with _house() as house, _recognition("en", "whisper") as ears:
        clear = await _let_in(house, ears, said)
        hissing = await _let_in(house, ears, soft)
        live = await _stopped_live(house, ears)
    stops, minutes = await asyncio.to_thread(_false_stops)
    everything = [*clear, *hissing]
    figures = [
        figure("speech to silence, p50", percentile(clear, 0.5), "ms", 100),
        figure("speech to silence, p95", percentile(clear, 0.95), "ms", 100),
        figure("speech to silence, s, f, th, t first, p50", percentile(hissing, 0.5), "ms", 150),
        figure("speech to silence, all, p95", percentile(everything, 0.95), "ms", 100),
        figure("packet to last packet, all, p95", percentile(everything, 0.95) - 20, "ms", 100),
        figure(f"prompts stopped in {_LIVE_SECONDS:.0f} s of echo and noise, live", live, "", 0),
    ]
    for name, count in stops.items():
        figures.append(figure(f"taken for speech: {name}", count, "", 0))
    figures.append(figure("noise, music and echo listened to", minutes, "min", 10, at_least=True))
    return figures


# --- answers -------------------------------------------------------------------------------------


Said = tuple[str, bytes]
"""A phrase, and somebody who says it."""


async def _answered(
    house: House, ears: Recognizer, language: str, phrases: tuple[str, ...], said: Sequence[Said]
) -> tuple[list[float], int]:
    """Milliseconds from the last packet of speech to the first sound of the answer, and how many
    were taken for what they are."""
    loop = asyncio.get_running_loop()
    found: list[float] = []
    right = 0
    questions = Questions("", phrases, language)
    async with house.call(questions, ears) as call:
        hush = Hush(call)
        await hush.sound(0.0)
        for phrase, speech in said:
            await hush.silence(0.5)
            await call.play(speech)
            ended = loop.time()
            if not math.isnan(heard := await hush.sound(ended)):
                found.append((heard - ended) * 1000)
                last = questions.answers[-1]
                right += isinstance(last, SpeechHeard) and last.text == phrase
    return found, right


async def _beside_stock(
    house: House,
    recognition: Recognition,
    language: str,
    phrases: tuple[str, ...],
    said: Sequence[Said],
    name: str,
    targets: tuple[float, float],
) -> list[Figure]:
    await _answered(house, recognition, language, phrases, said[:2])  # what is worked out but once
    ours, right = await _answered(house, recognition, language, phrases, said)
    stock = Stock(recognition)
    theirs, stock_right = await _answered(house, stock, language, phrases, said[::2])
    return [
        figure(f"{name}, {label}", percentile(ours, at), "ms", most, percentile(theirs, at))
        for label, at, most in (("p50", 0.5, targets[0]), ("p95", 0.95, targets[1]))
    ] + [
        figure(f"{name}, answered", len(ours), "", len(said), 2 * len(theirs), at_least=True),
        figure(f"{name}, taken right", right, "", 0.9 * len(said), 2 * stock_right, at_least=True),
    ]


async def _korean() -> list[Said]:
    made = Voices(load_settings())
    try:
        spoken = [(phrase, await made.synthesize(phrase, "ko")) for phrase in _KOREAN]
    finally:
        await made.close()
    return [(phrase, _whole(pcm, level)) for level in _KOREAN_LEVELS for phrase, pcm in spoken]


def _digits() -> list[Said]:
    each = ANSWERS // len(_ENGLISH)
    return [
        (name, _whole(pcm))
        for digit, name in enumerate(_ENGLISH)
        for pcm in _recorded("digits-dev", str(digit), each)
    ]


async def _answer() -> list[Figure]:
    figures: list[Figure] = []
    runs: Sequence[tuple[Any, str, tuple[str, ...], list[Said], tuple[float, float]]] = (
        ("vosk", "ko", _KOREAN, await _korean(), (350, 600)),
        ("whisper", "en", _ENGLISH, _digits(), (600, 1000)),
    )
    async with _house() as house:
        for engine, language, phrases, said, targets in runs:
            async with _recognition(language, engine) as recognition:
                name = f"end of speech to answer, {engine}"
                figures += await _beside_stock(
                    house, recognition, language, phrases, said, name, targets
                )
    return figures


def answer() -> list[Figure]:
    """An answer comes when it is known what was said, not after a fixed silence."""
    return _runner().run(_answer())


BENCHES: dict[str, Callable[[], list[Figure]]] = {"answer": answer, "barge_in": barge_in}
