"""One step of a conversation while it is taken: the state as it changes, and the effects so far.

What every node kind needs stands here: to say, to note, to know the names that prompts and
expressions see, and to leave. Whatever takes a conversation further returns the name of the node
to go to, "" at the end of the running flow, `AGAIN`, or None when it waits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from ivr.flow import lexicon
from ivr.flow.events import Dequeue, Effect, End, Note, Say, SetTimer
from ivr.flow.expr import Compiled, EvaluationError, parse_prompt
from ivr.flow.facts import Facts
from ivr.flow.schema import Bundle, Flow, Wording
from ivr.flow.standing import standing
from ivr.flow.state import PATH_LIMIT, Frame, Question, State, Waiting
from ivr.model import Channel, ConversationStatus

AGAIN = "again, please"
"""In place of a node's name (which has no spaces): ask once more what is asked now."""

DEPTH_LIMIT = 16
"""The most flows that may wait for one another."""

VALUE_LIMIT = 65_536
"""The most characters, as JSON, that one value of the conversation may have."""

_NO_QUESTION = Question()
_OWN_SENTENCES = {
    (language, occasion): parse_prompt(text)
    for language, sentences in lexicon.SENTENCES.items()
    for occasion, text in sentences.items()
}


class Run:
    """A step under way. `state` is its own copy until it is over; `effects` are in order."""

    __slots__ = ("_names", "bundle", "effects", "facts", "now", "state")

    def __init__(self, bundle: Bundle, state: State, now: datetime, facts: Facts):
        self.bundle = bundle
        self.state = replace(state)
        self.now = now
        self.facts = facts
        self.effects: list[Effect] = []
        self._names: dict[str, Any] | None = None

    # --- where it is ----------------------------------------------------------------------------

    @property
    def frame(self) -> Frame:
        return self.state.frames[-1]

    @property
    def flow(self) -> Flow:
        return self.bundle.flows[self.state.frames[-1].flow]

    @property
    def voice(self) -> bool:
        return self.state.channel == Channel.VOICE

    def change(self, **changes: Any) -> None:
        """Replace fields of the state."""
        # A new State for each of a dozen changes would be most of a step's time; nobody else has
        # this one yet.
        for name, value in changes.items():
            object.__setattr__(self.state, name, value)
        self._names = None

    def change_frame(self, **changes: Any) -> None:
        """Replace fields of the running frame."""
        frames = self.state.frames
        self.change(frames=(*frames[:-1], replace(frames[-1], **changes)))

    def change_question(self, **changes: Any) -> None:
        """Replace fields of the open question."""
        self.change(question=replace(self.state.question, **changes))

    def new_id(self, kind: str) -> str:
        """A name for an effect that is unique within the conversation."""
        self.change(serial=self.state.serial + 1)
        return f"{kind}-{self.state.serial}"

    def wait(self, kind: str, effect_id: str = "", **more: Any) -> None:
        """From now on the flow waits for something."""
        self.change(waiting=Waiting(kind, effect_id, **more))

    # --- values ---------------------------------------------------------------------------------

    def names(self) -> dict[str, Any]:
        """What prompts and expressions see: secrets are not among it, unset slots are null."""
        if self._names is None:
            state, frame, flow = self.state, self.frame, self.flow
            self._names = {
                "caller": state.address,
                "dialled": state.dialled,
                "channel": state.channel,
                "language": state.language,
                **dict.fromkeys(flow.slots),
                **frame.values,
                **frame.slots,
            }
        return self._names

    def evaluate(self, compiled: Compiled, names: Mapping[str, Any] | None = None) -> Any:
        """An expression's value; null, with a note, where it cannot be worked out."""
        try:
            return self.bounded(compiled.evaluate(self.names() if names is None else names))
        except EvaluationError as error:
            # What is worked out for another system may use secrets, and an error may quote them.
            reason = str(error) if names is None else "a value that it uses does not fit"
            self.note("expression_failed", expression=compiled.source, reason=reason)
            return None

    def bounded(self, value: Any) -> Any:
        """A value from outside as plain JSON; null, with a note, where it is too much or none."""
        if value is None or isinstance(value, bool | int):
            return value
        try:
            text = json.dumps(value, allow_nan=False)
            if len(text) <= VALUE_LIMIT:
                return json.loads(text)
            reason = f"larger than {VALUE_LIMIT} characters"
        except (TypeError, ValueError, RecursionError):
            reason = "not JSON"
        self.note("value_dropped", reason=reason)
        return None

    def fill(self, name: str, value: Any) -> None:
        """Set a slot of the running flow, or else a value."""
        frame = self.frame
        slot = self.flow.slots.get(name)
        if slot is None:
            self.change_frame(values={**frame.values, name: value})
        elif slot.secret:
            if self.state.left_at is None:
                self.change(left_at=standing(self.bundle, self.state) or {})
            self.change_frame(secrets={**frame.secrets, name: value})
        else:
            self.change_frame(slots={**frame.slots, name: value})

    def initial_slots(self, flow: str) -> dict[str, Any]:
        """What a flow's slots hold before anything was learned."""
        slots = self.bundle.flows[flow].slots.values()
        return {slot.name: slot.value for slot in slots if not (slot.value is None or slot.secret)}

    # --- effects --------------------------------------------------------------------------------

    def emit(self, *effects: Effect) -> None:
        self.effects += effects

    def note(self, kind: str, /, **body: Any) -> None:
        self.effects.append(Note(kind, body))

    def render(
        self,
        wording: Wording,
        extra: Mapping[str, Any] | None = None,
        *,
        voice: bool | None = None,
    ) -> tuple[str, str, str]:
        """A prompt's text, its language and its template; empty texts where there is none.

        Values are worded for the channel that is asked on, unless `voice` says for which.
        """
        chosen = wording.choose(self.state.language, self.flow.languages[0])
        if chosen is None:
            return "", self.state.language, ""
        prompt, language = chosen
        names = self._worded(prompt.names, language) if prompt.names else {}
        if extra:
            names = {**names, **extra}
        spoken = self.voice if voice is None else voice
        text = prompt.render(names, language, voice=spoken, now=self.now)
        return text, language, prompt.template

    def _worded(self, used: frozenset[str], language: str) -> Mapping[str, Any]:
        """The names of a prompt, a choice by what it is called and not by its name in the flow."""
        names, slots = self.names(), self.flow.slots
        labels = {
            name: slots[name].labels.get(language, {}).get(names[name])
            for name in used
            if name in slots and slots[name].type == "choice" and isinstance(names[name], str)
        }
        called = {name: label for name, label in labels.items() if label is not None}
        return {**names, **called} if called else names

    def say(self, wording: Wording, extra: Mapping[str, Any] | None = None) -> None:
        """Say a prompt, if there is anything to it."""
        text, language, template = self.render(wording, extra)
        if text.strip():
            self.effects.append(Say(text, language, template))

    def say_own(self, occasion: str, **values: Any) -> None:
        """Say one of the engine's own sentences."""
        language = self.state.language
        language = language if language in lexicon.SENTENCES else "en"
        prompt = _OWN_SENTENCES[language, occasion]
        text = prompt.render(values, language, voice=self.voice, now=self.now)
        self.effects.append(Say(text, language, prompt.template))

    # --- ways on --------------------------------------------------------------------------------

    def enter(self, name: str) -> None:
        """Be at a node of the running flow."""
        self.change_frame(node=name)
        path = (*self.state.path[-PATH_LIMIT + 1 :], name)
        self.change(path=path, question=_NO_QUESTION)
        self.note("node_entered", node=name, flow=self.frame.flow)

    def unwind(self, depth: int) -> None:
        """Give up the flows above the first `depth` frames."""
        if 0 < depth < len(self.state.frames):
            self.change(frames=self.state.frames[:depth])

    def to_people(self) -> str | None:
        """The nearest queue of the flows under way, giving up those above it; None without one."""
        for depth in range(len(self.state.frames), 0, -1):
            people = self.bundle.flows[self.state.frames[depth - 1].flow].people
            if people:
                self.unwind(depth)
                return people
        return None

    def leave_queue(self) -> None:
        """Give up the place in line, if there is one."""
        place = self.state.place
        if place is not None:
            self.emit(Dequeue(place.id), SetTimer(f"{place.id}-offer", 0))
            self.note("left_queue", id=place.id)
            self.change(place=None, status=ConversationStatus.FLOW.value)

    def end(self, outcome: str) -> None:
        """The conversation is over; its secrets are forgotten."""
        self.leave_queue()
        self.over(outcome)
        self.emit(End(outcome))

    def over(self, outcome: str) -> None:
        """As `end`, where nobody is left to be told."""
        frames = tuple(replace(frame, secrets={}) for frame in self.state.frames)
        self.change(
            status=ConversationStatus.ENDED.value,
            outcome=outcome,
            frames=frames,
            waiting=Waiting(),
            question=Question(),
            place=None,
            left_at=None,
            taken=None,
            turn=self.state.turn + 1,
        )
        self.note("flow_ended", outcome=outcome)
