"""Where each setting comes from, for `check`."""

from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from peekaping_producer.config.loading import masked, shown
from peekaping_producer.config.settings import Settings
from peekaping_producer.config.variables import ENV_FILE, environment, read_env_file
from peekaping_producer.errors import ConfigurationError


class Origin(StrEnum):
    """Where a setting comes from."""

    ENVIRONMENT = "environment"
    ENV_FILE = ".env"
    NAMED_FILE = "file"
    """The file that the variable `<name>_FILE` names."""
    URL = "REDIS_URL"
    """A part of the address that this variable holds."""
    DEFAULT = "default"
    UNSET = "not set"


class ShownSetting(Struct, frozen=True):
    """One setting."""

    variable: str
    value: str | int | None
    """Secrets are masked; None if it is not set or not used. While settings are wrong, only defaults are shown."""
    origin: Origin


def shown_settings(settings: Settings | None, env_file: Path = ENV_FILE) -> list[ShownSetting]:
    """Return every setting with its origin; `settings` is None if some are wrong."""
    fields = Settings.model_fields
    defaults = {name: field.default for name, field in fields.items() if not field.is_required()}
    usual = {name.upper(): shown(default) for name, default in defaults.items() if default is not None}
    values = masked(settings) if settings else {}
    origins = _origins(env_file)

    def one(name: str) -> ShownSetting:
        unused = settings is not None and name not in values and origins.get(name) is Origin.NAMED_FILE
        if name in origins and not unused:
            return ShownSetting(name, values.get(name), origins[name])
        value = values.get(name, usual.get(name))
        if value != usual.get(name):
            return ShownSetting(name, value, Origin.URL)
        return ShownSetting(name, value, Origin.UNSET if value is None else Origin.DEFAULT)

    return [one(name.upper()) for name in fields]


def _origins(env_file: Path) -> dict[str, Origin]:
    """Return where the variables that are set come from."""
    try:
        in_file, _ = read_env_file(env_file)
    except ConfigurationError:
        in_file = {}
    origins = dict.fromkeys(in_file, Origin.ENV_FILE) | dict.fromkeys(environment(), Origin.ENVIRONMENT)
    named = {name.removesuffix("_FILE"): Origin.NAMED_FILE for name in origins if name.endswith("_FILE")}
    return named | origins
