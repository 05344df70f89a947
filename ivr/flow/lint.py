"""Finds what loads but makes no sense: E2xx, which no flow should have, and W3xx, which few.

The findings of the loader (E0xx, E1xx) come first; a file that has any is judged no further. What
depends on the deployment is told by the caller: `knows` says whether the recogniser of a language
knows a word (W303), `recorded` which prompts of a language have a recording (W308).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass

from ivr.errors import FlowError
from ivr.flow import lint_ways, lint_words, loader
from ivr.flow.inspection import Found, Inspection, Knows
from ivr.flow.schema import CallNode, Flow


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing to mend, and where: `line` and `column` count from 1."""

    file: str
    line: int
    column: int
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.code} {self.message}"


def lint(
    texts: Mapping[str, str],
    *,
    knows: Knows | None = None,
    recorded: Mapping[str, Container[str]] | None = None,
) -> list[Finding]:
    """Everything found in these files (name to content), in order of file and line."""
    return judge(*loader.read(texts), knows=knows, recorded=recorded)


def judge(
    flows: Mapping[str, Flow],
    errors: Iterable[FlowError],
    *,
    knows: Knows | None = None,
    recorded: Mapping[str, Container[str]] | None = None,
) -> list[Finding]:
    """The same of files that `loader.read` has read."""
    found = [
        Finding(error.file, error.line, error.column, error.code, error.message) for error in errors
    ]
    called = {
        node.flow
        for flow in flows.values()
        for node in flow.nodes.values()
        if isinstance(node, CallNode)
    }
    for flow in flows.values():
        inspection = Inspection(flow, flows, knows, recorded or {})
        for rule in _RULES:
            found += [
                Finding(flow.file, place[0], place[1], code, message)
                for code, message, place in rule(inspection)
            ]
        if flow.name not in called:
            found += [
                Finding(flow.file, place[0], place[1], code, message)
                for code, message, place in lint_ways.nobody(inspection)
            ]
    return sorted(set(found))


_RULES: tuple[Callable[[Inspection], Found], ...] = (
    lint_ways.unreachable,
    lint_ways.dead_ends,
    lint_ways.endless,
    lint_words.same_keys,
    lint_words.same_phrases,
    lint_words.missing_languages,
    lint_words.secrets,
    lint_words.keys_in_prompts,
    lint_words.sound_alikes,
    lint_words.unknown_words,
    lint_words.many_choices,
    lint_ways.fetch_fails,
    lint_words.long_texts,
    lint_words.unrecorded,
)
