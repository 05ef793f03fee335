"""A database that stops, stalls or is busy raises by the deadline and never returns nothing; later it works again."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pymongo.monitoring
import pytest
from sqlalchemy import Connection

from peekaping_producer.catalog.catalog import Catalog, open_catalog
from peekaping_producer.catalog.reading import Reading
from peekaping_producer.catalog.sql import SqlCatalog
from peekaping_producer.errors import Unavailable
from peekaping_producer.model.monitor import MonitorId
from support.breaking_proxy import breaking_proxy
from support.catalogues import all_pages, engine, in_order, locked_out, opened, until_checked_in
from support.databases import (
    CREATED_AT,
    MongoDatabase,
    MySqlDatabase,
    PostgresDatabase,
    ServerDatabase,
    SqliteDatabase,
    mongo_database,
    monitor_row,
    new_id,
    numbered_id,
)
from support.secantus import Secantus
from support.server_process import ServerProcess

DEADLINE_S = 0.5
GRACE_S = 1.0
"""How long giving up may take beyond the deadline, on a busy machine."""

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


async def assert_unavailable_in_time(catalog: Catalog, ids: list[MonitorId]) -> None:
    """Each kind of reading gives up by the deadline and leaves nothing checked out."""
    for reading in (lambda: catalog.read(ids), lambda: catalog.active(None, 10)):
        began_s = time.monotonic()
        with pytest.raises(Unavailable):
            await reading()
        assert time.monotonic() - began_s < DEADLINE_S + GRACE_S
        await until_checked_in(catalog)


async def test_a_stopped_server_is_unavailable_and_works_again_after_its_restart(own_server_db: ServerDatabase) -> None:
    ids = [MonitorId(id_) for id_ in await own_server_db.ids()]
    server = process_of(own_server_db)
    async with opened(own_server_db, timeout_s=DEADLINE_S) as catalog:
        before = await read_within(catalog, ids, seconds=10)
        server.kill()
        for _ in range(3):
            await assert_unavailable_in_time(catalog, ids)
        server.restart()
        after = await read_within(catalog, ids, seconds=10)

    assert in_order(before) == in_order(after)
    assert len(after.found) > 10


@pytest.mark.parametrize("own_server_db", ["postgres"], indirect=True)
async def test_after_a_restart_no_batch_gets_a_connection_from_before_it(own_server_db: ServerDatabase) -> None:
    ids = [MonitorId(id_) for id_ in await own_server_db.ids()]
    server = process_of(own_server_db)
    async with opened(own_server_db, connections=3, timeout_s=10) as catalog:
        before = await asyncio.gather(*(catalog.read(ids) for _ in range(3)))
        server.kill()
        with pytest.raises(Unavailable):
            await catalog.read(ids)
        server.restart()
        after = await asyncio.gather(*(catalog.read(ids) for _ in range(3)))
    assert [in_order(reading) for reading in after] == [in_order(reading) for reading in before]


@pytest.mark.parametrize("own_server_db", ["postgres", "mysql"], indirect=True)
async def test_a_restart_while_the_leaders_connections_were_idle_is_not_an_outage(
    own_server_db: ServerDatabase,
) -> None:
    async with opened(own_server_db, timeout_s=10) as catalog:
        page = await catalog.active(None, 10)
        ids = [monitor.id for monitor in page.monitors]
        assert ids
        named = await catalog.active_of(ids, urgent=True)
        process_of(own_server_db).kill()
        process_of(own_server_db).restart()
        assert await catalog.active(None, 10) == page
        assert await catalog.active_of(ids, urgent=True) == named


async def test_a_frozen_server_is_unavailable_by_the_deadline(own_server_db: ServerDatabase) -> None:
    ids = [MonitorId(id_) for id_ in await own_server_db.ids()]
    server = process_of(own_server_db)
    async with opened(own_server_db, timeout_s=DEADLINE_S) as catalog:
        await catalog.check()
        server.pause()
        await assert_unavailable_in_time(catalog, ids)
        server.resume()
        after = await read_within(catalog, ids, seconds=10)

    assert len(after.found) > 10


async def test_a_connection_that_dies_in_the_middle_of_an_answer_raises(
    server_db: ServerDatabase,
) -> None:
    ids = [MonitorId(id_) for id_ in await server_db.ids()]
    async with (
        breaking_proxy(server_db.server.port) as proxy,
        opened(server_db.settings(db_port=proxy.port), connections=1) as catalog,
    ):
        whole = in_order(await catalog.read(ids))
        for bytes_passed in (0, 1, 30, 100, 1_000, 3_000):
            proxy.cut_after(bytes_passed)
            with pytest.raises(Unavailable):
                await read_until_it_fails(catalog, ids)
            await until_checked_in(catalog)
            assert in_order(await read_within(catalog, ids, seconds=10)) == whole


async def test_a_page_cut_in_the_middle_raises(server_db: ServerDatabase) -> None:
    async with (
        breaking_proxy(server_db.server.port) as proxy,
        opened(server_db.settings(db_port=proxy.port), connections=1) as catalog,
    ):
        await catalog.active(None, 1_000)
        proxy.cut_after(200)
        with pytest.raises(Unavailable):
            await catalog.active(None, 1_000)


async def test_an_answer_that_is_held_back_is_unavailable_by_the_deadline(server_db: ServerDatabase) -> None:
    ids = [MonitorId(id_) for id_ in await server_db.ids()]
    async with (
        breaking_proxy(server_db.server.port) as proxy,
        opened(server_db.settings(db_port=proxy.port), timeout_s=DEADLINE_S) as catalog,
    ):
        await catalog.check()
        proxy.stall()
        await assert_unavailable_in_time(catalog, ids)
        proxy.flow()
        after = await read_within(catalog, ids, seconds=10)

    assert len(after.found) > 10


async def test_a_batch_cancelled_in_the_middle_leaves_no_connection_behind(server_db: ServerDatabase) -> None:
    async with (
        breaking_proxy(server_db.server.port) as proxy,
        opened(server_db.settings(db_port=proxy.port), connections=1, timeout_s=1) as catalog,
    ):
        await catalog.check()
        proxy.stall()
        reading = asyncio.create_task(catalog.active(None, 10))
        await asyncio.wait_for(proxy.held.wait(), 10)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await until_checked_in(catalog)
        proxy.flow()
        assert (await catalog.active(None, 10)).monitors


async def test_the_server_gives_up_a_slow_statement_too(postgres_db: PostgresDatabase, mysql_db: MySqlDatabase) -> None:
    for database in (postgres_db, mysql_db):
        ids = [MonitorId(id_) for id_ in await database.ids()]
        async with opened(database, timeout_s=DEADLINE_S) as catalog:
            async with database.connected() as observer, locked_out(database, "monitors"):
                await assert_unavailable_in_time(catalog, ids)
                await until_no_statement_runs(database, observer)
            after = await read_within(catalog, ids, seconds=10)

        assert len(after.found) > 50


async def test_a_statement_is_bounded_by_postgres_itself(postgres_db: PostgresDatabase) -> None:
    """Without a deadline of ours, which would end it too."""
    async with opened(postgres_db, timeout_s=0.5) as catalog, engine(catalog).connect() as connection:
        with pytest.raises(Exception, match="statement timeout"):
            await connection.exec_driver_sql("SELECT pg_sleep(5)")


async def test_a_slow_statement_on_sqlite_is_interrupted_even_if_it_begins_too_late(sqlite_db: SqliteDatabase) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    async with opened(sqlite_db) as catalog:
        assert isinstance(catalog, SqlCatalog)
        for in_time in (True, False):
            begin = threading.Event()
            if in_time:
                begin.set()

            def slow(connection: Connection, begin: threading.Event = begin) -> object:
                begin.wait(10)
                return connection.exec_driver_sql(endless).all()

            with pytest.raises(Unavailable):
                await catalog._batches.do(slow, DEADLINE_S)
            begin.set()
            await until_checked_in(catalog)
            assert (await catalog.active(None, 10)).monitors


async def test_a_frozen_mongodb_does_not_hold_up_the_end(own_mongo_server: Secantus) -> None:
    database = await mongo_database(own_mongo_server, rows=True)
    catalog = open_catalog(database.settings(), connections=2, timeout_s=30)
    await catalog.active(None, 10)
    own_mongo_server.pause()
    reading = asyncio.create_task(catalog.active(None, 10))
    await asyncio.sleep(0)  # lets the reading start
    began_s = time.monotonic()
    await catalog.close()
    took_s = time.monotonic() - began_s
    own_mongo_server.resume()
    with pytest.raises((Unavailable, asyncio.CancelledError)):
        await reading
    assert took_s < 10


async def test_a_statement_on_mongodb_carries_its_time_limit(mongo_db: MongoDatabase) -> None:
    """The server enforces the limit; this test sees only that it is sent."""
    ids = [MonitorId(id_) for id_ in await mongo_db.ids()]
    listener = Commands()
    pymongo.monitoring.register(listener)
    try:
        async with opened(mongo_db, timeout_s=10) as catalog:
            await catalog.read(ids)
            await catalog.active(None, 10)
            await catalog.changed(CREATED_AT, None, 10)
    finally:
        pymongo.monitoring._LISTENERS.command_listeners.remove(listener)

    limits_ms = [limit_ms for name, limit_ms in listener.limits_ms if name in {"find", "aggregate"}]
    assert len(limits_ms) > 5
    assert all(0 < limit_ms <= 10_000 for limit_ms in limits_ms)


async def test_more_readers_than_connections_wait_their_turn(server_db: ServerDatabase) -> None:
    ids = [MonitorId(id_) for id_ in await server_db.ids()]
    async with opened(server_db, connections=2) as catalog:
        readings = await asyncio.gather(*(catalog.read(ids) for _ in range(20)))

    assert all(len(reading.found) == len(readings[0].found) > 10 for reading in readings)


async def test_never_more_connections_than_the_limit(mysql_db: MySqlDatabase) -> None:
    ids = [MonitorId(id_) for id_ in await mysql_db.ids()]
    async with opened(mysql_db, connections=2) as catalog, mysql_db.connected() as observer:
        await asyncio.gather(*(catalog.read(ids) for _ in range(20)))
        await observer.execute("SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE()")
        (count,) = await observer.fetchone()

    assert count == 2 + 1


async def test_a_pool_with_nothing_free_is_unavailable_by_the_deadline(postgres_db: PostgresDatabase) -> None:
    ids = [MonitorId(new_id())]
    async with opened(postgres_db, connections=1, timeout_s=DEADLINE_S) as catalog:
        async with engine(catalog).connect():
            began_s = time.monotonic()
            with pytest.raises(Unavailable):
                await catalog.read(ids)
            assert time.monotonic() - began_s < DEADLINE_S + GRACE_S
        assert (await catalog.read(ids)).found == {}


async def test_a_connection_that_an_administrator_terminates_is_replaced(postgres_db: PostgresDatabase) -> None:
    async with opened(postgres_db, connections=1) as catalog:
        ids = [MonitorId(id_) for id_ in await postgres_db.ids("active")]
        await catalog.check()
        await postgres_db.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'peekaping-producer' AND datname = current_database()"
        )
        with suppress(Unavailable):  # unless its end has arrived here already
            await catalog.read(ids)
        assert (await catalog.read(ids)).found


async def test_a_connection_that_mariadb_kills_is_replaced(mysql_db: MySqlDatabase) -> None:
    async with opened(mysql_db, connections=1) as catalog:
        ids = [MonitorId(id_) for id_ in await mysql_db.ids("active")]
        await catalog.read(ids)
        async with engine(catalog).connect() as connection:
            (own,) = (await connection.exec_driver_sql("SELECT connection_id()")).one()
        await mysql_db.execute(f"KILL {own}")
        with pytest.raises(Unavailable):
            await catalog.read(ids)
        assert (await catalog.read(ids)).found


async def test_sqlite_is_read_completely_while_another_process_writes(empty_sqlite_db: SqliteDatabase) -> None:
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
            for _ in range(6):
                monitor = (await catalog.read([watched["id"]])).found[watched["id"]].monitor
                assert monitor.name == str(monitor.retry_interval)
                seen.append(monitor.retry_interval)
                page = await catalog.active(None, 1_000_000)
                assert len(page.monitors) % 2 == 1
                monitors, invalid = await all_pages(catalog, 50)
                assert len({one.id for one in monitors}) == len(monitors) >= len(page.monitors)
                assert invalid == {}
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()

    assert seen == sorted(seen)
    assert seen[-1] > seen[0]


async def test_sqlite_locked_by_another_is_unavailable_by_the_deadline(sqlite_db: SqliteDatabase) -> None:
    """In WAL mode little but recovery locks readers out, so the test uses another journal mode."""
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


async def test_an_sqlite_file_replaced_by_garbage_is_unavailable(sqlite_db: SqliteDatabase) -> None:
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


async def read_until_it_fails(catalog: Catalog, ids: list[MonitorId]) -> None:
    """Read repeatedly: more than one reading may still pass."""
    for _ in range(1_000):
        await catalog.read(ids)


def process_of(database: ServerDatabase) -> ServerProcess:
    """Return the process of the test's own server."""
    assert isinstance(database.server, ServerProcess)
    return database.server


async def until_no_statement_runs(database: PostgresDatabase | MySqlDatabase, observer: Any) -> None:
    """Wait until the server runs no statement of the catalog."""
    async with asyncio.timeout(10):
        while await _statements(database, observer):
            await asyncio.sleep(0.01)


async def _statements(database: PostgresDatabase | MySqlDatabase, observer: Any) -> int:
    if isinstance(database, MySqlDatabase):
        await observer.execute(
            "SELECT count(*) FROM information_schema.processlist"
            " WHERE db = DATABASE() AND command = 'Query' AND id <> CONNECTION_ID()"
        )
        (count,) = await observer.fetchone()
    else:
        count = await observer.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'peekaping-producer'"
            " AND datname = current_database() AND state <> 'idle'"
        )
    assert isinstance(count, int)
    return count


class Commands(pymongo.monitoring.CommandListener):
    """Records what is sent to MongoDB: each command, and its time limit."""

    def __init__(self) -> None:
        self.limits_ms: list[tuple[str, int]] = []

    def started(self, event: pymongo.monitoring.CommandStartedEvent) -> None:
        self.limits_ms.append((event.command_name, event.command.get("maxTimeMS", 0)))

    def succeeded(self, event: pymongo.monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: pymongo.monitoring.CommandFailedEvent) -> None:
        pass
