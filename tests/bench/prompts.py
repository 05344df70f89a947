"""How soon a prompt that nobody has heard before begins, and how evenly loud everything is."""

from __future__ import annotations

import asyncio
import io
import tempfile
import time
import wave
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ivr.config import Settings, SpeechSettings
from ivr.flow.expr import parse_prompt
from ivr.speech import recorded
from ivr.speech.loudness import LOUDNESS, loudness
from ivr.speech.music import hold_music
from ivr.speech.prompts import PromptStore
from ivr.speech.tts import Voices
from ivr.wire.audio import ulaw_to_pcm
from tests.bench.figures import Figure, figure, median_and_tail, percentile

PROMPTS = 20
TARGET = 250.0
SPREAD = 2.0
NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
TEXTS = {
    "en": "You owe {sum:money}, and it was due on {day:date}. "
    "To pay by card, say card, or press 1. Your number is {number:digits}.",
    "zh": "您欠费{sum:money}，应于{day:date}缴清。刷卡支付请按1。您的账号是{number:digits}。",
}
VOICES = (("piper", "en"), ("pyttsx3", "en"), ("pyttsx3", "zh"))
SOUNDS = Path("deploy/asterisk/sounds")


def _prompts(language: str) -> Iterator[str]:
    """What changes, each with other values, in the words that the flow's language gives them."""
    prompt = parse_prompt(TEXTS[language])
    for number in range(PROMPTS):
        day = f"2026-{1 + number % 12:02}-{1 + number:02}"
        values = {"sum": 12.5 + 37 * number, "day": day, "number": str(10**7 + 7919**2 * number)}
        yield prompt.render(values, language, voice=True, now=NOW)


async def _first_sounds(voice: str, language: str) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds to the first sample, sentence by sentence and as one; LUFS of each prompt."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            state_dir=Path(folder), speech=SpeechSettings.model_validate({"voice": voice})
        )
        voices = Voices(settings)
        store = PromptStore(settings, voices)
        await store.prepare([(TEXTS[language], language)], lambda line: None)
        ours, theirs, loud = [], [], []
        try:
            for text in _prompts(language):
                began = time.perf_counter()
                pieces = store.render(text, language)
                heard = [await anext(pieces)]
                ours.append((time.perf_counter() - began) * 1000)
                heard += [piece async for piece in pieces]
                began = time.perf_counter()
                await voices.synthesize(text, language)
                theirs.append((time.perf_counter() - began) * 1000)
                loud.append(_lufs(b"".join(heard)))
        finally:
            await voices.close()
    return ours, theirs, loud


def _lufs(pcm: bytes) -> float:
    return loudness((np.frombuffer(pcm, "<i2") / 32768).astype(np.float32))


def _recordings() -> list[float]:
    """LUFS of recordings that were made at 8, 16 and 48 kHz, from too soft to too loud."""
    with tempfile.TemporaryDirectory() as folder:
        language = Path(folder) / "en"
        language.mkdir()
        lines = []
        for number, file in enumerate(sorted(SOUNDS.glob("*/*.ulaw"))):
            samples = np.frombuffer(ulaw_to_pcm(file.read_bytes()), "<i2")
            for gain in (0.03, 0.2, 1.4):
                name = f"{number}-{gain}.wav"
                spread = np.clip(np.repeat(samples, (1, 2, 6)[number % 3]) * gain, -32768, 32767)
                (language / name).write_bytes(_wav(spread, 8000 * (1, 2, 6)[number % 3]))
                lines.append(f'"{name}": {name}\n')
        (language / "manifest.yaml").write_text("".join(lines))
        return [_lufs(pcm) for pcm in recorded.load(Path(folder))["en"].values()]


def _wav(samples: np.ndarray, rate: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()


def prompts() -> list[Figure]:
    """A changing prompt of three sentences, cold; the baseline is to render it as one."""
    figures: list[Figure] = []
    heard = {"recordings": _recordings(), "music": [_lufs(hold_music())]}
    for voice, language in VOICES:
        ours, theirs, heard[f"{voice} {language}"] = asyncio.run(_first_sounds(voice, language))
        name = f"changing prompt to first sample, {voice} {language}"
        figures += median_and_tail(name, ours, theirs, TARGET)
    means = [float(np.mean(each)) for each in heard.values()]
    off = [abs(one - LOUDNESS) for each in heard.values() for one in each]
    return [
        *figures,
        figure("loudness between recordings, voices, music", max(means) - min(means), "dB", SPREAD),
        figure("loudness off its mark, p95", percentile(off, 0.95), "dB", SPREAD),
    ]


BENCHES: dict[str, Callable[[], list[Figure]]] = {"prompts": prompts}
