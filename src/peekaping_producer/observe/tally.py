"""What happened to the checks since the last summary, counted by outcome; and how late they were."""

import math
from collections import Counter
from collections.abc import Iterable

from msgspec import Struct


class Totals(Struct, frozen=True):
    """The figures of one span of time."""

    checks: dict[str, int]
    """How many, by outcome or by the reason why none happened."""
    lateness_p50_ms: int | None
    """None when there was no check."""
    lateness_p99_ms: int | None
    from_cache: int
    """Checks built from the copy, the database being away."""
    cache_age_s: float | None
    """How old the oldest copy was that one was built from."""


class Tally:
    """Collects counts between two summaries, in memory that does not grow with them."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._checks: Counter[str] = Counter()
        self._lateness: Counter[int] = Counter()
        self._lateness_before: Counter[int] = Counter()
        self._from_cache = 0
        self._cache_age_s = 0.0
        self.ever: Counter[str] = Counter()
        """All that was counted since the start."""

    def count(self, outcomes: Iterable[str]) -> None:
        """Count each of these."""
        counted = Counter(outcomes)
        self._checks.update(counted)
        self.ever.update(counted)

    def add(self, outcome: str, times: int) -> None:
        """Count one outcome several times."""
        if times:
            self._checks[outcome] += times
            self.ever[outcome] += times

    def late(self, lateness_ms: Iterable[float]) -> None:
        """Note how long after their slots tasks were in the queue."""
        self._lateness.update(map(_bucket, lateness_ms))

    def from_cache(self, checks: int, oldest_s: float) -> None:
        """Note checks built from the copy, and how old the oldest of it was."""
        if checks:
            self._from_cache += checks
            self._cache_age_s = max(self._cache_age_s, oldest_s)

    @property
    def lateness_ms(self) -> tuple[int | None, int | None]:
        """The p50 and p99 of this span, and of the one before while this one is empty."""
        lateness = self._lateness or self._lateness_before
        return percentile(lateness, 0.5), percentile(lateness, 0.99)

    def take(self) -> Totals:
        """Return what was collected and begin anew."""
        checks, lateness, copies = self._checks, self._lateness, self._from_cache
        cache_age_s = self._cache_age_s if copies else None
        # Plain text: an outcome's repr is no reading for people.
        by_name = {str(name): count for name, count in sorted(checks.items())}
        self._checks, self._lateness, self._lateness_before = Counter(), Counter(), lateness
        self._from_cache, self._cache_age_s = 0, 0.0
        return Totals(by_name, percentile(lateness, 0.5), percentile(lateness, 0.99), copies, cache_age_s)


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
