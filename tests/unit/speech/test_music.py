"""The music on hold can be looped for hours without hurting."""

from __future__ import annotations

import numpy as np

from ivr.speech.music import hold_music
from ivr.wire.audio import rms_dbfs


def test_it_is_a_quiet_loop_without_a_seam() -> None:
    pcm = hold_music()
    samples = np.frombuffer(pcm, "<i2").astype(float)
    assert len(samples) == 16 * 8000
    assert -30 < rms_dbfs(pcm) < -18
    assert np.abs(samples).max() < 0.6 * 32768
    seam = abs(samples[0] - samples[-1])
    assert seam <= np.abs(np.diff(samples)).max()


def test_it_is_made_once() -> None:
    assert hold_music() is hold_music()
