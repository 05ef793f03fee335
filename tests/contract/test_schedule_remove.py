"""Bringing monitors into the schedule and out of it (invariant 5), in the name of the node that leads (invariant 9)."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from redis.asyncio import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.asynq.payload import stale_task
from peekaping_producer.demo.redis_server import RedisServer
from peekaping_producer.errors import NotLeading
from peekaping_producer.model.cadence import ALIGNED_PHASE_MS, Cadence, Spacing, cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.redisdb.keys import DUE, GO_SEEN, LEADER, LEASE, REMOVED, SIGNALS
from peekaping_producer.schedule.orders import Claim, Claimed, Cursor, Drop, Enqueue, Entry, Release
from peekaping_producer.schedule.store import SHORT_LIST, Schedule
from peekaping_producer.schedule.view import ScheduleView
from peekaping_producer.timing import Timing
from support.asynq_states import (
    EARLIER_NS,
    InSet,
    RedisState,
    fresh_message,
    put_active,
    put_backlog,
    put_in_set,
    put_malformed,
    put_pending,
    redis_state,
    score,
)
from support.leader_key import LEADER_ID, lead
from support.nodes import connected
from support.redis_time import redis_now_ms

MONITOR = MonitorId("11111111-1111-4111-8111-111111111111")
GRID = cadence(MONITOR, 60)


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
    assert await schedule.schedule(LEADER_ID, [Entry(MONITOR, GRID)]) == ["added"]
    slots = {GRID.slot_from(at_ms) for at_ms in range(before_ms, await redis_now_ms(redis) + 1)}
    assert await score(redis, DUE, MONITOR) in slots


@pytest.mark.parametrize("spacing", Spacing)
async def test_the_script_finds_the_slots_that_cadence_finds(
    redis: Redis, schedule: Schedule, spacing: Spacing
) -> None:
    intervals_s = [1, 7, 20, 60, 300, 86_400, 2**31 - 1]
    grids = {id_: cadence(id_, intervals_s[n % 7], spacing) for n, id_ in enumerate(monitors(70))}
    before_ms = await redis_now_ms(redis)
    assert set(await schedule.schedule(LEADER_ID, [Entry(id_, grid) for id_, grid in grids.items()])) == {"added"}
    after_ms = await redis_now_ms(redis)
    for id_, grid in grids.items():
        assert await score(redis, DUE, id_) in {grid.slot_from(at_ms) for at_ms in range(before_ms, after_ms + 1)}


@pytest.mark.parametrize("lost_ms", [0, 3_000, 200_000])
async def test_what_is_missing_is_due_at_its_first_slot_since_the_schedule_was_lost(
    redis: Redis, schedule: Schedule, lost_ms: int
) -> None:
    before_ms = await redis_now_ms(redis)
    grids = {id_: cadence(id_, 20) for id_ in monitors(50)}
    kept, *missing = grids
    await redis.zadd(DUE, {kept: before_ms + 10_001})
    placed = await schedule.schedule(LEADER_ID, [Entry(id_, grid) for id_, grid in grids.items()], lost_ms)
    assert placed == ["kept", *("added" for _ in missing)]
    after_ms = await redis_now_ms(redis)
    for id_ in missing:
        slots = {grids[id_].slot_from(at_ms - lost_ms) for at_ms in range(before_ms, after_ms + 1)}
        assert await score(redis, DUE, id_) in slots
    assert await score(redis, DUE, kept) == before_ms + 10_001


async def test_a_new_monitor_may_be_due_at_once(redis: Redis, schedule: Schedule) -> None:
    before_ms = await redis_now_ms(redis)
    assert await schedule.schedule(LEADER_ID, [Entry(MONITOR, GRID, at_once=True)]) == ["added"]
    assert before_ms <= await score(redis, DUE, MONITOR) <= await redis_now_ms(redis)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("due_in_ms", [-(10**9), -1, 1, 59_000, 89_000])
async def test_what_is_overdue_or_due_within_one_and_a_half_periods_stays(
    redis: Redis, schedule: Schedule, due_in_ms: int, at_once: bool
) -> None:
    due_ms = await redis_now_ms(redis) + due_in_ms
    await redis.zadd(DUE, {MONITOR: due_ms})
    assert await schedule.schedule(LEADER_ID, [Entry(MONITOR, GRID, at_once=at_once)]) == ["kept"]
    assert await score(redis, DUE, MONITOR) == due_ms


@pytest.mark.parametrize("due_in_ms", [91_000, 3_600_000, math.inf])
async def test_what_is_due_later_than_one_and_a_half_periods_moves_onto_its_grid(
    redis: Redis, schedule: Schedule, due_in_ms: float
) -> None:
    before_ms = await redis_now_ms(redis)
    await redis.zadd(DUE, {MONITOR: before_ms + due_in_ms})
    assert await schedule.schedule(LEADER_ID, [Entry(MONITOR, GRID)]) == ["moved"]
    slots = {GRID.next_slot(at_ms) for at_ms in range(before_ms, await redis_now_ms(redis) + 1)}
    assert await score(redis, DUE, MONITOR) in slots
    assert await schedule.schedule(LEADER_ID, [Entry(MONITOR, GRID)]) == ["kept"]


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_claimed_monitor_is_left_to_its_claim(redis: Redis, schedule: Schedule, at_once: bool) -> None:
    await redis.zadd(DUE, {MONITOR: 1})
    claim = await schedule.claim(1)
    assert await schedule.schedule(LEADER_ID, [Entry(MONITOR, GRID, at_once=at_once)]) == ["kept"]
    now = await redis_state(redis, MONITOR)
    assert (now.due_ms, now.lease_ms) == (None, float(claim.token))


async def test_placements_come_in_the_order_of_the_entries(redis: Redis, schedule: Schedule) -> None:
    added, moved, kept = monitors(3)
    now_ms = await redis_now_ms(redis)
    await redis.zadd(DUE, {moved: now_ms + 10**9, kept: now_ms + 1000})
    entries = [Entry(id_, cadence(id_, 60)) for id_ in (kept, added, moved)]
    assert await schedule.schedule(LEADER_ID, entries) == ["kept", "added", "moved"]
    assert await schedule.schedule(LEADER_ID, []) == []


async def test_remove_takes_a_waiting_monitor_out(redis: Redis, schedule: Schedule) -> None:
    gone, claimed, stays = monitors(3)
    await redis.zadd(DUE, {gone: 10**13, stays: 10**13})
    await redis.zadd(LEASE, {claimed: 10**13})
    assert await schedule.remove(LEADER_ID, [drop(gone), drop(claimed), drop(MONITOR)]) == 2
    assert await redis.zrange(DUE, 0, -1) == [stays.encode()]
    assert not await redis.exists(LEASE)


async def test_a_monitor_in_both_sets_is_removed_once_from_both(redis: Redis, schedule: Schedule) -> None:
    await redis.zadd(DUE, {MONITOR: 1})
    await redis.zadd(LEASE, {MONITOR: 10**13})
    assert await schedule.remove(LEADER_ID, [drop(MONITOR)]) == 1
    assert not await redis.exists(DUE, LEASE)


@pytest.mark.parametrize("backlog", [1, SHORT_LIST - 1])
async def test_remove_takes_a_pending_task_along(redis: Redis, schedule: Schedule, backlog: int) -> None:
    await redis.zadd(DUE, {MONITOR: 10**13})
    await put_pending(redis, MONITOR)
    await put_backlog(redis, backlog)
    assert await schedule.remove(LEADER_ID, [drop(MONITOR)]) == 1
    assert await redis_state(redis, MONITOR) == RedisState({}, [], None, None)
    assert await redis.llen(keys.PENDING) == backlog


async def test_remove_takes_the_pending_task_of_a_monitor_that_is_not_scheduled(
    redis: Redis, schedule: Schedule
) -> None:
    await put_pending(redis, MONITOR)
    assert await schedule.remove(LEADER_ID, [drop(MONITOR)]) == 0
    assert await redis_state(redis, MONITOR) == RedisState({}, [], None, None)


async def test_remove_overwrites_a_pending_task_in_a_long_list(redis: Redis, schedule: Schedule) -> None:
    await put_pending(redis, MONITOR)
    await put_backlog(redis, SHORT_LIST)
    await schedule.remove(LEADER_ID, [drop(MONITOR)])
    now = await redis_state(redis, MONITOR)
    assert now.task == {b"msg": stale_task(MONITOR), b"state": b"pending", b"pending_since": EARLIER_NS}
    assert now.places == ["pending"]
    assert await redis.llen(keys.PENDING) == SHORT_LIST + 1


async def test_remove_leaves_a_running_check(redis: Redis, schedule: Schedule) -> None:
    await redis.zadd(DUE, {MONITOR: 10**13})
    await put_active(redis, MONITOR, lease_s=await redis_now_ms(redis) // 1000 + 30)
    before = await redis_state(redis, MONITOR)
    assert await schedule.remove(LEADER_ID, [drop(MONITOR)]) == 1
    now = await redis_state(redis, MONITOR)
    assert (now.task, now.places, now.due_ms) == (before.task, before.places, None)


@pytest.mark.parametrize("state", ["archived", "completed", "retry", "scheduled"])
async def test_remove_leaves_a_task_that_no_worker_will_take_from_pending(
    redis: Redis, schedule: Schedule, state: InSet
) -> None:
    await put_in_set(redis, MONITOR, state)
    before = await redis_state(redis, MONITOR)
    assert await schedule.remove(LEADER_ID, [drop(MONITOR)]) == 0
    assert await redis_state(redis, MONITOR) == before


async def test_something_malformed_does_not_keep_a_monitor_in_the_schedule(redis: Redis, schedule: Schedule) -> None:
    broken, other = monitors(2)
    await put_malformed(redis, broken, "string")
    await redis.zadd(DUE, {broken: 10**13, other: 10**13})
    assert await schedule.remove(LEADER_ID, [drop(broken), drop(other)]) == 2
    assert not await redis.exists(DUE)


async def test_schedule_and_remove_survive_a_flush_of_scripts(redis: Redis, schedule: Schedule) -> None:
    for _ in range(2):
        await redis.script_flush()
        assert await schedule.schedule(LEADER_ID, [Entry(MONITOR, GRID)]) == ["added"]
        await redis.script_flush()
        assert await schedule.remove(LEADER_ID, [drop(MONITOR)]) == 1


# --- the fence (invariant 9)


@pytest.mark.parametrize("leader", [None, b"other-1-n0", LEADER_ID.encode() + b"0", b"\xff", b"producer-4711"])
async def test_invariant_9_a_node_that_does_not_lead_changes_nothing(
    redis: Redis, schedule: Schedule, leader: bytes | None
) -> None:
    scheduled, claimed, new = monitors(3)
    await redis.zadd(DUE, {scheduled: 10**13, MONITOR: 1})
    await redis.zadd(LEASE, {claimed: 10**13})
    await put_pending(redis, scheduled)
    await (redis.delete(LEADER) if leader is None else redis.set(LEADER, leader))
    before = await everything(redis)
    async with signals_of(redis) as heard:
        with pytest.raises(NotLeading):
            await schedule.schedule(LEADER_ID, [Entry(id_, GRID, True, True) for id_ in (scheduled, claimed, new)])
        with pytest.raises(NotLeading):
            await schedule.remove(LEADER_ID, [drop(scheduled), drop(claimed), drop(MONITOR)])
    assert heard == []
    assert await everything(redis) == before


async def test_the_fence_holds_even_with_nothing_to_do(redis: Redis, schedule: Schedule) -> None:
    assert await schedule.remove(LEADER_ID, []) == 0
    await redis.set(LEADER, "other-1-n0")
    with pytest.raises(NotLeading):
        await schedule.schedule(LEADER_ID, [])
    with pytest.raises(NotLeading):
        await schedule.remove(LEADER_ID, [])


async def everything(redis: Redis) -> dict[bytes | str, bytes | None]:
    """Return all of Redis, to see whether anything changed."""
    return {key: await redis.dump(key) for key in await redis.keys("*")}


# --- edited rows


async def test_an_edit_wins_over_a_claim_in_flight(redis: Redis, schedule: Schedule) -> None:
    await redis.zadd(DUE, {MONITOR: 1})
    claim = await schedule.claim(1)
    before_ms = await redis_now_ms(redis)
    assert await schedule.schedule(LEADER_ID, [Entry(MONITOR, GRID, edited=True)]) == ["revoked"]
    now = await redis_state(redis, MONITOR)
    assert now.lease_ms is None
    assert now.due_ms is not None
    assert before_ms <= now.due_ms <= await redis_now_ms(redis) + 1
    # The claim that may have read the row before its edit has no effect (invariant 2).
    order = Enqueue(MONITOR, GRID, fresh_message(MONITOR))
    assert (await schedule.settle(claim, [order])).outcomes == (Outcome.LOST,)
    assert await redis_state(redis, MONITOR) == now
    again = await schedule.claim(1)
    assert (await schedule.settle(again, [order])).outcomes == (Outcome.ENQUEUED,)


@pytest.mark.parametrize("spacing", Spacing)
async def test_an_edited_monitor_on_its_grid_stays(redis: Redis, schedule: Schedule, spacing: Spacing) -> None:
    grid = cadence(MONITOR, 3600, spacing)
    due_ms = grid.slot_from(await redis_now_ms(redis) + 10_000)
    await redis.zadd(DUE, {MONITOR: due_ms})
    assert await schedule.schedule(LEADER_ID, [Entry(MONITOR, grid, edited=True)]) == ["kept"]
    assert await score(redis, DUE, MONITOR) == due_ms


async def test_an_edited_monitor_at_a_go_node_s_slot_stays_beside_one(redis: Redis, schedule: Schedule) -> None:
    grid = cadence(MONITOR, 3600, Spacing.ALIGNED)
    due_ms = grid.slot_from(await redis_now_ms(redis) + 10_000) - ALIGNED_PHASE_MS
    assert due_ms % grid.period_ms == 0
    await redis.zadd(DUE, {MONITOR: due_ms})
    assert await schedule.schedule(LEADER_ID, [Entry(MONITOR, grid, edited=True)]) == ["kept"]
    assert await score(redis, DUE, MONITOR) == due_ms


@pytest.mark.parametrize("off_ms", [-2, 1, 500, 1_234_567])
async def test_an_edited_monitor_of_another_grid_moves_by_half_a_period_or_more(
    redis: Redis, schedule: Schedule, off_ms: int
) -> None:
    """Invariant 1: whatever the old interval was, no two checks are closer than half the new one."""
    grid = cadence(MONITOR, 7200)
    before_ms = await redis_now_ms(redis)
    await redis.zadd(DUE, {MONITOR: grid.slot_from(before_ms + 10_000) + off_ms})
    assert await schedule.schedule(LEADER_ID, [Entry(MONITOR, grid, edited=True)]) == ["moved"]
    slots = {grid.next_slot(at_ms) for at_ms in range(before_ms, await redis_now_ms(redis) + 1)}
    assert await score(redis, DUE, MONITOR) in slots
    assert min(slots) >= before_ms + grid.period_ms / 2


async def test_a_changed_period_moves_even_a_slot_of_both_grids(redis: Redis, schedule: Schedule) -> None:
    """Invariant 1: a slot of the old period may lie on the new grid too, and closer than half the new period."""
    grid = cadence(MONITOR, 3600, Spacing.ALIGNED)
    before_ms = await redis_now_ms(redis)
    near_ms, far_ms = (Cadence(1000, 1).slot_from(before_ms + in_ms) for in_ms in (60_000, 2_000_000))
    own = Cadence(3_600_000, near_ms % 3_600_000)
    for due_ms, entry, outcome in (
        (near_ms, Entry(MONITOR, own, edited=True), "kept"),
        (near_ms, Entry(MONITOR, own, edited=True, period_changed=True), "moved"),
        (far_ms, Entry(MONITOR, Cadence(3_600_000, far_ms % 3_600_000), edited=True, period_changed=True), "kept"),
    ):
        await redis.zadd(DUE, {MONITOR: due_ms})
        assert await schedule.schedule(LEADER_ID, [entry]) == [outcome]
    await redis.zadd(DUE, {MONITOR: near_ms})
    await schedule.schedule(LEADER_ID, [Entry(MONITOR, grid, edited=True, period_changed=True)])
    assert await score(redis, DUE, MONITOR) >= before_ms + grid.period_ms / 2


@pytest.mark.parametrize("period_changed", [False, True])
@pytest.mark.parametrize("late_ms", [0, 1, 10**9])
async def test_an_edited_monitor_that_is_overdue_stays(
    redis: Redis, schedule: Schedule, late_ms: int, period_changed: bool
) -> None:
    due_ms = await redis_now_ms(redis) - late_ms
    await redis.zadd(DUE, {MONITOR: due_ms})
    entry = Entry(MONITOR, GRID, edited=True, period_changed=period_changed)
    assert await schedule.schedule(LEADER_ID, [entry]) == ["kept"]
    assert await score(redis, DUE, MONITOR) == due_ms


async def test_what_was_not_edited_keeps_a_slot_of_another_grid(redis: Redis, schedule: Schedule) -> None:
    due_ms = GRID.slot_from(await redis_now_ms(redis) + 1000) + 7
    await redis.zadd(DUE, {MONITOR: due_ms})
    assert await schedule.schedule(LEADER_ID, [Entry(MONITOR, GRID)]) == ["kept"]
    assert await score(redis, DUE, MONITOR) == due_ms


# --- tombstones


async def test_remove_leaves_a_tombstone_that_schedule_deletes(redis: Redis, schedule: Schedule) -> None:
    gone, back = monitors(2)
    before_ms = await redis_now_ms(redis)
    await schedule.remove(LEADER_ID, [drop(gone), drop(back)])
    for id_ in (gone, back):
        assert before_ms <= await score(redis, REMOVED, id_) <= await redis_now_ms(redis)
    await schedule.schedule(LEADER_ID, [Entry(back, GRID)])
    assert await redis.zrange(REMOVED, 0, -1) == [gone.encode()]


@pytest.mark.parametrize("from_cache", [True, False])
async def test_a_removed_monitor_is_not_revived_by_a_row_read_earlier(
    redis: Redis, schedule: Schedule, from_cache: bool
) -> None:
    await schedule.remove(LEADER_ID, [drop(MONITOR)])
    # A Go node, or a run-now, that did not know of the removal.
    await redis.zadd(DUE, {MONITOR: 1})
    claim = await schedule.claim(1)
    (outcome,) = (await schedule.settle(claim, [enqueue(MONITOR, from_cache=from_cache)])).outcomes
    now = await redis_state(redis, MONITOR)
    if from_cache:
        assert outcome is Outcome.DROPPED
        assert now == RedisState({}, [], None, None)
    else:
        assert outcome is Outcome.ENQUEUED
        assert now.places == ["pending"]


async def test_a_row_read_earlier_serves_what_was_not_removed(redis: Redis, schedule: Schedule) -> None:
    removed, back, never = monitors(3)
    await schedule.remove(LEADER_ID, [drop(removed), drop(back)])
    await schedule.schedule(LEADER_ID, [Entry(back, GRID)])
    await redis.zadd(DUE, dict.fromkeys((removed, back, never), 1))
    claim = await schedule.claim(3)
    orders = [enqueue(id_, from_cache=True) for id_ in (removed, back, never)]
    outcomes = (await schedule.settle(claim, orders)).outcomes
    assert outcomes == (Outcome.DROPPED, Outcome.ENQUEUED, Outcome.ENQUEUED)


async def test_a_claim_made_before_the_remove_is_lost_whatever_it_read(redis: Redis, schedule: Schedule) -> None:
    await redis.zadd(DUE, {MONITOR: 1})
    claim = await schedule.claim(1)
    await schedule.remove(LEADER_ID, [drop(MONITOR)])
    for from_cache in (True, False):
        outcomes = (await schedule.settle(claim, [enqueue(MONITOR, from_cache=from_cache)])).outcomes
        assert outcomes == (Outcome.LOST,)
    assert await redis_state(redis, MONITOR) == RedisState({}, [], None, None)


async def test_old_tombstones_go_with_the_next_remove(redis: Redis) -> None:
    await lead(redis)
    schedule = Schedule(redis, Timing(tombstone_ms=60_000))
    old, young, next_ = monitors(3)
    now_ms = await redis_now_ms(redis)
    await redis.zadd(REMOVED, {old: now_ms - 60_001, young: now_ms - 1000})
    await schedule.remove(LEADER_ID, [drop(next_)])
    assert set(await redis.zrange(REMOVED, 0, -1)) == {young.encode(), next_.encode()}


def enqueue(id_: MonitorId, *, from_cache: bool = False) -> Enqueue:
    return Enqueue(id_, cadence(id_, 60), fresh_message(id_), from_cache)


# --- what is signalled to all nodes


@asynccontextmanager
async def signals_of(redis: Redis) -> AsyncIterator[list[bytes]]:
    """Collect the signals that are published in the block; the list is filled at its end."""
    heard: list[bytes] = []
    async with asyncio.timeout(20), redis.pubsub() as pubsub:
        await pubsub.subscribe(SIGNALS)
        assert (await pubsub.get_message(timeout=10) or {})["type"] == "subscribe"
        yield heard
        await redis.publish(SIGNALS, "the end")
        while (message := await pubsub.get_message(timeout=10)) and message["data"] != b"the end":
            heard.append(message["data"])
        assert message


async def grid_with_slot_in(redis: Redis, in_ms: int, period_ms: int = 60_000) -> Cadence:
    return Cadence(period_ms, (await redis_now_ms(redis) + in_ms) % period_ms or 1)


async def test_what_is_due_within_a_second_is_published_to_all_nodes(redis: Redis, schedule: Schedule) -> None:
    far = await grid_with_slot_in(redis, 30_000)
    one, two = monitors(2)
    async with signals_of(redis) as heard:
        assert await schedule.schedule(LEADER_ID, [Entry(one, far, at_once=True)]) == ["added"]
        assert await schedule.schedule(LEADER_ID, [Entry(MONITOR, cadence(MONITOR, 1))]) == ["added"]
        await redis.zadd(DUE, {two: 1})
        await schedule.claim(1)
        assert await schedule.schedule(LEADER_ID, [Entry(two, far, edited=True)]) == ["revoked"]
    assert heard == [b"due"] * 3


async def test_one_signal_for_many(redis: Redis, schedule: Schedule) -> None:
    async with signals_of(redis) as heard:
        await schedule.schedule(LEADER_ID, [Entry(id_, cadence(id_, 60), at_once=True) for id_ in monitors(100)])
    assert heard == [b"due"]


async def test_nothing_is_published_for_what_is_due_later_or_was_due_already(redis: Redis, schedule: Schedule) -> None:
    far = await grid_with_slot_in(redis, 30_000)
    new, moved, overdue, claimed = monitors(4)
    await redis.zadd(DUE, {claimed: 1})
    await schedule.claim(1)
    await redis.zadd(DUE, {moved: 10**15, overdue: 1})
    async with signals_of(redis) as heard:
        entries = [Entry(id_, far) for id_ in (new, overdue, claimed)]
        assert await schedule.schedule(LEADER_ID, entries) == ["added", "kept", "kept"]
        hour = await grid_with_slot_in(redis, 1_800_000, 3_600_000)
        assert await schedule.schedule(LEADER_ID, [Entry(moved, hour)]) == ["moved"]
        await schedule.remove(LEADER_ID, [drop(new)])
    assert heard == []


# --- never a Go node's mark


async def test_no_instant_of_ours_is_a_go_node_s_mark(redis: Redis, schedule: Schedule) -> None:
    """A multiple of a period is how a Go node is noticed: at the turn of a second ours lie 1 ms behind it."""
    ids = monitors(300)
    seen: set[float] = set()
    async with asyncio.timeout(60):
        while not {score_ms for score_ms in seen if score_ms % 1000 == 1}:
            await redis.delete(DUE, LEASE)
            await until_the_second_turns(redis)
            # Spread over the turn: each call is a script of its own.
            async with asyncio.TaskGroup() as group:
                group.create_task(one_by_one(schedule, ids[:100]))
                group.create_task(run_one_by_one(schedule, ids[100:200]))
                group.create_task(release_one_by_one(redis, schedule, ids[200:]))
            seen |= {run.due_ms for run in await ScheduleView(redis, 10).next_runs(1000)}
            assert not [score_ms for score_ms in seen if score_ms % 1000 == 0]


async def until_the_second_turns(redis: Redis) -> None:
    while await redis_now_ms(redis) % 1000 < 980:
        await asyncio.sleep(0.002)


async def one_by_one(schedule: Schedule, ids: list[MonitorId]) -> None:
    for id_ in ids:
        await schedule.schedule(LEADER_ID, [Entry(id_, cadence(id_, 60), at_once=True)])


async def run_one_by_one(schedule: Schedule, ids: list[MonitorId]) -> None:
    for id_ in ids:
        await schedule.run_now([id_])


async def release_one_by_one(redis: Redis, schedule: Schedule, ids: list[MonitorId]) -> None:
    for id_ in ids:
        token = f"{10**13 + 0.5:.17g}"
        await redis.zadd(LEASE, {id_: token})
        claim = Claim(0, token, None, False, (Claimed(id_, 1),), 0)
        assert (await schedule.settle(claim, [Release(id_, 2000)])).outcomes == (Outcome.RELEASED,)


# --- run now


async def test_a_monitor_runs_now_and_its_grid_stays(redis: Redis, schedule: Schedule) -> None:
    await redis.zadd(DUE, {MONITOR: GRID.slot_from(await redis_now_ms(redis) + 1000)})
    before_ms = await redis_now_ms(redis)
    async with signals_of(redis) as heard:
        assert await schedule.run_now([MONITOR]) == [True]
    assert heard == [b"due"]
    assert before_ms <= await score(redis, DUE, MONITOR) <= await redis_now_ms(redis) + 1
    claim = await schedule.claim(1)
    await schedule.settle(claim, [Enqueue(MONITOR, GRID, fresh_message(MONITOR))])
    due_ms = int(await score(redis, DUE, MONITOR))
    assert due_ms == GRID.slot_from(due_ms)


async def test_run_now_brings_in_a_monitor_that_is_in_neither_set(redis: Redis, schedule: Schedule) -> None:
    assert await schedule.run_now([MONITOR]) == [True]
    assert await score(redis, DUE, MONITOR) <= await redis_now_ms(redis) + 1


async def test_run_now_never_makes_an_overdue_monitor_later(redis: Redis, schedule: Schedule) -> None:
    await redis.zadd(DUE, {MONITOR: 7})
    assert await schedule.run_now([MONITOR]) == [True]
    assert await score(redis, DUE, MONITOR) == 7


async def test_run_now_leaves_what_is_claimed_alone(redis: Redis, schedule: Schedule) -> None:
    other = monitors(1)[0]
    await redis.zadd(DUE, {MONITOR: 1})
    claim = await schedule.claim(1)
    async with signals_of(redis) as heard:
        assert await schedule.run_now([MONITOR]) == [False]
    assert heard == []
    now = await redis_state(redis, MONITOR)
    assert (now.due_ms, now.lease_ms) == (None, float(claim.token))
    async with signals_of(redis) as heard:
        assert await schedule.run_now([MONITOR, other, other]) == [False, True, True]
    assert heard == [b"due"]


async def test_run_now_needs_no_leader(redis: Redis, schedule: Schedule) -> None:
    await redis.delete(LEADER)
    assert await schedule.run_now([MONITOR]) == [True]
    assert await schedule.run_now([]) == []


# --- looking


@pytest.mark.parametrize("count", [1, 10, 1000])
async def test_the_members_of_both_sets_page_by_page(redis: Redis, schedule: Schedule, count: int) -> None:
    waiting, claimed = monitors(700)[:400], monitors(700)[400:]
    await redis.zadd(DUE, {id_: n for n, id_ in enumerate(waiting)})
    await redis.zadd(LEASE, {id_: n for n, id_ in enumerate(claimed)})
    assert set(await all_members(schedule, count)) == {*waiting, *claimed}


async def test_no_members(schedule: Schedule) -> None:
    assert await all_members(schedule, 10) == []


@pytest.mark.parametrize("count", [1, 10])
async def test_members_that_stay_are_found_whatever_comes_and_goes(
    redis: Redis, schedule: Schedule, count: int
) -> None:
    ids = monitors(900)
    stay, go, come = ids[:300], ids[300:600], ids[600:]
    await redis.zadd(DUE, {id_: n for n, id_ in enumerate([*stay, *go])})
    found: set[MonitorId] = set()
    cursor: Cursor | None = None
    while True:
        page, cursor = await schedule.members(cursor, count)
        found |= set(page)
        if cursor is None:
            break
        if go:
            await redis.zrem(DUE, *(go.pop() for _ in range(min(10, len(go)))))
        if come:
            await redis.zadd(DUE, {come.pop(): 1 for _ in range(min(10, len(come)))})
    assert found >= set(stay)


async def test_members_that_are_no_text_can_be_removed(redis_server: RedisServer, redis: Redis) -> None:
    strange = [b"\xff\xfe", b"", b"\x00", "ü".encode(), b"a b\r\n", b"x" * 10_000]
    await lead(redis)
    await redis.zadd(DUE, dict.fromkeys(strange, 10**13))
    async with connected(redis_server.port) as client:
        schedule = Schedule(client, Timing())
        found = await all_members(schedule, 10)
        assert len(found) == len(strange)
        assert await schedule.remove(LEADER_ID, [Drop(id_, b"") for id_ in found]) == len(strange)
    assert not await redis.exists(DUE)


async def all_members(schedule: Schedule, count: int) -> list[MonitorId]:
    found: list[MonitorId] = []
    cursor: Cursor | None = None
    while True:
        page, cursor = await schedule.members(cursor, count)
        found += page
        if cursor is None:
            return found


async def test_where_a_monitor_is(redis: Redis, schedule: Schedule) -> None:
    view = ScheduleView(redis, 10)
    await redis.delete(LEADER)
    before_ms = await redis_now_ms(redis)
    place = await view.place_of(MONITOR)
    assert before_ms <= place.now_ms <= await redis_now_ms(redis)
    assert (place.due_ms, place.lease_ms, place.leader, place.go_seen) == (None, None, None, False)

    await redis.zadd(DUE, {MONITOR: 5})
    await redis.set(LEADER, "host-4711")
    await schedule.note_go_node()
    place = await view.place_of(MONITOR)
    assert (place.due_ms, place.lease_ms, place.leader, place.go_seen) == (5, None, "host-4711", True)

    claim = await schedule.claim(1)
    place = await view.place_of(MONITOR)
    assert (place.due_ms, place.lease_ms) == (None, float(claim.token))


async def test_what_runs_next(redis: Redis) -> None:
    view = ScheduleView(redis, 10)
    ids = monitors(5)
    await redis.zadd(DUE, {id_: 100 - n for n, id_ in enumerate(ids)})
    assert await view.next_runs(2) == [Claimed(ids[4], 96), Claimed(ids[3], 97)]
    assert len(await view.next_runs(10)) == 5
    await redis.delete(DUE)
    assert await view.next_runs(2) == []


async def test_a_claim_returns_whether_a_go_node_was_noticed(redis: Redis, schedule: Schedule) -> None:
    assert not (await schedule.claim(1)).go_seen
    await schedule.note_go_node()
    assert 0 < await redis.pttl(GO_SEEN) <= Timing().go_seen_ms
    await redis.zadd(DUE, {MONITOR: 1})
    for _ in range(2):
        assert (await schedule.claim(1)).go_seen
    await redis.delete(GO_SEEN)
    assert not (await schedule.claim(1)).go_seen
    await redis.set(LEADER, "producer-4711")
    assert (await schedule.claim(1)).go_seen
