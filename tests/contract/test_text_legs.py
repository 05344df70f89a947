"""What every text channel promises to a customer: one table of cases, played on each of them.

A new channel is a line in `CHANNELS`: how its customer arrives, writes, reads, is cut off and comes
back. Chat is the first.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ivr.channels import chatframes as frames
from ivr.channels.webchat import ChatLeg, Webchat
from ivr.errors import CallGone, StoreError
from ivr.flow.events import AgentJoined, AgentLeft
from ivr.library import Library
from ivr.model import Address, Text
from ivr.runner import STALE_SECONDS, Runner
from ivr.sealing import Sealer
from ivr.store.repo import Store
from ivr.texting import Texting
from tests.unit.test_runner import FakeDesk, FakeFetcher, StillClock

FLOW = """
flow: main
languages: [en, zh]
start: main
slots:
  account: {type: digits, length: 4}
  pin: {type: digits, length: 4, secret: true}
  words: {type: text}
nodes:
  main:
    menu:
      ask: {en: Which?, zh: 哪一项？}
      choices:
        bill: {press: 1, say: {en: the bill, zh: 账单}, then: account}
        word: {press: 2, say: {en: a word, zh: 留言}, then: word}
        person: {press: 0, say: {en: a person, zh: 人工}, then: people}
      no_match: [{en: I did not get that., zh: 没有听懂。}]
      tries: 9
      otherwise: bye
  account: {collect: {slot: account, ask: {en: Account?, zh: 账号？}}, then: pin}
  pin: {collect: {slot: pin, ask: {en: PIN?, zh: 密码？}}, then: done}
  word: {record: {slot: words, ask: {en: Leave a word., zh: 请留言。}}, then: done}
  people: {queue: {skills: [billing]}, then: done, otherwise: bye}
  done: {say: {en: Thank you., zh: 谢谢。}, then: main}
  bye: {end: {en: Goodbye., zh: 再见。}}
"""


class Customer(ABC):
    """Somebody on a text channel."""

    def __init__(self, hotline: Hotline):
        self.hotline = hotline

    @abstractmethod
    async def arrive(self, language: str = "") -> None:
        """Begin a conversation, or come back to it."""

    @abstractmethod
    async def write(self, given: str, text: str) -> Text:
        """Write a text under an id of their own, as often as it is said."""

    @abstractmethod
    def cut(self) -> None:
        """Lose the connection."""

    @property
    @abstractmethod
    def conversation_id(self) -> str: ...

    async def read(self) -> list[str]:
        """The thread, as `who: text`."""
        texts = await self.hotline.store.texts(self.conversation_id)
        return [f"{text.who}: {text.text}" for text in texts]


class Chatting(Customer):
    """On a web page."""

    def __init__(self, hotline: Hotline):
        super().__init__(hotline)
        self.shown: list[frames.ServerFrame] = []
        self.token = ""
        self.peer: Address | None = None
        self.chat: ChatLeg | None = None

    def put(self, text: str) -> None:
        self.shown.append(frames.parse_server(text))

    async def arrive(self, language: str = "") -> None:
        chats = self.hotline.chats
        self.token, self.peer = await chats.customer(self.token)
        self.chat = await chats.find(self.peer) or await chats.begin(self.peer, language)
        self.chat.attach(self)

    async def write(self, given: str, text: str) -> Text:
        assert self.chat is not None
        return await self.hotline.chats.write(self.chat, given, text, None)

    def cut(self) -> None:
        assert self.chat is not None
        self.chat.detach(self)

    @property
    def conversation_id(self) -> str:
        assert self.chat is not None
        return self.chat.leg.conversation_id


CHANNELS: dict[str, Callable[[Hotline], Customer]] = {"chat": Chatting}


@dataclass
class Hotline:
    """Everything behind a text channel but people."""

    store: Store
    folder: Path

    async def start(self) -> None:
        """A new process: nothing is left but the database and the key."""
        self.clock = StillClock()
        self.desk = FakeDesk()
        library = Library(self.store, self.clock)
        await library.publish(self.folder, "main")
        sealer = Sealer(self.folder / "key")
        self.runner = Runner(self.store, library, FakeFetcher(), sealer, self.clock)
        self.runner.attach(self.desk)
        texting = Texting(self.store, self.runner, self.clock)
        self.texting = texting
        self.chats = Webchat(self.store, self.runner, texting, self.clock)


@pytest_asyncio.fixture
async def hotline(tmp_path: Path) -> AsyncIterator[Hotline]:
    (tmp_path / "main.yaml").write_text(FLOW)
    hotline = Hotline(await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"), tmp_path)
    await hotline.start()
    yield hotline
    await hotline.runner.close()
    await hotline.store.close()


@pytest.fixture(params=CHANNELS)
def customer(request: pytest.FixtureRequest, hotline: Hotline) -> Customer:
    return CHANNELS[request.param](hotline)


CASES: dict[str, tuple[str, list[str], list[str]]] = {
    "a label answers": ("en", ["the bill"], ["flow: Account?"]),
    "a key answers": ("en", ["1"], ["flow: Account?"]),
    "words in another language answer": ("en", ["账单"], ["flow: Account?"]),
    "in their own language": ("zh", ["账单"], ["flow: 账号？"]),
    "nothing of the sort": ("en", ["pizza"], ["flow: I did not get that.\nWhich?"]),
    "a secret is dots": (
        "en",
        ["1", "1234", "9876"],
        ["customer: ••••", "flow: Thank you.\nWhich?"],
    ),
    "a message is left": ("en", ["a word", "hello {x}"], ["flow: Thank you.\nWhich?"]),
    "markup is text": ("en", ["<b>1</b>"], ["flow: I did not get that.\nWhich?"]),
    "a whole novel": ("en", ["x" * 4000], ["flow: I did not get that.\nWhich?"]),
    "right to left": ("en", ["\u202egnimoc\u202c"], ["flow: I did not get that.\nWhich?"]),
}


@pytest.mark.parametrize("case", CASES)
async def test_what_is_written_is_answered(customer: Customer, case: str) -> None:
    language, written, read = CASES[case]
    await customer.arrive(language)
    for n, text in enumerate(written):
        await customer.write(f"m{n}", text)
    assert (await customer.read())[-len(read) :] == read


async def test_a_repeat_is_the_same_text_and_answers_nothing_twice(customer: Customer) -> None:
    await customer.arrive()
    twice = await asyncio.gather(*(customer.write("m1", "the bill") for _ in range(5)))
    assert len({text.number for text in twice}) == 1
    assert await customer.read() == ["flow: Which?", "customer: the bill", "flow: Account?"]


async def test_what_was_missed_stands_in_the_thread(customer: Customer) -> None:
    await customer.arrive()
    customer.cut()
    by_ann = Text(
        customer.conversation_id,
        "a1",
        "agent",
        "Hello",
        customer.hotline.clock.now(),
        author="ann",
        status="sent",
    )
    await customer.hotline.texting.write(by_ann)
    before = customer.conversation_id
    await customer.arrive()
    assert customer.conversation_id == before
    assert await customer.read() == ["flow: Which?", "agent: Hello"]


async def test_a_restart_asks_nothing_twice(customer: Customer) -> None:
    await customer.arrive()
    await customer.write("m1", "the bill")
    await customer.hotline.runner.close()
    await customer.hotline.start()
    await customer.arrive()
    await customer.write("m1", "the bill")
    await customer.write("m2", "1234")
    assert (await customer.read())[2:] == ["flow: Account?", "customer: 1234", "flow: PIN?"]


async def test_who_does_not_come_back_after_a_restart_is_not_given_up(customer: Customer) -> None:
    await customer.arrive()
    await customer.hotline.runner.close()
    await customer.hotline.start()
    customer.hotline.clock.at = customer.hotline.clock.at.replace(year=2027)
    assert await customer.hotline.runner.sweep() == 0
    assert customer.hotline.runner.live == 1, f"after {STALE_SECONDS} seconds it is in hand again"


async def test_while_a_person_has_it_the_flow_is_silent(customer: Customer) -> None:
    await customer.arrive()
    runner, chat = customer.hotline.runner, customer.conversation_id
    await runner.report(chat, AgentJoined("take-1", "ann"))
    await customer.write("m1", "the bill")
    assert await customer.read() == ["flow: Which?", "customer: the bill"]
    await runner.report(chat, AgentLeft("take-1", "ann"))
    assert (await customer.read())[-1] == "flow: Which?"


async def test_what_cannot_be_kept_has_not_happened(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await customer.arrive()

    async def full(*args: Any) -> Any:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(customer.hotline.store, "save_with_texts", full)
        with pytest.raises(StoreError):
            await customer.write("m1", "the bill")
    assert await customer.read() == ["flow: Which?"]
    await customer.write("m1", "the bill")
    assert (await customer.read())[1:] == ["customer: the bill", "flow: Account?"]


async def test_after_the_end_nothing_is_taken(customer: Customer) -> None:
    await customer.arrive()
    for n in range(9):
        await customer.write(f"m{n}", "pizza")
    assert (await customer.read())[-1] == "flow: Goodbye."
    with pytest.raises(CallGone):
        await customer.write("m9", "hello?")
    customer.cut()
    before = customer.conversation_id
    await customer.arrive()
    assert customer.conversation_id != before
