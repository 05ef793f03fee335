"""Monitors by their names, in every kind of database."""

import msgspec
import pytest

from peekaping_producer.model.monitor import MonitorId
from support.catalogues import opened
from support.databases import Database, SqliteDatabase, monitor_row, new_id

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
