"""The agents' page and what all pages share, as far as it can be judged without a browser."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import get_args

import pytest

import cti
from cti import popcard, protocol
from cti.directory import DirectoryAnswer
from cti.work import _ALWAYS, _CALL_CAN, _CONSULTING, _TEXT_CAN
from ivr.model import Channel
from tests.unit.cti.test_web import Site
from tests.unit.cti.test_web import site as site

DESKTOP = Path(cti.__file__).parent / "desktop"
OTHERS = {"designer.js", "drawing.js", "texts.js", "agent-texts.js", "embed.js"}
OTHERS |= {"wallboard.js", "wallboard-texts.js"}
SCRIPTS = {
    path.name: path.read_text("utf-8") for path in DESKTOP.glob("*.js") if path.name not in OTHERS
}
PAGE = (DESKTOP / "index.html").read_text("utf-8")
ALL = "\n".join(SCRIPTS.values())


def texts(language: str) -> set[str]:
    written = (DESKTOP / "agent-texts.js").read_text("utf-8")
    table = re.search(rf"\n  {language}: {{\n(.*?)\n  }},", written, re.DOTALL)
    assert table is not None
    return {key.strip('"') for key in re.findall(r'(?:^|[{,])\s+("[^"]+"|\w+): "', table[1], re.M)}


def test_both_languages_say_the_same_things() -> None:
    assert len(texts("en")) > 200
    assert texts("en") == texts("zh")


def test_every_text_of_the_page_is_translated() -> None:
    used = set(re.findall(r'\b(?:say|button)\("(\w+)"', ALL))
    used |= {name for pair in re.findall(r'button\("(\w+)", "(\w+)"', ALL) for name in pair}
    used |= set(re.findall(r'"(key_\w+)"', SCRIPTS["shortcuts.js"]))
    used |= set(re.findall(r': "(mic_\w+)"', SCRIPTS["softphone.js"]))
    for family, names in {
        "channel": [channel.value for channel in Channel],
        "kind": get_args(popcard.KindName),
        "stage": get_args(popcard.StageName),
        "stage_text": get_args(popcard.StageName),
        "verified": ["claimed", "known", "verified"],
        "status": ["sending", "sent", "delivered", "read", "failed"],
        "party": ["customer", "agent", "consulted", "ringing", "talking", "held"],
        "crm": ["loading", "failed"],
        "to": ["agent", "queue", "number"],
        "why": ["missed", "busy", "unavailable", "declined", "screen lost"],
    }.items():
        used |= {f"{family}_{name}" for name in names}
    used |= {*protocol.DISPOSITIONS, "gone", "failed", "available", "away", "offline"}
    assert used <= texts("en")


def test_there_is_a_button_for_every_order_that_a_card_may_name() -> None:
    named = {*_ALWAYS, *_CONSULTING}
    for table in (_CALL_CAN, _TEXT_CAN):
        named |= {order for orders in table.values() for order in orders}
    asked = {f'"{order}"' for order in named}
    assert {order for order in asked if order not in ALL} == set()


@pytest.mark.parametrize("name", [*SCRIPTS, "index.html"])
def test_customers_words_cannot_become_markup(name: str) -> None:
    script = SCRIPTS.get(name, PAGE)
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "unsafeHTML",
        "unsafeSVG",
        "eval(",
        "new Function",
        "srcdoc",
        " style=",
        "<style",
    ):
        assert way not in script
    assert not re.search(r"\son\w+=", script)  # lit's own are @click
    assert not re.search(r"<script(?![^>]* src=)", script)
    assert not re.search(r'(?:src|href)="(?!/(?:agent|wallboard)\b|#)', script)


def test_every_server_message_is_received() -> None:
    handlers = SCRIPTS["desk.js"].split("const received = {")[1].split("\n};")[0]
    for kind in get_args(protocol.ServerMessage):
        assert f"\n  {kind.model_fields['type'].default}(" in handlers


async def test_everything_that_a_script_imports_is_served(site: Site) -> None:
    for name, script in SCRIPTS.items():
        for wanted in re.findall(r'(?:from|import)[ (]"\./([^"]+)"', script):
            answer = await site.http.get(f"/agent/{wanted}")
            assert (answer.status_code, name, wanted) == (200, name, wanted)
            assert answer.headers["Content-Type"].startswith("text/javascript")
    for wanted in re.findall(r'(?:src|href)="(/[^"]+)"', PAGE):
        assert (await site.http.get(wanted)).status_code == 200
    for other in ("vendor/README.md", "vendor/SHA256SUMS", "designer.html", "vendor"):
        assert (await site.http.get(f"/agent/{other}")).status_code == 404


def test_vendored_files_are_what_they_were() -> None:
    vendor = DESKTOP / "vendor"
    lines = (vendor / "SHA256SUMS").read_text().splitlines()
    sums = dict(reversed(line.split("  ")) for line in lines)
    there = {path.name for path in vendor.iterdir()} - {"README.md", "SHA256SUMS"}
    assert set(sums) == there
    for name, wanted in sums.items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == wanted


async def test_the_directory_names_colleagues_at_work_and_the_queues(site: Site) -> None:
    await site.world.agent("bob", skills={"repairs": 4, "billing": 2})
    await site.world.agent("cleo", skills={"sales": 3})
    await site.world.agent("dora")
    await site.world.agent("left", skills={"gone": 3}, disabled=True)
    await site.world.page("dora", ready=False)
    await site.world.page("bob")
    bearer = {"Authorization": f"Bearer {await site.token()}"}
    found = await site.http.get("/api/directory", headers=bearer)
    answer = DirectoryAnswer.model_validate(found.json())
    assert [(one.login, one.presence) for one in answer.agents] == [
        ("bob", "available"),
        ("dora", "away"),
    ]
    assert answer.agents[0].skills == ["billing", "repairs"]
    assert answer.queues == ["billing", "repairs", "sales"]
    assert (await site.http.get("/api/directory")).status_code == 401
