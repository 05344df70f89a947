"""The music on hold can be looped for hours without hurting."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ivr.speech.loudness import LOUDNESS, loudness
from ivr.speech.music import hold_music

RATE = 8000


@pytest.fixture
def samples() -> npt.NDArray[np.float32]:
    return (np.frombuffer(hold_music(), "<i2") / 32768).astype(np.float32)


def test_it_is_a_minute_as_loud_as_what_is_said(samples: npt.NDArray[np.float32]) -> None:
    assert len(samples) == 64 * RATE
    assert LOUDNESS - 2 <= loudness(samples) <= LOUDNESS
    assert np.abs(samples).max() < 0.8


def test_no_bar_of_it_is_loud_or_silent(samples: npt.NDArray[np.float32]) -> None:
    bars = [loudness(samples[at : at + 4 * RATE]) for at in range(0, len(samples), 4 * RATE)]
    assert max(bars) - min(bars) < 4
    powers = (samples.reshape(-1, RATE) ** 2).mean(axis=1)
    assert powers.min() > 0.05 * powers.mean()


def test_its_end_runs_into_its_beginning(samples: npt.NDArray[np.float32]) -> None:
    seam = abs(samples[0] - samples[-1])
    assert seam <= np.percentile(np.abs(np.diff(samples)), 99)
    around = np.concatenate([samples[-RATE // 10 :], samples[: RATE // 10]])
    assert (around**2).mean() > 0.02 * (samples**2).mean()  # nor is there a hole


def test_it_is_not_the_same_bar_over_and_over(samples: npt.NDArray[np.float32]) -> None:
    quarters = samples.reshape(4, -1)
    assert np.corrcoef(quarters[0], quarters[1])[0, 1] < 0.95


def test_it_is_made_once() -> None:
    assert hold_music() is hold_music()
