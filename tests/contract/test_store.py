"""What the store promises, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import psycopg
import pytest

from ivr.errors import Conflict, StoreError
from ivr.model import (
    Address,
    Agent,
    AgentPresence,
    AtWork,
    CallRecord,
    Capacity,
    Channel,
    Contact,
    Conversation,
    ConversationStatus,
    Leg,
    Message,
    PastConversation,
    Ticket,
    TimelineEntry,
)
from ivr.store.repo import Store
from tests.contract.postgres import Cluster

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ANN = Address(Channel.VOICE, "+14155550123")
SMS = Address(Channel.SMS, ANN.value)


def later(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def conversation(key: str = "c1", at: datetime = NOON) -> Conversation:
    return Conversation(key, "main", "v1", ConversationStatus.FLOW, at, state={"node": "welcome"})


def leg(key: str = "l1", conversation_id: str = "c1", peer: Address = ANN) -> Leg:
    return Leg(key, conversation_id, peer, NOON, reference=f"ast-{key}", dialled="100")


def entry(kind: str, conversation_id: str = "c1", **body: object) -> TimelineEntry:
    return TimelineEntry(conversation_id, NOON, kind, body)


def ticket(conversation_id: str = "c1", seconds: float = 0, **fields: object) -> Ticket:
    return replace(Ticket("q1", conversation_id, later(seconds)), **fields)


def record(leg_id: str = "l1") -> CallRecord:
    return CallRecord(leg_id, "c1", ANN.value, "100", NOON, later(60), waited=5.5, talked=30.25)


async def started(store: Store, key: str = "c1", peer: Address = ANN) -> Conversation:
    """A conversation with one leg, begun."""
    return await store.start_conversation(conversation(key), leg(f"leg-{key}", key, peer))


# --- conversations --------------------------------------------------------------------------------


async def test_a_conversation_is_found_again_as_it_was_written(store: Store) -> None:
    written = await store.start_conversation(conversation(), leg(), [entry("call_started")])
    assert await store.conversation("c1") == written
    assert await store.legs("c1") == [leg()]
    assert await store.leg("l1") == leg()
    assert await store.conversation("c2") is None
    assert await store.leg("l2") is None


async def test_what_was_saved_is_there_for_who_opens_it_next(store: Store, made: str) -> None:
    kept = await store.start_conversation(conversation(), leg())
    kept = await store.save(replace(kept, state={"slots": {"account": "123"}}), [entry("pressed")])
    other = await Store.open(made)
    assert await other.conversation("c1") == kept
    assert [e.kind for e in await other.timeline("c1")] == ["pressed"]
    await other.close()


async def test_a_conversation_starts_once(store: Store) -> None:
    await started(store)
    with pytest.raises(Conflict):
        await store.start_conversation(conversation(), leg("l2"))
    assert await store.leg("l2") is None


async def test_a_caller_is_the_same_customer_every_time(store: Store) -> None:
    first = await started(store, "c1")
    second = await started(store, "c2")
    texting = await started(store, "c3", SMS)
    other = await started(store, "c4", Address(Channel.CHAT, ANN.value))
    assert first.contact_id is not None
    assert second.contact_id == texting.contact_id == first.contact_id
    assert other.contact_id not in (None, first.contact_id)
    assert await store.contact(first.contact_id) == Contact(first.contact_id, addresses=(ANN, SMS))


async def test_twenty_calls_at_once_from_a_new_number_are_one_customer(store: Store) -> None:
    calls = await asyncio.gather(*(started(store, f"c{n}") for n in range(20)))
    assert len({call.contact_id for call in calls}) == 1
    assert len(await store.contacts_by_address(ANN)) == 1


@pytest.mark.parametrize("withheld", ["", "anonymous", "Anonymous", "unknown", "  "])
async def test_a_withheld_number_is_nobody(store: Store, withheld: str) -> None:
    assert (await started(store, peer=Address(Channel.VOICE, withheld))).contact_id is None


async def test_a_known_customer_is_kept(store: Store) -> None:
    await store.save_contact(Contact("k1", "Ann", "en"))
    known = replace(conversation(), contact_id="k1")
    assert (await store.start_conversation(known, leg())).contact_id == "k1"


async def test_save_counts_revisions_and_refuses_an_old_one(store: Store) -> None:
    read = await started(store)
    written = await store.save(replace(read, state={"node": "main"}, language="zh"))
    assert written.revision == read.revision + 1
    assert await store.conversation("c1") == written
    with pytest.raises(Conflict, match="c1"):
        await store.save(replace(read, state={"node": "people"}))
    assert await store.conversation("c1") == written


async def test_a_refused_save_leaves_nothing_behind(store: Store) -> None:
    read = await started(store)
    await store.save(read, [entry("said")])
    message = Message("m1", "c1", Address(Channel.SMS, ANN.value), "hello", NOON)
    with pytest.raises(Conflict):
        await store.save(read, [entry("heard")], [message])
    assert [e.kind for e in await store.timeline("c1")] == ["said"]
    assert await store.lease_messages(later(1), 60, 10) == []


async def test_of_two_who_save_at_once_one_wins(store: Store) -> None:
    read = await started(store)
    outcomes = await asyncio.gather(
        *(store.save(replace(read, language=f"x{n}"), [entry("said", n=n)]) for n in range(10)),
        return_exceptions=True,
    )
    won = [outcome for outcome in outcomes if isinstance(outcome, Conversation)]
    assert len(won) == 1
    assert all(isinstance(o, Conflict) for o in outcomes if not isinstance(o, Conversation))
    assert await store.conversation("c1") == won[0]
    assert len(await store.timeline("c1")) == 1


async def test_live_conversations_are_those_not_ended(store: Store) -> None:
    ended = await started(store, "c1")
    waits = await started(store, "c2")
    ended = replace(ended, status=ConversationStatus.ENDED, ended_at=later(5), outcome="completed")
    await store.save(ended)
    waits = await store.save(replace(waits, status=ConversationStatus.QUEUED))
    assert await store.live_conversations() == [waits]
    stored = await store.conversation("c1")
    assert stored is not None
    assert (stored.ended_at, stored.outcome) == (later(5), "completed")


async def test_a_conversation_is_stale_when_nobody_has_touched_it_for_long(store: Store) -> None:
    first, second = await started(store, "c1"), await started(store, "c2")
    assert await store.stale_conversations(NOON) == []
    assert await store.stale_conversations(later(1)) == [first, second]
    await store.touch(["c1", "nobody's"], later(30))
    assert await store.stale_conversations(later(30)) == [second]
    second = await store.save(replace(second, status=ConversationStatus.ENDED))
    assert await store.stale_conversations(later(31)) == [first]


async def test_times_keep_their_moment_whatever_the_zone(store: Store) -> None:
    shanghai = datetime(2026, 3, 29, 2, 30, 0, 123456, timezone(timedelta(hours=8)))
    await store.start_conversation(conversation(at=shanghai), leg())
    found = await store.conversation("c1")
    assert found is not None
    assert found.started_at == shanghai
    assert found.started_at.utcoffset() == timedelta(0)


async def test_a_time_without_zone_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="without zone"):
        await store.start_conversation(conversation(at=datetime(2026, 1, 1)), leg())


# --- legs -----------------------------------------------------------------------------------------


async def test_the_legs_of_a_conversation_come_in_order(store: Store) -> None:
    await store.start_conversation(conversation(), leg())
    again = replace(leg("l2"), reference="ast-l1", started_at=later(20))
    await store.add_leg(again)
    await store.add_leg(replace(leg("l3"), reference=""))
    legs = await store.legs("c1")
    assert [known.id for known in legs] == ["l1", "l3", "l2"]
    assert legs[-1] == again


async def test_adding_a_leg_again_changes_nothing(store: Store) -> None:
    await store.start_conversation(conversation(), leg())
    await store.add_leg(replace(leg(), dialled="999"))
    assert await store.legs("c1") == [leg()]


async def test_a_leg_of_no_conversation_is_refused(store: Store) -> None:
    with pytest.raises(StoreError):
        await store.add_leg(leg())


async def test_a_leg_ends_once(store: Store) -> None:
    await store.start_conversation(conversation(), leg())
    await store.end_leg("l1", later(9), "caller")
    await store.end_leg("l1", later(99), "fault")
    await store.end_leg("unknown", later(99), "fault")
    assert await store.leg("l1") == replace(leg(), ended_at=later(9), cause="caller")


# --- the timeline ---------------------------------------------------------------------------------


async def test_the_timeline_is_numbered_without_gaps(store: Store) -> None:
    read = await store.start_conversation(
        conversation(), leg(), [entry("call_started"), entry("said", text="Welcome")]
    )
    read = await store.save(read, [entry("heard", text="账单", confidence=0.9)])
    await store.append([entry("answered"), entry("held")])
    await store.save(read)
    told = await store.timeline("c1")
    assert [(e.sequence, e.kind) for e in told] == [
        (1, "call_started"), (2, "said"), (3, "heard"), (4, "answered"), (5, "held"),
    ]  # fmt: skip
    assert told[2].body == {"text": "账单", "confidence": 0.9}
    assert [e.sequence for e in await store.timeline("c1", after=3)] == [4, 5]


async def test_many_who_write_one_timeline_at_once_leave_no_gap(store: Store) -> None:
    await started(store, "c1")
    await started(store, "c2")
    pairs = [[entry("said", "c1", n=n), entry("said", "c2", n=n)] for n in range(30)]
    await asyncio.gather(
        *(store.append(pair[:: 1 if n % 2 else -1]) for n, pair in enumerate(pairs))
    )
    for key in ("c1", "c2"):
        told = await store.timeline(key)
        assert [e.sequence for e in told] == list(range(1, 31))
        assert {e.body["n"] for e in told} == set(range(30))


async def test_an_entry_names_its_leg_and_its_time(store: Store) -> None:
    await store.start_conversation(conversation(), leg())
    pressed = TimelineEntry("c1", later(3.25), "pressed", {"digits": "1"}, "l1")
    await store.append([pressed])
    assert await store.timeline("c1") == [replace(pressed, sequence=1)]


async def test_journeys_are_the_latest_with_the_entries_that_count(store: Store) -> None:
    for number in range(4):
        one = replace(conversation(f"c{number}"), started_at=later(number))
        entries = [entry(kind, one.id, number=number) for kind in ("said", "branched", "matched")]
        await store.start_conversation(one, leg(f"l{number}", one.id), entries)
    found = await store.journeys(later(1), {"matched", "branched"}, 2)
    assert [one.id for one, _ in found] == ["c3", "c2"]
    for one, entries in found:
        assert [(e.kind, e.conversation_id) for e in entries] == [
            ("branched", one.id),
            ("matched", one.id),
        ]
    assert len(await store.journeys(later(1), {"matched"}, 10)) == 3
    assert await store.journeys(later(9), {"matched"}, 10) == []


async def test_a_timeline_of_no_conversation_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="c9"):
        await store.append([entry("said", "c9")])
    await store.append([])


# --- records --------------------------------------------------------------------------------------


async def test_the_first_record_of_a_leg_counts(store: Store) -> None:
    await store.start_conversation(conversation(), leg())
    await store.write_record(record())
    await store.write_record(replace(record(), talked=0))
    assert await store.records("c1") == [record()]


@pytest.mark.parametrize("noted_first", [True, False])
async def test_a_wrap_up_note_reaches_the_record(store: Store, noted_first: bool) -> None:
    await store.start_conversation(conversation(), leg())
    joined = replace(record(), agent="ann")
    if not noted_first:
        await store.write_record(joined)
    await store.annotate("c1", "ann", "leak in the cellar", "repair", later(70))
    if noted_first:
        await store.write_record(joined)
    assert await store.records("c1") == [
        replace(joined, note="leak in the cellar", disposition="repair")
    ]
    (noted,) = await store.timeline("c1")
    assert (noted.kind, noted.at) == ("noted", later(70))
    assert noted.body == {
        "agent": "ann", "note": "leak in the cellar", "disposition": "repair",
    }  # fmt: skip


async def test_a_note_is_not_put_on_another_agents_record(store: Store) -> None:
    await store.start_conversation(conversation(), leg())
    await store.write_record(replace(record(), agent="bob"))
    await store.annotate("c1", "ann", "came later", "", later(70))
    assert (await store.records("c1"))[0].note == ""


async def test_a_note_does_not_disturb_who_saves(store: Store) -> None:
    read = await started(store)
    await store.annotate("c1", "ann", "x", "", NOON)
    assert (await store.save(read)).revision == 1


async def test_a_record_of_no_conversation_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="c1"):
        await store.write_record(record())


# --- customers ------------------------------------------------------------------------------------


async def test_earlier_conversations_are_told_latest_first(store: Store) -> None:
    contact_id = ""
    for n in range(4):
        begun = await store.start_conversation(
            conversation(f"c{n}", later(n * 100)), leg(f"l{n}", f"c{n}")
        )
        contact_id = begun.contact_id or ""
    first = await store.conversation("c0")
    assert first is not None
    await store.save(replace(first, status=ConversationStatus.ENDED, outcome="completed"))
    await store.annotate("c0", "ann", "wants a new meter", "sold", later(50))
    await store.add_leg(replace(leg("x", "c0", Address(Channel.SMS, "+1")), started_at=later(10)))
    assert await store.earlier(contact_id, before=later(100)) == [
        PastConversation("c0", NOON, Channel.VOICE, "main", "completed", "wants a new meter", "ann")
    ]
    told = await store.earlier(contact_id, before=later(300), limit=2)
    assert [past.id for past in told] == ["c2", "c1"]
    assert await store.earlier("nobody", before=later(300)) == []


# --- agents ---------------------------------------------------------------------------------------

BOB = Agent("bob", "Bob", "200")


async def test_an_agent_is_written_over_and_keeps_the_password(store: Store) -> None:
    await store.save_agent(BOB, "argon2-of-it")
    changed = Agent(
        "bob", "Bob B.", "201", frozenset({"agent", "supervisor"}),
        {"billing": 5}, frozenset({"en", "zh"}), disabled=True, capacity=Capacity(1, 2, 1),
    )  # fmt: skip
    await store.save_agent(changed, None)
    await store.save_agent(Agent("ann", "Ann", "202"), None)
    assert await store.agent("bob") == changed
    assert [agent.login for agent in await store.agents()] == ["ann", "bob"]
    assert await store.password_hash("bob") == "argon2-of-it"
    assert await store.password_hash("ann") is None
    assert await store.password_hash("nobody") is None
    assert await store.agent("nobody") is None


async def test_presence_is_the_last_one_set(store: Store) -> None:
    await store.save_agent(BOB)
    first = AgentPresence("bob", "available", "", NOON, "s1", True, NOON, later(30))
    last = AgentPresence("bob", "away", "no answer", later(5), "s2", False, None, None)
    await store.set_presence(first)
    await store.set_presence(last)
    assert await store.presences() == {"bob": last}


async def test_a_token_names_its_owner_until_it_expires(store: Store) -> None:
    await store.save_agent(BOB)
    await store.save_token("hash", "bob", later(100))
    assert await store.token_owner("hash", later(99)) == "bob"
    assert await store.token_owner("hash", later(100)) is None
    assert await store.token_owner("other", NOON) is None


async def test_a_disabled_agents_token_is_worth_nothing(store: Store) -> None:
    await store.save_agent(BOB)
    await store.save_token("hash", "bob", later(100))
    await store.save_agent(replace(BOB, disabled=True))
    assert await store.token_owner("hash", NOON) is None


async def test_tokens_are_revoked_one_or_all(store: Store) -> None:
    await store.save_agent(BOB)
    for name in ("a", "b", "c"):
        await store.save_token(name, "bob", later(100))
    await store.revoke_token("a")
    assert await store.token_owner("a", NOON) is None
    assert await store.token_owner("b", NOON) == "bob"
    await store.revoke_tokens("bob")
    assert await store.token_owner("b", NOON) is None


async def test_an_agent_has_twenty_logins_at_most(store: Store) -> None:
    await store.save_agent(BOB)
    for n in range(21):
        await store.save_token(f"t{n}", "bob", later(100 + n))
    assert await store.token_owner("t0", NOON) is None
    assert await store.token_owner("t1", NOON) == "bob"
    assert await store.token_owner("t20", NOON) == "bob"


async def test_login_failures_are_counted_for_any_login(store: Store) -> None:
    for seconds in (0, 10, 20):
        await store.note_login_failure("bob", later(seconds))
    await store.note_login_failure("x" * 4_000 + "\0", NOON)
    assert await store.login_failures("bob", later(10)) == 2
    assert await store.login_failures("x" * 4_000 + "\0", NOON) == 1
    await store.clear_login_failures("bob")
    assert await store.login_failures("bob", NOON) == 0


async def test_old_login_failures_are_swept(store: Store) -> None:
    await store.note_login_failure("bob", NOON)
    await store.note_login_failure("ann", NOON + timedelta(days=2))
    assert await store.login_failures("bob", NOON) == 0


# --- tickets --------------------------------------------------------------------------------------


async def test_tickets_are_served_by_priority_then_by_age(store: Store) -> None:
    for n, (seconds, priority) in enumerate([(30, 0), (10, 0), (20, 5), (40, 5), (0, -1)]):
        await started(store, f"c{n}")
        await store.put_ticket(ticket(f"c{n}", seconds, priority=priority))
    waiting = await store.waiting_tickets()
    assert [t.conversation_id for t in waiting] == ["c2", "c3", "c1", "c0", "c4"]


async def test_asking_again_keeps_the_place_and_takes_what_is_new(store: Store) -> None:
    await started(store)
    first = ticket(skills=("billing",), pop=(("account", "123"), ("name", "Ann")), language="en")
    assert await store.put_ticket(first) == first
    again = ticket(seconds=50, priority=7)
    assert await store.put_ticket(again) == ticket(priority=7)
    assert await store.waiting_tickets() == [ticket(priority=7)]


LEASE = 40.0


async def at_work(store: Store, login: str, seconds: float = 0, **about: object) -> None:
    """An agent who is there, and whose server says so until noon of the next day."""
    await store.save_agent(Agent(login, login, "201"))
    presence = AgentPresence(
        login, "available", "", NOON, "s1", True, later(seconds), later(86_400)
    )
    await store.set_presence(replace(presence, **about))  # type: ignore[arg-type]


async def offered(store: Store, *pairs: tuple[str, str], seconds: float = 1) -> list[Ticket]:
    """Offer these conversations to these agents, as far as both are there."""

    def choose(waiting: Sequence[Ticket], seats: Sequence[AtWork]) -> list[tuple[Ticket, str]]:
        there = {seat.agent.login for seat in seats}
        wanted = dict(pairs)
        return [
            (one, wanted[one.conversation_id])
            for one in waiting
            if wanted.get(one.conversation_id) in there
        ]

    offers = await store.route(choose, later(seconds), later(seconds + LEASE))
    return [one for one, _ in offers]


def offer_of(agent: str, seconds: float = 1, **fields: object) -> Ticket:
    return ticket(
        status="offered",
        agent=agent,
        offered_at=later(seconds),
        lease_until=later(seconds + LEASE),
        stage="offered",
        **fields,
    )


async def test_a_withdrawn_ticket_waits_again_at_its_old_place(store: Store) -> None:
    await started(store)
    await at_work(store, "bob")
    await store.put_ticket(ticket())
    assert await offered(store, ("c1", "bob")) == [offer_of("bob")]
    assert await store.withdraw_tickets("c1") == [offer_of("bob")]
    assert await store.withdraw_tickets("c1") == []
    assert (await store.tickets_of("c1"))[0].status == "withdrawn"
    assert await store.put_ticket(ticket(seconds=60)) == ticket()


async def test_a_repeated_effect_does_not_take_a_ticket_from_its_agent(store: Store) -> None:
    await started(store)
    await at_work(store, "bob")
    await store.put_ticket(ticket())
    (offer,) = await offered(store, ("c1", "bob"))
    assert (await store.put_ticket(ticket())).status == "offered"
    await store.serve_ticket(offer, "active")
    served = await store.put_ticket(ticket())
    assert (served.status, served.agent, served.stage) == ("served", "bob", "active")
    assert await store.withdraw_tickets("c1") == []


async def test_one_of_many_routers_offers_a_ticket(store: Store) -> None:
    await started(store)
    await store.put_ticket(ticket())
    for n in range(10):
        await at_work(store, f"agent{n}")
    won = await asyncio.gather(*(offered(store, ("c1", f"agent{n}")) for n in range(10)))
    assert sorted(map(len, won)) == [0] * 9 + [1]
    ((agent,),) = [[one.agent for one in offers] for offers in won if offers]
    assert (await store.tickets_of("c1"))[0].agent == agent
    assert await store.waiting_tickets() == []


async def test_only_whom_it_is_offered_to_can_return_or_serve_it(store: Store) -> None:
    await started(store)
    for login in ("ann", "bob"):
        await at_work(store, login)
    await store.put_ticket(ticket())
    assert not await store.serve_ticket(ticket(agent="bob"), "active")
    await offered(store, ("c1", "bob"))
    assert not await store.return_ticket(ticket(agent="ann"))
    assert not await store.serve_ticket(ticket(agent="ann"), "active")
    assert await store.return_ticket(ticket(agent="bob"))
    assert await store.waiting_tickets() == [ticket()]
    assert not await store.return_ticket(ticket(agent="bob"))
    await offered(store, ("c1", "ann"), seconds=2)
    assert await store.serve_ticket(ticket(agent="ann"), "active")
    assert not await store.return_ticket(ticket(agent="ann"))


async def test_an_offer_that_nobody_follows_up_waits_again(store: Store) -> None:
    for login in ("ann", "bob"):
        await at_work(store, login)
    for key, agent, at in (("c1", "ann", 0), ("c2", "bob", 50)):
        await started(store, key)
        await store.put_ticket(ticket(key))
        (offer,) = await offered(store, (key, agent), seconds=at)
    assert await store.return_expired(later(LEASE + 1)) == 1
    assert await store.waiting_tickets() == [ticket("c1")]
    assert await store.lease_ticket(offer, later(200))
    assert await store.return_expired(later(50 + LEASE + 1)) == 0
    assert await store.return_expired(later(201)) == 1
    assert not await store.lease_ticket(offer, later(300))


async def test_who_routes_sees_who_is_there_and_what_they_have_in_hand(store: Store) -> None:
    await at_work(store, "ann")
    await at_work(store, "bob", alive_until=later(5))
    await at_work(store, "eve", state="away", reachable=False)
    await started(store)
    await store.put_ticket(ticket())
    await offered(store, ("c1", "ann"))
    seats = {seat.agent.login: seat for seat in await store.seats(later(4))}
    assert {login: len(seat.works) for login, seat in seats.items()} == {
        "ann": 1,
        "bob": 0,
        "eve": 0,
    }
    assert seats["ann"].works[0].conversation_id == "c1"
    assert not seats["eve"].presence.reachable
    assert "bob" not in [seat.agent.login for seat in await store.seats(later(6))]
    await store.keep_alive("s1", later(20))
    assert "bob" in [seat.agent.login for seat in await store.seats(later(6))]
    assert [one.agent for one in await store.offers("s1")] == ["ann"]
    assert await store.offers("s2") == []


async def test_what_is_in_hand_is_over_after_wrap_up(store: Store) -> None:
    await started(store)
    await at_work(store, "ann")
    await store.put_ticket(ticket())
    (offer,) = await offered(store, ("c1", "ann"))
    await store.serve_ticket(offer, "active")
    for stage in ("held", "wrap_up"):
        await store.stage_ticket(offer, stage)
        assert [one.stage for one in await store.works("ann")] == [stage]
    await store.stage_ticket(offer, "over")
    assert await store.works("ann") == []


async def test_what_an_agent_of_a_dead_server_had_in_hand_is_let_go(store: Store) -> None:
    await started(store)
    await at_work(store, "ann", alive_until=later(10))
    await store.put_ticket(ticket())
    (offer,) = await offered(store, ("c1", "ann"))
    await store.serve_ticket(offer, "active")
    assert await store.let_go(later(9)) == 0
    assert await store.let_go(later(11)) == 1
    assert await store.works("ann") == []


async def test_a_conversation_that_was_never_in_line_is_taken(store: Store) -> None:
    await started(store)
    taken = ticket(id="take1", status="served", agent="ann", stage="active", offered_at=NOON)
    assert await store.take_ticket(taken) == taken
    assert await store.take_ticket(taken) == taken
    assert await store.works("ann") == [taken]


async def test_a_priority_beyond_reason_is_bounded(store: Store) -> None:
    await started(store)
    assert (await store.put_ticket(ticket(priority=10**30))).priority == 1_000_000
    assert (await store.put_ticket(ticket(priority=-(10**30)))).priority == -1_000_000


# --- outbox ---------------------------------------------------------------------------------------


def message(key: str, seconds: float = 0) -> Message:
    return Message(key, "c1", Address(Channel.SMS, "+1415"), "您好 {link}", later(seconds))


async def test_a_message_is_leased_once_and_again_when_its_sender_died(store: Store) -> None:
    await store.save(await started(store), [], [message("m1"), message("m2", 5)])
    (leased,) = await store.lease_messages(later(1), 60, 10)
    assert (leased.message, leased.attempt) == (message("m1"), 1)
    (other,) = await store.lease_messages(later(6), 60, 10)
    assert (other.message, other.attempt) == (message("m2", 5), 1)
    again = await store.lease_messages(later(62), 60, 10)
    assert [(one.message.id, one.attempt) for one in again] == [("m1", 2)]


async def test_two_senders_never_lease_the_same(store: Store) -> None:
    await store.save(await started(store), [], [message(f"m{n}") for n in range(20)])
    shares = await asyncio.gather(*(store.lease_messages(NOON, 60, 5) for _ in range(6)))
    leased = [one.message.id for share in shares for one in share]
    assert len(leased) == len(set(leased))
    rest = await store.lease_messages(NOON, 60, 20)
    assert sorted(leased + [one.message.id for one in rest]) == sorted(f"m{n}" for n in range(20))


async def test_a_message_is_sent_retried_or_given_up(store: Store) -> None:
    await store.save(await started(store), [], [message(key) for key in ("m1", "m2", "m3")])
    await store.lease_messages(NOON, 60, 10)
    await store.message_sent("m1")
    await store.message_failed("m1", later(1), "a receipt that came too late")
    await store.message_failed("m2", later(300), "busy")
    await store.message_failed("m3", None, "no such number")
    assert await store.lease_messages(later(299), 60, 10) == []
    (leased,) = await store.lease_messages(later(300), 60, 10)
    assert leased.message.id == "m2"


async def test_the_same_message_again_is_one_message(store: Store) -> None:
    kept = await store.save(await started(store), [], [message("m1")])
    await store.save(kept, [], [message("m1")])
    assert len(await store.lease_messages(NOON, 60, 10)) == 1


# --- flows ----------------------------------------------------------------------------------------


async def test_a_version_of_a_flow_never_changes(store: Store) -> None:
    texts = {"main.yaml": "flow: main\n# 欢迎\n", "other.yaml": "x" * 100_000}
    await store.save_flow("sha", "main", texts, NOON)
    await store.save_flow("sha", "main", {}, later(1))
    assert await store.flow_texts("sha") == texts
    assert await store.flow_texts("other") is None


# --- what strangers send --------------------------------------------------------------------------

NASTY = [
    '"; DROP TABLE conversations; --',
    "x" * 4_000,
    "a\r\nb",
    "a\0b",
    "\ud800 alone",
    "😀 账单 \u202e",
    "%s %(x)s :name {0}",
    "\\u0000",
]


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
async def test_whatever_a_stranger_sends_is_stored_harmlessly(store: Store, text: str) -> None:
    peer = Address(Channel.VOICE, text)
    begun = await store.start_conversation(
        replace(conversation(), state={"slots": {text: text}}),
        replace(leg(peer=peer), reference=text, dialled=text, cause=text),
        [entry("typed", text=text, again=[text, {"in": text}])],
    )
    assert (await started(store, "c2", peer)).contact_id == begun.contact_id
    assert len(await store.contacts_by_address(peer)) == 1
    (found,) = await store.legs("c1")
    assert len(found.peer.value) <= 255
    (told,) = await store.timeline("c1")
    harmless = text.replace("\0", "\ufffd").replace("\ud800", "\ufffd")
    assert told.body == {"text": harmless, "again": [harmless, {"in": harmless}]}
    kept = await store.conversation("c1")
    assert kept is not None
    assert kept.state == {"slots": {harmless: harmless}}
    await store.write_record(replace(record(), caller=text, note=text))
    await store.annotate("c1", text, text, text, NOON)
    await store.put_ticket(ticket(skills=(text,), pop=((text, text),), language=text))
    assert (await store.waiting_tickets())[0].pop == ((harmless, harmless),)


async def test_an_endless_body_is_cut(store: Store) -> None:
    await started(store)
    await store.append([entry("fetched", answer="x" * 1_000_000)])
    (told,) = await store.timeline("c1")
    assert list(told.body) == ["cut"]
    assert len(told.body["cut"]) == 4_000


async def test_numbers_that_json_does_not_know_become_null(store: Store) -> None:
    await started(store)
    await store.append([entry("fetched", a=float("nan"), b=float("inf"), c=10**30)])
    assert (await store.timeline("c1"))[0].body == {"a": None, "b": None, "c": 10**30}


# --- PostgreSQL alone -----------------------------------------------------------------------------


async def test_a_wrong_password_is_told_in_one_line(postgres: Cluster) -> None:
    with pytest.raises(StoreError, match="user or password is wrong") as refused:
        await Store.open(replace(postgres, password="secret-guess").url())
    assert "secret-guess" not in str(refused.value)
    assert "\n" not in str(refused.value)


async def test_a_wrong_host_or_database_is_told_in_one_line(postgres: Cluster) -> None:
    with pytest.raises(StoreError, match="cannot be reached; check host and port"):
        await Store.open("postgresql://hotline@127.0.0.1:1/x")
    with pytest.raises(StoreError, match="that database does not exist"):
        await Store.open(postgres.url("absent"))


async def test_two_servers_that_start_at_once_make_one_schema(postgres: Cluster) -> None:
    with psycopg.connect(postgres.url(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE shared")
    stores = await asyncio.gather(*(Store.open(postgres.url("shared")) for _ in range(3)))
    for one in stores:
        await one.close()


async def test_closing_leaves_no_connection_at_the_server(postgres: Cluster) -> None:
    with psycopg.connect(postgres.url(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE closing")
        store = await Store.open(postgres.url("closing"))
        await asyncio.gather(*(store.agents() for _ in range(8)))
        await store.close()
        # A server process leaves a moment after its client.
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'closing'"
        for _ in range(100):
            left = admin.execute(query).fetchone()
            if left == (0,):
                break
            admin.execute("SELECT pg_sleep(0.02)")
        assert left == (0,)
