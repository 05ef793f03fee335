"""Claims: what is due moves into the lease; reclaim: what has ended moves back (invariants 2 and 3)."""

import math
import time
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from redis.asyncio import Redis

from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.errors import Unavailable
from peekaping_producer.model.cadence import cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.redisdb.keys import CLAIMS, DUE, LEASE
from peekaping_producer.schedule.orders import Drop, Enqueue, Release
from peekaping_producer.schedule.store import Schedule
from peekaping_producer.schedule.view import Overview, ScheduleView
from peekaping_producer.timing import Timing
from support.asynq_states import fresh_message, score
from support.redis_time import redis_now_ms, until_ms

MONITOR = MonitorId("11111111-1111-4111-8111-111111111111")


def monitors(count: int) -> list[MonitorId]:
    return [MonitorId(str(UUID(int=n + 1))) for n in range(count)]


@pytest.fixture
async def any_bytes(redis: Redis, redis_server: RedisServer) -> AsyncIterator[Redis]:
    """Connect as the Producer does: ids that are no text come back to Redis as they came from it."""
    async with Redis(host=HOST, port=redis_server.port, encoding_errors="surrogateescape") as client:
        yield client


async def test_an_empty_schedule_gives_an_empty_claim(redis: Redis) -> None:
    before_s = time.monotonic()
    before_ms = await redis_now_ms(redis)
    claim = await Schedule(redis, Timing()).claim(10)
    assert (claim.token, claim.next_due_ms, claim.claimed) == ("", None, ())
    assert before_ms <= claim.now_ms <= await redis_now_ms(redis)
    assert before_s <= claim.answered_at_s <= time.monotonic()
    assert not await redis.exists(LEASE, CLAIMS)


async def test_the_oldest_are_claimed_first_and_no_more_than_asked_for(redis: Redis) -> None:
    ids = monitors(5)
    await redis.zadd(DUE, {id_: 5000 - n for n, id_ in enumerate(ids)})
    claim = await Schedule(redis, Timing()).claim(2)
    assert [(one.id, one.due_ms) for one in claim.claimed] == [(ids[4], 4996), (ids[3], 4997)]
    assert claim.next_due_ms == 4998
    assert await redis.zrange(DUE, 0, -1) == [id_.encode() for id_ in (ids[2], ids[1], ids[0])]
    assert await redis.zrange(LEASE, 0, -1, withscores=True) == [
        (id_.encode(), float(claim.token)) for id_ in sorted(ids[3:])
    ]


async def test_what_is_not_due_yet_stays_and_is_announced(redis: Redis) -> None:
    due, soon, later = monitors(3)
    now_ms = await redis_now_ms(redis)
    await redis.zadd(DUE, {due: now_ms - 0.5, later: now_ms + 90_000, soon: now_ms + 60_000.25})
    claim = await Schedule(redis, Timing()).claim(10)
    assert [one.id for one in claim.claimed] == [due]
    assert claim.next_due_ms == now_ms + 60_000.25
    claim = await Schedule(redis, Timing()).claim(10)
    assert (claim.claimed, claim.token, claim.next_due_ms) == ((), "", now_ms + 60_000.25)


async def test_a_claim_takes_a_whole_batch_of_a_thousand(redis: Redis) -> None:
    ids = monitors(1000)
    await redis.zadd(DUE, dict.fromkeys(ids, 1))
    claim = await Schedule(redis, Timing()).claim(1000)
    assert {one.id for one in claim.claimed} == set(ids)


async def test_odd_members_are_claimed_and_settled_as_they_are(redis: Redis, any_bytes: Redis) -> None:
    odd = [b"\xff\x00\xfe", b"", b"AAAAAAAA-1111-4111-8111-111111111111", b"%s {x}\r\n", "ü-\u2028".encode()]
    await redis.zadd(DUE, {member: n + 1 for n, member in enumerate(odd)})
    schedule = Schedule(any_bytes, Timing())
    claim = await schedule.claim(10)
    assert [one.id.encode("utf-8", "surrogateescape") for one in claim.claimed] == odd

    released = await schedule.settle(claim, [Release(one.id, 0) for one in claim.claimed])
    assert released.outcomes == (Outcome.RELEASED,) * len(odd)
    assert sorted(await redis.zrange(DUE, 0, -1)) == sorted(odd)
    await until_ms(redis, await score(redis, DUE, odd[0]))
    again = await schedule.claim(10)
    dropped = await schedule.settle(again, [Drop(one.id, b"") for one in again.claimed])
    assert dropped.outcomes == (Outcome.DROPPED,) * len(odd)
    assert not await redis.exists(DUE, LEASE)


async def test_infinite_scores_are_just_early_and_late(redis: Redis) -> None:
    earliest, never = monitors(2)
    await redis.zadd(DUE, {earliest: -math.inf, never: math.inf})
    claim = await Schedule(redis, Timing()).claim(10)
    assert [(one.id, one.due_ms) for one in claim.claimed] == [(earliest, -math.inf)]
    assert claim.next_due_ms == math.inf


async def test_a_schedule_of_another_type_is_unavailable(redis: Redis) -> None:
    await redis.set(DUE, "no sorted set")
    with pytest.raises(Unavailable, match="WRONGTYPE"):
        await Schedule(redis, Timing()).claim(1)


async def test_invariant_3_an_expired_claim_is_due_again_at_the_time_it_was_made(redis: Redis) -> None:
    schedule = Schedule(redis, Timing(lease_ms=50))
    await redis.zadd(DUE, {MONITOR: 1})
    claim = await schedule.claim(1)
    assert await schedule.reclaim() == 0
    await until_ms(redis, float(claim.token))
    assert await schedule.reclaim() == 1
    due_ms = await score(redis, DUE, MONITOR)
    assert claim.now_ms <= due_ms < claim.now_ms + 1
    assert not await redis.exists(LEASE)
    assert [one.id for one in (await schedule.claim(1)).claimed] == [MONITOR]


async def test_a_claim_in_time_stays(redis: Redis) -> None:
    schedule = Schedule(redis, Timing())
    now_ms = await redis_now_ms(redis)
    go_node, far_but_near_enough = monitors(2)
    await redis.zadd(LEASE, {go_node: now_ms + 10_000, far_but_near_enough: now_ms + 59_000})
    assert await schedule.reclaim() == 0
    assert await redis.zcard(LEASE) == 2


async def test_a_go_nodes_integer_lease_that_ended_comes_back(redis: Redis) -> None:
    ended_ms = await redis_now_ms(redis) // 1000 * 1000 - 3  # no whole second (invariant 11)
    await redis.zadd(LEASE, {MONITOR: ended_ms})
    assert await Schedule(redis, Timing()).reclaim() == 1
    assert await score(redis, DUE, MONITOR) == ended_ms - Timing().lease_ms


@pytest.mark.parametrize("ahead_ms", [60_000 + 5_000, 10**12, math.inf])
async def test_a_lease_absurdly_far_ahead_is_due_now(redis: Redis, ahead_ms: float) -> None:
    schedule = Schedule(redis, Timing())
    before_ms = await redis_now_ms(redis)
    await redis.zadd(LEASE, {MONITOR: before_ms + ahead_ms})
    assert await schedule.reclaim() == 1
    assert before_ms <= await score(redis, DUE, MONITOR) <= await redis_now_ms(redis)
    assert not await redis.exists(LEASE)


async def test_a_lease_in_the_infinite_past_comes_back(redis: Redis) -> None:
    schedule = Schedule(redis, Timing())
    await redis.zadd(LEASE, {MONITOR: -math.inf})
    assert await schedule.reclaim() == 1
    assert [one.id for one in (await schedule.claim(1)).claimed] == [MONITOR]


async def test_a_newer_entry_in_due_stays(redis: Redis) -> None:
    ended, far = monitors(2)
    now_ms = await redis_now_ms(redis)
    await redis.zadd(LEASE, {ended: now_ms - 1, far: now_ms + 10**9})
    await redis.zadd(DUE, {ended: now_ms + 7000, far: now_ms + 8000})
    assert await Schedule(redis, Timing()).reclaim() == 2
    assert await redis.zrange(DUE, 0, -1, withscores=True) == [
        (ended.encode(), now_ms + 7000),
        (far.encode(), now_ms + 8000),
    ]
    assert not await redis.exists(LEASE)


async def test_reclaim_is_bounded_and_takes_the_oldest_first(redis: Redis) -> None:
    schedule = Schedule(redis, Timing(reclaim_limit=3))
    now_ms = await redis_now_ms(redis)
    ended, far = monitors(10)[:5], monitors(10)[5:]
    await redis.zadd(LEASE, {id_: now_ms - 100 + n for n, id_ in enumerate(ended)})
    await redis.zadd(LEASE, {id_: now_ms + 10**9 + n for n, id_ in enumerate(far)})
    assert await schedule.reclaim() == 6
    assert set(await redis.zrange(LEASE, 0, -1)) == {id_.encode() for id_ in (*ended[3:], *far[3:])}
    assert await schedule.reclaim() == 4
    assert await schedule.reclaim() == 0
    assert await redis.zcard(DUE) == 10


async def test_the_overview_counts_and_finds_the_longest_overdue(redis: Redis) -> None:
    view = ScheduleView(redis, 10)
    assert await view.overview() == Overview(0, 0, None)
    now_ms = await redis_now_ms(redis)
    ids = monitors(3)
    await redis.zadd(DUE, {ids[0]: now_ms + 60_000})
    await redis.zadd(LEASE, {ids[1]: now_ms + 5000})
    assert await view.overview() == Overview(1, 1, 0)
    await redis.zadd(DUE, {ids[2]: now_ms - 4000})
    seen = await view.overview()
    assert (seen.due, seen.leased) == (2, 1)
    assert seen.oldest_due_ms is not None
    assert 4000 <= seen.oldest_due_ms <= await redis_now_ms(redis) - now_ms + 4000


async def test_claim_settle_and_reclaim_survive_a_flush_of_scripts(redis: Redis) -> None:
    schedule = Schedule(redis, Timing(lease_ms=50))
    order = Enqueue(MONITOR, cadence(MONITOR, 60), fresh_message(MONITOR))
    await redis.zadd(DUE, {MONITOR: 1})
    for _ in range(2):
        await redis.script_flush()
        claim = await schedule.claim(1)
        assert [one.id for one in claim.claimed] == [MONITOR]
        await until_ms(redis, float(claim.token))
        await redis.script_flush()
        assert await schedule.reclaim() == 1
    claim = await schedule.claim(1)
    await redis.script_flush()
    assert (await schedule.settle(claim, [order])).outcomes == (Outcome.ENQUEUED,)
