"""What agents do in a call, on a real Asterisk: every telephone tells what it hears."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from cti import robots
from cti.app import SystemClock
from ivr.config import RecordingSettings, Settings
from ivr.flow.events import Enqueue
from ivr.library import Library
from ivr.ports import (
    ActionOutcome,
    Answered,
    CallEvent,
    CallFacts,
    Consulted,
    Held,
    Muted,
    Parked,
    Ringing,
)
from ivr.recordings import Recordings
from ivr.runner import Runner
from ivr.sealing import Sealer
from ivr.speech.music import hold_music
from ivr.store.repo import Store
from ivr.telephony import fastagi, media, pbx
from ivr.telephony.asterisk import Ami
from ivr.telephony.softphone import PhoneCall, Softphone
from ivr.telephony.telephone import Telephone
from tests.fakes.pbx import NoSystems, Short
from tests.fakes.speech import FakeRecognizer
from tests.live.house import until

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

FLOW = """\
flow: main
languages: [en]
start: people
nodes:
  people: {queue: {skills: []}, then: bye, otherwise: bye}
  bye: {end: {}}
"""
CALLER, AGENT, COLLEAGUE, BOSS = 500, 900, 1300, 1700
HEARD = 0.02
DONE = ActionOutcome("done")


def tone(hertz: float, seconds: float) -> bytes:
    wave = np.sin(np.arange(int(8000 * seconds)) * 2 * np.pi * hertz / 8000) * 8000
    return bytes(wave.astype("<i2").tobytes())


class Person:
    """Somebody with a telephone who hums a tone all the time, and hears which others hum."""

    def __init__(self, call: PhoneCall, hertz: float):
        self.call = call
        self._pcm = bytearray()
        call.on_frame(self._pcm.extend)
        self._humming = asyncio.ensure_future(self._hum(hertz))

    async def _hum(self, hertz: float) -> None:
        with contextlib.suppress(Exception):
            await self.call.play(tone(hertz, 100))

    def power(self, hertz: float) -> float:
        piece = np.frombuffer(bytes(self._pcm[-4800:]), "<i2").astype(float)
        if len(piece) < 2400:
            return 0.0
        carrier = np.exp(-2j * np.pi * hertz * np.arange(len(piece)) / 8000)
        return float(abs(piece @ carrier) / len(piece) / 32768)

    @property
    def loud(self) -> bool:
        """Whether there is anything at all to hear."""
        piece = np.frombuffer(bytes(self._pcm[-8000:]), "<i2").astype(float)
        return bool(len(piece)) and float(np.sqrt(np.mean(piece**2))) > 100

    async def hears(self, *wanted: float) -> None:
        """Those tones and none of the others, within three seconds."""

        def so() -> bool:
            return all(
                (self.power(hertz) > HEARD) is (hertz in wanted)
                for hertz in (CALLER, AGENT, COLLEAGUE, BOSS)
            )

        powers = {hertz: self.power(hertz) for hertz in (CALLER, AGENT, COLLEAGUE, BOSS)}
        await until(so, 3, f"hearing {wanted}: {powers}")

    async def hears_music(self) -> None:
        await self.hears()
        await until(lambda: self.loud, 3, "music")

    async def gone(self) -> None:
        await asyncio.wait_for(self.call.ended(), 5)


class NobodysDesk:
    """Takes in whoever is enqueued, and leaves the rest to the test."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[str] = asyncio.Queue()

    async def enqueue(self, conversation_id: str, wanted: Enqueue) -> None:
        self.waiting.put_nowait(conversation_id)

    async def withdraw(self, conversation_id: str) -> None: ...

    async def observe(self, conversation_id: str) -> None: ...

    async def wrote(self, conversation_id: str, *news: Any) -> None: ...

    async def facts(self, conversation_id: str) -> CallFacts:
        return CallFacts()


class Way:
    """The network between hotline and Asterisk's manager, which can be cut and fall silent."""

    def __init__(self, port: int):
        self._to = port
        self._writers: list[asyncio.StreamWriter] = []
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server

    async def open(self) -> int:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def silence(self) -> None:
        self._flows.clear()

    def restore(self) -> None:
        self._flows.set()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.close()
            return
        self._writers += [writer, back]
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(65536):
                await self._flows.wait()
                writer.write(piece)
                await writer.drain()
        writer.close()


class Office:
    """A telephone system with a caller (9001) and three telephones."""

    def __init__(self, telephone: Telephone, desk: NobodysDesk, settings: Settings, way: Way):
        self.way = way
        self.telephone = telephone
        self.desk = desk
        self.settings = settings
        self.events: list[CallEvent] = []
        self.leg = ""
        self.ringing: asyncio.Task[str]
        self.phones: dict[str, Softphone] = {}

    async def call(self) -> tuple[Person, Person]:
        """A caller and the agent with whom they talk."""
        calling = asyncio.ensure_future(self.phones["9001"].call(self.settings.asterisk.extension))
        await asyncio.wait_for(self.desk.waiting.get(), 10)
        caller = Person(await calling, CALLER)
        [self.leg] = self.telephone._legs
        self.ringing = asyncio.ensure_future(
            self.telephone.ring(self.leg, "1001", 20, self.events.append)
        )
        agent = await self.answer("1001", AGENT)
        await caller.hears(AGENT)
        await agent.hears(CALLER)
        assert self.take() == [Ringing("1001"), Answered("1001")]
        return caller, agent

    async def answer(self, extension: str, hertz: float) -> Person:
        incoming = await self.phones[extension].incoming(10)
        await incoming.answer()
        return Person(incoming, hertz)

    def take(self) -> list[CallEvent]:
        events, self.events[:] = list(self.events), []
        return events

    async def told(self, *wanted: CallEvent) -> None:
        await until(lambda: len(self.events) >= len(wanted), 5, f"{wanted}, not {self.events}")
        assert self.take() == list(wanted)

    async def outcome(self) -> str:
        return await asyncio.wait_for(self.ringing, 10)

    async def order(self, name: str, *args: Any) -> ActionOutcome:
        began = time.monotonic()
        outcome: ActionOutcome = await getattr(self.telephone, name)(self.leg, *args)
        print(f"{name}{args}: {outcome.result} after {1000 * (time.monotonic() - began):.0f} ms")
        return outcome

    async def quiet(self) -> None:
        """Nobody has a call any more."""
        await until(lambda: not self.telephone.ami.channels, 10, "no channels")
        await until(lambda: not self.telephone._legs, 5, "no calls")


Plant = tuple[Telephone, NobodysDesk, Settings, Way]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def plant(
    live_pbx: Settings, reactor: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Plant]:
    """The hotline's telephone system without its desk."""
    folder = tmp_path_factory.mktemp("plant")
    (folder / "main.yaml").write_text(FLOW)
    settings = live_pbx.model_copy(update={"recording": RecordingSettings(enabled=False)})
    where, clock = settings.asterisk, SystemClock()
    store = await Store.open(f"sqlite:///{folder / 'test.db'}")
    library = Library(store, clock)
    await library.open(folder, "main", republish=True)
    audio = media.AudioServer(reactor)
    audio.listen(where.agi_host, where.audio_port)
    way = Way(where.ami_port)
    secret = pbx.credentials(settings).ami_secret
    ami = Ami("127.0.0.1", await way.open(), where.ami_user, secret)
    await ami.start()
    desk: Any = NobodysDesk()
    runner = Runner(store, library, NoSystems(), Sealer(folder / "key"), clock)
    kept = Recordings(store, folder / "recordings", settings.recording, clock)
    telephone = Telephone(
        settings, runner, audio, ami, Short(), FakeRecognizer(deaf=True), clock, hold_music(), kept
    )
    runner.attach(desk)
    agi = fastagi.serve(reactor, where.agi_host, where.agi_port, telephone.answer)
    yield telephone, desk, settings, way
    telephone.stopping = True
    await agi.stop()
    await telephone.drained()
    await runner.close()
    await audio.stop()
    await ami.stop()
    await way.close()
    await store.close()


@pytest_asyncio.fixture(loop_scope="session")
async def office(plant: Plant) -> AsyncIterator[Office]:
    made = Office(*plant)
    async with contextlib.AsyncExitStack() as phones:
        for extension in ("9001", "1001", "1002", "1003"):
            phone = robots.phone(made.settings, extension)
            made.phones[extension] = await phones.enter_async_context(phone)
        yield made
    await made.quiet()


async def end(office: Office, caller: Person, *others: Person) -> None:
    """The caller hangs up, and with them everybody."""
    await caller.call.hang_up()
    for other in others:
        await other.gone()
    await office.quiet()


# --- hold, mute, keys ----------------------------------------------------------------------------


async def test_hold_gives_the_caller_music_and_the_agent_silence(office: Office) -> None:
    caller, agent = await office.call()
    for _ in range(2):
        assert await office.order("hold", True) == DONE
        await caller.hears_music()
        await agent.hears()
        await office.told(Held(True))
        assert await office.order("hold", True) == DONE
        assert await office.order("hold", False) == DONE
        await caller.hears(AGENT)
        await agent.hears(CALLER)
        await office.told(Held(False))
    await agent.call.hang_up()
    assert await office.outcome() == "talked"
    await caller.call.hang_up()


@pytest.mark.parametrize("who", ["caller", "agent"])
async def test_either_may_hang_up_on_hold(office: Office, who: str) -> None:
    caller, agent = await office.call()
    await office.order("hold", True)
    await caller.hears_music()
    if who == "caller":
        await end(office, caller, agent)
        assert await office.outcome() == "gone"
    else:
        await agent.call.hang_up()
        assert await office.outcome() == "talked"
        await caller.call.hang_up()


async def test_who_is_retrieved_and_hangs_up_leaves_nobody_behind(office: Office) -> None:
    caller, agent = await office.call()
    await office.order("hold", True)
    await office.order("hold", False)
    await end(office, caller, agent)
    assert await office.outcome() == "gone"


async def test_mute_keeps_the_agent_from_being_heard_also_over_a_hold(office: Office) -> None:
    caller, agent = await office.call()
    assert await office.order("mute", True) == DONE
    await caller.hears()
    await agent.hears(CALLER)
    await office.told(Muted(True))
    await office.order("hold", True)
    await office.order("hold", False)
    await office.told(Held(True), Held(False))
    await agent.hears(CALLER)
    await caller.hears()
    assert await office.order("mute", False) == DONE
    await caller.hears(AGENT)
    await office.told(Muted(False))
    await end(office, caller, agent)


async def test_keys_reach_the_callers_telephone(office: Office) -> None:
    caller, agent = await office.call()
    keys: list[str] = []
    caller.call.stream.listen_for_keys(keys.append)
    assert await office.order("press", "12*#90") == DONE
    await until(lambda: "".join(keys) == "12*#90", 3, f"keys, not {keys}")
    assert (await office.order("press", "1w")).result == "refused"
    await end(office, caller, agent)


# --- passing on ----------------------------------------------------------------------------------


async def test_a_blind_transfer_lets_the_agent_go(office: Office) -> None:
    caller, agent = await office.call()
    assert await office.order("send_to", "1002") == DONE
    await agent.gone()
    assert await office.outcome() == "transferred"
    colleague = await office.answer("1002", COLLEAGUE)
    await caller.hears(COLLEAGUE)
    await colleague.hears(CALLER)
    await colleague.call.hang_up()
    await caller.gone()


async def test_who_is_let_go_of_waits(office: Office) -> None:
    caller, agent = await office.call()
    assert await office.order("let_go") == DONE
    await agent.gone()
    assert await office.outcome() == "talked"
    await caller.hears_music()
    await caller.call.hang_up()


@pytest.mark.parametrize("number", ["4155550123", "PJSIP/1002", "10&02", "", "1002,tT", "1" * 20])
async def test_where_there_is_no_way_nothing_happens(office: Office, number: str) -> None:
    caller, agent = await office.call()
    for order in ("send_to", "consult"):
        assert (await office.order(order, number)).result == "refused"
    assert (await office.telephone.dial("1002", number)).result == "refused"
    await caller.hears(AGENT)
    await end(office, caller, agent)


# --- consulting ----------------------------------------------------------------------------------


async def consulting(office: Office) -> tuple[Person, Person, Person]:
    caller, agent = await office.call()
    assert await office.order("consult", "1002") == DONE
    await caller.hears_music()
    colleague = await office.answer("1002", COLLEAGUE)
    await agent.hears(COLLEAGUE)
    await colleague.hears(AGENT)
    await caller.hears_music()
    await until(lambda: len(office.events) == 3, 3, "events")
    assert Held(True) in office.events
    office.events.remove(Held(True))
    await office.told(Consulted("1002", "ringing"), Consulted("1002", "talking"))
    return caller, agent, colleague


async def test_a_completed_transfer_connects_caller_and_colleague(office: Office) -> None:
    caller, agent, colleague = await consulting(office)
    assert await office.order("complete") == DONE
    await caller.hears(COLLEAGUE)
    await colleague.hears(CALLER)
    await agent.gone()
    await office.told(Held(False), Consulted("1002", "took_over"))
    assert not office.ringing.done()
    assert await office.order("hold", True) == DONE
    await caller.hears_music()
    assert await office.order("hold", False) == DONE
    await caller.hears(COLLEAGUE)
    await colleague.call.hang_up()
    assert await office.outcome() == "talked"
    await caller.call.hang_up()


async def test_a_cancelled_consultation_brings_the_caller_back(office: Office) -> None:
    caller, agent, colleague = await consulting(office)
    assert await office.order("cancel") == DONE
    await colleague.gone()
    await caller.hears(AGENT)
    await agent.hears(CALLER)
    await office.told(Held(False), Consulted("1002", "gone"))
    await end(office, caller, agent)


async def test_all_three_talk(office: Office) -> None:
    caller, agent, colleague = await consulting(office)
    assert await office.order("join") == DONE
    await caller.hears(AGENT, COLLEAGUE)
    await agent.hears(CALLER, COLLEAGUE)
    await colleague.hears(CALLER, AGENT)
    await office.told(Held(False), Consulted("1002", "joined"))
    await end(office, caller, agent, colleague)


@pytest.mark.parametrize("by", ["order", "phone"])
async def test_of_three_the_agent_may_leave(office: Office, by: str) -> None:
    caller, agent, colleague = await consulting(office)
    await office.order("join")
    office.take()
    if by == "order":
        assert await office.order("complete") == DONE
        await agent.gone()
    else:
        await agent.call.hang_up()
    await caller.hears(COLLEAGUE)
    await colleague.hears(CALLER)
    await office.told(Consulted("1002", "took_over"))
    await colleague.call.hang_up()
    assert await office.outcome() == "talked"
    await caller.call.hang_up()


async def test_of_three_the_colleague_may_leave(office: Office) -> None:
    caller, agent, colleague = await consulting(office)
    await office.order("join")
    office.take()
    assert await office.order("cancel") == DONE
    await colleague.gone()
    await caller.hears(AGENT)
    await office.told(Consulted("1002", "gone"))
    assert await office.order("hold", True) == DONE
    await caller.hears_music()
    assert await office.order("hold", False) == DONE
    await caller.hears(AGENT)
    await agent.call.hang_up()
    assert await office.outcome() == "talked"
    await caller.call.hang_up()


@pytest.mark.parametrize("who", ["caller", "agent", "colleague"])
async def test_anybody_may_hang_up_while_two_consult(office: Office, who: str) -> None:
    caller, agent, colleague = await consulting(office)
    if who == "caller":
        await end(office, caller, agent, colleague)
        assert await office.outcome() == "gone"
    elif who == "agent":
        await agent.call.hang_up()
        assert await office.outcome() == "talked"
        await colleague.gone()
        await caller.call.hang_up()
    else:
        await colleague.call.hang_up()
        await caller.hears(AGENT)
        await agent.hears(CALLER)
        await office.told(Consulted("1002", "gone"), Held(False))
        await end(office, caller, agent)


@pytest.mark.parametrize("what", ["caller", "agent", "declined", "cancel"])
async def test_anything_may_happen_while_the_colleagues_phone_rings(
    office: Office, what: str
) -> None:
    caller, agent = await office.call()
    assert await office.order("consult", "1002") == DONE
    ringing = await office.phones["1002"].incoming(10)
    await caller.hears_music()
    assert (await office.order("complete")).result == "refused"
    if what == "caller":
        await end(office, caller, agent)
        await asyncio.wait_for(ringing.ended(), 5)
        return
    if what == "agent":
        await agent.call.hang_up()
        assert await office.outcome() == "talked"
        await asyncio.wait_for(ringing.ended(), 5)
        await caller.call.hang_up()
        return
    if what == "declined":
        await ringing.hang_up()
    else:
        assert await office.order("cancel") == DONE
        await asyncio.wait_for(ringing.ended(), 5)
    await caller.hears(AGENT)
    await until(lambda: Consulted("1002", "gone") in office.events, 3, "gone")
    await end(office, caller, agent)


async def test_a_colleague_without_a_telephone_is_gone_at_once(office: Office) -> None:
    caller, agent = await office.call()
    assert await office.order("consult", "1009") == DONE
    await until(lambda: Consulted("1009", "gone") in office.events, 3, "gone")
    await caller.hears(AGENT)
    await end(office, caller, agent)


# --- parking -------------------------------------------------------------------------------------


async def test_a_parked_caller_is_fetched_from_any_telephone(office: Office) -> None:
    caller, agent = await office.call()
    assert await office.order("park") == DONE
    await agent.gone()
    assert await office.outcome() == "transferred"
    [parked] = [event for event in office.take() if isinstance(event, Parked)]
    await caller.hears_music()
    fetched = Person(await office.phones["1003"].call(parked.place), BOSS)
    await caller.hears(BOSS)
    await fetched.hears(CALLER)
    await fetched.call.hang_up()
    await caller.gone()


async def test_a_parked_caller_whom_nobody_fetches_comes_back_to_the_line(office: Office) -> None:
    caller, agent = await office.call()
    identity = office.telephone._legs[office.leg].leg.conversation_id
    assert await office.order("park") == DONE
    await agent.gone()
    await caller.hears_music()
    assert await asyncio.wait_for(office.desk.waiting.get(), 10) == identity
    await caller.hears_music()
    await caller.call.hang_up()


async def test_a_parked_caller_may_hang_up(office: Office) -> None:
    caller, agent = await office.call()
    assert await office.order("park") == DONE
    await end(office, caller, agent)


# --- supervisors, and calls that begin with us ---------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "agent_hears", "caller_hears"),
    [
        ("listen", (CALLER,), (AGENT,)),
        ("whisper", (CALLER, BOSS), (AGENT,)),
        ("barge", (CALLER, BOSS), (AGENT, BOSS)),
    ],
)
async def test_a_supervisor_joins(
    office: Office, mode: str, agent_hears: tuple[int, ...], caller_hears: tuple[int, ...]
) -> None:
    caller, agent = await office.call()
    assert await office.order("listen", "1003", mode) == DONE
    boss = await office.answer("1003", BOSS)
    await boss.hears(CALLER, AGENT)
    await agent.hears(*agent_hears)
    await caller.hears(*caller_hears)
    await boss.call.hang_up()
    await agent.hears(CALLER)
    await caller.hears(AGENT)
    await end(office, caller, agent)


async def test_a_number_is_called_from_the_agents_telephone(office: Office) -> None:
    assert await office.telephone.dial("1001", "1002") == DONE
    agent = await office.answer("1001", AGENT)
    assert office.telephone.busy("1001")
    other = await office.answer("1002", COLLEAGUE)
    await agent.hears(COLLEAGUE)
    await other.hears(AGENT)
    await agent.call.hang_up()
    await other.gone()
    await office.quiet()
    assert not office.telephone.busy("1001")


async def test_a_telephone_that_is_not_there_is_told_at_once(office: Office) -> None:
    assert (await office.telephone.dial("1009", "1002")).result == "refused"


# --- the manager link ----------------------------------------------------------------------------


async def back(office: Office) -> None:
    """The link is back; from now on five seconds are allowed for the truth."""
    await until(lambda: office.telephone.ami.connected, 20, "the link")


@pytest.mark.parametrize("how", ["cut", "silent"])
@pytest.mark.parametrize("stage", ["talk", "hold", "consult"])
async def test_a_link_that_fails_leaves_calls_alone_and_the_truth_is_told(
    office: Office, how: str, stage: str
) -> None:
    colleague: Person | None = None
    if stage == "consult":
        caller, agent, colleague = await consulting(office)
    else:
        caller, agent = await office.call()
        if stage == "hold":
            await office.order("hold", True)
            office.take()
    if how == "cut":
        office.way.cut()
    else:
        office.way.silence()
        await until(lambda: not office.telephone.ami.connected, 15, "the silence to be noticed")
    if colleague is not None:
        await colleague.call.hang_up()
    elif stage == "hold":
        assert (await office.order("hold", False)).result in ("done", "unknown")
        await caller.hears(AGENT)  # this needs no manager
    else:
        assert (await office.order("hold", True)).result != "done" or how == "cut"
    office.way.restore()
    await back(office)
    began = time.monotonic()
    if colleague is not None:
        await until(lambda: Consulted("1002", "gone") in office.events, 5, "gone")
    if stage == "talk" and (Held(True) in office.take() or not caller.power(AGENT) > HEARD):
        await office.order("hold", False)
    await caller.hears(AGENT)
    await agent.hears(CALLER)
    if stage != "talk":
        await until(lambda: Held(False) in office.events, 5, "retrieved")
    print(f"{how} in {stage}: true {time.monotonic() - began:.2f} s after the link's return")
    await end(office, caller, agent)


async def test_many_cuts_in_one_call_double_nothing(office: Office) -> None:
    caller, agent = await office.call()
    for number in range(20):
        await until(lambda: office.telephone.ami.connected, 20, "the link")
        ordering = asyncio.ensure_future(office.order("consult", "1002"))
        await asyncio.sleep(0.0004 * number)
        office.way.cut()
        outcome = await ordering
        await back(office)
        await asyncio.sleep(0.3)
        rings = office.phones["1002"].called
        assert rings <= 1, outcome
        if rings:
            ringing = await office.phones["1002"].incoming(2)
            assert (await office.order("cancel")).result == "done"
            await asyncio.wait_for(ringing.ended(), 5)
        await caller.hears(AGENT)
        await agent.hears(CALLER)
    await end(office, caller, agent)


@pytest.mark.parametrize("stage", ["talk", "consult"])
async def test_a_restart_of_asterisk_ends_the_calls_and_is_told(office: Office, stage: str) -> None:
    if stage == "consult":
        await consulting(office)
    else:
        await office.call()
    await asyncio.to_thread(pbx.down, office.settings)
    await asyncio.to_thread(pbx.up, office.settings)
    await back(office)
    began = time.monotonic()
    assert await office.outcome() == "gone"
    await until(lambda: not office.telephone._legs, 5, "the call's end")
    print(f"restart in {stage}: true {time.monotonic() - began:.2f} s after the link's return")
