"""The arithmetic of cadence, under any lateness (invariant 1)."""

import json
import os
import subprocess
import sys
from collections import Counter
from hashlib import blake2b
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekaping_producer.model.cadence import ALIGNED_PHASE_MS, Cadence, Spacing, cadence
from peekaping_producer.model.monitor import MonitorId

INTERVALS_S = st.one_of(st.integers(1, 86_400), st.just(2**31 - 1))
INSTANTS_MS = st.integers(1_500_000_000_000, 2_500_000_000_000)
IDS = st.uuids().map(lambda uuid: MonitorId(str(uuid)))
SPACINGS = st.sampled_from(Spacing)
LATENESS_OF_PERIOD = st.one_of(st.just(0.0), st.floats(0, 0.5), st.floats(0, 5))
"""How late a check runs, in periods."""

"""Other tests run at the same time."""


def fixed_ids(count: int) -> list[MonitorId]:
    """Return ids that are the same in every run."""
    return [MonitorId(str(UUID(int=n * 0x9E3779B97F4A7C15_F39CC0605CEDC835 % 2**128))) for n in range(1, count + 1)]


class Run:
    """One check: the slot it was due at and the instant it was claimed and settled."""

    def __init__(self, slot_ms: int, lateness_ms: int) -> None:
        self.slot_ms = slot_ms
        self.lateness_ms = lateness_ms
        self.at_ms = slot_ms + lateness_ms


def runs(grids: list[Cadence], start_ms: int, lateness: list[float]) -> list[Run]:
    """Simulate claim → next slot with the grid and the lateness that each run has."""
    done = [Run(grids[0].slot_from(start_ms), 0)]
    for grid, late in zip(grids, lateness, strict=True):
        done.append(Run(grid.next_slot(done[-1].at_ms), int(late * grid.period_ms)))
    return done


@given(IDS, INTERVALS_S, SPACINGS, INSTANTS_MS, st.lists(LATENESS_OF_PERIOD, min_size=1, max_size=50))
def test_invariant_1_checks_are_at_least_half_a_period_apart_however_late(
    monitor: MonitorId, interval_s: int, spacing: Spacing, start_ms: int, lateness: list[float]
) -> None:
    grid = cadence(monitor, interval_s, spacing)
    done = runs([grid] * len(lateness), start_ms, lateness)
    for before, after in pairwise(done):
        distance_ms = after.at_ms - before.at_ms
        assert distance_ms * 2 >= grid.period_ms
        if before.lateness_ms * 2 <= grid.period_ms:
            assert after.slot_ms - before.slot_ms == grid.period_ms
            assert distance_ms <= grid.period_ms + after.lateness_ms
        else:
            assert distance_ms * 2 <= grid.period_ms * 3 + after.lateness_ms * 2


@given(IDS, INTERVALS_S, SPACINGS, INSTANTS_MS, st.lists(LATENESS_OF_PERIOD, min_size=1, max_size=50))
def test_lateness_never_moves_the_grid(
    monitor: MonitorId, interval_s: int, spacing: Spacing, start_ms: int, lateness: list[float]
) -> None:
    grid = cadence(monitor, interval_s, spacing)
    for run in runs([grid] * len(lateness), start_ms, lateness):
        assert run.slot_ms % grid.period_ms == grid.phase_ms


@given(IDS, INTERVALS_S, INSTANTS_MS, st.lists(st.tuples(SPACINGS, LATENESS_OF_PERIOD), min_size=1, max_size=50))
def test_switching_between_spread_and_aligned_keeps_the_distance(
    monitor: MonitorId, interval_s: int, start_ms: int, steps: list[tuple[Spacing, float]]
) -> None:
    grids = [cadence(monitor, interval_s, spacing) for spacing, _ in steps]
    period_ms = interval_s * 1000
    done = runs(grids, start_ms, [late for _, late in steps])
    for before, after in pairwise(done):
        distance_ms = after.at_ms - before.at_ms
        assert period_ms <= distance_ms * 2 <= period_ms * 3 + after.lateness_ms * 2


@given(
    IDS,
    INTERVALS_S,
    INTERVALS_S,
    SPACINGS,
    INSTANTS_MS,
    st.lists(st.tuples(st.booleans(), LATENESS_OF_PERIOD), min_size=1, max_size=50),
)
def test_invariant_1_holds_for_the_period_in_force_while_a_monitor_is_retried(
    monitor: MonitorId,
    interval_s: int,
    retry_s: int,
    spacing: Spacing,
    start_ms: int,
    steps: list[tuple[bool, float]],
) -> None:
    own = cadence(monitor, interval_s, spacing)
    retries = own.retrying(retry_s)
    assert 0 < retries.phase_ms < retries.period_ms
    assert retries.phase_ms % 1000
    if interval_s % retry_s == 0:
        assert retries.slot_from(own.slot_from(start_ms)) == own.slot_from(start_ms)
    chosen = [retries if pending else own for pending, _ in steps]
    done = runs(chosen, start_ms, [late for _, late in steps])
    for grid, before, after in zip(chosen, done, done[1:], strict=False):
        assert after.slot_ms % 1000
        assert grid.period_ms <= (after.at_ms - before.at_ms) * 2 <= grid.period_ms * 3 + after.lateness_ms * 2
        if before.slot_ms % grid.period_ms == grid.phase_ms and before.lateness_ms * 2 <= grid.period_ms:
            assert after.slot_ms - before.slot_ms == grid.period_ms


@given(IDS, INTERVALS_S, SPACINGS, st.integers(0, 2**53))
def test_slot_from_is_the_first_slot_not_before_the_instant(
    monitor: MonitorId, interval_s: int, spacing: Spacing, at_ms: int
) -> None:
    grid = cadence(monitor, interval_s, spacing)
    slot_ms = grid.slot_from(at_ms)
    assert at_ms <= slot_ms < at_ms + grid.period_ms
    assert slot_ms % grid.period_ms == grid.phase_ms
    assert grid.slot_from(slot_ms) == slot_ms


@given(IDS, INTERVALS_S, SPACINGS, INSTANTS_MS)
def test_no_slot_is_a_multiple_of_a_second(monitor: MonitorId, interval_s: int, spacing: Spacing, now_ms: int) -> None:
    # Not of any other period either: after an edit, the slot is compared with the new period.
    grid = cadence(monitor, interval_s, spacing)
    assert grid.period_ms == interval_s * 1000
    assert 0 < grid.phase_ms < grid.period_ms
    assert grid.phase_ms % 1000
    assert grid.next_slot(now_ms) % 1000


@pytest.mark.parametrize("interval_s", [1, 60, 3600])
def test_only_a_hash_that_falls_on_a_second_is_moved_off_it_by_a_millisecond(interval_s: int) -> None:
    moved = 0
    for monitor in fixed_ids(20_000):
        hashed_ms = int.from_bytes(blake2b(monitor.encode()).digest()[:8], "big") % (interval_s * 1000)
        on_a_second = hashed_ms % 1000 == 0
        moved += on_a_second
        assert cadence(monitor, interval_s).phase_ms == hashed_ms + on_a_second
    assert moved > 5


@given(IDS, INTERVALS_S)
def test_aligned_slots_are_one_millisecond_after_the_multiple(monitor: MonitorId, interval_s: int) -> None:
    grid = cadence(monitor, interval_s, Spacing.ALIGNED)
    assert grid.phase_ms == ALIGNED_PHASE_MS == 1


@pytest.mark.parametrize("interval_s", [20, 60, 300, 86_400])
def test_many_monitors_of_one_interval_spread_evenly(interval_s: int) -> None:
    count, buckets = 20_000, 50
    phases = Counter(
        cadence(monitor, interval_s).phase_ms * buckets // (interval_s * 1000) for monitor in fixed_ids(count)
    )
    expected = count / buckets
    chi_square = sum((phases[bucket] - expected) ** 2 / expected for bucket in range(buckets))
    # 49 degrees of freedom: above 99 once in 30,000 even samples, below 15 likewise (a grid would be near 0).
    assert 15 < chi_square < 99


@pytest.mark.parametrize("hash_seed", ["0", "1", "4294967295"])
def test_another_process_finds_the_same_phases(hash_seed: str) -> None:
    monitors = fixed_ids(50)
    program = (
        "import json, sys\n"
        "from peekaping_producer.model.cadence import cadence\n"
        "print(json.dumps([cadence(id_, 60).phase_ms for id_ in json.load(sys.stdin)]))\n"
    )
    other = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(monitors),
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert json.loads(other.stdout) == [cadence(monitor, 60).phase_ms for monitor in monitors]


def test_the_phase_is_the_documented_hash() -> None:
    # BLAKE2b of the id, its first 8 bytes, big endian, modulo the period: a rebuilt schedule is the same schedule.
    monitor = MonitorId("11111111-1111-4111-8111-111111111111")
    # The figure is from coreutils' b2sum.
    assert cadence(monitor, 3600).phase_ms == 0x2319C9A9904F5B67 % 3_600_000


@given(IDS, INTERVALS_S, SPACINGS, INSTANTS_MS, st.floats(0, 5))
def test_a_late_check_skips_the_slots_between_the_next_one_and_the_one_that_would_have_been_next(
    monitor: MonitorId, interval_s: int, spacing: Spacing, start_ms: int, late: float
) -> None:
    grid = cadence(monitor, interval_s, spacing)
    slot_ms, late_ms = grid.slot_from(start_ms), int(late * grid.period_ms)
    next_ms = grid.next_slot(slot_ms + late_ms)
    assert grid.skipped(slot_ms, late_ms) == len(range(slot_ms + grid.period_ms, next_ms, grid.period_ms))
    if late <= 0.5:
        assert grid.skipped(slot_ms, late_ms) == 0
