"""A million monitors, on SQLite and on Postgres: how long the whole table takes, and how soon events are acted on then.

Not part of `make bench`, since it takes minutes: `python -m benchmarks.many [--rows 1000000] [sqlite] [postgres]`.
"""

import argparse
import asyncio
import json
import sqlite3
import statistics
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis import Redis

from benchmarks.database import Database, connect_postgres, postgres_database, sqlite_database
from benchmarks.producer import running_producer
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.leader.event_message import CREATED
from peekaping_producer.redisdb.keys import DUE, LEASE

INTERVAL_S = 3_600
WATCHED_S = 120.0
EVENT_EVERY_S = 0.5
GIVE_UP_S = 30.0
INSERT = """INSERT INTO monitors (id, type, name, interval, timeout, max_retries, retry_interval, resend_interval,
 active, status, created_at, updated_at, config)"""
VALUES = f"""'http', 'Monitor ' || n, {INTERVAL_S}, 16, 2, 60, 0, true, 1,
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


def measure(database: Database, write: Callable[[str], None], rows: int) -> None:
    """Let a producer sweep and poll so many rows, create a monitor now and then, and print what was seen."""
    write((ON_SQLITE if database.kind == "sqlite" else ON_POSTGRES).replace("{rows}", str(rows)))
    write("PRAGMA wal_checkpoint(TRUNCATE)" if database.kind == "sqlite" else "VACUUM ANALYZE monitors")
    with (
        RedisServer(tcp=True) as server,
        Redis(host=HOST, port=server.port) as redis,
        running_producer(database, server.port, LOG_LEVEL="debug") as producer,
    ):
        began_s = time.monotonic()
        while not redis.pubsub_numsub(CREATED)[0][1]:
            time.sleep(0.01)
        took_s: list[float] = []
        while time.monotonic() < began_s + WATCHED_S:
            took_s.append(_event(redis, write))
            time.sleep(EVENT_EVERY_S)
        unavailable = _lines(producer.log, "database unavailable")
        print(f"{database.kind}, {rows:,} monitors:")
        for swept in _lines(producer.log, "sweep finished")[:1] or _lines(producer.log, "sweep in progress")[-1:]:
            print(f"  first sweep: {swept['event']}, {swept.get('seconds', '?')} s, {swept.get('seen', 0):,} seen")
        print(f"  {len(took_s)} events: median {statistics.median(took_s):.3f} s, slowest {max(took_s):.3f} s")
        print(f"  database found unavailable {len(unavailable)} times {[line['reason'] for line in unavailable[:3]]}")
        for line in _lines(producer.log, "summary")[-1:]:
            print("  last summary", {name: value for name, value in line.items() if name != "time"})


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


def _lines(log: Path, event: str) -> list[dict[str, Any]]:
    whole = log.read_text("utf-8").rpartition("\n")[0]
    return [line for line in map(json.loads, whole.splitlines()) if line["event"] == event]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many", description=__doc__)
    parser.add_argument("kinds", nargs="*", default=["sqlite", "postgres"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    if "sqlite" in options.kinds:
        with sqlite_database(0, INTERVAL_S) as database:
            measure(database, sqlite_writer(database), options.rows)
    if "postgres" in options.kinds:
        with postgres_database(0, INTERVAL_S) as database:
            measure(database, postgres_writer(database), options.rows)


if __name__ == "__main__":
    main()
