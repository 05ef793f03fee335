"""The time limit of every call that leaves the process."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from peekaping_producer.errors import System, Unavailable

_LEAST_SHOWN_S = 0.01
"""A limit below this is the rest of a longer one, and is not shown: the figure would mislead."""


@asynccontextmanager
async def answered_by(
    system: System,
    timeout_s: float,
    reason_of: Callable[[Exception], str | None],
    code_of: Callable[[Exception], str] = lambda _error: "",
) -> AsyncIterator[None]:
    """Limit the block to `timeout_s`, and raise Unavailable if the system fails or does not answer in time.

    `reason_of` returns a driver's error in one line, or None if it is not a failure of the system; `code_of` returns
    the error's code.
    """
    began_s = time.monotonic()
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise Unavailable(system, no_answer(timeout_s), began_s=began_s) from error
    except Exception as error:
        reason = reason_of(error)
        if reason is None:
            raise
        raise Unavailable(system, reason, code_of(error), began_s) from error


def no_answer(within_s: float) -> str:
    """Return the reason for a call that was not answered within this time."""
    return f"no answer within {within_s:.3g} s" if within_s >= _LEAST_SHOWN_S else "no answer in time"
