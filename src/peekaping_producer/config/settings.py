"""The settings: every variable of the Go producer (docs/protocol.md, section 5), from the environment and `.env`.

The fields' descriptions and `allowed` texts are what docs/configuration.md and the error lines say.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Protocol, TypeVar, cast
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
)

from peekaping_producer.config.variables import Unknown, environment, read_env_file, unknown_among
from peekaping_producer.errors import ConfigurationError

T = TypeVar("T", bound="_Base")
ENV_FILE = Path(".env")
_SECRETS = frozenset({"DB_PASS", "REDIS_PASSWORD"})
_HOSTS = frozenset({"DB_HOST", "REDIS_HOST"})
_SERVER_FIELDS = frozenset({"db_host", "db_port", "db_user", "db_pass"})
"""What leads to a server: with SQLite they are ignored, whatever they hold."""
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


def _redis_host(value: object) -> object:
    """Refuse a path too: a Unix socket of Redis is not supported."""
    if isinstance(value, str) and "/" in value:
        raise ValueError
    return _host(value)


def _allowed(text: str) -> dict[str, Any]:
    return {"allowed": text}


Whole = Annotated[int, BeforeValidator(_whole)]
Host = Annotated[str, BeforeValidator(_host)]
Name = Annotated[str, BeforeValidator(_name)]
Secret = Annotated[SecretStr, BeforeValidator(_plain)]
_PORT = _allowed("a whole number from 1 to 65535")


class _Base(BaseModel):
    """How values are taken."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, validate_default=True)


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
    redis_host: Annotated[str, BeforeValidator(_redis_host)] = Field(
        "redis",
        description="The Redis server's host name or address.",
        json_schema_extra=_allowed("a host name; a Unix socket's path is not supported"),
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
        description="How many batches of up to 200 monitors may be in flight at once, each with a database connection.",
        json_schema_extra=_allowed("a whole number from 1 to 128"),
    )
    producer_cache_mb: Annotated[Whole, Field(ge=0, le=65_536)] = Field(
        64,
        description="Megabytes for the cache of monitors from which checks are served while the database is"
        " unavailable; 0 = none.",
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

    Names are case-sensitive. With SQLite the variables of a server are ignored.
    Raises ConfigurationError with one line for each variable that is wrong or missing, all at once.
    """
    return _load(Settings, env_file)


def load_redis_settings(env_file: Path = ENV_FILE) -> RedisSettings:
    """Read those of the settings that lead to Redis, whatever the others are. Raises as `load_settings` does."""
    return cast("RedisSettings", _load(_RedisSettings, env_file))


def shown(settings: Settings) -> dict[str, object]:
    """Return the settings by their variables, without secrets and what is not set."""
    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    return {
        name.upper(): "***" if isinstance(value, SecretStr) else value if isinstance(value, int) else str(value)
        for name, value in values.items()
        if value is not None
    }


def log_settings(env_file: Path = ENV_FILE) -> tuple[Mode, str]:
    """Return MODE and SERVICE_NAME for lines that say what is wrong with the settings; what is wrong is the default."""
    fields = Settings.model_fields
    try:
        variables = read_env_file(env_file)[0] | environment()
    except ConfigurationError:
        variables = environment()
    mode = variables.get("MODE", "")
    mode = (_between_quotes(mode) or mode).strip().lower()
    return _MODES.get(mode, Mode.DEV), variables.get("SERVICE_NAME") or fields["service_name"].default


def unknown_variables(env_file: Path = ENV_FILE) -> list[Unknown]:
    """Return the variables that look like settings of the producer and are none: misspelled ones.

    Raises ConfigurationError where `env_file` can't be read.
    """
    return unknown_among(read_env_file(env_file)[0] | environment(), map(str.upper, Settings.model_fields))


def _load(model: type[T], env_file: Path) -> T:
    in_file, problems = read_env_file(env_file)
    in_environment = environment()
    variables = {name: field for field in model.model_fields if (name := field.upper()) in {*in_file, *in_environment}}
    values = {field: in_environment.get(name) or in_file[name] for name, field in variables.items()}
    quoted = {
        variables[name]: inner
        for name, value in in_environment.items()
        if name in variables and (inner := _between_quotes(value)) is not None
    }
    values |= quoted
    if _DB_TYPES.get(values.get("db_type", "").strip().lower()) is DbType.SQLITE:
        values = {field: value for field, value in values.items() if field not in _SERVER_FIELDS}
    problems += [_quoted(field.upper()) for field in quoted if field in values]
    try:
        settings = model(**{field: value for field, value in values.items() if value})
    except ValidationError as error:
        problems += [_problem(str(detail["loc"][0]), detail.get("input")) for detail in error.errors()]
    if problems:
        raise ConfigurationError(*dict.fromkeys(problems), *map(str, unknown_variables(env_file)))
    return settings


def _between_quotes(value: str) -> str | None:
    """Return what is between the quotes around a value; None where there are none."""
    value = value.strip()
    in_quotes = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if in_quotes else None


def _quoted(variable: str) -> str:
    kept = f"{variable} is in quotes, and they are part of the value (docker --env-file keeps them): remove them"
    return f"{kept}, or put a password that has them into {ENV_FILE}" if variable in _SECRETS else kept


def _problem(field: str, value: object) -> str:
    """Describe one wrong or missing variable; of a secret, never the value."""
    variable, extra = field.upper(), Settings.model_fields[field].json_schema_extra
    allowed = extra["allowed"] if isinstance(extra, dict) else ""
    if value is None or isinstance(value, dict):
        unless = " unless DB_TYPE is sqlite" if field in _SERVER_FIELDS else ""
        return f"{variable} is not set: required{unless}, {allowed}"
    secret = variable in _SECRETS or _is_url(str(value)) or (variable in _HOSTS and "@" in str(value))
    shown = "wrong" if secret else _shortened(str(value))
    return f"{variable} is {shown}: must be {allowed}"


def _shortened(value: str) -> str:
    return repr(value if len(value) <= _LONGEST_SHOWN else f"{value[:_LONGEST_SHOWN]}…")
