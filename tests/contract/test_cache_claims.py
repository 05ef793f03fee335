"""What a node claims while its database is unavailable: what its cache holds, and after nodes with a healthy one."""

import asyncio
import json
import time
from uuid import UUID

import pytest
from redis.asyncio import Redis

from peekaping_producer.catalog.last_known import MB, LastKnown
from peekaping_producer.catalog.reading import Reading
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.dispatch.cache_claims import CacheClaims
from peekaping_producer.dispatch.cache_watch import cache_loop
from peekaping_producer.model.monitor import Monitor, MonitorId, Snapshot
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.redisdb.keys import DUE, HEALTHY, LEASE
from peekaping_producer.schedule.pause import Pauses
from peekaping_producer.schedule.store import Schedule
from peekaping_producer.schedule.view import ScheduleView
from peekaping_producer.timing import Timing
from support.databases import SqliteDatabase, monitor_row
from support.nodes import TestNode, running
from support.producer import producing
from support.redis_time import redis_now_ms, until_ms

TIMING = Timing(redis_timeout_s=10)
QUICK = Timing(redis_timeout_s=10, peek_page=7, peek_again_s=0, peek_again_page_s=0)


def monitors(count: int) -> list[MonitorId]:
    return [MonitorId(str(UUID(int=n + 1))) for n in range(count)]


def snapshot(id_: MonitorId, type_: str = "http") -> Snapshot:
    return Snapshot(Monitor(id_, "", type_, 60, 16, 2, 20, 0, True, "x" * 200, None), None, (), None)


def keep(cache: LastKnown, *snapshots: Snapshot) -> None:
    found = {one.monitor.id: one for one in snapshots}
    cache.keep(found, Reading(found, {}), time.monotonic())


class CutOff:
    """A node whose cache holds these monitors, and whose database is unavailable from now on."""

    def __init__(self, redis: Redis, timing: Timing, *known: Snapshot) -> None:
        self.test = TestNode(timing)
        self.cache = LastKnown(10 * MB)
        keep(self.cache, *known)
        self.claims = CacheClaims(self.test.node, Schedule(redis, timing), self.cache)
        self.since_s = time.monotonic()

    async def claimed(self, times: int = 1) -> list[MonitorId]:
        claims = [await self.claims.claim(self.since_s) for _ in range(times)]
        assert all(len(claim.claimed) <= self.test.node.timing.batch for claim in claims)
        return [one.id for claim in claims for one in claim.claimed]


async def test_of_a_herd_exactly_what_the_cache_holds_is_claimed_and_all_else_stays_due(redis: Redis) -> None:
    """All share one score; the others are counted once, with the reason, however often there is a claim."""
    ids = monitors(5_003)
    await redis.zadd(DUE, dict.fromkeys(ids, 1_000))
    known = ids[::5]
    node = CutOff(redis, TIMING, *map(snapshot, known), snapshot(ids[1], "push"))
    assert sorted(await node.claimed(10)) == sorted(known)
    assert await redis.zcard(DUE) == len(ids) - len(known)
    assert set(await redis.zrange(LEASE, 0, -1)) == {id_.encode() for id_ in known}
    assert dict(node.test.node.tally.total) == {
        Outcome.DEFERRED_NOT_CACHED: len(ids) - len(known) - 1,
        Outcome.DEFERRED_PUSH: 1,
    }
    back = await Schedule(redis, TIMING).claim(10)
    assert [one.due_ms for one in back.claimed] == [1_000] * 10


async def test_the_oldest_are_claimed_first_in_pages_of_any_size(redis: Redis) -> None:
    ids = monitors(100)
    await redis.zadd(DUE, {id_: 1_000 + n // 10 for n, id_ in enumerate(ids)})
    node = CutOff(redis, Timing(redis_timeout_s=10, peek_page=7, batch=10), *map(snapshot, ids[::2]))
    assert await node.claimed(20) == ids[::2]


async def test_others_may_take_what_was_passed_over_meanwhile(redis: Redis) -> None:
    ids = monitors(60)
    await redis.zadd(DUE, dict.fromkeys(ids, 1_000))
    node = CutOff(redis, Timing(redis_timeout_s=10, peek_page=2, batch=1), *map(snapshot, ids[-20:]))
    assert await node.claimed() == []
    await redis.zrem(DUE, *ids[:30])
    assert await node.claimed(25) == ids[-20:]


async def test_what_comes_back_behind_its_place_is_found_again(redis: Redis) -> None:
    """A claim that expired, for example: it is due at the instant it was claimed."""
    ids = monitors(30)
    await redis.zadd(DUE, {id_: 1_000 + n for n, id_ in enumerate(ids)})
    node = CutOff(redis, QUICK, *map(snapshot, ids[::2]))
    assert len(await node.claimed(5)) == 15
    counted = dict(node.test.node.tally.total)
    await redis.zadd(DUE, {ids[0]: 1_000, ids[4]: 1_004})
    assert set(await node.claimed(8)) == {ids[0], ids[4]}
    assert dict(node.test.node.tally.total) == counted


async def test_a_clock_that_goes_back_hides_nothing(redis: Redis) -> None:
    ids = monitors(2)
    now_ms = await redis_now_ms(redis)
    await redis.zadd(DUE, {ids[0]: now_ms})
    node = CutOff(redis, TIMING, *map(snapshot, ids))
    await until_ms(redis, now_ms)
    assert await node.claimed() == [ids[0]]
    last = node.claims._last
    assert last
    node.claims._last = type(last)(last.id, now_ms + 3_600_000)
    await redis.zadd(DUE, {ids[1]: 1_000})
    assert await node.claimed() == [ids[1]]


async def test_during_a_pause_nothing_is_claimed_and_nothing_that_was_read_is_forgotten(redis: Redis) -> None:
    """There is enough for a batch, so the claim that finds the pause does not read the schedule before."""
    ids = monitors(2)
    await redis.zadd(DUE, dict.fromkeys(ids, 1_000))
    node, pauses = CutOff(redis, Timing(redis_timeout_s=10, batch=1), *map(snapshot, ids)), Pauses(redis, 10)
    assert await node.claimed() == ids[:1]
    pause, _ = await pauses.begin(3_600_000, "a test", "us")
    for _ in range(2):
        claim = await node.claims.claim(node.since_s)
        assert (claim.claimed, claim.pause) == ((), pause)
    await pauses.end()
    assert await node.claimed() == ids[1:]


async def test_a_new_outage_begins_with_the_oldest(redis: Redis) -> None:
    ids = monitors(10)
    await redis.zadd(DUE, dict.fromkeys(ids, 1_000))
    node = CutOff(redis, TIMING)
    assert await node.claimed() == []
    keep(node.cache, *map(snapshot, ids))
    node.since_s = time.monotonic()
    assert await node.claimed() == ids


@pytest.mark.parametrize("whose", ["another's", "its own", "a dead one's"])
async def test_what_is_just_due_is_left_to_a_node_with_a_healthy_database(redis: Redis, whose: str) -> None:
    overdue, just_due = monitors(2)
    now_ms = await redis_now_ms(redis)
    await redis.zadd(DUE, {overdue: now_ms - 60_000, just_due: now_ms})
    node = CutOff(redis, Timing(redis_timeout_s=10, yield_ms=30_000), snapshot(overdue), snapshot(just_due))
    id_ = node.test.node.id if whose == "its own" else "another"
    await redis.zadd(HEALTHY, {id_: now_ms - 1 if whose == "a dead one's" else now_ms + 60_000})
    await until_ms(redis, now_ms)
    claim = await node.claims.claim(node.since_s)
    waits = whose == "another's"
    assert [one.id for one in claim.claimed] == ([overdue] if waits else [overdue, just_due])
    assert claim.next_due_ms == (now_ms + 30_000 if waits else None)


async def test_a_cache_that_is_too_small_is_warned_of_once_with_the_megabytes_that_would_do(redis: Redis) -> None:
    ids = monitors(8_000)
    await redis.zadd(DUE, dict.fromkeys(ids, 1_000))
    timing = Timing(redis_timeout_s=10, cache_watch_s=0.05)
    test, cache = TestNode(timing), LastKnown(MB)
    keep(cache, *map(snapshot, ids))
    async with running(cache_loop(test.node, ScheduleView(redis, 10), cache, 1)):
        line = await test.until_logged("cache too small")
        await asyncio.sleep(0.3)
    assert len(test.lines) == 1
    assert (line["level"], line["cache_mb"], line["monitors"]) == ("warning", 1, len(ids))
    larger = LastKnown(line["needed_mb"] * MB)
    keep(larger, *map(snapshot, ids))
    assert len(larger) == len(ids)
    assert 2 <= line["needed_mb"] <= 6


async def test_the_setting_limits_the_cache_of_a_producer(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis
) -> None:
    large = json.dumps({"url": "x" * 400_000})
    await empty_sqlite_db.insert("monitors", *(monitor_row(interval=1, config=large) for _ in range(6)))
    settings = empty_sqlite_db.settings(redis_host=HOST, redis_port=redis_server.port, producer_cache_mb=1)
    async with producing(settings, Timing(cache_watch_s=0.05)) as producer:
        line = await producer.until_logged("cache too small")
    assert (line["cache_mb"], line["monitors"]) == (1, 6)
    assert line["needed_mb"] > 1
