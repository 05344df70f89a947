"""What is typed to let a version of a flow answer calls, and to take it back: `hotline flows …`.

It works on the database alone; running servers follow it.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ivr.config import Settings, load_settings
from ivr.errors import SettingsError
from ivr.flow import loader
from ivr.flow.lint import lint
from ivr.flow.schema import Bundle
from ivr.flow.testing import playing, reports, script
from ivr.flow.testing.reports import plain
from ivr.library import fixed_prompts, read_folder, release
from ivr.model import Lineup, Release, Rollout
from ivr.numbers import caller_address
from ivr.speech.prompts import PromptStore
from ivr.speech.tts import Voices
from ivr.store.repo import Store

T = TypeVar("T")

flows_app = typer.Typer(
    help="Versions of flows: what answers calls.", no_args_is_help=True, rich_markup_mode=None
)
_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)

SHORT = 12
"""Digits of a version that are shown."""

_PREFIX = re.compile(r"[0-9a-f]{8,64}")
MANY = 5

AsJson = Annotated[bool, typer.Option("--json", help="print JSON, one object a line")]
FlowName = Annotated[str, typer.Argument(metavar="FLOW", help="the flow's name")]


class _Clock:
    """`ivr.ports.Clock`: the machine's own."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


_CLOCK = _Clock()


# --- hotline flows publish ----------------------------------------------------------------------


@flows_app.command()
def publish(
    flow: Annotated[
        str, typer.Argument(metavar="[FLOW]", help="the flow's name; else the one that answers")
    ] = "",
    note: Annotated[str, typer.Option(help="what is new, for `hotline flows list`")] = "",
    tests: Annotated[bool, typer.Option("--tests/--no-tests", help="run its tests first")] = True,
    hold: Annotated[
        bool, typer.Option("--hold", help="keep it, but let it answer nobody until rolled out")
    ] = False,
) -> None:
    """Check a flow of the flows folder, run its tests, speak its prompts, and let it answer.

    Example: hotline flows publish --note "new opening hours"
    """
    settings = load_settings()
    name = flow or settings.flow
    bundle = read_folder(settings.flows_dir, name)
    _check(bundle)
    if tests:
        _test(bundle, settings.flows_dir)
    else:
        _progress("warning: published without running its tests")

    async def work(store: Store) -> None:
        if hold and await store.lineup(name) is None:
            raise SettingsError(f"nothing of {name} answers yet: publish it without --hold first")
        await speak(settings, bundle)
        new = await release(store, bundle, _CLOCK, who=_who(), note=note, held=hold)
        short = bundle.version[:SHORT]
        if hold:
            say(f"{name} {short} is kept; `hotline flows rollout {name} {short} --percent 10`")
        elif new:
            say(f"{name} {short} answers from now on")
        else:
            say(f"{name} {short} answers already")
        if name != settings.flow:
            say(f"the setting flow is {settings.flow!r}: {name} answers no calls by itself")

    with_store(settings, work)


def _check(bundle: Bundle) -> None:
    """Print what the linter finds in the flow and those that it calls; an error stops."""
    files = {flow.file for flow in loader.called(bundle)}
    found = [finding for finding in lint(bundle.texts) if finding.file in files]
    for finding in found:
        _progress(str(finding))
    errors = sum(finding.code.startswith("E") for finding in found)
    if errors:
        raise SettingsError(f"{bundle.entry} is not published: {errors} errors to mend")


def _test(bundle: Bundle, folder: Path) -> None:
    """Run the tests of the flow and of those that it calls; a failure stops."""
    own = {flow.name for flow in loader.called(bundle)}
    passed = failed = 0
    for path in sorted(folder.glob("*.test.yaml")):
        tests = script.read(loader.read_text(path), str(path))
        for case in tests.cases if tests.flow in own else ():
            of = Bundle(tests.flow, bundle.flows, bundle.version, bundle.texts)
            for result in playing.run(tests.file, case, of):
                passed, failed = passed + result.ok, failed + (not result.ok)
                for line in () if result.ok else reports.lines(result):
                    _progress(line)
    if failed:
        raise SettingsError(f"{bundle.entry} is not published: {failed} tests failed")
    _progress(f"{passed} tests passed" if passed else f"warning: {bundle.entry} has no tests")


async def speak(settings: Settings, bundle: Bundle) -> None:
    """Have every fixed prompt in the cache before a caller waits for it."""
    voices = Voices(settings)
    try:
        await PromptStore(settings, voices).prepare(fixed_prompts(bundle), _progress)
    finally:
        await voices.close()


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""


# --- hotline flows list, show -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Known:
    """A flow's releases, the newest first, and which of them answer."""

    releases: list[Release]
    lineup: Lineup | None

    def states(self) -> list[str]:
        """What became of each release."""
        left = {}
        if self.lineup is not None:
            left[self.lineup.version] = "answers"
            if (rollout := self.lineup.rollout) is not None:
                left[rollout.version] = _share(rollout)
        states = []
        for each in self.releases:
            if each.withdrawn_at is not None:
                state = "rolled back"
            else:
                state = left.pop(each.version, "held" if each.held else "earlier")
            states.append(state)
        versions = [each.version for each in self.releases]
        for version, state in left.items():  # rolled back once, and rolled out again
            states[versions.index(version)] = state
        return states


def _share(rollout: Rollout) -> str:
    parts = [f"{rollout.percent:g} %"] if rollout.percent or not rollout.numbers else []
    count = len(rollout.numbers)
    parts += [f"{count} number{'s' * (count > 1)}"] if count else []
    return "rollout: " + ", ".join(parts)


@flows_app.command("list")
def list_releases(as_json: AsJson = False) -> None:
    """List what was published, the newest first, and what became of it.

    Example: hotline flows list
    """

    async def work(store: Store) -> list[_Known]:
        flows = dict.fromkeys(release.flow for release in await store.releases())
        return [await _known(store, name) for name in flows]

    table = Table("flow", "version", "published", "who", "state", "note")
    published = with_store(load_settings(), work)
    if not published:
        _progress("nothing was published yet; see `hotline flows publish --help`")
        return
    for known in published:
        for each, state in zip(known.releases, known.states(), strict=True):
            if as_json:
                print_json(_release_json(each, state))
                continue
            cells = (
                each.flow,
                each.version[:SHORT],
                shown_time(each.published_at),
                each.who,
                state,
            )
            table.add_row(*(Text(plain(cell)) for cell in (*cells, each.note)))
    if not as_json:
        _out.print(table)


@flows_app.command()
def show(
    what: Annotated[str, typer.Argument(metavar="VERSION|FLOW", help="of `hotline flows list`")],
    text: Annotated[bool, typer.Option("--text", help="print the flow's own text")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a version, or the one of a flow that answers.

    Example: hotline flows show main --text
    """

    async def work(store: Store) -> tuple[str, _Known, dict[str, str]]:
        name, version = await version_of(store, what)
        return version, await _known(store, name), dict(await store.flow_texts(version) or {})

    version, known, texts = with_store(load_settings(), work)
    if text:
        for content in texts.values():
            typer.echo(content, nl=not content.endswith("\n"))
        return
    for each, state in zip(known.releases, known.states(), strict=True):
        if each.version != version:
            continue
        if as_json:
            print_json({**_release_json(each, state), "files": list(texts)})
            continue
        say(f"{each.flow} {each.version}")
        by = f" by {each.who}" if each.who else ""
        say(f"  published  {shown_time(each.published_at)}{by}")
        say(f"  state      {state}")
        if each.withdrawn_at is not None:
            say(f"  withdrawn  {shown_time(each.withdrawn_at)} by {each.withdrawn_by}")
        if each.note:
            say(f"  note       {each.note}")
        for file, content in texts.items():
            say(f"  file       {file}, {len(content.splitlines())} lines")


def _release_json(each: Release, state: str) -> dict[str, Any]:
    return {
        "flow": each.flow,
        "version": each.version,
        "published_at": each.published_at.isoformat(),
        "who": each.who,
        "note": each.note,
        "state": state,
    }


# --- hotline flows rollback, rollout ------------------------------------------------------------


@flows_app.command()
def rollback(flow: FlowName) -> None:
    """Let the version answer that was published before, for every new conversation, at once.

    Where a rollout is under way, that ends it. May be repeated: one version further back each time.

    Example: hotline flows rollback main
    """

    async def work(store: Store) -> str:
        await _published(store, flow)
        version = await store.roll_back(flow, _CLOCK.now(), _who())
        if version is None:
            raise SettingsError(f"there is no other version of {flow} to go back to")
        return version

    version = with_store(load_settings(), work)
    say(f"{flow} {version[:SHORT]} answers everyone from now on")


@flows_app.command()
def rollout(
    flow: FlowName,
    version: Annotated[str, typer.Argument(help="8 or more digits of it")],
    percent: Annotated[
        float | None, typer.Option(min=0, max=100, help="how many of the callers get it")
    ] = None,
    numbers: Annotated[
        str, typer.Option(metavar="NUMBER,…", help="callers who get it, for a test")
    ] = "",
) -> None:
    """Give a version to some callers: always the same ones. The others get the newest other one.

    Example: hotline flows rollout main 3f9c2a10 --percent 10
    """
    settings = load_settings()
    named = [caller_address(part, settings.region).value for part in numbers.split(",") if part]
    if percent is None and not named:
        raise SettingsError("say who gets it: --percent 10, or --numbers +14155550123")

    async def work(store: Store) -> str:
        await _published(store, flow)
        _, whole = await version_of(store, version, flow)
        short = f"{flow} {whole[:SHORT]}"
        if percent == 100:
            note = "rolled out to everyone"
            await store.publish(Release(flow, whole, _CLOCK.now(), _who(), note))
            return f"{short} answers everyone from now on"
        others = [each for each in await store.releases(flow) if each.live]
        if not any(each.version != whole for each in others):
            raise SettingsError(f"{short} is all there is of {flow}: nothing else for the others")
        made = Rollout(flow, whole, _CLOCK.now(), percent or 0.0, tuple(named), _who())
        await store.roll_out(made)
        lineup = await store.lineup(flow)
        rest = lineup.version[:SHORT] if lineup else ""
        return f"{short} answers some ({_share(made)}), {rest} the others"

    say(with_store(settings, work))


# --- names --------------------------------------------------------------------------------------


async def _known(store: Store, flow: str) -> _Known:
    return _Known(await store.releases(flow), await store.lineup(flow))


async def _published(store: Store, flow: str) -> None:
    """Raises SettingsError, with what there is, for a flow of which nothing was published."""
    if await store.lineup(flow) is None:
        known = dict.fromkeys(release.flow for release in await store.releases())
        raise SettingsError(f"no flow {flow!r} was published; there are: {names(known) or 'none'}")


async def version_of(store: Store, what: str, flow: str = "") -> tuple[str, str]:
    """The (flow, version) that a flow's name or the beginning of a version means."""
    if not flow and (lineup := await store.lineup(what)) is not None:
        return what, lineup.version
    found = await store.flow_versions(what) if _PREFIX.fullmatch(what) else []
    found = [(version, name) for version, name in found if flow in ("", name)]
    if not found:
        kept = await store.releases(flow)
        known = dict.fromkeys(f"{each.flow} {each.version[:SHORT]}" for each in kept)
        raise SettingsError(
            f"{what!r} is no published version{f' of {flow}' if flow else ' or flow'} (8 or more "
            f"digits of it will do); there are: {names(known) or 'none'}"
        )
    if len(found) > 1:
        shown = names(version for version, _ in found)
        raise SettingsError(f"several versions begin with {what}: {shown}")
    version, name = found[0]
    return name, version


def names(known: Iterable[str]) -> str:
    """Some of what there is, for whoever named something that there is not."""
    listed = list(known)
    return ", ".join(listed[:MANY]) + " …" * (len(listed) > MANY)


# --- printing -----------------------------------------------------------------------------------


def with_store(
    settings: Settings, work: Callable[[Store], Awaitable[T]], *, make: bool = True
) -> T:
    """Do something with the database of the settings; with `make=False` only if there is one."""

    async def run() -> T:
        store = await Store.open(settings.database_url, make=make)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def say(line: str) -> None:
    """Print a line as it is."""
    _out.print(Text(line))


def _progress(line: str) -> None:
    _err.print(Text(line))


def print_json(value: dict[str, Any]) -> None:
    """Print an object on one line."""
    say(json.dumps(value, ensure_ascii=False))


def shown_time(at: datetime) -> str:
    """A time where the operator is."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
