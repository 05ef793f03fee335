"""What checks cost, as measured: the coefficients of `plan`."""

from importlib.resources import files
from pathlib import Path

import msgspec
from msgspec import Struct

from peekaping_producer.errors import ConfigurationError
from peekaping_producer.timing import Timing

_BATCH = Timing().batch


class Costs(Struct, frozen=True):
    """CPU times on one core, in microseconds, and sizes in bytes."""

    measured: str
    """When and on what."""
    node_us_per_check: float
    node_us_per_batch: float
    redis_us_per_check: float
    redis_us_per_batch: float
    database_us_per_check: float
    database_us_per_batch: float
    node_us_per_swept_monitor: float
    """For the leader, each time that it compares the monitors with the schedule."""
    network_bytes_per_check: int
    """Sent to Redis, which is most of the traffic."""
    redis_bytes_scheduled: int
    """Redis' memory for a monitor in the schedule."""
    redis_bytes_pending: int
    """Redis' memory for a task in the queue, in addition."""
    node_bytes: int
    """Memory of a node without monitors."""
    node_bytes_per_monitor: int
    """In the cache, up to PRODUCER_CACHE_MB."""
    lateness_ms: float
    """How late a check is that a claim finds at once, on a node that has nothing to catch up with."""

    def node_us(self, batch: float) -> float:
        """Return a node's CPU time for a check, in batches of this size."""
        return self.node_us_per_check + self.node_us_per_batch / batch

    def redis_us(self, batch: float) -> float:
        """Return Redis' CPU time for a check, in batches of this size."""
        return self.redis_us_per_check + self.redis_us_per_batch / batch

    def database_us(self, batch: float) -> float:
        """Return the database's CPU time for a check, in batches of this size."""
        return self.database_us_per_check + self.database_us_per_batch / batch

    def most_per_s(self, nodes: int) -> float:
        """Return the checks per second that a fleet reaches, if each node and Redis have a core."""
        return min(nodes * 1e6 / self.node_us(_BATCH), 1e6 / self.redis_us(_BATCH))


class _Figure(Struct):
    median: float


class _Case(Struct):
    name: str
    figures: dict[str, _Figure]


class _Part(Struct):
    cases: list[_Case]


class _Machine(Struct):
    measured_at: str
    processor: str
    cores: int


class _Report(Struct):
    """The part that is read of the file that `make bench` writes."""

    machine: _Machine
    parts: dict[str, _Part]

    def herd_us(self) -> tuple[float, float, float]:
        """Return the CPU time per check of node, Redis and Postgres, in the first herd that ran on Postgres.

        Raises KeyError if there is none.
        """
        for case in self.parts["herd"].cases:
            if case.name.startswith("postgres"):
                node, redis, database = (case.figures[f"{name}_cpu"].median for name in ("node", "redis", "database"))
                return node, redis, database
        raise KeyError("postgres")


def shipped() -> Costs:
    """Return the coefficients that come with this version."""
    return msgspec.json.decode((files(__package__) / "costs.json").read_bytes(), type=Costs)


def calibrated(costs: Costs, report: Path) -> Costs:
    """Return the coefficients in proportion to what `make bench` measured on another machine.

    Raises ConfigurationError if the file is not such a report.
    """
    try:
        found = msgspec.json.decode(report.read_bytes(), type=_Report)
        node_us, redis_us, database_us = found.herd_us()
    except (OSError, KeyError, msgspec.DecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a report of `make bench` that includes Postgres"
        raise ConfigurationError(f"--calibrate {report}: {reason}") from None
    node = node_us / costs.node_us(_BATCH)
    redis = redis_us / costs.redis_us(_BATCH)
    database = database_us / costs.database_us(_BATCH)
    return msgspec.structs.replace(
        costs,
        measured=f"{found.machine.measured_at} on {found.machine.cores} cores of {found.machine.processor}",
        node_us_per_check=costs.node_us_per_check * node,
        node_us_per_batch=costs.node_us_per_batch * node,
        redis_us_per_check=costs.redis_us_per_check * redis,
        redis_us_per_batch=costs.redis_us_per_batch * redis,
        database_us_per_check=costs.database_us_per_check * database,
        database_us_per_batch=costs.database_us_per_batch * database,
        node_us_per_swept_monitor=costs.node_us_per_swept_monitor * node,
        lateness_ms=costs.lateness_ms * node,
    )
