"""From rows to frozen values, strictly: a row that a worker could not read becomes a CorruptRecord (invariant 7)."""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Generic, TypeVar

from msgspec import Struct, ValidationError, convert
from msgspec.inspect import BoolType, DateTimeType, IntType
from msgspec.json import Encoder

from peekaping_producer.catalog.fields import Field, fields
from peekaping_producer.catalog.invalid import kind_of, shown, why_invalid
from peekaping_producer.errors import CorruptRecord
from peekaping_producer.model.monitor import Heartbeat, Maintenance, Monitor, Proxy, Schedulable
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.faults import Faults, described

Row = Sequence[Any]
Reader = Callable[[Any], object]
"""From a column's value to a field's; raises CorruptRecord."""
Prepare = Callable[[list[list[Any]]], None]
"""From rows to their values' fields, in place, as far as the fields' types allow; raises CorruptRecord."""
T = TypeVar("T", bound=Struct)

_BOOLS: Final = {0: False, 1: True}
_encoder = Encoder()
_faults = Faults(logging.getLogger(__name__).error)


class Kind(Struct, Generic[T], frozen=True):
    """How rows become values of one type."""

    one: type[T]
    many: type[list[T]]
    columns: tuple[str, ...]
    """What is read of a row, in this order."""
    prepare: Prepare
    where: str
    """Put before the reason of an invalid row."""

    def at(self, column: str) -> int:
        """Return the position of a column in a row."""
        return self.columns.index(column)


def values(kind: Kind[T], fetched: Sequence[Row]) -> list[T | CorruptRecord]:
    """Return each row's value, or why it has none: all in one step, and row by row if that fails."""
    try:
        prepared = list(map(list, fetched))
        kind.prepare(prepared)
        made: list[T | CorruptRecord] = convert(prepared, kind.many)
        # Fails for text that is not valid UTF-8, which no worker could read.
        _encoder.encode(made)
    except Exception:  # noqa: BLE001 - whatever it is, one row causes it
        return [_value(kind, row) for row in fetched]
    return made


def _value(kind: Kind[T], row: Row) -> T | CorruptRecord:
    try:
        prepared = list(row)
        kind.prepare([prepared])
        reason = why_invalid(kind.one, prepared)
        return CorruptRecord(f"{kind.where}{reason}") if reason else convert(prepared, kind.one)
    except CorruptRecord as error:
        return CorruptRecord(f"{kind.where}{error.reason}")
    except ValidationError as error:
        return CorruptRecord(f"{kind.where}{error}")
    except Exception as error:  # noqa: BLE001 - one row must not fail the others, whatever it is
        _faults.note(LogEvent.ROW_FAILED, error)
        return CorruptRecord(f"{kind.where}{described(error)}")


def _preparing(model: type[Struct], **special: Reader) -> Prepare:
    """Return what prepares rows: each value by its field's type, or by the field's `special` reader."""
    found = list(enumerate(fields(model)))
    nulls = [(at, field.null) for at, field in found if field.null is not None]
    bools = [at for at, field in found if isinstance(field.type, BoolType)]
    readers = [(at, reader) for at, field in found if (reader := special.get(field.name) or _reader(field))]

    def prepare(rows: list[list[Any]]) -> None:
        # Column by column, which is faster than row by row.
        for at, null in nulls:
            for row in rows:
                if row[at] is None:
                    row[at] = null
        for at in bools:
            for row in rows:
                if type(row[at]) is int:
                    row[at] = _bool(row[at])
        for at, reader in readers:
            for row in rows:
                row[at] = reader(row[at])

    return prepare


def _reader(field: Field) -> Reader | None:
    """Return what reads a field of this type; None for one that needs no reader."""
    return partial(_instant_of, field.name) if isinstance(field.type, DateTimeType) else None


def _bool(value: object) -> object:
    """SQLite stores 0 and 1; anything else is left for `convert` to refuse."""
    return _BOOLS.get(value, value) if type(value) is int else value


def _config(value: object) -> object:
    """Return the column's own text; SQLite stores a bare number as a number, not as text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return repr(value) if isinstance(value, int | float) else value


def _instant_of(name: str, value: object) -> datetime | None:
    try:
        return instant(value)
    except CorruptRecord as error:
        raise CorruptRecord(f"{name} {error.reason}") from None


def instant(value: object) -> datetime | None:
    """Return a timestamp as aware UTC: Postgres returns naive ones in UTC, SQLite text with or without a zone."""
    if not isinstance(value, datetime):
        if value is None:
            return None
        if not isinstance(value, str):
            raise CorruptRecord(f"is {kind_of(value)}: must be a date and time")
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise CorruptRecord("is not a date and time") from None
    if value.tzinfo is UTC:
        return value
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise CorruptRecord("is outside the years 1 to 9999 in UTC") from None


def instant_or_none(value: object) -> datetime | None:
    """Return a timestamp as aware UTC, None where it is NULL or can't be read."""
    try:
        return instant(value)
    except CorruptRecord:
        return None


_SCHEDULABLE_COLUMNS: Final = (*Schedulable.__struct_fields__, "active")
_ACTIVE = _SCHEDULABLE_COLUMNS.index("active")
_prepare_schedulable = _preparing(Schedulable, created_at=instant_or_none, updated_at=instant_or_none)


def _schedulable(rows: list[list[Any]]) -> None:
    for row in rows:
        active = row.pop(_ACTIVE)
        if active is not True and _bool(active) is not True:
            raise CorruptRecord(f"active is {shown(active)}: must be true or false")
    _prepare_schedulable(rows)


MONITORS: Final = Kind(Monitor, list[Monitor], Monitor.__struct_fields__, _preparing(Monitor, config=_config), "")
PROXIES: Final = Kind(Proxy, list[Proxy], Proxy.__struct_fields__, _preparing(Proxy), "proxy's ")
HEARTBEATS: Final = Kind(
    Heartbeat, list[Heartbeat], Heartbeat.__struct_fields__, _preparing(Heartbeat), "newest heartbeat's "
)
SCHEDULABLES: Final = Kind(Schedulable, list[Schedulable], _SCHEDULABLE_COLUMNS, _schedulable, "")
"""Rows of `monitors`, with `active`, which in SQLite may hold anything."""
RETRY_COLUMNS: Final = ("id", "interval", "retry_interval", "status")
"""What is read of `monitors` with PRODUCER_RETRY_INTERVAL only."""
MAINTENANCE_COLUMNS: Final = Maintenance.__struct_fields__
_MAINTENANCE_ACTIVE = MAINTENANCE_COLUMNS.index("active")


def maintenances(fetched: Sequence[Row]) -> list[Maintenance]:
    """Return the values of rows of `maintenances`; a field of a wrong type reads as missing, never as an error.

    The rows are those of active ones.
    """
    rows = [list(row) for row in fetched]
    for row in rows:
        row[_MAINTENANCE_ACTIVE] = True
    try:
        return convert(rows, list[Maintenance])
    except Exception:  # noqa: BLE001 - whatever it is, one row causes it
        return list(map(_lenient, rows))


def _lenient(row: Row) -> Maintenance:
    found: dict[str, Any] = dict(zip(MAINTENANCE_COLUMNS, row, strict=True))
    read: dict[str, Any] = {field.name: _as_missing(field, found[field.name]) for field in fields(Maintenance)}
    if not isinstance(found["strategy"], str):
        # An unknown strategy counts as `cron`; an unreadable one must not.
        read["cron"] = None
    return Maintenance(**read | {"id": found["id"]})


def _as_missing(field: Field, value: object) -> object:
    """Return a value if it is of the field's type, else what NULL reads as."""
    if isinstance(field.type, BoolType):
        return value
    wanted = int if isinstance(field.type, IntType) else str
    return value if type(value) is wanted else field.null
