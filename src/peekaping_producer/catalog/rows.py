"""From rows to frozen values, strictly: a row that a worker could not read becomes a CorruptRecord (invariant 7)."""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from msgspec import Struct, ValidationError, convert
from msgspec.json import Encoder

from peekaping_producer.catalog.invalid import kind_of, shown, why_invalid
from peekaping_producer.errors import CorruptRecord
from peekaping_producer.model.monitor import Heartbeat, Maintenance, Monitor, Proxy, Schedulable
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.faults import Faults, described

Row = Sequence[Any]
T = TypeVar("T", bound=Struct)

_BOOLS = {0: False, 1: True}
_encoder = Encoder()
_faults = Faults(logging.getLogger(__name__).error)


class Kind(Struct, Generic[T], frozen=True):
    """How rows become values of one type."""

    one: type[T]
    many: type[list[T]]
    prepare: Callable[[Row], Sequence[object]]
    """From a row to the value's fields in their order, as far as their types allow; raises CorruptRecord."""
    where: str
    """Put before the reason of an invalid row."""


def values(kind: Kind[T], fetched: Sequence[Row]) -> list[T | CorruptRecord]:
    """Return each row's value, or why it has none: all in one step, and row by row where that fails."""
    try:
        made: list[T | CorruptRecord] = convert(list(map(kind.prepare, fetched)), kind.many)
        # What a worker could not read either: halves of characters.
        _encoder.encode(made)
    except Exception:  # noqa: BLE001 - foreseen or not, it is one row's
        return [_value(kind, row) for row in fetched]
    return made


def _value(kind: Kind[T], row: Row) -> T | CorruptRecord:
    try:
        prepared = kind.prepare(row)
        reason = why_invalid(kind.one, prepared)
        return CorruptRecord(f"{kind.where}{reason}") if reason else convert(prepared, kind.one)
    except CorruptRecord as error:
        return error
    except ValidationError as error:
        return CorruptRecord(f"{kind.where}{error}")
    except Exception as error:  # noqa: BLE001 - one row must not fail the others, whatever it is
        _faults.note(LogEvent.ROW_FAILED, error)
        return CorruptRecord(f"{kind.where}{described(error)}")


def _monitor(row: Row) -> Sequence[object]:
    *texts_and_numbers, active, config, proxy_id = row
    return (*texts_and_numbers, _bool(active), config if type(config) is str else _config(config), proxy_id)


def _proxy(row: Row) -> Sequence[object]:
    id_, protocol, host, port, auth, username, password = row
    return id_, protocol, host, port, _bool(auth), username or "", password or ""


def _heartbeat(row: Row) -> Sequence[object]:
    id_, monitor_id, status, msg, *numbers, important, time, end_time, notified = row
    times = [_heartbeat_time(name, value) for name, value in (("time", time), ("end_time", end_time))]
    numbers = [0 if number is None else number for number in numbers]
    return (id_, monitor_id, status, "" if msg is None else msg, *numbers, _bool(important), *times, _bool(notified))


def _heartbeat_time(name: str, value: object) -> datetime | None:
    try:
        return instant(value)
    except CorruptRecord as error:
        raise CorruptRecord(f"newest heartbeat's {name} {error.reason}") from None


def _schedulable(row: Row) -> Sequence[object]:
    id_, interval, created_at, updated_at, active = row
    if _bool(active) is not True:
        raise CorruptRecord(f"active is {shown(active)}: must be true or false")
    return id_, interval, instant_or_none(created_at), instant_or_none(updated_at)


def maintenances(fetched: Sequence[Row]) -> list[Maintenance]:
    """Return the values of rows of `maintenances`; a field of a wrong type reads as missing, never as an error."""
    try:
        # The statements read active ones only.
        return convert([(id_, True, *others) for id_, _active, *others in fetched], list[Maintenance])
    except Exception:  # noqa: BLE001 - foreseen or not, it is one row's
        return list(map(_maintenance, fetched))


def _maintenance(row: Row) -> Maintenance:
    id_, _active, strategy, start, end, start_time, end_time, interval_day, cron, timezone, duration = row
    return Maintenance(
        id_,
        True,  # noqa: FBT003 - likewise
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
            raise CorruptRecord("is not a date and time") from None
    if not isinstance(value, datetime):
        raise CorruptRecord(f"is {kind_of(value)}: must be a date and time")
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise CorruptRecord("is outside the years 1 to 9999 in UTC") from None


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


MONITORS = Kind(Monitor, list[Monitor], _monitor, "")
"""Rows of `monitors`, their columns in the order of Monitor's fields."""
PROXIES = Kind(Proxy, list[Proxy], _proxy, "proxy's ")
"""Rows of `proxies`, likewise."""
HEARTBEATS = Kind(Heartbeat, list[Heartbeat], _heartbeat, "newest heartbeat's ")
"""Rows of `heartbeats`, likewise."""
SCHEDULABLES = Kind(Schedulable, list[Schedulable], _schedulable, "")
"""Rows of id, interval, created_at, updated_at and active, which in SQLite may hold anything."""
