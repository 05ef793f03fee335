"""What a test needs to write as the leader does."""

from redis.asyncio import Redis

from peekaping_producer.redisdb.keys import LEADER

LEADING = "test-1-n0"
"""The node id of a test that leads."""


async def lead(redis: Redis) -> None:
    """Lead, for as long as the test takes."""
    await redis.set(LEADER, LEADING)
