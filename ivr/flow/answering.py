"""What becomes of the answer to a question: taken, confirmed, corrected, or missed.

The model is VoiceXML's, with its names: no-input and no-match count on their own, and confidence
decides whether an answer is taken, read back or called no-match.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ivr.flow import asking, commands, correcting, invitations, questions
from ivr.flow.questions import NO, YES, Meaning
from ivr.flow.run import Run
from ivr.flow.schema import Asking, CollectNode, ConfirmNode, MenuNode, OfferNode
from ivr.flow.state import Pending, Question

# --- the answer ---------------------------------------------------------------------------------


def pressed(run: Run, node: Asking, digits: str) -> str | None:
    """Keys came."""
    answers = asking.open_answers(run, node)
    return _take(run, node, answers.pressed(digits[:64], run.now), 1.0, "keys")


def typed(run: Run, node: Asking, text: str) -> str | None:
    """A text came."""
    if run.state.question.pending is not None:
        return _answer_pending(run, node, text, 1.0, "text")
    if _corrected_before(run, node, text):
        asking.ask(run, node)
        return None
    answers = asking.open_answers(run, node)
    return _take(run, node, answers.written(text, run.now), 1.0, "text", text)


def heard(run: Run, node: Asking, readings: tuple[tuple[str, float], ...]) -> str | None:
    """Speech came, in one or more readings, best first: the first that means anything counts."""
    if run.state.question.pending is not None:
        text, confidence = readings[0]
        return _answer_pending(run, node, text, confidence, "speech")
    if not (node.listen is None or "speech" in node.listen) or asking.keys_only(run, node):
        return missed(run, node, "no_match")
    text, confidence = readings[0]
    if confidence >= node.reject and _corrected_before(run, node, text):
        asking.ask(run, node)
        return None
    answers = asking.open_answers(run, node)
    for text, confidence in readings:
        meaning = answers.heard(text, run.now)
        if meaning is not None:
            return _take(run, node, meaning, confidence, "speech", text)
    return missed(run, node, "no_match")


def _take(
    run: Run, node: Asking, meaning: Meaning | None, confidence: float, how: str, text: str = ""
) -> str | None:
    """Act on a meaning, ask whether it is right, or call it no-match."""
    if meaning is None or confidence < node.reject:
        return missed(run, node, "no_match")
    if run.state.question.pending is not None and meaning.kind == "choice":
        return _decide(run, node, meaning.name == YES)
    # Which channel is wished for is in the wording, and so may be a secret that was asked for.
    wording = text if meaning.kind == "command" and not run.state.question.secret else ""
    pending = Pending(meaning.kind, meaning.values, confidence, how, wording)
    if _sure(run, node, pending):
        return _accept(run, node, pending)
    if asking.holds_secret(run, pending):
        # A secret cannot be read back to be confirmed.
        return missed(run, node, "no_match")
    run.change_question(pending=pending)
    run.note("confirming", confidence=confidence, **_shown(run, pending))
    asking.ask(run, node)
    return None


def _sure(run: Run, node: Asking, answer: Pending) -> bool:
    if answer.kind == "command":
        return answer.confidence >= node.accept or "repeat" in answer.values.values()
    if isinstance(node, ConfirmNode | OfferNode):
        return True
    if node.confirm == "always" and not asking.holds_secret(run, answer):
        return False
    return node.confirm == "never" or answer.confidence >= node.accept


def _accept(run: Run, node: Asking, answer: Pending) -> str | None:
    """The answer is taken as right."""
    details = {"confidence": answer.confidence, "how": answer.how}
    if answer.kind != "command" or run.state.question.pending == answer:
        run.change_question(pending=None)
    if answer.kind == "command":
        command = str(answer.values["name"])
        run.note("commanded", command=command, **details)
        return commands.carry_out(run, command, answer.text)
    if answer.kind == "choice":
        name = str(answer.values["name"])
        run.note("matched", choice=name, node=node.name, **details)
        return _choose(run, node, name)
    assert isinstance(node, CollectNode)
    for name, value in answer.values.items():
        run.fill(name, value)
        shown = {"secret": True} if asking.is_secret(run, name) else {"value": value}
        run.note("slot_filled", slot=name, **shown, **details)
    if answer.how == "keys":
        _forgive(run, node)
    filled = (*run.state.question.filled, *answer.values)
    missing = [name for name in node.slots if name not in filled]
    if not missing:
        return node.then
    run.change(question=Question(missing[0], filled, secret=asking.is_secret(run, missing[0])))
    asking.ask(run, node)
    return None


def _choose(run: Run, node: Asking, name: str) -> str | None:
    if isinstance(node, MenuNode):
        return next(choice.then or node.then for choice in node.choices if choice.name == name)
    if isinstance(node, OfferNode):
        return invitations.invite(run, node.channels) if name == YES else node.otherwise
    assert isinstance(node, ConfirmNode)
    for slot in asking.named_slots(run, node.ask):
        refused = run.frame.refused
        count = refused.get(slot, 0) + 1 if name == NO else 0
        run.change_frame(refused={**refused, slot: count})
    return node.then if name == YES else node.no or node.otherwise


def _forgive(run: Run, node: Asking) -> None:
    key = asking.counted_as(run, node)
    if run.frame.refused.get(key):
        run.change_frame(refused={**run.frame.refused, key: 0})


# --- misses -------------------------------------------------------------------------------------


def missed(run: Run, node: Asking, kind: str) -> str | None:
    """No input, or no match: say so and ask again, or give up after `tries`."""
    question = run.state.question
    count = (question.no_input if kind == "no_input" else question.no_match) + 1
    run.change_question(**{kind: count})
    run.note(kind, node=node.name, count=count)
    if count >= node.tries:
        run.note("tries_used_up", node=node.name, misses=kind)
        return give_up(run, node.otherwise)
    texts = node.no_input if kind == "no_input" else node.no_match
    if question.pending is not None:
        run.say_own(kind if kind == "no_input" else "yes_or_no")
    elif texts:
        run.say(texts[min(count, len(texts)) - 1])
    elif kind == "no_match" or run.voice:
        run.say_own(kind)
    asking.ask(run, node)
    return None


def give_up(run: Run, otherwise: str) -> str | None:
    """Where a customer goes whom the flow cannot help: where the designer says, else to people,
    else out, with a sentence."""
    target = otherwise or run.to_people()
    if target:
        return target
    run.say_own("leave")
    run.end("given_up")
    return None


# --- confirmations ------------------------------------------------------------------------------


def _shown(run: Run, pending: Pending) -> dict[str, Any]:
    """A pending answer for the timeline; secrets are never pending."""
    if pending.kind == "slots":
        return {"slots": dict(pending.values)}
    return {pending.kind: pending.values["name"]}


def _answer_pending(run: Run, node: Asking, text: str, confidence: float, how: str) -> str | None:
    """An answer to "is that right?": yes, no, no and the right value, or just the value."""
    if confidence < node.reject:
        return missed(run, node, "no_match")
    pending = run.state.question.pending
    assert pending is not None
    rest = questions.after_refusal(text, run.state.language)
    correction = _instead(run, node, pending, text)
    if correction is None and rest:
        correction = _correction(run, node, pending, rest)
    guess = _guessed(run, pending, rest or text) if correction is None else None
    if correction is None and guess is None:
        confirming = asking.open_answers(run, node)
        meaning = (
            confirming.written(text, run.now) if how == "text" else confirming.heard(text, run.now)
        )
        if meaning is not None and (rest is None or meaning.name != YES):
            return _take(run, node, meaning, confidence, how, text)
        correction = _correction(run, node, pending, text) if rest is None else None
    if guess is not None:
        run.change_question(pending=replace(pending, values=guess))
        run.note("corrected", confidence=confidence, slots=guess)
        asking.ask(run, node)
        return None
    if correction is None and rest is not None:
        return _decide(run, node, False)
    if correction is None or correction.kind != pending.kind:
        return missed(run, node, "no_match")
    if correction.values == pending.values:
        return _decide(run, node, rest is None)
    run.note(
        "corrected",
        confidence=confidence,
        **_shown(run, replace(pending, values=correction.values)),
    )
    run.change_question(pending=None)
    return _take(run, node, correction, confidence, how)


def _correction(run: Run, node: Asking, pending: Pending, text: str) -> Meaning | None:
    """What the pending answer becomes by a text that says what is right."""
    language = run.state.language
    if pending.kind == "slots":
        slots = [run.flow.slots[name] for name in pending.values]
        values = correcting.values(slots, text, pending.values, language, run.now)
        return Meaning("slots", values) if values else None
    own = questions.answers(run.flow, node.name, run.state.question.slot, language, ())
    return own.heard(text, run.now)


def _instead(run: Run, node: Asking, pending: Pending, text: str) -> Meaning | None:
    """What the pending answer becomes by "not this, that"."""
    language = run.state.language
    if pending.kind == "slots":
        slots = [run.flow.slots[name] for name in pending.values]
        values = correcting.instead(slots, text, pending.values, language, run.now)
        return Meaning("slots", values) if values else None
    for wrong, right in correcting.pairs(text, language):
        first, second = (_correction(run, node, pending, each) for each in (wrong, right))
        if first is not None and first.values == pending.values and second is not None:
            return second
    return None


def _guessed(run: Run, pending: Pending, text: str) -> dict[str, Any] | None:
    """A number as it may have been corrected by saying a part of it again."""
    if pending.kind != "slots" or len(pending.values) != 1:
        return None
    [(name, before)] = pending.values.items()
    slot = run.flow.slots[name]
    value = correcting.aligned(slot, text, before, run.state.language, run.now)
    if value is None or questions.parse(slot, value, run.state.language, run.now) is None:
        return None
    return {name: value}


def _decide(run: Run, node: Asking, right: bool) -> str | None:
    """The customer said whether the pending answer is right."""
    pending = run.state.question.pending
    assert pending is not None
    run.note("confirmed" if right else "refused", **_shown(run, pending))
    if right:
        _forgive(run, node)
        return _accept(run, node, pending)
    key = asking.counted_as(run, node)
    count = run.frame.refused.get(key, 0) + 1
    run.change_frame(refused={**run.frame.refused, key: count})
    run.change_question(pending=None)
    if count > asking.REFUSALS:
        return missed(run, node, "no_match")
    if asking.keys_only(run, node):
        run.note("keys_only", node=node.name)
    asking.ask(run, node)
    return None


def _corrected(run: Run, names: list[str], text: str, bare: bool) -> bool:
    """Whether "no, ..." corrected one of these slots; it is filled then. A `bare` number counts
    only where nothing else is asked for that it could be."""
    language, now = run.state.language, run.now
    slots = [run.flow.slots[name] for name in names]
    before = {name: run.frame.slots.get(name) for name in names}
    rest = questions.after_refusal(text, language)
    values = correcting.instead(slots, text, before, language, now)
    if not values and rest:
        values = correcting.values(slots, rest, before, language, now, bare=bare)
    changed = {name: value for name, value in values.items() if value != before[name]}
    for name, value in changed.items():
        run.fill(name, value)
    if changed:
        run.note("corrected", slots=changed)
    return bool(changed)


def _corrected_before(run: Run, node: Asking, text: str) -> bool:
    """Whether "no, ..." corrected what this question takes as told."""
    names = asking.taken_as_told(run, node)
    if not names or not _corrected(run, names, text, isinstance(node, ConfirmNode)):
        return False
    if not asking.wording(run, node).names & set(names):
        spoken_values = (
            asking.spoken_slot(run, name, run.frame.slots[name], run.state.language)
            for name in names
        )
        run.say_own("corrected", value=", ".join(spoken_values))
    return True
