"""One caller and whom they are connected with: ringing, talk, hold, consultation, conference.

The caller's channel runs one of our AGI commands after the other: Dial, Bridge, ConfBridge, or our
music over AudioSocket. Agents' channels are moved by the manager's Redirect into the dialplan's
[hotline-talk], where they wait or ring somebody else; who leaves the caller's bridge so ends the
command there, and the next one follows. So a caller never depends on the manager link: without it
nobody can be put on hold, but whoever is comes back, and no hang-up leaves anybody alone.

What an agent is told of all this is the matter of `ivr.telephony.following`.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable

import structlog

from ivr.errors import HotlineError, TelephonyError
from ivr.ports import ActionOutcome, Answered, Held, Muted
from ivr.telephony.asterisk import ActionRefused
from ivr.telephony.following import At, CallersChannel, Errand, Following, Party, Plan, Switch

log = structlog.get_logger(__name__)

AGENT = "HOTLINE_AGENT"
"""The caller's channel variable that outlives a server: whose call this is while it is on hold."""

TRANSFER = "HOTLINE_TRANSFER"
"""The one that says which transfer of a flow the channel's DIALSTATUS is about."""

_CONSULT = "HOTLINE_CONSULT"
_PLACES = "hotline-talk"
"""The dialplan's context in which agents are apart from their callers."""

_DONE = ActionOutcome("done")
_NOBODY = ActionOutcome("refused", "nobody is on the line")
_CONSULTING = ActionOutcome("refused", "you are consulting somebody")
_UNKNOWN = ActionOutcome("unknown", "the link to the telephone system was lost")

_SETTLE_SECONDS = 5.0
_GRACE_SECONDS = 0.3
"""A channel that has hung up is still listed for a moment."""

_ELSEWHERE_RINGS = 30.0
_KEY_MILLISECONDS = 120
_FAULTS_BORNE = 3
_PARK_FAILS_WITHIN = 1.0

_OUTCOMES = {
    "ANSWER": "talked",
    "NOANSWER": "no_answer",
    "BUSY": "busy",
    "CHANUNAVAIL": "unavailable",
    "CONGESTION": "unavailable",
    "CANCEL": "gone",
}
"""Asterisk's DIALSTATUS in the words of `ivr.ports.CallControl`."""


class After(enum.Enum):
    """What becomes of the caller when a talk is over."""

    FLOW = "goes on with the flow"
    FAILED = "wanted somebody else, who did not answer"
    END = "has had the talk that was to be the last"
    LEFT = "was sent elsewhere by a telephone's own keys"
    RETURNS = "is sent back by the dialplan, from a parking place"


class Talk(Following):
    """The errand of one caller, from the ringing until the caller is free."""

    def __init__(self, switch: Switch, line: CallersChannel, errand: Errand):
        super().__init__(switch, line, errand)
        self._order = asyncio.Lock()
        self._mute_doubted = False

    # --- the caller's channel --------------------------------------------------------------------

    async def run(self) -> After:
        """Ring, connect, and do what is ordered until it is over. Raises CallGone."""
        errand, call = self.errand, self._line.call
        await call.set_variable(TRANSFER, errand.transfer)
        if errand.called_off:
            self._settle("no_answer")
            return After.FLOW
        unsubscribe = self._switch.ami.subscribe(self._follow)
        try:
            target = await self._switch.reachable(errand.target, call.get_variable)
            # g: go on in this channel when the agent hangs up first.
            await call.execute("Dial", target, f"{errand.seconds:g}", "g")
            status = await call.get_variable("DIALSTATUS")
            outcome = _OUTCOMES.get(status, "unavailable")
            if outcome == "talked" and not self.answered and not errand.called_off:
                # The manager link was down when the agent answered.
                errand.notify(Answered(errand.extension))
            after = After.FLOW
            if outcome == "talked" and not errand.transfer:
                after = await self._go_on()
            self._settle(outcome)
            return after
        finally:
            unsubscribe()
            self._line.recording.part()
            self._switch.spawn(self._stir())

    async def _go_on(self) -> After:
        """Everything after the first command has ended."""
        faults = 0
        while not self._line.finished and not self._left:
            plan = self._plan
            self._change.clear()
            if plan is Plan.ELSEWHERE:
                return await self._send_elsewhere()
            if plan is Plan.PARK:
                if (after := await self._park()) is not None:
                    return after
                continue
            if plan is Plan.ROOM:
                await self._meet()
                continue
            if plan is Plan.OTHER and self._other is not None:
                if not await self._talk_with(self._other):
                    self._plan = Plan.AGENT
                    self._consult_over()
                continue
            alive = await self._alive(self.agent)
            if plan is Plan.OVER and alive:
                await asyncio.sleep(_GRACE_SECONDS)
                alive = await self._alive(self.agent)
                if alive:  # pulled away by an order that we gave up as lost
                    plan = Plan.AGENT
            if plan is Plan.OVER or not alive:
                break
            if plan is Plan.WAIT:
                await self._wait()
            elif not await self._talk_with(self.agent):
                faults += 1
                if faults > _FAULTS_BORNE:
                    break
        return After.LEFT if self._left else After.FLOW

    async def _alive(self, party: Party) -> bool:
        """Asked over AGI, which does not need the manager."""
        if not party.channel:
            return False
        reply = await self._line.call.command("CHANNEL", "STATUS", party.channel)
        return reply.result != "-1"

    async def _wait(self) -> None:
        call = self._line.call
        self._line.recording.part()
        await call.set_variable(AGENT, self.agent.channel)
        self._enter(At.MUSIC)

        def began() -> None:
            if not self._held:
                self._held = True
                self._tell(Held(True))

        await self._line.listen_to_music(began, self._change)

    async def _talk_with(self, party: Party) -> bool:
        """Until one of them leaves; whether they were connected at all."""
        call = self._line.call
        await call.set_variable(AGENT, "")
        self._plan, self._with, self._connected_told = Plan.OVER, party, False
        self._enter(At.TALK)
        await call.execute("Bridge", party.channel)
        connected = await call.get_variable("BRIDGERESULT") == "SUCCESS"
        if connected and not self._connected_told:
            self._connected()  # the manager link was down
        self._connected_told = True
        return connected

    async def _meet(self) -> None:
        self._plan, self._connected_told = Plan.OVER, False
        self._enter(At.ROOM)
        await self._line.call.execute(
            "ConfBridge", self._line.leg.id, "hotline", "hotline-customer"
        )

    async def _send_elsewhere(self) -> After:
        self._enter(At.AWAY)
        self._settle("transferred")
        call = self._line.call
        target = await self._switch.reachable(self._target, call.get_variable)
        await call.execute("Dial", target, f"{_ELSEWHERE_RINGS:g}", "g")
        answered = await call.get_variable("DIALSTATUS") == "ANSWER"
        return After.END if answered else After.FAILED

    async def _park(self) -> After | None:
        loop = asyncio.get_running_loop()
        self._plan = Plan.AGENT
        self._enter(At.AWAY)
        began = loop.time()
        reply = await self._line.call.command("EXEC", "Park", "", deadline=None)
        if not self._parked and loop.time() - began < _PARK_FAILS_WITHIN:
            self._park_failed = True
            return None  # no place is free: back to the agent
        self._settle("transferred")
        return After.RETURNS if reply.result == "0" else After.END

    def _enter(self, at: At) -> None:
        self._at = at
        self._switch.spawn(self._stir())

    # --- orders ----------------------------------------------------------------------------------

    async def hold(self, on: bool) -> ActionOutcome:
        async with self._order:
            if self._consulting:
                return _CONSULTING
            if self._at is At.MUSIC:
                if on:
                    return _DONE
                self._then(Plan.AGENT)
                return await self._until(lambda: self._at is At.TALK and not self._held)
            if not self._talking:
                return _NOBODY
            if on:
                outcome = await self._pull("held", Plan.WAIT)
                return await self._until(lambda: self._held) if outcome == _DONE else outcome
            if self._phone_held:
                return ActionOutcome("refused", "the call is held on the telephone: retrieve there")
            return _DONE

    async def mute(self, on: bool) -> ActionOutcome:
        async with self._order:
            if not (self._talking or self._at is At.MUSIC):
                return _NOBODY
            outcome = await self._act(
                "MuteAudio",
                Channel=self.agent.channel,
                Direction="in",
                State="on" if on else "off",
            )
            if outcome == _DONE:
                self.muted, self._mute_doubted = on, False
                self._tell(Muted(on))
            self._mute_doubted = self._mute_doubted or outcome == _UNKNOWN
            return outcome

    async def press(self, digits: str) -> ActionOutcome:
        async with self._order:
            if not self._talking:
                return _NOBODY
            for digit in digits:
                outcome = await self._act(
                    "PlayDTMF",
                    Channel=self._line.leg.reference,
                    Digit=digit,
                    Duration=_KEY_MILLISECONDS,
                )
                if outcome != _DONE:
                    return outcome
                await asyncio.sleep(_KEY_MILLISECONDS / 2000)
            return _DONE

    async def park(self) -> ActionOutcome:
        async with self._order:
            if self._consulting:
                return _CONSULTING
            self._park_failed = False
            if self._at is At.MUSIC:
                self._then(Plan.PARK)
            elif not self._talking:
                return _NOBODY
            elif (outcome := await self._pull("held", Plan.PARK)) != _DONE:
                return outcome
            outcome = await self._until(lambda: self._parked or self._park_failed)
            if outcome == _DONE and not self._parked:
                return ActionOutcome("refused", "no parking place is free")
            return outcome

    async def send_to(self, number: str) -> ActionOutcome:
        async with self._order:
            target = self._switch.route(number)
            if target is None:
                return ActionOutcome("refused", f"there is no way to {number}")
            if self._consulting:
                return _CONSULTING
            if not self._talking and self._at is not At.MUSIC:
                return _NOBODY
            before, self._plan, self._target = self._plan, Plan.ELSEWHERE, target
            outcome = await self._act("Hangup", Channel=self.agent.channel)
            if outcome.result == "refused":
                self._plan = before
            return outcome

    async def let_go(self) -> ActionOutcome:
        async with self._order:
            if not self._talking and self._at is not At.MUSIC:
                return _NOBODY
            if self._other is not None:
                await self._switch.hang_up_channel(self._other.unique_id)
            return await self._act("Hangup", Channel=self.agent.channel)

    async def consult(self, number: str) -> ActionOutcome:
        async with self._order:
            if self._consulting:
                return _CONSULTING
            if not self._talking and self._at is not At.MUSIC:
                return _NOBODY
            target = self._switch.route(number)
            if target is None:
                return ActionOutcome("refused", f"there is no way to {number}")
            try:
                target = await self._switch.reachable(target, self._switch.asked)
            except HotlineError as error:
                return ActionOutcome("refused", str(error))
            outcome = await self._act(
                "Setvar", Channel=self.agent.channel, Variable=_CONSULT, Value=target
            )
            if outcome != _DONE:
                return outcome
            self._other = Party(number)
            outcome = await self._pull("consult", Plan.WAIT)
            if outcome.result == "refused":
                self._other = None
            return outcome

    async def complete(self) -> ActionOutcome:
        async with self._order:
            other = self._other
            if other is None:
                return ActionOutcome("refused", "nobody is being consulted")
            if self._at is At.ROOM:
                return await self._act("Hangup", Channel=self.agent.channel)
            if not other.up or self._at is not At.MUSIC:
                return ActionOutcome("refused", f"{other.number} has not answered yet")
            self._then(Plan.OTHER)
            outcome = await self._until(lambda: self._other is not other)
            if outcome == _DONE and self.agent is not other:
                return ActionOutcome("refused", f"{other.number} has hung up")
            return outcome

    async def cancel(self) -> ActionOutcome:
        async with self._order:
            other = self._other
            if other is None:
                return ActionOutcome("refused", "nobody is being consulted")
            if self._at is At.ROOM:
                return await self._act("Hangup", Channel=other.unique_id)
            # Bridged with the caller, the agent leaves the other, whose call ends with that.
            self._then(Plan.AGENT)
            return await self._until(lambda: self._at is At.TALK and not self._held)

    async def join(self) -> ActionOutcome:
        async with self._order:
            other = self._other
            if other is None or not other.up or self._at is not At.MUSIC:
                return ActionOutcome("refused", "nobody is there to join the call")
            place = {"Context": _PLACES, "Exten": f"room-{self._line.leg.id}", "Priority": "1"}
            outcome = await self._act(
                "Redirect",
                Channel=self.agent.channel,
                ExtraChannel=other.channel,
                **place,
                **{f"Extra{key}": value for key, value in place.items()},
            )
            if outcome != _DONE:
                return outcome
            self._then(Plan.ROOM)
            return await self._until(lambda: self._at is At.ROOM and not self._held)

    def _take_stock(self) -> None:
        super()._take_stock()
        if self._mute_doubted:  # nobody can be asked: make it what the agent was shown
            self._mute_doubted = False
            self._switch.spawn(self.mute(self.muted))

    @property
    def _talking(self) -> bool:
        return self._at in (At.TALK, At.ROOM) and bool(self.agent.channel)

    @property
    def _consulting(self) -> bool:
        return self._other is not None

    async def _act(self, name: str, **fields: str | int) -> ActionOutcome:
        """Give the manager one order, once."""
        try:
            await self._switch.ami.action(name, **fields)
        except ActionRefused as error:
            return ActionOutcome("refused", str(error))
        except TelephonyError:
            return _UNKNOWN
        except HotlineError as error:
            return ActionOutcome("refused", str(error))
        return _DONE

    async def _pull(self, place: str, plan: Plan) -> ActionOutcome:
        """Move the agent's channel away; the caller's command ends with that."""
        before, self._plan = self._plan, plan
        outcome = await self._act(
            "Redirect", Channel=self.agent.channel, Context=_PLACES, Exten=place, Priority=1
        )
        if outcome.result == "refused" and self._plan is plan:
            self._then(before)
        return outcome

    async def _until(self, condition: Callable[[], bool]) -> ActionOutcome:
        """Until Asterisk has told that it is so."""
        over = self.errand.outcome
        async with self._moved:
            try:
                async with asyncio.timeout(_SETTLE_SECONDS):
                    await self._moved.wait_for(lambda: condition() or over.done())
            except TimeoutError:
                return _UNKNOWN
        return _DONE if condition() else ActionOutcome("refused", "the call is over")

    # --- the end ---------------------------------------------------------------------------------

    def call_off(self) -> None:
        """Stop the ringing; nothing is notified any more."""
        self.errand.called_off = True
        for channel in (*self.errand.ringing.values(), self.agent.channel):
            if channel:
                self._switch.spawn(self._switch.hang_up_channel(channel))

    def dismiss(self) -> None:
        """The caller is gone: whoever still waits for them need not."""
        if self._at in (At.MUSIC, At.ROOM, At.TALK):
            for party in (self._other, self.agent):
                if party is not None and party.unique_id:
                    self._switch.spawn(self._switch.hang_up_channel(party.unique_id))
