"""The leader key, held by the test."""

from redis.asyncio import Redis

from peekaping_producer.redisdb.keys import LEADER

LEADER_ID = "test-1-n0"
"""The id of the node that the test plays."""


async def lead(redis: Redis) -> None:
    """Take the leader key until the test ends."""
    await redis.set(LEADER, LEADER_ID)
