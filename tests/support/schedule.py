"""Which monitors are in the schedule: waiting, overdue or claimed."""

from redis.asyncio import Redis

from peekaping_producer.redisdb.keys import DUE, LEASE


async def scheduled_ids(redis: Redis) -> set[str]:
    """Return every monitor that is in the schedule."""
    async with redis.pipeline(transaction=True) as pipe:
        pipe.zrange(DUE, 0, -1)
        pipe.zrange(LEASE, 0, -1)
        due, leased = await pipe.execute()
    return {id_.decode() for id_ in (*due, *leased)}


async def is_scheduled(redis: Redis, id_: str) -> bool:
    """Return whether a monitor is in the schedule."""
    return id_ in await scheduled_ids(redis)


async def is_not_scheduled(redis: Redis, id_: str) -> bool:
    """Return whether a monitor has left the schedule."""
    return not await is_scheduled(redis, id_)
