"""What happens when a conversation comes to a node, one function for each kind.

Each returns where to go on, as `ivr.flow.run` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from ivr.flow import asking, schema, spoken
from ivr.flow.events import Enqueue, Fetch, Record, SetTimer, Transfer
from ivr.flow.expr import Compiled, Hole, Prompt, clean_value
from ivr.flow.run import DEPTH_LIMIT, Run
from ivr.flow.state import Frame, Place
from ivr.model import ConversationStatus

_PRIORITIES = range(-100, 101)


def _say(run: Run, node: schema.SayNode) -> str | None:
    run.say(node.prompt)
    return node.then


def _set(run: Run, node: schema.SetNode) -> str | None:
    for slot, compiled in node.values:
        run.fill(slot, run.evaluate(compiled))
    return node.then


def _when(run: Run, node: schema.WhenNode) -> str | None:
    for number, (condition, target) in enumerate(node.cases, 1):
        if run.evaluate(condition) is True:
            run.note("branched", node=node.name, way=str(number))
            return target
    run.note("branched", node=node.name, way="else")
    return node.then


def _hours(run: Run, node: schema.HoursNode) -> str | None:
    calendar = run.facts.calendars.get(node.calendar)
    if calendar is None:
        # Rather a queue that says nobody is there than a door that is shut for ever.
        run.note("calendar_missing", calendar=node.calendar)
        return node.open
    ways = {"open": node.open, "closed": node.closed, "holiday": node.holiday}
    way = calendar.at(run.now)
    run.note("branched", node=node.name, way=way)
    return ways[way]


def _language(run: Run, node: schema.LanguageNode) -> str | None:
    wanted = node.to.render(run.names(), run.state.language, voice=False)
    if wanted in run.flow.languages:
        run.change(language=wanted)
        run.note("language_switched", language=wanted)
    else:
        run.note("language_unknown", language=wanted)
    return node.then


def _queue(run: Run, node: schema.QueueNode) -> str | None:
    place, depth = run.state.place, len(run.state.frames)
    if place is None or (place.node, place.depth) != (node.name, depth):
        run.leave_queue()
        place = Place(run.new_id("queue"), node.name, depth)
    priority = run.evaluate(node.priority) if node.priority else 0
    if isinstance(priority, bool) or not isinstance(priority, int | float):
        priority = 0
    priority = int(max(_PRIORITIES[0], min(_PRIORITIES[-1], priority)))
    run.change(place=place, status=ConversationStatus.QUEUED.value, turn=run.state.turn + 1)
    run.wait("queue", place.id)
    run.emit(Enqueue(place.id, node.skills, priority, _pop(run, node), run.state.language))
    if node.offer_wait and not place.offered:
        run.emit(SetTimer(f"{place.id}-offer", node.offer_wait))
    run.note("queued", id=place.id, skills=list(node.skills), priority=priority)
    asking.listen_meanwhile(run)
    return None


def _pop(run: Run, node: schema.QueueNode) -> tuple[tuple[str, str], ...]:
    shown = []
    for path in node.pop:
        value: Any = run.names()
        for step in path:
            value = value.get(step) if isinstance(value, Mapping) else None
        if value is not None:
            shown.append((".".join(path), clean_value(_plain(value))))
    return tuple(shown)


def _fetch(run: Run, node: schema.FetchNode) -> str | None:
    run.wait("fetch", run.new_id("fetch"))
    return send_fetch(run, node)


def send_fetch(run: Run, node: schema.FetchNode) -> str | None:
    """Ask the system, as the id that is waited for; go on without it where that cannot be asked."""
    names = {**run.names(), **run.frame.secrets}
    path = _url(node.path, run.names())
    headers = {name: _header(template, names) for name, template in node.headers.items()}
    if path is None or None in headers.values():
        return fetch_failed(run, node, "a value that the request needs is unset or cannot be sent")
    run.emit(
        Fetch(
            id=run.state.waiting.id,
            method=node.method,
            system=node.system,
            path=path,
            timeout=node.timeout,
            headers={name: text for name, text in headers.items() if text is not None},
            json=_json(run, node.json, names),
        )
    )
    return None


def fetch_failed(run: Run, node: schema.FetchNode, reason: str) -> str:
    """Go on without an answer."""
    run.note("fetch_failed", system=node.system, reason=reason)
    if node.into:
        run.fill(node.into, None)
    return node.otherwise or node.then


def _url(path: Prompt, names: Mapping[str, Any]) -> str | None:
    """The path behind the system's name, values quoted; None if one is unset or would climb."""
    parts = []
    for part in path.parts[1:]:
        if isinstance(part, str):
            parts.append(part)
            continue
        text = _hole(part, names)
        if not text.strip("."):
            return None
        parts.append(quote(text, safe=""))
    return "".join(parts) or "/"


def _header(template: Prompt, names: Mapping[str, Any]) -> str | None:
    text = "".join(part if isinstance(part, str) else _hole(part, names) for part in template.parts)
    return text if text.isprintable() and text.isascii() else None


def _hole(hole: Hole, names: Mapping[str, Any]) -> str:
    value: Any = names
    for step in hole.path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return _plain(value)


def _plain(value: Any) -> str:
    """A value as other systems and people's screens read it."""
    if value is None or isinstance(value, Mapping):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return spoken.plain(value, "en")
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value[:20])
    return str(value)


def _json(run: Run, template: Any, names: Mapping[str, Any]) -> Any:
    if isinstance(template, Compiled):
        return run.evaluate(template, names)
    if isinstance(template, Mapping):
        return {key: _json(run, value, names) for key, value in template.items()}
    if isinstance(template, list):
        return [_json(run, value, names) for value in template]
    return template


def _transfer(run: Run, node: schema.TransferNode) -> str | None:
    if not run.voice:
        run.note("transfer_ended", to=node.to, outcome="not_a_call")
        return node.otherwise
    run.wait("transfer", run.new_id("transfer"))
    run.emit(transfer(run, node))
    run.note("transferring", to=node.to)
    return None


def transfer(run: Run, node: schema.TransferNode) -> Transfer:
    """The connection that is being waited for."""
    return Transfer(run.state.waiting.id, node.to, node.ring)


def _record(run: Run, node: schema.RecordNode) -> str | None:
    run.wait("record", run.new_id("record"))
    take_record(run, node)
    return None


def take_record(run: Run, node: schema.RecordNode) -> None:
    """Ask for the message, as the id that is waited for."""
    run.change(turn=run.state.turn + 1)
    run.say(node.ask)
    run.emit(Record(run.state.waiting.id, node.maximum))


def _call(run: Run, node: schema.CallNode) -> str | None:
    if len(run.state.frames) >= DEPTH_LIMIT:
        run.note("call_refused", flow=node.flow, reason=f"more than {DEPTH_LIMIT} flows deep")
        return node.otherwise
    given = {name: run.evaluate(compiled) for name, compiled in node.given}
    frame = Frame(node.flow, slots=run.initial_slots(node.flow))
    run.change(frames=(*run.state.frames, frame))
    for name, value in given.items():
        run.fill(name, value)
    run.note("flow_called", flow=node.flow)
    return run.flow.start


def come_back(run: Run, outcome: str) -> str | None:
    """The running flow is at its end: return to the one that called it, or end it all."""
    if len(run.state.frames) == 1:
        run.end(outcome)
        return None
    inner = run.names()
    caller = run.state.frames[-2]
    node = run.bundle.flows[caller.flow].nodes[caller.node]
    taken = node.taken if isinstance(node, schema.CallNode) else ()
    values = [(name, run.evaluate(compiled, inner)) for name, compiled in taken]
    run.note("flow_returned", flow=run.frame.flow, outcome=outcome)
    run.unwind(len(run.state.frames) - 1)
    for name, value in values:
        run.fill(name, value)
    if outcome != "completed" and node.otherwise:
        return node.otherwise
    return node.then


def _end(run: Run, node: schema.EndNode) -> str | None:
    run.say(node.prompt)
    return come_back(run, node.outcome)


ENTER: Mapping[type, Callable[[Run, Any], str | None]] = {
    schema.SayNode: _say,
    schema.MenuNode: asking.begin,
    schema.CollectNode: asking.begin,
    schema.ConfirmNode: asking.begin,
    schema.SetNode: _set,
    schema.WhenNode: _when,
    schema.HoursNode: _hours,
    schema.LanguageNode: _language,
    schema.FetchNode: _fetch,
    schema.OfferNode: asking.begin,
    schema.QueueNode: _queue,
    schema.TransferNode: _transfer,
    schema.RecordNode: _record,
    schema.CallNode: _call,
    schema.EndNode: _end,
}

LEAVES_QUEUE = (
    schema.MenuNode,
    schema.CollectNode,
    schema.ConfirmNode,
    schema.TransferNode,
    schema.RecordNode,
)
"""Kinds that a customer who waits in line has chosen instead of waiting."""
