"""The judge of `make chaos`: what it excuses, and that it finds what is planted."""

from typing import Any

import pytest
from chaos.evidence import HOUR_MS, Check, Evidence, Incident, Life, Segment, Span, Stall
from chaos.judge import Verdict, judge, phase_ms
from chaos.plan import CALM_S, PERIODS_S, Kind, make_plan
from chaos.report import Report, as_json, as_picture, as_text
from chaos.rules import Reason

from peekaping_producer.model.cadence import cadence
from peekaping_producer.model.monitor import MonitorId

ID = "0a6d4b64-0000-4000-8000-000000000001"
PERIOD_S = 10
BEGAN = 1_800_000_000_000 + phase_ms(ID, 10_000) - 1_000
"""The slots of the monitor are 1 s, 11 s, 21 s … after it."""
ENDS_S = 60.0


def at(seconds: float) -> int:
    """Return an instant this long after the beginning."""
    return BEGAN + round(seconds * 1000)


def checks(*at_s: float, name: str = "as created", taken_after_s: float = 0.05) -> list[Check]:
    """Return checks that were claimed at these seconds."""
    return [Check(ID, name, at(claimed_s), at(claimed_s + taken_after_s)) for claimed_s in at_s]


def on_time(*, but: tuple[float, ...] = ()) -> list[Check]:
    """Return a check for each slot, but those at these seconds."""
    return checks(*(slot_s for slot_s in (1.0, 11.0, 21.0, 31.0, 41.0, 51.0) if slot_s not in but))


def a_life(
    *segments: tuple[float, float, float], push: bool = False, edits: tuple[tuple[float, str], ...] = ()
) -> Life:
    """Return the life of the monitor: from when, expected from when, until when it was active."""
    spans = segments or ((-100.0, -100.0, 10_000.0),)
    return Life(
        ID,
        push,
        tuple(
            Segment(at(from_s), at(expected_s), PERIOD_S * 1000, at(until_s)) for from_s, expected_s, until_s in spans
        ),
        tuple((at(edited_s), name) for edited_s, name in edits),
    )


def fault(kind: Kind, began_s: float, ended_s: float | None = None) -> Incident:
    """Return a fault between these seconds."""
    return Incident(kind, at(began_s), at(began_s if ended_s is None else ended_s))


def judged(seen: list[Check], *incidents: Incident, life: Life | None = None, **evidence: Any) -> Verdict:
    """Judge one monitor by these checks."""
    return judge(Evidence(at(0), at(ENDS_S), tuple(seen), (life or a_life(),), incidents, **evidence))


def only_failure(verdict: Verdict) -> str:
    """Return what breaks a limit, which must be one thing."""
    [failure] = verdict.failures
    return failure


def test_its_grid_is_the_producers() -> None:
    for period_s in (6, 8, 12, 20, 60):
        assert phase_ms(ID, period_s * 1000) == cadence(MonitorId(ID), period_s).phase_ms


def test_checks_on_time_meet_all_limits() -> None:
    verdict = judged(on_time())
    assert verdict.failures == ()
    assert verdict.checks == 6
    assert verdict.late_ms == (50,) * 6


# --- planted faults


def test_a_planted_loss_is_found() -> None:
    verdict = judged(on_time(but=(21.0,)))
    assert "missed for no reason" in only_failure(verdict)
    assert verdict.missed == {Reason.NONE: 1}


def test_a_planted_double_is_found() -> None:
    verdict = judged([*on_time(), *checks(24.0)])
    assert verdict.doubled == 1
    assert "doubled" in only_failure(verdict)


def test_the_same_task_taken_twice_is_doubled() -> None:
    assert judged([*on_time(), *checks(21.0, taken_after_s=0.4)]).doubled == 1


def test_a_monitor_that_is_never_checked_again_is_lost() -> None:
    verdict = judged(on_time(but=(31.0, 41.0, 51.0)))
    assert verdict.lost == 1
    assert any(failure.startswith("lost") for failure in verdict.failures)


def test_a_monitor_that_was_never_checked_is_lost() -> None:
    assert judged([]).lost == 1


def test_a_loss_that_an_outage_explains_is_lost_all_the_same_if_it_never_comes_back() -> None:
    verdict = judged(on_time(but=(31.0, 41.0, 51.0)), fault(Kind.REDIS_KILLED, 30, 33))
    assert verdict.lost == 1


def test_a_task_of_a_deleted_monitor_is_found() -> None:
    verdict = judged(on_time(but=(31.0, 51.0)), life=a_life((-100, -100, 25)))
    assert "deleted or inactive" in only_failure(verdict)


def test_a_task_of_a_monitor_that_never_existed_is_found() -> None:
    stray = Check("another", "as created", at(21), at(21.1))
    assert "never existed" in only_failure(judged([*on_time(), stray]))


def test_a_task_with_old_data_is_found() -> None:
    verdict = judged(on_time(), life=a_life(edits=((25.0, "Edit 1"),)))
    assert all("old data" in failure for failure in verdict.failures)
    assert len(verdict.failures) == 3


def test_what_nodes_report_breaks_a_limit() -> None:
    assert judged(on_time(), problems=("node 1 ended by itself",)).failures == ("node 1 ended by itself",)


# --- what faults excuse, and what they do not


@pytest.mark.parametrize("kind", [Kind.REDIS_KILLED, Kind.HANG_ALL_FROM_REDIS, Kind.KILL_ALL, Kind.FLUSHED])
def test_one_check_may_be_missed_while_redis_or_all_nodes_are_gone(kind: Kind) -> None:
    verdict = judged(on_time(but=(21.0,)), fault(kind, 20, 22))
    assert verdict.failures == ()
    assert verdict.missed.total() == 1


def test_more_than_one_may_not() -> None:
    verdict = judged(on_time(but=(21.0, 31.0)), fault(Kind.REDIS_KILLED, 20.5, 23), fault(Kind.MEMORY_FULL, 40, 41))
    assert any("missed for no reason" in failure for failure in verdict.failures)
    short = judged(on_time(but=(21.0, 31.0)), fault(Kind.REDIS_KILLED, 20.5, 27))
    assert any("missed too often" in failure for failure in short.failures)


def test_a_long_outage_excuses_a_check_for_each_period() -> None:
    verdict = judged(on_time(but=(21.0, 31.0)), fault(Kind.REDIS_KILLED, 20, 37))
    assert verdict.failures == ()


def test_outages_that_overlap_count_as_one() -> None:
    hang, death = fault(Kind.HANG_ALL_FROM_REDIS, 20, 23), fault(Kind.KILL_ALL, 22, 32)
    assert judged(on_time(but=(21.0, 31.0)), hang, death).failures == ()
    assert judged(on_time(but=(21.0, 31.0, 41.0)), hang, death).failures != ()


def test_a_claim_whose_reply_an_outage_lost_has_the_time_of_a_lease() -> None:
    hang, held = fault(Kind.HANG_ALL_FROM_REDIS, 18, 20.5), (Span(ID, at(21.0), at(26.2)),)
    verdict = judged(checks(1, 11, 26.5, 41, 51), hang, claimed=held)
    assert verdict.failures == ()
    assert (verdict.recoveries[0].took_ms, verdict.recoveries[0].claims_took_ms) == (0, 6_050)


def test_a_check_may_be_late_after_an_outage_and_the_next_slot_then_passes() -> None:
    verdict = judged(checks(1, 11, 28, 41, 51), fault(Kind.REDIS_KILLED, 20, 27))
    assert verdict.failures == ()
    assert verdict.recoveries[0].took_ms == 1_050


@pytest.mark.parametrize("kind", [Kind.REDIS_KILLED, Kind.FLUSHED, Kind.RESTORED, Kind.FAILED_OVER])
def test_redis_must_be_recovered_from_within_5_s(kind: Kind) -> None:
    verdict = judged(checks(1, 11, 28.5, 41, 51), fault(kind, 22, 23))
    assert "recovered too late" in only_failure(verdict)


def test_a_killed_node_may_leave_a_check_late_for_8_s() -> None:
    death = fault(Kind.KILL, 20.9, 23)
    held = (Span(ID, at(21.0), at(26.5)),)
    assert judged(checks(1, 11, 27.0, 41, 51), death, claimed=held).failures == ()
    assert "recovered too late" in only_failure(judged(checks(1, 11, 30.0, 41, 51), death, claimed=held))


def test_a_check_missed_beside_a_killed_node_needs_its_claim_as_an_excuse() -> None:
    death = fault(Kind.KILL, 20.9, 23)
    assert judged(on_time(but=(21.0,)), death).missed == {Reason.NONE: 1}
    held = judged(on_time(but=(21.0,)), death, claimed=(Span(ID, at(21.0), at(26.5)),))
    assert held.missed == {Reason.CLAIM: 1}
    assert held.failures == ()


def test_a_claim_may_not_outlive_its_lease() -> None:
    verdict = judged(on_time(), fault(Kind.KILL, 20.9, 23), claimed=(Span(ID, at(21.0), at(29.5)),))
    assert "claimed for too long" in only_failure(verdict)


def test_nothing_may_be_missed_because_a_node_is_stopped_or_edits_are_made() -> None:
    for kind in (Kind.TERMINATE, Kind.GARBAGE, Kind.STUCK_TASKS, Kind.CLOCK_STEPPED):
        assert judged(on_time(but=(21.0,)), fault(kind, 20, 22)).missed == {Reason.NONE: 1}


def test_without_the_database_only_push_monitors_may_be_missed() -> None:
    outage = fault(Kind.DATABASE_STOPPED, 20, 24)
    assert judged(on_time(but=(21.0,)), outage).missed == {Reason.NONE: 1}
    assert judged(on_time(but=(21.0,)), outage, life=a_life(push=True)).missed == {Reason.PUSH: 1}


def test_what_only_a_dead_node_had_read_may_be_missed_without_the_database() -> None:
    outage, death = fault(Kind.DATABASE_STOPPED, 20, 24), fault(Kind.KILL, 12, 14)
    assert judged(on_time(but=(21.0,)), death, outage).missed == {Reason.NOT_CACHED: 1}


def test_a_check_that_still_runs_is_an_excuse() -> None:
    verdict = judged(on_time(but=(21.0,)), active=(Span(ID, at(12), at(22)),))
    assert verdict.missed == {Reason.RUNNING: 1}
    assert verdict.failures == ()


def test_a_machine_that_stalls_is_an_excuse() -> None:
    assert judged(on_time(but=(21.0,)), stalls=(Stall(at(20.8), 900),)).missed == {Reason.MACHINE: 1}


def test_what_is_late_because_no_node_was_at_work_is_not_put_down_to_a_fault_meanwhile() -> None:
    faults = fault(Kind.KILL_ALL, 15, 26), fault(Kind.CLOCK_STEPPED, 20)
    verdict = judged([*on_time(but=(21.0,)), *checks(21.0, taken_after_s=5.5)], *faults)
    assert verdict.failures == ()
    assert [(slot.reason, slot.incident) for slot in verdict.slots] == [(Reason.NODES, faults[0])]


@pytest.mark.parametrize(
    ("reason", "evidence"),
    [
        (Reason.RUNNING, {"active": (Span(ID, at(12), at(42)),)}),
        (Reason.MACHINE, {"stalls": (Stall(at(20.8), 900), Stall(at(40.8), 900))}),
    ],
)
def test_neither_is_an_excuse_for_many(reason: Reason, evidence: dict[str, Any]) -> None:
    verdict = judged(on_time(but=(21.0, 41.0)), **evidence)
    assert verdict.missed == {reason: 2}
    assert "missed 2 times, and 1 may be" in only_failure(verdict)


def test_a_monitor_created_in_the_last_fault_is_judged_wherever_its_slots_are() -> None:
    period_ms, ids = max(PERIODS_S) * 1000, [f"{ID[:-2]}{number}" for number in range(10, 60)]
    calm_s = ENDS_S - CALM_S
    lives = [
        Life(id_, push=False, segments=(Segment(at(calm_s - 1), at(calm_s), period_ms, at(1000)),), edits=())
        for id_ in ids
    ]
    verdict = judge(Evidence(at(0), at(ENDS_S), (), tuple(lives), (fault(Kind.KILL, calm_s - 2, calm_s),)))
    assert {slot.monitor_id for slot in verdict.slots if slot.reason is Reason.NONE} == set(ids)


@pytest.mark.parametrize("kind", [Kind.FLUSHED, Kind.RESTORED, Kind.FAILED_OVER])
def test_a_loss_of_data_may_repeat_a_check(kind: Kind) -> None:
    assert judged([*on_time(), *checks(24.0)], fault(kind, 23, 23.5)).doubled == 0


def test_another_outage_may_not() -> None:
    assert judged([*on_time(), *checks(24.0)], fault(Kind.REDIS_KILLED, 23, 23.5)).doubled == 1


def test_a_claim_that_was_made_after_a_node_was_thawed_is_not_its_fault() -> None:
    freeze, locked = fault(Kind.FREEZE, 11.5, 20.5), fault(Kind.DATABASE_LOCKED, 20.9, 24)
    assert (
        judged(checks(1, 11, 23.5, 31, 41, 51), freeze, locked, claimed=(Span(ID, at(21.0), at(23.5)),)).failures == ()
    )


@pytest.mark.parametrize("kind", [Kind.CUT_FROM_REDIS, Kind.HANG_FROM_REDIS])
def test_what_a_node_that_was_cut_off_had_claimed_may_be_late_for_8_s(kind: Kind) -> None:
    cut, held = fault(kind, 20.9, 21.5), (Span(ID, at(21.0), at(26.5)),)
    assert judged(checks(1, 11, 27.0, 41, 51), cut, claimed=held).failures == ()
    assert "recovered too late" in only_failure(judged(checks(1, 11, 30.0, 41, 51), cut, claimed=held))


def test_claims_that_an_outage_left_behind_may_be_late_for_8_s() -> None:
    hang, held = fault(Kind.HANG_ALL_FROM_REDIS, 18, 20.5), (Span(ID, at(21.0), at(26.2)),)
    assert "recovered too late" in only_failure(judged(checks(1, 11, 29.0, 41, 51), hang, claimed=held))


def test_push_monitors_may_be_missed_until_5_s_after_the_database_is_back() -> None:
    outage, push = fault(Kind.DATABASE_STOPPED, 20, 24), a_life(push=True)
    assert judged(on_time(but=(31.0,)), outage, life=push).missed == {Reason.NONE: 1}


# --- edits and clocks


def test_without_the_database_the_interval_from_before_an_edit_may_repeat_a_check() -> None:
    edited, outage = a_life((-100, -100, 8), (8, 9, 10_000)), fault(Kind.HANG_ALL_FROM_DATABASE, 18, 20)
    assert judged([*on_time(), *checks(24.0)], outage, life=edited).doubled == 0
    assert judged([*on_time(), *checks(24.0)], outage).doubled == 1
    assert judged([*on_time(), *checks(24.0)], life=edited).doubled == 1


def test_or_make_it_miss_one() -> None:
    edited, outage = a_life((-100, -100, 8), (8, 9, 10_000)), fault(Kind.HANG_ALL_FROM_DATABASE, 19, 23)
    assert judged(on_time(but=(31.0,)), outage, life=edited).missed == {Reason.OLD_INTERVAL: 1}
    assert judged(on_time(but=(31.0,)), outage).missed == {Reason.NONE: 1}
    assert judged(on_time(but=(41.0,)), outage, life=edited).missed == {Reason.NONE: 1}


def test_or_make_one_late() -> None:
    edited, outage = a_life((-100, -100, 8), (8, 9, 10_000)), fault(Kind.HANG_ALL_FROM_DATABASE, 19, 23)
    late = checks(1, 11, 21, 35, 41, 51)
    verdict = judged(late, outage, life=edited)
    assert verdict.failures == ()
    assert [(slot.reason, slot.incident, slot.missed) for slot in verdict.slots] == [
        (Reason.OLD_INTERVAL, outage, False)
    ]
    assert "4.0 s late without a fault" in only_failure(judged(late, outage))
    assert "4.0 s late without a fault" in only_failure(judged(late, life=edited))
    later = checks(1, 11, 21, 31, 45, 51)
    assert "4.0 s late without a fault" in only_failure(judged(later, outage, life=edited))


def test_but_it_misses_only_one_in_an_outage() -> None:
    edited, outage = a_life((-100, -100, 8), (8, 9, 10_000)), fault(Kind.HANG_ALL_FROM_DATABASE, 19, 43)
    assert "missed 2 times with the old interval" in only_failure(
        judged(on_time(but=(31.0, 41.0)), outage, life=edited)
    )


def test_a_check_that_no_fault_explains_may_be_a_little_late() -> None:
    assert judged(checks(1, 11, 23, 31, 41, 51)).failures == ()
    assert "4.0 s late without a fault" in only_failure(judged(checks(1, 11, 25, 31, 41, 51)))
    assert judged(checks(1, 11, 25, 31, 41, 51), stalls=(Stall(at(21.5), 2000),)).failures == ()
    assert judged(checks(1, 11, 25, 31, 41, 51), fault(Kind.REDIS_KILLED, 20, 24)).failures == ()


def test_a_created_monitor_is_expected_from_when_it_must_be_noticed() -> None:
    born = a_life((15.0, 18.0, 10_000.0))
    assert judged(on_time(but=(1.0, 11.0)), life=born).failures == ()
    assert judged(on_time(but=(1.0, 11.0, 21.0)), life=born).missed == {Reason.NONE: 1}


def test_a_fault_may_keep_a_change_from_being_noticed() -> None:
    born = a_life((15.0, 18.0, 10_000.0))
    assert judged(on_time(but=(1.0, 11.0, 21.0)), fault(Kind.REDIS_KILLED, 15, 15.5), life=born).failures == ()


def test_the_clock_of_redis_may_be_hours_ahead() -> None:
    seen = on_time()
    ahead = [Check(ID, one.name, one.scheduled_ms + HOUR_MS, one.started_ms) for one in seen[3:]]
    assert judged([*seen[:3], *ahead], fault(Kind.CLOCK_STEPPED, 25)).failures == ()


# --- plans and reports


@pytest.mark.parametrize("database", ["postgres", "sqlite"])
def test_a_seed_determines_the_plan(database: str) -> None:
    assert make_plan(7, 60, database) == make_plan(7, 60, database)
    assert make_plan(7, 60, database) != make_plan(8, 60, database)


def test_every_kind_of_fault_comes_and_the_end_is_calm() -> None:
    plan = make_plan(1, 600, "postgres")
    assert {one.kind for one in plan} == set(Kind)
    assert max(one.ends_s for one in plan) <= 600 - CALM_S


def test_the_report_says_what_failed_and_how_to_see_it_again() -> None:
    incidents = (fault(Kind.REDIS_KILLED, 20, 22), fault(Kind.EDIT, 30))
    evidence = Evidence(at(0), at(ENDS_S), tuple(on_time(but=(21.0, 41.0))), (a_life(),), incidents)
    report = Report("postgres", 7, ENDS_S, "make chaos ARGS='--seed 7'", judge(evidence), evidence)
    text = as_text(report)
    assert not report.passed
    for part in ("Redis killed", "missed for no reason", "make chaos ARGS='--seed 7'", Reason.REDIS.value):
        assert part in text
    assert '"passed": false' in as_json(report)
    assert as_picture(report).count("×") == 3  # one in its legend
