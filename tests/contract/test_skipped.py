"""The list of monitors that are skipped as invalid: every node adds to it, and the leader takes out who is fixed."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from redis.asyncio import Redis

from peekaping_producer.fleet.heartbeat import presence_loop
from peekaping_producer.fleet.invalid_monitors import MOST_SKIPPED, Skipped
from peekaping_producer.fleet.registry import Registry
from peekaping_producer.leader.invalid_watch import SkippedWatch
from peekaping_producer.timing import Timing
from support.catalogues import opened
from support.databases import Database, SqliteDatabase, link_row, maintenance_row, monitor_row, new_id
from support.nodes import TestNode, a_term, running, until_async

NO_INTERVAL = "interval is 0 s: must be at least 1 s"
UTC = ZoneInfo("UTC")
TIMING = Timing(presence_every_s=0.02, skipped_every_s=0.02, redis_timeout_s=10)


class BrokenZone(ZoneInfo):
    """A time zone whose file is broken in a way no one has thought of."""

    def utcoffset(self, _when: datetime | None) -> Any:
        raise RuntimeError("broken zone")


@pytest.fixture
def skipped(redis: Redis) -> Skipped:
    return Skipped(redis, TIMING)


async def test_the_list_holds_the_newest_reason_of_each(skipped: Skipped) -> None:
    assert (await skipped.all(), await skipped.count()) == ({}, 0)
    await skipped.note({"a": "one", "b": "two", "\udcff": "three\ud800"})
    await skipped.note({"b": "four"})
    await skipped.note({})
    assert await skipped.all() == {"a": "one", "b": "four", "\udcff": "three?"}
    await skipped.forget(["a", "never listed"])
    await skipped.forget([])
    assert await skipped.count() == 2


async def test_the_list_is_bounded(skipped: Skipped) -> None:
    for start in range(0, 3 * MOST_SKIPPED, 700):
        await skipped.note({str(number): "wrong" for number in range(start, start + 700)})
    assert await skipped.count() == MOST_SKIPPED


async def test_what_a_node_skips_is_listed(redis: Redis, skipped: Skipped) -> None:
    test = TestNode(TIMING)
    async with running(presence_loop(test.node, Registry(redis, TIMING), skipped, 1)):
        test.node.presence.skipped({"a": "one"})
        await until_async(lambda: _is(skipped, {"a": "one"}))
        test.node.presence.skipped({str(number): "wrong" for number in range(3 * MOST_SKIPPED)})
        await until_async(lambda: _counts(skipped, MOST_SKIPPED))
    assert len(test.node.presence.take_skipped()) == 0


async def _is(skipped: Skipped, listed: dict[str, str]) -> bool:
    return await skipped.all() == listed


async def _counts(skipped: Skipped, count: int) -> bool:
    return await skipped.count() == count


async def test_who_is_fixed_inactive_or_deleted_leaves_the_list(skipped: Skipped, any_db: Database) -> None:
    fixed, inactive, still, other = (
        monitor_row(),
        monitor_row(active=False, interval=0),
        monitor_row(interval=0),
        new_id(),
    )
    await any_db.insert("monitors", fixed, inactive, still)
    await skipped.note({row["id"]: "timeout is wrong" for row in (fixed, inactive, still)} | {other: "wrong"})
    async with opened(any_db) as catalog:
        await SkippedWatch(TestNode(TIMING).node, skipped, catalog, UTC).check()
    assert await skipped.all() == {still["id"]: NO_INTERVAL}


async def test_what_only_a_check_reads_is_read_again_too(skipped: Skipped, empty_sqlite_db: SqliteDatabase) -> None:
    rows = [monitor_row(timeout=2**40) for _ in range(450)]
    await empty_sqlite_db.insert("monitors", *rows)
    await skipped.note({row["id"]: "wrong" for row in rows})
    async with opened(empty_sqlite_db) as catalog:
        watch = SkippedWatch(TestNode(TIMING).node, skipped, catalog, UTC)
        await watch.check()
        reason = "timeout is 1099511627776 s: must be at most 2147483647 s"
        assert await skipped.all() == {row["id"]: reason for row in rows}
        await empty_sqlite_db.execute("UPDATE monitors SET timeout = 16")
        await watch.check()
    assert await skipped.count() == 0


async def test_who_can_not_be_planned_stays_on_the_list(skipped: Skipped, empty_sqlite_db: SqliteDatabase) -> None:
    """Its row is valid, but an exception that nobody foresaw skips it at every claim."""
    row = monitor_row()
    maintenance = maintenance_row(
        strategy="single",
        start_date_time="2026-01-01T00:00",
        end_date_time="2026-01-02T00:00",
        timezone="SAME_AS_SERVER",
    )
    await empty_sqlite_db.insert("monitors", row)
    await empty_sqlite_db.insert("maintenances", maintenance)
    await empty_sqlite_db.insert("monitor_maintenances", link_row(row["id"], maintenance["id"]))
    await skipped.note({row["id"]: "unforeseen"})
    async with opened(empty_sqlite_db) as catalog:
        await SkippedWatch(TestNode(TIMING).node, skipped, catalog, BrokenZone("UTC")).check()
        assert (await skipped.all())[row["id"]].startswith("unforeseen RuntimeError")
        await SkippedWatch(TestNode(TIMING).node, skipped, catalog, UTC).check()
    assert await skipped.count() == 0


async def test_an_id_that_is_none_stays_while_sweeps_see_it(skipped: Skipped, empty_sqlite_db: SqliteDatabase) -> None:
    await skipped.note({"stray": "id is not a UUID in lower case", "other": "likewise"})
    test = TestNode(TIMING)
    async with opened(empty_sqlite_db) as catalog:
        watch = SkippedWatch(test.node, skipped, catalog, UTC)
        await watch.check()
        assert await skipped.count() == 2
        test.node.presence.strays = {"stray"}
        await watch.check()
    assert list(await skipped.all()) == ["stray"]


async def test_the_duty_checks_again_and_again(skipped: Skipped, empty_sqlite_db: SqliteDatabase) -> None:
    row = monitor_row(interval=0)
    await empty_sqlite_db.insert("monitors", row)
    test = TestNode(TIMING)
    async with (
        opened(empty_sqlite_db) as catalog,
        running(SkippedWatch(test.node, skipped, catalog, UTC).duty(a_term())),
    ):
        await skipped.note({row["id"]: "wrong"})
        await until_async(lambda: _is(skipped, {row["id"]: NO_INTERVAL}))
        await empty_sqlite_db.update("monitors", row["id"], interval=60)
        await until_async(lambda: _is(skipped, {}))
