"""Peekaping's tables, as far as the producer reads them (docs/protocol.md, section 4), and the statements for that.

The columns have no types on purpose: `rows` checks what a driver returns, value by value.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import (
    Column,
    ColumnClause,
    ColumnElement,
    MetaData,
    Select,
    Table,
    Text,
    bindparam,
    case,
    column,
    false,
    func,
    select,
    true,
)
from sqlalchemy.types import TypeEngine

from peekaping_producer.catalog import rows
from peekaping_producer.catalog.limits import MOST_COUNTED, MOST_STRAYS

_metadata = MetaData()


def _table(name: str, columns: Iterable[str]) -> Table:
    return Table(name, _metadata, *map(Column, dict.fromkeys(columns)))


MONITORS = _table("monitors", (*rows.MONITORS.columns, *rows.SCHEDULABLES.columns))
STATUS: Final[ColumnClause[Any]] = column("status")
"""Of `monitors`. Not in its table, whose columns must all exist: it is read with PRODUCER_RETRY_INTERVAL only."""
PROXIES = _table("proxies", rows.PROXIES.columns)
MAINTENANCES = _table("maintenances", rows.MAINTENANCE_COLUMNS)
LINKS = _table("monitor_maintenances", ("monitor_id", "maintenance_id"))
LINK_COLUMNS: Final = ("monitor_id",)
"""Those that are read of a link."""
HEARTBEATS = _table("heartbeats", rows.HEARTBEATS.columns)
TABLES: tuple[Table, ...] = tuple(_metadata.tables.values())
TABLE_NAMES: Final = tuple(_metadata.tables)
_ESCAPE = "!"
"""The escape character of LIKE patterns; not a backslash, with which some databases escape in string literals, too."""
_READ_AS_TEXT = frozenset({"id", "monitor_id", "maintenance_id", "proxy_id", "config"})
"""Columns of ids and of JSON."""


def _as_is(column: Column[Any]) -> ColumnElement[Any]:
    return column


def _naive_utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(tzinfo=None)


class Dialect(Struct, frozen=True):
    """How the statements of one database differ from those of the others."""

    among_ids: Callable[[Column[Any]], ColumnElement[bool]]
    """Returns the condition that a column is one of the parameter `ids`."""
    as_text: Callable[[Column[Any]], ColumnElement[Any]] = _as_is
    """Returns what reads an id or JSON as the text that was written."""
    id_type: TypeEngine[Any] | None = None
    """Of a parameter that is an id, where the driver must know it."""
    place: ColumnElement[Any] | None = None
    """What pages of changes are ordered by; None for the id."""
    is_id: Callable[[Column[Any]], ColumnElement[bool]] | None = None
    """Returns the condition that an id is valid, where the column can hold anything."""
    stored_instant: Callable[[datetime], object] = _naive_utc
    """Returns an instant in the form that columns are compared with."""


class Statements(Struct, frozen=True):
    """The reading statements of one dialect. `ids` is a list of ids, `after` one id, `limit` a number of rows."""

    monitors: Select[Any]
    """A monitor's columns, and then those of its proxy."""
    maintenances: Select[Any]
    """The columns of a link, and then those of its maintenance."""
    heartbeats: Select[Any]
    first_page: Select[Any]
    next_page: Select[Any]
    active_of: Select[Any]
    """The active ones among `ids`, with the columns of a page."""
    retries: Select[Any]
    """The RETRY_COLUMNS of those among `ids` whose retry interval is shorter than their interval."""
    first_changes: Select[Any]
    """Ids, times and places of those changed at or after `since`, a stored instant."""
    next_changes: Select[Any]
    names: Select[Any]
    """Ids and names of those among `ids`."""
    named: Select[Any]
    """Ids and names of those of the name `name` in any case, exact matches first; `limit` of them."""
    search: Select[Any]
    """Ids and names of those whose name is like `pattern` in any case, in the order of names; `limit` of them."""
    results: Select[Any]
    """Times, statuses and pings of the newest heartbeats of the monitor `id`; `limit` of them."""
    counts: Select[Any]
    """The number of monitors, up to one more than MOST_COUNTED, and how many of them are active."""
    strays: Select[Any] | None
    """Some ids of active monitors that no page holds; None where pages hold all."""


def containing(text: str) -> str:
    """Return the pattern of LIKE for texts that contain this one."""
    for special in (_ESCAPE, "%", "_"):
        text = text.replace(special, _ESCAPE + special)
    return f"%{text}%"


@cache
def statements(dialect: Dialect) -> Statements:
    """Return the statements in a dialect."""

    def read(table: Table, columns: Iterable[str]) -> list[ColumnElement[Any]]:
        return [dialect.as_text(table.c[name]) if name in _READ_AS_TEXT else table.c[name] for name in columns]

    m = MONITORS.c
    among = dialect.among_ids
    monitor_id = dialect.as_text(m.id)
    older = HEARTBEATS.alias("older")
    newest = (
        select(older.c.id).where(older.c.monitor_id == m.id).order_by(older.c.time.desc()).limit(1).scalar_subquery()
    )
    schedulable = select(*read(MONITORS, rows.SCHEDULABLES.columns)).where(m.active.is_not(false()))
    page = schedulable.order_by(m.id).limit(bindparam("limit"))
    # In an order that has an index, so that all pages together read the table once: the time has none.
    place = m.id if dialect.place is None else dialect.place
    changes = select(monitor_id, m.updated_at, (monitor_id if dialect.place is None else place).label("place"))
    changes = changes.where(m.updated_at >= bindparam("since")).order_by(place).limit(bindparam("limit"))
    after = bindparam("after", type_=dialect.id_type)
    name = bindparam("name", type_=Text)
    named = select(monitor_id, m.name).where((m.name == name) | (func.lower(m.name) == func.lower(name)))
    # Twice, or SQLite would begin with all active maintenances, by their index, and end with the links.
    in_force = MAINTENANCES.c.active.is_(true()).is_(true())
    counted = select(m.active).limit(MOST_COUNTED + 1).subquery()
    numbers: list[ColumnElement[Any]] = [func.count(), func.count(case((counted.c.active.is_not(false()), 1)))]
    strays = None
    if dialect.is_id:
        # An id that is not valid could not be sent back, so no page may end with one.
        is_id = dialect.is_id(m.id)
        strays = select(m.id).where(m.active.is_(true()), is_id.is_not(true())).limit(MOST_STRAYS)
        page, changes = page.where(is_id), changes.where(is_id)
    return Statements(
        monitors=select(*read(MONITORS, rows.MONITORS.columns), *read(PROXIES, rows.PROXIES.columns))
        .outerjoin_from(MONITORS, PROXIES, m.proxy_id == PROXIES.c.id)
        .where(among(m.id)),
        maintenances=select(*read(LINKS, LINK_COLUMNS), *read(MAINTENANCES, rows.MAINTENANCE_COLUMNS))
        .join_from(LINKS, MAINTENANCES, LINKS.c.maintenance_id == MAINTENANCES.c.id)
        .where(among(LINKS.c.monitor_id), in_force),
        heartbeats=select(*read(HEARTBEATS, rows.HEARTBEATS.columns))
        .join_from(MONITORS, HEARTBEATS, HEARTBEATS.c.id == newest)
        .where(among(m.id)),
        first_page=page,
        next_page=page.where(m.id > after),
        active_of=schedulable.where(among(m.id)),
        retries=select(*read(MONITORS, rows.RETRY_COLUMNS[:-1]), STATUS)
        .select_from(MONITORS)
        .where(among(m.id), m.retry_interval < m.interval),
        first_changes=changes,
        next_changes=changes.where(place > after),
        names=select(monitor_id, m.name).where(among(m.id)),
        named=named.order_by(case((m.name == name, 0), else_=1), m.id).limit(bindparam("limit")),
        search=select(monitor_id, m.name)
        .where(func.lower(m.name).like(func.lower(bindparam("pattern", type_=Text)), escape=_ESCAPE))
        .order_by(func.lower(m.name), m.id)
        .limit(bindparam("limit")),
        results=select(HEARTBEATS.c.time, HEARTBEATS.c.status, HEARTBEATS.c.ping)
        .where(HEARTBEATS.c.monitor_id == bindparam("id", type_=dialect.id_type))
        .order_by(HEARTBEATS.c.time.desc())
        .limit(bindparam("limit")),
        counts=select(*numbers).select_from(counted),
        strays=strays,
    )
