"""A talk while the manager link is cut at any moment: the truth is told, and nothing doubled."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from ivr.errors import CallGone
from ivr.ports import (
    ActionOutcome,
    Answered,
    CallEvent,
    Consulted,
    Held,
    Muted,
    Ringing,
)
from tests.fakes.switchboard import CALLER, Asterisk, talk
from tests.virtual import run

DONE = ActionOutcome("done")


class Told:
    """What the agent's card would show."""

    def __init__(self) -> None:
        self.events: list[CallEvent] = []
        self.held = self.answered = False
        self.consult = ""
        self.took_over = 0

    def __call__(self, event: CallEvent) -> None:
        self.events.append(event)
        match event:
            case Answered():
                self.answered = True
            case Held():
                self.held = event.on
            case Consulted(state="took_over"):
                self.consult, self.took_over = "", self.took_over + 1
            case Consulted(state="gone"):
                self.consult = ""
            case Consulted():
                self.consult = event.state
            case _:
                pass


class Scene:
    """A caller who talks with 1001."""

    def __init__(self, chance: random.Random, cuts: Callable[[], bool] = lambda: False):
        self.asterisk = Asterisk(chance, cuts)
        self.told = Told()
        self.talk = talk(self.asterisk, self.told)
        self.running: asyncio.Future[Any] = asyncio.ensure_future(self._run())

    async def _run(self) -> Any:
        try:
            return await self.talk.run()
        except CallGone:
            self.talk.dismiss()
            return None

    async def answered(self) -> None:
        while not (self.told.answered or self.running.done()):
            await asyncio.sleep(0.01)

    @property
    def outcome(self) -> str:
        future = self.talk.errand.outcome
        return future.result() if future.done() else ""


def scene(work: Callable[[Scene], Any]) -> None:
    async def play() -> None:
        one = Scene(random.Random(1))
        await one.answered()
        await work(one)

    run(play())


def test_hold_and_back() -> None:
    async def work(one: Scene) -> None:
        assert await one.talk.hold(True) == DONE
        assert one.asterisk.music and not one.asterisk.with_caller()
        assert await one.talk.hold(False) == DONE
        assert [name.split("-")[0] for name in one.asterisk.with_caller()] == ["PJSIP/1001"]
        assert one.told.events == [
            Ringing("1001"), Answered("1001"), Held(True), Held(False)
        ]  # fmt: skip

    scene(work)


def test_what_asterisk_refuses_changes_nothing() -> None:
    async def work(one: Scene) -> None:
        one.asterisk.cut()
        for order in (one.talk.hold(True), one.talk.consult("1002"), one.talk.mute(True)):
            assert (await order).result == "refused"
        one.asterisk.reconnect()
        assert await one.talk.mute(True) == DONE
        assert one.told.events[-1] == Muted(True)
        assert one.asterisk.with_caller()

    scene(work)


def test_an_answer_that_was_not_told_is_found_when_the_link_is_back() -> None:
    async def play() -> None:
        one = Scene(random.Random(1))
        one.asterisk.people["1001"] = "ring"
        while not one.told.events:
            await asyncio.sleep(0.01)
        one.asterisk.cut()
        one.asterisk.people["1001"] = "answer"
        await asyncio.sleep(0.2)
        assert not one.told.answered
        one.asterisk.reconnect()
        assert one.told.answered
        assert await one.talk.hold(True) == DONE

    run(play())


def test_who_hangs_up_while_the_link_is_away_is_missed_when_it_is_back() -> None:
    async def work(one: Scene) -> None:
        await one.talk.hold(True)
        one.asterisk.cut()
        one.asterisk.hang_up(one.talk.agent.unique_id)
        await asyncio.sleep(1)
        assert not one.running.done()
        one.asterisk.reconnect()
        await asyncio.sleep(1)
        assert one.outcome == "talked"

    scene(work)


@pytest.mark.parametrize("seed", range(20))
def test_the_truth_after_every_cut_and_no_doubled_dial(seed: int) -> None:
    """Fifty cuts each: a thousand in all."""
    chance = random.Random(seed)
    cuts = 0

    async def play() -> None:
        nonlocal cuts
        while cuts < 50:
            cuts += await one_call(chance)

    run(play())


async def one_call(chance: random.Random) -> int:
    """A call with random orders and cuts; how many cuts there were."""
    cuts = 0

    def now() -> bool:
        nonlocal cuts
        cut = chance.random() < 0.3
        cuts += cut
        return cut

    one = Scene(chance, now)
    asterisk = one.asterisk
    asterisk.people = {"1002": chance.choice(("answer", "answer", "busy", "away"))}
    await one.answered()
    consultations = 0
    call = one.talk
    orders: dict[str, Any] = {
        "hold": lambda: call.hold(True),
        "back": lambda: call.hold(False),
        "consult": lambda: call.consult("1002"),
        "cancel": call.cancel,
        "complete": call.complete,
        "join": call.join,
        "mute": lambda: call.mute(True),
    }
    for _ in range(12):
        name = chance.choice(tuple(orders))
        order = orders[name]
        if asterisk.connected and chance.random() < 0.15:
            cuts += 1
            asterisk.cut()
        dialled = len(asterisk.dialled)
        ordering = asyncio.ensure_future(order())
        await asyncio.sleep(chance.choice((0, 0.0005, 0.01, 0.2)))
        if asterisk.connected and chance.random() < 0.15:
            cuts += 1
            asterisk.cut()
        if chance.random() < 0.08:
            asterisk.hang_up(chance.choice(list(asterisk.there)))
        outcome = await ordering
        await asyncio.sleep(chance.choice((0, 0.1, 1)))
        if not asterisk.connected:
            asterisk.reconnect()
        await asyncio.sleep(5)
        consultations += name == "consult"
        assert len(asterisk.dialled) - dialled <= (name == "consult"), (name, outcome)
        if one.running.done() or CALLER not in asterisk.there:
            break
        true_to_life(one, f"{name} {outcome}")
    for unique_id in list(asterisk.there):
        asterisk.hang_up(unique_id)
    if not asterisk.connected:
        asterisk.reconnect()
    await asyncio.sleep(10)
    assert one.running.done()
    assert one.outcome or one.running.result() is None
    assert asterisk.dialled.count("PJSIP/1002") <= consultations
    assert not asterisk.there
    return cuts


def true_to_life(one: Scene, after: str) -> None:
    """Five seconds after the link's return the card shows what is so."""
    asterisk, told = one.asterisk, one.told
    told_of = (after, told.events[-6:], asterisk.with_caller(), asterisk.there)
    assert told.held == asterisk.music, told_of
    assert told.held == (not asterisk.with_caller()), told_of
    others = [name for name in asterisk.with_caller() if name.startswith("PJSIP/1002")]
    joined = len(asterisk.with_caller()) == 2
    assert (told.consult == "joined") == joined, told_of
    if others and not joined:
        assert told.took_over, told_of
    if told.held:
        talking = any(
            channel.name.startswith("PJSIP/1002") and channel.bridge
            for channel in asterisk.there.values()
        )
        assert (told.consult == "talking") == talking, told_of
    else:
        assert told.consult in ("", "joined"), told_of
