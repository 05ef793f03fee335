"""Catalogs for tests, with a check at the end that no connection is left checked out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from msgspec.structs import replace
from pymongo import AsyncMongoClient
from sqlalchemy import Engine, QueuePool
from sqlalchemy.ext.asyncio import AsyncEngine

from peekaping_producer.catalog.catalog import Catalog, open_catalog
from peekaping_producer.catalog.connections import Connections, ServerConnections
from peekaping_producer.catalog.mongo import MongoCatalog
from peekaping_producer.catalog.reading import Reading
from peekaping_producer.catalog.sql import SqlCatalog
from peekaping_producer.catalog.sqlite import SqliteConnections
from peekaping_producer.config.settings import Settings
from peekaping_producer.model.monitor import MonitorId, Schedulable
from support.databases import Database, MySqlDatabase, PostgresDatabase
from support.leaks import SETTLE_WITHIN_S
from support.waiting import until


@asynccontextmanager
async def opened(
    database: Database | Settings, *, connections: int = 2, timeout_s: float = 10
) -> AsyncIterator[Catalog]:
    """Open a catalog for the duration of the block."""
    settings = database if isinstance(database, Settings) else database.settings()
    tasks_before = asyncio.all_tasks()
    catalog = open_catalog(settings, connections=connections, timeout_s=timeout_s)
    try:
        yield catalog
        await until_checked_in(catalog)
    finally:
        await catalog.close()
        connecting = asyncio.all_tasks() - tasks_before
        if connecting and isinstance(catalog, MongoCatalog):
            await asyncio.wait(connecting, timeout=SETTLE_WITHIN_S)


async def until_checked_in(catalog: Catalog) -> None:
    """Wait until no connection is checked out; one whose work was given up is returned soon."""
    await until(lambda: not checked_out(catalog), "all connections are back in the pool", SETTLE_WITHIN_S)


def checked_out(catalog: Catalog) -> int:
    """Return how many connections are checked out of the pools."""
    if isinstance(catalog, MongoCatalog):
        servers = [server for client in _clients(catalog) for server in client._topology._servers.values()]
        return sum(server.pool.active_sockets for server in servers)
    assert isinstance(catalog, SqlCatalog)
    pools = [_sync(connections).pool for connections in _pools(catalog)]
    assert all(isinstance(pool, QueuePool) for pool in pools)
    return sum(cast("QueuePool", pool).checkedout() for pool in pools)


def _clients(catalog: MongoCatalog) -> tuple[AsyncMongoClient[Any], ...]:
    return catalog._calls._client, catalog._scans._client


def _pools(catalog: SqlCatalog) -> tuple[Connections, ...]:
    return catalog._batches, catalog._urgent, catalog._scans


def engine(catalog: Catalog) -> AsyncEngine:
    """Return the engine of a catalog on an SQL server."""
    assert isinstance(catalog, SqlCatalog)
    assert isinstance(catalog._batches, ServerConnections)
    return AsyncEngine(catalog._batches.engine)


def sync_engine(catalog: Catalog) -> Engine:
    """Return the engine of a catalog in an SQL database, as SQLAlchemy's events and pools need it."""
    assert isinstance(catalog, SqlCatalog)
    return _sync(catalog._batches)


def _sync(connections: Connections) -> Engine:
    if isinstance(connections, ServerConnections):
        return connections.engine
    assert isinstance(connections, SqliteConnections)
    return connections.engine


def in_order(reading: Reading) -> Reading:
    """Return a reading with each monitor's maintenances in the order of their ids; databases have no order."""
    found = {
        id_: replace(one, maintenances=tuple(sorted(one.maintenances, key=lambda maintenance: maintenance.id)))
        for id_, one in reading.found.items()
    }
    return Reading(found, reading.invalid)


def no_id(database: Database) -> str:
    """Return the reason for an id that is invalid in this database."""
    return "id is not an ObjectId" if database.kind == "mongo" else "id is not a UUID in lower case"


def many(database: Database) -> int:
    """Return a large number of rows; the server of MongoDB's protocol takes seconds for ten thousand."""
    return 1_000 if database.kind == "mongo" else 10_000


async def all_pages(catalog: Catalog, limit: int) -> tuple[list[Schedulable], dict[str, str]]:
    """Read every page of at most `limit` active monitors; return them, and the invalid ones."""
    monitors: list[Schedulable] = []
    invalid: dict[str, str] = {}
    after: MonitorId | None = None
    while True:
        page = await catalog.active(after, limit)
        assert len(page.monitors) <= limit
        monitors += page.monitors
        invalid |= page.invalid
        if page.next_after is None:
            return monitors, invalid
        after = page.next_after


@asynccontextmanager
async def locked_out(database: PostgresDatabase | MySqlDatabase, table: str) -> AsyncIterator[None]:
    """Lock a table against all readers, for the duration of the block."""
    async with database.connected() as holder:
        if isinstance(database, MySqlDatabase):
            await holder.execute(f"LOCK TABLES {table} WRITE")
            yield
            return
        async with holder.transaction():
            await holder.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield


@asynccontextmanager
async def monitors_unreadable(database: Database) -> AsyncIterator[None]:
    """Make every read of monitors in an SQL database fail, for the duration of the block."""
    await database.execute("ALTER TABLE monitors RENAME TO monitors_elsewhere")
    try:
        yield
    finally:
        await database.execute("ALTER TABLE monitors_elsewhere RENAME TO monitors")
