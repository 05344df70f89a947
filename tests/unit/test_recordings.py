"""Recordings are whole or say so, are found after a crash, and are gone when their time is over."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import subprocess
import sys
import wave
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ivr import disk, recordings
from ivr.config import RecordingSettings
from ivr.errors import StoreError
from ivr.model import Address, Channel, Conversation, ConversationStatus, Leg, Recording
from ivr.observe import RECORDING_FAILURES
from ivr.recordings import Recordings
from ivr.store.repo import Store
from tests.fakes.calls import PATIENCE, VirtualClock

SECOND = b"\1\2\3\4" * 8000
CALLER = "+14155550123"


@pytest_asyncio.fixture
async def store() -> AsyncIterator[Store]:
    opened = await Store.open("sqlite://")
    clock = VirtualClock()
    leg = Leg("leg", "c1", Address(Channel.VOICE, CALLER), clock.now())
    conversation = Conversation("c1", "main", "v1", ConversationStatus.FLOW, clock.now())
    await opened.start_conversation(conversation, leg)
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def make(store: Store, tmp_path: Path, clock: VirtualClock) -> Callable[..., Recordings]:
    def made(**settings: Any) -> Recordings:
        folder = tmp_path / "recordings"
        return Recordings(store, folder, RecordingSettings(**settings), clock, keep_free=0)

    return made


@pytest.fixture
def failures() -> Iterator[Callable[[str], float]]:
    """How many more failures of a kind there are than before the test."""
    reasons = ("disk", "quota", "slow", "database")
    before = {reason: RECORDING_FAILURES.labels(reason)._value.get() for reason in reasons}
    yield lambda reason: RECORDING_FAILURES.labels(reason)._value.get() - before[reason]


async def recorded(archive: Recordings, *pieces: tuple[int, bytes]) -> None:
    """A call that was recorded to its end."""
    track = await archive.begin("c1", "leg")
    assert track is not None
    for at, samples in pieces:
        track.write(at, samples)
    track.end()
    await archive.close()


async def only(store: Store) -> Recording:
    [row] = await store.recordings("c1")
    return row


def played(path: Path) -> tuple[int, bytes]:
    """Channels and samples, as a player reads them."""
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getsampwidth()) == (8000, 2)
        return file.getnchannels(), file.readframes(file.getnframes())


# --- making ---------------------------------------------------------------------------------------


async def test_a_recording_is_a_stereo_file_with_a_row_and_an_entry(
    make: Callable[..., Recordings], store: Store, tmp_path: Path
) -> None:
    archive = make()
    await recorded(archive, (0, SECOND), (len(SECOND), SECOND))
    row = await only(store)
    path = await archive.file(row)
    assert path is not None and played(path) == (2, 2 * SECOND)
    content = path.read_bytes()
    assert (row.kind, row.state, row.seconds, row.size) == ("call", "kept", 2.0, len(content))
    assert row.sha256 == hashlib.sha256(content).hexdigest()
    [entry] = [one for one in await store.timeline("c1") if one.kind == "call_recorded"]
    assert entry.body == {"reference": row.id, "seconds": 2.0}


async def test_files_are_ours_alone_and_tell_nothing_of_the_caller(
    make: Callable[..., Recordings], store: Store
) -> None:
    archive = make()
    await recorded(archive, (0, SECOND))
    reference = await archive.keep_message("c1", "leg", "record-1", SECOND, 2.0)
    for row in await store.recordings("c1"):
        path = await archive.file(row)
        assert path is not None
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.name == f"{row.id}.wav"
        assert "c1" not in path.name and CALLER[1:] not in path.name
    assert reference in {row.id for row in await store.recordings("c1")}


async def test_what_is_not_written_is_silence_and_keeps_its_time(
    make: Callable[..., Recordings], store: Store
) -> None:
    archive = make()
    await recorded(archive, (len(SECOND), SECOND), (4 * len(SECOND), SECOND))
    path = await archive.file(await only(store))
    assert path is not None
    quiet = bytes(len(SECOND))
    assert played(path) == (2, quiet + SECOND + 2 * quiet + SECOND)


async def test_a_call_of_which_nothing_was_recorded_leaves_nothing(
    make: Callable[..., Recordings], store: Store, tmp_path: Path
) -> None:
    await recorded(make())
    assert await store.recordings("c1") == []
    assert not list((tmp_path / "recordings").glob("*.wav"))


async def test_a_message_is_kept_once_however_often_it_is_left(
    make: Callable[..., Recordings], store: Store
) -> None:
    archive = make()
    first = await archive.keep_message("c1", "leg", "record-1", b"\1\0" * 8000, 1.0)
    again = await archive.keep_message("c1", "leg", "record-1", b"\2\0" * 16000, 2.0)
    assert first == again
    row = await only(store)
    assert (row.kind, row.state, row.seconds) == ("message", "kept", 2.0)
    path = await archive.file(row)
    assert path is not None and played(path) == (1, b"\2\0" * 16000)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == row.sha256


# --- disks that fail ------------------------------------------------------------------------------


def no_space(descriptor: int, content: bytes, at: int) -> int:
    raise OSError(28, "No space left on device")


async def test_a_full_disk_ends_the_recording_and_is_told(
    make: Callable[..., Recordings],
    store: Store,
    failures: Callable[[str], float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive = make()
    track = await archive.begin("c1", "leg")
    assert track is not None
    track.write(0, SECOND)
    await archive.disk.ask(lambda: None)
    with monkeypatch.context() as full:
        full.setattr(disk, "_write", no_space)
        for second in range(1, 5):
            track.write(second * len(SECOND), SECOND)
        await archive.disk.ask(lambda: None)
        assert await archive.keep_message("c1", "leg", "record-1", SECOND, 1.0) == ""
    track.end()
    await archive.close()
    assert failures("disk") == 2
    row = next(row for row in await store.recordings("c1") if row.kind == "call")
    path = await archive.file(row)
    assert path is not None and played(path) == (2, SECOND)  # what there was before is whole


async def test_recordings_leave_space_for_the_database(
    store: Store, tmp_path: Path, clock: VirtualClock, failures: Callable[[str], float]
) -> None:
    archive = Recordings(store, tmp_path, RecordingSettings(), clock, keep_free=1 << 62)
    await recorded(archive, (0, SECOND))
    assert failures("disk") == 1
    assert await store.recordings("c1") == []


async def test_a_folder_that_cannot_be_written_costs_the_recording_alone(
    store: Store, tmp_path: Path, clock: VirtualClock, failures: Callable[[str], float]
) -> None:
    (tmp_path / "file").write_text("")
    archive = Recordings(store, tmp_path / "file" / "x", RecordingSettings(), clock)
    assert await archive.begin("c1", "leg") is None
    assert await archive.keep_message("c1", "leg", "record-1", SECOND, 1.0) == ""
    assert failures("disk") == 2


async def test_without_a_row_there_is_no_file(
    make: Callable[..., Recordings],
    store: Store,
    tmp_path: Path,
    failures: Callable[[str], float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(recording: Recording) -> None:
        raise StoreError("the database is away")

    monkeypatch.setattr(store, "begin_recording", away)
    archive = make()
    assert await archive.begin("c1", "leg") is None
    assert await archive.keep_message("c1", "leg", "record-1", SECOND, 1.0) == ""
    assert failures("database") == 2
    assert not list((tmp_path / "recordings").glob("*.wav"))


async def test_a_disk_that_hangs_costs_seconds_and_bounded_memory(
    make: Callable[..., Recordings],
    store: Store,
    failures: Callable[[str], float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recordings, "MOST_WAITING", 3 * len(SECOND))
    monkeypatch.setattr(recordings, "PATIENCE_SECONDS", 0.01)
    archive = make()
    track = await archive.begin("c1", "leg")
    assert track is not None
    read, write = os.pipe()
    archive.disk.ask(lambda: os.read(read, 1))  # hangs until the test lets go
    for second in range(10):
        track.write(second * len(SECOND), SECOND)
    assert archive._waiting == 3 * len(SECOND)
    assert await archive.keep_message("c1", "leg", "record-1", SECOND, 1.0) == ""
    [row] = [row for row in await store.recordings("c1") if row.kind == "call"]
    assert await archive.file(row) is None  # and whoever wants to hear does not wait for ever
    os.write(write, b"x")
    await archive.disk.ask(lambda: None)
    track.write(10 * len(SECOND), SECOND)  # the disk is back
    track.end()
    await archive.close()
    assert failures("slow") == 2
    row = next(row for row in await store.recordings("c1") if row.kind == "call")
    path = await archive.file(row)
    assert path is not None
    assert played(path) == (2, 3 * SECOND + bytes(7 * len(SECOND)) + SECOND)
    assert archive._waiting == 0


async def test_the_quota_ends_recordings_and_begins_none(
    make: Callable[..., Recordings], store: Store, failures: Callable[[str], float]
) -> None:
    archive = make(quota_megabytes=1)
    track = await archive.begin("c1", "leg")
    assert track is not None
    for second in range(40):  # 1.25 MB
        track.write(second * len(SECOND), SECOND)
        await archive.disk.ask(lambda: None)
    track.end()
    await archive.close()
    row = await only(store)
    assert row.state == "kept" and 1024 * 1024 <= row.size < 1.1 * 1024 * 1024
    assert await archive.begin("c1", "leg") is None
    assert await archive.keep_message("c1", "leg", "record-1", SECOND, 1.0) == ""
    assert failures("quota") == 3
    other = make(quota_megabytes=1)  # after a restart too
    assert await other.begin("c1", "leg") is None


# --- what a crash leaves --------------------------------------------------------------------------

_DIES = """
import os, sys
from pathlib import Path
from ivr.disk import RecordingFile
file = RecordingFile(Path(sys.argv[1]), 0)
file.write(0, b"\\1\\2\\3\\4" * 8000)
os.pwrite(file._descriptor, b"\\5" * 16001, 44 + 32000)   # a piece whose header was not written yet
if len(sys.argv) > 2:
    print("ready", flush=True)
    sys.stdin.read()
os._exit(9)
"""


async def left_open(archive: Recordings, store: Store, clock: VirtualClock) -> Path:
    """A row of a recording under way, and where its file belongs."""
    place = await archive._known_place()
    row = Recording("ab" * 16, "c1", "leg", "call", place, clock.now())
    await store.begin_recording(row)
    return archive._path(row.id)


async def test_the_file_of_a_server_that_was_killed_can_be_played_and_is_taken_up(
    make: Callable[..., Recordings], store: Store, clock: VirtualClock
) -> None:
    archive = make()
    path = await left_open(archive, store, clock)
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", _DIES, str(path)])
    assert played(path) == (2, SECOND)  # even before it is mended
    await archive.sweep()
    row = await only(store)
    assert (row.state, row.size) == ("kept", 44 + 48000)
    assert played(path) == (2, SECOND + b"\5" * 16000)
    assert row.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


async def test_the_file_of_a_server_that_lives_is_left_alone(
    make: Callable[..., Recordings], store: Store, clock: VirtualClock
) -> None:
    archive = make()
    path = await left_open(archive, store, clock)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _DIES, str(path), "wait"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        await process.stdout.readline()
        await archive.sweep()
        assert (await only(store)).state == "open"
        process.stdin.close()
        await process.wait()
    await archive.sweep()
    assert (await only(store)).state == "kept"


async def test_a_recording_of_our_own_is_not_swept_while_it_is_made(
    make: Callable[..., Recordings], store: Store
) -> None:
    archive = make()
    track = await archive.begin("c1", "leg")
    assert track is not None
    await archive.sweep()
    track.write(0, SECOND)
    await archive.sweep()
    assert (await only(store)).state == "open"
    track.end()
    await archive.close()
    assert (await only(store)).state == "kept"


async def test_a_row_whose_file_never_was_or_is_gone_is_lost(
    make: Callable[..., Recordings], store: Store, clock: VirtualClock
) -> None:
    archive = make()
    await left_open(archive, store, clock)
    await archive.sweep()
    assert (await only(store)).state == "open"  # its file may be about to be made
    clock.advance(120)
    await archive.sweep()
    assert (await only(store)).state == "lost"

    await store.forget_recordings(["ab" * 16])
    await recorded(archive, (0, SECOND))
    path = await archive.file(await only(store))
    assert path is not None
    path.unlink()
    assert await archive.file(await only(store)) is None
    await archive.sweep()
    assert (await only(store)).state == "lost"


async def test_another_servers_folder_is_its_own_matter(
    make: Callable[..., Recordings], store: Store, clock: VirtualClock, tmp_path: Path
) -> None:
    await recorded(make(), (0, SECOND))
    there = Recordings(store, tmp_path / "there", RecordingSettings(), clock)
    clock.advance(120)
    await there.sweep()
    row = await only(store)
    assert row.state == "kept"
    assert await there.file(row) is None
    assert await make().file(row) is not None


# --- retention ------------------------------------------------------------------------------------


async def test_after_the_retention_file_and_row_are_gone(
    make: Callable[..., Recordings], store: Store, clock: VirtualClock, tmp_path: Path
) -> None:
    archive = make(retention_days=7)
    await recorded(archive, (0, SECOND))
    await archive.keep_message("c1", "leg", "record-1", SECOND, 1.0)
    clock.advance(timedelta(days=6.9).total_seconds())
    await archive.sweep()
    assert len(await store.recordings("c1")) == 2
    clock.advance(timedelta(days=0.2).total_seconds())
    await archive.sweep()
    assert await store.recordings("c1") == []
    assert not list((tmp_path / "recordings").glob("*.wav"))


async def test_a_sweep_that_died_between_file_and_row_is_finished_by_the_next(
    make: Callable[..., Recordings], store: Store, clock: VirtualClock
) -> None:
    archive = make(retention_days=7)
    await recorded(archive, (0, SECOND))
    path = await archive.file(await only(store))
    assert path is not None
    path.unlink()
    clock.advance(timedelta(days=8).total_seconds())
    await archive.sweep()
    assert await store.recordings("c1") == []


async def test_files_without_a_row_go_at_their_age_and_those_of_others_stay(
    make: Callable[..., Recordings], store: Store, tmp_path: Path
) -> None:
    archive = make(retention_days=7)
    await recorded(archive, (0, SECOND))
    folder = tmp_path / "recordings"
    old, fresh, foreign = (folder / f"{name}.wav" for name in ("0" * 32, "1" * 32, "notes"))
    half = folder / f"{'2' * 32}.part"
    elsewhere = tmp_path / "precious.wav"
    for path in (old, fresh, foreign, half, elsewhere):
        path.write_bytes(b"x")
    link = folder / f"{'3' * 32}.wav"
    link.symlink_to(elsewhere)
    for path in (old, foreign, half, elsewhere):
        os.utime(path, (0, 0))
    await archive.sweep()
    assert not old.exists() and not half.exists()
    assert fresh.exists() and foreign.exists() and link.is_symlink() and elsewhere.exists()
    assert len(await store.recordings("c1")) == 1


def test_a_folder_keeps_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    name = disk.place_of(folder)
    folder.rename(tmp_path / "b")
    assert disk.place_of(tmp_path / "b") == name != disk.place_of(folder)
