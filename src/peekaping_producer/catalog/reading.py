"""What a reading of the database returns."""

from collections.abc import Iterable
from datetime import datetime
from typing import TypeGuard

from msgspec import Struct

from peekaping_producer.model.monitor import MonitorId, Retry, Schedulable, Snapshot
from peekaping_producer.observe.outcomes import Outcome


class Reading(Struct, frozen=True):
    """The rows of one batch. An id that is in none of these has no row."""

    found: dict[MonitorId, Snapshot]
    """Active or not."""
    invalid: dict[MonitorId, str]
    """Rows that no check can be built from, each with the reason, which shows no secret."""
    deferred: dict[MonitorId, Outcome] = {}
    """Monitors that the cache cannot serve, each with the reason; empty when the database answered."""
    from_cache: bool = False
    """The database is unavailable, and this is what was read before."""
    age_s: float = 0
    """How long ago the oldest of `found` was read."""
    retries: dict[MonitorId, Retry] = {}
    """Of monitors whose retry interval is shorter than their interval; empty without PRODUCER_RETRY_INTERVAL."""


Place = MonitorId | int
"""Where a page of changes ends: an id, or in SQLite the number of a row."""


class Page(Struct, frozen=True):
    """Some of the active monitors, in the order of their ids."""

    monitors: tuple[Schedulable, ...]
    invalid: dict[str, str]
    """Active rows that are invalid, each with the reason."""
    next_after: MonitorId | None
    """Where the next page begins; None if this is the last."""
    retries: dict[MonitorId, Retry] = {}
    """As in a reading."""


class Changes(Struct, frozen=True):
    """Some of the recently changed monitors, active or not, in the order in which the table is read."""

    ids: tuple[MonitorId, ...]
    newest: datetime | None
    """The newest `updated_at` among them, aware, UTC."""
    next_after: Place | None
    """Where the next page begins; None if this is the last."""


class Named(Struct, frozen=True):
    """A monitor with its name."""

    id: MonitorId
    name: str


class Result(Struct, frozen=True):
    """The result of one check, as Peekaping has stored it."""

    time: datetime
    """Aware, UTC."""
    status: int
    """0 down, 1 up, 2 pending, 3 maintenance."""
    ping_ms: int | None


class Facts(Struct, frozen=True):
    """What an operator wants to know of the database itself."""

    kind: str
    """Its name, such as `PostgreSQL`."""
    version: str
    tables: tuple[str, ...]
    """The tables or collections that are read."""
    tls: bool | None
    """Whether the connection is encrypted; None for a file."""
    journal_mode: str | None = None
    """Of SQLite, in its words."""


class Counts(Struct, frozen=True):
    """How many monitors there are. Counting ends at a limit, so that it takes no longer on a million."""

    monitors: int
    active: int
    """How many of those counted are active."""
    more: bool
    """There are more than were counted."""


def named(rows: Iterable[tuple[object, object]], wanted: str) -> list[Named]:
    """Return the rows of id and name that have the wanted name; if none matches exactly, those that do in any case."""
    found = [Named(MonitorId(id_), name) for id_, name in rows if isinstance(id_, str) and is_text(name)]
    exact = [monitor for monitor in found if monitor.name == wanted]
    alike = [monitor for monitor in found if monitor.name.lower() == wanted.lower()]
    return exact or alike


def results(rows: Iterable[tuple[object, object, object]]) -> list[Result]:
    """Return the results of rows of time, status and ping; those that are no such values are left out."""
    return [
        Result(time, status, ping if isinstance(ping, int) else None)
        for time, status, ping in rows
        if isinstance(time, datetime) and isinstance(status, int)
    ]


def is_text(value: object) -> TypeGuard[str]:
    """Return whether this is valid UTF-8 text; a text in SQLite need not be."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
