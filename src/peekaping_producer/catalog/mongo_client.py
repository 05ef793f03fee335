"""MongoDB: the client, its calls, and what its errors mean."""

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

from peekaping_producer import APPLICATION
from peekaping_producer.catalog.limits import CONNECT_TIMEOUT_S
from peekaping_producer.catalog.problems import REFUSED
from peekaping_producer.config.settings import Settings
from peekaping_producer.deadline import answered_by
from peekaping_producer.errors import ConfigurationError, Unavailable, one_line

_CLOSE_TIMEOUT_S = 1.0
"""For each of the two steps of closing: the driver ends its sessions in the server, even if that is frozen."""
_until_s: ContextVar[float] = ContextVar("until_s")
"""The monotonic instant by which the present call must be done."""
T = TypeVar("T")
Document = dict[str, Any]
TOLERANT: CodecOptions[Document] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="surrogateescape"
)
"""One date beyond year 9999, or one text that is not UTF-8, must not fail the whole fetch."""
_FIXES = {
    13: "DB_USER lacks a right on the database at DB_HOST, grant it the role read on DB_NAME",
    18: REFUSED,
}
"""What an operator must do, by the code of the server's answer."""


def open_client(settings: Settings, connections: int, timeout_s: float) -> AsyncMongoClient[Document]:
    """Return a client with a pool of at most `connections`; nothing is connected yet.

    Raises ConfigurationError for an invalid DB_HOST.
    """
    timeout_ms = int(timeout_s * 1000)
    try:
        return AsyncMongoClient(
            f"mongodb://{_address(settings)}/",
            # Not in the address, so that no text of an error can show them.
            username=settings.db_user,
            password=settings.db_pass.reveal() if settings.db_pass else None,
            authSource="admin",
            appname=APPLICATION,
            maxPoolSize=connections,
            waitQueueTimeoutMS=timeout_ms,
            socketTimeoutMS=timeout_ms,
            # Half of a deadline, so that a refused connection is reported as such and not as a timeout.
            serverSelectionTimeoutMS=min(timeout_ms, int(CONNECT_TIMEOUT_S * 1000)) // 2,
            connectTimeoutMS=min(timeout_ms, int(CONNECT_TIMEOUT_S * 1000)),
            retryReads=False,
        )
    except (InvalidURI, WrongOption, ValueError) as error:
        raise ConfigurationError(f"DB_HOST is {settings.db_host!r}: {one_line(error)}") from error


def open_database(client: AsyncMongoClient[Document], name: str) -> AsyncDatabase[Document]:
    """Return the database of this name; raises ConfigurationError for a DB_NAME that MongoDB does not allow."""
    try:
        return client.get_database(name, codec_options=TOLERANT)
    except InvalidName as error:
        raise ConfigurationError(f"DB_NAME is {name!r}: {one_line(error)}. Name the right one") from error


class Calls:
    """Calls of the driver, each in its own task. None is cancelled: that could leave pymongo's pool locked for ever.

    A call that nobody waits for any more ends with its present request, by the client's own time limits. Not by
    `pymongo.timeout`: for half a minute after a server was frozen, it refuses calls with a deadline of seconds, because
    of the round trip that it measured meanwhile.
    """

    def __init__(self, client: AsyncMongoClient[Document]) -> None:
        """Take the client, which `end` closes."""
        self._client = client
        self._under_way: set[asyncio.Task[Any]] = set()

    async def answer(self, call: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Return what `call` returns within `timeout_s`; raises Unavailable if the database does not do it."""
        task = asyncio.create_task(_begun(call, time.monotonic() + timeout_s))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        async with answered_by("database", timeout_s, _reason):
            await asyncio.wait({task})
            return task.result()

    async def end(self) -> None:
        """Close the client, then cancel the calls that are still under way: its pool is no longer in use."""
        with pymongo.timeout(_CLOSE_TIMEOUT_S):
            await self._client.close()
        for task in self._under_way:
            task.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=_CLOSE_TIMEOUT_S)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, even if nobody waits for it any more


async def _begun(call: Coroutine[Any, Any, T], until_s: float) -> T:
    _until_s.set(until_s)
    return await call


def left_ms() -> int:
    """Return how long the present call may still take; raises ExecutionTimeout if its time is over."""
    left_ms = int((_until_s.get() - time.monotonic()) * 1000)
    if left_ms <= 0:
        raise ExecutionTimeout("the time for all requests of a call is over")
    return left_ms


def advice(error: Unavailable) -> str | None:
    """Return what an operator must do about a server's answer; None where that is not known, or nobody must."""
    cause = error.__cause__
    return _FIXES.get(cause.code or 0) if isinstance(cause, OperationFailure) else None


def _reason(error: Exception) -> str | None:
    """Return an error's reason in one line, without the client's internal state; None for a fault of ours."""
    if not isinstance(error, PyMongoError | OSError):
        return None
    if isinstance(error, OperationFailure) and error.details:
        return one_line(error.details.get("errmsg") or error)
    return one_line(error).partition(" (configured timeouts")[0]


def _address(settings: Settings) -> str:
    """Return host and port as in a URI; several hosts with commas are left as they are."""
    host = settings.db_host or ""
    if host.startswith("/"):
        return quote_plus(host)
    is_ipv6 = host.count(":") > 1 and "," not in host and "[" not in host
    return f"[{host}]:{settings.db_port}" if is_ipv6 else f"{host}:{settings.db_port}"
