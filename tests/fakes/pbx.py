"""Asterisk's side of one call without an Asterisk: the dialplan's AGI, the audio, the manager."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from cti.app import SystemClock
from cti.screenpop import ConversationView
from cti.service import Desk
from ivr.bus import MemoryBus
from ivr.config import AsteriskSettings, RecordingSettings, Settings
from ivr.flow.events import Fetch, FetchAnswered
from ivr.library import Library
from ivr.recordings import Recordings
from ivr.runner import Runner
from ivr.sealing import Sealer
from ivr.store.repo import Store
from ivr.telephony import fastagi, media
from ivr.telephony.asterisk import AmiChannel, AmiEvent
from ivr.telephony.telephone import Telephone
from tests.fakes.speech import FakeRecognizer

UNIQUE_ID = "u1"


class Manager:
    """The manager link: what was ordered, and what the test has it tell."""

    connected = True

    def __init__(self) -> None:
        self.channels: dict[str, AmiChannel] = {}
        self.actions: list[tuple[str, dict[str, Any]]] = []
        self._subscribers: list[Callable[[AmiEvent], None]] = []

    def subscribe(self, callback: Callable[[AmiEvent], None]) -> Callable[[], None]:
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    async def action(self, name: str, /, **fields: Any) -> None:
        self.actions.append((name, fields))

    def tell(self, name: str, **fields: str) -> None:
        if name == "Hangup":
            self.channels.pop(fields["Uniqueid"], None)
        for subscriber in list(self._subscribers):
            subscriber(AmiEvent(name, fields))

    @property
    def hung_up(self) -> list[str]:
        return [fields["Channel"] for name, fields in self.actions if name == "Hangup"]


class Short:
    """Prompts of a fifth of a second."""

    async def render(self, text: str, language: str, template: str = "") -> AsyncIterator[bytes]:
        yield bytes(3200)


class NoSystems:
    async def fetch(self, request: Fetch) -> FetchAnswered:
        raise AssertionError(request)


class Call:
    """One caller's channel, as the dialplan runs it: `variables` are the channel's."""

    def __init__(self, agi_port: int, manager: Manager, conversation: str):
        self.variables = {"HOTLINE_CONVERSATION": conversation}
        self.commands: list[str] = []
        self.talking = asyncio.Event()
        self.tone_ended = asyncio.Event()
        self.dialled = asyncio.Event()
        self.dial_ends: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.left_to_dialplan = asyncio.Event()
        self.agi: asyncio.StreamWriter
        self._port = agi_port
        self._audio: asyncio.StreamWriter | None = None
        name = f"PJSIP/9001-{UNIQUE_ID}"
        manager.channels[UNIQUE_ID] = AmiChannel(UNIQUE_ID, name, "Up")

    @property
    def conversation(self) -> str:
        return self.variables["HOTLINE_CONVERSATION"]

    async def run(self) -> None:
        reader, self.agi = await asyncio.open_connection("127.0.0.1", self._port)
        headers = {
            "network": "yes",
            "network_script": "call",
            "request": "agi://hotline/call",
            "channel": f"PJSIP/9001-{UNIQUE_ID}",
            "language": "en",
            "uniqueid": UNIQUE_ID,
            "callerid": "4155550123",
            "calleridname": "unknown",
            "extension": "100",
        }
        lines = "".join(f"agi_{name}: {value}\n" for name, value in headers.items())
        self.agi.write(f"{lines}\n".encode())
        with contextlib.suppress(ConnectionError):
            while line := (await reader.readline()).decode().strip():
                self.commands.append(line)
                self.agi.write(f"{await self._obey(line)}\n".encode())
        self.left_to_dialplan.set()

    async def _obey(self, line: str) -> str:
        words = line.split()
        if line.startswith("EXEC AudioSocket"):
            await self._connect_audio(line)
        elif line.startswith("EXEC Dial"):
            self.variables["DIALSTATUS"] = ""
            self.dialled.set()
            self.variables["DIALSTATUS"] = await self.dial_ends
        elif line.startswith("GET VARIABLE"):
            value = self.variables.get(words[2], "")
            return f"200 result=1 ({value})" if value else "200 result=0"
        elif line.startswith("SET VARIABLE"):
            self.variables[words[2]] = words[3].strip('"')
        return "200 result=0"

    async def _connect_audio(self, line: str) -> None:
        asked = re.search(r"([0-9a-f-]{36})\W+127\.0\.0\.1:(\d+)", line)
        assert asked is not None, line
        reader, self._audio = await asyncio.open_connection("127.0.0.1", int(asked[2]))
        self._audio.write(b"\x01\x00\x10" + uuid.UUID(asked[1]).bytes)
        self.talking.set()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            loud = False
            while (head := await reader.readexactly(3))[0]:
                heard = any(await reader.readexactly(int.from_bytes(head[1:], "big")))
                if loud and not heard:
                    self.tone_ended.set()
                loud = heard
        self.talking.clear()
        self._audio.close()

    async def press(self, key: str) -> None:
        await asyncio.wait_for(self.talking.wait(), 5)
        assert self._audio is not None
        self._audio.write(b"\x03\x00\x01" + key.encode())

    async def speak(self, seconds: float) -> None:
        """A loud noise, all at once."""
        await asyncio.wait_for(self.talking.wait(), 5)
        assert self._audio is not None
        frame = b"\x10\x01\x40" + b"\x00\x20\x00\xe0" * 80
        self._audio.write(frame * round(seconds / 0.02))


class Exchange:
    """A hotline's calls, desk and database around the fake Asterisk."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.manager = Manager()
        self.tasks: list[asyncio.Task[None]] = []

    async def start(
        self, reactor: Any, flow: str, recording: RecordingSettings | None = None
    ) -> None:
        (self.folder / "main.yaml").write_text(flow)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        settings = Settings(
            state_dir=self.folder,
            asterisk=AsteriskSettings(audio_port=port),
            recording=recording or RecordingSettings(),
        )
        clock = SystemClock()
        self.store = await Store.open(f"sqlite:///{self.folder / 'test.db'}")
        library = Library(self.store, clock)
        await library.open(self.folder, "main", republish=True)
        self.audio = media.AudioServer(reactor)
        self.audio.listen("127.0.0.1", port)
        sealer = Sealer(self.folder / "key")
        manager: Any = self.manager
        self.runner = Runner(self.store, library, NoSystems(), sealer, clock)
        self.telephone = Telephone(
            settings,
            self.runner,
            self.audio,
            manager,
            Short(),
            FakeRecognizer(deaf=True),
            clock,
            bytes(16000),
            Recordings(self.store, settings.recordings_dir, settings.recording, clock),
        )
        self.desk = Desk(
            self.store,
            lambda server: self.telephone,
            self.runner.report,
            lambda conversation: ConversationView(language="en"),
            clock,
            settings.queue,
            MemoryBus(),
        )
        self.runner.attach(self.desk)
        await self.desk.start()
        self.tasks.append(asyncio.ensure_future(self.desk.run()))
        self.agi = fastagi.serve(reactor, "127.0.0.1", 0, self.telephone.answer)

    def call(self, conversation: str = "") -> Call:
        made = Call(self.agi.port, self.manager, conversation)
        self.tasks.append(asyncio.ensure_future(made.run()))
        return made

    async def stop(self) -> None:
        """As the server does when it is asked to go."""
        self.telephone.stopping = True
        await self.agi.stop()
        await self.telephone.drained()
        await self.runner.close()
        await self.desk.close()
        await self.audio.stop()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def kinds(self, conversation: str) -> list[str]:
        return [entry.kind for entry in await self.store.timeline(conversation)]

    async def until_kind(self, conversation: str, kind: str) -> None:
        async with asyncio.timeout(5):
            while kind not in await self.kinds(conversation):
                await asyncio.sleep(0.01)
