"""The engine: what each kind of node does, what customers can always say, and that it is total."""

from dataclasses import replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivr.flow import engine, loader
from ivr.flow.events import (
    AgentJoined,
    AgentLeft,
    ChannelFailed,
    ChannelLive,
    Dequeue,
    DigitsPressed,
    End,
    Enqueue,
    Event,
    Expect,
    Fetch,
    FetchAnswered,
    HungUp,
    Invite,
    Leave,
    Note,
    QueueFailed,
    QueueMoved,
    Record,
    Recorded,
    Resumed,
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
from ivr.flow.facts import Calendar, Facts
from tests.unit.flow.caller import NOW, Caller, bundle

HEAD = """\
flow: main
languages: [en, zh]
start: a
uses: [crm]
channels: [sms, wechat]
slots:
  account: {type: digits, length: 4}
  pin: {type: digits, length: 4, secret: true}
  count: {type: number}
  note: {type: text}
  tongue: {type: choice, of: {en: {en: [english], zh: [英语]}, zh: {en: [chinese], zh: [中文]}}}
nodes:
"""
TAIL = """
  people: {queue: {skills: [care], pop: [account, pin]}, otherwise: shut}
  shut: {say: Nobody is here., then: bye}
  bye: {end: Goodbye.}
"""


def call(nodes: str, *more: str, **options: object) -> Caller:
    """A caller of a flow with these nodes, `a` first, and a queue, `people`."""
    return Caller(bundle(HEAD + nodes + TAIL, *more, entry="main"), **options)  # type: ignore[arg-type]


MENU = "  a: {menu: {ask: Which?, choices: {go: {press: 1, say: go, then: bye}}}}\n"

# --- what nodes do ------------------------------------------------------------------------------


def test_say_speaks_the_customer_s_language_and_goes_on() -> None:
    nodes = "  a: {say: {en: Hello., zh: 您好。}, then: bye}\n"
    assert call(nodes).said == "Hello. Goodbye."
    assert call(nodes, language="zh-CN").said == "您好。 Goodbye."
    assert call(nodes, language="fr").said == "Hello. Goodbye."


def test_a_prompt_s_template_names_its_recording() -> None:
    caller = call("  a: {say: 'From {caller:digits}.', then: bye}\n", caller="12")
    assert caller.effects[1] == Say("From one two.", "en", "From {caller:digits}.")


def test_values_in_prompts_are_data() -> None:
    caller = call(
        "  a: {collect: {slot: note, ask: Note?}, then: b}\n"
        "  b: {say: 'You said {note}', then: bye}\n",
        channel="sms",
    )
    caller.types("{account} <b>\r\nX: y")
    assert "You said {account} <b> X: y" in caller.said


def test_a_flow_without_then_is_at_its_end() -> None:
    caller = call("  a: {say: Hello.}\n")
    assert caller.ended
    assert caller.did(End) == End("completed")


def test_set_computes_slots_and_an_unset_number_counts_from_nought() -> None:
    caller = call(
        "  a: {set: {count: 'count + 1', note: \"'n' + string(count)\"}, then: b}\n"
        "  b: {when: [{if: 'count < 3', then: a}, {else: c}]}\n" + MENU.replace("  a:", "  c:")
    )
    assert caller.state.slots == {"count": 3, "note": "n3"}


def test_a_failing_expression_is_noted_and_does_not_stop_the_call() -> None:
    caller = call(
        "  a: {set: {count: '1 / 0'}, then: b}\n"
        "  b: {when: [{if: 'account.x > 1', then: people}, {else: c}]}\n"
        + MENU.replace("  a:", "  c:")
    )
    assert caller.notes.count("expression_failed") == 2
    assert caller.state.node == "c"


def test_a_slot_begins_with_the_value_that_the_designer_gives() -> None:
    flow = HEAD.replace("count: {type: number}", "count: {type: number, value: 5}") + MENU + TAIL
    assert Caller(bundle(flow)).state.slots == {"count": 5}


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (datetime(2026, 11, 20, 9, 30), "Open."),
        (datetime(2026, 11, 20, 18, 0), "Closed."),
        (datetime(2026, 11, 22, 12, 0), "Closed."),
        (datetime(2026, 12, 25, 12, 0), "Holiday."),
        (datetime(2026, 11, 21, 23, 0), "Open."),
        (datetime(2026, 11, 22, 1, 59), "Open."),
        (datetime(2026, 11, 22, 2, 0), "Closed."),
    ],
)
def test_hours_branch_by_a_calendar_in_its_own_time_zone(at: datetime, said: str) -> None:
    zone = ZoneInfo("Asia/Shanghai")
    weekdays = {day: ((time(9, 0), time(18, 0)),) for day in range(5)}
    calendar = Calendar(
        zone, {**weekdays, 5: ((time(22, 0), time(2, 0)),)}, frozenset({date(2026, 12, 25)})
    )
    nodes = "  a: {hours: {calendar: office, open: o, closed: c, holiday: h}}\n" + "".join(
        f"  {word[0].lower()}: {{say: {word}}}\n" for word in ("Open.", "Closed.", "Holiday.")
    )
    local = at.replace(tzinfo=zone).astimezone(NOW.tzinfo)
    assert call(nodes, at=local, facts=Facts({"office": calendar})).said == said


def test_a_calendar_that_is_not_set_counts_as_open() -> None:
    caller = call("  a: {hours: {calendar: office, open: people, closed: shut}}\n")
    assert caller.state.node == "people"
    assert "calendar_missing" in caller.notes


def test_language_switches_to_a_fixed_one_or_to_a_slot_s() -> None:
    nodes = (
        "  a: {language: {to: zh}, then: b}\n"
        "  b: {collect: {slot: tongue, ask: {en: Which language?, zh: 哪种语言？}}, then: c}\n"
        "  c: {language: {to: '{tongue}'}, then: d}\n"
        "  d: {say: {en: English it is., zh: 好的。}, then: bye}\n"
    )
    caller = call(nodes)
    assert caller.said == "哪种语言？"
    caller.says("英语")
    assert "English it is." in caller.said
    assert caller.state.language == "en"


# --- fetch --------------------------------------------------------------------------------------

FETCH = (
    "  a: {collect: {slot: account, ask: Account?}, then: p}\n"
    "  p: {collect: {slot: pin, ask: PIN?}, then: b}\n"
    "  b:\n"
    "    fetch:\n"
    "      post: '{crm}/accounts/{account}?from={caller}'\n"
    "      headers: {X-Pin: '{pin}'}\n"
    "      json: {pin: pin, list: [1, account], deep: {yes: 'true'}}\n"
    "      into: answer\n"
    "    then: c\n"
    "    otherwise: people\n"
    "  c: {say: 'Name {answer.name}.', then: bye}\n"
)


def fetching() -> Caller:
    caller = call(FETCH)
    caller.presses("1234")
    caller.presses("9876")
    return caller


def test_fetch_asks_a_system_by_its_name_with_values_quoted() -> None:
    asked = fetching().did(Fetch)
    assert (asked.method, asked.system, asked.timeout) == ("POST", "crm", 3.0)
    assert asked.path == "/accounts/1234?from=%2B14155550123"
    assert asked.headers == {"X-Pin": "9876"}
    assert asked.json == {"pin": "9876", "list": [1, "1234"], "deep": {"yes": True}}


def test_the_answer_goes_into_its_name() -> None:
    caller = fetching()
    caller.tell(FetchAnswered("fetch-1", 200, {"name": "Ann"}))
    assert caller.said == "Name Ann. Goodbye."


@pytest.mark.parametrize(
    "answer",
    [
        FetchAnswered("fetch-1", 500, {"name": "Ann"}),
        FetchAnswered("fetch-1", 404),
        FetchAnswered("fetch-1", 0, None, "timed out"),
        FetchAnswered("fetch-1", 200, "x" * 70_000),
        FetchAnswered("fetch-1", 200, float("nan")),
    ],
)
def test_a_failed_fetch_leads_elsewhere(answer: FetchAnswered) -> None:
    caller = fetching()
    caller.tell(answer)
    assert caller.state.node == "people"
    assert "fetch_failed" in caller.notes


def test_an_answer_to_another_fetch_changes_nothing() -> None:
    caller = fetching()
    before = caller.state
    caller.tell(FetchAnswered("fetch-7", 200, {"name": "Eve"}))
    assert caller.state == before


@pytest.mark.parametrize("value", ["..", ".", "", "\n"])
def test_a_value_cannot_climb_out_of_its_place_in_the_path(value: str) -> None:
    nodes = "  a: {fetch: {get: '{crm}/x/{caller}/y'}, then: bye, otherwise: people}\n"
    caller = call(nodes, caller=value)
    asked = caller.did(Fetch)
    assert asked is None or asked.path == "/x/%0A/y"
    assert call(nodes, caller="a/../b?c#d").did(Fetch).path == "/x/a%2F..%2Fb%3Fc%23d/y"


# --- people -------------------------------------------------------------------------------------


def test_queue_hands_over_with_what_is_known_but_no_secret() -> None:
    caller = call("  a: {set: {account: \"'1234'\"}, then: people}\n")
    assert caller.did(Enqueue) == Enqueue("queue-1", ("care",), 0, (("account", "1234"),), "en")
    assert caller.state.status == "queued"


def queued(more: str = "") -> Caller:
    return call(f"  a: {{queue: {{skills: [care]{more}}}, then: bye, otherwise: shut}}\n")


@pytest.mark.parametrize(
    ("source", "priority"),
    [("'1 + 1'", 2), ("'1e9'", 100), ("'-1e9'", -100), ("\"'x'\"", 0), ("'1 / 0'", 0)],
)
def test_priority_is_an_expression_within_bounds(source: str, priority: int) -> None:
    assert queued(f", priority: {source}").did(Enqueue).priority == priority


def test_the_waiting_prompt_tells_place_and_time_and_no_more_than_is_known() -> None:
    caller = queued(', waiting: "You are number {position}, about {wait:minutes}."')
    caller.tell(QueueMoved("queue-1", 2, 120.0))
    assert caller.said == "You are number 3, about two minutes."
    caller.tell(QueueMoved("queue-1", 1))
    assert caller.said == "You are number 2."
    caller.tell(QueueMoved("queue-9", 0))
    assert caller.said == ""


def test_on_a_text_channel_the_place_is_told_when_it_has_changed() -> None:
    caller = call("  a: {queue: {waiting: 'Number {position}.'}}\n", channel="sms")
    caller.tell(QueueMoved("queue-1", 2))
    assert caller.said == "Number 3."
    caller.tell(QueueMoved("queue-1", 2))
    assert caller.said == ""


def test_a_person_joins_and_leaves() -> None:
    caller = queued()
    caller.tell(AgentJoined("queue-1", "ann"))
    assert caller.state.status == "person"
    caller.says("billing")
    caller.tell(QueueMoved("queue-1", 0))
    assert caller.effects == []
    caller.tell(AgentLeft("queue-1"))
    assert caller.said == "Goodbye."
    assert caller.ended


def test_nobody_there_leads_elsewhere_or_out_with_a_sentence() -> None:
    caller = queued()
    caller.tell(QueueFailed("queue-1", "nobody"))
    assert caller.said == "Nobody is here. Goodbye."
    alone = call("  a: {queue: {}}\n")
    alone.tell(QueueFailed("queue-1", "nobody"))
    assert "cannot help you" in alone.said
    assert alone.did(End) == End("not_served")


OFFER = (
    "  a: {queue: {offer_after: {wait: 60s, then: o}}, otherwise: shut}\n"
    "  o: {offer: {channels: [sms, wechat], ask: Shall I text you?, "
    "message: 'Go to {link} ({code})', mode: MODE, declined: a}, then: m}\n"
    + MENU.replace("  a:", "  m:")
)


def offered(mode: str = "move") -> Caller:
    caller = call(OFFER.replace("MODE", mode))
    assert caller.did(SetTimer) == SetTimer("queue-1-offer", 60.0)
    caller.tell(TimerFired("queue-1-offer"))
    assert caller.said == "Shall I text you?"
    return caller


def test_who_declines_an_offer_keeps_the_place_and_is_not_asked_again() -> None:
    caller = offered()
    assert caller.state.status == "queued"
    caller.says("no")
    assert caller.did(Enqueue).id == "queue-1"
    assert caller.did(SetTimer) is None
    caller.tell(TimerFired("queue-1-offer"))
    assert caller.said == ""


def test_who_accepts_an_offer_moves_with_the_conversation() -> None:
    caller = offered()
    caller.says("yes")
    assert caller.did(Invite) == Invite("invite-2", "sms", "Go to {link} ({code})", "en", "move")
    caller.tell(ChannelLive("invite-2", "sms"))
    assert caller.did(Leave) == Leave("voice")
    assert caller.did(Dequeue) == Dequeue("queue-1")
    assert caller.said == "Which?"
    assert (caller.state.channel, caller.state.channels) == ("sms", ("sms",))
    caller.tell(HungUp("voice"))
    assert caller.state.status == "flow"


def test_beside_keeps_the_call() -> None:
    caller = offered("beside")
    caller.says("yes")
    caller.tell(ChannelLive("invite-2", "sms"))
    assert caller.did(Leave) is None
    assert caller.state.channels == ("voice", "sms")
    caller.tell(HungUp("sms"))
    assert caller.state.channel == "voice"
    assert caller.said == "Which?"
    caller.tell(HungUp("voice"))
    assert caller.state.status == "ended"


def test_channels_are_tried_in_order_and_then_it_counts_as_declined() -> None:
    caller = offered()
    caller.says("yes")
    caller.tell(ChannelFailed("invite-2", "sms", "no number"))
    assert caller.did(Invite).channel == "wechat"
    caller.tell(TimedOut())
    assert "could not reach you" in caller.said
    assert caller.did(Enqueue).id == "queue-1"


def test_an_agent_who_joins_during_an_offer_is_not_kept_waiting() -> None:
    caller = offered()
    caller.tell(AgentJoined("queue-1", "ann"))
    assert caller.state.status == "person"


# --- transfer, record ---------------------------------------------------------------------------

TRANSFER = "  a: {transfer: {to: '+442079460123', ring: 15s}, then: bye, otherwise: people}\n"


@pytest.mark.parametrize(
    ("outcome", "node"),
    [("answered", "bye"), ("busy", "people"), ("no_answer", "people"), ("refused", "people")],
)
def test_transfer_goes_on_by_its_outcome(outcome: str, node: str) -> None:
    caller = call(TRANSFER)
    assert caller.did(Transfer) == Transfer("transfer-1", "+442079460123", 15.0)
    caller.tell(TransferEnded("transfer-1", outcome))
    assert caller.state.node == node


def test_a_text_cannot_be_transferred() -> None:
    assert call(TRANSFER, channel="sms").state.node == "people"


def test_record_takes_a_message_or_a_text() -> None:
    nodes = "  a: {record: {slot: note, ask: Speak., max: 2m}, then: bye, otherwise: people}\n"
    caller = call(nodes)
    assert caller.did(Record) == Record("record-1", 120.0)
    caller.tell(Recorded("record-1", "message/7", 12.5))
    assert caller.state.slots == {"note": "message/7"}
    empty = call(nodes)
    empty.tell(Recorded("record-1", ""))
    assert empty.state.node == "people"
    typed = call(nodes, channel="chat")
    typed.types("my meter is broken")
    assert typed.state.slots == {"note": "my meter is broken"}


# --- calls to other flows -----------------------------------------------------------------------

IDENTIFY = """\
flow: identify
languages: [en, zh]
start: ask
slots: {number: {type: digits, length: 4}, tries: {type: number}}
nodes:
  ask: {collect: {slot: number, ask: "Number, not {tries}?", otherwise: failed}, then: done}
  done: {end: {}}
  failed: {end: {outcome: failed}}
"""
CALL = (
    "  a: {call: {flow: identify, in: {tries: '1 + 1'}, out: {account: number, when: tries}}, "
    "then: b, otherwise: shut}\n"
    "  b: {collect: {slot: count, ask: 'You are {account}, {when}.'}, then: bye}\n"
)


def test_a_called_flow_has_its_own_slots_and_gives_back_what_is_named() -> None:
    caller = call(CALL, IDENTIFY)
    assert caller.said == "Number, not 2?"
    assert caller.state.flow == "identify"
    caller.presses("1234")
    assert caller.said == "You are 1234, 2."
    assert caller.state.slots == {"account": "1234"}


def test_a_called_flow_that_fails_leads_elsewhere() -> None:
    caller = call(CALL, IDENTIFY)
    caller.is_silent(3)
    assert caller.said.endswith("Nobody is here. Goodbye.")


def test_a_person_is_reached_out_of_a_called_flow_that_has_none() -> None:
    caller = call(CALL, IDENTIFY)
    caller.says("agent")
    assert (caller.state.flow, caller.state.node) == ("main", "people")


def test_flows_that_call_each_other_for_ever_come_to_an_end() -> None:
    caller = call("  a: {call: {flow: main}, then: people, otherwise: people}\n")
    assert caller.state.node == "people"
    assert len(caller.state.frames) <= 16


# --- what can always be said --------------------------------------------------------------------

TWO = (
    "  a: {collect: {slot: account, ask: Account?}, then: b}\n"
    "  b: {collect: {slot: count, ask: How many?}, then: bye}\n"
)


def second() -> Caller:
    caller = call(TWO)
    caller.presses("1234")
    return caller


def test_agent_leads_to_people() -> None:
    for said in ("agent", "operator please", "can i speak to a person"):
        caller = second()
        caller.says(said)
        assert caller.did(Enqueue).pop == (("account", "1234"),)


def test_repeat_asks_again_without_counting_a_miss() -> None:
    caller = second()
    for _ in range(9):
        caller.says("repeat", 0.4)
        assert caller.said == "How many?"


def test_go_back_asks_the_question_before() -> None:
    caller = second()
    caller.says("go back")
    assert caller.said == "Account?"
    caller.says("go back")
    assert caller.said == "Account?"


def test_start_over_forgets_what_was_learned() -> None:
    caller = second()
    caller.says("start over")
    assert caller.said == "Account?"
    assert caller.state.slots == {}


def test_text_me_takes_the_question_elsewhere() -> None:
    caller = second()
    caller.says("text me")
    assert caller.did(Invite).channel == "sms"
    caller.tell(ChannelLive("invite-1", "sms"))
    assert caller.said == "How many?"
    assert caller.state.slots == {"account": "1234"}


def test_text_me_falls_back_to_the_question_here() -> None:
    caller = second()
    caller.says("text me")
    caller.tell(ChannelFailed("invite-1", "sms"))
    caller.tell(ChannelFailed("invite-2", "wechat"))
    assert caller.said == "Sorry, I could not reach you there. How many?"
    caller.says("three")
    assert caller.ended


def test_chinese_callers_name_their_channel() -> None:
    caller = call(TWO, language="zh")
    caller.says("加微信")
    assert caller.did(Invite).channel == "wechat"


def test_a_flow_may_rebind_and_drop_the_global_phrases() -> None:
    flow = HEAD.replace("uses:", "anytime: {agent: shut, start_over: null}\nuses:") + TWO + TAIL
    caller = Caller(bundle(flow))
    caller.says("start over")
    assert "no_match" in caller.notes
    caller.says("agent")
    assert caller.said == "Nobody is here. Goodbye."


def test_without_people_or_channels_those_phrases_are_not_listened_for() -> None:
    flow = "flow: f\nstart: a\nnodes: {a: {menu: {ask: Hm?, choices: {x: {say: x, then: a}}}}}\n"
    heard = Caller(bundle(flow)).question.grammar.phrases
    assert "agent" not in heard
    assert "text me" not in heard
    assert "repeat" in heard


def test_the_designer_s_phrase_wins_over_the_global_one() -> None:
    caller = call("  a: {menu: {ask: Hm?, choices: {x: {say: agent, then: shut}}}}\n")
    caller.says("agent")
    assert "Nobody is here." in caller.said


# --- coming and going ---------------------------------------------------------------------------


def test_hanging_up_ends_the_conversation_and_leaves_the_line() -> None:
    caller = queued()
    caller.hangs_up()
    assert caller.did(Dequeue) == Dequeue("queue-1")
    assert (caller.state.status, caller.state.outcome) == ("ended", "hung_up")
    caller.tell(QueueMoved("queue-1", 0))
    assert caller.effects == []


def test_who_comes_back_is_asked_the_same_question_and_no_miss_counts() -> None:
    caller = second()
    caller.is_silent()
    question = caller.state.question
    caller.tell(Resumed("voice"))
    assert caller.said == "How many?"
    assert caller.state.question == question
    assert caller.state.slots == {"account": "1234"}


def test_who_comes_back_to_the_queue_keeps_the_place() -> None:
    caller = queued()
    caller.tell(Resumed("voice"))
    assert caller.did(Enqueue).id == "queue-1"


def test_who_lost_their_person_to_a_fault_is_first_in_line_again() -> None:
    caller = queued()
    caller.tell(AgentJoined("queue-1", "ann"))
    caller.tell(Resumed("voice"))
    assert caller.did(Enqueue).id == "queue-1"
    assert caller.state.status == "queued"


def test_who_comes_back_after_a_talk_that_outlived_the_server_goes_on_behind_the_queue() -> None:
    caller = queued()
    caller.tell(AgentJoined("queue-1", "ann"))
    caller.tell(Resumed("voice"))
    caller.tell(AgentLeft("queue-1", "ann"))  # the desk knows that the place was served
    assert caller.said == "Goodbye."
    assert caller.ended


def test_what_was_under_way_is_asked_for_again_with_its_id() -> None:
    caller = fetching()
    asked = caller.did(Fetch)
    caller.tell(Resumed("voice"))
    assert caller.did(Fetch) == asked
    caller = call(TRANSFER)
    caller.tell(Resumed("voice"))
    assert caller.did(Transfer) == Transfer("transfer-1", "+442079460123", 15.0)


def test_who_comes_back_after_the_end_is_shown_out() -> None:
    caller = call("  a: {end: {outcome: done}}\n")
    caller.tell(Resumed("voice"))
    assert caller.effects == [End("done")]


def test_secrets_appear_in_no_effect_but_the_fetch_and_are_forgotten_at_the_end() -> None:
    caller = call(FETCH.replace("Name {answer.name}.", "{pin}."))
    caller.presses("1234")
    caller.presses("9876")
    shown = [effect for effect in caller.effects if not isinstance(effect, Fetch)]
    assert "9876" not in repr(shown)
    state = caller.state.to_json()
    assert "9876" in repr(state.pop("secrets"))
    assert "9876" not in repr(state)
    assert "9876" not in repr(caller.state.public_slots(caller.flows))
    caller.tell(FetchAnswered("fetch-1", 200, {}))
    assert caller.ended
    assert "9876" not in repr(caller.effects) + repr(caller.state)


# --- bounds -------------------------------------------------------------------------------------


def test_a_loop_that_never_waits_reaches_people() -> None:
    caller = call("  a: {say: Round., then: b}\n  b: {say: And round., then: a}\n")
    assert "stuck" in caller.notes
    assert caller.state.node == "people"
    assert caller.said == ""
    alone = Caller(bundle("flow: f\nstart: a\nnodes: {a: {say: Round., then: a}}\n"))
    assert alone.ended
    assert "cannot help you" in alone.said


def test_a_value_cannot_grow_without_end() -> None:
    caller = call(
        "  a: {set: {note: \"'xxxxxxxxxx'\"}, then: b}\n"
        "  b: {set: {note: note + note, count: count + 1}, then: c}\n"
        "  c: {when: [{if: 'count < 100', then: b}, {else: people}]}\n"
    )
    assert len(str(caller.state.slots.get("note"))) <= 65_536


def test_the_path_is_bounded() -> None:
    caller = call(MENU)
    for _ in range(200):
        caller.says("start over")
    assert len(caller.state.path) == 100


def test_a_state_of_another_flow_reaches_people_instead_of_failing() -> None:
    caller = call(MENU)
    lost = replace(caller.state, frames=(replace(caller.state.frames[0], flow="gone"),))
    state, effects = engine.advance(caller.flows, lost, TimedOut(), NOW)
    assert state.node == "people"
    assert any(isinstance(effect, Enqueue) for effect in effects)


def test_a_state_of_another_version_is_not_read_as_one_of_this() -> None:
    caller = call("  a: {collect: {slot: account, ask: Account?}, then: bye}\n")
    other = bundle(HEAD + MENU + TAIL)
    state, effects = engine.advance(other, caller.state, DigitsPressed("1"), NOW)
    assert state.node == "people" and state.status == "queued" and state.version == other.version
    assert effects[0] == Note("mismatch", {"flow": "main"})
    again, _ = engine.advance(other, state, QueueFailed("queue-1", "nobody"), NOW)
    assert again.outcome == "completed"


def test_who_hangs_up_on_another_version_is_gone() -> None:
    caller = call("  a: {queue: {}, then: bye}\n")
    state, effects = engine.advance(bundle(HEAD + MENU + TAIL), caller.state, HungUp(), NOW)
    assert (state.status, state.outcome) == ("ended", "hung_up")
    assert Dequeue("queue-1") in effects and not any(isinstance(e, Enqueue) for e in effects)


# --- totality -----------------------------------------------------------------------------------

IDS = st.sampled_from(
    ["queue-1", "queue-2", "queue-1-offer", "fetch-1", "fetch-2", "invite-2", "record-1", ""]
)
TEXTS = st.one_of(
    st.sampled_from(
        [
            *("billing", "yes", "no", "no one two three four", "1234", "agent", "repeat", "1"),
            *("start over", "go back", "text me", "one two three four", "不对一二三四", "账单"),
        ]
    ),
    st.text(max_size=30),
)
TURNS = st.one_of(st.none(), st.integers(-1, 30))
CHANNELS = st.sampled_from(["voice", "sms", "chat", "", "fax"])
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
LIKELY_JSON = st.sampled_from([{"balance": 12.5}, {"overdue": 3, "vip": True}, {"overdue": "x"}])
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(SpeechHeard, TEXTS, st.sampled_from([0.9, 0.5, 0.2, 0.0, -1.0, float("nan")])),
    st.builds(SpeechHeard, TEXTS, NUMBERS, turn=TURNS),
    st.builds(DigitsPressed, st.text("0123456789*#", max_size=9), TURNS),
    st.builds(TextReceived, TEXTS, TURNS),
    st.builds(TimedOut, TURNS),
    st.builds(FetchAnswered, IDS, st.sampled_from([0, 200, 404]), JSON | LIKELY_JSON, st.just("")),
    st.builds(QueueMoved, IDS, st.integers(-5, 10**20), NUMBERS, NUMBERS),
    st.builds(AgentJoined, IDS, st.just("ann")),
    st.builds(AgentLeft, IDS),
    st.builds(QueueFailed, IDS, st.just("nobody")),
    st.builds(ChannelLive, IDS, CHANNELS),
    st.builds(ChannelFailed, IDS, CHANNELS),
    st.builds(TransferEnded, IDS, st.sampled_from(["answered", "busy", "?"])),
    st.builds(Recorded, IDS, st.text(max_size=5), NUMBERS),
    st.builds(TimerFired, IDS),
    st.builds(Resumed, CHANNELS),
    st.builds(Started, CHANNELS),
)
EVERYTHING = bundle(
    HEAD
    + """\
  a: {menu: {ask: 'Hm? {account}', choices: {
      x: {press: 1, say: billing, then: b}, y: {press: 10, say: {zh: 账单}, then: c},
      z: {press: '#', say: yes, then: q}}, otherwise: v}}
  b: {collect: {slots: [account, pin, count], ask: All?, confirm: always}, then: s}
  c: {collect: {slot: note, ask: Note?, confirm: always, otherwise: r}, then: k}
  s: {confirm: {ask: '{account} and {count}?'}, then: f, otherwise: b}
  f: {fetch: {get: '{crm}/{account}/{note}', into: got}, then: w, otherwise: t}
  w: {when: [{if: 'got.overdue > 0', then: t}, {if: 'has(got.balance)', then: r}, {else: q}]}
  t: {transfer: {to: '100'}, then: l, otherwise: q}
  r: {record: {slot: note, ask: Speak.}, then: l}
  l: {language: {to: '{tongue}'}, then: k}
  k: {call: {flow: identify, in: {tries: count}, out: {account: number}}, then: a, otherwise: h}
  h: {hours: {calendar: x, open: v, closed: bye}}
  v: {collect: {slot: tongue, ask: Language?, listen: [keys]}, then: l}
  q: {queue: {priority: count * 2, waiting: 'Number {position}, {wait:minutes}.',
      offer_after: {wait: 1s, then: o}}, then: a}
  o: {offer: {channels: [sms, chat], ask: Text?, message: '{link} {code}', declined: q}, then: a}
"""
    + TAIL,
    IDENTIFY,
    entry="main",
)


@settings(max_examples=250, deadline=timedelta(seconds=5))
@given(st.sampled_from(["voice", "sms"]), st.lists(EVENTS, max_size=25))
def test_whatever_happens_the_engine_goes_on(channel: str, events: list[Event]) -> None:
    caller = Caller(EVERYTHING, channel=channel)
    for event in events:
        before = caller.state
        caller.tell(event)
        after = caller.state
        assert after.turn >= before.turn
        assert after.waiting.kind or after.status == "ended"
        asked = [n for n, effect in enumerate(caller.effects) if isinstance(effect, Expect)]
        said = [n for n, effect in enumerate(caller.effects) if isinstance(effect, Say)]
        assert len(asked) <= 1
        assert not asked or not said or said[-1] < asked[0]


def test_the_house_flow_loads() -> None:
    folder = Path(__file__).parents[3] / "flows"
    flow = loader.load(loader.load_folder(folder), "main").flows["main"]
    assert set(flow.languages) == {"en", "zh"}
    assert flow.anytime["agent"] == "hold"


def test_every_note_kind_is_in_the_engine_s_list() -> None:
    documented = engine.__doc__ or ""
    folder = Path(engine.__file__).parent
    source = "".join(file.read_text(encoding="utf-8") for file in folder.glob("*.py"))
    for kind in {part.split('"')[0] for part in source.split('note("')[1:]}:
        assert kind in documented, kind
    assert Note("node_entered", {"node": "a", "flow": "main"}) in call(MENU).effects
