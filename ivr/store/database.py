"""Opens the database, keeps its schema up to date, and runs transactions on it, each to its end.

SQLite has one writer at a time, whoever asks. So all writes go through one connection, in the order
of asking: nobody polls a lock and nobody starves. (Measured with 50 writers at once: five
connections were no faster, and the unluckiest writer waited 1.5 s instead of 0.4 s.) Reads have
connections of their own, which the write-ahead log lets go on meanwhile. PostgreSQL has one pool
for both.

A transaction that has begun is finished even when the task that asked for it is cancelled, as it is
when a caller hangs up: the connection stays whole, and what was to be written is written.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import URL, Connection, Executable, Table, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError, StatementError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from ivr.errors import Conflict, StoreError
from ivr.store import migrations
from ivr.store.models import to_json

T = TypeVar("T")
Work = Callable[[Connection], T]
"""One transaction's statements: synchronous to read, run without blocking the event loop."""

Turn = AbstractAsyncContextManager[None]

SQLITE_READERS = 4
POSTGRES_CONNECTIONS = 10
BUSY_SECONDS = 10
CONNECT_SECONDS = 10

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg"}

_PRAGMAS = (
    f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",  # what was accepted survives a power cut, not only a crash
    "PRAGMA foreign_keys=ON",
    "PRAGMA journal_size_limit=67108864",
)


class Database:
    """An open database: what the store's parts run their transactions on."""

    def __init__(self, place: str, writer: AsyncEngine, reader: AsyncEngine):
        self._place = place
        self._writer = writer
        self._reader = reader
        # A pool lets a newcomer past those who wait for its one connection; a lock does not.
        self._turn: Turn = asyncio.Lock() if writer.dialect.name == "sqlite" else nullcontext()
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    @classmethod
    async def open(cls, url: str, *, migrate: bool = True, make: bool = True) -> Self:
        """Open the database, make it if it is a new SQLite file, and bring its schema up to date.

        With `migrate=False` an outdated schema is refused instead, with `make=False` a file that is
        not there. Raises StoreError, one line that says which database, what is wrong and what to
        do.
        """
        target = _target(url)
        if target.get_backend_name() == "sqlite":
            database = cls(*await asyncio.to_thread(_sqlite, target, make))
        else:
            database = cls(*_postgres(target))
        try:
            work = migrations.upgrade if migrate else migrations.check
            await database._write(lambda db: work(db, database._place))
        except BaseException:
            await database.close()
            raise
        return database

    @property
    def shared(self) -> bool:
        """Whether other servers may be on the same database."""
        return self._writer.dialect.name != "sqlite"

    async def close(self) -> None:
        """Finish what runs and leave no connection or thread behind. Idempotent."""
        self._closed = True
        while self._running:
            await asyncio.wait(self._running)
        await self._reader.dispose()
        await self._writer.dispose()

    async def _read(self, work: Work[T]) -> T:
        return await self._transaction(self._reader, nullcontext(), work)

    async def _write(self, work: Work[T]) -> T:
        return await self._transaction(self._writer, self._turn, work)

    async def _run(self, statement: Executable) -> int:
        """Write by one statement; the number of rows that it changed."""
        return await self._write(lambda db: db.execute(statement).rowcount)

    async def _transaction(self, engine: AsyncEngine, turn: Turn, work: Work[T]) -> T:
        if self._closed:
            raise StoreError(f"{self._place} has been closed")

        async def run() -> T:
            async with turn, engine.begin() as connection:
                return await connection.run_sync(work)

        task = asyncio.create_task(run())
        self._running.add(task)
        task.add_done_callback(self._finished)
        try:
            return await asyncio.shield(task)
        except (SQLAlchemyError, OSError) as error:
            raise _told(error, self._place) from error

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen: nobody waits any more when the asking task was cancelled


def _target(url: str) -> URL:
    try:
        target = make_url(url)
    except ArgumentError:
        raise StoreError(
            "the database URL cannot be read; it looks like sqlite:////var/lib/hotline/hotline.db "
            "or postgresql://user:password@host/name"
        ) from None
    driver = _DRIVERS.get(target.get_backend_name())
    if driver is None:
        raise StoreError(
            f"{target.get_backend_name()} is not a database the hotline runs on: "
            "use sqlite or postgresql"
        )
    return target.set(drivername=driver)


def _engine(target: URL, size: int, **options: Any) -> AsyncEngine:
    return create_async_engine(
        target,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=size,
        max_overflow=0,
        json_serializer=to_json,
        json_deserializer=json.loads,
        **options,
    )


def _sqlite(target: URL, make: bool) -> tuple[str, AsyncEngine, AsyncEngine]:
    name = target.database or ":memory:"
    if name == ":memory:":
        only = _sqlite_engine(target, 1, "BEGIN IMMEDIATE")
        return "the database in memory", only, only
    path = Path(name).expanduser().absolute()
    if not make and not path.exists():
        raise StoreError(
            f"there is no database {path}: either the hotline has not run with these settings yet, "
            "or database.url or state_dir names another place"
        )
    _make_file(path)
    target = target.set(database=str(path))
    writer = _sqlite_engine(target, 1, "BEGIN IMMEDIATE")
    return str(path), writer, _sqlite_engine(target, SQLITE_READERS, "BEGIN")


def _make_file(path: Path) -> None:
    """Try the rights before SQLite does: its own message names neither the file nor the reason.

    The file is its owner's alone, since it holds telephone numbers and password hashes.
    """
    try:
        if path.parent.exists() and not path.parent.is_dir():
            raise NotADirectoryError(20, "its folder is a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        if not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(13, "Permission denied for the directory")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StoreError(
            f"cannot write {path}: {reason}; give the user that runs the hotline rights on the "
            "directory and the file, or set database.url or state_dir to another place"
        ) from error


def _sqlite_engine(target: URL, size: int, begin: str) -> AsyncEngine:
    engine = _engine(target, size)

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        # The driver must not begin transactions by itself: it would begin them as readers, and a
        # reader that turns writer fails at once when another has written meanwhile.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _postgres(target: URL) -> tuple[str, AsyncEngine, AsyncEngine]:
    try:
        engine = _engine(
            target,
            POSTGRES_CONNECTIONS,
            pool_pre_ping=True,
            connect_args={"connect_timeout": CONNECT_SECONDS, "application_name": "hotline"},
        )
    except ModuleNotFoundError as error:
        raise StoreError("PostgreSQL needs its driver: pip install 'hotline[postgres]'") from error
    return target.render_as_string(hide_password=True), engine, engine


_ADVICE = (
    (
        "file is not a database",
        "it is not a database, or damaged; restore a backup or move it away",
    ),
    ("malformed", "it is damaged; restore a backup"),
    ("database is locked", "another program holds it; end that program"),
    ("disk is full", "the disk is full; make room"),
    ("readonly", "it cannot be written; check the rights on the file and its directory"),
    ("unable to open", "it cannot be opened; check the rights on the file and its directory"),
    ("password authentication failed", "user or password is wrong; check database.url"),
    ("no password supplied", "a password is needed; check database.url"),
    ("FATAL: database", "that database does not exist; create it, or check database.url"),
    ("FATAL: role", "that user does not exist; create it, or check database.url"),
    ("QueuePool limit", "it is too slow for what is asked of it; look at its disk and its load"),
    ("connection", "it cannot be reached; check host and port in database.url, and that it runs"),
    ("resolve host", "its host is unknown; check database.url"),
)


def _told(error: SQLAlchemyError | OSError, place: str) -> StoreError | Conflict:
    """The database's own error as one line for the operator."""
    origin = (error.orig if isinstance(error, StatementError) else None) or error
    reason = " ".join(str(origin).split())[:300]
    if isinstance(error, IntegrityError) and "unique" in reason.lower():
        return Conflict(f"{place}: it exists already ({reason})")
    for sign, advice in _ADVICE:
        if sign in reason:
            return StoreError(f"{place}: {advice} ({reason})")
    return StoreError(f"{place}: {reason}")


def upsert(db: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that can say what to do when the row is there already: same words, two dialects."""
    return sqlite.insert(table) if db.dialect.name == "sqlite" else postgresql.insert(table)
