"""What a run reaches: each step with each of its choices, each outcome of a settle, each placement."""

from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import rule

from peekaping_producer.observe.outcomes import PLACED, Outcome
from peekaping_producer.schedule.orders import PLACEMENTS
from properties.model import KINDS

SETTLED = PLACED | {
    Outcome.RUNNING,
    Outcome.RELEASED,
    Outcome.DROPPED,
    Outcome.POSTPONED,
    Outcome.LOST,
    Outcome.UNKNOWN,
    Outcome.FAILED,
}
"""Every outcome of a settle."""


class _Counting(Protocol):
    reached: Counter[str]


Step = TypeVar("Step", bound=Callable[..., None])

REACHED = "reached"
"""The property of a test report that holds the counts."""
EXAMPLES = "examples"
_steps: set[str] = set()


def outcome_of(kind: str, outcome: str) -> str:
    """Return the name of an outcome of one kind of order."""
    return f"{kind}: {outcome}"


def placement_of(placement: str) -> str:
    """Return the name of a placement by the leader."""
    return f"schedule: {placement}"


def wanted() -> set[str]:
    """Return what a run of the usual length must reach."""
    return {*map(str, SETTLED), *KINDS, *map(placement_of, PLACEMENTS), *_steps}


def step(**arguments: st.SearchStrategy[Any] | tuple[object, ...]) -> Callable[[Step], Any]:
    """Make a Hypothesis rule, and count how often each of its choices, the tuples, is taken."""
    choices = {name: of for name, of in arguments.items() if isinstance(of, tuple)}
    strategies: dict[str, Any] = arguments | {name: st.sampled_from(of) for name, of in choices.items()}

    def counting(do: Step) -> Any:
        name = do.__name__
        _steps.add(name)
        _steps.update(_choice(name, option, value) for option, of in choices.items() for value in of)

        @wraps(do)
        def counted(self: _Counting, **chosen: object) -> None:
            self.reached[name] += 1
            self.reached.update(_choice(name, option, chosen[option]) for option in choices)
            do(self, **chosen)

        made: Callable[[Callable[..., None]], Any] = rule(**strategies)
        return made(counted)

    return counting


def _choice(step_name: str, option: str, value: object) -> str:
    return f"{step_name}, {option} {value}"
