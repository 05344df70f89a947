"""The composition root: the one place that knows every adapter, and the order in which they start.

What an operator may have got wrong is found first: settings, ports, database, flows, the way to
Asterisk. Then come the slow parts, models and voices, and last the doors through which callers and
agents enter.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
import uvicorn
from twisted.internet import asyncioreactor

from cti import chatpages, phonesocket
from cti.accounts import Accounts
from cti.chatsocket import ChatDoor
from cti.crm import Crm
from cti.phonesocket import BrowserPhones
from cti.remotecalls import RemoteCalls
from cti.screenpop import ConversationView
from cti.service import Desk
from cti.web import create_app, server_config
from ivr import observe
from ivr.bus import MemoryBus, RedisBus
from ivr.channels.webchat import Webchat
from ivr.clock import SystemClock as SystemClock
from ivr.config import Settings
from ivr.errors import HotlineError, SettingsError
from ivr.fetch import HttpFetcher
from ivr.flow.schema import Bundle
from ivr.flow.state import State
from ivr.library import Library, fixed_prompts
from ivr.model import Conversation, Leg
from ivr.recordings import Recordings
from ivr.runner import COMES_BACK_WITHIN, TOUCH_SECONDS, Runner
from ivr.sealing import Sealer
from ivr.speech.music import hold_music
from ivr.speech.prompts import PromptStore
from ivr.speech.recognition import Recognition
from ivr.speech.tts import Voices
from ivr.store.repo import Store
from ivr.telephony import fastagi, media, pbx, punctual
from ivr.telephony.asterisk import Ami
from ivr.telephony.extension import Extension
from ivr.telephony.phones import Phones
from ivr.telephony.telephone import Telephone, browser_phone
from ivr.telephony.turn import KEYS_ALONE
from ivr.texting import Texting
from ivr.webhooks import Webhooks

log = structlog.get_logger(__name__)

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Hotline:
    """A running hotline."""

    settings: Settings
    store: Store
    accounts: Accounts
    recognition: Recognition
    runner: Runner


def install_reactor() -> Any:
    """Put Twisted's reactor onto the running asyncio loop, so that one loop serves everything."""
    install: Any = asyncioreactor.install
    install(asyncio.get_running_loop())
    from twisted.internet import reactor

    punctual.go_first()
    running: Any = reactor
    punctual.keep_time(running)
    running.startRunning(installSignalHandlers=False)
    return running


@asynccontextmanager
async def hotline(settings: Settings, reactor: Any, progress: Progress) -> AsyncIterator[Hotline]:
    """Start everything; stop it again in the opposite order. Raises HotlineError in one line.

    Calls that go on when it stops are left to the dialplan, which holds the callers for whoever
    comes next.
    """
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        asterisk = settings.asterisk
        web_socket = _bind(settings.web.host, settings.web.port, "web.port")
        stack.callback(web_socket.close)
        if asterisk.enabled:
            _bind(asterisk.agi_host, asterisk.agi_port, "asterisk.agi_port").close()  # for later
        store = await Store.open(settings.database_url)
        stack.push_async_callback(store.close)
        library = Library(store, clock)
        bundle = await library.open(
            settings.flows_dir, settings.flow, republish=settings.publish_at_start
        )
        progress(f"flow {bundle.entry} {bundle.version[:12]} answers")
        fetcher = HttpFetcher(settings.uses, settings.uses_private)
        stack.push_async_callback(fetcher.close)
        link = await _link(settings, reactor, stack) if asterisk.enabled else None

        recognition = Recognition(settings, clock)
        voices = Voices(settings)
        prompts = PromptStore(settings, voices)
        stack.push_async_callback(voices.close)
        stack.push_async_callback(recognition.stop)
        await asyncio.gather(
            recognition.start(progress),
            # Said when there is no time to make it.
            prompts.prepare([(text, each) for each, text in KEYS_ALONE.items()], lambda line: None),
            *(prompts.prepare(fixed_prompts(each), progress) for each in library.answering),
        )

        sealer = Sealer(settings.state_dir / "sealing.key")
        runner = Runner(
            store,
            library,
            fetcher,
            sealer,
            clock,
            settings.facts,
            settings.redial_seconds,
            settings.chat.silence_hours * 3600,
        )
        texting = Texting(store, runner, clock)
        recordings = Recordings(store, settings.recordings_dir, settings.recording, clock)
        stack.push_async_callback(recordings.close)
        rest = prompts, recognition, clock, hold_music(), recordings
        telephone = Telephone(settings, runner, link[0], link[1], *rest) if link else None
        extension = Extension(settings, runner, *rest, telephone)
        phones = Phones(telephone, extension)
        crm = Crm(fetcher, settings.crm, clock)
        stack.push_async_callback(crm.close)
        bus = await RedisBus.open(settings.redis_url) if settings.redis_url else MemoryBus()
        stack.push_async_callback(bus.close)
        server = settings.server_id or secrets.token_hex(8)
        everywhere = RemoteCalls(bus, server, phones)
        stack.push_async_callback(everywhere.close)
        desk = Desk(
            store,
            everywhere.of,
            runner.report,
            lambda conversation: _view(library, sealer, conversation),
            clock,
            settings.queue,
            bus,
            settings.region,
            server,
            crm=crm,
            texts=texting,
            is_closed=_closed(settings, clock),
        )
        runner.attach(desk)
        observe.TASKS.set_function(lambda: len(asyncio.all_tasks()))
        observe.CONVERSATIONS.set_function(lambda: runner.live)
        await desk.start()
        stack.push_async_callback(desk.close)
        stack.push_async_callback(runner.close)
        changed: asyncio.Queue[Bundle] = asyncio.Queue()
        follow = library.follow(settings.flow, changed.put_nowait)
        ami = link[1] if link else None
        sweeping = _sweep(runner, ami, clock)
        webhooks = Webhooks(store, settings.webhooks, clock)
        stack.push_async_callback(webhooks.close)
        stack.push_async_callback(_cancel, asyncio.ensure_future(webhooks.run()))
        works = (follow, _warm(prompts, changed), desk.run(), sweeping, recordings.run())
        for work in (*works, punctual.watch()):
            stack.push_async_callback(_cancel, asyncio.ensure_future(work))

        accounts = Accounts(store, clock)

        deaf = settings.speech.engine == "none"

        def ready() -> dict[str, bool]:
            # One that sheds is there: it will listen to callers again by itself.
            there = any(state != "dead" for state in recognition.states.values())
            parts = {"speech": deaf or there}
            if ami is not None:
                parts["asterisk"] = ami.connected
            if settings.softphone.server:
                parts["softphone"] = extension.registered
            if settings.redis_url:
                parts["bus"] = bus.connected
            return parts

        app = create_app(
            desk, accounts, store, settings, ready, lambda: recognition.states, recordings
        )
        chats = Webchat(store, runner, texting, clock)
        app.include_router(chatpages.router(ChatDoor(chats, settings.chat, clock)))
        if telephone is not None and asterisk.http_port:
            account = partial(browser_phone, settings)
            password = pbx.credentials(settings).phone
            in_pages = BrowserPhones(settings, store, clock, account, password)
            app.include_router(phonesocket.router(in_pages))
        web = _Web(server_config(app))
        serving = asyncio.ensure_future(web.serve(sockets=[web_socket]))
        stack.push_async_callback(_stop_web, web, serving)
        if telephone is not None:
            calls = fastagi.serve(reactor, asterisk.agi_host, asterisk.agi_port, telephone.answer)
            stack.push_async_callback(_stop_calls, telephone, calls)
        if settings.softphone.server:
            stack.push_async_callback(extension.stop)
            await extension.start()
        punctual.settle()
        yield Hotline(settings, store, accounts, recognition, runner)


async def _link(
    settings: Settings, reactor: Any, stack: AsyncExitStack
) -> tuple[media.AudioServer, Ami]:
    """Where Asterisk sends us audio, and where we manage it."""
    asterisk = settings.asterisk
    audio = media.AudioServer(reactor)
    audio.listen(asterisk.agi_host, asterisk.audio_port)
    stack.push_async_callback(audio.stop)
    secret = pbx.credentials(settings).ami_secret
    ami = Ami(asterisk.ami_host, asterisk.ami_port, asterisk.ami_user, secret)
    await ami.start()
    stack.push_async_callback(ami.stop)
    return audio, ami


def _closed(settings: Settings, clock: SystemClock) -> Callable[[], bool]:
    """Whether nobody new is put in line now. Raises SettingsError for a calendar that is none."""
    name = settings.queue.calendar
    if not name:
        return lambda: False
    calendar = settings.facts.calendars.get(name)
    if calendar is None:
        raise SettingsError(f"setting queue.calendar: there is no calendar {name!r} in `calendars`")
    return lambda: calendar.at(clock.now()) != "open"


async def until_stopped() -> None:
    """Wait for Ctrl-C or a polite kill."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


class _Web(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


async def _stop_calls(telephone: Telephone, calls: fastagi.FastAgiServer) -> None:
    telephone.stopping = True
    await calls.stop()
    await telephone.drained()


async def _stop_web(web: _Web, serving: asyncio.Future[None]) -> None:
    web.should_exit = True
    web.force_exit = True
    await serving


async def _cancel(task: asyncio.Future[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _warm(prompts: PromptStore, changed: asyncio.Queue[Bundle]) -> None:
    """Have the prompts ready of what newly answers; following it must not wait for that."""
    while True:
        await prompts.prepare(fixed_prompts(await changed.get()), lambda line: None)


async def _sweep(runner: Runner, ami: Ami | None, clock: SystemClock) -> None:
    """Say which conversations are ours, and end what an earlier run left open, once its callers
    have had time to come back; those who talk to an agent meanwhile have time until Asterisk has
    hung them up."""

    def going_on(leg: Leg) -> bool:
        return ami is not None and leg.reference in ami.channels

    patience = clock.monotonic() + COMES_BACK_WITHIN
    while True:
        await asyncio.sleep(TOUCH_SECONDS)
        try:
            await runner.touch()
            if clock.monotonic() < patience:
                continue
            ended = await runner.sweep(going_on)
        except HotlineError as error:
            log.error("conversations of an earlier run not ended", error=str(error))
            continue
        if ended:
            log.info("ended conversations whose callers never came back", count=ended)


def _bind(host: str, port: int, setting: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        variable = f"HOTLINE_{setting.replace('.', '__').upper()}"
        raise SettingsError(
            f"port {port} is taken: {error.strerror} on {host}; "
            f"set {setting} ({variable}) to a free one"
        ) from None
    return listener


def _view(library: Library, sealer: Sealer, conversation: Conversation) -> ConversationView:
    """What an agent may see of a conversation's state."""
    bundle = library.loaded(conversation.version)
    if bundle is None or not conversation.state:
        return ConversationView(language=conversation.language)
    state = State.from_json(sealer.open(conversation.state))
    return ConversationView(
        topic=_topic(state),
        path=state.path,
        slots={**state.public_values(), **state.public_slots(bundle)},
        language=state.language,
        node=state.node,
        secret=frozenset(
            name
            for flow in bundle.flows.values()
            for name, slot in flow.slots.items()
            if slot.secret
        ),
    )


def _topic(state: State) -> str:
    """What it is about, in a word: the slot of that name, else the last menu choice taken."""
    topic = state.slots.get("topic")
    return str(topic) if topic else state.node
