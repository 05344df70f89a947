"""How much of what a caller's line brings is our own prompt coming back. Pure.

Telephones and hybrids return what they play, quieter, a network's delay later and slightly smeared.
So a stretch of the caller's audio is compared with everything that left in the last half second:
the best delay is found by correlation, and a short filter there takes away what it explains. It
needs no time to adapt, which an adaptive canceller would spend in stopping its first prompts.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

STRETCH = 480  # samples of the caller that are explained at once, 60 ms
FAR = 4800  # samples of ours that are searched, 600 ms
ECHO = 0.6
"""More than this share explained is an echo. Measured: speech over another voice's prompt stays
below it in 98 of 100 stretches, echoes of 10 to 30 dB loss, dry or smeared over 5 ms, above it."""

_PLAINLY = 0.9  # so much explained tells how this line's echo sounds
_SMEAR = 8  # samples to either side of the best delay that the filter covers
_SIZE = 5400  # of the transform: FAR + STRETCH at least, and a product of small primes
_SILENT = 1e-6  # mean power, -60 dBFS


class EchoGuard:
    """One line's memory of where its echo comes from."""

    def __init__(self) -> None:
        self._place = -1
        self._filter: Samples | None = None
        self._filter_place = 0

    def without(self, near: Samples, far: Samples) -> Samples:
        """`near` less the echo that this line is known to have, whatever else is on it."""
        if self._filter is None:
            return near
        rest = np.asarray(near - self._filter @ _rows(far, self._filter_place), np.float32)
        # The two directions are not in step for ever: what makes it louder is no longer true.
        return rest if float(rest @ rest) < float(near @ near) else near

    def rest(self, near: Samples, far: Samples) -> Samples:
        """What is left of `near` when all is taken away that `far` can explain; both end now, and
        have the lengths above."""
        energy = float(near @ near)
        if energy <= 0.0 or float(far @ far) <= _SILENT * FAR:
            return near
        if self._place >= 0:
            rest = self._explain(near, far, self._place, energy)
            if float(rest @ rest) < (1 - ECHO) * energy:
                return rest
        return self._explain(near, far, _best_place(near, far), energy)

    def _explain(self, near: Samples, far: Samples, place: int, energy: float) -> Samples:
        rows = _rows(far, place)
        gram = (rows @ rows.T).astype(np.float64)
        gram[np.diag_indices_from(gram)] += 1e-3 * np.trace(gram) / len(gram) + 1e-12
        weights = np.linalg.solve(gram, (rows @ near).astype(np.float64)).astype(np.float32)
        rest = np.asarray(near - weights @ rows, np.float32)
        share = 1 - float(rest @ rest) / energy
        if share > ECHO:
            self._place = place
        if share > _PLAINLY:
            self._filter, self._filter_place = weights, place
        return rest


def _rows(far: Samples, place: int) -> Samples:
    """What may have come back, each row a sample later than the one before."""
    first = max(0, place - _SMEAR)
    last = min(FAR - STRETCH, place + _SMEAR)
    return np.lib.stride_tricks.sliding_window_view(far, STRETCH)[first : last + 1]


def _best_place(near: Samples, far: Samples) -> int:
    """Where in `far` the stretch begins that is most like `near`."""
    spectrum = np.fft.rfft(far, _SIZE) * np.conj(np.fft.rfft(near, _SIZE))
    alike = np.fft.irfft(spectrum, _SIZE)[: FAR - STRETCH + 1]
    power = np.concatenate([[0.0], np.cumsum(far.astype(np.float64) ** 2)])
    energies = power[STRETCH:] - power[:-STRETCH]
    return int(np.argmax(np.abs(alike) / np.sqrt(energies + _SILENT * STRETCH)))
