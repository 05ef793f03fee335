"""The load clock: spread and aligned schedules can be distinguished."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekaping_producer.model.cadence import Spacing, cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.web.load_clock import SECONDS, dial, verdict

NOW_MS = 1_790_000_012_345


def counts(spacing: Spacing, monitors: int, interval_s: int, now_ms: int = NOW_MS) -> list[int]:
    """Return how many of this many monitors are due in each second of the next minute."""
    found = [0] * SECONDS
    first_s = now_ms // 1000
    for number in range(monitors):
        slot_ms = cadence(MonitorId(f"{number:036}"), interval_s, spacing).slot_from(now_ms)
        if slot_ms // 1000 - first_s < SECONDS:
            found[slot_ms // 1000 - first_s] += 1
    return found


@pytest.mark.parametrize(
    ("monitors", "interval_s"), [(50, 60), (600, 60), (10_000, 60), (2_000, 300), (600, 20), (200, 5)]
)
def test_spread_slots_are_spread_evenly(monitors: int, interval_s: int) -> None:
    assert verdict(counts(Spacing.SPREAD, monitors, interval_s)) == "spread evenly"


@pytest.mark.parametrize(("monitors", "interval_s"), [(50, 60), (600, 60), (10_000, 60), (600, 20)])
@pytest.mark.parametrize("later_s", [0, 20, 40])
def test_aligned_slots_are_aligned(monitors: int, interval_s: int, later_s: int) -> None:
    assert verdict(counts(Spacing.ALIGNED, monitors, interval_s, NOW_MS + later_s * 1000)) == "aligned"


def test_few_checks_show_nothing() -> None:
    assert verdict([0] * SECONDS) == verdict([9] + [0] * 59) == "few checks"


@given(st.lists(st.integers(0, 10**6), min_size=SECONDS, max_size=SECONDS), st.integers(0, 59))
def test_every_second_has_its_bar_in_its_place(numbers: list[int], first: int) -> None:
    found = dial(numbers, first)
    assert found.total == sum(numbers)
    assert [bar.second for bar in found.bars] == list(range(SECONDS))
    assert found.bars[first].count == numbers[0]
    assert found.bars[(first + 59) % SECONDS].count == numbers[59]
    longest = max(math.hypot(bar.x2, bar.y2) for bar in found.bars)
    assert longest <= 90.1
    for bar in found.bars:
        angle = math.degrees(math.atan2(bar.x2, -bar.y2)) % 360
        assert math.isclose(angle, bar.second * 6, abs_tol=0.05)
