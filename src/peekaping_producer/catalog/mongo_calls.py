"""Calls of MongoDB's driver, each with a deadline, and what its errors mean."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

import pymongo
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ExecutionTimeout, OperationFailure, PyMongoError, ServerSelectionTimeoutError

from peekaping_producer.catalog.mongo_client import Document, offers_tls, open_client, open_database
from peekaping_producer.catalog.problems import REFUSED
from peekaping_producer.config.secret import SecretUnreadable
from peekaping_producer.config.settings import DbTls, Settings
from peekaping_producer.deadline import answered_by
from peekaping_producer.errors import ConfigurationError, Unavailable, one_line

_CLOSE_TIMEOUT_S = 1.0
"""Time limit of each of the two steps of closing: the driver ends its sessions in the server, even in a frozen one."""
_until_s: ContextVar[float] = ContextVar("until_s")
"""The monotonic instant by which the current call must be done."""
T = TypeVar("T")
_LOGIN_REFUSED = 18
_FIXES = {
    13: "DB_USER lacks a right on the database at DB_HOST, grant it the role read on DB_NAME",
    _LOGIN_REFUSED: f"{REFUSED}, or DB_AUTH_SOURCE if the user is not in `admin`",
}
"""What an operator must do, by the code of the server's answer."""


class Calls:
    """Calls of the driver, each in its own task. None is cancelled: that could leave pymongo's pool locked for ever.

    A call that nobody waits for any more ends with its current request, by the client's own time limits. Not by
    `pymongo.timeout`: for half a minute after a server was frozen, it refuses calls with a deadline of seconds, because
    of the round trip that it measured meanwhile.
    """

    database: AsyncDatabase[Document]
    """What the calls read."""
    tls: bool
    """Whether its connections are encrypted."""

    def __init__(self, settings: Settings, connections: int, timeout_s: float) -> None:
        """Prepare a client with a pool of at most `connections`; nothing is connected yet.

        Raises ConfigurationError for an invalid DB_HOST, DB_NAME or DB_TLS_* file.
        """
        self._settings = settings
        self._open = partial(open_client, settings, connections, timeout_s)
        self._unsure = settings.db_tls is DbTls.PREFER
        """Whether the server must first be asked whether it offers TLS."""
        self._under_way: set[asyncio.Task[Any]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        try:
            self._use(_password(settings), tls=settings.db_tls not in {None, DbTls.OFF})
        except SecretUnreadable as error:
            raise ConfigurationError(str(error)) from error

    async def answer(self, call: Callable[[], Coroutine[Any, Any, T]], timeout_s: float) -> T:
        """Return what `call` returns within `timeout_s`; raises Unavailable if the database does not do it."""
        task = asyncio.create_task(self._done(call, time.monotonic() + timeout_s))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        async with answered_by("database", timeout_s, _reason):
            await asyncio.wait({task})
            return task.result()

    async def end(self) -> None:
        """Close the client, then cancel the calls that are still under way: its pool is no longer in use."""
        await _close(self._client)
        for task in self._under_way:
            task.cancel()
        if left := self._under_way | self._closing:
            await asyncio.wait(left, timeout=_CLOSE_TIMEOUT_S)

    async def _done(self, call: Callable[[], Coroutine[Any, Any, T]], until_s: float) -> T:
        _until_s.set(until_s)
        if self._unsure:
            self._replace_unless(self._password, tls=await offers_tls(self._settings))
            self._unsure = False
        client = self._client
        try:
            return await call()
        except (OperationFailure, ServerSelectionTimeoutError) as error:
            if isinstance(error, OperationFailure) and error.code != _LOGIN_REFUSED:
                raise
            # A server that answers later may offer something else.
            self._unsure = self._settings.db_tls is DbTls.PREFER and not isinstance(error, OperationFailure)
            # A client keeps the password that it was given, and finds no server for seconds after one was refused.
            self._replace_unless(_password(self._settings), tls=self.tls)
            if self._client is client:
                raise
        return await call()

    def _use(self, password: str, *, tls: bool) -> None:
        client = self._open(password=password, tls=tls)
        self.database = open_database(client, self._settings.db_name)
        self._client, self._password, self.tls = client, password, tls

    def _replace_unless(self, password: str, *, tls: bool) -> None:
        """Use another client, unless this one is the same. Calls under way may finish with the previous one."""
        if (password, tls) == (self._password, self.tls):
            return
        replaced = self._client
        self._use(password, tls=tls)
        closing = asyncio.create_task(_close_after(self._under_way - {asyncio.current_task()}, replaced))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, even if nobody waits for it any more


def _password(settings: Settings) -> str:
    return settings.db_pass.reveal() if settings.db_pass else ""


async def _close_after(calls: set[asyncio.Task[Any]], client: AsyncMongoClient[Document]) -> None:
    if calls:
        await asyncio.wait(calls)
    await _close(client)


async def _close(client: AsyncMongoClient[Document]) -> None:
    with pymongo.timeout(_CLOSE_TIMEOUT_S):
        await client.close()


def left_ms() -> int:
    """Return how long the current call may still take; raises ExecutionTimeout if its time is over."""
    left_ms = int((_until_s.get() - time.monotonic()) * 1000)
    if left_ms <= 0:
        raise ExecutionTimeout("the time for all requests of a call is over")
    return left_ms


def fix(error: Unavailable) -> str | None:
    """Return what an operator must do about a server's answer; None where that is not known, or nobody must."""
    cause = error.__cause__
    return _FIXES.get(cause.code or 0) if isinstance(cause, OperationFailure) else None


def _reason(error: Exception) -> str | None:
    """Return an error's reason in one line, without the client's internal state; None for a bug of ours."""
    # A file of TLS may have become wrong since the start.
    if not isinstance(error, PyMongoError | OSError | ConfigurationError):
        return None
    if isinstance(error, OperationFailure) and error.details:
        return one_line(error.details.get("errmsg") or error)
    return one_line(error).partition(" (configured timeouts")[0].partition(", Timeout: ")[0]
