"""Histograms: how many measured values did not exceed a bound, for each of several bounds."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate


class Histogram:
    """Counts values by ranges, in memory that does not grow with them."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """Take the upper bounds of the ranges, ascending; what is above the last one is counted too."""
        self.bounds = tuple(bounds)
        self._counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0
        """The sum of all values."""

    def add(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add_all(self, values: Iterable[float]) -> None:
        """Count a batch of values, in a fraction of the time that one by one takes."""
        ordered = sorted(values)
        counted = 0
        for place, bound in enumerate(self.bounds):
            up_to = bisect_right(ordered, bound, counted)
            self._counts[place] += up_to - counted
            counted = up_to
        self._counts[-1] += len(ordered) - counted
        self.total += sum(ordered)

    def above(self, bound: float) -> int:
        """Return how many values were above one of the bounds."""
        return sum(self._counts[self.bounds.index(bound) + 1 :])

    @property
    def cumulative(self) -> list[int]:
        """For each bound, how many values did not exceed it; then the number of all values."""
        return list(accumulate(self._counts))
