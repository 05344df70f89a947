"""YAML 1.2 as a tree whose every value knows its line, with bounds on size, depth and aliases.

Only ruamel's parsers are used; values are resolved here by YAML 1.2's core schema, so that `no`,
`on` and `12:30` are texts, and nothing that a file says can make an object. Its parser in C is
twenty times as fast and never slower than linear, but does not take all of YAML 1.2:
`{ask: Which?}`. What it refuses gets a second reading by the one in Python, which also words the
errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from ivr.errors import FlowError

SIZE_LIMIT = 1 << 20
SECOND_READING_LIMIT = 1 << 17
"""The largest text that the slow parser is let loose on."""
DEPTH_LIMIT = 64
NODE_LIMIT = 100_000
"""The most values a file may stand for once its aliases are followed."""

_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"[-+]?[0-9]{1,300}\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?\Z")


@dataclass(frozen=True, slots=True)
class Branch:
    """One value of a YAML file. `line` and `column` count from 1.

    `value` is None, a bool, an int, a float, a str, a list of branches, or a dict of branches;
    `keys` says where a dict's keys stand; `text` is a scalar as it was written.
    """

    value: Any
    line: int
    column: int
    text: str = ""
    keys: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    size: int = 1

    def plain(self) -> Any:
        """The value without positions, as JSON has it."""
        if isinstance(self.value, dict):
            return {key: branch.plain() for key, branch in self.value.items()}
        if isinstance(self.value, list):
            return [branch.plain() for branch in self.value]
        return self.value

    def find(self, path: Sequence[str | int]) -> Branch | None:
        """The branch at the end of a path of keys and indexes."""
        branch = self
        for step in path:
            try:
                branch = branch.value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return branch


class _Reader:
    """Builds the tree from the parser's events, counting as it goes."""

    def __init__(self, events: Iterator[Event], file: str):
        self._events = events
        self._file = file
        self._anchors: dict[str, Branch | None] = {}
        self._nodes = 0

    def refuse(self, message: str, event: Any) -> FlowError:
        mark = event.start_mark
        return FlowError(
            "E001", message, file=self._file, line=mark.line + 1, column=mark.column + 1
        )

    def value(self, event: Any, depth: int) -> Branch:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if isinstance(event, AliasEvent):
            target = self._anchors.get(str(event.anchor))
            if target is None:
                raise self.refuse(f"the alias *{event.anchor} has no complete anchor", event)
            self._count(target.size, event)
            return target
        self._count(1, event)
        if depth > DEPTH_LIMIT:
            raise self.refuse(f"more than {DEPTH_LIMIT} levels deep", event)
        if event.anchor:
            self._anchors[str(event.anchor)] = None
        if isinstance(event, ScalarEvent):
            text = str(event.value)
            branch = Branch(text if event.style else _resolve(text), line, column, text)
        elif isinstance(event, SequenceStartEvent):
            items = list(self._items(depth))
            size = 1 + sum(item.size for item in items)
            branch = Branch(items, line, column, size=size)
        elif isinstance(event, MappingStartEvent):
            branch = self._mapping(line, column, depth)
        else:
            raise self.refuse("a value is missing here", event)
        if event.anchor:
            self._anchors[str(event.anchor)] = branch
        return branch

    def _count(self, size: int, event: Any) -> None:
        self._nodes += size
        if self._nodes > NODE_LIMIT:
            raise self.refuse(f"more than {NODE_LIMIT} values, aliases followed", event)

    def _items(self, depth: int) -> Iterator[Branch]:
        while not isinstance(event := next(self._events), SequenceEndEvent):
            yield self.value(event, depth + 1)

    def _mapping(self, line: int, column: int, depth: int) -> Branch:
        branches: dict[str, Branch] = {}
        keys: dict[str, tuple[int, int]] = {}
        size = 1
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self.value(event, depth + 1)
            if isinstance(key.value, dict | list):
                raise self.refuse("a key must be a plain text", event)
            if key.text in branches:
                raise self.refuse(f"the key {key.text!r} is here twice", event)
            branches[key.text] = branch = self.value(next(self._events), depth + 1)
            keys[key.text] = key.line, key.column
            size += branch.size + 1
        return Branch(branches, line, column, keys=keys, size=size)


def _resolve(text: str) -> Any:
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text[0] in "tT"
    if _INT.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    return text


def read(text: str, file: str) -> Branch:
    """The tree of one document. Raises FlowError E001, with its place, on anything else."""
    if len(text) > SIZE_LIMIT or len(text.encode(errors="replace")) > SIZE_LIMIT:
        raise FlowError("E001", f"larger than {SIZE_LIMIT >> 20} MiB", file=file)
    try:
        return _tree(YAML(typ="safe").parse(text), file)
    except _NOT_YAML as error:
        if len(text) > SECOND_READING_LIMIT:
            raise _not_yaml(error, file) from None
    try:
        return _tree(YAML(typ="safe", pure=True).parse(text), file)
    except _NOT_YAML as error:
        raise _not_yaml(error, file) from None


# What ruamel itself trips over (bad directives, lone surrogates) is no YAML either.
_NOT_YAML = (YAMLError, RecursionError, ValueError, UnicodeError, AttributeError, TypeError)


def _tree(parsed: Iterable[Event], file: str) -> Branch:
    # The parser's own nesting is bounded first: it recurses on what it has not yet handed over.
    events = iter(parsed)
    next(events), (first := next(events))
    if isinstance(first, StreamEndEvent):
        raise FlowError("E001", "the file is empty", file=file)
    tree = _Reader(events, file).value(next(events), 1)
    next(events)
    if not isinstance(extra := next(events), StreamEndEvent):
        line = extra.start_mark.line + 1
        message = "a second document begins here"
        raise FlowError("E001", message, file=file, line=line, column=1)
    return tree


def _not_yaml(error: Exception, file: str) -> FlowError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or next(iter(str(error).splitlines()), "")
    return FlowError(
        "E001",
        f"not YAML: {' '.join(str(problem).split())}",
        file=file,
        line=mark.line + 1 if mark else 0,
        column=mark.column + 1 if mark else 0,
    )
