"""Polls for changed rows bring the schedule up to date, whatever the writer's clock shows."""

import asyncio
from datetime import datetime, timedelta
from functools import partial

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from peekaping_producer.clock import now_utc
from peekaping_producer.demo.redis_server import RedisServer
from peekaping_producer.errors import Unavailable
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.redisdb.keys import DUE, LEASE
from support.asynq_states import RedisState, put_pending, redis_state, score
from support.catalogues import monitors_unreadable
from support.databases import Database, monitor_row
from support.leader_duties import CALM, HUNG_S, Leader, hang_once, leader
from support.nodes import connected
from support.redis_time import redis_now_ms
from support.schedule import is_not_scheduled, is_scheduled, scheduled_ids
from support.waiting import until

# --- changes


async def look(led: Leader) -> None:
    await led.changes.poll_once(led.term)


async def test_what_an_event_lost_is_found_by_its_time(redis: Redis, any_db: Database) -> None:
    deactivated, shorter, untouched = (monitor_row(interval=86_400) for _ in range(3))
    await any_db.insert("monitors", deactivated, shorter, untouched)
    async with leader(redis, any_db) as led:
        await led.sweeper.sweep_once(led.term)
        await put_pending(redis, MonitorId(deactivated["id"]))
        stays_ms = await score(redis, DUE, untouched["id"])
        await redis.zadd(DUE, {shorter["id"]: await redis_now_ms(redis) + 80_000_000})
        now = now_utc()
        created = monitor_row(interval=86_400, created_at=now, updated_at=now)
        await any_db.insert("monitors", created)
        await any_db.update("monitors", deactivated["id"], active=False, updated_at=now)
        await any_db.update("monitors", shorter["id"], interval=20, updated_at=now)
        await look(led)
        assert await redis_state(redis, MonitorId(deactivated["id"])) == RedisState({}, [], None, None)
        assert await score(redis, DUE, created["id"]) <= await redis_now_ms(redis) + 1
        assert await score(redis, DUE, shorter["id"]) < await redis_now_ms(redis) + 30_001
        assert await score(redis, DUE, untouched["id"]) == stays_ms


async def test_a_change_made_while_polls_failed_is_found_later(redis: Redis, any_db: Database) -> None:
    fresh, deactivated = monitor_row(updated_at=now_utc()), monitor_row()
    await any_db.insert("monitors", fresh, deactivated)
    async with leader(redis, any_db, replace(CALM, changes_overlap_s=0.1)) as led:
        await led.sweeper.sweep_once(led.term)
        await look(led)
        changed = now_utc()
        await any_db.update("monitors", deactivated["id"], active=False, updated_at=changed)

        async def refuse(_name: str, _number: int) -> None:
            raise Unavailable("database", "it is unavailable")

        let = led.catalog.before
        led.catalog.before = refuse
        while now_utc() < changed + timedelta(seconds=0.3):
            with pytest.raises(Unavailable):
                await look(led)
        led.catalog.before = let
        await look(led)
    assert await scheduled_ids(redis) == {fresh["id"]}


async def test_a_change_of_status_revokes_no_claim(redis: Redis, any_db: Database) -> None:
    """Each change of a monitor's status moves `updated_at`, and none of them is an edit."""
    row = monitor_row()
    await any_db.insert("monitors", row)
    await redis.zadd(DUE, {row["id"]: 1})
    async with leader(redis, any_db) as led:
        claim = await led.schedule.claim(1)
        await any_db.update("monitors", row["id"], status=0, updated_at=now_utc())
        await look(led)
        assert await redis.zscore(LEASE, row["id"]) == float(claim.token)


async def test_changes_are_read_page_by_page(redis: Redis, any_db: Database) -> None:
    now = now_utc()
    rows = [monitor_row(updated_at=now) for _ in range(7)]
    await any_db.insert("monitors", *rows, *(monitor_row() for _ in range(5)))
    async with leader(redis, any_db, replace(CALM, sweep_page=2)) as led:
        await look(led)
        assert led.catalog.readings["changed"] == 4
        assert led.catalog.most_ids <= 2
    assert await scheduled_ids(redis) == {row["id"] for row in rows}


@pytest.mark.parametrize("behind", [timedelta(hours=-1), timedelta(), timedelta(minutes=5), timedelta(hours=26)])
async def test_a_clock_of_the_database_s_that_is_behind_or_ahead_loses_no_change(
    redis: Redis, any_db: Database, behind: timedelta
) -> None:
    def by_its_clock() -> datetime:
        return now_utc() - behind

    row = monitor_row(created_at=by_its_clock(), updated_at=by_its_clock())
    await any_db.insert("monitors", row)
    async with leader(redis, any_db) as led:
        await led.sweeper.sweep_once(led.term)
        await look(led)
        await any_db.update("monitors", row["id"], active=False, updated_at=by_its_clock())
        await look(led)
        assert await scheduled_ids(redis) == set()


async def test_a_database_that_has_not_changed_for_long_is_not_read_again(redis: Redis, any_db: Database) -> None:
    old, new = monitor_row(), monitor_row()
    await any_db.insert("monitors", old, new)
    async with leader(redis, any_db) as led:
        await led.sweeper.sweep_once(led.term)
        await any_db.update("monitors", new["id"], updated_at=now_utc())
        await look(led)
        # From here on the clocks are known to agree: the old one is not read again.
        await redis.delete(DUE)
        await look(led)
    assert await scheduled_ids(redis) == {new["id"]}


async def test_changes_are_polled_again_and_again(redis: Redis, any_sql_db: Database) -> None:
    row = monitor_row()
    await any_sql_db.insert("monitors", row)
    timing = replace(CALM, changes_every_s=0.05, share=0)
    async with leader(redis, any_sql_db, timing) as led, led.elected(led.changes.duty()):
        for active in (True, False, True):
            await any_sql_db.update("monitors", row["id"], active=active, updated_at=now_utc())
            await until(partial(is_scheduled if active else is_not_scheduled, redis, row["id"]))
        async with monitors_unreadable(any_sql_db):
            await led.test.until_logged("database unavailable")
            assert await scheduled_ids(redis) == {row["id"]}
        await any_sql_db.update("monitors", row["id"], active=False, updated_at=now_utc())
        await until(lambda: is_not_scheduled(redis, row["id"]))


async def test_a_poll_that_hung_with_the_database_does_not_delay_the_next(
    redis: Redis, empty_sqlite_db: Database
) -> None:
    row = monitor_row(updated_at=now_utc())
    await empty_sqlite_db.insert("monitors", row)
    timing = replace(CALM, changes_every_s=0.05, share=100)
    async with leader(redis, empty_sqlite_db, timing) as led, led.elected(led.changes.duty()):
        led.catalog.before = partial(hang_once, led, "changed")
        await until(partial(is_scheduled, redis, row["id"]))
        await led.test.until_logged("database recovered")
        await empty_sqlite_db.update("monitors", row["id"], active=False, updated_at=now_utc())
        await until(partial(is_not_scheduled, redis, row["id"]))


@pytest.mark.long
async def test_one_poll_that_took_long_does_not_delay_the_next(redis: Redis, empty_sqlite_db: Database) -> None:
    """As on a machine that stalls. Only a database that takes long again and again is spared."""
    row = monitor_row(updated_at=now_utc())
    await empty_sqlite_db.insert("monitors", row)

    async def stall(name: str, number: int) -> None:
        if name == "active_of" and number == 3:
            await empty_sqlite_db.update("monitors", row["id"], active=False, updated_at=now_utc())
            await asyncio.sleep(HUNG_S)

    timing = replace(CALM, changes_every_s=0.05, share=100)
    async with leader(redis, empty_sqlite_db, timing) as led, led.elected(led.changes.duty()):
        led.catalog.after = stall
        await until(partial(is_scheduled, redis, row["id"]))
        await until(partial(is_not_scheduled, redis, row["id"]))


async def test_a_poll_that_waited_for_redis_does_not_delay_the_next(
    own_redis_server: RedisServer, empty_sqlite_db: Database
) -> None:
    """That costs the database nothing, so it is no reason to spare it."""
    row = monitor_row(updated_at=now_utc())
    await empty_sqlite_db.insert("monitors", row)
    timing = replace(CALM, changes_every_s=0.05, share=100, redis_timeout_s=0.5)
    async with (
        connected(own_redis_server.port) as redis,
        leader(redis, empty_sqlite_db, timing) as led,
        led.elected(led.changes.duty()),
    ):
        await until(partial(is_scheduled, redis, row["id"]))
        own_redis_server.pause()
        await empty_sqlite_db.update("monitors", row["id"], active=False, updated_at=now_utc())
        await led.test.until_logged("redis unavailable")
        own_redis_server.resume()
        await until(partial(is_not_scheduled, redis, row["id"]), within_s=10)
