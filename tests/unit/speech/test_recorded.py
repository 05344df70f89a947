"""Recordings are found by what they say, all equally loud; a mistake is shown by its line."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
import pytest

from ivr.errors import SettingsError
from ivr.speech import loudness, recorded


def wav(rate: int, width: int, channels: int, amplitude: float, seconds: float = 1.0) -> bytes:
    at = np.arange(int(rate * seconds)) / rate
    tone = amplitude * np.sin(2 * np.pi * 440 * at) * (np.sin(2 * np.pi * 3 * at) > -0.5)
    whole = np.rint(tone * (2 ** (8 * width - 1) - 1)).astype("<i4")
    if width == 1:
        whole += 128
    octets = whole.view(np.uint8).reshape(-1, 4)[:, :width]
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.repeat(octets[:, None], channels, axis=1).tobytes())
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "en").mkdir()
    return tmp_path / "en"


def manifest(folder: Path, text: str) -> dict[str, dict[str, bytes]]:
    (folder / "manifest.yaml").write_text(text, encoding="utf-8")
    return recorded.load(folder.parent)


@pytest.mark.parametrize(
    ("rate", "width", "channels", "amplitude"),
    [(8000, 2, 1, 0.9), (44_100, 2, 2, 0.02), (48_000, 3, 1, 0.2), (16_000, 1, 1, 0.5),
     (11_025, 4, 2, 0.05)],
)  # fmt: skip
def test_any_rate_and_width_is_brought_to_one_loudness(
    folder: Path, rate: int, width: int, channels: int, amplitude: float
) -> None:
    (folder / "a.wav").write_bytes(wav(rate, width, channels, amplitude))
    pcm = manifest(folder, "Hello there.: a.wav\n")["en"]["Hello there."]
    assert len(pcm) == pytest.approx(16_000, abs=4)
    samples = (np.frombuffer(pcm, "<i2") / 32768).astype(np.float32)
    assert loudness.loudness(samples) == pytest.approx(loudness.LOUDNESS, abs=0.5)


def test_a_text_is_found_however_its_spaces_are_written(folder: Path) -> None:
    (folder / "a.wav").write_bytes(wav(8000, 2, 1, 0.5))
    found = manifest(folder, '"Hello\\n  {name}.": a.wav\n? Say yes\n: a.wav\n')["en"]
    assert set(found) == {recorded.key("Hello {name}."), "Say yes"}


@pytest.mark.parametrize(
    ("text", "place", "complaint"),
    [
        ("- a\n- b\n", ":1:", "must be a table"),
        ("a: [b\n", ":2:", "not YAML"),
        ("Hi.: a.wav\nHello.: 7\n", ":2:", "'7' is not the name of a .wav"),
        ("Hello.: [a.wav]\n", ":1:", "not the name of a .wav"),
        ("# one\n\nHello.: none.wav\n", ":3:", "No such file"),
        ("Hello.: ../../../etc/passwd.wav\n", ":1:", "outside"),
        ('Hello.: "a\\0.wav"\n', ":1:", "not the name"),
        ("Hi.: a.wav\nHello.: empty.wav\n", ":2:", "WAV"),
        ("Hi.: a.wav\nHello.: off.wav\n", ":2:", "off.wav has no sound in it"),
        ("Hi.: a.wav\nHi.: a.wav\n", ":2:", "twice"),
        ('Hi there.: a.wav\n"Hi  there.": a.wav\n', ":2:", "twice"),
        ('"": a.wav\n', ":1:", "the text is empty"),
        ("[" * 600, ":1:", "levels"),
    ],
)
def test_a_wrong_manifest_is_refused_in_one_line_that_names_the_place(
    folder: Path, text: str, place: str, complaint: str
) -> None:
    (folder / "a.wav").write_bytes(wav(8000, 2, 1, 0.5))
    (folder / "empty.wav").write_bytes(b"")
    (folder / "off.wav").write_bytes(wav(8000, 2, 1, 0.0))
    with pytest.raises(SettingsError) as raised:
        manifest(folder, text)
    assert complaint in str(raised.value)
    assert "manifest.yaml" + place in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "# nothing yet\n\n  # nor here\n"])
def test_a_manifest_may_be_empty(folder: Path, text: str) -> None:
    assert manifest(folder, text) == {"en": {}}


def test_a_site_without_recordings_has_none(tmp_path: Path) -> None:
    assert recorded.load(tmp_path / "nowhere") == {}
