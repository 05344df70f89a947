"""A store on each database in turn, emptied before every test."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import psycopg
import pytest
import pytest_asyncio

from ivr.store.models import metadata
from ivr.store.repo import Store
from tests.contract.postgres import Cluster, cluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    with cluster() as running:
        yield running


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of each database in turn."""
    if request.param == "postgres":
        running: Cluster = request.getfixturevalue("postgres")
        return running.url()
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'hotline.db'}"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def opened(made: str) -> AsyncIterator[Store]:
    opened = await Store.open(made)
    yield opened
    await opened.close()


@pytest.fixture
def store(opened: Store, made: str) -> Store:
    """A store that nobody has written to yet."""
    if made.startswith("sqlite"):
        with closing(sqlite3.connect(made.removeprefix("sqlite:///"))) as file, file:
            for name in metadata.tables:
                file.execute(f"DELETE FROM {name}")
    else:
        with psycopg.connect(made, autocommit=True) as admin:
            admin.execute("TRUNCATE " + ", ".join(metadata.tables))
    return opened
