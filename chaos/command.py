"""The command `python -m chaos`: what it takes, and where it writes."""

import argparse
import os
import random
import shutil
import sys
from collections.abc import Sequence
from typing import Final

import msgspec

from chaos import ROOT
from chaos.database import NAMES, available
from chaos.judge import judge
from chaos.overload import run_overload
from chaos.plan import make_plan
from chaos.report import Report, as_json, as_picture, as_text
from chaos.run import run
from chaos.soak import MINUTES, MONITORS, run_soak
from support.redis_clock import LIBRARY

OUT: Final = ROOT / "build" / "chaos"
SECONDS: Final = 60.0
_SEEDS: Final = 10_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit code: 0, 1 if a limit was not met, 2 if something that it needs is missing."""
    options = _options(arguments)
    problem = _missing(options.db)
    if problem:
        sys.stderr.write(f"chaos: {problem}\n")
        return 2
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(_SEEDS)
    databases = available()
    database: str = options.db or databases[seed % len(databases)]
    if options.overload:
        overload = run_overload(database, OUT / f"{database}-overload")
        return _finish(f"{database}-overload", overload.lines, overload.failures)
    if options.soak:
        name = f"{database}-soak"
        soak = run_soak(database, seed, options.minutes or MINUTES, options.monitors, OUT / name)
        (OUT / f"{name}.json").write_bytes(msgspec.json.encode(soak))
        return _finish(name, soak.lines, soak.failures)
    return _storm(database, seed, options.minutes, only_plan=options.plan)


def _storm(database: str, seed: int, minutes: float | None, *, only_plan: bool) -> int:
    seconds = minutes * 60 if minutes else SECONDS
    plan = make_plan(seed, seconds, database)
    replay = f"make chaos ARGS='{f'--minutes {minutes:g} ' if minutes else ''}--seed {seed} --db {database}'"
    for fault in plan:
        sys.stdout.write(f"{fault.at_s:6.1f} s  {fault}\n")
    sys.stdout.write(f"to repeat: {replay}\n")
    if LIBRARY is None:
        sys.stdout.write("libfaketime is missing: Redis' clock is not stepped\n")
    if only_plan:
        return 0
    name = f"{database}-{seed}"
    evidence = run(database, plan, seconds, OUT / name)
    report = Report(database, seed, seconds, replay, judge(evidence), evidence)
    for suffix, content in (("json", as_json(report)), ("svg", as_picture(report))):
        (OUT / f"{name}.{suffix}").write_text(content, "utf-8")
    return _finish(name, [as_text(report)], (), passed=report.passed)


def _finish(name: str, lines: Sequence[str], failures: Sequence[str], *, passed: bool = True) -> int:
    """Write and print the text; return the exit code."""
    text = "\n".join([*lines, *failures, *(["LIMITS WERE NOT MET"] if failures else []), ""])
    (OUT / f"{name}.txt").write_text(text, "utf-8")
    sys.stdout.write(f"\n{text}written to {OUT / name}.*\n")
    return 0 if passed and not failures else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m chaos", description="Break a fleet, and judge what its worker saw."
    )
    parser.add_argument("--minutes", type=float, help=f"how long; default: 60 seconds, with --soak {MINUTES:g} minutes")
    parser.add_argument("--seed", type=int, help="which faults; random unless given")
    parser.add_argument("--db", choices=NAMES, help="which database; by the seed unless given")
    parser.add_argument(
        "--overload", action="store_true", help="instead, test workers that cannot keep up; two minutes"
    )
    parser.add_argument(
        "--soak", action="store_true", help=f"instead, watch the memory over {MINUTES:g} minutes of slow chaos"
    )
    parser.add_argument("--monitors", type=int, default=MONITORS, help=f"how many a soak has ({MONITORS:,})")
    parser.add_argument("--plan", action="store_true", help="only print what would be broken, and when")
    return parser.parse_args(arguments)


def _missing(database: str | None) -> str | None:
    """Return what is missing here, and what to do."""
    if shutil.which("go") is None:
        return "Go is not installed: the worker is a real asynq server (tests/interop/asynqpeer)"
    if database and database not in available():
        return f"{database} is not available here: CONTRIBUTING.md says what to install"
    if LIBRARY is None and os.environ.get("CI"):
        return "libfaketime is missing: apt-get install libfaketime"
    return None
