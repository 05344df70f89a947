"""The manager link to Asterisk: what happens on its channels, and orders to it.

panoramisk speaks the protocol. What it leaves open is closed here: values are checked for line
breaks, every action has a deadline, pings find a dead link, a refused login is an error, characters
may be split across TCP segments, and after a reconnect nothing is sent again (an Originate would
dial twice): an action whose answer was lost fails, its outcome unknown. Each connection gets a
fresh panoramisk manager, so that no state of the old one can leak into the new.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import structlog
from panoramisk.actions import Action
from panoramisk.ami_protocol import AMIProtocol
from panoramisk.manager import Manager

from ivr.errors import LocalProtocolError, TelephonyError
from ivr.observe import AMI_UP

log = structlog.get_logger(__name__)

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_NEVER = re.compile(r"[\r\n\0]")
_LONGEST_LINE = 1000  # Asterisk reads lines into 1,025 bytes and drops longer ones
_LONGEST_MESSAGE = 1 << 20

LINK_UP = "LinkUp"
"""Not Asterisk's: the link was away, is back, and `channels` are those that there are now."""

AmiValue = str | int | float | Sequence[str]


@dataclass(frozen=True, slots=True)
class AmiEvent:
    """Something that happened in Asterisk. A field that came more than once has its values joined
    by line breaks."""

    name: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AmiReply:
    """Asterisk's consent to an action; `events` are the items of a list that was asked for.

    `action_id` is on the events that follow later, such as an OriginateResponse.
    """

    action_id: str
    message: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    events: tuple[AmiEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class AmiChannel:
    """One live channel. `state` is Asterisk's word: Down, Ring, Ringing, Up…"""

    unique_id: str
    name: str
    state: str
    linked_id: str = ""
    caller_id: str = ""
    context: str = ""
    extension: str = ""
    bridge: str = ""
    application: str = ""
    """As of when stock was taken: events do not tell these."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds. A dead link is noticed after `ping` and `deadline` together, at the latest."""

    deadline: float = 5.0
    ping: float = 5.0
    first_retry: float = 0.5
    longest_retry: float = 5.0


class ActionRefused(TelephonyError):
    """Asterisk answered with an error, or was not asked because the link is down: nothing has
    happened."""

    def __init__(self, name: str, reason: str):
        super().__init__(f"Asterisk refused {name}: {reason}")
        self.reason = reason


class _Action(Action):  # type: ignore[misc]
    """An action whose reply is a list only when Asterisk says so."""

    @property
    def multi(self) -> bool:
        return str(self.responses[0].eventlist).lower() == "start"

    @property
    def completed(self) -> bool:
        return not self.multi or str(self.responses[-1].eventlist).lower() == "complete"


class _Protocol(AMIProtocol):  # type: ignore[misc]
    """panoramisk's protocol, fed with whole lines alone; it never sends anything a second time."""

    def __init__(self, link: _Link):
        self._link = link
        self._partial = b""
        self._size = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.factory = self._link
        self.encoding = "utf8"

    def data_received(self, data: bytes) -> None:
        received = self._partial + data
        end = received.rfind(b"\n") + 1
        whole, self._partial = received[:end], received[end:]
        last = whole.rfind(b"\r\n\r\n")
        self._size = self._size + len(whole) if last < 0 else len(whole) - last
        if self._size + len(self._partial) > _LONGEST_MESSAGE:
            log.error("manager link dropped: a message without an end")
            self.transport.abort()
        elif whole:
            super().data_received(whole)

    def close(self) -> None:
        pending = {id(action): action for action in self.responses.values()}
        self.responses.clear()
        for action in pending.values():
            if not action.future.done():
                action.future.set_exception(
                    TelephonyError(
                        f"the manager link was lost during {action['Action']}: outcome unknown"
                    )
                )
        self.closed = True
        self.transport.abort()


class _Link(Manager):  # type: ignore[misc]
    """One connection's manager: reports events and its end, and never reconnects by itself."""

    def __init__(self, notify: Callable[[AmiEvent], None]):
        super().__init__()
        self._notify = notify
        self.lost = asyncio.Event()

    def dispatch(self, event: Any) -> list[str]:
        self._notify(_event(event))
        return []

    def connection_lost(self, exc: Any) -> None:
        self.lost.set()


class Ami:
    """The link, kept up. `channels` are the live ones by unique id, taken stock of afresh after
    every connect; a channel that ended meanwhile is reported to subscribers as a Hangup."""

    def __init__(self, host: str, port: int, user: str, secret: str, *, pace: Pace | None = None):
        self._address = f"{host}:{port}"
        self._host, self._port, self._user, self._secret = host, port, user, secret
        self._pace = pace or Pace()
        self._link: _Link | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._subscribers: list[Callable[[AmiEvent], None]] = []
        self._channels: dict[str, AmiChannel] = {}
        self._ended: set[str] | None = None

    @property
    def connected(self) -> bool:
        return self._link is not None

    @property
    def channels(self) -> Mapping[str, AmiChannel]:
        return MappingProxyType(self._channels)

    async def start(self) -> None:
        """Log in, then keep the link up until `stop`. Raises TelephonyError when that fails now."""
        link = await self._connect()
        self._keeper = asyncio.create_task(self._keep(link))

    async def stop(self) -> None:
        """Leave Asterisk alone."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
            self._keeper = None
        self._drop()

    async def action(self, name: str, /, **fields: AmiValue) -> AmiReply:
        """Give an order and return Asterisk's consent; a list's reply when the list is complete.

        Raises ActionRefused when Asterisk refuses or is away, any other TelephonyError when the
        answer did not come (then the outcome is unknown), LocalProtocolError for a value that AMI
        cannot carry. An Originate is always asynchronous: its outcome comes as an
        OriginateResponse with the reply's `action_id`.
        """
        if self._link is None:
            raise ActionRefused(name, self._down)
        return await self._send(self._link, name, fields)

    def subscribe(self, callback: Callable[[AmiEvent], None]) -> Callable[[], None]:
        """Be told every event from now on; returns how to stop that."""
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            with contextlib.suppress(ValueError):
                self._subscribers.remove(callback)

        return unsubscribe

    @property
    def _down(self) -> str:
        return f"the manager link to Asterisk at {self._address} is down"

    # --- the link --------------------------------------------------------------------------------

    async def _keep(self, link: _Link) -> None:
        while True:
            await self._watch(link)
            self._drop()
            log.error("manager link lost", address=self._address)
            link = await self._reconnect()
            log.info("manager link is back", address=self._address)
            self._tell(AmiEvent(LINK_UP, MappingProxyType({})))

    async def _watch(self, link: _Link) -> None:
        """Return when the link is dead. Only an answered ping proves that it is not."""
        while not link.lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.ping):
                    await link.lost.wait()
                    return
            try:
                await self._send(link, "Ping", {})
            except TelephonyError as error:
                log.warning("manager link does not answer", error=str(error))
                return

    async def _reconnect(self) -> _Link:
        wait = self._pace.first_retry
        while True:
            await asyncio.sleep(wait)
            try:
                return await self._connect()
            except TelephonyError as error:
                log.warning("manager link is still down", error=str(error))
                wait = min(2 * wait, self._pace.longest_retry)

    async def _connect(self) -> _Link:
        link = _Link(self._receive)
        try:
            async with asyncio.timeout(self._pace.deadline):
                _, link.protocol = await asyncio.get_running_loop().create_connection(
                    lambda: _Protocol(link), self._host, self._port
                )
        except (OSError, TimeoutError) as error:
            reason = getattr(error, "strerror", None) or "no answer"
            raise TelephonyError(
                f"Asterisk's manager interface at {self._address} cannot be reached: {reason}; "
                "is the PBX up? (hotline pbx status)"
            ) from None
        try:
            await self._log_in(link)
            await self._take_stock(link)
        except BaseException:
            link.close()
            raise
        self._link = link
        AMI_UP.set(1)
        return link

    async def _log_in(self, link: _Link) -> None:
        fields = {"Username": self._user, "Secret": self._secret, "Events": "on"}
        try:
            await self._send(link, "Login", fields)
        except ActionRefused as error:
            raise TelephonyError(
                f"Asterisk refused the manager password for user {self._user} at {self._address}: "
                f"{error.reason}"
            ) from None

    def _drop(self) -> None:
        AMI_UP.set(0)
        if self._link is not None:
            self._link.close()
            self._link = None

    async def _send(self, link: _Link, name: str, fields: Mapping[str, AmiValue]) -> AmiReply:
        if name.lower() == "originate":
            fields = {**fields, "Async": "true"}
        action = _Action({"Action": name, **{key: _wire(key, fields[key]) for key in fields}})
        if link.lost.is_set():
            raise ActionRefused(name, self._down)
        try:
            async with asyncio.timeout(self._pace.deadline):
                answer = await link.send_action(action)
        except TimeoutError:
            raise TelephonyError(
                f"Asterisk at {self._address} did not answer {name} within "
                f"{self._pace.deadline:g} s: outcome unknown"
            ) from None
        finally:
            link.protocol.responses.pop(action.id, None)
        first, *items = answer if isinstance(answer, list) else [answer]
        if not first.success:
            raise ActionRefused(name, first.message)
        return AmiReply(
            action_id=action.id,
            message=first.message,
            fields=_event(first).fields,
            events=tuple(_event(item) for item in items),
        )

    # --- channels --------------------------------------------------------------------------------

    async def _take_stock(self, link: _Link) -> None:
        before = self._channels
        self._channels, self._ended = {}, set()
        try:
            reply = await self._send(link, "CoreShowChannels", {})
        except BaseException:
            self._channels = before
            raise
        finally:
            ended, self._ended = self._ended, None
        for item in reply.events:
            channel = _channel(item.fields)
            if channel.unique_id and channel.unique_id not in ended:
                # What an event has told meanwhile is newer than the list.
                self._channels.setdefault(channel.unique_id, channel)
        for unique_id, channel in before.items():
            if unique_id not in self._channels:
                fields = {"Uniqueid": unique_id, "Channel": channel.name, "Cause": "0"}
                self._tell(AmiEvent("Hangup", {**fields, "Cause-txt": "ended while we were away"}))

    def _receive(self, event: AmiEvent) -> None:
        unique_id = event.fields.get("Uniqueid", "")
        if event.name == "Hangup":
            self._channels.pop(unique_id, None)
            if self._ended is not None:
                self._ended.add(unique_id)
        elif event.name in ("Newchannel", "Newstate") and unique_id:
            self._channels[unique_id] = _channel(event.fields)
        elif event.name == "Rename" and unique_id in self._channels:
            renamed = event.fields.get("Newname", "")
            self._channels[unique_id] = replace(self._channels[unique_id], name=renamed)
        self._tell(event)

    def _tell(self, event: AmiEvent) -> None:
        for callback in tuple(self._subscribers):
            try:
                callback(event)
            except Exception as error:  # one subscriber's fault is not the others'
                log.exception("a subscriber failed", event_name=event.name, error=str(error))


def _channel(fields: Mapping[str, str]) -> AmiChannel:
    return AmiChannel(
        unique_id=fields.get("Uniqueid", ""),
        name=fields.get("Channel", ""),
        state=fields.get("ChannelStateDesc", ""),
        linked_id=fields.get("Linkedid", ""),
        caller_id=fields.get("CallerIDNum", ""),
        context=fields.get("Context", ""),
        extension=fields.get("Exten", ""),
        bridge=fields.get("BridgeId", ""),
        application=fields.get("Application", ""),
    )


def _event(message: Any) -> AmiEvent:
    fields = {
        key: "\n".join(value) if isinstance(value, list) else str(value)
        for key, value in message.items()
        if key != "content"
    }
    return AmiEvent(fields.get("Event", ""), MappingProxyType(fields))


def _wire(key: str, value: AmiValue) -> str | list[str]:
    if not _KEY.fullmatch(key):
        raise LocalProtocolError(f"AMI: {key!r} is no field name")
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_checked(key, str(item)) for item in value]
    return _checked(key, str(value))


def _checked(key: str, value: str) -> str:
    if _NEVER.search(value):
        raise LocalProtocolError(f"AMI: {key} cannot carry a line break or NUL: {value[:80]!r}")
    if len(key) + len(value.encode("utf-8", "replace")) + 4 > _LONGEST_LINE:
        raise LocalProtocolError(f"AMI: {key} is too long: {value[:80]!r}…")
    return value
