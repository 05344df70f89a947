"""Which ways out a node has, and which of them a conversation took."""

from __future__ import annotations

from ivr.flow import loader
from ivr.flow.exits import Trace, exits
from ivr.flow.schema import Bundle
from ivr.flow.testing import playing, script

MAIN = """\
flow: main
start: ask
channels: [sms]
slots: {n: {type: number}}
nodes:
  ask:
    confirm: {ask: Do you know the number?, tries: 2, otherwise: people}
    then: detour
    otherwise: offer
  detour: {call: {flow: inner, out: {n: n}}, then: big, otherwise: people}
  big:
    when:
      - {if: "n > 100", then: bye}
      - {if: "n > 10", then: bye}
      - {else: ask}
  offer:
    offer:
      channels: [sms]
      ask: Shall I text you?
      message: "{link} {code}"
      mode: beside
      declined: bye
    then: bye2
  people: {queue: {offer_after: {wait: 1m, then: offer}}, then: bye, otherwise: bye2}
  bye: {end: Goodbye}
  bye2: {menu: {ask: Anything else?, choices: {no: {say: "no", then: bye}}, otherwise: bye}}
"""
INNER = """\
flow: inner
start: number
slots: {n: {type: number}}
nodes:
  number: {collect: {slot: n, ask: Which number?, tries: 2, otherwise: lost}, then: done}
  done: {end: {}}
  lost: {end: {outcome: failed}}
"""


def bundle() -> Bundle:
    return loader.load({"main.yaml": MAIN, "inner.yaml": INNER}, "main")


def ways(node: str) -> dict[str, str]:
    flow = bundle().flows["main"]
    return {way.name: way.target for way in exits(flow, flow.nodes[node])}


def taken(*steps: str) -> list[str]:
    """The exits that a dialogue takes, as `node exit`."""
    text = "flow: main\ntests:\n  - name: x\n    steps:\n" + "".join(
        f"      - {s}\n" for s in steps
    )
    (case,) = script.read(text, "x.test.yaml").cases
    (result,) = playing.run("x.test.yaml", case, bundle())
    assert result.ok, (result.expected, result.happened)
    return [f"{node} {way}" for _, node, way in result.taken]


def test_exits_are_what_the_designer_wrote() -> None:
    assert ways("ask") == {"yes": "detour", "no": "offer", "otherwise": "people"}
    assert ways("big") == {"1": "bye", "2": "bye", "else": "ask"}
    assert ways("offer") == {"accepted": "bye2", "declined": "bye"}
    assert ways("people") == {"then": "bye", "offer_after": "offer", "otherwise": "bye2"}
    assert ways("bye2") == {"no": "bye", "otherwise": "bye"}
    assert ways("bye") == {}


def test_two_ways_to_one_node_are_told_apart() -> None:
    assert taken("says: yes", "says: five hundred")[-1] == "big 1"
    assert taken("says: yes", "says: fifty")[-1] == "big 2"
    arrived = ("says: no", "says: yes", "types: no", "expect: {ended: true}")
    assert taken(*arrived) == ["ask no", "offer accepted", "bye2 no"]
    assert (
        taken("says: no", "says: yes", "types: x", "types: x", "types: x")[-1] == "bye2 otherwise"
    )


def test_called_flows_come_back_by_how_they_ended() -> None:
    assert taken("says: yes", "says: five") == ["ask yes", "number then", "detour then", "big else"]
    assert taken("says: yes", "silent: 2") == ["ask yes", "number otherwise", "detour otherwise"]


def test_commands_are_no_exits_even_out_of_a_called_flow() -> None:
    assert taken("says: yes", "says: agent", "happens: {nobody: true}") == [
        "ask yes",
        "people otherwise",
    ]
    assert taken("says: yes", "says: go back", "says: yes", "says: five")[1:3] == [
        "ask yes",
        "number then",
    ]
    assert taken("says: repeat", "says: yes")[0] == "ask yes"


def test_queues_lead_on_in_three_ways() -> None:
    people = ("silent: 2",)
    assert taken(*people, "silent: 1", "says: no") == [
        "ask otherwise",
        "people offer_after",
        "offer declined",
    ]
    served = ("happens: {joined: ann}", "happens: {left: true}")
    assert taken(*people, *served)[-1] == "people then"
    assert taken(*people, "happens: {nobody: full}")[-1] == "people otherwise"


def test_who_is_on_two_channels_may_leave_either() -> None:
    both = ("says: no", "says: yes", "reads: Anything else", "expect: {channel: sms}")
    taken(*both, "hangs_up: voice", "expect: {channel: sms, ended: false}", "types: no")
    taken(*both, "hangs_up: sms", "hears: Anything else", "expect: {channel: voice}", "says: no")


def test_a_trace_follows_what_the_timeline_kept() -> None:
    trace = Trace(bundle())
    trace.follow([("node_entered", {"flow": "main", "node": "ask"}), ("timed_out", {})])
    trace.follow(
        [("matched", {"choice": "no"}), ("node_entered", {"flow": "main", "node": "offer"})]
    )
    assert trace.nodes == [("main", "ask"), ("main", "offer")]
    assert trace.exits == [("main", "ask", "no")]
