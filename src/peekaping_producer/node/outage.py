"""Outages of Redis and of the database: when one starts and ends, for whom, and what the log says about it."""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from peekaping_producer.errors import System, Unavailable
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.log import Logger
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.observe.tally import Counts, Tally

_MOST_REASONS = 20
"""Reasons logged in one outage: an error's text may contain something that is new each time."""
_MOST_REMEMBERED = 100
"""Ended outages whose times are remembered."""


class _Events(Struct, frozen=True):
    unavailable: LogEvent
    still_unavailable: LogEvent
    recovered: LogEvent


_EVENTS: dict[System, _Events] = {
    "redis": _Events(LogEvent.REDIS_UNAVAILABLE, LogEvent.REDIS_STILL_UNAVAILABLE, LogEvent.REDIS_RECOVERED),
    "database": _Events(
        LogEvent.DATABASE_UNAVAILABLE, LogEvent.DATABASE_STILL_UNAVAILABLE, LogEvent.DATABASE_RECOVERED
    ),
}


class OutageUser:
    """One part of a node that uses a system. The system's outage lasts while it is unavailable for any such part."""

    def __init__(self, outage: "Outage") -> None:
        """Begin as one for whom the system is available."""
        self._outage = outage

    def failed(self, error: Unavailable) -> None:
        """Note that the system is unavailable for this user."""
        self._outage.failed(error, self)

    def recovered(self, *, asked: bool = True) -> None:
        """Note that the system has answered this user; with `asked` false, that there was nothing to ask it."""
        self._outage.recovered(self, asked=asked)

    def no_longer_needed(self) -> None:
        """Note that this user does not use the system at the moment, which says nothing about the system."""
        self._outage.no_longer_needed(self)


class Outage:
    """Whether one system is unavailable. The log records when an outage starts, each new cause, and when it ends.

    It lasts until all users for whom the system was unavailable have recovered: what fails for one and works for
    another, such as a locked table, is one outage, not many.
    """

    def __init__(self, system: System, log: Logger, tally: Tally, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with a system that is available."""
        self._system = system
        self._events = _EVENTS[system]
        self._log = log
        self._tally = tally
        self._clock = clock
        self._users: set[OutageUser] = set()
        """For whom the system is unavailable."""
        self._since_s = 0.0
        self._ended_s = -math.inf
        self._reminded_s = 0.0
        self._on_change: Callable[[], None] = lambda: None
        self._refusals_s: dict[str, float] = {}
        self._recovery = asyncio.Event()
        self.recoveries = 0
        """How often the system has answered a user for whom it was unavailable."""
        self._reason: str | None = None
        self._reasons_logged: set[str] = set()
        self._counts = Counts()
        self._answered_s = -math.inf
        self._failing_since_s = math.inf
        self._ended_sum_s = 0.0
        self.failures = 0
        """How often the system has failed."""
        self._ended: deque[tuple[float, float]] = deque(maxlen=_MOST_REMEMBERED)
        """When the last outages began and ended."""

    def user(self) -> OutageUser:
        """Return a new user of the system."""
        return OutageUser(self)

    @property
    def ongoing(self) -> bool:
        """Whether the system is unavailable."""
        return bool(self._users)

    @property
    def reason(self) -> str | None:
        """Why the system is unavailable; None if it is available."""
        return self._reason

    @property
    def from_cache(self) -> tuple[int, float]:
        """How many checks of this outage were built from the cache, and the age of the oldest entry used (s)."""
        return self._counts.outcomes[Outcome.FROM_CACHE], self._counts.cache_age_s

    @property
    def unanswered_s(self) -> float:
        """For how long nobody has got an answer, counted from the start of the attempt that failed first."""
        return self._clock() - max(self._answered_s, self._failing_since_s) if self.ongoing else 0.0

    @property
    def has_answered(self) -> bool:
        """Whether the system has answered anybody since the start."""
        return self._answered_s > -math.inf

    @property
    def total_s(self) -> float:
        """For how long the system was unavailable since the start, in seconds."""
        return self._ended_sum_s + self.ongoing_s

    @property
    def ongoing_s(self) -> float:
        """For how long the system has been unavailable, in seconds; 0 while it is available."""
        return self._clock() - self._failing_since_s if self.ongoing else 0.0

    def seconds_since(self, from_s: float) -> float:
        """Return for how long the system was unavailable since then (`from_s` by the monotonic clock)."""
        spans = [*self._ended, (self._failing_since_s, self._clock())] if self.ongoing else self._ended
        return sum(max(0.0, until_s - max(since_s, from_s)) for since_s, until_s in spans)

    def available_s_since(self, from_s: float) -> float:
        """Return for how long the system has been available without interruption, at most since then."""
        return 0.0 if self.ongoing else self._clock() - max(from_s, self._ended_s)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call this whenever an outage starts or ends."""
        self._on_change = callback

    def answered(self) -> None:
        """Note that the system has answered somebody, even if it is unavailable for others."""
        self._answered_s = self._clock()

    def failed(self, error: Unavailable, user: OutageUser) -> None:
        """Note a failure: the first one starts an outage; one with a new reason is logged.

        An attempt from before the end of the last outage does not start another.
        """
        self.failures += 1
        starts = not self._users
        if starts and error.began_s < self._ended_s:
            return
        self._users.add(user)
        if starts:
            self._since_s = self._reminded_s = self._clock()
            self._counts = self._tally.begin_span()
            self._failing_since_s = min(error.began_s, self._since_s)
            self._log.warning(self._events.unavailable, reason=error.reason)
            self._on_change()
        elif error.reason not in self._reasons_logged and len(self._reasons_logged) < _MOST_REASONS:
            self._log.info(self._events.still_unavailable, reason=error.reason)
        if len(self._reasons_logged) < _MOST_REASONS:
            self._reasons_logged.add(error.reason)
        self._reason = error.reason

    def refused(self, error: Unavailable, remind_after_s: float) -> None:
        """Note that one command is refused though the system is available; logged once in each interval."""
        self.failures += 1
        now_s = self._clock()
        self._refusals_s = {reason: at_s for reason, at_s in self._refusals_s.items() if now_s - at_s < remind_after_s}
        if error.reason not in self._refusals_s and len(self._refusals_s) < _MOST_REASONS:
            self._refusals_s[error.reason] = now_s
            self._log.warning(LogEvent.REDIS_COMMAND_REFUSED, reason=error.reason)

    def remind(self, every_s: float) -> None:
        """Log again that the system is unavailable, and for how long, if the last such line is `every_s` old."""
        now_s = self._clock()
        if self._users and now_s - self._reminded_s >= every_s:
            self._reminded_s = now_s
            outage_s = round(now_s - self._since_s, 1)
            self._log.warning(self._events.still_unavailable, reason=self._reason, outage_s=outage_s)

    def recovered(self, user: OutageUser, *, asked: bool = True) -> None:
        """Note that the system has answered a user, or was not asked; the last one ends the outage."""
        if asked:
            self.answered()
        if self._was_last(user):
            self._end(self._events.recovered)

    def no_longer_needed(self, user: OutageUser) -> None:
        """Forget a user. If it was the last, the outage ends, but the log does not say that the system is available."""
        if self._was_last(user):
            self._end(LogEvent.DATABASE_NOT_IN_USE)

    async def recovery_within(self, seconds: float) -> None:
        """Wait at most `seconds` for a user to recover."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._recovery.wait()

    def _was_last(self, user: OutageUser) -> bool:
        """Note that the system is no longer unavailable for a user; return whether it was the last one."""
        if user not in self._users:
            return False
        self._users.remove(user)
        self.recoveries += 1
        self._recovery.set()
        self._recovery = asyncio.Event()
        return not self._users

    def _end(self, event: LogEvent) -> None:
        figures: dict[str, object] = {"outage_s": round(self._clock() - self._since_s, 1)}
        if self._system == "database":
            figures["checks_from_cache"] = self.from_cache[0]
        self._log.warning(event, **figures)
        self._ended_s = self._clock()
        self._ended_sum_s += self._ended_s - self._failing_since_s
        self._ended.append((self._failing_since_s, self._ended_s))
        self._reason = None
        self._tally.end_span(self._counts)
        self._counts = Counts()
        self._reasons_logged.clear()
        self._on_change()
