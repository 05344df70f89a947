"""One loudness for whatever a caller hears: recordings, every voice, and the music.

The measure is that of ITU-R BS.1770 (K-weighted, gated), taken over blocks of 100 ms rather than
400, for a prompt may be one word, and pauses must not make it look soft. Samples are float32
between -1 and 1 at the telephone's rate, which is all that a caller hears of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ivr.ports import SAMPLE_RATE

Samples = npt.NDArray[np.float32]

LOUDNESS = -21.0
"""LUFS of everything that is said."""

FORM = "1"
"""Changes whenever what is below would make another sound of the same samples."""

_BLOCK = SAMPLE_RATE // 10
_FLOOR = 1e-7  # of a block's power: -70 LUFS, the absolute gate
_RELATIVE = 0.1  # and the relative one: 10 dB below the mean of what passed that
_OFFSET = -0.691
_KNEE = 0.7
_GATE = 0.01  # of full scale: what is softer is not yet speech
_BEFORE = int(0.03 * SAMPLE_RATE)  # silence left around a sentence
_AFTER = int(0.22 * SAMPLE_RATE)
_PRIOR_BLOCKS = 0.5  # how much a voice's usual loudness counts against what was heard of it
_FASTEST = 1.5  # times; how far the gain may move within a piece


def _k_weights() -> npt.NDArray[np.float64]:
    """The power response of BS.1770's two filters (tables 1 and 2, for 48 kHz) at our bins."""
    z = np.exp(-2j * np.pi * np.fft.rfftfreq(_BLOCK, 1 / SAMPLE_RATE) / 48_000)
    shelf = (1.53512485958697 - 2.69169618940638 * z + 1.19839281085285 * z**2) / (
        1 - 1.69065929318241 * z + 0.73248077421585 * z**2
    )
    high_pass = (1 - 2 * z + z**2) / (1 - 1.99004745483398 * z + 0.99007225036621 * z**2)
    weights = np.abs(shelf * high_pass) ** 2
    weights[1:-1] *= 2  # the negative frequencies
    return np.asarray(weights / _BLOCK**2, np.float64)


_WEIGHTS = _k_weights()


def _powers(samples: Samples) -> npt.NDArray[np.float64]:
    """The weighted power of each block that is not silent."""
    count = max(1, -(-len(samples) // _BLOCK))
    padded = np.zeros(count * _BLOCK)
    padded[: len(samples)] = samples
    spectrum = np.abs(np.fft.rfft(padded.reshape(count, _BLOCK), axis=1)) ** 2
    powers = np.asarray(spectrum @ _WEIGHTS, np.float64)
    return np.asarray(powers[powers > _FLOOR], np.float64)


def _voiced(powers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(powers[powers > powers.mean() * _RELATIVE], np.float64)


def loudness(samples: Samples) -> float:
    """LUFS; -inf for silence."""
    powers = _powers(samples)
    if not powers.size:
        return float("-inf")
    return _OFFSET + 10 * float(np.log10(_voiced(powers).mean()))


def level(samples: Samples, target: float = LOUDNESS) -> Samples:
    """The whole of something at that loudness, its peaks rounded off rather than clipped."""
    found = loudness(samples)
    if not np.isfinite(found):
        return samples
    return _rounded(samples * 10 ** ((target - found) / 20))


def _rounded(samples: npt.NDArray[np.floating]) -> Samples:
    """Peaks over the knee bent so that they stay below full scale."""
    size = np.abs(samples)
    if size.max(initial=0.0) > _KNEE:
        room = 1 - _KNEE
        bent = _KNEE + room * np.tanh((size - _KNEE) / room) * 0.95
        samples = np.where(size > _KNEE, np.sign(samples) * bent, samples)
    return np.asarray(samples, np.float32)


def trim(samples: Samples) -> Samples:
    """A sentence with the same short silences around it, whoever spoke it; empty for silence."""
    loud = np.flatnonzero(np.abs(samples) > _GATE)
    if not loud.size:
        return np.zeros(0, np.float32)
    spoken = samples[max(0, loud[0] - _BEFORE) : loud[-1] + _BEFORE]
    return np.concatenate([spoken, np.zeros(_AFTER, np.float32)])


class Leveller:
    """Levels and trims a sentence that comes in pieces, each going on before the next is there.

    How loud the whole will be nobody knows then: it is taken from what has come so far, together
    with what is usual for the voice (`usual`, LUFS), and the gain moves slowly.
    """

    def __init__(self, usual: float):
        self._usual = 10 ** ((usual - _OFFSET) / 10)
        self._heard = np.zeros(0, np.float64)
        self._unmeasured = np.zeros(0, np.float32)  # less than a block
        self._gain = 0.0
        self._begun = False
        self._held = np.zeros(0, np.float32)  # silence: within the sentence, or its end

    def feed(self, piece: Samples) -> Samples:
        """What can be played already."""
        if not piece.size:
            return piece
        self._measure(piece)
        piece = self._amplified(piece)
        loud = np.flatnonzero(np.abs(piece) > _GATE)
        if not loud.size:
            self._held = np.concatenate([self._held, piece])
            if not self._begun:
                self._held = self._held[-_BEFORE:]
            return np.zeros(0, np.float32)
        whole = np.concatenate([self._held, piece])
        end = len(self._held) + int(loud[-1]) + 1
        first = 0 if self._begun else max(0, len(self._held) + int(loud[0]) - _BEFORE)
        self._begun = True
        self._held = whole[end:]
        return whole[first:end]

    def finish(self) -> Samples:
        """The silence after the sentence; empty if there was none."""
        if not self._begun:
            return np.zeros(0, np.float32)
        return np.concatenate([self._held[:_BEFORE], np.zeros(_AFTER, np.float32)])

    def _measure(self, piece: Samples) -> None:
        unmeasured = np.concatenate([self._unmeasured, piece])
        whole = len(unmeasured) - len(unmeasured) % _BLOCK
        self._unmeasured = unmeasured[whole:]
        if whole:
            self._heard = np.concatenate([self._heard, _powers(unmeasured[:whole])])

    def _amplified(self, piece: Samples) -> Samples:
        if self._heard.size:
            voiced = _voiced(self._heard)
            power = (voiced.sum() + _PRIOR_BLOCKS * self._usual) / (voiced.size + _PRIOR_BLOCKS)
        else:
            power = self._usual
        wanted = float(np.sqrt(10 ** ((LOUDNESS - _OFFSET) / 10) / power))
        before = self._gain or wanted
        self._gain = min(max(wanted, before / _FASTEST), before * _FASTEST)
        return _rounded(piece * np.linspace(before, self._gain, len(piece)))
