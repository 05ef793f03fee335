"""The invariants hold after each of many random steps; and without one of the fences, they do not."""

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from properties.machine import Fleet
from properties.stage import Stage, replacing

pytestmark = [pytest.mark.properties, pytest.mark.timeout(0)]

SHARES = 4
"""The examples are divided among so many tests, for processes to share."""
EXAMPLES_WITHOUT_A_FENCE = 400
"""At most: the first failure ends the test."""

SETTINGS = settings(
    stateful_step_count=60,
    deadline=None,
    derandomize=False,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)

FENCES = {
    "token": ("settle", "if mine ~= token then", "if false then"),
    "leader, schedule": ("schedule", "if redis.call('GET', KEYS[3]) ~= ARGV[1] then return false end", ""),
    "leader, remove": ("remove", "if redis.call('GET', leader) ~= ARGV[3] then return false end", ""),
    "tombstone": ("settle", "if order == 'cached' and redis.call('ZSCORE', KEYS[#KEYS], id) then", "if false then"),
    "revoke": ("schedule", "elseif edited then", "elseif false then"),
}
"""By name: the script, the fence in it, and what takes its place."""


def run(stage: Stage, number: int, options: settings) -> None:
    """Run examples that this seed determines."""

    @seed(number)
    class Example(Fleet):
        pass

    Example.stage = stage
    run_state_machine_as_test(Example, settings=options)


@pytest.mark.parametrize("share", range(SHARES))
def test_the_invariants_hold_after_each_step(stage: Stage, request: pytest.FixtureRequest, share: int) -> None:
    examples = -(-request.config.getoption("examples") // SHARES)
    number = request.config.getoption("randomly_seed") * SHARES + share
    run(stage, number, settings(SETTINGS, max_examples=examples))


@pytest.mark.parametrize("fence", FENCES)
def test_without_a_fence_the_invariants_do_not_hold(stage: Stage, fence: str) -> None:
    options = settings(
        SETTINGS, max_examples=EXAMPLES_WITHOUT_A_FENCE, phases=[Phase.generate], report_multiple_bugs=False
    )
    script, there, instead = FENCES[fence]
    with replacing(there, instead, script=script), pytest.raises(AssertionError):
        run(stage, 0, options)
