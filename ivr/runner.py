"""Runs conversations: takes an event, advances the flow, commits, and only then acts.

One conversation is advanced by one event at a time. What is committed is the engine's state and the
timeline together; effects follow the commit, and carry ids, so that a conversation that is taken up
again after a crash (`resume`) asks again for what it was waiting for without doing it twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from ivr.errors import CallGone, Conflict, HotlineError, StoreError
from ivr.flow import engine
from ivr.flow.events import (
    ChannelFailed,
    Dequeue,
    Effect,
    Enqueue,
    Event,
    Expect,
    Fetch,
    FetchAnswered,
    HungUp,
    Invite,
    QueueFailed,
    Resumed,
    SetTimer,
    Started,
    TimerFired,
)
from ivr.flow.facts import NOTHING, Facts
from ivr.flow.schema import Bundle
from ivr.flow.standing import where
from ivr.flow.state import State
from ivr.library import Library
from ivr.model import (
    Address,
    CallRecord,
    Channel,
    Conversation,
    ConversationStatus,
    Leg,
    TimelineEntry,
)
from ivr.ports import CallFacts, Clock, Desk, Fetcher, LegPort
from ivr.sealing import Sealer
from ivr.store.repo import Store
from ivr.timeline import SAYING, decided, happened

log = structlog.get_logger(__name__)

COMES_BACK_WITHIN = 120.0
"""Seconds in which a caller whose call was lost to a fault is expected back; the dialplan gives up
before that."""

TOUCH_SECONDS = 30.0
STALE_SECONDS = COMES_BACK_WITHIN + 2 * TOUCH_SECONDS
"""A conversation that nobody has touched for so long is nobody's any more."""

_NUMBER = re.compile(r"\+?[0-9]{2,15}")

_AWAY = "#away"
"""The timer of the above; no flow can name a timer so."""

_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_INTERRUPTED = "interrupted: it may have been carried out"


@dataclass
class _Live:
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
    secret_turns: set[int] = field(default_factory=set)


class Runner:
    """All conversations of this process. `report` is the `EventSink` of every adapter."""

    def __init__(
        self,
        store: Store,
        library: Library,
        fetcher: Fetcher,
        sealer: Sealer,
        clock: Clock,
        facts: Facts = NOTHING,
        redial_seconds: float = 0.0,
    ):
        """Whoever rings again within `redial_seconds` of a call that dropped may go on with it."""
        self._redial = timedelta(seconds=redial_seconds)
        self._store = store
        self._library = library
        self._fetcher = fetcher
        self._sealer = sealer
        self._clock = clock
        self._facts = facts
        self._live: dict[str, _Live] = {}

    def attach(self, desk: Desk) -> None:
        """Connect the human side. Runner and desk tell each other things: one comes second."""
        self._desk = desk

    # --- legs come and go ------------------------------------------------------------------------

    async def begin(self, port: LegPort, started: Started) -> None:
        """A customer has arrived: start the flow on their leg."""
        bundle = self._library.answers(port.leg.peer.value)
        started = await self._with_known_language(port, started)
        started = await self._with_dropped_call(port, started, bundle)
        now = self._clock.now()
        state, effects = engine.start(bundle, started, now, self._facts)
        leg = port.leg
        conversation = Conversation(
            id=leg.conversation_id,
            flow=bundle.entry,
            version=bundle.version,
            status=ConversationStatus(state.status),
            started_at=now,
            language=state.language,
            state=self._sealer.seal(state.to_json()),
        )
        entries = [self._entry(leg.conversation_id, *happened(started))]
        entries += self._effect_entries(leg.conversation_id, effects)
        live = _Live(conversation, bundle, state, leg, {leg.id: port})
        self._live[conversation.id] = live
        async with live.lock:
            try:
                live.conversation = await self._store.start_conversation(conversation, leg, entries)
            except StoreError as error:
                # The caller is on the line: serve them, and say so where an operator looks.
                log.error("conversation not stored", conversation=conversation.id, error=str(error))
                live.unsaved = entries
            await self._carry_out(live, effects)

    async def resume(self, port: LegPort) -> bool:
        """A customer is back after a fault of ours; False if their conversation is over or lost."""
        leg = port.leg
        live = self._live.get(leg.conversation_id)
        if live is None:
            live = await self._revive(leg)
        if live is None:
            return False
        live.legs[leg.id] = port
        self._stop_timer(live, _AWAY)
        await _logged(self._write_return, leg)
        try:
            await self.report(leg.conversation_id, Resumed(leg.peer.channel.value))
        except Exception:
            self._drop(live, leg)
            raise
        return True

    async def _write_return(self, leg: Leg) -> None:
        await self._store.add_leg(leg)
        for before in await self._same_call(leg):
            # A server that was killed has not ended it.
            await self._store.end_leg(before.id, self._clock.now(), "fault")

    async def left(self, port: LegPort, cause: str) -> None:
        """A customer's leg is gone, whoever ended it. The last one ends the conversation."""
        leg = port.leg
        live = self._live.get(leg.conversation_id)
        if live is None or leg.id not in live.legs:
            return
        hung_up = HungUp(leg.peer.channel.value, cause)
        try:
            await _logged(self.report, leg.conversation_id, hung_up)
            await _logged(self._desk.withdraw, leg.conversation_id)
            await _logged(self._end_call, leg, self._clock.now(), cause)
        finally:
            live.legs.pop(leg.id, None)
            if not live.legs:
                self._forget(live)

    async def lost(self, port: LegPort) -> None:
        """A leg was lost to a fault of ours. Its customer is held by the dialplan and comes back
        (`resume`); if not, the conversation ends after a while."""
        leg = port.leg
        live = self._live.get(leg.conversation_id)
        if live is None or leg.id not in live.legs:
            return
        self._drop(live, leg)
        await _logged(self._store.end_leg, leg.id, self._clock.now(), "fault")

    def _drop(self, live: _Live, leg: Leg) -> None:
        """Act for a leg no longer; with none left, wait for its customer."""
        live.legs.pop(leg.id, None)
        if not live.legs:
            self._stop_timer(live, _AWAY)
            live.timers[_AWAY] = asyncio.get_running_loop().call_later(
                COMES_BACK_WITHIN, self._spawn, live, self._give_up, live
            )

    async def _give_up(self, live: _Live) -> None:
        if live.legs:
            return
        with contextlib.suppress(StoreError):
            stored = await self._store.conversation(live.conversation.id)
            if stored is not None and stored.revision > live.conversation.revision:
                self._forget(live)  # its customer came back to another server
                return
        await _logged(self.report, live.conversation.id, HungUp(cause="lost"))
        await _logged(self._desk.withdraw, live.conversation.id)
        self._forget(live)
        await self._end_calls(await self._store.legs(live.conversation.id))

    async def close(self) -> None:
        """Stop acting, as before a restart: conversations stay open for whoever takes them up."""
        for live in list(self._live.values()):
            self._forget(live)

    async def touch(self) -> None:
        """Tell the servers that share our database which conversations are in our hands. Call it
        every `TOUCH_SECONDS`."""
        if self._live:
            await self._store.touch(self._live, self._clock.now())

    async def sweep(self, going_on: Callable[[Leg], bool] = lambda leg: False) -> int:
        """End what a crash left open: conversations that no server has in its hands, and whose
        customer has not come back in time. Returns how many.

        A customer whose leg is still `going_on` may come back: a talk with an agent outlives us.
        """
        ended = 0
        before = self._clock.now() - timedelta(seconds=STALE_SECONDS)
        for conversation in await self._store.stale_conversations(before):
            if conversation.id in self._live:
                continue
            legs = await self._store.legs(conversation.id)
            if any(going_on(leg) for leg in legs):
                continue
            lost = replace(
                conversation,
                status=ConversationStatus.ENDED,
                ended_at=self._clock.now(),
                outcome="lost",
            )
            try:
                await self._store.save(
                    lost, [self._entry(conversation.id, "ended", {"outcome": "lost"})]
                )
            except Conflict:
                continue  # its customer is back, or another server sweeps too
            await self._store.withdraw_tickets(conversation.id)
            await self._end_calls(legs)
            ended += 1
        return ended

    async def _end_call(self, leg: Leg, now: datetime, cause: str) -> None:
        """Write a leg's end, and the record of its call, which began with the leg before a fault
        if there was one."""
        await self._store.end_leg(leg.id, now, cause)
        if leg.peer.channel is Channel.VOICE:
            before = await self._same_call(leg)
            began = min((each.started_at for each in before), default=leg.started_at)
            facts = await self._desk.facts(leg.conversation_id)
            await self._store.write_record(_record(replace(leg, started_at=began), facts, now))

    async def _end_calls(self, legs: Sequence[Leg]) -> None:
        """Write the end of calls that nobody came back to: of each the last leg's."""
        now = self._clock.now()
        for leg in {leg.reference or leg.id: leg for leg in legs}.values():
            await self._end_call(leg, leg.ended_at or now, "lost")

    async def _same_call(self, leg: Leg) -> list[Leg]:
        """The legs that the same call had before it came back to us."""
        return [
            other
            for other in await self._store.legs(leg.conversation_id)
            if other.id != leg.id and leg.reference and other.reference == leg.reference
        ]

    @property
    def live(self) -> int:
        """How many conversations go on in this process."""
        return len(self._live)

    def wants_recording(self, conversation_id: str) -> str:
        """The customer's language if their flow asks for its calls to be recorded, else ""."""
        live = self._live.get(conversation_id)
        wanted = live is not None and live.bundle.flows[live.bundle.entry].record_calls
        return live.state.language if live is not None and wanted else ""

    # --- events ----------------------------------------------------------------------------------

    async def report(self, conversation_id: str, event: Event) -> None:
        """Something happened in a conversation. What comes too late is dropped in silence."""
        live = self._live.get(conversation_id)
        if live is None:
            return
        async with live.lock:
            asked = live.state.waiting.id if live.state.waiting.kind == "fetch" else ""
            try:
                effects = await self._advance(live, event)
                await self._carry_out(live, effects, asked)
            except CallGone:
                return
        if live.state.status == ConversationStatus.ENDED and not live.legs:
            self._forget(live)
        await self._desk.observe(conversation_id)

    async def measured(self, conversation_id: str, turn: Mapping[str, Any]) -> None:
        """Write down how a turn went on the line, beside what happened and was decided in it."""
        entry = self._entry(conversation_id, "turn", turn)
        await _logged(self._store.append, [entry])

    async def _advance(self, live: _Live, event: Event) -> Sequence[Effect]:
        now = self._clock.now()
        before = [*live.unsaved, self._event_entry(live, event, now)]
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
            try:
                live.conversation = await self._save(live, conversation, entries)
                live.unsaved = []
            except HotlineError as error:
                if isinstance(error, Conflict) and left:
                    continue  # from what another server has written, which has been read
                # Rather an unwritten timeline than a dropped call: it goes with the next step.
                log.error("step not stored", conversation=conversation.id, error=str(error))
                live.conversation = replace(conversation, revision=live.conversation.revision)
                live.unsaved = entries[-500:]
            break
        live.state = state
        return effects

    async def _save(
        self, live: _Live, conversation: Conversation, entries: Sequence[TimelineEntry]
    ) -> Conversation:
        """Write a step. Raises Conflict when another server was faster, whose state is read."""
        try:
            return await self._store.save(conversation, entries)
        except Conflict:
            fresh = await self._store.conversation(conversation.id)
            if fresh is not None:
                live.conversation = fresh
                live.state = State.from_json(self._sealer.open(fresh.state))
                raise
        # The database was away when it began.
        return await self._store.start_conversation(conversation, live.leg, entries)

    async def _carry_out(self, live: _Live, effects: Sequence[Effect], asked: str = "") -> None:
        """Act on what was committed. Legs first: they are what the customer notices. `asked` is the
        fetch that was being waited for before."""
        for effect in effects:
            if isinstance(effect, Expect) and effect.secret:
                live.secret_turns.add(effect.turn)
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

    async def _fetch(self, live: _Live, request: Fetch) -> None:
        try:
            answer = await self._fetcher.fetch(request)
            if answer.error:
                log.warning(
                    "fetch failed", system=request.system, path=request.path, error=answer.error
                )
            await self.report(live.conversation.id, answer)
        finally:
            live.fetching.discard(request.id)

    async def _enqueue(self, live: _Live, wanted: Enqueue) -> None:
        conversation_id = live.conversation.id
        try:
            for port in tuple(live.legs.values()):
                # One that could not be written when it came: a person is to be put through to it.
                await self._store.add_leg(port.leg)
            await self._desk.enqueue(conversation_id, wanted)
        except HotlineError as error:
            log.error("not queued", conversation=conversation_id, error=str(error))
            await self.report(conversation_id, QueueFailed(wanted.id, "nobody"))

    def _set_timer(self, live: _Live, effect: SetTimer) -> None:
        self._stop_timer(live, effect.id)
        if effect.seconds > 0:
            live.timers[effect.id] = asyncio.get_running_loop().call_later(
                effect.seconds,
                self._spawn,
                live,
                self.report,
                live.conversation.id,
                TimerFired(effect.id),
            )

    def _stop_timer(self, live: _Live, name: str) -> None:
        pending = live.timers.pop(name, None)
        if pending is not None:
            pending.cancel()

    def _spawn(self, live: _Live, work: Callable[..., Awaitable[None]], *args: Any) -> None:
        task = asyncio.ensure_future(_logged(work, *args))
        live.tasks.add(task)
        task.add_done_callback(live.tasks.discard)

    def _forget(self, live: _Live) -> None:
        self._live.pop(live.conversation.id, None)
        for timer in live.timers.values():
            timer.cancel()
        for task in live.tasks:
            if task is not asyncio.current_task():
                task.cancel()

    # --- taking up again -------------------------------------------------------------------------

    async def _revive(self, leg: Leg) -> _Live | None:
        conversation = await self._store.conversation(leg.conversation_id)
        if conversation is None or conversation.status is ConversationStatus.ENDED:
            return None
        bundle = await self._library.version(conversation.version, conversation.flow)
        state = State.from_json(self._sealer.open(conversation.state))
        live = _Live(conversation, bundle, state, leg)
        # Another coroutine may have been faster while the database was asked.
        live = self._live.setdefault(leg.conversation_id, live)
        await _logged(self._store.touch, [leg.conversation_id], self._clock.now())
        return live

    async def _with_known_language(self, port: LegPort, started: Started) -> Started:
        if started.language or not port.leg.peer.value:
            return started
        try:
            known = await self._store.contacts_by_address(port.leg.peer)
        except StoreError:
            return started
        return replace(started, language=known[0].language) if known else started

    async def _with_dropped_call(self, port: LegPort, started: Started, bundle: Bundle) -> Started:
        """What the caller's last call broke off at, if they ring again soon. It is only looked at:
        what they go on with is a conversation of its own."""
        caller = port.leg.peer
        if not self._redial or not _is_number(caller):
            return started
        dropped = None
        try:
            last = await self._store.last_call(caller, port.leg.dialled)
            if last is not None:
                conversation, leg = last
                since = self._clock.now() - self._redial
                if conversation.version == bundle.version and (leg.ended_at or since) > since:
                    state = State.from_json(self._sealer.open(conversation.state))
                    ended = state.status == ConversationStatus.ENDED
                    dropped = state.left_at if ended else where(bundle, state)
        except (HotlineError, KeyError, TypeError, ValueError) as error:
            # Rather from the beginning than not at all.
            log.warning("dropped call not found", leg=port.leg.id, error=repr(error))
        return replace(started, dropped=dropped or None)

    # --- the timeline ----------------------------------------------------------------------------

    def _entry(self, conversation_id: str, kind: str, body: Mapping[str, Any]) -> TimelineEntry:
        return TimelineEntry(conversation_id, self._clock.now(), kind, body)

    def _event_entry(self, live: _Live, event: Event, now: datetime) -> TimelineEntry:
        secret = live.state.question.secret or (
            isinstance(event, SAYING) and event.turn in live.secret_turns
        )
        kind, body = happened(event, secret=secret)
        return TimelineEntry(live.conversation.id, now, kind, body)

    def _effect_entries(
        self, conversation_id: str, effects: Sequence[Effect]
    ) -> list[TimelineEntry]:
        return [self._entry(conversation_id, kind, body) for kind, body in decided(effects)]


async def _logged(work: Callable[..., Awaitable[None]], *args: Any) -> None:
    try:
        await work(*args)
    except HotlineError as error:
        log.error("conversation task failed", task=work.__name__, error=str(error))
    except Exception:  # a bug in one task must not keep the next from being done
        log.exception("conversation task failed", task=work.__name__)


def _is_number(caller: Address) -> bool:
    """Whether the network told who calls: nobody goes on with what a withheld number began."""
    return caller.channel is Channel.VOICE and bool(_NUMBER.fullmatch(caller.value))


def _record(leg: Leg, facts: CallFacts, now: datetime) -> CallRecord:
    return CallRecord(
        leg_id=leg.id,
        conversation_id=leg.conversation_id,
        caller=leg.peer.value,
        dialled=leg.dialled,
        started_at=leg.started_at,
        ended_at=now,
        agent=facts.agent,
        waited=facts.waited,
        talked=facts.talked,
    )
