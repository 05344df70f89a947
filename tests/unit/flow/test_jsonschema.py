"""The JSON Schema for editors: current, true of our flows, and as strict as a schema can be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ivr.flow import jsonschema, lint, loader, yamltree
from ivr.flow.schema import CHOICE_KEYS, FLOW_KEYS, KINDS, SLOT_KEYS

ROOT = Path(__file__).parents[3]
SCHEMA: dict[str, Any] = json.loads((ROOT / "docs" / "flow.schema.json").read_text("utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
FLOWS = [path for path in sorted((ROOT / "flows").rglob("*.yaml")) if ".test." not in path.name]


def valid(text: str) -> bool:
    return VALIDATOR.is_valid(yamltree.read(text, "x").plain())


def test_the_shipped_schema_is_current() -> None:
    assert jsonschema.document() == SCHEMA, "hotline lint --schema > docs/flow.schema.json"
    Draft202012Validator.check_schema(SCHEMA)


def test_every_type_of_the_tables_is_in_it_and_no_other() -> None:
    tables = [FLOW_KEYS, SLOT_KEYS, CHOICE_KEYS, *(kind.keys for kind in KINDS.values())]
    used = {key.type for table in tables for key in table.values()}
    inner = {"flag", "probability"}
    assert used | inner == set(jsonschema.TYPES)


def test_every_key_is_in_it() -> None:
    node = SCHEMA["$defs"]["any_node"]["properties"]
    assert set(node) == {*KINDS, "then", "otherwise"}
    for name, kind in KINDS.items():
        assert node[name]["description"]
        if not kind.whole:
            body = node[name] if "properties" in node[name] else node[name]["anyOf"][0]
            assert set(body["properties"]) == set(kind.keys)


@pytest.mark.parametrize("path", FLOWS, ids=lambda path: path.name)
def test_our_flows_fit(path: Path) -> None:
    errors = [error.message for error in VALIDATOR.iter_errors(_plain(path))]
    assert errors == []


def _plain(path: Path) -> Any:
    return yamltree.read(path.read_text("utf-8"), path.name).plain()


def test_the_examples_of_the_reference_fit() -> None:
    page = (ROOT / "docs" / "flow-language.md").read_text("utf-8")
    seen = 0
    for block in re.findall(r"```yaml\n(.*?)```", page, re.S):
        for text in block.split("\n---\n"):
            plain = yamltree.read(text, "x").plain()
            if isinstance(plain, dict) and "flow" in plain and "nodes" in plain:
                assert [error.message for error in VALIDATOR.iter_errors(plain)] == []
                seen += 1
    assert seen


GOOD = """\
flow: main
languages: [en, zh]
start: a
uses: [crm]
channels: [sms]
slots:
  account: {type: digits, length: 8}
  topic: {type: choice, of: [bill, move]}
nodes:
  a:
    menu:
      ask: Hello.
      choices: {one: {press: 1, say: [one], then: b}, two: {press: '#', then: c}}
      otherwise: b
  b: {collect: {slot: account, ask: {en: What?, zh: 什么？}}, then: c, otherwise: c}
  c: {fetch: {get: "{crm}/x", timeout: 3s, into: found}, then: d, otherwise: d}
  d: {when: [{if: 1 > 0, then: e}, {else: f}]}
  e: {queue: {skills: [x], offer_after: {wait: 60s, then: g}}, otherwise: f}
  f: {end: {}}
  g: {offer: {channels: [sms], ask: So?, message: "{link}", declined: h}, then: h}
  h: {transfer: {to: 112}, then: i, otherwise: f}
  i: {hours: {calendar: office, open: f, closed: j}}
  j: {confirm: {ask: Yes?, otherwise: f}, then: f, otherwise: k}
  k: {language: zh, then: l}
  l: {language: {to: "{topic}"}, then: m}
  m: {set: {topic: null}, then: n}
  n: {end: {en: Bye., zh: 再见。}}
"""

BROKEN = {
    "unknown key of the flow": ("flow: main\n", "flow: main\nfolw: x\n"),
    "no yes or no to recording": ("flow: main\n", "flow: main\nrecord_calls: sometimes\n"),
    "unknown key of a node": ("then: b}, two", "thn: b}, two"),
    "unknown kind": ("f: {end: {}}", "f: {edn: {}}"),
    "unknown key of a body": ("slot: account", "solt: account"),
    "unknown key of a slot": ("length: 8", "lenght: 8"),
    "unknown key of a choice": ("press: 1", "pess: 1"),
    "unknown global phrase": ("slots:\n", "anytime: {agnet: f}\nslots:\n"),
    "no then where none stands": ("f: {end: {}}", "f: {end: {}, then: a}"),
    "no otherwise where none stands": ("{topic: null}, then: n", "{topic: null}, otherwise: n"),
    "two kinds": ("f: {end: {}}", "f: {end: {}, say: Hello.}"),
    "otherwise twice": ("      otherwise: b\n", "      otherwise: b\n    otherwise: b\n"),
    "no flow": ("flow: main\n", ""),
    "no start": ("start: a\n", ""),
    "no kind": ("f: {end: {}}", "f: {}"),
    "no nodes": ("nodes:\n", "nodes: {}\nslots2:\n"),
    "no ask": ("ask: So?, ", ""),
    "no choices": ("press: 1, say: [one], then: b}, two: {press: '#', then: c}", "press: 1}"),
    "no way to choose": ("press: '#', then: c", "then: c"),
    "no method": ('get: "{crm}/x", ', ""),
    "two methods": ("get:", 'post: "{crm}/y", get:'),
    "no slot to collect": ("slot: account, ", ""),
    "slot and slots": ("slot: account, ", "slot: account, slots: [account], "),
    "no if": ("{if: 1 > 0, then: e}, ", ""),
    "no then of an if": ("{if: 1 > 0, then: e}", "{if: 1 > 0}"),
    "no wait of an offer": ("wait: 60s, ", ""),
    "no options of a choice": (", of: [bill, move]", ""),
    "options of no choice": ("length: 8", "length: 8, of: [a]"),
    "length of no digits": ("{type: choice", "{length: 3, type: choice"),
    "wrong slot type": ("type: digits", "type: digit"),
    "wrong duration": ("3s", "3 seconds"),
    "no duration": ("3s", "0s"),
    "wrong key to press": ("press: 1", "press: one"),
    "wrong channel": ("channels: [sms], ask", "channels: [fax], ask"),
    "wrong number": ("to: 112", 'to: "{account}"'),
    "wrong URL": ('"{crm}/x"', "http://x/"),
    "wrong tries": ("ask: Hello.", "ask: Hello.\n      tries: 0"),
    "wrong confidence": ("ask: Hello.", "ask: Hello.\n      confidence: {accept: 2}"),
    "wrong barge_in": ("ask: Hello.", "ask: Hello.\n      barge_in: often"),
    "wrong listen": ("ask: Hello.", "ask: Hello.\n      listen: [eyes]"),
    "wrong confirm": ("ask: Hello.", "ask: Hello.\n      confirm: maybe"),
    "a prompt that is a list": ("ask: So?", "ask: [So]"),
    "a prompt that is a number": ("ask: So?", "ask: 5"),
    "a phrase that is a mapping": ("say: [one]", "say: [{a: b}]"),
    "a phrase that says nothing": ("say: [one]", "say: ['']"),
    "skills that are a text": ("skills: [x]", "skills: x"),
    "a name that is none": ("into: found", "into: 1x"),
    "a node's name that is none": ("\n  f: {end", "\n  f x: {end"),
    "a mode that is none": ("ask: So?", "ask: So?, mode: over"),
}


def test_the_good_flow_fits() -> None:
    loader.load({"x.yaml": GOOD})
    assert valid(GOOD)


@pytest.mark.parametrize(("old", "new"), BROKEN.values(), ids=BROKEN)
def test_what_the_loader_refuses_by_shape_the_schema_refuses_too(old: str, new: str) -> None:
    assert GOOD.count(old) >= 1
    broken = GOOD.replace(old, new, 1)
    codes = {finding.code for finding in lint.lint({"x.yaml": broken})}
    assert codes & {"E002", "E003", "E004"}, codes
    assert not valid(broken)
