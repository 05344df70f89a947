"""Asterisk's switching without an Asterisk: channels, bridges, and a manager link that can be cut.

Only what a talk needs (`ivr.telephony.talk`), but that as Asterisk 22 does it, down to the order of
its events. While the link is away events are lost; an order that crosses the cut may have been
carried out or not.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from ivr.errors import CallGone, TelephonyError
from ivr.telephony.asterisk import LINK_UP, ActionRefused, AmiChannel, AmiEvent, AmiReply
from ivr.telephony.following import Errand
from ivr.telephony.talk import Talk

CALLER = "c0"
ROOM = "room"


@dataclass
class Channel:
    """`bridge` is whom it shares audio with; `left` is set when it is taken out of there."""

    unique_id: str
    name: str
    state: str = "Up"
    bridge: str = ""
    application: str = ""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    dialled: str = ""


class Asterisk:
    """The exchange. `people` decide what a ringing telephone does: "answer", "busy" or "ring"."""

    def __init__(self, chance: random.Random, cuts: Callable[[], bool] = lambda: False):
        self.chance = chance
        self.cuts = cuts
        self.connected = True
        self.request = SimpleNamespace(channel="PJSIP/9001-0")
        self.channels: dict[str, AmiChannel] = {}
        self.there: dict[str, Channel] = {}
        self.dialled: list[str] = []
        self.people: dict[str, str] = {}
        self.music = False
        self._numbers = itertools.count(1)
        self._subscribers: list[Callable[[AmiEvent], None]] = []
        self._variables: dict[str, str] = {}
        self._work: set[asyncio.Future[Any]] = set()
        self._add("PJSIP/9001-0", CALLER)

    # --- the manager -----------------------------------------------------------------------------

    def subscribe(self, callback: Callable[[AmiEvent], None]) -> Callable[[], None]:
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def cut(self) -> None:
        self.connected = False

    def reconnect(self) -> None:
        """Take stock, tell of the channels that have ended, and that the link is back."""
        before, self.connected = self.channels, True
        self.channels = {
            one.unique_id: AmiChannel(
                one.unique_id, one.name, one.state, CALLER,
                bridge=one.bridge, application=one.application,
            )
            for one in self.there.values()
        }  # fmt: skip
        for gone in before.keys() - self.channels.keys():
            self._send("Hangup", Uniqueid=gone)
        self._send(LINK_UP)

    async def action(self, name: str, /, **fields: Any) -> AmiReply:
        if not self.connected:
            raise ActionRefused(name, "the link is down")
        fate = self.chance.choice(("lost", "done unheard")) if self.cuts() else ""
        if fate:
            self.cut()
        await asyncio.sleep(0.001)
        if fate != "lost":
            self._carry_out(name, fields)
        if fate:
            raise TelephonyError(f"the link was lost during {name}: outcome unknown")
        return AmiReply("1")

    def _carry_out(self, name: str, fields: dict[str, Any]) -> None:
        named = fields.get("Channel", "")
        one = next((c for c in self.there.values() if named in (c.name, c.unique_id)), None)
        if one is None and name != "Getvar":
            raise ActionRefused(name, "No such channel")
        match name:
            case "Hangup":
                assert one is not None
                self.hang_up(one.unique_id)
            case "Setvar":
                assert one is not None
                one.dialled = fields["Value"]
            case "Redirect":
                assert one is not None
                other = next(
                    (c for c in self.there.values() if c.name == fields.get("ExtraChannel")), None
                )
                self._redirect(one, fields["Exten"])
                if other is not None:
                    self._redirect(other, fields["ExtraExten"])
            case _:
                pass

    def _send(self, name: str, **fields: str) -> None:
        if self.connected:
            for subscriber in list(self._subscribers):
                subscriber(AmiEvent(name, {"Event": name, **fields}))

    # --- the exchange ----------------------------------------------------------------------------

    def _add(self, name: str, unique_id: str, state: str = "Up") -> Channel:
        made = self.there[unique_id] = Channel(unique_id, name, state)
        if self.connected:
            self.channels[unique_id] = AmiChannel(unique_id, name, state, CALLER)
        return made

    def _redirect(self, one: Channel, place: str) -> None:
        self._leave(one)
        if place == "consult":
            self._spawn(self._consult(one, one.dialled))
        elif place.startswith("room"):
            one.application = "ConfBridge"
            self._enter(one, ROOM)
        else:
            one.application = "Wait"

    async def _consult(self, one: Channel, target: str) -> None:
        one.application = "Dial"
        one.left.clear()
        other = await self._dial(one, target)
        if other is not None:
            bridge = f"b{next(self._numbers)}"
            self._enter(one, bridge)
            self._enter(other, bridge)
            await one.left.wait()
        moved = one.application != "Dial"
        if moved or one.unique_id not in self.there:
            return
        one.application = "Wait"
        self._send("UserEvent", UserEvent="HotlineConsulted", Uniqueid=one.unique_id)

    async def _dial(self, one: Channel, target: str) -> Channel | None:
        self.dialled.append(target)
        number = target.removeprefix("PJSIP/")
        fate = self.people.get(number, "answer")
        if fate == "away":
            return None
        made = self._add(f"{target}-{next(self._numbers)}", f"u{next(self._numbers)}", "Ringing")
        ids = {"Uniqueid": one.unique_id, "DestChannel": made.name, "DestUniqueid": made.unique_id}
        self._send("DialBegin", **ids)
        for _ in range(20):
            await asyncio.sleep(0.05)
            given_up = one.unique_id not in self.there or one.left.is_set()
            if given_up or made.unique_id not in self.there:
                self.hang_up(made.unique_id)
                return None
            fate = self.people.get(number, "answer")
            if fate != "ring":
                break
        if fate != "answer":
            self._send("DialEnd", **ids, DialStatus="BUSY")
            self.hang_up(made.unique_id)
            return None
        made.state = "Up"
        if self.connected and made.unique_id in self.channels:
            self.channels[made.unique_id] = replace(self.channels[made.unique_id], state="Up")
        self._send("DialEnd", **ids, DialStatus="ANSWER")
        return made

    def _enter(self, one: Channel, bridge: str) -> None:
        self._leave(one)
        one.bridge = bridge
        one.left.clear()
        self._send("BridgeEnter", Uniqueid=one.unique_id)

    def _leave(self, one: Channel) -> None:
        bridge, one.bridge = one.bridge, ""
        one.left.set()
        if not bridge:
            return
        rest = [other for other in self.there.values() if other.bridge == bridge]
        if bridge == ROOM:
            rest = [other for other in rest if other.unique_id == CALLER and len(rest) == 1]
        for other in rest:
            other.bridge = ""
            other.left.set()
            if other.unique_id != CALLER and other.application not in ("Dial", "ConfBridge"):
                self.hang_up(other.unique_id)

    def hang_up(self, unique_id: str) -> None:
        """The telephone hangs up, or is hung up."""
        one = self.there.pop(unique_id, None)
        if one is None:
            return
        if self.connected:
            self.channels.pop(unique_id, None)
        self._leave(one)
        self._send("Hangup", Uniqueid=unique_id, Channel=one.name)

    def with_caller(self) -> list[str]:
        """Who hears the caller."""
        bridge = self.there[CALLER].bridge if CALLER in self.there else ""
        others = self.there.values() if bridge else ()
        return [one.name for one in others if one.bridge == bridge and one.unique_id != CALLER]

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    # --- the caller's channel, over AGI ----------------------------------------------------------

    async def execute(self, app: str, *args: str) -> None:
        caller = self._caller()
        caller.left.clear()
        if app == "Dial":
            other = await self._dial(caller, args[0])
            self._variables["DIALSTATUS"] = "ANSWER" if other else "NOANSWER"
            if other is not None:
                self._bridge(other)
                await caller.left.wait()
        elif app == "Bridge":
            found = next((c for c in self.there.values() if c.name == args[0]), None)
            self._variables["BRIDGERESULT"] = "SUCCESS" if found else "NONEXISTENT"
            if found is not None:
                found.application = ""
                self._leave(found)
                self._bridge(found)
                await caller.left.wait()
        elif app == "ConfBridge":
            self._enter(caller, ROOM)
            if self.with_caller():
                await caller.left.wait()
            caller.bridge = ""
        self._caller()

    def _bridge(self, other: Channel) -> None:
        bridge = f"b{next(self._numbers)}"
        self._enter(other, bridge)
        if CALLER in self.there:
            self._enter(self.there[CALLER], bridge)

    def _caller(self) -> Channel:
        if CALLER not in self.there:
            raise CallGone("the caller has hung up")
        return self.there[CALLER]

    async def command(self, *words: str, deadline: float | None = None) -> Any:
        self._caller()
        await asyncio.sleep(0)
        there = any(one.name == words[-1] for one in self.there.values())
        return SimpleNamespace(result="6" if there else "-1", data="")

    async def get_variable(self, name: str) -> str:
        self._caller()
        return self._variables.get(name, "")

    async def set_variable(self, name: str, value: str) -> None:
        self._caller()
        self._variables[name] = value


class Line:
    """The caller's call."""

    finished = False

    def __init__(self, asterisk: Asterisk):
        self._asterisk = asterisk
        self.call: Any = asterisk
        self.leg: Any = SimpleNamespace(reference=CALLER, id="leg")
        self.recording: Any = SimpleNamespace(join=lambda *args: None, part=lambda: None)

    async def listen_to_music(self, began: Callable[[], None], until: asyncio.Event) -> None:
        caller = self._asterisk._caller()
        caller.left.clear()
        self._asterisk.music = True
        await asyncio.sleep(0.001)
        began()
        hung_up = asyncio.ensure_future(caller.left.wait())
        ordered = asyncio.ensure_future(until.wait())
        await asyncio.wait({hung_up, ordered}, return_when=asyncio.FIRST_COMPLETED)
        hung_up.cancel()
        ordered.cancel()
        self._asterisk.music = False
        self._asterisk._caller()


class Switch:
    """The telephone around the talk."""

    def __init__(self, asterisk: Asterisk):
        self.ami: Any = asterisk
        self._unwanted: set[str] = set()
        self._tasks: set[asyncio.Future[Any]] = set()
        asterisk.subscribe(self._follow)

    def route(self, number: str) -> str | None:
        return f"PJSIP/{number}" if number.isdigit() else None

    async def reachable(self, target: str, ask: Callable[[str], Awaitable[str]]) -> str:
        return target

    async def asked(self, function: str) -> str:
        return ""

    async def hang_up_channel(self, channel: str) -> bool:
        try:
            await self.ami.action("Hangup", Channel=channel)
        except TelephonyError:
            self._unwanted.add(channel)
        return True

    def _follow(self, event: AmiEvent) -> None:
        if event.name == LINK_UP:
            again, self._unwanted = self._unwanted & self.ami.channels.keys(), set()
            for channel in again:
                self.spawn(self.hang_up_channel(channel))

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def talk(asterisk: Asterisk, notify: Callable[[Any], None]) -> Talk:
    """A talk that is about to ring 1001."""
    outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    errand = Errand("PJSIP/1001", "1001", 20, notify, outcome)
    return Talk(Switch(asterisk), Line(asterisk), errand)
