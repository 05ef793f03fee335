"""Figures of the benchmark with their noise, the table and the plot, and the comparison with an earlier run."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from benchmarks.against import Comparison, Verdict, compare, compare_all, differences
from benchmarks.figures import Case, Figure, Role, cost, figure, number, rate
from benchmarks.part import DEFAULT
from benchmarks.plot import as_plot
from benchmarks.report import Machine, Measured, Report, as_json, read_report
from benchmarks.table import as_text

MACHINE = Machine("2026-01-02T03:04:05+00:00", "0.1.0", "3.11.7", "Linux", "a processor", 2, 0.1)


def _report(rates: list[float], machine: Machine = MACHINE) -> Report:
    herd = Case(
        "postgres, 9 monitors, 1 node", {"checks_settled": rate(rates, "≥ 7"), "node_cpu": cost(3, "µs a check")}
    )
    return Report(machine, DEFAULT, {"herd": Measured(1.5, [herd])})


def test_a_figure_is_the_median_with_the_lowest_and_highest_round() -> None:
    assert figure([3, 1, 8], "ms") == Figure(3, 1, 8, 3, "ms")
    assert figure(4, "ms") == Figure(4, 4, 4, 1, "ms")


def test_one_outlier_among_many_rounds_is_not_the_spread() -> None:
    found = figure([1, 2, 3, 4, 5, 6, 7, 1_000], "ms")
    assert (found.low, found.high) == (2.75, 6.25)


@pytest.mark.parametrize(
    ("now", "earlier", "expected"),
    [
        (rate([100, 110, 120]), rate([90, 95, 101]), Comparison(110 / 95, Verdict.NOISE)),
        (rate([100, 110, 120]), rate([50, 55, 60]), Comparison(2, Verdict.BETTER)),
        (rate([50, 55, 60]), rate([100, 110, 120]), Comparison(0.5, Verdict.WORSE)),
        (cost([50, 55, 60], "ms"), cost([100, 110, 120], "ms"), Comparison(0.5, Verdict.BETTER)),
        (figure([2, 4], ""), figure([8, 10], ""), Comparison(3 / 9, Verdict.CHANGED)),
        (rate(8), rate(4), Comparison(2, Verdict.UNKNOWN)),
        (cost(0, "checks"), cost(0, "checks"), Comparison(None, Verdict.NOISE)),
        (cost(5, "checks"), cost(0, "checks"), Comparison(None, Verdict.UNKNOWN)),
    ],
)
def test_only_what_is_outside_the_noise_counts_as_changed(now: Figure, earlier: Figure, expected: Comparison) -> None:
    assert compare(now, earlier) == expected


def test_only_the_same_figures_are_compared() -> None:
    now, earlier = _report([10, 11]), _report([20, 21])
    now.parts["idle"] = Measured(1, [Case("100 monitors", {"node_cpu": cost(1, "%")})])
    earlier.parts["idle"] = Measured(1, [Case("200 monitors", {"node_cpu": cost(1, "%")})])
    earlier.parts["herd"].cases[0].figures["node_cpu"] = cost(3, "ms a check")
    key = ("herd", "postgres, 9 monitors, 1 node", "checks_settled")
    assert compare_all(now, earlier) == {key: Comparison(10.5 / 20.5, Verdict.WORSE)}


def test_another_machine_makes_the_comparison_doubtful() -> None:
    other = Machine("2026-01-02T03:04:05+00:00", "0.1.0", "3.11.7", "Linux", "another", 8, 0.1)
    assert differences(_report([1]), _report([2])) == []
    (line,) = differences(_report([1]), _report([1], other))
    assert "a processor, 2 cores" in line
    assert "another, 8 cores" in line


def test_a_report_is_the_same_after_it_was_written_and_read(tmp_path: Path) -> None:
    file, report = tmp_path / "bench.json", _report([1.5, 2.5])
    file.write_text(as_json(report), "utf-8")
    assert read_report(file) == report


def test_the_table_shows_figure_spread_goal_and_change() -> None:
    now = _report([10_000, 11_000, 12_000])
    shown = as_text(now, compare_all(now, _report([1_000, 1_100, 1_200])))
    line = next(line for line in shown.splitlines() if "checks settled" in line)
    assert line.split() == [
        "checks",
        "settled",
        "11,000",
        "/s",
        "10,000–12,000",
        "of",
        "3",
        "≥",
        "7",
        "×",
        "10.00,",
        "better",
    ]
    assert "node CPU" in shown


def test_the_table_says_why_something_is_missing() -> None:
    missing = Case("asynq", {}, Role.PEER, "not measured: Go is not installed")
    shown = as_text(Report(MACHINE, DEFAULT, {"peers": Measured(1, [missing], "the rest failed")}))
    assert "(not measured: Go is not installed)" in shown
    assert "failed: the rest failed" in shown


def test_the_plot_shows_ours_beside_limits_and_peers() -> None:
    report = _report([10, 12])
    report.parts["ceiling"] = Measured(1, [Case("settle alone", {"checks": rate(40)}, Role.LIMIT)])
    report.parts["peers"] = Measured(
        1, [Case("<others>", {"entries": rate(4)}, Role.PEER), Case("none", {}, Role.PEER)]
    )
    drawn = as_plot(report)
    assert drawn is not None
    texts = [text.text for text in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    bars = ["settle alone", "40", "postgres, 9 monitors, 1 node", "11", "<others>", "4"]
    assert texts[-len(bars) :] == bars


def test_without_a_rate_there_is_no_plot() -> None:
    assert as_plot(Report(MACHINE, DEFAULT, {"idle": Measured(1, [Case("idle", {"cpu": cost(1, "%")})])})) is None


@pytest.mark.parametrize(
    ("value", "shown"), [(35_123.4, "35,123"), (28.46, "28.5"), (1.234, "1.23"), (0.0123, "0.0123"), (0, "0")]
)
def test_a_number_has_as_many_digits_as_it_deserves(value: float, shown: str) -> None:
    assert number(value) == shown
