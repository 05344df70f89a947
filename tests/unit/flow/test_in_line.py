"""Who waits in line, or to turn up on another channel, steers the flow by voice all the while."""

from typing import Any

from ivr.flow.events import AgentJoined, Dequeue, Expect, Invite, QueueMoved, SpeechHeard
from tests.unit.flow.caller import Caller, bundle

LINE = """\
flow: main
languages: [en, zh]
start: which
channels: [sms]
slots: {message: {type: text}}
anytime: {go_back: note}
nodes:
  which: {menu: {ask: Which?, choices: {bill: {press: 1, say: [bill], then: people}}}}
  people: {queue: {waiting: "{ahead} before you."}, otherwise: bye}
  note: {record: {slot: message, ask: Speak.}, then: bye}
  bye: {end: {}}
"""


def in_line(**more: Any) -> Caller:
    caller = Caller(bundle(LINE), **more)
    caller.says("bill") if more.get("channel", "voice") == "voice" else caller.types("bill")
    assert caller.state.waiting.kind == "queue"
    return caller


def test_who_waits_in_line_is_listened_to_for_ever() -> None:
    caller = in_line()
    asked = caller.question
    assert (asked.wait, asked.listen, asked.keypad.options) == (0.0, ("speech",), ())
    assert {"repeat", "start over", "text me"} <= set(asked.grammar.phrases)
    assert "agent" not in asked.grammar.phrases


def test_what_is_not_understood_in_line_changes_nothing_but_is_listened_to_on() -> None:
    caller = in_line()
    for text, confidence in (("banana", 0.9), ("", 0.0), ("start over", 0.5), ("agent", 0.9)):
        before = caller.question.turn
        caller.tell(SpeechHeard(text, confidence, turn=before))
        assert (caller.question.turn, caller.said) == (before + 1, "")
        assert caller.state.waiting.kind == "queue"
    assert caller.did(Dequeue) is None


def test_global_phrases_work_in_line() -> None:
    caller = in_line()
    caller.tell(QueueMoved(caller.state.place.id, 3))  # type: ignore[union-attr]
    assert caller.said == "3 before you."
    caller.says("repeat")
    assert caller.said == "3 before you."
    caller.says("text me")
    assert caller.did(Invite) is not None and caller.did(Dequeue) is None
    caller.says("start over")
    assert caller.said == "Which?" and caller.did(Dequeue) is not None


def test_a_designer_s_own_way_out_of_the_line_works_by_voice() -> None:
    caller = in_line(language="zh")
    assert "返回" in caller.question.grammar.phrases
    caller.says("返回")
    assert caller.said == "Speak." and caller.did(Dequeue) is not None


def test_on_text_channels_the_line_asks_nothing() -> None:
    caller = in_line(channel="sms")
    assert caller.did(Expect) is None


def test_an_agent_ends_the_listening() -> None:
    caller = in_line()
    turn = caller.question.turn
    caller.tell(AgentJoined(caller.state.place.id, "ann"))  # type: ignore[union-attr]
    before = caller.state
    caller.tell(SpeechHeard("start over", 0.9, turn=turn))
    assert caller.state == before


def test_noise_does_not_end_the_waiting_for_another_channel() -> None:
    caller = in_line()
    caller.says("start over")
    caller.says("text me")
    caller.says("banana")
    assert caller.did(Expect).wait == 120.0
