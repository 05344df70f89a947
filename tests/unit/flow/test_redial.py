"""A caller who rings again after the call dropped: what is offered, kept, asked anew, forgotten."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from ivr.flow.events import AgentJoined, Enqueue, HungUp, Resumed, Started, event_from_json, to_json
from ivr.flow.schema import Bundle
from tests.unit.flow.caller import Caller, bundle

FLOW = """\
flow: main
languages: [en, zh]
start: hello
uses: [crm]
slots:
  account: {type: digits, length: 4}
  pin: {type: digits, length: 4, secret: true}
  visit: {type: date}
  hour: {type: time}
  amount: {type: money}
nodes:
  hello: {say: {en: Welcome., zh: 您好。}, then: main}
  main:
    menu:
      ask: {en: Bill or repair?, zh: 账单还是报修？}
      choices:
        bill: {press: 1, say: {en: [bill], zh: [账单]}, then: account}
        repair: {press: 2, say: {en: [repair], zh: [报修]}, then: when}
        chinese: {press: 3, say: {en: [chinese], zh: [中文]}, then: tongue}
      otherwise: people
  tongue: {language: {to: zh}, then: main}
  account: {collect: {slot: account, ask: {en: Account?, zh: 账号？}}, then: pin}
  pin: {collect: {slot: pin, ask: {en: PIN?, zh: 密码？}}, then: check}
  check:
    fetch: {post: "{crm}/checks/{account}", json: {pin: "pin"}, into: customer}
    then: amount
    otherwise: people
  amount: {collect: {slot: amount, ask: {en: How much?, zh: 多少钱？}}, then: bye}
  when:
    collect:
      ask: {en: When may we come?, zh: 什么时候来？}
      slots: {visit: {en: Which day?, zh: 哪天？}, hour: {en: What time?, zh: 几点？}}
    then: bye
  people: {queue: {skills: [care]}, otherwise: bye}
  bye: {end: {en: Goodbye., zh: 再见。}}
"""
CRM = {"POST crm/checks/4711": {"json": {"name": "Ann", "verified": True}}}
OFFER = "Welcome back. Shall we go on where we were?"


@pytest.fixture(scope="module")
def flows() -> Bundle:
    return bundle(FLOW)


def drop(caller: Caller) -> Mapping[str, Any] | None:
    """Hang up; what is left of the call, as the database gives it back."""
    caller.hangs_up()
    return json.loads(json.dumps(caller.state.to_json()))["left_at"]


def again(flows: Bundle, dropped: Mapping[str, Any] | None, **more: Any) -> Caller:
    return Caller(flows, dropped=dropped, fetch=CRM, **more)


def at_the_account(flows: Bundle, **more: Any) -> Caller:
    caller = Caller(flows, fetch=CRM, **more)
    caller.says("bill")
    return caller


def past_the_pin(flows: Bundle) -> Caller:
    caller = at_the_account(flows)
    caller.presses("4711")
    caller.presses("8265")
    assert caller.said == "How much?"
    return caller


# --- the offer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("yes", ["yes", "yeah sure", "1"])
def test_a_yes_goes_on_at_the_same_question(flows: Bundle, yes: str) -> None:
    caller = again(flows, drop(at_the_account(flows)))
    assert caller.said.startswith(OFFER)
    assert caller.question.slot_type == "yes_no"
    caller.presses(yes) if yes == "1" else caller.says(yes)
    assert caller.said == "Account?"
    assert caller.state.node == "account"
    assert {"redial_taken", "node_entered"} <= set(caller.notes)
    caller.says("go back")
    assert caller.said == "Bill or repair?"


@pytest.mark.parametrize("no", ["no", "start over", "2"])
def test_a_no_begins_anew_and_forgets(flows: Bundle, no: str) -> None:
    first = at_the_account(flows)
    first.presses("4711")
    caller = again(flows, drop(first))
    caller.presses(no) if no == "2" else caller.says(no)
    assert caller.said == "Welcome. Bill or repair?"
    assert caller.state.slots == {}
    assert caller.state.left_at is None


def test_what_was_told_is_kept_and_what_was_not_is_asked(flows: Bundle) -> None:
    first = Caller(flows)
    first.says("repair")
    first.says("tomorrow")
    assert first.said == "What time?"
    caller = again(flows, drop(first))
    caller.says("yes")
    assert caller.said == "What time?"
    caller.says("three pm")
    assert caller.state.slots == {"visit": "2026-11-21", "hour": "15:00"}
    assert caller.ended


def test_the_language_is_the_one_of_the_call_that_dropped(flows: Bundle) -> None:
    first = Caller(flows)
    first.presses("3")
    first.says("账单")
    caller = again(flows, drop(first), language="en")
    assert caller.said.startswith("欢迎回来")
    assert caller.question.grammar.language == "zh"
    caller.says("是")
    assert caller.said == "账号？"


def test_a_caller_who_waited_in_line_waits_again(flows: Bundle) -> None:
    first = at_the_account(flows)
    first.says("agent")
    caller = again(flows, drop(first))
    caller.says("yes")
    assert caller.did(Enqueue) is not None


def test_who_says_nothing_begins_anew(flows: Bundle) -> None:
    caller = again(flows, drop(at_the_account(flows)))
    caller.is_silent()
    assert "I did not hear you." in caller.said and OFFER in caller.said
    caller.says("banana")
    assert OFFER in caller.said
    caller.is_silent(2)
    assert caller.said.endswith("Welcome. Bill or repair?")


def test_a_person_and_a_repeat_can_be_asked_for(flows: Bundle) -> None:
    caller = again(flows, drop(at_the_account(flows)))
    caller.says("repeat")
    assert caller.said.startswith(OFFER)
    caller.tell(Resumed("voice"))
    assert caller.said.startswith(OFFER)
    caller.says("agent")
    assert caller.did(Enqueue) is not None


def test_a_call_that_drops_during_the_offer_is_offered_again(flows: Bundle) -> None:
    second = again(flows, drop(at_the_account(flows)))
    third = again(flows, drop(second))
    third.says("yes")
    assert third.said == "Account?"


def test_start_over_forgets_for_the_next_call_too(flows: Bundle) -> None:
    first = at_the_account(flows)
    first.presses("4711")
    first.says("yes")
    first.says("agent")
    first.says("start over")
    assert drop(first) is None


# --- what is not offered ------------------------------------------------------------------------


def test_where_nothing_was_answered_nothing_is_offered(flows: Bundle) -> None:
    assert drop(Caller(flows)) is None


def test_a_call_that_ended_is_over(flows: Bundle) -> None:
    first = Caller(flows)
    first.says("repair")
    first.says("tomorrow at three pm")
    assert first.ended
    first.tell(HungUp("voice"))
    assert first.state.left_at is None


def test_text_channels_have_no_dropped_calls(flows: Bundle) -> None:
    assert drop(at_the_account(flows, channel="sms")) is None
    dropped = drop(at_the_account(flows))
    assert again(flows, dropped, channel="sms").said == "Welcome. Bill or repair?"


def test_another_version_of_the_flow_begins_anew(flows: Bundle) -> None:
    dropped = drop(at_the_account(flows))
    changed = bundle(FLOW.replace("Account?", "Your number?"))
    assert Caller(changed, dropped=dropped).said == "Welcome. Bill or repair?"


# --- secrets ------------------------------------------------------------------------------------


def test_a_secret_is_asked_for_again_and_what_it_opened_is_gone(flows: Bundle) -> None:
    dropped = drop(past_the_pin(flows))
    assert "8265" not in json.dumps(dropped)
    caller = again(flows, dropped)
    caller.says("yes")
    assert caller.said == "PIN?"
    assert caller.question.secret
    assert caller.state.slots == {"account": "4711"}
    assert caller.state.public_values() == {}
    caller.presses("8265")
    assert caller.said == "How much?"


def test_where_the_secret_came_first_nothing_is_offered() -> None:
    flows = bundle(FLOW.replace("start: hello", "start: pin").replace("{account}", "4711"))
    caller = Caller(flows, fetch=CRM)
    caller.presses("8265")
    assert caller.said == "How much?"
    assert drop(caller) is None


def test_the_beginning_survives_the_timeline(flows: Bundle) -> None:
    started = Started("voice", "+14155550123", "100", "", drop(past_the_pin(flows)))
    assert event_from_json(json.loads(json.dumps(to_json(started)))) == started


# --- where a call may drop ----------------------------------------------------------------------


def test_who_had_reached_a_person_is_not_taken_back(flows: Bundle) -> None:
    first = at_the_account(flows)
    first.says("agent")
    assert first.state.place is not None
    first.tell(AgentJoined(first.state.place.id, "ann"))
    assert drop(first) is None


OUTER = """\
flow: main
start: name
slots: {name: {type: text}, account: {type: digits}}
nodes:
  name: {collect: {slot: name, ask: Name?}, then: who}
  who: {call: {flow: inner, out: {account: number}}, then: fetched}
  fetched: {fetch: {get: "{crm}/{account}", into: customer}, then: last, otherwise: last}
  last: {record: {slot: name, ask: "{customer.name}, speak."}, then: bye}
  bye: {end: {}}
uses: [crm]
"""
INNER = """\
flow: inner
start: kind
slots: {kind: {type: yes_no}, number: {type: digits, length: 4}}
nodes:
  kind: {collect: {slot: kind, ask: Yours?}, then: number}
  number: {collect: {slot: number, ask: Number?}, then: done}
  done: {end: {}}
"""


def test_a_flow_within_a_flow_is_gone_on_with() -> None:
    flows = bundle(OUTER, INNER)
    first = Caller(flows)
    first.says("ann")
    first.says("yes")
    caller = Caller(flows, dropped=drop(first), fetch={"GET crm/4711": {"json": {"name": "Ann"}}})
    caller.says("yes")
    assert caller.said == "Number?"
    caller.presses("4711")
    assert caller.said == "Ann, speak."
    assert caller.state.slots == {"name": "ann", "account": "4711"}


def test_a_message_can_be_left_after_all_and_a_fetch_is_not_repeated_by_itself() -> None:
    flows = bundle(OUTER, INNER)
    first = Caller(flows)
    for answer in ("ann", "yes", "four seven one one"):
        first.says(answer)
    assert first.state.waiting.kind == "fetch"
    assert drop(first) is None  # the question before it is the first
    told = Caller(flows, fetch={"GET crm/4711": {"json": {"name": "Ann"}}})
    for answer in ("ann", "yes", "four seven one one"):
        told.says(answer)
    again_told = Caller(flows, dropped=drop(told))
    again_told.says("yes")
    assert again_told.said == "Ann, speak."
