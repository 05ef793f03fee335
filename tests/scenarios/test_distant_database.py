"""With a database some way off, a node opens as many connections as its concurrency allows, and that brings a gain."""

import time
from collections.abc import Sequence

import asyncpg
from redis.asyncio import Redis

from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.redisdb.keys import DUE
from peekaping_producer.timing import Timing
from support.databases import PostgresDatabase, monitor_row
from support.delaying_proxy import delaying_proxy
from support.postgres import SUPERUSER
from support.producer import producing
from support.redis_time import redis_now_ms
from support.waiting import until

ROUND_TRIP_S = 0.05
SMALL_BATCHES = Timing(batch=10)
MONITORS, CONCURRENCY = 400, 8
LEADERS_OWN = 2


async def test_the_rate_and_the_connections_grow_with_the_concurrency(
    empty_postgres_db: PostgresDatabase, redis_server: RedisServer, redis: Redis
) -> None:
    rows = [monitor_row(interval=3600) for _ in range(MONITORS)]
    ids = [row["id"] for row in rows]
    await empty_postgres_db.insert("monitors", *rows)
    alone_s, connections = await settled(empty_postgres_db, redis_server, redis, ids, 1)
    assert connections <= 1 + LEADERS_OWN
    together_s, connections = await settled(empty_postgres_db, redis_server, redis, ids, CONCURRENCY)
    assert CONCURRENCY <= connections <= CONCURRENCY + LEADERS_OWN
    assert together_s < alone_s / 1.5, (together_s, alone_s)


async def settled(
    database: PostgresDatabase, server: RedisServer, redis: Redis, ids: Sequence[str], concurrency: int
) -> tuple[float, int]:
    """Make all monitors due; return how long it took to settle them, and how many connections the node has then."""
    await redis.flushdb()
    async with delaying_proxy(database.server.port, ROUND_TRIP_S) as port:
        settings = database.settings(
            db_port=port, redis_host=HOST, redis_port=server.port, producer_concurrency=concurrency
        )
        async with producing(settings, SMALL_BATCHES) as producer:
            await producer.until_logged("sweep finished")
            now_ms = await redis_now_ms(redis)
            await redis.zadd(DUE, dict.fromkeys(ids, now_ms - 1_000))
            began_s = time.monotonic()

            async def all_later() -> bool:
                return bool(await redis.zcount(DUE, now_ms + 1_000_000, "+inf") == MONITORS)

            await until(all_later, "all are settled")
            took_s = time.monotonic() - began_s
            return took_s, await connections_of_ours(database)


async def connections_of_ours(database: PostgresDatabase) -> int:
    observer = await asyncpg.connect(host=HOST, port=database.server.port, user=SUPERUSER, database=database.name)
    try:
        return int(
            await observer.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE application_name = 'peekaping-producer' AND datname = current_database()"
            )
        )
    finally:
        await observer.close()
