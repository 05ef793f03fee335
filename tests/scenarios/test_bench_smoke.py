"""The benchmark runs and prints results; how fast things are can only be measured on a quiet machine."""

import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.figures import Case
from benchmarks.report import read_report

ROOT = Path(__file__).parent.parent.parent
MONITORS = 300
PARTS = ("ceiling", "herd", "steady", "events", "outage", "clients", "start")
"""Without those that start more servers, programs of others, or a producer for little that is not in these."""


@pytest.mark.long
@pytest.mark.timeout(300, func_only=True)
def test_a_quick_benchmark_measures_a_herd_beside_its_ceilings(tmp_path: Path) -> None:
    options = ["--quick", "--only", *PARTS, "--monitors", str(MONITORS), "--out", str(tmp_path)]
    command = [sys.executable, "-m", "benchmarks", *options]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

    report = read_report(tmp_path / "bench.json")
    cases = {part: {case.name: case for case in measured.cases} for part, measured in report.parts.items()}
    assert cases.keys() == {*PARTS, "shares"}
    assert cases["herd"].keys() == {
        "postgres, 300 monitors, 1 node",
        "postgres, 300 monitors, 2 nodes",
        "sqlite, 300 monitors, 1 node",
    }
    rates = [*cases["ceiling"].values(), *cases["herd"].values(), *cases["outage"].values(), *cases["events"].values()]
    assert min(_first(case) for case in rates) > 0
    assert min(_first(case) for case in cases["shares"].values()) > 0
    (steady,) = cases["steady"].values()
    assert steady.figures["checks"].rounds > 1
    # The real producer, judged by the drain: no task came before its monitor was due, and none twice.
    assert steady.figures["lateness_max"].median > 0
    assert steady.figures["doubled"].median == 0
    assert _first(cases["start"]["postgres"]) > 0
    clients = cases.pop("clients")
    assert {"of_its_rate_lost", "lateness_p99_added"} <= {name for case in clients.values() for name in case.figures}
    # Some costs may be none for so few monitors, but none is negative.
    assert min(one.low for part in cases.values() for case in part.values() for one in case.figures.values()) >= 0
    assert "postgres, 300 monitors, 1 node" in done.stdout
    assert (tmp_path / "bench.svg").read_text("utf-8").startswith("<svg")


def _first(case: Case) -> float:
    return next(iter(case.figures.values())).median
