"""Opening, closing, refusing and finishing: what an operator and a call that ends early rely on."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from ivr.errors import StoreError
from ivr.model import Address, Channel, Conversation, ConversationStatus, Leg, TimelineEntry
from ivr.store.repo import Store

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest_asyncio.fixture(loop_scope="session")
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(f"sqlite:///{tmp_path / 'hotline.db'}")
    yield opened
    await opened.close()


async def begun(store: Store, key: str) -> Conversation:
    return await store.start_conversation(
        Conversation(key, "main", "v1", ConversationStatus.FLOW, NOON),
        Leg(f"leg-{key}", key, Address(Channel.VOICE, key), NOON),
    )


def said(key: str, n: int) -> TimelineEntry:
    return TimelineEntry(key, NOON, "said", {"n": n})


def shut(folder: Path) -> None:
    folder.chmod(0o555)


def open_files() -> list[Path]:
    links = Path("/proc/self/fd").iterdir()
    return [link.resolve() for link in links if link.is_symlink()]


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A folder that other users can reach, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


@contextmanager
def an_ordinary_user() -> Iterator[None]:
    """Root may write everywhere: be somebody else for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


# --- opening --------------------------------------------------------------------------------------


async def test_a_new_database_is_made_with_its_folder_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "hotline.db"
    await (await Store.open(f"sqlite+aiosqlite:///{file}")).close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_power_cut_loses_nothing_that_was_accepted(store: Store) -> None:
    def ask(db: object) -> tuple[object, ...]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return tuple(db.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names)  # type: ignore[attr-defined]

    assert await store._write(ask) == ("wal", 2, 1)


async def test_no_rights_on_the_folder_is_told_in_one_line(public_path: Path) -> None:
    shut(public_path)
    file = public_path / "hotline.db"
    await (await Store.open("sqlite://")).close()  # everything is imported while we may read it
    with an_ordinary_user(), pytest.raises(StoreError) as refused:
        await Store.open(f"sqlite:///{file}")
    assert str(refused.value).startswith(f"cannot write {file}: permission denied; ")
    assert "\n" not in str(refused.value)


async def test_no_rights_on_the_file_is_told_in_one_line(public_path: Path) -> None:
    file = public_path / "hotline.db"
    await (await Store.open(f"sqlite:///{file}")).close()
    file.chmod(0o444)
    with an_ordinary_user(), pytest.raises(StoreError, match="permission denied"):
        await Store.open(f"sqlite:///{file}")


async def test_a_writable_file_in_a_shut_folder_is_refused_too(public_path: Path) -> None:
    file = public_path / "hotline.db"
    await (await Store.open(f"sqlite:///{file}")).close()
    file.chmod(0o666)
    shut(public_path)
    with an_ordinary_user(), pytest.raises(StoreError, match="denied for the directory"):
        await Store.open(f"sqlite:///{file}")


async def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot write .*: is a directory"):
        await Store.open(f"sqlite:///{tmp_path}")


async def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot write .*/file/a\.db: its folder is a file"):
        await Store.open(f"sqlite:///{tmp_path}/file/a.db")


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "hotline.db"
    file.write_bytes(b"A letter to my aunt. " * 1_000)
    with pytest.raises(StoreError, match="not a database, or damaged; restore a backup") as refused:
        await Store.open(f"sqlite:///{file}")
    assert str(file) in str(refused.value)
    assert file.read_bytes() == b"A letter to my aunt. " * 1_000


async def test_damage_within_is_told_when_it_is_met(tmp_path: Path) -> None:
    file = tmp_path / "hotline.db"
    await (await Store.open(f"sqlite:///{file}")).close()
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    file.write_bytes(content)
    with pytest.raises(StoreError, match="it is damaged; restore a backup"):
        await Store.open(f"sqlite:///{file}")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "the database URL cannot be read"),
        ("hotline.db", "the database URL cannot be read"),
        ("mysql://root@localhost/x", "mysql is not a database the hotline runs on"),
        ("postgresql://u:hunter2@127.0.0.1:1/x", "it cannot be reached; check host and port"),
    ],
)
async def test_a_wrong_url_is_told_in_one_line(url: str, said: str) -> None:
    with pytest.raises(StoreError, match=said) as refused:
        await Store.open(url)
    assert "\n" not in str(refused.value)
    assert "hunter2" not in str(refused.value)


# --- closing --------------------------------------------------------------------------------------


async def test_closing_leaves_no_thread_and_no_open_file(tmp_path: Path) -> None:
    threads = {thread.ident for thread in threading.enumerate()}
    store = await Store.open(f"sqlite:///{tmp_path / 'hotline.db'}")
    await asyncio.gather(
        *(store.agents() for _ in range(20)), *(begun(store, f"c{n}") for n in range(5))
    )
    await store.close()
    await store.close()
    for thread in threading.enumerate():
        if thread.ident not in threads and "asyncio" not in thread.name:
            thread.join(5)
            assert not thread.is_alive()
    assert not [file for file in open_files() if file.is_relative_to(tmp_path)]
    assert os.listdir(tmp_path) == ["hotline.db"]  # noqa: PTH208


async def test_a_refused_opening_leaves_no_thread(tmp_path: Path) -> None:
    (tmp_path / "hotline.db").write_bytes(b"x" * 5_000)
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(StoreError):
            await Store.open(f"sqlite:///{tmp_path / 'hotline.db'}")
    for thread in threading.enumerate():
        if "worker" in thread.name.lower():
            thread.join(5)
    assert threading.active_count() <= before + 1  # the loop's own pool may have grown


async def test_closing_waits_for_what_is_being_written(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'hotline.db'}"
    store = await Store.open(url)
    writing = [asyncio.create_task(begun(store, f"c{n}")) for n in range(10)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*writing)
    again = await Store.open(url)
    assert len(await again.live_conversations()) == 10
    await again.close()


async def test_a_closed_store_says_so(store: Store) -> None:
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.agents()


# --- transactions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["sqlite://", "file"])
async def test_a_write_whose_asker_was_cancelled_is_finished(url: str, tmp_path: Path) -> None:
    store = await Store.open(url if url != "file" else f"sqlite:///{tmp_path / 'hotline.db'}")
    conversation = await begun(store, "c1")
    for n in range(20):
        task = asyncio.create_task(store.append([said("c1", n)]))
        for _ in range(n + 1):  # a little later every time
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    saved = await store.save(conversation)
    assert saved.revision == 1
    assert [entry.body["n"] for entry in await store.timeline("c1")] == list(range(20))
    await store.close()


async def test_writes_are_done_in_the_order_of_asking(store: Store) -> None:
    await begun(store, "c1")
    await asyncio.gather(*(store.append([said("c1", n)]) for n in range(40)))
    assert [entry.body["n"] for entry in await store.timeline("c1")] == list(range(40))


async def test_fifty_calls_that_save_at_once_are_all_served(store: Store) -> None:
    calls = await asyncio.gather(*(begun(store, f"c{n}") for n in range(50)))

    async def turns(conversation: Conversation) -> float:
        slowest = 0.0
        for n in range(4):
            began = time.perf_counter()
            conversation = await store.save(conversation, [said(conversation.id, n)])
            slowest = max(slowest, time.perf_counter() - began)
        return slowest

    slowest = await asyncio.gather(*(turns(call) for call in calls))
    assert max(slowest) < 5
    for call in calls:
        assert [e.body["n"] for e in await store.timeline(call.id)] == [0, 1, 2, 3]


async def test_reads_go_on_while_another_program_writes(store: Store, tmp_path: Path) -> None:
    await begun(store, "c1")
    with closing(sqlite3.connect(tmp_path / "hotline.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM legs")
        assert len(await store.legs("c1")) == 1
        waiting = asyncio.create_task(store.append([said("c1", 1)]))
        assert len(await store.legs("c1")) == 1
        assert not waiting.done()
        other.execute("ROLLBACK")
        await waiting


async def test_what_cannot_be_written_is_told_without_the_statement(store: Store) -> None:
    await begun(store, "c1")
    with pytest.raises(StoreError, match="object is not a JSON value") as refused:
        await store.append([TimelineEntry("c1", NOON, "said", {"a": object()})])
    assert "INSERT" not in str(refused.value)


WRITER = """
import asyncio, itertools, sys
from datetime import UTC, datetime
from ivr.model import Address, Channel, Conversation, ConversationStatus, Leg, TimelineEntry
from ivr.store.repo import Store

async def main():
    store, now = await Store.open(sys.argv[1]), datetime.now(UTC)
    call = await store.start_conversation(
        Conversation("c1", "main", "v1", ConversationStatus.FLOW, now),
        Leg("l1", "c1", Address(Channel.VOICE, "+1"), now),
    )
    for n in itertools.count(1):
        call = await store.save(call, [TimelineEntry("c1", now, "said", {"n": n})])
        print(n, flush=True)

asyncio.run(main())
"""


async def test_what_was_accepted_before_a_kill_is_there_afterwards(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'hotline.db'}"
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, url, stdout=asyncio.subprocess.PIPE
    )
    assert writer.stdout is not None
    for _ in range(20):
        await writer.stdout.readline()
    writer.kill()
    accepted = 20 + len((await writer.stdout.read()).splitlines())
    await writer.wait()
    store = await Store.open(url)
    told = [entry.body["n"] for entry in await store.timeline("c1")]
    assert told == list(range(1, len(told) + 1))
    assert len(told) in (accepted, accepted + 1)  # one may be written and not yet said so
    call = await store.conversation("c1")
    assert call is not None
    assert call.revision == len(told)
    await store.close()
