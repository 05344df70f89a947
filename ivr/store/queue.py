"""The store's part about the line: who waits for a person, to whom they are offered, and how far
they have come with them.

The database is the truth of it, so that several servers share one line: whichever of them routes
(`route`), one does at a time, and sees all who wait and all agents who are free. What it offers is
leased; an offer that nobody follows up waits again, at its old place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Update, func, or_, select, update

from ivr.errors import Conflict
from ivr.model import AtWork, Kind, Ticket
from ivr.store.database import Database, upsert
from ivr.store.models import agents, conversations, presences, tickets
from ivr.store.rows import agent_of, presence_of

HIGHEST_PRIORITY = 1_000_000
"""Priorities come from designers' expressions; beyond this, either way, they are all the same."""

Choose = Callable[[Sequence[Ticket], Sequence[AtWork]], Sequence[tuple[Ticket, str]]]
"""Given who waits, in order, and the seats: which ticket goes to which login."""

Fits = Callable[[AtWork], bool]

_IN_LINE = tickets.c.status.in_(("waiting", "offered"))
_SERVED = tickets.c.status.in_(("served", "passed"))
_ROUTING = 0x726F757465  # the lock of whoever routes, on PostgreSQL
_IN_HAND = ("offered", "ringing", "active", "held", "wrap_up")


class Queue(Database):
    """Tickets: places in line, and conversations in agents' hands."""

    async def put_ticket(self, ticket: Ticket) -> Ticket:
        """Take a place in line, and say how it stands.

        The same (conversation, id) again is the same place: `enqueued_at` is kept, what is asked
        for (skills, priority, language, pop) becomes the new. A withdrawn ticket waits again at its
        old place; one that is offered or served stays so, since the effect may have been repeated.
        """
        values = {
            "skills": list(ticket.skills),
            "priority": max(-HIGHEST_PRIORITY, min(HIGHEST_PRIORITY, ticket.priority)),
            "language": ticket.language,
            "pop": [list(pair) for pair in ticket.pop],
            "kind": ticket.kind,
            "server": ticket.server,
            "reserved": ticket.reserved,
            "reserved_until": ticket.reserved_until,
            "from_agent": ticket.from_agent,
            "context": ticket.context,
        }

        def work(db: Connection) -> Ticket:
            db.execute(
                upsert(db, tickets)
                .values(
                    conversation_id=ticket.conversation_id,
                    id=ticket.id,
                    enqueued_at=ticket.enqueued_at,
                    status="waiting",
                    agent="",
                    stage="",
                    **values,
                )
                .on_conflict_do_update(index_elements=["conversation_id", "id"], set_=values)
            )
            this = _this(ticket)
            db.execute(_back_in_line().where(this, tickets.c.status == "withdrawn"))
            return _ticket(db.execute(select(tickets).where(this)).one())

        return await self._write(work)

    async def waiting_tickets(self) -> list[Ticket]:
        """Whoever waits, in the order of service: priority, then who came first."""
        return await self._read(_waiting)

    async def tickets_of(self, conversation_id: str) -> list[Ticket]:
        """All tickets that a conversation ever had, oldest first."""
        query = (
            select(tickets)
            .where(tickets.c.conversation_id == conversation_id)
            .order_by(tickets.c.enqueued_at, tickets.c.id)
        )
        return await self._read(lambda db: [_ticket(row) for row in db.execute(query)])

    # --- routing ---------------------------------------------------------------------------------

    async def route(
        self, choose: Choose, now: datetime, lease_until: datetime
    ) -> list[tuple[Ticket, AtWork]]:
        """Offer whom `choose` picks of those who may be free, and say which those are. One server
        at a time routes, so that nobody is offered twice and nobody gets two customers for the room
        of one."""
        if not await self._read(lambda db: db.execute(_ANYBODY).first()):
            return []

        def work(db: Connection) -> list[tuple[Ticket, AtWork]]:
            _alone(db)
            waiting = _waiting(db)
            kinds = {ticket.kind for ticket in waiting}
            there = {seat.agent.login: seat for seat in _seats(db, now, free_for=kinds)}
            offers = []
            for ticket, login in choose(waiting, list(there.values())):
                values: dict[str, Any] = {
                    "status": "offered",
                    "agent": login,
                    "offered_at": now,
                    "lease_until": lease_until,
                    "stage": "offered",
                }
                taken = update(tickets).where(_this(ticket), tickets.c.status == "waiting")
                if db.execute(taken.values(**values)).rowcount:  # not withdrawn meanwhile
                    offers.append((replace(ticket, **values), there[login]))
            return offers

        return await self._write(work)

    async def seats(self, now: datetime) -> list[AtWork]:
        """Everybody at work: logged in at a server that is alive, or with somebody in hand."""
        return await self._read(lambda db: _seats(db, now))

    async def offers(self, server: str) -> list[Ticket]:
        """What is offered to agents whose screens are at this server."""
        query = (
            select(tickets)
            .join(presences, presences.c.login == tickets.c.agent)
            .where(tickets.c.status == "offered", presences.c.server == server)
            .order_by(tickets.c.offered_at, tickets.c.conversation_id)
        )
        return await self._read(lambda db: [_ticket(row) for row in db.execute(query)])

    async def works(self, login: str) -> list[Ticket]:
        """What an agent has in hand, oldest first."""
        query = _in_hand().where(tickets.c.agent == login)
        return await self._read(lambda db: [_ticket(row) for row in db.execute(query)])

    async def texts_in_hand(self) -> list[Ticket]:
        """Text conversations that agents have, oldest first."""
        query = _in_hand().where(
            tickets.c.status == "served", tickets.c.stage != "wrap_up", tickets.c.kind != Kind.CALL
        )
        return await self._read(lambda db: [_ticket(row) for row in db.execute(query)])

    async def lease_ticket(self, ticket: Ticket, until: datetime) -> bool:
        """Follow an offer up: nobody puts it back in line before `until`. False when it is no
        longer offered to this agent."""
        return await self._ticket_becomes(
            update(tickets).where(_this(ticket), _offered(ticket)).values(lease_until=until)
        )

    async def return_ticket(self, ticket: Ticket) -> bool:
        """Offered to this agent → waiting, at the old place; False when it was not. A place that
        was kept for an agent who did not take it is kept no longer."""
        back = _back_in_line().values(reserved="", reserved_until=None)
        return await self._ticket_becomes(back.where(_this(ticket), _offered(ticket)))

    async def turn_away(self, ticket: Ticket) -> bool:
        """Waiting → withdrawn; False when it does not wait any more."""
        return await self._ticket_becomes(
            update(tickets)
            .where(_this(ticket), tickets.c.status == "waiting")
            .values(status="withdrawn", stage="")
        )

    async def serve_ticket(self, ticket: Ticket, stage: str) -> bool:
        """Offered to this agent → served; False when it was not."""
        return await self._ticket_becomes(
            update(tickets)
            .where(_this(ticket), _offered(ticket))
            .values(status="served", stage=stage, lease_until=None)
        )

    async def stage_ticket(self, ticket: Ticket, stage: str) -> None:
        """How far a conversation has come with the agent who has it."""
        await self._run(
            update(tickets)
            .where(_this(ticket), tickets.c.agent == ticket.agent, tickets.c.status != "waiting")
            .values(stage=stage)
        )

    async def keep_ticket_for(self, ticket: Ticket) -> bool:
        """Let those have a waiting ticket for whom it is now `reserved`, or everybody; False when
        it does not wait any more."""
        return await self._ticket_becomes(
            update(tickets)
            .where(_this(ticket), tickets.c.status == "waiting")
            .values(reserved=ticket.reserved, reserved_until=ticket.reserved_until)
        )

    async def in_line(self) -> int:
        """How many wait or are just offered to somebody."""
        query = select(func.count()).select_from(tickets).where(_IN_LINE)
        return await self._read(lambda db: db.scalars(query).one())

    async def withdraw_ended(self) -> int:
        """Take out of line whose conversation is over, however that was missed; how many."""
        over = select(conversations.c.id).where(
            conversations.c.id == tickets.c.conversation_id, conversations.c.ended_at.is_not(None)
        )
        return await self._run(
            update(tickets)
            .where(_IN_LINE, over.exists())
            .values(status="withdrawn", stage="", agent="", offered_at=None, lease_until=None)
        )

    async def ended_among(self, conversation_ids: Sequence[str]) -> set[str]:
        """Which of these conversations are over."""
        if not conversation_ids:
            return set()
        query = select(conversations.c.id).where(
            conversations.c.id.in_(conversation_ids), conversations.c.ended_at.is_not(None)
        )
        return await self._read(lambda db: set(db.scalars(query)))

    async def end_ticket(
        self, ticket: Ticket, stage: str, at: datetime, talked: float, *, passed: bool
    ) -> None:
        """The talk is over, after so many seconds; or the agent has passed the customer on."""
        values = {"stage": stage, "ended_at": at, "talked": talked}
        await self._run(
            update(tickets)
            .where(_this(ticket), tickets.c.agent == ticket.agent, tickets.c.status != "waiting")
            .values(status="passed" if passed else "served", **values)
        )

    async def drop_ticket(self, ticket: Ticket) -> None:
        """Served by this agent in name alone: nothing has come of it."""
        await self._run(
            update(tickets)
            .where(_this(ticket), tickets.c.agent == ticket.agent)
            .values(status="withdrawn", stage="")
        )

    async def talked_since(self, since: datetime, most: int = 1000) -> list[float]:
        """How long the customers of that time kept an agent, in seconds; the latest first."""
        query = (
            select(tickets.c.talked)
            .where(tickets.c.ended_at >= since, tickets.c.talked.is_not(None))
            .order_by(tickets.c.ended_at.desc())
            .limit(most)
        )
        return await self._read(lambda db: list(db.scalars(query)))

    async def take_ticket(
        self, ticket: Ticket, now: datetime | None = None, fits: Fits | None = None
    ) -> Ticket:
        """A ticket that was never in line: an agent takes a conversation over, dials one, or is
        consulted. Nobody routes meanwhile, so that room which `fits` has seen is there. Raises
        Conflict when it does not see any, or there is no such agent at work."""

        def work(db: Connection) -> Ticket:
            if fits is not None:
                assert now is not None
                _alone(db)
                if not any(map(fits, _seats(db, now, login=ticket.agent))):
                    raise Conflict(f"{ticket.agent} cannot be reached now")
            db.execute(
                upsert(db, tickets)
                .values(
                    conversation_id=ticket.conversation_id,
                    id=ticket.id,
                    enqueued_at=ticket.enqueued_at,
                    skills=list(ticket.skills),
                    priority=ticket.priority,
                    language=ticket.language,
                    pop=[list(pair) for pair in ticket.pop],
                    kind=ticket.kind,
                    server=ticket.server,
                    status="served",
                    agent=ticket.agent,
                    offered_at=ticket.enqueued_at,
                    stage=ticket.stage,
                    reserved="",
                    from_agent=ticket.from_agent,
                    context=ticket.context,
                )
                .on_conflict_do_nothing()
            )
            return _ticket(db.execute(select(tickets).where(_this(ticket))).one())

        return await self._write(work)

    async def take_over(self, ticket: Ticket) -> Ticket:
        """An agent takes a text conversation over: the place in line that it has, or else this new
        ticket, is theirs. Returns it as it stands, with another's login where somebody has the
        conversation, or is offered it."""
        conversation_id = ticket.conversation_id

        def work(db: Connection) -> Ticket:
            conversation = select(conversations.c.id).where(conversations.c.id == conversation_id)
            db.execute(conversation.with_for_update())  # one at a time, on PostgreSQL too
            query = select(tickets).where(tickets.c.conversation_id == conversation_id)
            known = [_ticket(row) for row in db.execute(query)]
            for other in known:
                if other.stage in _IN_HAND and other.stage != "wrap_up":
                    return other
            theirs: dict[str, Any] = {
                "status": "served",
                "agent": ticket.agent,
                "offered_at": ticket.offered_at,
                "stage": ticket.stage,
                "lease_until": None,
            }
            for waiting in known:
                if waiting.status == "waiting":
                    db.execute(update(tickets).where(_this(waiting)).values(**theirs))
                    return replace(waiting, **theirs)
            db.execute(
                upsert(db, tickets).values(
                    conversation_id=conversation_id,
                    id=ticket.id,
                    enqueued_at=ticket.enqueued_at,
                    skills=[],
                    priority=ticket.priority,
                    language=ticket.language,
                    pop=[],
                    kind=ticket.kind,
                    server=ticket.server,
                    reserved="",
                    from_agent="",
                    context="",
                    **theirs,
                )
            )
            return ticket

        return await self._write(work)

    async def withdraw_tickets(self, conversation_id: str) -> list[Ticket]:
        """Take a conversation out of line. Returns what was in line as it stood, so that an agent
        to whom it was offered can be told. Idempotent."""
        this = tickets.c.conversation_id == conversation_id

        def work(db: Connection) -> list[Ticket]:
            query = select(tickets).where(this, _IN_LINE).with_for_update()
            stood = [_ticket(row) for row in db.execute(query)]
            db.execute(update(tickets).where(this, _IN_LINE).values(status="withdrawn", stage=""))
            return stood

        return await self._write(work)

    async def return_expired(self, now: datetime) -> int:
        """Put back in line what was offered and not answered before its lease was over, as after a
        crash; the number of tickets."""
        late = or_(tickets.c.lease_until.is_(None), tickets.c.lease_until < now)
        return await self._run(_back_in_line().where(tickets.c.status == "offered", late))

    async def forget_offers(self) -> None:
        """At the start of the only server: nobody has anything offered, or in hand."""

        def work(db: Connection) -> None:
            db.execute(_back_in_line().where(tickets.c.status == "offered"))
            db.execute(
                update(tickets).where(_SERVED, tickets.c.stage.in_(_IN_HAND)).values(stage="over")
            )

        await self._write(work)

    async def let_go(self, now: datetime) -> int:
        """End the works of agents whose server is gone and who have no other; how many. Their
        customers are with the telephone system, or come back by themselves."""
        gone = select(presences.c.login).where(
            or_(presences.c.alive_until.is_(None), presences.c.alive_until < now)
        )
        return await self._run(
            update(tickets)
            .where(
                _SERVED,
                tickets.c.stage.in_(_IN_HAND),
                tickets.c.agent.in_(gone),
            )
            .values(stage="over")
        )

    async def _ticket_becomes(self, change: Update) -> bool:
        return await self._run(change) == 1


def _alone(db: Connection) -> None:
    """Let nobody else route until this transaction is over. SQLite has one writer anyway."""
    if db.dialect.name == "postgresql":
        db.execute(select(func.pg_advisory_xact_lock(_ROUTING)))


_ANYBODY = select(tickets.c.id).where(tickets.c.status == "waiting").limit(1)


def _waiting(db: Connection) -> list[Ticket]:
    query = (
        select(tickets)
        .where(tickets.c.status == "waiting")
        .order_by(
            tickets.c.priority.desc(),
            tickets.c.enqueued_at,
            tickets.c.conversation_id,
            tickets.c.id,
        )
    )
    return [_ticket(row) for row in db.execute(query)]


def _in_hand() -> Select[Any]:
    return (
        select(tickets)
        .where(tickets.c.stage.in_(_IN_HAND))
        .order_by(tickets.c.offered_at, tickets.c.conversation_id, tickets.c.id)
    )


def _seats(
    db: Connection, now: datetime, *, login: str = "", free_for: Collection[Kind] = ()
) -> list[AtWork]:
    """Who is at work; only one of them, or only those who may be free for these kinds. With five
    hundred agents it counts how much of each is read."""
    query = (
        select(agents, *(column for column in presences.c if column.name != "login"))
        .join(presences, presences.c.login == agents.c.login)
        .where(agents.c.disabled.is_(False), presences.c.alive_until >= now)
        .order_by(agents.c.login)
    )
    if login:
        query = query.where(agents.c.login == login)
    if free_for:
        query = query.where(presences.c.state == "available", presences.c.reachable)
    if set(free_for) == {Kind.CALL}:  # whoever has a call is not rung for another
        on_call = select(tickets.c.agent).where(
            tickets.c.stage.in_(_IN_HAND), tickets.c.kind == Kind.CALL
        )
        query = query.where(agents.c.login.not_in(on_call))
    found = db.execute(query).all()
    there = {row.login for row in found}
    works: dict[str, list[Ticket]] = {}
    for row in db.execute(_WORKS) if found else ():
        if row.agent in there:
            works.setdefault(row.agent, []).append(_work(row))
    return [
        AtWork(agent_of(row), presence_of(row), tuple(works.get(row.login, ()))) for row in found
    ]


_WORKS: Select[Any] = (
    select(
        tickets.c.conversation_id,
        tickets.c.id,
        tickets.c.enqueued_at,
        tickets.c.status,
        tickets.c.agent,
        tickets.c.offered_at,
        tickets.c.kind,
        tickets.c.server,
        tickets.c.stage,
    )
    .where(tickets.c.stage.in_(_IN_HAND))
    .order_by(tickets.c.offered_at, tickets.c.conversation_id, tickets.c.id)
)


def _work(row: Row[Any]) -> Ticket:
    """A ticket as far as it tells what somebody has in hand."""
    return Ticket(
        row.id,
        row.conversation_id,
        row.enqueued_at,
        status=row.status,
        agent=row.agent,
        offered_at=row.offered_at,
        kind=Kind(row.kind),
        server=row.server,
        stage=row.stage,
    )


def _this(ticket: Ticket) -> ColumnElement[bool]:
    return (tickets.c.conversation_id == ticket.conversation_id) & (tickets.c.id == ticket.id)


def _offered(ticket: Ticket) -> ColumnElement[bool]:
    """Whether this very offer stands: to this agent, and not one that was made to them later."""
    stands = (tickets.c.status == "offered") & (tickets.c.agent == ticket.agent)
    return (
        stands
        if ticket.offered_at is None
        else stands & (tickets.c.offered_at == ticket.offered_at)
    )


def _back_in_line() -> Update:
    return update(tickets).values(
        status="waiting", agent="", offered_at=None, lease_until=None, stage=""
    )


def _ticket(row: Row[Any]) -> Ticket:
    return Ticket(
        id=row.id,
        conversation_id=row.conversation_id,
        enqueued_at=row.enqueued_at,
        skills=tuple(row.skills),
        priority=row.priority,
        language=row.language,
        pop=tuple((name, value) for name, value in row.pop),
        status=row.status,
        agent=row.agent,
        offered_at=row.offered_at,
        kind=Kind(row.kind),
        server=row.server,
        lease_until=row.lease_until,
        stage=row.stage,
        reserved=row.reserved,
        reserved_until=row.reserved_until,
        from_agent=row.from_agent,
        context=row.context,
    )
