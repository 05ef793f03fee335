"""The last minutes of a node, for the page: sampled from its counts, so that no check pays for it."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from msgspec import Struct

from peekaping_producer.clock import now_utc, rfc3339
from peekaping_producer.observe.measures import Measures
from peekaping_producer.observe.outcomes import HEALED, MISSED, PLACED, Outcome
from peekaping_producer.observe.tally import Tally, percentile

LATE_S = 10.0
"""A check that is later than this counts as late; one of the bounds of the histogram of lateness."""
RATE_OVER_S = 10.0
LATE_WITHIN_S = 6 * 60.0
MISSED_WITHIN_S = 11 * 60.0
TERMS_WITHIN_S = 16 * 60.0
"""A minute longer than the windows of the alerts: Prometheus sees everything a scrape and an evaluation later."""
_SAMPLE_EVERY_S = 2.0
_MOST_HEALED = 5
T = TypeVar("T")


class Healed(Struct, frozen=True):
    """A monitor whose earlier task blocked it, and was replaced."""

    monitor_id: str
    at: str
    """RFC 3339, UTC."""
    outcome: str
    """What the earlier task was: an outcome that begins with `healed_`."""


class Recent(Struct, frozen=True):
    """What a node did in its last minutes."""

    checks_per_s: float = 0.0
    """Tasks put into the queue, in the last 10 s or a little more."""
    lateness_p50_ms: int | None = None
    """Of the same checks; null if there were none."""
    lateness_p99_ms: int | None = None
    late: int = 0
    """Checks in the last 6 minutes that were more than 10 s late."""
    missed: dict[str, int] = {}
    """Checks missed in the last 11 minutes, by reason."""
    terms: int = 0
    """Terms of leadership that it saw begin in the last 16 minutes."""
    healed: list[Healed] = []
    """The last of its monitors whose earlier task was replaced, the newest first."""


class _Sample(Struct, frozen=True):
    at_s: float
    checks: int
    late: int
    missed: Counter[str]
    terms: int


class History:
    """Takes samples of what a node has counted, and keeps those of the last minutes."""

    def __init__(self, tally: Tally, measures: Measures, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing."""
        self._tally = tally
        self._measures = measures
        self._clock = clock
        self._samples = deque([_Sample(clock(), 0, 0, Counter(), 0)])
        self._lateness: deque[tuple[float, Counter[int]]] = deque([(clock(), Counter())])
        self._healed: deque[Healed] = deque(maxlen=_MOST_HEALED)

    def note_healed(self, outcomes: Iterable[tuple[str, Outcome]]) -> None:
        """Note which monitors were healed, among pairs of a monitor's id and its outcome."""
        now = rfc3339(now_utc())
        self._healed.extendleft(Healed(id_, now, outcome.value) for id_, outcome in outcomes if outcome in HEALED)

    def recent(self) -> Recent:
        """Return the last minutes up to now."""
        now = self._sample()
        over = self._since(now.at_s - RATE_OVER_S)
        lateness = self._tally.lateness_counts - self._lateness[0][1]
        return Recent(
            checks_per_s=round((now.checks - over.checks) / max(1.0, now.at_s - over.at_s), 2),
            lateness_p50_ms=percentile(lateness, 0.5),
            lateness_p99_ms=percentile(lateness, 0.99),
            late=now.late - self._since(now.at_s - LATE_WITHIN_S).late,
            missed=dict(now.missed - self._since(now.at_s - MISSED_WITHIN_S).missed),
            terms=now.terms - self._since(now.at_s - TERMS_WITHIN_S).terms,
            healed=list(self._healed),
        )

    def _sample(self) -> _Sample:
        """Return what was counted up to now, and keep it, unless the last sample is recent enough."""
        now_s, total = self._clock(), self._tally.total
        sample = _Sample(
            now_s,
            sum(total[outcome] for outcome in PLACED),
            self._tally.lateness_s.above(LATE_S),
            Counter({outcome.removeprefix("missed_"): total[outcome] for outcome in MISSED if total[outcome]}),
            self._measures.terms,
        )
        if now_s - self._samples[-1].at_s >= _SAMPLE_EVERY_S:
            self._samples.append(sample)
            self._lateness.append((now_s, self._tally.lateness_counts.copy()))
        _forget(self._samples, now_s - TERMS_WITHIN_S, lambda one: one.at_s)
        _forget(self._lateness, now_s - RATE_OVER_S, lambda one: one[0])
        return sample

    def _since(self, at_s: float) -> _Sample:
        """Return the last sample at or before then; if there is none, the first."""
        return next((one for one in reversed(self._samples) if one.at_s <= at_s), self._samples[0])


def _forget(samples: deque[T], before_s: float, at_s: Callable[[T], float]) -> None:
    """Remove what is older, except for the newest of it, from which a difference is taken."""
    while len(samples) > 1 and at_s(samples[1]) <= before_s:
        samples.popleft()
