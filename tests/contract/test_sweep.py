"""A sweep completes the schedule from the database: active monitors in, all others out.

Invariants 5 (one rule for the schedule), 6 (a failed read is not an empty one), 7 (a bad record affects only itself).
"""

import asyncio
from datetime import timedelta
from functools import partial

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from peekaping_producer.clock import now_utc
from peekaping_producer.config.settings import ScheduleMode
from peekaping_producer.demo.redis_server import RedisServer
from peekaping_producer.errors import NotLeading, Unavailable
from peekaping_producer.leader import sweep as sweep_module
from peekaping_producer.leader.sync import Arrival
from peekaping_producer.model.cadence import Spacing, cadence
from peekaping_producer.model.monitor import MonitorId, Schedulable
from peekaping_producer.node.slot_spacing import SpacingChoice
from peekaping_producer.redisdb.keys import DUE, LEADER, LEASE, REMOVED
from support.asynq_states import RedisState, put_pending, redis_state, score
from support.catalogues import monitors_unreadable
from support.databases import Database, SqliteDatabase, monitor_row, new_id, numbered_id
from support.leader_duties import CALM, hang_once, leader
from support.nodes import connected
from support.redis_time import redis_now_ms
from support.schedule import is_not_scheduled, is_scheduled, scheduled_ids
from support.waiting import until

SWEPT, NOTHING_SWEPT, INVALID = "sweep finished", "sweep changed nothing", "monitors skipped as invalid"
FAR_MS = 10**13


def as_it_comes(_monitor: Schedulable) -> Arrival:
    return Arrival()


# --- the sweep, into the schedule


@pytest.mark.parametrize("page", [1, 2, 3, 7, 1000])
async def test_a_sweep_brings_in_every_active_monitor_at_its_slot(redis: Redis, any_db: Database, page: int) -> None:
    rows = [monitor_row(interval=20 + n) for n in range(7)]
    await any_db.insert("monitors", *rows, *(monitor_row(active=False) for _ in range(3)))
    before_ms = await redis_now_ms(redis)
    async with leader(redis, any_db, replace(CALM, sweep_page=page)) as led:
        swept = await led.sweeper.sweep_once(led.term)
        after_ms = await redis_now_ms(redis)
        assert (swept.seen, swept.added, swept.moved, swept.removed, swept.invalid) == (7, 7, 0, 0, 0)
        for row in rows:
            own = cadence(row["id"], row["interval"])
            slots = {own.slot_from(at_ms) for at_ms in range(before_ms, after_ms + 1)}
            assert await score(redis, DUE, row["id"]) in slots
        again = await led.sweeper.sweep_once(led.term)
    assert await scheduled_ids(redis) == {row["id"] for row in rows}
    assert (again.seen, again.added, again.moved, again.removed) == (7, 0, 0, 0)


async def test_a_sweep_reads_in_pages(redis: Redis, empty_sqlite_db: SqliteDatabase) -> None:
    await empty_sqlite_db.insert("monitors", *(monitor_row() for _ in range(295)))
    async with leader(redis, empty_sqlite_db, replace(CALM, sweep_page=10)) as led:
        await led.sweeper.sweep_once(led.term)
        assert led.catalog.readings["active"] == 30
        # ZSCAN gives about as many as it is asked for, never all of a large set.
        assert led.catalog.most_ids < 100


async def test_the_sweep_after_a_loss_makes_up_for_the_slots_since_then(
    redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    rows = [monitor_row(interval=60) for _ in range(40)]
    await empty_sqlite_db.insert("monitors", *rows)
    async with leader(redis, empty_sqlite_db, replace(CALM, sweep_page=10)) as led:
        led.term.lost = "Redis has lost its data"
        first_ms = await redis_now_ms(redis) - 1
        led.sweeper._begin(led.term)
        last_ms = await redis_now_ms(redis) + 1
        assert led.sweeper._lost_at_s is not None
        led.sweeper._lost_at_s -= 30
        await led.sweeper.sweep_once(led.term)
        for row in rows:
            slots = {cadence(row["id"], 60).slot_from(at_ms - 30_000) for at_ms in range(first_ms, last_ms + 1)}
            assert await score(redis, DUE, row["id"]) in slots
        # What goes missing later was checked meanwhile.
        await redis.delete(DUE)
        before_ms = await redis_now_ms(redis)
        await led.sweeper.sweep_once(led.term)
        assert all([await score(redis, DUE, row["id"]) >= before_ms for row in rows])


async def test_a_monitor_created_since_the_last_sweep_is_due_at_once(redis: Redis, any_db: Database) -> None:
    now = now_utc()
    old, new = monitor_row(interval=86_400), monitor_row(interval=86_400, created_at=now)
    await any_db.insert("monitors", old, new)
    async with leader(redis, any_db) as led:
        await led.sweeper.sweep_once(led.term)
        assert await score(redis, DUE, new["id"]) <= await redis_now_ms(redis) + 1
        assert await score(redis, DUE, old["id"]) == cadence(old["id"], 86_400).slot_from(
            int(await score(redis, DUE, old["id"]))
        )
        # Swept when it was new, and taken out by somebody since: it comes back at its slot.
        await redis.zrem(DUE, new["id"])
        led.sweeper._new_from = now + timedelta(seconds=1)
        await led.sweeper.sweep_once(led.term)
        due_ms = int(await score(redis, DUE, new["id"]))
        assert due_ms == cadence(new["id"], 86_400).slot_from(due_ms)


async def test_invariant_5_a_sweep_leaves_claimed_overdue_and_waiting_ones_alone(
    redis: Redis, any_db: Database
) -> None:
    claimed, overdue, waiting, far = (monitor_row(id=numbered_id(n)) for n in range(1, 5))
    await any_db.insert("monitors", claimed, overdue, waiting, far)
    now_ms = await redis_now_ms(redis)
    await redis.zadd(LEASE, {claimed["id"]: now_ms + 4000})
    await redis.zadd(DUE, {overdue["id"]: now_ms - 10**6, waiting["id"]: now_ms + 45_000, far["id"]: now_ms + 10**6})
    async with leader(redis, any_db) as led:
        swept = await led.sweeper.sweep_once(led.term)
    assert (swept.seen, swept.added, swept.moved, swept.removed) == (4, 0, 1, 0)
    assert await redis.zscore(LEASE, claimed["id"]) == now_ms + 4000
    assert await redis.zscore(DUE, overdue["id"]) == now_ms - 10**6
    assert await redis.zscore(DUE, waiting["id"]) == now_ms + 45_000
    assert await score(redis, DUE, far["id"]) < now_ms + 100_000


@pytest.mark.parametrize("mode", [ScheduleMode.SPREAD, ScheduleMode.ALIGNED])
async def test_a_sweep_takes_the_slots_that_the_setting_says(
    redis: Redis, empty_sqlite_db: SqliteDatabase, mode: ScheduleMode
) -> None:
    await empty_sqlite_db.insert("monitors", *(monitor_row(interval=3600) for _ in range(20)))
    async with leader(redis, empty_sqlite_db) as led:
        led.sync._node = replace(led.test.node, spacing=SpacingChoice(mode, led.test.node.log))
        await led.sweeper.sweep_once(led.term)
    for id_ in await scheduled_ids(redis):
        own = cadence(MonitorId(id_), 3600, Spacing(mode.value))
        assert (int(await score(redis, DUE, id_)) - own.phase_ms) % own.period_ms == 0


async def test_invariant_7_an_invalid_row_leaves_the_schedule_and_affects_no_other(
    redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    good = [monitor_row() for _ in range(3)]
    bad = [monitor_row(interval=0), monitor_row(interval=-1), monitor_row(interval="often")]
    await empty_sqlite_db.insert("monitors", *good, *bad)
    await redis.zadd(DUE, {row["id"]: FAR_MS for row in bad})
    async with leader(redis, empty_sqlite_db, replace(CALM, sweep_page=2)) as led:
        for number in range(3):
            swept = await led.sweeper.sweep_once(led.term)
            assert (swept.seen, swept.invalid, swept.removed) == (3, 3, 0 if number else 3)
        logged = [line["reasons"] for line in led.test.logged(INVALID)]
    assert await scheduled_ids(redis) == {row["id"] for row in good}
    assert sorted(id_ for reasons in logged for id_ in reasons) == sorted(row["id"] for row in bad), "each once"


# --- the sweep, out of the schedule


@pytest.mark.parametrize("page", [1, 3, 1000])
async def test_a_sweep_takes_out_what_the_database_does_not_know(redis: Redis, any_db: Database, page: int) -> None:
    active, claimed, inactive = monitor_row(), monitor_row(), monitor_row(active=False)
    await any_db.insert("monitors", active, claimed, inactive)
    unknown = [MonitorId(new_id()) for _ in range(12)]
    await redis.zadd(DUE, {inactive["id"]: FAR_MS, **dict.fromkeys(unknown[:8], FAR_MS)})
    await redis.zadd(LEASE, {claimed["id"]: FAR_MS, **dict.fromkeys(unknown[8:], FAR_MS)})
    for id_ in (unknown[0], unknown[-1], MonitorId(inactive["id"])):
        await put_pending(redis, id_)
    await put_pending(redis, MonitorId(active["id"]))
    async with leader(redis, any_db, replace(CALM, sweep_page=page)) as led:
        swept = await led.sweeper.sweep_once(led.term)
    assert (swept.seen, swept.added, swept.removed) == (2, 1, 13)
    assert await scheduled_ids(redis) == {active["id"], claimed["id"]}
    assert await redis.zscore(LEASE, claimed["id"]) == FAR_MS
    # Their pending tasks went too, and they are known to be gone.
    for id_ in (unknown[0], unknown[-1], MonitorId(inactive["id"])):
        assert await redis_state(redis, id_) == RedisState({}, [], None, None)
    assert (await redis_state(redis, MonitorId(active["id"]))).places == ["pending"]
    assert await redis.zcard(REMOVED) == 13


async def test_invalid_ids_leave_the_schedule_and_affect_no_other(
    redis: Redis, redis_server: RedisServer, any_sql_db: Database
) -> None:
    good = monitor_row(id="abcdefab-0000-4000-8000-000000000001")
    await any_sql_db.insert("monitors", good)
    nonsense = [b"", b"no-id", b"\xff\xfe", b"\x00", b"'; --", good["id"].upper().encode(), b"%s {}", b"x" * 5000]
    await redis.zadd(DUE, {**dict.fromkeys(nonsense[:4], FAR_MS), good["id"]: await redis_now_ms(redis) + 5000})
    await redis.zadd(LEASE, dict.fromkeys(nonsense[4:], FAR_MS))
    async with connected(redis_server.port) as client, leader(client, any_sql_db) as led:
        swept = await led.sweeper.sweep_once(led.term)
    assert swept.removed == len(nonsense)
    assert await scheduled_ids(redis) == {good["id"]}


async def test_invariant_6_a_failed_page_removes_nothing(redis: Redis, any_sql_db: Database) -> None:
    await any_sql_db.insert("monitors", *(monitor_row() for _ in range(3)))
    unknown = {new_id(): FAR_MS for _ in range(30)}
    await redis.zadd(DUE, unknown)
    async with leader(redis, any_sql_db, replace(CALM, sweep_page=5)) as led:
        async with asyncio.timeout(60):
            # Readable at first: it fails just when the schedule's own ids are asked for.
            async def lose(name: str, number: int) -> None:
                if (name, number) == ("active_of", 1):
                    await any_sql_db.execute("ALTER TABLE monitors RENAME TO monitors_elsewhere")

            led.catalog.before = lose
            with pytest.raises(Unavailable):
                await led.sweeper.sweep_once(led.term)
        assert await scheduled_ids(redis) >= unknown.keys()
        await any_sql_db.execute("ALTER TABLE monitors_elsewhere RENAME TO monitors")
        swept = await led.sweeper.sweep_once(led.term)
    assert swept.removed == 30
    assert len(await scheduled_ids(redis)) == 3


async def test_a_sweep_without_its_database_changes_nothing(redis: Redis, any_sql_db: Database) -> None:
    await any_sql_db.insert("monitors", *(monitor_row() for _ in range(3)))
    async with leader(redis, any_sql_db) as led:
        await led.sweeper.sweep_once(led.term)
        await redis.zadd(DUE, {new_id(): FAR_MS})
        before = await redis.zrange(DUE, 0, -1, withscores=True)
        async with monitors_unreadable(any_sql_db):
            with pytest.raises(Unavailable):
                await led.sweeper.sweep_once(led.term)
        assert await redis.zrange(DUE, 0, -1, withscores=True) == before


async def test_what_was_read_before_a_page_failed_stays(redis: Redis, empty_sqlite_db: SqliteDatabase) -> None:
    await empty_sqlite_db.insert("monitors", *(monitor_row(id=numbered_id(n)) for n in range(1, 7)))
    stray = new_id()
    await redis.zadd(DUE, {stray: FAR_MS})
    async with leader(redis, empty_sqlite_db, replace(CALM, sweep_page=2)) as led:

        async def lose(name: str, number: int) -> None:
            if (name, number) == ("active", 3):
                await empty_sqlite_db.execute("ALTER TABLE monitors RENAME TO monitors_elsewhere")

        led.catalog.before = lose
        with pytest.raises(Unavailable):
            await led.sweeper.sweep_once(led.term)
    assert await scheduled_ids(redis) == {stray, *(numbered_id(n) for n in range(1, 5))}


async def test_a_monitor_deleted_in_the_middle_of_a_sweep_does_not_come_back(redis: Redis, any_db: Database) -> None:
    rows = [monitor_row(id=numbered_id(n)) for n in range(1, 5)]
    await any_db.insert("monitors", *rows)
    async with leader(redis, any_db, replace(CALM, sweep_page=2)) as led:

        async def delete(name: str, number: int) -> None:
            if (name, number) == ("active", 1):
                await any_db.delete("monitors", rows[0]["id"])

        # Read, then deleted, then scheduled: the other half of the sweep finds it.
        led.catalog.after = delete
        await led.sweeper.sweep_once(led.term)
    assert await scheduled_ids(redis) == {row["id"] for row in rows[1:]}


# --- the end of a term


async def test_a_sweep_stops_at_its_next_page_when_the_term_is_over(
    redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    await empty_sqlite_db.insert("monitors", *(monitor_row(id=numbered_id(n)) for n in range(1, 9)))
    stray = new_id()
    await redis.zadd(DUE, {stray: FAR_MS})
    async with leader(redis, empty_sqlite_db, replace(CALM, sweep_page=2)) as led:

        async def end(name: str, number: int) -> None:
            if (name, number) == ("active", 2):
                led.term.ended.set()

        led.catalog.after = end
        await led.sweeper.sweep_once(led.term)
        assert led.catalog.readings == {"active": 2}
    # The second page is read while the first is scheduled.
    scheduled = {stray, numbered_id(1), numbered_id(2)}
    assert await scheduled_ids(redis) in (scheduled, scheduled | {numbered_id(3), numbered_id(4)})


async def test_a_sweep_of_a_node_that_leads_no_longer_writes_nothing(
    redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    await empty_sqlite_db.insert("monitors", *(monitor_row(id=numbered_id(n)) for n in range(1, 9)))
    async with leader(redis, empty_sqlite_db, replace(CALM, sweep_page=2)) as led:

        async def freeze(name: str, number: int) -> None:
            if (name, number) == ("active", 2):
                await redis.set(LEADER, "other-1-n0")

        led.catalog.after = freeze
        with pytest.raises(NotLeading):
            await led.sweeper.sweep_once(led.term)
        assert await scheduled_ids(redis) == {numbered_id(1), numbered_id(2)}
        before = await redis.zrange(DUE, 0, -1, withscores=True)
        ids = [MonitorId(numbered_id(1)), MonitorId(new_id())]
        for write in (
            lambda: led.sync.reconcile(led.term, ids, as_it_comes),
            lambda: led.sync.remove_unverified(led.term, ids),
            lambda: led.sync.remove_inactive(led.term, ids),
        ):
            with pytest.raises(NotLeading):
                await write()
        assert await redis.zrange(DUE, 0, -1, withscores=True) == before


# --- the duty of sweeping


async def test_the_duty_sweeps_at_once_and_whenever_it_is_asked_to(redis: Redis, any_db: Database) -> None:
    await any_db.insert("monitors", monitor_row())
    async with leader(redis, any_db) as led, led.elected(led.sweeper.duty()):
        line = await led.test.until_logged(SWEPT)
        figures = [line[name] for name in ("seen", "added", "moved", "removed", "relisted", "invalid")]
        assert figures == [1, 1, 0, 0, 0, 0]
        assert line["seconds"] >= 0
        swept = led.test.node.status.swept
        assert swept is not None
        await redis.delete(DUE)
        led.sweep_wanted.ring()
        await led.test.until_logged(SWEPT, 2)
        led.sweep_wanted.ring()
        await led.test.until_logged(NOTHING_SWEPT)
    assert len(await scheduled_ids(redis)) == 1


async def test_a_duty_whose_database_comes_back_sweeps_then(redis: Redis, any_sql_db: Database) -> None:
    await any_sql_db.insert("monitors", monitor_row())
    async with leader(redis, any_sql_db) as led:
        async with monitors_unreadable(any_sql_db):
            led.sweep_wanted.ring()
            election = led.elected(led.sweeper.duty())
            await election.__aenter__()
            await led.test.until_logged("database unavailable")
        try:
            await led.test.until_logged(SWEPT)
        finally:
            await election.__aexit__(None, None, None)
        assert led.test.logged("database recovered")
    assert len(await scheduled_ids(redis)) == 1


async def test_a_sweep_that_hung_with_the_database_does_not_delay_the_next(
    redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    row = monitor_row()
    await empty_sqlite_db.insert("monitors", row)
    timing = replace(CALM, sweep_every_s=0.05, share=100)
    async with leader(redis, empty_sqlite_db, timing) as led:
        led.catalog.before = partial(hang_once, led, "active")
        async with led.elected(led.sweeper.duty()):
            await led.test.until_logged("database recovered")
            await empty_sqlite_db.delete("monitors", row["id"])
            await until(partial(is_not_scheduled, redis, row["id"]))


async def test_a_sweep_that_waited_for_redis_does_not_delay_the_next(
    own_redis_server: RedisServer, empty_sqlite_db: SqliteDatabase
) -> None:
    """That costs the database nothing, so it is no reason to spare it."""
    row = monitor_row()
    await empty_sqlite_db.insert("monitors", row)
    timing = replace(CALM, sweep_every_s=20, share=100, redis_timeout_s=0.5)
    async with connected(own_redis_server.port) as redis, leader(redis, empty_sqlite_db, timing) as led:
        led.catalog.before = partial(pause_once, own_redis_server)
        async with led.elected(led.sweeper.duty()):
            await led.test.until_logged("redis unavailable")
            own_redis_server.resume()
            await until(partial(is_scheduled, redis, row["id"]), within_s=10)


async def pause_once(server: RedisServer, name: str, number: int) -> None:
    """Freeze Redis when the first page is read."""
    if name == "active" and number == 1:
        server.pause()


async def test_a_long_sweep_logs_its_progress(
    redis: Redis, empty_sqlite_db: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_module, "_REPORT_EVERY_S", 0)
    await empty_sqlite_db.insert("monitors", *(monitor_row() for _ in range(4)))
    async with leader(redis, empty_sqlite_db, replace(CALM, sweep_page=2)) as led:
        await led.sweeper.sweep_once(led.term)
        seen = [line["seen"] for line in led.test.logged("sweep in progress")]
    assert seen[:2] == [2, 4]
