"""An invalid row is reported with a reason, and affects only itself.

SQLite accepts any value in any column, so these tests use it.
"""

import pytest

from peekaping_producer.model.monitor import MonitorId
from support.catalogues import opened
from support.databases import (
    CREATED_AT,
    Database,
    MySqlDatabase,
    PostgresDatabase,
    SqliteDatabase,
    heartbeat_row,
    link_row,
    maintenance_row,
    monitor_row,
    proxy_row,
)

SECRET = "s3cr3t-never-shown"
CONFIG = f'{{"password": "{SECRET}"}}'
NOT_UTF8 = "cast(x'41ff42' AS TEXT)"
INTEGERS = ("interval", "timeout", "max_retries", "retry_interval", "resend_interval")


async def set_raw(database: SqliteDatabase, table: str, id_: str, column: str, sql_value: str) -> None:
    """Store a value given as an SQL literal, whatever the column's type."""
    await database.execute(f"""UPDATE {table} SET "{column}" = {sql_value} WHERE id = '{id_}'""")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *((column, value) for column in INTEGERS for value in ("'abc'", "20.5", "1 << 40", "x'00'", "''", "9e99")),
        ("interval", "0"),
        ("interval", "-1"),
        ("interval", "-(1 << 31)"),
        ("interval", "1 << 31"),
        ("timeout", "-(1 << 31) - 1"),
        ("active", "2"),
        ("active", "'yes'"),
        ("active", "0.5"),
        ("name", NOT_UTF8),
        ("name", "x'4142'"),
        ("type", NOT_UTF8),
        ("type", "x'4142'"),
        ("config", NOT_UTF8),
        ("config", "x'ff'"),
        ("proxy_id", "5"),
        ("proxy_id", "x'ff'"),
        ("proxy_id", NOT_UTF8),
    ],
)
async def test_an_invalid_monitor_affects_only_itself(empty_sqlite_db: SqliteDatabase, column: str, value: str) -> None:
    good, bad = monitor_row(type="push"), monitor_row(config=CONFIG)
    await empty_sqlite_db.insert("monitors", good, bad)
    await set_raw(empty_sqlite_db, "monitors", bad["id"], column, value)

    async with opened(empty_sqlite_db) as catalog:
        reading = await catalog.read([bad["id"], good["id"]])

    assert list(reading.found) == [good["id"]]
    (reason,) = reading.invalid.values()
    assert list(reading.invalid) == [bad["id"]]
    assert column in reason
    assert SECRET not in reason


@pytest.mark.parametrize("value", ["0", "-5", "-2147483648"])
async def test_an_interval_that_is_not_positive_is_invalid(any_db: Database, value: str) -> None:
    good, bad = monitor_row(), monitor_row(interval=int(value), config=CONFIG)
    await any_db.insert("monitors", good, bad)

    async with opened(any_db) as catalog:
        reading = await catalog.read([bad["id"], good["id"]])

    assert (list(reading.found), list(reading.invalid)) == ([good["id"]], [bad["id"]])
    assert "interval" in reading.invalid[bad["id"]]
    assert SECRET not in reading.invalid[bad["id"]]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("port", "'abc'"),
        ("port", "80.5"),
        ("port", "1 << 40"),
        ("auth", "2"),
        ("auth", "'maybe'"),
        ("host", NOT_UTF8),
        ("host", "x'00'"),
        ("protocol", "x'00'"),
        ("username", "x'00'"),
        ("username", NOT_UTF8),
        ("password", "cast(x'73336372337f2d6e657665722d73686f776eff' AS TEXT)"),
        ("password", "x'00'"),
    ],
)
async def test_an_invalid_proxy_makes_the_monitors_behind_it_invalid(
    empty_sqlite_db: SqliteDatabase, column: str, value: str
) -> None:
    bad, good = proxy_row(username="user", password=SECRET), proxy_row(host="good")
    behind_bad, behind_good, direct = (monitor_row(proxy_id=id_) for id_ in (bad["id"], good["id"], None))
    await empty_sqlite_db.insert("proxies", bad, good)
    await empty_sqlite_db.insert("monitors", behind_bad, behind_good, direct)
    await set_raw(empty_sqlite_db, "proxies", bad["id"], column, value)

    async with opened(empty_sqlite_db) as catalog:
        reading = await catalog.read([behind_bad["id"], behind_good["id"], direct["id"]])

    assert reading.found.keys() == {behind_good["id"], direct["id"]}
    assert list(reading.invalid) == [behind_bad["id"]]
    reason = reading.invalid[behind_bad["id"]]
    assert reason.startswith("proxy's ")
    assert column in reason
    assert "s3cr3" not in reason


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("time", "'yesterday'"),
        ("time", "20260101"),
        ("time", "x'00'"),
        ("end_time", "'soon'"),
        ("status", "'up'"),
        ("status", "1 << 40"),
        ("ping", "1.5"),
        ("duration", "'long'"),
        ("important", "7"),
        ("notified", "'no'"),
        ("msg", NOT_UTF8),
        ("msg", "x'00'"),
    ],
)
async def test_an_invalid_heartbeat_makes_its_push_monitor_invalid(
    empty_sqlite_db: SqliteDatabase, column: str, value: str
) -> None:
    good, bad = monitor_row(type="push"), monitor_row(type="push")
    beat = heartbeat_row(bad["id"], msg=SECRET)
    await empty_sqlite_db.insert("monitors", good, bad)
    await empty_sqlite_db.insert("heartbeats", heartbeat_row(good["id"]), beat)
    await set_raw(empty_sqlite_db, "heartbeats", beat["id"], column, value)

    async with opened(empty_sqlite_db) as catalog:
        reading = await catalog.read([bad["id"], good["id"]])

    assert (list(reading.found), list(reading.invalid)) == ([good["id"]], [bad["id"]])
    assert reading.found[good["id"]].last_heartbeat is not None
    reason = reading.invalid[bad["id"]]
    assert reason.startswith("newest heartbeat's ")
    assert SECRET not in reason


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("strategy", "5"),
        ("strategy", NOT_UTF8),
        ("start_date_time", "x'00'"),
        ("end_date_time", "20260101"),
        ("start_time", "1.5"),
        ("end_time", "x'ff'"),
        ("interval_day", "'every'"),
        ("interval_day", "1.5"),
        ("cron", "x'ff'"),
        ("cron", NOT_UTF8),
        ("timezone", "x'00'"),
        ("timezone", NOT_UTF8),
        ("duration", "'long'"),
        ("duration", "1 << 62"),
    ],
)
async def test_an_invalid_maintenance_costs_no_check(empty_sqlite_db: SqliteDatabase, column: str, value: str) -> None:
    row, bad, good = monitor_row(), maintenance_row(), maintenance_row()
    await empty_sqlite_db.insert("monitors", row)
    await empty_sqlite_db.insert("maintenances", bad, good)
    await empty_sqlite_db.insert("monitor_maintenances", *(link_row(row["id"], one["id"]) for one in (bad, good)))
    await set_raw(empty_sqlite_db, "maintenances", bad["id"], column, value)

    async with opened(empty_sqlite_db) as catalog:
        reading = await catalog.read([row["id"]])

    assert {one.id for one in reading.found[row["id"]].maintenances} == {bad["id"], good["id"]}
    assert reading.invalid == {}


@pytest.mark.parametrize("active", ["0", "2", "'yes'", "0.5"])
async def test_only_a_maintenance_whose_active_is_true_is_read(empty_sqlite_db: SqliteDatabase, active: str) -> None:
    row, maintenance = monitor_row(), maintenance_row()
    await empty_sqlite_db.insert("monitors", row)
    await empty_sqlite_db.insert("maintenances", maintenance)
    await empty_sqlite_db.insert("monitor_maintenances", link_row(row["id"], maintenance["id"]))
    await set_raw(empty_sqlite_db, "maintenances", maintenance["id"], "active", active)

    async with opened(empty_sqlite_db) as catalog:
        reading = await catalog.read([row["id"]])

    assert reading.found[row["id"]].maintenances == ()


@pytest.mark.parametrize("proxy_id", ["", "no-uuid", "AAAAAAAA-AAAA-4AAA-8AAA-AAAAAAAAAAAA"])
async def test_a_proxy_id_without_a_row_costs_no_check(empty_sqlite_db: SqliteDatabase, proxy_id: str) -> None:
    row = monitor_row(proxy_id=proxy_id)
    await empty_sqlite_db.insert("monitors", row)

    async with opened(empty_sqlite_db) as catalog:
        reading = await catalog.read([row["id"]])

    assert reading.found[row["id"]].proxy is None


async def test_links_to_missing_rows_cost_no_check(empty_sqlite_db: SqliteDatabase) -> None:
    row, maintenance = monitor_row(), maintenance_row()
    await empty_sqlite_db.insert("monitors", row)
    await empty_sqlite_db.insert("maintenances", maintenance)
    await empty_sqlite_db.insert(
        "monitor_maintenances", link_row(row["id"], "no-such"), link_row("no-such", maintenance["id"])
    )

    async with opened(empty_sqlite_db) as catalog:
        reading = await catalog.read([row["id"], MonitorId("no-such")])

    assert reading.found[row["id"]].maintenances == ()


async def test_bad_rows_of_every_kind_do_not_affect_the_rest_of_a_batch(empty_sqlite_db: SqliteDatabase) -> None:
    good = [monitor_row() for _ in range(50)]
    bad = [monitor_row() for _ in range(4)]
    await empty_sqlite_db.insert("monitors", *good, *bad)
    for row, (column, value) in zip(
        bad, [("interval", "'abc'"), ("name", NOT_UTF8), ("timeout", "20.5"), ("config", "x'ff'")], strict=True
    ):
        await set_raw(empty_sqlite_db, "monitors", row["id"], column, value)

    async with opened(empty_sqlite_db) as catalog:
        reading = await catalog.read([row["id"] for row in (*bad, *good)])

    assert reading.found.keys() == {row["id"] for row in good}
    assert reading.invalid.keys() == {row["id"] for row in bad}


async def test_times_after_year_9999_affect_only_their_own_row(empty_sqlite_db: SqliteDatabase) -> None:
    good, bad = monitor_row(type="push"), monitor_row(type="push")
    beat = heartbeat_row(bad["id"])
    await empty_sqlite_db.insert("monitors", good, bad)
    await empty_sqlite_db.insert("heartbeats", beat)
    # Before the year 1, once in UTC.
    await set_raw(empty_sqlite_db, "heartbeats", beat["id"], "time", "'0001-01-01 00:00:00+05:00'")
    await set_raw(empty_sqlite_db, "monitors", bad["id"], "created_at", "'0001-01-01 00:00:00+05:00'")

    async with opened(empty_sqlite_db) as catalog:
        reading = await catalog.read([bad["id"], good["id"]])
        page = await catalog.active(None, 10)

    assert set(reading.found) == {good["id"]}
    assert "time" in reading.invalid[bad["id"]]
    assert {monitor.id for monitor in page.monitors} == {good["id"], bad["id"]}


@pytest.mark.parametrize("time", ["20000-01-01", "0044-03-15 BC", "infinity", "-infinity"])
async def test_times_after_year_9999_affect_only_their_own_row_on_postgres(
    empty_postgres_db: PostgresDatabase, time: str
) -> None:
    good, bad, changed = (monitor_row(type="push", updated_at=CREATED_AT) for _ in range(3))
    await empty_postgres_db.insert("monitors", good, bad, changed)
    await empty_postgres_db.insert("heartbeats", heartbeat_row(good["id"]), heartbeat_row(bad["id"]))
    await empty_postgres_db.execute(f"UPDATE heartbeats SET time = '{time}' WHERE monitor_id = '{bad['id']}'")
    await empty_postgres_db.execute(f"UPDATE monitors SET updated_at = '{time}' WHERE id = '{changed['id']}'")

    async with opened(empty_postgres_db) as catalog:
        reading = await catalog.read([bad["id"], good["id"], changed["id"]])
        page = await catalog.active(None, 10)
        changes = await catalog.changed(CREATED_AT, None, 10)

    assert set(reading.found) == {good["id"], changed["id"]}
    assert reading.invalid[bad["id"]].startswith("newest heartbeat's time")
    assert {monitor.id for monitor in page.monitors} == {good["id"], bad["id"], changed["id"]}
    assert {good["id"], bad["id"]} <= set(changes.ids)
    assert changes.newest == CREATED_AT


async def test_a_zero_date_on_mysql_affects_only_its_own_row(empty_mysql_db: MySqlDatabase) -> None:
    good, bad = monitor_row(type="push"), monitor_row(type="push")
    await empty_mysql_db.insert("monitors", good, bad)
    await empty_mysql_db.insert("heartbeats", heartbeat_row(good["id"]), heartbeat_row(bad["id"]))
    zero = "0000-00-00 00:00:00"
    await empty_mysql_db.execute(
        f"SET SESSION sql_mode = ''; UPDATE heartbeats SET time = '{zero}' WHERE monitor_id = '{bad['id']}';"
        f"UPDATE monitors SET updated_at = '{zero}' WHERE id = '{bad['id']}'"
    )

    async with opened(empty_mysql_db) as catalog:
        reading = await catalog.read([bad["id"], good["id"]])
        page = await catalog.active(None, 10)

    assert good["id"] in reading.found
    assert len(reading.found) + len(reading.invalid) == 2
    assert {monitor.id for monitor in page.monitors} == {good["id"], bad["id"]}


async def test_a_page_reports_an_active_that_is_not_a_boolean(empty_sqlite_db: SqliteDatabase) -> None:
    bad = monitor_row()
    await empty_sqlite_db.insert("monitors", bad)
    await set_raw(empty_sqlite_db, "monitors", bad["id"], "active", "'yes'")

    async with opened(empty_sqlite_db) as catalog:
        page = await catalog.active(None, 10)

    assert page.monitors == ()
    assert "active" in page.invalid[bad["id"]]
