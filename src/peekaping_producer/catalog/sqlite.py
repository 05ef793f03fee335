"""SQLite: a file, read in a thread since the library itself is synchronous, and what its errors mean."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    QueuePool,
    Select,
    bindparam,
    create_engine,
    func,
    literal_column,
    select,
)
from sqlalchemy.exc import OperationalError

from peekaping_producer.catalog.connections import Connections, driver_error, reason
from peekaping_producer.catalog.limits import Limits
from peekaping_producer.catalog.reading import Facts
from peekaping_producer.catalog.rows import Row
from peekaping_producer.catalog.sql import SqlCatalog, SqlDatabase
from peekaping_producer.catalog.tables import TABLE_NAMES, Dialect
from peekaping_producer.config.settings import Settings
from peekaping_producer.deadline import answered_by
from peekaping_producer.errors import ConfigurationError, Unavailable, one_line

_REOPEN_S = 30
"""A file that replaces the open one, as a restore does, is noticed within this time."""
_LOCKED_S = 1.0
"""How long the library waits while the file is locked."""
_STATEMENTS = 64
"""Kept prepared."""
_STEPS = 10_000
"""Steps of SQLite's virtual machine, a fraction of a millisecond, after which a statement checks whether to stop."""
_NOT_UTF_8 = "Could not decode to UTF-8"
"""The library's words for it, the only sign of it."""
_READONLY, _CORRUPT, _CANTOPEN, _NOTADB = 8, 11, 14, 26
_ADVICE: Final = {
    _READONLY: "the file's journal must exist, or its folder must be writable",
    _CANTOPEN: "does the file exist, and may this user read it and its folder?",
}
_FILES: Final = {
    _NOTADB: "not an SQLite file",
    _CORRUPT: "a damaged SQLite file, restore it from a copy",
}
"""What the file is, by the code of an error that only an operator can fix."""
_HEX = "[0-9a-f]"
_UUID_GLOB = "-".join(_HEX * length for length in (8, 4, 4, 4, 12))
T = TypeVar("T")


def open_catalog(settings: Settings, limits: Limits) -> SqlCatalog:
    """Return the catalog of the configured SQLite file, with one connection for batches; nothing is opened yet.

    More would be slower, since only one thread runs Python at a time: four read half as fast as one.
    """
    return SqlCatalog(Sqlite(settings), msgspec.structs.replace(limits, connections=1))


def _among_ids(column: Column[Any]) -> ColumnElement[bool]:
    return column.in_(select(func.json_each(bindparam("ids")).table_valued("value").c.value))


def _is_id(column: Column[Any]) -> ColumnElement[bool]:
    return (func.typeof(column) == "text") & column.op("GLOB")(_UUID_GLOB)


def _stored_instant(instant: datetime) -> str:
    """Return a text that is not greater than any text of this instant."""
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


class Sqlite(SqlDatabase):
    """An SQLite file."""

    # The table is read in the order of its rows twenty times as fast as in that of its ids.
    dialect = Dialect(
        among_ids=_among_ids, place=literal_column("monitors.rowid"), is_id=_is_id, stored_instant=_stored_instant
    )

    def __init__(self, settings: Settings) -> None:
        """Take the settings that lead to it."""
        super().__init__(settings, f"DB_NAME {settings.db_name!r}")

    def connect(self, connections: int, timeout_s: float, *, seldom_used: bool = False) -> Connections:  # noqa: ARG002
        """See SqlDatabase."""
        return SqliteConnections(self.settings.db_name)

    def configuration_error(self, error: Unavailable) -> ConfigurationError | None:
        """See SqlDatabase."""
        name = self.settings.db_name
        found = "a folder, not an SQLite file" if Path(name).is_dir() else _FILES.get(_code(error))
        return ConfigurationError(f"DB_NAME is {name!r}: {found}") if found else None

    def advice(self, error: Unavailable) -> str | None:
        """See SqlDatabase."""
        if isinstance(error.__cause__, TimeoutError):
            return "is its disk slow, or does another process hold a lock on it?"
        return _ADVICE.get(_code(error))

    def fetch(self, connection: Connection, statement: Select[Any], ids: Sequence[str]) -> Sequence[Row]:
        """See SqlDatabase. Without SQLAlchemy, whose own rows took a quarter of the time."""
        text, parameters = self.as_sent(connection, statement, ids)
        driver = cast("sqlite3.Connection", connection.connection.driver_connection)
        fetched: Sequence[Row] = driver.execute(text, parameters).fetchall()
        return fetched

    def ids_as_sent(self, ids: Sequence[str]) -> str:
        """See SqlDatabase: one JSON text, so that the statement is the same for any number of ids."""
        return msgspec.json.encode(ids).decode()

    def facts(self, connection: Connection) -> Facts:
        """See SqlDatabase."""
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        return Facts("SQLite", sqlite3.sqlite_version, TABLE_NAMES, None, str(mode))


class SqliteConnections:
    """One connection to a file, in its own thread: a whole piece of work costs one switch of threads."""

    def __init__(self, name: str) -> None:
        """Prepare the thread; nothing is opened yet."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self.engine = create_engine(
            "sqlite://",
            creator=partial(_connect, name),
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=0,
            pool_recycle=_REOPEN_S,
            pool_reset_on_return=None,
            isolation_level="AUTOCOMMIT",
        )

    async def do(self, work: Callable[[Connection], T], timeout_s: float) -> T:
        """See Connections. Work that nobody waits for any more is interrupted, in this statement or in its next."""
        given_up = threading.Event()
        async with answered_by("database", timeout_s, _reason):
            try:
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._done, work, given_up)
            finally:
                given_up.set()

    async def close(self) -> None:
        """See Connections."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self.engine.dispose()

    def _done(self, work: Callable[[Connection], T], given_up: threading.Event) -> T:
        with self.engine.connect() as connection:
            driver = cast("sqlite3.Connection", connection.connection.driver_connection)
            driver.set_progress_handler(given_up.is_set, _STEPS)
            try:
                return _tolerant(work, connection, driver)
            finally:
                driver.set_progress_handler(None, 0)


def _tolerant(work: Callable[[Connection], T], connection: Connection, driver: sqlite3.Connection) -> T:
    """Do the work, and again if a text is not UTF-8: it must not fail the whole fetch."""
    try:
        return work(connection)
    except (OperationalError, sqlite3.OperationalError) as error:
        if _NOT_UTF_8 not in str(driver_error(error)):
            raise
    driver.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
    try:
        return work(connection)
    finally:
        driver.text_factory = str


def _connect(name: str) -> sqlite3.Connection:
    """Open the file read-only, even while others write to it, whatever its name contains."""
    uri = f"file:{quote(os.fsencode(os.path.abspath(name)))}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=_LOCKED_S, check_same_thread=False, cached_statements=_STATEMENTS)


def _reason(error: Exception) -> str | None:
    """Return an error's reason in one line; None for a bug of ours."""
    return one_line(error) if isinstance(error, sqlite3.Error) else reason(error)


def _code(error: Unavailable) -> int:
    """Return the kind of SQLite's error, the low byte of its code; 0 where it has none."""
    return int(getattr(driver_error(error.__cause__ or error), "sqlite_errorcode", 0)) & 0xFF
