"""Whether checks are paused, as this node's claims find out; the log says when a pause starts, goes on and ends."""

import time
from collections import deque
from collections.abc import Callable, Sequence

from peekaping_producer.clock import from_unix_ms, rfc3339
from peekaping_producer.observe.events import LogEvent
from peekaping_producer.observe.log import Logger
from peekaping_producer.schedule.pause import Pause

_MOST_REMEMBERED = 100
"""Ended pauses whose times are remembered."""
_EARLY_S = 1.0
"""A pause that ends earlier than planned by more than this was ended by somebody, or Redis has lost it."""


class PauseWatch:
    """The current pause and the last ones, by this host's monotonic clock."""

    def __init__(self, log: Logger, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without a pause."""
        self._log = log
        self._clock = clock
        self._pause: Pause | None = None
        self._since_s = self._until_s = self._reminded_s = 0.0
        self._ended: deque[tuple[float, float]] = deque(maxlen=_MOST_REMEMBERED)

    @property
    def now(self) -> Pause | None:
        """The pause that goes on, as far as this node knows; None if there is none."""
        return self._pause if self._clock() < self._until_s else None

    def update(self, pause: Pause | None, now_ms: int) -> None:
        """Note what a claim has found; `now_ms` is Redis' clock at that time."""
        if pause == self._pause:
            return
        now_s, before = self._clock(), self._pause
        if pause:
            if not before:
                self._since_s = now_s - max(0, now_ms - pause.since_ms) / 1000
            self._until_s = now_s + (pause.until_ms - now_ms) / 1000
            self._reminded_s = now_s
            self._log.warning(LogEvent.CHECKS_PAUSED, **_fields(pause))
        else:
            early = now_s < self._until_s - _EARLY_S
            self._until_s = min(now_s, self._until_s)
            self._ended.append((self._since_s, self._until_s))
            paused_s = round(self._until_s - self._since_s, 1)
            self._log.warning(LogEvent.CHECKS_RESUMED, paused_s=paused_s, early=early)
        self._pause = pause

    def remind(self, every_s: float) -> None:
        """Log again that checks are paused, if the last such line is `every_s` old."""
        pause, now_s = self.now, self._clock()
        if pause and now_s - self._reminded_s >= every_s:
            self._reminded_s = now_s
            self._log.warning(LogEvent.CHECKS_STILL_PAUSED, paused_s=round(now_s - self._since_s, 1), **_fields(pause))

    def seconds_since(self, from_s: float) -> float:
        """Return for how long checks were paused since then (`from_s` by the monotonic clock)."""
        current = [(self._since_s, min(self._clock(), self._until_s))] if self._pause else []
        return sum(max(0.0, until_s - max(since_s, from_s)) for since_s, until_s in (*self._ended, *current))

    def lateness_ms(self, late_ms: Sequence[float]) -> Sequence[float]:
        """Return by how much checks are late, counted from the end of the last pause if they were due before that."""
        if not self._ended:
            return late_ms
        since_end_ms = (self._clock() - self._ended[-1][1]) * 1000
        return [min(late, since_end_ms) for late in late_ms]


def _fields(pause: Pause) -> dict[str, str]:
    return {"until": rfc3339(from_unix_ms(pause.until_ms)), "reason": pause.reason, "by": pause.by}
