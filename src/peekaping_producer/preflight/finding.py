"""One finding: what was found, how serious it is, and what to do."""

from enum import StrEnum

from msgspec import Struct

from peekaping_producer.errors import ConfigurationError, Unavailable


class Area(StrEnum):
    """What a finding is about."""

    SETTINGS = "settings"
    REDIS = "redis"
    DATABASE = "database"
    DEPLOYMENT = "deployment"


class Level(StrEnum):
    """How serious it is, from the best to the worst."""

    OK = "ok"
    WARNING = "warning"
    """The producer works, but not as well or as safely as it could."""
    UNAVAILABLE = "unavailable"
    """It does not answer, or is not ready yet: a producer would wait for it."""
    WRONG = "wrong"
    """Only a person can fix it: a producer would end with exit code 2, or could make no checks."""


class Finding(Struct, frozen=True):
    """One finding."""

    area: Area
    topic: str
    """A constant name within the area."""
    level: Level
    what: str
    """In one line; it says what to do as well if the level is `unavailable` or `wrong`, and `to_do` is not set."""
    to_do: str | None = None
    """What to do about a warning, or a system that does not answer."""


def failures(
    area: Area, topic: str, error: ConfigurationError | Unavailable, to_do: str | None = None
) -> list[Finding]:
    """Return what an error says, one finding for each of its problems. `to_do` is for a system that gave no reason."""
    if isinstance(error, Unavailable):
        return [Finding(area, topic, Level.UNAVAILABLE, error.reason, None if error.code else to_do)]
    return [Finding(area, topic, Level.WRONG, problem) for problem in error.problems]


def worst(findings: list[Finding]) -> Level:
    """Return the worst level among findings."""
    levels = list(Level)
    return max((finding.level for finding in findings), key=levels.index, default=Level.OK)
