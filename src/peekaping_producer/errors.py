"""Every failure, by who must act on it.

ProducerError
├── ConfigurationError      the operator: a setting is wrong, or names something that is not Peekaping's. Exit code 2
├── Unavailable             time: Redis or the database does not answer. Retried with backoff
├── CorruptRecord           nobody at once: one row is nonsense. Set aside and counted, the others go on
└── NotLeading              nobody: another node leads by now, and does what this one was at
"""

import math
from typing import Literal

System = Literal["redis", "database"]


class ProducerError(Exception):
    """The root of all errors this package raises on purpose."""


class ConfigurationError(ProducerError):
    """Something only a person can mend. Each problem is one clear line; ends the process with code 2."""

    def __init__(self, *problems: str) -> None:
        """Keep the problems, each one line that says what is wrong, where, and what to do."""
        super().__init__("\n".join(problems))
        self.problems = problems


class Unavailable(ProducerError):
    """A system outside does not answer, or not in time. Time mends it: try again later."""

    def __init__(self, system: System, reason: str, code: str = "", began_s: float = math.inf) -> None:
        """Name the system and the reason, in one line without secrets.

        `code` is the system's own code of a refusal; empty where it did not answer. `began_s` is when the attempt
        began, by the monotonic clock: an attempt from before an outage ended does not begin another.
        """
        super().__init__(f"{system}: {reason}")
        self.system: System = system
        self.reason = reason
        self.code = code
        self.began_s = began_s


class CorruptRecord(ProducerError):
    """One record can't be understood. `reason` names the field and what is wrong with it, never its secrets."""

    def __init__(self, reason: str) -> None:
        """Keep the reason, one line."""
        super().__init__(reason)
        self.reason = reason


class NotLeading(ProducerError):
    """A write of the leader came from a node that no longer leads. Nothing was changed."""


def one_line(error: object) -> str:
    """Return an error's text in one line and without its full stop; its type's name where it has none."""
    return " ".join(str(error).split()).removesuffix(".") or type(error).__name__
