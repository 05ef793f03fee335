"""Reads of whole tables hold up neither events nor batches, and are read on from where they failed.

Invariant 10 (the later reading wins), though readings overlap.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis
from sqlalchemy import text

from peekaping_producer.catalog.catalog import Catalog, open_catalog
from peekaping_producer.catalog.sql import SqlCatalog
from peekaping_producer.clock import now_utc
from peekaping_producer.errors import Unavailable
from peekaping_producer.leader import sync as sync_module
from peekaping_producer.leader.sync import Arrival
from peekaping_producer.model.monitor import MonitorId, Schedulable
from peekaping_producer.redisdb.keys import DUE
from support.databases import Database, SqliteDatabase, monitor_row, new_id, numbered_id
from support.leader_duties import CALM, Leader, leader
from support.schedule import scheduled_ids

FAR_MS = 10**13
LASTS_S = 30
SLEEP = {"postgres": f"SELECT pg_sleep({LASTS_S})", "mysql": f"SELECT SLEEP({LASTS_S})"}
COUNT = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
"""Endless."""
MANY = 4_000_000
COUNT_MANY = COUNT.replace("FROM n)", f"FROM n LIMIT {MANY})")
"""Takes seconds."""


def edited(_monitor: Schedulable) -> Arrival:
    return Arrival(at_once=True, edited=True)


class Held:
    """Holds up a reading that has read its rows, until it is released."""

    def __init__(self, led: Leader, name: str) -> None:
        self._name = name
        self.read = asyncio.Event()
        self.let_go = asyncio.Event()
        led.catalog.after = self._hold

    async def _hold(self, name: str, number: int) -> None:
        if (name, number) == (self._name, 1):
            self.read.set()
            await self.let_go.wait()


@asynccontextmanager
async def busy_with_a_table(catalog: Catalog, database: Database) -> AsyncIterator[None]:
    """Keep the connection for whole tables busy, for the duration of the block."""
    assert isinstance(catalog, SqlCatalog)
    statement = text(SLEEP.get(database.kind, COUNT))
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work(connection: object) -> None:
        loop.call_soon_threadsafe(began.set)
        connection.execute(statement)  # type: ignore[attr-defined]

    scan = asyncio.create_task(catalog._scan(work))
    await began.wait()
    yield
    assert not scan.done()
    scan.cancel()
    await asyncio.wait({scan})


# --- what waits for what


async def test_neither_a_batch_nor_an_urgent_read_waits_for_a_whole_table(any_sql_db: Database) -> None:
    row = monitor_row()
    await any_sql_db.insert("monitors", row)
    ids = [MonitorId(row["id"])]
    catalog = open_catalog(any_sql_db.settings(), connections=1, timeout_s=LASTS_S, scan_timeout_s=LASTS_S)
    try:
        async with busy_with_a_table(catalog, any_sql_db):
            assert (await catalog.read(ids)).found.keys() == set(ids)
            assert [one.id for one in (await catalog.active_of(ids, urgent=True)).monitors] == ids
    finally:
        await catalog.close()


async def test_a_whole_table_may_take_longer_than_a_batch(any_sql_db: Database) -> None:
    """The server has the longer limit too: its own would end the statement."""
    long = text({"postgres": "SELECT pg_sleep(1)", "mysql": "SELECT SLEEP(1)"}.get(any_sql_db.kind, COUNT_MANY))
    catalog = open_catalog(any_sql_db.settings(), connections=1, timeout_s=0.3, scan_timeout_s=LASTS_S)
    assert isinstance(catalog, SqlCatalog)
    try:
        assert await catalog._scan(lambda connection: connection.execute(long).scalar_one()) in {None, 0, MANY}
        with pytest.raises(Unavailable):
            await catalog._do(catalog._urgent, lambda connection: connection.execute(long).all(), 0.3)
    finally:
        await catalog.close()


@pytest.mark.parametrize("held_up", ["active", "changed"])
async def test_an_event_is_acted_on_while_a_whole_table_is_read(redis: Redis, any_db: Database, held_up: str) -> None:
    row = monitor_row(updated_at=now_utc())
    await any_db.insert("monitors", row)
    async with leader(redis, any_db) as led:
        held = Held(led, held_up)
        reading = led.sweeper.sweep_once(led.term) if held_up == "active" else led.changes.poll_once(led.term)
        task = asyncio.create_task(reading)
        await held.read.wait()
        created = monitor_row()
        await any_db.insert("monitors", created)
        await led.sync.reconcile(led.term, [MonitorId(created["id"])], edited)
        assert created["id"] in await scheduled_ids(redis)
        assert not task.done()
        held.let_go.set()
        await task


# --- the later reading wins


@pytest.mark.parametrize("through", ["a page", "changes"])
async def test_invariant_10_a_monitor_removed_while_it_is_read_does_not_come_back(
    redis: Redis, any_db: Database, through: str
) -> None:
    goes, stays = (monitor_row(updated_at=now_utc()) for _ in range(2))
    await any_db.insert("monitors", goes, stays)
    async with leader(redis, any_db) as led:
        held = Held(led, "active" if through == "a page" else "active_of")
        reading = led.sweeper.sweep_once(led.term) if through == "a page" else led.changes.poll_once(led.term)
        task = asyncio.create_task(reading)
        await held.read.wait()
        await any_db.update("monitors", goes["id"], active=False)
        await led.sync.reconcile(led.term, [MonitorId(goes["id"])], edited)
        held.let_go.set()
        # The second half of a sweep would find it, and is not needed.
        led.catalog.after = _end_after_pages(led)
        await task
    assert await scheduled_ids(redis) == {stays["id"]}


def _end_after_pages(led: Leader):  # type: ignore[no-untyped-def]  # noqa: ANN202
    async def end(name: str, number: int) -> None:
        if (name, number) == ("active_of", 2):
            led.term.ended.set()

    return end


async def test_a_monitor_added_while_it_is_found_gone_stays(redis: Redis, any_db: Database) -> None:
    row = monitor_row(active=False)
    await any_db.insert("monitors", row)
    await redis.zadd(DUE, {row["id"]: FAR_MS})
    async with leader(redis, any_db) as led:
        held = Held(led, "active_of")
        task = asyncio.create_task(led.sync.remove_inactive(led.term, [MonitorId(row["id"])]))
        await held.read.wait()
        await any_db.update("monitors", row["id"], active=True)
        await led.sync.reconcile(led.term, [MonitorId(row["id"])], edited)
        held.let_go.set()
        assert await task == 0
    assert await scheduled_ids(redis) == {row["id"]}


async def test_arrivals_beyond_the_memory_bound_are_read_again(
    redis: Redis, empty_sqlite_db: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_module, "_MOST_ACTED_ON", 2)
    rows = [monitor_row() for _ in range(5)]
    await empty_sqlite_db.insert("monitors", *rows)
    async with leader(redis, empty_sqlite_db) as led:
        held = Held(led, "active")
        task = asyncio.create_task(led.sync.schedule_page(led.term, None, edited))
        await held.read.wait()
        for row in rows[:3]:
            await empty_sqlite_db.delete("monitors", row["id"])
        await led.sync.reconcile(led.term, [MonitorId(row["id"]) for row in rows[:3]], edited)
        held.let_go.set()
        await task
    assert await scheduled_ids(redis) == {row["id"] for row in rows[3:]}


# --- failures


class Failing:
    """Lets readings fail, each after some time, and notes when each began."""

    def __init__(self, led: Leader, name: str, numbers: range, cost_s: float) -> None:
        self._name, self._numbers, self._cost_s = name, numbers, cost_s
        self.began_s: list[float] = []
        led.catalog.before = self._fail

    async def _fail(self, name: str, number: int) -> None:
        if name == self._name:
            self.began_s.append(time.monotonic())
            if number in self._numbers:
                await asyncio.sleep(self._cost_s)
                raise Unavailable("database", "as the test says")

    @property
    def pauses_s(self) -> list[float]:
        """The times from the end of each failure to the next reading."""
        return [after - before - self._cost_s for before, after in zip(self.began_s, self.began_s[1:], strict=False)]


async def test_a_page_that_failed_is_read_again_and_none_before_it(redis: Redis, any_db: Database) -> None:
    await any_db.insert("monitors", *(monitor_row(id=numbered_id(n)) for n in range(1, 7)))
    async with leader(redis, any_db, replace(CALM, sweep_page=2)) as led:
        failing = Failing(led, "active", range(3, 5), 0)
        async with led.elected(led.sweeper.duty()):
            await led.test.until_logged("sweep finished")
    assert len(failing.began_s) == 4 + 2, "two of the four pages were read thrice"
    assert len(await scheduled_ids(redis)) == 6


async def test_a_failure_while_removing_does_not_restart_the_pages(redis: Redis, any_db: Database) -> None:
    await any_db.insert("monitors", monitor_row())
    await redis.zadd(DUE, {new_id(): FAR_MS})
    async with leader(redis, any_db) as led:
        Failing(led, "active_of", range(1, 3), 0)
        async with led.elected(led.sweeper.duty()):
            line = await led.test.until_logged("sweep finished")
        assert led.catalog.readings["active"] == 1
        assert line["removed"] == 1


async def test_a_new_term_starts_a_sweep_over(redis: Redis, empty_sqlite_db: SqliteDatabase) -> None:
    await empty_sqlite_db.insert("monitors", *(monitor_row(id=numbered_id(n)) for n in range(1, 7)))
    async with leader(redis, empty_sqlite_db, replace(CALM, sweep_page=2)) as led:
        Failing(led, "active", range(3, 4), 0)
        with pytest.raises(Unavailable):
            await led.sweeper.sweep_once(led.term)
        async with led.elected(led.sweeper.duty()):
            line = await led.test.until_logged("sweep finished")
    assert line["seen"] == 6


async def test_a_failed_poll_continues_at_its_page(redis: Redis, any_db: Database) -> None:
    now = now_utc()
    await any_db.insert("monitors", *(monitor_row(updated_at=now) for _ in range(5)))
    since: list[datetime] = []
    async with leader(redis, any_db, replace(CALM, sweep_page=2)) as led:
        failing = Failing(led, "changed", range(2, 4), 0)
        for _ in range(2):
            with pytest.raises(Unavailable):
                await led.changes.poll_once(led.term)
            assert led.changes._poll is not None
            since.append(led.changes._poll.since)
        await led.changes.poll_once(led.term)
    assert len(failing.began_s) == 3 + 2
    assert since[0] == since[1]
    assert len(await scheduled_ids(redis)) == 5


async def test_failing_polls_are_as_far_apart_as_successful_ones(redis: Redis, empty_sqlite_db: SqliteDatabase) -> None:
    cost_s, share = 0.1, 5
    async with leader(redis, empty_sqlite_db, replace(CALM, changes_every_s=0.01, share=share)) as led:
        failing = Failing(led, "changed", range(1, 4), cost_s)
        async with led.elected(led.changes.duty()):
            await led.test.until_logged("database recovered")
    assert min(failing.pauses_s[:3]) >= cost_s * share


async def test_a_poll_that_failed_in_an_outage_is_repeated_soon_after_its_end(
    redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    """Even if its share of the time would make it wait longer: until then the outage is not over."""
    unavailable = Unavailable("database", "as in the test")
    async with leader(redis, empty_sqlite_db, replace(CALM, changes_every_s=0.01, share=100_000)) as led:
        checks = led.test.node.database_outage.user()
        checks.failed(unavailable)
        failing = Failing(led, "changed", range(1, 2), 0.1)
        async with led.elected(led.changes.duty()):
            while not failing.began_s:
                await asyncio.sleep(0.01)
            checks.recovered()
            await led.test.until_logged("database recovered")


async def test_a_page_that_keeps_failing_is_not_read_without_a_pause(
    redis: Redis, empty_sqlite_db: SqliteDatabase
) -> None:
    cost_s, share = 0.1, 5
    await empty_sqlite_db.insert("monitors", monitor_row())
    async with leader(redis, empty_sqlite_db, replace(CALM, share=share)) as led:
        failing = Failing(led, "active", range(1, 4), cost_s)
        async with led.elected(led.sweeper.duty()):
            await led.test.until_logged("sweep finished")
    assert min(failing.pauses_s[:3]) >= cost_s * share / 2
