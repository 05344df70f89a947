"""Where an utterance begins and ends: a pure machine fed with one yes or no for each frame.

Times are counted in frames, so that it behaves alike in a call, in a test and in a replay.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

from ivr.ports import FRAME_SECONDS, Progress


class Edge(Enum):
    """What a frame changed."""

    BEGAN = auto()
    PAUSED = auto()  # long enough to be worth reading what there is
    RESUMED = auto()
    ENDED = auto()


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. `complete` ends what is a full match, `incomplete` what is not; what nothing longer
    could match ends with the pause itself."""

    complete: float
    incomplete: float
    longest: float


_ONSET_WINDOW = 3  # frames, of which
_ONSET = 2  # have speech in them before it counts: a prompt is to stop within 100 ms of the first
_RESUME = 2
PAUSE = 0.2


class Endpointer:
    """Finds one utterance after another. `progress` is set from outside, as the text is known."""

    def __init__(self, patience: Patience):
        self._patience = patience
        self._window: deque[bool] = deque(maxlen=_ONSET_WINDOW)
        self._frames = 0
        self._silence = 0
        self._voiced_run = 0
        self._paused = False
        self._speaking = False
        self.progress: Progress = "none"

    @property
    def speaking(self) -> bool:
        """Whether an utterance is under way, pauses in it included."""
        return self._speaking

    @property
    def since_onset(self) -> int:
        """How many frames ago the utterance began, at its `BEGAN`."""
        return len(self._window) - list(self._window).index(True) if any(self._window) else 0

    def feed(self, voiced: bool) -> Edge | None:
        """Take the next frame's verdict."""
        if not self._speaking:
            self._window.append(voiced)
            if sum(self._window) < _ONSET:
                return None
            self._speaking = True
            self._paused = False
            self._frames = len(self._window)
            self._silence = self._voiced_run = 0
            self.progress = "none"
            return Edge.BEGAN
        self._frames += 1
        self._voiced_run = self._voiced_run + 1 if voiced else 0
        # In a pause a single loud frame is a breath or a click; it neither ends nor prolongs it.
        if voiced and (not self._paused or self._voiced_run >= _RESUME):
            self._silence = 0
            if self._paused:
                self._paused = False
                return Edge.RESUMED
        else:
            self._silence += 1
        if self._over():
            self._speaking = False
            self._window.clear()
            return Edge.ENDED
        if not self._paused and self._silence * FRAME_SECONDS >= PAUSE - 1e-9:
            self._paused = True
            return Edge.PAUSED
        return None

    def _over(self) -> bool:
        if self._frames * FRAME_SECONDS >= self._patience.longest:
            return True
        needed = {
            "final": min(PAUSE, self._patience.complete),
            "full": self._patience.complete,
        }.get(self.progress, self._patience.incomplete)
        return self._silence > 0 and self._silence * FRAME_SECONDS >= needed - 1e-9
