"""Tasks that say they wait, but stand in no list: a sweep finds them where settle can't look (invariant 4)."""

import time
from pathlib import Path

import pytest
from redis.asyncio import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.asynq.message import task_id
from peekaping_producer.errors import NotLeading
from peekaping_producer.model.cadence import cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.redisdb.keys import DUE
from peekaping_producer.schedule.orders import Enqueue
from peekaping_producer.schedule.store import SHORT_LIST, Schedule
from peekaping_producer.timing import Timing
from support.asynq_states import fresh_message, put_active, put_backlog, put_pending, redis_state, task_key
from support.databases import new_id
from support.leader_key import LEADER_ID, lead
from support.nodes import connected
from support.redis_clock import redis_with_clock
from support.redis_time import redis_now_ms
from support.waiting import until


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
    assert await Schedule(redis, Timing()).relist(LEADER_ID, [unlisted, active, without]) == 1
    assert (await redis_state(redis, unlisted)).places == ["pending"]
    assert await redis.lindex(keys.PENDING, -1) == task_id(unlisted).encode()
    assert (await redis_state(redis, active)).places == ["active"]
    assert await Schedule(redis, Timing()).relist(LEADER_ID, [unlisted]) == 0


async def test_one_that_may_stand_in_the_list_is_left_alone(redis: Redis) -> None:
    await lead(redis)
    younger = MonitorId(new_id())
    await backlog(redis, SHORT_LIST + 1, time.time())
    await put_pending(redis, younger, listed=False)
    await redis.hset(task_key(younger), "pending_since", int((time.time() - 30) * 1e9))
    assert await Schedule(redis, Timing()).relist(LEADER_ID, [younger]) == 0


@pytest.mark.parametrize("given_back", [True, False])
async def test_nothing_is_done_where_the_list_is_short_or_its_oldest_unknown(redis: Redis, *, given_back: bool) -> None:
    await lead(redis)
    unlisted = MonitorId(new_id())
    await put_pending(redis, unlisted, listed=False)
    if given_back:
        await put_backlog(redis, SHORT_LIST + 1)
    else:
        await backlog(redis, SHORT_LIST, time.time())
    assert await Schedule(redis, Timing()).relist(LEADER_ID, [unlisted]) == 0


async def test_a_damaged_task_among_the_oldest_keeps_no_other_from_being_put_back(redis: Redis) -> None:
    await lead(redis)
    await backlog(redis, SHORT_LIST + 1, time.time())
    damaged, unlisted = (MonitorId(new_id()) for _ in range(2))
    await redis.set(task_key(damaged), "no hash")
    await redis.rpush(keys.PENDING, task_id(damaged))
    await put_pending(redis, unlisted, listed=False)
    assert await Schedule(redis, Timing()).relist(LEADER_ID, [damaged, unlisted]) == 1
    assert (await redis_state(redis, unlisted)).places == ["pending"]


async def test_no_ids_are_sent_while_the_list_is_short(redis: Redis) -> None:
    await lead(redis)
    await put_backlog(redis, SHORT_LIST)
    ids = [MonitorId(new_id()) for _ in range(1_000)]

    async def received() -> int:
        return int((await redis.info("stats"))["total_net_input_bytes"])

    before = await received()
    assert await Schedule(redis, Timing()).relist(LEADER_ID, ids) == 0
    assert await received() - before < 500


async def test_after_a_step_of_redis_clock_no_task_is_listed_twice(tmp_path: Path) -> None:
    ids = [MonitorId(new_id()) for _ in range(1_200)]
    with redis_with_clock(tmp_path) as (server, clock):
        async with connected(server.port) as redis:
            await lead(redis)
            await enqueue(redis, ids[:800])
            clock.step(-3600)
            await until(lambda: behind(redis), "the clock is an hour behind")
            await enqueue(redis, ids[800:])
            await Schedule(redis, Timing()).relist(LEADER_ID, ids)
            listed = await redis.lrange(keys.PENDING, 0, -1)
            assert len(listed) == len(set(listed)) == 1_200


async def enqueue(redis: Redis, ids: list[MonitorId]) -> None:
    """Enqueue tasks as a node does."""
    schedule = Schedule(redis, Timing())
    await redis.zadd(DUE, dict.fromkeys(ids, 1))
    while (claim := await schedule.claim(200)).claimed:
        orders = [Enqueue(one.id, cadence(one.id, 3600), fresh_message(one.id)) for one in claim.claimed]
        await schedule.settle(claim, orders)


async def behind(redis: Redis) -> bool:
    return await redis_now_ms(redis) / 1000 < time.time() - 3000


async def test_searches_are_rationed(redis: Redis) -> None:
    await lead(redis)
    await backlog(redis, SHORT_LIST + 1, time.time())
    unlisted = [MonitorId(new_id()) for _ in range(12)]
    for id_ in unlisted:
        await put_pending(redis, id_, listed=False)
    schedule = Schedule(redis, Timing())
    relisted = [await schedule.relist(LEADER_ID, unlisted) for _ in range(4)]
    assert relisted == [5, 5, 2, 0]
    assert set(await redis.lrange(keys.PENDING, -12, -1)) == {task_id(id_).encode() for id_ in unlisted}


async def test_a_very_long_list_is_searched_once_a_call(redis: Redis) -> None:
    await lead(redis)
    await backlog(redis, 501_000, time.time())
    unlisted = [MonitorId(new_id()) for _ in range(3)]
    for id_ in unlisted:
        await put_pending(redis, id_, listed=False)
    assert await Schedule(redis, Timing()).relist(LEADER_ID, unlisted) == 1


async def test_only_the_leader_does_it(redis: Redis) -> None:
    await put_backlog(redis, SHORT_LIST + 1)
    with pytest.raises(NotLeading):
        await Schedule(redis, Timing()).relist(LEADER_ID, [MonitorId(new_id())])
