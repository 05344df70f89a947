"""The voice says what it is given, as data, and a voice that hangs is replaced."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.config import Settings, SpeechSettings
from ivr.errors import SpeechError
from ivr.speech import tts
from ivr.speech.tts import Voices, frame, level, speakable
from ivr.wire.audio import rms_dbfs

SETTINGS = Settings(speech=SpeechSettings(voice="pyttsx3"))

CHILD = """
import json, os, sys
for line in sys.stdin.buffer:
    text = json.loads(line)["text"]
    if text == "hang":
        import threading; threading.Event().wait()
    if text == "die":
        os._exit(3)
    if text == "babble":
        sys.stdout.write("Audio saved\\n")
    elif text == "lie":
        sys.stdout.write('{"bytes": 99999999999}\\n')
    elif text == "refuse":
        sys.stdout.write('{"error": "no such sound"}\\n')
    else:
        sys.stdout.write('{"bytes": 4}\\n' + text[:4])
    sys.stdout.flush()
"""


@pytest.fixture
def command(tmp_path: Path) -> tuple[str, ...]:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    return (sys.executable, str(script))


@pytest.mark.parametrize("fault", ["hang", "die", "babble", "lie"])
async def test_after_a_fault_the_next_sentence_is_spoken(
    fault: str, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tts, "_DEADLINE", 0.3)
    voices = Voices(SETTINGS, command)
    with pytest.raises(SpeechError) as raised:
        await voices.synthesize(fault, "en")
    assert fault in str(raised.value)
    assert "\n" not in str(raised.value)
    monkeypatch.setattr(tts, "_DEADLINE", 10)
    assert await voices.synthesize("next", "en") == b"next"
    await voices.close()


async def test_a_refusal_costs_its_own_sentence_alone(command: tuple[str, ...]) -> None:
    voices = Voices(SETTINGS, command)
    with pytest.raises(SpeechError, match="no such sound"):
        await voices.synthesize("refuse", "en")
    assert await voices.synthesize("next", "en") == b"next"
    await voices.close()
    await voices.close()


async def test_what_cannot_be_spoken_is_said_in_one_line(command: tuple[str, ...]) -> None:
    voices = Voices(SETTINGS, command)
    with pytest.raises(SpeechError, match="no voice for language 'tlh'"):
        await voices.synthesize("Qapla", "tlh")
    with pytest.raises(SpeechError, match="at most 1000"):
        await voices.synthesize("a" * 1001, "en")
    assert await voices.synthesize(" … <> ".replace("…", ""), "en") == b""
    await voices.close()


async def test_the_real_voice_speaks_english_and_chinese() -> None:
    voices = Voices(SETTINGS)
    try:
        short = await voices.synthesize("Yes.", "en")
        long = await voices.synthesize("Your balance is twelve dollars and fifty cents.", "en")
        chinese = await voices.synthesize("您的余额是十二块五。", "zh")
        again = await voices.synthesize("Yes.", "en")
    finally:
        await voices.close()
    assert len(long) > 2 * len(short)
    assert len(chinese) > len(short)
    assert len(again) == pytest.approx(len(short), rel=0.3)  # espeak varies
    for pcm in (short, long, chinese):
        assert -28 < rms_dbfs(pcm) < -16


async def test_markup_is_not_obeyed() -> None:
    voices = Voices(SETTINGS)
    try:
        plain = await voices.synthesize("hello audio src world", "en")
        marked = await voices.synthesize("hello <audio src>world", "en")
        phonemes = await voices.synthesize("[[h@'loU]]", "en")
    finally:
        await voices.close()
    # Obeyed, the tag would be silent; not obeyed, "audio src" is read out.
    assert len(marked) == pytest.approx(len(plain), rel=0.15)
    assert phonemes


@given(st.text(max_size=300))
def test_no_text_carries_a_command_to_the_synthesiser(text: str) -> None:
    said = speakable(text)
    assert not set(said) & set("<>{}\\|&")
    assert "[[" not in said and "\n" not in said and "\0" not in said
    assert speakable(said) == said


def test_all_voices_have_one_loudness() -> None:
    at = np.arange(22_050) / 22_050
    loud, soft = (
        level((size * np.sin(2 * np.pi * 300 * at)).astype(np.float32)) for size in (0.9, 0.05)
    )
    assert np.allclose(loud, soft, atol=0.01)
    peaks = np.zeros(1000, np.float32)
    peaks[::100] = 1.0
    assert np.abs(level(peaks)).max() <= 0.9


def test_silence_stays_silence() -> None:
    assert not level(np.zeros(100, np.float32)).any()
    assert frame(np.zeros(100, np.float32), 8000).size == 0
