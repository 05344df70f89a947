"""Results of tests in the forms that people and build servers read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

from ivr.errors import FlowError
from ivr.flow.testing.playing import Result

_INDENT = "    "


def lines(result: Result) -> list[str]:
    """What is printed of one test; texts of customers and systems stand on one plain line each."""
    name = f"{plain(result.name)} ({result.channel})"
    if result.ok:
        return [f"ok    {result.file}:{result.line}: {name}"]
    shown = [
        f"FAIL  {result.file}:{result.line}: {name}",
        f"{_INDENT}step      {plain(result.step)}",
        f"{_INDENT}expected  {plain(result.expected)}",
        f"{_INDENT}happened  {plain(result.happened)}",
    ]
    shown += [f"{_INDENT}last said {plain(said)}" for said in result.said]
    shown += [f"{_INDENT}note      {plain(remark)}" for remark in result.remarks]
    return shown


def plain(text: str) -> str:
    """A text on one line, with nothing that could steer a terminal."""
    spaced = (char if char.isprintable() else " " for char in text)
    return " ".join("".join(spaced).split())


def junit(results: Iterable[Result], errors: Iterable[FlowError] = ()) -> str:
    """The results as JUnit XML: a suite for each file, a case for each test and channel, and an
    error for each finding in a file that could not be run at all."""
    suites: dict[str, list[Result]] = {}
    for result in results:
        suites.setdefault(result.file, []).append(result)
    root = ElementTree.Element("testsuites")
    for file, of_file in suites.items():
        root.append(_suite(file, of_file))
    for error in errors:
        root.append(_broken(error))
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{body}\n'


def _suite(file: str, results: Sequence[Result]) -> ElementTree.Element:
    failures = sum(not result.ok for result in results)
    counts = {"tests": len(results), "failures": failures, "errors": 0, "skipped": 0}
    suite = ElementTree.Element(
        "testsuite", {"name": file, **{key: str(count) for key, count in counts.items()}}
    )
    for result in results:
        name = f"{plain(result.name)} ({result.channel})"
        case = ElementTree.SubElement(
            suite,
            "testcase",
            {"classname": file, "name": name, "file": file, "line": str(result.line)},
        )
        if not result.ok:
            told = lines(result)
            message = f"expected {result.expected}; happened: {result.happened}"
            failure = ElementTree.SubElement(case, "failure", {"message": plain(message)})
            failure.text = "\n".join(told)
    return suite


def _broken(error: FlowError) -> ElementTree.Element:
    counts = {"tests": "1", "failures": "0", "errors": "1", "skipped": "0"}
    suite = ElementTree.Element("testsuite", {"name": error.file, **counts})
    named = {"classname": error.file, "name": "loads", "file": error.file, "line": str(error.line)}
    case = ElementTree.SubElement(suite, "testcase", named)
    ElementTree.SubElement(case, "error", {"message": plain(str(error))})
    return suite
