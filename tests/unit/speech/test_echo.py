"""What is left of a caller's audio when our own is taken out of it."""

from __future__ import annotations

import numpy as np
import pytest

from ivr.speech.echo import FAR, STRETCH, EchoGuard, Samples

CHANCE = np.random.default_rng(5)


def sound(length: int) -> Samples:
    """Something that is like nothing else."""
    return np.asarray(CHANCE.normal(0, 0.1, length), np.float32)


def left(near: Samples, far: Samples, guard: EchoGuard | None = None) -> float:
    rest = (guard or EchoGuard()).rest(near, far)
    return float(rest @ rest) / float(near @ near)


@pytest.mark.parametrize("delay", [0, 160, 1000, FAR - STRETCH])
def test_an_echo_is_explained_whatever_its_delay(delay: int) -> None:
    far = sound(FAR)
    end = FAR - delay
    assert left(0.1 * far[end - STRETCH : end], far) < 0.01


def test_a_smeared_echo_is_explained_too() -> None:
    far = sound(FAR)
    smeared = np.convolve(far, [0.1, -0.05, 0.03, 0.02, -0.01])[:FAR].astype(np.float32)
    assert left(smeared[-STRETCH - 800 : -800], far) < 0.01


def test_another_sound_is_left_as_it_is() -> None:
    assert left(sound(STRETCH), sound(FAR)) > 0.9


def test_what_is_said_over_an_echo_is_left() -> None:
    far = sound(FAR)
    assert left(0.1 * far[-STRETCH:] + 0.3 * sound(STRETCH), far) > 0.8


def test_nothing_explains_where_nothing_was_played() -> None:
    near = sound(STRETCH)
    assert EchoGuard().rest(near, np.zeros(FAR, np.float32)) is near


def test_a_delay_that_changes_is_found_again() -> None:
    guard, far = EchoGuard(), sound(FAR)
    for delay in (400, 400, 720, 80):
        end = FAR - delay
        assert left(0.1 * far[end - STRETCH : end], far, guard) < 0.01
