"""The telephones of another server, over the bus: an agent here is offered a caller who is there.

    here                                 there
    order ring ───────────────────────→  ring(leg, extension)
          ←─────────────── state: events so far, done or not (at each event, and every second)
    watch (every second) ─────────────→  a phone that nobody watches any more stops ringing
    cancel ───────────────────────────→
    order hold … ─────────────────────→  hold(leg, on)
          ←─────────────────────── outcome

News may be lost. So a ringing's state is told whole and again until it has been taken note of, an
order that is not answered in time has the outcome `unknown` and is never repeated, and whoever
hears nothing for long enough takes the other for dead: an answered call goes on in Asterisk.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import structlog

from ivr.errors import CallGone, HotlineError, TelephonyError
from ivr.ports import (
    ActionOutcome,
    Answered,
    Bus,
    CallEvent,
    Consulted,
    Held,
    Muted,
    Parked,
    PhoneSystem,
    Ringing,
)

log = structlog.get_logger()

ANSWER_SECONDS = 10.0
"""How long an order may take there."""
STATE_SECONDS = 1.0
SILENCE_SECONDS = 8.0
"""So long without news of a call, while the bus is there, and its server counts as dead."""
_KEPT_SECONDS = 30.0
"""How long the end of a ringing is told to somebody who does not take note of it."""

_EVENTS: Mapping[str, type[CallEvent]] = {
    kind.__name__: kind for kind in (Ringing, Answered, Held, Muted, Consulted, Parked)
}
_ORDERS = frozenset(
    {
        "let_go",
        "send_to",
        "hold",
        "mute",
        "press",
        "park",
        "consult",
        "complete",
        "cancel",
        "join",
        "listen",
        "dial",
    }
)
_UNANSWERED = ActionOutcome("unknown", "the caller's server did not answer")


def calls_topic(server: str) -> str:
    """The bus topic of what servers say to this one about calls."""
    return f"calls.{server}"


@dataclass(slots=True)
class _Watched:
    """A ringing elsewhere that we wait for."""

    notify: Callable[[CallEvent], None]
    done: asyncio.Future[str]
    heard_at: float
    events: int = 0


@dataclass(slots=True)
class _Served:
    """A ringing here that another server waits for."""

    owner: str
    watched_at: float
    events: list[Mapping[str, Any]] = field(default_factory=list)
    answered: bool = False
    outcome: str | None = None
    error: str = ""
    task: asyncio.Task[None] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    noted: bool = False


class RemoteCalls:
    """Both ends of it: `of` gives another server's telephones, and ours are theirs to order."""

    def __init__(self, bus: Bus, server: str, ours: PhoneSystem):
        self.server = server
        self._bus = bus
        self._ours = ours
        self._watched: dict[str, _Watched] = {}
        self._asked: dict[str, asyncio.Future[ActionOutcome]] = {}
        self._served: dict[str, _Served] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = bus.subscribe(calls_topic(server), self._heard)

    def of(self, server: str) -> PhoneSystem:
        """The telephones of a server; "" is ours."""
        return self._ours if server in ("", self.server) else _Elsewhere(self, server)

    async def close(self) -> None:
        """Hear and order nothing any more. What rings here for others goes on to be told by nobody,
        and ends with the telephones."""
        self._stop()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- ordering --------------------------------------------------------------------------------

    async def ring(
        self,
        server: str,
        leg_id: str,
        extension: str,
        seconds: float,
        notify: Callable[[CallEvent], None],
    ) -> str:
        loop = asyncio.get_running_loop()
        key = secrets.token_hex(8)
        watched = self._watched[key] = _Watched(notify, loop.create_future(), loop.time())
        self._send(server, "ring", id=key, leg=leg_id, args=[extension, seconds])
        try:
            while not watched.done.done():
                await asyncio.wait({watched.done}, timeout=STATE_SECONDS)
                if not watched.done.done():
                    self._send(server, "watch", id=key)
                    self._look_for_life(watched)
            return watched.done.result()
        finally:
            del self._watched[key]
            # It ends what still rings there; of what is over it takes note.
            self._send(server, "over", id=key)

    def _look_for_life(self, watched: _Watched) -> None:
        now = asyncio.get_running_loop().time()
        if not getattr(self._bus, "connected", True):
            watched.heard_at = now  # it is us who hear nothing
        if now - watched.heard_at > SILENCE_SECONDS:
            watched.done.set_exception(TelephonyError("the caller's server is gone"))

    async def order(self, server: str, name: str, leg_id: str, *args: Any) -> ActionOutcome:
        key = secrets.token_hex(8)
        asked = self._asked[key] = asyncio.get_running_loop().create_future()
        self._send(server, "order", id=key, name=name, leg=leg_id, args=list(args))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                outcome: ActionOutcome = await asked
                return outcome
        except TimeoutError:
            return _UNANSWERED
        finally:
            del self._asked[key]

    def hang_up(self, server: str, leg_id: str) -> None:
        self._send(server, "hang_up", leg=leg_id)

    # --- what is heard ---------------------------------------------------------------------------

    def _send(self, server: str, kind: str, **body: Any) -> None:
        self._bus.publish(calls_topic(server), {"kind": kind, "from": self.server, **body})

    def _heard(self, body: Mapping[str, Any]) -> None:
        key, sender = str(body.get("id", "")), str(body.get("from", ""))
        match body.get("kind"):
            case "ring" if key not in self._served:
                self._serve_ring(key, sender, str(body["leg"]), *body["args"])
            case "watch" if key in self._served:
                self._served[key].watched_at = asyncio.get_running_loop().time()
            case "over" if key in self._served:
                self._let_be(self._served[key])
            case "state" if key in self._watched:
                self._take_note(self._watched[key], body)
            case "state":
                self._send(sender, "over", id=key)  # it was ours, and is over
            case "order" if body.get("name") in _ORDERS:
                self._spawn(self._carry_out(sender, body))
            case "outcome" if key in self._asked and not self._asked[key].done():
                self._asked[key].set_result(ActionOutcome(body["result"], body["text"]))
            case "hang_up":
                self._spawn(self._ours.hang_up(str(body["leg"])))
            case _:
                pass

    def _take_note(self, watched: _Watched, state: Mapping[str, Any]) -> None:
        """The whole of a ringing's news so far; what is new of it is told on, once and in order."""
        watched.heard_at = asyncio.get_running_loop().time()
        for event in state["events"][watched.events :]:
            watched.events += 1
            kind = _EVENTS.get(event["is"])
            if kind is not None:
                watched.notify(kind(**{key: event[key] for key in event if key != "is"}))
        if watched.done.done():
            return
        if state["error"]:
            gone = state["error"] == "gone"
            kinds = CallGone if gone else TelephonyError
            watched.done.set_exception(kinds(str(state["error"])))
        elif state["outcome"] is not None:
            watched.done.set_result(str(state["outcome"]))

    # --- being ordered ---------------------------------------------------------------------------

    def _serve_ring(
        self, key: str, owner: str, leg_id: str, extension: str, seconds: float
    ) -> None:
        served = _Served(owner, asyncio.get_running_loop().time())
        self._served[key] = served

        def notify(event: CallEvent) -> None:
            served.events.append({"is": type(event).__name__, **asdict(event)})
            served.answered |= isinstance(event, Answered)
            served.changed.set()

        async def ring() -> None:
            try:
                served.outcome = await self._ours.ring(leg_id, extension, seconds, notify)
            except CallGone:
                served.error = "gone"
            except HotlineError as error:
                served.error = str(error)
            finally:
                served.changed.set()

        served.task = self._spawn(ring())
        self._spawn(self._tell(key, served))

    async def _tell(self, key: str, served: _Served) -> None:
        """Tell how it stands whenever that changes, and every second."""
        assert served.task is not None
        loop = asyncio.get_running_loop()
        ended_at: float | None = None
        try:
            while not served.noted:
                served.changed.clear()
                self._send(
                    served.owner,
                    "state",
                    id=key,
                    events=list(served.events),
                    outcome=served.outcome,
                    error=served.error,
                )
                if not served.task.done():
                    if not served.answered and loop.time() - served.watched_at > SILENCE_SECONDS:
                        served.task.cancel()  # its agent's server is gone
                        return
                elif ended_at is None:
                    ended_at = loop.time()
                elif loop.time() - ended_at > _KEPT_SECONDS:
                    return
                try:
                    async with asyncio.timeout(STATE_SECONDS):
                        await served.changed.wait()
                except TimeoutError:
                    continue
        finally:
            del self._served[key]

    def _let_be(self, served: _Served) -> None:
        """Nobody waits for it any more: it stops ringing, unless it is answered."""
        if served.task is not None and not served.answered:
            served.task.cancel()
        if served.task is None or served.task.done() or not served.answered:
            served.noted = True
            served.changed.set()

    async def _carry_out(self, sender: str, body: Mapping[str, Any]) -> None:
        order = getattr(self._ours, body["name"])
        try:
            outcome: ActionOutcome = await order(str(body["leg"]), *body["args"])
        except HotlineError as error:
            outcome = ActionOutcome("refused", str(error))
        self._send(sender, "outcome", id=body["id"], result=outcome.result, text=outcome.text)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("order of another server failed", error=repr(error))


class _Elsewhere:
    """`ivr.ports.PhoneSystem` of one other server."""

    def __init__(self, calls: RemoteCalls, server: str):
        self._calls = calls
        self._server = server

    async def ring(
        self, leg_id: str, extension: str, seconds: float, notify: Callable[[CallEvent], None]
    ) -> str:
        return await self._calls.ring(self._server, leg_id, extension, seconds, notify)

    async def hang_up(self, leg_id: str) -> None:
        self._calls.hang_up(self._server, leg_id)

    async def let_go(self, leg_id: str) -> ActionOutcome:
        return await self._calls.order(self._server, "let_go", leg_id)

    async def send_to(self, leg_id: str, number: str) -> ActionOutcome:
        return await self._calls.order(self._server, "send_to", leg_id, number)

    async def hold(self, leg_id: str, on: bool) -> ActionOutcome:
        return await self._calls.order(self._server, "hold", leg_id, on)

    async def mute(self, leg_id: str, on: bool) -> ActionOutcome:
        return await self._calls.order(self._server, "mute", leg_id, on)

    async def press(self, leg_id: str, digits: str) -> ActionOutcome:
        return await self._calls.order(self._server, "press", leg_id, digits)

    async def park(self, leg_id: str) -> ActionOutcome:
        return await self._calls.order(self._server, "park", leg_id)

    async def consult(self, leg_id: str, number: str) -> ActionOutcome:
        return await self._calls.order(self._server, "consult", leg_id, number)

    async def complete(self, leg_id: str) -> ActionOutcome:
        return await self._calls.order(self._server, "complete", leg_id)

    async def cancel(self, leg_id: str) -> ActionOutcome:
        return await self._calls.order(self._server, "cancel", leg_id)

    async def join(self, leg_id: str) -> ActionOutcome:
        return await self._calls.order(self._server, "join", leg_id)

    async def listen(self, leg_id: str, extension: str, mode: str) -> ActionOutcome:
        return await self._calls.order(self._server, "listen", leg_id, extension, mode)

    async def dial(self, extension: str, number: str) -> ActionOutcome:
        return await self._calls.order(self._server, "dial", extension, number)
