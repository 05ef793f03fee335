"""`python -m benchmarks`: measure everything, print the table, write the JSON file and the plot."""

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.ceiling import SettleCeiling, measure_rows, measure_settle
from benchmarks.clients import WatchedHerd, measure_watched
from benchmarks.database import Database, postgres_database, sqlite_database
from benchmarks.distance import DistantHerd, measure_distant
from benchmarks.flame import HOW_TO_INSTALL, record_flame
from benchmarks.herd import Herd, measure_herd
from benchmarks.idle import Idle, measure_idle
from benchmarks.outage import OutageHerd, measure_outage
from benchmarks.reading import measure_batches
from benchmarks.report import Report, as_plot, as_text, database_report, lines, machine
from benchmarks.rows import RowsRead
from benchmarks.startup import Startup, measure_startup
from benchmarks.sweep import measure_sweep

OUT = Path(__file__).parent / "out"
INTERVAL_S = 3_600
FAR_INTERVAL_S = 1_000_000_000
"""Monitors of an idle producer: due in years."""
IDLE_MONITORS = 100
KINDS: Final[dict[str, Callable[[int, int], AbstractContextManager[Database]]]] = {
    "postgres": postgres_database,
    "sqlite": sqlite_database,
}


class Size(msgspec.Struct, frozen=True):
    """How much is measured."""

    monitors: int = 20_000
    rounds: int = 3
    """Herds for each database; the one with the median rate is reported."""
    idle_s: float = 10
    starts: int = 5
    swept: int = 100_000
    """Monitors of the sweep."""
    readings: int = 60
    """Of one batch, on each kind of database."""
    heartbeats: int = 1_000_000
    """Among which the newest are found."""
    distant: tuple[int, ...] = (1, 4, 10, 32)
    """Values of PRODUCER_CONCURRENCY with a distant database."""
    idle: tuple[int, ...] = (10, 128)
    """Values of PRODUCER_CONCURRENCY of an idle producer."""
    watched: int = 6
    """Rounds of two herds, one of them with clients."""
    steady_s: float = 5
    """How long the load lasts by which the lateness is measured, in each turn."""


QUICK = Size(
    2_000,
    rounds=1,
    idle_s=1,
    starts=1,
    swept=2_000,
    readings=2,
    heartbeats=10_000,
    distant=(1, 10),
    idle=(10,),
    watched=1,
    steady_s=0.5,
)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small herd, once: shows that it runs, not how fast")
    parser.add_argument("--monitors", type=int, help=f"monitors in the herd (default {Size().monitors:,})")
    parser.add_argument("--profile", action="store_true", help="also a flame graph of each herd (needs py-spy)")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for bench.json, bench.svg and flame graphs")
    options = parser.parse_args()
    size = QUICK if options.quick else Size()
    if options.monitors:
        size = msgspec.structs.replace(size, monitors=options.monitors)
    options.out.mkdir(parents=True, exist_ok=True)

    report = measure(size, options.out if options.profile else None)
    print(as_text(lines(report)))
    for name, content in (("bench.json", _json(report)), ("bench.svg", as_plot(report))):
        (options.out / name).write_text(content, "utf-8")
        print(f"wrote {options.out / name}")


def measure(size: Size, flames: Path | None) -> Report:
    """Measure all; flame graphs go into the folder `flames`."""
    where = machine()
    herds: dict[str, tuple[Herd, RowsRead]] = {}
    settle: SettleCeiling | None = None
    outage: OutageHerd | None = None
    distant: list[DistantHerd] = []
    watched: WatchedHerd | None = None
    for kind, database_of in KINDS.items():
        with database_of(size.monitors, INTERVAL_S) as database:
            settle = settle or measure_settle(database)
            rounds = sorted((measure_herd(database) for _ in range(size.rounds)), key=lambda herd: herd.checks_per_s)
            herds[kind] = rounds[len(rounds) // 2], measure_rows(database)
            if kind == "postgres":
                outage = measure_outage(database)
                distant = measure_distant(database, size.distant)
                watched = measure_watched(database, size.watched, size.steady_s)
            if flames:
                print(record_flame(database, flames) or HOW_TO_INSTALL)
    assert settle is not None
    assert outage is not None
    assert watched is not None
    databases = {kind: database_report(herd, rows, settle) for kind, (herd, rows) in herds.items()}
    with postgres_database(size.swept, FAR_INTERVAL_S) as database:
        sweep = measure_sweep(database)
    batches = measure_batches(size.readings, size.heartbeats)
    return Report(where, settle, databases, *_at_rest(size), sweep, outage, batches, distant, watched)


def _at_rest(size: Size) -> tuple[list[Idle], Startup]:
    with postgres_database(IDLE_MONITORS, FAR_INTERVAL_S) as database:
        startup = measure_startup(database, size.starts)
        return [measure_idle(database, concurrency, size.idle_s) for concurrency in size.idle], startup


def _json(report: Report) -> str:
    return msgspec.json.format(msgspec.json.encode(report).decode(), indent=2) + "\n"


if __name__ == "__main__":
    main()
