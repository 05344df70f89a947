"""The desk: customers in line, agents at work, and what brings them together.

    enqueue ─→ in line ─→ offered ─→ pop on the screen ─→ phone rings ─→ talking ─→ wrap-up
                  ↑                        │ not answered: the agent is away, the place is kept
                  └────────────────────────┘

The line, the offers and who is free are in the store, where every server sees them and one at a
time chooses (`cti.line.Router`); each takes up the offers for the agents whose screens it has. News
between servers goes over the bus, and what was missed is found in the store a second later. Reports
to the runner leave in order for each conversation, and never while the runner waits for us.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import structlog

from cti import protocol, screenpop, threads
from cti.agents import AgentEvent, Presence
from cti.callwork import CallWork
from cti.cards import Cards
from cti.crm import Crm
from cti.customers import Customers
from cti.floor import Floor, Seat
from cti.journal import Journal
from cti.line import Line, Router
from cti.popcard import AgentCard, Capacity
from cti.protocol import Hello, QueueNow, QueueState
from cti.screenpop import ConversationView
from cti.screens import Screen
from cti.textwork import TextWork
from cti.work import Work, Workplace
from cti.works import Stage
from ivr import observe
from ivr.config import QueueSettings
from ivr.errors import HotlineError, NotAllowed
from ivr.flow.events import (
    AgentJoined,
    AgentLeft,
    Enqueue,
    Event,
    event_from_json,
    to_json,
)
from ivr.model import Agent, AtWork, Conversation, Kind, Ticket
from ivr.ports import Bus, CallFacts, Clock, EventSink, PhoneSystem, TextNews, Threads
from ivr.store.repo import Store

log = structlog.get_logger()

TICK_SECONDS = 1.0
REFRESH_SECONDS = 0.1
"""However much happens, places in line are not counted more often."""
RETRY_SECONDS = 2.0
"""How long nobody is offered a customer after the telephone system or the store has failed."""

DESKS = "desks"
"""The topic of what concerns every server's desk; `server_topic` is for one alone."""


def server_topic(server: str) -> str:
    """The bus topic of what is for one server."""
    return f"server.{server}"


class Desk:
    """`ivr.ports.Desk`, and what the agents' screens ask of it.

    `view` tells what may be shown of a conversation's flow; `calls` gives the telephones of a
    server, and `texts` takes what agents write. Start with `start`, then keep `run` running;
    `close` ends every call's supervision.
    """

    def __init__(
        self,
        store: Store,
        calls: Callable[[str], PhoneSystem],
        report: EventSink,
        view: Callable[[Conversation], ConversationView],
        clock: Clock,
        settings: QueueSettings,
        bus: Bus,
        region: str = "US",
        server: str = "",
        texts: Threads | None = None,
        is_closed: Callable[[], bool] = lambda: False,
        crm: Crm | None = None,
    ):
        self.store = store
        self.texts = texts
        self.clock = clock
        self.settings = settings
        self.server = server or secrets.token_hex(8)
        self.floor = Floor(store, clock, self.server)
        self.journal = Journal(store, clock)
        self.line = Line(store, self.journal, clock, settings, self.server, self.tell, is_closed)
        self.bus = bus
        self.customers = Customers(store, view, clock)
        self._report = report
        self._router = Router(store, clock, settings.levels, self._offered)
        self.place = Workplace(
            store=store,
            calls=calls,
            floor=self.floor,
            cards=Cards(store, view, region, crm, self._renew),
            journal=self.journal,
            clock=clock,
            settings=settings,
            tell=self.tell,
            changed=self.wake,
        )
        self._works: dict[str, list[Work]] = {}
        self._asked_again: set[str] = set()
        self._stale: set[str] = set()
        self._queue_shown: tuple[int, object] = (0, None)
        self._wake = asyncio.Event()
        self._line_changed = False
        self.passing: set[Work] = set()  # whose agents are just letting go of their customers
        self._tasks: set[asyncio.Task[Any]] = set()
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._unsubscribe = [
            bus.subscribe(DESKS, self._heard),
            bus.subscribe(server_topic(self.server), self._heard),
        ]

    async def start(self) -> None:
        """Take up the last run's agents; the customers come back by themselves (`enqueue`), and
        what was offered waits again when its lease is over."""
        texts: list[Ticket] = []
        if not self.store.shared:
            # Nobody else can have taken these up, and who could was us.
            texts = await self.store.texts_in_hand()
            await self.store.forget_offers()
        await self.floor.start()
        await self._texts_again(texts)

    async def _texts_again(self, texts: list[Ticket]) -> None:
        """Whom an agent was writing with is theirs again, at their next place: nobody hung up."""
        until = self.clock.now() + timedelta(seconds=self.settings.reserve_seconds)
        for ticket in texts:
            first, _, number = ticket.id.partition("~")
            again = replace(
                ticket,
                id=f"{first}~{int(number or 0) + 1}",
                agent="",
                offered_at=None,
                status="waiting",
                stage="",
                server=self.server,
                reserved=ticket.agent,
                reserved_until=until,
            )
            await self.store.put_ticket(again)

    async def run(self) -> None:
        """Let time pass, until cancelled."""
        loop = asyncio.get_running_loop()
        due = refresh_at = loop.time()
        while True:
            now = loop.time()
            if now >= due:
                due = now + TICK_SECONDS
                await self._guarded(self.tick())
            elif self._wake.is_set():
                await self._guarded(self.route())
            elif self._line_changed and now >= refresh_at:
                refresh_at = now + REFRESH_SECONDS
                await self._guarded(self._refresh())
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(
                        min(due, refresh_at if self._line_changed else due)
                    ):
                        await self._wake.wait()

    async def close(self) -> None:
        """Stop supervising: screens are dropped, ringing phones stop."""
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.floor.close()
        await self.journal.settled()

    # --- the machine's side ----------------------------------------------------------------------

    async def enqueue(self, conversation_id: str, wanted: Enqueue) -> None:
        """Put a conversation in line. The same id again is the same place in line."""
        if any(work.ticket.id == wanted.id for work in self._working(conversation_id)):
            self._asked_again.add(conversation_id)
            return
        if await self.line.enter(conversation_id, wanted):
            self._see_line()

    async def withdraw(self, conversation_id: str) -> None:
        """Take it out of line, or tell its agent that the customer is gone. Idempotent."""
        self._customer_left(conversation_id)
        self.bus.publish(
            DESKS, {"kind": "left", "conversation": conversation_id, "from": self.server}
        )
        await self.line.leave(conversation_id, "left")
        self._see_line()

    async def observe(self, conversation_id: str) -> None:
        """Something changed in a conversation: its agent's card is made anew within a second."""
        body = {"kind": "grew", "conversation": conversation_id, "from": self.server}
        self._grew(conversation_id)
        self.bus.publish(DESKS, body)

    async def wrote(self, conversation_id: str, news: TextNews) -> None:
        """Something happened in a thread: whoever has it on a screen sees it now, and so do the
        customer's connections at other servers."""
        self._wrote(conversation_id, news)
        told = {"kind": "wrote", "conversation": conversation_id, "news": threads.to_json(news)}
        self.bus.publish(DESKS, {**told, "from": self.server})

    async def facts(self, conversation_id: str) -> CallFacts:
        """What to put into the call record. Ask after `withdraw`, when the customer is gone."""
        taken = [work for work in self._working(conversation_id) if work.taken]
        if not taken:
            return await self.journal.facts(conversation_id)
        work = taken[-1]
        return work.facts(await self.journal.facts(conversation_id, work.ticket.id))

    # --- the agents' side ------------------------------------------------------------------------

    async def open(self, login: str, session: str = "", stream: str = "", after: int = 0) -> Screen:
        """Take in a page. Raises NotAllowed for an agent who is unknown or disabled, or who is
        none: who serves has a telephone, or at least chats."""
        agent = await self.store.agent(login)
        if agent is None or agent.disabled:
            raise NotAllowed("this agent is unknown or disabled; ask your supervisor")
        if "agent" not in agent.roles or not (agent.extension or agent.capacity.chats):
            raise NotAllowed("this login serves no customers; designers work at /designer")
        screen = self.floor.open(agent, session)
        try:
            self.floor.greet(screen, self._hello(agent), stream, after)
            await self.floor.keep(self.floor.seat(login))
            self._staff_changed()
        except BaseException:
            self.floor.close_screen(screen)
            raise
        return screen

    def leave(self, screen: Screen) -> None:
        """The page's connection is over. Idempotent."""
        self.floor.close_screen(screen)
        self.spawn(self.floor.keep(self.floor.seat(screen.login)))

    async def sign_out(self, login: str, session: str) -> None:
        """Close the pages which that login opened; with none left the agent is offline."""
        if self.floor.sign_out(login, session):
            await self.floor.keep(self.floor.seat(login))
            self._staff_changed()

    async def change(self, seat: Seat, event: AgentEvent, reason: str = "") -> None:
        """Let something happen to an agent, and see who can be served now."""
        self.floor.apply(seat, event, screenpop.clean(reason, 80))
        await self.floor.keep(seat)
        self._staff_changed()

    async def line_changed(self) -> None:
        """Somebody waits again: here and at the customer's server it is seen at once."""
        self._see_line()
        self.bus.publish(DESKS, {"kind": "line", "from": self.server})

    def _staff_changed(self) -> None:
        self.line.staff_changed()
        self._see_line()

    def _see_line(self) -> None:
        """Look soon who can be served, and what that makes of everybody's place."""
        self._line_changed = True
        self.wake()

    def wake(self) -> None:
        """Somebody may be free, or wait: look soon."""
        self._wake.set()

    # --- works -----------------------------------------------------------------------------------

    def works(self, conversation_id: str) -> list[Work]:
        """A conversation's works at this server, those in wrap-up too, oldest first."""
        return list(self._works.get(conversation_id, ()))

    def _working(self, conversation_id: str) -> list[Work]:
        over = (Stage.WRAP_UP, Stage.OVER)
        return [work for work in self.works(conversation_id) if work.stage not in over]

    def take_up(self, ticket: Ticket, seat: Seat) -> Work:
        """Follow an offer up, or begin what needs none."""
        kind = CallWork if ticket.kind is Kind.CALL else TextWork
        return self.begin(kind(self.place, ticket, seat))

    def begin(self, work: Work) -> Work:
        """Have a new work in the agent's hands, until it is over."""
        before = work.seat.works.get(work.conversation_id)
        work.seat.works[work.conversation_id] = work
        self._works.setdefault(work.conversation_id, []).append(work)
        self.spawn(self._serve(work, before))
        return work

    async def _serve(self, work: Work, before: Work | None) -> None:
        if before is not None:  # written up still, when the same customer comes again
            await self.wrap_up(before)
        try:
            outcome = await work.run()
        except Exception:
            log.exception("work failed", conversation=work.conversation_id)
            await work.abandon()
            outcome = "failed"
        conversation_id = work.conversation_id
        observe.OFFERS.labels(work.ticket.kind.value, outcome).inc()
        if outcome == "failed":
            self._router.hold(RETRY_SECONDS)
        if outcome == "gone" and not work.customer_gone and isinstance(work, CallWork):
            await self._found_gone(work)
        if not work.taken or work.stage is Stage.OVER:
            self._forget(work)
        self._asked_again.discard(conversation_id)
        self._see_line()

    async def _found_gone(self, work: CallWork) -> None:
        """A call that could not be found, of a customer of whom nobody has said that they are gone:
        they are, unless they have come back on another leg meanwhile and asked for their place."""
        if work.conversation_id in self._asked_again:
            await self.store.return_ticket(work.ticket)
            return
        await self.line.leave(work.conversation_id, "gone")

    def _forget(self, work: Work) -> None:
        works = self._works.get(work.conversation_id, [])
        if work in works:
            works.remove(work)
        if not works:
            self._works.pop(work.conversation_id, None)

    async def wrap_up(self, work: Work) -> None:
        """The agent is done with it."""
        await work.wrap_up()
        self._forget(work)

    async def release(self, seat: Seat) -> None:
        """Take away from an agent who is thrown out what others can go on with."""
        for work in list(seat.works.values()):
            if not work.taken:
                work.stop("declined")
            elif work.stage is Stage.WRAP_UP:
                await self.wrap_up(work)

    # --- time ------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Do what is due: end wrap-ups, miss lost screens, take up offers whose news was lost, end
        waits that are too long, and tell screens and customers what has changed."""
        for seat in self.floor.tick():
            await self.floor.keep(seat)
        for works in list(self._works.values()):
            for work in list(works):
                if work.wrap_up_over:
                    await self.wrap_up(work)
        stale, self._stale = self._stale, set()
        for conversation_id in stale:
            for work in self.works(conversation_id):
                if work.shown is not None:
                    self.spawn(work.renew_card())
        await self.floor.stay_alive()
        now = self.clock.now()
        await self.store.return_expired(now)
        await self.store.let_go(now)
        await self.store.withdraw_ended()
        await self._catch_up()
        await self._refresh()
        shown = (self.line.waiting, self.line.oldest)
        if shown != self._queue_shown:
            self._queue_shown = shown
            for seat in self.floor.seats():
                seat.send(self._queue_now())

    async def _catch_up(self) -> None:
        """Find in the store what other servers may have told in vain."""
        offered = [
            work
            for works in self._works.values()
            for work in works
            if work.ticket.status == "offered" and not work.taken and work.stage is not Stage.OVER
        ]
        offers = await self.store.offers(self.server)
        for ticket in offers:
            self._take_offer(ticket)
        stand = {(one.conversation_id, one.id, one.offered_at) for one in offers}
        for work in offered:
            ticket = work.ticket
            stands = (ticket.conversation_id, ticket.id, ticket.offered_at) in stand
            if not stands and not work.taken:
                work.stop("withdrawn")
        elsewhere = {
            work.conversation_id
            for works in self._works.values()
            for work in works
            if work.connected and work.ticket.server != self.server and not work.customer_gone
        }
        for conversation_id in await self.store.ended_among(sorted(elsewhere)):
            self._customer_left(conversation_id)
        await self.line.catch_up()

    async def _refresh(self) -> None:
        self._line_changed = False
        await self.line.refresh()
        self.wake()

    async def route(self) -> None:
        """Bring together whom can be."""
        self._wake.clear()
        try:
            await self._router.route()
        except HotlineError:
            self._router.hold(RETRY_SECONDS)
            raise

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:  # time must go on for everybody else
            log.exception("desk did not do its round")

    def _offered(self, ticket: Ticket, seat: AtWork) -> None:
        if seat.presence.server == self.server:
            self._take_offer(ticket)
        else:
            body = {"kind": "offer", "conversation": ticket.conversation_id}
            self.bus.publish(server_topic(seat.presence.server), body)

    def _take_offer(self, ticket: Ticket) -> None:
        # Those that are just over too: their ticket is still about to be put back, or withdrawn.
        known = (work.ticket for work in self.works(ticket.conversation_id))
        if any((one.id, one.offered_at) == (ticket.id, ticket.offered_at) for one in known):
            return
        seat = self.floor.find(ticket.agent)
        if seat is None or not seat.screens or seat.presence is not Presence.AVAILABLE:
            self.spawn(self.store.return_ticket(ticket))
            return
        self.take_up(ticket, seat)

    # --- what the other servers say --------------------------------------------------------------

    def _heard(self, body: Mapping[str, Any]) -> None:
        if body.get("from") == self.server:
            return
        conversation_id = str(body.get("conversation", ""))
        match body.get("kind"):
            case "offer":
                self.spawn(self._look_for_offers())
            case "line":
                self._see_line()
            case "left":
                self._customer_left(conversation_id)
            case "grew":
                self._grew(conversation_id)
            case "wrote":
                news = threads.from_json(body["news"])
                self._wrote(conversation_id, news)
                if self.texts is not None:
                    self.texts.show(conversation_id, news)
            case "told":
                event = event_from_json(body["event"])
                self._tell_here(conversation_id, event)
            case _:
                pass

    async def _look_for_offers(self) -> None:
        for ticket in await self.store.offers(self.server):
            self._take_offer(ticket)

    def _customer_left(self, conversation_id: str) -> None:
        for work in self._working(conversation_id):
            work.customer_gone = True
            if not work.taken:
                work.stop("gone")
            elif isinstance(work, TextWork):
                work.end("talked")

    def renew(self, conversation_id: str) -> None:
        """Show everybody now what an agent has said of a conversation's customer."""
        self._renew(conversation_id)
        self.bus.publish(
            DESKS, {"kind": "grew", "conversation": conversation_id, "from": self.server}
        )

    def _renew(self, conversation_id: str) -> None:
        for work in self.works(conversation_id):
            if work.shown is not None:
                self.spawn(work.renew_card())

    def _grew(self, conversation_id: str) -> None:
        if conversation_id in self._works:
            self._stale.add(conversation_id)

    def _wrote(self, conversation_id: str, news: TextNews) -> None:
        told = threads.for_agents(conversation_id, news)
        if told is not None:
            for work in self._working(conversation_id):
                work.seat.send(told)

    # --- the runner, tasks -----------------------------------------------------------------------

    def tell(self, ticket: Ticket, event: Event) -> None:
        """Report to the runner of the server that has the customer, by the flow's own name of
        their place."""
        if ticket.handover:  # the flow knows the first place alone, at which a person took over
            event = replace(cast(Any, event), id=ticket.place)
        if ticket.server in ("", self.server):
            self._tell_here(ticket.conversation_id, event)
            return
        body = {"kind": "told", "conversation": ticket.conversation_id, "event": to_json(event)}
        self.bus.publish(server_topic(ticket.server), body)

    def _tell_here(self, conversation_id: str, event: Event) -> None:
        """Report to our runner, after whatever was reported of this conversation before."""
        if isinstance(event, AgentJoined):
            self.line.served(conversation_id)
        elif isinstance(event, AgentLeft):
            self.line.given_back(conversation_id)
        before = self._telling.get(conversation_id)

        async def tell() -> None:
            if before is not None:
                await asyncio.wait([before])
            await self._report(conversation_id, event)

        task = self.spawn(tell())
        self._telling[conversation_id] = task

        def told(done: asyncio.Task[None]) -> None:
            if self._telling.get(conversation_id) is done:
                del self._telling[conversation_id]

        task.add_done_callback(told)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Do something beside; what goes wrong is logged."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("desk task failed", error=repr(error))

    # --- what screens are told -------------------------------------------------------------------

    def _hello(self, agent: Agent) -> Hello:
        seat = self.floor.seat(agent.login)
        now = seat.now()
        cards = (work.shown for work in seat.works.values())
        return Hello(
            agent=_card(agent),
            presence=protocol.PresenceState(state=now.state, reason=now.reason, since=now.since),
            queue=self._queue_state(),
            now=self.clock.now(),
            cards=tuple(card for card in cards if card is not None),
            reasons=self.settings.reasons,
            replies=tuple(
                protocol.CannedReply(name=name, text=text)
                for name, text in self.settings.replies.items()
            ),
        )

    def _queue_state(self) -> QueueState:
        oldest = self.line.oldest
        longest = (self.clock.now() - oldest).total_seconds() if oldest else 0.0
        return QueueState(waiting=self.line.waiting, longest=round(max(0.0, longest), 1))

    def _queue_now(self) -> QueueNow:
        state = self._queue_state()
        return QueueNow(waiting=state.waiting, longest=state.longest)


def _card(agent: Agent) -> AgentCard:
    capacity = agent.capacity
    return AgentCard(
        login=agent.login,
        name=agent.name,
        extension=agent.extension,
        roles=tuple(sorted(agent.roles)),
        skills=dict(sorted(agent.skills.items())),
        languages=tuple(sorted(agent.languages)),
        capacity=Capacity(
            calls=capacity.calls, chats=capacity.chats, chats_on_call=capacity.chats_on_call
        ),
    )
