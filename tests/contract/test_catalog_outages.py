"""A database that stops, stalls or is busy is an error in time, never an empty answer; when it is back, all is well."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from peekaping_producer.catalog.catalog import Catalog
from peekaping_producer.catalog.reading import Reading
from peekaping_producer.errors import Unavailable
from peekaping_producer.monitor import MonitorId
from support.catalogues import all_pages, checked_out, engine, opened
from support.databases import (
    PostgresDatabase,
    SqliteDatabase,
    monitor_row,
    new_id,
    numbered_id,
    postgres_database,
)
from support.postgres import Postgres

DEADLINE_S = 0.5
GRACE_S = 1.0
"""What giving up may take beyond the deadline, on a busy machine."""

_WRITER = """
import sqlite3, sys, uuid
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
columns = "id,type,name,interval,timeout,max_retries,retry_interval,resend_interval"
print("ready", flush=True)
number = 0
while True:
    number += 1
    connection.execute("BEGIN IMMEDIATE")
    for _ in range(2):
        connection.execute(f"INSERT INTO monitors ({columns}) VALUES (?,'http','pair',60,1,1,1,1)", [str(uuid.uuid4())])
    values = [str(number), number, sys.argv[2]]
    connection.execute("UPDATE monitors SET name = ?, retry_interval = ? WHERE id = ?", values)
    connection.execute("COMMIT")
    if number == 5:
        print("busy", flush=True)
"""


@pytest.fixture
async def own_postgres_db(own_postgres_server: Postgres) -> PostgresDatabase:
    """Make the fixture on a server of its own, and go with it."""
    return await postgres_database(own_postgres_server, rows=True)


async def assert_unavailable_in_time(catalog: Catalog, ids: list[MonitorId]) -> None:
    """Each kind of reading gives up by the deadline and leaves nothing checked out."""
    for reading in (lambda: catalog.read(ids), lambda: catalog.active(None, 10)):
        began_s = time.monotonic()
        with pytest.raises(Unavailable):
            await reading()
        assert time.monotonic() - began_s < DEADLINE_S + GRACE_S
        assert checked_out(catalog) == 0


async def test_a_stopped_server_is_unavailable_and_works_again_after_its_restart(
    own_postgres_db: PostgresDatabase,
) -> None:
    ids = [MonitorId(id_) for id_ in await own_postgres_db.ids()]
    async with opened(own_postgres_db, timeout_s=DEADLINE_S) as catalog:
        before = await catalog.read(ids)
        own_postgres_db.server.kill()
        for _ in range(3):
            await assert_unavailable_in_time(catalog, ids)
        own_postgres_db.server.restart()
        after = await read_within(catalog, ids, seconds=10)

    assert before.found == after.found
    assert len(after.found) > 50


async def test_a_frozen_server_is_unavailable_by_the_deadline(own_postgres_db: PostgresDatabase) -> None:
    ids = [MonitorId(id_) for id_ in await own_postgres_db.ids()]
    async with opened(own_postgres_db, timeout_s=DEADLINE_S) as catalog:
        await catalog.check()
        own_postgres_db.server.pause()
        await assert_unavailable_in_time(catalog, ids)
        own_postgres_db.server.resume()
        after = await read_within(catalog, ids, seconds=10)

    assert len(after.found) > 50


async def test_a_slow_statement_is_unavailable_by_the_deadline(postgres_db: PostgresDatabase) -> None:
    ids = [MonitorId(id_) for id_ in await postgres_db.ids()]
    async with opened(postgres_db, timeout_s=DEADLINE_S) as catalog:
        async with postgres_db.connected() as holder, holder.transaction():
            await holder.execute("LOCK TABLE monitors IN ACCESS EXCLUSIVE MODE")
            await assert_unavailable_in_time(catalog, ids)
        after = await read_within(catalog, ids, seconds=10)

    assert len(after.found) > 50


async def test_a_slow_statement_does_not_go_on_in_the_server(postgres_db: PostgresDatabase) -> None:
    ids = [MonitorId(id_) for id_ in await postgres_db.ids()]
    async with (
        opened(postgres_db, timeout_s=DEADLINE_S) as catalog,
        postgres_db.connected() as observer,
        postgres_db.connected() as holder,
        holder.transaction(),
    ):
        await holder.execute("LOCK TABLE monitors IN ACCESS EXCLUSIVE MODE")
        await assert_unavailable_in_time(catalog, ids)
        await until_no_statement_runs(observer)


async def test_a_batch_cancelled_in_the_middle_leaves_no_connection_behind(postgres_db: PostgresDatabase) -> None:
    async with (
        opened(postgres_db, connections=1) as catalog,
        postgres_db.connected() as observer,
        postgres_db.connected() as holder,
    ):
        async with holder.transaction():
            await holder.execute("LOCK TABLE monitors IN ACCESS EXCLUSIVE MODE")
            reading = asyncio.create_task(catalog.active(None, 10))
            await until_a_statement_waits(observer)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert checked_out(catalog) == 0
        assert (await catalog.active(None, 10)).monitors


async def test_more_readers_than_connections_wait_their_turn(postgres_db: PostgresDatabase) -> None:
    ids = [MonitorId(id_) for id_ in await postgres_db.ids()]
    async with opened(postgres_db, connections=2) as catalog:
        readings = await asyncio.gather(*(catalog.read(ids) for _ in range(20)))

    assert all(len(reading.found) == len(readings[0].found) > 50 for reading in readings)


async def test_a_pool_with_nothing_free_is_unavailable_by_the_deadline(postgres_db: PostgresDatabase) -> None:
    ids = [MonitorId(new_id())]
    async with opened(postgres_db, connections=1, timeout_s=DEADLINE_S) as catalog:
        async with engine(catalog).connect():
            began_s = time.monotonic()
            with pytest.raises(Unavailable):
                await catalog.read(ids)
            assert time.monotonic() - began_s < DEADLINE_S + GRACE_S
        assert (await catalog.read(ids)).found == {}


async def test_a_backend_ended_by_an_administrator_is_replaced(postgres_db: PostgresDatabase) -> None:
    async with opened(postgres_db, connections=1) as catalog:
        await catalog.check()
        await postgres_db.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'peekaping-producer' AND datname = current_database()"
        )
        with pytest.raises(Unavailable):
            await catalog.active(None, 10)
        assert (await catalog.active(None, 10)).monitors


async def test_sqlite_is_read_whole_while_another_process_writes(empty_sqlite_db: SqliteDatabase) -> None:
    watched = monitor_row(id=numbered_id(1), retry_interval=0, name="0")
    await empty_sqlite_db.insert("monitors", watched)
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(empty_sqlite_db.path), watched["id"]], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    try:
        assert writer.stdout.readline() == "ready\n"
        assert writer.stdout.readline() == "busy\n"
        seen: list[int] = []
        async with opened(empty_sqlite_db) as catalog:
            for _ in range(30):
                monitor = (await catalog.read([watched["id"]])).found[watched["id"]].monitor
                assert monitor.name == str(monitor.retry_interval)
                seen.append(monitor.retry_interval)
                page = await catalog.active(None, 1_000_000)
                assert len(page.monitors) % 2 == 1
                monitors, aside = await all_pages(catalog, 50)
                assert len({one.id for one in monitors}) == len(monitors) >= len(page.monitors)
                assert aside == {}
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()

    assert seen == sorted(seen)
    assert seen[-1] > seen[0]


async def test_sqlite_locked_by_another_is_unavailable_by_the_deadline(sqlite_db: SqliteDatabase) -> None:
    """In WAL mode only recovery and a few others lock readers out; another journal mode shows it plainly."""
    with sqlite_db.connected() as holder:
        holder.execute("PRAGMA journal_mode = DELETE")
    ids = [MonitorId(id_) for id_ in await sqlite_db.ids()]
    async with opened(sqlite_db, timeout_s=DEADLINE_S) as catalog:
        holder = sqlite3.connect(sqlite_db.path, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        await assert_unavailable_in_time(catalog, ids)
        holder.execute("ROLLBACK")
        holder.close()
        after = await read_within(catalog, ids, seconds=10)

    assert len(after.found) > 50


async def test_an_sqlite_file_that_is_replaced_by_nonsense_is_unavailable(sqlite_db: SqliteDatabase) -> None:
    async with opened(sqlite_db) as catalog:
        Path(sqlite_db.path).write_bytes(b"nonsense" * 1000)
        with pytest.raises(Unavailable):
            await catalog.active(None, 10)


async def read_within(catalog: Catalog, ids: list[MonitorId], *, seconds: float) -> Reading:
    """Read until it succeeds."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await catalog.read(ids)
            except Unavailable:
                await asyncio.sleep(0.01)


async def until_a_statement_waits(observer: Any) -> None:
    """Wait until the catalogue's statement waits for a lock."""
    async with asyncio.timeout(10):
        while not await _statements(observer, "AND wait_event_type = 'Lock'"):
            await asyncio.sleep(0.01)


async def until_no_statement_runs(observer: Any) -> None:
    """Wait until no statement of the catalogue runs."""
    async with asyncio.timeout(10):
        while await _statements(observer, "AND state <> 'idle'"):
            await asyncio.sleep(0.01)


async def _statements(observer: Any, condition: str) -> int:
    count: int = await observer.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'peekaping-producer'"
        f" AND datname = current_database() {condition}"
    )
    return count
