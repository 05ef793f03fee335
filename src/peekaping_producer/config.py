"""The settings: every variable of the Go producer (PROTOCOL 5), from the environment and `.env`.

The fields' descriptions and `allowed` texts are what docs/configuration.md and the error lines say.
"""

import io
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Protocol, TypeVar, cast
from zoneinfo import ZoneInfo, available_timezones

from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream
from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    SecretStr,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from peekaping_producer.errors import ConfigurationError

T = TypeVar("T", bound="_Base")
ENV_FILE = Path(".env")
_SECRETS = frozenset({"DB_PASS", "REDIS_PASSWORD"})
_HOSTS = frozenset({"DB_HOST", "REDIS_HOST"})
_LONGEST_SHOWN = 80
"""Characters of a wrong value that an error line repeats."""


class DbType(StrEnum):
    """The kinds of database Peekaping runs on."""

    POSTGRES = "postgres"
    MYSQL = "mysql"
    SQLITE = "sqlite"
    MONGO = "mongo"


class ScheduleMode(StrEnum):
    """Where in their intervals checks lie: `auto` spreads them, but aligns them while a Go producer runs beside us."""

    AUTO = "auto"
    SPREAD = "spread"
    ALIGNED = "aligned"


class Switch(StrEnum):
    """Something that can be turned off."""

    ON = "on"
    OFF = "off"


class Mode(StrEnum):
    """How the process presents itself: `prod` logs JSON, `dev` readable and coloured lines, `test` plain lines."""

    DEV = "dev"
    PROD = "prod"
    TEST = "test"


class LogLevel(StrEnum):
    """The least severe lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


_DB_TYPES: Final = {
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
_MODES: Final = {mode.value: mode for mode in Mode}
_SWITCHES: Final = {switch.value: switch for switch in Switch}


def _one_of(names: dict[str, Any]) -> PlainValidator:
    def choose(value: object) -> object:
        try:
            return value if isinstance(value, StrEnum) else names[str(value).strip().lower()]
        except KeyError:
            raise ValueError from None

    return PlainValidator(choose)


def _whole(value: object) -> object:
    """Accept digits only: pydantic alone would take `6_379` and ` 1.0`."""
    text = str(value).strip()
    if not (text.isascii() and text.isdigit()):
        raise ValueError
    return int(text)


def _zone(value: object) -> ZoneInfo:
    if isinstance(value, ZoneInfo):
        return value
    name = str(value).strip()
    if name not in available_timezones():
        raise ValueError
    return ZoneInfo(name)


def _plain(value: object) -> object:
    """Refuse what no system outside takes: bytes that are not UTF-8 (they arrive as surrogates), and NUL."""
    if isinstance(value, str) and ("\0" in value or value.encode(errors="ignore").decode() != value):
        raise ValueError
    return value


def _name(value: object) -> object:
    """Refuse a name that holds nothing but blanks, and a URL in its place, with the password it may bear."""
    if isinstance(value, str) and (not value.strip() or _is_url(value)):
        raise ValueError
    return _plain(value)


def _is_url(text: str) -> bool:
    return "://" in text and "@" in text


def _host(value: object) -> object:
    """Refuse a URL in a host's place, with the password it may bear; surrounding blanks don't matter."""
    host = value.strip() if isinstance(value, str) else value
    if isinstance(host, str) and ("@" in host or "://" in host or not host.isprintable() or len(host.split()) != 1):
        raise ValueError
    if isinstance(host, str) and not host.startswith("/"):
        # What a look-up would stumble over: an empty part, or one of more than 63 characters.
        host.encode("idna")
    return host


def _allowed(text: str) -> dict[str, Any]:
    return {"allowed": text}


Whole = Annotated[int, BeforeValidator(_whole)]
Host = Annotated[str, BeforeValidator(_host)]
Name = Annotated[str, BeforeValidator(_name)]
Secret = Annotated[SecretStr, BeforeValidator(_plain)]
_PORT = _allowed("a whole number from 1 to 65535")


class _Base(BaseSettings):
    """How variables are read."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=True,
    )


class Settings(_Base):
    """What an operator decides. Field names are the variables' names in lower case."""

    db_type: Annotated[DbType, _one_of(_DB_TYPES)] = Field(
        description="The kind of database Peekaping runs on.",
        json_schema_extra=_allowed("one of postgres, postgresql, mysql, sqlite, mongo, mongodb"),
    )
    db_host: Host | None = Field(
        None,
        description="The database server's host name or address, or the path of its Unix socket.",
        json_schema_extra=_allowed("a host name"),
    )
    db_port: Annotated[Whole, Field(ge=1, le=65535)] | None = Field(
        None, description="The database server's port.", json_schema_extra=_PORT
    )
    db_user: Name | None = Field(
        None, description="The database user; SELECT rights are enough.", json_schema_extra=_allowed("a user name")
    )
    db_pass: Secret | None = Field(
        None, description="The database user's password.", json_schema_extra=_allowed("a password")
    )
    db_name: Name = Field(
        description="The database's name, or the SQLite file's path.",
        json_schema_extra=_allowed("a database name, or a path for sqlite"),
    )
    db_schema: Name | None = Field(
        None,
        description="The schema that holds Peekaping's tables, where it is not the user's own; Postgres only.",
        json_schema_extra=_allowed("a schema name, with DB_TYPE postgres"),
    )
    db_statement_cache: Annotated[Switch, _one_of(_SWITCHES)] = Field(
        Switch.ON,
        description="`off` for Postgres behind PgBouncer in transaction mode.",
        json_schema_extra=_allowed("on or off"),
    )
    redis_host: Host = Field(
        "redis", description="The Redis server's host name or address.", json_schema_extra=_allowed("a host name")
    )
    redis_port: Annotated[Whole, Field(ge=1, le=65535)] = Field(
        6379, description="The Redis server's port.", json_schema_extra=_PORT
    )
    redis_password: Secret | None = Field(
        None, description="The Redis password; empty for none.", json_schema_extra=_allowed("a password")
    )
    redis_db: Annotated[Whole, Field(ge=0, le=15)] = Field(
        0, description="The number of the Redis database.", json_schema_extra=_allowed("a whole number from 0 to 15")
    )
    producer_concurrency: Annotated[Whole, Field(ge=1, le=128)] = Field(
        10,
        description="How many batches of up to 200 monitors may be in flight at once.",
        json_schema_extra=_allowed("a whole number from 1 to 128"),
    )
    producer_cache_mb: Annotated[Whole, Field(ge=0, le=65_536)] = Field(
        64,
        description="Megabytes for the copy of monitors by which checks go on while the database is away; 0 = none.",
        json_schema_extra=_allowed("a whole number from 0 to 65536"),
    )
    producer_schedule: Annotated[ScheduleMode, _one_of(_SCHEDULE_MODES)] = Field(
        ScheduleMode.AUTO,
        description="Where in their intervals checks lie: `spread` evenly, `aligned` 1 ms after each multiple of the"
        " interval, or `auto`: spread, but aligned while a Go producer has been noticed within the last 2 minutes.",
        json_schema_extra=_allowed("one of auto, spread, aligned"),
    )
    mode: Annotated[Mode, _one_of(_MODES)] = Field(
        Mode.DEV,
        description="`prod` logs JSON lines; `dev` readable ones, coloured on a terminal; `test` plain ones.",
        json_schema_extra=_allowed("one of dev, prod, test"),
    )
    log_level: Annotated[LogLevel, _one_of(_LOG_LEVELS)] = Field(
        LogLevel.DEBUG,
        description="The least severe lines to write; `dpanic`, `panic` and `fatal` count as `error`.",
        json_schema_extra=_allowed("one of debug, info, warn, warning, error, dpanic, panic, fatal"),
    )
    tz: Annotated[ZoneInfo, PlainValidator(_zone)] = Field(
        ZoneInfo("UTC"),
        description="The time zone of maintenances marked SAME_AS_SERVER.",
        json_schema_extra=_allowed("an IANA time zone name, such as Europe/Berlin"),
    )
    service_name: str = Field(
        "peekaping:producer", description="Stands as `svc` on every log line.", json_schema_extra=_allowed("any text")
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
        if value is not None and info.data.get("db_type", DbType.POSTGRES) is not DbType.POSTGRES:
            raise ValueError
        return value


class RedisSettings(Protocol):
    """The settings that lead to Redis: all that a command needs which reads nothing else."""

    @property
    def redis_host(self) -> str:
        """As in Settings."""

    @property
    def redis_port(self) -> int:
        """As in Settings."""

    @property
    def redis_db(self) -> int:
        """As in Settings."""

    @property
    def redis_password(self) -> SecretStr | None:
        """As in Settings."""


_redis_fields: dict[str, Any] = {
    name: (field.annotation, field) for name, field in Settings.model_fields.items() if name.startswith("redis_")
}
_RedisSettings = create_model("_RedisSettings", __base__=_Base, **_redis_fields)


def load_settings(env_file: Path = ENV_FILE) -> Settings:
    """Read the settings from the environment, and from `env_file` what the environment leaves unset or empty.

    Raises ConfigurationError with one line for each variable that is wrong or missing, all at once.
    """
    return _load(Settings, env_file)


def load_redis_settings(env_file: Path = ENV_FILE) -> RedisSettings:
    """Read those of the settings that lead to Redis, whatever the others are. Raises as `load_settings` does."""
    return cast("RedisSettings", _load(_RedisSettings, env_file))


def _load(model: type[T], env_file: Path) -> T:
    bindings = _bindings(env_file)
    problems = [
        f"{env_file} line {binding.original.line} can't be understood: must be NAME=value, with every quote closed"
        for binding in bindings
        if binding.error
    ]
    in_environment = {name.lower() for name, value in os.environ.items() if value}
    from_file: dict[str, Any] = {
        name: value
        for name, value in _values(bindings).items()
        if name in model.model_fields and name not in in_environment
    }
    try:
        settings = model(**from_file)
    except ValidationError as error:
        problems += [_problem(str(detail["loc"][0]), detail.get("input")) for detail in error.errors()]
    if problems:
        raise ConfigurationError(*dict.fromkeys(problems))
    return settings


def _bindings(env_file: Path) -> list[Binding]:
    """Read the file's lines; none where there is no file. Raises ConfigurationError where it can't be read."""
    try:
        text = env_file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return []
    except OSError as error:
        reason = error.strerror
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    else:
        return list(parse_stream(io.StringIO(text)))
    raise ConfigurationError(f"{env_file} can't be read: {reason}; mend or remove it")


def _values(bindings: list[Binding]) -> dict[str, str]:
    """Return what the file sets, by name in lower case; empty values count as unset.

    `${NAME}` is replaced, but not between single quotes: a password may hold it.
    """
    sound = [binding for binding in bindings if not binding.error]
    values = dotenv_values(stream=io.StringIO("".join(binding.original.string for binding in sound)))
    last = {binding.key: binding for binding in sound if binding.key}
    values |= {
        name: binding.value
        for name, binding in last.items()
        if binding.original.string.partition("=")[2].lstrip().startswith("'")
    }
    return {name.lower(): value for name, value in values.items() if value}


def _problem(field: str, value: object) -> str:
    """Describe one wrong or missing variable; of a secret, never the value."""
    variable, extra = field.upper(), Settings.model_fields[field].json_schema_extra
    allowed = extra["allowed"] if isinstance(extra, dict) else ""
    if value is None or isinstance(value, dict):
        unless = " unless DB_TYPE is sqlite" if variable in {"DB_HOST", "DB_PORT", "DB_USER", "DB_PASS"} else ""
        return f"{variable} is not set: required{unless}, {allowed}"
    secret = variable in _SECRETS or _is_url(str(value)) or (variable in _HOSTS and "@" in str(value))
    shown = "wrong" if secret else _shortened(str(value))
    return f"{variable} is {shown}: must be {allowed}"


def _shortened(value: str) -> str:
    return repr(value if len(value) <= _LONGEST_SHOWN else f"{value[:_LONGEST_SHOWN]}…")
