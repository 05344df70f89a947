"""The schema that the revisions make is the schema that the code was written for."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from ivr.errors import StoreError
from ivr.store.models import metadata
from ivr.store.repo import Store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "hotline.db"


async def test_the_revisions_make_the_tables_of_the_models(file: Path) -> None:
    await (await Store.open(f"sqlite:///{file}")).close()
    engine = create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


async def test_servers_that_start_at_once_make_one_schema(file: Path) -> None:
    stores = await asyncio.gather(*(Store.open(f"sqlite:///{file}") for _ in range(4)))
    for store in stores:
        assert await store.agents() == []
        await store.close()


async def test_an_outdated_schema_is_refused_when_told_not_to_migrate(file: Path) -> None:
    with pytest.raises(StoreError, match=r"older than this hotline; run `hotline db upgrade`"):
        await Store.open(f"sqlite:///{file}", migrate=False)
    await (await Store.open(f"sqlite:///{file}")).close()
    await (await Store.open(f"sqlite:///{file}", migrate=False)).close()


@pytest.mark.parametrize("migrate", [True, False])
async def test_a_schema_newer_than_the_code_is_refused(file: Path, migrate: bool) -> None:
    await (await Store.open(f"sqlite:///{file}")).close()
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match=r"\(9999\) is newer than this hotline") as refused:
        await Store.open(f"sqlite:///{file}", migrate=migrate)
    assert str(file) in str(refused.value)


async def test_another_programs_database_is_left_alone(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE agents (id INTEGER)")
    with pytest.raises(StoreError, match="already exists"):
        await Store.open(f"sqlite:///{file}")
    with closing(sqlite3.connect(file)) as database, database:
        names = database.execute("SELECT name FROM sqlite_master").fetchall()
    assert names == [("agents",)]
