"""Pages of active monitors, on every kind of database."""

from datetime import UTC, datetime, timedelta

import pytest

from peekaping_producer.catalog.reading import Changes, Page
from peekaping_producer.model.monitor import MonitorId, Schedulable
from support.catalogues import all_pages, many, opened
from support.databases import CREATED_AT, Database, SqliteDatabase, monitor_row, new_id, numbered_id, stored


@pytest.mark.parametrize("limit", [1, 2, 7, 9, 10, 11, 1000])
async def test_pages_have_every_active_monitor_once_and_in_order(any_db: Database, limit: int) -> None:
    rows = [monitor_row(interval=20 + n) for n in range(10)]
    await any_db.insert("monitors", *rows, *(monitor_row(active=False) for _ in range(5)))

    async with opened(any_db) as catalog:
        monitors, invalid = await all_pages(catalog, limit)

    expected = sorted(rows, key=lambda row: str(row["id"]))
    at = stored(any_db, CREATED_AT)
    assert monitors == [Schedulable(MonitorId(row["id"]), row["interval"], at, at) for row in expected]
    assert invalid == {}


async def test_a_page_that_is_not_full_is_the_last(any_db: Database) -> None:
    await any_db.insert("monitors", *(monitor_row(id=numbered_id(n)) for n in (1, 2, 3)))

    async with opened(any_db) as catalog:
        full, rest = await catalog.active(None, 2), await catalog.active(MonitorId(numbered_id(2)), 2)

    assert ([one.id for one in full.monitors], full.next_after) == ([numbered_id(1), numbered_id(2)], numbered_id(2))
    assert ([one.id for one in rest.monitors], rest.next_after) == ([numbered_id(3)], None)


async def test_without_monitors_there_is_one_empty_page(any_db: Database) -> None:
    async with opened(any_db) as catalog:
        page = await catalog.active(None, 10)

    assert (page.monitors, page.invalid, page.next_after) == ((), {}, None)


async def test_a_page_begins_after_an_id_that_is_gone(any_db: Database) -> None:
    await any_db.insert("monitors", *(monitor_row(id=numbered_id(n)) for n in (1, 3)))

    async with opened(any_db) as catalog:
        page = await catalog.active(MonitorId(numbered_id(2)), 10)

    assert [one.id for one in page.monitors] == [numbered_id(3)]


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_an_invalid_interval_is_reported_on_its_page(any_db: Database, limit: int) -> None:
    good = [monitor_row() for _ in range(4)]
    bad = [monitor_row(interval=0), monitor_row(interval=-5)]
    await any_db.insert("monitors", *good, *bad)

    async with opened(any_db) as catalog:
        monitors, invalid = await all_pages(catalog, limit)

    assert {one.id for one in monitors} == {row["id"] for row in good}
    assert invalid.keys() == {row["id"] for row in bad}


async def test_monitors_added_while_paging_don_t_disturb_it(any_db: Database) -> None:
    await any_db.insert("monitors", *(monitor_row(id=numbered_id(n)) for n in range(10, 20)))

    async with opened(any_db) as catalog:
        first = await catalog.active(None, 5)
        await any_db.insert("monitors", monitor_row(id=numbered_id(1)), monitor_row(id=numbered_id(99)))
        second = await catalog.active(first.next_after, 100)

    assert [one.id for one in second.monitors] == [*(numbered_id(n) for n in range(15, 20)), numbered_id(99)]


async def test_many_monitors_are_paged_through(any_db: Database) -> None:
    rows = [monitor_row(id=numbered_id(n)) for n in range(1, many(any_db) + 1)]
    await any_db.insert("monitors", *rows)

    async with opened(any_db) as catalog:
        monitors, _ = await all_pages(catalog, len(rows) // 10)

    assert [one.id for one in monitors] == [row["id"] for row in rows]


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("'2026-01-02 03:04:05'", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("'2026-01-02 03:04:05.5+00:00'", datetime(2026, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC)),
        ("'2026-01-02 05:04:05+02:00'", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("'nonsense'", None),
        ("5", None),
        ("x'ff'", None),
    ],
)
async def test_a_creation_time_of_any_form_makes_no_monitor_invalid(
    empty_sqlite_db: SqliteDatabase, stored: str, read: datetime | None
) -> None:
    await empty_sqlite_db.insert("monitors", monitor_row())
    await empty_sqlite_db.execute(f"UPDATE monitors SET created_at = {stored}")

    async with opened(empty_sqlite_db) as catalog:
        (monitor,), invalid = await all_pages(catalog, 10)

    assert (monitor.created_at, invalid) == (read, {})


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize("bad_id", ["'no-uuid'", "5", "NULL", "x'00ff'", "cast(x'ff' AS TEXT)", "''", "2.5"])
async def test_an_invalid_id_never_ends_the_paging(empty_sqlite_db: SqliteDatabase, bad_id: str, limit: int) -> None:
    good, bad = [monitor_row() for _ in range(4)], monitor_row(id=new_id())
    await empty_sqlite_db.insert("monitors", *good, bad)
    await empty_sqlite_db.execute(f"UPDATE monitors SET id = {bad_id} WHERE id = '{bad['id']}'")

    async with opened(empty_sqlite_db) as catalog:
        monitors, invalid = await all_pages(catalog, limit)

    assert {one.id for one in monitors} == {row["id"] for row in good}
    assert list(invalid.values()) == ["id is not a UUID in lower case"]


async def test_the_active_among_some_ids(any_db: Database) -> None:
    active, inactive = monitor_row(), monitor_row(active=False)
    await any_db.insert("monitors", active, inactive)
    ids = [MonitorId(id_) for id_ in (active["id"], inactive["id"], new_id(), "no id", active["id"].upper())]
    async with opened(any_db) as catalog:
        page = await catalog.active_of(ids)
        assert await catalog.active_of([]) == Page((), {}, None)
    at = stored(any_db, CREATED_AT)
    assert page == Page((Schedulable(MonitorId(active["id"]), 60, at, at),), {}, None)


async def test_changes_since_an_instant_page_by_page(any_db: Database) -> None:
    since = stored(any_db, CREATED_AT)
    times = [since + timedelta(microseconds=100_000 * number) for number in range(6)]
    changed = [
        monitor_row(id=numbered_id(number), updated_at=time, active=number % 2 == 0)
        for number, time in enumerate(times)
    ]
    earlier = monitor_row(id=numbered_id(99), updated_at=since - timedelta(seconds=1))
    await any_db.insert("monitors", *changed, earlier)
    async with opened(any_db) as catalog:
        first = await catalog.changed(since, None, 4)
        second = await catalog.changed(since, first.next_after, 4)
    assert first.next_after is not None
    assert first == Changes(tuple(MonitorId(numbered_id(n)) for n in range(4)), times[3], first.next_after)
    assert second == Changes((MonitorId(numbered_id(4)), MonitorId(numbered_id(5))), times[5], None)
