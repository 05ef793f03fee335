"""The tables and columns that the producer reads (docs/protocol.md, section 4), and the statements that read them.

The columns have no types on purpose: what a driver delivers is judged by `rows`, value by value.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import (
    ARRAY,
    UUID,
    Column,
    ColumnElement,
    Dialect,
    MetaData,
    Select,
    Table,
    Text,
    TypeDecorator,
    bindparam,
    case,
    cast,
    false,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.sql.expression import any_

_metadata = MetaData()


def _table(name: str, columns: str) -> Table:
    return Table(name, _metadata, *(Column(column) for column in columns.split()))


MONITORS = _table(
    "monitors",
    "id name type interval timeout max_retries retry_interval resend_interval active config proxy_id"
    " created_at updated_at",
)
PROXIES = _table("proxies", "id protocol host port auth username password")
MAINTENANCES = _table(
    "maintenances",
    "id active strategy start_date_time end_date_time start_time end_time interval_day cron timezone duration",
)
LINKS = _table("monitor_maintenances", "monitor_id maintenance_id")
HEARTBEATS = _table(
    "heartbeats",
    "id monitor_id status msg ping duration down_count retries important time end_time notified",
)
TABLES: tuple[Table, ...] = tuple(_metadata.tables.values())

_HEX = "[0-9a-f]"
_UUID_GLOB = "-".join(_HEX * length for length in (8, 4, 4, 4, 12))
MOST_STRAYS = 100


class Statements(Struct, frozen=True):
    """The reading statements of one dialect. `ids` is a list of ids, `after` one id, `limit` a count of rows."""

    monitors: Select[Any]
    """A monitor's columns, and then those of its proxy."""
    maintenances: Select[Any]
    heartbeats: Select[Any]
    first_page: Select[Any]
    next_page: Select[Any]
    active_of: Select[Any]
    """The active ones among `ids`, in the columns of a page."""
    first_changes: Select[Any]
    """Ids, times and places of those changed at or after `since`, a naive UTC datetime or its text."""
    next_changes: Select[Any]
    names: Select[Any]
    """Ids and names of those among `ids`."""
    named: Select[Any]
    """Ids and names of those of the name `name` but for upper and lower case, the exact ones first; `limit` of them."""
    strays: Select[Any] | None
    """Ids of active monitors that no page holds, some of them; None where pages hold all."""


class _Json(TypeDecorator[Sequence[str]]):
    """A list of ids as one JSON text, so that the statement is the same for any number of them."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> str:  # noqa: ARG002 - SQLAlchemy's
        return msgspec.json.encode(value).decode()


def statements(dialect: str) -> Statements:
    """Return the statements for the dialect `postgresql`, `mysql` or `sqlite`."""
    postgres, sqlite = dialect == "postgresql", dialect == "sqlite"

    def text(column: Column[Any]) -> ColumnElement[Any]:
        """Read ids and JSON as the text they are written as; the others hand them out so."""
        return cast(column, Text).label(column.name) if postgres else column

    def among_ids(column: Column[Any]) -> ColumnElement[bool]:
        if postgres:
            return column == any_(bindparam("ids", type_=ARRAY(UUID(as_uuid=False))))
        if sqlite:
            return column.in_(select(func.json_each(bindparam("ids", type_=_Json())).table_valued("value").c.value))
        return column.in_(bindparam("ids", expanding=True))

    m, beat = MONITORS.c, HEARTBEATS.c
    older = HEARTBEATS.alias("older")
    newest = (
        select(older.c.id).where(older.c.monitor_id == m.id).order_by(older.c.time.desc()).limit(1).scalar_subquery()
    )
    schedulable = select(text(m.id), m.interval, m.created_at, m.updated_at, m.active).where(m.active.is_not(false()))
    page = schedulable.order_by(m.id).limit(bindparam("limit"))
    # In an order that has an index, so that all pages together read the table once: the time has none. SQLite reads a
    # table in the order of its rows twenty times as fast as in that of their ids.
    order: ColumnElement[Any] = literal_column("monitors.rowid") if sqlite else m.id
    changes = select(text(m.id), m.updated_at, (order if sqlite else text(m.id)).label("place"))
    changes = changes.where(m.updated_at >= bindparam("since")).order_by(order).limit(bindparam("limit"))
    behind = bindparam("after", type_=UUID(as_uuid=False) if postgres else None)
    after = m.id > behind
    name = bindparam("name", type_=Text)
    named = select(text(m.id), m.name).where((m.name == name) | (func.lower(m.name) == func.lower(name)))
    # Said twice, or SQLite would begin with all that are active, by their index, and end with the links.
    in_force = MAINTENANCES.c.active.is_(true()).is_(true())
    strays = None
    if sqlite:
        # SQLite stores anything as an id, also what could not be asked for again: a page must not end with it.
        is_uuid = (func.typeof(m.id) == "text") & m.id.op("GLOB")(_UUID_GLOB)
        strays = select(m.id).where(m.active.is_(true()), is_uuid.is_not(true())).limit(MOST_STRAYS)
        page, changes = page.where(is_uuid), changes.where(is_uuid)
    return Statements(
        monitors=select(
            text(m.id),
            m.name,
            m.type,
            m.interval,
            m.timeout,
            m.max_retries,
            m.retry_interval,
            m.resend_interval,
            m.active,
            text(m.config),
            text(m.proxy_id),
            text(PROXIES.c.id),
            *list(PROXIES.c)[1:],
        )
        .outerjoin_from(MONITORS, PROXIES, m.proxy_id == PROXIES.c.id)
        .where(among_ids(m.id)),
        maintenances=select(text(LINKS.c.monitor_id), text(MAINTENANCES.c.id), *list(MAINTENANCES.c)[1:])
        .join_from(LINKS, MAINTENANCES, LINKS.c.maintenance_id == MAINTENANCES.c.id)
        .where(among_ids(LINKS.c.monitor_id), in_force),
        heartbeats=select(text(beat.id), text(beat.monitor_id), *list(beat)[2:])
        .join_from(MONITORS, HEARTBEATS, beat.id == newest)
        .where(among_ids(m.id)),
        first_page=page,
        next_page=page.where(after),
        active_of=schedulable.where(among_ids(m.id)),
        first_changes=changes,
        next_changes=changes.where(order > behind),
        names=select(text(m.id), m.name).where(among_ids(m.id)),
        named=named.order_by(case((m.name == name, 0), else_=1), m.id).limit(bindparam("limit")),
        strays=strays,
    )
