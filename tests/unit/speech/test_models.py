"""Models are found, joined, downloaded and refused, whatever the network does."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import sys
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from ivr.config import Settings, SpeechSettings
from ivr.errors import SpeechError
from ivr.speech import models
from ivr.speech.models import CATALOGUE, Model

BLOB = bytes(range(256)) * 8
TOLD: list[str] = []


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache")


@pytest.fixture
def halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """Two packages with half a model each."""
    for number, part in enumerate((BLOB[:1000], BLOB[1000:]), 1):
        folder = tmp_path / "site" / f"half_model_part{number}" / "data"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").touch()
        (folder / f"model.bin.part{number}").write_bytes(part)
    (tmp_path / "site" / "half_model_part1" / "data" / "config.json").write_text("{}")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return Model(
        "half",
        "en",
        "whisper",
        len(BLOB),
        hashlib.sha256(BLOB).hexdigest(),
        packages=("half_model_part1/data", "half_model_part2/data"),
    )


def test_halves_are_joined_once(settings: Settings, halves: Model) -> None:
    assert models.path_of(settings, halves) is None
    path = models.fetch(settings, halves, TOLD.append)
    assert (path / "model.bin").read_bytes() == BLOB
    assert (path / "config.json").exists()
    assert models.path_of(settings, halves) == path
    assert models.fetch(settings, halves, TOLD.append) == path
    assert "half_model_part1" not in sys.modules


def test_a_wrong_half_is_refused_and_leaves_nothing(settings: Settings, halves: Model) -> None:
    with pytest.raises(SpeechError, match="wrong checksum"):
        models.fetch(settings, replace(halves, sha256="0" * 64), TOLD.append)
    assert not models.installed(settings, halves)
    assert list(models.folder(settings).iterdir()) == []


def test_a_missing_package_is_named(settings: Settings) -> None:
    model = Model("x", "en", "whisper", 1, "", packages=("no_such_a/data", "no_such_b/data"))
    with pytest.raises(SpeechError, match="no-such-a, no-such-b"):
        models.fetch(settings, model, TOLD.append)


def test_a_cache_that_cannot_be_written_is_one_line(settings: Settings, halves: Model) -> None:
    settings.cache.mkdir(parents=True)
    models.folder(settings).write_text("in the way")
    with pytest.raises(SpeechError, match="cannot install speech model half") as raised:
        models.fetch(settings, halves, TOLD.append)
    assert "\n" not in str(raised.value)


# --- downloads -----------------------------------------------------------------------------------


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        for name in names or ("vosk-model/am/final.mdl", "vosk-model/README"):
            content.writestr(name, "model" * 100)
    return buffer.getvalue()


class Site:
    """A web server with one file, which can break off in the middle."""

    def __init__(self, content: bytes):
        self.content = content
        self.cut_at: int | None = None
        self.takes_ranges = True
        self.shift = 0
        self.ranges: list[int] = []
        self.asked: list[str] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        self.asked.append(head.split()[1])
        start = 0
        if "range: bytes=" in head:
            start = int(head.partition("range: bytes=")[2].partition("-")[0])
            self.ranges.append(start)
        if not self.takes_ranges:
            start = 0
        body = self.content[start:]
        status = "206 Partial Content" if start else "200 OK"
        fields = f"content-length: {len(body)}\r\nconnection: close"
        if start:
            first = start + self.shift
            fields += f"\r\ncontent-range: bytes {first}-{first + len(body) - 1}/*"
        writer.write(f"HTTP/1.1 {status}\r\n{fields}\r\n\r\n".encode())
        if not head.startswith("head"):
            writer.write(body[: self.cut_at])
        await writer.drain()
        writer.close()


@pytest_asyncio.fixture(loop_scope="session")
async def site() -> AsyncIterator[Site]:
    made = Site(archive())
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/model.zip"
    yield made
    server.close()


def of(site: Site) -> Model:
    digest = hashlib.sha256(site.content).hexdigest()
    return Model("far", "en", "vosk", len(site.content), digest, url=site.url)


async def fetch(settings: Settings, model: Model) -> Path:
    return await asyncio.to_thread(models.fetch, settings, model, TOLD.append)


async def test_a_download_is_unpacked(settings: Settings, site: Site) -> None:
    path = await fetch(settings, of(site))
    assert (path / "am" / "final.mdl").exists()
    assert models.installed(settings, of(site))


async def test_a_download_that_broke_off_goes_on(settings: Settings, site: Site) -> None:
    site.cut_at = 100
    with pytest.raises(SpeechError):
        await fetch(settings, of(site))
    site.cut_at = None
    assert (await fetch(settings, of(site)) / "README").exists()
    assert site.ranges == [100]


async def test_a_line_that_breaks_again_and_again_still_gets_there(
    settings: Settings, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "_WORTH_A_TRY", 100)
    site.cut_at = 100
    told: list[str] = []
    path = await asyncio.to_thread(models.fetch, settings, of(site), told.append)
    assert (path / "README").exists()
    assert site.ranges == list(range(100, len(site.content), 100))
    assert any("broke off" in line for line in told)


async def test_a_site_without_ranges_is_read_from_the_beginning(
    settings: Settings, site: Site
) -> None:
    site.cut_at = 100
    with pytest.raises(SpeechError):
        await fetch(settings, of(site))
    site.cut_at, site.takes_ranges = None, False
    assert (await fetch(settings, of(site)) / "README").exists()


async def test_another_part_than_the_one_asked_for_is_refused(
    settings: Settings, site: Site
) -> None:
    site.cut_at = 100
    with pytest.raises(SpeechError):
        await fetch(settings, of(site))
    site.cut_at, site.shift = None, 7
    with pytest.raises(SpeechError, match="another part"):
        await fetch(settings, of(site))


async def test_the_share_is_told_on_the_way(settings: Settings, site: Site) -> None:
    told: list[str] = []
    await asyncio.to_thread(models.fetch, settings, of(site), told.append)
    assert told[-2:] == ["downloading far: 100 %", "speech model far is installed"]


async def test_the_proxy_of_the_environment_is_used(
    settings: Settings, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", site.url.removesuffix("/model.zip"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    far = replace(of(site), url="http://models.invalid/model.zip")
    assert (await fetch(settings, far) / "README").exists()
    assert set(site.asked) == {far.url}


async def test_a_wrong_archive_is_not_kept(settings: Settings, site: Site) -> None:
    with pytest.raises(SpeechError, match="wrong checksum"):
        await fetch(settings, replace(of(site), sha256="0" * 64))
    assert not list(models.folder(settings).glob("*.part"))


async def test_an_archive_larger_than_promised_is_cut_short(settings: Settings, site: Site) -> None:
    with pytest.raises(SpeechError, match="larger"):
        await fetch(settings, replace(of(site), size=10))


@pytest.mark.parametrize("names", [("loose.txt",), ("a/x", "b/y")])
async def test_an_archive_that_is_no_model_is_refused(
    settings: Settings, site: Site, names: tuple[str, ...]
) -> None:
    site.content = archive(*names)
    with pytest.raises(SpeechError, match="not one folder"):
        await fetch(settings, of(site))


async def test_no_file_of_an_archive_lands_outside(settings: Settings, site: Site) -> None:
    site.content = archive("vosk-model/a", "vosk-model/../../../evil")
    await fetch(settings, of(site))
    assert not list(settings.cache.parent.glob("evil"))
    assert not list(settings.cache.glob("evil"))


# --- choosing ------------------------------------------------------------------------------------


def test_a_site_that_cannot_be_reached_is_asked_once_a_day(
    settings: Settings, halves: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = Model("far", "en", "vosk", 1, "", url="http://127.0.0.1:1/model.zip")
    monkeypatch.setattr(models, "CATALOGUE", (far, halves))
    told: list[str] = []
    assert models.obtain(settings, "en", told.append) == halves
    assert any("far is not to be had" in line for line in told)
    again: list[str] = []
    assert models.obtain(settings, "en", again.append) == halves
    assert not any("far" in line for line in again)
    mark = models.folder(settings) / ".far.unreachable"
    os.utime(mark, (0, 0))
    models.obtain(settings, "en", again.append)
    assert any("far" in line for line in again)


async def test_what_can_be_downloaded_is_preferred(
    settings: Settings, halves: Model, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "CATALOGUE", (of(site), halves))
    chosen = await asyncio.to_thread(models.obtain, settings, "en", TOLD.append)
    assert chosen == of(site)
    assert models.find(settings, "en") == of(site)


@pytest.mark.parametrize(("engine", "found"), [("whisper", True), ("vosk", False), ("none", False)])
def test_the_settings_may_insist_on_an_engine(
    settings: Settings,
    halves: Model,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    found: bool,
) -> None:
    monkeypatch.setattr(models, "CATALOGUE", (halves,))
    chosen = settings.model_copy(
        update={"speech": SpeechSettings.model_validate({"engine": engine})}
    )
    assert (models.obtain(chosen, "en", TOLD.append) is not None) == found


def test_an_unknown_language_means_keys_alone(settings: Settings) -> None:
    assert models.obtain(settings, "tlh", TOLD.append) is None
    assert models.find(settings, "tlh") is None


def test_the_catalogue_is_whole() -> None:
    assert len({model.name for model in CATALOGUE}) == len(CATALOGUE)
    for model in CATALOGUE:
        assert len(model.sha256) == 64
        assert bool(model.url) != bool(model.packages)
        assert model.size > 1_000_000
        assert model.to_json()["name"] == model.name
