"""Spread or aligned: what the setting means, and what a Go producer beside us changes (PRODUCER_SCHEDULE)."""

import pytest

from peekaping_producer.config.settings import ScheduleMode
from peekaping_producer.model.cadence import ALIGNED_PHASE_MS, Spacing, cadence
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.node.slot_spacing import spacing_for
from support.databases import numbered_id
from support.nodes import TestNode

BESIDE = "go producer detected"
ALONE = "go producer gone"


@pytest.mark.parametrize(
    ("mode", "go_seen", "spacing"),
    [
        (ScheduleMode.AUTO, False, Spacing.SPREAD),
        (ScheduleMode.AUTO, True, Spacing.ALIGNED),
        (ScheduleMode.SPREAD, False, Spacing.SPREAD),
        (ScheduleMode.SPREAD, True, Spacing.SPREAD),
        (ScheduleMode.ALIGNED, False, Spacing.ALIGNED),
        (ScheduleMode.ALIGNED, True, Spacing.ALIGNED),
    ],
)
def test_what_each_setting_means(mode: ScheduleMode, go_seen: bool, spacing: Spacing) -> None:
    assert spacing_for(mode, go_seen=go_seen) is spacing
    choice = TestNode(mode=mode).node.spacing
    choice.update(go_seen=go_seen, at_s=0)
    assert choice.now is spacing


def test_a_node_begins_as_if_it_were_alone() -> None:
    assert TestNode(mode=ScheduleMode.AUTO).node.spacing.now is Spacing.SPREAD
    assert TestNode(mode=ScheduleMode.ALIGNED).node.spacing.now is Spacing.ALIGNED


def test_auto_follows_and_logs_each_change_once() -> None:
    test = TestNode(mode=ScheduleMode.AUTO)
    for go_seen in (False, False, True, True, True, False, False, True):
        test.node.spacing.update(go_seen=go_seen, at_s=0)
        assert test.node.spacing.now is (Spacing.ALIGNED if go_seen else Spacing.SPREAD)
    assert [line["event"] for line in test.lines] == [BESIDE, ALONE, BESIDE]
    assert {line["level"] for line in test.lines} == {"info"}


def test_what_a_batch_shows_outlasts_the_claims_that_do_not_know_it_yet() -> None:
    test = TestNode(mode=ScheduleMode.AUTO)
    test.node.spacing.notice(until_s=8)
    for at_s, go_seen, spacing in (
        (0.1, False, Spacing.ALIGNED),
        (7.9, True, Spacing.ALIGNED),
        (7.9, False, Spacing.ALIGNED),
        (8.0, True, Spacing.ALIGNED),
        (8.1, False, Spacing.SPREAD),
    ):
        test.node.spacing.update(go_seen=go_seen, at_s=at_s)
        assert test.node.spacing.now is spacing
    assert [line["event"] for line in test.lines] == [BESIDE, ALONE]


@pytest.mark.parametrize("mode", [ScheduleMode.SPREAD, ScheduleMode.ALIGNED])
def test_a_fixed_setting_logs_nothing(mode: ScheduleMode) -> None:
    test = TestNode(mode=mode)
    for go_seen in (True, False, True):
        test.node.spacing.update(go_seen=go_seen, at_s=0)
    assert test.lines == []


@pytest.mark.parametrize("interval_s", [1, 2, 20, 60, 3600])
def test_neither_spacing_ever_writes_a_go_node_s_mark(interval_s: int) -> None:
    for number in range(500):
        for spacing in Spacing:
            grid = cadence(MonitorId(numbered_id(number)), interval_s, spacing)
            assert 0 < grid.phase_ms < grid.period_ms
            assert grid.slot_from(10**12) % grid.period_ms != 0


def test_aligned_slots_lie_just_behind_a_go_node_s() -> None:
    for number in range(50):
        grid = cadence(MonitorId(numbered_id(number)), 60, Spacing.ALIGNED)
        assert grid.phase_ms == ALIGNED_PHASE_MS == 1


@pytest.mark.parametrize("interval_s", [20, 60, 61, 3600])
def test_no_change_of_spacing_brings_two_checks_closer_than_half_a_period(interval_s: int) -> None:
    """Invariant 1: the slot after a check is at least half a period later, on whichever grid it is chosen."""
    for number in range(200):
        id_ = MonitorId(numbered_id(number))
        spread, aligned = (cadence(id_, interval_s, spacing) for spacing in Spacing)
        for before, after in ((spread, aligned), (aligned, spread)):
            at_ms = before.slot_from(1_790_000_000_000 + number * 977)
            next_ms = after.next_slot(at_ms)
            assert after.period_ms // 2 <= next_ms - at_ms <= after.period_ms * 1.5
