"""What people are shown of the schedule."""

from redis.asyncio import Redis

from peekaping_producer.redisdb.keys import DUE
from peekaping_producer.schedule.view import ScheduleView
from support.redis_time import redis_now_ms


async def test_the_load_of_the_next_seconds_is_counted_to_the_millisecond(redis: Redis) -> None:
    now_ms = await redis_now_ms(redis)
    first_ms = now_ms // 1000 * 1000
    at_ms = (-1, 0, 1, 999, 1000, 1999, 2000, 3999, 4000)
    await redis.zadd(DUE, {f"monitor {number}": first_ms + ms for number, ms in enumerate(at_ms)})
    assert await ScheduleView(redis, 5).upcoming(now_ms, 4) == [3, 2, 1, 1]
