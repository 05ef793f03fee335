"""The leader's sweep of many monitors: with nothing to change, and with the whole schedule to rebuild."""

import json
import time
from pathlib import Path
from typing import Any

from msgspec import Struct
from redis import Redis

from benchmarks.database import Database
from benchmarks.producer import running_producer, wait_until
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.redisdb.keys import DUE

NOTHING_TO_CHANGE = "sweep changed nothing"


class SweepCost(Struct, frozen=True):
    """What a sweep costs."""

    monitors: int
    nothing_to_change_s: float
    """How long it took, as the leader logs it."""
    nothing_to_change_cpu_s: float
    """CPU of the leader."""
    rebuilt_s: float
    """From a flush of Redis until every monitor is in the schedule again."""
    peak_memory_bytes: int


def measure_sweep(database: Database) -> SweepCost:
    """Let a producer schedule all, sweep again with nothing to change, and rebuild after a flush."""
    with (
        RedisServer(tcp=True) as server,
        Redis(host=HOST, port=server.port) as redis,
        running_producer(database, server.port, LOG_LEVEL="debug") as producer,
    ):
        wait_until(lambda: redis.zcard(DUE) == len(database.ids), "the first sweep has added all")
        wait_until(lambda: bool(_lines(producer.log, "sweep finished")), "the first sweep is done")
        before = producer.cost()
        # A new subscription is followed by a sweep.
        redis.client_kill_filter(_type="pubsub")
        wait_until(lambda: bool(_lines(producer.log, NOTHING_TO_CHANGE)), "the second sweep is done", every_s=0.1)
        cpu_s = producer.cost().cpu_s - before.cpu_s
        swept = _lines(producer.log, NOTHING_TO_CHANGE)[0]

        redis.flushall()
        started_s = time.monotonic()
        wait_until(lambda: redis.zcard(DUE) == len(database.ids), "the schedule is whole again")
        rebuilt_s = time.monotonic() - started_s
        return SweepCost(len(database.ids), swept["seconds"], cpu_s, rebuilt_s, producer.cost().peak_memory_bytes)


def _lines(log: Path, event: str) -> list[dict[str, Any]]:
    whole = log.read_text("utf-8").rpartition("\n")[0]
    return [line for line in map(json.loads, whole.splitlines()) if line["event"] == event]
