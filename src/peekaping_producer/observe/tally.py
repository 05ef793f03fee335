"""What happened to the checks, counted by outcome, and how late they were."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import Struct

from peekaping_producer.observe.histogram import Histogram
from peekaping_producer.observe.outcomes import Outcome

_LATENESS_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Totals(Struct, frozen=True):
    """What was counted between two summaries."""

    checks: dict[str, int]
    """How many, by the value of their outcome."""
    lateness_p50_ms: int | None
    """None if there was no check."""
    lateness_p99_ms: int | None
    cache_age_s: float | None
    """The age of the oldest cache entry that a check was built from; None if there was none."""


class Counts:
    """What was counted over one span of time."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.outcomes: Counter[Outcome] = Counter()
        self.cache_age_s = 0.0
        """The age of the oldest cache entry that a check was built from."""


class Tally:
    """Counts outcomes, in memory that does not grow with them. Each is counted once, for all who read the counts."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._total = Counts()
        self._since_summary = Counts()
        self._spans = [self._total, self._since_summary]
        self.lateness_s = Histogram(_LATENESS_BOUNDS_S)
        """How late tasks were queued, counted from their slots, since the start."""
        self.lateness_counts: Counter[int] = Counter()
        """The same in ms, to two digits."""
        self._summarised: Counter[int] = Counter()
        """What it was at the last summary."""
        self._lateness_before: Counter[int] = Counter()

    @property
    def total(self) -> Counter[Outcome]:
        """All that was counted since the start."""
        return self._total.outcomes

    def begin_span(self) -> Counts:
        """Return counts of what happens from now on, until `end_span`."""
        span = Counts()
        self._spans.append(span)
        return span

    def end_span(self, span: Counts) -> None:
        """Count no more in a span."""
        self._spans.remove(span)

    def count(self, outcomes: Iterable[Outcome]) -> None:
        """Count each of these."""
        counted = Counter(outcomes)
        for span in self._spans:
            span.outcomes.update(counted)

    def add(self, outcome: Outcome, times: int = 1) -> None:
        """Count one outcome several times."""
        if times:
            for span in self._spans:
                span.outcomes[outcome] += times

    def add_from_cache(self, checks: int, oldest_s: float) -> None:
        """Count checks that were built from the cache; the oldest entry used is this many seconds old."""
        self.add(Outcome.FROM_CACHE, checks)
        if checks:
            for span in self._spans:
                span.cache_age_s = max(span.cache_age_s, oldest_s)

    def late(self, lateness_ms: Sequence[float]) -> None:
        """Note how late tasks were queued, counted from their slots."""
        self.lateness_counts.update(map(_bucket, lateness_ms))
        # Garbage in due may be infinite.
        self.lateness_s.add_all([late_ms / 1000 if 0 < late_ms < math.inf else 0.0 for late_ms in lateness_ms])

    @property
    def lateness_ms(self) -> tuple[int | None, int | None]:
        """The p50 and p99 since the last summary; without a check since then, those of the time before it."""
        lateness = self.lateness_counts - self._summarised or self._lateness_before
        return percentile(lateness, 0.5), percentile(lateness, 0.99)

    def take(self) -> Totals:
        """Return what was counted since the last call."""
        taken, self._since_summary = self._since_summary, Counts()
        self._spans.remove(taken)
        self._spans.append(self._since_summary)
        lateness = self._lateness_before = self.lateness_counts - self._summarised
        self._summarised = self.lateness_counts.copy()
        return Totals(
            # Plain text, which every log renderer shows as the value.
            {str(outcome): count for outcome, count in sorted(taken.outcomes.items())},
            percentile(lateness, 0.5),
            percentile(lateness, 0.99),
            taken.cache_age_s if taken.outcomes[Outcome.FROM_CACHE] else None,
        )


def percentile(counts: Counter[int], share: float) -> int | None:
    """Return the smallest value that at least `share` of the counted ones do not exceed."""
    rank = math.ceil(counts.total() * share)
    for value in sorted(counts):
        rank -= counts[value]
        if rank <= 0:
            return value
    return None


def _bucket(lateness_ms: float) -> int:
    """Keep two digits, so that there are few different values; garbage in due may be infinite."""
    if not math.isfinite(lateness_ms) or lateness_ms <= 0:
        return 0
    value = int(lateness_ms)
    step: int = 10 ** max(0, len(str(value)) - 2)
    return value // step * step
