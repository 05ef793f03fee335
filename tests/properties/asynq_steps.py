"""What asynq's servers do to the queue, one step at a time."""

from collections.abc import Sequence
from typing import cast

from redis import Redis

from peekaping_producer.asynq import keys as asynq
from peekaping_producer.asynq.message import task_id
from peekaping_producer.model.monitor import MonitorId
from properties.redis_state import WAITING
from support.asynq_states import GROUP_NAME, WORKER

ENDS = ("done", "requeued", *WAITING)
"""How a task may end."""
_LEASE_S = 30
_ALIVE_S = 5
_LONG_DEAD_S = 3
_OTHER = "other"


def take(redis: Redis, now_ms: int) -> None:
    """Take the oldest task, with a lease."""
    found = cast("bytes | None", redis.rpoplpush(asynq.PENDING, asynq.ACTIVE))
    if not found:
        return
    task = found.decode()
    key = asynq.TASK + task
    if redis.type(key) == b"hash" and redis.hexists(key, "msg"):
        redis.hset(key, "state", "active")
        redis.hdel(key, "pending_since")
        redis.zadd(asynq.LEASE, {task: now_ms // 1000 + _LEASE_S})
    else:
        redis.lrem(asynq.ACTIVE, 0, task)


def end(redis: Redis, id_: MonitorId, how: str, now_ms: int) -> None:
    """End a running task, or put it back."""
    key, task = asynq.TASK + task_id(id_), task_id(id_)
    redis.lrem(asynq.ACTIVE, 0, task)
    redis.zrem(asynq.LEASE, task)
    if how == "done":
        redis.delete(key)
    elif how == "requeued":
        redis.rpush(asynq.PENDING, task)
        redis.hset(key, "state", "pending")
    else:
        redis.zadd(WAITING[how], {task: now_ms // 1000})
        redis.hset(key, mapping={"state": how, "group": GROUP_NAME})


def die(redis: Redis, running: Sequence[MonitorId], now_ms: int) -> None:
    """Leave running tasks as a worker does that died a while ago."""
    redis.delete(WORKER)
    if running:
        redis.zadd(asynq.LEASE, {task_id(id_): now_ms // 1000 - _LONG_DEAD_S for id_ in running})


def damage_workers(redis: Redis) -> None:
    """Put something else where the workers say what they run."""
    redis.delete(asynq.WORKERS)
    redis.set(asynq.WORKERS, "no sorted set")


def renew(redis: Redis, running: Sequence[MonitorId], now_ms: int) -> None:
    """Say which tasks run, and extend their leases."""
    redis.delete(asynq.WORKERS, WORKER)
    if running:
        redis.zadd(asynq.WORKERS, {WORKER: now_ms // 1000 + _ALIVE_S})
        redis.hset(WORKER, mapping={task_id(id_): "" for id_ in running})
        redis.pexpire(WORKER, _ALIVE_S * 1000)
        redis.zadd(asynq.LEASE, {task_id(id_): now_ms // 1000 + _LEASE_S for id_ in running})


def forward(redis: Redis) -> None:
    """Put what waits for a later time back into the queue."""
    for key in (asynq.RETRY, asynq.SCHEDULED):
        for task in _names(redis.zrange(key, 0, -1)):
            redis.zrem(key, task)
            if redis.type(asynq.TASK + task) == b"hash":
                redis.lpush(asynq.PENDING, task)
                redis.hset(asynq.TASK + task, "state", "pending")


def fill(redis: Redis, count: int, now_ms: int) -> None:
    """Let this many tasks of others wait."""
    for task in _names(redis.lrange(asynq.PENDING, 0, -1)):
        if _OTHER in task:
            redis.lrem(asynq.PENDING, 0, task)
            redis.delete(asynq.TASK + task)
    for n in range(count):
        task = task_id(MonitorId(f"{_OTHER}-{n}"))
        redis.hset(
            asynq.TASK + task, mapping={"msg": "of others", "state": "pending", "pending_since": now_ms * 1_000_000}
        )
        redis.lpush(asynq.PENDING, task)


def _names(members: object) -> list[str]:
    return [name.decode() for name in cast("list[bytes]", members)]
