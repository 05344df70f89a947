"""PURE: whether recognition keeps up with its callers, so that it is not offered when it does not.

A caller who is told to use the keypad gets on; one who waits for a recogniser that is seconds
behind does not. What is asked of it and when it answers tells the cost of an utterance, and the
utterances in hand tell the wait. Stock servers say neither, so both are measured from outside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice

LIMIT = 1.5
"""Seconds: the longest wait, for the others' utterances, that a new one is let in for."""

CALM_SECONDS = 5.0
"""So long the wait must have been less than half the limit before speech is offered again."""

# Of the latest utterance in the running mean of their cost: a rise is believed sooner than a fall.
_RISE, _FALL = 0.5, 0.2


class Load:
    """What one language's recognisers have in hand. All times are monotonic seconds.

    `workers` says how many take utterances side by side, and `seconds` what an utterance costs one
    of them, until that is measured.
    """

    def __init__(self, workers: Callable[[], int], seconds: float):
        self.seconds = seconds
        self._workers = workers
        self._in_hand = 0
        self._waiting: dict[object, float] = {}  # asked for and not yet answered, oldest first
        self._shedding = False
        self._strained_at = 0.0

    @property
    def in_hand(self) -> int:
        """Utterances that are being spoken or read."""
        return self._in_hand

    @property
    def wait(self) -> float:
        """Seconds until one more utterance would have its turn, if all others ended now."""
        return self._in_hand * self.seconds / self._side_by_side

    @property
    def _side_by_side(self) -> int:
        return max(1, self._workers())

    def takes(self) -> bool:
        """Whether an utterance that begins now will be read while that is of use."""
        return self.wait <= LIMIT

    def shedding(self, now: float) -> bool:
        """Whether new questions are better asked by keys alone."""
        strain = max(self.wait, self._behind(now))
        if strain > LIMIT:
            self._shedding = True
        if self._shedding:
            if strain > LIMIT / 2:
                self._strained_at = now
            elif now - self._strained_at >= CALM_SECONDS:
                self._shedding = False
        return self._shedding

    def _behind(self, now: float) -> float:
        """How long somebody has been waiting behind others: one who waits alone waits for a
        recogniser that hangs, which is not a matter of load."""
        behind = next(islice(self._waiting.values(), self._side_by_side, None), None)
        return 0.0 if behind is None else now - next(iter(self._waiting.values()))

    def utterance(self) -> Work:
        """An utterance begins."""
        return Work(self)


class Work:
    """One utterance, as a load. Its recogniser may be asked for a reading more than once."""

    def __init__(self, load: Load):
        self._load = load
        self._asked: deque[tuple[object, int]] = deque()
        self._cost = 0.0
        self._over = False
        load._in_hand += 1

    def asked(self, now: float) -> None:
        """A reading is wanted."""
        if self._over:
            return
        key = object()
        self._load._waiting[key] = now
        self._asked.append((key, len(self._load._waiting)))

    def answered(self, now: float) -> None:
        """The oldest reading that was wanted has come."""
        if not self._asked:
            return
        key, waiting = self._asked.popleft()
        self._cost += self._own(now - self._load._waiting.pop(key), waiting)

    def over(self, now: float) -> None:
        """The utterance is read or given up. Idempotent."""
        if self._over:
            return
        self._over = True
        load = self._load
        load._in_hand -= 1
        unread = 0.0
        for key, waiting in self._asked:
            waited = now - load._waiting.pop(key)
            if waiting > load._side_by_side:  # alone, it waited for one that hangs
                unread += self._own(waited, waiting)
        self._asked.clear()
        # What was not read would have cost more than this, so it says nothing of a fall.
        if self._cost + unread > load.seconds:
            load.seconds += _RISE * (self._cost + unread - load.seconds)
        elif self._cost and not unread:
            load.seconds += _FALL * (self._cost - load.seconds)

    def _own(self, waited: float, waiting: int) -> float:
        """How much of a wait was its own; the rest went to those before it."""
        workers = self._load._side_by_side
        return waited * workers / max(waiting, workers)
