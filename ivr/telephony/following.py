"""What Asterisk tells of one caller's talk, and what that makes of it: who is connected with whom.

Agents are told what its events say, never what somebody has asked for; when the manager link was
away, what the list of channels says that is taken at its return.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ivr.model import Leg
from ivr.ports import Answered, CallEvent, Consulted, Held, Parked, Ringing
from ivr.telephony.asterisk import LINK_UP, Ami, AmiChannel, AmiEvent
from ivr.telephony.fastagi import AgiCall
from ivr.telephony.recording import CallRecording


class CallersChannel(Protocol):
    """What a talk needs of the call that it is about."""

    @property
    def call(self) -> AgiCall: ...

    @property
    def leg(self) -> Leg: ...

    @property
    def recording(self) -> CallRecording: ...

    @property
    def finished(self) -> bool:
        """Whether the call is to end."""
        ...

    async def listen_to_music(self, began: Callable[[], None], until: asyncio.Event) -> None:
        """Connect the channel with our music; `began` when Asterisk has done so."""
        ...


class Switch(Protocol):
    """What a talk needs of the telephone system."""

    ami: Ami

    def route(self, number: str) -> str | None: ...

    async def reachable(self, target: str, ask: Callable[[str], Awaitable[str]]) -> str: ...

    async def asked(self, function: str) -> str: ...

    async def hang_up_channel(self, channel: str) -> bool: ...

    def spawn(self, work: Coroutine[Any, Any, object]) -> None: ...


class At(enum.Enum):
    """Where the caller is."""

    RINGING = enum.auto()
    TALK = enum.auto()
    MUSIC = enum.auto()
    ROOM = enum.auto()
    AWAY = enum.auto()


class Plan(enum.Enum):
    """What follows when the caller's present command ends."""

    OVER = enum.auto()
    WAIT = enum.auto()
    AGENT = enum.auto()
    OTHER = enum.auto()
    ROOM = enum.auto()
    PARK = enum.auto()
    ELSEWHERE = enum.auto()


@dataclass
class Party:
    """Somebody's telephone in the talk; without a channel as long as Asterisk has named none."""

    number: str
    channel: str = ""
    unique_id: str = ""
    up: bool = False


@dataclass
class Errand:
    """Whom to ring. `target` is Asterisk's name of it, `extension` ours; `transfer` is the id of a
    flow's transfer, which no agent controls."""

    target: str
    extension: str
    seconds: float
    notify: Callable[[CallEvent], None]
    outcome: asyncio.Future[str]
    transfer: str = ""
    ringing: dict[str, str] = field(default_factory=dict)
    called_off: bool = False


class Following:
    """The state of one talk, as Asterisk has it."""

    def __init__(self, switch: Switch, line: CallersChannel, errand: Errand):
        self.errand = errand
        self.answered = False
        self.agent = Party(errand.extension)
        self.muted = False
        self._switch = switch
        self._line = line
        self._other: Party | None = None
        self._at = At.RINGING
        self._plan = Plan.OVER
        self._target = ""
        self._held = False
        self._phone_held = False
        self._parked = False
        self._fetched = False
        self._left = False
        self._with: Party | None = None
        self._connected_told = True
        self._park_failed = False
        self._change = asyncio.Event()
        self._moved = asyncio.Condition()

    @property
    def returns(self) -> bool:
        """Whether the dialplan will bring the caller back to us by itself."""
        return self._parked and not self._fetched

    def _settle(self, outcome: str) -> None:
        if not self.errand.outcome.done():
            self.errand.outcome.set_result(outcome)

    def _then(self, plan: Plan) -> None:
        self._plan = plan
        self._change.set()

    # --- what Asterisk tells ---------------------------------------------------------------------

    def _tell(self, event: CallEvent) -> None:
        if not self.errand.called_off and not self.errand.transfer:
            self.errand.notify(event)
        self._switch.spawn(self._stir())

    async def _stir(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    def _follow(self, event: AmiEvent) -> None:
        if event.name == LINK_UP:
            self._take_stock()
        elif (hear := _HEARD.get(event.name)) is not None:
            hear(self, event.fields)

    def _dial_began(self, fields: Mapping[str, str]) -> None:
        who, channel = fields.get("Uniqueid"), fields.get("DestChannel", "")
        unique_id = fields.get("DestUniqueid", "") or channel
        errand = self.errand
        if who == self._line.leg.reference and self._at is At.RINGING:
            errand.ringing[unique_id] = channel
            if errand.called_off:
                self._switch.spawn(self._switch.hang_up_channel(channel))
            elif len(errand.ringing) == 1:
                self._tell(Ringing(errand.extension))
        elif who and who == self.agent.unique_id and self._other and not self._other.up:
            self._other.channel, self._other.unique_id = channel, unique_id
            self._tell(Consulted(self._other.number, "ringing"))

    def _dial_ended(self, fields: Mapping[str, str]) -> None:
        if fields.get("DialStatus") != "ANSWER":
            return
        who, channel = fields.get("Uniqueid"), fields.get("DestChannel", "")
        unique_id = fields.get("DestUniqueid", "")
        if who == self._line.leg.reference and self._at is At.RINGING:
            if not channel:
                unique_id, channel = next(iter(self.errand.ringing.items()), ("", ""))
            self._taken(channel, unique_id)
        elif who and who == self.agent.unique_id and self._other is not None:
            self._other = replace(self._other, channel=channel, unique_id=unique_id, up=True)
            self._tell(Consulted(self._other.number, "talking"))

    def _taken(self, channel: str, unique_id: str) -> None:
        errand = self.errand
        self.answered, self._at = True, At.TALK
        self.agent = Party(errand.extension, channel, unique_id, up=True)
        errand.ringing.pop(unique_id, None)
        self._tell(Answered(errand.extension))
        if not errand.called_off and not errand.transfer:
            # Whom a flow transfers to has been told nothing.
            self._record()

    def _record(self, everybody: bool = False) -> None:
        self._line.recording.join(self._line.call.request.channel, self.agent.channel, everybody)

    def _entered(self, fields: Mapping[str, str]) -> None:
        if fields.get("Uniqueid") != self._line.leg.reference or self._connected_told:
            return
        if self._at is At.ROOM:
            self._connected_told = True
            self._no_longer_held()
            if self._other is not None:
                self._tell(Consulted(self._other.number, "joined"))
            self._record(everybody=self._other is not None)
        elif self._at is At.TALK:
            self._connected()

    def _connected(self) -> None:
        """The caller talks with the agent, or with whom the agent has consulted."""
        other, self._connected_told = self._other, True
        if other is not None and self._with is other:
            former, self.agent, self._other, self.muted = self.agent, other, None, False
            self._no_longer_held()
            self._tell(Consulted(other.number, "took_over"))
            self._switch.spawn(self._switch.hang_up_channel(former.unique_id))
        else:
            self._no_longer_held()
            if other is not None:
                self._consult_over()
        self._record()

    def _no_longer_held(self) -> None:
        if self._held:
            self._held = False
            self._tell(Held(False))

    def _hung_up(self, fields: Mapping[str, str]) -> None:
        who, other = fields.get("Uniqueid", ""), self._other
        if other is not None and who and who == other.unique_id:
            if self._plan is not Plan.OTHER and self._with is not other:
                self._consult_over()
        elif who and who == self.agent.unique_id:
            self.agent.up = False
            if self._at is At.ROOM and other is not None:
                self.agent, self._other, self.muted = other, None, False
                self._no_longer_held()
                self._tell(Consulted(other.number, "took_over"))
            elif self._at is At.MUSIC:
                if self._plan in (Plan.WAIT, Plan.AGENT):
                    self._plan = Plan.OVER
                self._change.set()
        self.errand.ringing.pop(who, None)

    def _consulted_over(self, fields: Mapping[str, str]) -> None:
        """The agent's own Dial has ended, in [hotline-talk]."""
        ours = fields.get("Uniqueid") == self.agent.unique_id
        if ours and self._plan is Plan.WAIT and fields.get("UserEvent") == "HotlineConsulted":
            self._consult_over()

    def _consult_over(self) -> None:
        """Nobody is consulted any more; the caller has waited for that."""
        other, self._other = self._other, None
        if other is None:
            return
        self._tell(Consulted(other.number, "gone"))
        if self._plan is Plan.WAIT:
            self._then(Plan.AGENT)

    def _held_on_phone(self, fields: Mapping[str, str]) -> None:
        if fields.get("Uniqueid") == self.agent.unique_id and self._at is At.TALK:
            self._phone_held = fields.get("Event") == "Hold"
            self._tell(Held(self._phone_held))

    def _was_parked(self, fields: Mapping[str, str]) -> None:
        if fields.get("ParkeeUniqueid") == self._line.leg.reference:
            self._parked = True
            self._tell(Parked(fields.get("ParkingSpace", "")))
            self._settle("transferred")
            self._switch.spawn(self._switch.hang_up_channel(self.agent.unique_id))

    def _was_fetched(self, fields: Mapping[str, str]) -> None:
        if fields.get("ParkeeUniqueid") == self._line.leg.reference:
            self._fetched = True

    def _sent_by_phone(self, fields: Mapping[str, str]) -> None:
        """A blind transfer by the telephone's own key: the caller's channel leaves us."""
        ours = fields.get("TransfereeUniqueid") == self._line.leg.reference
        if ours and fields.get("Result", "Success") == "Success":
            self._left = True
            self._settle("transferred")

    def _handed_by_phone(self, fields: Mapping[str, str]) -> None:
        """An attended transfer by the telephone's own keys: somebody takes the agent's place."""
        mine = fields.get("OrigTransfererUniqueid"), fields.get("SecondTransfererUniqueid")
        if self.agent.unique_id not in mine or fields.get("Result", "Success") != "Success":
            return
        number = fields.get("SecondTransfererExten", "") or fields.get("TransferTargetExten", "")
        target = fields.get("TransferTargetCallerIDNum", "") or number
        self.agent = Party(
            target,
            fields.get("TransferTargetChannel", ""),
            fields.get("TransferTargetUniqueid", ""),
            up=True,
        )
        if self._phone_held:
            self._phone_held = False
            self._tell(Held(False))
        self.muted = False
        self._tell(Consulted(target, "took_over"))
        self._record()

    # --- after the link was away -----------------------------------------------------------------

    def _take_stock(self) -> None:
        """The link is back: what does Asterisk have? Channels that ended were told as hang-ups."""
        channels = self._switch.ami.channels
        caller = channels.get(self._line.leg.reference)
        if caller is None:
            return
        if self._at is At.RINGING:
            self._find_agent(caller, channels)
            return
        agent = channels.get(self.agent.unique_id)
        if self._at is At.TALK and caller.bridge:
            if not self._connected_told and _beside(channels, caller) is not None:
                self._connected()
            elif self._plan is not Plan.OVER and agent and caller.bridge == agent.bridge:
                self._plan = Plan.OVER  # what was ordered has not been carried out
                self._consult_over()
        elif self._at is At.ROOM and caller.bridge and not self._connected_told:
            self._entered({"Uniqueid": caller.unique_id})
        elif self._at is At.MUSIC and agent is not None:
            if self._plan is Plan.ELSEWHERE:
                self._plan = Plan.WAIT
            if self._other is not None:
                self._find_other(self._other, agent, caller, channels)

    def _find_agent(self, caller: AmiChannel, channels: Mapping[str, AmiChannel]) -> None:
        beside = _beside(channels, caller)
        if beside is not None:
            self._taken(beside.name, beside.unique_id)
            return
        for one in _dialled(channels, caller, ()):
            fields = {"DestChannel": one.name, "DestUniqueid": one.unique_id}
            if one.unique_id not in self.errand.ringing:
                self._dial_began({"Uniqueid": caller.unique_id, **fields})

    def _find_other(
        self,
        other: Party,
        agent: AmiChannel,
        caller: AmiChannel,
        channels: Mapping[str, AmiChannel],
    ) -> None:
        found = _dialled(channels, caller, (agent.unique_id,))
        if agent.application == "ConfBridge":
            self._then(Plan.ROOM)
        elif not found:
            if agent.application != "Dial":
                self._consult_over()
        elif not other.up:
            up = found[0].state == "Up"
            told = "talking" if up else "ringing" if not other.channel else ""
            self._other = Party(other.number, found[0].name, found[0].unique_id, up)
            if told:
                self._tell(Consulted(other.number, told))


_HEARD: Mapping[str, Callable[[Following, Mapping[str, str]], None]] = {
    "DialBegin": Following._dial_began,
    "DialEnd": Following._dial_ended,
    "BridgeEnter": Following._entered,
    "Hangup": Following._hung_up,
    "Hold": Following._held_on_phone,
    "Unhold": Following._held_on_phone,
    "UserEvent": Following._consulted_over,
    "ParkedCall": Following._was_parked,
    "UnParkedCall": Following._was_fetched,
    "BlindTransfer": Following._sent_by_phone,
    "AttendedTransfer": Following._handed_by_phone,
}


def _beside(channels: Mapping[str, AmiChannel], caller: AmiChannel) -> AmiChannel | None:
    """Who is in the caller's bridge."""
    for one in channels.values():
        if one.bridge and one.bridge == caller.bridge and one.unique_id != caller.unique_id:
            return one
    return None


def _dialled(
    channels: Mapping[str, AmiChannel], caller: AmiChannel, but: tuple[str, ...]
) -> list[AmiChannel]:
    """Telephones that ring or talk because of this call, but for those."""
    return [
        one
        for one in channels.values()
        if one.linked_id == caller.linked_id
        and one.name.startswith("PJSIP/")
        and one.unique_id not in (caller.unique_id, *but)
    ]
