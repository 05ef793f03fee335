"""What a step of Redis' clock does to claims, the schedule and everything that expires (invariant 8)."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from redis.asyncio import Redis

from peekaping_producer.errors import NotLeading
from peekaping_producer.leader.term import Other, Terms
from peekaping_producer.model.cadence import cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.redisdb.keys import DUE, GO_SEEN, HEALTHY, LEADER, LEASE, NODES, REMOVED, SIGNALS, STEP
from peekaping_producer.schedule.orders import Claim, Entry
from peekaping_producer.schedule.redis_clock import Step
from peekaping_producer.schedule.store import LONGEST_TERM_MS, Schedule
from peekaping_producer.timing import Timing
from support.databases import SqliteDatabase, monitor_row, new_id
from support.leader_duties import leader
from support.leader_key import LEADER_ID, lead
from support.nodes import connected
from support.redis_clock import RedisClock, redis_with_clock
from support.redis_time import redis_now_ms, until_ms
from support.waiting import until

HOUR_MS = 3_600_000
TIMING = Timing()


class Stepped:
    """A Redis whose clock can be stepped."""

    def __init__(self, redis: Redis, clock: RedisClock) -> None:
        self.redis = redis
        self._clock = clock
        self._ahead_ms = 0

    async def now_ms(self) -> int:
        return await redis_now_ms(self.redis)

    async def step(self, by_ms: int) -> None:
        before_ms = await self.now_ms()
        self._ahead_ms += by_ms
        self._clock.step(self._ahead_ms / 1000)

        async def stepped() -> bool:
            return abs(await self.now_ms() - before_ms - by_ms) < abs(by_ms) / 2

        await until(stepped, "the clock has been stepped")


@pytest.fixture
async def stepped(tmp_path: Path) -> AsyncIterator[Stepped]:
    with redis_with_clock(tmp_path) as (server, clock):
        assert server.port is not None
        async with connected(server.port) as redis:
            yield Stepped(redis, clock)


def ids(count: int) -> list[MonitorId]:
    return [MonitorId(new_id()) for _ in range(count)]


async def put_due(redis: Redis, dues: Mapping[MonitorId, int]) -> None:
    await redis.zadd(DUE, {str(id_): due_ms for id_, due_ms in dues.items()})


def taken(claim: Claim) -> set[MonitorId]:
    return {claimed.id for claimed in claim.claimed}


async def noted(schedule: Schedule, claim: Claim) -> Step:
    """Note the step that a claim has seen."""
    assert claim.step
    assert await schedule.note_step(claim.step)
    return claim.step


# --- forward


async def test_invariant_8_after_a_clock_step_each_monitor_is_claimed_when_it_would_have_been(stepped: Stepped) -> None:
    redis = stepped.redis
    schedule, other = Schedule(redis, TIMING), Schedule(redis, TIMING)
    for node in (schedule, other):
        await node.claim(1)
    long_due, soon, later, next_hour = ids(4)
    now_ms = await stepped.now_ms()
    dues = {long_due: now_ms - 30_000, soon: now_ms + 1_500, later: now_ms + 600_000, next_hour: now_ms + HOUR_MS + 5}
    await put_due(redis, dues)
    await stepped.step(HOUR_MS)

    claim = await schedule.claim(10)
    assert taken(claim) == {long_due}  # It was overdue without the step too.
    step = await noted(schedule, claim)
    assert step.by_ms == pytest.approx(HOUR_MS, abs=500)

    # A node that has seen it by itself later, and one that has just started.
    late = await other.claim(10)
    assert late.step
    assert not await other.note_step(late.step)
    for node in (schedule, other, Schedule(redis, TIMING)):
        claim = await node.claim(10)
        assert taken(claim) <= {next_hour}
        assert claim.step is None
        assert claim.next_due_ms is not None
        assert claim.next_due_ms <= dues[soon] + HOUR_MS + 500

    await until_ms(redis, dues[soon] + HOUR_MS)
    new = MonitorId(new_id())
    await redis.zadd(DUE, {new: await stepped.now_ms()})
    claim = await schedule.claim(10)
    assert taken(claim) >= {soon, new}
    assert later not in taken(claim)
    lateness_ms = {one.id: late for one, late in zip(claim.claimed, claim.lateness_ms(claim.now_ms), strict=True)}
    assert 0 <= lateness_ms[soon] < 60_000
    assert 0 <= lateness_ms[new] < 60_000


async def test_what_a_step_forward_made_overdue_moves_to_its_nearest_slot(stepped: Stepped) -> None:
    redis, schedule = stepped.redis, Schedule(stepped.redis, TIMING)
    await lead(redis)
    await schedule.claim(1)
    overdue, *moved = ids(300)
    grids = {id_: cadence(id_, 20 + n % 50) for n, id_ in enumerate([overdue, *moved])}
    now_ms = await stepped.now_ms()
    dues = {id_: grids[id_].slot_from(now_ms + 1_000) for id_ in moved}
    dues[overdue] = now_ms - 60_000
    await put_due(redis, dues)
    await stepped.step(HOUR_MS + 7_777)
    step = await noted(schedule, await schedule.claim(0))
    placements = await schedule.schedule(LEADER_ID, [Entry(id_, grids[id_]) for id_ in dues])
    assert dict(zip(dues, placements, strict=True)) == dict.fromkeys(moved, "moved") | {overdue: "kept"}
    on_grid = 0
    for id_ in moved:
        slot_ms = await redis.zscore(DUE, id_)
        period_ms = grids[id_].period_ms
        assert slot_ms is not None
        assert step.at_ms < slot_ms
        on_grid += slot_ms % period_ms == grids[id_].phase_ms
        # Its last check was a period before its due time: at least half a period before, at most one and a half.
        last_ms = dues[id_] + step.by_ms - period_ms
        assert period_ms / 2 <= slot_ms - last_ms <= period_ms * 1.5 + 1
    assert on_grid > len(dues) * 0.75  # The others, whose slot is past, run when they would have run.


async def test_without_a_leader_claims_are_free_again_after_a_while(stepped: Stepped) -> None:
    schedule = Schedule(stepped.redis, Timing(step_open_ms=500))
    await schedule.claim(1)
    (id_,) = ids(1)
    await stepped.redis.zadd(DUE, {id_: await stepped.now_ms() + 600_000})
    await stepped.step(HOUR_MS)
    await noted(schedule, await schedule.claim(1))
    assert not taken(await schedule.claim(1))

    async def claimed() -> bool:
        return bool((await schedule.claim(1)).claimed)

    await until(claimed, "it is claimed without a sweep")


# --- back


async def test_after_a_step_back_what_is_due_far_ahead_moves_to_its_nearest_slot(stepped: Stepped) -> None:
    redis, schedule = stepped.redis, Schedule(stepped.redis, TIMING)
    await lead(redis)
    await schedule.claim(1)
    all_ = ids(300)
    grids = {id_: cadence(id_, 20 + n % 50) for n, id_ in enumerate(all_)}
    now_ms = await stepped.now_ms()
    dues = {id_: grids[id_].slot_from(now_ms + 1_000) for id_ in all_}
    await put_due(redis, dues)
    await stepped.step(-HOUR_MS - 7_777)
    step = await noted(schedule, await schedule.claim(1))
    assert step.by_ms == pytest.approx(-HOUR_MS - 7_777, abs=500)
    await schedule.schedule(LEADER_ID, [Entry(id_, grids[id_]) for id_ in all_])
    on_grid = 0
    for id_ in all_:
        slot_ms = await redis.zscore(DUE, id_)
        period_ms = grids[id_].period_ms
        assert slot_ms is not None
        on_grid += slot_ms % period_ms == grids[id_].phase_ms
        last_ms = dues[id_] + step.by_ms - period_ms
        assert period_ms / 2 <= slot_ms - last_ms <= period_ms * 1.5 + 1
    assert on_grid > len(dues) * 0.75  # The others, whose slot is past, run when they would have run.


async def test_after_a_step_back_nothing_lasts_longer_than_it_may(stepped: Stepped) -> None:
    redis, schedule = stepped.redis, Schedule(stepped.redis, TIMING)
    await schedule.claim(1)
    now_ms = await stepped.now_ms()
    await redis.set(LEADER, "dead-1-n0", px=4_000)
    await redis.set(GO_SEEN, 1, px=TIMING.go_seen_ms)
    await redis.zadd(REMOVED, {"removed": now_ms})
    for nodes in (NODES, HEALTHY):
        await redis.zadd(nodes, {"dead-1-n0": now_ms + TIMING.alive_ms})
    await stepped.step(-HOUR_MS)
    assert await redis.pttl(LEADER) > LONGEST_TERM_MS
    await noted(schedule, await schedule.claim(1))
    now_ms = await stepped.now_ms()
    assert 0 < await redis.pttl(LEADER) <= LONGEST_TERM_MS
    assert 0 < await redis.pttl(GO_SEEN) <= TIMING.go_seen_ms
    assert (await redis.zscore(REMOVED, "removed") or 0) <= now_ms
    for nodes in (NODES, HEALTHY):
        assert (await redis.zscore(nodes, "dead-1-n0") or 0) <= now_ms + TIMING.alive_ms


async def test_another_s_term_never_lasts_longer_than_the_longest(redis: Redis) -> None:
    # Where no node could notice the step.
    await redis.set(LEADER, "dead-1-n0", px=HOUR_MS)
    other = await Terms(redis, LEADER_ID, TIMING).take()
    assert isinstance(other, Other)
    assert other.left_s <= LONGEST_TERM_MS / 1000
    assert 0 < await redis.pttl(LEADER) <= LONGEST_TERM_MS


async def test_a_step_back_after_one_forward_ends_what_that_had_begun(stepped: Stepped) -> None:
    redis, schedule = stepped.redis, Schedule(stepped.redis, TIMING)
    await schedule.claim(1)
    (id_,) = ids(1)
    await stepped.step(HOUR_MS)
    await noted(schedule, await schedule.claim(1))
    await stepped.step(-HOUR_MS)
    await redis.zadd(DUE, {id_: await stepped.now_ms()})
    # A node that knows nothing of either is not held up by the old mark.
    assert taken(await Schedule(redis, TIMING).claim(1)) == {id_}
    step = await noted(schedule, await schedule.claim(1))
    assert step.by_ms < 0


# --- the sweep


async def test_a_sweep_ends_the_step_for_all_nodes(stepped: Stepped, empty_sqlite_db: SqliteDatabase) -> None:
    redis = stepped.redis
    rows = [monitor_row(interval=3600) for _ in range(5)]
    await empty_sqlite_db.insert("monitors", *rows)
    await redis.zadd(DUE, {row["id"]: await stepped.now_ms() + 60_000 for row in rows})
    late = Schedule(redis, TIMING)
    await late.claim(1)
    async with leader(redis, empty_sqlite_db) as led:
        await led.schedule.claim(1)
        await stepped.step(HOUR_MS)
        await lead(redis)
        await noted(led.schedule, await led.schedule.claim(5))
        async with led.elected(led.sweeper.duty()):
            line = await led.test.until_logged("sweep finished")
        assert line["moved"] == 5
        assert await redis.hget(STEP, "swept") == b"1"
        unswept = MonitorId(new_id())
        await redis.zadd(DUE, {unswept: await stepped.now_ms() - 60_000})
        assert taken(await led.schedule.claim(5)) == {unswept}
        claim = await late.claim(5)
        assert claim.step
        assert not await late.note_step(claim.step)
        assert await redis.hget(STEP, "swept") == b"1"


async def test_only_the_leader_ends_a_step_and_only_the_one_it_has_swept_after(stepped: Stepped) -> None:
    redis, schedule = stepped.redis, Schedule(stepped.redis, TIMING)
    await schedule.claim(1)
    await stepped.step(HOUR_MS)
    await noted(schedule, await schedule.claim(1))
    noted_ms = await schedule.step_noted_ms()
    assert noted_ms is not None
    with pytest.raises(NotLeading):
        await schedule.end_step(LEADER_ID, noted_ms)
    await lead(redis)
    await schedule.end_step(LEADER_ID, noted_ms - 1)
    assert await redis.hget(STEP, "swept") is None
    await schedule.end_step(LEADER_ID, noted_ms)
    assert await redis.hget(STEP, "swept") == b"1"


async def test_all_nodes_are_woken_by_a_step(stepped: Stepped) -> None:
    redis, schedule = stepped.redis, Schedule(stepped.redis, TIMING)
    await schedule.claim(1)
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(SIGNALS)
        await pubsub.get_message(timeout=10)
        await stepped.step(-HOUR_MS)
        await noted(schedule, await schedule.claim(1))
        message = await pubsub.get_message(timeout=10)
        assert message
        assert message["data"] == b"clock"


@pytest.mark.parametrize("by_ms", [-900, 900])
async def test_a_drift_below_a_second_is_not_a_step(stepped: Stepped, by_ms: int) -> None:
    schedule = Schedule(stepped.redis, TIMING)
    await schedule.claim(1)
    await stepped.step(by_ms)
    assert (await schedule.claim(1)).step is None
    assert not await stepped.redis.exists(LEASE, STEP)
