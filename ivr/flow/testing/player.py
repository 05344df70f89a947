"""A customer and a flow on a virtual clock: what the tests and the simulator are played on.

The player does to the engine what a channel does to it, and nothing else does: keys go through
`ivr.flow.keypad` with type-ahead, speech is heard only where a question listens for it, silence
lasts as long as the question waits. It does no I/O; who plays answers the fetches (`fetch`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ivr.errors import HotlineError
from ivr.flow import engine, keypad, printing
from ivr.flow.events import (
    AgentJoined,
    AgentLeft,
    ChannelFailed,
    ChannelLive,
    DigitsPressed,
    Effect,
    Enqueue,
    Event,
    Expect,
    Fetch,
    FetchAnswered,
    HungUp,
    Invite,
    Note,
    QueueFailed,
    QueueMoved,
    Record,
    Recorded,
    Say,
    SetTimer,
    SpeechHeard,
    Started,
    TextReceived,
    TimedOut,
    TimerFired,
    Transfer,
    TransferEnded,
)
from ivr.flow.facts import NOTHING, Facts
from ivr.flow.schema import Bundle
from ivr.flow.state import State, Waiting
from ivr.model import Channel, ConversationStatus

MORNING = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
"""When a conversation takes place that does not say: a Monday."""

LONGEST_QUEUE = 1800.0
"""Seconds after which the queue gives up, as the settings have it by default."""

SURE = 0.95
"""How well is understood what is said clearly."""

A_PERSON = 60.0
"""Seconds that the queue reckons for each person ahead."""

_KEYS_KEPT = 64
_LETTERS_A_SECOND = 15


class CannotHappen(HotlineError):
    """The customer, or the world, cannot do that at this point of the conversation."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A text that went to the customer over a channel that is read."""

    channel: str
    text: str


@dataclass(frozen=True, slots=True)
class _Own:
    """What happens by itself while the flow waits for `kind`."""

    kinds: tuple[str, ...]
    at: datetime
    event: Event


class Player:
    """One conversation under way. Read-only to others, but for its methods.

    `said` is what the customer heard or read since they last did something, a text for each prompt
    (voice) or message (elsewhere), and `heard` all of it since the beginning. `notes` are what the
    engine decided, those of the last step from `began` on. `remark` is what a designer may wonder
    about the last step: speech that nobody listened to.
    """

    def __init__(
        self,
        bundle: Bundle,
        started: Started,
        *,
        now: datetime = MORNING,
        facts: Facts = NOTHING,
    ):
        self.bundle = bundle
        self.facts = facts
        self.now = now
        self.expect: Expect | None = None
        self.fetch: Fetch | None = None
        self.said: list[str] = []
        self.heard: list[str] = []
        self.notes: list[Note] = []
        self.began = 0
        self.remark = ""
        self.sent: list[Sent] = []
        self.queued: Enqueue | None = None
        self.recorded: str | None = None
        self._keys = ""
        self._timers: dict[str, datetime] = {}
        self._own: _Own | None = None
        self._steps: list[tuple[State | None, Event, datetime]] = []
        self._note_step(None, started)
        self.state, effects = engine.start(bundle, started, now, facts)
        self._carry_out(effects)

    # --- how it stands --------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        return self.state.status == ConversationStatus.ENDED

    @property
    def voice(self) -> bool:
        """Whether the customer is asked by telephone now."""
        return self.state.channel == Channel.VOICE

    @property
    def invited(self) -> str:
        """The channel on which the customer is awaited, "" for none."""
        waiting = self.state.waiting
        return waiting.channel if waiting.kind == "invite" else ""

    def slots(self) -> dict[str, Any]:
        """All slots of the flows under way, secret ones too; the running flow's win."""
        found: dict[str, Any] = {}
        for frame in self.state.frames:
            found |= {**frame.slots, **frame.secrets}
        return found

    def said_elsewhere(self) -> list[str]:
        """What `said` would have been on the other sort of channel: printed, if it was spoken.

        A test for several channels writes an amount in one way, and means it in both.
        """
        other = Channel.SMS.value if self.voice else Channel.VOICE.value
        texts = []
        for state, event, now in self._steps:
            if state is None:
                assert isinstance(event, Started)
                _, effects = engine.start(
                    self.bundle, replace(event, channel=other), now, self.facts
                )
            else:
                moved = replace(state, channel=other, channels=(other,))
                _, effects = engine.advance(self.bundle, moved, event, now, self.facts)
            texts += _texts(effects, other == Channel.VOICE)
        return texts

    # --- what the customer does -----------------------------------------------------------------

    def press(self, keys: str) -> None:
        """Press keys, and pause; typed where there is no keypad."""
        self._act()
        if not self.voice:
            self._answer(TextReceived(keys, self._turn))
            return
        if self.state.waiting.kind == "record":
            self._answer(Recorded(self.state.waiting.id, ""))
            return
        self._keys = (self._keys + keys)[:_KEYS_KEPT]
        self._read_keys()
        expect = self._keys_wanted()
        if expect is not None and self._keys:
            self.now += timedelta(seconds=keypad.GAP)
            read = keypad.flush(expect.keypad, self._keys)
            self._keys = read.rest
            self._answer(DigitsPressed(read.digits, expect.turn))
            self._read_keys()

    def say(self, text: str, confidence: float = SURE) -> None:
        """Say something, understood as `text`; typed where nobody listens but reads."""
        self._act()
        if not self.voice:
            self._answer(TextReceived(text, self._turn))
        elif self.state.waiting.kind == "record":
            seconds = round(len(text) / _LETTERS_A_SECOND, 1)
            self._answer(Recorded(self.state.waiting.id, text, seconds))
        elif self.expect is not None and "speech" not in self.expect.listen:
            self.remark = f"{text!r} was not heard: {self.expect.node} listens for keys alone"
            self._wait_once()
        else:
            self._answer(SpeechHeard(text, confidence, (), self._turn))

    def type(self, text: str, *, still: bool = False) -> None:
        """Type something; pressed or said on a call. `still`: what was said before is not over."""
        if self.voice:
            (self.press if set(text) <= keypad.KEYS else self.say)(text)
            return
        self._act(still)
        self._answer(TextReceived(text, self._turn))

    def silence(self, *, still: bool = False) -> None:
        """Do nothing until something happens by itself; `still` goes on with an earlier silence."""
        self._act(still)
        self._wait_once()

    def hang_up(self, channel: str = "") -> None:
        """Leave a channel, or else the one that is asked on."""
        if self.ended:
            return
        self._act()
        event = HungUp(channel or self.state.channel)
        (self._answer if event.channel == self.state.channel else self._advance)(event)

    def arrive(self) -> None:
        """Read the invitation, and turn up on its channel."""
        if not self.invited:
            raise CannotHappen("the customer has not been invited to another channel")
        self._act()
        self.said = [sent.text for sent in self.sent if sent.channel == self.invited][-1:]
        waiting = self.state.waiting
        self._answer(ChannelLive(waiting.id, waiting.channel, self.state.address))

    # --- what the world does --------------------------------------------------------------------

    def happen(self, kind: str, value: Any = True) -> None:
        """Let something happen that `HAPPENINGS` knows: an agent, the queue, another telephone."""
        awaited, make = HAPPENINGS[kind]
        waiting = self.state.waiting
        if waiting.kind != awaited:
            now = waiting.kind or "nothing"
            raise CannotHappen(f"the flow waits for {now} at {self.state.node}, not for {awaited}")
        self._begin_step()
        self._advance(make(waiting, value))

    def answer_fetch(self, status: int = 0, json: Any = None, error: str = "") -> None:
        """Answer the fetch that is pending."""
        if self.fetch is None:
            raise CannotHappen("the flow is not waiting for another system")
        self._advance(FetchAnswered(self.fetch.id, status, json, error))

    def wait(self, seconds: float) -> None:
        """Let time pass, with all that happens by itself in it."""
        self._begin_step()
        end = self.now + timedelta(seconds=seconds)
        while (due := self._next()) is not None and due[0] <= end:
            self._fire(*due)
            if self.fetch is not None or self.ended:
                break
        self.now = max(self.now, end)

    # --- one step -------------------------------------------------------------------------------

    @property
    def _turn(self) -> int | None:
        return self.expect.turn if self.expect else None

    def _act(self, still: bool = False) -> None:
        """The customer does something: what they hear from now on is new."""
        self._begin_step()
        if not still:
            self.said = []
            self._steps = []

    def _begin_step(self) -> None:
        if self.ended:
            raise CannotHappen(f"the conversation is over ({self.state.outcome})")
        self.began = len(self.notes)
        self.remark = ""

    def _answer(self, event: Event) -> None:
        """Tell the engine what ends the wait; it goes on as it was if that changes nothing."""
        before, expect, own = self.state, self.expect, self._own
        if before.waiting.kind == "record" and isinstance(event, Recorded | TextReceived):
            left = event.reference if isinstance(event, Recorded) else event.text.strip()
            self.recorded = left or self.recorded
        self.expect = self._own = None
        self._advance(event)
        if self.state == before:
            self.expect, self._own = expect, own
        elif self.state.waiting == before.waiting and before.waiting.kind == "queue":
            self._own = self._own or own  # what was said changed nothing

    def _advance(self, event: Event) -> None:
        before = self.state
        self._note_step(before, event)
        self.state, effects = engine.advance(self.bundle, before, event, self.now, self.facts)
        self._carry_out(effects)
        self._read_keys()

    def _note_step(self, state: State | None, event: Event) -> None:
        self._steps.append((state, event, self.now))

    def _carry_out(self, effects: tuple[Effect, ...]) -> None:
        self.fetch = None
        for effect in effects:
            match effect:
                case Note():
                    self.notes.append(effect)
                case Expect():
                    self.expect = effect
                    if effect.wait:
                        silence = TimedOut(effect.turn)
                        self._by_itself(("answer", "invite", "redial"), effect.wait, silence)
                case Fetch():
                    self.fetch = effect
                case Enqueue():
                    self.queued = effect
                    self._by_itself(("queue",), LONGEST_QUEUE, QueueFailed(effect.id, "timeout"))
                case Transfer():
                    ended = TransferEnded(effect.id, "no_answer")
                    self._by_itself(("transfer",), effect.ring, ended)
                case Record():
                    self._by_itself(("record",), effect.maximum, Recorded(effect.id, ""))
                case Invite():
                    self.sent.append(Sent(effect.channel, effect.text))
                case SetTimer():
                    self._timers.pop(effect.id, None)
                    if effect.seconds > 0:
                        self._timers[effect.id] = self.now + timedelta(seconds=effect.seconds)
                case _:
                    pass
        self._print(effects)
        kind = self.state.waiting.kind
        if self._own is not None and kind not in self._own.kinds:
            self._own = None
        if kind not in ("answer", "invite"):
            self.expect = None
        if self.ended:
            self._timers.clear()

    def _print(self, effects: tuple[Effect, ...]) -> None:
        texts = _texts(effects, self.voice)
        if not self.voice:
            self.sent += [Sent(self.state.channel, text) for text in texts]
        self.said += texts
        self.heard += texts

    def _by_itself(self, kinds: tuple[str, ...], seconds: float, event: Event) -> None:
        self._own = _Own(kinds, self.now + timedelta(seconds=seconds), event)

    # --- keys -----------------------------------------------------------------------------------

    def _keys_wanted(self) -> Expect | None:
        expect = self.expect
        return expect if expect is not None and self.voice and "keys" in expect.listen else None

    def _read_keys(self) -> None:
        """Answer as many questions as the keys pressed so far are answers to."""
        while self._keys and (expect := self._keys_wanted()) is not None:
            read = keypad.read(expect.keypad, self._keys)
            if read.status != "complete":
                return
            self._keys = read.rest
            self._answer(DigitsPressed(read.digits, expect.turn))

    # --- time -----------------------------------------------------------------------------------

    def _next(self) -> tuple[datetime, Event] | None:
        """What happens next by itself, and when."""
        due: list[tuple[datetime, Event]] = [
            (at, TimerFired(name)) for name, at in self._timers.items()
        ]
        if self._own is not None:
            due.append((self._own.at, self._own.event))
        return min(due, key=lambda one: one[0]) if due else None

    def _wait_once(self) -> None:
        """Wait until what is waited for is given up, or a timer takes over."""
        own = self._own
        while (due := self._next()) is not None:
            before = self.state
            self._fire(*due)
            if due[1] is (own.event if own else None) or self.state != before:
                return
        raise CannotHappen(_ENDLESS.get(self.state.waiting.kind, "nothing happens by itself here"))

    def _fire(self, at: datetime, event: Event) -> None:
        self.now = max(self.now, at)
        if isinstance(event, TimerFired):
            self._timers.pop(event.id, None)
            self._advance(event)
        else:
            self._answer(event)


HAPPENINGS: Mapping[str, tuple[str, Callable[[Waiting, Any], Event]]] = {
    "joined": ("queue", lambda waiting, agent: AgentJoined(waiting.id, agent)),
    "left": ("person", lambda waiting, _: AgentLeft(waiting.id)),
    "nobody": ("queue", lambda waiting, reason: QueueFailed(waiting.id, reason)),
    "ahead": ("queue", lambda waiting, ahead: QueueMoved(waiting.id, ahead, ahead * A_PERSON)),
    "transfer": ("transfer", lambda waiting, outcome: TransferEnded(waiting.id, outcome)),
    "undelivered": (
        "invite",
        lambda waiting, _: ChannelFailed(waiting.id, waiting.channel, "undelivered"),
    ),
}
"""What other people and systems do: what the flow must be waiting for, and the event of it."""

_ENDLESS: Mapping[str, str] = {
    "person": "the customer talks with a person, who has to leave first",
    "fetch": "the flow waits for another system's answer",
}


def _texts(effects: tuple[Effect, ...], voice: bool) -> list[str]:
    """What reaches the customer: each prompt of a call, or one message."""
    if voice:
        return [effect.text for effect in effects if isinstance(effect, Say)]
    text = printing.message(effects)
    return [text] if text else []
