"""Whatever a caller hears is equally loud, and does not clip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.speech.loudness import LOUDNESS, Leveller, Samples, level, loudness, trim

RATE = 8000


def spoken(amplitude: float, seconds: float = 3.0, frequency: float = 500.0) -> Samples:
    """Syllables and pauses, the last ones softer, with silence around."""
    at = np.arange(int(RATE * seconds)) / RATE
    syllables = np.maximum(0.0, np.sin(2 * np.pi * 4 * at)) * (np.sin(2 * np.pi * 0.7 * at) > -0.7)
    tone = amplitude * (1.2 - 0.4 * at / seconds) * syllables * np.sin(2 * np.pi * frequency * at)
    silence = np.zeros(RATE // 4)
    return np.concatenate([silence, tone, silence]).astype(np.float32)


def test_the_measure_is_the_standard_one() -> None:
    """BS.1770: 997 Hz at full scale is -3.01 LUFS."""
    at = np.arange(RATE * 2) / RATE
    assert loudness(np.sin(2 * np.pi * 997 * at).astype(np.float32)) == pytest.approx(-3.0, abs=0.1)
    assert loudness(np.zeros(RATE, np.float32)) == float("-inf")
    assert loudness(np.zeros(0, np.float32)) == float("-inf")


def test_pauses_do_not_make_it_soft() -> None:
    once = spoken(0.3)
    assert loudness(np.concatenate([once, np.zeros(RATE * 5, np.float32)])) == pytest.approx(
        loudness(once), abs=0.3
    )


@pytest.mark.parametrize("amplitude", [0.01, 0.1, 0.5, 1.0])
def test_a_whole_is_levelled(amplitude: float) -> None:
    levelled = level(spoken(amplitude))
    assert loudness(levelled) == pytest.approx(LOUDNESS, abs=0.5)
    assert np.abs(levelled).max() < 1.0


def test_peaks_are_rounded_off_rather_than_clipped() -> None:
    clicks = spoken(0.05)
    clicks[::997] = 1.0
    levelled = level(clicks)
    assert np.abs(levelled).max() < 1.0
    assert len(np.unique(levelled[::997])) > 1 or np.abs(levelled).max() < 0.99


def test_silence_stays_silence() -> None:
    assert not level(np.zeros(100, np.float32)).any()
    assert trim(np.zeros(100, np.float32)).size == 0
    assert trim(np.zeros(0, np.float32)).size == 0


def in_pieces(samples: Samples, size: int, usual: float) -> Samples:
    leveller = Leveller(usual)
    pieces = [leveller.feed(samples[at : at + size]) for at in range(0, len(samples), size)]
    return np.concatenate([*pieces, leveller.finish()])


@pytest.mark.parametrize("size", [400, 3700, 100_000])
@pytest.mark.parametrize("off", [-2.5, 0.0, 2.5])
def test_a_stream_comes_near_the_loudness_of_a_whole(size: int, off: float) -> None:
    """`off`: how much louder this sentence is than is usual for the voice."""
    samples = spoken(0.2)
    levelled = in_pieces(samples, size, loudness(samples) - off)
    assert loudness(levelled) == pytest.approx(LOUDNESS, abs=1.2)


def test_a_stream_has_the_same_silences_around_it_as_a_whole() -> None:
    samples = spoken(0.2)
    whole = trim(level(samples))
    for size in (100, 1601, 9000):
        assert len(in_pieces(samples, size, loudness(samples))) == pytest.approx(
            len(whole), abs=RATE * 0.03
        )


def test_a_stream_of_silence_says_nothing() -> None:
    assert in_pieces(np.zeros(RATE, np.float32), 1000, -23.0).size == 0


@given(st.lists(st.integers(0, 2000), max_size=20), st.integers(0, 2**32 - 1))
def test_no_stream_is_made_longer_or_clips(sizes: list[int], seed: int) -> None:
    noise = np.random.default_rng(seed)
    leveller = Leveller(-23.0)
    given_samples = 0
    out = 0
    for size in sizes:
        piece = leveller.feed(noise.uniform(-1, 1, size).astype(np.float32))
        given_samples += size
        out += len(piece)
        assert out <= given_samples
        assert np.abs(piece).max(initial=0.0) < 1.0
        assert np.isfinite(piece).all()
    assert len(leveller.finish()) <= RATE * 0.25
