"""Postgres: connections by asyncpg, directly or through PgBouncer, and what its errors mean."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar
from typing import cast as cast_type

import asyncpg
from sqlalchemy import (
    ARRAY,
    UUID,
    Column,
    ColumnElement,
    Connection,
    Engine,
    NullPool,
    Select,
    Text,
    bindparam,
    cast,
    create_engine,
    event,
)
from sqlalchemy.engine import AdaptedConnection
from sqlalchemy.exc import InvalidatePoolError, SQLAlchemyError
from sqlalchemy.sql.expression import any_
from sqlalchemy.util import await_, greenlet_spawn

from peekaping_producer import APPLICATION
from peekaping_producer.catalog.connections import (
    Connections,
    ServerConnections,
    driver_error,
    pool_options,
    server_url,
)
from peekaping_producer.catalog.encryption import CERTIFICATE_REJECTED, NO_TLS, context_of, tls_fix
from peekaping_producer.catalog.limits import CONNECT_TIMEOUT_S, Limits
from peekaping_producer.catalog.pooler import SHARES_SESSIONS, SessionsShared, check_sessions
from peekaping_producer.catalog.problems import (
    NO_DATABASE,
    NO_RIGHT,
    REFUSED,
    configuration_error,
    server_address,
    wrong_kind,
)
from peekaping_producer.catalog.reading import Facts
from peekaping_producer.catalog.rows import Row
from peekaping_producer.catalog.sql import SqlCatalog, SqlDatabase
from peekaping_producer.catalog.tables import TABLE_NAMES, Dialect
from peekaping_producer.config.fields import Switch
from peekaping_producer.config.settings import ENCRYPTING, DbTls, Settings
from peekaping_producer.deadline import answered_by
from peekaping_producer.errors import ConfigurationError, Unavailable, one_line

_CLOSE_TIMEOUT_S = 0.1
"""Extra time to close a connection to a server that has already missed its deadline."""
_NOT_LET_IN = (
    "the database at DB_HOST rejects DB_USER with these settings, set the right DB_USER, DB_TLS or DB_TLS_CERT, or"
    " allow it in pg_hba.conf"
)
_FIXES: Final = {"28000": _NOT_LET_IN, "28P01": REFUSED, "3D000": NO_DATABASE, "42501": NO_RIGHT}
"""What an operator must do, by SQLSTATE."""
_PROTOCOL_VIOLATION = "08P01"
"""PgBouncer's answer to a setting that it does not take, among others."""
_LOST = "08003"
"""asyncpg's own for a connection that was closed while it waited for an answer."""
_STATEMENT_SQLSTATES = frozenset({"26000", "42P05"})
"""A prepared statement belongs to another session: a pooler gives each transaction any session of the server."""
_ANOTHER_PROTOCOL = "rejected SSL upgrade"
"""asyncpg's words for an answer that no Postgres gives, or one without TLS if it is required."""
_DIRECT: Final = "peekaping_direct"
"""The option of connections whose statements need no transaction."""
_SESSION: Final = {"default_transaction_read_only": "on", "max_parallel_workers_per_gather": "0"}
"""Read-only; and a poll of a whole table must not take several cores at once, which checks need."""
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""From which Postgres counts; a column without a zone is in UTC."""
T = TypeVar("T")
Tls = ssl.SSLContext | str
"""What asyncpg takes: its own mode, or a context that it requires."""


def open_catalog(settings: Settings, limits: Limits) -> SqlCatalog:
    """Return the catalog of the configured Postgres; nothing is connected yet."""
    return SqlCatalog(Postgres(settings), limits)


def _as_text(column: Column[Any]) -> ColumnElement[Any]:
    return cast(column, Text).label(column.name)


def _among_ids(column: Column[Any]) -> ColumnElement[bool]:
    return column == any_(bindparam("ids", type_=ARRAY(UUID(as_uuid=False))))


class Postgres(SqlDatabase):
    """A Postgres, perhaps behind PgBouncer."""

    dialect = Dialect(as_text=_as_text, among_ids=_among_ids, id_type=UUID(as_uuid=False))

    def __init__(self, settings: Settings) -> None:
        """Take the settings that lead to it. Raises ConfigurationError for a wrong DB_TLS_* file."""
        super().__init__(settings, server_address(settings))
        self._tls = _tls(settings)

    def connect(self, connections: int, timeout_s: float, *, seldom_used: bool = False) -> Connections:
        """See SqlDatabase."""
        pool = pool_options(connections, timeout_s, seldom_used=seldom_used)
        engine = partial(_engine, self.settings, self._tls, timeout_s)
        if self.settings.db_statement_cache is Switch.OFF:
            return ServerConnections(engine(pool, pooled=True, cached=False), _reason)

        def through_pooler() -> Engine:
            check_sessions(engine({"poolclass": NullPool}, pooled=True, cached=False))
            return engine(pool, pooled=True, cached=True)

        direct = engine(pool, pooled=False, cached=True)
        return _PostgresConnections(direct, through_pooler)

    def configuration_error(self, error: Unavailable) -> ConfigurationError | None:
        """See SqlDatabase."""
        return configuration_error(error, self._fix(_cause(error)))

    def advice(self, error: Unavailable) -> str | None:
        """See SqlDatabase."""
        cause = _cause(error)
        if _sqlstate(cause) in _STATEMENT_SQLSTATES and self.settings.db_statement_cache is Switch.ON:
            return SHARES_SESSIONS
        fix = self._fix(cause)
        if (
            not fix
            and self.settings.db_tls_cert
            and (_sqlstate(cause) == _LOST or isinstance(cause, ConnectionResetError))
        ):
            return CERTIFICATE_REJECTED
        return fix or (wrong_kind(self.settings) if _ANOTHER_PROTOCOL in str(cause) else None)

    def _fix(self, cause: BaseException) -> str | None:
        """Return what an operator must do; None where that is not known, or nobody must."""
        if isinstance(cause, SessionsShared):
            return SHARES_SESSIONS
        if self.settings.db_tls in ENCRYPTING and _ANOTHER_PROTOCOL in str(cause):
            return NO_TLS
        return _FIXES.get(_sqlstate(cause)) or tls_fix(cause)

    def fetch(self, connection: Connection, statement: Select[Any], ids: Sequence[str]) -> Sequence[Row]:
        """See SqlDatabase. Without SQLAlchemy where no transaction is needed: it took half of the time."""
        if not connection.get_execution_options().get(_DIRECT):
            return super().fetch(connection, statement, ids)
        text, parameters = self.as_sent(connection, statement, ids)
        driver = cast_type("_Connection", connection.connection.driver_connection)
        try:
            fetched: Sequence[Row] = await_(driver.fetch(text, *parameters))
        except BaseException:
            connection.invalidate()  # it may still be waiting for the answer
            raise
        return fetched

    def facts(self, connection: Connection) -> Facts:
        """See SqlDatabase."""
        version = connection.exec_driver_sql("SHOW server_version").scalar_one()
        driver = cast_type("_Connection", connection.connection.driver_connection)
        return Facts("PostgreSQL", str(version), TABLE_NAMES, driver.uses_tls)


class _PostgresConnections(ServerConnections):
    """Connections that are replaced by those of a pooler when it refuses the settings of their sessions."""

    def __init__(self, engine: Engine, through_pooler: Callable[[], Engine]) -> None:
        """Take the engine, and what opens the other one."""
        super().__init__(engine, _reason)
        self._through_pooler = through_pooler
        self._replacing = asyncio.Lock()

    async def do(self, work: Callable[[Connection], T], timeout_s: float) -> T:
        """See Connections."""
        async with answered_by("database", timeout_s, _reason):
            engine = self.engine
            try:
                return await self._done(work)
            except Exception as error:
                if _sqlstate(_postgres_error(error)) != _PROTOCOL_VIOLATION:
                    raise
            async with self._replacing:
                if self.engine is engine:
                    self.engine = await greenlet_spawn(self._through_pooler)
                    await greenlet_spawn(engine.dispose)
            return await self._done(work)


def _engine(
    settings: Settings, tls: Tls, statement_timeout_s: float, pool: dict[str, Any], *, pooled: bool, cached: bool
) -> Engine:
    """Return an engine; `pooled` sets nothing for a session, `cached` prepares statements beyond their transaction."""
    timeout_ms = str(int(statement_timeout_s * 1000))
    connect_args: dict[str, Any] = {
        "timeout": CONNECT_TIMEOUT_S,
        "connection_class": _Connection,
        "server_settings": {"application_name": APPLICATION},
        "ssl": tls,
    }
    if settings.db_pass:
        connect_args["password"] = settings.db_pass.reveal
    if pooled:
        # A pooler refuses settings at the start. Set later, they could reach its other clients, so each transaction
        # sets its own.
        options: dict[str, Any] = {"execution_options": {"postgresql_readonly": True}}
    else:
        connect_args["server_settings"] |= _SESSION | {"statement_timeout": timeout_ms}
        options = {
            "isolation_level": "AUTOCOMMIT",
            "pool_reset_on_return": None,
            "execution_options": {_DIRECT: True},
        }
    if not cached:
        connect_args |= {
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": str,
        }
    url = server_url("postgresql+asyncpg", settings)
    engine = create_engine(url, connect_args=connect_args, **options, **pool)
    event.listen(engine, "connect", lambda connection, _record: connection.run_async(_read_any_time))
    event.listen(engine, "checkout", lambda connection, _record, _proxy: _check_open(connection))
    if pooled:
        limit = f"SET LOCAL statement_timeout = {timeout_ms}"
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(limit))
    return engine.execution_options(schema_translate_map={None: settings.db_schema}) if settings.db_schema else engine


def _tls(settings: Settings) -> Tls:
    """Return how asyncpg is to encrypt; on a Unix socket it never does."""
    match settings.db_tls:
        case None | DbTls.PREFER:
            return "prefer"
        case DbTls.OFF:
            return "disable"
        case _:
            return context_of(settings)


def _reason(error: Exception) -> str | None:
    """Return an error's reason in one line; None for a bug of ours."""
    # asyncpg's own errors arrive unwrapped while it connects, and where SQLAlchemy has no part.
    known = SQLAlchemyError | OSError | SessionsShared | asyncpg.InterfaceError
    outside = isinstance(error, known) or hasattr(error, "sqlstate")
    return one_line(_postgres_error(error)) if outside else None


def _cause(error: Unavailable) -> BaseException:
    return _postgres_error(error.__cause__ or error)


def _postgres_error(error: BaseException) -> BaseException:
    """Return asyncpg's own error: SQLAlchemy wraps it twice."""
    error = driver_error(error)
    return error.__cause__ if error.__cause__ and hasattr(error.__cause__, "sqlstate") else error


def _sqlstate(cause: BaseException) -> str:
    """Return the SQLSTATE of a server's answer; empty where it has none."""
    return str(getattr(cause, "sqlstate", ""))


def _check_open(connection: AdaptedConnection) -> None:
    """Have all connections replaced if the server has closed this one: it has been restarted."""
    if cast_type("_Connection", connection.driver_connection).is_closed():
        raise InvalidatePoolError("closed by the server")


async def _read_any_time(connection: asyncpg.Connection) -> None:
    """Let asyncpg return a time beyond the years 1 to 9999 as text; it would fail the whole fetch."""
    for name, epoch in (("timestamp", _EPOCH.replace(tzinfo=None)), ("timestamptz", _EPOCH)):
        await connection.set_type_codec(
            name,
            schema="pg_catalog",
            encoder=lambda moment, epoch=epoch: ((moment - epoch) // timedelta(microseconds=1),),
            decoder=_moment,
            format="tuple",
        )


def _moment(microseconds: tuple[int]) -> datetime | str:
    try:
        return _EPOCH + timedelta(microseconds=microseconds[0])
    except OverflowError:
        return "beyond the years 1 to 9999"


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    """A connection that is given up fast: SQLAlchemy would wait two more seconds for a server that is frozen."""

    async def close(self, *, timeout: float | None = None) -> None:
        await super().close(timeout=min(timeout or _CLOSE_TIMEOUT_S, _CLOSE_TIMEOUT_S))

    @property
    def uses_tls(self) -> bool:
        """Whether this end is encrypted: behind a pooler, the server knows only of the other end."""
        return self._transport.get_extra_info("ssl_object") is not None
