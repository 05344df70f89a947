"""Reads one flow's tree into the schema, noting every error and going on, so that all are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ivr.flow import lexicon, schema
from ivr.flow.schema import FLOW_KEYS, KINDS, SLOT_KEYS, AnyNode, Flow, MenuChoice, QueueNode, Slot
from ivr.flow.shapes import BUILT_IN_NAMES, Fields, TooMuch, introduced
from ivr.flow.values import CEL_WORDS, LANGUAGE, NAME, NODE_NAME, ValueReader
from ivr.flow.yamltree import Branch


class FlowReader(ValueReader):
    """Reads one flow. `errors` is complete once `flow()` has returned."""

    # --- the flow -------------------------------------------------------------------------------

    def flow(self) -> Flow:
        """The flow; worth something only when `errors` is empty."""
        tree = self._outline.tree
        # Languages and systems first: what comes after is judged by them.
        if languages := tree.find(["languages"]):
            self._languages = self.languages(languages)
        if uses := tree.find(["uses"]):
            self._uses = self.names(uses)
        self.errors.clear()
        try:
            fields = self._keys(tree, FLOW_KEYS, "a flow")
        except TooMuch:
            fields = {}
        nodes: Mapping[str, AnyNode] = fields.get("nodes") or {}
        channels: tuple[str, ...] = fields.get("channels", ())
        start = fields.get("start", "")
        people = _nearest_queue(start, nodes)
        return Flow(
            name=self._outline.name,
            file=self._outline.file,
            languages=self._languages,
            start=start,
            nodes=nodes,
            slots=fields.get("slots", {}),
            uses=self._uses,
            channels=channels,
            anytime=_anytime(fields.get("anytime", {}), people, channels),
            people=people,
            known=self._known,
            tree=tree,
            record_calls=fields.get("record_calls", False),
        )

    def languages(self, branch: Branch) -> tuple[str, ...]:
        items = self._items(branch, "languages")
        for item in items:
            if not isinstance(item.value, str) or not LANGUAGE.match(item.text):
                self._refuse("E003", f"{item.text!r} is no language; write en, zh, pt-BR", item)
        if not items:
            self._refuse("E003", "languages must name at least one language", branch)
        return tuple(item.text for item in items) or ("en",)

    def slots(self, branch: Branch) -> dict[str, Slot]:
        slots = {}
        for name, body in self._mapping(branch, "slots").items():
            if not NAME.match(name) or name in CEL_WORDS:
                message = f"{name!r} cannot name a slot; use letters, digits and underscores"
                self._refuse("E003", message, branch.keys[name])
            slots[name] = self._slot(name, body)
        return slots

    def _slot(self, name: str, body: Branch) -> Slot:
        fields = self._keys(body, SLOT_KEYS, f"slot {name!r}")
        kind = fields.setdefault("type", "text")
        if (length := fields.pop("length", 0)) and kind == "digits":
            fields.update(minimum=length, maximum=length)
        elif kind == "digits":
            fields.setdefault("minimum", 1)
            fields.setdefault("maximum", max(20, fields["minimum"]))
        elif length or "minimum" in fields or "maximum" in fields:
            self._refuse("E003", f"only digits have a length, min and max; this is {kind}", body)
        if fields.get("minimum", 0) > fields.get("maximum", 0):
            self._refuse("E003", f"slot {name!r}: min is more than max", body)
        if (kind == "choice") != ("options" in fields):
            message = f"slot {name!r}: a choice needs 'of', and nothing else takes it"
            self._refuse("E004" if kind == "choice" else "E003", message, body)
        return Slot(name=name, **fields)

    def options(self, branch: Branch) -> Fields:
        options: dict[str, dict[str, tuple[str, ...]]] = {name: {} for name in self._languages}
        labels: dict[str, dict[str, str]] = {name: {} for name in self._languages}
        if isinstance(branch.value, list):
            named = {item.text: item for item in branch.value}
        else:
            named = dict(self._mapping(branch, "of"))
        for name, body in named.items():
            said, first = self._phrases(body)
            for language in self._languages:
                options[language][name] = said.get(language) or said.get("") or ()
                labels[language][name] = first.get(language) or first.get("") or name
        if not named:
            self._refuse("E003", "of must name at least one option", branch)
        return Fields(options=options, labels=labels)

    def anytime(self, branch: Branch) -> dict[str, str | None]:
        bound: dict[str, str | None] = {}
        for command, target in self._mapping(branch, "anytime").items():
            if command not in lexicon.COMMANDS:
                place = branch.keys[command]
                self._unknown("E002", "command", command, lexicon.COMMANDS, place)
            bound[command] = None if target.value is None else self.node(target)
        return bound

    # --- nodes ----------------------------------------------------------------------------------

    def nodes(self, branch: Branch) -> dict[str, AnyNode]:
        nodes: dict[str, AnyNode] = {}
        given = self._mapping(branch, "nodes")
        self._spend("nodes", len(given), branch)
        for name, body in given.items():
            if not NODE_NAME.match(name):
                message = f"{name!r} cannot name a node; use letters, digits, - and _"
                self._refuse("E003", message, branch.keys[name])
            before = len(self.errors)
            node = self._node(name, body, branch.keys[name])
            if node is not None and len(self.errors) == before:
                nodes[name] = node
        if not self._nodes and isinstance(branch.value, dict):
            self._refuse("E003", "nodes must hold at least one node", branch)
        return nodes

    def _node(self, name: str, body: Branch, place: tuple[int, int]) -> AnyNode | None:
        what = f"node {name!r}"
        given = self._mapping(body, what)
        kinds = [key for key in given if key in KINDS]
        kind = KINDS[kinds[0]] if kinds else None
        allowed = (*kinds, *(kind.beside if kind else ("then", "otherwise")))
        strange = [key for key in given if key not in allowed]
        for key in strange:
            known = (*KINDS, *allowed) if not kinds else allowed
            self._unknown("E002", "key", key, known, body.keys[key], f" in {what}")
        if len(kinds) > 1:
            message = f"{what} is both {kinds[0]} and {kinds[1]}; make it two nodes"
            self._refuse("E003", message, body.keys[kinds[1]])
        if kind is None:
            if not strange and isinstance(body.value, dict):
                self._refuse("E004", f"{what} lacks a kind: one of {', '.join(KINDS)}", place)
            return None
        before = len(self.errors)
        fields = self._body(given[kinds[0]], kind, f"{kinds[0]} of {what}")
        beside = {key: self.node(given[key]) for key in kind.beside if key in given}
        for key, target in beside.items():
            if key in fields and kinds[0] != "confirm":
                self._refuse("E003", f"{what} says {key!r} twice", body.keys[key])
            if key in fields or (kinds[0] == "confirm" and key == "otherwise"):
                fields.setdefault("otherwise", target)
                fields["no"] = target
            else:
                fields[key] = target
        if finish := _FINISH.get(kinds[0]):
            finish(self, fields, given[kinds[0]])
        if len(self.errors) > before:
            return None
        node: Any = kind.node(name=name, **fields)
        result: AnyNode = node
        return result

    def _body(self, body: Branch, kind: schema.Kind, what: str) -> dict[str, Any]:
        keys = body.value if isinstance(body.value, dict) else None
        bare = kind.bare and (
            kind.whole or keys is None or (keys and all(key in self._languages for key in keys))
        )
        if not bare:
            return self._keys(body, kind.keys, what)
        key = kind.keys[kind.bare]
        read = self.read(key.type, body)
        return dict(read) if isinstance(read, Fields) else {key.into or kind.bare: read}

    # --- what only the whole body shows ---------------------------------------------------------

    def finish_menu(self, fields: dict[str, Any], body: Branch) -> None:
        default = fields.get("then", "")
        choices: tuple[MenuChoice, ...] = fields.get("choices", ())
        for choice in choices:
            if not choice.then and not default:
                place = (body.find(["choices"]) or body).keys.get(choice.name, (body.line, 1))
                self._refuse("E004", f"choice {choice.name!r} lacks the key 'then'", place)

    def finish_collect(self, fields: dict[str, Any], body: Branch) -> None:
        slots = fields.get("slots", ())
        if isinstance(body.value, dict) and ("slot" in body.value) == ("slots" in body.value):
            self._refuse("E004", "collect needs either 'slot' or 'slots'", body)
        if isinstance(slots, str):
            fields["slots"] = slots = (slots,)
        if "ask" not in fields and not fields.get("asks"):
            self._refuse("E004", "collect lacks the key 'ask'", body)

    def finish_when(self, fields: dict[str, Any], body: Branch) -> None:
        if not fields.get("cases") and isinstance(body.value, list):
            self._refuse("E004", "when needs at least one 'if'", body)

    def finish_hours(self, fields: dict[str, Any], body: Branch) -> None:
        fields.setdefault("holiday", fields.get("closed", ""))

    def finish_fetch(self, fields: dict[str, Any], body: Branch) -> None:
        methods = [
            key for key in ("get", "post", "put", "patch", "delete") if body.find([key]) is not None
        ]
        if len(methods) != 1 and isinstance(body.value, dict):
            self._refuse("E004", "fetch needs one of get, post, put, patch and delete", body)
        fields["method"] = methods[0].upper() if methods else ""

    def finish_call(self, fields: dict[str, Any], body: Branch) -> None:
        called = self._flows.get(fields.get("flow", ""))
        taken: dict[str, Branch] = fields.pop("taken", {})
        if called is None:
            return
        target = body.find(["in"])
        for name, _ in fields.get("given", ()):
            if name not in called.slots and target is not None:
                where = f" of flow {called.name!r}"
                self._unknown("E102", "slot", name, called.slots, target.keys[name], where)
        inside = called.slots | BUILT_IN_NAMES | introduced(called.tree)
        fields["taken"] = tuple(
            (name, self.expression(source, inside)) for name, source in taken.items()
        )


def _anytime(
    bound: Mapping[str, str | None], people: str, channels: tuple[str, ...]
) -> dict[str, str]:
    """Where each command leads. A flow without people has no `agent`, unless it binds it."""
    meanings: dict[str, str | None] = {"repeat": "", "go_back": "", "start_over": ""}
    meanings["agent"] = people or None
    meanings["text_me"] = "" if channels else None
    return {name: target for name, target in {**meanings, **bound}.items() if target is not None}


def _nearest_queue(start: str, nodes: Mapping[str, AnyNode]) -> str:
    seen, ahead = {start}, [start]
    for name in ahead:
        node = nodes.get(name)
        if isinstance(node, QueueNode):
            return name
        new = [target for target in (schema.targets(node) if node else ()) if target not in seen]
        seen.update(new)
        ahead += new
    # Nothing leads there but the customer's word for it.
    return next((name for name, node in nodes.items() if isinstance(node, QueueNode)), "")


_FINISH: Mapping[str, Callable[[FlowReader, dict[str, Any], Branch], None]] = {
    "menu": FlowReader.finish_menu,
    "collect": FlowReader.finish_collect,
    "when": FlowReader.finish_when,
    "hours": FlowReader.finish_hours,
    "fetch": FlowReader.finish_fetch,
    "call": FlowReader.finish_call,
}
