"""What a recogniser's engine is, seen from the worker: one model, one utterance at a time.

Engines are native code that may end the process, so they are loaded in `ivr.speech.worker` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ivr.flow.events import Grammar


@dataclass(frozen=True, slots=True)
class Reading:
    """What an utterance was taken for. `text` is "" for speech that fits nothing expected."""

    text: str
    confidence: float
    alternatives: tuple[tuple[str, float], ...] = ()


class Utterance(Protocol):
    """One utterance under way. Called from one thread at a time."""

    def accept(self, pcm: bytes) -> str:
        """Take more audio; what it sounds like so far, "" if that is not known yet."""
        ...

    def read(self) -> Reading:
        """What it is, if it ends here. More audio may still follow."""
        ...


class Engine(Protocol):
    """A loaded model. `reads_ahead`: `read` costs much and `accept` tells nothing, so a pause is
    worth reading before it is known to be the end."""

    @property
    def reads_ahead(self) -> bool: ...

    def prepare(self, grammar: Grammar) -> None:
        """Work out ahead of time what depends on the grammar alone."""
        ...

    def utterance(self, grammar: Grammar) -> Utterance: ...
