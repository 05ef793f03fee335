"""Every recorded task comes out of its rows: once out of the whole fixture databases, once out of the recorded rows."""

import asyncio
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import pytest
from bson import ObjectId
from msgspec import Struct

from peekaping_producer.asynq.message import TIMEOUT_MARGIN_S
from peekaping_producer.asynq.task_message_pb2 import TaskMessage
from peekaping_producer.catalog import rows
from peekaping_producer.catalog.catalog import Catalog, open_catalog
from peekaping_producer.catalog.reading import Reading
from peekaping_producer.dispatch.plan import Plan, plan
from peekaping_producer.errors import CorruptRecord
from peekaping_producer.model.cadence import Spacing
from peekaping_producer.model.monitor import Heartbeat, Maintenance, Monitor, MonitorId, Proxy, Snapshot
from peekaping_producer.schedule.orders import Claim, Claimed, Drop, Enqueue
from support.databases import COLLECTIONS, MongoDatabase, mongo_copy, postgres_copy, sqlite_copy
from support.postgres import Postgres
from support.secantus import Secantus
from vectors.vectors import load

VECTORS = load("tasks")
CASES: list[dict[str, Any]] = VECTORS["cases"]
ABSENT: list[dict[str, Any]] = VECTORS["absent"]
MONGO_CASES = [case for case in CASES if case["database"] == "mongo"]
SQL_CASES = [case for case in CASES if case["database"] != "mongo"]
T = TypeVar("T", bound=Struct)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

each_case = pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
each_absent = pytest.mark.parametrize("case", ABSENT, ids=[case["id"] for case in ABSENT])


class FixtureReading:
    """What one reading of a fixture database gave: its rows by id, and the ids of its active monitors."""

    def __init__(self, reading: Reading, active: set[MonitorId]) -> None:
        self.reading = reading
        self.active = active


@pytest.fixture(scope="session")
def sqlite_reading(tmp_path_factory: pytest.TempPathFactory) -> FixtureReading:
    return asyncio.run(_read_sqlite(tmp_path_factory.mktemp("vectors")))


@pytest.fixture(scope="session")
def postgres_reading(postgres_server: Postgres) -> FixtureReading:
    return asyncio.run(_read_postgres(postgres_server))


@pytest.fixture(scope="session")
def mongo_reading(mongo_server: Secantus) -> FixtureReading:
    return asyncio.run(_read_mongo(mongo_server, as_hex=False))


@pytest.fixture(scope="session")
def mongo_hex_reading(mongo_server: Secantus) -> FixtureReading:
    return asyncio.run(_read_mongo(mongo_server, as_hex=True))


@pytest.fixture(scope="session")
def fixture_readings(
    sqlite_reading: FixtureReading, postgres_reading: FixtureReading, mongo_reading: FixtureReading
) -> dict[str, FixtureReading]:
    return {"sqlite": sqlite_reading, "postgres": postgres_reading, "mongo": mongo_reading}


@pytest.mark.parametrize("case", MONGO_CASES, ids=[case["id"] for case in MONGO_CASES])
def test_ids_and_references_may_be_text(case: dict[str, Any], mongo_hex_reading: FixtureReading) -> None:
    _assert_recorded_task(case, mongo_hex_reading.reading)
    assert _monitor_id(case["rows"]["monitor"]) in mongo_hex_reading.active


@each_case
def test_the_fixture_database_gives_the_recorded_task(
    case: dict[str, Any], fixture_readings: dict[str, FixtureReading]
) -> None:
    read = fixture_readings[case["database"]]
    id_ = _monitor_id(case["rows"]["monitor"])
    if os.environ.get("PEEKAPING_VECTORS") and id_ not in read.reading.found | read.reading.invalid:
        pytest.skip("the fixtures hold the rows of the vectors in this repository only")

    _assert_recorded_task(case, read.reading)
    assert id_ in read.active


@pytest.mark.parametrize("case", SQL_CASES, ids=[case["id"] for case in SQL_CASES])
def test_the_recorded_rows_give_the_recorded_task(case: dict[str, Any]) -> None:
    snapshot = _snapshot(case)

    _assert_recorded_task(case, Reading({snapshot.monitor.id: snapshot}, {}))


@each_absent
def test_a_monitor_recorded_as_absent_gets_no_task(
    case: dict[str, Any], fixture_readings: dict[str, FixtureReading]
) -> None:
    read = fixture_readings[case["database"]]
    id_ = _monitor_id(case["monitor"])

    planned = _plan(id_, 1_795_000_000_000, read.reading, "UTC")

    assert id_ not in read.active
    assert [type(order) for order in planned.orders] == [Drop]


def test_the_vectors_are_there() -> None:
    assert len({case["id"] for case in CASES}) == len(CASES) >= 177
    assert len(CASES) - len(SQL_CASES) >= 16
    assert len({case["id"] for case in ABSENT}) == len(ABSENT) >= 6


def _assert_recorded_task(case: dict[str, Any], reading: Reading) -> None:
    """Compare with the record, but for what the contract changes: no unique key, and a margin on the timeout."""
    id_ = _monitor_id(case["rows"]["monitor"])
    at_ms = _unix_ms(case["payload"]["scheduled_at"])

    (order,) = _plan(id_, at_ms, reading, case["server_tz"]).orders

    assert isinstance(order, Enqueue)
    assert order.cadence.period_ms == case["payload"]["interval"] * 1000
    message = TaskMessage.FromString(order.message)
    fields = {field.name: value for field, value in message.ListFields()}
    payload = fields.pop("payload")
    assert json.loads(payload) == case["payload"]
    _assert_same_types(json.loads(payload), case["payload"])
    recorded = {name: value for name, value in case["message"].items() if name != "unique_key"}
    assert fields == recorded | {"timeout": max(0, case["message"].get("timeout", 0)) + TIMEOUT_MARGIN_S}


def _assert_same_types(ours: Any, recorded: Any) -> None:
    """Distinguish 1 from true and 20 from 20.0, which are equal in Python and fatal to a worker."""
    assert type(ours) is type(recorded)
    if isinstance(recorded, dict):
        for key, value in recorded.items():
            _assert_same_types(ours[key], value)


def _plan(id_: MonitorId, at_ms: int, reading: Reading, server_tz: str) -> Plan:
    claim = Claim(at_ms, f"{at_ms + 5000}", None, False, (Claimed(id_, at_ms),), 0.0)
    return plan(claim, reading, ZoneInfo(server_tz), Spacing.SPREAD, release_ms=0)


def _unix_ms(text: str) -> int:
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(milliseconds=1)


def _monitor_id(monitor: dict[str, Any]) -> MonitorId:
    return MonitorId(monitor["_id"]["$oid"] if "_id" in monitor else monitor["id"])


async def _read_sqlite(folder: Path) -> FixtureReading:
    return await _read(open_catalog(sqlite_copy(folder, rows=True).settings(), connections=1, timeout_s=30), "sqlite")


async def _read_postgres(server: Postgres) -> FixtureReading:
    async with postgres_copy(server, rows=True) as database:
        return await _read(open_catalog(database.settings(), connections=1, timeout_s=30), "postgres")


async def _read_mongo(server: Secantus, *, as_hex: bool) -> FixtureReading:
    async with mongo_copy(server, rows=True) as database:
        if as_hex:
            await _write_ids_as_hex(database)
        return await _read(open_catalog(database.settings(), connections=1, timeout_s=30), "mongo")


async def _write_ids_as_hex(database: MongoDatabase) -> None:
    """Turn every id and reference from an ObjectId into its hex."""
    async with database.connected() as collections:
        for name in COLLECTIONS.values():
            documents = await collections[name].find().to_list()
            await collections[name].delete_many({})
            if documents:
                await collections[name].insert_many(
                    [
                        {field: str(value) if isinstance(value, ObjectId) else value for field, value in one.items()}
                        for one in documents
                    ]
                )


async def _read(catalog: Catalog, database: str) -> FixtureReading:
    recorded = (case["rows"]["monitor"] for case in CASES if case["database"] == database)
    absent = (case["monitor"] for case in ABSENT if case["database"] == database)
    try:
        reading = await catalog.read([*map(_monitor_id, recorded), *map(_monitor_id, absent)])
        page = await catalog.active(None, 10_000)
    finally:
        await catalog.close()
    assert page.next_after is None
    return FixtureReading(reading, {monitor.id for monitor in page.monitors})


def _snapshot(case: dict[str, Any]) -> Snapshot:
    """Build the snapshot as the catalog does, from the recorded rows as a driver delivers them."""
    recorded, postgres = case["rows"], case["database"] == "postgres"
    monitor = _value(rows.MONITORS, _columns(recorded["monitor"], Monitor, postgres=postgres))
    proxy, beat = recorded["proxy"], recorded["newest_heartbeat"]
    return Snapshot(
        monitor,
        _value(rows.PROXIES, _columns(proxy, Proxy, postgres=postgres)) if proxy else None,
        tuple(
            rows.maintenances([_columns(one, Maintenance, postgres=postgres)])[0]
            for one in recorded["maintenances"]
            if one["active"]
        ),
        _value(rows.HEARTBEATS, _columns(beat, Heartbeat, postgres=postgres))
        if beat and monitor.type == "push"
        else None,
    )


def _columns(row: dict[str, Any], value: type[Any], *, postgres: bool) -> list[Any]:
    """Return a recorded row's columns in the order of a value's fields; Postgres delivers instants as datetimes."""
    columns = {name: row[name] for name in value.__struct_fields__}
    if postgres and value is Heartbeat:
        for name in ("time", "end_time"):
            columns[name] = datetime.fromisoformat(columns[name]) if columns[name] else None
    return list(columns.values())


def _value(kind: rows.Kind[T], row: rows.Row) -> T:
    (value,) = rows.values(kind, [row])
    assert not isinstance(value, CorruptRecord)
    return value
