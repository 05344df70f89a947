"""The `hotline` command: what operators, designers and newcomers type."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from cti import app as composition
from cti import designing, drawing, linting, publishing, replaying, robots, staffing
from cti import story as stories
from cti.accounts import hash_password
from ivr import observe
from ivr.config import Settings, load_settings
from ivr.errors import HotlineError, SettingsError
from ivr.flow import loader
from ivr.model import Agent
from ivr.speech import files
from ivr.speech import models as speech_models
from ivr.store.repo import Store
from ivr.telephony import pbx

T = TypeVar("T")

app = typer.Typer(
    help="A hotline that listens: speech menus on Asterisk, and people who know why you call.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _group(name: str, text: str) -> typer.Typer:
    group = typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(group, name=name)
    return group


pbx_app = _group("pbx", "The local PBX: an Asterisk of our own.")
app.add_typer(staffing.agent_app, name="agent")
app.add_typer(staffing.contact_app, name="contact")
models_app = _group("models", "Speech models.")
db_app = _group("db", "The database.")

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

AsJson = Annotated[bool, typer.Option("--json", help="print JSON, one object a line")]
Language = Annotated[str, typer.Option(help="en or zh")]


def main() -> None:
    """The console script: every failure of ours is one line, and exit code 1."""
    try:
        app()
    except loader.FlowErrors as error:
        for finding in error.errors:
            err.print(str(finding), markup=False)
        raise SystemExit(1) from None
    except HotlineError as error:
        err.print(f"hotline: {error}", markup=False)
        raise SystemExit(1) from None


def _progress(line: str) -> None:
    err.print(f"==> {line}", markup=False)


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def _settings() -> Settings:
    settings = load_settings()
    observe.configure_logging(settings.log, settings.log_level)
    return settings


# --- running -------------------------------------------------------------------------------------


@app.command()
def serve(
    local: Annotated[
        bool, typer.Option("--local", help="with a PBX, a demo agent and a phone of its own")
    ] = False,
) -> None:
    """Run the hotline until Ctrl-C.

    Example: hotline serve --local
    """
    settings = _settings()
    _run(_serve(settings, local))


async def _serve(settings: Settings, local: bool) -> None:
    reactor = composition.install_reactor()
    stopped = asyncio.ensure_future(composition.until_stopped())
    started_pbx = False
    try:
        if local:
            before = pbx.status(settings).running
            await asyncio.to_thread(pbx.up, settings, _progress)
            started_pbx = not before
        async with AsyncExitStack() as stack:
            starting = stack.enter_async_context(composition.hotline(settings, reactor, _progress))
            hotline = await _unless(stopped, starting)
            if hotline is None:
                return
            if local:
                login, password = await _demo_agent(hotline.store)
                await stack.enter_async_context(robots.desk_phone(settings, DEMO_EXTENSION))
                out.print(_what_next(settings, login, password), markup=False)
            else:
                _progress(f"ready: agents' page at {_page(settings)}")
            await stopped
            _progress("stopping")
    finally:
        if started_pbx:
            await asyncio.to_thread(pbx.down, settings)


async def _unless(stopped: asyncio.Future[None], work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` comes to, or None if a stop was asked for first."""
    task = asyncio.ensure_future(work)
    either: set[asyncio.Future[Any]] = {stopped, task}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        return task.result()
    _progress("stopping before it was up")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return None


DEMO_EXTENSION = "1001"


async def _demo_agent(store: Store) -> tuple[str, str]:
    """An agent called demo, with a password for this run."""
    password = secrets.token_urlsafe(9)
    agent = Agent("demo", "Demo", DEMO_EXTENSION)
    await store.save_agent(agent, await asyncio.to_thread(hash_password, password))
    await store.revoke_tokens("demo")
    return "demo", password


def _page(settings: Settings) -> str:
    return f"http://{settings.web.host}:{settings.web.port}/agent"


def _what_next(settings: Settings, login: str, password: str) -> str:
    keys = pbx.credentials(settings)
    sip = f"{settings.asterisk.sip_host}:{settings.asterisk.sip_port}"
    hotline = Path(sys.argv[0])
    return f"""
The hotline is ready.

  1. Agent's page    {_page(settings)}
                     login {login}, password {password}; press "I am available"
  2. Let a robot call, and answer in the page
                     {hotline} call {settings.asterisk.extension} --script cti/stories/page.yaml
  3. Call yourself   register a SIP phone at {sip} (UDP, user 9001,
                     password {keys.phone("9001")}) and dial {settings.asterisk.extension}

The page is the demo agent's telephone (extension {DEMO_EXTENSION}); a stand-in answers when you
have not within ten seconds. To use your own: register it at {sip} as another of 1002-1020
(passwords in
{pbx.directory(settings) / "etc" / "hotline.d" / "phones.conf"}) and
`hotline agent add NAME --extension 1002`.

Ctrl-C stops the hotline and everything it started.
"""


@app.command()
def demo(
    script: Annotated[
        Path | None, typer.Option(help="another script for the caller, as for `hotline call`")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell the whole story once: a robot calls, is understood, and reaches a robot agent.

    Runs beside anything else, on free ports and a database of its own. Exits 1 and says which step
    failed when one did not happen.

    Example: hotline demo
    """
    settings = load_settings()
    observe.configure_logging(settings.log, "warning")
    clock = composition.SystemClock()
    if not _run(stories.tell(settings, clock, script, out, _progress, as_json)):
        raise typer.Exit(1)


@app.command()
def call(
    extension: Annotated[str, typer.Argument(help="what to dial")],
    script: Annotated[Path, typer.Option(help="the steps of a flow test, as YAML")],
    as_json: AsJson = False,
) -> None:
    """Call as a robot that follows a script: it hears, says, presses, and prints a timeline.

    Example: hotline call 100 --script cti/stories/caller.yaml
    """
    settings = _settings()
    steps = robots.load_script(script)
    clock = composition.SystemClock()
    emit = robots.printer(out, as_json)
    if not _run(robots.call(settings, clock, extension, steps, emit, _progress)):
        raise typer.Exit(1)


# --- the local PBX -------------------------------------------------------------------------------


@pbx_app.command("up")
def pbx_up() -> None:
    """Start the local PBX; the first time this fetches an Asterisk if there is none.

    Example: hotline pbx up
    """
    status = pbx.up(_settings(), _progress)
    out.print(f"up: pid {status.pid}, SIP {status.sip}, AMI {status.ami}", markup=False)


@pbx_app.command("down")
def pbx_down() -> None:
    """Stop the local PBX.

    Example: hotline pbx down
    """
    out.print("down" if pbx.down(_settings()) else "was not running")


@pbx_app.command("status")
def pbx_status(as_json: AsJson = False) -> None:
    """Tell whether the local PBX runs; exits 1 if not.

    Example: hotline pbx status
    """
    status = pbx.status(_settings())
    if as_json:
        shown = {"running": status.running, "pid": status.pid, "sip": status.sip, "ami": status.ami}
        out.print(json.dumps(shown), markup=False)
    else:
        state = f"up: pid {status.pid}" if status.running else "down"
        out.print(f"{state}, SIP {status.sip}, AMI {status.ami}", markup=False)
    if not status.running:
        raise typer.Exit(1)


@pbx_app.command("config")
def pbx_config() -> None:
    """Write the local PBX's configuration, and print the folder.

    Example: hotline pbx config
    """
    out.print(str(pbx.config(_settings())), markup=False)


# --- speech --------------------------------------------------------------------------------------


@app.command()
def hear(
    wavs: Annotated[list[Path], typer.Argument(metavar="FILE.wav...", help="recordings")],
    phrases: Annotated[Path | None, typer.Option(help="what may be said, one a line")] = None,
    language: Language = "en",
    as_json: AsJson = False,
) -> None:
    """Recognise recordings.

    Example: hotline hear yes.wav no.wav --phrases words.txt --json
    """
    _run(_hear(_settings(), wavs, phrases, language, as_json))


async def _hear(
    settings: Settings, wavs: list[Path], phrases: Path | None, language: str, as_json: bool
) -> None:
    async for heard in files.hear(settings, wavs, phrases, language):
        if as_json:
            out.print(json.dumps(heard.to_json(), ensure_ascii=False), markup=False)
        else:
            out.print(f"{heard.file}: {heard.text!r} ({heard.confidence:.2f})", markup=False)


@app.command()
def say(
    text: Annotated[str, typer.Argument(help="what to say")],
    output: Annotated[Path, typer.Option("-o", "--output", help="the WAV file to write")],
    language: Language = "en",
) -> None:
    """Speak a text into a WAV file, in the voice of the prompts.

    Example: hotline say "Welcome." -o welcome.wav
    """
    _run(files.say(_settings(), text, language, output))


@models_app.command("list")
def models_list(as_json: AsJson = False) -> None:
    """List the speech models that the hotline knows, and which of them are here.

    Example: hotline models list
    """
    settings = _settings()
    rows = [(model, speech_models.installed(settings, model)) for model in speech_models.CATALOGUE]
    if as_json:
        for model, here in rows:
            out.print(json.dumps({**model.to_json(), "installed": here}), markup=False)
        return
    table = Table("name", "language", "engine", "size", "SHA-256", "installed", "tested")
    for model, here in rows:
        size = f"{model.size / 1e6:.0f} MB"
        found = "yes" if here else "no"
        row = (model.name, model.language, model.engine, size, model.sha256[:12], found)
        table.add_row(*row, model.tested or "not by us")
    out.print(table)


@models_app.command("get")
def models_get(
    name: Annotated[str, typer.Argument(help="a name of `hotline models list`")],
) -> None:
    """Fetch a speech model, or go on with a fetch that was cut off.

    Example: hotline models get vosk-en
    """
    settings = _settings()
    model = next((model for model in speech_models.CATALOGUE if model.name == name), None)
    if model is None:
        known = ", ".join(model.name for model in speech_models.CATALOGUE)
        raise SettingsError(f"no speech model {name!r}; there are: {known}")
    path = speech_models.fetch(settings, model, _progress)
    out.print(str(path), markup=False)


# --- flows ---------------------------------------------------------------------------------------

app.command()(designing.test)
app.command()(designing.simulate)
app.command()(drawing.graph)
app.command()(linting.lint)
app.command()(replaying.replay)
app.add_typer(publishing.flows_app, name="flows")


# --- the database --------------------------------------------------------------------------------


@db_app.command("upgrade")
def db_upgrade() -> None:
    """Bring the database to the newest schema; `hotline serve` does it by itself.

    Example: hotline db upgrade
    """
    staffing.with_store(_nothing)
    out.print(load_settings().database_url.split("@")[-1] + ": up to date", markup=False)


async def _nothing(store: Store) -> None:
    """Opening the store was the work."""


if __name__ == "__main__":
    main()
