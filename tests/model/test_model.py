"""Checks the model of the schedule exhaustively with spin, and that it fails when any one fence is removed.

docs/reliability.md describes the model. Only `make model` runs these tests; they need spin and gcc.
"""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]
FLEET = Path(__file__).parent / "fleet.pml"
CONFIGURATIONS = {
    "claims": "PERIOD=4 BOUND=5 DISPATCHERS=2 LEADERS=1 EVENTS WORKER RUN_NOW",
    "cache": "PERIOD=2 BOUND=4 DISPATCHERS=2 LEADERS=1 EVENTS RUN_NOW OUTAGES=1 ONE_READ",
    "readers": "PERIOD=2 BOUND=7 DISPATCHERS=1 LEADERS=1 EVENTS SWEEPS TERMS EARLY_EVENTS UNREADABLE OUTAGES=0",
    "leaders": "PERIOD=2 BOUND=7 DISPATCHERS=1 LEADERS=2 EVENTS SWEEPS TERMS ONE_READ",
    "handover": "PERIOD=2 BOUND=7 DISPATCHERS=1 LEADERS=2 SWEEPS TERMS ONE_READ OUTAGES=1",
    "loss": "PERIOD=2 BOUND=7 DISPATCHERS=1 LEADERS=1 SWEEPS TERMS ONE_READ LOSS BACKUP",
    "loss events": "PERIOD=2 BOUND=7 DISPATCHERS=1 LEADERS=1 EVENTS SWEEPS TERMS ONE_READ LOSS",
    "go": "PERIOD=2 BOUND=7 DISPATCHERS=1 LEADERS=1 EVENTS SWEEPS WORKER ONE_READ GO",
    "go claims": "PERIOD=2 BOUND=7 DISPATCHERS=2 LEADERS=1 SWEEPS ONE_READ GO",
    "go leaders": "PERIOD=2 BOUND=7 DISPATCHERS=1 LEADERS=2 SWEEPS TERMS ONE_READ GO",
}
"""What there is besides the API server, reclaim and the clock. The next check comes within BOUND ticks of calm."""
LONG = {"claims", "readers", "leaders"}
"""These begin early, so that two processes take the same time."""
NOT_TWICE = "!(spent[me])"
NOT_DELETED = "!(handled)||wanted"
NOT_OUTDATED = "!(old[me])"
NOT_LOST = "(due!=7)||(lease!=7)"
NOT_LOST_FOR_EVER = "!(wanted)"
ONE_LEADER = "last_taker==me"


def checked(folder: Path, flags: Sequence[str]) -> str:
    """Run spin on the model, compile the checker that it writes, and return what that reports."""
    for command in (
        ["spin", "-a", *(f"-D{flag}" for flag in flags), str(FLEET)],
        ["gcc", "-O2", "-w", "-DNOREDUCE", "-DMEMLIM=6000", "-o", "pan", "pan.c"],
        # Acceptance cycles too, for `ltl time_passes`; a depth that no configuration reaches.
        ["./pan", "-a", "-m4000000"],
    ):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in LONG else []) for name in CONFIGURATIONS]
)
def test_the_model_keeps_every_property(name: str, tmp_path: Path) -> None:
    report = checked(tmp_path, CONFIGURATIONS[name].split())
    assert "Full statespace search" in report
    assert "errors: 0" in report, report
    assert "error:" not in report, report  # for example: max search depth too small
    assert "not completed" not in report, report
    unreached = re.findall(r'^\s+\S*\.pml:\d+, state \d+, (?!"-end-").*', report, re.MULTILINE)
    assert unreached == []


@pytest.mark.parametrize(
    ("without", "name", "violated"),
    [
        ("NO_TOKEN", "claims", NOT_TWICE),
        ("NO_LEADER", "leaders", ONE_LEADER),
        ("NO_LEADER ANY_LEADER", "leaders", NOT_LOST),
        ("NO_TOMBSTONE", "cache", NOT_DELETED),
        ("NO_REVOKE", "claims", NOT_OUTDATED),
        ("NO_LATER_READ", "readers", NOT_LOST),
        ("NO_RECLAIM", "claims", NOT_LOST_FOR_EVER),
    ],
)
def test_without_a_fence_the_model_finds_a_violation(without: str, name: str, violated: str, tmp_path: Path) -> None:
    report = checked(tmp_path, [*CONFIGURATIONS[name].split(), *without.split()])
    found = re.search(r"assertion violated (.*) \(at depth", report)
    assert found is not None, report
    assert violated in found[1]
