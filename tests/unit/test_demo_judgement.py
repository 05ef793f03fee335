"""The judgement of a monitor's runs: what counts as missed, as doubled, and what is exempt."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekaping_producer.demo.judgement import Incidents, Judgement, Run, judge, lateness_ms, percentile
from peekaping_producer.model.cadence import Cadence

PERIOD = 10_000
GRID = Cadence(PERIOD, 1_000)
START = 1_000_000_000_000
"""A multiple of the period; the slots lie at START + 1 s, + 11 s, + 21 s …"""


def judged(*at_s: float, until_s: float, busy: dict[float, float] | None = None, **incidents: Any) -> Judgement:
    """Judge runs at these seconds after START."""
    ends = busy or {}
    runs = [Run(START + int(at * 1000), START + int(ends.get(at, at) * 1000)) for at in at_s]
    instants = {name: tuple(START + int(at * 1000) for at in times) for name, times in incidents.items()}
    return judge(GRID, runs, START, START + int(until_s * 1000), Incidents(**instants))


@pytest.mark.parametrize("late_s", [0, 0.2, 4, 9.9])
def test_each_slot_run_is_neither_missed_nor_doubled(late_s: float) -> None:
    runs = (1 + late_s, 11.2, 21) if late_s < 5 else (1 + late_s, 21)
    judgement = judged(*runs, until_s=25)
    assert (judgement.missed, judgement.doubled) == (0, 0)
    assert judgement.lateness_ms[0] == int(late_s * 1000)


def test_a_slot_left_out_is_missed_and_each_of_several_counts() -> None:
    assert judged(1, 21, until_s=25).missed == 1
    assert judged(1, 41, until_s=45).missed == 3


def test_the_lateness_of_a_later_slot_does_not_excuse_the_one_left_out() -> None:
    assert judged(1, 21.5, until_s=25).missed == 1


def test_a_run_late_by_half_a_period_lets_the_next_slot_go() -> None:
    assert judged(1, 17, 31, until_s=32).missed == 0
    assert judged(1, 14, 31, until_s=32).missed == 1


def test_the_gap_before_the_first_run_counts_from_the_beginning() -> None:
    assert judged(1, until_s=2).missed == 0
    assert judged(11, until_s=12).missed == 1
    assert judged(until_s=14).missed == 0
    assert judged(until_s=16).missed == 1


def test_the_gap_after_the_last_run_is_missed_once_it_is_half_a_period_too_long() -> None:
    assert judged(1, until_s=15.9).missed == 0
    assert judged(1, until_s=16.1).missed == 1
    assert judged(1, until_s=36).missed == 2


def test_runs_closer_than_half_a_period_are_doubled() -> None:
    assert judged(1, 5.9, until_s=7).doubled == 1
    assert judged(1, 6, until_s=7).doubled == 0
    assert judged(1, 1, until_s=7).doubled == 1


def test_a_check_that_still_runs_keeps_its_slots() -> None:
    assert judged(1, 41, until_s=45, busy={1: 33}).missed == 0
    assert judged(1, until_s=45, busy={1: 45}).missed == 0
    assert judged(1, 61, until_s=65, busy={1: 33}).missed == 2


def test_a_check_that_ended_before_its_next_slot_excuses_nothing() -> None:
    assert judged(1, 21, until_s=25, busy={1: 10}).missed == 1


def test_a_flush_exempts_until_the_schedule_is_rebuilt() -> None:
    assert judged(1, 25, until_s=29, flushes_ms=(12,)).missed == 0
    assert judged(1, 45, until_s=49, flushes_ms=(12,)).missed == 2
    assert judged(1, 3, until_s=5, flushes_ms=(2,)).doubled == 0
    assert judged(1, 21, until_s=25, flushes_ms=(0.5,)).missed == 1


def test_a_dead_nodes_claim_may_be_late_where_the_period_is_short() -> None:
    grid = Cadence(5_000, 1_000)
    runs = [Run(START + at, START + at) for at in (1_000, 12_100)]
    dead = Incidents(node_deaths_ms=(START + 6_001,))
    alive = judge(grid, runs, START, START + 13_000, Incidents())
    assert (alive.missed, alive.skipped) == (1, 0)
    killed = judge(grid, runs, START, START + 13_000, dead)
    assert (killed.missed, killed.skipped) == (0, 1)


def test_what_a_flush_leaves_out_is_skipped_and_what_it_does_not_excuse_is_missed() -> None:
    assert judged(1, 25, until_s=29, flushes_ms=(12,)).skipped == 1
    late = judged(1, 45, until_s=49, flushes_ms=(12,))
    assert (late.missed, late.skipped) == (2, 1)
    assert judged(1, 11, 21, until_s=25, flushes_ms=(12,)).skipped == 0


def test_slots_under_a_killed_workers_check_are_skipped_and_under_a_slow_one_are_not() -> None:
    for killed, skipped in ((True, 3), (False, 0)):
        runs = [Run(START + 1_000, START + 33_000, killed), Run(START + 41_000, START + 41_000)]
        judgement = judge(GRID, runs, START, START + 45_000, Incidents())
        assert (judgement.missed, judgement.skipped) == (0, skipped)


def test_a_dead_node_excuses_nothing_from_twenty_seconds_on() -> None:
    grid = Cadence(20_000, 1_000)
    runs = [Run(START + at, START + at) for at in (1_000, 41_000)]
    dead = Incidents(node_deaths_ms=(START + 40_000,))
    assert judge(grid, runs, START, START + 42_000, dead).missed == 1


@given(
    period_s=st.integers(1, 86_400),
    phase=st.floats(0, 1, exclude_max=True),
    lateness=st.lists(st.floats(0, 0.999), min_size=1, max_size=30),
)
def test_the_one_rule_is_never_judged_missed_or_doubled(period_s: int, phase: float, lateness: list[float]) -> None:
    period = period_s * 1000
    grid = Cadence(period, int(phase * period) or 1)
    due, runs = grid.slot_from(START), []
    for late in lateness:
        at = due + int(late * period)
        runs.append(Run(at, at))
        due = grid.next_slot(at)
    judgement = judge(grid, runs, START, runs[-1].scheduled_ms, Incidents())
    assert (judgement.missed, judgement.doubled) == (0, 0)
    assert all(
        late == lateness_ms(grid, run.scheduled_ms) for run, late in zip(runs, judgement.lateness_ms, strict=True)
    )


def test_percentiles() -> None:
    assert percentile([], 99) == 0
    assert percentile(range(100), 50) == 50
    assert percentile(range(100), 99) == 99
    assert percentile([7], 99) == 7
