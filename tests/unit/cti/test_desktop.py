"""The agent's page, as far as it can be judged without a browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

import cti
from cti import protocol

DESKTOP = Path(cti.__file__).parent / "desktop"
SCRIPT = (DESKTOP / "agent.js").read_text("utf-8")
PAGE = (DESKTOP / "index.html").read_text("utf-8")


def texts(language: str) -> set[str]:
    table = re.search(rf"\n  {language}: {{\n(.*?)\n  }},", SCRIPT, re.DOTALL)
    assert table is not None
    pairs = re.findall(r'("[^"]*"|\w+): "[^"]*"', table[1])
    return {key.strip('"') for key in pairs}


def test_both_languages_say_the_same_things() -> None:
    assert len(texts("en")) > 40
    assert texts("en") == texts("zh")


def test_every_text_of_the_page_is_translated() -> None:
    used = set(re.findall(r'data-text="(\w+)"', PAGE)) | set(re.findall(r'say\("(\w+)"', SCRIPT))
    assert used <= texts("en")
    assert set(protocol.DISPOSITIONS) <= texts("en")


def test_callers_words_cannot_become_markup() -> None:
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "srcdoc",
    ):
        assert way not in SCRIPT
    assert "<style" not in PAGE and " style=" not in PAGE and "onclick" not in PAGE
    assert not re.search(r"<script(?![^>]* src=)", PAGE)
    assert not re.search(r'(?:src|href)="(?!/agent/)', PAGE)


def test_every_server_message_is_received() -> None:
    handlers = SCRIPT.split("const received = {")[1].split("\n};")[0]
    for kind in get_args(protocol.ServerMessage):
        assert f"\n  {kind.model_fields['type'].default}(" in handlers


@pytest.mark.parametrize("element", re.findall(r'\$\("([\w-]+)"\)', SCRIPT))
def test_what_the_script_looks_for_is_on_the_page(element: str) -> None:
    assert f'id="{element}"' in PAGE
