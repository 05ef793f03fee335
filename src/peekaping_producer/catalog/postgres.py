"""The way to an SQL database: connections to each kind of server, and driver errors that say who must act."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import asyncpg
from sqlalchemy import URL, AsyncAdaptedQueuePool, Connection, NullPool, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from peekaping_producer.catalog.pooler import SHARES_SESSIONS, SessionsShared, check_sessions
from peekaping_producer.catalog.problems import REFUSED
from peekaping_producer.config.settings import DbType, Settings, Switch
from peekaping_producer.deadline import answered_by
from peekaping_producer.errors import ConfigurationError, Unavailable

CONNECT_TIMEOUT_S = 5.0
_CLOSE_TIMEOUT_S = 0.1
"""What saying goodbye to a server may take beyond a deadline that it let pass."""
_NO_DATABASE = "DB_NAME names no database of the server at DB_HOST, name the right one"
_NO_RIGHT = "DB_USER lacks a right on the database at DB_HOST, grant it SELECT"
_TLS_REQUIRED = "the database at DB_HOST requires TLS, which the producer does not use: let DB_USER in without it"
_MYSQL_REFUSED = (
    f"{REFUSED} (MariaDB says the same where it requires TLS, by require_secure_transport or REQUIRE SSL, which the"
    " producer does not use)"
)
_OPERATORS_SQLSTATES = {"28000": REFUSED, "28P01": REFUSED, "3D000": _NO_DATABASE, "42501": _NO_RIGHT}
_OPERATORS_ERRNOS = {
    1044: "DB_NAME names no database that DB_USER may read, name the right one or grant it SELECT",
    1045: _MYSQL_REFUSED,
    1049: _NO_DATABASE,
    1130: "DB_USER is refused by the database at DB_HOST when it comes from this machine, allow it",
    1142: _NO_RIGHT,
    1143: _NO_RIGHT,
    1698: _MYSQL_REFUSED,
    3159: _TLS_REQUIRED,
}
_MYSQL_NO_SUCH_TABLE = 1146
_PROTOCOL_VIOLATION = "08P01"
"""PgBouncer says so of a setting that it does not take, and of much else."""
_STATEMENT_SQLSTATES = frozenset({"26000", "42P05"})
"""A prepared statement that another session has, or had: what comes of a cache where sessions are shared."""
_SQLITE_READONLY, _SQLITE_CORRUPT, _SQLITE_CANTOPEN, _SQLITE_NOTADB = 8, 11, 14, 26
_SQLITE_CURES = {
    _SQLITE_READONLY: "the journal that this file needs must be there, or the folder be writable",
    _SQLITE_CANTOPEN: "does the file exist, and may this user read it and its folder?",
}
_ANOTHER_PROTOCOL = ("Packet sequence number wrong", "rejected SSL upgrade")
"""The drivers' words for an answer that none of their servers gives."""
_POSTGRES_EPOCH = datetime(2000, 1, 1)  # noqa: DTZ001 - of columns without a zone too
_OUR_NAME = "peekaping-producer"
_MYSQL_IDLE_S = 300
"""A connection older than this is replaced before the server gives it up as idle."""
T = TypeVar("T")


class Connections(Protocol):
    """A pool of connections, each lent to one piece of work at a time."""

    dialect: str
    """SQLAlchemy's name of the kind: `postgresql`, `mysql` or `sqlite`."""

    async def do(self, work: Callable[[Connection], T], timeout_s: float) -> T:
        """Return what `work` does within `timeout_s`; raises Unavailable for whatever keeps the database from it."""

    async def close(self) -> None:
        """Close all that are not lent."""


class ServerConnections:
    """Connections to a server, by a driver that awaits it."""

    def __init__(self, engine: AsyncEngine, through_pooler: Callable[[], Awaitable[AsyncEngine]] | None = None) -> None:
        """Take the engine, and what opens another where a pooler refuses this one; nothing is connected yet."""
        self.engine = engine
        self.dialect = engine.dialect.name
        self._through_pooler = through_pooler
        self._replacing = asyncio.Lock()

    async def do(self, work: Callable[[Connection], T], timeout_s: float) -> T:
        """See Connections."""
        async with answered(timeout_s):
            engine = self.engine
            try:
                return await _done(engine, work)
            except Exception as error:
                if self._through_pooler is None or _sqlstate(driver_error(error)) != _PROTOCOL_VIOLATION:
                    raise
            await self._replace(engine, self._through_pooler)
            return await _done(self.engine, work)

    async def close(self) -> None:
        """See Connections."""
        await self.engine.dispose()

    async def _replace(self, refused: AsyncEngine, through_pooler: Callable[[], Awaitable[AsyncEngine]]) -> None:
        async with self._replacing:
            if self.engine is refused:
                self.engine = await through_pooler()
                await refused.dispose()


async def _done(engine: AsyncEngine, work: Callable[[Connection], T]) -> T:
    async with engine.connect() as connection:
        return await connection.run_sync(work)


def open_server(
    settings: Settings, connections: int, statement_timeout_s: float, *, seldom_used: bool = False
) -> ServerConnections:
    """Return at most `connections` to a Postgres or MySQL; nothing is connected yet.

    One that is `seldom_used` may have died long before it is: it is tried first, or that would pass for an outage.
    """
    pool = {
        "poolclass": AsyncAdaptedQueuePool,
        "pool_use_lifo": True,  # so that no more are open than were needed at once
        "pool_size": connections,
        "max_overflow": 0,
        "pool_timeout": statement_timeout_s,
        "pool_pre_ping": seldom_used,
    }
    if settings.db_type is DbType.MYSQL:
        return ServerConnections(_open_mysql(settings, statement_timeout_s, pool))
    if settings.db_statement_cache is Switch.OFF:
        return ServerConnections(_open_postgres(settings, statement_timeout_s, pool, pooled=True, cached=False))

    async def through_pooler() -> AsyncEngine:
        probe = _open_postgres(settings, statement_timeout_s, {"poolclass": NullPool}, pooled=True, cached=False)
        await check_sessions(probe)
        return _open_postgres(settings, statement_timeout_s, pool, pooled=True, cached=True)

    direct = _open_postgres(settings, statement_timeout_s, pool, pooled=False, cached=True)
    return ServerConnections(direct, through_pooler)


def _open_postgres(
    settings: Settings, statement_timeout_s: float, pool: dict[str, Any], *, pooled: bool, cached: bool
) -> AsyncEngine:
    """Return an engine; `pooled` sets nothing for a session, `cached` prepares statements beyond their transaction."""
    timeout_ms = str(int(statement_timeout_s * 1000))
    connect_args: dict[str, Any] = {
        "timeout": CONNECT_TIMEOUT_S,
        "connection_class": _PostgresConnection,
        "server_settings": {"application_name": _OUR_NAME},
    }
    if pooled:
        # A pooler refuses settings at the start. Set later they could reach its other clients, so each transaction
        # has its own.
        options: dict[str, Any] = {"execution_options": {"postgresql_readonly": True}}
    else:
        connect_args["server_settings"] |= {"default_transaction_read_only": "on", "statement_timeout": timeout_ms}
        options = {"isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None}
    if not cached:
        connect_args |= {
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": str,
        }
    engine = create_async_engine(_url("postgresql+asyncpg", settings), connect_args=connect_args, **options, **pool)
    event.listen(engine.sync_engine, "connect", lambda connection, _record: connection.run_async(_read_any_time))
    if pooled:
        limit = f"SET LOCAL statement_timeout = {timeout_ms}"
        event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql(limit))
    return engine.execution_options(schema_translate_map={None: settings.db_schema}) if settings.db_schema else engine


def _open_mysql(settings: Settings, statement_timeout_s: float, pool: dict[str, Any]) -> AsyncEngine:
    # MariaDB reads the first comment, MySQL the second; each skips the other's.
    session = (
        "SET SESSION time_zone = '+00:00', sql_mode = ''"
        f" /*M!100100 , max_statement_time = {statement_timeout_s:f}, tx_read_only = 1 */"
        f" /*!50720 , max_execution_time = {int(statement_timeout_s * 1000)}, transaction_read_only = 1 */"
    )
    connect_args: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "init_command": session,
        "program_name": _OUR_NAME,
    }
    if settings.db_pass:
        # As text it would be taken for Latin-1.
        connect_args["password"] = settings.db_pass.get_secret_value().encode()
    if _is_socket(settings.db_host):
        connect_args["unix_socket"] = settings.db_host
    return create_async_engine(
        _url("mysql+asyncmy", settings).update_query_dict({"charset": "utf8mb4"}),
        connect_args=connect_args,
        pool_recycle=_MYSQL_IDLE_S,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
        **pool,
    )


def _url(driver: str, settings: Settings) -> URL:
    password = settings.db_pass.get_secret_value() if settings.db_pass else None
    return URL.create(driver, settings.db_user, password, settings.db_host, settings.db_port, settings.db_name)


def _is_socket(host: str | None) -> bool:
    return host is not None and host.startswith("/")


def answered(timeout_s: float) -> AbstractAsyncContextManager[None]:
    """Bound what is inside by `timeout_s`, and raise Unavailable for whatever keeps the database from doing it."""
    return answered_by("database", timeout_s, _reason_if_outside)


def _reason_if_outside(error: Exception) -> str | None:
    # asyncpg's own errors at connecting arrive unwrapped; anything without a code is a fault of ours.
    outside = isinstance(error, SQLAlchemyError | OSError | SessionsShared) or hasattr(error, "sqlstate")
    return reason(error) if outside else None


def driver_error(error: BaseException) -> BaseException:
    """Return the driver's own error behind SQLAlchemy's, whose text would hold the statement."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    return error.__cause__ if hasattr(error.__cause__, "sqlstate") and error.__cause__ else error


def reason(error: BaseException) -> str:
    """Return an error's reason in one line."""
    driver = driver_error(error)
    text = driver.args[1] if _mysql_code(driver) else driver
    return " ".join(str(text).split()).removesuffix(".") or type(driver).__name__


def is_absent(error: DBAPIError) -> bool:
    """Tell whether MySQL's error says that a table is not there."""
    return _mysql_code(driver_error(error)) == _MYSQL_NO_SUCH_TABLE


def _mysql_code(error: BaseException) -> int:
    """Return the number of an error as MySQL's drivers give it, 0 where there is none."""
    match error.args:
        # By its name: importing the driver would slow the start of all who need another.
        case (int(code), str()) if type(error).__module__ == "asyncmy.errors":
            return code
    return 0


def operators_mend(error: Unavailable, settings: Settings) -> ConfigurationError | None:
    """Return the line for an operator where only a person can mend this, None where time can."""
    cause = driver_error(error.__cause__) if error.__cause__ else error
    advice = _advice(cause)
    if advice:
        return ConfigurationError(f"{advice}: {error.reason}")
    if settings.db_type is DbType.SQLITE and Path(settings.db_name).is_dir():
        return ConfigurationError(f"DB_NAME is {settings.db_name!r}: a folder, not an SQLite file")
    code = _sqlite_code(cause)
    if code == _SQLITE_NOTADB:
        return ConfigurationError(f"DB_NAME is {settings.db_name!r}: not an SQLite file")
    if code == _SQLITE_CORRUPT:
        return ConfigurationError(f"DB_NAME is {settings.db_name!r}: a damaged SQLite file, restore it from a copy")
    return None


def cure(error: Unavailable, settings: Settings) -> str | None:
    """Return what may be the cure, None where it is not known or time is."""
    cause = driver_error(error.__cause__) if error.__cause__ else error
    advice = _advice(cause)
    if advice:
        return advice
    if settings.db_type is DbType.SQLITE:
        return _SQLITE_CURES.get(_sqlite_code(cause))
    if _sqlstate(cause) in _STATEMENT_SQLSTATES and settings.db_statement_cache is Switch.ON:
        return SHARES_SESSIONS
    if any(words in str(cause) for words in _ANOTHER_PROTOCOL):
        return f"DB_TYPE is {settings.db_type.value}: is that what listens there?"
    return None


def _advice(cause: BaseException) -> str | None:
    """Return what a person must do about a server's answer; None where that is not known, or nobody must."""
    if isinstance(cause, SessionsShared):
        return SHARES_SESSIONS
    return _OPERATORS_ERRNOS.get(_mysql_code(cause)) or _OPERATORS_SQLSTATES.get(_sqlstate(cause))


def _sqlstate(cause: BaseException) -> str:
    """Return the SQLSTATE of a server's answer, nothing where there is none."""
    return str(getattr(cause, "sqlstate", ""))


def _sqlite_code(cause: BaseException) -> int:
    """Return the kind of SQLite's error, the low byte of its code; 0 where it has none."""
    return int(getattr(cause, "sqlite_errorcode", 0)) & 0xFF


async def _read_any_time(connection: asyncpg.Connection) -> None:
    """Let asyncpg deliver a time beyond the years 1 to 9999 as text, where it would fail the whole fetch."""
    for name, epoch in (("timestamp", _POSTGRES_EPOCH), ("timestamptz", _POSTGRES_EPOCH.replace(tzinfo=UTC))):
        await connection.set_type_codec(
            name,
            schema="pg_catalog",
            encoder=lambda moment, epoch=epoch: ((moment - epoch) // timedelta(microseconds=1),),
            decoder=partial(_moment, epoch),
            format="tuple",
        )


def _moment(epoch: datetime, microseconds: tuple[int]) -> datetime | str:
    try:
        return epoch + timedelta(microseconds=microseconds[0])
    except OverflowError:
        return "beyond the years 1 to 9999"


class _PostgresConnection(asyncpg.Connection):  # type: ignore[misc]
    """A connection that is given up fast: SQLAlchemy would wait two more seconds for a server that is frozen."""

    async def close(self, *, timeout: float | None = None) -> None:
        await super().close(timeout=min(timeout or _CLOSE_TIMEOUT_S, _CLOSE_TIMEOUT_S))
