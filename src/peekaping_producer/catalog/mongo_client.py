"""The way to MongoDB: its client, and driver errors that say who must act."""

import asyncio
import time
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar
from urllib.parse import quote_plus

import pymongo
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConfigurationError as WrongOption
from pymongo.errors import ExecutionTimeout, InvalidName, InvalidURI, OperationFailure, PyMongoError

from peekaping_producer.catalog.problems import REFUSED
from peekaping_producer.config.settings import Settings
from peekaping_producer.deadline import answered_by
from peekaping_producer.errors import ConfigurationError, Unavailable

CONNECT_TIMEOUT_S = 5.0
_CLOSE_TIMEOUT_S = 1.0
"""Each of the two steps of an end: a frozen server is told that its sessions are over."""
_until_s: ContextVar[float] = ContextVar("until_s")
"""By this monotonic instant the present call must be done."""
T = TypeVar("T")
Document = dict[str, Any]
TOLERANT: CodecOptions[Document] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="surrogateescape"
)
"""One date beyond year 9999, or one text that is not UTF-8, must not fail the whole fetch."""
_OPERATORS_CODES = {
    13: "DB_USER lacks a right on the database at DB_HOST, grant it the role read on DB_NAME",
    18: REFUSED,
}


def open_client(settings: Settings, connections: int, timeout_s: float) -> AsyncMongoClient[Document]:
    """Return a client with a pool of at most `connections`; nothing is connected yet.

    Raises ConfigurationError for a DB_HOST that can't be one.
    """
    timeout_ms = int(timeout_s * 1000)
    try:
        return AsyncMongoClient(
            f"mongodb://{_address(settings)}/",
            # Named apart from the address, so that no text of an error can hold them.
            username=settings.db_user,
            password=settings.db_pass.get_secret_value() if settings.db_pass else None,
            authSource="admin",
            appname="peekaping-producer",
            maxPoolSize=connections,
            waitQueueTimeoutMS=timeout_ms,
            socketTimeoutMS=timeout_ms,
            # Half of a deadline, so that a refused connection is told as what it is before that.
            serverSelectionTimeoutMS=min(timeout_ms, int(CONNECT_TIMEOUT_S * 1000)) // 2,
            connectTimeoutMS=min(timeout_ms, int(CONNECT_TIMEOUT_S * 1000)),
            retryReads=False,
        )
    except (InvalidURI, WrongOption, ValueError) as error:
        raise ConfigurationError(f"DB_HOST is {settings.db_host!r}: {_one_line(error)}") from error


def open_database(client: AsyncMongoClient[Document], name: str) -> AsyncDatabase[Document]:
    """Return the database of this name; raises ConfigurationError for a DB_NAME that MongoDB takes for none."""
    try:
        return client.get_database(name, codec_options=TOLERANT)
    except InvalidName as error:
        raise ConfigurationError(f"DB_NAME is {name!r}: {_one_line(error)}. Name the right one") from error


class Calls:
    """Calls of the driver, each a task of its own that nobody cancels: pymongo's pool can stay locked for good by it.

    One that is waited for no longer ends with its present request, which has the client's own time limits. Not by
    `pymongo.timeout`: for half a minute after a server was frozen it refuses whatever is to be done within seconds,
    because of the round trip that was measured meanwhile.
    """

    def __init__(self, client: AsyncMongoClient[Document]) -> None:
        """Take the client that they are calls of, which ends with them."""
        self._client = client
        self._under_way: set[asyncio.Task[Any]] = set()

    async def answer(self, call: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Return what `call` does within `timeout_s`; raises Unavailable for whatever keeps the database from it."""
        task = asyncio.create_task(_begun(call, time.monotonic() + timeout_s))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        async with answered_by("database", timeout_s, _reason):
            await asyncio.wait({task})
            return task.result()

    async def end(self) -> None:
        """Close the client, whose pool matters no more then, and end the calls that are still under way."""
        with pymongo.timeout(_CLOSE_TIMEOUT_S):
            await self._client.close()
        for task in self._under_way:
            task.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=_CLOSE_TIMEOUT_S)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # seen, even where nobody waits for it any more


async def _begun(call: Coroutine[Any, Any, T], until_s: float) -> T:
    _until_s.set(until_s)
    return await call


def left_ms() -> int:
    """Return how long the call that this is part of may still take; raises ExecutionTimeout when that is over."""
    left_ms = int((_until_s.get() - time.monotonic()) * 1000)
    if left_ms <= 0:
        raise ExecutionTimeout("the time for all requests of a call is over")
    return left_ms


def operators_mend(error: Unavailable) -> ConfigurationError | None:
    """Return the line for an operator where only a person can mend this, None where time can."""
    advice = cure(error)
    return ConfigurationError(f"{advice}: {error.reason}") if advice else None


def cure(error: Unavailable) -> str | None:
    """Return what a person must do about a server's answer; None where that is not known, or nobody must."""
    cause = error.__cause__
    return _OPERATORS_CODES.get(cause.code or 0) if isinstance(cause, OperationFailure) else None


def _reason(error: Exception) -> str | None:
    """Return an error's reason in one line, without the client's inner state; None where it is a fault of ours."""
    if not isinstance(error, PyMongoError | OSError):
        return None
    if isinstance(error, OperationFailure) and error.details:
        return _one_line(error.details.get("errmsg") or error)
    return _one_line(error).partition(" (configured timeouts")[0]


def _one_line(error: object) -> str:
    return " ".join(str(error).split()).removesuffix(".") or type(error).__name__


def _address(settings: Settings) -> str:
    """Return host and port as a URI has them; several hosts with commas are left as they are."""
    host = settings.db_host or ""
    if host.startswith("/"):
        return quote_plus(host)
    is_ipv6 = host.count(":") > 1 and "," not in host and "[" not in host
    return f"[{host}]:{settings.db_port}" if is_ipv6 else f"{host}:{settings.db_port}"
