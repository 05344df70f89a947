"""How fast flows run, load and are tested, beside a general state machine on the same menu."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from statemachine import State, StateMachine

from ivr.flow import engine, lint, loader
from ivr.flow.events import DigitsPressed, Started
from ivr.flow.testing import playing, script
from tests.bench.figures import Figure, figure

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
SECONDS = 3.0
FASTER = 3.0

MENU = """
flow: main
languages: [en]
start: main
nodes:
  main:
    menu:
      ask: Billing is one, repairs is two.
      choices:
        billing: {press: 1, say: billing, then: billing}
        repairs: {press: 2, say: repairs, then: repairs}
      otherwise: bye
  billing: {say: Your bill is paid., then: main}
  repairs: {say: We come tomorrow., then: main}
  bye: {end: Goodbye.}
"""


class Menu(StateMachine):
    """The same menu as a python-statemachine, saying nothing."""

    main = State(initial=True)
    billing = State()
    repairs = State()
    one = main.to(billing)
    two = main.to(repairs)
    back = billing.to(main) | repairs.to(main)


def _rate(step: Callable[[int], None]) -> float:
    """Steps a second of CPU time."""
    done, began = 0, time.process_time()
    while (spent := time.process_time() - began) < SECONDS:
        for _ in range(100):
            step(done)
            done += 1
    return done / spent


def steps() -> list[Figure]:
    """A key pressed in a menu: matched, noted, answered with a prompt and the menu again."""
    bundle = loader.load({"main.yaml": MENU}, "main")
    state, _ = engine.start(bundle, Started("voice"), NOW)

    def ours(number: int) -> None:
        nonlocal state
        state, _ = engine.advance(bundle, state, DigitsPressed("12"[number % 2]), NOW)

    machine = Menu()

    def theirs(number: int) -> None:
        machine.send("one" if number % 2 else "two")
        machine.send("back")

    rate, baseline = _rate(ours), _rate(theirs)
    return [figure("menu steps", rate, "1/s", FASTER * baseline, baseline, at_least=True)]


def linting() -> list[Figure]:
    """A flow of 1,000 nodes; the baseline is loading it alone."""
    nodes = "".join(
        f"  n{i}: {{say: Sentence number {i} of the long flow., then: n{i + 1}}}\n"
        for i in range(998)
    )
    text = (
        "flow: long\nlanguages: [en]\nstart: ask\nnodes:\n"
        "  ask: {confirm: {ask: Shall we go on?}, then: n0, otherwise: n998}\n"
        f"{nodes}  n998: {{end: Goodbye.}}\n"
    )
    lint.lint({"main.yaml": MENU})  # dictionaries are loaded once for a whole run
    began = time.perf_counter()
    loader.load({"long.yaml": text}, "long")
    loaded = time.perf_counter()
    lint.lint({"long.yaml": text})
    return [figure("lint of 1,000 nodes", time.perf_counter() - loaded, "s", 1.0, loaded - began)]


def dialogues() -> list[Figure]:
    """1,000 dialogue tests of two answers each."""
    case = "\n".join(
        f"  - name: dialogue {i}\n    steps: [{{presses: '1'}}, {{hears: paid}}, {{says: repairs}},"
        f" {{hears: tomorrow}}, {{hangs_up: true}}]"
        for i in range(1000)
    )
    bundle = loader.load({"main.yaml": MENU}, "main")
    began = time.perf_counter()
    file = script.read(f"flow: main\ntests:\n{case}\n", "main.test.yaml")
    results = [result for case in file.cases for result in playing.run(file, case, bundle)]
    seconds = time.perf_counter() - began
    assert len(results) == 1000 and all(result.ok for result in results)
    return [figure("1,000 dialogue tests", seconds, "s", 10.0)]


BENCHES: dict[str, Callable[[], list[Figure]]] = {
    "steps": steps,
    "lint": linting,
    "dialogues": dialogues,
}
