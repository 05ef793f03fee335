"""The names on the page: from the cache, or read from the database, with only a short wait for its answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from peekaping_producer.catalog.last_known import LastKnown
from peekaping_producer.errors import Unavailable
from peekaping_producer.node.stop import Stop
from peekaping_producer.timing import Timing
from peekaping_producer.web import lookups
from peekaping_producer.web.lookups import Lookups, MonitorNames
from support.databases import SqliteDatabase, monitor_row
from support.nodes import TestNode
from support.waiting import until


@asynccontextmanager
async def reading(database: SqliteDatabase, node: TestNode) -> AsyncIterator[MonitorNames]:
    """Read names for the duration of the block."""
    stop, cache = Stop(), LastKnown(0)
    source = Lookups(node.node, database.settings(), cache)
    names = MonitorNames(source, cache, stop.bell())
    async with asyncio.TaskGroup() as loops:
        loops.create_task(names.loop(stop))
        loops.create_task(source.loop(stop))
        try:
            yield names
        finally:
            stop.set()


@pytest.fixture
def node() -> TestNode:
    """Return a node whose database has answered."""
    test = TestNode(Timing())
    test.node.database_outage.answered()
    return test


async def test_an_answer_that_came_late_ends_no_later_wait(
    empty_sqlite_db: SqliteDatabase, node: TestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "_NAMES_EVERY_S", 0)
    rows = [monitor_row(name=name) for name in ("One", "Two", "Three")]
    await empty_sqlite_db.insert("monitors", *rows)
    one, two, three = (row["id"] for row in rows)
    async with reading(empty_sqlite_db, node) as names:
        monkeypatch.setattr(lookups, "_NAMES_WAIT_S", 0)
        assert await names.of([one]) == {}

        async def known() -> bool:
            return await names.of([one]) == {one: "One"}

        await until(known, "the name is read meanwhile")
        monkeypatch.setattr(lookups, "_NAMES_WAIT_S", 30)
        assert await names.of([one, two]) == {one: "One", two: "Two"}
        assert await names.of([three]) == {three: "Three"}


async def test_a_monitor_without_a_row_has_no_name_and_is_not_read_again_at_once(
    empty_sqlite_db: SqliteDatabase, node: TestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "_NAMES_WAIT_S", 30)
    async with reading(empty_sqlite_db, node) as names:
        unknown = monitor_row()["id"]
        assert await names.of([unknown, "no id"]) == {}
        node.node.database_outage.failed(Unavailable("database", "down"), node.node.database_outage.user())
        assert await names.of([unknown]) == {}
        assert names.problem is None


async def test_a_database_that_is_unavailable_is_not_waited_for_twice(
    empty_sqlite_db: SqliteDatabase, node: TestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "_NAMES_EVERY_S", 0)
    monkeypatch.setattr(lookups, "_NAMES_WAIT_S", 30)
    row = monitor_row(name="One")
    await empty_sqlite_db.insert("monitors", row)
    user = node.node.database_outage.user()
    user.failed(Unavailable("database", "down"))
    async with reading(empty_sqlite_db, node) as names:
        assert await names.of([row["id"]]) == {}
        assert names.problem == "database: down"
        user.recovered()

        async def known() -> bool:
            return await names.of([row["id"]]) == {row["id"]: "One"}

        await until(known, "the name is read after the outage")
        assert names.problem is None
