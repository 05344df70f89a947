"""What a designer can write in a test, and what they are told when it does not come out."""

from __future__ import annotations

import json
import time
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st

from ivr.flow import loader
from ivr.flow.loader import FlowErrors
from ivr.flow.testing import coverage, playing, reports, script
from ivr.flow.testing.playing import Result
from ivr.flow.testing.texts import find, fold
from tests.unit.flow.dialogues import WATER, water

ANN = '{"GET crm/customers/12345678": {status: 200, json: {name: Ann, overdue: 0, balance: 12.5}}}'


def play(steps: str, given: str = "{}", extra: str = "") -> list[Result]:
    """Play one test, its steps given as lines of YAML."""
    indented = "\n".join(f"      {line}" for line in steps.strip().splitlines())
    text = f"flow: water\ntests:\n  - name: it\n    given: {given}\n{extra}    steps:\n{indented}\n"
    (case,) = script.read(text, "water.test.yaml").cases
    return playing.run("water.test.yaml", case, water())


def passes(steps: str, given: str = "{}", extra: str = "") -> None:
    for result in play(steps, given, extra):
        assert result.ok, "\n".join(reports.lines(result))


def fails(steps: str, given: str = "{}") -> Result:
    (result,) = play(steps, given)
    assert not result.ok
    return result


def refused(text: str) -> list[str]:
    with pytest.raises(FlowErrors) as caught:
        script.read(text, "x.test.yaml")
    return [str(error) for error in caught.value.errors]


# --- the example of the reference page ----------------------------------------------------------

EXAMPLE = """\
- hears: Welcome to Acme Water
- says: my bill
- hears: eight digit account
- presses: "12345678"
- hears: twelve dollars and fifty cents
- silent: 2
- hangs_up: true
- expect: {node: main, slots: {account: "12345678"}}
"""


def test_the_example_passes_on_a_call() -> None:
    passes(EXAMPLE, f"{{channel: voice, language: en, fetch: {ANN}}}")


def test_the_same_steps_mean_the_same_on_every_channel() -> None:
    passes(EXAMPLE, f"{{fetch: {ANN}}}", "    channels: [voice, sms, chat, wechat]\n")


def test_a_test_for_text_channels_means_the_same_on_a_call() -> None:
    steps = """
- types: 1
- reads: account number
- types: "12345678"
- reads: $12.50
- expect: {node: main}
"""
    passes(steps, f"{{fetch: {ANN}}}", "    channels: [sms, voice]\n")


def test_a_test_for_one_channel_wants_what_that_channel_says() -> None:
    steps = '- types: 1\n- types: "12345678"\n- reads: twelve dollars'
    assert "twelve dollars" in fails(steps, f"{{channel: sms, fetch: {ANN}}}").expected


# --- hearing ------------------------------------------------------------------------------------


def test_hearing_goes_forward_through_what_was_said() -> None:
    passes("- hears: welcome\n- hears: press 1\n- hears: say repairs")
    result = fails("- hears: say repairs\n- hears: welcome")
    assert result.happened == "that was said only before"
    assert result.line == 7


def test_only_what_was_said_since_the_customer_spoke_is_heard() -> None:
    fails("- says: billing\n- hears: Welcome")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("welcome to ACME water", "Welcome, to Acme Water!"),
        ("dont hang up", "Don’t hang up."),
        ("twenty five", "twenty-five"),
        ("12.50", "It is $12.50."),
        ("您的余额", "您的 余额。"),
        ("余额是12.5元", "余额是 12.5 元。"),
    ],
)
def test_case_and_punctuation_do_not_matter(wanted: str, said: str) -> None:
    assert find(wanted, fold(said)) > 0


@pytest.mark.parametrize(
    ("wanted", "said"), [("2.50", "12.50"), ("12", "12.50"), ("1", "21"), ("£5", "$5"), ("no", "")]
)
def test_a_part_of_a_number_is_another_number(wanted: str, said: str) -> None:
    assert find(wanted, fold(said)) < 0


# --- what callers do ----------------------------------------------------------------------------


def test_keys_pressed_ahead_answer_the_questions_to_come() -> None:
    passes(
        '- presses: "112345678"\n- hears: your balance\n- expect: {node: main}', f"{{fetch: {ANN}}}"
    )


def test_a_pause_ends_an_entry_that_is_too_short() -> None:
    passes('- presses: "1"\n- presses: "123"\n- hears: did not get that\n- expect: {node: account}')


def test_what_is_not_understood_well_is_confirmed() -> None:
    passes(
        "- says: {text: billing, confidence: 0.5}\n- hears: Is that right\n"
        "- says: yes\n- expect: {node: account}"
    )


def test_a_noise_is_no_match() -> None:
    passes(
        '- says: {text: "", confidence: 0.1}\n- hears: I did not get that\n- expect: {node: main}'
    )


def test_speech_is_not_heard_where_only_keys_are_listened_for() -> None:
    passes(
        '- presses: "3"\n- says: one two three four\n- hears: did not hear you\n'
        "- expect: {node: pin}"
    )


def test_a_failure_says_that_speech_was_not_listened_for() -> None:
    result = fails('- presses: "3"\n- says: one two three four\n- expect: {node: bye}')
    assert any("listens for keys alone" in line for line in reports.lines(result))


def test_silences_count_until_the_flow_gives_up() -> None:
    passes(
        "- silent: 2\n- hears: did not hear\n- hears: did not hear\n"
        "- silent: 1\n- expect: {node: people}"
    )


def test_nothing_can_be_said_once_it_is_over() -> None:
    result = fails('- presses: "4"\n- says: hello\n- expect: {ended: true}\n- says: more')
    assert (result.line, result.happened) == (9, "the conversation is over (completed)")


def test_hanging_up_afterwards_is_no_mistake() -> None:
    passes('- presses: "4"\n- says: hello\n- hangs_up: true\n- expect: {ended: true}')


def test_chinese_is_played_in_chinese() -> None:
    passes(
        '- hears: 欢迎致电\n- says: 账单\n- presses: "12345678"\n- hears: 您的余额是\n'
        "- expect: {language: zh}",
        f"{{language: zh, fetch: {ANN}}}",
    )


def test_menus_are_printed_with_their_keys() -> None:
    passes(
        "- reads: 1 bill\n- reads: 2 repairs\n- types: Repairs\n- expect: {node: people}",
        "{channel: sms}",
    )


def test_a_language_that_the_flow_lacks_is_told() -> None:
    assert fails("- hears: welcome", "{language: fr}").happened == "the flow has en, zh"


# --- other systems ------------------------------------------------------------------------------


def test_a_fetch_that_the_test_does_not_give_fails_it() -> None:
    result = fails(
        '- says: billing\n- presses: "87654321"\n- expect: {node: people}', f"{{fetch: {ANN}}}"
    )
    assert result.line == 7
    assert result.happened == "the flow asks GET crm/customers/87654321"
    assert "GET crm/customers/12345678" in result.expected


@pytest.mark.parametrize("answer", ["{status: 404}", "{error: timeout}", "{status: 500, json: {}}"])
def test_a_fetch_may_fail(answer: str) -> None:
    given = f"{{fetch: {{get /crm/customers/12345678: {answer}}}}}"
    passes('- says: billing\n- presses: "12345678"\n- expect: {node: people}', given)


def test_answers_may_differ_from_time_to_time() -> None:
    answers = "[{json: {overdue: 7}}, {json: {overdue: 0, balance: 1}}]"
    given = f"{{fetch: {{GET crm/customers/12345678: {answers}}}}}"
    steps = """
- presses: "112345678"
- hears: you owe seven dollars
- presses: "112345678"
- hears: your balance is one dollar
- presses: "112345678"
- hears: your balance is one dollar
"""
    passes(steps, given)


# --- people, other channels, messages, transfers ------------------------------------------------


def test_queues_are_seen_with_skills_and_priority() -> None:
    passes("- says: agent\n- expect: {queued: {skills: [repairs, billing], priority: 0}}")
    assert "priority 0" in fails("- says: agent\n- expect: {queued: {priority: 5}}").happened
    assert "has not been queued" in fails("- expect: {queued: {skills: []}}").happened
    passes("- expect: {queued: false, ended: false, sent: false, recorded: false}")


def test_people_come_and_go() -> None:
    passes(
        "- says: agent\n- happens: {ahead: 2}\n- hears: number 3\n- happens: {joined: ann}\n"
        "- happens: {left: true}\n- hears: goodbye\n- expect: {ended: completed}"
    )
    passes("- says: agent\n- happens: {nobody: closed}\n- hears: Nobody can take your call")
    result = fails("- happens: {joined: ann}")
    assert result.happened == "the flow waits for answer at main, not for queue"


def test_waiting_in_line_leads_to_an_offer_and_at_last_to_its_end() -> None:
    passes(
        "- says: agent\n- happens: {passes: 59s}\n- expect: {node: people}\n"
        "- happens: {passes: 1s}\n- expect: {node: offer}"
    )
    passes(
        "- says: agent\n- silent: 1\n- hears: Shall I text you\n"
        "- says: no\n- silent: 1\n- hears: Nobody can"
    )


def test_nothing_comes_of_silence_towards_a_person() -> None:
    result = fails("- says: agent\n- happens: {joined: ann}\n- silent: 1")
    assert "talks with a person" in result.happened


def test_a_customer_goes_on_where_they_were_invited_to() -> None:
    steps = """
- presses: "6"
- says: yes
- hears: sent you a message
- expect: {channel: voice, sent: {channel: sms, text: "Acme Water: continue"}}
- reads: continue at
- reads: 1 bill
- types: billing
- reads: account number
- expect: {channel: sms, node: account}
"""
    passes(steps)


def test_typing_or_expecting_the_channel_is_turning_up_too() -> None:
    passes('- presses: "6"\n- says: yes\n- types: billing\n- expect: {channel: sms, node: account}')
    passes('- presses: "6"\n- says: yes\n- expect: {channel: sms, node: main}\n- types: billing')


def test_an_invitation_that_fails_leads_to_the_next_channel() -> None:
    passes(
        '- presses: "6"\n- says: yes\n- happens: {undelivered: true}\n'
        "- expect: {sent: {channel: chat}}\n"
        "- silent: 1\n- expect: {node: people, channel: voice}"
    )


def test_messages_are_what_is_said_while_recording() -> None:
    passes(
        '- presses: "4"\n- hears: after the tone\n- says: My pipe leaks\n'
        "- expect: {recorded: my pipe, slots: {message: My pipe leaks}, ended: true}"
    )
    passes('- presses: "4"\n- silent: 1\n- expect: {recorded: false, ended: true}')
    passes("- types: 4\n- types: My pipe leaks\n- expect: {recorded: true}", "{channel: sms}")


@pytest.mark.parametrize(
    ("step", "node"),
    [
        ("happens: {transfer: answered}", "bye"),
        ("happens: {transfer: busy}", "people"),
        ("silent: 1", "people"),
    ],
)
def test_transfers_come_out_as_the_test_says(step: str, node: str) -> None:
    passes(f'- presses: "5"\n- {step}\n- expect: {{node: {node}}}')


@pytest.mark.parametrize(
    ("how", "node"), [("open", "people"), ("closed", "bye"), ("holiday", "bye")]
)
def test_calendars_may_be_held(how: str, node: str) -> None:
    passes(f"- says: repairs\n- expect: {{node: {node}}}", f"{{hours: {{office: {how}}}}}")


def test_a_missing_calendar_is_mentioned() -> None:
    result = fails("- says: repairs\n- expect: {node: closed}")
    assert "office" in result.remarks[0]


# --- expectations -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "happened"),
    [
        ("{node: account}", "main"),
        ("{slots: {account: '1'}}", "account = null"),
        ("{language: zh}", "en"),
        ("{channel: sms}", "voice"),
        ("{ended: true}", "at main"),
        ("{recorded: true}", "false"),
        ("{sent: {channel: sms}}", "no text was sent"),
    ],
)
def test_what_is_expected_and_what_happened_are_told(expected: str, happened: str) -> None:
    result = fails(f"- hears: welcome\n- expect: {expected}")
    assert (result.line, result.happened) == (7, happened)
    assert result.said[-1].startswith("Say billing")
    assert result.to_json()["happened"] == happened


def test_slots_are_compared_as_they_are_written() -> None:
    given = f"{{fetch: {ANN}}}"
    passes('- presses: "112345678"\n- expect: {slots: {account: 12345678, visit: null}}', given)
    fails('- presses: "112345678"\n- expect: {slots: {account: 1234567}}', given)


def test_a_secret_is_compared_but_never_shown() -> None:
    given = "{fetch: {POST crm/checks: {status: 200}}}"
    result = fails('- presses: "34711"\n- expect: {slots: {pin: "0000"}}', given)
    assert "4711" not in "\n".join(reports.lines(result))


# --- files that are wrong -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "x.test.yaml:0:0: E001 the file is empty"),
        ("flow: a\ntests: [", "E001"),
        ("[]", "x.test.yaml:1:1: E003 a mapping"),
        ("tests: []", "x.test.yaml:1:1: E004 a test file needs the key 'flow'"),
        ("flow: a\ntests: []", "x.test.yaml:2:8: E003 a list of 1 to"),
        ("flow: a\ntests:\n  - {name: x}", "x.test.yaml:3:5: E004 a test needs the key 'steps'"),
        ("flow: a\ntest: 1\ntests: [{name: x, steps: [{hears: a}]}]", "x.test.yaml:2:1: E002"),
    ],
)
def test_a_wrong_file_is_told_with_its_place(text: str, error: str) -> None:
    assert refused(text)[0].startswith(error) or error in refused(text)[0]


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ("{hear: a}", "E002"),
        ("{hears: a, says: b}", "E002"),
        ("hears", "E003"),
        ("{hears: '...'}", "E003"),
        ("{hears: [a]}", "E003"),
        ("{presses: 12x}", "E003"),
        ("{silent: 0}", "E003"),
        ("{silent: 1000000000}", "E003"),
        ("{says: {text: a, confidence: 2}}", "E003"),
        ("{says: {confidence: 1}}", "E004"),
        ("{hangs_up: maybe}", "E003"),
        ("{happens: {joined: a, left: true}}", "E003"),
        ("{happens: {passes: 3 days}}", "E003"),
        ("{expect: {nodes: a}}", "E002"),
        ("{expect: {}}", "E003"),
        ("{expect: {queued: {skills: 1, agents: 2}}}", "E002"),
        ("{expect: {channel: fax}}", "E003"),
    ],
)
def test_a_wrong_step_is_told_with_its_place(step: str, code: str) -> None:
    (error,) = refused(f"flow: a\ntests:\n  - name: x\n    steps:\n      - {step}\n")
    assert error.startswith("x.test.yaml:5:")
    assert f" {code} " in error


@pytest.mark.parametrize(
    "given",
    [
        "{at: soon}",
        "{channel: fax}",
        "{fetch: {crm: {}}}",
        "{fetch: {GET a: {status: x}}}",
        "{hours: {a: b}}",
    ],
)
def test_wrong_circumstances_are_told_with_their_place(given: str) -> None:
    errors = refused(
        f"flow: a\ntests:\n  - name: x\n    given: {given}\n    steps: [{{hears: a}}]\n"
    )
    assert errors[0].startswith("x.test.yaml:4:")


def test_all_mistakes_of_a_file_are_told_at_once() -> None:
    text = "flow: a\ntests:\n  - name: x\n    steps: [{hear: a}, {silent: 0}]\n  - {name: y}\n"
    assert len(refused(text)) == 3


@settings(max_examples=150, deadline=None)
@forall(st.data())
def test_whatever_a_file_holds_it_is_read_or_refused(data: Any) -> None:
    text = f"flow: water\ntests:\n  - name: it\n    given: {{fetch: {ANN}}}\n    steps:\n"
    text += "".join(f"      {line}\n" for line in EXAMPLE.splitlines())
    at = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 20))
    piece = data.draw(st.text(alphabet="abc{}[]:,-'\"\n \t#&*|1\x00é", max_size=6))
    try:
        tests = script.read(text[:at] + piece + text[at + cut :], "x.test.yaml")
    except FlowErrors as errors:
        assert errors.errors
        return
    for case in tests.cases:
        playing.run("x.test.yaml", case, water())


# --- coverage and reports -----------------------------------------------------------------------


def covered(*steps: str, given: str = "{}") -> coverage.Coverage:
    results = [result for each in steps for result in play(each, given)]
    return coverage.measure(water(), results)[0]


def test_coverage_tells_exits_that_lead_to_the_same_node_apart() -> None:
    missed = {str(one) for one in covered("- silent: 3").missed}
    assert "node main: exit otherwise to people is never taken" not in missed
    assert "node main: exit billing to account is never taken" in missed
    closed = covered("- says: repairs", given="{hours: {office: holiday}}")
    exits = {(one.node, one.exit) for one in closed.missed}
    assert ("desk", "closed") in exits
    assert ("desk", "holiday") not in exits


def test_a_global_command_is_no_exit() -> None:
    taken = play("- says: agent")[0].taken
    assert [way for way in taken if way[1] == "main"] == []


def test_asking_again_does_not_hide_the_exit_that_follows() -> None:
    taken = play("- says: repeat\n- says: text\n- says: yes\n- types: text me\n- types: 1")[0].taken
    assert ("water", "main", "text") in taken
    assert ("water", "offer", "accepted") in taken


def test_full_coverage_is_a_hundred_percent() -> None:
    fetches = (
        "{hours: {office: open}, fetch: {POST crm/checks: [{status: 200}], "
        "GET crm/customers/12345678: {json: {overdue: 0, balance: 1}}, "
        "GET crm/customers/22345678: {json: {overdue: 1}}, "
        "GET crm/customers/32345678: {status: 404}}}"
    )
    failing = "{hours: {office: closed}, fetch: {POST crm/checks: {error: timeout}}}"
    holiday = "{hours: {office: holiday}}"
    every = [
        (fetches, '- presses: "112345678"'),
        (fetches, '- presses: "122345678"'),
        (fetches, '- presses: "132345678"'),
        (fetches, "- silent: 3"),
        (fetches, "- says: billing\n- silent: 3"),
        (fetches, "- says: repairs\n- happens: {joined: a}\n- happens: {left: true}"),
        (fetches, "- says: repairs\n- happens: {nobody: true}"),
        (fetches, '- presses: "34711"'),
        (fetches, '- presses: "3"\n- silent: 2'),
        (fetches, '- presses: "4"\n- says: hello'),
        (fetches, '- presses: "5"\n- happens: {transfer: answered}'),
        (fetches, '- presses: "5"\n- silent: 1\n- silent: 1\n- says: no'),
        (fetches, '- presses: "6"\n- says: yes\n- expect: {channel: sms}'),
        (failing, '- presses: "34711"'),
        (failing, "- says: repairs"),
        (holiday, "- says: repairs"),
    ]
    results = [result for given, steps in every for result in play(steps, given)]
    assert all(result.ok for result in results), [result for result in results if not result.ok]
    (found,) = coverage.measure(water(), results)
    assert [str(one) for one in found.missed] == []
    assert found.percent == 100.0


def test_called_flows_are_covered_by_their_callers_tests() -> None:
    main = (
        "flow: main\nstart: go\nslots: {n: {type: number}}\nnodes:\n"
        "  go: {call: {flow: inner, out: {n: n}}, then: bye, otherwise: sorry}\n"
        "  sorry: {say: sorry, then: bye}\n  bye: {end: goodbye}\n"
    )
    inner = (
        "flow: inner\nstart: ask\nslots: {n: {type: number}}\nnodes:\n"
        "  ask: {collect: {slot: n, ask: How many?, otherwise: no}, then: yes}\n"
        "  yes: {end: {}}\n  no: {end: {outcome: failed}}\n"
    )
    bundle = loader.load({"main.yaml": main, "inner.yaml": inner}, "main")
    text = "flow: main\ntests:\n  - name: x\n    steps: [{says: five}, {hears: goodbye}]\n"
    (case,) = script.read(text, "t").cases
    results = playing.run("t", case, bundle)
    assert results[0].ok
    assert ("main", "go", "then") in results[0].taken
    assert ("inner", "ask", "then") in results[0].taken
    assert [one.flow for one in coverage.measure(bundle, results)] == ["main", "inner"]


def test_junit_is_xml_whatever_was_said() -> None:
    results = [*play("- hears: Welcome"), fails('- hears: "a \\u001b[31m <b> & \\u0000 z"')]
    root = ElementTree.fromstring(reports.junit(results))
    suite = root[0]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert "<b>" in (suite[1][0].get("message") or "")


def test_reports_are_plain_lines() -> None:
    result = fails('- hears: "a \\u001b[31m \\n b"')
    assert all(line.isprintable() for line in reports.lines(result))
    assert json.dumps(result.to_json())


def test_a_thousand_dialogues_take_seconds() -> None:
    one = f"  - name: it\n    given: {{fetch: {ANN}}}\n    steps:\n"
    one += "".join(f"      {line}\n" for line in EXAMPLE.splitlines())
    began = time.process_time()
    tests = script.read("flow: water\ntests:\n" + one * 200, "big.test.yaml")
    for case in tests.cases:
        (result,) = playing.run("big.test.yaml", case, water())
        assert result.ok
    # 1,000 must take less than 10 s; a fifth of them is timed here, on any machine.
    assert time.process_time() - began < 2.0


def test_the_flow_itself_loads_without_complaint() -> None:
    assert loader.read({"water.yaml": WATER})[1] == []
