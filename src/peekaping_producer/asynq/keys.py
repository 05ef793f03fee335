"""The asynq keys in Redis that the producer uses, defined only here (asynq `internal/base`)."""

QUEUE = "healthcheck"
QUEUES = "asynq:queues"
WORKERS = "asynq:workers"
SERVERS = "asynq:servers"

_PREFIX = f"asynq:{{{QUEUE}}}:"

PENDING = f"{_PREFIX}pending"
ACTIVE = f"{_PREFIX}active"
LEASE = f"{_PREFIX}lease"
SCHEDULED = f"{_PREFIX}scheduled"
RETRY = f"{_PREFIX}retry"
ARCHIVED = f"{_PREFIX}archived"
COMPLETED = f"{_PREFIX}completed"
PAUSED = f"{_PREFIX}paused"
GROUP = f"{_PREFIX}g:"
"""Followed by a group's name: the ZSET of its tasks (state `aggregating`)."""
TASK = f"{_PREFIX}t:"
"""Followed by a task's id: its HASH."""

TYPES = {
    QUEUES: "set",
    PENDING: "list",
    ACTIVE: "list",
    LEASE: "zset",
    SCHEDULED: "zset",
    RETRY: "zset",
    ARCHIVED: "zset",
    COMPLETED: "zset",
    WORKERS: "zset",
}
"""The types of the keys that settle needs, by the names that TYPE returns."""
