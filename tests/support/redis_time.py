"""Redis' clock, the only one that decides."""

from redis.asyncio import Redis

from support.waiting import until


async def redis_now_ms(redis: Redis) -> int:
    """Return Redis' clock in Unix ms, rounded down as the scripts do."""
    seconds, micros = await redis.time()
    return int(seconds) * 1000 + int(micros) // 1000


async def until_ms(redis: Redis, at_ms: float) -> None:
    """Wait until Redis' clock is past `at_ms`; raises AssertionError if that is more than 10 s ahead."""

    async def past() -> bool:
        return await redis_now_ms(redis) > at_ms

    await until(past, f"Redis' clock is past {at_ms}", within_s=10)
