"""Fixtures of databases: a fresh one for each test, on servers that the tests of this process share, or on SQLite."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path

import pytest

from support.databases import (
    Database,
    Kind,
    MongoDatabase,
    MySqlDatabase,
    PostgresDatabase,
    ServerDatabase,
    SqliteDatabase,
    ids_are,
    mongo_copy,
    mongo_database,
    mysql_copy,
    mysql_database,
    postgres_copy,
    postgres_database,
    sqlite_copy,
)
from support.mariadb import URL_VARIABLE, GivenMySQL, MariaDB, MySQLServer, missing
from support.postgres import Postgres
from support.secantus import Secantus


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
async def own_db(own_postgres_server: Postgres) -> PostgresDatabase:
    """Make a bare database on a server that the test may stop and freeze."""
    return await postgres_database(own_postgres_server, rows=False)


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


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[MySQLServer]:
    """Share one server among the tests of this process. A test that freezes or kills it takes its own."""
    url = os.environ.get(URL_VARIABLE)
    if url:
        yield GivenMySQL(url)
        return
    need_mariadb()
    with MariaDB() as server:
        yield server


@pytest.fixture
def own_mysql_server() -> Iterator[MariaDB]:
    """Start a server for this test alone, free to be paused, killed and restarted."""
    need_mariadb()
    with MariaDB() as server:
        yield server


@pytest.fixture
async def mysql_db(mysql_server: MySQLServer) -> AsyncIterator[MySqlDatabase]:
    """Make a database with the rows of the SQLite fixture."""
    async with mysql_copy(mysql_server, rows=True) as database:
        yield database


@pytest.fixture
async def empty_mysql_db(mysql_server: MySQLServer) -> AsyncIterator[MySqlDatabase]:
    """Make a database with Peekaping's tables and no monitors."""
    async with mysql_copy(mysql_server, rows=False) as database:
        yield database


@pytest.fixture(scope="session")
def mongo_server() -> Iterator[Secantus]:
    """Share one server among the tests of this process. A test that freezes or kills it takes its own."""
    with Secantus() as server:
        yield server


@pytest.fixture
def own_mongo_server() -> Iterator[Secantus]:
    """Start a server for this test alone, free to be paused, killed and restarted."""
    with Secantus() as server:
        yield server


@pytest.fixture
async def mongo_db(mongo_server: Secantus) -> AsyncIterator[MongoDatabase]:
    """Make a database with the recorded documents."""
    async with mongo_copy(mongo_server, rows=True) as database:
        yield database


@pytest.fixture
async def empty_mongo_db(mongo_server: Secantus) -> AsyncIterator[MongoDatabase]:
    """Make a database without monitors."""
    async with mongo_copy(mongo_server, rows=False) as database:
        yield database


Copies = Callable[..., AbstractAsyncContextManager[Database]]
"""Makes a fresh database for the duration of a block, with rows or without, in the given folder if it needs one."""


SERVERS = ["postgres", "mysql", "mongo"]


@pytest.fixture(scope="session", params=SERVERS)
def _any_server_kind(request: pytest.FixtureRequest) -> Copies:
    """Choose the kind among the databases on a server."""
    return _copies(request.param, request)


@pytest.fixture
async def server_db(_any_server_kind: Copies, tmp_path: Path) -> AsyncIterator[ServerDatabase]:
    """Run the test on each kind of database that has a server: the fixture with its rows."""
    async with _any_server_kind(tmp_path, rows=True) as database:
        assert not isinstance(database, SqliteDatabase)
        yield database  # type: ignore[misc]


@pytest.fixture(params=SERVERS)
async def own_server_db(request: pytest.FixtureRequest) -> AsyncIterator[ServerDatabase]:
    """Run the test on each kind of server: one for this test alone, free to be paused, killed and restarted."""
    async with on_own_server(request.param, rows=True) as database:
        with ids_are(database.kind):
            yield database


@asynccontextmanager
async def on_own_server(kind: Kind, *, rows: bool) -> AsyncIterator[ServerDatabase]:
    """Make a database on a server of its own, free to be paused, killed and restarted."""
    if kind == "mysql":
        need_mariadb()
        with MariaDB() as mariadb:
            yield await mysql_database(mariadb, rows=rows)
    elif kind == "mongo":
        with Secantus() as secantus:
            yield await mongo_database(secantus, rows=rows)
    else:
        with Postgres() as postgres:
            yield await postgres_database(postgres, rows=rows)


@pytest.fixture(scope="session", params=["sqlite", "postgres", "mysql"])
def _any_sql_kind(request: pytest.FixtureRequest) -> Copies:
    """Choose the kind among the SQL databases."""
    return _copies(request.param, request)


@pytest.fixture(scope="session", params=["sqlite", "postgres", "mysql", "mongo"])
def _any_kind(request: pytest.FixtureRequest) -> Copies:
    """Choose the kind; a server is up before the leak checks around a test record what is running."""
    return _copies(request.param, request)


@pytest.fixture
async def any_db(_any_kind: Copies, tmp_path: Path) -> AsyncIterator[Database]:
    """Run the test on each kind: Peekaping's schema and no monitors."""
    async with _any_kind(tmp_path, rows=False) as database:
        yield database


@pytest.fixture
async def any_sql_db(_any_sql_kind: Copies, tmp_path: Path) -> AsyncIterator[Database]:
    """Run the test on each kind of SQL database: Peekaping's schema and no monitors."""
    async with _any_sql_kind(tmp_path, rows=False) as database:
        yield database


@pytest.fixture
async def any_fixture_db(_any_kind: Copies, tmp_path: Path) -> AsyncIterator[Database]:
    """Run the test on each kind: the fixture with its rows."""
    async with _any_kind(tmp_path, rows=True) as database:
        yield database


def _copies(kind: str, request: pytest.FixtureRequest) -> Copies:
    if kind == "postgres":
        postgres: Postgres = request.getfixturevalue("postgres_server")
        return lambda _folder, *, rows: postgres_copy(postgres, rows=rows)
    if kind == "mysql":
        mysql: MySQLServer = request.getfixturevalue("mysql_server")
        return lambda _folder, *, rows: mysql_copy(mysql, rows=rows)
    if kind == "mongo":
        mongo: Secantus = request.getfixturevalue("mongo_server")
        return lambda _folder, *, rows: mongo_copy(mongo, rows=rows)
    return lambda folder, *, rows: nullcontext(sqlite_copy(folder, rows=rows))


def need_mariadb() -> None:
    """Skip where there is no server; CI has one."""
    reason = missing()
    if reason and os.environ.get("CI"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
