"""Which version of a flow a conversation runs: a new one what was published, an old one the one it
began with."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path

import structlog

from ivr.errors import FlowError, HotlineError, SettingsError, StoreError
from ivr.flow import loader
from ivr.flow.lexicon import SENTENCES, in_language
from ivr.flow.schema import Bundle, Wording
from ivr.model import Lineup, Release, Rollout
from ivr.ports import Clock
from ivr.store.repo import Store

log = structlog.get_logger(__name__)

FOLLOW_SECONDS = 1.0
"""How often a server looks whether something else was published."""

_KEPT = 32
_SHARES = 10_000  # a rollout's percentage is exact to a hundredth


class Library:
    """Flows by content hash. Texts are kept in the database, so that a conversation finds its own
    version after a restart, whatever the files say by then."""

    def __init__(self, store: Store, clock: Clock):
        self._store = store
        self._clock = clock
        self._loaded: OrderedDict[str, Bundle] = OrderedDict()
        self._current: Bundle | None = None
        self._lineup: Lineup | None = None
        self._refused: Lineup | None = None

    # --- what answers ----------------------------------------------------------------------------

    async def open(self, folder: Path, name: str, *, republish: bool) -> Bundle:
        """Get ready to answer with the flow `name`: with what was published of it, or, if nothing
        was, with what is in the folder, which is thereby published.

        `republish` publishes the folder's flow whenever it is not the last one published, which is
        what a designer at work wants. Raises SettingsError and loader.FlowErrors.
        """
        if republish:
            there = read_folder(folder, name).version
            releases = await self._store.releases(name)
            if not releases or releases[0].version != there:
                return await self.publish(folder, name)
        if await self._take(name) is None:
            return await self.publish(folder, name)
        if not republish:
            self._compare(folder)
        return self.current

    async def publish(self, folder: Path, name: str) -> Bundle:
        """Load the flow `name` from `folder` and let it answer from now on.

        Raises loader.FlowErrors with every finding, and SettingsError where there is no such flow.
        """
        bundle = read_folder(folder, name)
        await release(self._store, bundle, self._clock, who="hotline", note=f"from {folder}")
        await self._take(name)
        return self.current

    async def refresh(self, name: str) -> Bundle | None:
        """Answer with what is published now; what newly answers if that changed, else None.

        A version that does not load is told once, and what answered before goes on answering.
        """
        lineup = await self._store.lineup(name)
        if lineup is None or lineup in (self._lineup, self._refused):
            return None
        try:
            return await self._take(name)
        except HotlineError as error:
            log.error("the published flow cannot be used", flow=name, error=str(error))
            self._refused = lineup
            return None

    async def follow(self, name: str, changed: Callable[[Bundle], None]) -> None:
        """Look for what is published, for ever; `changed` is told what newly answers."""
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                bundle = await self.refresh(name)
                if bundle is not None:
                    log.info("another flow answers", flow=name, version=bundle.version[:12])
                    changed(bundle)
            except HotlineError as error:
                log.warning("cannot look for published flows", error=str(error))

    @property
    def current(self) -> Bundle:
        """What a new conversation runs that no rollout takes elsewhere."""
        if self._current is None:
            raise SettingsError("no flow has been published")
        return self._current

    @property
    def answering(self) -> tuple[Bundle, ...]:
        """Everything that a new conversation may run."""
        rollout = self._lineup.rollout if self._lineup else None
        return tuple({id(one): one for one in (self.current, self._candidate(rollout))}.values())

    def answers(self, address: str) -> Bundle:
        """What a new conversation with this customer runs."""
        rollout = self._lineup.rollout if self._lineup else None
        taken = rollout is not None and takes(rollout, address)
        return self._candidate(rollout) if taken else self.current

    def _candidate(self, rollout: Rollout | None) -> Bundle:
        """What those run whom a rollout is for."""
        return self._loaded.get(rollout.version, self.current) if rollout else self.current

    # --- versions --------------------------------------------------------------------------------

    def loaded(self, version: str) -> Bundle | None:
        """A version that is in memory, as those of all live conversations are."""
        return self._loaded.get(version)

    async def version(self, version: str, name: str) -> Bundle:
        """What a conversation runs that began with `version`. Raises StoreError if it is lost."""
        if version in self._loaded:
            self._loaded.move_to_end(version)
            return self._loaded[version]
        texts = await self._store.flow_texts(version)
        if texts is None:
            raise StoreError(f"flow {name} version {version[:12]} is not in the database")
        # A large flow takes long to load, and calls go on meanwhile.
        bundle = await asyncio.to_thread(loader.load, texts, name)
        self._keep(bundle)
        return bundle

    async def _take(self, name: str) -> Bundle | None:
        """Load what is published and answer with it; the newest part of it."""
        lineup = await self._store.lineup(name)
        if lineup is None:
            return None
        current = await self.version(lineup.version, name)
        newest = current
        if lineup.rollout is not None:
            newest = await self.version(lineup.rollout.version, name)
        self._current, self._lineup, self._refused = current, lineup, None
        return newest

    def _keep(self, bundle: Bundle) -> None:
        self._loaded[bundle.version] = bundle
        answering = set()
        if self._lineup is not None:
            rollout = self._lineup.rollout
            answering = {self._lineup.version, rollout.version if rollout else ""}
        for version in list(self._loaded):
            if len(self._loaded) <= _KEPT:
                return
            if version != bundle.version and version not in answering:
                del self._loaded[version]

    def _compare(self, folder: Path) -> None:
        """Tell an operator who changed files that this alone changes nothing."""
        answers = self.current
        try:
            there = read_folder(folder, answers.entry).version
        except HotlineError as error:
            log.warning("the flow files are not what answers, nor usable", error=str(error))
            return
        if there != answers.version:
            log.warning(
                "the flow files are not what answers; `hotline flows publish` makes them so",
                flow=answers.entry,
                answers=answers.version[:12],
                files=there[:12],
            )


def read_folder(folder: Path, name: str) -> Bundle:
    """The flow `name` of a folder. Raises loader.FlowErrors with every finding, and SettingsError
    where there is no such flow."""
    texts = loader.load_folder(folder)
    if not texts:
        raise SettingsError(f"no flow files in {folder}; set HOTLINE_FLOWS_DIR")
    try:
        return loader.load(texts, name)
    except loader.FlowErrors as error:
        if any(one.file for one in error.errors):
            raise
        missing: FlowError = error.errors[0]
        raise SettingsError(f"{folder}: {missing.message}") from None


async def release(
    store: Store, bundle: Bundle, clock: Clock, *, who: str, note: str = "", held: bool = False
) -> bool:
    """Keep a flow's texts and publish it; False if it answers everyone already."""
    now = clock.now()
    own = {flow.file: bundle.texts[flow.file] for flow in loader.called(bundle)}
    await store.save_flow(bundle.version, bundle.entry, own, now)
    return await store.publish(Release(bundle.entry, bundle.version, now, who, note, held))


def takes(rollout: Rollout, address: str) -> bool:
    """Whether a customer is among those whom a rollout is for: always the same ones, and more of
    them when the percentage grows. Who has no address is not, unless everyone is."""
    if address in rollout.numbers:
        return bool(address)
    if not address:
        return rollout.percent >= 100
    digest = hashlib.sha256(f"{rollout.version}\0{address}".encode()).digest()
    return int.from_bytes(digest[:8]) % _SHARES < rollout.percent * _SHARES / 100


# --- prompts -------------------------------------------------------------------------------------


HOLE = "\ufffc"
"""Stands in a prompt's text where a value will be (Unicode's object replacement character)."""


def fixed_prompts(bundle: Bundle) -> list[tuple[str, str]]:
    """Every prompt as (text, language), to be rendered before a call: what is always said alike
    as it is said, the others with `HOLE` for each value. The engine's own sentences are among
    them."""
    found: dict[tuple[str, str], None] = {}
    for flow in bundle.flows.values():
        for each in flow.languages:
            for sentence in in_language(SENTENCES, each).values():
                found[re.sub(r"\{\w+\}", HOLE, sentence), each] = None
        for node in flow.nodes.values():
            for field in fields(node):
                for wording in _wordings(getattr(node, field.name)):
                    for language, prompt in wording.prompts.items():
                        spoken = "".join(p if isinstance(p, str) else HOLE for p in prompt.parts)
                        for each in (language,) if language else flow.languages:
                            found[spoken, each] = None
    return list(found)


def _wordings(value: object) -> Iterator[Wording]:
    match value:
        case Wording():
            yield value
        case tuple():
            for inner in value:
                yield from _wordings(inner)
        case Mapping():
            for inner in value.values():
                yield from _wordings(inner)
