"""The flow engine: a pure function from a state and an event to the next state and what to do.

`start` and `advance` do no I/O and read no clock, and they are total: whatever event comes in
whatever state (late, doubled, for another turn, nonsense), the answer is a state and effects, never
an exception. An event that does not fit what is being waited for changes nothing.

The `Note` effects of one step tell the timeline what was decided; their kinds:

    node_entered {node, flow}            matched {choice, node, confidence, how}
    branched {node, way}                 (the number of the `if`, `else`, or `open`, `closed`…)
    slot_filled {slot, value | secret, confidence, how}
    no_input, no_match {node, count}     tries_used_up {node, misses}
    confirming, confirmed, refused, corrected {choice | slots | command}
    keys_only {node}                     commanded {command, confidence, how}
    language_switched {language}         language_unknown {language}
    queued {id, skills, priority}        left_queue {id}
    agent_joined, agent_left {agent}     queue_failed {reason}
    fetch_failed {system, reason}        fetch_answered {system, status}
    channel_invited {channel}            channel_moved {from, to, mode}
    channel_failed {channel, reason}     channel_left {channel, cause}
    transferring {to}                    transfer_ended {to, outcome}
    message_taken {slot, seconds}        calendar_missing {calendar}
    flow_called {flow}, flow_returned {flow, outcome}, call_refused {flow, reason}
    redial_offered {node}, redial_taken {node}, redial_declined
    expression_failed {expression, reason}, value_dropped {reason}, stuck {node}, mismatch {flow}
    flow_ended {outcome}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from ivr.flow import answering, asking, commands, invitations, nodes, redial, schema
from ivr.flow.events import (
    TAKEN_OVER,
    AgentJoined,
    AgentLeft,
    ChannelFailed,
    ChannelLive,
    DigitsPressed,
    Effect,
    End,
    Event,
    FetchAnswered,
    HungUp,
    Leave,
    Note,
    QueueFailed,
    QueueMoved,
    Recorded,
    Resumed,
    Say,
    SetTimer,
    SpeechHeard,
    Started,
    TextReceived,
    TimedOut,
    TimerFired,
    TransferEnded,
)
from ivr.flow.facts import NOTHING, Facts
from ivr.flow.run import AGAIN, Run
from ivr.flow.schema import Bundle
from ivr.flow.standing import where
from ivr.flow.state import Frame, Question, State, Taken, Waiting
from ivr.model import ConversationStatus

STEP_LIMIT = 1_000
"""Nodes that may be passed without waiting; more is a loop that the designer did not see."""

TEXT_LIMIT = 4_000

SURE = 0.7
"""A recogniser's confidence from which on a global phrase outside of any question counts."""


def start(
    bundle: Bundle, started: Started, now: datetime, facts: Facts = NOTHING
) -> tuple[State, tuple[Effect, ...]]:
    """Begin the bundle's flow for a customer who has arrived."""
    flow = bundle.flows[bundle.entry]
    state = State(
        version=bundle.version,
        language=_known_language(started.language, flow.languages),
        channel=started.channel,
        channels=(started.channel,),
        address=started.address,
        dialled=started.dialled,
        frames=(Frame(flow.name),),
    )
    run = Run(bundle, state, now, facts)
    if started.dropped is None or not redial.offer(run, started.dropped):
        _go(run, commands.restart(run))
    return run.state, tuple(run.effects)


def advance(
    bundle: Bundle, state: State, event: Event, now: datetime, facts: Facts = NOTHING
) -> tuple[State, tuple[Effect, ...]]:
    """Take one event. `bundle` should be the one that the state began with."""
    if state.status == ConversationStatus.ENDED:
        # Whoever comes back after the end is shown out.
        return state, (End(state.outcome),) if isinstance(event, Resumed) else ()
    run = Run(bundle, state, now, facts)
    if not _fits(bundle, state):
        _misfit(run, event)
        return run.state, tuple(run.effects)
    take = _EVENTS.get(type(event))
    if take is not None:
        _go(run, take(run, event))
    return run.state, tuple(run.effects)


def _known_language(wanted: str, languages: tuple[str, ...]) -> str:
    if wanted in languages:
        return wanted
    family = wanted.split("-")[0]
    return next((one for one in languages if family and one.split("-")[0] == family), languages[0])


def _fits(bundle: Bundle, state: State) -> bool:
    """Whether the state is of this bundle."""
    return (
        state.version == bundle.version
        and bool(state.frames)
        and all(
            frame.flow in bundle.flows and frame.node in bundle.flows[frame.flow].nodes
            for frame in state.frames
        )
    )


def _misfit(run: Run, event: Event) -> None:
    """Nothing in the state need mean anything in this bundle: begin anew, with people if possible.

    What happened is let go with it, unless it is that the customer left.
    """
    run.note("mismatch", flow=run.state.flow)
    run.leave_queue()
    run.change(
        version=run.bundle.version, frames=(Frame(run.bundle.entry),), left_at=None, taken=None
    )
    if isinstance(event, HungUp):
        _leave_channel(run, event)
    if run.state.status != ConversationStatus.ENDED:
        _go(run, run.to_people() or commands.restart(run))


def _go(run: Run, name: str | None) -> None:
    """Pass from node to node until one waits or the flow is over."""
    steps = 0
    while name is not None:
        steps += 1
        if steps > STEP_LIMIT:
            _stuck(run)
            return
        if name == AGAIN:
            _put_again(run)
            return
        if name == "":
            name = nodes.come_back(run, "completed")
            continue
        node = run.flow.nodes[name]
        run.enter(name)
        if isinstance(node, nodes.LEAVES_QUEUE):
            run.leave_queue()
        name = nodes.ENTER[type(node)](run, node)


def _put_again(run: Run) -> None:
    """Ask once more what is asked now, without counting a miss."""
    match run.state.waiting.kind:
        case "redial":
            redial.ask(run)
        case "queue":
            _tell_place(run)
            asking.listen_meanwhile(run)
        case _:
            asking.put_again(run)


def _stuck(run: Run) -> None:
    """The flow goes in circles: what it said on the way is dropped, and people take over."""
    run.effects = [effect for effect in run.effects if not isinstance(effect, Say | Note)]
    run.note("stuck", node=run.frame.node)
    people = run.to_people()
    if people:
        run.enter(people)
        nodes.ENTER[schema.QueueNode](run, run.flow.nodes[people])
    else:
        run.say_own("leave")
        run.end("stuck")


# --- what customers do --------------------------------------------------------------------------


def _late(run: Run, turn: int | None) -> bool:
    return turn is not None and turn != run.state.turn


def _digits_pressed(run: Run, event: DigitsPressed) -> str | None:
    node = asking.asking_node(run)
    if _late(run, event.turn):
        return None
    if run.state.waiting.kind == "redial":
        return redial.pressed(run, event.digits)
    if run.state.waiting.kind != "answer" or node is None:
        return None
    return answering.pressed(run, node, event.digits)


def _speech_heard(run: Run, event: SpeechHeard) -> str | None:
    if _late(run, event.turn):
        return None
    readings = ((event.text, event.confidence), *event.alternatives[:8])
    cut = tuple((text[:TEXT_LIMIT], _probability(sure)) for text, sure in readings)
    node = asking.asking_node(run)
    if run.state.waiting.kind == "answer" and node is not None:
        return answering.heard(run, node, cut)
    if run.state.waiting.kind == "redial":
        return redial.heard(run, *cut[0])
    return _commanded(run, *cut[0], "speech")


def _probability(confidence: float) -> float:
    """A recogniser's confidence within 0…1; what is no number is no confidence."""
    return min(confidence, 1.0) if confidence > 0 else 0.0


def _text_received(run: Run, event: TextReceived) -> str | None:
    if _late(run, event.turn):
        return None
    text = event.text[:TEXT_LIMIT]
    node = run.flow.nodes[run.frame.node]
    if run.state.waiting.kind == "answer" and (asked := asking.asking_node(run)):
        return answering.typed(run, asked, text)
    if run.state.waiting.kind == "record" and isinstance(node, schema.RecordNode) and text.strip():
        return _message(run, node, text, 0.0)
    if run.state.waiting.kind == "redial":
        return redial.heard(run, text, 1.0, "text")
    return _commanded(run, text, 1.0, "text")


def _commanded(run: Run, text: str, confidence: float, how: str) -> str | None:
    """Outside of questions only the global phrases count, while there is a flow to steer."""
    if run.state.waiting.kind not in ("invite", "queue"):
        return None
    command = commands.understood(run, text) if confidence >= SURE else ""
    if not command:
        if run.voice and how == "speech":  # the ear that heard this has closed
            asking.listen_meanwhile(run)
        return None
    run.note("commanded", command=command, confidence=confidence, how=how)
    return commands.carry_out(run, command, text)


def _timed_out(run: Run, event: TimedOut) -> str | None:
    if _late(run, event.turn):
        return None
    if run.state.waiting.kind == "invite":
        return invitations.not_arrived(run, "timeout")
    if run.state.waiting.kind == "redial":
        return redial.missed(run, "no_input")
    node = asking.asking_node(run)
    if run.state.waiting.kind != "answer" or node is None:
        return None
    return answering.missed(run, node, "no_input")


def _hung_up(run: Run, event: HungUp) -> str | None:
    return _resume(run) if _leave_channel(run, event) else None


def _leave_channel(run: Run, event: HungUp) -> bool:
    """The customer is gone from a channel; whether they are now asked on another one."""
    state = run.state
    gone = event.channel or state.channel
    left = tuple(channel for channel in state.channels if channel != gone)
    run.note("channel_left", channel=gone, cause=event.cause)
    if not left:
        dropped = where(run.bundle, state)
        run.change(channels=())
        run.leave_queue()
        run.over("hung_up")
        run.change(left_at=dropped)
        return False
    run.change(channels=left)
    if gone != state.channel:
        return False
    run.change(channel=left[-1])
    return True


# --- what other people and systems do -----------------------------------------------------------


def _fetch_answered(run: Run, event: FetchAnswered) -> str | None:
    node, taken = run.flow.nodes[run.frame.node], run.state.taken
    if not isinstance(node, schema.FetchNode):
        return None
    if taken is not None and (taken.waiting.kind, taken.waiting.id) == ("fetch", event.id):
        # A person speaks now: the flow goes on from here when they are done.
        way = _fetched(run, node, event)
        run.change(taken=replace(taken, waiting=Waiting("node", way)))
        return None
    return _fetched(run, node, event) if _awaited(run, "fetch", event.id) else None


def _fetched(run: Run, node: schema.FetchNode, event: FetchAnswered) -> str:
    if event.error or not 200 <= event.status < 300:
        return nodes.fetch_failed(run, node, event.error[:200] or f"status {event.status}")
    run.note("fetch_answered", system=node.system, status=event.status)
    value = run.bounded(event.json)
    if value is None and event.json is not None:
        return nodes.fetch_failed(run, node, "the answer is too large or no JSON")
    if node.into:
        run.fill(node.into, value)
    return node.then


def _awaited(run: Run, kind: str, effect_id: str) -> bool:
    return (run.state.waiting.kind, run.state.waiting.id) == (kind, effect_id)


def _queue_node(run: Run) -> schema.QueueNode | None:
    """The node of the customer's place in line, of the flow that is at its depth."""
    place = run.state.place
    if place is None or place.depth > len(run.state.frames):
        return None
    node = run.bundle.flows[run.state.frames[place.depth - 1].flow].nodes.get(place.node)
    return node if isinstance(node, schema.QueueNode) else None


def _queue_moved(run: Run, event: QueueMoved) -> str | None:
    place, node = run.state.place, _queue_node(run)
    if place is None or node is None or not _awaited(run, "queue", event.id):
        return None
    if not run.voice and event.ahead == place.ahead:
        return None
    run.change(place=replace(place, ahead=event.ahead))
    _tell_place(run, event.wait, event.waited)
    return None


def _tell_place(run: Run, wait: float = -1.0, waited: float | None = None) -> None:
    """Say how far the line has come, as far as is known."""
    place, node = run.state.place, _queue_node(run)
    if place is None or node is None or place.ahead < 0:
        return
    known = wait >= 0
    told = {
        "ahead": place.ahead,
        "position": place.ahead + 1,
        "wait": wait if known else None,
        "waited": waited,
    }
    run.say(node.waiting if known else node.waiting_unknown, told)


def _queue_failed(run: Run, event: QueueFailed) -> str | None:
    place, node = run.state.place, _queue_node(run)
    if place is None or node is None or place.id != event.id or run.state.waiting.kind == "person":
        return None
    run.note("queue_failed", id=place.id, reason=event.reason)
    run.emit(SetTimer(f"{place.id}-offer", 0))
    run.change(place=None, status=ConversationStatus.FLOW.value)
    if run.state.waiting.kind != "queue":
        # An offer is being made; if it is declined the queue is tried anew.
        return None
    if node.otherwise:
        return node.otherwise
    run.say_own("leave")
    run.end("not_served")
    return None


def _agent_joined(run: Run, event: AgentJoined) -> str | None:
    state, place = run.state, run.state.place
    if state.waiting.kind == "person":
        return None
    if place is not None and place.id == event.id:
        run.emit(SetTimer(f"{place.id}-offer", 0))
    elif event.id.startswith(TAKEN_OVER):
        run.change(taken=Taken(state.waiting, state.question))
    else:
        return None
    run.note("agent_joined", agent=event.agent)
    run.wait("person", event.id)
    run.change(status=ConversationStatus.PERSON.value, turn=run.state.turn + 1, question=Question())
    return None


def _agent_left(run: Run, event: AgentLeft) -> str | None:
    place, node = run.state.place, _queue_node(run)
    if run.state.taken is not None:
        return _given_back(run, run.state.taken, event)
    if place is None or node is None or place.id != event.id:
        return None
    if run.state.waiting.kind not in ("person", "queue"):
        return None
    # In the queue it is the answer to a customer who asked for a place that is served already: the
    # talk went on while we were away.
    run.note("agent_left", agent=event.agent)
    run.emit(SetTimer(f"{place.id}-offer", 0))
    run.unwind(place.depth)
    run.change_frame(node=node.name)
    run.change(place=None, status=ConversationStatus.FLOW.value)
    return node.then


def _given_back(run: Run, taken: Taken, event: AgentLeft) -> str | None:
    """The flow comes back to what it was interrupted in."""
    if not _awaited(run, "person", event.id):
        return None
    run.note("agent_left", agent=event.agent)
    in_line = run.state.place is not None
    status = ConversationStatus.QUEUED if in_line else ConversationStatus.FLOW
    run.change(taken=None, waiting=taken.waiting, question=taken.question, status=status.value)
    return taken.waiting.id if taken.waiting.kind == "node" else _resume(run)


def _channel_live(run: Run, event: ChannelLive) -> str | None:
    state, waiting = run.state, run.state.waiting
    if event.channel in state.channels:
        return None
    invited = _awaited(run, "invite", event.id)
    node = run.flow.nodes[run.frame.node]
    offer = node if invited and isinstance(node, schema.OfferNode) and not waiting.asked else None
    # A link that is opened late still brings the channel, beside those that there are.
    moves = invited and (offer is None or offer.mode == "move")
    old = state.channel
    channels = tuple(channel for channel in state.channels if not moves or channel != old)
    run.change(channel=event.channel, channels=(*channels, event.channel))
    mode = "move" if moves else "beside"
    run.note("channel_moved", **{"from": old, "to": event.channel, "mode": mode})
    if moves:
        run.emit(Leave(old))
    if offer is not None:
        return offer.then
    if run.state.waiting.kind == "person":
        return None  # who is heard and read on the new channel, too
    return invitations.go_on(run) if invited else _resume(run)


def _channel_failed(run: Run, event: ChannelFailed) -> str | None:
    if not _awaited(run, "invite", event.id):
        return None
    return invitations.not_arrived(run, event.reason)


def _transfer_ended(run: Run, event: TransferEnded) -> str | None:
    node = run.flow.nodes[run.frame.node]
    if not _awaited(run, "transfer", event.id) or not isinstance(node, schema.TransferNode):
        return None
    run.note("transfer_ended", to=node.to, outcome=event.outcome)
    return node.then if event.outcome == "answered" else node.otherwise


def _recorded(run: Run, event: Recorded) -> str | None:
    node = run.flow.nodes[run.frame.node]
    if not _awaited(run, "record", event.id) or not isinstance(node, schema.RecordNode):
        return None
    return _message(run, node, event.reference, event.seconds if event.seconds > 0 else 0.0)


def _message(run: Run, node: schema.RecordNode, content: str, seconds: float) -> str:
    if not content:
        return node.otherwise or node.then
    run.fill(node.slot, content[:TEXT_LIMIT])
    run.note("message_taken", slot=node.slot, seconds=seconds)
    return node.then


def _timer_fired(run: Run, event: TimerFired) -> str | None:
    place, node = run.state.place, _queue_node(run)
    if place is None or node is None or event.id != f"{place.id}-offer" or place.offered:
        return None
    if run.state.waiting.kind != "queue":
        return None
    run.change(place=replace(place, offered=True))
    return node.offer_then


# --- coming back --------------------------------------------------------------------------------


def _resumed(run: Run, event: Resumed | Started) -> str | None:
    if event.channel not in run.state.channels:
        run.change(channels=(*run.state.channels, event.channel))
    run.change(channel=event.channel)
    return _resume(run)


def _resume(run: Run) -> str | None:
    """Ask again for what is being waited for, without counting a miss and under the same ids."""
    node = run.flow.nodes[run.frame.node]
    match run.state.waiting:
        case Waiting("answer" | "invite" | "redial"):
            return AGAIN
        case Waiting("queue"):
            return run.frame.node
        case Waiting("person") if run.state.taken is None and _queue_node(run) is not None:
            # The person was lost with the call; the place in line brings them back, or another.
            assert run.state.place is not None
            run.unwind(run.state.place.depth)
            return run.state.place.node
        case Waiting("fetch") if isinstance(node, schema.FetchNode):
            return nodes.send_fetch(run, node)
        case Waiting("transfer") if isinstance(node, schema.TransferNode):
            run.emit(nodes.transfer(run, node))
        case Waiting("record") if isinstance(node, schema.RecordNode):
            nodes.take_record(run, node)
        case _:
            pass
    return None


_EVENTS: Mapping[type, Callable[[Run, Any], str | None]] = {
    Started: _resumed,
    Resumed: _resumed,
    DigitsPressed: _digits_pressed,
    SpeechHeard: _speech_heard,
    TextReceived: _text_received,
    TimedOut: _timed_out,
    HungUp: _hung_up,
    FetchAnswered: _fetch_answered,
    QueueMoved: _queue_moved,
    QueueFailed: _queue_failed,
    AgentJoined: _agent_joined,
    AgentLeft: _agent_left,
    ChannelLive: _channel_live,
    ChannelFailed: _channel_failed,
    TransferEnded: _transfer_ended,
    Recorded: _recorded,
    TimerFired: _timer_fired,
}
