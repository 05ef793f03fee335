"""What the loops of a node measure for its metrics and traces, at most once for each batch."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Protocol

from peekaping_producer.observe.histogram import Histogram
from peekaping_producer.observe.outcomes import Outcome

_STAGE_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_BATCH_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200)


class Stage(StrEnum):
    """A part of the path of a batch."""

    CLAIM = "claim"
    READ = "read"
    PLAN = "plan"
    SETTLE = "settle"


class Trace(Protocol):
    """The trace of one batch; instants are by the monotonic clock."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What the batch's tasks carry, so that a worker can continue the trace."""

    def stage(self, stage: Stage, began_s: float, ended_s: float) -> None:
        """Note a stage."""

    def end(self, outcomes: Iterable[Outcome]) -> None:
        """Note the end, and what became of the monitors; nothing if the batch could not be settled."""


class BatchMeasures:
    """The measures of one batch: each stage is in the histograms, and in the trace if there is one."""

    def __init__(self, stage_s: Mapping[Stage, Histogram], trace: Trace | None) -> None:
        """Begin with nothing."""
        self._stage_s = stage_s
        self._trace = trace
        self.headers = trace.headers if trace else None
        """For the headers of the batch's tasks; None without a trace, since even empty ones cost each task 2 µs."""

    def stage(self, stage: Stage, began_s: float, ended_s: float) -> None:
        """Note a stage, by the monotonic clock."""
        self._stage_s[stage].add(ended_s - began_s)
        if self._trace:
            self._trace.stage(stage, began_s, ended_s)

    def end(self, outcomes: Iterable[Outcome]) -> None:
        """Note what became of the monitors; nothing if the batch could not be settled."""
        if self._trace:
            self._trace.end(outcomes)


class Measures:
    """The loops write it, the metrics read it."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.stage_s = {stage: Histogram(_STAGE_BOUNDS_S) for stage in Stage}
        """How long each stage took, by batch."""
        self.batch_size = Histogram(_BATCH_BOUNDS)
        """Monitors that a claim took; claims that took none are left out."""
        self.claimed_at_s: float | None = None
        """When Redis last answered a claim, by the monotonic clock."""
        self.terms = 0
        """Terms of leadership that this node has seen begin, its own included."""
        self.sweep_s: float | None = None
        """How long this node's last sweep took."""
        self.sweep_changes = Counter(dict.fromkeys(("added", "moved", "removed", "relisted"), 0))
        """What this node's sweeps changed, by kind."""
        self.tracer: Callable[[float], Trace] | None = None
        """Begins the trace of a batch that was claimed from this instant on; None if nobody wants traces."""

    def batch(self, began_s: float, claimed_s: float, checks: int) -> BatchMeasures:
        """Return the measures of a batch whose claim took from `began_s` to `claimed_s`, by the monotonic clock."""
        batch = BatchMeasures(self.stage_s, self.tracer(began_s) if self.tracer else None)
        batch.stage(Stage.CLAIM, began_s, claimed_s)
        self.batch_size.add(checks)
        return batch

    @property
    def claimed_ago_s(self) -> float | None:
        """How long ago Redis last answered a claim; None if it never did."""
        return None if self.claimed_at_s is None else time.monotonic() - self.claimed_at_s
