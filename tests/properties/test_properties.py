"""The invariants hold after each of many random steps; and without one of the fences, they do not."""

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from properties.machine import Fleet
from properties.stage import Stage

pytestmark = [pytest.mark.properties, pytest.mark.timeout(0)]

STEPS = 60
SHARES = 4
"""The examples are divided among so many tests, for processes to share."""


@pytest.mark.parametrize("share", range(SHARES))
def test_the_invariants_hold_after_each_step(stage: Stage, request: pytest.FixtureRequest, share: int) -> None:
    config = request.config

    @seed(config.getoption("randomly_seed") * SHARES + share)
    class Example(Fleet):
        pass

    Example.stage = stage
    examples = -(-config.getoption("examples") // SHARES)
    run_state_machine_as_test(
        Example,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=False,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
