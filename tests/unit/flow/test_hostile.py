"""Hostile files are refused by a limit, or do no harm. What they cost is measured elsewhere
(`python -m tests.hostile`): here it matters that each limit holds."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ivr.errors import FlowError
from ivr.flow import engine, lint, loader, yamltree
from ivr.flow.events import Say, Started
from ivr.flow.testing.player import MORNING
from tests import hostile

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("case", list(hostile.cases()), ids=lambda case: case.name)
def test_refused_or_harmless(case: hostile.Hostile) -> None:
    codes = {finding.code for finding in lint.lint({"x.yaml": case.text})}
    if case.code:
        assert case.code in codes
    else:
        assert not {code for code in codes if code.startswith("E")}
    assert len(codes) < 5, "one cause, not a flood of consequences"


def test_a_value_is_never_a_template() -> None:
    case = next(case for case in hostile.cases() if case.name == "templates in a slot's value")
    bundle = loader.load({"x.yaml": case.text})
    _, effects = engine.start(bundle, Started("sms", "+1"), MORNING)
    said = [effect.text for effect in effects if isinstance(effect, Say)]
    assert said[0] == "{t} ${7*7} {{7*7}} <b>"


def test_errors_end_somewhere() -> None:
    case = next(case for case in hostile.cases() if case.name == "unknown keys")
    assert 500 < len(lint.lint({"x.yaml": case.text})) <= 1_000


def test_both_parsers_read_the_same() -> None:
    """Wherever both take a file, they agree on values and places."""
    texts = [path.read_text("utf-8") for path in sorted((ROOT / "flows").glob("*.yaml"))]
    page = (ROOT / "docs" / "flow-language.md").read_text("utf-8")
    texts += re.findall(r"```yaml\n(.*?)```", page, re.S)
    rng = random.Random(7)
    agreed = 0
    for text in texts * 6:
        lines = text.splitlines(keepends=True)
        first = rng.randrange(len(lines))
        part = "".join(lines[first : first + 20])
        for _ in range(rng.randrange(3)):
            at = rng.randrange(len(part))
            part = part[:at] + rng.choice("{}[]:,-\"' #|>?汉") + part[at + 1 :]
        trees = [_read(part, pure=True), _read(part, pure=False)]
        if None not in trees:
            assert trees[0] == trees[1], part
            agreed += 1
    assert agreed > len(texts)


def _read(text: str, *, pure: bool) -> object:
    try:
        tree = yamltree._tree(YAML(typ="safe", pure=pure).parse(text), "x")
    except YAMLError:
        return None
    except FlowError as error:
        return error.code
    return _places(tree)


def _places(branch: yamltree.Branch) -> object:
    """A tree without the places of empty values, which one parser puts after the key."""
    if isinstance(branch.value, dict):
        return {key: (branch.keys[key], _places(value)) for key, value in branch.value.items()}
    if isinstance(branch.value, list):
        return [_places(value) for value in branch.value]
    return (branch.value, branch.text and (branch.line, branch.column))


@pytest.mark.parametrize("text", ["{ask: Which?}", "{at: http://x/y}", "{a:1}"])
def test_what_only_one_parser_takes_is_taken(text: str) -> None:
    assert yamltree.read(text, "x").value


def test_a_large_text_is_read_by_the_fast_parser_alone() -> None:
    large = "a: {ask: Which?}\n" + "# " + "x" * yamltree.SECOND_READING_LIMIT
    with pytest.raises(FlowError, match="x:1:15: E001 not YAML"):
        yamltree.read(large, "x")
