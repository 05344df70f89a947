"""Flow files that somebody wrote to hurt whoever loads them, and what each costs.

    python -m tests.hostile

prints CPU seconds and megabytes for each; the limits promised are one second and 64 MB.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from ivr.flow import lint

SECONDS = 1.0
MEGABYTES = 64.0


@dataclass(frozen=True, slots=True)
class Hostile:
    """One such file, and the code that refuses it; "" where it is harmless."""

    name: str
    text: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """What loading and linting a file cost: CPU, and growth of the process."""

    name: str
    seconds: float
    megabytes: float

    @property
    def ok(self) -> bool:
        return self.seconds <= SECONDS and self.megabytes <= MEGABYTES


_HEAD = "flow: main\nstart: a\nslots: {t: {type: text}}\nnodes:\n"
_NUMBERED = _HEAD.replace("start: a", "start: n0")
_WIDE = "(a|b)" * 7


def _menu(choices: str) -> str:
    return f"{_HEAD}  a: {{menu: {{ask: x, choices: {{{choices}}}}}}}\n"


def _phrases(patterns: Iterator[str]) -> str:
    said = ",".join(f'"{pattern}"' for pattern in patterns)
    return f"b: {{say: [{said}], then: a}}"


def _words(count: int) -> Iterator[str]:
    """Words that are all different and sound like little else."""
    consonants, vowels = "bcdfgklmnprst", "aeiou"
    for number in range(count):
        word = ""
        for _ in range(4):
            number, first = divmod(number, len(consonants))
            number, second = divmod(number, len(vowels))
            word += consonants[first] + vowels[second]
        yield word


def cases() -> Iterator[Hostile]:
    """Every hostile file, made when it is asked for."""
    letters = "abcdefghijkl"
    yield Hostile(
        "aliases of aliases",
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in pairwise(letters)
        ),
        "E001",
    )
    yield Hostile("10 MB", "x" * 10_000_000, "E001")
    yield Hostile(
        "10,000 nodes",
        _NUMBERED + "".join(f"  n{i}: {{say: hi, then: n{i + 1}}}\n" for i in range(10_000)),
        "E001",
    )
    yield Hostile("deep lists", "[" * 500_000, "E001")
    yield Hostile("deep mappings", "{a: " * 200_000, "E001")
    yield Hostile("deep blocks", "".join(" " * i + "a:\n" for i in range(1_000)), "E001")
    yield Hostile("tags", "!" * (1 << 20), "E003")
    yield Hostile("a list of everything", "- a\n" * (1 << 18), "E001")
    yield Hostile(
        "a long expression",
        f'{_HEAD}  a: {{when: [{{if: "{"1+" * 30_000}1 > 0", then: a}}, {{else: a}}]}}\n',
        "E105",
    )
    yield Hostile(
        "a deep expression",
        f'{_HEAD}  a: {{when: [{{if: "{"(" * 400}1{")" * 400} > 0", then: a}}, {{else: a}}]}}\n',
        "E203",
    )
    yield Hostile(
        "many expressions",
        f"{_HEAD}  a:\n    when:\n"
        + "".join(f"      - {{if: 't > {i} * (3 + {i})', then: a}}\n" for i in range(15_000)),
        "E001",
    )
    yield Hostile(
        "a phrase that explodes",
        _menu(_phrases(iter(["(a|b|c|d)" * 30]))),
        "E003",
    )
    yield Hostile(
        "phrases that explode",
        _menu(_phrases(f"{_WIDE} {i}" for i in range(20_000))),
        "E001",
    )
    yield Hostile(
        "long phrases that explode",
        _menu(_phrases(f"{_WIDE}{'w' * 250} {i}" for i in range(3_000))),
        "E001",
    )
    yield Hostile(
        "thousands of choices",
        _menu(",".join(f"b{i}: {{say: word{i}, then: a}}" for i in range(8_000))),
        "E003",
    )
    yield Hostile(
        "10,000 words",
        _menu(
            ",".join(
                f"b{i}: {{say: [{','.join(some)}], then: a}}"
                for i, some in enumerate(zip(*[_words(9_900)] * 99, strict=False))
            )
        ),
    )
    yield Hostile("a long prompt", f'{_HEAD}  a: {{say: "{"{t}" * 300_000}", then: a}}\n', "E003")
    yield Hostile("unknown keys", _HEAD + "".join(f"x{i}: 1\n" for i in range(40_000)), "E002")
    yield Hostile(
        "every node leads everywhere",
        _NUMBERED
        + "".join(
            f"  n{i}: {{when: ["
            + ",".join(f'{{if: "t == null", then: n{(i * 7 + k * 13) % 1_200}}}' for k in range(6))
            + f", {{else: n{(i + 1) % 1_200}}}]}}\n"
            for i in range(1_200)
        ),
        "E203",
    )
    yield Hostile(
        "templates in a slot's value",
        _HEAD.replace("{type: text}", '{type: text, value: "{t} ${7*7} {{7*7}} <b>"}')
        + '  a: {say: "{t}", then: b}\n  b: {end: {}}\n',
    )


def measure(case: Hostile) -> Cost:
    """Lint a file in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.process_time()
        lint.lint({"hostile.yaml": case.text})
        seconds = time.process_time() - began
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        os.write(writing, f"{seconds} {grown / 1024}".encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    seconds, megabytes = map(float, os.read(reading, 100).split())
    os.close(reading)
    return Cost(case.name, round(seconds, 2), round(megabytes, 1))


def main() -> int:
    """Measure all; exit 1 when one costs too much."""
    # The libraries and their dictionaries are loaded once, not by every child.
    both = _menu(
        "b: {say: {en: [one], zh: [一]}, then: a}, c: {say: {en: [two], zh: [二]}, then: a}"
    )
    both += "  b: {when: [{if: t == null, then: a}, {else: b}]}\n"
    lint.lint({"warm.yaml": "languages: [en, zh]\n" + both})
    costs = [measure(case) for case in cases()]
    for cost in costs:
        mark = "" if cost.ok else "  too much"
        print(f"{cost.name:30} {cost.seconds:6.2f} s {cost.megabytes:6.1f} MB{mark}")
    return int(not all(cost.ok for cost in costs))


if __name__ == "__main__":
    sys.exit(main())
