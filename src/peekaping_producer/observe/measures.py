"""What the loops of a node measure for its metrics, at most once for each batch."""

from collections import Counter
from enum import StrEnum

from peekaping_producer.observe.histogram import Histogram

_STAGE_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_BATCH_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200)


class Stage(StrEnum):
    """A part of the path of a batch."""

    CLAIM = "claim"
    READ = "read"
    PLAN = "plan"
    SETTLE = "settle"


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
