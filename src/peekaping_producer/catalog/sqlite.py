"""The way to an SQLite file: read in a thread, since the library itself awaits nothing."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar, cast
from urllib.parse import quote

from sqlalchemy import Connection, QueuePool, create_engine
from sqlalchemy.exc import OperationalError

from peekaping_producer.catalog.connection import answered

_REOPEN_S = 30
"""A file put in the place of the one that is open, as by a restore, is noticed within this."""
_LOCKED_S = 1.0
"""How long the library waits for whoever has locked the file."""
_STATEMENTS = 64
"""Kept prepared."""
_ASKED_EVERY = 10_000
"""Steps of the library's machine, a fraction of a millisecond, after which a statement is asked whether to go on."""
_NOT_UTF_8 = "Could not decode to UTF-8"
"""The library's words for it, by which alone it can be told."""
T = TypeVar("T")


class SqliteConnections:
    """One connection to a file, in a thread of its own: a whole piece of work costs one change of threads.

    More would be slower, since of the threads that run Python only one does at a time: four read half as fast as one.
    """

    dialect = "sqlite"

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
        """See Connections. Work that is waited for no longer ends with its statement, or with the next."""
        given_up = threading.Event()
        async with answered(timeout_s):
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
            driver.set_progress_handler(given_up.is_set, _ASKED_EVERY)
            try:
                return _tolerant(work, connection, driver)
            finally:
                driver.set_progress_handler(None, 0)


def _tolerant(work: Callable[[Connection], T], connection: Connection, driver: sqlite3.Connection) -> T:
    """Do the work, and once more where one text is not UTF-8: it must not fail the whole fetch."""
    try:
        return work(connection)
    except OperationalError as error:
        if _NOT_UTF_8 not in str(error.orig):
            raise
    driver.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
    try:
        return work(connection)
    finally:
        driver.text_factory = str


def _connect(name: str) -> sqlite3.Connection:
    """Open the file read-only, even while others write to it, whatever its name holds."""
    uri = f"file:{quote(os.fsencode(os.path.abspath(name)))}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=_LOCKED_S, check_same_thread=False, cached_statements=_STATEMENTS)
