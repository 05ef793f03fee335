"""The database of a run: one of each kind, which can be stopped and locked."""

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

from support.catalogues import locked_out
from support.databases import (
    Database,
    MongoDatabase,
    MySqlDatabase,
    PostgresDatabase,
    ServerDatabase,
    SqliteDatabase,
    ids_are,
    mongo_database,
    mysql_database,
    postgres_database,
    sqlite_copy,
)
from support.fleet import addressed
from support.mariadb import MariaDB, missing
from support.postgres import Postgres
from support.secantus import Secantus
from support.server_process import ServerProcess

NAMES: Final = ("postgres", "sqlite", "mariadb", "mongo")
_Result = TypeVar("_Result")


def available() -> list[str]:
    """Return the databases that this machine has."""
    missing_here = {"mariadb": missing() is not None, "mongo": sys.version_info >= (3, 14)}
    return [name for name in NAMES if not missing_here.get(name)]


class ChaosDatabase:
    """One database with Peekaping's schema, from `with` to the end of the block."""

    def __init__(self, name: str, folder: Path) -> None:
        """Choose the kind; an SQLite file is made in `folder`."""
        self._name, self._folder = name, folder
        self._stack = ExitStack()
        self._runner = asyncio.Runner()
        self._lock = AsyncExitStack()
        self.rows: Database

    def __enter__(self) -> Self:
        """Start its server, if it has one."""
        try:
            self._stack.callback(self._runner.close)
            self.rows = self._made()
            self._stack.enter_context(ids_are(self.rows.kind))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""
        self.run(self._lock.aclose())
        self._stack.close()

    def _made(self) -> Database:
        if self._name == "sqlite":
            database = sqlite_copy(self._folder, rows=False)
            with database.connected() as connection:
                # Only in this mode can another process lock out readers.
                connection.execute("PRAGMA journal_mode = DELETE")
            return database
        if self._name == "mariadb":
            return self.run(mysql_database(self._stack.enter_context(MariaDB()), rows=False))
        if self._name == "mongo":
            return self.run(mongo_database(self._stack.enter_context(Secantus()), rows=False))
        return self.run(postgres_database(self._stack.enter_context(Postgres()), rows=False))

    def run(self, call: Coroutine[Any, Any, _Result]) -> _Result:
        """Run what reads or writes it."""
        return self._runner.run(call)

    @property
    def port(self) -> int | None:
        """The port of its server; None for SQLite."""
        return None if isinstance(self.rows, SqliteDatabase) else self._server.port

    def variables(self, port: int | None) -> dict[str, str]:
        """Return the producer's DB_* variables for it, reached through `port`."""
        found = {name: str(value) for name, value in addressed(self.rows, 0).items() if name.startswith("DB_")}
        return found if port is None else found | {"DB_PORT": str(port)}

    def stop(self) -> None:
        """Stop its server."""
        self._server.stop()

    def restart(self) -> None:
        """Start it again."""
        self._server.restart()

    def lock(self) -> None:
        """Lock the monitors against all readers; where there is no such lock, freeze the server."""
        if isinstance(self.rows, MongoDatabase):
            self._server.pause()
        else:
            self.run(self._lock.enter_async_context(_locked(self.rows)))

    def unlock(self) -> None:
        """End `lock`."""
        if isinstance(self.rows, MongoDatabase):
            self._server.resume()
        else:
            self.run(self._lock.aclose())

    @property
    def _server(self) -> ServerProcess:
        return cast("ServerProcess", cast("ServerDatabase", self.rows).server)


def _locked(database: Database) -> AbstractAsyncContextManager[None]:
    if isinstance(database, SqliteDatabase):
        return _locked_file(database)
    assert isinstance(database, PostgresDatabase | MySqlDatabase)
    return locked_out(database, "monitors")


@asynccontextmanager
async def _locked_file(database: SqliteDatabase) -> AsyncIterator[None]:
    holder = sqlite3.connect(database.path, timeout=10, isolation_level=None)
    try:
        holder.execute("BEGIN EXCLUSIVE")
        yield
        holder.execute("ROLLBACK")
    finally:
        holder.close()
