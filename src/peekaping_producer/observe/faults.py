"""Unexpected exceptions: each kind is logged once, with its traceback, however often it comes back."""

import traceback
from collections.abc import Callable

from peekaping_producer.observe.events import LogEvent

MOST_REMEMBERED = 1_000
_LONGEST_TEXT = 200


class Faults:
    """Remembers which kinds were logged: the event, the loop, the exception's type, and the line that raised it."""

    def __init__(self, log_error: Callable[..., object]) -> None:
        """Log with this function, which writes a line at level error."""
        self._log_error = log_error
        self._logged: set[tuple[str, ...]] = set()

    def note(self, event: LogEvent, error: Exception, *, loop: str = "", **fields: object) -> None:
        """Log an error with its traceback if its kind is new."""
        cause = _cause(error)
        kind = (event, loop, type(cause).__name__, _raised_at(cause))
        if kind in self._logged:
            return
        if len(self._logged) >= MOST_REMEMBERED:
            self._logged.clear()
        self._logged.add(kind)
        self._log_error(event, **({"loop": loop} if loop else {}), **fields, exc_info=error)


def described(error: Exception) -> str:
    """Return in one line what was raised and where, to find its traceback in the log."""
    cause = _cause(error)
    text = " ".join(str(cause).split())[:_LONGEST_TEXT]
    return f"unexpected {type(cause).__name__} at {_raised_at(cause)}{': ' if text else ''}{text}"


def _cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _raised_at(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "an unknown place"
