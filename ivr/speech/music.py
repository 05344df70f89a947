"""Music for those who wait: our own, worked out rather than recorded, and so free to ship."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from ivr.ports import SAMPLE_RATE
from ivr.wire.audio import pcm_from_floats

_BEAT = 0.5  # seconds
_LOUDNESS = 0.08
# A minor seventh, F major seventh, C major, G sixth; in semitones from A2, two bars each.
_CHORDS = ((0, 7, 12, 15, 19), (-4, 8, 12, 15, 19), (3, 10, 15, 19, 22), (-2, 10, 14, 17, 22))
_PATTERN = (0, 2, 3, 4, 3, 2, 1, 2)


@cache
def hold_music() -> bytes:
    """A quiet loop of 16 s as PCM; its end runs into its beginning."""
    notes = [(chord, step) for chord in _CHORDS for step in _PATTERN]
    whole = np.zeros(int(len(notes) * _BEAT * SAMPLE_RATE))
    for number, (chord, step) in enumerate(notes):
        tone = _tone(110.0 * 2 ** (chord[step] / 12) * (2 if step else 1))
        start = int(number * _BEAT * SAMPLE_RATE)
        # What rings on after the end is heard at the beginning: no seam.
        places = (start + np.arange(len(tone))) % len(whole)
        whole[places] += tone
    whole *= _LOUDNESS / np.sqrt(np.mean(whole * whole))
    return pcm_from_floats(whole.astype(np.float32), SAMPLE_RATE)


def _tone(frequency: float, seconds: float = 2.5) -> npt.NDArray[np.float64]:
    """A soft plucked note, within what a telephone carries."""
    at = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    rise = np.minimum(1.0, at / 0.02)
    tone = sum(
        strength * np.sin(2 * np.pi * frequency * partial * at) * np.exp(-at * (1.4 + partial))
        for partial, strength in ((1, 1.0), (2, 0.45), (3, 0.18), (4, 0.06))
        if frequency * partial < 3400
    )
    fall = np.minimum(1.0, (seconds - at) / 0.2)
    return np.asarray(tone * rise * fall, np.float64)
