"""Three ways on which a caller meets the flow: over Asterisk's AudioSocket, over SIP and RTP of our
own, and over a leg that is nothing but its turns. On each a `Caller` hears, speaks and presses."""

from __future__ import annotations

import asyncio
import re
import uuid
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from ivr.config import (
    AsteriskSettings,
    RecordingSettings,
    Settings,
    SoftphoneAccount,
    SoftphoneSettings,
)
from ivr.errors import CallGone
from ivr.flow.events import Dequeue, Effect, Record, Recorded, Started
from ivr.model import Address, Channel, Leg
from ivr.ports import FRAME_BYTES, FRAME_SECONDS
from ivr.telephony.extension import Extension
from ivr.telephony.media import AudioLeg, AudioServer
from ivr.telephony.message import VoiceMessage
from ivr.telephony.telephone import Telephone
from ivr.telephony.turn import Turns
from ivr.wire import rtp
from ivr.wire.agi import AgiRequest
from ivr.wire.audio import pcm_to_ulaw, ulaw_to_pcm
from ivr.wire.audiosocket import AudioReceived, AudioSocketReader
from tests.fakes.dialogue import (
    MUSIC,
    SILENCE,
    Dialogue,
    Messages,
    SteadyEars,
    SteadyPrompts,
    sound,
    text_of,
)
from tests.fakes.pbx import Manager
from tests.fakes.sip import FakePbx
from tests.virtual import EPOCH, LoopClock

PATIENCE = 15.0


class Caller(ABC):
    """Somebody on the line: `heard` is every frame that came, as (time, text)."""

    def __init__(self, flow: str):
        self.dialogue = Dialogue(flow)
        self.ears = SteadyEars()
        self.messages = Messages()
        self.heard: list[tuple[float, str]] = []
        self.over = asyncio.Event()
        self._speech: deque[bytes] = deque()

    # --- what a caller does ----------------------------------------------------------------------

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def hearing(self) -> str:
        return self.heard[-1][1] if self.heard else ""

    async def hears(self, text: str, within: float = PATIENCE) -> None:
        """Wait until it is being said."""
        await self._until(lambda: self.hearing == text, within, f"{text!r} is not heard")

    async def hears_the_end(self, text: str) -> None:
        """Wait until it is no longer being said."""
        await self._until(lambda: self.hearing != text, PATIENCE, f"{text!r} does not end")

    async def says(self, text: str, seconds: float = 0.4) -> None:
        self._speech.extend([sound(text)] * round(seconds / FRAME_SECONDS))
        await self._until(lambda: not self._speech, PATIENCE, "it was not said")

    def heard_for(self, text: str) -> float:
        """Seconds of it, in all."""
        return sum(said == text for _, said in self.heard) * FRAME_SECONDS

    async def ended(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.over.wait()

    async def left(self) -> str:
        """Wait until the leg is done with the call; why it says it is over."""
        await self._until(lambda: bool(self.dialogue.left_by), PATIENCE, "the leg does not end")
        return self.dialogue.left_by[0]

    @abstractmethod
    async def press(self, keys: str) -> None: ...

    @abstractmethod
    async def hang_up(self) -> None: ...

    # --- the wire --------------------------------------------------------------------------------

    def frame(self, pcm: bytes) -> None:
        self.heard.append((self.now, text_of(pcm)))

    @abstractmethod
    def send(self, frame: bytes) -> None: ...

    async def speak(self) -> None:
        """A line carries sound for as long as it is up."""
        while not self.over.is_set():
            self.send(self._speech.popleft() if self._speech else SILENCE)
            await asyncio.sleep(FRAME_SECONDS)

    async def _until(self, condition: Callable[[], bool], seconds: float, failure: str) -> None:
        deadline = self.now + seconds
        while not condition():
            heard = list(dict.fromkeys(text for _, text in self.heard[-500:]))
            assert self.now < deadline, f"{failure}; heard {heard}"
            await asyncio.sleep(FRAME_SECONDS / 4)


class Wire:
    """Twisted's transport of an `AudioLeg`: what it sends is heard."""

    def __init__(self, caller: Caller):
        self._caller = caller
        self._reader = AudioSocketReader()
        self.closed = asyncio.Event()

    def getHandle(self) -> Wire:  # noqa: N802
        return self

    def send(self, framed: bytes) -> int:
        for event in self._reader.receive_data(framed):
            if isinstance(event, AudioReceived):
                self._caller.frame(event.pcm)
        return len(framed)

    def write(self, data: bytes) -> None:
        self.closed.set()


class Reactor:
    """As much of Twisted's as an audio server's clock needs, on the running loop."""

    def seconds(self) -> float:
        return asyncio.get_running_loop().time()

    def callLater(self, delay: float, call: Callable[..., None], *args: Any) -> Reactor:  # noqa: N802
        later = Reactor()
        later._handle = asyncio.get_running_loop().call_later(delay, call, *args)
        return later

    _handle: asyncio.TimerHandle

    def cancel(self) -> None:
        self._handle.cancel()

    def active(self) -> bool:
        return not self._handle.cancelled() and self._handle.when() > self.seconds()


# --- over Asterisk -------------------------------------------------------------------------------


class SocketCaller(Caller):
    """On a channel of Asterisk's, with `VoiceLeg`; it is its AGI connection, too."""

    def __init__(self, flow: str):
        super().__init__(flow)
        self.request = AgiRequest("PJSIP/9001-1", "1.1", "call", "+14155550123", extension="100")
        self.hung_up = asyncio.Event()
        self.cut = False
        self.audio: AudioLeg | None = None
        self.server = AudioServer(Reactor())

    async def press(self, keys: str) -> None:
        for key in keys:
            assert self.audio is not None
            self.audio.press(key)

    async def hang_up(self) -> None:
        self.lose()
        self.over.set()
        if self.audio is not None:
            self.audio.lose()

    def send(self, frame: bytes) -> None:
        if self.audio is not None:
            self.audio.receive(frame)

    # --- what the leg asks of AGI ---

    def lose(self) -> None:
        self.hung_up.set()

    async def answer(self) -> None: ...

    async def get_variable(self, name: str) -> str:
        return ""

    async def set_variable(self, name: str, value: str) -> None:
        if self.hung_up.is_set():
            raise CallGone("hung up")

    async def execute(self, app: str, *args: str) -> None:
        assert app == "AudioSocket", app
        wire = Wire(self)
        self.audio = AudioLeg(wire, lambda: None)
        self.server.expected[uuid.UUID(args[0])].set_result(self.audio)
        self.server.add(self.audio)
        closed, gone = (asyncio.ensure_future(e.wait()) for e in (wire.closed, self.hung_up))
        await asyncio.wait({closed, gone}, return_when=asyncio.FIRST_COMPLETED)
        self.server.legs.discard(self.audio)
        if gone.done():
            raise CallGone("hung up")
        gone.cancel()


@asynccontextmanager
async def over_audiosocket(flow: str) -> AsyncIterator[Caller]:
    caller = SocketCaller(flow)

    class Agi:
        """The caller's own hang-up and the leg's are two things of one name."""

        def __getattr__(self, name: str) -> Any:
            return getattr(caller, name)

        async def hang_up(self) -> None:
            caller.over.set()

    telephone = Telephone(
        Settings(asterisk=AsteriskSettings(audio_port=1)),
        cast(Any, caller.dialogue),
        caller.server,
        cast(Any, Manager()),
        SteadyPrompts(),
        caller.ears,
        LoopClock(),
        sound(MUSIC, 1.0),
        cast(Any, caller.messages),
    )
    async with _running(caller, telephone.answer(cast(Any, Agi()))):
        yield caller


# --- over SIP and RTP ----------------------------------------------------------------------------


class RtpEnd(asyncio.DatagramProtocol):
    """A telephone's audio: sends every 20 ms once it knows where to, hears frames and keys."""

    def __init__(self) -> None:
        self.rtp = rtp.Sender(ssrc=1, key_type=96)
        self._keys = rtp.KeyReader()
        self._media: asyncio.DatagramTransport | None = None
        self._peer = ("", 0)
        self._speaking: asyncio.Future[None] | None = None

    async def open(self) -> tuple[str, int]:
        self._media, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        address: tuple[str, int] = self._media.get_extra_info("sockname")
        return address

    def aim(self, described: str) -> None:
        """Send to where a message with SDP says."""
        self._peer = ("127.0.0.1", int(re.findall(r"m=audio (\d+)", described)[0]))

    async def say(self, pcm: bytes) -> None:
        """Speak, from a telephone that nothing else drives."""
        self.rtp.play(pcm_to_ulaw(pcm))
        while self.rtp.playing:
            self.tick()
            await asyncio.sleep(FRAME_SECONDS)

    def tick(self) -> None:
        for datagram in self.rtp.tick():
            if self._media is not None and self._peer[1]:
                self._media.sendto(datagram, self._peer)

    def close(self) -> None:
        if self._media is not None:
            self._media.close()

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        packet = rtp.parse(data)
        if packet.payload_type == 96:
            if key := self._keys.read(packet):
                self.key(key)
            return
        assert packet.payload_type == rtp.PCMU and len(packet.payload) == FRAME_BYTES // 2
        self.frame(ulaw_to_pcm(packet.payload))

    def frame(self, pcm: bytes) -> None: ...

    def key(self, key: str) -> None: ...


class PhoneCaller(Caller, RtpEnd):
    """On a telephone behind another PBX, which has the hotline as an extension."""

    def __init__(self, flow: str):
        Caller.__init__(self, flow)
        RtpEnd.__init__(self)
        self.pbx = _Pbx(self.over)
        self.extension: Extension

    async def dial(self) -> None:
        self.pbx.media = await self.open()
        self.pbx.send(self.pbx.request("INVITE", "call", sdp=self.pbx.sdp()))
        taken = await self.pbx.until(lambda m: m.startswith("SIP/2.0 200") and "INVITE" in m)
        self.aim(taken)
        self.pbx.send(self.pbx.request("ACK", "call", cseq_method="ACK"))

    def mute(self) -> None:
        """The telephone loses its power."""
        self._peer = ("", 0)

    async def press(self, keys: str) -> None:
        self.rtp.press(keys)
        await self._until(lambda: not self.rtp.pressing, PATIENCE, "the keys were not sent")

    async def hang_up(self) -> None:
        self.over.set()
        self.pbx.send(self.pbx.request("BYE", "call", cseq="8"))

    def send(self, frame: bytes) -> None:
        if not self.rtp.playing:  # a key that is being pressed takes the place of speech
            self.rtp.play(pcm_to_ulaw(frame))
        self.tick()

    def frame(self, pcm: bytes) -> None:
        Caller.frame(self, pcm)


class _Pbx(FakePbx):
    """Tells the caller when the hotline hangs up."""

    def __init__(self, over: asyncio.Event):
        super().__init__()
        self._over = over

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        super().datagram_received(data, addr)
        if data.startswith(b"BYE") and b"Call-ID: call\r" in data:
            self._over.set()


@asynccontextmanager
async def calling_softphone(
    flow: str, *, wrong_password: bool = False, recording: bool = False
) -> AsyncIterator[PhoneCaller]:
    caller = PhoneCaller(flow)
    caller.pbx.wrong_password = wrong_password
    softphone = SoftphoneSettings(
        server="127.0.0.1",
        port=await caller.pbx.open(),
        accounts={"100": SoftphoneAccount(password="secret")},
    )
    caller.extension = extension = Extension(
        Settings(softphone=softphone, recording=RecordingSettings(enabled=recording)),
        cast(Any, caller.dialogue),
        SteadyPrompts(),
        caller.ears,
        LoopClock(),
        sound(MUSIC, 1.0),
        cast(Any, caller.messages),
    )
    try:
        await extension.start()
        await caller.dial()
        async with _running(caller, asyncio.sleep(0)):
            yield caller
    finally:
        await extension.stop()
        caller.pbx.close()
        caller.close()


@asynccontextmanager
async def over_softphone(flow: str) -> AsyncIterator[Caller]:
    async with calling_softphone(flow) as caller:
        yield caller


# --- over nothing --------------------------------------------------------------------------------


class PlainCaller(Caller):
    """On a leg that is its turns and a sound in memory: the fake that the others are held to."""

    def __init__(self, flow: str):
        super().__init__(flow)
        self.audio = AudioLeg(Wire(self), lambda: None)
        self.server = AudioServer(Reactor())
        self._leg = Leg("l", "c", Address(Channel.VOICE, "+14155550123"), EPOCH)
        self._done = asyncio.Event()
        self._tasks: set[asyncio.Future[None]] = set()
        self._turns = Turns(
            SteadyPrompts(),
            self.ears,
            LoopClock(),
            sound(MUSIC, 1.0),
            lambda event: self._spawn(self.dialogue.report("c", event)),
            self._done.set,
            lambda transfer: None,
            lambda record, message: self._spawn(self._store(record, message)),
            lambda turn: self._spawn(self.dialogue.measured("c", turn)),
        )

    @property
    def leg(self) -> Leg:
        return self._leg

    async def perform(self, effects: Sequence[Effect]) -> None:
        if any(isinstance(effect, Dequeue) for effect in effects):
            self._turns.wait_no_longer()
        self._turns.perform(effects)

    async def close(self, cause: str) -> None:
        self._done.set()

    async def serve(self) -> None:
        self.audio.on_frame(self._turns.heard_frame)
        self.audio.on_key(self._turns.pressed_key)
        self.audio.on_drained(self._turns.drained)
        self.audio.on_started(self._turns.started)
        self.server.add(self.audio)
        self._turns.connect(self.audio)
        await self.dialogue.begin(self, Started(Channel.VOICE.value))
        finished, gone = (asyncio.ensure_future(e.wait()) for e in (self._done, self.over))
        await asyncio.wait({finished, gone}, return_when=asyncio.FIRST_COMPLETED)
        cause = "completed" if finished.done() else "hung_up"
        self.server.legs.discard(self.audio)
        self._turns.close()
        self.audio.lose()
        self.over.set()
        await self.dialogue.left(self, cause)

    async def press(self, keys: str) -> None:
        for key in keys:
            self.audio.press(key)

    async def hang_up(self) -> None:
        self.over.set()

    def send(self, frame: bytes) -> None:
        self.audio.receive(frame)

    async def _store(self, record: Record, message: VoiceMessage) -> None:
        await self.messages.keep_message("c", "l", record.id, message.pcm, message.seconds)
        await self.dialogue.report("c", Recorded(record.id, record.id, message.seconds))

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@asynccontextmanager
async def over_nothing(flow: str) -> AsyncIterator[Caller]:
    caller = PlainCaller(flow)
    async with _running(caller, caller.serve()):
        yield caller


@asynccontextmanager
async def _running(caller: Caller, work: Any) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(caller.speak())]
    try:
        yield
    finally:
        if not caller.over.is_set():
            await caller.hang_up()
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks)


LEGS = {"fake": over_nothing, "audiosocket": over_audiosocket, "softphone": over_softphone}
