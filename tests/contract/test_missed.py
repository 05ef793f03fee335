"""Slots without a check are counted as missed, each with the reason that the nodes know."""

import time

import pytest
from redis.asyncio import Redis

from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.dispatch.missed import MissedChecks
from peekaping_producer.errors import System, Unavailable
from peekaping_producer.fleet.registry import NodeInfo, Registry
from peekaping_producer.model.cadence import cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.redisdb.keys import DUE, LEASE, NODES
from peekaping_producer.schedule.orders import Claim, Claimed, Enqueue, Settlement
from peekaping_producer.schedule.store import Schedule
from peekaping_producer.timing import Timing
from support.asynq_states import fresh_message, put_active
from support.databases import PostgresDatabase, SqliteDatabase, monitor_row
from support.nodes import TestNode
from support.postgres import Postgres
from support.producer import InProcess, producing
from support.redis_time import redis_now_ms, until_ms
from support.waiting import until

ID = MonitorId("11111111-1111-4111-8111-111111111111")
LATE_S = 1.2
QUICK = Timing(sweep_every_s=3600, changes_every_s=3600)


class Settled:
    """A node that claims a monitor of a one-minute interval and settles it, and what it has missed by then."""

    def __init__(self, redis: Redis, timing: Timing | None = None, *, no_node_since_s: float | None = None) -> None:
        timing = timing or Timing()
        self.node = TestNode(timing).node
        # Unless a test says otherwise, other nodes ran until this one was made.
        no_node_since_s = self.node.started_s if no_node_since_s is None else no_node_since_s
        self.schedule = Schedule(redis, timing)
        self._missed = MissedChecks(self.node, no_node_since_s)

    async def missed(self, *, from_cache: bool = False, interval_s: int = 60) -> dict[Outcome, int]:
        claim = await self.schedule.claim(10)
        assert [one.id for one in claim.claimed] == [ID]
        orders = [Enqueue(ID, cadence(ID, interval_s), fresh_message(ID), from_cache)]
        settlement = await self.schedule.settle(claim, orders)
        return dict(self._missed.in_batch(claim, orders, settlement, claim.lateness_ms(settlement.now_ms)))


async def put_due(redis: Redis, ago_s: float) -> None:
    """Put the monitor on the slot that is at least this long ago."""
    grid = cadence(ID, 60)
    await redis.zadd(DUE, {ID: grid.slot_from(await redis_now_ms(redis) - int(ago_s * 1000)) - grid.period_ms})


def missed_by(producer: InProcess) -> dict[str, int]:
    """Return what a producer that has stopped has missed, by its summary."""
    (summary,) = producer.logged("summary")
    return {outcome: count for outcome, count in summary["checks"].items() if outcome.startswith("missed_")}


# --- how many


async def test_a_check_in_time_misses_nothing(redis: Redis) -> None:
    now_ms = await redis_now_ms(redis)
    await redis.zadd(DUE, {ID: now_ms - 29_000})
    assert await Settled(redis).missed() == {}


async def test_a_check_whose_earlier_task_still_waits_for_a_worker_is_missed(redis: Redis) -> None:
    now_ms = await redis_now_ms(redis)
    # One that has just had a slot, so that no other one has passed since.
    interval_s = next(s for s in range(60, 3600) if (now_ms - cadence(ID, s).phase_ms) % (s * 1000) < s * 100)
    grid = cadence(ID, interval_s)
    due_ms = grid.slot_from(now_ms) - grid.period_ms
    at = Settled(redis)
    for missed in ({}, {Outcome.MISSED_OVERLOAD: 1}):
        await redis.zadd(DUE, {ID: due_ms})
        assert await at.missed(interval_s=interval_s) == missed


async def test_a_check_made_due_by_hand_misses_none_while_its_task_waits(redis: Redis) -> None:
    at = Settled(redis)
    for _ in range(2):
        await redis.zadd(DUE, {ID: await redis_now_ms(redis) + 0.5})
        await at.schedule.run_now([ID])
        assert await at.missed() == {}


async def test_each_slot_that_passed_is_one_missed_check(redis: Redis) -> None:
    await put_due(redis, 600)
    at = Settled(redis)
    due_ms = await redis.zscore(DUE, ID)
    missed = await at.missed()
    next_ms = await redis.zscore(DUE, ID)
    assert due_ms is not None
    assert next_ms is not None
    assert missed == {Outcome.MISSED_OVERLOAD: round((next_ms - due_ms) / 60_000) - 1}
    assert sum(missed.values()) in (10, 11)


@pytest.mark.parametrize("due", [0, "-inf"])
async def test_a_stray_due_time_counts_as_no_slot(redis: Redis, due: float | str) -> None:
    await redis.zadd(DUE, {ID: due})
    assert await Settled(redis).missed() == {}


async def test_a_step_of_redis_clock_is_no_delay(redis: Redis) -> None:
    """What a step forward made overdue is late by less than the step."""
    at, grid = Settled(redis), cadence(ID, 60)
    now_ms = await redis_now_ms(redis)
    claimed = Claimed(ID, grid.slot_from(now_ms - 3_600_000))
    claim = Claim(now_ms, "", None, False, (claimed,), time.monotonic(), behind_ms=3_500_000)
    settlement = Settlement(now_ms, (Outcome.ENQUEUED,), {})
    missed = at._missed.in_batch(claim, [Enqueue(ID, grid, b"")], settlement, claim.lateness_ms(now_ms))
    assert sum(missed.values()) in (1, 2)


async def test_postponements_add_up(redis: Redis) -> None:
    """Each moves the due time, so each counts the slots that it moves beyond."""
    at, grid = Settled(redis, Timing(postpone_ms=60_000)), cadence(ID, 60)
    now_ms = await redis_now_ms(redis)
    claim = Claim(now_ms, "", None, False, (Claimed(ID, now_ms),), time.monotonic())
    settlement = Settlement(now_ms, (Outcome.POSTPONED,), {})
    missed = at._missed.in_batch(claim, [Enqueue(ID, grid, b"")], settlement, claim.lateness_ms(now_ms))
    assert missed == {Outcome.MISSED_OVERLOAD: 1}


# --- why


async def test_nodes_that_are_too_slow(redis: Redis) -> None:
    await put_due(redis, 120)
    assert set(await Settled(redis).missed()) == {Outcome.MISSED_OVERLOAD}


async def test_no_node_ran(redis: Redis) -> None:
    await put_due(redis, 120)
    assert set(await Settled(redis, no_node_since_s=0).missed()) == {Outcome.MISSED_NO_NODE}


async def test_a_go_producer_ran(redis: Redis) -> None:
    await put_due(redis, 120)
    at = Settled(redis, no_node_since_s=0)
    await at.schedule.note_go_node()
    assert set(await at.missed()) == {Outcome.MISSED_OVERLOAD}


@pytest.mark.parametrize(("redis_failed", "outcome"), [(False, Outcome.MISSED_NO_NODE), (True, Outcome.MISSED_REDIS)])
async def test_a_claim_on_it_expired(redis: Redis, outcome: Outcome, *, redis_failed: bool) -> None:
    """This node had nothing left to do after the claim was made, so the monitor cannot have waited for it.

    The node that had claimed it died, or the reply was lost as Redis was unavailable.
    """
    dead, at = Schedule(redis, Timing(lease_ms=int(LATE_S * 1000))), Settled(redis)
    await redis.zadd(DUE, {ID: await redis_now_ms(redis)})
    await dead.claim(1)
    # It is due again from the ms of that claim; the next one must be in a later ms.
    await until_ms(redis, await redis_now_ms(redis) + 2)
    if redis_failed:
        at.node.claims.failed(Unavailable("redis", "gone", began_s=time.monotonic() - 0.01))
        at.node.claims.recovered()
    assert (await at.schedule.claim(10)).claimed == ()
    ends_ms = await redis.zscore(LEASE, ID)
    assert ends_ms is not None
    await until_ms(redis, ends_ms)
    await dead.reclaim()
    assert set(await at.missed(interval_s=1)) == {outcome}


@pytest.mark.parametrize(
    ("system", "delay_s", "outcome"),
    [
        ("redis", 100, Outcome.MISSED_REDIS),
        ("redis", 600, Outcome.MISSED_OVERLOAD),
        ("database", 100, Outcome.MISSED_DATABASE),
        ("database", 600, Outcome.MISSED_OVERLOAD),
    ],
)
async def test_what_was_unavailable_for_most_of_the_delay(
    redis: Redis, system: System, delay_s: float, outcome: Outcome
) -> None:
    at = Settled(redis)
    outage = at.node.redis_outage if system == "redis" else at.node.database_outage
    user = outage.user()
    user.failed(Unavailable(system, "gone", began_s=time.monotonic() - 200))
    user.recovered()
    await put_due(redis, delay_s)
    assert set(await at.missed()) == {outcome}


async def test_a_check_from_the_cache_did_not_wait_for_the_database(redis: Redis) -> None:
    at = Settled(redis)
    await put_due(redis, 100)
    at.node.database_outage.user().failed(Unavailable("database", "gone", began_s=time.monotonic() - 600))
    assert set(await at.missed(from_cache=True)) == {Outcome.MISSED_OVERLOAD}


async def test_the_earlier_check_still_runs(redis: Redis) -> None:
    await redis.zadd(DUE, {ID: await redis_now_ms(redis)})
    await put_active(redis, ID, lease_s=time.time() + 60)
    assert await Settled(redis).missed() == {Outcome.MISSED_STILL_RUNNING: 1}


# --- what a node knows of the others


async def test_when_other_nodes_were_last_seen(redis: Redis) -> None:
    registry = Registry(redis, Timing())
    assert await registry.unseen_s() == float("inf")
    await registry.register(NodeInfo("here"))
    assert await registry.unseen_s() < 5
    await redis.zadd(NODES, {"here": await redis_now_ms(redis) + Timing().alive_ms - 60_000})
    assert 60 <= await registry.unseen_s() < 65


# --- a whole producer


async def test_a_producer_that_starts_late(
    empty_sqlite_db: SqliteDatabase, redis_server: RedisServer, redis: Redis
) -> None:
    await empty_sqlite_db.insert("monitors", monitor_row(id=ID, interval=60))
    await put_due(redis, 120)
    settings = empty_sqlite_db.settings(redis_host=HOST, redis_port=redis_server.port)
    async with producing(settings, QUICK) as producer:
        await producer.until_logged("batches settled")
    assert set(missed_by(producer)) == {Outcome.MISSED_NO_NODE}


@pytest.mark.long
async def test_a_producer_during_outages(
    own_db: PostgresDatabase, own_postgres_server: Postgres, own_redis_server: RedisServer
) -> None:
    """Slots of a push monitor pass while the database is unavailable, or Redis."""
    await own_db.insert("monitors", monitor_row(id=ID, interval=1, type="push"))
    settings = own_db.settings(redis_host=HOST, redis_port=own_redis_server.port)
    async with producing(settings, QUICK) as producer:
        await producer.until_logged("batches settled")
        own_postgres_server.pause()
        await producer.until_logged("database unavailable")
        since_s = time.monotonic()
        await until(lambda: time.monotonic() > since_s + LATE_S)
        own_postgres_server.resume()
        await producer.until_logged("database recovered")
        settled = len(producer.logged("batches settled"))
        await producer.until_logged("batches settled", settled + 2)
        own_redis_server.pause()
        await producer.until_logged("redis unavailable")
        own_redis_server.resume()
        await producer.until_logged("redis recovered")
        settled = len(producer.logged("batches settled"))
        await producer.until_logged("batches settled", settled + 2)
    missed = missed_by(producer)
    assert missed.pop(Outcome.MISSED_DATABASE) >= 1
    assert missed.pop(Outcome.MISSED_REDIS) >= 1
