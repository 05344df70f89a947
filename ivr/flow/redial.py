"""A caller who rings again after the call dropped: asked whether to go on, and taken back there.

Where that is, is told by `ivr.flow.standing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ivr.flow import asking, commands, questions
from ivr.flow.events import Expect
from ivr.flow.questions import YES, Answers, Meaning
from ivr.flow.run import Run
from ivr.flow.schema import QUESTIONS
from ivr.flow.state import Frame
from ivr.model import Channel

TRIES = 3
WAIT = 5.0
REJECT = 0.35
ACCEPT = 0.7


def offer(run: Run, dropped: Mapping[str, Any]) -> bool:
    """Ask whether to go on; False where that cannot be, as after a change of the flow."""
    if run.state.channel != Channel.VOICE or dropped["version"] != run.bundle.version:
        return False
    commands.restart(run)
    run.change_frame(node=run.flow.start)
    if dropped["language"] in run.flow.languages:
        run.change(language=dropped["language"])
    run.change(left_at=dropped)
    run.note("redial_offered", node=dropped["frames"][-1]["node"])
    ask(run)
    return True


def ask(run: Run) -> None:
    """Put the question, as a new turn."""
    answers = _answers(run)
    run.say_own("welcome_back")
    run.wait("redial")
    run.change(turn=run.state.turn + 1)
    run.emit(
        Expect(
            turn=run.state.turn,
            node=run.frame.node,
            language=answers.language,
            grammar=answers.grammar,
            keypad=answers.keypad,
            slot_type=answers.slot_type,
            wait=WAIT,
        )
    )


def _answers(run: Run) -> Answers:
    people = tuple(name for name in commands.available(run) if name == "agent")
    return questions.yes_or_no(run.state.language, (*people, "repeat", "start_over"))


def pressed(run: Run, digits: str) -> str | None:
    """Keys came."""
    return _take(run, _answers(run).pressed(digits[:64], run.now), 1.0, "keys")


def heard(run: Run, text: str, confidence: float, how: str = "speech") -> str | None:
    """Speech came, or a text."""
    return _take(run, _answers(run).heard(text, run.now), confidence, how)


def _take(run: Run, meaning: Meaning | None, confidence: float, how: str) -> str | None:
    least = ACCEPT if meaning is not None and meaning.name == "agent" else REJECT
    if meaning is None or confidence < least:
        return missed(run, "no_match")
    if meaning.kind == "choice":
        return _go_on(run) if meaning.name == YES else _begin_anew(run)
    run.note("commanded", command=meaning.name, confidence=confidence, how=how)
    match meaning.name:
        case "repeat":
            ask(run)
            return None
        case "agent":
            run.change(left_at=None)
            return commands.carry_out(run, "agent")
        case _:
            return _begin_anew(run)


def missed(run: Run, kind: str) -> str | None:
    """No input, or no match: asked again, and in the end begun anew."""
    question = run.state.question
    count = (question.no_input if kind == "no_input" else question.no_match) + 1
    run.change_question(**{kind: count})
    run.note(kind, node=run.frame.node, count=count)
    if count >= TRIES:
        return _begin_anew(run)
    run.say_own(kind)
    ask(run)
    return None


def _begin_anew(run: Run) -> str:
    run.note("redial_declined")
    return commands.restart(run)


def _go_on(run: Run) -> str | None:
    dropped = run.state.left_at
    assert dropped is not None
    frames = tuple(
        Frame(**{**frame, "history": tuple(frame["history"])}) for frame in dropped["frames"]
    )
    run.change(frames=frames, left_at=None, language=dropped["language"])
    run.note("redial_taken", node=run.frame.node)
    node = run.flow.nodes[run.frame.node]
    if not isinstance(node, QUESTIONS) or not dropped["slot"]:
        return node.name
    run.enter(node.name)
    asking.go_on(run, node, dropped["slot"], tuple(dropped["filled"]))
    return None
