"""The list of monitors that are skipped as invalid: every node adds to it, and the leader takes out who is fixed."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from redis.asyncio import Redis

from peekaping_producer.fleet.heartbeat import heartbeat_loop
from peekaping_producer.fleet.invalid_monitors import MOST_LISTED, InvalidMonitors
from peekaping_producer.fleet.registry import Registry
from peekaping_producer.leader.invalid_watch import InvalidWatch
from peekaping_producer.timing import Timing
from support.catalogues import opened
from support.databases import Database, SqliteDatabase, link_row, maintenance_row, monitor_row, new_id
from support.nodes import TestNode, a_term, running
from support.waiting import until

NO_INTERVAL = "interval is 0 s: must be at least 1 s"
UTC = ZoneInfo("UTC")
TIMING = Timing(heartbeat_every_s=0.02, invalid_every_s=0.02, redis_timeout_s=10)


class BrokenZone(ZoneInfo):
    """A time zone whose file is broken in a way no one has thought of."""

    def utcoffset(self, _when: datetime | None) -> Any:
        raise RuntimeError("broken zone")


@pytest.fixture
def invalid(redis: Redis) -> InvalidMonitors:
    return InvalidMonitors(redis, TIMING)


async def test_the_list_holds_the_newest_reason_of_each(invalid: InvalidMonitors) -> None:
    assert (await invalid.all(), await invalid.count()) == ({}, 0)
    await invalid.note({"a": "one", "b": "two", "\udcff": "three\ud800"})
    await invalid.note({"b": "four"})
    await invalid.note({})
    assert await invalid.all() == {"a": "one", "b": "four", "\udcff": "three?"}
    await invalid.forget(["a", "never listed"])
    await invalid.forget([])
    assert await invalid.count() == 2


async def test_the_list_is_bounded(invalid: InvalidMonitors) -> None:
    for start in range(0, 3 * MOST_LISTED, 700):
        await invalid.note({str(number): "wrong" for number in range(start, start + 700)})
    assert await invalid.count() == MOST_LISTED


async def test_what_a_node_skips_is_listed(redis: Redis, invalid: InvalidMonitors) -> None:
    test = TestNode(TIMING)
    async with running(heartbeat_loop(test.node, Registry(redis, TIMING), invalid, 1)):
        test.node.status.note_invalid({"a": "one"})
        await until(lambda: _is(invalid, {"a": "one"}))
        test.node.status.note_invalid({str(number): "wrong" for number in range(3 * MOST_LISTED)})
        await until(lambda: _counts(invalid, MOST_LISTED))
    assert len(test.node.status.take_invalid()) == 0


async def _is(invalid: InvalidMonitors, listed: dict[str, str]) -> bool:
    return await invalid.all() == listed


async def _counts(invalid: InvalidMonitors, count: int) -> bool:
    return await invalid.count() == count


async def test_who_is_fixed_inactive_or_deleted_leaves_the_list(invalid: InvalidMonitors, any_db: Database) -> None:
    fixed, inactive, still, other = (
        monitor_row(),
        monitor_row(active=False, interval=0),
        monitor_row(interval=0),
        new_id(),
    )
    await any_db.insert("monitors", fixed, inactive, still)
    await invalid.note({row["id"]: "timeout is wrong" for row in (fixed, inactive, still)} | {other: "wrong"})
    async with opened(any_db) as catalog:
        await InvalidWatch(TestNode(TIMING).node, invalid, catalog, UTC).check()
    assert await invalid.all() == {still["id"]: NO_INTERVAL}


async def test_what_only_a_check_reads_is_read_again_too(
    invalid: InvalidMonitors, empty_sqlite_db: SqliteDatabase
) -> None:
    rows = [monitor_row(timeout=2**40) for _ in range(450)]
    await empty_sqlite_db.insert("monitors", *rows)
    await invalid.note({row["id"]: "wrong" for row in rows})
    async with opened(empty_sqlite_db) as catalog:
        watch = InvalidWatch(TestNode(TIMING).node, invalid, catalog, UTC)
        await watch.check()
        reason = "timeout is 1099511627776 s: must be at most 2147483647 s"
        assert await invalid.all() == {row["id"]: reason for row in rows}
        await empty_sqlite_db.execute("UPDATE monitors SET timeout = 16")
        await watch.check()
    assert await invalid.count() == 0


async def test_who_can_not_be_planned_stays_on_the_list(
    invalid: InvalidMonitors, empty_sqlite_db: SqliteDatabase
) -> None:
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
    await invalid.note({row["id"]: "unexpected"})
    async with opened(empty_sqlite_db) as catalog:
        await InvalidWatch(TestNode(TIMING).node, invalid, catalog, BrokenZone("UTC")).check()
        assert (await invalid.all())[row["id"]].startswith("unexpected RuntimeError")
        await InvalidWatch(TestNode(TIMING).node, invalid, catalog, UTC).check()
    assert await invalid.count() == 0


async def test_an_invalid_id_stays_listed_while_sweeps_find_it(
    invalid: InvalidMonitors, empty_sqlite_db: SqliteDatabase
) -> None:
    await invalid.note({"stray": "id is not a UUID in lower case", "other": "likewise"})
    test = TestNode(TIMING)
    async with opened(empty_sqlite_db) as catalog:
        watch = InvalidWatch(test.node, invalid, catalog, UTC)
        await watch.check()
        assert await invalid.count() == 2
        test.node.status.invalid_ids = {"stray"}
        await watch.check()
    assert list(await invalid.all()) == ["stray"]


async def test_the_duty_checks_again_and_again(invalid: InvalidMonitors, empty_sqlite_db: SqliteDatabase) -> None:
    row = monitor_row(interval=0)
    await empty_sqlite_db.insert("monitors", row)
    test = TestNode(TIMING)
    async with (
        opened(empty_sqlite_db) as catalog,
        running(InvalidWatch(test.node, invalid, catalog, UTC).run(a_term())),
    ):
        await invalid.note({row["id"]: "wrong"})
        await until(lambda: _is(invalid, {row["id"]: NO_INTERVAL}))
        await empty_sqlite_db.update("monitors", row["id"], interval=60)
        await until(lambda: _is(invalid, {}))
