"""Bringing monitors into the schedule and out of it (invariant 5)."""

import math
from uuid import UUID

import pytest
from redis.asyncio import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.cadence import Spacing, cadence
from peekaping_producer.check import stale_task
from peekaping_producer.monitor import MonitorId
from peekaping_producer.schedule.keys import DUE, LEASE
from peekaping_producer.schedule.store import Drop, Entry, Schedule
from peekaping_producer.timing import Timing
from support.asynq_states import (
    EARLIER_NS,
    InSet,
    Standing,
    put_active,
    put_backlog,
    put_in_set,
    put_malformed,
    put_pending,
    score,
    standing,
)
from support.leading import LEADING, lead
from support.redis_time import redis_now_ms

MONITOR = MonitorId("11111111-1111-4111-8111-111111111111")
GRID = cadence(MONITOR, 60)
SHORT_LIST = 1000


def monitors(count: int) -> list[MonitorId]:
    return [MonitorId(str(UUID(int=n + 1))) for n in range(count)]


def drop(id_: MonitorId) -> Drop:
    return Drop(id_, stale_task(id_))


@pytest.fixture
async def schedule(redis: Redis) -> Schedule:
    await lead(redis)
    return Schedule(redis, Timing())


async def test_a_new_monitor_is_due_at_its_next_slot(redis: Redis, schedule: Schedule) -> None:
    before_ms = await redis_now_ms(redis)
    assert await schedule.schedule(LEADING, [Entry(MONITOR, GRID)]) == ["added"]
    slots = {GRID.slot_from(at_ms) for at_ms in range(before_ms, await redis_now_ms(redis) + 1)}
    assert await score(redis, DUE, MONITOR) in slots


@pytest.mark.parametrize("spacing", Spacing)
async def test_the_script_finds_the_slots_that_cadence_finds(
    redis: Redis, schedule: Schedule, spacing: Spacing
) -> None:
    intervals_s = [1, 7, 20, 60, 300, 86_400, 2**31 - 1]
    grids = {id_: cadence(id_, intervals_s[n % 7], spacing) for n, id_ in enumerate(monitors(70))}
    before_ms = await redis_now_ms(redis)
    assert set(await schedule.schedule(LEADING, [Entry(id_, grid) for id_, grid in grids.items()])) == {"added"}
    after_ms = await redis_now_ms(redis)
    for id_, grid in grids.items():
        assert await score(redis, DUE, id_) in {grid.slot_from(at_ms) for at_ms in range(before_ms, after_ms + 1)}


async def test_a_new_monitor_may_be_due_at_once(redis: Redis, schedule: Schedule) -> None:
    before_ms = await redis_now_ms(redis)
    assert await schedule.schedule(LEADING, [Entry(MONITOR, GRID, at_once=True)]) == ["added"]
    assert before_ms <= await score(redis, DUE, MONITOR) <= await redis_now_ms(redis)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("due_in_ms", [-(10**9), -1, 1, 59_000, 89_000])
async def test_what_is_overdue_or_due_within_one_and_a_half_periods_stays(
    redis: Redis, schedule: Schedule, due_in_ms: int, at_once: bool
) -> None:
    due_ms = await redis_now_ms(redis) + due_in_ms
    await redis.zadd(DUE, {MONITOR: due_ms})
    assert await schedule.schedule(LEADING, [Entry(MONITOR, GRID, at_once=at_once)]) == ["kept"]
    assert await score(redis, DUE, MONITOR) == due_ms


@pytest.mark.parametrize("due_in_ms", [91_000, 3_600_000, math.inf])
async def test_what_is_due_later_than_one_and_a_half_periods_moves_onto_its_grid(
    redis: Redis, schedule: Schedule, due_in_ms: float
) -> None:
    before_ms = await redis_now_ms(redis)
    await redis.zadd(DUE, {MONITOR: before_ms + due_in_ms})
    assert await schedule.schedule(LEADING, [Entry(MONITOR, GRID)]) == ["moved"]
    slots = {GRID.next_slot(at_ms) for at_ms in range(before_ms, await redis_now_ms(redis) + 1)}
    assert await score(redis, DUE, MONITOR) in slots
    assert await schedule.schedule(LEADING, [Entry(MONITOR, GRID)]) == ["kept"]


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_claimed_monitor_is_left_to_its_claim(redis: Redis, schedule: Schedule, at_once: bool) -> None:
    await redis.zadd(DUE, {MONITOR: 1})
    claim = await schedule.claim(1)
    assert await schedule.schedule(LEADING, [Entry(MONITOR, GRID, at_once=at_once)]) == ["kept"]
    now = await standing(redis, MONITOR)
    assert (now.due_ms, now.lease_ms) == (None, float(claim.token))


async def test_placements_come_in_the_order_of_the_entries(redis: Redis, schedule: Schedule) -> None:
    added, moved, kept = monitors(3)
    now_ms = await redis_now_ms(redis)
    await redis.zadd(DUE, {moved: now_ms + 10**9, kept: now_ms + 1000})
    entries = [Entry(id_, cadence(id_, 60)) for id_ in (kept, added, moved)]
    assert await schedule.schedule(LEADING, entries) == ["kept", "added", "moved"]
    assert await schedule.schedule(LEADING, []) == []


async def test_remove_takes_a_waiting_monitor_out(redis: Redis, schedule: Schedule) -> None:
    gone, claimed, stays = monitors(3)
    await redis.zadd(DUE, {gone: 10**13, stays: 10**13})
    await redis.zadd(LEASE, {claimed: 10**13})
    assert await schedule.remove(LEADING, [drop(gone), drop(claimed), drop(MONITOR)]) == 2
    assert await redis.zrange(DUE, 0, -1) == [stays.encode()]
    assert not await redis.exists(LEASE)


async def test_a_monitor_in_both_sets_is_removed_once_from_both(redis: Redis, schedule: Schedule) -> None:
    await redis.zadd(DUE, {MONITOR: 1})
    await redis.zadd(LEASE, {MONITOR: 10**13})
    assert await schedule.remove(LEADING, [drop(MONITOR)]) == 1
    assert not await redis.exists(DUE, LEASE)


@pytest.mark.parametrize("backlog", [1, SHORT_LIST - 1])
async def test_remove_takes_a_pending_task_along(redis: Redis, schedule: Schedule, backlog: int) -> None:
    await redis.zadd(DUE, {MONITOR: 10**13})
    await put_pending(redis, MONITOR)
    await put_backlog(redis, backlog)
    assert await schedule.remove(LEADING, [drop(MONITOR)]) == 1
    assert await standing(redis, MONITOR) == Standing({}, [], None, None)
    assert await redis.llen(keys.PENDING) == backlog


async def test_remove_takes_the_pending_task_of_a_monitor_that_is_not_scheduled(
    redis: Redis, schedule: Schedule
) -> None:
    await put_pending(redis, MONITOR)
    assert await schedule.remove(LEADING, [drop(MONITOR)]) == 0
    assert await standing(redis, MONITOR) == Standing({}, [], None, None)


async def test_remove_overwrites_a_pending_task_in_a_long_list(redis: Redis, schedule: Schedule) -> None:
    await put_pending(redis, MONITOR)
    await put_backlog(redis, SHORT_LIST)
    await schedule.remove(LEADING, [drop(MONITOR)])
    now = await standing(redis, MONITOR)
    assert now.task == {b"msg": stale_task(MONITOR), b"state": b"pending", b"pending_since": EARLIER_NS}
    assert now.places == ["pending"]
    assert await redis.llen(keys.PENDING) == SHORT_LIST + 1


async def test_remove_leaves_a_running_check(redis: Redis, schedule: Schedule) -> None:
    await redis.zadd(DUE, {MONITOR: 10**13})
    await put_active(redis, MONITOR, lease_s=await redis_now_ms(redis) // 1000 + 30)
    before = await standing(redis, MONITOR)
    assert await schedule.remove(LEADING, [drop(MONITOR)]) == 1
    now = await standing(redis, MONITOR)
    assert (now.task, now.places, now.due_ms) == (before.task, before.places, None)


@pytest.mark.parametrize("state", ["archived", "completed", "retry", "scheduled"])
async def test_remove_leaves_a_task_that_no_worker_will_take_from_pending(
    redis: Redis, schedule: Schedule, state: InSet
) -> None:
    await put_in_set(redis, MONITOR, state)
    before = await standing(redis, MONITOR)
    assert await schedule.remove(LEADING, [drop(MONITOR)]) == 0
    assert await standing(redis, MONITOR) == before


async def test_something_malformed_does_not_keep_a_monitor_in_the_schedule(redis: Redis, schedule: Schedule) -> None:
    broken, other = monitors(2)
    await put_malformed(redis, broken, "string")
    await redis.zadd(DUE, {broken: 10**13, other: 10**13})
    assert await schedule.remove(LEADING, [drop(broken), drop(other)]) == 2
    assert not await redis.exists(DUE)


async def test_schedule_and_remove_survive_a_flush_of_scripts(redis: Redis, schedule: Schedule) -> None:
    for _ in range(2):
        await redis.script_flush()
        assert await schedule.schedule(LEADING, [Entry(MONITOR, GRID)]) == ["added"]
        await redis.script_flush()
        assert await schedule.remove(LEADING, [drop(MONITOR)]) == 1
