"""The tally: counts by outcome, and lateness in memory that does not grow with the number of checks."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekaping_producer.observe.outcomes import Outcome
from peekaping_producer.observe.tally import Tally, percentile


def test_nothing_was_counted() -> None:
    totals = Tally().take()
    assert totals.checks == {}
    assert totals.lateness_p50_ms is None
    assert totals.lateness_p99_ms is None


def test_outcomes_are_counted_by_name() -> None:
    tally = Tally()
    tally.count([Outcome.ENQUEUED, Outcome.LOST, Outcome.ENQUEUED])
    tally.add(Outcome.INVALID, 3)
    tally.add(Outcome.ENQUEUED)
    tally.add(Outcome.GONE, 0)
    assert tally.take().checks == {"enqueued": 3, "lost": 1, "invalid": 3}


def test_taking_the_counts_resets_them() -> None:
    tally = Tally()
    tally.count([Outcome.ENQUEUED])
    tally.late([5])
    first = tally.take()
    tally.count([Outcome.LOST])
    assert first.checks == {"enqueued": 1}
    assert tally.take().checks == {"lost": 1}
    assert tally.take().lateness_p50_ms is None


def test_the_percentiles_of_a_hundred() -> None:
    tally = Tally()
    tally.late(range(100))
    totals = tally.take()
    assert (totals.lateness_p50_ms, totals.lateness_p99_ms) == (49, 98)


def test_one_late_check_among_many_is_not_p99() -> None:
    tally = Tally()
    tally.late([0] * 999 + [50_000])
    assert tally.take().lateness_p99_ms == 0


def test_one_alone_is_every_percentile() -> None:
    tally = Tally()
    tally.late([42.9])
    totals = tally.take()
    assert (totals.lateness_p50_ms, totals.lateness_p99_ms) == (42, 42)


@pytest.mark.parametrize("garbage", [-5.0, -math.inf, math.inf, math.nan])
def test_garbage_counts_as_not_late(garbage: float) -> None:
    tally = Tally()
    tally.late([garbage])
    assert tally.take().lateness_p99_ms == 0


@given(st.lists(st.floats(0, 1e15), min_size=1, max_size=200))
def test_a_percentile_is_the_true_one_but_for_its_last_digits(lateness_ms: list[float]) -> None:
    tally = Tally()
    tally.late(lateness_ms)
    totals = tally.take()
    for share, shown in ((0.5, totals.lateness_p50_ms), (0.99, totals.lateness_p99_ms)):
        true = int(sorted(lateness_ms)[math.ceil(len(lateness_ms) * share) - 1])
        assert shown is not None
        assert true * 0.9 <= shown + 1e-9
        assert shown <= true


def test_memory_does_not_grow_with_the_number_of_checks() -> None:
    tally = Tally()
    tally.late(range(100_000))
    tally.late(range(10**15, 10**15 + 10_000))
    # Two digits of each power of ten.
    assert len(tally.lateness_counts) <= 90 * 16


def test_percentile_of_nothing() -> None:
    assert percentile(Counter(), 0.5) is None


def test_a_span_counts_what_happens_between_its_beginning_and_its_end() -> None:
    tally = Tally()
    tally.add_from_cache(1, 9.0)
    span = tally.begin_span()
    tally.add_from_cache(2, 3.0)
    tally.add_from_cache(0, 7.0)
    tally.take()
    tally.count([Outcome.ENQUEUED])
    tally.end_span(span)
    tally.add_from_cache(4, 5.0)
    assert (span.outcomes, span.cache_age_s) == ({Outcome.FROM_CACHE: 2, Outcome.ENQUEUED: 1}, 3.0)
    assert tally.total == {Outcome.FROM_CACHE: 7, Outcome.ENQUEUED: 1}
    assert tally.take().cache_age_s == 5.0
