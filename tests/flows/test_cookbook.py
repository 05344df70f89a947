"""The hotlines of `flows/` are what the cookbook promises: they load, nothing is found in them,
their tests pass on every channel, and leave no node and no exit untried."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from ivr.flow import lint, loader
from ivr.flow.exits import kind
from ivr.flow.schema import KINDS, SLOT_TYPES
from ivr.flow.testing import coverage, playing, reports, script
from ivr.flow.testing.playing import Result
from ivr.flow.testing.script import TestFile

ROOT = Path(__file__).parents[2]
FLOWS = ROOT / "flows"
TEXTS = loader.load_folder(FLOWS)
BUNDLE = loader.load(TEXTS, "main")
HOTLINES = (
    *("main", "bank", "clinic", "parcel", "school"),
    *("hotel", "government", "after-hours", "outage", "basics"),
)
SHARED = ("identify", "callback", "message")
EVERYWHERE = {"voice", "sms", "chat"}


@cache
def written_beside(name: str) -> TestFile:
    path = FLOWS / f"{name}.test.yaml"
    return script.read(path.read_text(encoding="utf-8"), str(path))


@cache
def results_of(name: str) -> tuple[Result, ...]:
    bundle = replace(BUNDLE, entry=name)
    return tuple(
        result
        for case in written_beside(name).cases
        for result in playing.run(written_beside(name).file, case, bundle)
    )


def test_ten_hotlines_and_what_they_share_are_all_that_is_here() -> None:
    assert sorted(BUNDLE.flows) == sorted((*HOTLINES, *SHARED))
    assert len(HOTLINES) == 10
    for name, flow in BUNDLE.flows.items():
        assert flow.file == str(FLOWS / f"{name}.yaml")


def test_the_linter_finds_nothing() -> None:
    assert [str(finding) for finding in lint.lint(TEXTS)] == []


@pytest.mark.parametrize("name", [*HOTLINES, *SHARED])
def test_what_its_tests_tell_happens(name: str) -> None:
    assert written_beside(name).flow == name
    failed = [result for result in results_of(name) if not result.ok]
    assert not failed, "\n".join(line for result in failed for line in reports.lines(result))


@pytest.mark.parametrize("name", HOTLINES)
def test_no_node_and_no_exit_is_left_out(name: str) -> None:
    every = [result for flow in (*HOTLINES, *SHARED) for result in results_of(flow)]
    for covered in coverage.measure(replace(BUNDLE, entry=name), every):
        assert not covered.missed, f"{covered.file}: {'; '.join(map(str, covered.missed))}"


@pytest.mark.parametrize("name", [*HOTLINES, *SHARED])
def test_it_is_told_by_voice_by_sms_and_in_chat(name: str) -> None:
    cases = written_beside(name).cases
    everywhere = [case for case in cases if set(case.channels) >= EVERYWHERE]
    assert len(everywhere) > len(cases) * 0.7


@pytest.mark.parametrize("name", [*HOTLINES, *SHARED])
def test_it_is_told_in_english_and_in_chinese(name: str) -> None:
    flow = BUNDLE.flows[name]
    assert set(flow.languages) == {"en", "zh"}
    first = flow.languages[0]
    spoken = {case.given.language or first for case in written_beside(name).cases}
    assert spoken == {"en", "zh"}


def test_every_kind_of_node_and_of_slot_has_its_example() -> None:
    nodes = {kind(node) for flow in BUNDLE.flows.values() for node in flow.nodes.values()}
    assert nodes == set(KINDS)
    slots = {slot.type for flow in BUNDLE.flows.values() for slot in flow.slots.values()}
    assert slots == set(SLOT_TYPES)


def test_the_cookbook_has_a_paragraph_on_each() -> None:
    page = (ROOT / "docs/cookbook.md").read_text(encoding="utf-8")
    for name in (*HOTLINES, *SHARED):
        assert f"(../flows/{name}.yaml)" in page, name
