"""Databases to ask for: a fresh one for each test, on a Postgres shared by the tests of this process, or on SQLite."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support.databases import Database, PostgresDatabase, SqliteDatabase, postgres_copy, sqlite_copy
from support.postgres import Postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """Share one server among the tests of this process. A test that freezes or kills it takes its own."""
    with Postgres() as server:
        yield server


@pytest.fixture
def own_postgres_server() -> Iterator[Postgres]:
    """Start a server for this test alone, free to be paused, killed and restarted."""
    with Postgres() as server:
        yield server


@pytest.fixture
async def postgres_db(postgres_server: Postgres) -> AsyncIterator[PostgresDatabase]:
    """Make a fresh copy of the fixture, with its rows."""
    async with postgres_copy(postgres_server, rows=True) as database:
        yield database


@pytest.fixture
async def empty_postgres_db(postgres_server: Postgres) -> AsyncIterator[PostgresDatabase]:
    """Make a database with Peekaping's schema and no monitors."""
    async with postgres_copy(postgres_server, rows=False) as database:
        yield database


@pytest.fixture
def sqlite_db(tmp_path: Path) -> SqliteDatabase:
    """Make a fresh copy of the fixture, with its rows."""
    return sqlite_copy(tmp_path, rows=True)


@pytest.fixture
def empty_sqlite_db(tmp_path: Path) -> SqliteDatabase:
    """Make a file with Peekaping's schema and no monitors."""
    return sqlite_copy(tmp_path, rows=False)


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def _any_server(request: pytest.FixtureRequest) -> Postgres | None:
    """Choose the kind; a server is up before the checks around a test look for what it starts."""
    server: Postgres | None = request.getfixturevalue("postgres_server") if request.param == "postgres" else None
    return server


@pytest.fixture
async def any_db(_any_server: Postgres | None, tmp_path: Path) -> AsyncIterator[Database]:
    """Run the test on each kind: Peekaping's schema and no monitors."""
    async for database in _fresh(_any_server, tmp_path, rows=False):
        yield database


@pytest.fixture
async def any_fixture_db(_any_server: Postgres | None, tmp_path: Path) -> AsyncIterator[Database]:
    """Run the test on each kind: the fixture with its rows."""
    async for database in _fresh(_any_server, tmp_path, rows=True):
        yield database


async def _fresh(server: Postgres | None, folder: Path, *, rows: bool) -> AsyncIterator[Database]:
    if server is None:
        yield sqlite_copy(folder, rows=rows)
    else:
        async with postgres_copy(server, rows=rows) as database:
            yield database
