"""Runs conversations: takes an event, advances the flow, commits, and only then acts.

Here legs come and go, and conversations are taken up again: after a crash (`resume`) what is waited
for is asked for once more without doing it twice; a text conversation (`rejoin`) goes on where its
thread stands. What one event does is in `ivr.steps`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from ivr.errors import CallGone, Conflict, HotlineError, StoreError
from ivr.flow import engine
from ivr.flow.asking import TEXT_WAIT
from ivr.flow.events import (
    Event,
    HungUp,
    Resumed,
    Started,
    TextReceived,
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
    Text,
)
from ivr.ports import CallFacts, Clock, Fetcher, LegPort, TextLeg, TextNews
from ivr.sealing import Sealer
from ivr.steps import Live, Steps, logged
from ivr.store.repo import Store
from ivr.timeline import happened

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

_SILENCE = "#silence"
SILENCE_SECONDS = 24 * 3600.0
"""After so long without a text of the customer's their conversation with the flow ends."""


class Runner(Steps):
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
        silence_seconds: float = SILENCE_SECONDS,
    ):
        """Whoever rings again within `redial_seconds` of a call that dropped may go on with it; who
        writes nothing for `silence_seconds` has left."""
        super().__init__(store, fetcher, sealer, clock, facts)
        self._redial = timedelta(seconds=redial_seconds)
        self._silence = silence_seconds
        self._library = library

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
        live = Live(conversation, bundle, state, leg, {leg.id: port})
        texts = self._texts(live, effects, now)
        self._live[conversation.id] = live
        async with live.lock:
            try:
                live.conversation = await self._store.start_conversation(
                    conversation, leg, entries, texts
                )
            except StoreError as error:
                if live.texting:  # they can wait and try again, and nothing is lost in between
                    self._forget(live)
                    raise
                # The caller is on the line: serve them, and say so where an operator looks.
                log.error("conversation not stored", conversation=conversation.id, error=str(error))
                live.unsaved = entries
            numbered = [replace(text, number=n) for n, text in enumerate(texts, 1)]
            await self._carry_out(live, effects, texts=numbered)
        if live.texting:
            self._await_customer(live)

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
        await logged(self._write_return, leg)
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
            await logged(self.report, leg.conversation_id, hung_up)
            await logged(self._desk.withdraw, leg.conversation_id)
            await logged(self._end_call, leg, self._clock.now(), cause)
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
        await logged(self._store.end_leg, leg.id, self._clock.now(), "fault")

    def _drop(self, live: Live, leg: Leg) -> None:
        """Act for a leg no longer; with none left, wait for its customer."""
        live.legs.pop(leg.id, None)
        if not live.legs:
            self._stop_timer(live, _AWAY)
            self._start_timer(live, _AWAY, COMES_BACK_WITHIN, self._give_up, live)

    async def _give_up(self, live: Live) -> None:
        if live.legs:
            return
        with contextlib.suppress(StoreError):
            stored = await self._store.conversation(live.conversation.id)
            if stored is not None and stored.revision > live.conversation.revision:
                self._forget(live)  # its customer came back to another server
                return
        await logged(self.report, live.conversation.id, HungUp(cause="lost"))
        await logged(self._desk.withdraw, live.conversation.id)
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
            threads = [each for each in legs if not each.ended_at and _is_text(each)]
            if threads:  # it has not ended: nobody has to be there for it
                await self._take_up(threads[-1])
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
        live = self._live.get(conversation_id) or await self._text_in_hand(conversation_id)
        if live is None:
            return
        async with live.lock:
            try:
                await self._step(live, event)
            except CallGone:
                return
        if live.state.status == ConversationStatus.ENDED and not live.legs:
            self._forget(live)
            if live.texting:
                await self._end_threads(live)
        await self._desk.observe(conversation_id)

    async def measured(self, conversation_id: str, turn: Mapping[str, Any]) -> None:
        """Write down how a turn went on the line, beside what happened and was decided in it."""
        entry = self._entry(conversation_id, "turn", turn)
        await logged(self._store.append, [entry])

    # --- texts -----------------------------------------------------------------------------------

    async def rejoin(self, port: TextLeg) -> bool:
        """Act for a text leg again, whose customer need not be there; False if their conversation
        is over. Nothing is asked twice: what was asked stands in the thread."""
        leg = port.leg
        live = self._live.get(leg.conversation_id) or await self._take_up(leg)
        if live is None or live.state.status == ConversationStatus.ENDED:
            return False
        live.legs[leg.id] = port
        self._stop_timer(live, _AWAY)
        return True

    async def _take_up(self, leg: Leg) -> Live | None:
        """Take a text conversation into our hands that nobody acts for, as after a restart."""
        live = await self._revive(leg)
        if live is None:
            return None
        last = await self._store.last_texts(leg.conversation_id, 1)
        passed = (self._clock.now() - last[-1].at).total_seconds() if last else 0.0
        self._await_customer(live)
        self._be_patient(live, live.state.turn, max(60.0, TEXT_WAIT - passed))
        if live.state.waiting.kind in ("fetch", "queue"):
            # What was asked for is known to whoever we asked, and is not asked for twice.
            self._spawn(live, self.report, leg.conversation_id, Resumed(leg.peer.channel.value))
        return live

    async def _text_in_hand(self, conversation_id: str) -> Live | None:
        """A text conversation that goes on, but not here yet."""
        legs = await self._store.text_legs(conversation_id)
        return await self._take_up(legs[-1]) if legs else None

    async def received(self, text: Text) -> Text:
        """A customer's text has come: it is committed together with what the flow makes of it, and
        comes back numbered; the same id again is the text that came first.

        Raises CallGone when the conversation is over, and StoreError when it cannot be kept: then
        nothing has happened.
        """
        conversation_id = text.conversation_id
        live = self._live.get(conversation_id) or await self._text_in_hand(conversation_id)
        if live is None:
            raise CallGone("this conversation is over")
        async with live.lock:
            known = await self._store.text(text)
            if known is not None:
                return known
            if live.state.status == ConversationStatus.ENDED:
                raise CallGone("this conversation is over")
            event = TextReceived(text.text, text.turn)
            try:
                texts = await self._step(live, event, text)
            except Conflict:
                known = await self._store.text(text)  # another server took the same in
                if known is None:
                    raise
                return known
        self._await_customer(live)
        await self._desk.observe(conversation_id)
        return next(each for each in texts if each.who == text.who)

    async def tell_desk(self, conversation_id: str, news: TextNews) -> None:
        """Bring news of a thread to the agents, and to other servers."""
        await self._desk.wrote(conversation_id, news)

    def _await_customer(self, live: Live) -> None:
        self._start_timer(live, _SILENCE, self._silence, self._fell_silent, live)

    async def _fell_silent(self, live: Live) -> None:
        """The customer has written nothing for long. Whom a person has, or who waits for one, is
        theirs to end; and they may have written over another server."""
        last = await self._store.last_texts(live.conversation.id, 1)
        since = self._clock.now() - timedelta(seconds=self._silence)
        if live.state.waiting.kind in ("person", "queue") or (last and last[-1].at > since):
            self._await_customer(live)
            return
        for port in tuple(live.legs.values()):
            if isinstance(port, TextLeg):
                await port.close("silence")
        if not live.legs:
            await self.report(live.conversation.id, HungUp(live.leg.peer.channel.value, "silence"))

    async def _end_threads(self, live: Live) -> None:
        for leg in await self._store.text_legs(live.conversation.id):
            await self._store.end_leg(leg.id, self._clock.now(), live.state.outcome)

    # --- taking up again -------------------------------------------------------------------------

    async def _revive(self, leg: Leg) -> Live | None:
        conversation = await self._store.conversation(leg.conversation_id)
        if conversation is None or conversation.status is ConversationStatus.ENDED:
            return None
        bundle = await self._library.version(conversation.version, conversation.flow)
        state = State.from_json(self._sealer.open(conversation.state))
        live = Live(conversation, bundle, state, leg)
        # Another coroutine may have been faster while the database was asked.
        live = self._live.setdefault(leg.conversation_id, live)
        await logged(self._store.touch, [leg.conversation_id], self._clock.now())
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


def _is_text(leg: Leg) -> bool:
    return leg.peer.channel is not Channel.VOICE


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
