"""What the linter's rules look at: a flow, its texts where they stand, what is known besides."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass

from ivr.flow.schema import KINDS, Flow
from ivr.flow.yamltree import Branch

Knows = Callable[[str, str], bool]
Place = tuple[int, int]
Found = Iterator[tuple[str, str, Place]]


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt, phrase or label as it stands in the file: `role` is its type in the schema."""

    role: str
    path: tuple[str | int, ...]
    branch: Branch

    def by_language(self, languages: tuple[str, ...]) -> dict[str, Branch]:
        if isinstance(self.branch.value, dict):
            return {key: value for key, value in self.branch.value.items() if key in languages}
        return {language: self.branch for language in languages}

    @property
    def what(self) -> str:
        return {"phrases": "the phrases", "label": "the label"}.get(self.role, "the prompt")


@dataclass(frozen=True, slots=True)
class Inspection:
    """One flow under inspection, and what is known besides."""

    flow: Flow
    flows: Mapping[str, Flow]
    knows: Knows | None
    recorded: Mapping[str, Container[str]]

    def node_place(self, name: str) -> Place:
        return self.flow.where("nodes", name)

    def texts(self) -> Iterator[Text]:
        """Everything that is said, printed or listened for."""
        slots = self.flow.tree.find(["slots"])
        for name, slot in (slots.value if slots else {}).items():
            options = slot.find(["of"])
            if options is not None and isinstance(options.value, dict):
                for option, body in options.value.items():
                    yield Text("phrases", ("slots", name, "of", option), body)
        for name in self.flow.nodes:
            body = self.flow.tree.find(["nodes", name])
            assert body is not None
            kind = next(key for key in body.value if key in KINDS)
            yield from self._node_texts(("nodes", name, kind), body.value[kind], kind)

    def _node_texts(self, path: tuple[str | int, ...], body: Branch, kind: str) -> Iterator[Text]:
        table = KINDS[kind]
        keys = body.value if isinstance(body.value, dict) else None
        bare = keys is None or (bool(keys) and all(key in self.flow.languages for key in keys))
        if table.bare and (table.whole or bare):
            yield from read(table.keys[table.bare].type, path, body)
            return
        for key, value in (keys or {}).items():
            yield from read(table.keys[key].type, (*path, key), value)


def read(kind: str, path: tuple[str | int, ...], branch: Branch) -> Iterator[Text]:
    if kind in ("prompt", "message", "waiting"):
        yield Text(kind, path, branch)
    elif kind == "prompts":
        items = branch.value if isinstance(branch.value, list) else None
        for index, item in enumerate(items if items is not None else [branch]):
            yield Text("prompt", (*path, index) if items is not None else path, item)
    elif kind == "asked_slots" and isinstance(branch.value, dict):
        for name, body in branch.value.items():
            yield Text("prompt", (*path, name), body)
    elif kind == "choices":
        for name, body in branch.value.items():
            for key, role in (("say", "phrases"), ("label", "label")):
                if text := body.find([key]):
                    yield Text(role, (*path, name, key), text)


def described(path: tuple[str | int, ...]) -> str:
    """What a designer calls the place at a path."""
    what = "slot" if path[0] == "slots" else "node"
    choice = f", choice {path[4]!r}" if len(path) > 4 and path[3] == "choices" else ""
    return f"{what} {path[1]!r}{choice}"
