"""Monitors by their names, in every kind of database."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from peekaping_producer.model.monitor import MonitorId
from support.catalogues import opened
from support.databases import Database, SqliteDatabase, heartbeat_row, monitor_row, new_id, stored

AWKWARD = ["100 % (a+b)", "[x]", "it's", 'a "quoted" one', "under_score", "a.b", "back\\slash", "Größe", "日本 🙂", ""]


async def test_names_by_ids(any_db: Database) -> None:
    one, two, other = monitor_row(name="One"), monitor_row(name="Größe 🙂", active=False), monitor_row(name="Other")
    await any_db.insert("monitors", one, two, other)
    async with opened(any_db) as catalog:
        names = await catalog.names([one["id"], two["id"], MonitorId(new_id()), MonitorId("no-id")])
        assert names == {one["id"]: "One", two["id"]: "Größe 🙂"}
        assert await catalog.names([]) == {}


async def test_monitors_by_name(any_db: Database) -> None:
    exact, other_case, inactive = (
        monitor_row(name="Shop"),
        monitor_row(name="SHOP"),
        monitor_row(name="Blog", active=False),
    )
    longer, awkward = monitor_row(name="Shop 2"), [monitor_row(name=name) for name in AWKWARD]
    await any_db.insert("monitors", exact, other_case, inactive, longer, *awkward)
    async with opened(any_db) as catalog:

        async def ids(name: str) -> list[str]:
            return [monitor.id for monitor in await catalog.named(name)]

        assert await ids("Shop") == [exact["id"]]
        assert await ids("SHOP") == [other_case["id"]]
        assert sorted(await ids("shop")) == sorted([exact["id"], other_case["id"]])
        assert await ids("bLOG") == [inactive["id"]]
        for row in awkward:
            assert await ids(row["name"]) == [row["id"]]
        for unknown in ("Sho", "hop", "S%", "S.op", ".*", "Shop'; --"):
            assert await ids(unknown) == []


async def test_the_number_of_monitors_of_one_name_is_bounded(any_db: Database) -> None:
    await any_db.insert("monitors", *(monitor_row(name="Same") for _ in range(130)))
    async with opened(any_db) as catalog:
        assert len(await catalog.named("Same")) == 100
        assert len(await catalog.named("same")) == 100


async def test_monitors_whose_names_contain_a_text(any_db: Database) -> None:
    shop, web_shop = monitor_row(name="shop"), monitor_row(name="Web SHOP", active=False)
    others = [monitor_row(name=name) for name in AWKWARD]
    await any_db.insert("monitors", web_shop, shop, *others)
    async with opened(any_db) as catalog:

        async def names(text: str, limit: int = 50) -> list[str]:
            return [monitor.name for monitor in await catalog.search(text, limit)]

        assert await names("Shop") == ["shop", "Web SHOP"]
        assert len(await names("shop", 1)) == 1
        for row in others:
            if row["name"]:
                assert await names(row["name"][:-1] or row["name"]) == [row["name"]]
        for unknown in ("%", "_", "[x", "a.b", "\\"):
            assert all(unknown in name for name in await names(unknown))
        for unknown in ("s_op", "sh%p", ".*", "!", "shop'; --"):
            assert await names(unknown) == []


async def test_the_last_results_of_a_monitor(any_db: Database) -> None:
    one, other = monitor_row(), monitor_row()
    await any_db.insert("monitors", one, other)
    began = datetime(2026, 11, 1, 12, tzinfo=UTC)
    beats = [
        heartbeat_row(one["id"], time=stored(any_db, began + timedelta(minutes=number)), status=number % 4, ping=number)
        for number in range(12)
    ]
    await any_db.insert("heartbeats", *beats, heartbeat_row(other["id"], time=stored(any_db, began)))
    async with opened(any_db) as catalog:
        results = await catalog.results(one["id"], 10)
        assert [one.ping_ms for one in results] == list(range(11, 1, -1))
        assert [one.status for one in results] == [number % 4 for number in range(11, 1, -1)]
        assert results[0].time == began + timedelta(minutes=11)
        assert await catalog.results(MonitorId(new_id()), 10) == []


@pytest.mark.parametrize("value", ["x'ff'", "cast(x'41ff42' AS TEXT)", "5"])
async def test_a_name_that_is_not_text_does_no_harm(empty_sqlite_db: SqliteDatabase, value: str) -> None:
    good, bad = monitor_row(name="Good"), monitor_row(name="Bad")
    await empty_sqlite_db.insert("monitors", good, bad)

    await empty_sqlite_db.execute(f"UPDATE monitors SET name = {value} WHERE id = '{bad['id']}'")
    async with opened(empty_sqlite_db) as catalog:
        names = await catalog.names([good["id"], bad["id"]])
        assert names[good["id"]] == "Good"
        assert msgspec.json.encode(names)
        assert [monitor.id for monitor in await catalog.named("good")] == [good["id"]]
        assert [monitor.id for monitor in await catalog.search("goo", 50)] == [good["id"]]
        assert msgspec.json.encode(await catalog.search("a", 50))
