"""What is typed to run a conversation once more: `hotline replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cti.publishing import (
    MANY,
    SHORT,
    AsJson,
    names,
    print_json,
    say,
    shown_time,
    version_of,
    with_store,
)
from ivr.config import load_settings
from ivr.errors import SettingsError
from ivr.flow import loader
from ivr.flow.schema import Bundle
from ivr.flow.testing.reports import plain
from ivr.library import read_folder
from ivr.model import Conversation
from ivr.replay import Replay
from ivr.replay import replay as run_again
from ivr.store.repo import Store


def replay(
    conversation: Annotated[str, typer.Argument(help="its id, or the beginning of it")],
    against: Annotated[
        str, typer.Option(metavar="FILE|VERSION", help="another version of the flow")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Run what happened in a conversation once more, and show where it first goes another way.

    Exits 1 when it does. Answers to questions for secrets are not in the record: a
    stand-in answers in their place.

    Example: hotline replay 4f1c0e --against flows/main.yaml
    """
    settings = load_settings()

    async def work(store: Store) -> tuple[Conversation, Bundle, Replay]:
        found = await _conversation(store, conversation)
        file = _file(against, found.flow) if against else None
        bundle = file or await _kept(store, found, against)
        entries = await store.timeline(found.id)
        return found, bundle, run_again(bundle, entries, found.started_at, settings.facts)

    found, bundle, result = with_store(settings, work, make=False)
    if as_json:
        ran = {"conversation": found.id, "flow": found.flow, "version": found.version}
        print_json({**ran, "against": bundle.version, **result.to_json()})
    else:
        _print_replay(found, bundle, result)
    if result.divergence is not None:
        raise typer.Exit(1)


def _print_replay(found: Conversation, bundle: Bundle, result: Replay) -> None:
    through = f"{bundle.entry} {bundle.version[:SHORT]}"
    say(
        f"conversation {found.id} of {shown_time(found.started_at)}, "
        f"with {found.flow} {found.version[:SHORT]}, through {through}"
    )
    for line in result.dialogue:
        mark = "<" if line.who == "flow" else ">"
        say(f"{line.at:8.1f} s  {mark} {plain(line.text)}")
    parted = result.divergence
    if parted is None:
        say(f"no divergence, as far as the record goes: {result.stopped}".removesuffix(": "))
        return
    say(f"divergence at {parted.node or 'the start'}, after: {plain(parted.after)}")
    say(f"  then  {plain(parted.then) or 'nothing'}")
    say(f"  now   {plain(parted.now) or 'nothing'}")


async def _conversation(store: Store, beginning: str) -> Conversation:
    ids = await store.conversation_ids(beginning, MANY + 1) if beginning else []
    found = await store.conversation(beginning if beginning in ids else ids[0]) if ids else None
    if found is None:
        latest = await store.conversation_ids("", MANY)
        raise SettingsError(
            f"no conversation {beginning!r}; the latest are: {names(latest) or 'none'}"
        )
    if len(ids) > 1 and found.id != beginning:
        raise SettingsError(f"several conversations begin with {beginning!r}: {names(ids)}")
    return found


def _file(against: str, name: str) -> Bundle | None:
    """The flow of a file, or the flow `name` of a folder; None for what is no path."""
    path = Path(against)
    if path.is_dir():
        return read_folder(path, name)
    if path.suffix not in (".yaml", ".yml"):
        return None
    texts = loader.load_folder(path.parent)
    if str(path) not in texts:
        raise SettingsError(f"{path}: there is no such flow file")
    flows = loader.load(texts).flows.values()
    return loader.load(texts, next(flow.name for flow in flows if flow.file == str(path)))


async def _kept(store: Store, found: Conversation, against: str) -> Bundle:
    """A version of the database: the conversation's own, or the one that is named."""
    own = (found.flow, found.version)
    name, version = await version_of(store, against) if against else own
    texts = await store.flow_texts(version)
    if texts is None:
        raise SettingsError(f"version {version[:SHORT]} of {name} is not in the database")
    return loader.load(texts, name)
