"""The wait between two claims that were not full."""

import pytest

from peekaping_producer.observe.tally import Tally
from peekaping_producer.timing import Timing

_timing = Timing()


@pytest.mark.parametrize(
    ("due_per_s", "spacing_s"),
    [
        (0, 0.05),
        (17, 0.05),
        (480, 0.05),
        (600, 0.04),
        (1_200, 0.02),
        (20_000, 0.02),
    ],
)
def test_claims_are_as_far_apart_as_a_worthwhile_batch_takes_to_become_due(due_per_s: int, spacing_s: float) -> None:
    for within_s in (0.02, 1.0):
        assert _timing.claim_spacing_s(due_per_s * within_s, within_s) == pytest.approx(spacing_s)


def test_a_first_claim_is_taken_for_one_of_few() -> None:
    assert _timing.claim_spacing_s(150, within_s=1e6) == _timing.claim_spacing_most_s


def test_limits_that_the_docs_promise() -> None:
    assert (_timing.alive_within_s, _timing.figures_kept_s) == (10, 1)
    bounds = Tally().lateness_s.bounds
    assert (bounds[0], bounds[-1]) == (0.005, 60)
