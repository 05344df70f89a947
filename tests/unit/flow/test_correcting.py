"""A correction changes what it names and keeps the rest: of a value, and of several at once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivr.flow import correcting
from ivr.flow.schema import Slot
from tests.unit.flow.caller import NOW, Caller, bundle

DAY, EIGHT, HALF = "2027-03-05", "20:00", "15:30"


def slot(kind: str) -> Slot:
    return Slot("it", kind, minimum=4 if kind == "digits" else 0, maximum=8)


@pytest.mark.parametrize(
    ("kind", "before", "en", "zh", "after"),
    [
        ("date", DAY, "the ninth", "九号", "2027-03-09"),
        ("date", DAY, "nine", "九", "2027-03-09"),
        ("date", DAY, "april", "四月", "2027-04-05"),
        ("date", DAY, "wednesday", "星期三", "2027-03-03"),
        ("date", DAY, "the ninth of april", "四月九号", "2027-04-09"),
        ("date", DAY, "tomorrow", "明天", "2026-11-21"),
        ("date", DAY, "next tuesday", "下周二", "2026-11-24"),
        ("date", "1984-03-05", "nineteen eighty five", "一九八五年", "1985-03-05"),
        ("date", "1984-03-05", "the ninth of april", "四月九号", "1984-04-09"),
        ("date", "1984-03-05", "the ninth", "九号", "1984-03-09"),
        ("date", "2027-01-31", "february", "二月", None),
        ("date", "2026-11-25", "the fifth", "五号", "2026-12-05"),
        ("time", EIGHT, "nine", "九点", "21:00"),
        ("time", EIGHT, "nine am", "上午九点", "09:00"),
        ("time", "08:00", "in the evening", "晚上", "20:00"),
        ("time", "09:00", "four", "四点", "16:00"),
        ("time", HALF, "forty five", "四十五分", "15:45"),
        ("time", HALF, "four thirty", "四点半", "16:30"),
        ("money", 12.5, "sixty cents", "六毛", 12.6),
        ("money", 12.5, "thirteen dollars", "十三块", 13.0),
        ("number", 15, "sixteen", "十六", 16),
        ("digits", "12345678", "eight seven six five", "八七六五", "8765"),
    ],
)
def test_what_is_not_corrected_is_kept(
    kind: str, before: Any, en: str, zh: str, after: Any
) -> None:
    for language, text in (("en", en), ("zh", zh)):
        assert correcting.mended(slot(kind), text, before, language, NOW) == after, text


@pytest.mark.parametrize(
    ("kind", "before", "en", "zh", "after"),
    [
        ("digits", "1235", "not five, nine", "不是五，是九", "1239"),
        ("digits", "1235", "it's not two three, it's four four", "不是二三是四四", "1445"),
        ("digits", "1255", "not five, nine", "不是五，是九", None),
        ("date", DAY, "not the fifth, the ninth", "不是五号，是九号", "2027-03-09"),
        ("date", DAY, "not five but nine", "不是五而是九", "2027-03-09"),
        ("date", DAY, "not march, april", "不是三月，应该是四月", "2027-04-05"),
        ("date", DAY, "not the sixth, the ninth", "不是六号，是九号", None),
        ("time", HALF, "not three thirty, four", "不是三点半，是四点", "16:00"),
        ("number", 15, "not fifteen, sixteen", "不是十五，是十六", 16),
        ("number", 150, "not five, six", "不是五，是六", 160),
        ("money", 12.5, "not twelve fifty, thirteen", "不是十二块五，是十三块", 13.0),
    ],
)
def test_not_this_that(kind: str, before: Any, en: str, zh: str, after: Any) -> None:
    for language, text in (("en", en), ("zh", zh)):
        found = correcting.instead([slot(kind)], text, {"it": before}, language, NOW)
        assert found == ({} if after is None else {"it": after}), text


@pytest.mark.parametrize(
    ("said", "after"),
    [
        ("five six seven nine", "12345679"),
        ("the last one is nine", "12345679"),
        ("the last two are nine nine", "12345699"),
        ("最后一位是九", "12345679"),
        ("nine", None),
        ("one", None),
        ("nine nine nine", None),
    ],
)
def test_a_part_of_a_number_said_again_finds_its_place(said: str, after: str | None) -> None:
    language = "en" if said.isascii() else "zh"
    assert correcting.aligned(slot("digits"), said, "12345678", language, NOW) == after


# --- in a conversation --------------------------------------------------------------------------

FLOW = """\
flow: main
languages: [en, zh]
start: %s
slots:
  account: {type: digits, length: 8}
  visit: {type: date}
  hour: {type: time}
  amount: {type: number}
nodes:
  visit: {collect: {slot: visit, ask: {en: Which day?, zh: 哪天？}}, then: bye}
  account: {collect: {slot: account, ask: {en: Account?, zh: 账号？}}, then: bye}
  both:
    collect:
      ask: {en: When?, zh: 什么时候？}
      slots: {visit: {en: Which day?, zh: 哪天？}, hour: {en: What time?, zh: 几点？}}
      confirm: %s
    then: sure
  sure:
    confirm: {ask: {en: "On {visit:date}, {hour:time}?", zh: "{visit:date}{hour:time}？"}}
    then: bye
    otherwise: both
  told:
    collect: {slot: visit, ask: {en: Which day?, zh: 哪天？}}
    then: hour
  hour:
    collect: {slot: hour, ask: {en: "On {visit:date}. What time?", zh: "{visit:date}，几点？"}}
    then: bye
  way:
    menu:
      ask: {en: Which?, zh: 哪个？}
      choices:
        bill: {say: {en: [billing], zh: [账单]}, then: visit}
        repair: {say: {en: [repairs], zh: [报修]}, then: account}
  bye: {end: {}}
"""


def call(start: str, confirm: str = "unsure", **more: Any) -> Caller:
    return Caller(bundle(FLOW % (start, confirm)), **more)


def test_no_the_ninth() -> None:
    caller = call("visit")
    caller.says("the fifth of march", 0.5)
    assert caller.said == "I heard March fifth. Is that right?"
    caller.says("no, the ninth")
    assert caller.state.slots == {"visit": "2027-03-09"}
    assert caller.note("corrected") == {"confidence": 0.9, "slots": {"visit": "2027-03-09"}}
    chinese = call("visit", language="zh")
    chinese.says("三月五号", 0.5)
    chinese.says("不对，是九号")
    assert chinese.state.slots == {"visit": "2027-03-09"}


@pytest.mark.parametrize("said", ["not the fifth, the ninth", "no, not five, nine", "the ninth"])
def test_other_words_for_it(said: str) -> None:
    caller = call("visit")
    caller.says("the fifth of march", 0.5)
    caller.says(said)
    assert caller.state.slots == {"visit": "2027-03-09"}


def test_a_guess_is_read_back() -> None:
    caller = call("account")
    caller.says("one two three four five six seven eight", 0.5)
    caller.says("no, five six seven nine")
    assert caller.said == "I heard one two three four five six seven nine. Is that right?"
    caller.says("yes")
    assert caller.state.slots == {"account": "12345679"}


def test_of_two_values_one_is_corrected_and_the_other_kept() -> None:
    caller = call("both", "always")
    caller.says("the fifth of march at three pm")
    assert caller.said == "I heard March fifth, three p m. Is that right?"
    caller.says("no, the ninth")
    assert caller.said == "I heard March ninth, three p m. Is that right?"
    caller.says("no, at four thirty")
    assert caller.said == "I heard March ninth, four thirty p m. Is that right?"
    caller.says("yes")
    assert caller.state.slots == {"visit": "2027-03-09", "hour": "16:30"}


def test_a_confirmation_of_the_designer_s_keeps_the_rest_too() -> None:
    caller = call("both")
    caller.says("the fifth of march at three pm")
    caller.says("no, the ninth")
    assert caller.said == "On March ninth, three p m?"
    caller.says("no, in the morning")
    assert caller.said == "On March ninth, three a m?"
    assert {"not", "ninth"} <= set(caller.question.grammar.words)


def test_what_was_taken_as_told_can_be_corrected_at_the_next_question() -> None:
    caller = call("told")
    caller.says("the fifth of march")
    assert caller.said == "On March fifth. What time?"
    assert {"no", "ninth"} <= set(caller.question.grammar.words)
    caller.says("no, the ninth")
    assert caller.said == "On March ninth. What time?"
    caller.says("no, nine am")
    assert caller.state.slots == {"visit": "2027-03-09", "hour": "09:00"}


def test_what_is_not_read_out_is_said_once_it_is_corrected() -> None:
    for language, first, then, said in (
        ("en", "the fifth of march", "no, the ninth", "All right, March ninth. What time?"),
        ("zh", "三月五号", "不对，九号", "好的，三月九日。 几点？"),
    ):
        caller = call("both", language=language)
        caller.says(first)
        caller.says(then)
        assert caller.said == said
        assert caller.question.slot_type == "time"


def test_a_no_that_answers_the_question_corrects_nothing() -> None:
    flow = (FLOW % ("told", "unsure")).replace("hour: {type: time}", "hour: {type: yes_no}")
    caller = Caller(bundle(flow))
    caller.says("the fifth of march")
    caller.says("no, the ninth")
    assert caller.state.slots["visit"] == "2027-03-05"


def test_a_choice_is_corrected_in_one_step() -> None:
    for said in ("no, billing", "not repairs, billing", "billing"):
        caller = call("way")
        caller.says("repairs", 0.5)
        caller.says(said)
        assert caller.said == "Which day?", said
    chinese = call("way", language="zh")
    chinese.says("报修", 0.5)
    chinese.says("不是报修，是账单")
    assert chinese.said == "哪天？"


# --- for all texts ------------------------------------------------------------------------------

WORDS = [
    *("no", "not", "but", "it's", "the", "ninth", "nine", "at", "four", "march", "pm", "tomorrow"),
    *("不对", "不是", "是", "九号", "四点", "三月", "晚上", "九", "last", "12345678", "0", "2027"),
]
BEFORE = {
    "date": DAY,
    "time": EIGHT,
    "money": 12.5,
    "number": 15,
    "digits": "1234",
    "phone": "+14155550123",
    "yes_no": True,
    "text": "so",
}


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.text(max_size=40), st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)),
    st.sampled_from(sorted(BEFORE)),
    st.sampled_from(["en", "zh", "fr"]),
    st.booleans(),
)
def test_no_text_is_too_strange(text: str, kind: str, language: str, garbage: bool) -> None:
    one = slot(kind)
    before = "?" if garbage else BEFORE[kind]
    value = correcting.mended(one, text, before, language, NOW)
    assert value is None or isinstance(value, str | int | float)
    correcting.instead([one], text, {"it": before}, language, NOW)
    correcting.aligned(one, text, before, language, NOW)
