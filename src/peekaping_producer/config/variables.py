"""Variables: those of the environment, and those of a `.env` file."""

import io
import os
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream
from msgspec import Struct

from peekaping_producer.errors import ConfigurationError

ENV_FILE: Final = Path(".env")
_PREFIXES = ("DB_", "REDIS_", "PRODUCER_")
_OF_OTHERS = frozenset({"DB_ADMIN_USER", "DB_ADMIN_PASS"})
"""Read by Peekaping's other services and images, from the same environment or file."""
_SERVICE_LINK = re.compile(
    r"\w+(_SERVICE_HOST=.*|_SERVICE_PORT(_\w+)?=.*|_PORT=\w+://.*|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=.*)"
)
"""What Kubernetes sets for services whose names begin with db, redis or producer."""
_DRIVERS_OWN = ("PG", "MYSQL")


class Unknown(Struct, frozen=True):
    """A variable that looks like a setting but is not one."""

    name: str
    nearest: str | None
    """The known name that was probably meant."""

    def __str__(self) -> str:
        """Return the problem in one line."""
        meant = f": did you mean {self.nearest}?" if self.nearest else ""
        return f"{self.name} is set, but is not a variable of the producer{meant}"


def environment() -> dict[str, str]:
    """Return the variables of the environment; empty ones count as unset."""
    return {name: value for name, value in os.environ.items() if value}


def forget_drivers_variables() -> None:
    """Remove the variables of the databases' own tools: asyncpg uses some of them, whatever arguments it gets."""
    for name in [name for name in os.environ if name.startswith(_DRIVERS_OWN)]:
        del os.environ[name]


def unknown_among(variables: Mapping[str, str], known: Iterable[str]) -> list[Unknown]:
    """Return those of these variables that look like settings but are not, in alphabetical order."""
    known = set(known)
    unknown = sorted(name for name, value in variables.items() if _looks_like_a_setting(name, value, known))
    return [Unknown(_printable(name), _nearest(name.upper(), known)) for name in unknown]


def read_env_file(path: Path) -> tuple[dict[str, str], list[str]]:
    """Return what a `.env` file sets, and a problem for each line that is not valid.

    Empty values count as unset. `${NAME}` is replaced, but not between single quotes: a password may contain it.
    Raises ConfigurationError if the file cannot be read; a file that does not exist sets nothing.
    """
    bindings = _bindings(path)
    problems = [
        f"{path} line {binding.original.line} can't be understood: must be NAME=value, with every quote closed"
        for binding in bindings
        if binding.error
    ]
    valid = [binding for binding in bindings if not binding.error]
    values = dotenv_values(stream=io.StringIO("".join(binding.original.string for binding in valid)))
    last = {binding.key: binding for binding in valid if binding.key}
    values |= {
        name: binding.value
        for name, binding in last.items()
        if binding.original.string.partition("=")[2].lstrip().startswith("'")
    }
    return {name: value for name, value in values.items() if value}, problems


def _bindings(path: Path) -> list[Binding]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return []
    except OSError as error:
        reason = error.strerror
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    else:
        return list(parse_stream(io.StringIO(text)))
    raise ConfigurationError(f"{path} can't be read: {reason}; fix or remove it")


def _looks_like_a_setting(name: str, value: str, known: set[str]) -> bool:
    if name in known or name in _OF_OTHERS or not name.upper().startswith(_PREFIXES):
        return False
    return not _SERVICE_LINK.fullmatch(f"{name}={value}")


def _nearest(name: str, known: set[str]) -> str | None:
    prefix = name.partition("_")[0] + "_"
    alike = get_close_matches(name, [one for one in known if one.startswith(prefix)], n=1)
    return alike[0] if alike else None


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)[1:-1]
