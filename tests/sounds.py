"""What is on telephone lines besides speech, worked out from a seed: noise, hum, knocks, coughs.

Every function gives floats at 8,000 samples a second; `at` sets how loud they are in dBFS.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ivr.ports import SAMPLE_RATE as RATE

Floats = npt.NDArray[np.float64]
Chance = np.random.Generator


def at(sound: Floats, dbfs: float) -> Floats:
    """As loud as that on average."""
    return np.asarray(sound * _gain(dbfs) / max(float(np.sqrt(np.mean(sound * sound))), 1e-9))


def spoken_at(sound: Floats, dbfs: float) -> Floats:
    """As loud as that where something is said."""
    power = np.array([np.mean(sound[i : i + 160] ** 2) for i in range(0, len(sound) - 160, 80)])
    active = power[power > power.max() * 10**-2.5].mean()
    return np.asarray(sound * _gain(dbfs) / np.sqrt(active))


def onset(sound: Floats, below: float = 20.0) -> int:
    """The first sample of the first 10 ms that are within so many dB of the loudest."""
    power = np.array([np.mean(sound[i : i + 80] ** 2) for i in range(0, len(sound) - 80, 40)])
    return 40 * int(np.argmax(power > power.max() * 10 ** (-below / 10)))


def pcm(sound: Floats) -> bytes:
    return np.clip(sound * 32768, -32768, 32767).astype("<i2").tobytes()


def floats(samples: bytes) -> Floats:
    return np.frombuffer(samples, "<i2").astype(np.float64) / 32768


def _gain(dbfs: float) -> float:
    return float(10 ** (dbfs / 20))


# --- without a pause -----------------------------------------------------------------------------


def white(chance: Chance, seconds: float) -> Floats:
    return chance.normal(0, 1, int(seconds * RATE))


def pink(chance: Chance, seconds: float) -> Floats:
    return _shaped(white(chance, seconds), lambda f: 1 / np.sqrt(np.maximum(f, 20)))


def street(chance: Chance, seconds: float) -> Floats:
    """Cars that come and go: low noise, engines that glide past, and their tyres."""
    time = np.arange(int(seconds * RATE)) / RATE
    passing = 0.4 + sum(
        np.exp(-(((time - chance.uniform(0, seconds)) / chance.uniform(0.6, 2)) ** 2))
        for _ in range(int(seconds / 4))
    )
    rumble = _shaped(white(chance, seconds), lambda f: 1 / np.maximum(f, 60))
    sound = (at(rumble, 0) + 0.15 * white(chance, seconds)) * passing
    for _ in range(int(seconds / 8)):
        middle, width = chance.uniform(0, seconds), chance.uniform(1, 2.5)
        pitch = chance.uniform(30, 90) * (1 + 0.15 * np.tanh((middle - time) / width))
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        engine = sum(np.sin(k * phase) / k for k in range(1, 12))
        sound += 0.5 * engine * np.exp(-(((time - middle) / width) ** 2))
    return np.asarray(sound)


def hum(chance: Chance, seconds: float) -> Floats:
    """The mains, and what rectifiers make of it."""
    time = np.arange(int(seconds * RATE)) / RATE
    mains = chance.choice([50, 60])
    tones = sum(
        np.sin(2 * np.pi * mains * k * time + chance.uniform(0, 6)) / k
        for k in (1, 2, 3, 5, 7, 9, 11)
    )
    return np.asarray(tones + 0.02 * white(chance, seconds))


# --- one after the other -------------------------------------------------------------------------


def clicks(chance: Chance, seconds: float) -> Floats:
    return _events(chance, seconds, lambda: _click(chance), (0.1, 0.8))


def bursts(chance: Chance, seconds: float) -> Floats:
    """White noise for 50 to 200 ms."""
    return _events(chance, seconds, lambda: _burst(chance, chance.uniform(0.05, 0.2)), (0.4, 2))


def doors(chance: Chance, seconds: float) -> Floats:
    return _events(chance, seconds, lambda: _door(chance), (0.4, 2))


def coughs(chance: Chance, seconds: float) -> Floats:
    return _events(chance, seconds, lambda: _cough(chance), (0.3, 2.5))


def _click(chance: Chance) -> Floats:
    length = int(chance.uniform(0.002, 0.03) * RATE)
    click = chance.normal(0, 1, length) * np.exp(-np.arange(length) / (length / 4))
    return np.asarray(4 * click / np.abs(click).max())


def _burst(chance: Chance, seconds: float) -> Floats:
    burst = chance.normal(0, 1, int(seconds * RATE))
    edge = np.linspace(0, 1, 24)
    burst[:24] *= edge
    burst[-24:] *= edge[::-1]
    return np.asarray(burst)


def _door(chance: Chance) -> Floats:
    """A knock, and the panel that rings on."""
    length = int(chance.uniform(0.15, 0.4) * RATE)
    time = np.arange(length) / RATE
    edge = chance.uniform(300, 900)
    door = _shaped(chance.normal(0, 1, length), lambda f: 1 / (1 + (f / edge) ** 2))
    for _ in range(4):
        ring = np.sin(2 * np.pi * chance.uniform(80, 600) * time)
        door = door + 0.2 * ring * np.exp(-time / chance.uniform(0.02, 0.08))
    return np.asarray(4 * door / np.abs(door).max() * np.exp(-time / chance.uniform(0.03, 0.09)))


def _cough(chance: Chance) -> Floats:
    """An explosion of breath through a throat's resonances, its decay, and sometimes a voice."""

    def breath(length: int) -> Floats:
        peaks = [
            (chance.uniform(500, 900), 200),
            (chance.uniform(1100, 1700), 300),
            (chance.uniform(2200, 3000), 500),
        ]
        return at(
            _shaped(
                chance.normal(0, 1, length),
                lambda f: 0.15 + sum(1 / (1 + ((f - p) / w) ** 2) for p, w in peaks),
            ),
            0,
        )

    first, second, third = (
        int(chance.uniform(*span) * RATE) for span in ((0.03, 0.06), (0.12, 0.25), (0.06, 0.12))
    )
    fading = np.exp(-np.arange(second) / RATE / 0.12) * 0.6
    cough = np.concatenate([breath(first) * np.linspace(0.3, 1, first), breath(second) * fading])
    if chance.random() < 0.5:
        pitch = chance.uniform(150, 350) * (1 - 0.8 * np.arange(third) / RATE)
        voice = sum(np.sin(2 * np.pi * np.cumsum(k * pitch) / RATE) / k for k in range(1, 10))
        voiced = at(np.asarray(voice), -10) * np.hanning(third) + 0.15 * breath(third)
        cough = np.concatenate([cough, voiced])
    return np.asarray(cough)


def _events(
    chance: Chance, seconds: float, make: Callable[[], Floats], gap: tuple[float, float]
) -> Floats:
    sound = np.zeros(int(seconds * RATE))
    now = chance.uniform(0.2, 0.6)
    while True:
        event = make()
        first = int(now * RATE)
        if first + len(event) >= len(sound):
            return sound
        sound[first : first + len(event)] += event
        now += len(event) / RATE + chance.uniform(*gap)


def _shaped(sound: Floats, shape: Callable[[Floats], Floats]) -> Floats:
    frequencies = np.fft.rfftfreq(len(sound), 1 / RATE)
    return np.asarray(np.fft.irfft(np.fft.rfft(sound) * shape(frequencies), len(sound)))


STEADY: dict[str, Callable[[Chance, float], Floats]] = {
    "white noise": white,
    "pink noise": pink,
    "street": street,
    "hum": hum,
}
SUDDEN: dict[str, Callable[[Chance, float], Floats]] = {
    "clicks": clicks,
    "bursts of noise": bursts,
    "doors": doors,
    "coughs": coughs,
}
"""Each event is as loud as `at(…)` of nothing: multiply by a gain."""
