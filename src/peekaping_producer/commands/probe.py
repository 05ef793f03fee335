"""`probe`: is the node of this host or container alive? It asks neither Redis nor the database, and starts quickly."""

import sys
from pathlib import Path
from typing import Final

from peekaping_producer.config.variables import ENV_FILE, environment, read_env_file
from peekaping_producer.errors import EXIT_CONFIGURATION, ConfigurationError
from peekaping_producer.node.alive_file import turned_ago_s
from peekaping_producer.timing import Timing

VARIABLE: Final = "PRODUCER_ALIVE_FILE"


def run_probe() -> int:
    """Print why the node is not alive, if so; return the exit code."""
    try:
        problem = _not_alive()
    except ConfigurationError as error:
        print(*(f"peekaping-producer: {problem}" for problem in error.problems), sep="\n", file=sys.stderr)  # noqa: T201
        return EXIT_CONFIGURATION
    if problem is not None:
        print(f"not alive: {problem}")  # noqa: T201 - what container engines show
    return int(problem is not None)


def _not_alive() -> str | None:
    """Return why the node is not alive; None if it is. Raises ConfigurationError if the variable is not set."""
    path = environment().get(VARIABLE) or read_env_file(ENV_FILE)[0].get(VARIABLE)
    if path is None:
        raise ConfigurationError(f"{VARIABLE} is not set: set it for `run` and `probe` alike")
    try:
        ago_s = turned_ago_s(Path(path))
    except FileNotFoundError:
        return f"{path} does not exist: no producer runs, or it is just starting"
    except OSError as error:
        return f"{path} can't be read: {error.strerror}"
    except ValueError:
        return f"{path} was not written by a producer"
    if ago_s < 0:
        return f"{path} is older than the last restart of this host"
    return f"the loops last ran {ago_s:.0f} s ago" if ago_s > Timing().alive_within_s else None
