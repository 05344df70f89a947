"""A hotline without telephones for tests of chats: real flow, desk and doors, on a real port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from argon2 import PasswordHasher

from cti import chatpages, protocol
from cti.accounts import Accounts
from cti.chatclient import ChatClient
from cti.chatsocket import ChatDoor
from cti.client import AgentClient
from cti.screenpop import ConversationView
from cti.service import Desk
from cti.web import create_app, server_config
from ivr.bus import MemoryBus
from ivr.channels.webchat import Webchat
from ivr.clock import SystemClock
from ivr.config import ChatSettings, QueueSettings, Settings
from ivr.fetch import HttpFetcher
from ivr.library import Library
from ivr.model import Agent, Conversation
from ivr.runner import Runner
from ivr.sealing import Sealer
from ivr.store.repo import Store
from ivr.texting import Texting
from tests.fakes.calls import FakeCalls

PASSWORD = "correct horse"
FAST = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
SECONDS = 10.0

FLOW = """
flow: main
languages: [en, zh]
start: main
slots:
  account: {type: digits, length: 4}
  pin: {type: digits, length: 4, secret: true}
nodes:
  main:
    menu:
      ask: {en: What is it about?, zh: 请问有什么事？}
      choices:
        bill: {press: 1, say: {en: [the bill], zh: [账单]}, then: account}
        person: {press: 0, say: {en: [a person], zh: [人工]}, then: people}
  account:
    collect: {slot: account, ask: {en: Your account?, zh: 账号？}}
    then: pin
  pin:
    collect: {slot: pin, ask: {en: Your PIN?, zh: 密码？}}
    then: people
  people:
    queue: {skills: [billing], pop: [account]}
    then: after
    otherwise: closed
  after: {say: {en: Back with the machine., zh: 回到自助服务。}, then: main}
  closed: {say: {en: Nobody is here., zh: 无人。}, then: bye}
  bye: {end: {en: Goodbye., zh: 再见。}}
"""


def _view(conversation: Conversation) -> ConversationView:
    return ConversationView(topic="bill", language=conversation.language, node="people")


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


@dataclass
class Server:
    """One run of a server."""

    url: str
    store: Store
    desk: Desk
    runner: Runner
    chats: Webchat
    door: ChatDoor


@contextlib.asynccontextmanager
async def serving(
    folder: Path,
    *,
    flow: str = FLOW,
    queue: QueueSettings | None = None,
    chat: ChatSettings | None = None,
    silence: float = 3600.0,
) -> AsyncIterator[Server]:
    """A server on the database in this folder, until it is stopped without a goodbye."""
    flows = folder / "flows"
    flows.mkdir(exist_ok=True)
    (flows / "main.yaml").write_text(flow)
    clock = SystemClock()
    store = await Store.open(f"sqlite+aiosqlite:///{folder / 'hotline.db'}")
    library = Library(store, clock)
    await library.open(flows, "main", republish=True)
    fetcher = HttpFetcher({}, False)
    sealer = Sealer(folder / "key")
    runner = Runner(store, library, fetcher, sealer, clock, silence_seconds=silence)
    texting = Texting(store, runner, clock)
    calls = FakeCalls()
    settings = queue or QueueSettings(wrap_up_seconds=60)
    desk = Desk(
        store,
        lambda server: calls,
        runner.report,
        _view,
        clock,
        settings,
        MemoryBus(),
        texts=texting,
    )
    runner.attach(desk)
    await desk.start()
    running = asyncio.create_task(desk.run())
    accounts = Accounts(store, clock, FAST)
    app = create_app(desk, accounts, store, Settings(), lambda: {})
    chats = Webchat(store, runner, texting, clock)
    door = ChatDoor(chats, chat or ChatSettings(), clock)
    app.include_router(chatpages.router(door))
    listener = socket.create_server(("127.0.0.1", 0))
    web = _Quiet(server_config(app))
    served = asyncio.create_task(web.serve(sockets=[listener]))
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        yield Server(url, store, desk, runner, chats, door)
    finally:
        web.should_exit = web.force_exit = True
        await served
        listener.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await desk.close()
        await runner.close()
        await fetcher.close()
        await store.close()


async def staff(server: Server, *logins: str) -> None:
    """Agents who chat and have no telephone."""
    for login in logins:
        agent = Agent(login, login.title(), "", skills={"billing": 3})
        await server.store.save_agent(agent, FAST.hash(PASSWORD))


@dataclass
class Screen:
    """An agent's page that remembers what it was told."""

    client: AgentClient
    news: list[protocol.ServerMessage] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def watch(self) -> None:
        async for message in self.client.messages():
            self.news.append(message)
            self.changed.set()

    async def next(self, kind: type[Any], **about: Any) -> Any:
        """The first message of a kind, with these values, that nobody has asked for yet."""
        async with asyncio.timeout(SECONDS):
            while True:
                for message in self.news:
                    if isinstance(message, kind) and all(
                        getattr(message, name) == value for name, value in about.items()
                    ):
                        self.news.remove(message)
                        return message
                self.changed.clear()
                await self.changed.wait()

    async def order(self, order: Any) -> protocol.Outcome:
        """Ask for something that has an id, and wait for what becomes of it."""
        await self.client.send(order)
        outcome: protocol.Outcome = await self.next(protocol.Outcome, id=order.id)
        return outcome

    async def say(self, conversation: str, text: str, given: str) -> protocol.Outcome:
        order = protocol.SayText(conversation=conversation, id=given, text=text)
        return await self.order(order)

    async def card(self, stage: str) -> protocol.PopCard:
        async with asyncio.timeout(SECONDS):
            while True:
                card: protocol.PopCard = (await self.next(protocol.Pop)).card
                if card.stage == stage:
                    return card

    async def read(self, text: str) -> protocol.ChatMessage:
        async with asyncio.timeout(SECONDS):
            while True:
                message: protocol.ChatMessage = (await self.next(protocol.NewMessage)).message
                if message.text == text:
                    return message


@contextlib.asynccontextmanager
async def screen(server: Server, login: str, *, ready: bool = True) -> AsyncIterator[Screen]:
    async with AgentClient(server.url, login, PASSWORD) as client:
        page = Screen(client)
        watching = asyncio.create_task(page.watch())
        try:
            hello = await page.next(protocol.Hello)
            if ready and hello.presence.state != "available":
                await client.set_available()
                await page.next(protocol.PresenceNow, state="available")
            yield page
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def asked(customer: ChatClient, text: str) -> None:
    """Wait until the latest text is this one."""
    await customer.until(lambda: bool(customer.texts) and customer.texts[-1] == text)


async def left_for(server: Server, conversation: str) -> list[str]:
    """Why the customer's legs ended, once they have."""
    async with asyncio.timeout(SECONDS):
        while not all(leg.ended_at for leg in await server.store.legs(conversation)):
            await asyncio.sleep(0.01)
    return [leg.cause for leg in await server.store.legs(conversation)]
