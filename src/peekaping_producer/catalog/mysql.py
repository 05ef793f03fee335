"""MySQL and MariaDB: connections by asyncmy, and what their errors mean."""

import ssl
from functools import partial
from typing import Any, Final

import asyncmy
from asyncmy.errors import MySQLError, OperationalError
from sqlalchemy import Column, ColumnElement, Connection, Engine, bindparam, create_engine, func, literal, select
from sqlalchemy.exc import DBAPIError

from peekaping_producer import APPLICATION
from peekaping_producer.catalog.connections import (
    Connections,
    ServerConnections,
    driver_error,
    pool_options,
    reason,
    server_url,
)
from peekaping_producer.catalog.encryption import CERTIFICATE_REJECTED, TLS_ONLY, context_of, tls_fix
from peekaping_producer.catalog.limits import CONNECT_TIMEOUT_S, Limits
from peekaping_producer.catalog.problems import (
    NO_DATABASE,
    NO_RIGHT,
    REFUSED,
    configuration_error,
    server_address,
    wrong_kind,
)
from peekaping_producer.catalog.reading import Facts
from peekaping_producer.catalog.sql import SqlCatalog, SqlDatabase
from peekaping_producer.catalog.tables import TABLE_NAMES, TABLES, Dialect
from peekaping_producer.config.settings import DbTls, Settings
from peekaping_producer.errors import ConfigurationError, Unavailable, one_line

_IDLE_S = 300
"""An older connection is replaced before the server closes it as idle."""
_REFUSED = f"{REFUSED} (MariaDB answers the same if it requires TLS or a client certificate: DB_TLS, DB_TLS_CERT)"
_FIXES: Final = {
    1044: "the database in DB_NAME does not exist or DB_USER may not read it, set the right one or grant it SELECT",
    1045: _REFUSED,
    1049: NO_DATABASE,
    1130: "DB_USER may not connect to the database at DB_HOST from this machine, allow it",
    1142: NO_RIGHT,
    1143: NO_RIGHT,
    1698: _REFUSED,
    3159: TLS_ONLY,
}
"""What an operator must do, by the number of the error."""
_NO_SUCH_TABLE = 1146
_LOST = 2013
"""asyncmy's number for a connection that was closed while it waited for an answer."""
_ANOTHER_PROTOCOL = "Packet sequence number wrong"
"""asyncmy's words for an answer that no MySQL gives."""


def open_catalog(settings: Settings, limits: Limits) -> SqlCatalog:
    """Return the catalog of the configured MySQL or MariaDB; nothing is connected yet."""
    return SqlCatalog(MySql(settings), limits)


def _among_ids(column: Column[Any]) -> ColumnElement[bool]:
    return column.in_(bindparam("ids", expanding=True))


class MySql(SqlDatabase):
    """A MySQL or MariaDB."""

    dialect = Dialect(among_ids=_among_ids)

    def __init__(self, settings: Settings) -> None:
        """Take the settings that lead to it. Raises ConfigurationError for a wrong DB_TLS_* file."""
        super().__init__(settings, server_address(settings))
        self._tls_arguments = _tls_arguments(settings)

    def connect(self, connections: int, timeout_s: float, *, seldom_used: bool = False) -> Connections:
        """See SqlDatabase."""
        pool = pool_options(connections, timeout_s, seldom_used=seldom_used)
        return ServerConnections(_engine(self.settings, timeout_s, pool, self._tls_arguments), _reason)

    def configuration_error(self, error: Unavailable) -> ConfigurationError | None:
        """See SqlDatabase."""
        return configuration_error(error, self._fix(_cause(error)))

    def advice(self, error: Unavailable) -> str | None:
        """See SqlDatabase."""
        cause = _cause(error)
        if _code(cause) == _LOST and self.settings.db_tls_cert:
            return CERTIFICATE_REJECTED
        return self._fix(cause) or (wrong_kind(self.settings) if _ANOTHER_PROTOCOL in str(cause) else None)

    def check_rights(self, connection: Connection) -> None:
        """Touch every table that exists: MySQL lists a table that may not be read as if it did not exist."""
        for table in TABLES:
            try:
                connection.execute(select(literal(1)).select_from(table).limit(0))
            except DBAPIError as error:
                if _code(driver_error(error)) != _NO_SUCH_TABLE:
                    raise

    def facts(self, connection: Connection) -> Facts:
        """See SqlDatabase."""
        version = str(connection.scalar(select(func.version())))
        _, cipher = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Ssl_cipher'").one()
        # MariaDB says 10.11.6-MariaDB-0+deb12u1.
        number, _, _ = version.partition("-")
        return Facts("MariaDB" if "MariaDB" in version else "MySQL", number, TABLE_NAMES, bool(cipher))

    def _fix(self, cause: BaseException) -> str | None:
        """Return what an operator must do; None where that is not known, or nobody must."""
        return _FIXES.get(_code(cause)) or tls_fix(cause)


def _engine(
    settings: Settings, statement_timeout_s: float, pool: dict[str, Any], tls_arguments: dict[str, Any]
) -> Engine:
    # MariaDB reads the first comment, MySQL the second; each skips the other's.
    session = (
        "SET SESSION time_zone = '+00:00', sql_mode = ''"
        f" /*M!100100 , max_statement_time = {statement_timeout_s:f}, tx_read_only = 1 */"
        f" /*!50720 , max_execution_time = {int(statement_timeout_s * 1000)}, transaction_read_only = 1 */"
    )
    connect_args: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "init_command": session,
        "program_name": APPLICATION,
        **tls_arguments,
    }
    if password := settings.db_pass:
        # Given as text, it would be encoded as Latin-1.
        connect_args["password_creator"] = lambda: password.reveal().encode()
    if settings.db_host and settings.db_host.startswith("/"):
        connect_args["unix_socket"] = settings.db_host
    return create_engine(
        server_url("mysql+asyncmy", settings).update_query_dict({"charset": "utf8mb4"}),
        connect_args=connect_args,
        pool_recycle=_IDLE_S,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
        **pool,
    )


def _tls_arguments(settings: Settings) -> dict[str, Any]:
    if settings.db_tls in {None, DbTls.OFF} or (settings.db_host or "").startswith("/"):
        return {}
    context = context_of(settings)
    if settings.db_tls is DbTls.PREFER:
        return {"async_creator_fn": partial(_encrypted_if_possible, context)}
    return {"ssl": context}


async def _encrypted_if_possible(context: ssl.SSLContext, **options: Any) -> Any:  # noqa: ANN401 - asyncmy has no types
    """Connect, without TLS if the handshake fails: asyncmy itself ignores what the server offers."""
    try:
        return await asyncmy.connect(ssl=context, **options)
    except OperationalError as error:
        if not isinstance(error.__cause__, ssl.SSLError):
            raise
    return await asyncmy.connect(**options)


def _reason(error: Exception) -> str | None:
    """Return an error's reason in one line, without its number; None for a bug of ours."""
    cause = driver_error(error)
    return one_line(cause.args[1]) if reason(error) and _code(cause) else reason(error)


def _cause(error: Unavailable) -> BaseException:
    return driver_error(error.__cause__ or error)


def _code(error: BaseException) -> int:
    """Return the number of an error as asyncmy gives it; 0 where there is none."""
    match error.args:
        case (int(code), str()) if isinstance(error, MySQLError):
            return code
    return 0
