"""Speech is told from what else is on a line."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ivr.ports import FRAME_BYTES, SAMPLE_RATE
from ivr.speech.vad import VoiceDetector, trim

CHANCE = np.random.default_rng(7)


def pcm(samples: npt.NDArray[np.float64]) -> bytes:
    return np.clip(samples * 32768, -32768, 32767).astype("<i2").tobytes()


def vowel(seconds: float, loudness: float = 0.2) -> npt.NDArray[np.float64]:
    """A voice saying "ah": a buzz through the resonances of a throat."""
    at = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = 120 + 5 * np.sin(2 * np.pi * 3 * at)
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    sound = np.zeros_like(at)
    for harmonic in range(1, 28):
        strength = sum(
            height / (1 + ((harmonic * 120 - peak) / width) ** 2)
            for peak, width, height in ((700, 90, 1.0), (1200, 110, 0.6), (2600, 160, 0.3))
        )
        sound += strength * np.sin(harmonic * phase)
    sound *= 1 + 0.3 * np.sin(2 * np.pi * 4 * at)
    return np.asarray(loudness * sound / np.abs(sound).max())


def noise(seconds: float, loudness: float) -> npt.NDArray[np.float64]:
    return CHANCE.normal(0, loudness, int(seconds * SAMPLE_RATE))


def share_voiced(sound: bytes, detector: VoiceDetector | None = None) -> float:
    detector = detector or VoiceDetector()
    frames = [sound[at : at + FRAME_BYTES] for at in range(0, len(sound), FRAME_BYTES)]
    return sum(map(detector.voiced, frames)) / len(frames)


def test_a_voice_is_speech() -> None:
    assert share_voiced(pcm(vowel(1))) > 0.8


def test_a_soft_voice_is_speech_too() -> None:
    assert share_voiced(pcm(vowel(1, 0.1))) > 0.8


def test_silence_and_line_noise_are_not() -> None:
    assert share_voiced(bytes(SAMPLE_RATE * 2)) == 0
    assert share_voiced(pcm(noise(3, 0.001))) == 0


def test_the_gate_rises_with_the_noise_of_the_line() -> None:
    detector = VoiceDetector()
    share_voiced(pcm(noise(6, 0.01)), detector)
    assert share_voiced(pcm(noise(1, 0.012)), detector) < 0.05
    assert share_voiced(pcm(vowel(1, 0.3)), detector) > 0.7


def test_half_a_frame_is_silence() -> None:
    detector = VoiceDetector()
    assert not detector.voiced(b"")
    assert not detector.voiced(bytes(FRAME_BYTES - 2))


def test_a_recording_is_trimmed_to_what_is_said() -> None:
    sound = pcm(np.concatenate([np.zeros(16_000), vowel(0.6), np.zeros(24_000)]))
    seconds = len(trim(sound)) / 2 / SAMPLE_RATE
    assert 1.0 <= seconds <= 1.5


def test_where_nothing_is_said_nothing_is_trimmed() -> None:
    assert trim(bytes(8000)) == bytes(8000)
