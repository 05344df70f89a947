"""Hiring and knowing people from the command line; whatever is typed is data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cti import cli
from ivr.errors import HotlineError


@pytest.fixture(autouse=True)
def own_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOTLINE_CONFIG", raising=False)


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.app, words)


def test_an_agent_is_added_listed_and_disabled() -> None:
    added = run("agent", "add", "ann", "--extension", "1002", "--skill", "billing")
    assert added.output.startswith("ann: password ")
    assert '"skills": ["billing"]' in run("agent", "list", "--json").output
    assert run("agent", "disable", "ann").exit_code == 0
    assert '"state": "disabled"' in run("agent", "list", "--json").output


def test_brackets_in_a_name_are_text() -> None:
    run("agent", "add", "ann", "--extension", "1002", "--name", "Ann [/b]")
    listed = run("agent", "list")
    assert listed.exit_code == 0
    assert "[/b]" in listed.output


@pytest.mark.parametrize("extension", ["10 01", "1001&1002", "Local/1", "a" * 33, "1001\n"])
def test_an_extension_that_cannot_ring_is_refused(extension: str) -> None:
    refused = run("agent", "add", "ann", "--extension", extension)
    assert isinstance(refused.exception, HotlineError)
    assert "extension" in str(refused.exception)


def test_an_unknown_agent_cannot_be_disabled() -> None:
    assert isinstance(run("agent", "disable", "bob").exception, HotlineError)


def test_a_caller_gets_a_name_and_keeps_it() -> None:
    run("contact", "set", "(415) 555-0123", "--name", "Ann Lindqvist")
    again = run("contact", "set", "+14155550123", "--language", "zh")
    assert again.output == "+14155550123: Ann Lindqvist, zh\n"


def test_of_those_who_share_a_number_one_must_be_named() -> None:
    run("contact", "set", "+14155550123", "--name", "Ann")
    run("contact", "set", "+14155550199", "--name", "Bob")
    ids = [
        json.loads(line)["id"]
        for line in run("contact", "find", "415", "--json").output.split("\n")
        if line
    ]
    run("contact", "set", "4155550123", "--id", ids[1])
    refused = run("contact", "set", "+1 415 555 0123", "--language", "zh")
    assert isinstance(refused.exception, HotlineError)
    assert "Ann" in str(refused.exception) and "--id" in str(refused.exception)
    assert (
        "Bob, zh" in run("contact", "set", "4155550123", "--id", ids[1], "--language", "zh").output
    )
    assert isinstance(run("contact", "set", "4155550123", "--id", "k9").exception, HotlineError)
    assert isinstance(run("contact", "set", "anonymous", "--name", "x").exception, HotlineError)


def test_a_customer_is_found_by_name_and_their_brackets_are_text() -> None:
    run("contact", "set", "+14155550123", "--name", "Ann [/b] Lindqvist")
    listed = run("contact", "find", "LINDQ")
    assert listed.exit_code == 0 and "[/b]" in listed.output
    assert run("contact", "find", "nobody", "--json").output == ""
