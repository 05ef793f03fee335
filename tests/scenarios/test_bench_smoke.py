"""The benchmark runs and prints results; how fast things are can only be measured on a quiet machine."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent


def _figures(value: Any) -> list[float]:
    """Return all numbers of a JSON value, however deep."""
    if isinstance(value, dict):
        return [figure for inner in value.values() for figure in _figures(inner)]
    if isinstance(value, list):
        return [figure for inner in value for figure in _figures(inner)]
    return [value] if isinstance(value, int | float) else []


@pytest.mark.long
@pytest.mark.timeout(300, func_only=True)
def test_a_quick_benchmark_measures_a_herd_beside_its_ceilings(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--monitors", "500", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    report = json.loads((tmp_path / "bench.json").read_text("utf-8"))
    assert report["databases"].keys() == {"postgres", "sqlite"}
    for database in report["databases"].values():
        assert database["herd"]["checks"] == 500
        assert database["herd"]["checks_per_s"] > 0
        # A server's CPU time is counted in hundredths of a second, and may be none for so few.
        assert min(_figures(database)) >= 0
    assert report["outage"]["unavailable_per_s"] > 0
    assert [herd["concurrency"] for herd in report["distant"]] == [1, 10]
    assert report["distant"][1]["checks_per_s"] > report["distant"][0]["checks_per_s"] > 0
    watched = report["watched"]
    assert (watched["rounds"], watched["scrapers"], watched["pages"]) == (1, 100, 50)
    assert min(watched["alone_per_s"], watched["watched_per_s"], watched["watched_p99_ms"]) > 0
    assert report["settle"]["checks_per_s"] > 0
    assert [idle["concurrency"] for idle in report["idle"]] == [10]
    assert all(idle["commands_per_s"] > 0 for idle in report["idle"])
    assert report["startup"]["first_claim_ms"] > 0
    batches = report["batches"]
    here = ["postgres", "sqlite", "mongo"] if batches["absent"] else ["postgres", "mysql", "sqlite", "mongo"]
    assert [rates["kind"] for rates in batches["rates"]] == here
    assert min(_figures(batches)) > 0
    assert "herd of 500" in done.stdout
    assert (tmp_path / "bench.svg").read_text("utf-8").startswith("<svg")
