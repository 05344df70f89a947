"""A person takes a conversation over from the flow and gives it back: exactly one side speaks."""

from ivr.flow.events import (
    AgentJoined,
    AgentLeft,
    ChannelLive,
    Expect,
    Fetch,
    FetchAnswered,
    HungUp,
    Record,
    Resumed,
    Say,
    TimedOut,
)
from tests.unit.flow.caller import Caller, bundle

FLOW = """\
flow: main
languages: [en]
start: main
uses: [crm]
slots:
  account: {type: digits, length: 4}
  pin: {type: digits, length: 4, secret: true}
  words: {type: text}
nodes:
  main:
    menu:
      ask: Bill or visit?
      choices:
        bill: {press: 1, say: bill, then: account}
        visit: {press: 2, say: visit, then: lookup}
        word: {press: 3, say: word, then: word}
        people: {press: 0, say: person, then: people}
  account:
    collect:
      ask: Tell me all.
      slots: {account: Your account?, pin: Your PIN?}
    then: bye
  lookup: {fetch: {post: "{crm}/visits", into: visit}, then: told, otherwise: failed}
  told: {say: "Your visit is {visit.id}.", then: bye}
  failed: {say: No visit., then: bye}
  word: {record: {slot: words, ask: Leave a word.}, then: bye}
  people: {queue: {skills: [care]}, then: back, otherwise: bye}
  back: {say: Glad to help., then: bye}
  bye: {end: Goodbye.}
"""
TAKE, BACK = AgentJoined("take-1", "ann"), AgentLeft("take-1", "ann")


def chat() -> Caller:
    return Caller(bundle(FLOW), channel="chat")


def test_a_question_is_silenced_and_asked_again_when_it_is_given_back() -> None:
    customer = chat()
    customer.tell(TAKE)
    assert (customer.state.status, customer.said, customer.did(Expect)) == ("person", "", None)
    customer.types("bill")
    assert (customer.state.node, customer.effects) == ("main", [])
    customer.tell(TimedOut(customer.question.turn))
    assert customer.effects == []
    customer.tell(BACK)
    assert (customer.state.status, customer.said) == ("flow", "Bill or visit?")
    assert [choice.name for choice in customer.question.choices][:2] == ["bill", "visit"]
    customer.types("bill")
    assert customer.said == "Tell me all."


def test_what_was_answered_of_a_question_is_kept_and_so_is_its_secrecy() -> None:
    customer = chat()
    customer.types("bill")
    customer.types("1234")
    assert customer.state.question.secret
    customer.tell(TAKE)
    assert not customer.state.question.secret, "what is told to a person is no answer"
    customer.tell(BACK)
    assert customer.said == "Your PIN?"
    assert (customer.state.question.filled, customer.state.question.secret) == (("account",), True)


def test_an_answer_of_another_system_waits_for_the_person() -> None:
    customer = chat()
    customer.types("visit")
    request = customer.did(Fetch)
    customer.tell(TAKE)
    customer.tell(FetchAnswered(request.id, 200, {"id": 7}))
    assert customer.said == "" and customer.state.status == "person"
    customer.tell(BACK)
    assert customer.said == "Your visit is 7. Goodbye."


def test_a_system_that_has_not_answered_yet_is_asked_under_the_same_id() -> None:
    customer = chat()
    customer.types("visit")
    request = customer.did(Fetch)
    customer.tell(TAKE)
    customer.tell(BACK)
    assert customer.did(Fetch) == request


def test_a_message_that_was_being_left_is_asked_for_again() -> None:
    customer = chat()
    customer.types("word")
    customer.tell(TAKE)
    customer.types("hello?")
    customer.tell(BACK)
    assert customer.did(Record) is not None and customer.state.waiting.kind == "record"


def test_only_one_person_has_it_and_only_their_own_leaving_ends_it() -> None:
    customer = chat()
    customer.tell(TAKE)
    before = customer.state
    for event in (AgentJoined("take-2", "bob"), AgentLeft("take-2", "bob"), AgentLeft("queue-1")):
        customer.tell(event)
        assert (customer.state, customer.effects) == (before, [])


def test_whoever_was_in_line_goes_on_behind_the_queue() -> None:
    customer = chat()
    customer.types("person")
    place = customer.state.place
    assert place is not None
    customer.tell(AgentJoined(place.id, "ann"))
    assert customer.state.taken is None
    customer.tell(AgentLeft(place.id, "ann"))
    assert customer.said == "Glad to help. Goodbye."


def test_a_late_joining_of_a_place_that_was_given_up_takes_nothing_over() -> None:
    customer = chat()
    before = customer.state
    customer.tell(AgentJoined("queue-1", "ann"))
    assert (customer.state, customer.effects) == (before, [])


def test_taken_out_of_line_the_place_is_asked_for_again_when_it_is_given_back() -> None:
    customer = chat()
    customer.types("person")
    customer.tell(TAKE)
    customer.tell(BACK)
    assert customer.state.status == "queued" and customer.state.waiting.kind == "queue"


def test_coming_back_or_on_another_channel_leaves_it_with_the_person() -> None:
    customer = chat()
    customer.tell(TAKE)
    for event in (Resumed("chat"), ChannelLive("", "sms", "+14155550123"), HungUp("sms")):
        customer.tell(event)
        assert customer.state.status == "person" and not customer.did(Say)
    customer.tell(BACK)
    assert customer.said == "Bill or visit?"


def test_the_customer_may_leave_meanwhile() -> None:
    customer = chat()
    customer.tell(TAKE)
    customer.hangs_up()
    assert (customer.state.status, customer.state.taken) == ("ended", None)
