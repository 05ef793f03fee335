"""The settings: every variable of the Go producer (docs/protocol.md, section 5), and this producer's own.

A new setting is one field here and one row of docs/configuration.md, which a test compares with each other.
"""

from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationInfo, field_validator

from peekaping_producer.config.fields import PORT, SWITCHES, Base, Port, Switch, file_setting, setting
from peekaping_producer.config.redis_settings import RedisSettings
from peekaping_producer.config.secret import Secret, SecretUnreadable
from peekaping_producer.config.values import AbsolutePath, Host, IpAddress, Name, SecretText, Whole, Zone, one_of

HOSTS: Final = frozenset({"db_host", "redis_host", "redis_sentinels"})
MIN_TOKEN_LENGTH: Final = 16
"""Characters of the token: a shorter one could be guessed."""
SERVER_FIELDS: Final = frozenset(
    {"db_host", "db_port", "db_user", "db_pass", "db_pass_file", "db_tls", "db_tls_ca", "db_tls_cert", "db_tls_key"}
)
"""What leads to a database server: ignored with SQLite."""


class DbType(StrEnum):
    """The kinds of database Peekaping runs on."""

    POSTGRES = "postgres"
    MYSQL = "mysql"
    SQLITE = "sqlite"
    MONGO = "mongo"


class ScheduleMode(StrEnum):
    """When in its interval a monitor is checked; `auto` spreads checks, and aligns them while a Go producer runs."""

    AUTO = "auto"
    SPREAD = "spread"
    ALIGNED = "aligned"


class DbTls(StrEnum):
    """Whether a connection to the database is encrypted, and what is checked of the server's certificate."""

    OFF = "off"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


VERIFYING: Final = frozenset({DbTls.VERIFY_CA, DbTls.VERIFY_FULL})
"""With these, the server's certificate is checked."""
ENCRYPTING: Final = VERIFYING | {DbTls.REQUIRE}
"""With these, nothing is sent that is not encrypted."""


class Mode(StrEnum):
    """How the log is written: `prod` JSON, `dev` readable and coloured lines, `test` plain lines."""

    DEV = "dev"
    PROD = "prod"
    TEST = "test"


class LogLevel(StrEnum):
    """The least severe lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


DB_TYPES: Final = {
    "postgres": DbType.POSTGRES,
    "postgresql": DbType.POSTGRES,
    "mysql": DbType.MYSQL,
    "sqlite": DbType.SQLITE,
    "mongo": DbType.MONGO,
    "mongodb": DbType.MONGO,
}
_LOG_LEVELS: Final = {
    "debug": LogLevel.DEBUG,
    "info": LogLevel.INFO,
    "warn": LogLevel.WARNING,
    "warning": LogLevel.WARNING,
    "error": LogLevel.ERROR,
    "dpanic": LogLevel.ERROR,
    "panic": LogLevel.ERROR,
    "fatal": LogLevel.ERROR,
}
_SCHEDULE_MODES: Final = {mode.value: mode for mode in ScheduleMode}
MODES: Final = {mode.value: mode for mode in Mode}
_DB_TLS: Final = {tls.value: tls for tls in DbTls}


def _only_if(allowed: bool, value: object) -> object:  # noqa: FBT001 - reads as a sentence where it is called
    """Return the value of a setting that depends on another one; raises ValueError if it may not be set."""
    if value is not None and not allowed:
        raise ValueError
    return value


class DatabaseSettings(Base):
    """What leads to Peekaping's database."""

    db_type: Annotated[DbType, one_of(DB_TYPES)] = setting(
        meaning="The kind of database Peekaping runs on.",
        allowed=f"one of {', '.join(DB_TYPES)}",
    )
    db_host: Host | None = setting(
        None,
        meaning="The database server's host name or address, or the path of its Unix socket. With MongoDB, also several"
        " hosts, separated by commas.",
        allowed="a host name, or the path of a Unix socket",
    )
    db_port: Port | None = setting(None, meaning="The database server's port.", allowed=PORT)
    db_user: Name | None = setting(None, meaning="The database user; SELECT rights are enough.", allowed="a user name")
    db_pass: SecretText | None = setting(None, meaning="The database user's password.", allowed="a password")
    db_pass_file: Name | None = file_setting("DB_PASS")
    db_name: Name = setting(
        meaning="The database's name, or the SQLite file's path.",
        allowed="a database name, or a path for sqlite",
    )
    db_schema: Name | None = setting(
        None,
        meaning="The schema of Peekaping's tables, if it is not the first in the user's search path; Postgres only.",
        allowed="a schema name; only with DB_TYPE=postgres",
    )
    db_statement_cache: Annotated[Switch, one_of(SWITCHES)] = setting(
        Switch.ON,
        meaning="Whether Postgres keeps statements prepared; `off` behind PgBouncer in transaction mode.",
        allowed="on or off",
    )
    db_tls: Annotated[DbTls, one_of(_DB_TLS)] | None = setting(
        None,
        meaning="Encryption of the database connection: `prefer` uses TLS if the server offers it, `require` always;"
        " `verify-ca` also checks which authority signed the server's certificate, `verify-full` its host name too."
        " Unset: `prefer` for Postgres, `off` for the others.",
        allowed="one of off, prefer, require, verify-ca, verify-full; off or prefer for a Unix socket",
    )
    db_tls_ca: Name | None = setting(
        None,
        meaning="The file of the authorities that may sign the server's certificate; unset: those of the system.",
        allowed="the path of a PEM file; only with DB_TLS=verify-ca or verify-full",
    )
    db_tls_cert: Name | None = setting(
        None,
        meaning="The file of the client certificate, if the server asks for one.",
        allowed="the path of a PEM file; only with DB_TLS=require, verify-ca or verify-full",
    )
    db_tls_key: Name | None = setting(
        None,
        meaning="The file of that certificate's private key; unset: it is in the file of the certificate.",
        allowed="the path of a PEM file; only with DB_TLS_CERT",
    )
    db_auth_source: Name | None = setting(
        None,
        meaning="The database in which MongoDB keeps DB_USER; unset: `admin`.",
        allowed="a database name; only with DB_TYPE=mongo",
    )
    db_replica_set: Name | None = setting(
        None,
        meaning="The name of MongoDB's replica set; with it, any of the set's members in DB_HOST leads to all of them.",
        allowed="a name; only with DB_TYPE=mongo",
    )

    @field_validator("db_host", "db_port", "db_user", "db_pass")
    @classmethod
    def _required_unless_sqlite(cls, value: object, info: ValidationInfo) -> object:
        if value is None and info.data.get("db_type") is not DbType.SQLITE:
            raise ValueError
        return value

    @field_validator("db_schema")
    @classmethod
    def _postgres_only(cls, value: object, info: ValidationInfo) -> object:
        return _only_if(info.data.get("db_type", DbType.POSTGRES) is DbType.POSTGRES, value)

    @field_validator("db_auth_source", "db_replica_set")
    @classmethod
    def _mongo_only(cls, value: object, info: ValidationInfo) -> object:
        return _only_if(info.data.get("db_type", DbType.MONGO) is DbType.MONGO, value)

    @field_validator("db_tls")
    @classmethod
    def _not_on_a_unix_socket(cls, value: object, info: ValidationInfo) -> object:
        is_socket = (info.data.get("db_host") or "").startswith("/")
        return _only_if(not (is_socket and value in ENCRYPTING), value)

    # Otherwise an operator would think that a certificate is checked, or shown, that is not.
    @field_validator("db_tls_ca")
    @classmethod
    def _only_verifying(cls, value: object, info: ValidationInfo) -> object:
        return _only_if(info.data.get("db_tls", DbTls.VERIFY_CA) in VERIFYING, value)

    @field_validator("db_tls_cert")
    @classmethod
    def _only_encrypting(cls, value: object, info: ValidationInfo) -> object:
        return _only_if(info.data.get("db_tls", DbTls.REQUIRE) in ENCRYPTING, value)

    @field_validator("db_tls_key")
    @classmethod
    def _only_with_certificate(cls, value: object, info: ValidationInfo) -> object:
        return _only_if(info.data.get("db_tls_cert", "") is not None, value)


class Settings(RedisSettings, DatabaseSettings):
    """What an operator decides. Field names are the variables' names in lower case."""

    producer_concurrency: Annotated[Whole, Field(ge=1, le=128)] = setting(
        10,
        meaning="How many batches of up to 200 monitors may be in flight at once, each with a database connection.",
        allowed="a whole number from 1 to 128",
    )
    producer_cache_mb: Annotated[Whole, Field(ge=0, le=65_536)] = setting(
        64,
        meaning="Megabytes for the cache that checks are served from while the database is unavailable; 0 = no cache.",
        allowed="a whole number from 0 to 65536",
    )
    producer_schedule: Annotated[ScheduleMode, one_of(_SCHEDULE_MODES)] = setting(
        ScheduleMode.AUTO,
        meaning="When in its interval a monitor is checked: `spread` gives each its own offset; `aligned` uses Unix"
        " times that are multiples of the interval, as the Go producer does, plus 1 ms; `auto` aligns if a Go producer"
        " was detected in the last 2 minutes.",
        allowed="one of auto, spread, aligned",
    )
    producer_retry_interval: Annotated[Switch, one_of(SWITCHES)] = setting(
        Switch.OFF,
        meaning="`on` checks a monitor every `retry_interval` while its status is pending, if that is shorter than its"
        " interval; the Go producer ignores that field.",
        allowed="on or off",
    )
    producer_alive_file: AbsolutePath | None = setting(
        None,
        meaning="A file that is written every second while the node is alive, for `peekaping-producer probe`.",
        allowed="an absolute path, ideally on a file system in memory, such as /dev/shm/peekaping-producer.alive",
    )
    producer_http_host: IpAddress = setting(
        "127.0.0.1",
        meaning="The address at which probes, metrics and the page are served; 0.0.0.0 or :: for all addresses of this"
        " host.",
        allowed="an IP address of this host",
    )
    producer_http_port: Port | None = setting(
        None,
        meaning="The port on which probes, metrics and the page are served; nothing is served without it.",
        allowed=PORT,
    )
    producer_http_token: SecretText | None = setting(
        None,
        meaning="The token that clients need to change anything over HTTP; without it, nothing can be changed that"
        " way.",
        allowed=f"at least {MIN_TOKEN_LENGTH} characters long",
    )
    producer_http_token_file: Name | None = file_setting("PRODUCER_HTTP_TOKEN", "each time the token is needed")
    mode: Annotated[Mode, one_of(MODES)] = setting(
        Mode.DEV,
        meaning="`prod` logs JSON lines; `dev` readable ones, coloured on a terminal; `test` plain ones.",
        allowed="one of dev, prod, test",
    )
    log_level: Annotated[LogLevel, one_of(_LOG_LEVELS)] = setting(
        LogLevel.DEBUG,
        meaning="The least severe lines to write; `dpanic`, `panic` and `fatal` count as `error`.",
        allowed="one of debug, info, warn, warning, error, dpanic, panic, fatal",
    )
    tz: Zone = setting(
        ZoneInfo("UTC"),
        meaning="The time zone of maintenances marked SAME_AS_SERVER.",
        allowed="an IANA time zone name, such as Europe/Berlin",
    )
    service_name: str = setting("peekaping:producer", meaning="The field `svc` of every log line.", allowed="any text")

    @field_validator("producer_http_token")
    @classmethod
    def _long_enough(cls, value: Secret | None) -> Secret | None:
        # A file that cannot be read is reported elsewhere.
        with suppress(SecretUnreadable):
            if value and len(value.reveal()) < MIN_TOKEN_LENGTH:
                raise ValueError
        return value


SECRETS: Final = tuple(name for name in Settings.model_fields if f"{name}_file" in Settings.model_fields)
