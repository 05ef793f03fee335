"""The newest heartbeats of push monitors are read by the index on monitor and time, never by scanning the history."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId
from sqlalchemy import Connection, event

from peekaping_producer.catalog.catalog import Catalog
from peekaping_producer.catalog.mongo import NEWEST
from peekaping_producer.catalog.sql import SqlCatalog
from peekaping_producer.model.monitor import MonitorId
from support.catalogues import opened, sync_engine
from support.databases import (
    CREATED_AT,
    Database,
    MongoDatabase,
    MySqlDatabase,
    PostgresDatabase,
    Row,
    SqliteDatabase,
    heartbeat_row,
    link_row,
    maintenance_row,
    monitor_row,
    numbered_id,
)

PUSHED = 500
INDEX = "idx_heartbeats_monitor_time"
"""Postgres and SQLite have a second one, with one more column."""


async def with_history(database: Database, beats: int, monitors: int = PUSHED) -> list[MonitorId]:
    """Insert push monitors, each with this many heartbeats; return their ids."""
    rows = [monitor_row(id=numbered_id(number), type="push") for number in range(1, monitors + 1)]
    await database.insert("monitors", *rows)
    history: list[Row] = [
        heartbeat_row(row["id"], time=CREATED_AT + timedelta(seconds=number), ping=number)
        for row in rows
        for number in range(beats)
    ]
    await database.insert("heartbeats", *history)
    return [MonitorId(row["id"]) for row in rows]


async def explained(
    catalog: Catalog, ids: list[MonitorId], explain: str, statement_name: str = "heartbeats"
) -> list[Any]:
    """Return the plan of the statement that reads the newest heartbeats, or another, as the database explains it."""
    assert isinstance(catalog, SqlCatalog)
    sent: list[tuple[str, Any]] = []

    def remember(_connection: Connection, _cursor: object, statement: str, parameters: Any, *_more: object) -> None:
        sent.append((statement, parameters))

    event.listen(sync_engine(catalog), "before_cursor_execute", remember)
    selected = getattr(catalog._statements, statement_name)
    values = {"ids": catalog._database.ids_as_sent(ids)}

    def explain_it(connection: Connection) -> list[Any]:
        found = connection.execute(selected, values).all()
        assert len(found) == len(ids)
        statement, parameters = sent[-1]
        return list(connection.exec_driver_sql(f"{explain} {statement}", parameters).all())

    return await catalog._batches.do(explain_it, 10)


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", ()):
        yield from _nodes(below)


def _stages(stage: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield stage
    if "inputStage" in stage:
        yield from _stages(stage["inputStage"])


async def test_on_postgres(empty_postgres_db: PostgresDatabase) -> None:
    ids = await with_history(empty_postgres_db, beats=40)
    await empty_postgres_db.execute("ANALYZE")

    async with opened(empty_postgres_db) as catalog:
        ((plan,),) = await explained(catalog, ids, "EXPLAIN (ANALYZE, FORMAT JSON)")

    nodes = list(_nodes(plan[0]["Plan"]))
    (searched,) = (node for node in nodes if node.get("Alias") == "older")
    assert searched["Node Type"] in {"Index Scan", "Index Only Scan"}
    assert searched["Index Name"].startswith(INDEX)
    assert searched["Actual Rows"] == 1
    assert searched["Actual Loops"] <= 2 * PUSHED
    assert "Sort" not in {node["Node Type"] for node in nodes if node.get("Parent Relationship") == "SubPlan"}


async def test_on_sqlite(empty_sqlite_db: SqliteDatabase) -> None:
    ids = await with_history(empty_sqlite_db, beats=5)

    async with opened(empty_sqlite_db) as catalog:
        steps = [row[-1] for row in await explained(catalog, ids, "EXPLAIN QUERY PLAN")]

    (searched,) = (step for step in steps if " older " in step)
    assert searched.startswith("SEARCH older USING")
    assert f"INDEX {INDEX}" in searched
    assert "(monitor_id=?)" in searched
    assert not any("TEMP B-TREE" in step for step in steps)


async def test_maintenances_on_sqlite_are_found_from_the_monitors(empty_sqlite_db: SqliteDatabase) -> None:
    rows, maintenances = [monitor_row() for _ in range(3)], [maintenance_row() for _ in range(3)]
    await empty_sqlite_db.insert("monitors", *rows)
    await empty_sqlite_db.insert("maintenances", *maintenances)
    links = [link_row(row["id"], one["id"]) for row, one in zip(rows, maintenances, strict=True)]
    await empty_sqlite_db.insert("monitor_maintenances", *links)

    async with opened(empty_sqlite_db) as catalog:
        ids = [MonitorId(row["id"]) for row in rows]
        steps = [row[-1] for row in await explained(catalog, ids, "EXPLAIN QUERY PLAN", "maintenances")]

    first, second = (step for step in steps if "maintenances" in step)
    assert first.startswith("SEARCH monitor_maintenances USING")
    assert second.startswith("SEARCH maintenances USING")
    assert second.endswith("(id=?)")


async def test_on_mariadb(empty_mysql_db: MySqlDatabase) -> None:
    ids = await with_history(empty_mysql_db, beats=20)
    await empty_mysql_db.execute("ANALYZE TABLE monitors, heartbeats")

    async with opened(empty_mysql_db) as catalog:
        rows = [row._mapping for row in await explained(catalog, ids, "EXPLAIN")]

    (searched,) = (row for row in rows if row["table"] == "older")
    assert (searched["key"], searched["type"]) == (INDEX, "ref")
    assert "filesort" not in searched["Extra"]
    (joined,) = (row for row in rows if row["table"] == "heartbeats")
    assert (joined["key"], joined["type"]) == ("PRIMARY", "eq_ref")


async def test_on_mongodb(empty_mongo_db: MongoDatabase) -> None:
    """The inner pipeline of a $lookup is not explained, so its stages are explained as a query for one monitor."""
    (id_, *_) = await with_history(empty_mongo_db, beats=20, monitors=3)
    sort, limit = NEWEST
    async with empty_mongo_db.connected() as collections:
        command = {
            "find": "heartbeat",
            "filter": {"monitor_id": ObjectId(id_)},
            "sort": sort["$sort"],
            "limit": limit["$limit"],
        }
        plan = (await collections.command("explain", command))["queryPlanner"]["winningPlan"]

    stages = {stage["stage"]: stage for stage in _stages(plan)}
    assert stages["IXSCAN"]["keyPattern"] == {"monitor_id": 1, "time": -1}
    # This server does not see that the order is that of the index, so that nothing needs sorting.
    assert list(sort["$sort"].items()) == list(stages["IXSCAN"]["keyPattern"].items())
    assert "COLLSCAN" not in stages


@pytest.mark.parametrize("beats", [1, 30])
async def test_the_newest_of_each_is_found(any_db: Database, beats: int) -> None:
    ids = await with_history(any_db, beats=beats, monitors=20)

    async with opened(any_db) as catalog:
        reading = await catalog.read(ids)

    assert {one.last_heartbeat and one.last_heartbeat.ping for one in reading.found.values()} == {beats - 1}
    assert len(reading.found) == 20
