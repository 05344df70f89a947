"""Music for those who wait: our own, worked out rather than recorded, and so free to ship.

It is part of the program and under its licence; nothing of anybody else's is in it. Soft plucked
chords, a minute long, a little less loud than what is said, with nothing in them that a telephone
does not carry.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from ivr.ports import SAMPLE_RATE
from ivr.speech.loudness import LOUDNESS, level
from ivr.wire.audio import pcm_from_floats

_BEAT = 0.5  # seconds
_SOFTER = 1.5  # dB less than speech: it is heard for longer
# In semitones from A2, the bass first; each is heard for a bar of eight steps.
_A_MINOR_7 = (0, 7, 12, 15, 19)
_F_MAJOR_7 = (-4, 8, 12, 15, 19)
_C_MAJOR = (3, 10, 15, 19, 22)
_G_6 = (-2, 10, 14, 17, 22)
_D_MINOR_7 = (5, 8, 12, 17, 20)
_E_MINOR_7 = (-5, 7, 10, 14, 19)
_VERSE = (_A_MINOR_7, _F_MAJOR_7, _C_MAJOR, _G_6)
_BRIDGE = (_D_MINOR_7, _G_6, _E_MINOR_7, _A_MINOR_7)
# Which note of the chord each step plucks, bar by bar.
_RISING = (0, 2, 3, 4, 3, 2, 1, 2)
_FALLING = (0, 4, 3, 2, 3, 4, 2, 1)
_WIDE = (0, 1, 3, 2, 4, 2, 3, 1)
_FORM = ((_VERSE, _RISING), (_VERSE, _WIDE), (_BRIDGE, _FALLING), (_VERSE, _RISING))


@cache
def hold_music() -> bytes:
    """A quiet loop of 64 s as PCM; its end runs into its beginning."""
    notes = [
        (chord[step], step == 0)
        for chords, pattern in _FORM
        for chord in chords
        for step in pattern
    ]
    whole = np.zeros(int(len(notes) * _BEAT * SAMPLE_RATE))
    for number, (semitones, bass) in enumerate(notes):
        tone = _tone(110.0 * 2 ** (semitones / 12) * (1 if bass else 2))
        start = int(number * _BEAT * SAMPLE_RATE)
        # What rings on after the end is heard at the beginning: no seam.
        places = (start + np.arange(len(tone))) % len(whole)
        whole[places] += tone * (0.8 if number % 2 else 1.0)
    whole *= 0.5 / np.abs(whole).max()
    return pcm_from_floats(level(whole.astype(np.float32), LOUDNESS - _SOFTER), SAMPLE_RATE)


@cache
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
