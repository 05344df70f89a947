"""What the hotline refuses, and how it says so; and what it takes from callers as mere text."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from cti import protocol, stage
from ivr.config import Settings
from ivr.errors import TelephonyError
from ivr.store.repo import Store
from ivr.telephony import pbx
from tests.live.house import Agent, House, house_settings
from tests.live.test_call_plumbing import INVITE, KEYS, sipp

pytestmark = pytest.mark.live

SECONDS = 20.0
"""For a refusal, of which Python takes two to load; the rest is for a machine with other work."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A start that failed: what stood on standard error besides the progress, and how it ended."""

    lines: list[str]
    code: int
    seconds: float


async def start(settings: Settings, variables: Mapping[str, str]) -> Refusal:
    """Run `hotline serve` until it ends."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cti.cli", "serve"),
        env={**os.environ, **stage.environment(settings), **variables},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, complaint = await asyncio.wait_for(process.communicate(), 30)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise AssertionError(f"it started in spite of {variables}") from None
    lines = [one for one in complaint.decode().splitlines() if not one.startswith("==> ")]
    assert process.returncode is not None
    return Refusal(lines, process.returncode, time.monotonic() - began)


class Trouble:
    """Makes what an operator may get wrong, in a folder of its own."""

    def __init__(self, folder: Path, stack: ExitStack):
        self.folder = folder
        self._stack = stack

    def flows(self, change: Callable[[str], str]) -> str:
        """A folder with the hotline's own flow, changed."""
        folder = self.folder / "flows"
        folder.mkdir()
        text = Path("flows/main.yaml").read_text(encoding="utf-8")
        (folder / "main.yaml").write_text(change(text), encoding="utf-8")
        return str(folder)

    def taken(self) -> str:
        """A port on which somebody listens."""
        listener = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        return str(listener.getsockname()[1])

    def below_a_file(self) -> str:
        (self.folder / "file").touch()
        return f"sqlite:///{self.folder}/file/hotline.db"

    async def prepare(self) -> None:
        store = await Store.open(f"sqlite:///{self.folder}/future.db")
        await store.close()

    def from_the_future(self) -> str:
        path = self.folder / "future.db"
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.execute("update alembic_version set version_num = 'r9999'")
        return f"sqlite:///{path}"

    def config(self, text: str) -> str:
        path = self.folder / f"{len(text)}.toml"
        path.write_text(text)
        return str(path)


Wrong = tuple[dict[str, str], str]
"""The variables that make something wrong, and what the one line says of it."""


def port_taken(setting: str, trouble: Trouble) -> Wrong:
    port = trouble.taken()
    variable = setting.replace(".", "__").upper()
    return {variable: port}, f"port {port} is taken.*{setting}"


def no_manager(trouble: Trouble) -> Wrong:
    port = str(stage.free_ports(1)[0])
    where = rf"127\.0\.0\.1:{port} cannot be reached.*is the PBX up"
    return {"ASTERISK__AMI_PORT": port}, where


WRONG: dict[str, Callable[[Trouble], Wrong]] = {
    "a flow that does not load": lambda trouble: (
        {"FLOWS_DIR": trouble.flows(lambda text: text.replace("then: main\n", "then: no\n", 1))},
        rf"{trouble.folder}/flows/main.yaml:\d+:\d+: E101 .*'no'",
    ),
    "no flow folder": lambda _: (
        {"FLOWS_DIR": "/nowhere/flows"},
        "/nowhere/flows.*HOTLINE_FLOWS_DIR",
    ),
    "no such flow": lambda _: ({"FLOW": "absent"}, "there is no flow 'absent'"),
    "wrong AMI password": lambda _: (
        {"ASTERISK__AMI_SECRET": "wrong"},
        r"refused the manager password for user hotline at 127\.0\.0\.1:\d+",
    ),
    "Asterisk away": no_manager,
    "web port taken": partial(port_taken, "web.port"),
    "AGI port taken": partial(port_taken, "asterisk.agi_port"),
    "audio port taken": partial(port_taken, "asterisk.audio_port"),
    "database below a file": lambda trouble: (
        {"DATABASE__URL": trouble.below_a_file()},
        "cannot write .*/file/hotline.db: its folder is a file",
    ),
    "database without rights": lambda _: (
        {"DATABASE__URL": "sqlite:////sys/hotline.db"},  # where not even root may write
        "cannot write /sys/hotline.db: permission denied",
    ),
    "a folder for a database": lambda trouble: (
        {"DATABASE__URL": f"sqlite:///{trouble.folder}"},
        f"cannot write {trouble.folder}: is a directory",
    ),
    "database from a newer version": lambda trouble: (
        {"DATABASE__URL": trouble.from_the_future()},
        r"r9999.* is newer than this hotline",
    ),
    "wrong value": lambda _: (
        {"WEB__PORT": "eighty"},
        r"setting web\.port: .*'eighty'.*operations\.md",
    ),
    "unknown setting": lambda trouble: (
        {"CONFIG": trouble.config("[web]\nprot = 1\n")},
        r"setting web\.prot: .*operations\.md",
    ),
    "settings that are not TOML": lambda trouble: (
        {"CONFIG": trouble.config("[web\n")},
        rf"{trouble.folder}/\d+\.toml: ",
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def refusals(
    live_pbx: Settings, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Refusal, str]]:
    """All of them tried, two at a time."""
    two = asyncio.Semaphore(2)

    async def attempt(variables: dict[str, str]) -> Refusal:
        agi, audio = map(str, stage.free_ports(2))
        own = {"ASTERISK__AGI_PORT": agi, "ASTERISK__AUDIO_PORT": audio, **variables}
        async with two:
            return await start(
                house_settings(live_pbx, "refused"),
                {f"HOTLINE_{name}": value for name, value in own.items()},
            )

    with ExitStack() as stack:
        trouble = Trouble(tmp_path_factory.mktemp("wrong"), stack)
        await trouble.prepare()
        wrong = [make(trouble) for make in WRONG.values()]
        tried = await asyncio.gather(*(attempt(variables) for variables, _ in wrong))
    said = [said for _, said in wrong]
    return dict(zip(WRONG, zip(tried, said, strict=True), strict=True))


@pytest.mark.parametrize("name", WRONG)
def test_a_start_that_cannot_be_says_why_in_one_line(
    refusals: dict[str, tuple[Refusal, str]], name: str
) -> None:
    refusal, said = refusals[name]
    [line] = refusal.lines
    print(f"{refusal.seconds:.1f} s: {line}")
    assert re.search(said, line)
    assert refusal.code == 1
    assert refusal.seconds < SECONDS


# --- callers -------------------------------------------------------------------------------------


async def test_an_unknown_extension_is_refused_with_one_line_in_the_log(house: House) -> None:
    log = pbx.directory(house.settings) / "log" / "messages.log"
    before = log.read_text().count("dialled 7771")
    async with house.caller() as phone:
        with pytest.raises(TelephonyError, match="7771 does not exist"):  # SIP's 404
            await phone.call("7771")
    assert log.read_text().count("dialled 7771, which is not an extension") == before + 1
    assert (await house.metrics())["hotline_calls_taken_total"] == 0


HOSTILE = {
    "quotes": ('"\\"; DROP TABLE legs; --" <sip:x%22%3B%20DROP%20TABLE@127.0.0.1>', "x"),
    "4000 characters": (f'"{"n" * 4000}" <sip:{"9" * 4000}@127.0.0.1>', "9" * 64),
    "line breaks": (
        '"<b>Ann</b>" <sip:1%0D%0Aagi_channel%3A%20x%0A%0A@127.0.0.1>',
        "1agi_channelx",
    ),
}


@asynccontextmanager
async def dialling(house: House, folder: Path, sip_caller: str) -> AsyncIterator[None]:
    """A caller of that name who presses 0, and goes on until hung up."""
    keys = KEYS.replace("Signal=#", "Signal=0").replace('milliseconds="300"', 'milliseconds="900"')
    scenario = folder / "invite.xml"
    scenario.write_text(
        INVITE.replace('<recv request="BYE"/>', keys).replace("{caller}", sip_caller)
    )
    where = f"127.0.0.1:{house.settings.asterisk.sip_port}"
    calling = asyncio.create_task(sipp("-sf", str(scenario), "-s", "100", "-m", "1", where))
    try:
        yield
        done = await calling
        assert done.returncode == 0, done.stdout[-2000:]
    finally:
        calling.cancel()


async def take(ann: Agent) -> protocol.PopCard:
    """What the agent is shown of the next caller, who is served and let go."""
    popped = await ann.saw(protocol.Pop)
    incoming = await ann.phone.incoming(15)
    await incoming.answer()
    await ann.saw(protocol.CallAnswered)
    await incoming.hang_up()
    await ann.saw(protocol.CallEnded)
    await ann.screen.done(popped.card.conversation)
    return popped.card


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_caller_with_a_hostile_number_is_served_like_any_other(
    house: House, tmp_path: Path, what: str
) -> None:
    sip_caller, shown = HOSTILE[what]
    async with house.agent("ann", "1001") as ann:
        await ann.screen.set_available()
        async with dialling(house, tmp_path, sip_caller):
            card = await take(ann)
    assert card.number == shown
    await house.nothing_left()
    assert house.rows("select address from legs where conversation_id = ?", card.conversation) == [
        (shown,)
    ]
    [(caller, agent)] = house.rows(
        "select caller, agent from call_records where conversation_id = ?", card.conversation
    )
    assert (caller, agent) == (shown, "ann")
