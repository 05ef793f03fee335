"""What settle does with the task id, by what it finds there: one test for each row of the table (invariant 4)."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast
from uuid import UUID

import pytest
from redis.asyncio import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.asynq.message import task_id
from peekaping_producer.asynq.payload import stale_task
from peekaping_producer.asynq.queue import queue_state
from peekaping_producer.model.cadence import Spacing, cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.redisdb.keys import DUE, LEASE
from peekaping_producer.schedule.orders import Claim, Drop, Enqueue, Order, Release
from peekaping_producer.schedule.store import SHORT_LIST, Schedule
from peekaping_producer.timing import Timing
from support.asynq_peer import AsynqPeer
from support.asynq_states import (
    EARLIER_NS,
    GROUP_NAME,
    WORKER,
    InSet,
    Malformation,
    RedisState,
    earlier_message,
    fresh_message,
    put_active,
    put_aggregating,
    put_backlog,
    put_in_set,
    put_malformed,
    put_pending,
    put_worker,
    redis_state,
    score,
    task_key,
)
from support.nodes import connected
from support.redis_clock import redis_with_clock
from support.redis_time import redis_now_ms, until_ms
from support.waiting import until

MONITOR = MonitorId("11111111-1111-4111-8111-111111111111")
INTERVAL_S = 60
"""A pending list up to here is searched."""
LONG_SEARCHES = 5
"""So many searches of a longer one in a call."""
MALFORMATIONS: tuple[Malformation, ...] = (
    "no msg",
    "empty msg",
    "no state",
    "unknown state",
    "string",
    "list",
    "set",
    "zset",
)

timing = Timing()


def monitors(count: int) -> list[MonitorId]:
    return [MonitorId(str(UUID(int=n + 1))) for n in range(count)]


async def claimed(redis: Redis, *ids: MonitorId) -> tuple[Schedule, Claim]:
    """Claim these monitors, due long ago in the order given."""
    schedule = Schedule(redis, timing)
    await redis.zadd(DUE, {id_: n + 1 for n, id_ in enumerate(ids)})
    claim = await schedule.claim(len(ids))
    assert [one.id for one in claim.claimed] == list(ids)
    return schedule, claim


def enqueue(id_: MonitorId) -> Enqueue:
    return Enqueue(id_, cadence(id_, INTERVAL_S), fresh_message(id_))


async def settle(redis: Redis, *orders: Order) -> Sequence[Outcome]:
    """Claim the orders' monitors and settle them; check what holds for each order, whatever it found."""
    schedule, claim = await claimed(redis, *(order.id for order in orders))
    before_ms = await redis_now_ms(redis)
    settlement = await schedule.settle(claim, orders)
    after_ms = await redis_now_ms(redis)
    assert settlement.failures == {}
    assert not await redis.exists(LEASE)
    for order, outcome in zip(orders, settlement.outcomes, strict=True):
        if isinstance(order, Enqueue) and outcome is not Outcome.POSTPONED:
            slots = {order.cadence.next_slot(at_ms) for at_ms in range(before_ms, after_ms + 1)}
            assert await score(redis, DUE, order.id) in slots
            assert await redis.smembers(keys.QUEUES) == {b"healthcheck"}
    return settlement.outcomes


async def settle_one(redis: Redis) -> Outcome:
    (outcome,) = await settle(redis, enqueue(MONITOR))
    return outcome


def assert_fresh(now: RedisState, id_: MonitorId = MONITOR) -> None:
    """The one task waits in one place, as asynq's client would have put it there just now."""
    assert now.places == ["pending"]
    assert set(now.task) == {b"msg", b"state", b"pending_since"}
    assert now.task[b"msg"] == fresh_message(id_)
    assert now.task[b"state"] == b"pending"
    assert_just_now(now.task[b"pending_since"])


def assert_just_now(nanoseconds: bytes) -> None:
    assert len(nanoseconds) == 19
    assert nanoseconds.isdigit()
    assert int(nanoseconds) > int(EARLIER_NS)


async def test_nothing_there_is_enqueued(redis: Redis) -> None:
    before_ms = await redis_now_ms(redis)
    assert await settle_one(redis) is Outcome.ENQUEUED
    now = await redis_state(redis, MONITOR)
    assert_fresh(now)
    assert before_ms * 10**6 <= int(now.task[b"pending_since"]) <= (await redis_now_ms(redis) + 1) * 10**6


async def test_a_new_task_goes_behind_those_that_wait(redis: Redis) -> None:
    await put_backlog(redis, 3)
    assert await settle_one(redis) is Outcome.ENQUEUED
    # asynq's workers take from the right.
    assert await redis.lindex(keys.PENDING, 0) == task_id(MONITOR).encode()


async def test_a_paused_queue_changes_nothing(redis: Redis) -> None:
    await redis.set(keys.PAUSED, 1_700_000_000)
    assert await settle_one(redis) is Outcome.ENQUEUED
    assert_fresh(await redis_state(redis, MONITOR))


async def test_pending_is_refreshed_and_keeps_its_turn(redis: Redis) -> None:
    await put_pending(redis, MonitorId("an-older-one"))
    await put_pending(redis, MONITOR)
    await put_backlog(redis, 3)
    order_before = await redis.lrange(keys.PENDING, 0, -1)

    assert await settle_one(redis) is Outcome.REFRESHED

    assert await redis.lrange(keys.PENDING, 0, -1) == order_before
    now = await redis_state(redis, MONITOR)
    assert now.task == {b"msg": fresh_message(MONITOR), b"state": b"pending", b"pending_since": EARLIER_NS}
    assert now.places == ["pending"]


async def test_pending_in_a_long_list_is_refreshed_without_a_search(redis: Redis) -> None:
    await put_pending(redis, MONITOR)
    await put_backlog(redis, SHORT_LIST)
    assert await settle_one(redis) is Outcome.REFRESHED
    assert await redis.lindex(keys.PENDING, -1) == task_id(MONITOR).encode()
    now = await redis_state(redis, MONITOR)
    assert (now.task[b"msg"], now.places) == (fresh_message(MONITOR), ["pending"])


@pytest.mark.parametrize("backlog", [0, 5, SHORT_LIST])
async def test_pending_but_in_no_list_is_listed_again(redis: Redis, backlog: int) -> None:
    await put_pending(redis, MONITOR, listed=False)
    if backlog:
        await put_backlog(redis, backlog)
    assert await settle_one(redis) is Outcome.HEALED_UNLISTED
    assert_fresh(await redis_state(redis, MONITOR))


async def test_pending_but_in_no_list_is_not_looked_up_in_a_long_one(redis: Redis) -> None:
    await put_pending(redis, MONITOR, listed=False)
    await put_backlog(redis, SHORT_LIST + 1)
    assert await settle_one(redis) is Outcome.REFRESHED
    assert (await redis_state(redis, MONITOR)).places == []


async def assert_left_running(redis: Redis) -> None:
    before = await redis_state(redis, MONITOR)
    assert await settle_one(redis) is Outcome.RUNNING
    now = await redis_state(redis, MONITOR)
    assert now.task == before.task == {b"msg": earlier_message(MONITOR), b"state": b"active"}
    assert now.places == before.places
    assert await redis.llen(keys.PENDING) == 0


async def assert_orphan_healed(redis: Redis) -> None:
    assert await settle_one(redis) is Outcome.HEALED_ORPHANED
    assert_fresh(await redis_state(redis, MONITOR))


async def test_active_with_a_lease_in_the_future_is_left_running(redis: Redis) -> None:
    await put_active(redis, MONITOR, lease_s=await redis_now_ms(redis) // 1000 + 30)
    await assert_left_running(redis)


async def test_active_with_a_lease_just_over_is_left_running(redis: Redis) -> None:
    await put_active(redis, MONITOR, lease_s=await redis_now_ms(redis) / 1000 - 0.5)
    await assert_left_running(redis)


async def test_active_with_a_lease_over_by_two_seconds_is_healed(redis: Redis) -> None:
    await put_active(redis, MONITOR, lease_s=await redis_now_ms(redis) / 1000 - 2)
    await assert_orphan_healed(redis)


async def test_active_with_a_lease_long_over_is_healed(redis: Redis) -> None:
    await put_active(redis, MONITOR, lease_s=await redis_now_ms(redis) // 1000 - 600)
    await assert_orphan_healed(redis)


async def test_active_without_a_lease_is_healed(redis: Redis) -> None:
    await put_active(redis, MONITOR, lease_s=None)
    await assert_orphan_healed(redis)


@pytest.mark.parametrize("lease_age_s", [600, None])
async def test_active_without_a_good_lease_is_left_to_a_live_worker_that_lists_it(
    redis: Redis, lease_age_s: int | None
) -> None:
    lease_s = None if lease_age_s is None else await redis_now_ms(redis) // 1000 - lease_age_s
    await put_active(redis, MONITOR, lease_s=lease_s)
    await put_worker(redis, MonitorId("another"), MONITOR)
    await assert_left_running(redis)


async def test_a_live_worker_that_runs_other_tasks_does_not_hold_an_orphan(redis: Redis) -> None:
    await put_active(redis, MONITOR, lease_s=None)
    await put_worker(redis, MonitorId("another"))
    await assert_orphan_healed(redis)


@pytest.mark.parametrize("expires_in_s", [-3600, 3600])
async def test_a_worker_lives_as_long_as_its_hash_whatever_its_clock_says(redis: Redis, expires_in_s: float) -> None:
    dead = {f"asynq:workers:{{host:1:{n}}}": time.time() - 7200 for n in range(1_100)}
    await redis.zadd(keys.WORKERS, dead)  # never taken out of the set
    await put_active(redis, MONITOR, lease_s=await redis_now_ms(redis) // 1000 - 600)
    await put_worker(redis, MONITOR, expires_in_s=expires_in_s)
    await assert_left_running(redis)
    await redis.delete(WORKER)
    await redis.delete(DUE)
    await assert_orphan_healed(redis)


async def test_a_real_worker_whose_clock_is_an_hour_behind_keeps_its_task(
    asynq_peer: AsynqPeer, tmp_path: Path
) -> None:
    with redis_with_clock(tmp_path) as (server, clock):
        clock.step(3600)
        peer = asynq_peer.at(server.address)
        async with connected(server.port) as redis, peer.serve(delay_ms=60_000) as worker:
            await peer.enqueue(task_id(MONITOR))
            await worker.next_task()

            async def workers() -> list[bytes]:
                return cast("list[bytes]", await redis.zrange(keys.WORKERS, 0, -1))

            async def listed() -> bool:
                return any([await redis.hexists(one, task_id(MONITOR)) for one in await workers()])

            await until(listed, "the worker lists its task")
            (own,) = await workers()
            assert await score(redis, keys.WORKERS, own) < await redis_now_ms(redis) / 1000 - 3000
            assert await settle_one(redis) is Outcome.RUNNING
            assert (await queue_state(redis, 2)).workers == 1
            await worker.kill()
            assert await settle_one(redis) is Outcome.RUNNING
            await redis.delete(own)  # as it goes by itself after 10 s
            assert await settle_one(redis) is Outcome.HEALED_ORPHANED


async def test_a_dead_worker_whose_hash_has_expired_does_not_hold_an_orphan(redis: Redis) -> None:
    await put_active(redis, MONITOR, lease_s=None)
    await put_worker(redis, MONITOR, with_hash=False)
    await assert_orphan_healed(redis)


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ("archived", Outcome.HEALED_ARCHIVED),
        ("completed", Outcome.HEALED_COMPLETED),
        ("retry", Outcome.HEALED_RETRY),
        ("scheduled", Outcome.HEALED_SCHEDULED),
    ],
)
async def test_invariant_4_a_task_in_any_other_set_is_replaced(redis: Redis, state: InSet, outcome: Outcome) -> None:
    await put_in_set(redis, MONITOR, state)
    assert (await redis_state(redis, MONITOR)).places == [state]
    assert await settle_one(redis) is outcome
    assert_fresh(await redis_state(redis, MONITOR))


async def test_what_an_archived_task_kept_of_its_life_is_gone(redis: Redis) -> None:
    await put_in_set(redis, MONITOR, "archived")
    await redis.hset(task_key(MONITOR), mapping={"unique_key": "asynq:{healthcheck}:unique:x", "result": "r"})
    assert await settle_one(redis) is Outcome.HEALED_ARCHIVED
    assert_fresh(await redis_state(redis, MONITOR))


async def test_an_aggregating_task_is_taken_out_of_its_group(redis: Redis) -> None:
    await put_aggregating(redis, MONITOR)
    await put_aggregating(redis, MonitorId("another"))
    assert await settle_one(redis) is Outcome.HEALED_AGGREGATING
    assert_fresh(await redis_state(redis, MONITOR))
    assert await redis.zrange(keys.GROUP + GROUP_NAME, 0, -1) == [b"healthcheck:another"]


@pytest.mark.parametrize("how", MALFORMATIONS)
async def test_something_malformed_is_replaced(redis: Redis, how: Malformation) -> None:
    await put_malformed(redis, MONITOR, how)
    assert await settle_one(redis) is Outcome.HEALED_MALFORMED
    assert_fresh(await redis_state(redis, MONITOR))


@pytest.mark.parametrize("how", MALFORMATIONS)
async def test_something_malformed_is_removed_from_everywhere(redis: Redis, how: Malformation) -> None:
    task = task_id(MONITOR)
    await put_malformed(redis, MONITOR, how)
    for key in (keys.PENDING, keys.ACTIVE):
        await redis.rpush(key, "healthcheck:another", task, task)
    for key in (keys.LEASE, keys.SCHEDULED, keys.RETRY, keys.ARCHIVED, keys.COMPLETED):
        await redis.zadd(key, {"healthcheck:another": 1, task: 1})

    assert await settle_one(redis) is Outcome.HEALED_MALFORMED

    assert_fresh(await redis_state(redis, MONITOR))
    assert await redis.lrange(keys.PENDING, 0, -1) == [task.encode(), b"healthcheck:another"]
    assert await redis.lrange(keys.ACTIVE, 0, -1) == [b"healthcheck:another"]
    for key in (keys.LEASE, keys.SCHEDULED, keys.RETRY, keys.ARCHIVED, keys.COMPLETED):
        assert await redis.zrange(key, 0, -1) == [b"healthcheck:another"]


async def test_something_malformed_is_searched_for_in_a_long_list(redis: Redis) -> None:
    await put_malformed(redis, MONITOR, "no msg")
    await redis.lpush(keys.PENDING, task_id(MONITOR))
    await put_backlog(redis, SHORT_LIST + 500)
    assert await settle_one(redis) is Outcome.HEALED_MALFORMED
    assert_fresh(await redis_state(redis, MONITOR))
    assert await redis.llen(keys.PENDING) == SHORT_LIST + 501


async def test_a_monitor_beyond_the_rationed_searches_is_postponed(redis: Redis) -> None:
    ids = monitors(LONG_SEARCHES + 2)
    for id_ in ids[:-1]:
        await put_malformed(redis, id_, "unknown state")
        await redis.lpush(keys.PENDING, task_id(id_))
    await put_backlog(redis, SHORT_LIST + 1)
    late = ids[-2]
    before = await redis_state(redis, late)

    before_ms = await redis_now_ms(redis)
    *healed, postponed, unharmed = await settle(redis, *map(enqueue, ids))
    after_ms = await redis_now_ms(redis)

    assert healed == [Outcome.HEALED_MALFORMED] * LONG_SEARCHES
    assert (postponed, unharmed) == (Outcome.POSTPONED, Outcome.ENQUEUED)
    now = await redis_state(redis, late)
    assert (now.task, now.places) == (before.task, before.places)
    assert now.due_ms is not None
    assert before_ms <= now.due_ms - timing.postpone_ms <= after_ms
    assert await settle(redis, enqueue(late)) == (Outcome.HEALED_MALFORMED,)
    assert_fresh(await redis_state(redis, late), late)


async def test_release_puts_back_into_due_after_the_delay_without_a_task(redis: Redis) -> None:
    before_ms = await redis_now_ms(redis)
    assert await settle(redis, Release(MONITOR, 1234)) == (Outcome.RELEASED,)
    now = await redis_state(redis, MONITOR)
    assert now.due_ms is not None
    assert before_ms <= now.due_ms - 1234 <= await redis_now_ms(redis)
    assert (now.task, now.places) == ({}, [])
    assert not await redis.exists(keys.QUEUES)


async def test_release_leaves_a_waiting_task(redis: Redis) -> None:
    await put_pending(redis, MONITOR)
    before = await redis_state(redis, MONITOR)
    assert await settle(redis, Release(MONITOR, 1000)) == (Outcome.RELEASED,)
    now = await redis_state(redis, MONITOR)
    assert (now.task, now.places) == (before.task, before.places)


async def test_drop_takes_the_monitor_out_with_its_pending_task(redis: Redis) -> None:
    await put_pending(redis, MONITOR)
    await put_backlog(redis, 2)
    assert await settle(redis, Drop(MONITOR, stale_task(MONITOR))) == (Outcome.DROPPED,)
    assert await redis_state(redis, MONITOR) == RedisState({}, [], None, None)
    assert await redis.llen(keys.PENDING) == 2


async def test_drop_makes_a_pending_task_stale_in_a_long_list(redis: Redis) -> None:
    await put_pending(redis, MONITOR)
    await put_backlog(redis, SHORT_LIST)
    assert await settle(redis, Drop(MONITOR, stale_task(MONITOR))) == (Outcome.DROPPED,)
    now = await redis_state(redis, MONITOR)
    assert now.task == {b"msg": stale_task(MONITOR), b"state": b"pending", b"pending_since": EARLIER_NS}
    assert (now.places, now.due_ms) == (["pending"], None)


async def test_drop_leaves_a_running_check(redis: Redis) -> None:
    await put_active(redis, MONITOR, lease_s=await redis_now_ms(redis) // 1000 + 30)
    before = await redis_state(redis, MONITOR)
    assert await settle(redis, Drop(MONITOR, stale_task(MONITOR))) == (Outcome.DROPPED,)
    now = await redis_state(redis, MONITOR)
    assert (now.task, now.places, now.due_ms) == (before.task, before.places, None)


async def test_one_batch_holds_every_kind_of_order(redis: Redis) -> None:
    first, second, third, fourth = monitors(4)
    await put_pending(redis, third)
    await put_in_set(redis, fourth, "archived")
    outcomes = await settle(
        redis, enqueue(first), Release(second, 500), Drop(third, stale_task(third)), enqueue(fourth)
    )
    assert outcomes == (Outcome.ENQUEUED, Outcome.RELEASED, Outcome.DROPPED, Outcome.HEALED_ARCHIVED)


@pytest.mark.parametrize("spacing", Spacing)
async def test_the_script_finds_the_slots_that_cadence_finds(redis: Redis, spacing: Spacing) -> None:
    intervals_s = [1, 2, 7, 20, 59, 60, 300, 3600, 86_400, 604_800, 2**31 - 1]
    ids = monitors(20 * len(intervals_s))
    orders = [
        Enqueue(id_, cadence(id_, intervals_s[n % len(intervals_s)], spacing), fresh_message(id_))
        for n, id_ in enumerate(ids)
    ]
    before_ms = await redis_now_ms(redis)
    await settle(redis, *orders)
    for order in orders:
        due_ms = await score(redis, DUE, order.id)
        assert due_ms % order.cadence.period_ms == order.cadence.phase_ms
        assert due_ms >= before_ms + order.cadence.period_ms / 2


async def test_a_second_check_follows_on_the_grid(redis: Redis) -> None:
    grid = cadence(MONITOR, 1)
    schedule = Schedule(redis, timing)
    await redis.zadd(DUE, {MONITOR: 1})
    slots = []
    for _ in range(2):
        claim = await schedule.claim(1)
        await schedule.settle(claim, [Enqueue(MONITOR, grid, fresh_message(MONITOR))])
        slots.append(int(await score(redis, DUE, MONITOR)))
        await until_ms(redis, slots[-1])
    assert {slot % 1000 for slot in slots} == {grid.phase_ms}
    assert slots == sorted(set(slots))


async def test_the_states_of_these_tests_are_those_of_the_real_asynq(redis: Redis, asynq_peer: AsynqPeer) -> None:
    real, ours = monitors(2)
    for state in ("pending", "archived", "scheduled", "aggregating"):
        await redis.flushall()
        match state:
            case "pending":
                await asynq_peer.enqueue(task_id(real))
                await put_pending(redis, ours)
            case "archived":
                await asynq_peer.enqueue(task_id(real), delay_s=60)
                await asynq_peer.archive(task_id(real))
                await put_in_set(redis, ours, "archived")
            case "scheduled":
                await asynq_peer.enqueue(task_id(real), delay_s=60)
                await put_in_set(redis, ours, "scheduled")
            case "aggregating":
                await asynq_peer.enqueue(task_id(real), group=GROUP_NAME)
                await put_aggregating(redis, ours)
        by_asynq, by_us = await redis_state(redis, real), await redis_state(redis, ours)
        assert by_us.places == by_asynq.places
        assert by_us.task.keys() == by_asynq.task.keys()
        assert by_us.task[b"state"] == by_asynq.task[b"state"] == state.encode()
        seen = await asynq_peer.inspect(task_id(ours))
        assert seen.task is not None
        assert seen.task.state == state


async def test_the_real_asynq_finds_healed_tasks_pending_and_runs_them(redis: Redis, asynq_peer: AsynqPeer) -> None:
    ids = monitors(7)
    await asynq_peer.enqueue(task_id(ids[0]), delay_s=60)
    await asynq_peer.archive(task_id(ids[0]))
    await asynq_peer.enqueue(task_id(ids[1]), delay_s=60)
    await asynq_peer.enqueue(task_id(ids[2]), group=GROUP_NAME)
    await asynq_peer.enqueue(task_id(ids[3]))
    await put_active(redis, ids[4], lease_s=await redis_now_ms(redis) // 1000 - 60)
    await put_malformed(redis, ids[5], "no state")

    outcomes = await settle(redis, *map(enqueue, ids))

    assert outcomes == (
        Outcome.HEALED_ARCHIVED,
        Outcome.HEALED_SCHEDULED,
        Outcome.HEALED_AGGREGATING,
        Outcome.REFRESHED,
        Outcome.HEALED_ORPHANED,
        Outcome.HEALED_MALFORMED,
        Outcome.ENQUEUED,
    )
    for id_ in ids:
        seen = await asynq_peer.inspect(task_id(id_))
        assert seen.task is not None
        assert (seen.task.state, seen.task.payload_text) == ("pending", '{"which": "fresh"}')
    assert seen.queue is not None
    assert (seen.queue.size, seen.queue.pending) == (7, 7)
    async with asynq_peer.serve() as server:
        await server.until(lambda: len(server.done) == len(ids))
        await asynq_peer.inspect_until(lambda look: look.queue is not None and look.queue.size == 0)
    assert sorted(task.id for task in server.tasks) == sorted(map(task_id, ids))
