"""A secret slot's value is nowhere but in the request that names it: everything is searched."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import pytest_asyncio
import structlog

from cti.app import _view
from cti.cards import Cards
from ivr.fetch import HttpFetcher
from ivr.flow.events import DigitsPressed, Enqueue, Event, SpeechHeard, Started, TextReceived
from ivr.flow.state import State
from ivr.model import Address, Channel, Leg, Ticket
from ivr.replay import replay
from ivr.sealing import Sealer
from ivr.store.repo import Store
from tests.unit.test_runner import Phone, World

PIN = "82651947"
SPOKEN = "eight two six five one nine four seven"
WORD = "swordfish8265"

FLOW = """
flow: main
languages: [en]
start: account
uses: [crm]
slots:
  account: {type: digits, length: 4}
  pin: {type: digits, length: 8, secret: true}
  word: {type: text, secret: true}
nodes:
  account:
    collect: {slot: account, ask: Your account?, otherwise: people}
    then: pin
  pin:
    collect: {slot: pin, ask: Your PIN?, listen: [speech, keys], otherwise: people}
    then: word
  word:
    collect: {slot: word, ask: Your word?, listen: [speech], otherwise: people}
    then: lookup
  lookup:
    fetch:
      post: "{crm}/{account}"
      headers: {X-Pin: "{pin}"}
      json: {pin: pin, word: word, wrong: "int(word)", odd: "{'a': 1}[word]"}
      into: customer
    then: greet
    otherwise: people
  greet:
    say: "Thank you, {customer.name}."
    then: people
  people:
    queue: {skills: [billing], pop: [account, customer.name]}
"""


@dataclass
class System:
    """The system that may know the secrets, and what it was sent."""

    got: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().splitlines()
            if line.startswith(b"content-length")
        )
        self.got.append((head + await reader.readexactly(length)).decode())
        body = b'{"name": "Ann"}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()


@dataclass
class Place:
    """A hotline, and everywhere that it leaves traces."""

    world: World
    system: System
    logs: list[str]

    def phone(self, channel: str, leg_id: str) -> Phone:
        peer = Address(Channel(channel), "+14155550123")
        return Phone(Leg(leg_id, "c1", peer, self.world.clock.now(), "u1", "100"))

    async def dialogue(self, channel: str, answers: Sequence[Event]) -> Phone:
        """The whole conversation, with a crash in its middle, until it waits for a person."""
        phone = self.phone(channel, "l1")
        await self.world.library.publish(self.world.folder, "main")
        await self.world.runner.begin(phone, Started(channel, "+14155550123", "100"))
        for number, event in enumerate(answers):
            if number == 2:
                self.world.restart()
                phone = self.phone(channel, "l2")
                assert await self.world.runner.resume(phone)
            await self.world.runner.report("c1", event)
        while not self.world.desk.line:
            await asyncio.sleep(0.001)
        return phone


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Every line of either kind of log, at its most talkative."""
    caplog.set_level(logging.DEBUG)
    lines: list[str] = []
    before = structlog.get_config()

    def keep(_: Any, name: str, event: Any) -> Any:
        lines.append(repr(event))
        raise structlog.DropEvent

    structlog.configure(
        processors=[structlog.processors.format_exc_info, keep],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        cache_logger_on_first_use=False,
    )
    yield lines
    structlog.configure(**before)


@pytest_asyncio.fixture(loop_scope="session")
async def place(tmp_path: Path, logs: list[str]) -> AsyncIterator[Place]:
    (tmp_path / "main.yaml").write_text(FLOW)
    system = System()
    listening = await asyncio.start_server(system.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")
    world = World(store, tmp_path)
    fetcher = HttpFetcher({"crm": url}, True)
    world.fetcher = fetcher  # type: ignore[assignment]
    world.restart()
    yield Place(world, system, logs)
    await world.runner.close()
    await store.close()
    await fetcher.close()
    listening.close()


async def traces(place: Place, phone: Phone, caplog: pytest.LogCaptureFixture) -> dict[str, str]:
    """All that a conversation leaves behind, by where it is."""
    world = place.world
    conversation = await world.store.conversation("c1")
    assert conversation is not None
    entries = await world.store.timeline("c1")
    [(_, wanted)] = world.desk.line
    assert isinstance(wanted, Enqueue)
    ticket = Ticket(
        wanted.id, "c1", world.clock.now(), wanted.skills, wanted.priority, "en", wanted.pop
    )
    await world.store.put_ticket(ticket)
    sealer = Sealer(world.folder / "key")
    cards = Cards(world.store, lambda one: _view(world.library, sealer, one), "US")
    card, _ = await cards.card(ticket, 1.0)
    bundle = await world.library.version(conversation.version, "main")
    replayed = replay(bundle, entries, conversation.started_at)
    assert replayed.divergence is None
    with closing(sqlite3.connect(world.folder / "test.db")) as database:
        dump = "\n".join(database.iterdump())
    files = b"".join(path.read_bytes() for path in sorted(world.folder.glob("test.db*")))
    opened = State.from_json(sealer.open(conversation.state))
    return {
        "timeline": repr(entries),
        "state": json.dumps(dict(conversation.state)),
        "what the flow shows": repr((opened.slots, opened.public_values(), opened.path)),
        "card": card.model_dump_json(),
        "ticket": repr(ticket),
        "prompts": repr(phone.said),
        "replay": json.dumps(replayed.to_json()),
        "log": "\n".join([*place.logs, caplog.text]),
        "metrics": prometheus_client.generate_latest().decode(),
        "database": dump,
        "database file": files.decode("latin-1"),
    }


KEYS = [DigitsPressed("4711"), DigitsPressed(PIN), SpeechHeard(WORD, 0.9)]
SPEECH = [
    SpeechHeard("four seven one one", 0.9),
    SpeechHeard(SPOKEN, 0.4, ((PIN, 0.3),)),  # not sure enough, and not read back either
    SpeechHeard(SPOKEN, 0.9, ((PIN, 0.3),)),
    SpeechHeard(WORD, 0.9, ((WORD + "es", 0.5),)),
]
TYPED = [TextReceived("4711"), TextReceived(PIN), TextReceived(WORD)]
LATE = [
    DigitsPressed("4711", 1),
    DigitsPressed(PIN[:5], 2),
    DigitsPressed(PIN, 4),  # after the crash the question is asked again, as turn 4
    DigitsPressed(PIN, 4),
    SpeechHeard(WORD, 0.9),
    SpeechHeard(WORD, 0.9, turn=5),
]


@pytest.mark.parametrize(
    ("channel", "answers"),
    [("voice", KEYS), ("voice", SPEECH), ("chat", TYPED), ("sms", TYPED), ("voice", LATE)],
    ids=["keys", "speech", "chat", "sms", "late"],
)
async def test_a_secret_is_nowhere_but_where_it_was_sent(
    place: Place, channel: str, answers: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    phone = await place.dialogue(channel, answers)
    [sent] = place.system.got
    assert f"X-Pin: {PIN}\r\n" in sent
    assert json.loads(sent.split("\r\n\r\n", 1)[1]) == {
        "pin": PIN,
        "word": WORD,
        "wrong": None,
        "odd": None,
    }
    found = await traces(place, phone, caplog)
    assert "4711" in found["timeline"] and "Ann" in found["card"] and found["log"]
    for where, text in found.items():
        for secret in (PIN, SPOKEN, WORD, PIN[:5]):
            assert secret not in text, where
