"""What is promised of a conversation: committed before acted upon, resumed, never lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ivr.errors import Conflict, StoreError
from ivr.flow.events import (
    DigitsPressed,
    Effect,
    End,
    Enqueue,
    Expect,
    Fetch,
    FetchAnswered,
    QueueFailed,
    Resumed,
    Say,
    SpeechHeard,
    Started,
)
from ivr.library import Library
from ivr.model import Address, Channel, Contact, Conversation, ConversationStatus, Leg
from ivr.ports import CallFacts, TextNews
from ivr.replay import replay
from ivr.runner import STALE_SECONDS, TOUCH_SECONDS, Runner
from ivr.sealing import Sealer
from ivr.store.repo import Store
from tests.virtual import EPOCH

FLOW = """
flow: main
languages: [en]
start: welcome
uses: [crm]
slots:
  account: {type: digits, length: 4}
  pin: {type: digits, length: 4, secret: true}
nodes:
  welcome:
    say: Welcome.
    then: main
  main:
    menu:
      ask: Billing, press 1. A person, press 0.
      choices:
        billing: {press: 1, say: billing, then: account}
        person: {press: 0, say: agent, then: people}
      otherwise: people
  account:
    collect: {slot: account, ask: Your account?, otherwise: people}
    then: pin
  pin:
    collect: {slot: pin, ask: Your PIN?, otherwise: people}
    then: lookup
  lookup:
    fetch: {get: "{crm}/{account}", headers: {X-Pin: "{pin}"}, into: customer}
    then: pay
    otherwise: people
  pay:
    fetch: {post: "{crm}/{account}/pay", into: receipt}
    then: bye
    otherwise: people
  people:
    queue: {skills: [billing]}
    otherwise: bye
  bye:
    end: Goodbye.
"""


class StillClock:
    """A clock that moves when the test says so."""

    def __init__(self) -> None:
        self.at = EPOCH

    def now(self) -> Any:
        return self.at

    def monotonic(self) -> float:
        return (self.at - EPOCH).total_seconds()


@dataclass
class Phone:
    """A leg that remembers what it was asked to do."""

    leg: Leg
    effects: list[Effect] = field(default_factory=list)

    async def perform(self, effects: Sequence[Effect]) -> None:
        self.effects += effects

    async def close(self, cause: str) -> None: ...

    @property
    def said(self) -> list[str]:
        return [effect.text for effect in self.effects if isinstance(effect, Say)]

    @property
    def question(self) -> Expect:
        return [effect for effect in self.effects if isinstance(effect, Expect)][-1]


@dataclass
class FakeDesk:
    """The human side, as far as the runner asks for it."""

    line: list[tuple[str, Enqueue]] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    told: list[TextNews] = field(default_factory=list)

    async def wrote(self, conversation_id: str, news: TextNews) -> None:
        self.told.append(news)

    async def enqueue(self, conversation_id: str, wanted: Enqueue) -> None:
        self.line.append((conversation_id, wanted))

    async def withdraw(self, conversation_id: str) -> None:
        self.withdrawn.append(conversation_id)

    async def observe(self, conversation_id: str) -> None: ...

    async def facts(self, conversation_id: str) -> CallFacts:
        return CallFacts("ann", 3.0, 60.0)


@dataclass
class FakeFetcher:
    """Answers when the test lets it."""

    asked: asyncio.Queue[Fetch] = field(default_factory=asyncio.Queue)
    answers: asyncio.Queue[FetchAnswered] = field(default_factory=asyncio.Queue)

    async def fetch(self, request: Fetch) -> FetchAnswered:
        self.asked.put_nowait(request)
        return await self.answers.get()


class World:
    """A runner with everything around it."""

    def __init__(self, store: Store, folder: Path):
        self.folder = folder
        self.store = store
        self.clock = StillClock()
        self.desk = FakeDesk()
        self.fetcher = FakeFetcher()
        self.restart()

    def restart(self) -> None:
        """A new process: nothing is left but the database and the key."""
        self.library = Library(self.store, self.clock)
        self.runner = self.server(self.library, self.desk)

    def server(self, library: Library, desk: FakeDesk) -> Runner:
        sealer = Sealer(self.folder / "key")
        runner = Runner(self.store, library, self.fetcher, sealer, self.clock, redial_seconds=600)
        runner.attach(desk)
        return runner

    def another_server(self) -> Runner:
        """One that runs at the same time on the same database."""
        return self.server(Library(self.store, self.clock), FakeDesk())

    def phone(
        self, conversation_id: str = "c1", leg_id: str = "l1", caller: str = "+14155550123"
    ) -> Phone:
        peer = Address(Channel.VOICE, caller)
        return Phone(Leg(leg_id, conversation_id, peer, self.clock.now(), "u1", "100"))

    async def call(self) -> Phone:
        await self.library.publish(self.folder, "main")
        phone = self.phone()
        await self.runner.begin(phone, Started("voice", "+14155550123", "100"))
        return phone

    async def kinds(self) -> list[str]:
        return [entry.kind for entry in await self.store.timeline("c1")]


@pytest_asyncio.fixture(loop_scope="session")
async def world(tmp_path: Path) -> AsyncIterator[World]:
    (tmp_path / "main.yaml").write_text(FLOW)
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")
    yield World(store, tmp_path)
    await store.close()


async def test_a_call_begins_with_the_flow_and_is_stored(world: World) -> None:
    phone = await world.call()
    assert phone.said == ["Welcome.", "Billing, press 1. A person, press 0."]
    stored = await world.store.conversation("c1")
    assert stored is not None
    assert stored.status is ConversationStatus.FLOW
    assert (await world.kinds())[0] == "call_started"


async def test_an_answer_goes_on_and_leaves_its_trace(world: World) -> None:
    phone = await world.call()
    await world.runner.report("c1", DigitsPressed("1", phone.question.turn))
    assert phone.said[-1] == "Your account?"
    kinds = await world.kinds()
    assert kinds.index("pressed") < kinds.index("matched")


async def test_after_a_crash_the_same_question_is_asked_with_what_was_answered(
    world: World,
) -> None:
    phone = await world.call()
    await world.runner.report("c1", DigitsPressed("1"))
    await world.runner.report("c1", DigitsPressed("4711"))
    asked = phone.said[-1]
    world.restart()
    again = world.phone(leg_id="l2")
    assert await world.runner.resume(again)
    assert again.said[-1] == asked == "Your PIN?"
    await world.runner.report("c1", DigitsPressed("1234"))
    request = await world.fetcher.asked.get()
    assert (request.path, request.headers["X-Pin"]) == ("/4711", "1234")


async def test_a_crash_after_the_flow_was_changed_goes_on_with_the_old_flow(world: World) -> None:
    await world.call()
    world.restart()
    (world.folder / "main.yaml").write_text(FLOW.replace("Billing, press 1.", "Bills, press 9."))
    await world.library.publish(world.folder, "main")
    again = world.phone(leg_id="l2")
    assert await world.runner.resume(again)
    assert again.said[-1] == "Billing, press 1. A person, press 0."


async def test_a_secret_is_nowhere_in_the_database(world: World, tmp_path: Path) -> None:
    await world.call()
    await world.runner.report("c1", DigitsPressed("1"))
    await world.runner.report("c1", DigitsPressed("4711"))
    await world.runner.report("c1", DigitsPressed("8265"))
    await world.fetcher.asked.get()
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("test.db*"))
    assert b"4711" in stored
    assert b"8265" not in stored


async def test_the_queue_gets_the_caller_and_a_refusal_comes_back(world: World) -> None:
    phone = await world.call()
    await world.runner.report("c1", SpeechHeard("agent", 0.95, turn=phone.question.turn))
    while not world.desk.line:
        await asyncio.sleep(0)
    [(conversation_id, wanted)] = world.desk.line
    assert (conversation_id, wanted.skills) == ("c1", ("billing",))
    stored = await world.store.conversation("c1")
    assert stored is not None and stored.status is ConversationStatus.QUEUED
    await world.runner.report("c1", QueueFailed(wanted.id, "nobody"))
    assert phone.said[-1] == "Goodbye."
    assert isinstance(phone.effects[-1], End)


async def test_a_place_in_line_survives_a_crash_under_the_same_id(world: World) -> None:
    await world.call()
    await world.runner.report("c1", DigitsPressed("0"))
    world.restart()
    await world.runner.resume(world.phone(leg_id="l2"))
    while len(world.desk.line) < 2:
        await asyncio.sleep(0)
    assert len({wanted.id for _, wanted in world.desk.line}) == 1


async def test_hanging_up_ends_everything_and_writes_the_record(world: World) -> None:
    phone = await world.call()
    await world.runner.left(phone, "hung_up")
    stored = await world.store.conversation("c1")
    assert stored is not None and stored.status is ConversationStatus.ENDED
    [record] = await world.store.records("c1")
    assert (record.caller, record.agent, record.talked) == ("+14155550123", "ann", 60.0)
    assert world.desk.withdrawn == ["c1"]
    assert world.runner.live == 0
    await world.runner.report("c1", DigitsPressed("1"))
    assert phone.said[-1].startswith("Billing")


async def test_a_call_lost_to_a_fault_is_kept_for_its_caller(world: World) -> None:
    phone = await world.call()
    await world.runner.report("c1", DigitsPressed("1"))
    await world.runner.lost(phone)
    assert world.runner.live == 1
    again = world.phone(leg_id="l2")
    assert await world.runner.resume(again)
    assert again.said[-1] == "Your account?"
    assert phone.effects[-1] != again.effects[-1] or phone.said[-1] == "Your account?"


async def test_what_nobody_came_back_to_is_swept(world: World) -> None:
    await world.call()
    world.restart()
    world.clock.at += timedelta(seconds=STALE_SECONDS)
    assert await world.runner.sweep() == 0
    world.clock.at += timedelta(seconds=1)
    assert await world.runner.sweep() == 1
    stored = await world.store.conversation("c1")
    assert stored is not None and (stored.status, stored.outcome) == ("ended", "lost")
    [leg] = await world.store.legs("c1")
    assert leg.cause == "lost"
    [record] = await world.store.records("c1")
    assert record.leg_id == leg.id
    assert not await world.runner.resume(world.phone(leg_id="l2"))


async def test_a_call_that_still_goes_on_is_not_swept(world: World) -> None:
    """As when the caller talks to an agent: Asterisk has both, we are to be asked afterwards."""
    await world.call()
    world.restart()
    world.clock.at += timedelta(seconds=STALE_SECONDS + 1)
    assert await world.runner.sweep(lambda leg: True) == 0
    assert await world.runner.resume(world.phone(leg_id="l2"))


async def test_a_call_that_survived_a_crash_has_one_record_of_all_of_it(world: World) -> None:
    await world.call()
    world.restart()
    world.clock.at += timedelta(seconds=30)
    again = world.phone(leg_id="l2")
    assert await world.runner.resume(again)
    world.clock.at += timedelta(seconds=30)
    await world.runner.left(again, "hung_up")
    before, after = await world.store.legs("c1")
    assert (before.cause, after.cause) == ("fault", "hung_up")
    [record] = await world.store.records("c1")
    assert (record.leg_id, record.ended_at - record.started_at) == ("l2", timedelta(seconds=60))


async def test_another_server_that_was_faster_does_not_lose_the_event(world: World) -> None:
    phone = await world.call()
    stored = await world.store.conversation("c1")
    assert stored is not None
    await world.store.save(replace(stored, language="en"))
    await world.runner.report("c1", DigitsPressed("1"))
    assert phone.said[-1] == "Your account?"


async def test_a_database_that_is_away_costs_the_caller_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = await world.call()
    real = world.store.save

    async def away(*args: Any, **kwargs: Any) -> Any:
        raise StoreError("the disk is full")

    monkeypatch.setattr(world.store, "save", away)
    await world.runner.report("c1", DigitsPressed("1"))
    assert phone.said[-1] == "Your account?"
    monkeypatch.setattr(world.store, "save", real)
    await world.runner.report("c1", DigitsPressed("4711"))
    pressed = [entry for entry in await world.store.timeline("c1") if entry.kind == "pressed"]
    assert [entry.body["digits"] for entry in pressed] == ["1", "4711"]


async def test_resuming_does_not_count_as_a_miss(world: World) -> None:
    phone = await world.call()
    for _ in range(10):
        await world.runner.report("c1", Resumed("voice"))
    assert phone.said[-1] == "Billing, press 1. A person, press 0."


class Away:
    """A part of the database that is away until `back`."""

    def __init__(self, patch: pytest.MonkeyPatch, store: Store, *methods: str):
        self._patch = patch
        for method in methods:
            patch.setattr(store, method, self._refuse)

    async def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise StoreError("the disk is full")

    def back(self) -> None:
        self._patch.undo()


async def test_a_conversation_whose_beginning_was_not_stored_is_stored_with_the_next_step(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Away(monkeypatch, world.store, "start_conversation")
    phone = await world.call()
    away.back()
    await world.runner.report("c1", DigitsPressed("1", phone.question.turn))
    assert phone.said[-1] == "Your account?"
    kinds = await world.kinds()
    assert kinds[0] == "call_started" and "pressed" in kinds
    await world.runner.left(phone, "hung_up")
    [record] = await world.store.records("c1")
    assert record.leg_id == "l1"


async def test_a_caller_is_answered_while_the_whole_database_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Away(monkeypatch, world.store, "start_conversation", "conversation", "save", "end_leg")
    phone = await world.call()
    await world.runner.report("c1", DigitsPressed("1", phone.question.turn))
    assert phone.said[-1] == "Your account?"
    await world.runner.left(phone, "hung_up")
    assert world.runner.live == 0
    assert world.desk.withdrawn == ["c1"]
    away.back()


async def test_a_step_that_others_always_beat_is_taken_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = await world.call()

    async def moved(*args: Any, **kwargs: Any) -> Any:
        raise Conflict("it has moved")

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "save", moved)
        await world.runner.report("c1", DigitsPressed("1", phone.question.turn))
    assert phone.said[-1] == "Your account?"
    await world.runner.report("c1", DigitsPressed("4711"))
    assert phone.said[-1] == "Your PIN?"
    assert (await world.kinds()).count("pressed") == 2


async def test_a_caller_who_leaves_is_let_go_whatever_fails(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = await world.call()

    async def bug(*args: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(world.desk, "observe", bug)
    monkeypatch.setattr(world.desk, "withdraw", bug)
    await world.runner.left(phone, "hung_up")
    assert world.runner.live == 0
    assert len(await world.store.records("c1")) == 1


async def test_a_caller_comes_back_to_a_database_that_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = await world.call()
    await world.runner.lost(phone)
    away = Away(monkeypatch, world.store, "add_leg")
    again = world.phone(leg_id="l2")
    assert await world.runner.resume(again)
    assert again.said[-1] == "Billing, press 1. A person, press 0."
    away.back()
    await world.runner.report("c1", DigitsPressed("0"))
    while not world.desk.line:
        await asyncio.sleep(0)
    assert [leg.id for leg in await world.store.legs("c1")] == ["l1", "l2"], "can be rung now"
    await world.runner.left(again, "hung_up")
    assert world.runner.live == 0


async def test_a_leg_that_fails_while_it_is_taken_up_is_not_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = await world.call()
    await world.runner.lost(phone)
    broken = world.phone(leg_id="l2")

    async def fails(effects: Sequence[Effect]) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(broken, "perform", fails)
    with pytest.raises(RuntimeError):
        await world.runner.resume(broken)
    third = world.phone(leg_id="l3")
    assert await world.runner.resume(third)
    await world.runner.left(third, "hung_up")
    assert world.runner.live == 0


async def test_a_lost_caller_is_given_up_though_the_database_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ivr.runner.COMES_BACK_WITHIN", 0.0)
    phone = await world.call()
    Away(monkeypatch, world.store, "end_leg", "conversation", "legs")
    await world.runner.lost(phone)
    async with asyncio.timeout(5):
        while world.runner.live:
            await asyncio.sleep(0.001)
    assert world.desk.withdrawn == ["c1"]


async def asks(world: World) -> Phone:
    """A caller for whom the customer's data are asked."""
    phone = await world.call()
    for digits in ("1", "4711", "1234"):
        await world.runner.report("c1", DigitsPressed(digits))
    return phone


async def pays(world: World) -> tuple[Phone, Fetch]:
    """A caller for whom a payment is under way."""
    phone = await asks(world)
    read = await world.fetcher.asked.get()
    world.fetcher.answers.put_nowait(FetchAnswered(read.id, 200, {}))
    return phone, await world.fetcher.asked.get()


async def test_a_request_that_is_under_way_is_not_sent_again(world: World) -> None:
    phone, payment = await pays(world)
    await world.runner.lost(phone)
    again = world.phone(leg_id="l2")
    assert await world.runner.resume(again)
    await asyncio.sleep(0)
    assert world.fetcher.asked.empty()
    world.fetcher.answers.put_nowait(FetchAnswered(payment.id, 200, {}))
    while "Goodbye." not in again.said:
        await asyncio.sleep(0)


async def test_a_payment_that_a_crash_interrupted_is_not_made_twice(world: World) -> None:
    await pays(world)
    world.restart()
    assert await world.runner.resume(world.phone(leg_id="l2"))
    while not world.desk.line:
        await asyncio.sleep(0)
    assert world.fetcher.asked.empty()
    answers = [entry for entry in await world.store.timeline("c1") if entry.kind == "fetched"]
    assert answers[-1].body["error"] == "interrupted: it may have been carried out"


async def test_a_question_that_a_crash_interrupted_is_asked_again(world: World) -> None:
    await asks(world)
    first = await world.fetcher.asked.get()
    world.restart()
    assert await world.runner.resume(world.phone(leg_id="l2"))
    assert await world.fetcher.asked.get() == first


async def test_a_server_leaves_alone_what_another_has_in_hand(world: World) -> None:
    phone = await world.call()
    other = world.another_server()
    for _ in range(20):
        world.clock.at += timedelta(seconds=TOUCH_SECONDS)
        await world.runner.touch()
        await other.touch()
        assert await other.sweep() == 0
    await world.runner.report("c1", DigitsPressed("1"))
    assert phone.said[-1] == "Your account?"


async def test_a_caller_who_is_back_just_now_is_not_swept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.call()
    other = world.another_server()
    world.restart()
    world.clock.at += timedelta(seconds=STALE_SECONDS + 1)
    stale = await world.store.stale_conversations(world.clock.now())
    again = world.phone(leg_id="l2")
    assert await world.runner.resume(again)
    assert await other.sweep() == 0

    async def read_before(before: Any) -> list[Conversation]:
        return stale

    monkeypatch.setattr(world.store, "stale_conversations", read_before)
    assert await other.sweep() == 0
    await world.runner.report("c1", DigitsPressed("1"))
    assert again.said[-1] == "Your account?"


async def test_a_caller_who_came_back_to_another_server_is_not_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ivr.runner.COMES_BACK_WITHIN", 0.0)
    phone = await world.call()
    other = world.another_server()
    again = world.phone(leg_id="l2")
    assert await other.resume(again)
    await world.runner.lost(phone)
    async with asyncio.timeout(5):
        while world.runner.live:
            await asyncio.sleep(0.001)
    assert world.desk.withdrawn == []
    await other.report("c1", DigitsPressed("1"))
    assert again.said[-1] == "Your account?"


async def test_what_is_known_of_the_caller_chooses_the_language(world: World) -> None:
    (world.folder / "main.yaml").write_text(
        FLOW.replace("languages: [en]", "languages: [en, zh]").replace(
            "Your account?", "{en: Your account?, zh: 账号？}"
        )
    )
    address = Address(Channel.VOICE, "+14155550123")
    await world.store.save_contact(Contact("k1", "Li", "zh", (address,)))
    phone = await world.call()
    assert phone.question.language == phone.question.grammar.language == "zh"
    await world.runner.report("c1", DigitsPressed("1"))
    assert phone.said[-1] == "账号？"


# --- a caller who rings again --------------------------------------------------------------------


async def redial(world: World, number: int = 2, caller: str = "+14155550123") -> Phone:
    phone = world.phone(f"c{number}", f"l{number}", caller)
    await world.runner.begin(phone, Started("voice", caller, "100"))
    return phone


async def dropped(world: World, *keys: str, caller: str = "+14155550123") -> None:
    """A first call that drops after these keys."""
    await world.library.publish(world.folder, "main")
    phone = await redial(world, 1, caller)
    for pressed in keys:
        await world.runner.report("c1", DigitsPressed(pressed))
    await world.runner.left(phone, "hung_up")


async def test_a_caller_who_rings_again_goes_on_at_the_same_question(world: World) -> None:
    await dropped(world, "1")
    world.clock.at += timedelta(minutes=9)
    phone = await redial(world)
    assert phone.said[0].startswith("Welcome back. Shall we go on where we were?")
    await world.runner.report("c2", DigitsPressed("1", phone.question.turn))
    assert phone.said[-1] == "Your account?"
    first, second = [await world.store.conversation(one) for one in ("c1", "c2")]
    assert first is not None and first.status is ConversationStatus.ENDED
    assert second is not None and second.contact_id == first.contact_id
    entries = await world.store.timeline("c2")
    replayed = replay(await world.library.version(second.version, "main"), entries, EPOCH)
    assert replayed.divergence is None and not replayed.stopped


async def test_a_secret_is_not_taken_along(world: World, tmp_path: Path) -> None:
    await dropped(world, "1", "4711", "8265")
    phone = await redial(world)
    await world.runner.report("c2", DigitsPressed("1", phone.question.turn))
    assert phone.said[-1] == "Your PIN?"
    assert b"8265" not in b"".join(path.read_bytes() for path in tmp_path.glob("test.db*"))


async def test_a_call_that_ends_without_us_can_be_gone_on_with(world: World) -> None:
    """Our server died, and the caller hung up on the hold message."""
    await world.library.publish(world.folder, "main")
    phone = await redial(world, 1)
    await world.runner.report("c1", DigitsPressed("1"))
    await world.runner.lost(phone)
    world.restart()
    await world.library.publish(world.folder, "main")
    assert (await redial(world)).said[0].startswith("Welcome back.")


@pytest.mark.parametrize("caller", ["", "anonymous", "Restricted", "sip:ann@example.com"])
async def test_a_withheld_number_is_offered_nothing(world: World, caller: str) -> None:
    await dropped(world, "1", caller=caller)
    assert (await redial(world, caller=caller)).said[0] == "Welcome."


@pytest.mark.parametrize("how", ["late", "finished", "another caller", "another number", "off"])
async def test_other_calls_begin_anew(world: World, how: str) -> None:
    await dropped(world, "1")
    phone = world.phone("c2", "l2", "+14155550199" if how == "another caller" else "+14155550123")
    if how == "late":
        world.clock.at += timedelta(minutes=10, seconds=1)
    elif how == "finished":
        world.clock.at += timedelta(seconds=1)
        done = await redial(world)
        await world.runner.report("c2", DigitsPressed("2", done.question.turn))
        await world.runner.report("c2", DigitsPressed("0"))
        while not world.desk.line:
            await asyncio.sleep(0)
        await world.runner.report("c2", QueueFailed(world.desk.line[-1][1].id, "nobody"))
        await world.runner.left(done, "completed")
        world.clock.at += timedelta(seconds=1)
        phone = world.phone("c3", "l3")
    elif how == "another number":
        phone.leg = replace(phone.leg, dialled="200")
    elif how == "off":
        sealer = Sealer(world.folder / "key")
        world.runner = Runner(world.store, world.library, world.fetcher, sealer, world.clock)
        world.runner.attach(world.desk)
    await world.runner.begin(phone, Started("voice", phone.leg.peer.value, phone.leg.dialled))
    assert phone.said[0] == "Welcome."


async def test_a_database_that_is_away_begins_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await dropped(world, "1")
    Away(monkeypatch, world.store, "last_call")
    assert (await redial(world)).said[0] == "Welcome."
