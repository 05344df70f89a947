"""Every code of the linter: a flow with exactly that finding, and a near miss without."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivr.flow import loader
from ivr.flow.alike import alike
from ivr.flow.expr import parse_prompt
from ivr.flow.lint import Finding, lint
from ivr.flow.lint_words import segment

HEAD = """\
flow: main
start: main
uses: [crm]
slots: {account: {type: digits, length: 8}, pin: {type: digits, length: 4, secret: true}}
nodes:
  main:
    menu:
      ask: Say billing or press 1, or say agent or press 0.
      choices:
        billing: {press: 1, say: [billing, my bill], then: bye}
        agent: {press: 0, say: agent, then: people}
  people: {queue: {skills: [all]}, otherwise: bye}
  bye: {end: Goodbye.}
"""
BILLING = "billing: {press: 1, say: [billing, my bill], then: bye}"
TWO_TONGUES = HEAD.replace("start: main", "start: main\nlanguages: [en, zh]")


def flow(old: str, new: str, text: str = HEAD) -> str:
    """The flow with one thing changed."""
    assert old in text
    return text.replace(old, new)


def and_nodes(nodes: str, first: str = "bye", text: str = HEAD) -> str:
    """The flow with more nodes, to the first of which `billing` leads."""
    return flow(BILLING, BILLING.replace("bye", first), text) + nodes


def invitation(text: str) -> str:
    """A node that texts this, a link and a code."""
    message = f"'{text} {{link}} {{code}}'"
    return (
        f"  go: {{offer: {{channels: [sms], ask: Shall I?, message: {message}, declined: bye}}, "
        "then: bye}\n"
    )


# code: the flow that has it, where ("line:column"), a part of the message, and the near miss
CASES: dict[str, tuple[str, str, str, str]] = {
    "E201 a node that nothing names": (
        HEAD + "  lost: {say: Hello., then: bye}\n",
        "14:3",
        "no way leads to node 'lost'",
        flow("start: main", "start: main\nanytime: {start_over: lost}")
        + "  lost: {say: Hello., then: bye}\n",
    ),
    "E202 a say that leads nowhere": (
        and_nodes("  stop: {say: Hello.}\n", "stop"),
        "14:3",
        "'stop' is a dead end; add 'then'",
        and_nodes("  stop: {end: Hello.}\n", "stop"),
    ),
    "E202 a when without an else": (
        and_nodes('  which: {when: [{if: "account != null", then: bye}]}\n', "which"),
        "14:3",
        "'else'",
        and_nodes('  which: {when: [{if: "account != null", then: bye}, {else: main}]}\n', "which"),
    ),
    "E202 a confirmation without a no": (
        and_nodes("  sure: {confirm: {ask: Sure?}, then: bye}\n", "sure"),
        "14:3",
        "'otherwise'",
        and_nodes("  sure: {confirm: {ask: Sure?}, then: bye, otherwise: main}\n", "sure"),
    ),
    "E202 a queue that nobody serves": (
        flow(
            "people: {queue: {skills: [all]}, otherwise: bye}", "people: {queue: {skills: [all]}}"
        ),
        "12:3",
        "'otherwise'",
        HEAD,
    ),
    "E203 two nodes that say and never listen": (
        and_nodes("  one: {say: One., then: two}\n  two: {say: Two., then: one}\n", "one"),
        "14:3",
        "one → two → one",
        and_nodes("  one: {say: One., then: two}\n  two: {say: Two., then: main}\n", "one"),
    ),
    "E203 a queue that nobody serves, again and again": (
        flow("otherwise: bye", "otherwise: busy") + "  busy: {say: Nobody., then: people}\n",
        "12:3",
        "people → busy → people",
        flow("otherwise: bye", "otherwise: busy") + "  busy: {say: Nobody., then: main}\n",
    ),
    "E203 a node that leads to itself": (
        and_nodes('  count: {set: {account: "account"}, then: count}\n', "count"),
        "14:3",
        "count → count",
        and_nodes("  count: {collect: {slot: account, ask: Number?}, then: count}\n", "count"),
    ),
    "E204 one key for two choices": (
        flow("agent: {press: 0,", "agent: {press: 1,").replace("press 0", "press 1"),
        "11:24",
        "key 1 is choice 'billing' already",
        HEAD,
    ),
    "E205 one phrase for two choices": (
        flow("say: agent", 'say: [agent, "[my] bill"]'),
        "11:40",
        "'my bill' says choice 'billing' already",
        flow("say: agent", 'say: [agent, "[my] helper"]'),
    ),
    "E205 one phrase for two options": (
        flow("slots: {", "slots: {kind: {type: choice, of: {leak: [leak, water], dry: [water]}}, ")
        .replace("bye: {end", "ask: {collect: {slot: kind, ask: What?}, then: bye}\n  bye: {end")
        .replace("my bill], then: bye", "my bill], then: ask"),
        "4:62",
        "'water' says choice 'leak' already",
        HEAD,
    ),
    "E206 a prompt without Chinese": (
        flow("{end: Goodbye.}", "{end: {en: Goodbye.}}", TWO_TONGUES),
        "14:14",
        "the prompt of node 'bye' lacks zh",
        flow("{end: Goodbye.}", "{end: {en: Goodbye., zh: 再见。}}", TWO_TONGUES),
    ),
    "E206 phrases without English": (
        flow("say: agent", "say: {zh: [人工]}", TWO_TONGUES),
        "12:32",
        "the phrases of node 'main', choice 'agent' lacks en",
        flow("say: agent", "say: {zh: [人工], en: [agent]}", TWO_TONGUES),
    ),
    "E206 a label without Chinese": (
        flow("say: agent", "say: agent, label: {en: agent}", TWO_TONGUES),
        "12:46",
        "the label",
        flow("say: agent", "say: agent, label: agent", TWO_TONGUES),
    ),
    "E207 a secret in a prompt": (
        flow("Goodbye.", '"Your PIN is {pin}."'),
        "13:14",
        "'pin' would be said or shown",
        flow("Goodbye.", '"Your account is {account}."'),
    ),
    "E207 a secret in a URL": (
        and_nodes('  ask: {fetch: {get: "{crm}/{pin}"}, then: bye, otherwise: bye}\n', "ask"),
        "14:22",
        "sent in a URL",
        and_nodes(
            '  ask: {fetch: {post: "{crm}/x", json: {pin: "pin"}, headers: {X: "{pin}"}}, '
            "then: bye, otherwise: bye}\n",
            "ask",
        ),
    ),
    "E207 a secret on the agent's screen": (
        flow("skills: [all]", "skills: [all], pop: [account, pin]"),
        "12:50",
        "shown to the agent",
        flow("skills: [all]", "skills: [all], pop: [account]"),
    ),
    "E207 a secret in another slot": (
        and_nodes('  keep: {set: {account: "pin"}, then: bye}\n', "keep"),
        "14:25",
        "stored in 'account'",
        and_nodes('  keep: {set: {account: "account"}, then: bye}\n', "keep"),
    ),
    "E207 a secret as a message": (
        and_nodes("  keep: {record: {slot: pin}, then: bye}\n", "keep"),
        "14:25",
        "kept as a message",
        and_nodes("  keep: {record: {slot: account}, then: bye}\n", "keep"),
    ),
    "W301 a key that no choice has": (
        flow("press 0.", "press 0 or 9."),
        "8:12",
        "names key 9, which no choice has",
        flow("press 0.", "press zero."),
    ),
    "W301 a key that the prompt leaves out": (
        flow("say agent or press 0.", "say agent."),
        "11:24",
        "does not say that key 0 is bound",
        flow("{press: 0, say: agent,", "{say: agent,").replace(" or press 0.", "."),
    ),
    "W301 a key that the Chinese prompt leaves out": (
        flow(
            "ask: Say billing or press 1, or say agent or press 0.",
            "ask: {en: Press 1 or 0., zh: 查询账单请按1。}",
            TWO_TONGUES,
        ),
        "12:24",
        "(zh) does not say that key 0",
        flow(
            "ask: Say billing or press 1, or say agent or press 0.",
            "ask: {en: Press 1 or 0., zh: 查询账单请按1，人工请按0。}",
            TWO_TONGUES,
        ),
    ),
    "W302 phrases that sound alike": (
        flow("say: agent", "say: [agent, building]"),
        "11:40",
        "'building' sounds like 'billing'",
        flow("say: agent", "say: [agent, operator]"),
    ),
    "W302 phrases of the same pinyin": (
        flow("say: agent", "say: {en: agent, zh: 帐单}", TWO_TONGUES).replace(
            "say: [billing, my bill]", "say: {en: [billing, my bill], zh: 账单}"
        ),
        "12:48",
        "'帐单' sounds like '账单'",
        flow("say: agent", "say: {en: agent, zh: 人工}", TWO_TONGUES).replace(
            "say: [billing, my bill]", "say: {en: [billing, my bill], zh: 账单}"
        ),
    ),
    "W304 six choices": (
        flow(
            "        agent:",
            "".join(
                f"        c{n}: {{say: {word}, then: bye}}\n"
                for n, word in enumerate(("north", "garden", "purple", "seventeen"))
            )
            + "        agent:",
        ),
        "9:7",
        "6 choices",
        flow(
            "        agent:",
            "".join(
                f"        c{n}: {{say: {word}, then: bye}}\n"
                for n, word in enumerate(("north", "garden", "purple"))
            )
            + "        agent:",
        ),
    ),
    "W305 nobody to talk to": (
        flow(
            "people: {queue: {skills: [all]}, otherwise: bye}", "people: {say: Nobody., then: bye}"
        ),
        "1:1",
        "no way to a person",
        flow(
            "people: {queue: {skills: [all]}, otherwise: bye}",
            'people: {transfer: {to: "+442079460123"}, otherwise: bye}',
        ),
    ),
    "W306 a fetch that may not fail": (
        and_nodes('  ask: {fetch: {get: "{crm}/x"}, then: bye}\n', "ask"),
        "14:9",
        "'otherwise'",
        and_nodes('  ask: {fetch: {get: "{crm}/x"}, then: bye, otherwise: bye}\n', "ask"),
    ),
    "W307 an invitation of two SMS": (
        and_nodes(
            invitation("a" * 123),
            "go",
        ),
        "14:57",
        "one SMS holds 160",
        and_nodes(
            invitation("a" * 120),
            "go",
        ),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_finding_is_at_its_place_and_alone(case: str) -> None:
    text, place, message, _ = CASES[case]
    found = lint({"main.yaml": text})
    assert [(f.code, f"{f.line}:{f.column}") for f in found] == [(case.split()[0], place)], found
    assert message in found[0].message
    assert str(found[0]).startswith(f"main.yaml:{place}: {case.split()[0]} ")
    assert "\n" not in str(found[0])


@pytest.mark.parametrize("case", CASES)
def test_a_near_miss_is_none(case: str) -> None:
    assert lint({"main.yaml": CASES[case][3]}) == []


def test_words_that_the_recogniser_does_not_know() -> None:
    found = lint({"main.yaml": HEAD}, knows=lambda language, word: word != "billing")
    assert [(f.code, f.line, f.column) for f in found] == [("W303", 10, 35)]
    assert "'billing'" in found[0].message
    assert lint({"main.yaml": HEAD}, knows=lambda language, word: True) == []


def test_prompts_without_a_recording() -> None:
    recorded = {"en": {"Say billing or press 1, or say agent or press 0."}}
    found = lint({"main.yaml": HEAD}, recorded=recorded)
    assert [(f.code, f.line, f.column) for f in found] == [("W308", 13, 14)]
    recorded["en"].add("Goodbye.")
    assert lint({"main.yaml": HEAD}, recorded=recorded) == []
    assert lint({"main.yaml": HEAD}, recorded={"zh": set()}) == []


def test_what_does_not_load_is_told_with_the_same_places() -> None:
    found = lint({"main.yaml": flow("then: people", "then: nobody")})
    assert found == [
        Finding("main.yaml", 11, 45, "E101", found[0].message),
    ]
    assert [f.code for f in lint({"main.yaml": "flow: ["})] == ["E001"]


def test_a_called_flow_may_leave_people_to_its_caller() -> None:
    caller = and_nodes("  go: {call: {flow: sub}, then: bye, otherwise: bye}\n", "go")
    called = "flow: sub\nstart: only\nnodes: {only: {end: {}}}\n"
    assert lint({"main.yaml": caller, "sub.yaml": called}) == []
    assert [f.code for f in lint({"sub.yaml": called})] == ["W305"]


def test_findings_come_in_the_order_of_the_file() -> None:
    text = HEAD + "  lost: {say: Hello.}\n  gone: {say: Hello.}\n"
    places = [(f.line, f.column) for f in lint({"main.yaml": text})]
    assert places == sorted(places)
    assert len(places) == 4


def test_our_own_flows_have_no_findings() -> None:
    folder = Path(__file__).parents[3] / "flows"
    assert [str(finding) for finding in lint(loader.load_folder(folder))] == []


def test_a_long_flow_takes_no_long_time() -> None:
    chain = "".join(f"  n{n}: {{say: Hello., then: n{n + 1}}}\n" for n in range(2_000))
    begin = perf_counter()
    found = lint({"main.yaml": and_nodes(chain + "  n2000: {end: Hello.}\n", "n0")})
    assert found == []
    circle = lint({"main.yaml": and_nodes(chain + "  n2000: {say: Hello., then: n5}\n", "n0")})
    assert [(f.code, f.line) for f in circle] == [("E203", 19)]
    assert perf_counter() - begin < 10


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_flow_is_too_strange(data: st.DataObject) -> None:
    text = TWO_TONGUES.replace("agent: {press: 0,", 'agent: {press: 0, label: {zh: "人工"},')
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(at, min(len(text), at + 12)))
        piece = data.draw(
            st.sampled_from(["", "{", "}", "[", "]", ": ", "then", "main", "{pin}", "1"])
        )
        text = text[:at] + piece + text[end:]
    for finding in lint({"main.yaml": text}):
        assert "\n" not in str(finding)
        assert finding.line >= 0


@pytest.mark.parametrize(
    ("template", "length", "limit"),
    [
        ("hello", 5, 160),
        ("hello {code}", 12, 160),
        ("[x]", 5, 160),
        ("你好", 2, 70),
        ("hi {name} 你", 15, 70),
        ("😀", 2, 70),
    ],
)
def test_the_length_of_a_text(template: str, length: int, limit: int) -> None:
    assert segment(parse_prompt(template)) == (length, limit)


@pytest.mark.parametrize(
    ("one", "other", "language", "expected"),
    [
        ("write", "right", "en", True),
        ("bill", "pill", "en", True),
        ("repair", "repairs", "en", True),
        ("billing", "building", "en", True),
        ("billing", "repairs", "en", False),
        ("cat", "bat", "en", False),
        ("opening times", "opening hours", "en", False),
        ("qqq", "qqqq", "en", False),
        ("qqq", "qqq", "en", True),
        ("账单", "帐单", "zh", True),
        ("牛奶", "流来", "zh", True),
        ("四", "十", "zh", True),
        ("账单", "报修", "zh", False),
        ("factura", "fractura", "es", False),
    ],
)
def test_phrases_that_sound_alike(one: str, other: str, language: str, expected: bool) -> None:
    assert alike(one, other, language) is expected
    assert alike(other, one, language) is expected
