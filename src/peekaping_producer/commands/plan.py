"""`plan`: what a fleet of a given size needs, and how it behaves after an outage. It connects to nothing."""

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from peekaping_producer.capacity.costs import Costs, calibrated, shipped
from peekaping_producer.capacity.picture import drawn
from peekaping_producer.capacity.simulation import HOUR_S, Simulated, fleet, simulate
from peekaping_producer.catalog.last_known import MB
from peekaping_producer.config.settings import Settings
from peekaping_producer.errors import ConfigurationError
from peekaping_producer.model.cadence import Spacing
from peekaping_producer.report.format import count, span
from peekaping_producer.timing import Timing

MOST_MONITORS = 10_000_000
_LONGEST_INTERVAL_S = 86_400
_OUTAGE_FROM_S = 600.0
_timing = Timing()
_CACHE_BYTES = Settings.model_fields["producer_cache_mb"].default * MB


class Load(Struct, frozen=True):
    """What an hour of checks looks like."""

    most_in_a_second: int
    least_in_a_second: int
    lateness_p50_ms: int
    lateness_p99_ms: int
    lateness_max_ms: int

    def text(self) -> str:
        """Return it in words."""
        late = f"p50 {self.lateness_p50_ms:,} ms, p99 {self.lateness_p99_ms:,} ms, at most {self.lateness_max_ms:,} ms"
        return f"{self.least_in_a_second:,} to {self.most_in_a_second:,} checks in a second; lateness {late}"


class CatchUp(Struct, frozen=True):
    """What follows an outage of Redis, or of all nodes."""

    outage_s: int
    caught_up_s: float
    """Seconds until no check waits for a second or longer."""
    missed: int
    """Checks that were not made: each overdue monitor is checked once."""


class Needs(Struct, frozen=True):
    """What the checks use, all nodes together. Percentages are of one core."""

    node_cpu_percent: float
    node_memory_bytes: int
    """Of each node, with a cache that holds all monitors."""
    redis_cpu_percent: float
    redis_scripts_per_s: float
    """Calls of our scripts: a claim and a settle for each batch."""
    redis_bytes_per_s: float
    redis_memory_bytes: int
    """With a task of every monitor in the queue: the most there can be."""
    database_cpu_percent: float
    database_rows_per_s: float
    """Rows of `monitors`, read for checks and for sweeps."""


class CapacityPlan(Struct, frozen=True):
    """All that `plan` reports, as `--json` prints it."""

    monitors: int
    interval_s: int
    nodes: int
    measured: str
    """Where the costs come from."""
    checks_per_s: float
    most_checks_per_s: float
    """What the nodes and Redis reach, if each has a core."""
    enough: bool
    """Whether that is more than is due."""
    spread: Load
    aligned: Load
    after_outage: CatchUp
    needs: Needs

    def text(self) -> Iterator[str]:
        """Return the lines that are printed without `--json`."""
        needs, after = self.needs, self.after_outage
        scale = count(self.monitors, "monitor", "monitors"), count(self.nodes, "node", "nodes")
        rows = {
            "due": f"{self.checks_per_s:,.0f} checks per second",
            "possible": f"{self.most_checks_per_s:,.0f}, if each node and Redis have a core",
            "spread": self.spread.text(),
            "aligned": self.aligned.text(),
            "nodes": f"{needs.node_cpu_percent} % of a core together; {_megabytes(needs.node_memory_bytes)} each",
            "Redis": f"{needs.redis_cpu_percent} % of a core, {needs.redis_scripts_per_s:,.0f} scripts and"
            f" {_megabytes(needs.redis_bytes_per_s)} per second; {_megabytes(needs.redis_memory_bytes)} at most",
            "database": f"{needs.database_cpu_percent} % of a core, {needs.database_rows_per_s:,.0f} rows per second",
            "outage": f"after {span(after.outage_s)} without Redis or nodes: {after.missed:,} checks missed, caught up"
            f" in {span(after.caught_up_s)}",
        }
        yield f"{scale[0]} every {self.interval_s} s, {scale[1]}"
        yield from (f"  {name:<9} {text}" for name, text in rows.items())
        if not self.enough:
            yield "Not possible: checks fall behind. Use longer intervals, or more nodes if Redis is not the limit."
        yield f"Costs measured {self.measured}."


def plan(
    monitors: int, interval_s: int, nodes: int, outage_s: int, calibrate: Path | None, picture: Path | None
) -> CapacityPlan:
    """Simulate an hour of such a fleet, and draw it if asked. Raises ConfigurationError for impossible values."""
    _check("--monitors", monitors, 1, MOST_MONITORS)
    _check("--interval", interval_s, 1, _LONGEST_INTERVAL_S)
    _check("--nodes", nodes, 1, 100)
    _check("--outage", outage_s, 0, HOUR_S // 2)
    costs = calibrated(shipped(), calibrate) if calibrate else shipped()
    most_per_s = costs.most_per_s(nodes)
    spread_groups = fleet(monitors, interval_s, Spacing.SPREAD)
    spread = simulate(spread_groups, most_per_s, HOUR_S)
    aligned = simulate(fleet(monitors, interval_s, Spacing.ALIGNED), most_per_s, HOUR_S)
    outage = simulate(spread_groups, most_per_s, HOUR_S, (_OUTAGE_FROM_S, _OUTAGE_FROM_S + outage_s))
    if picture:
        _write(picture, drawn(monitors, interval_s, spread, aligned, outage))
    checks_per_s = monitors / interval_s
    return CapacityPlan(
        monitors,
        interval_s,
        nodes,
        costs.measured,
        checks_per_s,
        most_per_s,
        checks_per_s < most_per_s,
        _load(spread, costs, interval_s, _batches(checks_per_s / nodes)[1]),
        _load(aligned, costs, interval_s, 0),
        CatchUp(outage_s, round(outage.caught_up_s, 1), outage.missed),
        _needs(monitors, interval_s, nodes, costs),
    )


def _check(option: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ConfigurationError(f"{option} {value}: must be {least:,} to {most:,}")


def _write(picture: Path, svg: str) -> None:
    try:
        picture.write_text(svg, "utf-8")
    except OSError as error:
        raise ConfigurationError(f"--picture {picture}: {error.strerror}") from None


def _batches(due_per_s: float) -> tuple[float, float]:
    """Return how many monitors a node's claims find, and the seconds between two claims; 0 for full batches."""
    spacing_s = _timing.claim_spacing_s(due_per_s, within_s=1)
    found = due_per_s * spacing_s
    return (_timing.batch, 0.0) if found >= _timing.batch else (max(1.0, found), spacing_s)


def _load(simulated: Simulated, costs: Costs, interval_s: int, claims_every_s: float) -> Load:
    """Return the load after the first interval, in which the simulation begins."""
    steady = simulated.checks_per_second[min(interval_s, HOUR_S // 2) :]

    def late_ms(percent: float) -> int:
        # A check becomes due anywhere between two claims.
        return simulated.percentile_ms(percent) + round(costs.lateness_ms + claims_every_s * 1000 * percent / 100)

    return Load(max(steady), min(steady), late_ms(50), late_ms(99), late_ms(100))


def _needs(monitors: int, interval_s: int, nodes: int, costs: Costs) -> Needs:
    checks_per_s = monitors / interval_s
    batch, _ = _batches(checks_per_s / nodes)
    sweep_s = monitors * costs.node_us_per_swept_monitor / 1e6
    swept_per_s = monitors / max(_timing.sweep_every_s, _timing.share * sweep_s)
    return Needs(
        _percent(checks_per_s * costs.node_us(batch) + swept_per_s * costs.node_us_per_swept_monitor),
        costs.node_bytes + min(monitors * costs.node_bytes_per_monitor, _CACHE_BYTES),
        _percent(checks_per_s * costs.redis_us(batch)),
        round(2 * checks_per_s / batch, 1),
        round(checks_per_s * costs.network_bytes_per_check),
        monitors * (costs.redis_bytes_scheduled + costs.redis_bytes_pending),
        _percent(checks_per_s * costs.database_us(batch)),
        # A sweep reads each row, and then whether each monitor in the schedule still has one.
        round(checks_per_s + 2 * swept_per_s, 1),
    )


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 1e7 else f"{size / 1e6:,.0f} MB"  # noqa: PLR2004 - one decimal below ten


def _percent(us_per_s: float) -> float:
    return round(us_per_s / 1e4, 1)
