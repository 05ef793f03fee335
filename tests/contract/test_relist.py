"""Tasks that say they wait, but stand in no list: a sweep finds them where settle can't look (invariant 4)."""

import time

import pytest
from redis.asyncio import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.asynq.message import task_id
from peekaping_producer.errors import NotLeading
from peekaping_producer.monitor import MonitorId
from peekaping_producer.schedule.store import SHORT_LIST, Schedule
from peekaping_producer.timing import Timing
from support.asynq_states import put_active, put_backlog, put_pending, standing, task_key
from support.databases import new_id
from support.leading import LEADING, lead


async def backlog(redis: Redis, length: int, oldest_since_s: float) -> None:
    """Fill the pending list; the oldest task in it waits since that instant."""
    oldest = MonitorId(new_id())
    await put_pending(redis, oldest)
    await redis.hset(task_key(oldest), "pending_since", int(oldest_since_s * 1e9))
    await put_backlog(redis, length - 1)


async def test_a_task_older_than_the_oldest_of_a_long_list_is_put_back(redis: Redis) -> None:
    await lead(redis)
    await backlog(redis, SHORT_LIST + 1, time.time())
    unlisted, active, without = (MonitorId(new_id()) for _ in range(3))
    await put_pending(redis, unlisted, listed=False)
    await put_active(redis, active, lease_s=None)
    assert await Schedule(redis, Timing()).relist(LEADING, [unlisted, active, without]) == 1
    assert (await standing(redis, unlisted)).places == ["pending"]
    assert await redis.lindex(keys.PENDING, -1) == task_id(unlisted).encode()
    assert (await standing(redis, active)).places == ["active"]
    assert await Schedule(redis, Timing()).relist(LEADING, [unlisted]) == 0


async def test_one_that_may_stand_in_the_list_is_left_alone(redis: Redis) -> None:
    await lead(redis)
    younger = MonitorId(new_id())
    await backlog(redis, SHORT_LIST + 1, time.time())
    await put_pending(redis, younger, listed=False)
    await redis.hset(task_key(younger), "pending_since", int((time.time() - 30) * 1e9))
    assert await Schedule(redis, Timing()).relist(LEADING, [younger]) == 0


@pytest.mark.parametrize("given_back", [True, False])
async def test_nothing_is_done_where_the_list_is_short_or_its_oldest_unknown(redis: Redis, *, given_back: bool) -> None:
    await lead(redis)
    unlisted = MonitorId(new_id())
    await put_pending(redis, unlisted, listed=False)
    if given_back:
        await put_backlog(redis, SHORT_LIST + 1)
    else:
        await backlog(redis, SHORT_LIST, time.time())
    assert await Schedule(redis, Timing()).relist(LEADING, [unlisted]) == 0


async def test_only_the_leader_does_it(redis: Redis) -> None:
    with pytest.raises(NotLeading):
        await Schedule(redis, Timing()).relist(LEADING, [MonitorId(new_id())])
