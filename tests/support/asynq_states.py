"""Earlier tasks in every state that asynq 0.26 leaves in Redis, and broken ones, put there without asynq.

A test holds these shapes beside those that the real asynq writes.
"""

import time
from typing import Literal

from msgspec import Struct
from redis.asyncio import Redis

from peekaping_producer.asynq import keys
from peekaping_producer.asynq.message import encode_task, task_id
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.redisdb.keys import DUE, LEASE

GROUP_NAME = "night"
GROUPS = f"asynq:{{{keys.QUEUE}}}:groups"
WORKER = "asynq:workers:{host:4711:0d0f6a0e}"
"""One worker process's hash, as asynq names it."""
EARLIER_NS = b"1700000000123456000"
"""The `pending_since` of every task that waits here."""

InSet = Literal["scheduled", "retry", "archived", "completed"]
Malformation = Literal["no msg", "empty msg", "no state", "unknown state", "string", "list", "set", "zset"]

_LISTS = {"pending": keys.PENDING, "active": keys.ACTIVE}
_SETS = {
    "lease": keys.LEASE,
    "scheduled": keys.SCHEDULED,
    "retry": keys.RETRY,
    "archived": keys.ARCHIVED,
    "completed": keys.COMPLETED,
    "group": keys.GROUP + GROUP_NAME,
}


class RedisState(Struct, frozen=True):
    """All that Redis holds about one monitor."""

    task: dict[bytes, bytes]
    """Its task's hash; empty if there is none."""
    places: list[str]
    """Every list and set of asynq's that holds the task, once for each time it does."""
    due_ms: float | None
    lease_ms: float | None


def earlier_message(monitor: MonitorId) -> bytes:
    """Return the message of the task that is found there."""
    return encode_task(monitor, 20, b'{"which": "earlier"}')


def fresh_message(monitor: MonitorId) -> bytes:
    """Return the message that a settle puts in place."""
    return encode_task(monitor, 20, b'{"which": "fresh"}')


def task_key(monitor: MonitorId) -> str:
    """Return the key of a monitor's task hash."""
    return keys.TASK + task_id(monitor)


async def put_pending(redis: Redis, monitor: MonitorId, *, listed: bool = True) -> None:
    """Put a task that waits for a worker; without `listed` it says so but no list holds it."""
    await _put_hash(redis, monitor, "pending", pending_since=EARLIER_NS)
    if listed:
        await redis.lpush(keys.PENDING, task_id(monitor))


async def put_active(redis: Redis, monitor: MonitorId, *, lease_s: float | None) -> None:
    """Put a task that a worker took; its lease ends at `lease_s`, Unix seconds, or is missing."""
    await _put_hash(redis, monitor, "active")
    await redis.lpush(keys.ACTIVE, task_id(monitor))
    if lease_s is not None:
        await redis.zadd(keys.LEASE, {task_id(monitor): lease_s})


async def put_in_set(redis: Redis, monitor: MonitorId, state: InSet) -> None:
    """Put a task into the set of its state."""
    await _put_hash(redis, monitor, state)
    await redis.zadd(_SETS[state], {task_id(monitor): int(time.time()) + 3600})


async def put_aggregating(redis: Redis, monitor: MonitorId) -> None:
    """Put a task that waits in a group."""
    await _put_hash(redis, monitor, "aggregating", group=GROUP_NAME.encode())
    await redis.zadd(keys.GROUP + GROUP_NAME, {task_id(monitor): int(time.time())})
    await redis.sadd(GROUPS, GROUP_NAME)


async def put_malformed(redis: Redis, monitor: MonitorId, how: Malformation) -> None:
    """Put something at the task's key that is no task; no list holds it."""
    key = task_key(monitor)
    match how:
        case "no msg":
            await redis.hset(key, mapping={"state": "pending", "pending_since": EARLIER_NS})
        case "empty msg":
            await redis.hset(key, mapping={"msg": b"", "state": "archived"})
        case "no state":
            await redis.hset(key, mapping={"msg": earlier_message(monitor)})
        case "unknown state":
            await redis.hset(key, mapping={"msg": earlier_message(monitor), "state": "pondering"})
        case "string":
            await redis.set(key, "pending")
        case "list":
            await redis.rpush(key, "msg", "state")
        case "set":
            await redis.sadd(key, "msg", "state")
        case "zset":
            await redis.zadd(key, {"msg": 1, "state": 2})


async def put_worker(redis: Redis, *running: MonitorId, expires_in_s: float = 5, with_hash: bool = True) -> None:
    """Announce a worker process that says what it runs; asynq renews both records every few seconds."""
    await redis.zadd(keys.WORKERS, {WORKER: time.time() + expires_in_s})
    if with_hash:
        await redis.hset(WORKER, mapping={task_id(monitor): b"worker info" for monitor in running})


async def put_backlog(redis: Redis, length: int) -> None:
    """Fill the pending list with that many tasks of others, on the side where the newest stand."""
    await redis.lpush(keys.PENDING, *(f"healthcheck:other-{n}" for n in range(length)))


async def score(redis: Redis, key: str, member: str | bytes) -> float:
    """Return a member's score; it must be there."""
    found = await redis.zscore(key, member)
    assert found is not None, f"{member!r} is not in {key}"
    return found


async def redis_state(redis: Redis, monitor: MonitorId) -> RedisState:
    """Return all that Redis holds about a monitor."""
    task = task_id(monitor)
    places: list[str] = []
    for name, key in _LISTS.items():
        places += [name] * (await redis.lrange(key, 0, -1)).count(task.encode())
    for name, key in _SETS.items():
        if await redis.zscore(key, task) is not None:
            places.append(name)
    return RedisState(
        {_bytes(field): _bytes(value) for field, value in (await redis.hgetall(task_key(monitor))).items()},
        places,
        await redis.zscore(DUE, monitor),
        await redis.zscore(LEASE, monitor),
    )


def _bytes(part: bytes | str) -> bytes:
    assert isinstance(part, bytes), "the test's client does not decode"
    return part


async def _put_hash(redis: Redis, monitor: MonitorId, state: str, **more: bytes) -> None:
    await redis.hset(task_key(monitor), mapping={"msg": earlier_message(monitor), "state": state})
    for field, value in more.items():
        await redis.hset(task_key(monitor), field, value)
    await redis.sadd(keys.QUEUES, keys.QUEUE)
