"""A node learns that Redis lost its data, and fills the schedule again at once."""

import asyncio
from pathlib import Path

from redis.asyncio import Redis

from peekaping_producer.embedded import EmbeddedRedis
from peekaping_producer.schedule.keys import DUE
from peekaping_producer.schedule.store import Schedule
from peekaping_producer.timing import Timing
from support.databases import sqlite_copy
from support.producer import producing


async def test_the_mark_stands_until_the_data_goes(redis: Redis) -> None:
    schedule = Schedule(redis, Timing())
    first = await schedule.epoch()
    assert await schedule.epoch() == first

    await redis.flushall()

    assert await schedule.epoch() != first


async def test_a_flushed_schedule_comes_back_without_waiting_for_the_next_sweep(
    redis: Redis, redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    database = sqlite_copy(tmp_path, rows=True)
    settings = database.settings(redis_host="127.0.0.1", redis_port=redis_server.port)
    async with producing(settings, Timing(sweep_every_s=3_600, epoch_every_s=0.05)) as node:

        async def scheduled() -> int:
            return int(await redis.zcard(DUE))

        async with asyncio.timeout(20):
            while not (before := await scheduled()):
                await asyncio.sleep(0.01)
        await redis.flushall()
        async with asyncio.timeout(20):
            while await scheduled() < before - 5:  # some may be claimed just now
                await asyncio.sleep(0.01)
        await node.until_logged("Redis lost its data, the schedule is being rebuilt")
