"""The catalogue in an SQL database: one statement per table and batch."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import Connection, Select, inspect, literal, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from peekaping_producer.catalog import rows
from peekaping_producer.catalog.assembly import maintenances_of, monitors_of, page_of, reading_of
from peekaping_producer.catalog.connection import (
    CONNECT_TIMEOUT_S,
    answered,
    hint,
    is_absent,
    open_engine,
    operators_mend,
)
from peekaping_producer.catalog.reading import Changes, Page, Reading, is_uuid
from peekaping_producer.catalog.tables import TABLES, statements
from peekaping_producer.config import DbType, Settings
from peekaping_producer.errors import ConfigurationError, Unavailable
from peekaping_producer.monitor import MonitorId

NO_UUID = "id is no UUID"


class SqlCatalog:
    """Reads monitors and what belongs to them. Every read raises Unavailable when it did not succeed whole."""

    def __init__(self, settings: Settings, *, connections: int, timeout_s: float) -> None:
        """Prepare a pool of at most `connections`; each read may take `timeout_s`."""
        self._settings = settings
        self._timeout_s = timeout_s
        self._engine: AsyncEngine = open_engine(settings, connections, timeout_s)
        self._statements = statements(self._engine.dialect.name)

    async def check(self) -> None:
        """Make sure that the database answers and is Peekaping's.

        Raises Unavailable while it does not answer, ConfigurationError where only a person can mend it.
        """
        try:
            async with self._connected(CONNECT_TIMEOUT_S) as connection:
                await _try_rights(connection)
                missing = await connection.run_sync(_missing, self._settings.db_schema)
                if not missing:
                    # Names can be seen without the right to read; rows can't.
                    for table in TABLES:
                        await connection.execute(select(table).limit(0))
        except Unavailable as error:
            mend = operators_mend(error, self._settings)
            if mend:
                raise mend from error
            cure = hint(error, self._settings)
            raise Unavailable("database", f"{_where(self._settings)}: {error.reason}{cure}") from error
        if missing:
            raise ConfigurationError(_foreign(self._settings, missing))

    async def read(self, ids: Sequence[MonitorId]) -> Reading:
        """Read monitors by their ids, with proxies, active maintenances and (for push) newest heartbeats."""
        aside: dict[MonitorId, str] = {id_: NO_UUID for id_ in ids if not is_uuid(id_)}
        asked = [id_ for id_ in ids if id_ not in aside]
        if not asked:
            return Reading({}, aside)
        sql = self._statements
        async with self._connected(self._timeout_s) as connection:
            monitors = monitors_of(await _fetch(connection, sql.monitors, asked), set(asked), aside)
            proxy_ids = {m.proxy_id for m in monitors.values() if m.proxy_id and is_uuid(m.proxy_id)}
            proxies = await _fetch(connection, sql.proxies, list(proxy_ids))
            maintenances = maintenances_of(await _fetch(connection, sql.maintenances, list(monitors)))
            pushed = [m.id for m in monitors.values() if m.type == "push"]
            heartbeats = await _fetch(connection, sql.heartbeats, pushed)
        return reading_of(monitors, proxies, maintenances, heartbeats, aside)

    async def active(self, after: MonitorId | None, limit: int) -> Page:
        """Read a page of at most `limit` active monitors whose ids come behind `after`."""
        sql = self._statements
        strays: list[object] = []
        async with self._connected(self._timeout_s) as connection:
            if after is None:
                result = await connection.execute(sql.first_page, {"limit": limit})
                if sql.strays is not None:
                    strays += (await connection.execute(sql.strays)).scalars()
            else:
                result = await connection.execute(sql.next_page, {"limit": limit, "after": after})
            fetched = result.all()
        strays += (row[0] for row in fetched if not is_uuid(row[0]))
        page = page_of([row for row in fetched if is_uuid(row[0])], fetched[-1][0] if len(fetched) == limit else None)
        page.aside.update((str(id_), NO_UUID) for id_ in strays)
        return page

    async def active_of(self, ids: Sequence[MonitorId]) -> Page:
        """Read those of these monitors that are active; any other is inactive, or has no row."""
        asked = [id_ for id_ in ids if is_uuid(id_)]
        if not asked:
            return Page((), {}, None)
        async with self._connected(self._timeout_s) as connection:
            fetched = await _fetch(connection, self._statements.active_of, asked)
        wanted = set(asked)
        return page_of([row for row in fetched if row[0] in wanted], None)

    async def changed(self, since: datetime, after: MonitorId | None, limit: int) -> Changes:
        """Read a page of at most `limit` monitors changed at or after `since`, whose ids come behind `after`."""
        sql = self._statements
        values: dict[str, object] = {"since": self._stored(since), "limit": limit}
        async with self._connected(self._timeout_s) as connection:
            if after is None:
                result = await connection.execute(sql.first_changes, values)
            else:
                result = await connection.execute(sql.next_changes, {**values, "after": after})
            fetched = result.all()
        times = [time for row in fetched if (time := rows.instant_or_none(row[1]))]
        ids = tuple(row[0] for row in fetched if is_uuid(row[0]))
        return Changes(ids, max(times, default=None), fetched[-1][0] if len(fetched) == limit else None)

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _connected(self, timeout_s: float) -> AsyncIterator[AsyncConnection]:
        """Hand out a connection for what must be done within `timeout_s`; raises Unavailable."""
        async with answered(timeout_s), self._engine.connect() as connection:
            yield connection

    def _stored(self, instant: datetime) -> object:
        """Return an instant in the form that columns are compared in; of SQLite's texts, one not above any of it."""
        naive = instant.astimezone(UTC).replace(tzinfo=None)
        return f"{naive:%Y-%m-%d %H:%M:%S}" if self._settings.db_type is DbType.SQLITE else naive


def _where(settings: Settings) -> str:
    if settings.db_type is DbType.SQLITE:
        return f"DB_NAME {settings.db_name!r}"
    return f"DB_HOST {settings.db_host!r}, DB_PORT {settings.db_port}"


def _foreign(settings: Settings, missing: list[str]) -> str:
    schema = f", DB_SCHEMA is {settings.db_schema!r}" if settings.db_schema else ""
    return (
        f"DB_NAME is {settings.db_name!r}{schema}: not a database of Peekaping 0.0.46, it lacks "
        f"{', '.join(missing)}. Name the right one, or let Peekaping's migrations run first"
    )


async def _try_rights(connection: AsyncConnection) -> None:
    """Touch every table that is there: MySQL shows a table that may not be read as one that is not there."""
    if connection.dialect.name != "mysql":
        return
    for table in TABLES:
        try:
            await connection.execute(select(literal(1)).select_from(table).limit(0))
        except DBAPIError as error:
            if not is_absent(error):
                raise


def _missing(connection: Connection, schema: str | None) -> list[str]:
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


async def _fetch(connection: AsyncConnection, statement: Select[Any], ids: list[Any]) -> Sequence[rows.Row]:
    if not ids:
        return ()
    return cast("Sequence[rows.Row]", (await connection.execute(statement, {"ids": ids})).all())
