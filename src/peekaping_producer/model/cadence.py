"""When a monitor is due: the slots of its grid, `phase + k × period`, in Unix milliseconds.

The settle and schedule scripts do the same arithmetic with Redis' clock; a test checks that both agree.
"""

from enum import StrEnum
from hashlib import blake2b

from msgspec import Struct

from peekaping_producer.model.monitor import MonitorId

ALIGNED_PHASE_MS = 1
"""Aligned slots are 1 ms after a multiple of the period: next to a Go node's slots, but distinct from them."""


class Spacing(StrEnum):
    """Where in its period a monitor's slots are."""

    SPREAD = "spread"
    """At a hash of its id, so that monitors with the same interval are spread evenly."""
    ALIGNED = "aligned"
    """Just after a multiple of the period, where Go producers check."""


class Cadence(Struct, frozen=True):
    """One monitor's grid."""

    period_ms: int
    phase_ms: int
    """0 < phase_ms < period_ms, and never a multiple of a second: every multiple of any period may be a Go node's slot
    (invariant 11)."""

    def slot_from(self, at_ms: int) -> int:
        """Return the first slot at or after `at_ms`."""
        return at_ms + (self.phase_ms - at_ms) % self.period_ms

    def next_slot(self, now_ms: int) -> int:
        """Return the slot that follows a check at `now_ms`: the first one ≥ now + period / 2 (invariant 1)."""
        return self.slot_from(now_ms + self.period_ms // 2)

    def retrying(self, retry_s: int) -> "Cadence":
        """Return the grid while the monitor is checked each `retry_s`: if that divides the period, a finer one."""
        retry_ms = retry_s * 1000
        return Cadence(retry_ms, self.phase_ms % retry_ms)

    def has_slot_at(self, at_ms: float) -> bool:
        """Return whether this instant is a slot; what is due at another one was made due by hand, or by an edit."""
        return (at_ms - self.phase_ms) % self.period_ms == 0

    def skipped(self, due_ms: float, late_ms: float) -> int:
        """Return how many slots a check skips because it comes so late after its due time."""
        on_time_ms = int(due_ms)
        return (self.next_slot(on_time_ms + int(late_ms)) - self.next_slot(on_time_ms)) // self.period_ms


def cadence(monitor_id: MonitorId, interval_s: int, spacing: Spacing = Spacing.SPREAD) -> Cadence:
    """Return the grid of a monitor: the same on every node and in every process, without any coordination."""
    period_ms = interval_s * 1000
    if spacing is Spacing.ALIGNED:
        return Cadence(period_ms, ALIGNED_PHASE_MS)
    digest = blake2b(monitor_id.encode()).digest()
    phase_ms = int.from_bytes(digest[:8], "big") % period_ms
    return Cadence(period_ms, phase_ms if phase_ms % 1000 else phase_ms + 1)
