"""Speech is told from what else is on a line."""

from __future__ import annotations

import os
from collections import deque
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ivr.ports import FRAME_BYTES, SAMPLE_RATE
from ivr.speech.endpoint import Edge, Endpointer, Patience
from ivr.speech.music import hold_music
from ivr.speech.vad import VoiceDetector, trim
from ivr.wire.audio import read_wav
from tests import sounds

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


def words(count: int, loudness: float = 0.2) -> npt.NDArray[np.float64]:
    """As many short sounds of a voice, with pauses."""
    word = np.concatenate([np.zeros(1600), vowel(0.4, loudness) * np.hanning(3200), np.zeros(800)])
    return np.tile(word, count)


def begins(sound: bytes, played: bytes = b"") -> list[float]:
    """When speech is taken to begin, in seconds; `played` left for the caller meanwhile."""
    left: deque[bytes] = deque(maxlen=30)
    detector = VoiceDetector(lambda: b"".join(left))
    endpointer = Endpointer(Patience(0.3, 1.2, 20.0))
    found = []
    for at in range(0, len(sound) - FRAME_BYTES + 1, FRAME_BYTES):
        left.append(played[at : at + FRAME_BYTES] or bytes(FRAME_BYTES))
        frame = sound[at : at + FRAME_BYTES]
        if endpointer.feed(detector.voiced(frame, endpointer.speaking)) is Edge.BEGAN:
            found.append((at + FRAME_BYTES) / 16_000)
    return found


DATA = Path(__file__).parents[3].parent / "shared" / "data"
SAID = ("digits-dev/1_theo_3", "digits-dev/8_jackson_27", "digits-dev/7_jackson_3", "zh-dev/005")
"""Two men, one word that begins with an s, and a woman's voice in Chinese."""


@cache
def said(name: str) -> npt.NDArray[np.float64]:
    file = DATA / f"{name}.wav"
    if not file.exists() and "CI" not in os.environ:
        pytest.skip("no recorded speech beside the project")
    return sounds.floats(read_wav(file.read_bytes()))


@pytest.mark.parametrize("name", SAID)
@pytest.mark.parametrize("dbfs", [-12.0, -20.0, -28.0, -35.0])
def test_a_voice_is_speech_at_any_usual_level(name: str, dbfs: float) -> None:
    word = said(name)
    line = np.concatenate([np.zeros(8000), sounds.spoken_at(word, dbfs), np.zeros(4000)])
    first = 1 + sounds.onset(word) / SAMPLE_RATE
    assert begins(pcm(line + noise(len(line) / SAMPLE_RATE, 0.0005)))[0] <= first + 0.12


def test_nineteen_words_of_twenty_are_speech_within_120_ms() -> None:
    files = sorted(DATA.glob("*-dev/*.wav"))
    if not files and "CI" not in os.environ:
        pytest.skip("no recorded speech beside the project")
    assert files, "no recorded speech beside the project"
    late = 0
    for number, file in enumerate(files):
        word = sounds.spoken_at(said(f"{file.parent.name}/{file.stem}"), -10 - 5 * (number % 4))
        line = np.concatenate([np.zeros(8000), word[sounds.onset(word) :], np.zeros(800)])
        late += begins(pcm(line))[:1] > [1.121]
    assert late <= len(files) // 20


@pytest.mark.parametrize("name", SAID)
def test_a_voice_over_noise_is_speech(name: str) -> None:
    word = sounds.spoken_at(said(name), -20)
    line = np.concatenate([np.zeros(16_000), word, np.zeros(4000)])
    first = 2 + sounds.onset(word) / SAMPLE_RATE
    found = begins(pcm(line + noise(len(line) / SAMPLE_RATE, 0.01)))  # 20 dB below it
    assert first <= found[0] <= first + 0.16


def test_silence_and_line_noise_are_not() -> None:
    assert share_voiced(bytes(SAMPLE_RATE * 2)) == 0
    assert share_voiced(pcm(noise(3, 0.001))) == 0


def test_the_gate_rises_with_the_noise_of_the_line() -> None:
    detector = VoiceDetector()
    share_voiced(pcm(noise(6, 0.01)), detector)
    assert share_voiced(pcm(noise(1, 0.012)), detector) < 0.05
    assert share_voiced(pcm(sounds.spoken_at(said(SAID[0]), -15)), detector) > 0.3


def test_half_a_frame_is_silence() -> None:
    detector = VoiceDetector()
    assert not detector.voiced(b"")
    assert not detector.voiced(bytes(FRAME_BYTES - 2))


def test_a_recording_is_trimmed_to_what_is_said() -> None:
    sound = pcm(np.concatenate([np.zeros(16_000), vowel(0.6), np.zeros(24_000)]))
    seconds = len(trim(sound)) / 2 / SAMPLE_RATE
    assert 0.9 <= seconds <= 1.5


def test_where_nothing_is_said_nothing_is_trimmed() -> None:
    assert trim(bytes(8000)) == bytes(8000)


@pytest.mark.parametrize("name", [*sounds.STEADY, *sounds.SUDDEN])
@pytest.mark.parametrize("dbfs", [-20.0, -35.0])
def test_noise_of_any_kind_is_not_speech(name: str, dbfs: float) -> None:
    chance = np.random.default_rng(11)
    if name in sounds.STEADY:
        noise_ = sounds.at(sounds.STEADY[name](chance, 12), dbfs)
    else:
        noise_ = sounds.SUDDEN[name](chance, 12) * 10 ** (dbfs / 20)
    assert begins(pcm(np.concatenate([np.zeros(4000), noise_]))) == []


def test_bursts_of_white_noise_of_150_ms_are_not_speech() -> None:
    burst = np.concatenate([noise(0.15, 0.1), np.zeros(4800)])
    assert begins(pcm(np.tile(burst, 10))) == []


def test_music_is_not_speech() -> None:
    assert begins(hold_music()[: 20 * 16_000]) == []


PROMPT = np.concatenate([words(1, 0.3 * (1 + number % 3) / 3) for number in range(8)])


@pytest.mark.parametrize("delay", [0.02, 0.1, 0.4])
@pytest.mark.parametrize("loss", [10.0, 20.0])
def test_the_echo_of_our_prompt_is_not_speech(delay: float, loss: float) -> None:
    late = np.concatenate([np.zeros(int(delay * SAMPLE_RATE)), PROMPT])[: len(PROMPT)]
    heard = late * 10 ** (-loss / 20) + noise(len(PROMPT) / SAMPLE_RATE, 0.0005)
    assert begins(pcm(heard)) != []  # it would be, did we not know what we play
    assert begins(pcm(heard), pcm(PROMPT)) == []


def test_who_speaks_over_the_echo_is_heard() -> None:
    late = np.concatenate([np.zeros(800), PROMPT])[: len(PROMPT)] * 0.1
    voice = np.zeros(len(PROMPT))
    word = sounds.spoken_at(said(SAID[0]), -25)
    voice[12_000 : 12_000 + len(word)] = word
    assert begins(pcm(late + voice), pcm(PROMPT))[0] == pytest.approx(1.55, abs=0.15)


@pytest.mark.parametrize("name", sounds.SUDDEN)
def test_noise_over_the_echo_is_not_speech_once_the_echo_is_known(name: str) -> None:
    words = [sounds.spoken_at(said(f"zh-dev/{number:03}"), -20) for number in range(12)]
    prompt = np.concatenate(words)
    chance = np.random.default_rng(4)
    late = np.concatenate([np.zeros(640), prompt])[: len(prompt)] * 0.1
    sudden = sounds.SUDDEN[name](chance, len(prompt) / SAMPLE_RATE) * 0.02
    sudden[:16_000] = 0
    assert begins(pcm(late + np.pad(sudden, (0, len(prompt) - len(sudden)))), pcm(prompt)) == []
