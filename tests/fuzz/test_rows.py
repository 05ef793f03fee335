"""Rows and documents of any values: each is a value that a worker can read, or says why it is not."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from bson import Decimal128, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from fuzz.garbage import SECRET, examples, json_values, plain
from peekaping_producer.asynq.payload import build_task
from peekaping_producer.asynq.task_message_pb2 import TaskMessage
from peekaping_producer.catalog import mongo, rows
from peekaping_producer.catalog.assembly import maintenances_of, monitors_of, page_of, reading_of, retries_of
from peekaping_producer.catalog.last_known import MB, LastKnown
from peekaping_producer.catalog.reading import Reading
from peekaping_producer.model.maintenance import under_maintenance
from peekaping_producer.model.monitor import Heartbeat, Maintenance, Monitor, MonitorId, Proxy, Schedulable

ID = MonitorId("11111111-1111-4111-8111-111111111111")
HEX = MonitorId("0123456789abcdef01234567")
NOW = datetime(2026, 5, 17, 12, tzinfo=UTC)

instants = (
    st.datetimes()
    | st.datetimes(timezones=st.timezones())
    | st.sampled_from(
        ["2026-01-02 03:04:05.678+00:00", "0001-01-01 00:00:00+14:00", "9999-12-31T23:59:59-12:00", "2026-13-01", "now"]
    )
)
driver_values = (
    json_values | st.binary(max_size=20) | instants | st.decimals() | st.sampled_from([Decimal128("20"), ObjectId(HEX)])
)
"""What any of the drivers may return."""
secrets = st.sampled_from([SECRET, f"{SECRET}\udcff", SECRET.encode(), [SECRET], {"a": SECRET}])
windows = st.sampled_from(
    [
        "manual",
        "single",
        "recurring-interval",
        "recurring-weekday",
        "cron",
        "2026-01-01T00:00",
        "2027-01-01T00:00",
        "0001-01-01T00:00",
        "9999-12-31T23:59",
        "10:00",
        "25:61",
        "* * * * *",
        "*/7 * 31 2 *",
        "TZ=Europe/Berlin 0 3 * * 1",
        "TZ=UTC",
        "Europe/Berlin",
        "SAME_AS_SERVER",
        "../..",
        1,
        60,
        10**12,
    ]
)


def a_row(
    columns: Sequence[str], good: dict[str, Any], wrong: st.SearchStrategy[Any], **secret: st.SearchStrategy[Any]
) -> st.SearchStrategy[list[Any]]:
    """Return rows in which some columns have other values than the good ones, and some hold a secret."""
    others = st.dictionaries(st.sampled_from(columns), wrong, max_size=4)
    with_secrets = st.fixed_dictionaries({}, optional=secret)
    return st.builds(lambda other, more: [(good | other | more)[name] for name in columns], others, with_secrets)


MONITOR = {
    "id": ID, "name": "Shop", "type": "push", "interval": 60, "timeout": 16, "max_retries": 3, "retry_interval": 30,
    "resend_interval": 0, "active": True, "config": "{}", "proxy_id": "p",
}  # fmt: skip
PROXY = {
    "id": "p", "protocol": "http", "host": "proxy", "port": 3128, "auth": True, "username": "me", "password": SECRET,
}  # fmt: skip
HEARTBEAT = {
    "id": "h", "monitor_id": ID, "status": 1, "msg": "", "ping": 1, "duration": 1, "down_count": 0, "retries": 0,
    "important": False, "time": NOW, "end_time": None, "notified": False,
}  # fmt: skip
MAINTENANCE = {
    "id": "m", "active": True, "strategy": "cron", "start_date_time": "2026-01-01T00:00", "timezone": "UTC",
    "end_date_time": "2027-01-01T00:00", "start_time": "10:00", "end_time": "12:00", "interval_day": 1,
    "cron": "0 * * * *", "duration": 90,
}  # fmt: skip

monitor_rows = a_row(rows.MONITORS.columns, MONITOR, driver_values, config=secrets)
proxy_rows = a_row(rows.PROXIES.columns, PROXY, driver_values, password=secrets, username=secrets)
heartbeat_rows = a_row(rows.HEARTBEATS.columns, HEARTBEAT, driver_values)
maintenance_rows = a_row(rows.MAINTENANCE_COLUMNS, MAINTENANCE, driver_values | windows)
schedulable_rows = a_row(
    rows.SCHEDULABLES.columns,
    {"id": ID, "interval": 60, "created_at": NOW, "updated_at": NOW, "active": 1},
    driver_values,
)


def check(reading: Reading) -> None:
    """Build the checks of all that is valid; the reasons of the rest are one line and show no secret."""
    for reason in reading.invalid.values():
        assert "\n" not in reason
        assert SECRET not in reason
        assert "unexpected" not in reason
    for snapshot in reading.found.values():
        verdict = under_maintenance(snapshot.maintenances, NOW, ZoneInfo("UTC"))
        assert all("\n" not in one.reason for one in verdict.broken)
        message = build_task(snapshot, "2026-05-17T12:00:00Z", under_maintenance=verdict.under_maintenance)
        payload = json.loads(TaskMessage.FromString(message).payload)
        assert isinstance(payload["interval"], int)
        assert payload["interval"] > 0
        assert isinstance(payload["config"], str)
    cache = LastKnown(MB)
    cache.keep(list(reading.found), reading, 0)
    cache.read(list(reading.found), 0, 0)


@given(monitor_rows, proxy_rows, maintenance_rows, heartbeat_rows)
@examples(60)
def test_rows_make_a_check_or_are_invalid(
    monitor: list[Any], proxy: list[Any], maintenance: list[Any], heartbeat: list[Any]
) -> None:
    monitor[rows.MONITORS.at("id")] = heartbeat[rows.HEARTBEATS.at("monitor_id")] = ID
    maintenance[rows.MAINTENANCE_COLUMNS.index("id")] = "m"
    invalid: dict[MonitorId, str] = {}
    monitors = monitors_of([monitor], {ID}, invalid)
    maintenances = maintenances_of([(ID, maintenance)])
    check(reading_of(monitors, {"p": proxy}, maintenances, [heartbeat], invalid))


documents = st.dictionaries(st.sampled_from(["interval", "active", "config", "name", "proxy_id", "x"]), driver_values)


@given(documents, st.dictionaries(st.sampled_from(rows.MAINTENANCE_COLUMNS), driver_values | windows))
@examples(40)
def test_documents_make_a_check_or_are_invalid(monitor: dict[str, Any], maintenance: dict[str, Any]) -> None:
    oid, invalid = ObjectId(HEX), dict[MonitorId, str]()
    found = mongo._rows([{**MONITOR, **monitor, "_id": oid}], rows.MONITORS.columns, Monitor)
    monitors = monitors_of(found, {HEX}, invalid)
    (row,) = mongo._rows([{**MAINTENANCE, **maintenance, "_id": oid}], rows.MAINTENANCE_COLUMNS, Maintenance)
    check(reading_of(monitors, {}, maintenances_of([(HEX, row)]), [], invalid))
    for columns, model in ((rows.PROXIES, Proxy), (rows.HEARTBEATS, Heartbeat), (rows.SCHEDULABLES, Schedulable)):
        kind: rows.Kind[Any] = columns
        rows.values(kind, mongo._rows([monitor], kind.columns, model))


@given(st.lists(schedulable_rows, max_size=3))
@examples(40)
def test_a_page_has_each_row_or_the_reason_why_not(found: list[list[Any]]) -> None:
    for n, row in enumerate(found):
        row[0] = f"{n}{ID[1:]}"
    page = page_of(found, None)
    assert len(page.monitors) + len(page.invalid) == len(found)
    assert all("\n" not in reason for reason in page.invalid.values())


@given(st.lists(st.tuples(driver_values, driver_values, driver_values), max_size=3))
@examples(40)
def test_a_retry_interval_is_shorter_than_the_interval_or_none(found: list[tuple[Any, Any, Any]]) -> None:
    for retry in retries_of((str(n), *values) for n, values in enumerate(found)).values():
        assert type(retry.seconds) is int
        assert retry.seconds > 0


@given(plain, st.lists(maintenance_rows, max_size=2))
@examples(40)
def test_a_maintenance_of_any_values_is_in_its_window_or_not(id_: Any, found: list[list[Any]]) -> None:
    for row in found:
        row[0] = str(id_)
    verdict = under_maintenance(rows.maintenances(found), NOW, ZoneInfo("Europe/Berlin"))
    assert verdict.under_maintenance in (True, False)


def test_the_secret_would_be_seen_if_it_were_shown() -> None:
    reading = reading_of({}, {}, {}, [], {ID: f"password is {SECRET}"})
    with pytest.raises(AssertionError):
        check(reading)
