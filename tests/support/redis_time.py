"""Redis' clock, the only one that decides."""

import asyncio

from redis.asyncio import Redis


async def redis_now_ms(redis: Redis) -> int:
    """Return Redis' clock in Unix ms, rounded down as the scripts do."""
    seconds, micros = await redis.time()
    return int(seconds) * 1000 + int(micros) // 1000


async def until_ms(redis: Redis, at_ms: float) -> None:
    """Wait until Redis' clock is past `at_ms`; raises TimeoutError where that is far away."""
    async with asyncio.timeout(10):
        while await redis_now_ms(redis) <= at_ms:
            await asyncio.sleep(0.002)
