"""What MongoDB can hold and no table can: missing fields, fields and ids of any type. Each affects only itself."""

from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from bson.datetime_ms import DatetimeMS

from peekaping_producer.catalog import rows
from peekaping_producer.catalog.mongo_client import TOLERANT
from peekaping_producer.errors import CorruptRecord
from peekaping_producer.model.monitor import MonitorId
from support.catalogues import all_pages, opened
from support.databases import (
    CREATED_AT,
    MongoDatabase,
    heartbeat_row,
    link_row,
    maintenance_row,
    monitor_row,
    numbered_id,
    proxy_row,
)

SECRET = "s3cr3t-never-shown"


async def set_raw(database: MongoDatabase, collection: str, id_: str, **values: Any) -> None:
    """Store values as they are."""
    async with database.connected() as collections:
        await collections[collection].update_one({"_id": ObjectId(id_)}, {"$set": values})


async def insert_raw(database: MongoDatabase, collection: str, *documents: dict[str, Any]) -> None:
    """Insert documents as they are."""
    async with database.connected() as collections:
        await collections[collection].insert_many(documents)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("interval", "abc"),
        ("interval", 20.5),
        ("interval", Int64(1 << 40)),
        ("interval", Decimal128("20")),
        ("interval", 0),
        ("interval", None),
        ("interval", [20]),
        ("timeout", {"seconds": 5}),
        ("active", "yes"),
        ("active", 2),
        ("name", 5),
        ("name", b"AB"),
        ("type", ["http"]),
        ("config", {"url": "https://example.org", "password": SECRET}),
        ("proxy_id", 5),
    ],
    ids=str,
)
async def test_an_invalid_monitor_affects_only_itself(empty_mongo_db: MongoDatabase, field: str, value: object) -> None:
    good, bad = monitor_row(type="push"), monitor_row(config=f'{{"password": "{SECRET}"}}')
    await empty_mongo_db.insert("monitors", good, bad)
    await set_raw(empty_mongo_db, "monitor", bad["id"], **{field: value})

    async with opened(empty_mongo_db) as catalog:
        reading = await catalog.read([bad["id"], good["id"]])

    assert (list(reading.found), list(reading.invalid)) == ([good["id"]], [bad["id"]])
    assert field in reading.invalid[bad["id"]]
    assert SECRET not in reading.invalid[bad["id"]]


@pytest.mark.parametrize("value", [60, Int64(60), 60.0], ids=repr)
async def test_a_whole_number_may_have_any_numeric_type(empty_mongo_db: MongoDatabase, value: object) -> None:
    row = monitor_row()
    await empty_mongo_db.insert("monitors", row)
    await set_raw(empty_mongo_db, "monitor", row["id"], interval=value, timeout=value)

    async with opened(empty_mongo_db) as catalog:
        monitor = (await catalog.read([row["id"]])).found[row["id"]].monitor
        (page,), _ = await all_pages(catalog, 10)

    assert (monitor.interval, monitor.timeout, page.interval) == (60, 60, 60)
    assert {type(monitor.interval), type(monitor.timeout), type(page.interval)} == {int}


async def test_missing_fields_read_as_empty_or_zero(empty_mongo_db: MongoDatabase) -> None:
    id_, proxy_id = ObjectId(), ObjectId()
    await insert_raw(empty_mongo_db, "monitor", {"_id": id_, "interval": 60, "active": True, "proxy_id": proxy_id})
    await insert_raw(empty_mongo_db, "proxies", {"_id": proxy_id})

    async with opened(empty_mongo_db) as catalog:
        snapshot = (await catalog.read([MonitorId(str(id_))])).found[MonitorId(str(id_))]
        (scheduled,), invalid = await all_pages(catalog, 10)

    monitor, proxy = snapshot.monitor, snapshot.proxy
    assert (monitor.name, monitor.type, monitor.config, monitor.timeout, monitor.max_retries) == ("", "", "", 0, 0)
    assert proxy is not None
    assert (proxy.protocol, proxy.host, proxy.port, proxy.auth, proxy.username) == ("", "", 0, False, "")
    assert (scheduled.created_at, scheduled.updated_at, invalid) == (None, None, {})


async def test_a_monitor_without_active_is_inactive(empty_mongo_db: MongoDatabase) -> None:
    await insert_raw(empty_mongo_db, "monitor", {"interval": 60}, {"interval": 60, "active": None})

    async with opened(empty_mongo_db) as catalog:
        assert await all_pages(catalog, 10) == ([], {})


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_an_id_of_any_other_type_never_ends_the_paging(empty_mongo_db: MongoDatabase, limit: int) -> None:
    good = [monitor_row() for _ in range(3)]
    await empty_mongo_db.insert("monitors", *good)
    odd = ["no-id", "", 5, 2.5, True, "A" * 24, "0" * 23, {"a": 1}, datetime(2026, 1, 1, tzinfo=UTC), b"x" * 12]
    await insert_raw(empty_mongo_db, "monitor", *({"_id": id_, "interval": 60, "active": True} for id_ in odd))

    async with opened(empty_mongo_db) as catalog:
        monitors, invalid = await all_pages(catalog, limit)

    assert [one.id for one in monitors] == sorted(row["id"] for row in good)
    assert set(invalid.values()) == {"id is not an ObjectId"}
    assert len(invalid) == len(odd)


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
async def test_ids_of_both_types_are_paged_in_one_order(empty_mongo_db: MongoDatabase, limit: int) -> None:
    ids = [numbered_id(number) for number in range(1, 12)]
    documents = [
        {"_id": ObjectId(id_) if number % 3 else id_, "interval": 60, "active": True, "updated_at": CREATED_AT}
        for number, id_ in enumerate(ids)
    ]
    await insert_raw(empty_mongo_db, "monitor", *documents)

    async with opened(empty_mongo_db) as catalog:
        monitors, invalid = await all_pages(catalog, limit)
        changes = await catalog.changed(CREATED_AT, None, 100)
        reading = await catalog.read([MonitorId(id_) for id_ in ids])

    assert ([one.id for one in monitors], invalid) == (ids, {})
    assert list(changes.ids) == ids
    assert set(reading.found) == set(ids)


async def test_the_newest_heartbeat_wins_whichever_type_its_reference_has(empty_mongo_db: MongoDatabase) -> None:
    first, second = monitor_row(type="push"), monitor_row(type="push")
    await empty_mongo_db.insert("monitors", first, second)
    beats = [
        {"monitor_id": ObjectId(first["id"]), "time": datetime(2026, 1, 1), "ping": 1},  # noqa: DTZ001
        {"monitor_id": first["id"], "time": datetime(2026, 1, 2), "ping": 2},  # noqa: DTZ001
        {"monitor_id": ObjectId(second["id"]), "time": datetime(2026, 1, 2), "ping": 3},  # noqa: DTZ001
        {"monitor_id": second["id"], "time": datetime(2026, 1, 1), "ping": 4},  # noqa: DTZ001
    ]
    await insert_raw(empty_mongo_db, "heartbeat", *beats)

    async with opened(empty_mongo_db) as catalog:
        found = (await catalog.read([first["id"], second["id"]])).found

    newest = [found[row["id"]].last_heartbeat for row in (first, second)]
    assert [beat and (beat.ping, beat.monitor_id) for beat in newest] == [(2, first["id"]), (3, second["id"])]


@pytest.mark.parametrize(
    ("field", "value"),
    [("time", "yesterday"), ("time", 5), ("status", "up"), ("ping", 1.5), ("important", 7), ("msg", 5)],
    ids=str,
)
async def test_an_invalid_heartbeat_makes_its_push_monitor_invalid(
    empty_mongo_db: MongoDatabase, field: str, value: object
) -> None:
    good, bad = monitor_row(type="push"), monitor_row(type="push")
    beat = heartbeat_row(bad["id"], msg=SECRET)
    await empty_mongo_db.insert("monitors", good, bad)
    await empty_mongo_db.insert("heartbeats", heartbeat_row(good["id"]), beat)
    await set_raw(empty_mongo_db, "heartbeat", beat["id"], **{field: value})

    async with opened(empty_mongo_db) as catalog:
        reading = await catalog.read([bad["id"], good["id"]])

    assert (list(reading.found), list(reading.invalid)) == ([good["id"]], [bad["id"]])
    assert reading.invalid[bad["id"]].startswith("newest heartbeat's ")
    assert SECRET not in reading.invalid[bad["id"]]


async def test_an_invalid_proxy_makes_the_monitors_behind_it_invalid(empty_mongo_db: MongoDatabase) -> None:
    bad, good = proxy_row(password=SECRET), proxy_row()
    behind_bad, behind_good = monitor_row(proxy_id=bad["id"]), monitor_row(proxy_id=good["id"])
    await empty_mongo_db.insert("proxies", bad, good)
    await empty_mongo_db.insert("monitors", behind_bad, behind_good)
    await set_raw(empty_mongo_db, "proxies", bad["id"], port="many")

    async with opened(empty_mongo_db) as catalog:
        reading = await catalog.read([behind_bad["id"], behind_good["id"]])

    assert (list(reading.found), list(reading.invalid)) == ([behind_good["id"]], [behind_bad["id"]])
    assert "port" in reading.invalid[behind_bad["id"]]
    assert SECRET not in reading.invalid[behind_bad["id"]]


@pytest.mark.parametrize(
    "values",
    [{"strategy": 5}, {"cron": ["*"]}, {"duration": "long"}, {"interval_day": 1.5}, {"timezone": {"a": 1}}],
    ids=str,
)
async def test_an_invalid_maintenance_costs_no_check(empty_mongo_db: MongoDatabase, values: dict[str, Any]) -> None:
    row, bad, good = monitor_row(), maintenance_row(), maintenance_row()
    await empty_mongo_db.insert("monitors", row)
    await empty_mongo_db.insert("maintenances", bad, good)
    await empty_mongo_db.insert("monitor_maintenances", *(link_row(row["id"], one["id"]) for one in (bad, good)))
    await insert_raw(
        empty_mongo_db,
        "monitor_maintenance",
        {"monitor_id": ObjectId(row["id"]), "maintenance_id": 5},
        {"monitor_id": ObjectId(row["id"])},
        {"maintenance_id": ObjectId(good["id"])},
    )
    await set_raw(empty_mongo_db, "maintenance", bad["id"], **values)

    async with opened(empty_mongo_db) as catalog:
        reading = await catalog.read([row["id"]])

    assert {one.id for one in reading.found[row["id"]].maintenances} == {bad["id"], good["id"]}
    assert reading.invalid == {}


def test_a_date_after_year_9999_and_text_that_is_not_utf8_are_decoded_and_then_rejected() -> None:
    """The server of these tests cannot store them, MongoDB itself can."""
    sent = bson.encode({"time": DatetimeMS(300_000_000_000_000), "msg": "abc"}).replace(b"abc", b"a\xffc")

    document = bson.decode(sent, TOLERANT)

    assert rows.instant_or_none(document["time"]) is None
    beat = ("id", numbered_id(1), 1, document["msg"], 0, 0, 0, 0, False, CREATED_AT, None, False)
    (refused,) = rows.values(rows.HEARTBEATS, [beat])
    assert isinstance(refused, CorruptRecord)
    assert "msg is not valid UTF-8" in refused.reason
