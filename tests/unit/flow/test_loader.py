"""Loading: what is right becomes a bundle; what is wrong is told, all of it, with its place."""

import copy
import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivr.flow import loader, yamltree
from ivr.flow.loader import FlowErrors
from ivr.flow.schema import KINDS, CollectNode, MenuNode, QueueNode, SayNode, WhenNode

GOOD = """\
flow: main
languages: [en, zh]
start: welcome
uses: [crm]
channels: [sms]
slots:
  account: {type: digits, length: 8}
  kind: {type: choice, of: {leak: {en: [leak], zh: [漏水]}, other: {en: [other], zh: [其他]}}}
nodes:
  welcome: {say: {en: Hello., zh: 您好。}, then: main}
  main:
    menu:
      ask: {en: "Say billing, or press 1.", zh: "请说账单，或按1。"}
      choices:
        billing: {press: 1, say: {en: ["[my] bill"], zh: [账单]}, then: account}
        agent: {press: 0, say: agent, then: people}
      tries: 2
      otherwise: people
  account:
    collect: {slot: account, ask: "Your account?", confirm: always, otherwise: people}
    then: lookup
  lookup:
    fetch: {get: "{crm}/customers/{account}", timeout: 500ms, into: customer}
    then: rich
    otherwise: people
  rich:
    when:
      - {if: "customer.balance > 100", then: people}
      - {else: bye}
  people:
    queue: {skills: [billing], pop: [account, customer.name], waiting: "Number {position}."}
    otherwise: bye
  bye: {end: Goodbye.}
"""


def errors(*texts: str, entry: str = "") -> list[str]:
    """Errors as `file:line:column: CODE message`, of files f1.yaml, f2.yaml…"""
    with pytest.raises(FlowErrors) as refused:
        loader.load({f"f{n}.yaml": text for n, text in enumerate(texts, 1)}, entry)
    return [str(error) for error in refused.value.errors]


def test_a_flow_becomes_nodes_with_nothing_left_to_check() -> None:
    bundle = loader.load({"main.yaml": GOOD}, "main")
    flow = bundle.flows["main"]
    assert flow.languages == ("en", "zh")
    assert flow.people == "people"
    assert isinstance(flow.nodes["welcome"], SayNode)
    menu = flow.nodes["main"]
    assert isinstance(menu, MenuNode)
    assert [(choice.name, choice.key, choice.then) for choice in menu.choices] == [
        ("billing", "1", "account"),
        ("agent", "0", "people"),
    ]
    assert menu.choices[0].say == {"en": ("bill", "my bill"), "zh": ("账单",)}
    assert (menu.tries, menu.otherwise, menu.wait) == (2, "people", 5.0)
    collect = flow.nodes["account"]
    assert isinstance(collect, CollectNode)
    assert (collect.slots, collect.confirm, collect.then) == (("account",), "always", "lookup")
    queue = flow.nodes["people"]
    assert isinstance(queue, QueueNode)
    assert queue.pop == (("account",), ("customer", "name"))
    when = flow.nodes["rich"]
    assert isinstance(when, WhenNode)
    assert when.then == "bye"


def test_every_key_and_value_keeps_its_place_in_the_file() -> None:
    flow = loader.load({"main.yaml": GOOD}, "main").flows["main"]
    assert flow.where("nodes", "main", "menu", "choices", "billing", "press") == (15, 19)
    assert flow.where("nodes", "main", "menu", "choices", "billing", "press", value=True) == (
        15,
        26,
    )
    assert flow.where("nodes", "rich", "when", 1) == (29, 9)
    assert flow.where("nodes", "nowhere") == flow.where("nodes")


BASE = """\
flow: main
start: a
slots:
  n: {type: number}
nodes:
  a: NODE
  b: {end: {}}
"""


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("{say: hello, than: b}", "6:19: E002 unknown key 'than' in node 'a'"),
        ("{sya: hello, then: b}", "6:7: E002 unknown key 'sya' in node 'a'; did you mean 'say'?"),
        ("{then: b}", "6:3: E004 node 'a' lacks a kind"),
        ("{say: hi, end: {}, then: b}", "6:16: E003 node 'a' is both say and end"),
        ("{say: hi, then: c}", "6:22: E101 unknown node 'c'"),
        ("{say: hi, then: [b]}", "6:22: E003 this must be the name of a node"),
        ("{say: 'hi {m}', then: b}", "6:12: E106 unknown name 'm' in a prompt"),
        ("{say: 'hi {n', then: b}", "6:12: E003 column 4"),
        ("{say: {fr: Salut}, then: b}", "6:13: E002 unknown language 'fr' in a prompt"),
        ("{say: [hi], then: b}", "6:12: E003 a prompt must be a text"),
        ("{menu: {ask: hi}}", "6:13: E004 menu of node 'a' lacks the key 'choices'"),
        (
            "{menu: {ask: hi, choices: {x: {press: 1}}}}",
            "6:33: E004 choice 'x' lacks the key 'then'",
        ),
        ("{menu: {ask: hi, choices: {x: true}}}", "E003 choice 'x' must be a mapping"),
        ("{menu: {ask: hi, choices: {}}}", "6:32: E003 a menu needs at least one choice"),
        ("{menu: {ask: hi, choices: {x: {then: b}}}}", "E004 choice 'x' lacks 'press' or 'say'"),
        ("{menu: {ask: hi, choices: {x: {press: x, then: b}}}}", "E003 press must be"),
        ("{menu: {ask: hi, choices: {x: {say: '(', then: b}}}}", "E003 the phrase '(' lacks a ')'"),
        ("{collect: {slot: n}, then: b}", "6:16: E004 collect lacks the key 'ask'"),
        ("{collect: {ask: hi}, then: b}", "E004 collect needs either 'slot' or 'slots'"),
        ("{collect: {slot: m, ask: hi}, then: b}", "6:23: E102 unknown slot 'm'"),
        ("{collect: {slot: n, ask: hi, wait: 3}, then: b}", "6:41: E003 this must be a duration"),
        ("{collect: {slot: n, ask: hi, wait: 25h}, then: b}", "E003 this must be a duration"),
        ("{collect: {slot: n, ask: hi, tries: 0}, then: b}", "E003 this must be a whole number"),
        ("{collect: {slot: n, ask: hi, tries: yes}, then: b}", "E003 this must be a whole number"),
        ("{collect: {slot: n, ask: hi, confirm: maybe}, then: b}", "E003 this must be one of"),
        ("{collect: {slot: n, ask: hi, listen: [ears]}, then: b}", "E003 listen must be"),
        (
            "{collect: {slot: n, ask: hi, confidence: {accept: 2}}, then: b}",
            "E003 this must be a num",
        ),
        (
            "{collect: {slot: n, ask: hi, confidence: {accept: 0.1}}, then: b}",
            "E003 reject must not",
        ),
        (
            "{collect: {slot: n, ask: hi, otherwise: b}, otherwise: b}",
            "E003 node 'a' says 'otherwise'",
        ),
        ("{set: {m: '1'}, then: b}", "6:13: E102 unknown slot 'm'"),
        ("{set: {n: '1 +'}, then: b}", "6:16: E105 this expression does not compile"),
        ("{set: {n: 'm + 1'}, then: b}", "6:16: E105 unknown name 'm' in an expression"),
        ("{when: [{if: 'n > 1'}]}", "6:14: E004 a case of when lacks the key 'then'"),
        ("{when: [{else: b}, {if: 'n > 1', then: b}]}", "E003 else must come last"),
        ("{when: [{else: b}]}", "E004 when needs at least one 'if'"),
        ("{when: {if: 'n > 1'}}", "E003 when must be a list"),
        ("{hours: {calendar: x, open: b}}", "E004 hours of node 'a' lacks the key 'closed'"),
        ("{language: zh, then: b}", "E003 unknown language 'zh'"),
        ("{fetch: {get: '{crm}/x'}, then: b}", "6:20: E104 unknown system 'crm'"),
        ("{fetch: {get: 'http://x'}, then: b}", "6:20: E003 a URL begins with the name"),
        ("{fetch: {timeout: 3s}, then: b}", "E004 fetch needs one of get"),
        ("{offer: {channels: [voice], ask: a, message: b}}", "E003 this must be one of sms"),
        ("{queue: {pop: [m]}}", "E102 unknown slot 'm'"),
        ("{queue: {waiting: 'Number {place}'}}", "E106 unknown name 'place' in a prompt"),
        ("{queue: {offer_after: {wait: 1m, then: c}}}", "E101 unknown node 'c'"),
        ("{transfer: {to: '{n}'}, then: b}", "E003 this must be a telephone number"),
        ("{record: {slot: m}, then: b}", "E102 unknown slot 'm'"),
        ("{call: {flow: c}, then: b}", "6:20: E103 unknown flow 'c'"),
        ("{end: {outcome: 1}}", "E003 this must be a name"),
        ("hello", "E003 node 'a' must be a mapping"),
    ],
)
def test_a_wrong_node_is_told_with_its_place(node: str, expected: str) -> None:
    found = errors(BASE.replace("NODE", node))
    assert any(expected in error for error in found), found
    assert all(error.startswith("f1.yaml:6:") for error in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "f1.yaml:0:0: E001 the file is empty"),
        ("- a", "f1.yaml:1:1: E003 a flow is a mapping"),
        ("flow: main\nstart: a\nnodes: {a: [}", "f1.yaml:3:13: E001 not YAML"),
        ("a: &a [*a]", "f1.yaml:1:8: E001 the alias *a has no complete anchor"),
        ("a: 1\na: 2", "f1.yaml:2:1: E001 the key 'a' is here twice"),
        ("a: 1\n---\nb: 2", "f1.yaml:2:1: E001 a second document"),
        ("a: " + "[" * 70, "E001 more than 64 levels deep"),
        ("# " + "x" * (1 << 20), "f1.yaml:0:0: E001 larger than 1 MiB"),
        ("start: a\nnodes: {a: {end: {}}}", "f1.yaml:1:1: E004 a flow lacks the key 'flow'"),
        ("flow: f\nnodes: {a: {end: {}}}", "E004 a flow lacks the key 'start'"),
        ("flow: f\nstart: b\nnodes: {a: {end: {}}}", "f1.yaml:2:8: E101 unknown node 'b'"),
        ("flow: f\nstart: a\nnodes: {}", "E003 nodes must hold at least one node"),
        ("flow: f\nstart: a\nslot: {}\nnodes: {a: {end: {}}}", "f1.yaml:3:1: E002 unknown key"),
        (
            "flow: f\nstart: a\nslots: {x: {type: int}}\nnodes: {a: {end: {}}}",
            "E003 'int' is no slot",
        ),
        (
            "flow: f\nstart: a\nslots: {x: {length: 3}}\nnodes: {a: {end: {}}}",
            "E004 slot 'x' lacks",
        ),
        (
            "flow: f\nstart: a\nslots: {x: {type: date, length: 3}}\nnodes: {a: {end: {}}}",
            "E003 only digits have a length",
        ),
        ("flow: f\nstart: a\nslots: {in: {type: text}}\nnodes: {a: {end: {}}}", "E003 'in' cannot"),
        ("flow: f\nstart: a\nslots: {x: {type: choice}}\nnodes: {a: {end: {}}}", "E004 slot 'x'"),
        ("flow: f\nstart: a\nlanguages: [klingon]\nnodes: {a: {end: {}}}", "E003 'klingon'"),
        ("flow: f\nstart: a\nlanguages: en\nnodes: {a: {end: {}}}", "E003 languages must be a"),
        ("flow: f\nstart: a\nanytime: {help: a}\nnodes: {a: {end: {}}}", "E002 unknown command"),
        ("flow: f\nstart: a\nanytime: {agent: b}\nnodes: {a: {end: {}}}", "E101 unknown node 'b'"),
    ],
)
def test_a_wrong_file_is_told_with_its_place(text: str, expected: str) -> None:
    found = errors(text)
    assert any(expected in error for error in found), found


def test_all_errors_of_all_files_are_told_in_order() -> None:
    first = BASE.replace("NODE", "{say: '{m}', then: c}")
    found = errors(first, "flow: [", BASE.replace("main", "other").replace("NODE", "{sya: hi}"))
    assert [re.sub(r" .*", "", error.split(": ", 1)[1]) for error in found] == [
        "E106",
        "E101",
        "E001",
        "E002",
    ]
    with pytest.raises(FlowErrors, match=r"f1.yaml:6:12: E106 .* \(and 1 more\)"):
        loader.load({"f1.yaml": first})


def test_yes_and_no_are_texts_as_in_yaml_1_2() -> None:
    text = BASE.replace("NODE", "{menu: {ask: hi, choices: {no: {say: [no, off], then: b}}}}")
    menu = loader.load({"f.yaml": text}).flows["main"].nodes["a"]
    assert isinstance(menu, MenuNode)
    assert menu.choices[0].say == {"": ("no", "off")}


def test_an_alias_repeats_a_value_and_a_bomb_is_refused_at_once() -> None:
    text = BASE.replace("NODE", "{say: &hi Hello., then: c}\n  c: {say: *hi, then: b}")
    assert len(loader.load({"f.yaml": text}).flows["main"].nodes) == 3
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(9)
    )
    began = time.perf_counter()
    assert "E001 more than 100000 values" in errors(bomb)[0]
    assert time.perf_counter() - began < 2


def test_three_thousand_nodes_load_and_more_are_refused() -> None:
    def flow(count: int) -> str:
        nodes = (f"  n{n}: {{say: Hello., then: n{(n + 1) % count}}}\n" for n in range(count))
        return "flow: big\nstart: n0\nnodes:\n" + "".join(nodes)

    assert len(loader.load({"f.yaml": flow(3_000)}).flows["big"].nodes) == 3_000
    assert errors(flow(3_001)) == ["f1.yaml:4:3: E001 more than 3,000 nodes in one flow; split it"]


CALLED = """\
flow: identify
start: ask
slots: {account: {type: digits, length: 8}, pin: {type: digits, length: 4, secret: true}}
nodes:
  ask: {collect: {slot: pin, ask: Your PIN?}, then: done}
  done: {end: {}}
"""


def test_a_call_is_checked_against_the_flow_that_it_calls() -> None:
    call = "{call: {flow: identify, in: {acount: '1'}, out: {n: 'pim'}}, then: b}"
    found = errors(BASE.replace("NODE", call), CALLED, entry="main")
    assert "f1.yaml:6:35: E102 unknown slot 'acount' of flow 'identify'" in found[0]
    assert "E105 unknown name 'pim' in an expression" in found[1]
    assert "E103 there is no flow 'nix'" in errors(CALLED, entry="nix")[0]
    assert "is in f1.yaml already" in errors(CALLED, CALLED)[0]


def test_the_version_is_that_of_the_flow_and_all_that_it_calls() -> None:
    main = BASE.replace("NODE", "{call: {flow: identify}, then: b}")
    other = BASE.replace("main", "other").replace("NODE", "{say: hi, then: b}")
    texts = {"main.yaml": main, "identify.yaml": CALLED, "other.yaml": other}
    version = loader.load(texts, "main").version
    assert re.fullmatch(r"[0-9a-f]{64}", version)

    def changed(file: str, old: str, new: str) -> str:
        return loader.load({**texts, file: texts[file].replace(old, new)}, "main").version

    assert changed("main.yaml", "type: number", "type: money") != version
    assert changed("identify.yaml", "Your PIN?", "PIN?") != version
    assert changed("other.yaml", "hi", "ho") == version
    assert changed("main.yaml", "\n", "  \r\n") == version


def test_a_folder_is_its_flows_without_their_tests(tmp_path: Path) -> None:
    (tmp_path / "main.yaml").write_text("﻿" + GOOD, encoding="utf-8")
    (tmp_path / "main.test.yaml").write_text("flow: main")
    (tmp_path / "notes.txt").write_text("nothing")
    texts = loader.load_folder(tmp_path)
    assert list(texts) == [str(tmp_path / "main.yaml")]
    assert loader.load(texts, "main").entry == "main"
    (tmp_path / "latin.yaml").write_bytes("flow: f\xfcr".encode("latin-1"))
    with pytest.raises(FlowErrors, match=r"latin.yaml:0:0: E001 cannot be read"):
        loader.load_folder(tmp_path)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_mutated_flow_loads_or_is_refused_with_places(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GOOD) - 1))
    length = data.draw(st.integers(0, 12))
    put = data.draw(st.text(alphabet="{}[]:,*&!|>'\"\n -#a1\0\t账{crm}", max_size=6))
    text = GOOD[:at] + put + GOOD[at + length :]
    try:
        loader.load({"f.yaml": text})
    except FlowErrors as refused:
        for error in refused.errors:
            assert re.match(r"f\.yaml:\d+:\d+: E[01]\d\d \S", str(error))
            assert "\n" not in str(error)


EVERY_KIND = yamltree.read(
    (Path(__file__).parents[3] / "docs/flow-language.md")
    .read_text(encoding="utf-8")
    .split("```yaml\n")[1]
    .split("```")[0]
    + """\
  m: {menu: {ask: Hm?, choices: {x: {press: 1, say: x, label: X, then: bye}}, wait: 3s, tries: 2}}
  c: {collect: {slots: {visit: Day?, hour: Time?}, ask: When?, confirm: always}, then: bye}
  d: {collect: {slot: account, ask: A?, listen: [keys], barge_in: {keys: false}}, then: bye}
  f: {fetch: {post: '{crm}/x', json: {a: account, b: [1]}, headers: {X-A: a}, into: y}, then: bye}
  o: {offer: {channels: [sms], ask: Move?, message: '{link}', mode: move, declined: q}, then: bye}
  q: {queue: {priority: '1', waiting: '{wait}', offer_after: {wait: 1m, then: o}}, then: bye}
  s: {set: {tries: tries + 1}, then: w}
  w: {when: [{if: tries > 1, then: bye}, {else: h}]}
  h: {hours: {calendar: x, open: bye, closed: bye}}
  l: {language: {to: zh}, then: bye}
  y: {confirm: {ask: Sure?, confidence: {accept: 0.9}}, then: bye, otherwise: m}
  t: {transfer: {to: '100', ring: 9s}, then: bye}
  r: {record: {slot: topic, ask: Speak., max: 1m}, then: bye}
  k: {call: {flow: main, in: {topic: topic}, out: {topic: topic}}, then: bye}
  e: {end: {say: Bye., outcome: done}}
""",
    "every.yaml",
).plain()


def paths(value: object, here: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    inner: list[tuple[object, ...]] = []
    if isinstance(value, dict):
        inner = [path for key in value for path in paths(value[key], (*here, key))]
    elif isinstance(value, list):
        inner = [path for at, item in enumerate(value) for path in paths(item, (*here, at))]
    return [here, *inner]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**6) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


def test_a_flow_with_every_kind_loads() -> None:
    flow = loader.load({"every.yaml": json.dumps(EVERY_KIND)}).flows["main"]
    assert {type(node) for node in flow.nodes.values()} == {kind.node for kind in KINDS.values()}


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(paths(EVERY_KIND)), ANYTHING)
def test_any_value_in_any_place_loads_or_is_refused_there(
    path: tuple[object, ...], value: object
) -> None:
    tree = copy.deepcopy(EVERY_KIND)
    if path:
        parent = tree
        for step in path[:-1]:
            parent = parent[step]
        parent[path[-1]] = value
    else:
        tree = value
    try:
        loader.load({"f.yaml": json.dumps(tree)})
    except FlowErrors as refused:
        for error in refused.errors:
            assert re.match(r"f\.yaml:\d+:\d+: E[01]\d\d \S[^\n]*\Z", str(error))


@pytest.mark.parametrize(("line", "wanted"), [("", False), ("record_calls: true\n", True)])
def test_a_flow_says_whether_its_calls_may_be_recorded(line: str, wanted: bool) -> None:
    bundle = loader.load({"f.yaml": f"flow: f\n{line}start: a\nnodes: {{a: {{end: {{}}}}}}"})
    assert bundle.flows["f"].record_calls is wanted
