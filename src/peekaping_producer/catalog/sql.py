"""The catalogue in an SQL database: three statements a batch at most, whatever its size."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Select, inspect, literal, select
from sqlalchemy.exc import DBAPIError

from peekaping_producer.catalog import rows
from peekaping_producer.catalog.assembly import maintenances_of, monitors_of, page_of, reading_of
from peekaping_producer.catalog.connection import (
    CONNECT_TIMEOUT_S,
    Connections,
    cure,
    is_absent,
    open_server,
    operators_mend,
)
from peekaping_producer.catalog.problems import told, unmigrated
from peekaping_producer.catalog.reading import MOST_NAMED, Changes, Named, Page, Place, Reading, is_text, named
from peekaping_producer.catalog.sqlite import SqliteConnections
from peekaping_producer.catalog.tables import TABLES, statements
from peekaping_producer.config.settings import DbType, Settings
from peekaping_producer.errors import Unavailable
from peekaping_producer.model.ids import is_uuid
from peekaping_producer.model.monitor import Monitor, MonitorId

T = TypeVar("T")
NO_UUID = "id is not a UUID in lower case"
_PROXY = len(Monitor.__struct_fields__)
"""Where the columns of the proxy begin in a monitor's row."""


class SqlCatalog:
    """Reads monitors and what belongs to them. Every read raises Unavailable when it did not succeed whole."""

    def __init__(self, settings: Settings, *, connections: int, timeout_s: float, scan_timeout_s: float) -> None:
        """Prepare at most `connections` for batches (one to a file), one for urgent reads, and one for whole tables."""
        self._settings = settings
        self._timeout_s = timeout_s
        self._scan_timeout_s = scan_timeout_s
        # Apart, so that neither a batch nor an event waits for a read of a whole table.
        self._connections = _open(settings, connections, timeout_s)
        self._urgent = _open(settings, 1, timeout_s, seldom_used=True)
        self._scans = _open(settings, 1, scan_timeout_s, seldom_used=True)
        self._one_scan = asyncio.Lock()
        self._statements = statements(self._connections.dialect)

    async def check(self) -> None:
        """See Catalog."""
        try:
            missing = await self._connections.do(self._missing, CONNECT_TIMEOUT_S)
        except Unavailable as error:
            mend = operators_mend(error, self._settings)
            if mend:
                raise mend from error
            raise told(error, cure(error, self._settings), self._settings) from error
        if missing:
            raise unmigrated(self._settings, missing)

    async def read(self, ids: Sequence[MonitorId]) -> Reading:
        """Read monitors by their ids, with proxies, active maintenances and (for push) newest heartbeats."""
        invalid: dict[MonitorId, str] = {id_: NO_UUID for id_ in ids if not is_uuid(id_)}
        asked = [id_ for id_ in ids if id_ not in invalid]
        if not asked:
            return Reading({}, invalid)
        return await self._do(self._connections, partial(self._read, asked, invalid), self._timeout_s)

    def _read(self, asked: list[MonitorId], invalid: dict[MonitorId, str], connection: Connection) -> Reading:
        sql = self._statements
        fetched = _fetch(connection, sql.monitors, asked)
        monitors = monitors_of([row[:_PROXY] for row in fetched], set(asked), invalid)
        # By the reference: MySQL finds a proxy whose id is written in another case.
        proxies = {row[_PROXY - 1]: row[_PROXY:] for row in fetched if row[_PROXY] is not None}
        maintenances = maintenances_of(_fetch(connection, sql.maintenances, list(monitors)))
        heartbeats = _fetch(connection, sql.heartbeats, [m.id for m in monitors.values() if m.type == "push"])
        return reading_of(monitors, proxies, maintenances, heartbeats, invalid)

    async def active(self, after: MonitorId | None, limit: int) -> Page:
        """Read a page of at most `limit` active monitors whose ids come behind `after`."""
        return await self._scan(partial(self._active, after, limit))

    def _active(self, after: MonitorId | None, limit: int, connection: Connection) -> Page:
        sql = self._statements
        statement = sql.first_page if after is None else sql.next_page
        fetched = connection.execute(statement, {"limit": limit, "after": after}).all()
        strays: list[object] = []
        if after is None and sql.strays is not None:
            strays += connection.execute(sql.strays).scalars()
        strays += (row[0] for row in fetched if not is_uuid(row[0]))
        page = page_of([row for row in fetched if is_uuid(row[0])], fetched[-1][0] if len(fetched) == limit else None)
        page.invalid.update((str(id_), NO_UUID) for id_ in strays)
        return page

    async def active_of(self, ids: Sequence[MonitorId], *, urgent: bool = False) -> Page:
        """Read those of these monitors that are active; any other is inactive, or has no row."""
        asked = [id_ for id_ in ids if is_uuid(id_)]
        if not asked:
            return Page((), {}, None)
        work = partial(_fetch, statement=self._statements.active_of, ids=asked)
        fetched = await (self._do(self._urgent, work, self._timeout_s) if urgent else self._scan(work))
        wanted = set(asked)
        return page_of([row for row in fetched if row[0] in wanted], None)

    async def changed(self, since: datetime, after: Place | None, limit: int) -> Changes:
        """Read a page of at most `limit` monitors changed at or after `since`, behind the place `after`."""
        sql = self._statements
        statement = sql.first_changes if after is None else sql.next_changes
        values = {"since": self._stored(since), "limit": limit, "after": after}
        fetched = await self._scan(lambda connection: connection.execute(statement, values).all())
        times = [time for row in fetched if (time := rows.instant_or_none(row[1]))]
        ids = tuple(row[0] for row in fetched if is_uuid(row[0]))
        return Changes(ids, max(times, default=None), fetched[-1][2] if len(fetched) == limit else None)

    async def names(self, ids: Sequence[MonitorId]) -> dict[MonitorId, str]:
        """Read the names of monitors, active or not; one that has no row, or no name that is text, is left out."""
        asked = [id_ for id_ in ids if is_uuid(id_)]
        work = partial(_fetch, statement=self._statements.names, ids=asked)
        fetched = await self._do(self._urgent, work, self._timeout_s)
        return {row[0]: row[1] for row in fetched if is_text(row[1])}

    async def named(self, name: str) -> list[Named]:
        """Read the monitors of this name, active or not: exactly, or else but for upper and lower case, up to 100.

        SQLite knows the two cases of A to Z only.
        """
        values = {"name": name, "limit": MOST_NAMED}
        fetched = await self._scan(lambda connection: connection.execute(self._statements.named, values).all())
        return named((row for row in fetched if is_uuid(row[0])), name)

    async def close(self) -> None:
        """Close all connections."""
        for connections in (self._connections, self._urgent, self._scans):
            await connections.close()

    async def _scan(self, work: Callable[[Connection], T]) -> T:
        # The wait for another one, which has a deadline too, does not count.
        async with self._one_scan:
            return await self._do(self._scans, work, self._scan_timeout_s)

    async def _do(self, connections: Connections, work: Callable[[Connection], T], timeout_s: float) -> T:
        try:
            return await connections.do(work, timeout_s)
        except Unavailable as error:
            raise told(error, cure(error, self._settings), self._settings) from error

    def _missing(self, connection: Connection) -> list[str]:
        """Name the tables and columns that are not there; an error says that one may not be read."""
        _try_rights(connection)
        missing = _absent(connection, self._settings.db_schema)
        if not missing:
            # Names can be seen without the right to read; rows can't.
            for table in TABLES:
                connection.execute(select(table).limit(0))
        return missing

    def _stored(self, instant: datetime) -> object:
        """Return an instant in the form that columns are compared in; of SQLite's texts, one not above any of it."""
        naive = instant.astimezone(UTC).replace(tzinfo=None)
        return f"{naive:%Y-%m-%d %H:%M:%S}" if self._settings.db_type is DbType.SQLITE else naive


def _open(settings: Settings, connections: int, timeout_s: float, *, seldom_used: bool = False) -> Connections:
    if settings.db_type is DbType.SQLITE:
        return SqliteConnections(settings.db_name)
    return open_server(settings, connections, timeout_s, seldom_used=seldom_used)


def _try_rights(connection: Connection) -> None:
    """Touch every table that is there: MySQL shows a table that may not be read as one that is not there."""
    if connection.dialect.name != "mysql":
        return
    for table in TABLES:
        try:
            connection.execute(select(literal(1)).select_from(table).limit(0))
        except DBAPIError as error:
            if not is_absent(error):
                raise


def _absent(connection: Connection, schema: str | None) -> list[str]:
    """Name the tables and columns that are not there."""
    names = [table.name for table in TABLES]
    found = {
        table: {column["name"] for column in columns}
        for (_, table), columns in inspect(connection).get_multi_columns(schema=schema, filter_names=names).items()
    }
    missing: list[str] = []
    for table in TABLES:
        if table.name not in found:
            missing.append(f"table {table.name}")
        else:
            missing += (f"column {table.name}.{c.name}" for c in table.c if c.name not in found[table.name])
    return missing


def _fetch(connection: Connection, statement: Select[Any], ids: Sequence[str]) -> Sequence[rows.Row]:
    return cast("Sequence[rows.Row]", connection.execute(statement, {"ids": ids}).all()) if ids else ()
