"""A fleet on a virtual clock: its load, how late its checks are, and how it catches up with an outage. Pure."""

from collections import Counter
from collections.abc import Sequence
from heapq import heapify, heapreplace

from msgspec import Struct

from peekaping_producer.model.cadence import Cadence, Spacing, cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.observe.tally import percentile

HOUR_S = 3_600
_MOST_STEPS = 400_000
"""About this many steps are simulated in an hour."""
_MOST_PARTS, _FEWEST_PARTS = 6_000, 100


class Group(Struct, frozen=True):
    """Monitors with almost the same slots."""

    cadence: Cadence
    monitors: int


class Simulated(Struct, frozen=True):
    """What became of the checks of some time."""

    checks_per_second: list[int]
    """How many were queued in each second."""
    late_ms: Counter[int]
    """How many were late by this many milliseconds."""
    missed: int
    """Slots that passed without a check."""
    caught_up_s: float
    """Seconds from the end of the outage until the last check that had waited for a second or more was queued."""

    def percentile_ms(self, percent: float) -> int:
        """Return the lateness that `percent` of the checks do not exceed; 0 if there were none."""
        return percentile(self.late_ms, percent / 100) or 0


def fleet(monitors: int, interval_s: int, spacing: Spacing) -> list[Group]:
    """Return the groups of this many monitors, by the grid of each. Those whose slots are close are in one group."""
    period_ms = interval_s * 1000
    parts_wanted = max(_FEWEST_PARTS, min(_MOST_PARTS, _MOST_STEPS * interval_s // HOUR_S))
    grain_ms = max(1, period_ms // parts_wanted)
    if spacing is Spacing.ALIGNED:
        parts = Counter({cadence(_id_of(0), interval_s, spacing).phase_ms: monitors})
    else:
        parts = Counter(
            cadence(_id_of(n), interval_s, spacing).phase_ms // grain_ms * grain_ms for n in range(monitors)
        )
    most = max(1, monitors // parts_wanted)
    return [
        Group(Cadence(period_ms, phase_ms), size) for phase_ms, count in parts.items() for size in _pieces(count, most)
    ]


def simulate(
    groups: Sequence[Group], per_s: float, lasting_s: int, outage_s: tuple[float, float] | None = None
) -> Simulated:
    """Let a fleet that queues at most `per_s` checks a second run for `lasting_s`, with an outage during `outage_s`.

    The longest overdue goes first, and the next slot follows from when its check was queued, as in `settle.lua`.
    """
    began_ms, ended_ms = (at_s * 1000 for at_s in outage_s or (0, 0))
    checks_per_second, late_ms = [0] * lasting_s, Counter[int]()
    missed, free_ms, caught_up_ms = 0, 0.0, ended_ms
    due = [(group.cadence.slot_from(0), place) for place, group in enumerate(groups)]
    heapify(due)
    while due and due[0][0] < lasting_s * 1000:
        slot_ms, place = due[0]
        group = groups[place]
        start_ms = max(float(slot_ms), free_ms)
        if began_ms <= start_ms < ended_ms:
            start_ms = ended_ms
        free_ms = start_ms + group.monitors / per_s * 1000
        waited_ms = free_ms - slot_ms
        if free_ms < lasting_s * 1000:
            checks_per_second[int(free_ms // 1000)] += group.monitors
            late_ms[int(waited_ms)] += group.monitors
            missed += group.monitors * group.cadence.skipped(slot_ms, waited_ms)
            if outage_s and waited_ms >= 1000:  # noqa: PLR2004 - a second
                caught_up_ms = max(caught_up_ms, free_ms)
        heapreplace(due, (group.cadence.next_slot(int(free_ms)), place))
    return Simulated(checks_per_second, late_ms, missed, (caught_up_ms - ended_ms) / 1000)


def _id_of(number: int) -> MonitorId:
    return MonitorId(f"{number:08x}-0000-4000-8000-{number:012x}")


def _pieces(count: int, most: int) -> list[int]:
    whole, rest = divmod(count, most)
    return [most] * whole + ([rest] if rest else [])
