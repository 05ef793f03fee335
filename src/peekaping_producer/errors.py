"""Every failure, by who must act on it.

ProducerError
├── ConfigurationError      the operator: a setting is wrong, or what it names is not Peekaping's. Exit code 2
├── Unavailable             nobody: Redis or the database does not answer, which is transient. Retried with backoff
├── CorruptRecord           somebody later: one row is invalid. Skipped and counted, the others go on
└── NotLeading              nobody: another node leads now, and does what this one was doing
"""

import math
from typing import Literal

System = Literal["redis", "database"]

EXIT_CONFIGURATION = 2
"""Every command's exit code for a problem that only a person can fix (docs/configuration.md)."""


class ProducerError(Exception):
    """The root of all errors that this package raises on purpose."""


class ConfigurationError(ProducerError):
    """Something that only a person can fix. Ends the process with code 2."""

    def __init__(self, *problems: str) -> None:
        """Take the problems, each one line that says what is wrong, where, and what to do."""
        super().__init__("\n".join(problems))
        self.problems = problems


class Unavailable(ProducerError):
    """Redis or the database does not answer, or not in time. Transient: try again later."""

    def __init__(self, system: System, reason: str, code: str = "", began_s: float = math.inf) -> None:
        """Name the system and the reason, in one line without secrets.

        `code` is the system's own code if it refused; empty if it did not answer. `began_s` is when the attempt began,
        by the monotonic clock: an attempt from before the end of an outage does not start another.
        """
        super().__init__(f"{system}: {reason}")
        self.system: System = system
        self.reason = reason
        self.code = code
        self.began_s = began_s


class CorruptRecord(ProducerError):
    """One record is invalid. `reason` names the field and what is wrong with it, never a secret."""

    def __init__(self, reason: str) -> None:
        """Take the reason, one line."""
        super().__init__(reason)
        self.reason = reason


class NotLeading(ProducerError):
    """A node that does not lead tried to write as leader. Nothing was changed (invariant 9)."""


def one_line(error: object) -> str:
    """Return an error's text in one line and without its full stop; the name of its type if it has no text."""
    return " ".join(str(error).split()).removesuffix(".") or type(error).__name__
