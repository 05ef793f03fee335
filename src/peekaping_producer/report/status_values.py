"""What `status` reports, as `--json` prints it; docs/commands.md describes every field."""

from typing import Any

from msgspec import Struct

from peekaping_producer.asynq.queue import QueueState
from peekaping_producer.observe.history import Recent
from peekaping_producer.redisdb.memory import Memory


class NodeStatus(Struct, frozen=True):
    """One node."""

    id: str
    version: str
    started: str
    """RFC 3339, UTC, like all instants."""
    last_seen: str
    seen_ago_s: float
    gone: bool
    """It has not registered for 9 s: it was killed, or is cut off from Redis. Listed for an hour."""
    leads: bool
    concurrency: int
    checks: int
    """Tasks it has put into the queue since its start."""
    lateness_p50_ms: int | None
    """Of the last minute or less; null if there was no check."""
    lateness_p99_ms: int | None
    database_problem: str | None
    """Why its database is unavailable; null if it is not."""
    checks_from_cache: int
    """Checks served from the cache since the database became unavailable."""
    cache_age_s: float
    """The age of the oldest cache entry used for them."""
    last_sweep: dict[str, Any] | None
    """The result of its last sweep as leader."""
    claimed_ago_s: float | None
    """How long before that Redis last answered one of its claims; null if it never did."""
    database_down_s: float
    """For how long its database has been unavailable; 0 if it is not."""
    recent: Recent
    """What it did in the last minutes."""


class InactiveNode(Struct, frozen=True):
    """A node that makes no checks: it waits for its database, or has stopped recently."""

    id: str
    seen_ago_s: float
    database_problem: str | None
    """Why it waits for its database, which has not answered since its start; null if it has stopped."""
    database_down_s: float
    recent: Recent
    """What it did in the minutes before it stopped."""


class OverdueMonitor(Struct, frozen=True):
    """A monitor that should have been checked by now."""

    monitor_id: str
    name: str | None
    overdue_ms: int


class Overdue(Struct, frozen=True):
    """The monitors that should have been checked by now."""

    count: int
    """Overdue for more than 10 s; while no producer runs, by any amount. The time of a pause does not count."""
    longest_ms: int
    """How long the longest overdue monitor has been due; 0 if none is."""
    monitors: list[OverdueMonitor]
    """The first of them."""


class InvalidMonitor(Struct, frozen=True):
    """A monitor that is not checked, because its row is invalid."""

    monitor_id: str
    name: str | None
    reason: str


class Invalid(Struct, frozen=True):
    """The monitors that are skipped as invalid."""

    count: int
    """1000 means 1000 or more."""
    monitors: list[InvalidMonitor]
    """Some of them."""


class NextRun(Struct, frozen=True):
    """A monitor that is due next."""

    monitor_id: str
    name: str | None
    due: str
    in_s: float
    """Negative if it is overdue."""


class PauseStatus(Struct, frozen=True):
    """A pause of all checks."""

    since: str
    until: str
    """When it ends by itself."""
    left_s: float
    reason: str
    by: str
    """Who paused checks, or last set the end."""


class Status(Struct, frozen=True):
    """All that `status` reports."""

    at: str
    """By Redis' clock."""
    running: bool
    """Whether a producer runs at all, ours or Go's."""
    trouble: list[str]
    """What is wrong, in words; if there is any, the exit code is 1."""
    pause: PauseStatus | None
    """null if checks are not paused."""
    overdue: Overdue
    nodes: list[NodeStatus]
    inactive_nodes: list[InactiveNode]
    """Those that wait for their database at their start, and those that have stopped in the last 16 minutes."""
    leader: str | None
    leader_is_go: bool
    spacing: str
    """Of nodes with PRODUCER_SCHEDULE=auto: `spread` or `aligned`."""
    scheduled: int
    """Monitors in the schedule."""
    claimed: int
    """How many of them a node is handling right now."""
    invalid: Invalid
    queue: QueueState
    memory: Memory | None
    """Of Redis; null if this user may not read it."""
    next_runs: list[NextRun]
    names_problem: str | None
    """Why names are not known; null if they are."""
