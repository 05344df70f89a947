"""Where a conversation stands, as far as a caller whose call drops may go on with it in another.

What is kept is what the caller told, and where they were. A caller ID is a claim and no proof, so
nothing is kept that took a secret to learn: whoever has answered a question for one stands at that
very question, knowing no more than before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ivr.flow.schema import QUESTIONS, Bundle, QueueNode, RecordNode
from ivr.flow.state import Frame, Question, State
from ivr.model import Channel

_TAKEN_UP = (*QUESTIONS, QueueNode, RecordNode)
"""Kinds of nodes that a caller can come back to; from others it is the question before."""

_OVER = frozenset({"", "person", "transfer"})
"""Who waited for these had got what the call was for."""


def where(bundle: Bundle, state: State) -> Mapping[str, Any] | None:
    """Where a call that drops in this state could be gone on with, as JSON; None if nowhere."""
    if state.channel != Channel.VOICE or state.waiting.kind in _OVER:
        return None
    if state.left_at is not None:
        return state.left_at or None
    return standing(bundle, state)


def standing(bundle: Bundle, state: State) -> Mapping[str, Any] | None:
    """Where the conversation is, without its secrets; None where nothing would be lost."""
    for depth in range(len(state.frames), 0, -1):
        frame = state.frames[depth - 1]
        nodes = bundle.flows[frame.flow].nodes
        for name in (frame.node, *frame.history[-1:]):
            if isinstance(nodes.get(name), _TAKEN_UP):
                frames = (*state.frames[: depth - 1], replace(frame, node=name))
                here = depth == len(state.frames) and name == frame.node
                question = state.question if here else Question()
                return _kept(state, frames, question) if _worth(frames, question) else None
    return None


def _worth(frames: tuple[Frame, ...], question: Question) -> bool:
    """Whether anything has been answered yet."""
    asked = [name for frame in frames for name in frame.history]
    open_now = 1 if asked[-1:] == [frames[-1].node] else 0
    return len(asked) > open_now or bool(question.filled)


def _kept(state: State, frames: tuple[Frame, ...], question: Question) -> Mapping[str, Any]:
    return {
        "version": state.version,
        "language": state.language,
        "frames": [
            {
                "flow": frame.flow,
                "node": frame.node,
                "slots": dict(frame.slots),
                "values": dict(frame.values),
                "history": list(frame.history),
                "refused": dict(frame.refused),
            }
            for frame in frames
        ],
        "slot": question.slot,
        "filled": list(question.filled),
    }
