"""Reads the settings from the environment and `.env`, and describes what is wrong with them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from peekaping_producer.config.fields import Base, allowed_in
from peekaping_producer.config.redis_settings import RedisSettings
from peekaping_producer.config.redis_url import take_redis_url
from peekaping_producer.config.secret import Secret, SecretUnreadable
from peekaping_producer.config.settings import (
    DB_TYPES,
    HOSTS,
    MODES,
    SECRETS,
    SERVER_FIELDS,
    DbType,
    Mode,
    Settings,
)
from peekaping_producer.config.values import is_url
from peekaping_producer.config.variables import ENV_FILE, Unknown, environment, read_env_file, unknown_among
from peekaping_producer.errors import ConfigurationError

T = TypeVar("T", bound=BaseModel)
_LONGEST_VALUE = 80
"""Characters of a wrong value that an error repeats."""


def load_settings(env_file: Path = ENV_FILE) -> Settings:
    """Read the settings from the environment, and from `env_file` what the environment leaves unset or empty.

    Names are case-sensitive. With SQLite the variables of a server are ignored.
    Raises ConfigurationError with one line for each variable that is wrong or missing.
    """
    return _load(Settings, env_file)


def load_redis_settings(env_file: Path = ENV_FILE) -> RedisSettings:
    """Read only the settings of Redis, whatever the others are. Raises as `load_settings` does."""
    return _load(RedisSettings, env_file)


def masked(settings: Base) -> dict[str, str | int]:
    """Return the settings that are set, by the names of their variables, secrets masked."""
    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    return {name.upper(): shown(value) for name, value in values.items() if value is not None}


def shown(value: object) -> str | int:
    """Return a setting's value as it may be shown; a secret masks itself."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return value if isinstance(value, int) else str(value)


def log_settings(env_file: Path = ENV_FILE) -> tuple[Mode, str]:
    """Return MODE and SERVICE_NAME for lines on wrong settings; the defaults where these two are wrong themselves."""
    fields = Settings.model_fields
    try:
        variables = read_env_file(env_file)[0] | environment()
    except ConfigurationError:
        variables = environment()
    mode = variables.get("MODE", "")
    mode = (_between_quotes(mode) or mode).strip().lower()
    return MODES.get(mode, Mode.DEV), variables.get("SERVICE_NAME") or fields["service_name"].default


def unknown_variables(env_file: Path = ENV_FILE) -> list[Unknown]:
    """Return the variables that look like settings but are not, such as misspelled ones.

    Raises ConfigurationError if `env_file` cannot be read.
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
    if DB_TYPES.get(values.get("db_type", "").strip().lower()) is DbType.SQLITE:
        values = {field: value for field, value in values.items() if field not in SERVER_FIELDS}
    problems += [_quoted(field) for field in quoted if field in values]
    secrets, unusable = _secrets_in_files(values)
    problems += unusable
    problems += take_redis_url(values, secrets)
    try:
        settings = model(**{field: value for field, value in values.items() if value} | secrets)
    except ValidationError as error:
        problems += [_problem(str(detail["loc"][0]), detail.get("input")) for detail in error.errors()]
    if problems:
        raise ConfigurationError(*dict.fromkeys(problems), *map(str, unknown_variables(env_file)))
    return settings


def _secrets_in_files(values: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the secrets that files hold, by their fields, and what is wrong with them."""
    secrets, problems = {}, []
    for field in SECRETS:
        path, variable = values.get(f"{field}_file"), f"{field}_file".upper()
        if path is None or is_url(path):  # a URL is refused as a file name, and not shown
            continue
        if field in values:
            problems.append(f"{field.upper()} and {variable} are both set: remove one of them")
            continue
        secrets[field] = Secret.of_file(variable, Path(path))
        try:
            secrets[field].reveal()
        except SecretUnreadable as error:
            problems.append(f"{error}; name a file with one secret in it")
    return secrets, problems


def _between_quotes(value: str) -> str | None:
    """Return what is between the quotes around a value; None if there are no quotes."""
    value = value.strip()
    in_quotes = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if in_quotes else None


def _quoted(field: str) -> str:
    variable = field.upper()
    problem = f"{variable} is in quotes, and they are part of the value (docker --env-file keeps them): remove them"
    return f"{problem}, or put a password that really contains quotes into {ENV_FILE}" if field in SECRETS else problem


def _problem(field: str, value: object) -> str:
    """Describe one wrong or missing variable, without the value of a secret."""
    variable, allowed = field.upper(), allowed_in(Settings, field)
    if value is None or isinstance(value, dict):
        unless = " unless DB_TYPE is sqlite" if field in SERVER_FIELDS else ""
        return f"{variable} is not set: required{unless}, {allowed}"
    secret = field in SECRETS or is_url(str(value)) or (field in HOSTS and "@" in str(value))
    what = "wrong" if secret else _shortened(str(value))
    return f"{variable} is {what}: must be {allowed}"


def _shortened(value: str) -> str:
    return repr(value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}…")
