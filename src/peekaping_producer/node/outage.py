"""Waiting for time to mend something: growing delays, and one line when it starts and one when it ends."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable

from msgspec import Struct

from peekaping_producer.errors import System, Unavailable
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.log import Logger
from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.observe.tally import Counts, Tally

_MOST_REASONS = 20
"""Reasons told in one outage: an error's text may hold something that is new each time."""


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


class Outage:
    """Whether one system is away, told once when it begins, when there is a new reason, and when it ends.

    It lasts until all who found it away have been answered: what fails for one and works for another, as a locked
    table does, is one outage and not many.
    """

    def __init__(self, system: System, log: Logger, tally: Tally, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin in the state of a system that works."""
        self._system = system
        self._events = _EVENTS[system]
        self._log = log
        self._clock = clock
        self._since_s = 0.0
        self._ended_s = -math.inf
        self._reminded_s = 0.0
        self._on_change: Callable[[], None] = lambda: None
        self._refusals_s: dict[str, float] = {}
        self._away_for: set[str] = set()
        self._recovery = asyncio.Event()
        self.recoveries = 0
        """How often somebody for whom the system was unavailable has been answered."""
        self._reason: str | None = None
        self._reasons_told: set[str] = set()
        self._tally = tally
        self._counts = Counts()
        self._answered_s = -math.inf
        self._failing_since_s = math.inf

    @property
    def ongoing(self) -> bool:
        """Tell whether the system is away."""
        return bool(self._away_for)

    @property
    def reason(self) -> str | None:
        """Why the system is away; None while it is not."""
        return self._reason

    @property
    def from_cache(self) -> tuple[int, float]:
        """How many checks of this outage went on with what was known before, and how old the oldest of it was (s)."""
        return self._counts.outcomes[Outcome.FROM_CACHE], self._counts.cache_age_s

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call this whenever an outage begins or ends."""
        self._on_change = callback

    def failed(self, error: Unavailable, needed_by: str = "") -> None:
        """Note a failure: a warning when it is the first, a line when its reason is new to this outage.

        An attempt from before the last outage ended does not begin another.
        """
        begins = not self._away_for
        if begins and error.began_s < self._ended_s:
            return
        self._away_for.add(needed_by)
        if begins:
            self._since_s = self._reminded_s = self._clock()
            self._counts = self._tally.begin_span()
            self._failing_since_s = min(error.began_s, self._since_s)
            self._log.warning(self._events.unavailable, reason=error.reason)
            self._on_change()
        elif error.reason not in self._reasons_told and len(self._reasons_told) < _MOST_REASONS:
            self._log.info(self._events.still_unavailable, reason=error.reason)
        if len(self._reasons_told) < _MOST_REASONS:
            self._reasons_told.add(error.reason)
        self._reason = error.reason

    def refused(self, error: Unavailable, remind_after_s: float) -> None:
        """Note that one command is refused while the system works for all else: one warning for each interval."""
        now_s = self._clock()
        self._refusals_s = {reason: at_s for reason, at_s in self._refusals_s.items() if now_s - at_s < remind_after_s}
        if error.reason not in self._refusals_s and len(self._refusals_s) < _MOST_REASONS:
            self._refusals_s[error.reason] = now_s
            self._log.warning(LogEvent.REDIS_COMMAND_REFUSED, reason=error.reason)

    def remind(self, every_s: float) -> None:
        """Log again that the system is unavailable, and for how long, where that was last logged so long ago."""
        now_s = self._clock()
        if self._away_for and now_s - self._reminded_s >= every_s:
            self._reminded_s = now_s
            outage_s = round(now_s - self._since_s, 1)
            self._log.warning(self._events.still_unavailable, reason=self._reason, outage_s=outage_s)

    def answered(self) -> None:
        """Note that the system has answered somebody, whether it is unavailable for others or not."""
        self._answered_s = self._clock()

    @property
    def unanswered_s(self) -> float:
        """For how long nobody has got an answer, counted from the beginning of the attempt that failed first."""
        return self._clock() - max(self._answered_s, self._failing_since_s) if self.ongoing else 0.0

    def recovered(self, needed_by: str = "", *, asked: bool = True) -> None:
        """Note a success of one who needs the system; a line is written when it ends an outage.

        Not `asked` is one who had nothing to ask for this time: that says nothing of the system.
        """
        if asked:
            self.answered()
        if self._recovers(needed_by):
            self._end(self._events.recovered)

    def needed_no_more(self, needed_by: str) -> None:
        """Forget one who found the system away; where that was the last, it says so and not that the system works."""
        if self._recovers(needed_by):
            self._end(LogEvent.DATABASE_NOT_IN_USE)

    async def recovery_within(self, seconds: float) -> None:
        """Wait at most `seconds` for the system to answer one of those for whom it is away."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._recovery.wait()

    def _recovers(self, needed_by: str) -> bool:
        """Tell whether this was the last for whom the system is away."""
        if needed_by not in self._away_for:
            return False
        self._away_for.remove(needed_by)
        self.recoveries += 1
        self._recovery.set()
        self._recovery = asyncio.Event()
        return not self._away_for

    def _end(self, event: LogEvent) -> None:
        figures: dict[str, object] = {"outage_s": round(self._clock() - self._since_s, 1)}
        if self._system == "database":
            figures["checks_from_cache"] = self.from_cache[0]
        self._log.warning(event, **figures)
        self._ended_s = self._clock()
        self._reason = None
        self._tally.end_span(self._counts)
        self._counts = Counts()
        self._reasons_told.clear()
        self._on_change()
