"""English and Chinese in one flow: chosen by key, by voice or by what is known of the caller."""

from __future__ import annotations

import pytest

from ivr.flow.events import Say
from tests.unit.flow.caller import Caller, bundle

FLOW = """\
flow: main
languages: [en, zh]
start: which
slots:
  tongue: {type: choice, of: {en: {en: [english], zh: [英语]}, zh: {en: [chinese], zh: [中文]}}}
  size: {type: choice, of: {s: {en: [small], zh: [小号]}, l: {en: [large], zh: [大号]}}}
  sure: {type: yes_no}
  count: {type: number}
  visit: {type: date}
nodes:
  which:
    menu:
      ask: {en: "For English press 1. 中文请按2。"}
      choices:
        english: {press: 1, say: {en: [english], zh: [英语, 英文]}, then: english}
        chinese: {press: 2, say: {en: [chinese], zh: [中文, 普通话]}, then: chinese}
        ask: {press: 3, say: {en: [ask], zh: [问]}, then: asked}
  english: {language: {to: en}, then: size}
  chinese: {language: {to: zh}, then: size}
  asked: {collect: {slot: tongue, ask: {en: Which language?, zh: 哪种语言？}}, then: switch}
  switch: {language: {to: "{tongue}"}, then: size}
  size: {collect: {slot: size, ask: {en: What size?, zh: 要几号？}}, then: count}
  count:
    collect: {slot: count, ask: {en: "How many {size} ones?", zh: "{size}要几个？"}}
    then: visit
  visit:
    collect: {slot: visit, ask: {en: "{count}. When?", zh: "{count:number}个，什么时候？"}}
    then: sure
  sure: {collect: {slot: sure, ask: {en: "On {visit:date}?", zh: "{visit:date}？"}}, then: last}
  last:
    say: {en: "{sure}, {size}, {tongue}.", zh: "{sure}，{size}，第{count:number}位，{tongue}。"}
    then: bye
  bye: {end: {}}
"""


def call(**more: str) -> Caller:
    return Caller(bundle(FLOW), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", ["2", "chinese", "中文", "普通话"])
def test_recogniser_voice_and_formats_follow_the_language_at_once(answer: str) -> None:
    caller = call()
    caller.presses(answer) if answer == "2" else caller.says(answer)
    [said] = [effect for effect in caller.effects if isinstance(effect, Say)]
    assert (said.text, said.language) == ("要几号？", "zh")
    assert caller.question.language == caller.question.grammar.language == "zh"
    assert "小号" in caller.question.grammar.phrases
    caller.says("小号")
    assert caller.said == "小号要几个？"
    caller.says("两个")
    assert caller.said == "两个，什么时候？"
    caller.says("三月五号")
    assert caller.said == "三月五日？"
    caller.says("是")
    assert caller.said == "是，小号，第二位，。"


def test_a_menu_of_languages_listens_for_each_in_its_own_words() -> None:
    assert {"english", "chinese", "中文", "普通话"} <= set(call().question.grammar.phrases)
    caller = call(language="zh")
    assert {"中文", "english"} <= set(caller.question.grammar.phrases)
    caller.says("english")
    assert caller.said == "What size?"
    asked = call()
    asked.says("ask")
    assert {"chinese", "中文"} <= set(asked.question.grammar.phrases)
    asked.says("中文")
    assert asked.said == "要几号？"


def test_another_menu_listens_in_one_language() -> None:
    flow = FLOW.replace("then: english}", "then: size}").replace("then: chinese}", "then: size}")
    assert "中文" not in Caller(bundle(flow)).question.grammar.phrases


def test_what_is_known_of_the_caller_chooses() -> None:
    assert call(language="zh").question.language == "zh"
    assert call(language="zh-CN").question.language == "zh"
    assert call(language="fr").question.language == "en"


def test_a_choice_is_said_as_it_is_called() -> None:
    caller = call()
    caller.says("ask")
    caller.says("english")
    caller.says("large")
    assert caller.said == "How many large ones?"
    caller.says("two")
    caller.says("march fifth")
    caller.says("yes")
    assert caller.said == "yes, large, english."
    assert caller.state.slots["size"] == "l"
