"""Batches when the database fails: answered from the cache at once, while a probe finds out when it works again."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from peekaping_producer.catalog.catalog import Catalog
from peekaping_producer.catalog.last_known import MB, LastKnown
from peekaping_producer.catalog.reading import Reading
from peekaping_producer.dispatch.source import Source
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.observe.tally import Totals
from peekaping_producer.timing import Timing
from support.catalogues import locked_out, opened, sync_engine
from support.databases import (
    Database,
    MongoDatabase,
    PostgresDatabase,
    SqliteDatabase,
    monitor_row,
    new_id,
    numbered_id,
)
from support.nodes import TestNode
from support.waiting import until

DEADLINE_S = 1.0
UNAVAILABLE = "database unavailable"
BACK = "database recovered"


class Watched(TestNode):
    """A node with a source whose probe runs, and what it logged and counted."""

    __test__ = False

    def __init__(self, catalog: Catalog, cache_bytes: int, timing: Timing) -> None:
        super().__init__(timing)
        self.catalog = catalog
        self.cache = LastKnown(cache_bytes)
        self.source = Source(self.node, catalog, self.cache)

    async def read(self, *ids: str) -> Reading:
        return await self.source.read([MonitorId(id_) for id_ in ids], time.monotonic() + DEADLINE_S)

    def totals(self) -> Totals:
        return self.node.tally.take()

    async def until_back(self) -> None:
        await until(lambda: not self.source.serving_from_cache, "the database is used again")


@asynccontextmanager
async def watched(database: Database, *, copy_bytes: int = MB, **timing: Any) -> AsyncIterator[Watched]:
    """Run a source on a database, with its probe, for the duration of the block."""
    durations = Timing(lease_ms=int(DEADLINE_S * 2000), retry_first_s=0.02, probe_cap_s=0.05, **timing)
    async with opened(database, timeout_s=DEADLINE_S) as catalog, asyncio.TaskGroup() as loops:
        node = Watched(catalog, copy_bytes, durations)
        loops.create_task(node.source.probe_loop())
        try:
            yield node
        finally:
            node.stop.set()


async def test_a_stopped_database_is_answered_for_until_it_is_back(
    own_server_db: PostgresDatabase | MongoDatabase,
) -> None:
    known, push, never_read = monitor_row(), monitor_row(type="push"), monitor_row()
    await own_server_db.insert("monitors", known, push, never_read)
    async with watched(own_server_db) as node:
        fresh = await node.read(known["id"], push["id"])
        assert not fresh.from_cache
        own_server_db.server.stop()
        for _ in range(3):
            answer = await node.read(known["id"], push["id"], never_read["id"])
            assert answer.from_cache
            assert answer.found == {known["id"]: fresh.found[known["id"]]}
            assert answer.deferred == {push["id"]: Outcome.DEFERRED_PUSH, never_read["id"]: Outcome.DEFERRED_NOT_CACHED}
        own_server_db.server.restart()
        await own_server_db.update("monitors", known["id"], name="Edited meanwhile")
        await node.until_back()
        answer = await node.read(known["id"], push["id"], never_read["id"])

    assert not answer.from_cache
    assert answer.found[known["id"]].monitor.name == "Edited meanwhile"
    assert answer.found.keys() == {known["id"], push["id"], never_read["id"]}
    assert len(node.logged(UNAVAILABLE)) == 1
    (back,) = node.logged(BACK)
    assert back["checks_from_cache"] == 3
    assert node.totals().checks == {"from_cache": 3}


async def test_a_frozen_database_is_waited_for_once(own_server_db: PostgresDatabase | MongoDatabase) -> None:
    row = monitor_row()
    await own_server_db.insert("monitors", row)
    async with watched(own_server_db) as node:
        await node.read(row["id"])
        own_server_db.server.pause()
        try:
            began_s = time.monotonic()
            for _ in range(100):
                assert (await node.read(row["id"])).from_cache
            took_s = time.monotonic() - began_s
        finally:
            own_server_db.server.resume()
        await node.until_back()
        assert not (await node.read(row["id"])).from_cache
    assert took_s < 10 * DEADLINE_S
    assert len(node.logged(UNAVAILABLE)) == len(node.logged(BACK)) == 1


async def test_batches_in_flight_when_it_freezes_wait_no_longer_than_the_deadline(
    own_server_db: PostgresDatabase | MongoDatabase,
) -> None:
    row = monitor_row()
    await own_server_db.insert("monitors", row)
    async with watched(own_server_db) as node:
        await node.read(row["id"])
        own_server_db.server.pause()
        try:
            began_s = time.monotonic()
            answers = await asyncio.gather(*(node.read(row["id"]) for _ in range(10)))
            took_s = time.monotonic() - began_s
        finally:
            own_server_db.server.resume()
        await node.until_back()
    assert all(answer.from_cache and answer.found for answer in answers)
    assert took_s < 5 * DEADLINE_S
    assert len(node.logged(UNAVAILABLE)) == 1


async def test_a_slow_statement_is_answered_for_and_nothing_stays_open(postgres_db: PostgresDatabase) -> None:
    (id_, *_) = await postgres_db.ids("active AND type = 'http'")
    async with watched(postgres_db) as node:
        await node.read(id_)
        async with locked_out(postgres_db, "monitors"):
            assert (await node.read(id_)).from_cache
        await node.until_back()
        assert not (await node.read(id_)).from_cache


async def test_a_batch_that_always_fails_keeps_nothing_open(empty_postgres_db: PostgresDatabase) -> None:
    sound, poison = monitor_row(), monitor_row(id=numbered_id(1))
    await empty_postgres_db.insert("monitors", sound, poison)
    async with watched(empty_postgres_db) as node:
        await node.read(sound["id"], poison["id"])
        # Reading this one monitor raises an error in the server.
        columns = "id, name, type, timeout, max_retries, retry_interval, resend_interval, active, config, proxy_id"
        await empty_postgres_db.execute(
            "ALTER TABLE monitors RENAME TO all_monitors; CREATE VIEW monitors AS"
            f" SELECT {columns}, interval / (id <> '{poison['id']}')::int AS interval FROM all_monitors"
        )
        for _ in range(3):
            answer = await node.read(poison["id"])
            assert answer.from_cache
            assert answer.found.keys() == {poison["id"]}
            assert (await node.read(sound["id"])).found.keys() == {sound["id"]}
            await node.until_back()
            assert not (await node.read(sound["id"])).from_cache


async def test_an_sqlite_file_locked_by_another(empty_sqlite_db: SqliteDatabase) -> None:
    row = monitor_row()
    await empty_sqlite_db.insert("monitors", row)
    with empty_sqlite_db.connected() as holder:
        holder.execute("PRAGMA journal_mode = DELETE")
    async with watched(empty_sqlite_db) as node:
        await node.read(row["id"])
        with empty_sqlite_db.connected() as holder:
            holder.execute("BEGIN EXCLUSIVE")
            began_s = time.monotonic()
            for _ in range(100):
                assert (await node.read(row["id"])).found
            took_s = time.monotonic() - began_s
            holder.execute("ROLLBACK")
        await node.until_back()
        assert not (await node.read(row["id"])).from_cache
    assert took_s < 10 * DEADLINE_S


async def test_an_sqlite_file_that_cannot_be_opened(empty_sqlite_db: SqliteDatabase) -> None:
    row = monitor_row()
    await empty_sqlite_db.insert("monitors", row)
    elsewhere = empty_sqlite_db.path.with_suffix(".elsewhere")
    async with watched(empty_sqlite_db) as node:
        await node.read(row["id"])
        sync_engine(node.catalog).dispose()
        empty_sqlite_db.path.rename(elsewhere)
        for _ in range(3):
            assert (await node.read(row["id"])).from_cache
        elsewhere.rename(empty_sqlite_db.path)
        await node.until_back()
        assert not (await node.read(row["id"])).from_cache


async def test_ids_that_no_database_is_asked_for_say_nothing_of_it(own_db: PostgresDatabase) -> None:
    row, nonsense = monitor_row(), MonitorId("nonsense")
    await own_db.insert("monitors", row)
    async with watched(own_db) as node:
        await node.read(row["id"])
        own_db.server.stop()
        await node.read(row["id"])
        for _ in range(50):
            assert (await node.read(nonsense)).deferred == {nonsense: Outcome.DEFERRED_NOT_CACHED}
            await asyncio.sleep(0.01)
        assert node.source.serving_from_cache
        assert node.logged(BACK) == []


async def test_a_removed_monitor_is_deferred_not_checked(own_db: PostgresDatabase) -> None:
    row = monitor_row()
    await own_db.insert("monitors", row)
    async with watched(own_db) as node:
        await node.read(row["id"])
        node.cache.forget([MonitorId(row["id"])], time.monotonic())
        own_db.server.stop()
        assert (await node.read(row["id"])).deferred == {row["id"]: Outcome.DEFERRED_NOT_CACHED}


async def test_reads_under_way_when_the_first_one_fails_are_answered_at_once(own_db: PostgresDatabase) -> None:
    """Their claims are old by then, and a node with a healthy database may wait for them."""
    row = monitor_row()
    await own_db.insert("monitors", row)
    async with watched(own_db) as node:
        await node.read(row["id"])
        own_db.server.pause()
        try:
            ends_s = time.monotonic() + 1
            first = node.source.read([MonitorId(row["id"])], ends_s)
            others = [node.source.read([MonitorId(row["id"])], ends_s + 3600) for _ in range(2)]
            answers = await asyncio.wait_for(asyncio.gather(first, *others), 30)
        finally:
            own_db.server.resume()
        await node.until_back()
    assert all(answer.from_cache and answer.found for answer in answers)


async def test_a_breaker_that_no_batch_has_opened_is_closed_by_the_probe(own_db: PostgresDatabase) -> None:
    async with watched(own_db) as node:
        own_db.server.stop()
        node.source.open_breaker()
        assert node.source.serving_from_cache
        node.source.open_breaker()
        own_db.server.restart()
        await node.until_back()
    assert len(node.logged(UNAVAILABLE)) == len(node.logged(BACK)) == 1


@pytest.mark.parametrize("how", ["deleted", "deactivated"])
async def test_what_a_reading_found_gone_before_the_outage_is_not_checked_in_it(
    own_db: PostgresDatabase, how: str
) -> None:
    row = monitor_row()
    await own_db.insert("monitors", row)
    async with watched(own_db) as node:
        await node.read(row["id"])
        if how == "deleted":
            await own_db.delete("monitors", row["id"])
        else:
            await own_db.update("monitors", row["id"], active=False)
        await node.read(row["id"])
        own_db.server.stop()
        assert (await node.read(row["id"])).found == {}


async def test_without_a_cache_every_monitor_is_deferred_and_the_breaker_works_alike(own_db: PostgresDatabase) -> None:
    row = monitor_row()
    await own_db.insert("monitors", row)
    async with watched(own_db, copy_bytes=0) as node:
        await node.read(row["id"])
        own_db.server.stop()
        for _ in range(3):
            assert (await node.read(row["id"])).deferred == {row["id"]: Outcome.DEFERRED_NOT_CACHED}
        own_db.server.restart()
        await node.until_back()
        assert (await node.read(row["id"])).found
    (back,) = node.logged(BACK)
    assert back["checks_from_cache"] == 0
    assert node.totals().cache_age_s is None


async def test_what_the_leader_can_read_closes_no_breaker(postgres_db: PostgresDatabase) -> None:
    """A table locked by another fails batches, and no sweep."""
    (id_, *_) = await postgres_db.ids("active AND type = 'http'")
    async with watched(postgres_db) as node:
        await node.read(id_)
        async with locked_out(postgres_db, "proxies"):
            assert (await node.read(id_)).from_cache
            for _ in range(3):
                assert (await node.catalog.active(None, 1_000)).monitors
                node.source._node.database_outage.user().recovered()
                assert (await node.read(id_)).from_cache
        await node.until_back()
    assert len(node.logged(UNAVAILABLE)) == len(node.logged(BACK)) == 1


async def test_a_batch_whose_time_is_over_says_nothing_of_the_database(postgres_db: PostgresDatabase) -> None:
    """It is this process that stood still."""
    (id_, *_) = await postgres_db.ids("active AND type = 'http'")
    async with watched(postgres_db) as node:
        await node.read(id_)
        assert (await node.source.read([MonitorId(id_)], time.monotonic() - 1)).found.keys() == {id_}
        assert not node.source.serving_from_cache
    assert node.logged(UNAVAILABLE) == []


async def test_the_end_of_the_process_ends_the_probe(own_db: PostgresDatabase) -> None:
    async with watched(own_db) as node:
        own_db.server.stop()
        await node.read(new_id())
        assert node.source.serving_from_cache
        node.stop.set()
    assert node.logged(BACK) == []
