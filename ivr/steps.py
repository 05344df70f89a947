"""One step of a conversation: an event advances the flow, that is committed, then acted upon.

What is committed is the engine's state, the timeline and, where it is read, the thread; effects
follow the commit, and carry ids, so that what is asked for again after a crash is not done twice.
"""

from __future__ import annotations

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import structlog

from ivr.errors import Conflict, HotlineError
from ivr.flow import engine, printing
from ivr.flow.events import (
    ChannelFailed,
    Dequeue,
    Effect,
    Enqueue,
    Event,
    Expect,
    Fetch,
    FetchAnswered,
    Invite,
    QueueFailed,
    SetTimer,
    TimedOut,
    TimerFired,
)
from ivr.flow.facts import Facts
from ivr.flow.schema import Bundle
from ivr.flow.state import State
from ivr.model import (
    Channel,
    Conversation,
    ConversationStatus,
    Leg,
    Text,
    TimelineEntry,
)
from ivr.ports import Clock, Desk, Fetcher, LegPort, TextLeg, TextNews, Wrote
from ivr.sealing import Sealer
from ivr.store.repo import Store
from ivr.timeline import SAYING, decided, happened

log = structlog.get_logger(__name__)

_PATIENCE = "#patience"
"""The timer of a question on a text channel, where no adapter keeps it."""

_HIDDEN = "••••"
"""What a thread shows of an answer to a question for a secret."""

_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_INTERRUPTED = "interrupted: it may have been carried out"


@dataclass
class Live:
    """A conversation that is going on in this process. `leg` is one that it had, for the database
    that may have missed its beginning."""

    conversation: Conversation
    bundle: Bundle
    state: State
    leg: Leg
    legs: dict[str, LegPort] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    fetching: set[str] = field(default_factory=set)
    unsaved: list[TimelineEntry] = field(default_factory=list)
    unsent: list[Text] = field(default_factory=list)
    secret_turns: set[int] = field(default_factory=set)

    @property
    def texting(self) -> bool:
        """Whether what the flow says is kept as a thread, to be read."""
        ports = (port.leg.peer.channel for port in self.legs.values())
        return any(channel is not Channel.VOICE for channel in (self.leg.peer.channel, *ports))


class Steps(ABC):
    """What a runner does with an event, one at a time for each conversation."""

    def __init__(self, store: Store, fetcher: Fetcher, sealer: Sealer, clock: Clock, facts: Facts):
        self._store = store
        self._fetcher = fetcher
        self._sealer = sealer
        self._clock = clock
        self._facts = facts
        self._live: dict[str, Live] = {}

    def attach(self, desk: Desk) -> None:
        """Connect the human side. Runner and desk tell each other things: one comes second."""
        self._desk = desk

    @abstractmethod
    async def report(self, conversation_id: str, event: Event) -> None:
        """Something happened in a conversation."""

    def show(self, conversation_id: str, news: TextNews) -> None:
        """Bring news of a thread to the customer's text legs here."""
        live = self._live.get(conversation_id)
        for port in tuple(live.legs.values()) if live is not None else ():
            if isinstance(port, TextLeg):
                port.show(news)

    async def _step(self, live: Live, event: Event, text: Text | None = None) -> Sequence[Text]:
        """One event, from the flow to its effects; returns what came into the thread by it."""
        waiting = live.state.taken.waiting if live.state.taken else live.state.waiting
        asked = waiting.id if waiting.kind == "fetch" else ""
        effects, texts = await self._advance(live, event, text)
        await self._carry_out(live, effects, asked, texts)
        return texts

    async def _advance(
        self, live: Live, event: Event, text: Text | None = None
    ) -> tuple[Sequence[Effect], Sequence[Text]]:
        """The next state, committed with what led to it. A customer's `text` is committed with it
        or else nothing happens; what else cannot be written goes with the next step."""
        now = self._clock.now()
        before = [*live.unsaved, self._event_entry(live, event, now)]
        hidden = live.state.question.secret or (text and text.turn in live.secret_turns)
        written = [replace(text, text=_HIDDEN if hidden else text.text)] if text else []
        for left in (2, 1, 0):
            state, effects = engine.advance(live.bundle, live.state, event, now, self._facts)
            conversation = replace(
                live.conversation,
                status=ConversationStatus(state.status),
                language=state.language,
                state=self._sealer.seal(state.to_json()),
                ended_at=now if state.status == ConversationStatus.ENDED else None,
                outcome=state.outcome,
            )
            entries = [*before, *self._effect_entries(conversation.id, effects)]
            texts = [*live.unsent, *written, *self._texts(live, effects, now)]
            try:
                live.conversation, texts = await self._save(live, conversation, entries, texts)
                live.unsaved, live.unsent = [], []
            except HotlineError as error:
                if isinstance(error, Conflict) and left:
                    continue  # from what another server has written, which has been read
                if text is not None:
                    raise
                # Rather an unwritten timeline than a dropped call: it goes with the next step.
                log.error("step not stored", conversation=conversation.id, error=str(error))
                live.conversation = replace(conversation, revision=live.conversation.revision)
                live.unsaved, live.unsent, texts = entries[-500:], texts[-500:], []
            break
        live.state = state
        return effects, texts

    async def _save(
        self,
        live: Live,
        conversation: Conversation,
        entries: Sequence[TimelineEntry],
        texts: Sequence[Text],
    ) -> tuple[Conversation, list[Text]]:
        """Write a step. Raises Conflict when another server was faster, whose state is read."""
        try:
            if not texts:
                return await self._store.save(conversation, entries), []
            return await self._store.save_with_texts(conversation, entries, texts)
        except Conflict:
            fresh = await self._store.conversation(conversation.id)
            if fresh is not None:
                live.conversation = fresh
                live.state = State.from_json(self._sealer.open(fresh.state))
                raise
        # The database was away when it began.
        fresh = await self._store.start_conversation(conversation, live.leg, entries, texts)
        return fresh, [replace(text, number=n) for n, text in enumerate(texts, 1)]

    async def _carry_out(
        self,
        live: Live,
        effects: Sequence[Effect],
        asked: str = "",
        texts: Sequence[Text] = (),
    ) -> None:
        """Act on what was committed. Legs first: they are what the customer notices. `asked` is the
        fetch that was being waited for before."""
        for effect in effects:
            if isinstance(effect, Expect) and effect.secret:
                live.secret_turns.add(effect.turn)
            if isinstance(effect, Expect) and live.state.channel != Channel.VOICE and effect.wait:
                self._be_patient(live, effect.turn, effect.wait)
        for text in texts:
            self.show(live.conversation.id, Wrote(text))
            await self._desk.wrote(live.conversation.id, Wrote(text))
        for port in list(live.legs.values()):
            await port.perform(effects)
        for effect in effects:
            match effect:
                case Fetch() if effect.id in live.fetching:
                    pass  # its answer is on the way
                case Fetch() if effect.id == asked and effect.method not in _REPEATABLE:
                    unknown = FetchAnswered(effect.id, error=_INTERRUPTED)
                    self._spawn(live, self.report, live.conversation.id, unknown)
                case Fetch():
                    live.fetching.add(effect.id)
                    self._spawn(live, self._fetch, live, effect)
                case Enqueue():
                    self._spawn(live, self._enqueue, live, effect)
                case Dequeue():
                    self._spawn(live, self._desk.withdraw, live.conversation.id)
                case SetTimer():
                    self._set_timer(live, effect)
                case Invite():
                    # No channel is connected yet that a customer could move to.
                    failed = ChannelFailed(effect.id, effect.channel, "not connected")
                    self._spawn(live, self.report, live.conversation.id, failed)
                case _:
                    pass

    async def _fetch(self, live: Live, request: Fetch) -> None:
        try:
            answer = await self._fetcher.fetch(request)
            if answer.error:
                log.warning(
                    "fetch failed", system=request.system, path=request.path, error=answer.error
                )
            await self.report(live.conversation.id, answer)
        finally:
            live.fetching.discard(request.id)

    async def _enqueue(self, live: Live, wanted: Enqueue) -> None:
        conversation_id = live.conversation.id
        try:
            for port in tuple(live.legs.values()):
                # One that could not be written when it came: a person is to be put through to it.
                await self._store.add_leg(port.leg)
            await self._desk.enqueue(conversation_id, wanted)
        except HotlineError as error:
            log.error("not queued", conversation=conversation_id, error=str(error))
            await self.report(conversation_id, QueueFailed(wanted.id, "nobody"))

    # --- time -------------------------------------------------------------------------------------

    def _set_timer(self, live: Live, effect: SetTimer) -> None:
        self._stop_timer(live, effect.id)
        if effect.seconds > 0:
            fired, conversation_id = TimerFired(effect.id), live.conversation.id
            self._start_timer(live, effect.id, effect.seconds, self.report, conversation_id, fired)

    def _be_patient(self, live: Live, turn: int, seconds: float) -> None:
        late = TimedOut(turn)
        self._start_timer(live, _PATIENCE, seconds, self.report, live.conversation.id, late)

    def _start_timer(
        self,
        live: Live,
        name: str,
        seconds: float,
        work: Callable[..., Awaitable[None]],
        *args: Any,
    ) -> None:
        """Do it so much later, unless the conversation ends first or the timer is set again."""
        self._stop_timer(live, name)
        live.timers[name] = asyncio.get_running_loop().call_later(
            seconds, self._spawn, live, work, *args
        )

    def _stop_timer(self, live: Live, name: str) -> None:
        pending = live.timers.pop(name, None)
        if pending is not None:
            pending.cancel()

    def _spawn(self, live: Live, work: Callable[..., Awaitable[None]], *args: Any) -> None:
        task = asyncio.ensure_future(logged(work, *args))
        live.tasks.add(task)
        task.add_done_callback(live.tasks.discard)

    def _forget(self, live: Live) -> None:
        self._live.pop(live.conversation.id, None)
        for timer in live.timers.values():
            timer.cancel()
        for task in live.tasks:
            if task is not asyncio.current_task():
                task.cancel()

    # --- thread and timeline ---------------------------------------------------------------------

    def _texts(self, live: Live, effects: Sequence[Effect], now: datetime) -> list[Text]:
        """What the flow says in one step, as the one text that it is where it is read."""
        said, asked = printing.said(effects), printing.asked(effects)
        choices = asked.choices if asked else ()
        if not live.texting or not (said or choices):
            return []
        return [
            Text(
                conversation_id=live.conversation.id,
                id=secrets.token_hex(8),
                who="flow",
                text=said,
                at=now,
                status="sent",
                choices=tuple((choice.key, choice.label) for choice in choices),
                turn=asked.turn if asked else None,
            )
        ]

    def _entry(self, conversation_id: str, kind: str, body: Mapping[str, Any]) -> TimelineEntry:
        return TimelineEntry(conversation_id, self._clock.now(), kind, body)

    def _event_entry(self, live: Live, event: Event, now: datetime) -> TimelineEntry:
        secret = live.state.question.secret or (
            isinstance(event, SAYING) and event.turn in live.secret_turns
        )
        kind, body = happened(event, secret=secret)
        return TimelineEntry(live.conversation.id, now, kind, body)

    def _effect_entries(
        self, conversation_id: str, effects: Sequence[Effect]
    ) -> list[TimelineEntry]:
        return [self._entry(conversation_id, kind, body) for kind, body in decided(effects)]


async def logged(work: Callable[..., Awaitable[None]], *args: Any) -> None:
    try:
        await work(*args)
    except HotlineError as error:
        log.error("conversation task failed", task=work.__name__, error=str(error))
    except Exception:  # a bug in one task must not keep the next from being done
        log.exception("conversation task failed", task=work.__name__)
