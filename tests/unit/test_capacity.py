"""`plan`: what a fleet needs, and how it behaves on a virtual clock."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from benchmarks.figures import Case, figure
from benchmarks.part import DEFAULT
from benchmarks.report import Machine, Measured, Report, as_json

from peekaping_producer.capacity.costs import calibrated, shipped
from peekaping_producer.capacity.simulation import HOUR_S, Group, fleet, simulate
from peekaping_producer.commands.plan import CapacityPlan, plan
from peekaping_producer.errors import ConfigurationError
from peekaping_producer.model.cadence import Cadence, Spacing

MINUTE_S = 60
PER_S = 10_000.0


def test_each_monitor_is_checked_once_an_interval() -> None:
    simulated = simulate(fleet(600, MINUTE_S, Spacing.SPREAD), PER_S, HOUR_S)
    assert sum(simulated.checks_per_second) == pytest.approx(600 * HOUR_S / MINUTE_S, abs=3)
    assert (simulated.missed, simulated.caught_up_s) == (0, 0)


def test_spread_checks_are_even_and_aligned_ones_come_at_once() -> None:
    spread, aligned = (simulate(fleet(6_000, MINUTE_S, spacing), PER_S, 5 * MINUTE_S) for spacing in Spacing)
    assert max(spread.checks_per_second) < 200
    assert max(aligned.checks_per_second) == 6_000
    assert aligned.percentile_ms(100) == pytest.approx(6_000 / PER_S * 1000, abs=2)
    assert spread.percentile_ms(99) < 10


def test_a_fleet_that_is_too_small_skips_slots_and_checks_at_its_limit() -> None:
    simulated = simulate(fleet(1_200, MINUTE_S, Spacing.SPREAD), 10.0, HOUR_S)
    assert sum(simulated.checks_per_second) == pytest.approx(10 * HOUR_S, rel=0.01)
    assert simulated.missed > 0


def test_after_an_outage_each_monitor_is_checked_once_and_then_on_its_grid() -> None:
    monitors, minutes = 600, 10
    groups = fleet(monitors, MINUTE_S, Spacing.SPREAD)
    simulated = simulate(groups, PER_S, HOUR_S, (600, 600 + minutes * MINUTE_S))
    whole = simulate(groups, PER_S, HOUR_S)
    assert simulated.missed == sum(whole.checks_per_second) - sum(simulated.checks_per_second)
    # Of ten slots one is made up for, and the next may follow it too soon.
    assert monitors * (minutes - 1) <= simulated.missed <= monitors * minutes
    assert simulated.checks_per_second[601:1200] == [0] * 599
    assert simulated.checks_per_second[1200] >= monitors
    assert simulated.caught_up_s == pytest.approx(monitors / PER_S, abs=0.1)
    assert simulated.checks_per_second[1300:] == whole.checks_per_second[1300:]


def test_the_longest_overdue_goes_first() -> None:
    late = [Group(Cadence(60_000, phase_ms), 1) for phase_ms in (30_001, 10_001)]
    simulated = simulate(late, 1.0, 200, (5, 65))
    assert sorted(simulated.late_ms)[-2:] == [36_999, 55_999]


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--monitors", (0, 60, 1, 600)),
        ("--monitors", (10_000_001, 60, 1, 600)),
        ("--interval", (10, 0, 1, 600)),
        ("--nodes", (10, 60, 0, 600)),
        ("--outage", (10, 60, 1, 3_600)),
    ],
)
def test_impossible_values_are_refused(option: str, values: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigurationError, match=f"^{option} .*must be"):
        plan(*values, None, None)


def test_what_is_too_much_is_said_to_be(tmp_path: Path) -> None:
    planned = plan(20, 1, 1, 60, measured(tmp_path, node_us=100_000), None)
    assert not planned.enough
    assert any("Not possible" in line for line in planned.text())


def test_a_check_waits_for_the_next_claim() -> None:
    at_once_ms, late = shipped().lateness_ms, plan(1_000, MINUTE_S, 1, 60, None, None).spread
    assert late.lateness_p50_ms == pytest.approx(at_once_ms + 25, abs=5)
    assert late.lateness_p99_ms == pytest.approx(at_once_ms + 50, abs=5)


def test_small_batches_cost_more_for_a_check() -> None:
    costs, needs = shipped(), plan(1_000, MINUTE_S, 1, 60, None, None).needs
    checks_per_s = 1_000 / MINUTE_S
    assert needs.database_cpu_percent > 3 * checks_per_s * costs.database_us(200) / 1e4
    assert needs.redis_cpu_percent > 3 * checks_per_s * costs.redis_us(200) / 1e4


def test_a_node_s_cache_is_bounded_and_so_is_the_time_of_sweeps() -> None:
    small, large = (plan(monitors, 86_400, 1, 60, None, None).needs for monitors in (210_000, 250_000))
    assert small.node_memory_bytes == large.node_memory_bytes < 200e6
    assert 5 < small.node_cpu_percent < 6
    assert small.database_rows_per_s == pytest.approx(large.database_rows_per_s, rel=0.01)


def test_the_picture_is_an_svg(tmp_path: Path) -> None:
    picture = tmp_path / "plan.svg"
    plan(100, MINUTE_S, 1, 60, None, picture)
    root = ET.fromstring(picture.read_text("utf-8"))
    assert root.tag.endswith("svg")
    assert len(root.findall("{*}polygon")) == 3


def test_costs_follow_what_the_benchmark_measured(tmp_path: Path) -> None:
    costs, batch = shipped(), 200
    found = calibrated(costs, measured(tmp_path, 2 * costs.node_us(batch), 3 * costs.redis_us(batch)))
    assert found.node_us(33) == pytest.approx(2 * costs.node_us(33))
    assert found.database_us(batch) == pytest.approx(9)
    assert found.redis_us(33) == pytest.approx(3 * costs.redis_us(33))
    assert found.measured == "2026-01-02 on 4 cores of a processor"


def measured(folder: Path, node_us: float, redis_us: float = 10) -> Path:
    """Return a report of the benchmark with these costs of a check."""
    medians = {"node_cpu": node_us, "redis_cpu": redis_us, "database_cpu": 9}
    figures = {name: figure(median, "µs a check") for name, median in medians.items()}
    herd = Measured(1, [Case("sqlite, 1 monitor, 1 node", {}), Case("postgres, 1 monitor, 1 node", figures)])
    machine = Machine("2026-01-02", "0.1.0", "3.11", "Linux", "a processor", 4, 0)
    report = folder / "bench.json"
    report.write_text(as_json(Report(machine, DEFAULT, {"herd": herd})), "utf-8")
    return report


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff"])
def test_a_file_that_is_no_report_is_refused(tmp_path: Path, content: bytes | None) -> None:
    report = tmp_path / "bench.json"
    if content is not None:
        report.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"^--calibrate .*bench\.json: "):
        calibrated(shipped(), report)


def test_the_command_prints_one_object() -> None:
    command = [sys.executable, "-m", "peekaping_producer", "plan", "--monitors", "100", "--interval", "60", "--json"]
    done = subprocess.run(command, capture_output=True, check=True)
    planned = msgspec.json.decode(done.stdout, type=CapacityPlan)
    assert (planned.monitors, planned.interval_s, planned.enough) == (100, 60, True)
