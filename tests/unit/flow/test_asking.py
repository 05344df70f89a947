"""How asking works: misses, confidence, confirmations, corrections, keys, secrets, many slots."""

import pytest

from ivr.flow.events import DigitsPressed, Enqueue, SpeechHeard, TextReceived, TimedOut
from tests.unit.flow.caller import Caller, bundle

HEAD = """\
flow: main
languages: [en, zh]
start: a
slots:
  account: {type: digits, length: 4}
  pin: {type: digits, length: 4, secret: true}
  visit: {type: date}
  hour: {type: time}
  size: {type: choice, of: {small: {en: [small, little], zh: [小]}, large: {en: [large], zh: [大]}}}
  note: {type: text}
nodes:
"""
TAIL = """
  people: {queue: {skills: [care]}, otherwise: bye}
  bye: {end: Goodbye.}
"""
MENU = """\
  a:
    menu:
      ask: {en: Bill or repair?, zh: 账单还是报修？}
      choices:
        bill:
          press: 1
          say: {en: ["[my] (bill|billing)"], zh: [账单]}
          label: {en: Bill, zh: 账单}
          then: billed
        repair: {press: 2, say: {en: [repair], zh: [报修]}, then: repaired}
      no_input: [{en: Nothing heard.}, {en: Still nothing.}]
      no_match: [{en: Not understood.}, {en: Still not understood.}]
      tries: 3
      otherwise: people
  billed: {say: Billing it is., then: bye}
  repaired: {say: Repairs it is., then: bye}
"""
COLLECT = "  a: {collect: {slot: account, ask: Account?, otherwise: people}, then: bye}\n"


def call(nodes: str, **options: object) -> Caller:
    return Caller(bundle(HEAD + nodes + TAIL), **options)  # type: ignore[arg-type]


# --- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        SpeechHeard("my bill", 0.9),
        SpeechHeard("my bill please", 0.9),
        SpeechHeard("bell", 0.9, (("bill", 0.8),)),
        DigitsPressed("1"),
        TextReceived("1"),
        TextReceived(" BILL! "),
        TextReceived("账单"),
    ],
)
def test_a_menu_takes_what_is_said_pressed_and_typed(answer: SpeechHeard) -> None:
    caller = call(MENU)
    caller.tell(answer)
    assert caller.said == "Billing it is. Goodbye."
    assert caller.note("matched")["choice"] == "bill"


def test_a_question_says_what_is_expected_never_how() -> None:
    asked = call(MENU).question
    assert (asked.node, asked.language, asked.slot_type, asked.wait) == ("a", "en", "", 5.0)
    assert [(choice.name, choice.label, choice.key) for choice in asked.choices] == [
        ("bill", "Bill", "1"),
        ("repair", "repair", "2"),
    ]
    assert asked.keypad.options == ("1", "2")
    assert {"bill", "my bill", "billing", "repair", "agent", "repeat"} <= set(asked.grammar.phrases)
    chinese = call(MENU, language="zh").question
    assert {"账单", "报修", "人工", "重复"} <= set(chinese.grammar.phrases)
    assert chinese.grammar.language == "zh"


def test_keys_pressed_ahead_answer_the_next_question() -> None:
    caller = call(
        "  a: {menu: {ask: Which?, choices: {x: {press: 1, then: b}}}}\n"
        + COLLECT.replace("  a:", "  b:")
    )
    caller.presses("11234")
    assert caller.state.slots == {"account": "1234"}


def test_on_a_text_channel_silence_is_hours() -> None:
    assert call(MENU, channel="sms").question.wait >= 4 * 3600
    assert (
        call("  a: {collect: {slot: account, ask: A?, wait: 7s}, then: bye}\n").question.wait == 7
    )


def test_an_answer_to_an_earlier_question_changes_nothing() -> None:
    caller = call(MENU)
    turn = caller.question.turn
    caller.is_silent()
    before = caller.state
    for late in (SpeechHeard("bill", 0.9, turn=turn), DigitsPressed("1", turn), TimedOut(turn)):
        caller.tell(late)
        assert (caller.state, caller.effects) == (before, [])
    caller.tell(SpeechHeard("bill", 0.9, turn=turn + 1))
    assert caller.ended


# --- misses -------------------------------------------------------------------------------------


def test_misses_are_told_in_turn_and_count_on_their_own() -> None:
    caller = call(MENU)
    caller.is_silent()
    assert caller.said == "Nothing heard. Bill or repair?"
    caller.says("banana")
    assert caller.said == "Not understood. Bill or repair?"
    caller.is_silent()
    assert caller.said == "Still nothing. Bill or repair?"
    caller.says("", 0.0)
    assert caller.said == "Still not understood. Bill or repair?"
    assert (caller.state.question.no_input, caller.state.question.no_match) == (2, 2)
    caller.is_silent()
    assert caller.did(Enqueue) is not None


def test_the_last_text_repeats() -> None:
    caller = call(MENU.replace("tries: 3", "tries: 9"))
    caller.is_silent(5)
    assert caller.said.count("Still nothing.") == 4


def test_an_impossible_key_is_no_match() -> None:
    caller = call(MENU)
    caller.presses("7")
    assert caller.said == "Not understood. Bill or repair?"


def test_counts_begin_anew_when_the_customer_comes_again() -> None:
    caller = call(MENU.replace("then: billed", "then: a"))
    caller.is_silent(2)
    caller.says("bill")
    assert caller.state.question.no_input == 0


def test_without_otherwise_people_help_and_without_people_it_ends_politely() -> None:
    caller = call(COLLECT.replace(", otherwise: people", ""))
    caller.is_silent(3)
    assert caller.state.node == "people"
    flow = HEAD + COLLECT.replace(", otherwise: people", "") + "  bye: {end: {}}\n"
    alone = Caller(bundle(flow))
    alone.is_silent(3)
    assert "cannot help you" in alone.said
    assert alone.ended


# --- confidence ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("confidence", "said"),
    [
        (0.7, "Billing it is. Goodbye."),
        (0.69, "I heard Bill. Is that right?"),
        (0.35, "I heard Bill. Is that right?"),
        (0.34, "Not understood. Bill or repair?"),
    ],
)
def test_confidence_decides(confidence: float, said: str) -> None:
    caller = call(MENU)
    caller.says("bill", confidence)
    assert caller.said == said


def test_never_takes_what_is_not_refused_and_always_confirms_even_keys() -> None:
    never = call(COLLECT.replace("ask:", "confirm: never, ask:"))
    never.says("one two three four", 0.4)
    assert never.state.slots == {"account": "1234"}
    always = call(COLLECT.replace("ask:", "confirm: always, ask:"))
    always.presses("1234")
    assert always.said == "I heard one two three four. Is that right?"
    always.presses("1")
    assert always.state.slots == {"account": "1234"}
    assert always.ended


def test_bands_are_the_designer_s() -> None:
    caller = call(COLLECT.replace("ask:", "confidence: {accept: 0.95, reject: 0.9}, ask:"))
    caller.says("one two three four", 0.92)
    assert "Is that right?" in caller.said


# --- confirmations ------------------------------------------------------------------------------


def unsure(value: str = "one two three four") -> Caller:
    caller = call(COLLECT)
    caller.says(value, 0.5)
    assert caller.question.slot_type == "yes_no"
    return caller


@pytest.mark.parametrize("yes", ["yes", "that's right", "yeah", "one two three four"])
def test_a_yes_takes_the_value(yes: str) -> None:
    caller = unsure()
    caller.says(yes, 0.6)
    assert caller.state.slots == {"account": "1234"}


def test_a_no_asks_again() -> None:
    caller = unsure()
    caller.says("no")
    assert caller.said == "Account?"
    assert caller.state.slots == {}
    assert caller.state.question.no_match == 0


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("no five six seven eight", "5678"),
        ("no, it's five six seven eight", "5678"),
        ("five six seven eight", "5678"),
        ("no, five six seven oh", "5670"),
    ],
)
def test_no_and_the_right_value_corrects_at_once(said: str, value: str) -> None:
    caller = unsure()
    caller.says(said)
    assert caller.state.slots == {"account": value}
    assert "corrected" in caller.notes


def test_a_chinese_caller_corrects_too() -> None:
    caller = call(COLLECT, language="zh")
    caller.says("一二三四", 0.5)
    assert caller.said == "我听到的是一二三四，对吗？"
    caller.says("不对五六七八")
    assert caller.state.slots == {"account": "5678"}


def test_a_correction_of_a_menu_s_choice() -> None:
    caller = call(MENU)
    caller.says("bill", 0.5)
    caller.says("no repair")
    assert caller.said == "Repairs it is. Goodbye."


def test_an_unsure_correction_is_confirmed_in_its_turn() -> None:
    caller = unsure()
    caller.says("no five six seven eight", 0.5)
    assert caller.said == "I heard five six seven eight. Is that right?"
    caller.says("yes")
    assert caller.state.slots == {"account": "5678"}


def test_no_that_s_right_is_not_understood_as_a_correction() -> None:
    caller = unsure()
    caller.says("no agent")
    assert caller.state.slots == {}


def test_an_unclear_confirmation_is_asked_again_and_counts() -> None:
    caller = unsure()
    caller.says("banana")
    assert caller.said.startswith("Please say yes or no")
    assert caller.said.endswith("Is that right?")
    caller.is_silent()
    assert caller.said == "I did not hear you. I heard one two three four. Is that right?"
    caller.is_silent(2)
    assert caller.did(Enqueue) is not None


def test_after_two_refusals_the_question_asks_for_keys() -> None:
    caller = unsure()
    caller.says("no")
    caller.says("one two three four", 0.5)
    caller.says("no")
    assert caller.said == "Please use the keypad this time. Account?"
    assert caller.question.listen == ("keys",)
    assert caller.question.grammar.phrases == ()
    caller.says("one two three four", 0.9)
    assert "no_match" in caller.notes
    caller.presses("1234")
    assert caller.state.slots == {"account": "1234"}


def test_a_global_phrase_works_in_a_confirmation_and_is_confirmed_when_unsure() -> None:
    caller = unsure()
    caller.says("agent", 0.9)
    assert caller.did(Enqueue) is not None
    caller = call(MENU)
    caller.says("agent", 0.5)
    assert caller.said == "I heard agent. Is that right?"
    caller.says("yes")
    assert caller.did(Enqueue) is not None


def test_repeat_in_a_confirmation_repeats_the_confirmation() -> None:
    caller = unsure()
    caller.says("repeat")
    assert caller.said == "I heard one two three four. Is that right?"


# --- confirm nodes ------------------------------------------------------------------------------

CONFIRM = (
    "  a: {collect: {slot: account, ask: Account?}, then: sure}\n"
    "  sure: {confirm: {ask: 'Is {account:digits} right?'}, then: bye, otherwise: a}\n"
)


def test_confirm_branches_by_yes_and_no() -> None:
    caller = call(CONFIRM)
    caller.presses("1234")
    assert caller.said == "Is one two three four right?"
    caller.says("no")
    assert caller.said == "Account?"
    caller.presses("1234")
    caller.types("y")
    assert caller.ended


def test_confirm_lets_the_value_be_corrected_at_once() -> None:
    caller = call(CONFIRM)
    caller.presses("1234")
    caller.says("no, five six seven eight")
    assert caller.said == "Is five six seven eight right?"
    caller.says("yes")
    assert caller.state.slots == {"account": "5678"}


def test_a_value_refused_twice_in_a_confirm_node_is_asked_for_by_keys() -> None:
    caller = call(CONFIRM)
    for _ in range(2):
        caller.says("one two three four")
        caller.says("no")
    assert caller.question.listen == ("keys",)


def test_confirm_gives_up_to_its_own_otherwise() -> None:
    caller = call(CONFIRM.replace("right?'}", "right?', otherwise: people}"))
    caller.presses("1234")
    caller.is_silent(3)
    assert caller.did(Enqueue) is not None


# --- secrets ------------------------------------------------------------------------------------

SECRET = "  a: {collect: {slot: pin, ask: PIN?}, then: bye}\n"


def test_a_secret_is_pressed_and_its_question_says_so() -> None:
    caller = call(SECRET)
    assert caller.question.secret
    assert caller.question.listen == ("keys",)
    assert caller.state.question.secret
    caller.presses("9876")
    assert caller.note("slot_filled") == {
        "slot": "pin",
        "secret": True,
        "confidence": 1.0,
        "how": "keys",
    }
    assert caller.ended


def test_a_secret_that_may_be_spoken_is_never_read_back() -> None:
    caller = call(SECRET.replace("ask:", "listen: [speech, keys], confirm: always, ask:"))
    caller.says("nine eight seven six", 0.5)
    assert "Sorry, I did not get that." in caller.said
    assert "9876" not in repr(caller.state) + repr(caller.effects)
    caller.says("nine eight seven six", 0.9)
    assert caller.ended


def test_what_is_said_to_a_question_for_a_secret_fills_nothing_else() -> None:
    caller = call(
        "  a: {collect: {slots: [pin, account], ask: PIN?, listen: [speech, keys]}, then: bye}\n"
    )
    caller.says("nine eight seven six please small")
    assert caller.question.slot_type == "digits" and not caller.question.secret
    assert caller.state.slots == {}
    caller = call("  a: {collect: {slots: [pin, visit], ask: PIN?}, then: bye}\n", channel="sms")
    caller.types("tomorrow")
    assert caller.state.slots == {} and caller.question.secret


def test_a_command_beside_a_secret_does_not_keep_it() -> None:
    caller = call(SECRET.replace("ask:", "listen: [speech, keys], ask:"))
    caller.says("nine eight seven six five agent", 0.5)
    assert caller.said == "I heard agent. Is that right?"
    assert "nine eight" not in repr(caller.state) + repr(caller.effects[:-1])
    caller.says("yes")
    assert caller.did(Enqueue) is not None


# --- slots --------------------------------------------------------------------------------------


def test_a_choice_is_said_pressed_by_its_place_and_typed() -> None:
    for answer in (SpeechHeard("little", 0.9), DigitsPressed("1"), TextReceived("Small")):
        caller = call("  a: {collect: {slot: size, ask: Size?}, then: bye}\n")
        assert [choice.name for choice in caller.question.choices] == ["small", "large"]
        caller.tell(answer)
        assert caller.state.slots == {"size": "small"}


def test_one_answer_may_fill_more_than_was_asked_for() -> None:
    nodes = (
        "  a:\n    collect:\n      ask: When may we come?\n"
        "      slots: {visit: Which day?, hour: What time?, size: 'Large or small?'}\n"
        "    then: bye\n"
    )
    caller = call(nodes)
    caller.says("next tuesday at three please")
    assert caller.said == "Large or small?"
    assert caller.state.slots == {"visit": "2026-11-24", "hour": "15:00"}
    caller.says("large")
    assert caller.ended
    chinese = call(nodes, language="zh")
    chinese.says("下周二下午三点")
    assert chinese.state.slots == {"visit": "2026-11-24", "hour": "15:00"}


@pytest.mark.parametrize("said", ["little tomorrow", "tuesday 3 pm, a large one"])
def test_what_stands_in_the_way_of_one_answer_may_be_another(said: str) -> None:
    caller = call(
        "  a:\n    collect:\n      ask: When may we come?\n"
        "      slots: {visit: Which day?, hour: What time?, size: 'Large or small?'}\n"
        "    then: bye\n"
    )
    caller.says(said)
    known = {"little tomorrow": {"visit": "2026-11-21", "size": "small"}}
    more = {"visit": "2026-11-24", "hour": "15:00", "size": "large"}
    assert caller.state.slots == known.get(said, more)


def test_a_bare_number_answers_what_was_asked() -> None:
    caller = call(
        "  a: {collect: {slots: {account: Number?, hour: What time?}, ask: Both?}, then: bye}\n"
    )
    caller.types("1230")
    assert caller.said == "What time?"
    caller.types("1230")
    assert caller.state.slots == {"account": "1230", "hour": "12:30"}


def test_several_slots_are_asked_for_one_by_one() -> None:
    caller = call("  a: {collect: {slots: [account, pin], ask: Numbers?}, then: bye}\n")
    caller.says("one two three four")
    assert caller.said == "Numbers?"
    assert caller.question.secret
    caller.presses("9876")
    assert caller.ended


def test_a_text_slot_takes_any_text_but_the_global_phrases() -> None:
    caller = call("  a: {collect: {slot: note, ask: Note?}, then: bye}\n", channel="chat")
    caller.types("agent")
    assert caller.did(Enqueue) is not None
    caller = call("  a: {collect: {slot: note, ask: Note?}, then: bye}\n", channel="chat")
    caller.types("the agent was late")
    assert caller.state.slots == {"note": "the agent was late"}
