"""The herd: all monitors are due at once, and one node turns them into tasks, without a worker."""

import json
import time
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from redis import Redis

from benchmarks.database import Database
from benchmarks.producer import cost, running_producer, wait_until
from peekaping_producer.asynq import keys as asynq
from peekaping_producer.asynq.message import task_id
from peekaping_producer.asynq.task_message_pb2 import TaskMessage
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.redisdb.keys import CLAIMS, DUE, LEASE

PAGE = 1_000
WARM_UP = 400
"""Monitors made due once before the herd, so that connections are open and statements compiled."""


class Herd(Struct, frozen=True):
    """What one herd showed. A check is one monitor claimed, read, built and settled."""

    checks: int
    seconds: float
    """From the first claim to the last task in place, by Redis' clock."""
    checks_per_s: float
    producer_cpu_us_per_check: float
    redis_cpu_us_per_check: float
    database_cpu_us_per_check: float | None
    """None if the database has no process of its own."""
    peak_memory_bytes: int
    claims: int
    redis_commands_per_check: float
    """EVALSHA calls: a busy producer sends nothing else."""


def measure_herd(database: Database, wrapper: Sequence[str] = ()) -> Herd:
    """Start a producer, let it schedule all, make all due, and watch until the last one is settled."""
    with (
        RedisServer(tcp=True) as server,
        Redis(host=HOST, port=server.port, decode_responses=False) as redis,
        running_producer(database, server.port, wrapper=wrapper) as producer,
    ):
        wait_until(lambda: redis.zcard(DUE) == len(database.ids), "the first sweep is done")
        make_due(redis, database.ids[:WARM_UP])
        await_settled(redis, WARM_UP)
        empty_queue(redis, database.ids)

        calls = _scripts_called(redis)
        processes = [producer.pid, server.pid, *([database.pid] if database.pid else [])]
        before = [cost(pid) for pid in processes]
        make_due(redis, database.ids)
        await_settled(redis, len(database.ids))
        after = [cost(pid) for pid in processes]
        calls = _scripts_called(redis) - calls

        checks, seconds = len(database.ids), duration_s(redis, database.ids)
        cpu_us = [(now.cpu_s - then.cpu_s) * 1e6 / checks for then, now in zip(before, after, strict=True)]
        return Herd(
            checks,
            seconds,
            checks / seconds,
            cpu_us[0],
            cpu_us[1],
            cpu_us[2] if database.pid else None,
            after[0].peak_memory_bytes,
            int(redis.get(CLAIMS) or 0),
            calls / checks,
        )


def rate_per_s(redis: Redis, database: Database) -> float:
    """Run a herd of all monitors; return its checks per second."""
    empty_queue(redis, database.ids)
    make_due(redis, database.ids)
    await_settled(redis, len(database.ids))
    return len(database.ids) / duration_s(redis, database.ids)


def make_due(redis: Redis, ids: Sequence[MonitorId]) -> None:
    """Make all due in one command, so that none is claimed before the last one is due."""
    now_ms = time.time_ns() // 1_000_000
    redis.zadd(DUE, dict.fromkeys(ids, now_ms - 1))


def empty_queue(redis: Redis, ids: Sequence[MonitorId]) -> None:
    """Remove every task."""
    redis.delete(*(asynq.TASK + task_id(id_) for id_ in ids), asynq.PENDING, CLAIMS)


def await_settled(redis: Redis, checks: int) -> None:
    """Wait until so many tasks are in place, and no claim is left."""
    wait_until(lambda: redis.llen(asynq.PENDING) >= checks and not redis.zcard(LEASE), "all checks are settled", 0.05)


def _scripts_called(redis: Redis) -> int:
    return int(redis.info("commandstats")["cmdstat_evalsha"]["calls"])


def duration_s(redis: Redis, ids: Sequence[MonitorId]) -> float:
    """Return the time from the first claim, which every task names, to the last time a task was put in place."""
    first_claim_s, last_placed_s = float("inf"), 0.0
    for start in range(0, len(ids), PAGE):
        with redis.pipeline(transaction=False) as pipe:
            for id_ in ids[start : start + PAGE]:
                pipe.hmget(asynq.TASK + task_id(id_), "msg", "pending_since")
            for message, pending_since in pipe.execute():
                payload = json.loads(TaskMessage.FromString(message).payload)
                first_claim_s = min(first_claim_s, _unix_s(payload["scheduled_at"]))
                last_placed_s = max(last_placed_s, int(pending_since) / 1e9)
    return last_placed_s - first_claim_s


def _unix_s(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
