"""Lateness is the time from a monitor's slot until its task is in the queue, reading included."""

import time

from redis.asyncio import Redis

from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.model.cadence import cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.redisdb.keys import DUE, LEASE
from peekaping_producer.schedule.orders import Enqueue
from peekaping_producer.schedule.store import Schedule
from peekaping_producer.timing import Timing
from support.asynq_states import fresh_message, put_active
from support.catalogues import locked_out
from support.databases import PostgresDatabase, monitor_row
from support.producer import producing
from support.redis_time import redis_now_ms, until_ms
from support.waiting import until

SLOW_MS = 400
"""So long a read takes: less than its deadline."""


async def test_a_settle_says_when_its_tasks_were_in_the_queue(redis: Redis) -> None:
    id_ = MonitorId("11111111-1111-4111-8111-111111111111")
    schedule = Schedule(redis, Timing())
    await redis.zadd(DUE, {id_: 1})
    claim = await schedule.claim(1)
    await until_ms(redis, claim.now_ms + 20)
    before_ms = await redis_now_ms(redis)
    settlement = await schedule.settle(claim, [Enqueue(id_, cadence(id_, 60), fresh_message(id_))])
    assert claim.now_ms + 20 < before_ms <= settlement.now_ms <= await redis_now_ms(redis)


async def test_the_time_that_reading_takes_counts(
    empty_postgres_db: PostgresDatabase, redis_server: RedisServer, redis: Redis
) -> None:
    slow, running = monitor_row(interval=3600), monitor_row(interval=3600)
    await empty_postgres_db.insert("monitors", slow, running)
    # Its earlier check still runs, so no task is put into the queue, and it has no lateness.
    await put_active(redis, running["id"], lease_s=time.time() + 60)

    async def claimed() -> bool:
        return await redis.zcard(LEASE) == 2

    settings = empty_postgres_db.settings(redis_host=HOST, redis_port=redis_server.port)
    async with producing(settings, Timing(sweep_every_s=3600, changes_every_s=3600, claim_wait_s=0.05)) as producer:
        await producer.until_logged("sweep finished")
        async with locked_out(empty_postgres_db, "monitors"):
            due_ms = await redis_now_ms(redis)
            await redis.zadd(DUE, {slow["id"]: due_ms, running["id"]: due_ms - 60_000})
            await until(claimed, "both are claimed")
            await until_ms(redis, due_ms + SLOW_MS)

        async def settled() -> bool:
            return not await redis.exists(LEASE)

        await until(settled, "both are settled")
    summary = await producer.until_logged("summary")
    assert summary["checks"]["enqueued"] == summary["checks"]["running"] == 1
    assert SLOW_MS <= summary["lateness_p50_ms"] == summary["lateness_p99_ms"] < 60_000
