"""What a reading of the database gives."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeGuard

from msgspec import Struct

from peekaping_producer.model.monitor import MonitorId, Schedulable, Snapshot
from peekaping_producer.observe.outcomes import Outcome

MOST_NAMED = 100
"""Monitors of one name that are read: more than a person chooses from."""


class Reading(Struct, frozen=True):
    """The rows of one batch. An id in none of them has no row."""

    found: dict[MonitorId, Snapshot]
    """Active or not."""
    invalid: dict[MonitorId, str]
    """Rows that are nonsense, each with the reason; never a secret in it."""
    deferred: dict[MonitorId, Outcome] = {}
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
