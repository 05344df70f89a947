"""`hotline hear` and `hotline say` on good files and on everything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from ivr.config import Settings, SpeechSettings
from ivr.errors import SpeechError
from ivr.speech import files
from ivr.wire.audio import read_wav, write_wav

ESPEAK = Settings(speech=SpeechSettings(voice="pyttsx3"))


async def test_a_text_becomes_a_file(tmp_path: Path) -> None:
    await files.say(ESPEAK, "Hello there.", "en", tmp_path / "o.wav")
    assert len(read_wav((tmp_path / "o.wav").read_bytes())) > 8000


@pytest.mark.parametrize(
    ("text", "language", "path", "complaint"),
    [
        ("Hello.", "tlh", "o.wav", "no voice"),
        ("<>", "en", "o.wav", "nothing to say"),
        ("Hello.", "en", "none/o.wav", "No such file"),
    ],
)
async def test_what_cannot_be_said_is_told_in_one_line(
    tmp_path: Path, text: str, language: str, path: str, complaint: str
) -> None:
    with pytest.raises(SpeechError, match=complaint) as raised:
        await files.say(ESPEAK, text, language, tmp_path / path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not a WAV"),
        (b"ID3 music", "not a WAV"),
        (write_wav(bytes(1000))[:30], "not a WAV"),
        (write_wav(b""), "no sound"),
        (write_wav(bytes(16_000 * 61)), "61 s long"),
    ],
)
async def test_a_bad_recording_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    wav = tmp_path / "bad.wav"
    wav.write_bytes(content)
    with pytest.raises(SpeechError, match=complaint) as raised:
        async for _ in files.hear(ESPEAK, [wav], None, "en"):
            pass
    assert str(wav) in str(raised.value)
    assert "\n" not in str(raised.value)


async def test_a_missing_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpeechError, match=r"gone\.wav: No such file"):
        async for _ in files.hear(ESPEAK, [tmp_path / "gone.wav"], None, "en"):
            pass


async def test_without_a_recogniser_that_is_said(tmp_path: Path) -> None:
    wav = tmp_path / "good.wav"
    wav.write_bytes(write_wav(bytes(8000)))
    deaf = Settings(speech=SpeechSettings(engine="none"))
    with pytest.raises(SpeechError, match="cannot hear en"):
        async for _ in files.hear(deaf, [wav], None, "en"):
            pass


def test_phrases_are_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("\ufeffBilling\n\n# no phrase\n 查询账单 \nbilling\n", "utf-8")
    assert files.load_phrases(tmp_path / "p.txt") == ("billing", "查询账单")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no phrases"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a" * 201, "more than 200"),
        (b"a\n" * 600_000, "at most"),
        ("\n".join(map(str, range(5001))).encode(), "5001 phrases"),
    ],
)
def test_a_bad_list_of_phrases_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "p.txt").write_bytes(content)
    with pytest.raises(SpeechError, match=complaint) as raised:
        files.load_phrases(tmp_path / "p.txt")
    assert "p.txt" in str(raised.value)


def test_the_result_is_json() -> None:
    result = files.HearResult("a.wav", "yes", 0.9, "whisper", 0.2)
    assert list(result.to_json()) == ["file", "text", "confidence", "engine", "seconds"]
