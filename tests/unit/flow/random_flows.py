"""Makes folders of flows that no designer would write, all of them valid, for the engine's fuzzer.

Every decision is made by a `Pick`. The first option is always the plainest, so that what hypothesis
shrinks to can be read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from hypothesis import strategies as st

from ivr.flow.lexicon import COMMANDS
from ivr.flow.schema import KINDS

T = TypeVar("T")


class Pick:
    """Decides by what `upto` says: a number from 0 to its argument."""

    def __init__(self, upto: Callable[[int], int]):
        self._upto = upto

    def __call__(self, *options: T) -> T:
        return options[self._upto(len(options) - 1)]

    def of(self, options: Sequence[T]) -> T:
        return options[self._upto(len(options) - 1)]

    def sometimes(self, one_in: int = 3) -> bool:
        return self._upto(one_in - 1) == one_in - 1

    def some(self, options: Sequence[T], least: int, most: int) -> list[T]:
        """Between `least` and `most` different options."""
        count = least + self._upto(most - least)
        first = self._upto(len(options) - 1)
        step = 1 + self._upto(2)
        return list(dict.fromkeys(options[(first + n * step) % len(options)] for n in range(count)))


# --- flows --------------------------------------------------------------------------------------

LANGUAGES = (["en"], ["en", "zh"], ["zh"], ["zh", "en"], ["de", "en"])
CHANNELS = ("sms", "chat", "wechat", "email", "terminal")
_WAITING_KINDS = ("menu", "collect", "confirm", "offer", "fetch", "queue", "record", "transfer")
_KINDS = (*_WAITING_KINDS[:6] * 2, *KINDS)
"""Those at which conversations take turns are more likely, so that they do not end at once."""
_SLOTS = ("digits", "number", "money", "date", "time", "phone", "yes_no", "choice", "text")
_OWN = (*_SLOTS, "pin", "word")
"""The slots of every flow; `pin` and `word` are always secret."""

_EXPRESSIONS = (
    "null",
    "1",
    "'x'",
    "true",
    "number + 1",
    "text + '!'",
    "digits",
    "pin",
    "word",
    "money * 2.0",
    "number > 2",
    "text == null",
    "yes_no",
    "1 / 0",
    "date + money",
    "size(text) > 3",
    "[number, text]",
    "{'a': text}",
    "channel == 'voice' ? 10 : number",
    "'{text}'",
)
_FETCHED = ("customer.name", "has(customer.name)", "customer", "customer.overdue > 0")
_PROMPTS = (
    "Hello.",
    "Which? Press 1.",
    "{digits:digits} on {date:date} at {time:time}",
    "{money:money}, {number:number}, {text}",
    "{pin} {word:spell} {pin:digits}",
    "{{text}} {choice} {yes_no} {phone:spell}",
    "{caller} {dialled} {channel} {language}",
    "{text} {text:minutes} {number:minutes}",
)
_WAITING = ("Number {position}.", "{ahead} first, about {wait:minutes}, {waited:minutes} so far.")
_PHRASES = (
    ["go"],
    ["[my] (bill|bills)", "payment"],
    ["agent"],
    ["yes"],
    ["one two three"],
    ["账单"],
    ["不对"],
    ["1"],
    ["text me"],
)


@dataclass
class _Flow:
    """A flow while it is made up: who decides, and what its nodes may name."""

    pick: Pick
    languages: list[str]
    nodes: list[str]
    flows: list[str]
    uses_answers: bool

    def node(self) -> str:
        return self.pick.of(self.nodes)

    def ways(self) -> dict[str, str]:
        """`then` and `otherwise`, either of which may be missing."""
        ways = {}
        if not self.pick.sometimes(10):
            ways["then"] = self.node()
        if not self.pick.sometimes(5):
            ways["otherwise"] = self.node()
        return ways

    def prompt(self, texts: Sequence[str] = _PROMPTS) -> Any:
        if self.pick.sometimes():
            return {name: self.pick.of(texts) for name in self.languages}
        return self.pick.of(texts)

    def expression(self) -> str:
        return self.pick.of(_EXPRESSIONS + (_FETCHED if self.uses_answers else ()))

    def asking(self) -> dict[str, Any]:
        pick = self.pick
        more: dict[str, Any] = {"ask": self.prompt()}
        if not pick.sometimes(3):
            return more
        for key in pick.some(
            ("tries", "no_input", "no_match", "wait", "barge_in", "confidence", "listen"), 1, 4
        ):
            more[key] = {
                "tries": pick(1, 2, 5),
                "no_input": [self.prompt()],
                "no_match": [self.prompt(), self.prompt()],
                "wait": pick("1s", "24h"),
                "barge_in": pick(False, True, {"speech": False}),
                "confidence": pick({"accept": 0.95}, {"accept": 0.5, "reject": 0.5}),
                "listen": pick(["speech", "keys"], ["keys"], ["speech"]),
            }[key]
        return more

    def body(self, kind: str) -> dict[str, Any]:
        """A node of a kind, whole."""
        node: dict[str, Any] = getattr(self, f"_{kind}")()
        return node

    def _say(self) -> dict[str, Any]:
        return {"say": self.prompt(), **self._then()}

    def _then(self) -> dict[str, str]:
        return {name: to for name, to in self.ways().items() if name == "then"}

    def _menu(self) -> dict[str, Any]:
        pick, choices = self.pick, {}
        for number in range(1 + pick(1, 0, 2, 3)):
            choice: dict[str, Any] = {"then": self.node()}
            if not pick.sometimes(4):
                choice["press"] = pick(number + 1, number + 1, f"{number}#", "0")
            if "press" not in choice or not pick.sometimes(3):
                choice["say"] = pick.of(_PHRASES)
            if pick.sometimes(4):
                choice["label"] = pick("Go", "Los")
            choices[f"c{number}"] = choice
        body = {**self.asking(), "choices": choices, **self._confirmed()}
        return {"menu": body, **self.ways()}

    def _confirmed(self) -> dict[str, str]:
        return {"confirm": self.pick("unsure", "always", "never")} if self.pick.sometimes() else {}

    def _collect(self) -> dict[str, Any]:
        pick = self.pick
        body = {**self.asking(), **self._confirmed()}
        if pick.sometimes():
            slots = pick.some(_OWN, 1, 4)
            body["slots"] = {name: self.prompt() for name in slots} if pick(0, 1) else slots
        else:
            body["slot"] = pick.of((*_OWN, "pin", "word"))
        return {"collect": body, **self.ways()}

    def _confirm(self) -> dict[str, Any]:
        inner = {"otherwise": self.node()} if self.pick.sometimes() else {}
        return {"confirm": {**self.asking(), **inner}, **self.ways()}

    def _set(self) -> dict[str, Any]:
        slots = self.pick.some(_OWN, 1, 2)
        return {"set": {name: self.expression() for name in slots}, **self._then()}

    def _when(self) -> dict[str, Any]:
        cases: list[dict[str, str]] = [
            {"if": self.expression(), "then": self.node()} for _ in range(self.pick(1, 2))
        ]
        return {"when": [*cases, *([{"else": self.node()}] if not self.pick.sometimes() else [])]}

    def _hours(self) -> dict[str, Any]:
        body = {"calendar": self.pick("office", "none"), "open": self.node(), "closed": self.node()}
        if self.pick.sometimes():
            body["holiday"] = self.node()
        return {"hours": body}

    def _language(self) -> dict[str, Any]:
        to = self.pick(self.languages[-1], "{choice}", "{text}", "{word}", self.languages[0])
        return {"language": {"to": to}, **self._then()}

    def _fetch(self) -> dict[str, Any]:
        pick = self.pick
        body: dict[str, Any] = {
            pick("get", "post", "put", "patch", "delete"): pick(
                "{crm}/x", "{crm}/{digits}/{text}", "{crm}", "{crm}/{pin}?q={number}"
            ),
            "into": pick("customer", "choice", "text", "word"),
        }
        if pick.sometimes(2):
            body["json"] = pick(
                {"pin": "pin", "n": "number", "deep": ["word", {"t": "text"}]}, "pin + word", [1]
            )
        if pick.sometimes(4):
            body["headers"] = {"X-Pin": pick("{pin}", "{word} {text}", "{date}")}
        return {"fetch": body, **self.ways()}

    def _offer(self) -> dict[str, Any]:
        body = {
            **self.asking(),
            "channels": self.pick.some(CHANNELS, 1, 3),
            "message": self.prompt(("{link} ({code})", "{text} {pin} {link}", "Hello.")),
            "mode": self.pick("move", "beside"),
        }
        if not self.pick.sometimes(4):
            body["declined"] = self.node()
        return {"offer": body, **self._then()}

    def _queue(self) -> dict[str, Any]:
        pick = self.pick
        body: dict[str, Any] = {}
        if pick.sometimes(2):
            body["skills"] = pick(["billing"], [], ["billing", "repairs"])
            body["priority"] = self.expression()
            body["pop"] = pick.some((*_OWN, "caller", "choice.name"), 1, 4)
        if not pick.sometimes():
            body["waiting"] = self.prompt(_WAITING)
        if not pick.sometimes():
            body["offer_after"] = {"wait": "60s", "then": self.node()}
        return {"queue": body, **self.ways()}

    def _transfer(self) -> dict[str, Any]:
        return {"transfer": {"to": self.pick("100", "+442079460123")}, **self.ways()}

    def _record(self) -> dict[str, Any]:
        body: dict[str, Any] = {"slot": self.pick("text", "word", "digits")}
        if not self.pick.sometimes():
            body["ask"] = self.prompt()
        return {"record": body, **self.ways()}

    def _call(self) -> dict[str, Any]:
        body: dict[str, Any] = {"flow": self.pick.of(self.flows)}
        if not self.pick.sometimes():
            body["in"] = {name: self.expression() for name in self.pick.some(_OWN, 1, 3)}
        if not self.pick.sometimes():
            inner = self.pick("text", "pin", "word", "number", "1 / 0", "choice")
            body["out"] = {self.pick("customer", "text", "word", "digits"): inner}
        return {"call": body, **self.ways()}

    def _end(self) -> dict[str, Any]:
        outcome = {"outcome": "failed"} if self.pick.sometimes() else {}
        return {"end": {"say": self.prompt(), **outcome} if not self.pick.sometimes() else outcome}


def _slots(pick: Pick, languages: Sequence[str]) -> dict[str, Any]:
    slots: dict[str, Any] = {name: {"type": name} for name in _SLOTS}
    slots["digits"] |= pick({}, {"length": 4}, {"min": 2, "max": 6})
    slots["choice"]["of"] = pick(
        {"en": [["english"]], "zh": ["中文"]},
        ["red", "green"],
        {f"o{n}": [f"number {n}", f"第{n}"] for n in range(12)},
    )
    if isinstance(slots["choice"]["of"], dict) and "en" in slots["choice"]["of"]:
        slots["choice"]["of"] = {"en": ["english", "英语"], "zh": ["chinese", "中文"]}
    slots["pin"] = {"type": "digits", "length": 4, "secret": True}
    slots["word"] = {"type": pick("text", "number", "money", "date", "time", "phone", "digits")}
    slots["word"]["secret"] = True
    if pick.sometimes():
        slots["number"]["value"] = 3
    for name in pick.some(("text", "digits", "yes_no", "choice"), 0, 1):
        slots[name]["secret"] = True
    return slots


def _flow(pick: Pick, name: str, flows: list[str]) -> dict[str, Any]:
    languages = pick.of(LANGUAGES)
    kinds = [pick.of(_KINDS) for _ in range(3 + pick(3, 0, 1, 2, 4, 5, 6, 7))]
    if not pick.sometimes(4):
        kinds[0] = pick.of(_WAITING_KINDS)
    nodes = [f"n{number}" for number in range(len(kinds))]
    answers = ("fetch", "call")
    made = _Flow(pick, languages, nodes, flows, uses_answers=False)
    bodies = {node: made.body(kind) for node, kind in zip(nodes, kinds, strict=True)}
    # What is fetched is known by name in the whole flow, but only if something fetches it.
    made.uses_answers = any(
        bodies[node].get(kind, {}).get("into") == "customer"
        or "customer" in bodies[node].get(kind, {}).get("out", {})
        for node in nodes
        for kind in answers
    )
    if made.uses_answers:
        bodies["told"] = {"say": "{customer.name} {customer.overdue:money}{customer}", "then": "n0"}
        bodies["asked"] = {"when": [{"if": made.expression(), "then": "told"}, {"else": "n0"}]}
        bodies["kept"] = {"set": {"text": made.expression()}, "then": "asked"}
        for body in bodies.values():
            if "fetch" in body and not pick.sometimes():
                body["then"] = "kept"
    flow: dict[str, Any] = {
        "flow": name,
        "languages": languages,
        "start": "n0",
        "uses": ["crm"],
        "slots": _slots(pick, languages),
        "nodes": bodies,
    }
    if pick.sometimes(2):
        flow["channels"] = pick.some(CHANNELS, 1, 3)
    if pick.sometimes():
        bound = pick.some(COMMANDS, 1, 3)
        flow["anytime"] = {command: pick(None, made.node()) for command in bound}
    return flow


@lru_cache
def _to(most: int) -> st.SearchStrategy[int]:
    return st.integers(0, most)


@st.composite
def folders(draw: st.DrawFn) -> dict[str, str]:
    """The texts of a folder of one to three flows, by file; the one to begin with is `main`."""
    pick = Pick(lambda most: draw(_to(most)) if most else 0)
    flows = ["main", "second", "third"][: pick(2, 1, 3)]
    # JSON is YAML, and quicker to write and to read.
    return {
        f"{name}.yaml": json.dumps(_flow(pick, name, flows), ensure_ascii=False) for name in flows
    }
