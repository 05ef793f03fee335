"""From a row to a frozen value, strictly: what a worker could not read raises CorruptRecord here."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from msgspec import ValidationError, convert

from peekaping_producer.errors import CorruptRecord
from peekaping_producer.monitor import Heartbeat, Maintenance, Monitor, Proxy, Schedulable

Row = Sequence[Any]
T = TypeVar("T")

_BOOLS = {0: False, 1: True}
_MONITOR = Monitor.__struct_fields__
_PROXY = Proxy.__struct_fields__
_HEARTBEAT = Heartbeat.__struct_fields__


def monitor(row: Row) -> Monitor:
    """Return the value of a row of `monitors`, its columns in the order of Monitor's fields."""
    values = dict(zip(_MONITOR, row, strict=True))
    values["active"] = _bool(values["active"])
    values["config"] = _config(values["config"])
    return _value(values, Monitor, "")


def proxy(row: Row) -> Proxy:
    """Return the value of a row of `proxies`, its columns in the order of Proxy's fields."""
    values = dict(zip(_PROXY, row, strict=True))
    values["auth"] = _bool(values["auth"])
    values["username"] = values["username"] or ""
    values["password"] = values["password"] or ""
    return _value(values, Proxy, "proxy: ")


def heartbeat(row: Row) -> Heartbeat:
    """Return the value of a row of `heartbeats`, its columns in the order of Heartbeat's fields."""
    values = dict(zip(_HEARTBEAT, row, strict=True))
    if values["msg"] is None:
        values["msg"] = ""
    for field in ("ping", "duration", "down_count", "retries"):
        if values[field] is None:
            values[field] = 0
    for field in ("important", "notified"):
        values[field] = _bool(values[field])
    for field in ("time", "end_time"):
        try:
            values[field] = instant(values[field])
        except CorruptRecord as error:
            raise CorruptRecord(f"newest heartbeat: {field} {error.reason}") from None
    return _value(values, Heartbeat, "newest heartbeat: ")


def maintenance(row: Row) -> Maintenance:
    """Return the value of a row of `maintenances`; a field of a wrong type reads as missing, never as an error."""
    id_, _active, strategy, start, end, start_time, end_time, interval_day, cron, timezone, duration = row
    return Maintenance(
        id_,
        True,  # noqa: FBT003 - the statement reads active ones only
        _text_or_none(strategy) or "",
        _text_or_none(start),
        _text_or_none(end),
        _text_or_none(start_time),
        _text_or_none(end_time),
        interval_day if type(interval_day) is int else None,
        # A strategy that can't be read must not turn into `cron`, as an unknown one does.
        _text_or_none(cron) if isinstance(strategy, str) else None,
        _text_or_none(timezone),
        duration if type(duration) is int else None,
    )


def schedulable(row: Row) -> Schedulable:
    """Return the value of a row of id, interval, created_at, updated_at and active.

    Raises CorruptRecord for what is no such thing: in SQLite a column may hold anything.
    """
    id_, interval, created_at, updated_at, active = row
    if _bool(active) is not True:
        raise CorruptRecord("active is neither true nor false")
    values = {"created_at": instant_or_none(created_at), "updated_at": instant_or_none(updated_at)}
    return _value({"id": id_, "interval": interval, **values}, Schedulable, "")


def instant_or_none(value: object) -> datetime | None:
    """Return a timestamp as aware UTC, None where it is NULL or nonsense."""
    try:
        return instant(value)
    except CorruptRecord:
        return None


def instant(value: object) -> datetime | None:
    """Return a timestamp as aware UTC: Postgres delivers naive ones in UTC, SQLite text with or without a zone."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise CorruptRecord("is no date and time") from None
    if not isinstance(value, datetime):
        raise CorruptRecord(f"is no date and time but of type {type(value).__name__}")
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise CorruptRecord("is beyond the years 1 to 9999 in UTC") from None


def _value(values: dict[str, Any], type_: type[T], where: str) -> T:
    for field, value in values.items():
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise CorruptRecord(f"{where}{field} is not UTF-8") from None
        elif type(value) is float:
            raise CorruptRecord(f"{where}{field} is not a whole number")
    try:
        return convert(values, type_)
    except ValidationError as error:
        raise CorruptRecord(f"{where}{error}") from None


def _bool(value: object) -> object:
    """SQLite stores 0 and 1; anything else is left for `convert` to refuse."""
    return _BOOLS.get(value, value) if type(value) is int else value


def _config(value: object) -> object:
    """Return the column's own text; SQLite stores a bare number as one."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return repr(value) if isinstance(value, int | float) else value


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None
