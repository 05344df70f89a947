"""How a question is asked, and what becomes of the answer: VoiceXML's model, with its names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ivr.flow import commands, invitations, lexicon, questions, spoken
from ivr.flow.events import Expect, Grammar, Keypad
from ivr.flow.expr import clean_value
from ivr.flow.questions import NO, YES, Answers, Meaning
from ivr.flow.run import Run
from ivr.flow.schema import (
    QUESTIONS,
    Asking,
    CollectNode,
    ConfirmNode,
    MenuNode,
    OfferNode,
    Wording,
)
from ivr.flow.state import HISTORY_LIMIT, Pending, Question

INVITATION_WAIT = 120.0
"""Seconds that a caller has to turn up on another channel before the next one is tried."""

TEXT_WAIT = 43_200.0
"""Seconds of silence that are no-input where nobody sits and waits: SMS, chat, e-mail."""

REFUSALS = 2
"""After so many refused confirmations a question asks for keys."""

_FORMATS = {
    "digits": "digits",
    "phone": "digits",
    "number": "number",
    "money": "money",
    "date": "date",
    "time": "time",
}
"""How values are read back, by slot type; the others are said as they are."""


# --- putting the question -----------------------------------------------------------------------


def begin(run: Run, node: Asking) -> str | None:
    """The customer comes to a question."""
    slot = node.slots[0] if isinstance(node, CollectNode) else ""
    history = run.frame.history
    if history[-1:] != (node.name,):
        run.change_frame(history=(*history[1 - HISTORY_LIMIT :], node.name))
    run.change(question=Question(slot=slot, secret=_secret(run, slot)))
    ask(run, node)
    return None


def go_on(run: Run, node: Asking, slot: str, filled: tuple[str, ...]) -> None:
    """The customer is back at a question of which they had answered a part."""
    run.change(question=Question(slot, filled, secret=_secret(run, slot)))
    ask(run, node)


def ask(run: Run, node: Asking) -> None:
    """Say the question that is open, and expect its answer."""
    if run.state.question.pending is not None:
        _say_pending(run, node)
    else:
        if _keys_only(run, node):
            run.say_own("keys")
        run.say(_wording(run, node))
    expect(run, node)


def put_again(run: Run) -> None:
    """Ask once more what is asked now, without counting a miss."""
    node = asking_node(run)
    if run.state.waiting.kind == "invite":
        run.say_own("invited")
        listen_meanwhile(run)
    elif run.state.waiting.kind == "answer" and node is not None:
        ask(run, node)


def listen_meanwhile(run: Run) -> None:
    """Let the customer change their mind while they are awaited on another channel, or wait in
    line; there for ever, and on a call alone: elsewhere nobody has to be told to listen."""
    in_line = run.state.waiting.kind == "queue"
    if in_line and not run.voice:
        return
    wait = 0.0 if in_line else INVITATION_WAIT if run.voice else TEXT_WAIT
    known, language = commands.available(run), run.state.language
    answers = questions.answers(run.flow, "", "", language, known)
    run.change(turn=run.state.turn + 1)
    run.emit(
        Expect(
            turn=run.state.turn,
            node=run.frame.node,
            language=language,
            grammar=answers.grammar,
            wait=wait,
            listen=("speech",),
            barge_in=("speech",),
        )
    )


def _wording(run: Run, node: Asking) -> Wording:
    question = run.state.question
    if not isinstance(node, CollectNode) or question.slot not in node.asks:
        return node.ask
    # The opening question asks for everything; once a part is known, the rest one by one.
    return node.ask if node.ask and not question.filled else node.asks[question.slot]


def expect(run: Run, node: Asking) -> None:
    """Await an answer to the open question, as a new turn."""
    answers = open_answers(run, node)
    question = run.state.question
    listen = node.listen or (("keys",) if question.secret else ("speech", "keys"))
    if question.pending is not None:
        listen = ("speech", "keys")
    elif _keys_only(run, node):
        listen = ("keys",)
    turn = run.state.turn + 1
    run.change(turn=turn)
    run.wait("answer")
    run.emit(
        Expect(
            turn=turn,
            node=node.name,
            language=answers.language,
            grammar=answers.grammar if "speech" in listen else Grammar(answers.language),
            keypad=answers.keypad if "keys" in listen else Keypad(),
            choices=answers.choices,
            slot_type=answers.slot_type,
            wait=node.wait if run.voice else max(node.wait, TEXT_WAIT),
            complete=node.complete,
            incomplete=node.incomplete,
            listen=listen,
            barge_in=tuple(way for way in node.barge_in if way in listen),
            secret=question.secret,
        )
    )


def open_answers(run: Run, node: Asking) -> Answers:
    """What answers the open question, in the conversation's language."""
    question, language = run.state.question, run.state.language
    known = commands.available(run)
    if question.pending is not None:
        return questions.confirmation(run.flow, node.name, question.slot, language, known)
    others: tuple[str, ...] = ()
    # What is said to a question for a secret is secret, all of it: none goes into another slot.
    if isinstance(node, CollectNode) and len(node.slots) > 1 and not question.secret:
        others = tuple(
            name
            for name in node.slots
            if name != question.slot
            and name not in question.filled
            and not run.flow.slots[name].secret
        )
    return questions.answers(run.flow, node.name, question.slot, language, known, others)


def _secret(run: Run, slot: str) -> bool:
    return bool(slot) and run.flow.slots[slot].secret


def _holds_secret(run: Run, answer: Pending) -> bool:
    return answer.kind == "slots" and any(_secret(run, name) for name in answer.values)


def _key(run: Run, node: Asking) -> str:
    return run.state.question.slot or node.name


def _keys_only(run: Run, node: Asking) -> bool:
    if run.frame.refused.get(_key(run, node), 0) < REFUSALS or not run.voice:
        return False
    keypad = questions.answers(
        run.flow, node.name, run.state.question.slot, run.state.language, ()
    ).keypad
    return bool(keypad.options or keypad.maximum)


# --- the answer ---------------------------------------------------------------------------------


def pressed(run: Run, node: Asking, digits: str) -> str | None:
    """Keys came."""
    answers = open_answers(run, node)
    return _take(run, node, answers.pressed(digits[:64], run.now), 1.0, "keys")


def typed(run: Run, node: Asking, text: str) -> str | None:
    """A text came."""
    if run.state.question.pending is not None:
        return _answer_pending(run, node, text, 1.0, "text")
    if isinstance(node, ConfirmNode) and _corrected(run, node, text):
        ask(run, node)
        return None
    answers = open_answers(run, node)
    return _take(run, node, answers.written(text, run.now), 1.0, "text", text)


def heard(run: Run, node: Asking, readings: tuple[tuple[str, float], ...]) -> str | None:
    """Speech came, in one or more readings, best first: the first that means anything counts."""
    if run.state.question.pending is not None:
        text, confidence = readings[0]
        return _answer_pending(run, node, text, confidence, "speech")
    if not (node.listen is None or "speech" in node.listen) or _keys_only(run, node):
        return missed(run, node, "no_match")
    text, confidence = readings[0]
    if isinstance(node, ConfirmNode) and confidence >= node.reject and _corrected(run, node, text):
        ask(run, node)
        return None
    answers = open_answers(run, node)
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
    if _holds_secret(run, pending):
        # A secret cannot be read back to be confirmed.
        return missed(run, node, "no_match")
    run.change_question(pending=pending)
    run.note("confirming", confidence=confidence, **_shown(run, pending))
    ask(run, node)
    return None


def _sure(run: Run, node: Asking, answer: Pending) -> bool:
    if answer.kind == "command":
        return answer.confidence >= node.accept or "repeat" in answer.values.values()
    if isinstance(node, ConfirmNode | OfferNode):
        return True
    if node.confirm == "always" and not _holds_secret(run, answer):
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
        shown = {"secret": True} if _secret(run, name) else {"value": value}
        run.note("slot_filled", slot=name, **shown, **details)
    if answer.how == "keys":
        _forgive(run, node)
    filled = (*run.state.question.filled, *answer.values)
    missing = [name for name in node.slots if name not in filled]
    if not missing:
        return node.then
    run.change(question=Question(missing[0], filled, secret=_secret(run, missing[0])))
    ask(run, node)
    return None


def _choose(run: Run, node: Asking, name: str) -> str | None:
    if isinstance(node, MenuNode):
        return next(choice.then or node.then for choice in node.choices if choice.name == name)
    if isinstance(node, OfferNode):
        return invitations.invite(run, node.channels) if name == YES else node.otherwise
    assert isinstance(node, ConfirmNode)
    for slot in _named_slots(run, node):
        refused = run.frame.refused
        count = refused.get(slot, 0) + 1 if name == NO else 0
        run.change_frame(refused={**refused, slot: count})
    return node.then if name == YES else node.no or node.otherwise


def _forgive(run: Run, node: Asking) -> None:
    key = _key(run, node)
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
    ask(run, node)
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


def _say_pending(run: Run, node: Asking) -> None:
    pending = run.state.question.pending
    assert pending is not None
    run.say_own("confirm", value=_spoken_value(run, node, pending))


def _spoken_value(run: Run, node: Asking, pending: Pending) -> str:
    language = run.state.language
    if pending.kind == "command":
        spoken = lexicon.in_language(lexicon.ANYTIME, language)
        return spoken[str(pending.values["name"])][0]
    if pending.kind == "choice":
        shown = questions.answers(run.flow, node.name, "", language, ()).choices
        name = str(pending.values["name"])
        return next((choice.label for choice in shown if choice.name == name), name)
    return ", ".join(
        _spoken_slot(run, name, value, language) for name, value in pending.values.items()
    )


def _spoken_slot(run: Run, name: str, value: Any, language: str) -> str:
    slot = run.flow.slots[name]
    if slot.type == "choice":
        return slot.labels.get(language, {}).get(str(value), str(value))
    if slot.type == "yes_no":
        return lexicon.in_language(lexicon.YES_NO, language)[not value]
    form = _FORMATS.get(slot.type)
    if form is None:
        return clean_value(str(value))
    return clean_value(spoken.render(form, value, language, voice=run.voice, now=run.now))


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
    language, slot = run.state.language, run.state.question.slot
    own = questions.answers(run.flow, node.name, slot, language, ())
    rest = questions.after_refusal(text, language)
    correction = own.heard(rest, run.now) if rest else None
    if correction is None:
        confirming = open_answers(run, node)
        meaning = (
            confirming.written(text, run.now) if how == "text" else confirming.heard(text, run.now)
        )
        if meaning is not None and (rest is None or meaning.name != YES):
            return _take(run, node, meaning, confidence, how, text)
        if rest is not None:
            return _decide(run, node, False)
        correction = own.heard(text, run.now)
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


def _decide(run: Run, node: Asking, right: bool) -> str | None:
    """The customer said whether the pending answer is right."""
    pending = run.state.question.pending
    assert pending is not None
    run.note("confirmed" if right else "refused", **_shown(run, pending))
    if right:
        _forgive(run, node)
        return _accept(run, node, pending)
    key = _key(run, node)
    count = run.frame.refused.get(key, 0) + 1
    run.change_frame(refused={**run.frame.refused, key: count})
    run.change_question(pending=None)
    if count > REFUSALS:
        return missed(run, node, "no_match")
    if _keys_only(run, node):
        run.note("keys_only", node=node.name)
    ask(run, node)
    return None


def _named_slots(run: Run, node: ConfirmNode) -> list[str]:
    """The slots whose values a confirmation reads out."""
    return [
        name for name in sorted(node.ask.names) if name in run.flow.slots and not _secret(run, name)
    ]


def _corrected(run: Run, node: ConfirmNode, text: str) -> bool:
    """Whether "no, ..." corrected a slot that this confirmation reads out; it is filled then."""
    rest = questions.after_refusal(text, run.state.language)
    if not rest:
        return False
    for name in _named_slots(run, node):
        value = questions.parse(run.flow.slots[name], rest, run.state.language, run.now)
        if value is not None and value != run.frame.slots.get(name):
            run.fill(name, value)
            run.note("corrected", slots={name: value})
            return True
    return False


def asking_node(run: Run) -> Asking | None:
    """The node whose question is open."""
    node = run.flow.nodes.get(run.frame.node)
    return node if isinstance(node, QUESTIONS) else None
