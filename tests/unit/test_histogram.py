"""Histograms count each value once, one by one or in batches."""

from hypothesis import given
from hypothesis import strategies as st

from peekaping_producer.observe.histogram import Histogram

BOUNDS = (0.005, 0.1, 1, 10)
VALUES = st.lists(st.one_of(st.floats(0, 100), st.sampled_from(BOUNDS)), max_size=50)


@given(VALUES, VALUES)
def test_a_batch_counts_as_its_values_do_one_by_one(first: list[float], second: list[float]) -> None:
    batches, single = Histogram(BOUNDS), Histogram(BOUNDS)
    for values in (first, second):
        batches.add_all(values)
        for value in values:
            single.add(value)
    everything = [*first, *second]
    expected = [sum(value <= bound for value in everything) for bound in BOUNDS]
    assert batches.cumulative == single.cumulative == [*expected, len(everything)]
    assert abs(batches.total - sum(everything)) < 1e-6 * (1 + sum(everything))
