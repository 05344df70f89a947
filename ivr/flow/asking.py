"""How a question is put: what is said, what is expected, and how a doubtful answer is read back.

The model is VoiceXML's, with its names. What becomes of the answer is in `ivr.flow.answering`.
"""

from __future__ import annotations

from typing import Any

from ivr.flow import commands, lexicon, questions, spoken
from ivr.flow.events import Expect, Grammar, Keypad
from ivr.flow.expr import clean_value
from ivr.flow.questions import Answers
from ivr.flow.run import Run
from ivr.flow.schema import QUESTIONS, Asking, CollectNode, ConfirmNode, Wording
from ivr.flow.state import HISTORY_LIMIT, Pending, Question

INVITATION_WAIT = 120.0
"""Seconds that a caller has to turn up on another channel before the next one is tried."""

TEXT_WAIT = 43_200.0
"""Seconds of silence that are no-input where nobody sits and waits: SMS, chat, e-mail."""

REFUSALS = 2
"""After so many refused confirmations a question asks for keys."""

_ANSWERED_BY_NO = frozenset({"text", "yes_no"})
"""Slot types of which "no, ..." may be the answer, and corrects nothing."""

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
    run.change(question=Question(slot=slot, secret=is_secret(run, slot)))
    ask(run, node)
    return None


def go_on(run: Run, node: Asking, slot: str, filled: tuple[str, ...]) -> None:
    """The customer is back at a question of which they had answered a part."""
    run.change(question=Question(slot, filled, secret=is_secret(run, slot)))
    ask(run, node)


def ask(run: Run, node: Asking) -> None:
    """Say the question that is open, and expect its answer."""
    if run.state.question.pending is not None:
        _say_pending(run, node)
    else:
        if keys_only(run, node):
            run.say_own("keys")
        run.say(wording(run, node))
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


def wording(run: Run, node: Asking) -> Wording:
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
    elif keys_only(run, node):
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
    told = tuple(taken_as_told(run, node)) if isinstance(node, CollectNode) else ()
    return questions.answers(run.flow, node.name, question.slot, language, known, others, told)


def asking_node(run: Run) -> Asking | None:
    """The node whose question is open."""
    node = run.flow.nodes.get(run.frame.node)
    return node if isinstance(node, QUESTIONS) else None


# --- what a question holds ----------------------------------------------------------------------


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
        spoken_slot(run, name, value, language) for name, value in pending.values.items()
    )


def spoken_slot(run: Run, name: str, value: Any, language: str) -> str:
    slot = run.flow.slots[name]
    if slot.type == "choice":
        return slot.labels.get(language, {}).get(str(value), str(value))
    if slot.type == "yes_no":
        return lexicon.in_language(lexicon.YES_NO, language)[not value]
    form = _FORMATS.get(slot.type)
    if form is None:
        return clean_value(str(value))
    return clean_value(spoken.render(form, value, language, voice=run.voice, now=run.now))


def named_slots(run: Run, wording: Wording) -> list[str]:
    """The slots whose values a question reads out."""
    return [
        name
        for name in sorted(wording.names)
        if name in run.flow.slots and not is_secret(run, name)
    ]


def taken_as_told(run: Run, node: Asking) -> list[str]:
    """The slots that a question takes as told, and so lets be corrected: a confirmation those that
    it reads out, a question for a slot those too, and what it has learned so far."""
    if isinstance(node, ConfirmNode):
        return named_slots(run, node.ask)
    question = run.state.question
    if (
        not isinstance(node, CollectNode)
        or question.secret
        or run.flow.slots[question.slot].type in _ANSWERED_BY_NO
    ):
        return []
    names = {*question.filled, *named_slots(run, wording(run, node))} - {question.slot}
    return sorted(
        name
        for name in names
        if not is_secret(run, name)
        and run.flow.slots[name].type != "text"
        and run.frame.slots.get(name) is not None
    )


def is_secret(run: Run, slot: str) -> bool:
    return bool(slot) and run.flow.slots[slot].secret


def holds_secret(run: Run, answer: Pending) -> bool:
    return answer.kind == "slots" and any(is_secret(run, name) for name in answer.values)


def counted_as(run: Run, node: Asking) -> str:
    return run.state.question.slot or node.name


def keys_only(run: Run, node: Asking) -> bool:
    if run.frame.refused.get(counted_as(run, node), 0) < REFUSALS or not run.voice:
        return False
    keypad = questions.answers(
        run.flow, node.name, run.state.question.slot, run.state.language, ()
    ).keypad
    return bool(keypad.options or keypad.maximum)
