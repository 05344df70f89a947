"""Turns the texts of a folder of flows into a `Bundle`, or into every error with its line.

Nothing is guessed and nothing is left for later: what loads can run. Whether it makes sense (ends,
loops, languages that are missing) is for the linter, which works on what this module returns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from ivr.errors import FlowError, HotlineError
from ivr.flow import yamltree
from ivr.flow.reading import FlowReader
from ivr.flow.schema import Bundle, CallNode, Flow
from ivr.flow.shapes import Outline


class FlowErrors(HotlineError):
    """Flows that do not load. `errors` are all that was found, in order of file and line."""

    def __init__(self, errors: list[FlowError]):
        self.errors = sorted(errors, key=lambda error: (error.file, error.line, error.column))
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(f"{self.errors[0]}{more}")


def load(texts: Mapping[str, str], entry: str = "") -> Bundle:
    """The flows of `texts` (file name to content), to begin with `entry`, or else with the first.

    A folder loads whole or not at all: raises FlowErrors with every error of every file.
    """
    flows, errors = read(texts)
    if not entry and flows:
        entry = next(iter(flows))
    if not errors and entry not in flows:
        known = ", ".join(flows) or "none"
        errors.append(FlowError("E103", f"there is no flow {entry!r}; the folder has: {known}"))
    if errors:
        raise FlowErrors(errors)
    return Bundle(entry, flows, _version(entry, flows, texts), dict(texts))


def load_folder(folder: Path) -> dict[str, str]:
    """The texts of a folder's `*.yaml` files, its tests left out, for `load`.

    Raises FlowErrors on files that cannot be read; an empty folder has no texts.
    """
    texts, errors = read_files(flow_files(folder))
    if errors:
        raise FlowErrors(errors)
    return texts


def flow_files(folder: Path) -> list[Path]:
    """The flow files of a folder: all `*.yaml` but the tests."""
    return [path for path in sorted(folder.glob("*.yaml")) if not path.name.endswith(".test.yaml")]


def read_files(paths: Iterable[Path]) -> tuple[dict[str, str], list[FlowError]]:
    """The texts of those files that can be read, and an E001 for each of the others."""
    texts: dict[str, str] = {}
    errors = []
    for path in paths:
        try:
            texts[str(path)] = read_text(path)
        except FlowError as error:
            errors.append(error)
    return texts, errors


def read_text(path: Path) -> str:
    """A file's text, as much of it as a flow may have and a little more. Raises an E001."""
    try:
        with path.open("rb") as file:
            return file.read(yamltree.SIZE_LIMIT + 1).decode("utf-8-sig")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    except UnicodeDecodeError as error:
        reason = f"byte {error.start + 1} is not UTF-8; save the file as UTF-8"
    raise FlowError("E001", f"cannot be read: {reason}", file=str(path))


def read(texts: Mapping[str, str]) -> tuple[dict[str, Flow], list[FlowError]]:
    """As many flows as can be made out, and every error: what the linter begins with."""
    errors: list[FlowError] = []
    outlines: dict[str, Outline] = {}
    for file, text in texts.items():
        try:
            outline = Outline.of(yamltree.read(text, file), file)
        except FlowError as error:
            errors.append(error)
            continue
        first = outlines.setdefault(outline.name, outline)
        if first is not outline:
            line, column = outline.place
            message = f"the flow {outline.name!r} is in {first.file} already"
            errors.append(FlowError("E003", message, file=file, line=line, column=column))
    flows = {}
    for outline in outlines.values():
        reader = FlowReader(outline, outlines)
        flow = reader.flow()
        errors += reader.errors
        if not reader.errors:
            flows[flow.name] = flow
    return flows, errors


def called(bundle: Bundle) -> list[Flow]:
    """The bundle's flow and all that it calls: what its version is made of."""
    return [bundle.flows[name] for name in _reached(bundle.entry, bundle.flows)]


def _reached(entry: str, flows: Mapping[str, Flow]) -> list[str]:
    reached, ahead = set(), [entry]
    while ahead:
        name = ahead.pop()
        if name in reached:
            continue
        reached.add(name)
        nodes = flows[name].nodes.values()
        ahead += [node.flow for node in nodes if isinstance(node, CallNode)]
    return [entry, *sorted(reached - {entry})]


def _version(entry: str, flows: Mapping[str, Flow], texts: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for name in _reached(entry, flows):
        canonical = "\n".join(line.rstrip() for line in texts[flows[name].file].splitlines())
        digest.update(f"{name}\0{canonical}\0".encode())
    return digest.hexdigest()
