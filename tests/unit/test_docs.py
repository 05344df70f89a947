"""The examples in the documentation are true: flows and nodes load, tests pass, commands exist."""

import re
import shlex
import textwrap
from pathlib import Path

import typer

from cti import cli
from ivr.flow import lexicon, loader
from ivr.flow.loader import FlowErrors
from ivr.flow.schema import KINDS, SLOT_TYPES
from ivr.flow.testing import playing, reports, script

PAGE = (Path(__file__).parents[2] / "docs/flow-language.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
TESTS = [block for block in BLOCKS if re.search("^tests:", block, re.MULTILINE)]
FLOWS = [block for block in BLOCKS if block.startswith("flow:") and block not in TESTS]
NODES = [block for block in BLOCKS if block not in (*FLOWS, *TESTS)]


def test_every_flow_on_the_page_loads() -> None:
    assert len(FLOWS) == 2
    for block in FLOWS:
        files = {f"{n}.yaml": text for n, text in enumerate(block.split("---\n"))}
        assert loader.load(files).entry == "main"


def test_every_node_on_the_page_loads_in_the_flow_that_it_belongs_to() -> None:
    assert len(NODES) >= 7
    text = FLOWS[0] + textwrap.indent("".join(NODES), "  ")
    try:
        flow = loader.load({"flow-language.md": text}).flows["main"]
    except FlowErrors as refused:
        raise AssertionError("\n".join(map(str, refused.errors))) from None
    assert "experts" in flow.nodes


def test_every_test_on_the_page_passes() -> None:
    assert len(TESTS) == 1
    bundle = loader.load({"main.yaml": FLOWS[0]})
    for block in TESTS:
        tests = script.read(block, "main.test.yaml")
        assert tests.flow == bundle.entry
        for case in tests.cases:
            for result in playing.run(tests.file, case, bundle):
                assert result.ok, "\n".join(reports.lines(result))


def test_the_page_has_every_step_and_every_code() -> None:
    for name in (*script._STEPS, *script._EVENTS, *script.EXPECTED, *script._FOR_ROBOTS):
        assert re.search(rf"`{name}[`:]", PAGE), name
    told = set(re.findall(r"^\| ([EW]\d{3}) \|", PAGE, re.MULTILINE))
    folder = Path(loader.__file__).parent
    source = "".join(file.read_text(encoding="utf-8") for file in folder.glob("*.py"))
    assert told == set(re.findall(r'"([EW]\d{3})"', source))


def test_every_command_on_the_page_is_one() -> None:
    for line in re.findall(r"^hotline .*$", PAGE, re.MULTILINE):
        words = shlex.split(line, comments=True)[1:]
        command = typer.main.get_command(cli.app)
        if words[0] == "flows":
            command, words = command.commands["flows"], words[1:]  # type: ignore[attr-defined]
        own = command.commands[words[0]]  # type: ignore[attr-defined]
        own.make_context(words[0], words[1:])


def test_the_page_leaves_nothing_out() -> None:
    shown = "\n".join(BLOCKS)
    for kind, table in KINDS.items():
        assert f"{kind}:" in shown, kind
        for key in table.keys if not table.whole else ():
            assert re.search(rf"`?\b{key}\b[:`]", PAGE), f"{kind}.{key}"
    for name in (*SLOT_TYPES, *lexicon.COMMANDS):
        assert f"`{name}`" in PAGE, name
    for phrases in lexicon.ANYTIME["en"].values():
        assert phrases[0] in PAGE
