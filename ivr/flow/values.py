"""Reads the single values of a flow file (names, prompts, durations, expressions…) for its reader.

There is one method for each type that `ivr.flow.schema` names in its tables; each returns a value
of the right shape even after an error, since a flow with errors is thrown away whole.
"""

from __future__ import annotations

import re
from typing import Any

from ivr.flow import expr, phrases
from ivr.flow.schema import (
    CHOICE_KEYS,
    SLOT_TYPES,
    Key,
    MenuChoice,
    Wording,
)
from ivr.flow.shapes import Fields, ShapeReader
from ivr.flow.yamltree import Branch
from ivr.model import Channel

_QUEUE_NAMES = frozenset({"position", "ahead", "wait", "waited"})
_MESSAGE_NAMES = frozenset({"link", "code"})
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")
NODE_NAME = re.compile(r"[^\W\d][\w-]{0,63}\Z")
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})?\Z")
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h)\Z")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = 86_400.0
_NUMBER = re.compile(r"\+?[0-9]{2,18}\Z")
_KEYS = re.compile(r"[0-9*#]{1,4}\Z")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}\Z")
_CLAUSE = re.compile(r"[,，、;；]?[^,，、;；.。!！?？]*\{wait(?::\w+)?\}[^,，、;；.。!！?？]*")
CEL_WORDS = frozenset(
    {
        *("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "if"),
        *("function", "import", "let", "loop", "package", "namespace", "return", "var", "void"),
        "while",
    }
)
_MOST_CHOICES = 100


class ValueReader(ShapeReader):
    """Reads each type of value."""

    # --- what a key can hold --------------------------------------------------------------------

    def name(self, branch: Branch) -> str:
        if isinstance(branch.value, str) and NODE_NAME.match(branch.text):
            return branch.text
        self._refuse("E003", "this must be a name of letters, digits, - and _", branch)
        return branch.text

    def names(self, branch: Branch) -> tuple[str, ...]:
        return tuple(self.name(item) for item in self._items(branch, "this"))

    def node(self, branch: Branch) -> str:
        if not isinstance(branch.value, str):
            self._refuse("E003", "this must be the name of a node", branch)
        elif branch.text not in self._nodes:
            self._unknown("E101", "node", branch.text, self._nodes, branch)
        return branch.text

    def slot(self, branch: Branch) -> Any:
        if not isinstance(branch.value, str):
            self._refuse("E003", "this must be the name of a slot", branch)
        elif branch.text not in self._outline.slots:
            self._unknown("E102", "slot", branch.text, self._outline.slots, branch)
        return branch.text

    def asked_slots(self, branch: Branch) -> Fields:
        if isinstance(branch.value, dict):
            for name in branch.value:
                if name not in self._outline.slots:
                    self._unknown("E102", "slot", name, self._outline.slots, branch.keys[name])
            asks = {name: self.prompt(body) for name, body in branch.value.items()}
            slots = tuple(branch.value)
        else:
            asks, slots = {}, tuple(self.slot(item) for item in self._items(branch, "slots"))
        if not slots or len(slots) > 8:
            self._refuse("E003", "slots must name one to eight slots", branch)
        return Fields(slots=slots, asks=asks)

    def new_name(self, branch: Branch) -> str:
        if not NAME.match(branch.text) or branch.text in CEL_WORDS:
            self._refuse("E003", "this must be a name of letters, digits and underscores", branch)
        return branch.text

    def slot_type(self, branch: Branch) -> str:
        if branch.value not in SLOT_TYPES:
            known = ", ".join(SLOT_TYPES)
            self._refuse("E003", f"{branch.text!r} is no slot type; there are {known}", branch)
        return branch.text

    def count(self, branch: Branch) -> int:
        value = branch.value
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100:
            self._refuse("E003", "this must be a whole number from 1 to 100", branch)
            return 1
        return value

    def flag(self, branch: Branch) -> bool:
        if not isinstance(branch.value, bool):
            self._refuse("E003", "this must be true or false", branch)
        return branch.value is True

    def value(self, branch: Branch) -> Any:
        if isinstance(branch.value, dict | list):
            self._refuse("E003", "a slot begins with a plain value", branch)
        return branch.value

    def duration(self, branch: Branch) -> float:
        match = _DURATION.match(branch.text) if isinstance(branch.value, str) else None
        seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
        if not 0 < seconds <= _LONGEST:
            self._refuse("E003", "this must be a duration up to 24h, like 500ms, 3s or 10m", branch)
            return 1.0
        return seconds

    def prompt(self, branch: Branch, extra: frozenset[str] = frozenset()) -> Wording:
        return Wording(
            {
                language: parsed
                for language, text in self._by_language(branch).items()
                if (parsed := self._template(text, extra))
            }
        )

    def _by_language(self, branch: Branch, what: str = "a prompt") -> dict[str, Branch]:
        if not isinstance(branch.value, dict):
            return {"": branch}
        for language in branch.value:
            if language not in self._languages:
                place = branch.keys[language]
                self._unknown("E002", "language", language, self._languages, place, f" in {what}")
        if not branch.value:
            self._refuse("E003", f"{what} must be a text, or a text for each language", branch)
        return {key: text for key, text in branch.value.items() if key in self._languages}

    def _template(self, branch: Branch, extra: frozenset[str] = frozenset()) -> expr.Prompt | None:
        if not isinstance(branch.value, str):
            self._refuse("E003", "a prompt must be a text, or a text for each language", branch)
            return None
        try:
            parsed = expr.parse_prompt(branch.value)
        except ValueError as error:
            self._refuse("E003", str(error), branch)
            return None
        for name in sorted(parsed.names - self._known - extra):
            self._unknown("E106", "name", name, self._known | extra, branch, " in a prompt")
        return parsed

    def prompts(self, branch: Branch) -> tuple[Wording, ...]:
        if isinstance(branch.value, list):
            return tuple(self.prompt(item) for item in branch.value)
        return (self.prompt(branch),)

    def message(self, branch: Branch) -> Wording:
        return self.prompt(branch, _MESSAGE_NAMES)

    def waiting(self, branch: Branch) -> Fields:
        told = self.prompt(branch, _QUEUE_NAMES)
        # "You are number 2, about ." must not be said while the estimate is unknown.
        cut = {
            language: expr.parse_prompt(_CLAUSE.sub("", prompt.template))
            for language, prompt in told.prompts.items()
            if "wait" in prompt.names
        }
        return Fields(waiting=told, waiting_unknown=Wording({**told.prompts, **cut}))

    def expression(self, branch: Branch, known: frozenset[str] | None = None) -> expr.Compiled:
        known = self._known if known is None else known
        source = branch.text if not isinstance(branch.value, dict | list) else None
        if source not in self._expressions:
            self._expressions.add(source)
            self._spend("expressions", 1, branch)
        try:
            if source is None:
                raise ValueError("an expression must be a text")
            compiled = expr.compile_expression(source)
        except ValueError as error:
            self._refuse("E105", f"this expression does not compile: {error}", branch)
            return expr.compile_expression("null")
        for name in sorted(compiled.names - known):
            self._unknown("E105", "name", name, known, branch, " in an expression")
        return compiled

    def assignments(self, branch: Branch) -> tuple[tuple[str, expr.Compiled], ...]:
        values = self._mapping(branch, "set")
        for name in values:
            if name not in self._outline.slots:
                self._unknown("E102", "slot", name, self._outline.slots, branch.keys[name])
        return tuple((name, self.expression(source)) for name, source in values.items())

    def cases(self, branch: Branch) -> Fields:
        cases: list[tuple[expr.Compiled, str]] = []
        last = ""
        for index, item in enumerate(items := self._items(branch, "when")):
            given = self._mapping(item, "a case of when")
            if "else" in given:
                self._keys(item, {"else": Key("node")}, "the else of when")
                last = given["else"].text
                if index < len(items) - 1:
                    self._refuse("E003", "else must come last", item)
            elif given:
                keys = {"if": Key("expression", True), "then": Key("node", True)}
                read = self._keys(item, keys, "a case of when")
                if len(read) == len(keys):
                    cases.append((read["if"], read["then"]))
        fields = Fields(cases=tuple(cases))
        if last:
            fields["then"] = last
        return fields

    def language(self, branch: Branch) -> expr.Prompt:
        to = self._template(branch) or expr.parse_prompt("")
        if not to.names and branch.text not in self._languages:
            self._unknown("E003", "language", branch.text, self._languages, branch)
        return to

    def barge_in(self, branch: Branch) -> tuple[str, ...]:
        if isinstance(branch.value, bool):
            return ("speech", "keys") if branch.value else ()
        keys = {"speech": Key("flag"), "keys": Key("flag")}
        given = self._keys(branch, keys, "barge_in")
        return tuple(way for way in keys if given.get(way, True))

    def listen(self, branch: Branch) -> tuple[str, ...]:
        ways = self.names(branch)
        if not ways or any(way not in ("speech", "keys") for way in ways):
            self._refuse("E003", "listen must be a list of speech and keys", branch)
        return tuple(way for way in ("speech", "keys") if way in ways)

    def confidence(self, branch: Branch) -> Fields:
        keys = {"accept": Key("probability"), "reject": Key("probability")}
        given = {"accept": 0.7, "reject": 0.35, **self._keys(branch, keys, "confidence")}
        if given["reject"] > given["accept"]:
            self._refuse("E003", "reject must not be more than accept", branch)
        return Fields(given)

    def probability(self, branch: Branch) -> float:
        value = branch.value
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            self._refuse("E003", "this must be a number from 0 to 1", branch)
            return 0.5
        return float(value)

    def confirm_mode(self, branch: Branch) -> str:
        return self._one_of(branch, ("unsure", "always", "never"))

    def mode(self, branch: Branch) -> str:
        return self._one_of(branch, ("move", "beside"))

    def _one_of(self, branch: Branch, known: tuple[str, ...]) -> str:
        if branch.text not in known:
            self._refuse("E003", f"this must be one of {', '.join(known)}", branch)
        return branch.text

    def channels(self, branch: Branch) -> tuple[str, ...]:
        known = tuple(channel.value for channel in Channel if channel is not Channel.VOICE)
        return tuple(self._one_of(item, known) for item in self._items(branch, "channels"))

    def choices(self, branch: Branch) -> tuple[MenuChoice, ...]:
        choices = []
        given = self._mapping(branch, "choices")
        if len(given) > _MOST_CHOICES:
            self._refuse("E003", f"a menu has at most {_MOST_CHOICES} choices", branch)
            return ()
        for name, body in given.items():
            fields = self._keys(body, CHOICE_KEYS, f"choice {name!r}")
            if isinstance(body.value, dict) and not {"press", "say", "label"} & set(body.value):
                self._refuse("E004", f"choice {name!r} lacks 'press' or 'say'", body)
            fields["labels"] = fields.pop("first", {}) | fields.pop("label", {})
            choices.append(MenuChoice(name=name, then=fields.pop("then", ""), **fields))
        if not choices and isinstance(branch.value, dict):
            self._refuse("E003", "a menu needs at least one choice", branch)
        return tuple(choices)

    def press(self, branch: Branch) -> Fields:
        if not _KEYS.match(branch.text):
            self._refuse("E003", "press must be one to four of the keys 0-9, * and #", branch)
        return Fields(key=branch.text)

    def phrases(self, branch: Branch) -> Fields:
        said, first = self._phrases(branch)
        return Fields(say=said, first=first)

    def _phrases(self, branch: Branch) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
        said: dict[str, tuple[str, ...]] = {}
        first: dict[str, str] = {}
        for language, patterns in self._by_language(branch, "phrases").items():
            expanded: list[str] = []
            for item in patterns.value if isinstance(patterns.value, list) else [patterns]:
                try:
                    if isinstance(item.value, dict | list | None):
                        raise ValueError("a phrase must be a text")
                    found = phrases.expand(item.text)
                    self._spend("phrases", len(found), item)
                    expanded += found
                    first.setdefault(language, phrases.label(item.text))
                except ValueError as error:
                    self._refuse("E003", str(error), item)
            said[language] = tuple(dict.fromkeys(expanded))
        return said, first

    def label(self, branch: Branch) -> dict[str, str]:
        labels = self._by_language(branch, "a label")
        for item in labels.values():
            if not isinstance(item.value, str) or not item.value.strip():
                self._refuse("E003", "a label must be a text", item)
        return {language: " ".join(item.text.split()) for language, item in labels.items()}

    def url(self, branch: Branch) -> Fields:
        parsed = self._template(branch, frozenset(self._uses) | {_leading_name(branch.text)})
        head = parsed.parts[0] if parsed and parsed.parts else None
        if parsed and (not isinstance(head, expr.Hole) or len(head.path) > 1 or head.format):
            message = "a URL begins with the name of a system in braces: {crm}/customers/{account}"
            self._refuse("E003", message, branch)
        elif isinstance(head, expr.Hole) and head.path[0] not in self._uses:
            where = "; name it under 'uses'"
            self._unknown("E104", "system", head.path[0], self._uses, branch, where)
        system = head.path[0] if isinstance(head, expr.Hole) else ""
        return Fields(path=parsed, system=system)

    def json(self, branch: Branch) -> Any:
        if isinstance(branch.value, dict):
            return {key: self.json(item) for key, item in branch.value.items()}
        if isinstance(branch.value, list):
            return [self.json(item) for item in branch.value]
        return self.expression(branch) if isinstance(branch.value, str) else branch.value

    def headers(self, branch: Branch) -> dict[str, expr.Prompt]:
        headers = {}
        for name, text in self._mapping(branch, "headers").items():
            if not _HEADER.match(name):
                self._refuse("E003", f"{name!r} cannot name a header", branch.keys[name])
            if template := self._template(text):
                headers[name] = template
        return headers

    def shown(self, branch: Branch) -> tuple[tuple[str, ...], ...]:
        shown = []
        for item in self._items(branch, "pop"):
            path = tuple(item.text.split("."))
            if path[0] not in self._known:
                self._unknown("E102", "slot", path[0], self._known, item)
            shown.append(path)
        return tuple(shown)

    def offer_after(self, branch: Branch) -> Fields:
        keys = {"wait": Key("duration", True), "then": Key("node", True)}
        given = self._keys(branch, keys, "offer_after")
        return Fields(offer_wait=given.get("wait", 0.0), offer_then=given.get("then", ""))

    def number(self, branch: Branch) -> str:
        # A number from a slot would let a caller dial anywhere at the operator's cost.
        if not _NUMBER.match(branch.text):
            message = "this must be a telephone number or extension, written out: +442079460123"
            self._refuse("E003", message, branch)
        return branch.text

    def called_flow(self, branch: Branch) -> str:
        if branch.text not in self._flows:
            self._unknown("E103", "flow", branch.text, self._flows, branch)
        return branch.text

    def given(self, branch: Branch) -> tuple[tuple[str, expr.Compiled], ...]:
        values = self._mapping(branch, "in")
        return tuple((name, self.expression(source)) for name, source in values.items())

    def taken(self, branch: Branch) -> dict[str, Branch]:
        return dict(self._mapping(branch, "out"))


def _leading_name(text: str) -> str:
    match = re.match(r"\{([^{}.:]*)\}", text)
    return match[1] if match else ""
