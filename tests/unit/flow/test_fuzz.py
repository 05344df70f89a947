"""Random callers of random flows, and what the engine owes them at every step.

These are the engine's invariants. Whatever flow runs, in whatever state, whatever happens:

1. `start` and `advance` raise nothing, and the same step gives the same state and effects again.
2. The state equals what comes back from JSON text, and goes on from there in the same way.
3. Events and effects are JSON.
4. A turn is never taken back. A step asks one question at most, says nothing after it, and the
   question's turn is the state's.
5. A conversation is over, or waits for something that was asked for, can still happen, and takes it
   on when it does: nobody is stuck. Status, what is waited for and the place in line agree.
6. `End` comes once, last, with the end. What has ended stays as it is and does and says nothing;
   who comes back is shown out. When every channel is gone it is over.
7. An effect's id stands for one thing. It is used again only while that is still awaited, and then
   for the same thing; a place in line that was given up never comes back.
8. The value of a secret slot is in no effect but the headers and body of a `Fetch`, and nowhere in
   the state but under `secrets`; once it is over it is not there either.
9. The flows under way, the path and each history are bounded, and no value is too large to keep.
10. Every flow and node under way exists, and the language is one that a flow of the folder speaks.
11. A call that dropped can be gone on with in another, by what is left of it as JSON, of which no
    secret is a part.
12. Exactly one side speaks: while a person has the conversation the flow says and asks nothing, and
    what it then comes back to is what it was interrupted in.

HOTLINE_FUZZ=100000 plays so many sequences instead of a few hundred.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ivr.flow import engine, loader
from ivr.flow.events import (
    Dequeue,
    Effect,
    End,
    Enqueue,
    Event,
    Expect,
    Fetch,
    HungUp,
    Invite,
    Note,
    Record,
    Resumed,
    Say,
    SetTimer,
    Started,
    TimedOut,
    Transfer,
    event_from_json,
    to_json,
)
from ivr.flow.run import DEPTH_LIMIT, VALUE_LIMIT
from ivr.flow.schema import QUESTIONS, Bundle, FetchNode, RecordNode, TransferNode
from ivr.flow.state import HISTORY_LIMIT, PATH_LIMIT, State, Taken
from tests.unit.flow.random_flows import folders
from tests.unit.flow.random_world import FACTS, MARKS, MOVES, NOW, World

SEQUENCES = int(os.environ.get("HOTLINE_FUZZ", "320"))
EACH = 8
"""Sequences for each folder of flows."""

LATE = 2
"""Things that still happen once it is over."""

ROUND = 500
"""Folders that hypothesis remembers at a time: it keeps every example of a test."""

Named = Fetch | Enqueue | Invite | Transfer | Record

_AT = {"fetch": FetchNode, "transfer": TransferNode, "record": RecordNode}
_ASKED_FOR = {
    "fetch": Fetch,
    "transfer": Transfer,
    "record": Record,
    "invite": Invite,
    "queue": Enqueue,
    "person": Enqueue,
}


def as_json(value: Any) -> Any:
    """A frozen dataclass as JSON takes it."""
    if is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    raise TypeError(f"{value!r} is no JSON")


def text(value: Any) -> str:
    return json.dumps(value, default=as_json, ensure_ascii=False)


@dataclass
class Played:
    """One conversation with a random world; every step is held against the invariants."""

    bundle: Bundle
    world: World
    state: State = field(init=False)
    named: dict[str, Named] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)
    minutes: int = 0

    def begin(self, started: Started) -> None:
        state, effects = engine.start(self.bundle, started, NOW, FACTS)
        assert (state, effects) == engine.start(self.bundle, started, NOW, FACTS)
        self._check(None, started, state, effects)

    def step(self, event: Event) -> None:
        self.minutes += 1
        now = NOW + timedelta(minutes=self.minutes)
        before = self.state
        state, effects = engine.advance(self.bundle, before, event, now, FACTS)
        copy = State.from_json(json.loads(json.dumps(before.to_json())))
        assert copy == before
        again = engine.advance(self.bundle, copy, event, now, FACTS)
        assert again == (state, effects)
        event_from_json(json.loads(json.dumps(to_json(event))))
        self._check(before, event, state, effects)

    def _check(
        self, before: State | None, event: Event, state: State, effects: tuple[Effect, ...]
    ) -> None:
        self.state = state
        told = [text(effect) for effect in effects]
        kept = json.dumps(state.to_json())
        assert State.from_json(json.loads(kept)) == state
        self._one_question(before, state, effects)
        if before is not None and before.status == "ended":
            shown_out = (End(before.outcome),) if isinstance(event, Resumed) else ()
            assert (state, effects) == (before, shown_out)
            return
        self._end(state, effects)
        self._ids(before, effects)
        self._secrets(state, effects, told)
        self._bounds(state)
        self._waits(state)
        self._one_speaks(before, state, effects)

    def _one_speaks(self, before: State | None, state: State, effects: tuple[Effect, ...]) -> None:
        if state.status == "person":
            assert not any(isinstance(effect, Say | Expect | Named) for effect in effects)
        taken = before.taken if before is not None else None
        if state.taken is not None and before is not None and taken is None:
            assert state.taken == Taken(before.waiting, before.question)
        if taken is not None and state.taken is None and state.status != "ended":
            asks = taken.waiting.kind in ("answer", "invite", "redial")
            assert not asks or (state.waiting, state.question) == (taken.waiting, taken.question)

    def _one_question(
        self, before: State | None, state: State, effects: tuple[Effect, ...]
    ) -> None:
        assert state.turn >= (before.turn if before else 0)
        asked = [at for at, effect in enumerate(effects) if isinstance(effect, Expect)]
        assert len(asked) <= 1
        for at in asked:
            question = effects[at]
            assert isinstance(question, Expect)
            assert (question.turn, question.node) == (state.turn, state.node)
            assert before is None or question.turn > before.turn
            assert not any(isinstance(effect, Say | Expect) for effect in effects[at + 1 :])
            self.world.expected = question

    def _end(self, state: State, effects: tuple[Effect, ...]) -> None:
        ends = [effect for effect in effects if isinstance(effect, End)]
        if state.status != "ended":
            assert not ends
            return
        assert ends in ([End(state.outcome)], []) and (ends or state.outcome == "hung_up")
        assert not ends or not any(
            not isinstance(effect, Note | End) for effect in effects[effects.index(ends[0]) :]
        )
        assert not any(isinstance(effect, Expect | Named) for effect in effects)
        assert not any(frame.secrets for frame in state.frames)

    def _ids(self, before: State | None, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            if isinstance(effect, Named):
                first = self.named.get(effect.id)
                assert effect.id not in self.given_up
                if first is not None:
                    assert type(first) is type(effect)
                    place = before.place.id if before and before.place else ""
                    taken = before.taken.waiting.id if before and before.taken else ""
                    assert before is not None and effect.id in (before.waiting.id, place, taken)
                    if isinstance(effect, Fetch | Transfer | Record):
                        assert effect == first
                self.named[effect.id] = effect
                if effect.id not in self.world.given:
                    self.world.given.append(effect.id)
            elif isinstance(effect, Dequeue):
                assert isinstance(self.named.get(effect.id), Enqueue)
                self.given_up.add(effect.id)
            elif isinstance(effect, SetTimer):
                assert isinstance(self.named.get(effect.id.removesuffix("-offer")), Enqueue)

    def _secrets(self, state: State, effects: tuple[Effect, ...], told: list[str]) -> None:
        for effect, shown in zip(effects, told, strict=True):
            if isinstance(effect, Fetch):
                shown = text(replace(effect, headers={}, json=None))
            assert not any(mark in shown for mark in MARKS), shown
        public = state.to_json()
        del public["secrets"], public["version"]
        shown = text(public).replace(state.version, "")  # a hash may look like anything
        assert not any(mark in shown for mark in MARKS), shown

    def _bounds(self, state: State) -> None:
        assert 0 < len(state.frames) <= DEPTH_LIMIT and len(state.path) <= PATH_LIMIT
        languages: set[str] = set()
        for frame in state.frames:
            flow = self.bundle.flows[frame.flow]
            assert frame.node in flow.nodes and len(frame.history) <= HISTORY_LIMIT
            assert all(name in flow.nodes for name in frame.history)
            for values in (frame.slots, frame.secrets, frame.values):
                assert all(len(json.dumps(value)) <= VALUE_LIMIT for value in values.values())
        languages.update(*(flow.languages for flow in self.bundle.flows.values()))
        assert state.language in languages

    def _waits(self, state: State) -> None:
        kind, place = state.waiting.kind, state.place
        if state.status == "ended":
            assert not kind and place is None
            return
        assert state.channel in state.channels
        assert (state.status == "person") == (kind == "person")
        assert (state.status == "queued") == (place is not None and kind != "person")
        node = self.bundle.flows[state.flow].nodes[state.node]
        if kind in ("answer", "invite", "redial"):
            expected = self.world.expected
            assert expected is not None
            assert (expected.turn, expected.node) == (state.turn, state.node)
        if kind == "answer":
            assert isinstance(node, QUESTIONS)
        elif kind != "redial" and state.taken is None:
            assert isinstance(self.named[state.waiting.id], _ASKED_FOR[kind])
        assert isinstance(node, _AT.get(kind, object))
        if place is not None:
            assert isinstance(self.named[place.id], Enqueue) and place.id not in self.given_up
            waits_there = kind == "queue" or (kind == "person" and state.taken is None)
            assert not waits_there or state.waiting.id == place.id
        event = self.world.way_on(state)
        after, effects = engine.advance(self.bundle, state, event, NOW, FACTS)
        assert effects
        assert (after.turn, after.waiting, after.question) != (
            state.turn,
            state.waiting,
            state.question,
        )


def hang_up(played: Played) -> None:
    """The customer leaves every channel."""
    for _ in played.state.channels:
        played.step(HungUp())
    assert played.state.status == "ended"


def play(bundle: Bundle, started: Started, moves: list[int]) -> None:
    """A conversation, and another where the caller goes on if it dropped."""
    dropped = json.loads(json.dumps(converse(bundle, started, moves).to_json()))["left_at"]
    if dropped is not None:
        again = replace(started, dropped=dropped)
        event_from_json(json.loads(json.dumps(to_json(again))))
        shown = text(again).replace(bundle.version, "")
        assert not any(mark in shown for mark in MARKS), shown
        converse(bundle, again, moves[::-1])


def converse(bundle: Bundle, started: Started, moves: list[int]) -> State:
    world = World(bundle)
    played = Played(bundle, world)
    played.begin(started)
    late = 0
    for move in moves:
        late += played.state.status == "ended"
        if late <= LATE:
            played.step(world.event(move, played.state))
    if played.state.status != "ended":
        hang_up(played)
    played.step(Resumed(started.channel))
    return played.state


STARTS = st.builds(
    Started,
    st.sampled_from(["voice", "sms", "chat"]),
    st.sampled_from(["+14155550123", "", "{text}"]),
    st.just("100"),
    st.sampled_from(["", "en", "zh", "zh-CN", "xx"]),
)


@settings(
    max_examples=min(ROUND, -(-SEQUENCES // EACH)),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(folders(), st.lists(st.tuples(STARTS, MOVES), min_size=EACH, max_size=EACH))
def fuzz(texts: dict[str, str], callers: list[tuple[Started, list[int]]]) -> None:
    bundle = loader.load(texts, "main")
    for started, moves in callers:
        play(bundle, started, moves)


@pytest.mark.timeout(120 if SEQUENCES <= 1_000 else 0)
def test_no_sequence_of_events_breaks_an_invariant() -> None:
    for _ in range(0, SEQUENCES, EACH * ROUND):
        fuzz()


@settings(max_examples=min(ROUND, -(-SEQUENCES // EACH)), deadline=None)
@given(folders(), folders(), STARTS, MOVES)
def test_a_conversation_survives_another_version_of_its_flow(
    texts: dict[str, str], others: dict[str, str], started: Started, moves: list[int]
) -> None:
    old, new = loader.load(texts, "main"), loader.load(others, "main")
    world = World(old)
    played = Played(old, world)
    played.begin(started)
    for move in moves:
        event = world.event(move, played.state)
        state, _ = engine.advance(new, played.state, event, NOW, FACTS)
        for _ in range(3):
            assert State.from_json(json.loads(json.dumps(state.to_json()))) == state
            state, _ = engine.advance(new, state, TimedOut(), NOW, FACTS)
        played.step(event)
