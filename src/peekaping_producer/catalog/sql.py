"""The catalogue in an SQL database: one statement per table and batch."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import Connection, Select, inspect, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from peekaping_producer.catalog import rows
from peekaping_producer.catalog.connection import CONNECT_TIMEOUT_S, answered, open_engine, operators_mend
from peekaping_producer.catalog.reading import Changes, Page, Reading, is_monitor_id
from peekaping_producer.catalog.tables import TABLES, statements
from peekaping_producer.config import DbType, Settings
from peekaping_producer.errors import ConfigurationError, CorruptRecord, Unavailable
from peekaping_producer.monitor import Heartbeat, Maintenance, Monitor, MonitorId, Proxy, Schedulable, Snapshot


class SqlCatalog:
    """Reads monitors and what belongs to them. Every read raises Unavailable when it did not succeed whole."""

    def __init__(self, settings: Settings, *, connections: int, timeout_s: float) -> None:
        """Prepare a pool of at most `connections`; each read may take `timeout_s`.

        Raises ConfigurationError for a kind of database that is not supported yet.
        """
        self._settings = settings
        self._timeout_s = timeout_s
        self._engine: AsyncEngine = open_engine(settings, connections, timeout_s)
        self._statements = statements(self._engine.dialect.name)

    async def check(self) -> None:
        """Make sure that the database answers and is Peekaping's.

        Raises Unavailable while it does not answer, ConfigurationError where only a person can mend it.
        """
        try:
            async with answered(CONNECT_TIMEOUT_S), self._engine.connect() as connection:
                missing = await connection.run_sync(_missing)
                if not missing:
                    # Names can be seen without the right to read; rows can't.
                    for table in TABLES:
                        await connection.execute(select(table).limit(0))
        except Unavailable as error:
            mend = operators_mend(error, self._settings)
            if mend:
                raise mend from error
            raise Unavailable("database", f"{_where(self._settings)}: {error.reason}") from error
        if missing:
            raise ConfigurationError(
                f"DB_NAME is {self._settings.db_name!r}: not a database of Peekaping 0.0.46, it lacks "
                f"{', '.join(missing)}. Name the right one, or let Peekaping's migrations run first"
            )

    async def read(self, ids: Sequence[MonitorId]) -> Reading:
        """Read monitors by their ids, with proxies, active maintenances and (for push) newest heartbeats."""
        aside: dict[MonitorId, str] = {id_: "id is no UUID" for id_ in ids if not is_monitor_id(id_)}
        asked = [id_ for id_ in ids if id_ not in aside]
        if not asked:
            return Reading({}, aside)
        sql = self._statements
        async with answered(self._timeout_s), self._engine.connect() as connection:
            monitors = _monitors(await _fetch(connection, sql.monitors, asked), aside)
            proxy_ids = {m.proxy_id for m in monitors.values() if m.proxy_id and is_monitor_id(m.proxy_id)}
            proxies = await _fetch(connection, sql.proxies, list(proxy_ids))
            maintenances = _maintenances(await _fetch(connection, sql.maintenances, list(monitors)))
            pushed = [m.id for m in monitors.values() if m.type == "push"]
            heartbeats = await _fetch(connection, sql.heartbeats, pushed)
        return _reading(monitors, proxies, maintenances, heartbeats, aside)

    async def active(self, after: MonitorId | None, limit: int) -> Page:
        """Read a page of at most `limit` active monitors whose ids come behind `after`."""
        sql = self._statements
        strays: Sequence[rows.Row] = ()
        async with answered(self._timeout_s), self._engine.connect() as connection:
            if after is None:
                result = await connection.execute(sql.first_page, {"limit": limit})
                if sql.strays is not None:
                    strays = (await connection.execute(sql.strays)).all()
            else:
                result = await connection.execute(sql.next_page, {"limit": limit, "after": after})
            fetched = result.all()
        page = _page(fetched, fetched[-1][0] if len(fetched) == limit else None)
        page.aside.update((str(row[0]), "id is no UUID") for row in strays)
        return page

    async def active_of(self, ids: Sequence[MonitorId]) -> Page:
        """Read those of these monitors that are active; any other is inactive, or has no row."""
        asked = [id_ for id_ in ids if is_monitor_id(id_)]
        async with answered(self._timeout_s), self._engine.connect() as connection:
            return _page(await _fetch(connection, self._statements.active_of, asked), None)

    async def changed(self, since: datetime, after: MonitorId | None, limit: int) -> Changes:
        """Read a page of at most `limit` monitors changed at or after `since`, whose ids come behind `after`."""
        sql = self._statements
        values: dict[str, object] = {"since": self._stored(since), "limit": limit}
        async with answered(self._timeout_s), self._engine.connect() as connection:
            if after is None:
                result = await connection.execute(sql.first_changes, values)
            else:
                result = await connection.execute(sql.next_changes, {**values, "after": after})
            fetched = result.all()
        times = [time for row in fetched if (time := rows.instant_or_none(row[1]))]
        ids = tuple(row[0] for row in fetched)
        return Changes(ids, max(times, default=None), ids[-1] if len(ids) == limit else None)

    def _stored(self, instant: datetime) -> object:
        """Return an instant in the form that columns are compared in; of SQLite's texts, one not above any of it."""
        naive = instant.astimezone(UTC).replace(tzinfo=None)
        return f"{naive:%Y-%m-%d %H:%M:%S}" if self._settings.db_type is DbType.SQLITE else naive

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


def _where(settings: Settings) -> str:
    if settings.db_type is DbType.SQLITE:
        return f"DB_NAME {settings.db_name!r}"
    return f"DB_HOST {settings.db_host!r}, DB_PORT {settings.db_port}"


def _missing(connection: Connection) -> list[str]:
    """Name the tables and columns that are not there."""
    found = {
        table: {column["name"] for column in columns}
        for (_, table), columns in inspect(connection).get_multi_columns(filter_names=[t.name for t in TABLES]).items()
    }
    missing: list[str] = []
    for table in TABLES:
        if table.name not in found:
            missing.append(f"table {table.name}")
        else:
            missing += (f"column {table.name}.{c.name}" for c in table.c if c.name not in found[table.name])
    return missing


def _page(fetched: Sequence[rows.Row], next_after: MonitorId | None) -> Page:
    monitors: list[Schedulable] = []
    aside: dict[str, str] = {}
    for row in fetched:
        try:
            monitors.append(rows.schedulable(row))
        except CorruptRecord as error:
            aside[str(row[0])] = error.reason
    return Page(tuple(monitors), aside, next_after)


async def _fetch(connection: AsyncConnection, statement: Select[Any], ids: list[Any]) -> Sequence[rows.Row]:
    if not ids:
        return ()
    return cast("Sequence[rows.Row]", (await connection.execute(statement, {"ids": ids})).all())


def _monitors(fetched: Sequence[rows.Row], aside: dict[MonitorId, str]) -> dict[MonitorId, Monitor]:
    monitors: dict[MonitorId, Monitor] = {}
    for row in fetched:
        try:
            monitors[row[0]] = rows.monitor(row)
        except CorruptRecord as error:
            aside[row[0]] = error.reason
    return monitors


def _maintenances(fetched: Sequence[rows.Row]) -> dict[MonitorId, list[Maintenance]]:
    """Group by monitor; a maintenance of many monitors becomes one value."""
    values: dict[str, Maintenance] = {}
    by_monitor: defaultdict[MonitorId, list[Maintenance]] = defaultdict(list)
    for monitor_id, *row in fetched:
        if row[0] not in values:
            values[row[0]] = rows.maintenance(row)
        by_monitor[monitor_id].append(values[row[0]])
    return by_monitor


def _reading(
    monitors: dict[MonitorId, Monitor],
    proxy_rows: Sequence[rows.Row],
    maintenances: dict[MonitorId, list[Maintenance]],
    heartbeat_rows: Sequence[rows.Row],
    aside: dict[MonitorId, str],
) -> Reading:
    proxies: dict[str, Proxy | str] = {}
    for row in proxy_rows:
        try:
            proxies[row[0]] = rows.proxy(row)
        except CorruptRecord as error:
            proxies[row[0]] = error.reason
    heartbeats: dict[MonitorId, Heartbeat | str] = {}
    for row in heartbeat_rows:
        try:
            heartbeats[row[1]] = rows.heartbeat(row)
        except CorruptRecord as error:
            heartbeats[row[1]] = error.reason

    found: dict[MonitorId, Snapshot] = {}
    for id_, monitor in monitors.items():
        proxy = proxies.get(monitor.proxy_id) if monitor.proxy_id else None
        heartbeat = heartbeats.get(id_)
        if isinstance(proxy, str):
            aside[id_] = proxy
        elif isinstance(heartbeat, str):
            aside[id_] = heartbeat
        else:
            found[id_] = Snapshot(monitor, proxy, tuple(maintenances.get(id_, ())), heartbeat)
    return Reading(found, aside)
