"""The herd: all monitors are due at once, and one node or several turn them into tasks, without a worker."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime

from msgspec import Struct
from redis import Redis

from benchmarks.database import Database
from benchmarks.figures import Case, cost, rate
from benchmarks.flame import profiled
from benchmarks.part import HERD_INTERVAL_S, KINDS, Bench, Part
from benchmarks.producer import running_producer, until_swept, used_by, wait_until
from peekaping_producer.asynq import keys as asynq
from peekaping_producer.asynq.message import task_id
from peekaping_producer.asynq.task_message_pb2 import TaskMessage
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.redisdb.keys import CLAIMS, DUE, LEASE, NODES

PAGE = 1_000
RATE = "checks_settled"
_GOALS = {
    ("postgres", 20_000, 1): {RATE: "≥ 45,000", "node_cpu": "≤ 20", "redis_cpu": "≤ 10"},
    ("sqlite", 20_000, 1): {RATE: "≥ 40,000"},
}
_WITHIN_S = 300.0


class Herd(Struct, frozen=True):
    """What one herd showed. A check is one monitor claimed, read, built and settled."""

    checks_per_s: float
    """From the first claim to the last task in place, by Redis' clock."""
    node_cpu_us: float
    """For each check, of all nodes; the following two likewise."""
    redis_cpu_us: float
    database_cpu_us: float | None
    """None if the database has no process of its own."""
    peak_memory_bytes: int
    """Of the node that took most."""
    commands: float
    """EVALSHA calls for each check: a busy producer sends nothing else."""


def case_name(kind: str, monitors: int, nodes: int) -> str:
    """Return the name of a case of this part."""
    return f"{kind}, {monitors:,} monitors, {nodes} {'node' if nodes == 1 else 'nodes'}"


def measure(bench: Bench) -> Iterator[Case]:
    """Run each herd the given number of rounds: on Postgres with any number of nodes, on SQLite with one."""
    size = bench.size
    for kind in KINDS:
        for monitors in size.monitors:
            database = bench.database(kind, monitors, HERD_INTERVAL_S)
            for nodes in size.nodes if kind == "postgres" else (1,):
                yield _case(kind, monitors, nodes, [measure_herd(database, nodes) for _ in range(size.rounds)])
            if bench.flames and monitors == size.monitors[0]:
                measure_herd(database, wrapper=profiled(kind, bench.flames))


PART = Part("herd", "all monitors due at once: checks a second, and what each costs", 50, measure)


def _case(kind: str, monitors: int, nodes: int, herds: Sequence[Herd]) -> Case:
    us, goals = "µs a check", _GOALS.get((kind, monitors, nodes), {})
    figures = {
        RATE: rate([herd.checks_per_s for herd in herds], goals.get(RATE, "")),
        "node_cpu": cost([herd.node_cpu_us for herd in herds], us, goals.get("node_cpu", "")),
        "redis_cpu": cost([herd.redis_cpu_us for herd in herds], us, goals.get("redis_cpu", "")),
    }
    database_us = [herd.database_cpu_us for herd in herds if herd.database_cpu_us is not None]
    if database_us:
        figures["database_cpu"] = cost(database_us, us)
    figures["node_peak_memory"] = cost([herd.peak_memory_bytes / 1e6 for herd in herds], "MB")
    figures["commands_sent_to_redis"] = cost([herd.commands for herd in herds], "a check")
    return Case(case_name(kind, monitors, nodes), figures)


def measure_herd(database: Database, nodes: int = 1, wrapper: Sequence[str] = ()) -> Herd:
    """Start producers, let them schedule all, make all due, and watch until the last one is settled."""
    ids = database.ids
    with (
        RedisServer(tcp=True) as server,
        Redis(host=HOST, port=server.port, decode_responses=False) as redis,
        ExitStack() as stack,
    ):
        running = [stack.enter_context(running_producer(database, server.port, wrapper=wrapper)) for _ in range(nodes)]
        wait_until(lambda: redis.zcard(NODES) == nodes, "all nodes run")
        until_swept(redis, len(ids), _WITHIN_S)
        # The same herd before, so that connections are open, statements compiled and caches filled.
        make_due(redis, ids)
        await_settled(redis, len(ids))
        empty_queue(redis, ids)

        calls = _scripts_called(redis)
        producers = [producer.pid for producer in running]
        processes = [*producers, server.pid, *([database.pid] if database.pid else [])]
        before = {pid: used_by(pid).cpu_s for pid in processes}
        make_due(redis, ids)
        await_settled(redis, len(ids))
        after = {pid: used_by(pid) for pid in processes}
        calls = _scripts_called(redis) - calls
        cpu_us = {pid: (after[pid].cpu_s - before[pid]) * 1e6 / len(ids) for pid in processes}
        return Herd(
            len(ids) / duration_s(redis, ids),
            sum(cpu_us[pid] for pid in producers),
            cpu_us[server.pid],
            cpu_us[database.pid] if database.pid else None,
            max(after[pid].peak_memory_bytes for pid in producers),
            calls / len(ids),
        )


def rate_per_s(redis: Redis, database: Database) -> float:
    """Run a herd of all monitors; return its checks per second."""
    empty_queue(redis, database.ids)
    make_due(redis, database.ids)
    await_settled(redis, len(database.ids))
    return len(database.ids) / duration_s(redis, database.ids)


def make_due(redis: Redis, ids: Sequence[MonitorId], at_ms: int | None = None) -> None:
    """Make all due in one command, so that none is claimed before the last one is due; now, or at an instant."""
    redis.zadd(DUE, dict.fromkeys(ids, at_ms or time.time_ns() // 1_000_000 - 1))


def empty_queue(redis: Redis, ids: Sequence[MonitorId]) -> None:
    """Remove every task, at once: a check that is settled meanwhile would be in the list or have a task, not both."""
    with redis.pipeline() as pipe:
        for start in range(0, len(ids), PAGE):
            pipe.delete(*(asynq.TASK + task_id(id_) for id_ in ids[start : start + PAGE]))
        pipe.delete(asynq.PENDING, CLAIMS)
        pipe.execute()


def await_settled(redis: Redis, checks: int) -> None:
    """Wait until this many tasks are in place, and no claim is left."""
    wait_until(
        lambda: redis.llen(asynq.PENDING) >= checks and not redis.zcard(LEASE),
        "all checks are settled",
        0.05,
        _WITHIN_S,
    )


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
