"""Whether every check was on time, by what the worker took: pure arithmetic on instants.

*Doubled*: two runs of a monitor closer than half a period.
*Missed*: two runs further apart than the period plus the lateness of the later one, or than 1.5 periods plus that
lateness if the earlier run was late by half a period or more. Lateness is the distance of `scheduled_at` from the grid
slot before it, so a run in a later slot does not replace the slot that was missed: each missed slot counts.

The gap before the first run begins when the schedule is complete. The gap after the last run is a miss once it is
longer than the limits above, with a lateness of half a period.

Exempt:
- a check that still runs: the gap begins at its end. If its worker died, it counts as running until its lease expires;
- loss of Redis' data: a gap with a flush in it begins when the schedule is rebuilt, and is never *doubled*;
- for periods under 20 s, the claims of a dead node: its monitors wait until the lease expires and is reclaimed.

*Skipped*: what would be missed if nothing had been broken on purpose. Not the producer's fault, but not checked either.
"""

from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct

from peekaping_producer.model.cadence import Cadence

REBUILT_WITHIN_MS = 5_000
"""A node checks every second whether Redis still has its data, and if not, sweeps at once."""
CLAIM_BACK_WITHIN_MS = 6_500
"""A dead node's claim expires after 5 s; reclaims run every second."""
CLAIMS_COUNT_FROM_PERIOD_MS = 20_000
"""From this period on, a dead node's claim does not exceed the limits."""
_SETTLE_WITHIN_MS = 500
"""The next slot is chosen when the claim is settled, a little after `scheduled_at`."""


class Run(Struct, frozen=True):
    """One task that a worker took."""

    scheduled_ms: int
    busy_until_ms: int
    """When its check had ended, and its task id was free again."""
    killed: bool = False
    """Whether its worker was killed during the check."""


class Incidents(Struct, frozen=True):
    """What was broken on purpose, Unix ms."""

    flushes_ms: tuple[int, ...] = ()
    node_deaths_ms: tuple[int, ...] = ()


_NOTHING_BROKEN = Incidents()


class Judgement(Struct, frozen=True):
    """What became of one monitor's slots."""

    missed: int
    doubled: int
    skipped: int
    """Missed while something was broken on purpose, within the promised recovery time."""
    lateness_ms: tuple[int, ...]
    """Of each run."""


def judge(cadence: Cadence, runs: Sequence[Run], began_ms: int, ended_ms: int, incidents: Incidents) -> Judgement:
    """Judge one monitor by its runs, in any order, between the two instants."""
    ordered = sorted(runs, key=lambda run: run.scheduled_ms)
    missed = _missed(cadence, ordered, began_ms, ended_ms, incidents)
    skipped = 0
    if incidents != _NOTHING_BROKEN or any(run.killed for run in ordered):
        unbroken = [Run(run.scheduled_ms, run.scheduled_ms) if run.killed else run for run in ordered]
        skipped = _missed(cadence, unbroken, began_ms, ended_ms, _NOTHING_BROKEN) - missed
    return Judgement(
        missed,
        sum(_is_doubled(cadence, before, run, incidents) for before, run in pairwise(ordered)),
        max(0, skipped),
        tuple(lateness_ms(cadence, run.scheduled_ms) for run in ordered),
    )


def _missed(cadence: Cadence, ordered: Sequence[Run], began_ms: int, ended_ms: int, incidents: Incidents) -> int:
    missed = 0
    before: Run | None = None
    for run in ordered:
        until_ms = _next_run_until(cadence, before, began_ms, run.scheduled_ms, incidents)
        until_ms += lateness_ms(cadence, run.scheduled_ms)
        missed += _slots_missed(run.scheduled_ms - until_ms, cadence.period_ms)
        before = run
    until_ms = _next_run_until(cadence, before, began_ms, ended_ms, incidents) + cadence.period_ms // 2
    return missed + _slots_missed(ended_ms - until_ms, cadence.period_ms)


def lateness_ms(cadence: Cadence, scheduled_ms: int) -> int:
    """Return how long after the grid slot before it a check was claimed."""
    return (scheduled_ms - cadence.phase_ms) % cadence.period_ms


def percentile(values: Sequence[int], percent: float) -> int:
    """Return the value that `percent` of the sorted `values` do not exceed; 0 if there are none."""
    if not values:
        return 0
    return values[min(len(values) - 1, int(len(values) * percent / 100))]


def _next_run_until(cadence: Cadence, before: Run | None, began_ms: int, to_ms: int, incidents: Incidents) -> int:
    """Return the latest time for the next run, without its own lateness."""
    period_ms = cadence.period_ms
    from_ms = before.scheduled_ms if before else began_ms
    until_ms = from_ms + period_ms
    if before:
        if lateness_ms(cadence, from_ms) + _SETTLE_WITHIN_MS >= period_ms / 2:
            until_ms = from_ms + period_ms * 3 // 2 + _SETTLE_WITHIN_MS
        if before.busy_until_ms > cadence.next_slot(from_ms):
            until_ms = max(until_ms, before.busy_until_ms + period_ms * 3 // 2)
    for flush_ms in incidents.flushes_ms:
        if from_ms < flush_ms <= to_ms:
            until_ms = max(until_ms, flush_ms + REBUILT_WITHIN_MS + period_ms)
    if period_ms < CLAIMS_COUNT_FROM_PERIOD_MS:
        for death_ms in incidents.node_deaths_ms:
            if from_ms < death_ms <= to_ms:
                until_ms = max(until_ms, death_ms + CLAIM_BACK_WITHIN_MS)
    return until_ms


def _slots_missed(over_ms: int, period_ms: int) -> int:
    return 0 if over_ms <= 0 else 1 + (over_ms - 1) // period_ms


def _is_doubled(cadence: Cadence, before: Run, run: Run, incidents: Incidents) -> bool:
    if any(before.scheduled_ms < flush_ms <= run.scheduled_ms for flush_ms in incidents.flushes_ms):
        return False
    return run.scheduled_ms - before.scheduled_ms < cadence.period_ms / 2
