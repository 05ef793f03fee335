"""Reading the rows of a herd and nothing else: through the catalog, and with the bare driver.

A program of its own, so that it is measured in a fresh process: settings from the DB_* variables, ids as JSON on
standard input, rows per second as JSON on standard output.
"""

import asyncio
import os
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

import msgspec
from msgspec import Struct

from benchmarks.database import connect_postgres
from peekaping_producer.catalog.catalog import open_catalog
from peekaping_producer.config.loading import load_settings
from peekaping_producer.config.settings import DbType, Settings
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.timing import Timing

BATCH = Timing().batch
READERS = 4
MONITOR_COLUMNS = (
    "name, type, interval, timeout, max_retries, retry_interval, resend_interval, active, "
    "config{text}, proxy_id{text} FROM monitors WHERE id"
)
MAINTENANCE_COLUMNS = (
    "m.* FROM monitor_maintenances l JOIN maintenances m ON l.maintenance_id = m.id WHERE m.active AND l.monitor_id"
)

Read = Callable[[Sequence[MonitorId]], Awaitable[int]]
"""Reads a batch and returns how many monitors it found."""


class RowsRead(Struct, frozen=True):
    """Monitors read per second, with all that belongs to them."""

    catalog_per_s: float
    """Through the catalog: frozen values, checked."""
    driver_per_s: float
    """The bare driver, monitors and maintenances only: tuples, unchecked. SQLite in one thread."""


async def measure(settings: Settings, ids: Sequence[MonitorId]) -> RowsRead:
    """Read all, in batches as the producer does."""
    return RowsRead(await _catalog(settings, ids), await _driver(settings, ids))


async def _catalog(settings: Settings, ids: Sequence[MonitorId]) -> float:
    catalog = open_catalog(settings, connections=READERS, timeout_s=60)

    async def read(batch: Sequence[MonitorId]) -> int:
        return len((await catalog.read(batch)).found)

    try:
        return await _rate([read] * READERS, ids)
    finally:
        await catalog.close()


async def _driver(settings: Settings, ids: Sequence[MonitorId]) -> float:
    if settings.db_type is DbType.SQLITE:
        return _sqlite_rate(settings.db_name, ids)
    connections = [await connect_postgres(dict(os.environ)) for _ in range(READERS)]

    def reader(number: int) -> Read:
        async def read(batch: Sequence[MonitorId]) -> int:
            text, among = "::text", "= ANY($1::uuid[])"
            connection = connections[number]
            found = await connection.fetch(f"SELECT id::text, {MONITOR_COLUMNS.format(text=text)} {among}", batch)
            await connection.fetch(f"SELECT l.monitor_id::text, {MAINTENANCE_COLUMNS} {among}", batch)
            return len(found)

        return read

    try:
        return await _rate([reader(number) for number in range(READERS)], ids)
    finally:
        for connection in connections:
            await connection.close()


async def _rate(readers: Sequence[Read], ids: Sequence[MonitorId]) -> float:
    """Let the readers share the batches; the first of each is not counted: it connects and compiles."""
    await asyncio.gather(*(read(ids[:BATCH]) for read in readers))
    left = _batches(ids)

    async def work(read: Read) -> int:
        return sum([await read(batch) for batch in left])

    started_s = time.perf_counter()
    found = sum(await asyncio.gather(*map(work, readers)))
    return _per_s(found, ids, started_s)


def _sqlite_rate(name: str, ids: Sequence[MonitorId]) -> float:
    connection = sqlite3.connect(name)
    try:
        started_s, found = time.perf_counter(), 0
        for batch in _batches(ids):
            among = f"IN ({', '.join('?' * len(batch))})"
            select = f"SELECT id, {MONITOR_COLUMNS.format(text='')} {among}"
            found += len(connection.execute(select, batch).fetchall())
            select = f"SELECT l.monitor_id, {MAINTENANCE_COLUMNS} {among}"
            connection.execute(select, batch).fetchall()
        return _per_s(found, ids, started_s)
    finally:
        connection.close()


def _batches(ids: Sequence[MonitorId]) -> Iterator[Sequence[MonitorId]]:
    return (ids[start : start + BATCH] for start in range(0, len(ids), BATCH))


def _per_s(found: int, ids: Sequence[MonitorId], started_s: float) -> float:
    seconds = time.perf_counter() - started_s
    if found != len(ids):
        raise RuntimeError(f"{found} of {len(ids)} monitors were read")
    return found / seconds


def main() -> None:
    """Measure, and write the result to standard output."""
    ids = msgspec.json.decode(sys.stdin.buffer.read(), type=list[str])
    result = asyncio.run(measure(load_settings(), [MonitorId(id_) for id_ in ids]))
    sys.stdout.buffer.write(msgspec.json.encode(result))


if __name__ == "__main__":
    main()
