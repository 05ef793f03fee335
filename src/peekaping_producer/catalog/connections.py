"""Connections to an SQL database: each is lent to one piece of work at a time."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from sqlalchemy import URL, AsyncAdaptedQueuePool, Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.util import greenlet_spawn

from peekaping_producer.config.settings import Settings
from peekaping_producer.deadline import answered_by
from peekaping_producer.errors import one_line

T = TypeVar("T")


class Connections(Protocol):
    """A pool of connections."""

    async def do(self, work: Callable[[Connection], T], timeout_s: float) -> T:
        """Return what `work` returns within `timeout_s`; raises Unavailable if the database does not do it."""

    async def close(self) -> None:
        """Close all that are not lent."""


class ServerConnections:
    """Connections to a server, by an asynchronous driver.

    SQLAlchemy's own asyncio extension would import its ORM, which takes a quarter of the start-up time, and switch
    greenlets three times for each piece of work.
    """

    def __init__(self, engine: Engine, reason: Callable[[Exception], str | None]) -> None:
        """Take the engine; connects nothing yet. `reason` returns an error's reason, or None for a bug of ours."""
        self.engine = engine
        self._reason = reason

    async def do(self, work: Callable[[Connection], T], timeout_s: float) -> T:
        """See Connections."""
        async with answered_by("database", timeout_s, self._reason):
            return await self._done(work)

    async def close(self) -> None:
        """See Connections."""
        await greenlet_spawn(self.engine.dispose)

    async def _done(self, work: Callable[[Connection], T]) -> T:
        return await greenlet_spawn(self._on_connection, work)

    def _on_connection(self, work: Callable[[Connection], T]) -> T:
        with self.engine.connect() as connection:
            return work(connection)


def pool_options(connections: int, timeout_s: float, *, seldom_used: bool) -> dict[str, Any]:
    """Return an engine's options for a pool of at most `connections`.

    A connection that is `seldom_used` may have died since its last use. It is tested before each use; otherwise its
    death would count as an outage.
    """
    return {
        "poolclass": AsyncAdaptedQueuePool,
        "pool_use_lifo": True,  # so that no more are open than were needed at once
        "pool_size": connections,
        "max_overflow": 0,
        "pool_timeout": timeout_s,
        "pool_pre_ping": seldom_used,
    }


def server_url(driver: str, settings: Settings) -> URL:
    """Return the address of the configured server; the password is read for each connection."""
    return URL.create(driver, settings.db_user, host=settings.db_host, port=settings.db_port, database=settings.db_name)


def driver_error(error: BaseException) -> BaseException:
    """Return the driver's own error behind SQLAlchemy's, whose text would hold the statement."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def reason(error: Exception) -> str | None:
    """Return the reason of a driver's error in one line; None for a bug of ours."""
    return one_line(driver_error(error)) if isinstance(error, SQLAlchemyError | OSError) else None
