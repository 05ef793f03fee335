"""The results, as a value, a table, and a plot."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

import psutil
from msgspec import Struct

from benchmarks.ceiling import SettleCeiling
from benchmarks.clients import WatchedHerd
from benchmarks.distance import ADDED_MS, DistantHerd
from benchmarks.herd import Herd
from benchmarks.idle import Idle
from benchmarks.outage import OutageHerd
from benchmarks.reading import BATCH, Batches
from benchmarks.rows import RowsRead
from benchmarks.startup import Startup
from benchmarks.sweep import SweepCost
from peekaping_producer import __version__


class Machine(Struct, frozen=True):
    """Where it was measured."""

    measured_at: str
    version: str
    python: str
    system: str
    processor: str
    cores: int
    load_before: float
    """Of the last minute; figures of a busy machine say little."""


class DatabaseReport(Struct, frozen=True):
    """A herd, compared with its limits."""

    herd: Herd
    rows: RowsRead
    herd_to_settle: float
    """The herd's rate as a share of what the settle script alone reaches."""
    herd_to_rows: float
    """And as a share of what reading the rows alone reaches."""


class Report(Struct, frozen=True):
    """Everything of one run."""

    machine: Machine
    settle: SettleCeiling
    databases: dict[str, DatabaseReport]
    idle: list[Idle]
    startup: Startup
    sweep: SweepCost
    outage: OutageHerd
    batches: Batches
    distant: list[DistantHerd]
    watched: WatchedHerd


def machine() -> Machine:
    """Describe this machine."""
    return Machine(
        datetime.now(UTC).isoformat(timespec="seconds"),
        __version__,
        platform.python_version(),
        f"{platform.system()} {platform.release()} {platform.machine()}",
        _processor(),
        psutil.cpu_count() or 1,
        round(os.getloadavg()[0], 2),
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - no path of ours
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor()


def database_report(herd: Herd, rows: RowsRead, settle: SettleCeiling) -> DatabaseReport:
    """Compare a herd with its limits."""
    return DatabaseReport(herd, rows, herd.checks_per_s / settle.checks_per_s, herd.checks_per_s / rows.catalog_per_s)


Line = tuple[str, str, str]
"""What, how much, and what it should be."""


def lines(report: Report) -> list[Line]:
    """Return the table."""
    host, client = report.machine, "C" if report.settle.client == "c" else "Python (no cc here)"
    table: list[Line] = [
        (f"load of the machine before, {host.cores} cores", f"{host.load_before:.2f}", "< 0.5, to compare"),
        (f"settle script alone, driven from {client}", _rate(report.settle.checks_per_s), ""),
    ]
    for kind, one in report.databases.items():
        table += _herd_lines(kind, one)
    table += _outage_lines(report.outage)
    table += _distant_lines(report.distant)
    table += _watched_lines(report.watched)
    table += _batch_lines(report.batches)
    for idle in report.idle:
        where = f"idle, concurrency {idle.concurrency}"
        table.append((f"{where}: commands sent to Redis", f"{idle.commands_per_s:.1f} /s", "≤ 5"))
        table.append((f"{where}: CPU", f"{idle.cpu_percent_of_core:.2f} % of a core", "< 1"))
    table += _sweep_lines(report.sweep, report.idle[0].peak_memory_bytes)
    table.append(("start to first claim", f"{report.startup.first_claim_ms:.0f} ms", "≤ 800"))
    table.append(("  of which imports (by importtime)", f"{report.startup.import_ms:.0f} ms", ""))
    return table


def _sweep_lines(sweep: SweepCost, idle_memory_bytes: int) -> list[Line]:
    more = sweep.peak_memory_bytes - idle_memory_bytes
    return [
        (f"sweep of {sweep.monitors:,}, nothing to change", f"{sweep.nothing_to_change_s:.1f} s", ""),
        ("  CPU of the leader", f"{sweep.nothing_to_change_cpu_s:.1f} s", "≤ 5"),
        ("  schedule rebuilt after a flush", f"{sweep.rebuilt_s:.1f} s", "≤ 10"),
        ("  more memory than an idle node's", f"{more / 1e6:.0f} MB", "≤ 100"),
    ]


def _outage_lines(outage: OutageHerd) -> list[Line]:
    return [
        (f"herd of {outage.checks:,}, postgres unavailable", _rate(outage.unavailable_per_s), ""),
        ("  CPU of the producer", f"{outage.unavailable_cpu_us_per_check:.0f} µs a check", ""),
        (
            "  ÷ the herd with postgres",
            f"{outage.unavailable_per_s / outage.available_per_s:.0%}",
            "≥ 100 %",
        ),
    ]


def _distant_lines(herds: list[DistantHerd]) -> list[Line]:
    return [
        (
            f"postgres + {ADDED_MS} ms latency, herd of {herd.checks:,}, PRODUCER_CONCURRENCY={herd.concurrency}",
            f"{_rate(herd.checks_per_s)}",
            f"{herd.connections} connections",
        )
        for herd in herds
    ]


def _watched_lines(watched: WatchedHerd) -> list[Line]:
    pages = f"{watched.pages} open pages" if watched.page_exists else f"{watched.pages} clients of /livez"
    later_ms = watched.watched_p99_ms - watched.alone_p99_ms
    return [
        (f"postgres, {watched.scrapers} scrapers and {pages}, herd", _rate(watched.watched_per_s), ""),
        ("  ÷ the same without them", f"{watched.watched_per_s / watched.alone_per_s:.1%}", "> 97 %"),
        (
            f"  lateness p99 at {watched.steady_per_s:,.0f} checks/s, more than without",
            f"{later_ms:+.1f} ms (from {watched.alone_p99_ms:.1f})",
            "< 5 ms",
        ),
        ("  CPU of the clients themselves", f"{watched.clients_cpu_percent_of_core:.1f} % of a core", ""),
    ]


def _batch_lines(batches: Batches) -> list[Line]:
    table: list[Line] = []
    for one in batches.rates:
        what = f"{one.kind}: batches of {BATCH} with a proxy and a maintenance each"
        table.append((what, _rate(one.catalog_per_s), ""))
        table.append(("  ÷ bare driver", f"{one.catalog_per_s / one.driver_per_s:.0%}", "≥ 50 %"))
    if batches.absent:
        table.append((batches.absent, "-", ""))
    newest = batches.newest
    what = f"newest heartbeats of {newest.monitors} among {newest.heartbeats:,}"
    table.append((what, f"{newest.ms:.0f} ms", "≤ 50"))
    return table


def _herd_lines(kind: str, one: DatabaseReport) -> list[Line]:
    herd, postgres = one.herd, kind == "postgres"
    table: list[Line] = [
        (f"{kind}: herd of {herd.checks:,}, settled", _rate(herd.checks_per_s), "≥ 15,000" if postgres else ""),
        ("  CPU of the producer", f"{herd.producer_cpu_us_per_check:.0f} µs a check", "≤ 60" if postgres else ""),
        ("  CPU of Redis", f"{herd.redis_cpu_us_per_check:.0f} µs a check", ""),
    ]
    if herd.database_cpu_us_per_check is not None:
        table.append(("  CPU of the database", f"{herd.database_cpu_us_per_check:.0f} µs a check", ""))
    return [
        *table,
        ("  peak memory of the producer", f"{herd.peak_memory_bytes / 1e6:.0f} MB", ""),
        ("  commands sent to Redis", f"{herd.redis_commands_per_check:.4f} a check", ""),
        ("  reading the rows alone, catalog", _rate(one.rows.catalog_per_s), ""),
        ("  reading the rows alone, bare driver", _rate(one.rows.driver_per_s), ""),
        ("  herd ÷ settle alone", f"{one.herd_to_settle:.0%}", ""),
        ("  herd ÷ rows alone", f"{one.herd_to_rows:.0%}", ""),
    ]


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f} /s"


def as_text(table: Sequence[Line]) -> str:
    """Lay the table out in columns."""
    width = max(len(what) for what, _, _ in table)
    wide = max(len(value) for _, value, _ in table)
    return "\n".join(f"{what:{width}}  {value:>{wide}}  {target}".rstrip() for what, value, target in table)


BAR, GAP, LEFT, WIDTH = 22, 10, 270, 780
"""Pixels: a bar's height, the gap below it, the space for names, and the whole."""
LONGEST = WIDTH - LEFT - 90
"""The longest bar leaves room for its figure."""


def as_plot(report: Report) -> str:
    """Draw the rates as bars in an SVG, the herds next to their limits."""
    bars = [("settle script alone", report.settle.checks_per_s, "#9aa5b1")]
    for kind, one in report.databases.items():
        bars.append((f"{kind}: rows alone, bare driver", one.rows.driver_per_s, "#9aa5b1"))
        bars.append((f"{kind}: rows alone, catalog", one.rows.catalog_per_s, "#9aa5b1"))
        bars.append((f"{kind}: herd, settled checks", one.herd.checks_per_s, "#2f6fde"))
    most = max(value for _, value, _ in bars)
    drawn = []
    for number, (name, value, colour) in enumerate(bars):
        top, length = 40 + number * (BAR + GAP), max(1, LONGEST * value / most)
        middle = top + BAR / 2 + 4
        drawn.append(
            f'<text x="{LEFT - 10}" y="{middle}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{LEFT}" y="{top}" width="{length:.0f}" height="{BAR}" fill="{colour}"/>'
            f'<text x="{LEFT + length + 8:.0f}" y="{middle}">{value:,.0f}</text>'
        )
    height = 50 + len(bars) * (BAR + GAP)
    title = escape(f"per second, on {report.machine.cores} cores shared with Redis and the database")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="#fff"/><text x="{LEFT}" y="24">{title}</text>'
        f"{''.join(drawn)}</svg>\n"
    )
