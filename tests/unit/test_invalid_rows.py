"""Why a row is invalid: in words that an operator understands, and without secrets."""

import re
from typing import Any

import pytest
from bson import Decimal128
from bson.datetime_ms import DatetimeMS

from peekaping_producer.catalog import rows
from peekaping_producer.errors import CorruptRecord
from peekaping_producer.model.monitor import Monitor, Proxy

SECRET = "s3cr3t-never-shown"
ID = "11111111-1111-4111-8111-111111111111"
MONITOR = Monitor(ID, "Shop", "http", 60, 16, 3, 30, 0, True, f'{{"password": "{SECRET}"}}', None)  # type: ignore[arg-type]
PROXY = Proxy(ID, "http", "proxy.example.org", 3128, True, "user", SECRET)
ALIEN = re.compile(r"`|\$|Expected|\bint32\b|<=|>=|\bstr\b|\bNone\b|\bnull\b")
"""Words of the code, which no reason uses."""


def reason(kind: rows.Kind[Any], row: rows.Row) -> str:
    """Return why the row is invalid."""
    (record,) = rows.values(kind, [row])
    assert isinstance(record, CorruptRecord), record
    assert SECRET not in record.reason
    assert not ALIEN.search(record.reason), record.reason
    return record.reason


def a_row(value: Monitor | Proxy, **wrong: object) -> rows.Row:
    return [wrong.get(field, getattr(value, field)) for field in value.__struct_fields__]


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("interval", 0, "interval is 0 s: must be at least 1 s"),
        ("interval", -5, "interval is -5 s: must be at least 1 s"),
        ("interval", 2**31, "interval is 2147483648 s: must be at most 2147483647 s"),
        ("interval", None, "interval is not set: must be a whole number of seconds"),
        ("interval", "abc", "interval is 'abc': must be a whole number of seconds"),
        ("interval", "x" * 100, f"interval is '{'x' * 39}…: must be a whole number of seconds"),
        ("interval", 20.5, "interval is 20.5: must be a whole number of seconds"),
        ("interval", 20.0, "interval is 20.0: must be a whole number of seconds"),
        ("interval", True, "interval is true: must be a whole number of seconds"),
        ("interval", b"\0", "interval is binary data: must be a whole number of seconds"),
        ("interval", [20], "interval is a list: must be a whole number of seconds"),
        ("interval", Decimal128("20"), "interval is of type Decimal128: must be a whole number of seconds"),
        ("timeout", 2**40, "timeout is 1099511627776 s: must be at most 2147483647 s"),
        ("max_retries", "many", "max_retries is 'many': must be a whole number"),
        ("active", 2, "active is 2: must be true or false"),
        ("active", "yes", "active is 'yes': must be true or false"),
        ("name", 5, "name is a number: must be text"),
        ("name", "A\udcffB", "name is not valid UTF-8"),
        ("type", ["http"], "type is a list: must be text"),
        ("config", {"password": SECRET}, "config is an object: must be text"),
        ("config", f"{SECRET}\udcff", "config is not valid UTF-8"),
        ("proxy_id", 5, "proxy_id is a number: must be text"),
    ],
)  # fmt: skip
def test_of_a_monitor(field: str, value: object, expected: str) -> None:
    assert reason(rows.MONITORS, a_row(MONITOR, **{field: value})) == expected


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("port", 80.5, "proxy's port is 80.5: must be a whole number"),
        ("auth", "maybe", "proxy's auth is 'maybe': must be true or false"),
        ("password", f"{SECRET}\udcff", "proxy's password is not valid UTF-8"),
        ("password", SECRET.encode(), "proxy's password is binary data: must be text"),
    ],
)
def test_of_its_proxy(field: str, value: object, expected: str) -> None:
    assert reason(rows.PROXIES, a_row(PROXY, **{field: value})) == expected


@pytest.mark.parametrize(
    ("number", "value", "expected"),
    [
        (2, "up", "newest heartbeat's status is 'up': must be a whole number"),
        (3, 5, "newest heartbeat's msg is a number: must be text"),
        (9, "yesterday", "newest heartbeat's time is not a date and time"),
        (9, 20260101, "newest heartbeat's time is a number: must be a date and time"),
        (9, None, "newest heartbeat's time is not set: must be a date and time"),
        (9, DatetimeMS(10**18), "newest heartbeat's time is of type DatetimeMS: must be a date and time"),
    ],
)
def test_of_its_newest_heartbeat(number: int, value: object, expected: str) -> None:
    row: list[object] = [ID, ID, 1, SECRET, 1, 2, 0, 0, True, "2026-01-02 03:04:05", None, False]
    row[number] = value
    assert reason(rows.HEARTBEATS, row) == expected


def test_of_a_row_of_a_page() -> None:
    assert reason(rows.SCHEDULABLES, [ID, 0, None, None, True]) == "interval is 0 s: must be at least 1 s"
    assert reason(rows.SCHEDULABLES, [ID, 60, None, None, "yes"]) == "active is 'yes': must be true or false"
