"""PRODUCER_RETRY_INTERVAL: a pending monitor is checked every `retry_interval`, on every kind of database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from peekaping_producer.asynq.keys import PENDING as PENDING_LIST
from peekaping_producer.asynq.keys import TASK
from peekaping_producer.clock import now_utc
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.dispatch.plan import plan
from peekaping_producer.errors import Unavailable
from peekaping_producer.leader.event_message import STATUS_CHANGED
from peekaping_producer.leader.status_events import StatusReader
from peekaping_producer.model.cadence import Cadence, Spacing, cadence
from peekaping_producer.model.monitor import MonitorId, Retry
from peekaping_producer.redisdb.keys import DUE, LEASE
from peekaping_producer.timing import Timing
from support.api_events import publish_status, publish_updated
from support.asynq_states import redis_state, score
from support.catalogues import opened
from support.databases import Database, Row, SqliteDatabase, monitor_row
from support.leader_duties import CALM, Leader, leader
from support.producer import producing
from support.redis_time import redis_now_ms
from support.schedule import scheduled_ids
from support.waiting import until

INTERVAL_S, RETRY_S = 3600, 50
DOWN, UP, PENDING, MAINTENANCE = range(4)
HANDLED = "events handled"


def on(database: Database) -> Any:
    return database.settings(producer_retry_interval="on")


def a_row(**values: object) -> Row:
    """Return a row whose own slots are far from now, so that no retry slot near now is one of them."""
    while True:
        row = monitor_row(interval=INTERVAL_S, retry_interval=RETRY_S, **values)
        now_ms = int(now_utc().timestamp() * 1000)
        if grids(row)[0].slot_from(now_ms) - now_ms > 10 * RETRY_S * 1000:
            return row


def grids(row: Row) -> tuple[Cadence, Cadence]:
    """Return a monitor's own grid, and the one while it is retried."""
    own = cadence(row["id"], INTERVAL_S)
    return own, own.retrying(RETRY_S)


async def assert_next(redis: Redis, row: Row, grid: Cadence, from_ms: int) -> None:
    """Assert that a monitor is due at the first slot of a grid that is half a period after some instant till now."""
    slots = {grid.next_slot(at_ms) for at_ms in range(from_ms, await redis_now_ms(redis) + 1)}
    assert await score(redis, DUE, row["id"]) in slots


async def put_far(redis: Redis, row: Row) -> int:
    """Make a monitor due at its own slot, later than 1.5 retry intervals from now; return that."""
    due_ms = grids(row)[0].slot_from(await redis_now_ms(redis) + 2 * RETRY_S * 1000)
    await redis.zadd(DUE, {row["id"]: due_ms})
    return due_ms


async def put_on_retry_slot(redis: Redis, row: Row) -> int:
    """Make a monitor due at a slot of its retry grid that is not its own; return that."""
    due_ms = grids(row)[1].next_slot(await redis_now_ms(redis))
    await redis.zadd(DUE, {row["id"]: due_ms})
    return due_ms


@asynccontextmanager
async def listening(led: Leader) -> AsyncIterator[None]:
    """Lead with the duties that hear of edits and of changes of status."""
    status = StatusReader(led.test.node, led.redis, led.sync)
    async with led.elected(*status.duties(), *led.events.duties()):

        async def subscribed() -> bool:
            return [count for _, count in await led.redis.pubsub_numsub(STATUS_CHANGED)] == [1]

        await until(subscribed)
        yield


async def status_changed(led: Leader, row: Row, status: int, reads: int = 1) -> None:
    """Publish a change of status, and wait until it has been acted on."""
    before = len(led.test.logged(HANDLED))
    assert await publish_status(led.redis, row["id"], status) == 1
    await led.test.until_logged(HANDLED, before + reads)


# --- the leader


async def test_the_first_failure_makes_the_next_check_due_at_a_retry_slot(redis: Redis, any_db: Database) -> None:
    row = a_row()
    await any_db.insert("monitors", row)
    async with leader(redis, on(any_db)) as led, listening(led):
        await put_far(redis, row)
        from_ms = await redis_now_ms(redis)
        await status_changed(led, row, PENDING)  # before its row says so
        await assert_next(redis, row, grids(row)[1], from_ms)


async def test_a_later_read_takes_the_status_from_the_row(redis: Redis, any_db: Database) -> None:
    row = a_row(status=UP)
    await any_db.insert("monitors", row)
    async with leader(redis, on(any_db), replace(CALM, reread_after_s=(0.1,))) as led, listening(led):
        await put_far(redis, row)
        from_ms = await redis_now_ms(redis)
        await status_changed(led, row, PENDING, reads=2)
        await assert_next(redis, row, grids(row)[0], from_ms)


@pytest.mark.parametrize("found_by", ["poll", "sweep"])
async def test_a_failure_whose_event_was_lost_is_found_in_the_row(
    redis: Redis, any_db: Database, found_by: str
) -> None:
    row = a_row()
    await any_db.insert("monitors", row)
    async with leader(redis, on(any_db)) as led:
        await put_far(redis, row)
        from_ms = await redis_now_ms(redis)
        if found_by == "poll":
            await any_db.update("monitors", row["id"], status=PENDING, updated_at=now_utc())
            await led.changes.poll_once(led.term)
        else:  # as MongoDB's, whose `updated_at` stays
            await any_db.update("monitors", row["id"], status=PENDING)
            await led.sweeper.sweep_once(led.term)
        await assert_next(redis, row, grids(row)[1], from_ms)


@pytest.mark.parametrize("status", [UP, DOWN, MAINTENANCE])
async def test_the_first_check_that_is_up_or_down_puts_it_back_on_its_grid(
    redis: Redis, any_db: Database, status: int
) -> None:
    row = a_row(status=PENDING)
    await any_db.insert("monitors", row)
    async with leader(redis, on(any_db)) as led, listening(led):
        await put_on_retry_slot(redis, row)
        from_ms = await redis_now_ms(redis)
        await status_changed(led, row, status)
        await assert_next(redis, row, grids(row)[0], from_ms)


async def test_a_recovery_whose_event_was_lost_is_found_in_the_row(redis: Redis, any_db: Database) -> None:
    row = a_row(status=UP, updated_at=now_utc())
    await any_db.insert("monitors", row)
    async with leader(redis, on(any_db)) as led:
        for read in (led.changes.poll_once, led.sweeper.sweep_once):
            await put_on_retry_slot(redis, row)
            from_ms = await redis_now_ms(redis)
            await read(led.term)
            await assert_next(redis, row, grids(row)[0], from_ms)


async def test_invariant_5_all_reads_leave_a_retried_monitor_alone(redis: Redis, any_db: Database) -> None:
    row = a_row(status=PENDING, updated_at=now_utc())
    await any_db.insert("monitors", row)
    async with leader(redis, on(any_db)) as led, listening(led):
        due_ms = await put_on_retry_slot(redis, row)
        await led.sweeper.sweep_once(led.term)
        await led.changes.poll_once(led.term)
        await status_changed(led, row, PENDING)
        assert await score(redis, DUE, row["id"]) == due_ms


@pytest.mark.parametrize("status", [PENDING, UP])
async def test_a_change_of_status_is_no_edit_and_revokes_no_claim(redis: Redis, any_db: Database, status: int) -> None:
    row = a_row()
    await any_db.insert("monitors", row)
    await redis.zadd(DUE, {row["id"]: 1})
    async with leader(redis, on(any_db), replace(CALM, reread_after_s=(0.1,))) as led, listening(led):
        claim = await led.schedule.claim(1)

        async def write(name: str, number: int) -> None:
            if (name, number) == ("active_of", 1):
                await any_db.update("monitors", row["id"], status=status, updated_at=now_utc())

        led.catalog.after = write
        await status_changed(led, row, status, reads=2)
        assert await redis.zscore(LEASE, row["id"]) == float(claim.token)


async def test_an_edit_while_it_is_retried_takes_effect_and_keeps_it_on_the_retry_grid(
    redis: Redis, any_db: Database
) -> None:
    row = a_row(status=PENDING)
    await any_db.insert("monitors", row)
    async with leader(redis, on(any_db)) as led, listening(led):
        due_ms = await put_on_retry_slot(redis, row)
        await any_db.update("monitors", row["id"], name="Another", updated_at=now_utc())
        assert await publish_updated(redis, row) == 1
        await led.test.until_logged(HANDLED)
        assert await score(redis, DUE, row["id"]) == due_ms
        await any_db.update("monitors", row["id"], retry_interval=7, updated_at=now_utc())
        from_ms = await redis_now_ms(redis)
        assert await publish_updated(redis, row) == 1
        await led.test.until_logged(HANDLED, 2)
        await assert_next(redis, row, grids(row)[0].retrying(7), from_ms)
        await any_db.update("monitors", row["id"], active=False)
        assert await publish_updated(redis, row | {"active": False}) == 1
        await led.test.until_logged(HANDLED, 3)
    assert await scheduled_ids(redis) == set()


@pytest.mark.parametrize("retry_s", [INTERVAL_S, INTERVAL_S + 1, 0, -20])
async def test_a_retry_interval_that_is_not_shorter_is_ignored(redis: Redis, any_db: Database, retry_s: int) -> None:
    row = a_row(status=PENDING) | {"retry_interval": retry_s}
    await any_db.insert("monitors", row)
    async with leader(redis, on(any_db)) as led, listening(led):
        due_ms = await put_far(redis, row)
        await led.sweeper.sweep_once(led.term)
        await status_changed(led, row, PENDING)
        assert await score(redis, DUE, row["id"]) == due_ms
        assert (await led.catalog.read([row["id"]])).retries == {}


async def test_without_the_setting_nothing_is_retried(redis: Redis, any_db: Database) -> None:
    row = a_row(status=PENDING, updated_at=now_utc())
    await any_db.insert("monitors", row)
    async with leader(redis, any_db) as led:
        due_ms = await put_far(redis, row)
        await led.sweeper.sweep_once(led.term)
        await led.changes.poll_once(led.term)
        assert await score(redis, DUE, row["id"]) == due_ms
        retry_slot_ms = await put_on_retry_slot(redis, row)
        await led.sweeper.sweep_once(led.term)
        assert await score(redis, DUE, row["id"]) == retry_slot_ms
        assert (await led.catalog.read([row["id"]])).retries == {}


# --- the path of one check


@pytest.mark.parametrize("status", [PENDING, UP, DOWN])
async def test_the_slot_after_a_check_is_on_the_grid_of_its_status(redis: Redis, any_db: Database, status: int) -> None:
    row = a_row(status=status)
    await any_db.insert("monitors", row)
    await redis.zadd(DUE, {row["id"]: 1})
    async with leader(redis, on(any_db)) as led:
        claim = await led.schedule.claim(1)
        reading = await led.catalog.read([row["id"]])
        planned = plan(claim, reading, ZoneInfo("UTC"), Spacing.SPREAD, release_ms=1)
        from_ms = await redis_now_ms(redis)
        await led.schedule.settle(claim, planned.orders)
        await assert_next(redis, row, grids(row)[status == PENDING], from_ms)
        assert reading.retries == {row["id"]: Retry(RETRY_S, status == PENDING)}


async def test_a_go_node_is_recognised_by_a_multiple_of_the_interval_only(redis: Redis, any_db: Database) -> None:
    row = a_row(status=PENDING)
    await any_db.insert("monitors", row)
    async with leader(redis, on(any_db)) as led:
        reading = await led.catalog.read([row["id"]])
        for due_ms, seen in ((RETRY_S * 1000, 0), (INTERVAL_S * 1000, 1)):
            await redis.zadd(DUE, {row["id"]: due_ms})
            claim = await led.schedule.claim(1)
            planned = plan(claim, reading, ZoneInfo("UTC"), Spacing.SPREAD, release_ms=1)
            assert planned.go_slots == seen
            await redis.delete(LEASE)


async def test_a_producer_retries_a_pending_monitor_until_it_is_up(
    redis: Redis, redis_server: RedisServer, empty_sqlite_db: SqliteDatabase
) -> None:
    row = a_row() | {"retry_interval": 1}
    await empty_sqlite_db.insert("monitors", row)
    settings = empty_sqlite_db.settings(redis_host=HOST, redis_port=redis_server.port, producer_retry_interval="on")
    own = grids(row)[0]

    async def is_due_at_its_own_slot() -> bool:
        due_ms = await redis.zscore(DUE, row["id"])
        return due_ms is not None and own.slot_from(int(due_ms)) == due_ms

    async def has_task() -> bool:
        return bool((await redis_state(redis, MonitorId(row["id"]))).task)

    async with producing(settings, Timing()) as producer:
        await producer.until_logged("sweep finished")
        assert await is_due_at_its_own_slot()
        await empty_sqlite_db.update("monitors", row["id"], status=PENDING)
        await until(lambda: publish_status(redis, row["id"], PENDING), "the leader listens")
        for _ in range(3):
            await until(has_task, "it is checked")
            await redis.delete(PENDING_LIST, f"{TASK}healthcheck:{row['id']}")
        await empty_sqlite_db.update("monitors", row["id"], status=UP)
        assert await publish_status(redis, row["id"], UP) == 1
        await until(is_due_at_its_own_slot)
    assert producer.logged("summary")[-1].get("missed", 0) == 0


# --- the column


async def test_the_status_is_read_only_with_the_setting(empty_sqlite_db: SqliteDatabase) -> None:
    await empty_sqlite_db.insert("monitors", a_row())
    await empty_sqlite_db.execute("ALTER TABLE monitors RENAME COLUMN status TO another")
    async with opened(empty_sqlite_db) as catalog:
        await catalog.check()
        assert len((await catalog.active(None, 10)).monitors) == 1
    async with opened(on(empty_sqlite_db)) as catalog:
        with pytest.raises(Unavailable, match=r"column monitors\.status"):
            await catalog.check()


@pytest.mark.parametrize("value", ["'soon'", "20.5", "NULL", "x'00'"])
async def test_a_retry_interval_of_another_type_is_ignored(empty_sqlite_db: SqliteDatabase, value: str) -> None:
    row = a_row(status=PENDING)
    await empty_sqlite_db.insert("monitors", row)
    await empty_sqlite_db.execute("ALTER TABLE monitors RENAME COLUMN retry_interval TO another")
    await empty_sqlite_db.execute(f"ALTER TABLE monitors ADD COLUMN retry_interval DEFAULT {value}")
    async with opened(on(empty_sqlite_db)) as catalog:
        page = await catalog.active(None, 10)
    assert ([one.id for one in page.monitors], page.retries) == ([row["id"]], {})
