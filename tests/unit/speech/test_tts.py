"""The voice says what it is given, as data, and a voice that hangs is replaced."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.config import Settings, SpeechSettings
from ivr.errors import SpeechError
from ivr.speech import tts
from ivr.speech.tts import Voices, speakable
from ivr.wire.audio import rms_dbfs

SETTINGS = Settings(speech=SpeechSettings(voice="pyttsx3"))
BOTH = Settings()

CHILD = """
import json, os, sys, threading
name = sys.argv[1]
mood = os.environ.get("MOOD_" + name, "")
with open(os.environ["STARTS"], "a") as starts:
    starts.write(name + " ")
if mood == "stillborn":
    sys.exit(1)
if mood == "slow":
    threading.Event().wait()
out = sys.stdout.buffer
out.write(b'{"ready": true}\\n')
out.flush()
for line in sys.stdin.buffer:
    text = json.loads(line)["text"].encode()
    fault, _, at = text.partition(b" ")
    if at == name.encode() or not at:
        if fault == b"hang":
            threading.Event().wait()
        if fault == b"die":
            os._exit(3)
        if fault == b"half":
            out.write(b'{"bytes": 2}\\nha')
            out.flush()
            os._exit(3)
        if fault == b"stall":
            out.write(b'{"bytes": 2}\\nst')
            out.flush()
            threading.Event().wait()
        answers = {b"babble": b"Audio saved", b"list": b"[]", b"odd": b'{"odd": 1}',
                   b"lie": b'{"bytes": 99999999999}', b"minus": b'{"bytes": -1}',
                   b"deep": b"[" * 9999, b"binary": b"\\xff\\xfe",
                   b"endless": b"x" * 200_000, b"refuse": b'{"error": "no such sound"}'}
        if fault in answers:
            out.write(answers[fault] + b"\\n")
            out.flush()
            continue
    out.write(b'{"bytes": %d}\\n' % len(name) + name.encode())
    out.write(b'{"bytes": 2}\\n' + text[:2] + b'{"end": true}\\n')
    out.flush()
"""

FAULTS = ["die", "babble", "list", "odd", "lie", "minus", "deep", "binary", "endless"]


@pytest.fixture
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """The voices that were started, in order."""
    file = tmp_path / "starts"
    file.touch()
    monkeypatch.setenv("STARTS", str(file))
    return lambda: file.read_text().split()


@pytest.fixture
def command(tmp_path: Path, starts: object) -> tuple[str, ...]:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    return (sys.executable, str(script))


@pytest.fixture(autouse=True)
def with_piper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ivr.speech.piper.installed", lambda: True)
    monkeypatch.setattr("ivr.speech.piper.edition", lambda: "1")


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines that a test can wait for."""
    monkeypatch.setattr(tts, "_FIRST_SECONDS", 0.4)
    monkeypatch.setattr(tts, "_NEXT_SECONDS", 0.2)
    monkeypatch.setattr(tts, "_TURN_SECONDS", 0.1)


async def spoken(voices: Voices, text: str, language: str = "en") -> str:
    return (await voices.synthesize(text, language)).decode()


@pytest.mark.parametrize("fault", FAULTS)
async def test_another_voice_says_what_one_fails_at(
    fault: str, command: tuple[str, ...], starts: Callable[[], list[str]]
) -> None:
    voices = Voices(BOTH, command)
    assert await spoken(voices, "hello") == "piperhe"
    assert await spoken(voices, f"{fault} piper") == f"pyttsx3{fault[:2]}"
    assert await spoken(voices, "next") == "piperne"
    assert sorted(starts()) == ["piper", "piper", "pyttsx3"]
    await voices.close()


@pytest.mark.usefixtures("hurried")
async def test_a_voice_that_hangs_is_stood_in_for(command: tuple[str, ...]) -> None:
    voices = Voices(BOTH, command)
    await voices.warm(["en", "zh"])
    pieces: list[bytes] = []
    assert not await voices.speak("hang piper", "en", pieces.append)
    assert b"".join(pieces) == b"pyttsx3ha"
    assert await spoken(voices, "next") == "piperne"
    assert await voices.speak("next", "en", pieces.append)
    await voices.close()


@pytest.mark.parametrize("fault", ["half", "stall"])
@pytest.mark.usefixtures("hurried")
async def test_a_voice_that_fails_halfway_costs_that_sentence(
    fault: str, command: tuple[str, ...]
) -> None:
    """Another voice would begin it again: the caller would hear its beginning twice."""
    voices = Voices(BOTH, command)
    await voices.warm(["en"])
    pieces: list[bytes] = []
    with pytest.raises(SpeechError, match=r"piper (died|hung)"):
        await voices.speak(f"{fault} piper", "en", pieces.append)
    assert b"".join(pieces) == fault[:2].encode()
    assert await spoken(voices, "next") == "piperne"
    await voices.close()


async def test_the_only_voice_of_a_language_gets_a_second_try(
    command: tuple[str, ...], starts: Callable[[], list[str]]
) -> None:
    voices = Voices(BOTH, command)
    assert await spoken(voices, "ha", "zh")
    process = voices._children["pyttsx3"]._process
    assert process is not None
    process.kill()  # while it has nothing to say
    assert await spoken(voices, "ha", "zh")
    with pytest.raises(SpeechError, match="died at 3 characters"):
        await spoken(voices, "die", "zh")
    assert set(starts()) == {"pyttsx3"}
    await voices.close()


async def test_a_voice_that_always_fails_rests(
    command: tuple[str, ...], starts: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tts, "_REST_SECONDS", 1000.0)
    monkeypatch.setenv("MOOD_piper", "stillborn")
    voices = Voices(BOTH, command)
    for _ in range(8):
        assert await spoken(voices, "hello") == "pyttsx3he"
    assert starts().count("piper") == tts._FAULTS + 1
    await voices.close()


async def test_after_its_rest_a_voice_is_tried_again(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tts, "_REST_SECONDS", 0.0)
    monkeypatch.setenv("MOOD_piper", "stillborn")
    voices = Voices(BOTH, command)
    for _ in range(4):
        assert await spoken(voices, "hello") == "pyttsx3he"
    monkeypatch.setenv("MOOD_piper", "")
    assert await spoken(voices, "hello") == "piperhe"
    await voices.close()


@pytest.mark.usefixtures("hurried")
async def test_nobody_waits_for_a_voice_that_is_slow_to_start(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, starts: Callable[[], list[str]]
) -> None:
    monkeypatch.setenv("MOOD_piper", "slow")
    voices = Voices(BOTH, command)
    await voices.warm(["zh"])
    for _ in range(2):
        assert not await voices.speak("hello", "en", lambda pcm: None)
    assert starts().count("piper") == 1  # it is still being started
    await voices.close()


@pytest.mark.usefixtures("hurried")
async def test_a_voice_with_too_much_to_say_is_stood_in_for(command: tuple[str, ...]) -> None:
    voices = Voices(BOTH, command)
    await voices.warm(["en"])
    async with voices._children["piper"]._turn:  # another caller's long sentence
        assert not await voices.speak("hello", "en", lambda pcm: None)
        ahead = asyncio.ensure_future(voices.speak("hello", "en", str, patient=True))
        await voices.speak("hello", "en", lambda pcm: None)
    assert await ahead, "who renders ahead waits for the voice itself"
    assert await voices.speak("hello", "en", lambda pcm: None)
    await voices.close()


async def test_who_stops_waiting_leaves_the_next_answer_clean(command: tuple[str, ...]) -> None:
    voices = Voices(BOTH, command)
    waiting = asyncio.ensure_future(spoken(voices, "hang"))
    while not (child := voices._children.get("piper")) or child._process is None:
        await asyncio.sleep(0)
    await voices.warm(["en"])
    while not child._turn.locked():
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await spoken(voices, "next") == "piperne"
    await voices.close()


async def test_a_refusal_costs_its_own_sentence_alone(
    command: tuple[str, ...], starts: Callable[[], list[str]]
) -> None:
    voices = Voices(BOTH, command)
    with pytest.raises(SpeechError, match="no such sound"):
        await spoken(voices, "refuse")
    assert await spoken(voices, "next") == "piperne"
    assert sorted(starts()) == ["piper", "pyttsx3"]
    await voices.close()
    await voices.close()


async def test_what_cannot_be_spoken_is_said_in_one_line(command: tuple[str, ...]) -> None:
    voices = Voices(BOTH, command)
    with pytest.raises(SpeechError, match="no voice for language 'tlh'"):
        await spoken(voices, "Qapla", "tlh")
    with pytest.raises(SpeechError, match="at most 1000"):
        await spoken(voices, "a" * 1001)
    for nothing in (" … <> ", "。", "”"):
        assert await spoken(voices, nothing) == ""
    await voices.close()


async def test_no_text_stands_in_an_error(command: tuple[str, ...]) -> None:
    """It may hold names and balances, and errors are logged."""
    voices = Voices(BOTH, command)
    for fault in ("die", "refuse"):
        with pytest.raises(SpeechError) as raised:
            await spoken(voices, fault, "zh")
        assert fault not in str(raised.value).replace("died", "")
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
