"""What customers may say in every question: agent, repeat, start over, go back, and "text me".

`agent` leads to the queue that is nearest to the flow's start, or else to the first in the file.
A called flow without a queue hands over to the one that called it; where no flow under way has
people, the phrase is not listened for. `start over` begins the first flow anew and forgets its
slots. `go back` asks the question before. Where a flow's `anytime` names a node for a command, it
leads there instead.
"""

from __future__ import annotations

from ivr.flow import invitations, lexicon, phrases
from ivr.flow.run import AGAIN, Run
from ivr.flow.state import Frame


def available(run: Run) -> tuple[str, ...]:
    """The commands that are understood now."""
    own = run.flow.anytime
    known = [name for name in lexicon.COMMANDS if name in own and name != "text_me"]
    frames = run.state.frames
    if run.state.waiting.kind == "queue":
        # A person has been asked for already.
        known = [name for name in known if name != "agent"]
    elif "agent" not in own and any(_leads(run, depth) for depth in range(1, len(frames))):
        known.append("agent")
    if "text_me" in own and (own["text_me"] or invitations.elsewhere(run, run.flow.channels)):
        known.append("text_me")
    return tuple(known)


def _leads(run: Run, depth: int) -> str:
    """Where the flow at a depth leads who wants a person."""
    flow = run.bundle.flows[run.state.frames[depth - 1].flow]
    return flow.anytime.get("agent", "")


def understood(run: Run, text: str) -> str:
    """The command in a text outside of any question, "" if there is none."""
    spoken = lexicon.in_language(lexicon.ANYTIME, run.state.language)
    meanings = {
        phrases.normalise(phrase): command
        for command in available(run)
        for phrase in spoken[command]
    }
    found = phrases.find(phrases.normalise(text), meanings)
    return found[0] if found else ""


def carry_out(run: Run, command: str, text: str = "") -> str:
    """Do what was commanded, as `text` said it; returns the node to go to, or AGAIN."""
    if command == "agent":
        return _agent(run)
    if target := run.flow.anytime.get(command, ""):
        return target
    match command:
        case "start_over":
            return restart(run)
        case "go_back":
            return _go_back(run)
        case "text_me":
            return invitations.invite(run, _wished(run, text), asked=True)
        case _:
            return AGAIN


def _wished(run: Run, text: str) -> tuple[str, ...]:
    """The flow's channels, the one that the customer named first."""
    plain = phrases.normalise(text)
    named = {channel for word, channel in lexicon.CHANNEL_WORDS.items() if word in plain}
    return tuple(sorted(run.flow.channels, key=lambda channel: channel not in named))


def _agent(run: Run) -> str:
    for depth in range(len(run.state.frames), 0, -1):
        if target := _leads(run, depth):
            run.unwind(depth)
            return target
    return AGAIN


def restart(run: Run) -> str:
    """Begin the first flow anew."""
    flow = run.bundle.flows[run.state.frames[0].flow]
    run.change(frames=(Frame(flow.name, slots=run.initial_slots(flow.name)),), left_at=None)
    return flow.start


def _go_back(run: Run) -> str:
    """To the question before; from a called flow's first to the last one of its caller."""
    frames = run.state.frames
    for depth in range(len(frames), 0, -1):
        history = frames[depth - 1].history
        if depth == len(frames) and history[-1:] == (run.frame.node,):
            history = history[:-1]
        if history:
            run.unwind(depth)
            run.change_frame(history=history[:-1])
            return history[-1]
    return AGAIN
