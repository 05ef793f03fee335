"""The invariants hold after each of many random steps; and without one of the fences, they do not."""

from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from properties.fences import FENCES, without
from properties.machine import Fleet
from properties.reached import REACHED
from properties.stage import Stage

pytestmark = [pytest.mark.properties, pytest.mark.timeout(0)]

SHARES = 4
"""The examples are divided among this many tests, for processes to share."""
EXAMPLES_WITHOUT_A_FENCE = 400
"""At most: the first failure ends the test."""

SETTINGS = settings(
    stateful_step_count=60,
    deadline=None,
    derandomize=False,
    database=None,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],  # explanations would trace each line
    suppress_health_check=list(HealthCheck),
)


def run(stage: Stage, number: int, options: settings) -> None:
    """Run examples that this seed determines."""

    @seed(number)
    class Example(Fleet):
        pass

    Example.stage = stage
    stage.reached.clear()
    run_state_machine_as_test(Example, settings=options)


@pytest.mark.parametrize("share", range(SHARES))
def test_the_invariants_hold_after_each_step(stage: Stage, request: pytest.FixtureRequest, share: int) -> None:
    option = request.config.getoption
    examples, fence = -(-option("examples") // SHARES), option("without")
    with ExitStack() as stack:
        if fence:
            stack.enter_context(without(fence))
        try:
            run(stage, option("randomly_seed") * SHARES + share, settings(SETTINGS, max_examples=examples))
        except Exception as error:
            given = f" --examples={option('examples')}" + (f" --without={fence}" if fence else "")
            which = f"-n 0 --randomly-seed={option('randomly_seed')} -k each_step[{share}]"
            error.add_note(f'To repeat this: make properties ARGS="{which}{given}"')
            raise
    request.node.user_properties.append((REACHED, dict(stage.reached)))


@pytest.mark.parametrize("fence", FENCES)
def test_without_a_fence_the_invariants_do_not_hold(stage: Stage, fence: str) -> None:
    options = settings(SETTINGS, max_examples=EXAMPLES_WITHOUT_A_FENCE, phases=[Phase.generate])
    with without(fence), pytest.raises(AssertionError):
        run(stage, 0, options)
