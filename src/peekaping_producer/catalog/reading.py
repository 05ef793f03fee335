"""What a reading of the database gives."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeGuard

from msgspec import Struct

from peekaping_producer.model.monitor import MonitorId, Schedulable, Snapshot

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
MOST_NAMED = 100
"""Monitors of one name that are read: more than a person chooses from."""
_OBJECT_ID = re.compile(r"[0-9a-f]{24}")


class Reading(Struct, frozen=True):
    """The rows of one batch. An id in none of them has no row."""

    found: dict[MonitorId, Snapshot]
    """Active or not."""
    invalid: dict[MonitorId, str]
    """Rows that are nonsense, each with the reason; never a secret in it."""
    deferred: dict[MonitorId, str] = {}
    """Of which nothing is known now, each with the reason; a database that answers leaves this empty."""
    from_cache: bool = False
    """The database is away, and this is what was read before."""
    age_s: float = 0
    """How long ago the oldest of `found` was read."""


Place = MonitorId | int
"""Where a page of changes ends: an id, or in SQLite the number of a row."""


class Page(Struct, frozen=True):
    """Some of the active monitors, in the order of their ids."""

    monitors: tuple[Schedulable, ...]
    invalid: dict[str, str]
    """Active rows that are nonsense, each with the reason."""
    next_after: MonitorId | None
    """Where the next page begins; None when this is the last."""


class Changes(Struct, frozen=True):
    """Some of the monitors that were changed recently, active or not, in the order in which the table is read."""

    ids: tuple[MonitorId, ...]
    newest: datetime | None
    """The newest `updated_at` among them, aware, UTC."""
    next_after: Place | None
    """Where the next page begins; None when this is the last."""


class Named(Struct, frozen=True):
    """A monitor by the name that people know it by."""

    id: MonitorId
    name: str


def named(rows: Iterable[Sequence[object]], wanted: str) -> list[Named]:
    """Return those rows of id and name that have the wanted name: exactly, or else but for upper and lower case."""
    found = [Named(MonitorId(id_), name) for id_, name in rows if isinstance(id_, str) and is_text(name)]
    exact = [monitor for monitor in found if monitor.name == wanted]
    alike = [monitor for monitor in found if monitor.name.lower() == wanted.lower()]
    return exact or alike


def is_text(value: object) -> TypeGuard[str]:
    """Tell whether this is text that can be written, as SQLite's need not be."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_uuid(text: str) -> bool:
    """Tell whether this is an id as the SQL databases have it: a UUID in lower case, with dashes."""
    return _UUID.fullmatch(text) is not None


def is_object_id(text: str) -> bool:
    """Tell whether this is an id as MongoDB has it: an ObjectId's hex in lower case."""
    return _OBJECT_ID.fullmatch(text) is not None


def is_monitor_id(text: str) -> bool:
    """Tell whether this is an id of either kind."""
    return is_uuid(text) or is_object_id(text)
