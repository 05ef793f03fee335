"""Peekaping's databases for tests: the fixture with its rows, or its bare schema, on every kind of database.

All kinds offer the same few methods, and take the same rows: dicts with every column, made by `monitor_row` and its
siblings. Instants are aware datetimes; each kind stores them the way Peekaping does.
"""

import contextlib
import json
import os
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

import asyncmy
import asyncpg
from bson import ObjectId, json_util
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from peekaping_producer.config.settings import Settings
from support.mariadb import MySQLServer
from support.postgres import HOST, SUPERUSER, Postgres
from support.secantus import Secantus

FIXTURES = Path(__file__).parents[1] / "fixtures"
SQLITE_FIXTURE = FIXTURES / "peekaping-0.0.46.sqlite"
POSTGRES_FIXTURE = FIXTURES / "peekaping-0.0.46.postgres.sql"
RECORDED_TASKS = Path(__file__).parents[1] / "vectors" / "data" / "tasks.json"
MYSQL_SCHEMA = FIXTURES / "mysql.sql"

Kind = Literal["sqlite", "postgres", "mysql", "mongo"]
Row = dict[str, Any]
CREATED_AT = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
SCHEDULABLE = 'active AND "interval" > 0'
"""The condition of a monitor that gets checks."""
COLLECTIONS = {
    "monitors": "monitor",
    "proxies": "proxies",
    "maintenances": "maintenance",
    "monitor_maintenances": "monitor_maintenance",
    "heartbeats": "heartbeat",
}
"""MongoDB's collections by the names of the tables."""
_ROW_TABLES = ("heartbeats", "monitor_maintenances", "monitors", "maintenances", "proxies")
"""The tables that are emptied for a bare schema: children before parents."""


class Database(Protocol):
    """A database of Peekaping's that the test may change."""

    kind: Kind
    tick: timedelta
    """Its resolution of time."""

    def settings(self, **others: Any) -> Settings:
        """Return the settings that lead to it; `others` by the names of Settings' fields."""

    async def insert(self, table: str, *rows: Row) -> None:
        """Insert rows that all have the same columns."""

    async def update(self, table: str, id_: str, **values: Any) -> None:
        """Set columns of one row."""

    async def delete(self, table: str, id_: str) -> None:
        """Delete one row."""

    async def execute(self, sql: str) -> None:
        """Run any statements; on SQL databases only."""

    async def ids(self, where: str = "true") -> list[str]:
        """Return the ids of the monitors for which an SQL condition holds, in order; on MongoDB, all or SCHEDULABLE."""


class SqliteDatabase:
    """An SQLite file. Foreign keys aren't enforced, as nothing but the API server enforces them."""

    kind: Kind = "sqlite"
    tick = timedelta(microseconds=1)

    def __init__(self, path: Path) -> None:
        self.path = path

    def settings(self, **others: Any) -> Settings:
        return settings(**{"db_type": "sqlite", "db_name": str(self.path), **others})

    @contextlib.contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        """Connect for reading and writing; commits at the end."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=10)) as connection, connection:
            connection.execute("PRAGMA synchronous = OFF")  # no test cuts the power
            yield connection

    async def insert(self, table: str, *rows: Row) -> None:
        columns = list(rows[0])
        names, marks = ", ".join(f'"{column}"' for column in columns), ", ".join("?" * len(columns))
        with self.connected() as connection:
            connection.executemany(
                f"INSERT INTO {table} ({names}) VALUES ({marks})",
                [[_for_sqlite(row[column]) for column in columns] for row in rows],
            )

    async def update(self, table: str, id_: str, **values: Any) -> None:
        assigned = ", ".join(f'"{column}" = ?' for column in values)
        with self.connected() as connection:
            done = connection.execute(
                f"UPDATE {table} SET {assigned} WHERE id = ?", [*map(_for_sqlite, values.values()), id_]
            )
            assert done.rowcount == 1

    async def delete(self, table: str, id_: str) -> None:
        with self.connected() as connection:
            assert connection.execute(f"DELETE FROM {table} WHERE id = ?", [id_]).rowcount == 1

    async def execute(self, sql: str) -> None:
        with self.connected() as connection:
            connection.executescript(sql)

    async def ids(self, where: str = "true") -> list[str]:
        with self.connected() as connection:
            return [row[0] for row in connection.execute(f"SELECT id FROM monitors WHERE {where} ORDER BY id")]


class PostgresDatabase:
    """A database on a Postgres server."""

    kind: Kind = "postgres"
    tick = timedelta(microseconds=1)

    def __init__(self, server: Postgres, name: str) -> None:
        self.server = server
        self.name = name
        self.until_dropped: AsyncExitStack | None = None
        """What closes the connection of the test, if it keeps one: each new one costs more than most statements."""
        self._kept: Any = None

    def settings(self, **others: Any) -> Settings:
        address = {"db_host": HOST, "db_port": self.server.port, "db_user": SUPERUSER, "db_pass": "any"}
        return settings(**{"db_type": "postgres", "db_name": self.name, **address, **others})

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Any]:
        """Connect with asyncpg."""
        async with _connected(self.server, self.name) as connection:
            yield connection

    @asynccontextmanager
    async def _at_hand(self) -> AsyncIterator[Any]:
        if self.until_dropped is None:
            async with self.connected() as connection:
                yield connection
            return
        if self._kept is None or self._kept.is_closed():
            self._kept = await self.until_dropped.enter_async_context(self.connected())
        yield self._kept

    async def insert(self, table: str, *rows: Row) -> None:
        columns = list(rows[0])
        async with self._at_hand() as connection:
            await connection.copy_records_to_table(
                table,
                columns=columns,
                records=[[_for_postgres(row[column]) for column in columns] for row in rows],
            )

    async def update(self, table: str, id_: str, **values: Any) -> None:
        assigned = ", ".join(f'"{column}" = ${number}' for number, column in enumerate(values, start=2))
        async with self._at_hand() as connection:
            done = await connection.execute(
                f"UPDATE {table} SET {assigned} WHERE id = $1", id_, *map(_for_postgres, values.values())
            )
            assert done == "UPDATE 1"

    async def delete(self, table: str, id_: str) -> None:
        async with self._at_hand() as connection:
            assert await connection.execute(f"DELETE FROM {table} WHERE id = $1", id_) == "DELETE 1"

    async def execute(self, sql: str) -> None:
        async with self._at_hand() as connection:
            await connection.execute(sql)

    async def ids(self, where: str = "true") -> list[str]:
        async with self._at_hand() as connection:
            return [
                row[0] for row in await connection.fetch(f"SELECT id::text FROM monitors WHERE {where} ORDER BY id")
            ]


class MySqlDatabase:
    """A database on a MariaDB server, or on MySQL."""

    kind: Kind = "mysql"
    tick = timedelta(microseconds=1)

    def __init__(self, server: MySQLServer, name: str) -> None:
        self.server = server
        self.name = name

    def settings(self, **others: Any) -> Settings:
        server = self.server
        address = {
            "db_host": server.host,
            "db_port": server.port,
            "db_user": server.user,
            "db_pass": server.password,
        }
        return settings(**{"db_type": "mysql", "db_name": self.name, **address, **others})

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Any]:
        """Connect with asyncmy and yield a cursor."""
        async with _mysql_cursor(self.server, self.name) as cursor:
            yield cursor

    async def insert(self, table: str, *rows: Row) -> None:
        columns = list(rows[0])
        names, marks = ", ".join(f"`{column}`" for column in columns), ", ".join(["%s"] * len(columns))
        async with self.connected() as cursor:
            await cursor.executemany(
                f"INSERT INTO {table} ({names}) VALUES ({marks})",
                [[_for_mysql(row[column]) for column in columns] for row in rows],
            )

    async def update(self, table: str, id_: str, **values: Any) -> None:
        assigned = ", ".join(f"`{column}` = %s" for column in values)
        async with self.connected() as cursor:
            done = await cursor.execute(
                f"UPDATE {table} SET {assigned} WHERE id = %s", [*map(_for_mysql, values.values()), id_]
            )
            assert done == 1

    async def delete(self, table: str, id_: str) -> None:
        async with self.connected() as cursor:
            assert await cursor.execute(f"DELETE FROM {table} WHERE id = %s", [id_]) == 1

    async def execute(self, sql: str) -> None:
        async with self.connected() as cursor:
            for statement in filter(str.strip, sql.split(";")):
                await cursor.execute(statement)

    async def ids(self, where: str = "true") -> list[str]:
        async with self.connected() as cursor:
            await cursor.execute(f"SELECT id FROM monitors WHERE {where} ORDER BY id")
            return [row[0] for row in await cursor.fetchall()]


class MongoDatabase:
    """A database on a server of MongoDB's protocol. Rows become documents, ids and references ObjectIds."""

    kind: Kind = "mongo"
    tick = timedelta(milliseconds=1)

    def __init__(self, server: Secantus, name: str) -> None:
        self.server = server
        self.name = name
        self.client: AsyncMongoClient[Row] | None = None
        """The client of the test, if it has one: each login takes longer than most of what tests do."""

    def settings(self, **others: Any) -> Settings:
        server = self.server
        address = {"db_host": HOST, "db_port": server.port, "db_user": server.user, "db_pass": server.password}
        return settings(**{"db_type": "mongo", "db_name": self.name, **address, **others})

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[AsyncDatabase[Row]]:
        """Connect with pymongo and yield the database."""
        if self.client:
            yield self.client[self.name]
            return
        async with mongo_client(self.server) as client:
            yield client[self.name]

    async def insert(self, table: str, *rows: Row) -> None:
        async with self.connected() as database:
            await database[COLLECTIONS[table]].insert_many([_for_mongo(row) for row in rows])

    async def update(self, table: str, id_: str, **values: Any) -> None:
        async with self.connected() as database:
            done = await database[COLLECTIONS[table]].update_one({"_id": ObjectId(id_)}, {"$set": _for_mongo(values)})
            assert done.matched_count == 1

    async def delete(self, table: str, id_: str) -> None:
        async with self.connected() as database:
            done = await database[COLLECTIONS[table]].delete_one({"_id": ObjectId(id_)})
            assert done.deleted_count == 1

    async def execute(self, sql: str) -> None:
        raise NotImplementedError(sql)

    async def ids(self, where: str = "true") -> list[str]:
        conditions: dict[str, Row] = {"true": {}, SCHEDULABLE: {"active": True, "interval": {"$gt": 0}}}
        async with self.connected() as database:
            found = database["monitor"].find(conditions[where]).sort("_id", 1)
            return [str(document["_id"]) async for document in found]


ServerDatabase = PostgresDatabase | MySqlDatabase | MongoDatabase
"""A database on a server."""


def settings(**values: Any) -> Settings:
    """Return settings made of these alone: neither the environment nor a `.env` file is read."""
    return Settings(**values)


def sqlite_copy(folder: Path, *, rows: bool, name: str = "peekaping.sqlite") -> SqliteDatabase:
    """Copy the fixture into a folder, with its rows or without."""
    database = SqliteDatabase(folder / name)
    if rows:
        shutil.copyfile(SQLITE_FIXTURE, database.path)
    else:
        database.path.write_bytes(_bare_sqlite_file())
    return database


@cache
def _bare_sqlite_file() -> bytes:
    """Return the fixture's file without its rows."""
    with tempfile.TemporaryDirectory() as folder:
        database = sqlite_copy(Path(folder), rows=True)
        with database.connected() as connection:
            connection.executescript("".join(f"DELETE FROM {table};" for table in _ROW_TABLES))
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return database.path.read_bytes()


async def postgres_database(server: Postgres, *, rows: bool) -> PostgresDatabase:
    """Make a database of the fixture, with its rows or without; it ends with the server."""
    async with _connected(server, "postgres") as administrator:
        return await _copied(server, administrator, rows=rows)


async def _copied(server: Postgres, administrator: Any, *, rows: bool) -> PostgresDatabase:
    template = await _template(server, administrator, rows=rows)
    database = PostgresDatabase(server, f"peekaping_{uuid.uuid4().hex[:12]}")
    # Copying files takes a seventh of the processor time of the default, which writes all pages to the log.
    await administrator.execute(f"CREATE DATABASE {database.name} TEMPLATE {template} STRATEGY FILE_COPY")
    return database


@asynccontextmanager
async def postgres_copy(server: Postgres, *, rows: bool) -> AsyncIterator[PostgresDatabase]:
    """Make a database of the fixture for the duration of the block."""
    async with _connected(server, "postgres") as administrator:
        database = await _copied(server, administrator, rows=rows)
        try:
            async with AsyncExitStack() as database.until_dropped:
                yield database
        finally:
            await administrator.execute(f"DROP DATABASE {database.name} WITH (FORCE)")


async def mysql_database(server: MySQLServer, *, rows: bool) -> MySqlDatabase:
    """Make a database with Peekaping's tables, and the rows of the SQLite fixture; it ends with the server."""
    template = await _mysql_template(server, rows=rows)
    database = MySqlDatabase(server, f"peekaping_{uuid.uuid4().hex[:12]}")
    async with _mysql_cursor(server, None) as cursor:
        await cursor.execute(f"CREATE DATABASE {database.name}")
        for table in _ROW_TABLES:
            await cursor.execute(f"CREATE TABLE {database.name}.{table} LIKE {template}.{table}")
            if rows:
                await cursor.execute(f"INSERT INTO {database.name}.{table} SELECT * FROM {template}.{table}")
    return database


@asynccontextmanager
async def mysql_copy(server: MySQLServer, *, rows: bool) -> AsyncIterator[MySqlDatabase]:
    """Make a database with Peekaping's tables, and the rows of the SQLite fixture, for the duration of the block."""
    database = await mysql_database(server, rows=rows)
    try:
        yield database
    finally:
        async with _mysql_cursor(server, None) as cursor:
            await cursor.execute(f"DROP DATABASE {database.name}")


async def mongo_database(server: Secantus, *, rows: bool) -> MongoDatabase:
    """Make a database with Peekaping's index, and the recorded documents; it ends with the server."""
    database = MongoDatabase(server, f"peekaping_{uuid.uuid4().hex[:12]}")
    await _fill_mongo(database, rows=rows)
    return database


async def _fill_mongo(database: MongoDatabase, *, rows: bool) -> None:
    async with database.connected() as collections:
        await collections["heartbeat"].create_index([("monitor_id", 1), ("time", -1)])
        if rows:
            for collection, documents in recorded_documents().items():
                await collections[collection].insert_many(documents)


@asynccontextmanager
async def mongo_copy(server: Secantus, *, rows: bool) -> AsyncIterator[MongoDatabase]:
    """Make a database with Peekaping's index, and the recorded documents, for the duration of the block.

    In it, new ids have MongoDB's form.
    """
    database = MongoDatabase(server, f"peekaping_{uuid.uuid4().hex[:12]}")
    async with mongo_client(server) as database.client:
        await _fill_mongo(database, rows=rows)
        try:
            with ids_are("mongo"):
                yield database
        finally:
            await database.client.drop_database(database.name)


@asynccontextmanager
async def mongo_client(server: Secantus) -> AsyncIterator[AsyncMongoClient[Row]]:
    """Connect to a server with all rights."""
    login = {"username": server.user, "password": server.password}
    async with AsyncMongoClient[Row](HOST, server.port, authSource="admin", **login) as client:  # type: ignore[arg-type]
        yield client


def recorded_documents() -> dict[str, list[Row]]:
    """Return the documents of the recorded cases on MongoDB, by collection."""
    recorded = json.loads(RECORDED_TASKS.read_text(encoding="utf-8"))
    cases = [case["rows"] for case in recorded["cases"] if case["database"] == "mongo"]
    found: dict[str, dict[str, Row]] = {name: {} for name in COLLECTIONS.values()}
    absent = [case["monitor"] for case in recorded["absent"] if case["database"] == "mongo"]
    for case in [*cases, *({"monitor": monitor} for monitor in absent)]:
        monitor = case["monitor"]
        for collection, documents in (
            ("monitor", [monitor]),
            ("proxies", [case.get("proxy")]),
            ("heartbeat", [case.get("newest_heartbeat")]),
            ("maintenance", case.get("maintenances", [])),
        ):
            found[collection] |= {json.dumps(one["_id"]): one for one in documents if one}
        for one in case.get("maintenances", []):
            link = {"monitor_id": monitor["_id"], "maintenance_id": one["_id"]}
            found["monitor_maintenance"][json.dumps(link)] = link
    return {
        name: [json_util.loads(json.dumps(one)) for one in documents.values()]
        for name, documents in found.items()
        if documents
    }


_id_forms: list[Kind] = []
"""The kinds of the open databases; new ids have the form of the last."""


@contextlib.contextmanager
def ids_are(kind: Kind) -> Iterator[None]:
    """Give new ids the form of this kind of database, for the duration of the block."""
    _id_forms.append(kind)
    try:
        yield
    finally:
        _id_forms.pop()


def new_id() -> str:
    """Return a new id in the form of this test's database."""
    return str(ObjectId()) if "mongo" in _id_forms[-1:] else str(uuid.uuid4())


def numbered_id(number: int) -> str:
    """Return an id for a number; ids are in the order of the numbers."""
    return f"{number:024x}" if "mongo" in _id_forms[-1:] else str(uuid.UUID(int=number))


def stored(database: Database, instant: datetime) -> datetime:
    """Return an instant as the database stores it."""
    tick = database.tick
    return instant - (instant - datetime(2000, 1, 1, tzinfo=UTC)) % tick


def monitor_row(**values: Any) -> Row:
    """Return a row of `monitors`: an active http check every minute, with these columns set otherwise."""
    return {
        "id": new_id(),
        "type": "http",
        "name": "Example",
        "interval": 60,
        "timeout": 16,
        "max_retries": 2,
        "retry_interval": 20,
        "resend_interval": 0,
        "active": True,
        "status": 1,
        "created_at": CREATED_AT,
        "updated_at": CREATED_AT,
        "config": json.dumps({"url": "https://example.org"}),
        "proxy_id": None,
        "push_token": "",
        **values,
    }


def proxy_row(**values: Any) -> Row:
    """Return a row of `proxies` without credentials, with these columns set otherwise."""
    return {
        "id": new_id(),
        "protocol": "http",
        "host": "proxy.example.org",
        "port": 3128,
        "auth": False,
        "username": None,
        "password": None,
        **values,
    }


def maintenance_row(**values: Any) -> Row:
    """Return a row of `maintenances`: an active manual one, with these columns set otherwise."""
    return {
        "id": new_id(),
        "title": "Work",
        "description": None,
        "active": True,
        "strategy": "manual",
        "start_date_time": None,
        "end_date_time": None,
        "start_time": None,
        "end_time": None,
        "weekdays": "null",
        "days_of_month": "null",
        "interval_day": None,
        "cron": None,
        "timezone": None,
        "duration": None,
        **values,
    }


def link_row(monitor_id: str, maintenance_id: str) -> Row:
    """Return a row of `monitor_maintenances`."""
    return {"id": new_id(), "monitor_id": monitor_id, "maintenance_id": maintenance_id}


def heartbeat_row(monitor_id: str, **values: Any) -> Row:
    """Return a row of `heartbeats`: an unimportant up, with these columns set otherwise."""
    return {
        "id": new_id(),
        "monitor_id": monitor_id,
        "status": 1,
        "msg": "OK",
        "ping": 0,
        "duration": 0,
        "down_count": 0,
        "retries": 0,
        "important": False,
        "time": CREATED_AT,
        "end_time": CREATED_AT,
        "notified": False,
        **values,
    }


@asynccontextmanager
async def _connected(server: Postgres, database: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(host=HOST, port=server.port, user=SUPERUSER, database=database)
    try:
        yield connection
    finally:
        await connection.close()


async def _template(server: Postgres, administrator: Any, *, rows: bool) -> str:
    """Return the name of the database to copy, created on first use."""
    name = "fixture" if rows else "bare"
    if name not in server.templates:
        await administrator.execute(f"CREATE DATABASE {name}")
        async with _connected(server, name) as connection:
            await connection.execute(POSTGRES_FIXTURE.read_text(encoding="utf-8"))
            if not rows:
                tables = ", ".join(f"public.{table}" for table in _ROW_TABLES)
                await connection.execute(f"TRUNCATE {tables} CASCADE")
        server.templates.add(name)
    return name


@asynccontextmanager
async def _mysql_cursor(server: MySQLServer, database: str | None) -> AsyncIterator[Any]:
    connection = await asyncmy.connect(
        host=server.host,
        port=server.port,
        user=server.user,
        password=server.password,
        database=database,
        charset="utf8mb4",
        autocommit=True,
        sql_mode="ANSI_QUOTES",
    )
    try:
        yield connection.cursor()
    finally:
        await connection.ensure_closed()


async def _mysql_template(server: MySQLServer, *, rows: bool) -> str:
    """Return the name of the database to copy, created on first use."""
    prefix = f"fixture_{os.getpid()}"
    database = MySqlDatabase(server, f"{prefix}_rows" if rows else f"{prefix}_bare")
    if database.name not in server.templates:
        async with _mysql_cursor(server, None) as cursor:
            await cursor.execute(f"CREATE OR REPLACE DATABASE {database.name} CHARACTER SET latin1")
        await database.execute(MYSQL_SCHEMA.read_text(encoding="utf-8"))
        if rows:
            for table in _ROW_TABLES:
                # MariaDB accepts only JSON as a config.
                await database.insert(table, *filter(_is_json, _fixture_rows(table)))
        server.templates.add(database.name)
    return database.name


def _fixture_rows(table: str) -> list[Row]:
    """Return the rows of one table of the SQLite fixture, instants as datetimes."""
    with contextlib.closing(sqlite3.connect(f"file:{SQLITE_FIXTURE}?mode=ro&immutable=1", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        fetched = connection.execute(f"SELECT * FROM {table}").fetchall()
    return [{column: _from_fixture(table, column, row[column]) for column in row.keys()} for row in fetched]  # noqa: SIM118


def _is_json(row: Row) -> bool:
    config = row.get("config")
    try:
        json.loads("null" if config is None else config)
    except ValueError:
        return False
    return True


def _from_fixture(table: str, column: str, value: object) -> object:
    times = {"time", "end_time"} if table == "heartbeats" else {"created_at", "updated_at"}
    if column in times and isinstance(value, str):
        instant = datetime.fromisoformat(value)
        return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    # A bare number, as SQLite stores it.
    return repr(value) if column == "config" and isinstance(value, int | float) else value


def _for_mongo(row: Row) -> Row:
    document = {"_id" if column == "id" else column: value for column, value in row.items()}
    for reference in ("_id", "monitor_id", "maintenance_id", "proxy_id"):
        if ObjectId.is_valid(document.get(reference)):
            document[reference] = ObjectId(document[reference])
    return document


def _for_mysql(value: object) -> object:
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value


def _for_sqlite(value: object) -> object:
    return _sqlite_instant(value) if isinstance(value, datetime) else value


def _sqlite_instant(instant: datetime) -> str:
    text = f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}".rstrip("0").rstrip(".")
    return f"{text}+00:00"


def _for_postgres(value: object) -> object:
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value
