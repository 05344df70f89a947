"""The table of node kinds: it is whole, and everything in it can be read and run."""

from dataclasses import fields

from ivr.flow import nodes, schema
from ivr.flow.reading import FlowReader
from ivr.flow.schema import CHOICE_KEYS, FLOW_KEYS, KINDS, SLOT_KEYS
from tests.unit.flow.caller import bundle


def test_every_kind_of_the_language_is_there() -> None:
    assert list(KINDS) == [
        *("say", "menu", "collect", "confirm", "set", "when", "hours", "language", "fetch"),
        *("offer", "queue", "transfer", "record", "call", "end"),
    ]


def test_every_type_in_the_tables_has_a_reader() -> None:
    tables = [FLOW_KEYS, SLOT_KEYS, CHOICE_KEYS, *(kind.keys for kind in KINDS.values())]
    for table in tables:
        for key in table.values():
            assert callable(getattr(FlowReader, key.type)), key


def test_every_kind_can_be_entered_and_its_keys_beside_are_fields() -> None:
    assert set(nodes.ENTER) == {kind.node for kind in KINDS.values()}
    for kind in KINDS.values():
        names = {field.name for field in fields(kind.node)}
        assert set(kind.beside) <= names
        assert not kind.bare or kind.bare in kind.keys


def test_targets_are_every_node_that_a_node_names() -> None:
    flow = bundle(
        """\
flow: f
start: a
slots: {x: {type: number}}
nodes:
  a: {menu: {ask: '?', choices: {i: {press: 1, then: b}, j: {press: 2, then: c}}, otherwise: d}}
  b: {when: [{if: x > 1, then: c}, {else: e}]}
  c: {confirm: {ask: '?', otherwise: e}, then: d, otherwise: a}
  d: {queue: {offer_after: {wait: 1m, then: o}}, then: e, otherwise: a}
  o: {offer: {channels: [sms], ask: '?', message: m, declined: d}, then: e}
  e: {hours: {calendar: x, open: a, closed: b, holiday: c}}
"""
    ).flows["f"]
    found = {name: schema.targets(node) for name, node in flow.nodes.items()}
    assert found == {
        "a": ("b", "c", "d"),
        "b": ("c", "e"),
        "c": ("a", "d", "e"),
        "d": ("o", "e", "a"),
        "o": ("e", "d"),
        "e": ("a", "b", "c"),
    }
