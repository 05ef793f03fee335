"""Peekaping's monitors as the double of a Go producer reads them: one row at a time, straight from the database."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import msgspec
from msgspec import Struct

from support.databases import Database, PostgresDatabase, SqliteDatabase
from support.postgres import HOST, SUPERUSER

_COLUMNS = (
    "id, name, type, interval, timeout, max_retries, retry_interval, resend_interval,"
    " active, coalesce({config}, '') AS config"
)


class GoMonitor(Struct, frozen=True):
    """One row of `monitors`, as far as a task needs it."""

    id: str
    name: str
    type: str
    interval: int
    timeout: int
    max_retries: int
    retry_interval: int
    resend_interval: int
    active: bool
    config: str


class Place(Struct, frozen=True):
    """Where the rows are: an SQLite file, or a database on a Postgres of this machine."""

    name: str
    port: int = 0
    """0: it is SQLite."""


class Rows(Protocol):
    """The monitors of one database."""

    async def monitor(self, id_: str) -> GoMonitor | None:
        """Read one, whatever its state; None where there is no row."""

    async def active(self) -> list[GoMonitor]:
        """Read all that are active."""


class _SqliteRows:
    def __init__(self, path: Path) -> None:
        self._path = path

    async def monitor(self, id_: str) -> GoMonitor | None:
        return next(iter(self._read("id = ?", id_)), None)

    async def active(self) -> list[GoMonitor]:
        return self._read("active")

    def _read(self, where: str, *values: str) -> list[GoMonitor]:
        columns = _COLUMNS.format(config="config")
        with contextlib.closing(sqlite3.connect(self._path, timeout=10)) as connection:
            return [
                _monitor(row) for row in connection.execute(f"SELECT {columns} FROM monitors WHERE {where}", values)
            ]


class _PostgresRows:
    def __init__(self, port: int, name: str) -> None:
        self._port, self._name = port, name

    async def monitor(self, id_: str) -> GoMonitor | None:
        return next(iter(await self._read("id::text = $1", id_)), None)

    async def active(self) -> list[GoMonitor]:
        return await self._read("active")

    async def _read(self, where: str, *values: str) -> list[GoMonitor]:
        columns = _COLUMNS.format(config="config::text").replace("id,", "id::text,", 1)
        connection = await asyncpg.connect(host=HOST, port=self._port, user=SUPERUSER, database=self._name)
        try:
            return [
                _monitor(tuple(row))
                for row in await connection.fetch(f"SELECT {columns} FROM public.monitors WHERE {where}", *values)
            ]
        finally:
            await connection.close()


def place_of(database: Database) -> Place:
    """Return where a test's database is, in a form that can be passed to another process."""
    if isinstance(database, SqliteDatabase):
        return Place(str(database.path))
    assert isinstance(database, PostgresDatabase)
    return Place(database.name, database.server.port)


def rows_at(place: Place) -> Rows:
    """Return the rows of a place; nothing is opened yet."""
    return _PostgresRows(place.port, place.name) if place.port else _SqliteRows(Path(place.name))


def _monitor(row: tuple[Any, ...]) -> GoMonitor:
    return msgspec.convert(dict(zip(GoMonitor.__struct_fields__, row, strict=True)), GoMonitor, strict=False)
