"""Waiting for time to mend something: growing delays, and one line when it starts and one when it ends."""

import random
import time
from collections.abc import Callable

from peekaping_producer.errors import System, Unavailable
from peekaping_producer.observe.log import Logger


class Backoff:
    """Delays that double from `first_s` to `cap_s`, each cut by a random half so that nodes don't come back in step."""

    def __init__(self, first_s: float, cap_s: float) -> None:
        """Start at `first_s`."""
        self._first_s = first_s
        self._cap_s = cap_s
        self._next_s = first_s

    def reset(self) -> None:
        """Start over: it worked."""
        self._next_s = self._first_s

    def next_delay_s(self) -> float:
        """Return the next delay."""
        delay_s = self._next_s
        self._next_s = min(self._cap_s, delay_s * 2)
        return delay_s * random.uniform(0.5, 1)  # noqa: S311 - jitter, no secret


class Outage:
    """Whether one system is away, told once when it begins, when the reason changes, and when it ends."""

    def __init__(self, system: System, log: Logger, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin in the state of a system that works."""
        self._system = system
        self._log = log
        self._clock = clock
        self._since_s: float | None = None
        self._reason: str | None = None

    @property
    def ongoing(self) -> bool:
        """Tell whether the system is away."""
        return self._since_s is not None

    @property
    def reason(self) -> str | None:
        """Why the system is away; None while it is not."""
        return self._reason

    def failed(self, error: Unavailable) -> None:
        """Note a failure; a line is written when it is the first, or has a new reason."""
        if self._since_s is None:
            self._since_s = self._clock()
        if error.reason != self._reason:
            self._reason = error.reason
            self._log.warning(f"{self._system} unavailable, retrying", reason=error.reason)

    def worked(self) -> None:
        """Note a success; a line is written when it ends an outage."""
        if self._since_s is not None:
            self._log.info(f"{self._system} available again", away_s=round(self._clock() - self._since_s, 1))
            self._since_s, self._reason = None, None
