"""Reading a batch of 200 monitors from each kind of database, compared with the bare driver.

Each monitor has a proxy and a maintenance; both sides ask for the same rows, alternately. The driver's are dicts or
tuples, unchecked; the catalog's are frozen values. Then the newest heartbeats of 500 push monitors on Postgres.
"""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bson import ObjectId

from benchmarks.database import TESTS  # makes `support` importable
from benchmarks.figures import Case, cost, figure, rate
from benchmarks.part import Bench, Part
from peekaping_producer.catalog.catalog import open_catalog
from peekaping_producer.model.monitor import MonitorId
from support.databases import (
    Database,
    MongoDatabase,
    MySqlDatabase,
    PostgresDatabase,
    SqliteDatabase,
    link_row,
    maintenance_row,
    mongo_copy,
    monitor_row,
    mysql_copy,
    numbered_id,
    postgres_copy,
    proxy_row,
    sqlite_copy,
)
from support.mariadb import MariaDB, missing
from support.postgres import Postgres
from support.secantus import Secantus

BATCH = 200
MONGO_ROUNDS = 6
"""At most: the server of MongoDB's protocol is the slow part there, on both sides."""
PUSHED = 500
assert TESTS

Read = Callable[[list[str]], Awaitable[int]]
M = "id, name, type, `interval`, timeout, max_retries, retry_interval, resend_interval, active, config, proxy_id"
QUERIES = (
    f"SELECT {M} FROM monitors WHERE id",
    "SELECT id, protocol, host, port, auth, username, password FROM proxies WHERE id",
    (
        "SELECT l.monitor_id, m.id, m.strategy, m.start_date_time, m.end_date_time, m.start_time, m.end_time,"
        " m.interval_day, m.cron, m.timezone, m.duration FROM monitor_maintenances l"
        " JOIN maintenances m ON l.maintenance_id = m.id WHERE m.active AND l.monitor_id"
    ),
)
"""What the driver reads: monitors, proxies, maintenances."""


async def compare(database: Database, driver: Read, monitors: list[str], rounds: int) -> Case:
    """Let both read the same batch alternately."""
    catalog = open_catalog(database.settings(), connections=1, timeout_s=60)
    ids = [MonitorId(id_) for id_ in monitors]
    took: dict[str, list[float]] = {"catalog": [], "driver": []}
    try:
        for _ in range(rounds):
            started_s = time.perf_counter()
            reading = await catalog.read(ids)
            took["catalog"].append(time.perf_counter() - started_s)
            assert len(reading.found) == len(ids)
            assert all(one.proxy and one.maintenances for one in reading.found.values())
            started_s = time.perf_counter()
            assert await driver(monitors) == len(ids)
            took["driver"].append(time.perf_counter() - started_s)
    finally:
        await catalog.close()
    # The first rounds connect, compile and fill caches.
    per_s = {side: [len(ids) / seconds for seconds in all_s[rounds // 3 :]] for side, all_s in took.items()}
    shares = [100 * catalog / driver for catalog, driver in zip(per_s["catalog"], per_s["driver"], strict=True)]
    figures = {
        "catalog": rate(per_s["catalog"]),
        "bare_driver": rate(per_s["driver"]),
        "catalog_as_a_share": figure(shares, "%", more_is_better=True, goal="≥ 50"),
    }
    return Case(f"{database.kind}, batches of {len(ids)} monitors", figures)


async def filled(database: Database) -> list[str]:
    """Insert a batch of monitors, each with a proxy and a maintenance of its own; return their ids."""
    numbers = range(1, BATCH + 1)
    proxies = [proxy_row(id=numbered_id(number)) for number in numbers]
    maintenances = [maintenance_row(id=numbered_id(number)) for number in numbers]
    monitors = [monitor_row(id=numbered_id(number), proxy_id=numbered_id(number)) for number in numbers]
    links = [link_row(numbered_id(number), numbered_id(number)) for number in numbers]
    await database.insert("proxies", *proxies)
    await database.insert("maintenances", *maintenances)
    await database.insert("monitors", *monitors)
    await database.insert("monitor_maintenances", *links)
    return [row["id"] for row in monitors]


async def on_postgres(database: PostgresDatabase, rounds: int) -> Case:
    """Read with asyncpg: an array of ids, and texts."""
    ids = await filled(database)
    texts = [query.replace("`", '"').replace("config", "config::text") for query in QUERIES]
    async with database.connected() as connection:

        async def read(among: list[str]) -> int:
            found = [await connection.fetch(f"{text} = ANY($1::uuid[])", among) for text in texts]
            return len(found[0])

        return await compare(database, read, ids, rounds)


async def on_mysql(database: MySqlDatabase, rounds: int) -> Case:
    """Read with asyncmy: a list of ids in the statement."""
    ids = await filled(database)
    async with database.connected() as cursor:

        async def read(among: list[str]) -> int:
            marks = ", ".join(["%s"] * len(among))
            found = []
            for query in QUERIES:
                await cursor.execute(f"{query} IN ({marks})", among)
                found.append(await cursor.fetchall())
            return len(found[0])

        return await compare(database, read, ids, rounds)


async def on_sqlite(database: SqliteDatabase, rounds: int) -> Case:
    """Read with the standard library, in a thread."""
    ids = await filled(database)
    with closing(sqlite3.connect(database.path, check_same_thread=False)) as connection:

        def read_all(among: list[str]) -> int:
            marks = ", ".join("?" * len(among))
            found = [connection.execute(f"{query} IN ({marks})", among).fetchall() for query in QUERIES]
            return len(found[0])

        async def read(among: list[str]) -> int:
            return await asyncio.to_thread(read_all, among)

        return await compare(database, read, ids, rounds)


async def on_mongo(database: MongoDatabase, rounds: int) -> Case:
    """Read with pymongo: ObjectIds alone."""
    ids = await filled(database)
    async with database.connected() as collections:

        async def found(name: str, field: str, among: list[Any]) -> list[dict[str, Any]]:
            return await collections[name].find({field: {"$in": among}}, batch_size=1_000).to_list()

        async def read(among: list[str]) -> int:
            keys = [ObjectId(id_) for id_ in among]
            monitors = await found("monitor", "_id", keys)
            await found("proxies", "_id", [monitor["proxy_id"] for monitor in monitors])
            links = await found("monitor_maintenance", "monitor_id", keys)
            await found("maintenance", "_id", [link["maintenance_id"] for link in links])
            return len(monitors)

        return await compare(database, read, ids, min(rounds, MONGO_ROUNDS))


async def newest_heartbeats(database: PostgresDatabase, history: int, rounds: int) -> Case:
    """Read push monitors with their newest heartbeats."""
    rows = [monitor_row(id=numbered_id(number), type="push") for number in range(1, PUSHED + 1)]
    await database.insert("monitors", *rows)
    await database.execute(
        "INSERT INTO heartbeats (id, monitor_id, status, msg, time)"
        " SELECT gen_random_uuid(), m.id, 1, 'OK', timestamp '2026-01-01' + n * interval '1 minute'"
        f" FROM generate_series(1, {history // PUSHED}) n, monitors m WHERE m.type = 'push'; ANALYZE"
    )
    catalog = open_catalog(database.settings(), connections=1, timeout_s=60)
    ids = [MonitorId(row["id"]) for row in rows]
    took: list[float] = []
    try:
        for _ in range(rounds):
            started_s = time.perf_counter()
            reading = await catalog.read(ids)
            took.append(time.perf_counter() - started_s)
            assert all(one.last_heartbeat for one in reading.found.values())
    finally:
        await catalog.close()
    figures = {"read": cost([seconds * 1000 for seconds in took[rounds // 3 :]], "ms", "≤ 50")}
    return Case(f"newest heartbeats of {PUSHED} monitors among {history:,}", figures)


def measure(bench: Bench) -> list[Case]:
    """Read the given number of times in each of several fresh databases; one has the given number of heartbeats."""
    with TemporaryDirectory() as folder, ExitStack() as servers:
        return asyncio.run(_measure(Path(folder), servers, bench.size.readings, bench.size.heartbeats))


PART = Part("reading", "batches read by the catalog and by the bare driver, on each database; heartbeats", 30, measure)


async def _measure(folder: Path, servers: ExitStack, rounds: int, history: int) -> list[Case]:
    async with AsyncExitStack() as stack:
        postgres = servers.enter_context(Postgres())
        bare = await stack.enter_async_context(postgres_copy(postgres, rows=False))
        cases = [await on_postgres(bare, rounds)]
        absent = missing()
        if absent:
            cases.append(Case("mysql", {}, note=absent))
        else:
            mariadb = servers.enter_context(MariaDB())
            cases.append(await on_mysql(await stack.enter_async_context(mysql_copy(mariadb, rows=False)), rounds))
        cases.append(await on_sqlite(sqlite_copy(folder, rows=False), rounds))
        another = await stack.enter_async_context(postgres_copy(postgres, rows=False))
        cases.append(await newest_heartbeats(another, history, rounds))
        # The last one: from here on new ids are MongoDB's.
        secantus = servers.enter_context(Secantus())
        cases.append(await on_mongo(await stack.enter_async_context(mongo_copy(secantus, rows=False)), rounds))
    return cases
