"""Reading monitors by their ids, on every kind of database."""

from datetime import timedelta
from typing import Any

import pytest

from peekaping_producer.model.monitor import Monitor, MonitorId
from support.catalogues import many, no_id, opened
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
    new_id,
    numbered_id,
    proxy_row,
    stored,
)

UNICODE = "ünï & <b> 🚀 \u2028 \u007f \\ \" ' ; -- \u202e عربي 日本"


def ids(*rows: dict[str, Any]) -> list[MonitorId]:
    return [MonitorId(row["id"]) for row in rows]


async def test_every_column_of_a_monitor_arrives(any_db: Database) -> None:
    row = monitor_row(
        name="Shop", type="tcp", interval=61, timeout=17, max_retries=3, retry_interval=21, resend_interval=4
    )
    await any_db.insert("monitors", row)

    async with opened(any_db) as catalog:
        reading = await catalog.read(ids(row))

    snapshot = reading.found[MonitorId(row["id"])]
    assert snapshot.monitor == Monitor(
        MonitorId(row["id"]), "Shop", "tcp", 61, 17, 3, 21, 4, True, '{"url": "https://example.org"}', None
    )
    assert (snapshot.proxy, snapshot.maintenances, snapshot.last_heartbeat) == (None, (), None)


async def test_only_the_requested_ids_are_read_and_unknown_ones_are_in_neither(any_db: Database) -> None:
    wanted, other = monitor_row(), monitor_row()
    await any_db.insert("monitors", wanted, other)

    async with opened(any_db) as catalog:
        reading = await catalog.read([*ids(wanted), MonitorId(new_id())])

    assert list(reading.found) == ids(wanted)
    assert reading.invalid == {}


async def test_no_ids_give_an_empty_reading(any_db: Database) -> None:
    async with opened(any_db) as catalog:
        reading = await catalog.read([])

    assert (reading.found, reading.invalid) == ({}, {})


async def test_an_id_requested_twice_is_read_once(any_db: Database) -> None:
    row = monitor_row()
    await any_db.insert("monitors", row)

    async with opened(any_db) as catalog:
        reading = await catalog.read(ids(row, row))

    assert list(reading.found) == ids(row)


@pytest.mark.parametrize(
    "id_",
    [
        "",
        "5",
        "no-uuid",
        "AAAAAAAA-AAAA-4AAA-8AAA-AAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAA",
        f"{numbered_id(1)}\n",
        "\udcff",
        "x" * 100_000,
        "'; --",
    ],
    ids=["empty", "number", "word", "upper-case", "upper-case-hex", "newline", "not-utf8", "long", "sql"],
)
async def test_an_id_of_another_form_is_invalid_and_the_others_are_read(any_db: Database, id_: str) -> None:
    row = monitor_row()
    await any_db.insert("monitors", row)

    async with opened(any_db) as catalog:
        reading = await catalog.read([MonitorId(id_), *ids(row)])

    assert list(reading.found) == ids(row)
    assert reading.invalid == {id_: no_id(any_db)}


async def test_an_id_of_the_other_kind_of_database_is_invalid(any_db: Database) -> None:
    other = "0" * 24 if any_db.kind != "mongo" else "00000000-0000-4000-8000-000000000000"
    row = monitor_row()
    await any_db.insert("monitors", row)

    async with opened(any_db) as catalog:
        reading = await catalog.read([MonitorId(other), *ids(row)])
        page = await catalog.active_of([MonitorId(other), *ids(row)])

    assert (list(reading.found), reading.invalid) == (ids(row), {other: no_id(any_db)})
    assert [one.id for one in page.monitors] == ids(row)


async def test_inactive_monitors_are_read_too(any_db: Database) -> None:
    row = monitor_row(active=False)
    await any_db.insert("monitors", row)

    async with opened(any_db) as catalog:
        reading = await catalog.read(ids(row))

    assert reading.found[MonitorId(row["id"])].monitor.active is False


async def test_unicode_arrives_as_it_was_written(any_db: Database) -> None:
    proxy = proxy_row(username=UNICODE, password=UNICODE, host=UNICODE)
    row = monitor_row(name=UNICODE, config=f'"{UNICODE[:3]}"', proxy_id=proxy["id"])
    await any_db.insert("proxies", proxy)
    await any_db.insert("monitors", row)

    async with opened(any_db) as catalog:
        snapshot = (await catalog.read(ids(row))).found[MonitorId(row["id"])]

    assert snapshot.monitor.name == UNICODE
    assert snapshot.monitor.config == f'"{UNICODE[:3]}"'
    assert snapshot.proxy is not None
    assert (snapshot.proxy.username, snapshot.proxy.password, snapshot.proxy.host) == (UNICODE, UNICODE, UNICODE)


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (None, ""),
        ("null", "null"),
        ('"text"', '"text"'),
        ("12.5", "12.5"),
        ("0", "0"),
        ("true", "true"),
        ("[]", "[]"),
        ('{"b": 1, "a": null}', {"postgres": '{"a": null, "b": 1}'}),
        ('{"a":1,"a":2}', {"postgres": '{"a": 2}'}),
        ('{"a":  [1,2]}', {"postgres": '{"a": [1, 2]}'}),
    ],
)
async def test_a_config_is_the_columns_own_text(any_db: Database, stored: str | None, read: Any) -> None:
    row = monitor_row(config=stored)
    await any_db.insert("monitors", row)

    async with opened(any_db) as catalog:
        reading = await catalog.read(ids(row))

    expected = read.get(any_db.kind, stored) if isinstance(read, dict) else read
    assert reading.found[MonitorId(row["id"])].monitor.config == expected


async def test_a_large_config_arrives_whole(any_db: Database) -> None:
    config = f'"{"x" * 1_000_000}"'
    row = monitor_row(config=config)
    await any_db.insert("monitors", row)

    async with opened(any_db) as catalog:
        reading = await catalog.read(ids(row))

    assert reading.found[MonitorId(row["id"])].monitor.config == config


@pytest.mark.parametrize("config", ["{", "", "no json", "{'a': 1}", '{"a": 1'])
async def test_a_config_that_is_not_json_goes_out_as_it_is(empty_sqlite_db: SqliteDatabase, config: str) -> None:
    row = monitor_row(config=config)
    await empty_sqlite_db.insert("monitors", row)

    async with opened(empty_sqlite_db) as catalog:
        reading = await catalog.read(ids(row))

    assert reading.found[MonitorId(row["id"])].monitor.config == config


@pytest.mark.parametrize(
    "values",
    [{"timeout": 0}, {"timeout": -5}, {"type": ""}, {"type": "no-such"}, {"name": ""}, {"max_retries": -1}],
    ids=str,
)
async def test_odd_values_that_workers_can_read_are_valid(any_db: Database, values: dict[str, Any]) -> None:
    row = monitor_row(**values)
    await any_db.insert("monitors", row)

    async with opened(any_db) as catalog:
        reading = await catalog.read(ids(row))

    monitor = reading.found[MonitorId(row["id"])].monitor
    assert {name: getattr(monitor, name) for name in values} == values


async def test_each_monitor_gets_its_own_proxy(any_db: Database) -> None:
    first = proxy_row(host="first", port=1, auth=True, username="user", password="secret")
    second = proxy_row(host="second", port=65535, protocol="socks5")
    monitors = [monitor_row(proxy_id=proxy) for proxy in (first["id"], second["id"], first["id"], None)]
    await any_db.insert("proxies", first, second)
    await any_db.insert("monitors", *monitors)

    async with opened(any_db) as catalog:
        found = (await catalog.read(ids(*monitors))).found

    proxies = [found[id_].proxy for id_ in ids(*monitors)]
    assert [proxy and (proxy.host, proxy.port, proxy.auth, proxy.username, proxy.password) for proxy in proxies] == [
        ("first", 1, True, "user", "secret"),
        ("second", 65535, False, "", ""),
        ("first", 1, True, "user", "secret"),
        None,
    ]


async def test_mysql_finds_a_proxy_whose_id_is_written_in_another_case(empty_mysql_db: MySqlDatabase) -> None:
    proxy = proxy_row(host="found")
    row = monitor_row(proxy_id=proxy["id"].upper())
    await empty_mysql_db.insert("proxies", proxy)
    await empty_mysql_db.insert("monitors", row)
    async with opened(empty_mysql_db) as catalog:
        reading = await catalog.read([row["id"]])
    found = reading.found[MonitorId(row["id"])].proxy
    assert found
    assert found.host == "found"


async def test_a_proxy_that_has_no_row_reads_as_none(any_db: Database) -> None:
    row = monitor_row(proxy_id=new_id())
    if isinstance(any_db, PostgresDatabase):
        await any_db.execute("ALTER TABLE monitors DROP CONSTRAINT monitors_proxy_id_fkey")
    await any_db.insert("monitors", row)

    async with opened(any_db) as catalog:
        reading = await catalog.read(ids(row))

    assert reading.found[MonitorId(row["id"])].proxy is None
    assert reading.found[MonitorId(row["id"])].monitor.proxy_id == row["proxy_id"]


async def test_active_maintenances_are_read_and_inactive_ones_are_not(any_db: Database) -> None:
    monitors = [monitor_row(), monitor_row(), monitor_row()]
    manual, off = maintenance_row(), maintenance_row(active=False)
    cron = maintenance_row(
        strategy="cron",
        start_date_time="2026-01-01T00:00",
        end_date_time="2027-01-01T00:00",
        start_time="01:00",
        end_time="02:00",
        interval_day=3,
        cron="0 1 * * *",
        timezone="Europe/Berlin",
        duration=60,
    )
    first, second, third = ids(*monitors)
    await any_db.insert("monitors", *monitors)
    await any_db.insert("maintenances", manual, off, cron)
    await any_db.insert(
        "monitor_maintenances",
        link_row(first, manual["id"]),
        link_row(first, cron["id"]),
        link_row(first, off["id"]),
        link_row(second, cron["id"]),
        link_row(third, off["id"]),
    )

    async with opened(any_db) as catalog:
        found = (await catalog.read([first, second, third])).found

    assert {one.id for one in found[first].maintenances} == {manual["id"], cron["id"]}
    assert found[third].maintenances == ()
    (read,) = found[second].maintenances
    assert (read.strategy, read.start_date_time, read.end_date_time) == ("cron", "2026-01-01T00:00", "2027-01-01T00:00")
    assert (read.start_time, read.end_time, read.interval_day) == ("01:00", "02:00", 3)
    assert (read.cron, read.timezone, read.duration) == ("0 1 * * *", "Europe/Berlin", 60)


async def test_a_push_monitor_gets_its_newest_heartbeat(any_db: Database) -> None:
    push, other, silent = monitor_row(type="push"), monitor_row(type="push"), monitor_row(type="push")
    newest = heartbeat_row(
        push["id"],
        status=2,
        msg=UNICODE,
        ping=7,
        duration=8,
        down_count=9,
        retries=1,
        important=True,
        notified=True,
        time=stored(any_db, CREATED_AT) + any_db.tick,
        end_time=None,
    )
    await any_db.insert("monitors", push, other, silent)
    await any_db.insert(
        "heartbeats",
        heartbeat_row(push["id"], time=CREATED_AT),
        newest,
        heartbeat_row(push["id"], time=CREATED_AT - timedelta(days=400)),
        heartbeat_row(other["id"], time=CREATED_AT + timedelta(days=1)),
    )

    async with opened(any_db) as catalog:
        found = (await catalog.read(ids(push, other, silent))).found

    beat = found[MonitorId(push["id"])].last_heartbeat
    assert beat is not None
    assert (beat.id, beat.monitor_id, beat.status, beat.msg) == (newest["id"], push["id"], 2, UNICODE)
    assert (beat.ping, beat.duration, beat.down_count, beat.retries) == (7, 8, 9, 1)
    assert (beat.important, beat.notified, beat.end_time) == (True, True, None)
    assert beat.time == newest["time"]
    other_beat = found[MonitorId(other["id"])].last_heartbeat
    assert other_beat is not None
    assert other_beat.time == stored(any_db, CREATED_AT + timedelta(days=1))
    assert found[MonitorId(silent["id"])].last_heartbeat is None


async def test_nulls_of_a_heartbeat_read_as_empty_or_zero(any_db: Database) -> None:
    push = monitor_row(type="push")
    nulls = dict.fromkeys(("msg", "ping", "duration", "down_count", "retries", "end_time"))
    await any_db.insert("monitors", push)
    await any_db.insert("heartbeats", heartbeat_row(push["id"], **nulls))

    async with opened(any_db) as catalog:
        beat = (await catalog.read(ids(push))).found[MonitorId(push["id"])].last_heartbeat

    assert beat is not None
    assert (beat.msg, beat.ping, beat.duration, beat.down_count, beat.retries, beat.end_time) == ("", 0, 0, 0, 0, None)


@pytest.mark.parametrize("type_", ["http", "Push", "PUSH", ""])
async def test_heartbeats_are_read_for_type_exactly_push_only(any_db: Database, type_: str) -> None:
    row = monitor_row(type=type_)
    await any_db.insert("monitors", row)
    await any_db.insert("heartbeats", heartbeat_row(row["id"]))

    async with opened(any_db) as catalog:
        reading = await catalog.read(ids(row))

    assert reading.found[MonitorId(row["id"])].last_heartbeat is None


@pytest.mark.long
async def test_ten_thousand_ids_are_one_reading(any_db: Database) -> None:
    proxy, maintenance = proxy_row(), maintenance_row()
    there = many(any_db) // 2 if any_db.kind == "mongo" else many(any_db)
    monitors = [monitor_row(id=numbered_id(n), type="push", proxy_id=proxy["id"]) for n in range(1, there + 1)]
    asked = [MonitorId(numbered_id(n)) for n in range(1, 10_001)]
    await any_db.insert("proxies", proxy)
    await any_db.insert("maintenances", maintenance)
    await any_db.insert("monitors", *monitors)
    await any_db.insert("heartbeats", *(heartbeat_row(row["id"]) for row in monitors))
    await any_db.insert("monitor_maintenances", *(link_row(row["id"], maintenance["id"]) for row in monitors))

    async with opened(any_db, timeout_s=60) as catalog:
        reading = await catalog.read(asked)

    assert len(reading.found) == there
    assert reading.invalid == {}
    assert all(
        one.proxy and one.maintenances and one.last_heartbeat and one.last_heartbeat.monitor_id == id_
        for id_, one in reading.found.items()
    )


async def test_a_change_is_seen_by_the_next_reading(any_db: Database) -> None:
    row = monitor_row()
    await any_db.insert("monitors", row)

    async with opened(any_db, connections=1) as catalog:
        before = await catalog.read(ids(row))
        await any_db.update("monitors", row["id"], name="Renamed", active=False)
        after = await catalog.read(ids(row))
        await any_db.delete("monitors", row["id"])
        gone = await catalog.read(ids(row))

    assert before.found[MonitorId(row["id"])].monitor.name == "Example"
    assert after.found[MonitorId(row["id"])].monitor.name == "Renamed"
    assert after.found[MonitorId(row["id"])].monitor.active is False
    assert gone.found == {}
