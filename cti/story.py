"""The demo: one call from dialling to the stored record, told as it happens, each step checked.

Everything in it is real: a PBX, a server process, two robots with SIP telephones that hear by
recognition, and an agent on the WebSocket. It runs on free ports and a database of its own, beside
whatever else runs here.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from cti import protocol, robots, stage
from cti.client import AgentClient
from ivr.config import Settings
from ivr.errors import HotlineError
from ivr.ports import Clock
from ivr.store.repo import Store
from ivr.telephony.robot import RobotAgentPhone, RobotCaller, RobotEvent

STORIES = Path(__file__).parent / "stories"
LOGIN, EXTENSION = "demo", "1001"
_SCENE_SECONDS = 180.0
_RECORD_SECONDS = 10.0


@dataclass
class _Tale:
    """What has happened so far, on one clock that starts with the dialling."""

    out: Console
    as_json: bool
    began: float = field(default_factory=time.monotonic)
    failed: str = ""

    def tell(self, who: str, what: str, *, ok: bool = True, at: float | None = None) -> None:
        t = time.monotonic() - self.began if at is None else at
        if self.as_json:
            line = json.dumps({"t": round(t, 3), "who": who, "what": what, "ok": ok})
        else:
            line = f"{t:7.2f} s  {'ok ' if ok else 'NO '} {who:7} {what}"
        self.out.print(line, markup=False)
        if not ok and not self.failed:
            self.failed = f"{who}: {what}"

    def check(self, who: str, what: str, holds: bool) -> None:
        self.tell(who, what, ok=holds)

    def robot(self, who: str) -> Callable[[RobotEvent], None]:
        def show(event: RobotEvent) -> None:
            self.tell(who, f"{event.kind} {event.text}".strip(), ok=event.kind != "failed")

        return show


async def tell(
    settings: Settings,
    clock: Clock,
    script: Path | None,
    out: Console,
    progress: Callable[[str], None],
    as_json: bool,
) -> bool:
    """Tell the story; True when every step of it happened. Never raises for a step that failed."""
    own = stage.apart(settings, "demo")
    password = secrets.token_urlsafe(12)
    tale = _Tale(out, as_json)
    try:
        caller = robots.load_script(script or STORIES / "caller.yaml")
        agent = robots.load_script(STORIES / "agent.yaml")
        await stage.add_agent(own, LOGIN, EXTENSION, password)
        async with (
            stage.local_pbx(own, progress),
            stage.server(own),
            robots.senses(own, clock, caller.language, lambda line: None) as (hear, speak),
            robots.phone(own, robots.CALLER) as caller_phone,
            robots.phone(own, EXTENSION) as agent_phone,
            AgentClient(stage.url(own), LOGIN, password) as screen,
        ):
            progress("everything is up; the robot calls")
            tale.began = time.monotonic()
            desk = _Screen(screen, tale)
            number = own.asterisk.extension
            emit = tale.robot

            def phone_rings(event: RobotEvent) -> None:
                if event.kind == "rang":
                    desk.invited = time.monotonic()
                emit("phone")(event)

            async with asyncio.timeout(_SCENE_SECONDS):
                await _scene(
                    RobotCaller(caller_phone, number, hear, speak, caller, emit("caller")),
                    RobotAgentPhone(agent_phone, hear, speak, agent, phone_rings),
                    desk,
                    tale,
                )
            await _record(own, desk, tale)
    except TimeoutError:
        tale.tell("story", f"was not over after {_SCENE_SECONDS:.0f} s", ok=False)
    except HotlineError as error:
        tale.tell("story", str(error), ok=False)
    if tale.failed:
        out.print(f"\nThe demo FAILED at: {tale.failed}", markup=False)
        return False
    out.print("\nThe demo succeeded: every step of the story happened.", markup=False)
    return True


async def _scene(caller: RobotCaller, phone: RobotAgentPhone, desk: _Screen, tale: _Tale) -> None:
    """Let everyone play their part at once; whoever fails ends it for all."""
    watching = asyncio.ensure_future(desk.watch())
    answering = asyncio.ensure_future(phone.run())
    calling = asyncio.ensure_future(caller.run())
    everyone: set[asyncio.Future[Any]] = {watching, answering, calling}
    try:
        pending = everyone
        while pending and not tale.failed:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
            if calling.done() and not desk.popped:
                break  # the phone would wait for ever
    finally:
        for part in everyone:
            part.cancel()
        await asyncio.gather(*everyone, return_exceptions=True)
    if not tale.failed:
        tale.check("screen", "popped before the phone rang", 0 < desk.popped <= desk.invited)
        facts = {fact.name: fact.value for fact in desk.card.facts} if desk.card else {}
        tale.check("screen", f"showed the account: {facts.get('account')}", "account" in facts)
        topic = desk.card.topic if desk.card else ""
        tale.check("screen", f"showed the topic: {topic or 'nothing'}", bool(topic))


class _Screen:
    """The agent's page, played by a program: it is available, watches, and writes the note."""

    def __init__(self, client: AgentClient, tale: _Tale):
        self._client = client
        self._tale = tale
        self.card: protocol.PopCard | None = None
        self.popped = self.invited = 0.0  # when the pop was there, and when the phone's INVITE

    async def watch(self) -> None:
        await self._client.set_available()
        async for message in self._client.messages():
            match message:
                case protocol.Pop() if not self.popped:
                    self.popped = time.monotonic()
                    self.card = message.card
                    card = message.card
                    known = ", ".join(f"{fact.name} {fact.value}" for fact in card.facts)
                    self._tale.tell("screen", f"pop: {card.number}, {card.topic}; {known}")
                case protocol.PhoneRinging():
                    self._tale.tell("screen", "the phone rings")
                case protocol.CallAnswered():
                    self._tale.tell("screen", "answered")
                case protocol.CallEnded():
                    talked = message.outcome == "talked"
                    self._tale.tell("screen", f"ended: {message.outcome}", ok=talked)
                    await self._client.note(message.conversation, "The demo's note.", "resolved")
                case protocol.NoteKept():
                    self._tale.tell("screen", "note kept")
                    await self._client.done(message.conversation)
                    return
                case protocol.Error():
                    self._tale.tell("screen", f"error: {message.text}", ok=False)
                case _:
                    pass
        self._tale.tell("screen", "the server closed the connection", ok=False)


async def _record(settings: Settings, desk: _Screen, tale: _Tale) -> None:
    """Look into the database for what a complete record must have."""
    if tale.failed or desk.card is None:
        return
    store = await Store.open(settings.database_url)
    try:
        conversation_id = desk.card.conversation
        deadline = time.monotonic() + _RECORD_SECONDS
        while not (records := await store.records(conversation_id)):
            if time.monotonic() > deadline:
                tale.tell("record", "no call record was written", ok=False)
                return
            await asyncio.sleep(0.1)
        [record] = records
        kinds = {entry.kind for entry in await store.timeline(conversation_id)}
        conversation = await store.conversation(conversation_id)
    finally:
        await store.close()
    wanted = ("said", "heard", "matched", "slot_filled", "queued", "pop_shown", "answered", "noted")
    missing = [kind for kind in wanted if kind not in kinds]
    tale.check(
        "record", f"timeline complete{': without ' * bool(missing)}{missing or ''}", not missing
    )
    tale.check("record", f"agent {record.agent}, talked {record.talked:.1f} s", record.talked > 0)
    tale.check("record", f"note {record.note!r}", bool(record.note))
    ended = conversation is not None and conversation.ended_at is not None
    tale.check("record", "conversation ended", ended)
