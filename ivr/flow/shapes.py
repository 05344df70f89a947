"""What every reader of a flow file needs: its outline, the errors so far, mappings and lists.

A shape that is wrong is noted and read as an empty one, so that all errors are told at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ivr.errors import FlowError
from ivr.flow.schema import Key
from ivr.flow.yamltree import Branch

BUILT_IN_NAMES = frozenset({"caller", "dialled", "channel", "language"})
"""Values that every conversation has. A slot of the same name hides one."""

LIMITS: Mapping[str, int] = {"nodes": 3_000, "expressions": 600, "phrases": 10_000}
"""How much one flow may hold (of expressions: different ones); nobody waits long for it to load."""

_SUGGESTIONS = 20
_MOST_ERRORS = 1_000


class Fields(dict[str, Any]):
    """What one key fills when that is more than one field."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What other flows may know of a flow: its name and slots, before its nodes are read."""

    name: str
    file: str
    tree: Branch
    slots: frozenset[str]

    @classmethod
    def of(cls, tree: Branch, file: str) -> Outline:
        """Raises FlowError when the file is no mapping, for then there is nothing to go on with."""
        if not isinstance(tree.value, dict):
            raise FlowError(
                "E003",
                "a flow is a mapping with the keys flow, start and nodes",
                file=file,
                line=tree.line,
                column=tree.column,
            )
        name, slots = tree.find(["flow"]), tree.find(["slots"])
        return cls(
            name.text if name else "",
            file,
            tree,
            frozenset(slots.value) if slots and isinstance(slots.value, dict) else frozenset(),
        )

    @property
    def place(self) -> tuple[int, int]:
        return self.tree.keys.get("flow", (1, 1))


def introduced(tree: Branch) -> frozenset[str]:
    """Names that nodes bring in: fetched answers, and what comes back from called flows."""
    nodes = tree.find(["nodes"])
    names: set[str] = set()
    for branch in nodes.value.values() if nodes and isinstance(nodes.value, dict) else ():
        if into := branch.find(["fetch", "into"]):
            names.add(into.text)
        out = branch.find(["call", "out"])
        names |= set(out.value) if out and isinstance(out.value, dict) else set()
    return frozenset(names)


class TooMuch(Exception):
    """The flow is over a limit, which has been noted: reading on is not worth it."""


class ShapeReader:
    """What every reader shares: the file, what is known of it, and its errors so far."""

    def __init__(self, outline: Outline, outlines: Mapping[str, Outline]):
        self.errors: list[FlowError] = []
        self._outline = outline
        self._flows = outlines
        nodes = outline.tree.find(["nodes"])
        self._nodes: Mapping[str, Branch] = (
            nodes.value if nodes and isinstance(nodes.value, dict) else {}
        )
        self._languages: tuple[str, ...] = ("en",)
        self._uses: tuple[str, ...] = ()
        self._known = outline.slots | BUILT_IN_NAMES | introduced(outline.tree)
        self._spent = dict.fromkeys(LIMITS, 0)
        self._expressions: set[str | None] = set()

    # --- reporting ------------------------------------------------------------------------------

    def _refuse(self, code: str, message: str, place: Branch | tuple[int, int]) -> None:
        line, column = (place.line, place.column) if isinstance(place, Branch) else place
        if len(self.errors) >= _MOST_ERRORS:
            return
        self.errors.append(
            FlowError(code, message, file=self._outline.file, line=line, column=column)
        )

    def _unknown(
        self,
        code: str,
        what: str,
        name: str,
        known: Iterable[str],
        place: Branch | tuple[int, int],
        where: str = "",
    ) -> None:
        # Comparing with every name is slow; a file with that many errors has another problem.
        few = len(self.errors) < _SUGGESTIONS
        close = difflib.get_close_matches(name, map(str, known), n=1) if few else []
        hint = f"; did you mean {close[0]!r}?" if close else ""
        self._refuse(code, f"unknown {what} {name!r}{where}{hint}", place)

    def _spend(self, what: str, count: int, place: Branch) -> None:
        """Count something that a flow may not hold much of. Raises TooMuch once it is noted."""
        self._spent[what] += count
        if self._spent[what] > LIMITS[what]:
            message = f"more than {LIMITS[what]:,} {what} in one flow; split it"
            self._refuse("E001", message, place)
            raise TooMuch

    def read(self, kind: str, branch: Branch) -> Any:
        """A value by the name of its type, which is a method of this class or of the reader's."""
        return getattr(self, kind)(branch)

    # --- shapes ---------------------------------------------------------------------------------

    def _mapping(self, branch: Branch, what: str) -> Mapping[str, Branch]:
        if isinstance(branch.value, dict):
            return branch.value
        self._refuse("E003", f"{what} must be a mapping (key: value)", branch)
        return {}

    def _items(self, branch: Branch, what: str) -> list[Branch]:
        if isinstance(branch.value, list):
            return branch.value
        self._refuse("E003", f"{what} must be a list", branch)
        return []

    def _keys(self, branch: Branch, keys: Mapping[str, Key], what: str) -> dict[str, Any]:
        """A mapping's known keys, each read as its type, under the field that it fills."""
        fields: dict[str, Any] = {}
        given = self._mapping(branch, what)
        if not isinstance(branch.value, dict):
            return fields
        for key, value in given.items():
            if key not in keys:
                self._unknown("E002", "key", key, keys, branch.keys[key], f" in {what}")
                continue
            read = self.read(keys[key].type, value)
            if isinstance(read, Fields):
                fields.update(read)
            else:
                fields[keys[key].into or key] = read
        for key, wanted in keys.items():
            if wanted.required and key not in given:
                self._refuse("E004", f"{what} lacks the key {key!r}", branch)
        return fields
