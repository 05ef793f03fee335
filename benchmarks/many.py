"""A million monitors, on SQLite and on Postgres: the first sweep, and how soon events are acted on meanwhile."""

import asyncio
import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator

from redis import Redis

from benchmarks.database import Database, connect_postgres
from benchmarks.figures import Case, cost
from benchmarks.part import HERD_INTERVAL_S, KINDS, Bench, Part
from benchmarks.producer import log_lines, running_producer, wait_until
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.leader.event_message import CREATED
from peekaping_producer.redisdb.keys import DUE, LEASE

EVENT_EVERY_S = 0.5
"""Between two events, so that they are spread over the first sweep."""
GIVE_UP_S = 30.0
INSERT = """INSERT INTO monitors (id, type, name, interval, timeout, max_retries, retry_interval, resend_interval,
 active, status, created_at, updated_at, config)"""
VALUES = f"""'http', 'Monitor ' || n, {HERD_INTERVAL_S}, 16, 2, 60, 0, true, 1,
 '2026-01-02 03:04:05', '2026-01-02 03:04:05', '{{}}'"""
SQLITE_ID = (
    "lower(printf('%s-%s-4%s-8%s-%s', hex(randomblob(4)), hex(randomblob(2)), substr(hex(randomblob(2)), 2),"
    " substr(hex(randomblob(2)), 2), hex(randomblob(6))))"
)
ON_SQLITE = f"""{INSERT} WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {{rows}})
 SELECT {SQLITE_ID}, {VALUES} FROM numbers"""
ON_POSTGRES = f"""{INSERT} SELECT gen_random_uuid(), {VALUES.replace("'2026", "timestamp '2026")}
 FROM generate_series(1, {{rows}}) AS n"""


def sqlite_writer(database: Database) -> Callable[[str], None]:
    """Return what runs a statement on the file."""
    connection = sqlite3.connect(database.settings["DB_NAME"], timeout=30, isolation_level=None)

    def run(statement: str) -> None:
        connection.execute(statement)

    return run


def postgres_writer(database: Database) -> Callable[[str], None]:
    """Return what runs a statement on the server."""

    async def run(statement: str) -> None:
        connection = await connect_postgres(database.settings)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    return lambda statement: asyncio.run(run(statement))


def measure(bench: Bench) -> Iterator[Case]:
    """Let a producer sweep and poll the given number of rows, and create a monitor now and then."""
    for kind, writer in (("sqlite", sqlite_writer), ("postgres", postgres_writer)):
        with KINDS[kind](0, HERD_INTERVAL_S) as database:
            yield _case(database, writer(database), bench.size.many, bench.size.many_s)


PART = Part(
    "many",
    "a million monitors: the first sweep, and how soon events are acted on meanwhile",
    360,
    measure,
    by_default=False,
)


def _case(database: Database, write: Callable[[str], None], rows: int, watched_s: float) -> Case:
    write((ON_SQLITE if database.kind == "sqlite" else ON_POSTGRES).replace("{rows}", str(rows)))
    write("PRAGMA wal_checkpoint(TRUNCATE)" if database.kind == "sqlite" else "VACUUM ANALYZE monitors")
    with (
        RedisServer(tcp=True) as server,
        Redis(host=HOST, port=server.port) as redis,
        running_producer(database, server.port, LOG_LEVEL="debug") as producer,
    ):
        began_s = time.monotonic()
        wait_until(lambda: redis.pubsub_numsub(CREATED)[0][1] > 0, "the leader listens")
        took_s = [_event(redis, write)]
        while time.monotonic() < began_s + watched_s:
            time.sleep(EVENT_EVERY_S)
            took_s.append(_event(redis, write))
        figures = {
            "event_acted_on_after": cost(took_s, "s"),
            "slowest_event": cost(max(took_s), "s"),
            "database_found_unavailable": cost(len(log_lines(producer.log, "database unavailable")), "times"),
        }
        note = "the first sweep was not finished"
        for swept in log_lines(producer.log, "sweep finished")[:1]:
            note = ""
            figures["first_sweep"] = cost(swept["seconds"], "s")
    return Case(f"{database.kind}, {rows:,} monitors", figures, note=note)


def _event(redis: Redis, write: Callable[[str], None]) -> float:
    """Create a monitor, publish it, and return how long it took until it was in the schedule."""
    id_ = str(uuid.uuid4())
    write(f"{INSERT} SELECT '{id_}', {VALUES} FROM (SELECT 0 AS n) AS one")
    published_s = time.monotonic()
    redis.publish(CREATED, json.dumps({"type": "monitor.created", "payload": {"id": id_, "active": True}}))
    while redis.zscore(DUE, id_) is None and redis.zscore(LEASE, id_) is None:
        if time.monotonic() > published_s + GIVE_UP_S:
            break
        time.sleep(0.005)
    return time.monotonic() - published_s
