"""A recording wins, then the cache, then a voice; a sentence that cannot be made is left out."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest

from ivr.config import Settings
from ivr.library import HOLE
from ivr.speech.loudness import level
from ivr.speech.prompts import PromptCache, PromptStore, drop_oldest
from ivr.wire.audio import pcm_from_floats, write_wav
from tests.fakes.speech import FakeVoices, fake_speech

BEEP = pcm_from_floats(level(np.tile(np.sin(np.arange(400) * 0.4), 20).astype(np.float32)), 8000)


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


async def test_a_sentence_is_heard_before_its_end_is_made(settings: Settings) -> None:
    voices = FakeVoices()
    voices.gate = asyncio.Event()
    store = PromptStore(settings, voices)
    pieces = store.render("Hello.", "en")
    assert await anext(pieces) == fake_speech("H")
    late = store.render("Hello.", "en")  # who comes later hears it from its beginning
    assert await anext(late) == fake_speech("H")
    voices.gate.set()
    assert [pcm async for pcm in pieces] == [pcm async for pcm in late] == [fake_speech("ello.")]


async def test_what_a_stand_in_said_is_not_kept(settings: Settings) -> None:
    voices = FakeVoices()
    voices.stands_in = True
    store = PromptStore(settings, voices)
    assert await said(store, "One.") == fake_speech("One.")
    voices.stands_in = False
    assert await said(store, "One.") == fake_speech("One.")
    assert len(voices.said) == 2
    await said(store, "One.")
    assert len(voices.said) == 2


async def test_another_edition_of_a_voice_says_it_anew(settings: Settings) -> None:
    voices = FakeVoices()
    await said(PromptStore(settings, voices), "One.")
    voices.edition = "2"
    await said(PromptStore(settings, voices), "One.")
    assert len(voices.said) == 2


async def test_a_sentence_that_fails_is_left_out(settings: Settings) -> None:
    voices = FakeVoices()
    voices.failing.add("Two.")
    store = PromptStore(settings, voices)
    assert await said(store, "One. Two. Three.") == fake_speech("One.") + fake_speech("Three.")
    voices.failing.clear()
    assert await said(store, "Two.") == fake_speech("Two.")


@pytest.mark.parametrize("cut", [0, 4, 44, 200, -1])
async def test_a_file_that_a_crash_cut_short_is_made_anew(settings: Settings, cut: int) -> None:
    await said(PromptStore(settings, FakeVoices()), "One.")
    (file,) = (settings.state_dir / "prompts").glob("*/*.wav")
    file.write_bytes(file.read_bytes()[:cut])
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
    await store.prepare([("Hello. Bye.", "en"), ("Hello. Bye.", "en"), ("好。", "zh")], told.append)
    assert len(voices.said) == 3
    assert told == ["prompts: 3 of 3 sentences"]
    assert voices.warmed == {"en", "zh"}


async def test_what_is_fixed_of_a_changing_prompt_is_ready_too(settings: Settings) -> None:
    voices = FakeVoices()
    store = PromptStore(settings, voices)
    await store.prepare([(f"Thank you. You owe {HOLE}. Bye.", "en")], lambda line: None)
    assert voices.said == [("Thank you.", "en"), ("Bye.", "en")]
    await said(store, "Thank you. You owe 12.50. Bye.")
    assert voices.said[2:] == [("You owe 12.50.", "en")]


async def test_a_start_with_everything_in_the_cache_waits_for_no_voice(settings: Settings) -> None:
    """But they are started, for what changes."""
    await PromptStore(settings, FakeVoices()).prepare([("Hello. Bye.", "en")], lambda line: None)
    voices = FakeVoices()
    voices.loading = asyncio.Event()
    await PromptStore(settings, voices).prepare([("Hello. Bye.", "en")], lambda line: None)
    assert not voices.said and not voices.warmed
    voices.loading.set()
    while not voices.warmed:
        await asyncio.sleep(0)


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    for age, name in enumerate("abcd"):
        file = tmp_path / name / f"{name}.wav"
        file.parent.mkdir()
        file.write_bytes(bytes(100))
        os.utime(file, (1000 - age, 1000 - age))
    drop_oldest(tmp_path, 250)
    assert sorted(file.name for file in tmp_path.glob("*/*.wav")) == ["a.wav", "b.wav"]


def test_what_a_killed_server_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "ab").mkdir()
    old, new = tmp_path / "ab" / "x.1.part", tmp_path / "ab" / "y.2.part"
    for file in (old, new):
        file.write_bytes(bytes(10))
    os.utime(old, (1000, 1000))
    drop_oldest(tmp_path, 250)
    assert not old.exists() and new.exists()


async def test_the_folder_keeps_its_limit_and_what_is_in_use(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is played from memory all day must not look forgotten on the disk."""
    monkeypatch.setattr("ivr.speech.prompts._MEMORY_BYTES", 20_000)
    folder = settings.state_dir / "prompts"
    cache = PromptCache(folder, 100_000)
    await cache.write("aa-used", bytes(10_000))
    for number in range(30):
        for file in folder.glob("*/*.wav"):
            os.utime(file, (1000 + number, 1000 + number))
        cache.remembered("aa-used")
        await cache.write(f"{number:02}-other", bytes(10_000))
    assert (folder / "aa" / "aa-used.wav").exists()
    assert sum(file.stat().st_size for file in folder.glob("*/*.wav")) <= 110_000


async def test_two_servers_share_a_folder(settings: Settings) -> None:
    """Each finds what the other wrote, and what the other dropped is made anew."""
    one, two = PromptStore(settings, FakeVoices()), PromptStore(settings, voices := FakeVoices())
    await asyncio.gather(*(said(store, "Same.") for store in (one, two)))
    await said(one, "First.")
    assert await said(two, "First.") == fake_speech("First.")
    assert ("First.", "en") not in voices.said
    await said(one, "Gone.")
    drop_oldest(settings.state_dir / "prompts", 0)
    assert await said(two, "Gone.") == fake_speech("Gone.")
    assert not [*(settings.state_dir / "prompts").rglob("*.part")]


async def test_memory_keeps_the_last_that_fit(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ivr.speech.prompts._MEMORY_BYTES", 25)
    cache = PromptCache(settings.state_dir / "prompts", 1 << 20)
    for name in ("one", "two", "three"):
        await cache.write(name, bytes(10))
    assert cache.remembered("one") is None and cache.remembered("three") == bytes(10)
    assert await cache.read("one") == bytes(10)


async def test_a_value_of_any_length_is_said_in_bounded_sentences(settings: Settings) -> None:
    voices = FakeVoices()
    store = PromptStore(settings, voices)
    await said(store, "You are " + "x" * 5000 + "。" * 500)
    assert all(len(text) <= 300 for text, _ in voices.said)
