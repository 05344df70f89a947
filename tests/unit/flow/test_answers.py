"""How far an utterance has come: nothing, a part, an answer that may go on, or the end of one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.flow import answers
from ivr.flow.events import Expect, Grammar
from tests.unit.flow.caller import NOW, Caller, bundle

FLOW = """\
flow: main
languages: [en, zh]
start: START
slots:
  account: {type: digits, length: 4}
  free: {type: digits, min: 2, max: 6}
  visit: {type: date}
  size: {type: choice, of: {small: {en: [very small], zh: [小]}, large: {en: [large], zh: [很大]}}}
  note: {type: text}
nodes:
  menu: {menu: {ask: '?', choices: {
    a: {say: {en: ["bill [please]"], zh: [账单]}, then: end},
    b: {say: {en: [no water], zh: [账单查询]}, then: end}}}}
  account: {collect: {slot: account, ask: '?'}, then: end}
  free: {collect: {slot: free, ask: '?'}, then: end}
  visit: {collect: {slot: visit, ask: '?'}, then: end}
  size: {collect: {slot: size, ask: '?'}, then: end}
  note: {collect: {slot: note, ask: '?'}, then: end}
  yes: {confirm: {ask: 'Sure?'}, then: end, otherwise: end}
  end: {end: {}}
"""


def question(node: str, language: str = "en") -> Expect:
    return Caller(bundle(FLOW.replace("START", node)), language=language).question


def pending() -> Expect:
    caller = Caller(bundle(FLOW.replace("START", "account")))
    caller.says("one two three four", 0.5)
    return caller.question


@pytest.mark.parametrize(
    ("node", "text", "expected"),
    [
        ("menu", "", "none"),
        ("menu", "banana", "none"),
        ("menu", "bill", "full"),
        ("menu", "bill please", "final"),
        ("menu", "no", "partial"),
        ("menu", "no water", "final"),
        ("menu", "start", "partial"),
        ("menu", "start over", "final"),
        ("account", "one", "partial"),
        ("account", "one two three", "partial"),
        ("account", "one two three four", "final"),
        ("account", "repeat", "final"),
        ("free", "one two", "full"),
        ("free", "one two three four five six", "final"),
        ("visit", "next", "partial"),
        ("visit", "next tuesday", "full"),
        ("size", "very", "partial"),
        ("size", "very small", "final"),
        ("note", "my meter", "full"),
        ("yes", "yes", "full"),
        ("yes", "banana", "none"),
    ],
)
def test_progress_of_english(node: str, text: str, expected: str) -> None:
    assert answers.progress(question(node), text, NOW) == expected


@pytest.mark.parametrize(
    ("node", "text", "expected"),
    [
        ("menu", "账", "partial"),
        ("menu", "账单", "full"),
        ("menu", "账 单 查询", "final"),
        ("account", "一二三", "partial"),
        ("account", "一二三四", "final"),
        ("size", "很", "partial"),
        ("size", "小", "final"),
        ("menu", "重复", "final"),
    ],
)
def test_progress_of_chinese(node: str, text: str, expected: str) -> None:
    assert answers.progress(question(node, "zh"), text, NOW) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no", "full"),
        ("no one", "partial"),
        ("no one two three four", "partial"),
        ("repeat", "final"),
    ],
)
def test_after_a_no_the_right_value_may_follow(text: str, expected: str) -> None:
    assert answers.progress(pending(), text, NOW) == expected


EXPECTS = [question("menu"), question("account", "zh"), question("visit"), pending()]


@given(st.sampled_from(EXPECTS), st.text(max_size=40))
def test_any_text_has_some_progress(expect: Expect, text: str) -> None:
    assert answers.progress(expect, text, NOW) in ("none", "partial", "full", "final")


def test_phrases_and_words_decide_where_nothing_else_is_known() -> None:
    bare = Expect(1, "a", "en", Grammar("en", ("pay bill",), ("one", "two")))
    assert answers.progress(bare, "pay", NOW) == "partial"
    assert answers.progress(bare, "one two", NOW) == "partial"
    assert answers.progress(bare, "pay bill", NOW) == "final"
