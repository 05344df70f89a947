"""A recording wins, then the cache, then a voice; a sentence that cannot be made is left out."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.config import Settings
from ivr.errors import SettingsError
from ivr.speech.prompts import PromptStore, drop_oldest, load_recordings, sentences
from ivr.wire.audio import write_wav
from tests.fakes.speech import FakeVoices, fake_speech

BEEP = fake_speech("beep")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "sounds" / "en").mkdir(parents=True)
    return Settings(state_dir=tmp_path / "var", sounds_dir=tmp_path / "sounds")


def record(settings: Settings, manifest: str) -> None:
    (settings.sounds_dir / "en" / "manifest.yaml").write_text(manifest, encoding="utf-8")
    (settings.sounds_dir / "en" / "beep.wav").write_bytes(write_wav(BEEP))


async def said(store: PromptStore, text: str, language: str = "en", template: str = "") -> bytes:
    return b"".join([pcm async for pcm in store.render(text, language, template)])


async def test_a_recording_wins_by_template_text_or_sentence(settings: Settings) -> None:
    record(settings, '"Hello {name}.": beep.wav\nBye now.: beep.wav\n')
    voices = FakeVoices()
    store = PromptStore(settings, voices)
    assert await said(store, "Hello Ann.", template="Hello {name}.") == BEEP
    assert await said(store, "Bye  now.") == BEEP
    assert await said(store, "Thanks. Bye now.") == fake_speech("Thanks.") + BEEP
    assert voices.said == [("Thanks.", "en")]
    assert store.recorded("Bye now.", "en") and not store.recorded("Bye now.", "zh")


async def test_a_sentence_is_made_once_and_kept_for_the_next_start(settings: Settings) -> None:
    voices = FakeVoices()
    first = PromptStore(settings, voices)
    await said(first, "One. Two.")
    await said(first, "Two. One.")
    assert len(voices.said) == 2
    assert await said(PromptStore(settings, voices), "One.") == fake_speech("One.")
    assert len(voices.said) == 2


async def test_languages_are_kept_apart(settings: Settings) -> None:
    voices = FakeVoices()
    store = PromptStore(settings, voices)
    await said(store, "OK", "en")
    await said(store, "OK", "zh")
    assert len(voices.said) == 2


async def test_two_callers_share_one_synthesis_even_if_the_first_hangs_up(
    settings: Settings,
) -> None:
    voices = FakeVoices()
    voices.gate = asyncio.Event()
    store = PromptStore(settings, voices)
    first = asyncio.ensure_future(said(store, "Hello."))
    second = asyncio.ensure_future(said(store, "Hello."))
    while not voices.said:
        await asyncio.sleep(0)
    first.cancel()
    voices.gate.set()
    assert await second == fake_speech("Hello.")
    assert len(voices.said) == 1


async def test_a_sentence_that_fails_is_left_out(settings: Settings) -> None:
    voices = FakeVoices()
    voices.failing.add("Two.")
    store = PromptStore(settings, voices)
    assert await said(store, "One. Two. Three.") == fake_speech("One.") + fake_speech("Three.")
    voices.failing.clear()
    assert await said(store, "Two.") == fake_speech("Two.")


async def test_a_spoilt_cache_file_is_made_anew(settings: Settings) -> None:
    await said(PromptStore(settings, FakeVoices()), "One.")
    (file,) = (settings.state_dir / "prompts").glob("*/*.wav")
    file.write_bytes(b"RIFF")
    assert await said(PromptStore(settings, FakeVoices()), "One.") == fake_speech("One.")
    assert len(file.read_bytes()) > 44


async def test_a_cache_that_cannot_be_written_stops_nothing(settings: Settings) -> None:
    settings.state_dir.mkdir()
    (settings.state_dir / "prompts").write_text("in the way")
    assert await said(PromptStore(settings, FakeVoices()), "One.") == fake_speech("One.")


@pytest.mark.parametrize("older", [False, True])
async def test_only_the_hotlines_own_user_gets_at_prompts(settings: Settings, older: bool) -> None:
    folder = settings.state_dir / "prompts"
    if older:
        folder.mkdir(parents=True, mode=0o755)
    await said(PromptStore(settings, FakeVoices()), "You owe 12 euros, Mr Smith.")
    assert [*folder.rglob("*.wav")]
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_fixed_prompts_are_ready_before_the_first_call(settings: Settings) -> None:
    voices = FakeVoices()
    store = PromptStore(settings, voices)
    told: list[str] = []
    await store.prepare([("A. B.", "en"), ("A. B.", "en"), ("好。", "zh")], told.append)
    assert len(voices.said) == 3
    assert told == ["prompts: 2 of 2"]


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    for age, name in enumerate("abcd"):
        file = tmp_path / name / f"{name}.wav"
        file.parent.mkdir()
        file.write_bytes(bytes(100))
        os.utime(file, (1000 - age, 1000 - age))
    drop_oldest(tmp_path, 250)
    assert sorted(file.name for file in tmp_path.glob("*/*.wav")) == ["a.wav", "b.wav"]


@pytest.mark.parametrize(
    ("manifest", "complaint"),
    [
        ("- a\n- b\n", "must be a table"),
        ("a: [b\n", "not YAML"),
        ("7: beep.wav\n", "put it in quotes"),
        ("Hello.: 7\n", "not the name of a .wav"),
        ("Hello.: none.wav\n", "No such file"),
        ("Hello.: ../../../etc/passwd.wav\n", "outside"),
        ("Hello.: empty.wav\n", "WAV"),
        ("a: beep.wav\na: beep.wav\n", "duplicate"),
        ("[" * 600, "YAML"),
    ],
)
def test_a_wrong_manifest_is_refused_in_one_line(
    settings: Settings, manifest: str, complaint: str
) -> None:
    (settings.sounds_dir / "en" / "empty.wav").write_bytes(b"")
    record(settings, manifest)
    with pytest.raises(SettingsError) as raised:
        load_recordings(settings.sounds_dir)
    assert complaint in str(raised.value)
    assert "manifest.yaml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_site_without_recordings_has_none(tmp_path: Path) -> None:
    assert load_recordings(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("You owe 12.50 dollars. Bye!", ["You owe 12.50 dollars.", "Bye!"]),
        ("您好。请说账单，或按1。", ["您好。", "请说账单，或按1。"]),
        ("No end", ["No end"]),
        ("  \n ", []),
        ("One\nTwo", ["One", "Two"]),
    ],
)
def test_texts_are_cut_at_sentences(text: str, parts: list[str]) -> None:
    assert sentences(text) == parts


@given(st.text(max_size=2000))
def test_cutting_loses_no_letter_and_makes_nothing_too_long(text: str) -> None:
    parts = sentences(text)
    assert all(0 < len(part) <= 300 for part in parts)
    letters = [one for one in text if one.isalnum()]
    assert [one for part in parts for one in part if one.isalnum()] == letters
