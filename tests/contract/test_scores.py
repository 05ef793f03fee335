"""No score of ours is a multiple of a second, even where Redis' clock shows a whole one (invariant 11)."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from peekaping_producer.asynq.payload import stale_task
from peekaping_producer.model.cadence import Spacing, cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.redisdb.keys import CLAIMS, DUE, LEASE, STEP
from peekaping_producer.schedule.orders import Drop, Enqueue, Entry, Order, Release
from peekaping_producer.schedule.store import SHORT_LIST, Schedule
from peekaping_producer.timing import Timing
from support.asynq_states import fresh_message, put_backlog, put_malformed
from support.leader_key import LEADER_ID, lead
from support.nodes import connected
from support.redis_clock import redis_with_clock
from support.redis_time import redis_now_ms
from support.waiting import until

AT_S = 1_900_000_000

IDS = st.uuids().map(lambda uuid: MonitorId(str(uuid)))
INTERVALS_S = st.one_of(st.integers(1, 86_400), st.just(2**31 - 1))
WHOLE_SECONDS_MS = st.integers(0, 600).map(lambda seconds: seconds * 1000)


@pytest.fixture(scope="module")
def standing_still_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Start a Redis whose clock shows the same whole second all the time; return its port."""
    with redis_with_clock(tmp_path_factory.mktemp("clock")) as (server, clock):
        clock.stop_at(AT_S)
        assert server.port is not None
        yield server.port


async def scores(redis: Redis) -> list[float]:
    pairs = [*await redis.zrange(DUE, 0, -1, withscores=True), *await redis.zrange(LEASE, 0, -1, withscores=True)]
    return [score for _, score in pairs]


async def assert_no_whole_second(redis: Redis, expected: int) -> None:
    found = await scores(redis)
    assert len(found) == expected
    assert [score for score in found if score % 1000 == 0] == []


async def go_through_every_script(
    redis: Redis, ids: list[MonitorId], interval_s: int, spacing: Spacing, claims: int, delay_ms: int
) -> None:
    """Bring monitors into every set by every way that there is; look at the scores after each step."""
    await redis.flushall()
    await until(lambda: _is_stopped(redis), "the clock is stopped")
    await lead(redis)
    await redis.set(CLAIMS, claims)
    schedule = Schedule(redis, Timing())
    grids = {id_: cadence(id_, interval_s, spacing) for id_ in ids}
    count = len(ids)

    at_once = [Entry(id_, grids[id_], at_once=n % 2 == 0) for n, id_ in enumerate(ids)]
    await schedule.schedule(LEADER_ID, at_once)
    await assert_no_whole_second(redis, count)
    await schedule.run_now(ids)
    await assert_no_whole_second(redis, count)

    # Due now is a millisecond after the whole second that this clock shows.
    await redis.zadd(DUE, dict.fromkeys(ids, 1))
    claim = await schedule.claim(count)
    assert len(claim.claimed) == count
    await assert_no_whole_second(redis, count)
    await schedule.schedule(LEADER_ID, [Entry(id_, grids[id_], edited=True) for id_ in ids[: count // 2]])  # revokes
    await assert_no_whole_second(redis, count)

    await put_backlog(redis, SHORT_LIST + 1)
    orders: list[Order] = []
    for n, id_ in enumerate(ids):
        if n % 3 == 0:
            await put_malformed(redis, id_, "no msg")  # deferred, where the pending list is too long
        orders.append(Release(id_, delay_ms) if n % 3 == 1 else Enqueue(id_, grids[id_], fresh_message(id_)))
    await schedule.settle(claim, orders)
    await assert_no_whole_second(redis, count)

    # Ended claims: ours, a Go node's of a whole second, and one absurdly far ahead.
    await redis.delete(DUE, LEASE)
    ends = (AT_S * 1000 - 5000, float(claim.token) - 10_000, AT_S * 1000 + 86_400_000)
    await redis.zadd(LEASE, {id_: ends[n % 3] for n, id_ in enumerate(ids)})
    assert await schedule.reclaim() == count
    await assert_no_whole_second(redis, count)

    await redis.zadd(DUE, dict.fromkeys(ids, AT_S * 1000 + 10**13))  # too far ahead: moved
    await schedule.schedule(LEADER_ID, [Entry(id_, grids[id_]) for id_ in ids])
    await assert_no_whole_second(redis, count)
    # Retried, and no longer retried.
    retried = {id_: grids[id_].retrying(max(1, interval_s // 3)) for id_ in ids}
    await redis.zadd(DUE, dict.fromkeys(ids, AT_S * 1000 + 10**13))
    await schedule.schedule(LEADER_ID, [Entry(id_, retried[id_]) for id_ in ids])
    await assert_no_whole_second(redis, count)
    await schedule.schedule(LEADER_ID, [Entry(id_, grids[id_], retry_ms=retried[id_].period_ms) for id_ in ids])
    await assert_no_whole_second(redis, count)
    # Made overdue by a step of the clock: moved, where its slot is past to no slot at all.
    step = {"at_ms": AT_S * 1000, "by_ms": 3_600_000, "noted_ms": AT_S * 1000, "until_ms": AT_S * 1000 + 60_000}
    for field, value in step.items():
        await redis.hset(STEP, field, str(value))
    await redis.zadd(DUE, {id_: (AT_S - 3599 + n) * 1000 for n, id_ in enumerate(ids)})
    assert "moved" in await schedule.schedule(LEADER_ID, [Entry(id_, grids[id_]) for id_ in ids])
    await assert_no_whole_second(redis, count)
    await schedule.remove(LEADER_ID, [Drop(id_, stale_task(id_)) for id_ in ids])


async def _is_stopped(redis: Redis) -> bool:
    return await redis_now_ms(redis) == AT_S * 1000


def test_invariant_11_no_score_of_any_script_is_a_multiple_of_a_second(standing_still_port: int) -> None:
    with asyncio.Runner() as runner:

        @settings(deadline=None, max_examples=15)
        @given(
            st.lists(IDS, min_size=1, max_size=20, unique=True),
            INTERVALS_S,
            st.sampled_from(Spacing),
            st.integers(0, 2**40).map(lambda n: n * 1024 - 1) | st.integers(0, 2**40),
            WHOLE_SECONDS_MS,
        )
        def check(ids: list[MonitorId], interval_s: int, spacing: Spacing, claims: int, delay_ms: int) -> None:
            async def once() -> None:
                async with connected(standing_still_port) as redis:
                    await go_through_every_script(redis, ids, interval_s, spacing, claims, delay_ms)

            runner.run(once())

        check()
