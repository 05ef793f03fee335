"""The catalog in an SQL database: at most three statements per batch (four with PRODUCER_RETRY_INTERVAL)."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, TypeVar, cast

from sqlalchemy import Connection, Select, Table, column, inspect, select
from sqlalchemy.sql.compiler import SQLCompiler

from peekaping_producer.catalog import rows
from peekaping_producer.catalog.assembly import counts_of, maintenances_of, monitors_of, page_of, reading_of, retries_of
from peekaping_producer.catalog.connections import Connections
from peekaping_producer.catalog.limits import CONNECT_TIMEOUT_S, MOST_NAMED, Limits
from peekaping_producer.catalog.problems import unavailable, unmigrated
from peekaping_producer.catalog.reading import (
    Changes,
    Counts,
    Facts,
    Named,
    Page,
    Place,
    Reading,
    Result,
    is_text,
    named,
    results,
)
from peekaping_producer.catalog.tables import LINK_COLUMNS, MONITORS, STATUS, TABLES, Dialect, containing, statements
from peekaping_producer.config.fields import Switch
from peekaping_producer.config.settings import Settings
from peekaping_producer.errors import ConfigurationError, Unavailable
from peekaping_producer.model.ids import are_uuids, is_uuid
from peekaping_producer.model.monitor import MonitorId, Retry

T = TypeVar("T")
NO_UUID = "id is not a UUID in lower case"
_ID = rows.SCHEDULABLES.at("id")
_PROXY_REFERENCE = rows.MONITORS.at("proxy_id")
_PROXY = len(rows.MONITORS.columns)
"""Where the columns of the proxy begin in a monitor's row."""
_PROXY_ID = _PROXY + rows.PROXIES.at("id")
_LINKED = LINK_COLUMNS.index("monitor_id")
_MAINTENANCE = len(LINK_COLUMNS)
"""Where the columns of the maintenance begin in a link's row."""


class SqlDatabase(ABC):
    """What differs between the SQL databases. The module of each has one."""

    dialect: ClassVar[Dialect]

    def __init__(self, settings: Settings, where: str) -> None:
        """Take the settings, and those of them that say where the database is, as text."""
        self.settings = settings
        self.where = where
        self._compiled: dict[Select[Any], SQLCompiler] = {}

    @abstractmethod
    def connect(self, connections: int, timeout_s: float, *, seldom_used: bool = False) -> Connections:
        """Return a pool of at most `connections`; nothing is connected yet.

        No statement takes longer than `timeout_s`. A connection that is `seldom_used` may have died since its last use.
        """

    @abstractmethod
    def configuration_error(self, error: Unavailable) -> ConfigurationError | None:
        """Return the error that ends the start, if only an operator can fix this; None if it is transient."""

    @abstractmethod
    def advice(self, error: Unavailable) -> str | None:
        """Return what an operator can do about this; None if that is unknown, or if nothing can be done."""

    @abstractmethod
    def facts(self, connection: Connection) -> Facts:
        """Return what the server says of itself, and of this connection."""

    def fetch(self, connection: Connection, statement: Select[Any], ids: Sequence[str]) -> Sequence[rows.Row]:
        """Return the rows of a statement whose parameter is `ids`."""
        return cast("Sequence[rows.Row]", connection.execute(statement, {"ids": self.ids_as_sent(ids)}).all())

    def as_sent(self, connection: Connection, statement: Select[Any], ids: Sequence[str]) -> tuple[str, list[object]]:
        """Return a statement whose parameter is `ids`, and its parameters, as the driver takes them."""
        compiled = self._compiled.get(statement)
        if compiled is None:
            schemas = connection.get_execution_options().get("schema_translate_map")
            compiled = self._compiled[statement] = statement.compile(
                dialect=connection.dialect, schema_translate_map=schemas, render_schema_translate=bool(schemas)
            )
        parameters = compiled.construct_params({"ids": self.ids_as_sent(ids)})
        return compiled.string, [parameters[name] for name in compiled.positiontup or ()]

    def ids_as_sent(self, ids: Sequence[str]) -> object:
        """Return a list of ids as the driver takes it."""
        return ids

    def check_rights(self, connection: Connection) -> None:  # noqa: B027 - most databases need no such check
        """Raise for a table that may not be read, where the database would list it as if it did not exist."""


class SqlCatalog:
    """Reads monitors and what belongs to them, from any SQL database. See Catalog."""

    def __init__(self, database: SqlDatabase, limits: Limits) -> None:
        """Prepare connections for batches, one for urgent reads, and one for reads of whole tables."""
        self.connections = limits.connections
        self._database = database
        self._limits = limits
        # Separate pools, so that neither a batch nor an event waits for a read of a whole table.
        self._batches = database.connect(limits.connections, limits.timeout_s)
        self._urgent = database.connect(1, limits.timeout_s, seldom_used=True)
        self._scans = database.connect(1, limits.scan_timeout_s, seldom_used=True)
        self._one_scan = asyncio.Lock()
        self._statements = statements(database.dialect)
        self._with_retries = database.settings.producer_retry_interval is Switch.ON

    def is_id(self, text: str) -> bool:
        """See Catalog."""
        return is_uuid(text)

    async def check(self) -> None:
        """See Catalog."""
        database = self._database
        try:
            missing = await self._batches.do(self._missing, CONNECT_TIMEOUT_S)
        except Unavailable as error:
            refusal = database.configuration_error(error)
            if refusal:
                raise refusal from error
            raise unavailable(error, database.where, database.advice(error)) from error
        if missing:
            raise unmigrated(database.settings, missing)

    async def read(self, ids: Sequence[MonitorId]) -> Reading:
        """See Catalog."""
        invalid: dict[MonitorId, str] = {}
        if not are_uuids(ids):
            invalid = {id_: NO_UUID for id_ in ids if not is_uuid(id_)}
        asked = [id_ for id_ in ids if id_ not in invalid]
        if not asked:
            return Reading({}, invalid)
        return await self._do(self._batches, partial(self._read, asked, invalid), self._limits.timeout_s)

    def _read(self, asked: list[MonitorId], invalid: dict[MonitorId, str], connection: Connection) -> Reading:
        sql = self._statements
        fetched = self._fetch(connection, sql.monitors, asked)
        monitors = monitors_of([row[:_PROXY] for row in fetched], set(asked), invalid)
        # By the reference: MySQL finds a proxy whose id is written in another case.
        proxies = {row[_PROXY_REFERENCE]: row[_PROXY:] for row in fetched if row[_PROXY_ID] is not None}
        linked = self._fetch(connection, sql.maintenances, list(monitors))
        maintenances = maintenances_of([(row[_LINKED], row[_MAINTENANCE:]) for row in linked])
        heartbeats = self._fetch(connection, sql.heartbeats, [m.id for m in monitors.values() if m.type == "push"])
        return reading_of(
            monitors, proxies, maintenances, heartbeats, invalid, self._retries(list(monitors), connection)
        )

    def _retries(self, ids: Sequence[MonitorId], connection: Connection) -> dict[MonitorId, Retry]:
        return retries_of(self._fetch(connection, self._statements.retries, ids)) if self._with_retries else {}

    async def active(self, after: MonitorId | None, limit: int) -> Page:
        """See Catalog."""
        return await self._scan(partial(self._active, after, limit))

    def _active(self, after: MonitorId | None, limit: int, connection: Connection) -> Page:
        sql = self._statements
        statement = sql.first_page if after is None else sql.next_page
        fetched = connection.execute(statement, {"limit": limit, "after": after}).all()
        strays: list[object] = []
        if after is None and sql.strays is not None:
            strays += connection.execute(sql.strays).scalars()
        ids = [row[_ID] for row in fetched]
        next_after = ids[-1] if len(ids) == limit else None
        if not are_uuids(ids):
            strays += (id_ for id_ in ids if not is_uuid(id_))
            fetched = [row for row in fetched if is_uuid(row[_ID])]
        page = self._page(fetched, next_after, connection)
        page.invalid.update((str(id_), NO_UUID) for id_ in strays)
        return page

    async def active_of(self, ids: Sequence[MonitorId], *, urgent: bool = False) -> Page:
        """See Catalog."""
        asked = [id_ for id_ in ids if is_uuid(id_)]
        if not asked:
            return Page((), {}, None)
        work = partial(self._active_of, asked)
        return await (self._do(self._urgent, work, self._limits.timeout_s) if urgent else self._scan(work))

    def _active_of(self, asked: Sequence[MonitorId], connection: Connection) -> Page:
        wanted = set(asked)
        fetched = self._fetch(connection, self._statements.active_of, asked)
        return self._page([row for row in fetched if row[_ID] in wanted], None, connection)

    def _page(self, fetched: Sequence[rows.Row], next_after: MonitorId | None, connection: Connection) -> Page:
        return page_of(fetched, next_after, self._retries([row[_ID] for row in fetched], connection))

    async def changed(self, since: datetime, after: Place | None, limit: int) -> Changes:
        """See Catalog."""
        sql = self._statements
        statement = sql.first_changes if after is None else sql.next_changes
        values = {"since": self._database.dialect.stored_instant(since), "limit": limit, "after": after}
        fetched = await self._scan(lambda connection: connection.execute(statement, values).all())
        ids: list[MonitorId] = []
        newest: datetime | None = None
        for id_, updated_at, _place in fetched:
            if is_uuid(id_):
                ids.append(id_)
            time = rows.instant_or_none(updated_at)
            newest = max(newest or time, time) if time else newest
        return Changes(tuple(ids), newest, fetched[-1].place if len(fetched) == limit else None)

    async def names(self, ids: Sequence[MonitorId]) -> dict[MonitorId, str]:
        """See Catalog."""
        asked = [id_ for id_ in ids if is_uuid(id_)]
        work = partial(self._fetch, statement=self._statements.names, ids=asked)
        fetched = await self._do(self._urgent, work, self._limits.timeout_s)
        return {id_: name for id_, name in fetched if is_text(name)}

    async def named(self, name: str) -> list[Named]:
        """See Catalog."""
        values = {"name": name, "limit": MOST_NAMED}
        fetched = await self._scan(lambda connection: connection.execute(self._statements.named, values).all())
        return named(((id_, found) for id_, found in fetched if is_uuid(id_)), name)

    async def search(self, text: str, limit: int) -> list[Named]:
        """See Catalog."""
        values = {"pattern": containing(text), "limit": limit}
        fetched = await self._scan(partial(_rows_of, statement=self._statements.search, values=values))
        return [Named(id_, name) for id_, name in fetched if is_uuid(id_) and is_text(name)]

    async def results(self, id_: MonitorId, limit: int) -> list[Result]:
        """See Catalog."""
        values = {"id": id_, "limit": limit}
        work = partial(_rows_of, statement=self._statements.results, values=values)
        fetched = await self._do(self._batches, work, self._limits.timeout_s)
        return results((rows.instant_or_none(time), status, ping) for time, status, ping in fetched)

    async def facts(self) -> Facts:
        """See Catalog."""
        return await self._do(self._batches, self._database.facts, self._limits.timeout_s)

    async def counts(self) -> Counts:
        """See Catalog."""
        monitors, active = await self._scan(lambda connection: connection.execute(self._statements.counts).one())
        return counts_of(monitors, active)

    async def close(self) -> None:
        """See Catalog."""
        for connections in (self._batches, self._urgent, self._scans):
            await connections.close()

    def _fetch(self, connection: Connection, statement: Select[Any], ids: Sequence[str]) -> Sequence[rows.Row]:
        return self._database.fetch(connection, statement, ids) if ids else ()

    async def _scan(self, work: Callable[[Connection], T]) -> T:
        # Waiting for another scan does not count; that has a deadline, too.
        async with self._one_scan:
            return await self._do(self._scans, work, self._limits.scan_timeout_s)

    async def _do(self, connections: Connections, work: Callable[[Connection], T], timeout_s: float) -> T:
        try:
            return await connections.do(work, timeout_s)
        except Unavailable as error:
            raise unavailable(error, self._database.where, self._database.advice(error)) from error

    def _missing(self, connection: Connection) -> list[str]:
        """Return the tables and columns that do not exist; raises if one may not be read."""
        self._database.check_rights(connection)
        needed = {table: [c.name for c in table.c] for table in TABLES}
        if self._with_retries:
            needed[MONITORS].append(STATUS.name)
        missing = _absent(connection, self._database.settings.db_schema, needed)
        if not missing:
            # Names can be seen without the right to read; rows can't.
            for table, names in needed.items():
                connection.execute(select(*map(column, names)).select_from(table).limit(0))
        return missing


def _absent(connection: Connection, schema: str | None, needed: Mapping[Table, Sequence[str]]) -> list[str]:
    """Return the names of the tables and columns that do not exist."""
    names = [table.name for table in TABLES]
    found = {
        table: {column["name"] for column in columns}
        for (_, table), columns in inspect(connection).get_multi_columns(schema=schema, filter_names=names).items()
    }
    missing: list[str] = []
    for table, columns in needed.items():
        if table.name not in found:
            missing.append(f"table {table.name}")
        else:
            missing += (f"column {table.name}.{name}" for name in columns if name not in found[table.name])
    return missing


def _rows_of(connection: Connection, statement: Select[Any], values: dict[str, object]) -> Sequence[rows.Row]:
    return cast("Sequence[rows.Row]", connection.execute(statement, values).all())
