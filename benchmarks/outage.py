"""The herd with the database unavailable, after the same herd with the database, both by one producer."""

import psutil
from msgspec import Struct
from redis import Redis

from benchmarks.database import TYPES, Database
from benchmarks.herd import await_settled, duration_s, empty_queue, make_due
from benchmarks.producer import Producer, cost, running_producer, wait_until
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.redisdb.keys import DUE, LEASE


class OutageHerd(Struct, frozen=True):
    """Two herds of all monitors except push monitors, which are deferred while the database is unavailable."""

    checks: int
    available_per_s: float
    unavailable_per_s: float
    available_cpu_us_per_check: float
    """Of the producer."""
    unavailable_cpu_us_per_check: float


def measure_outage(database: Database) -> OutageHerd:
    """Run the herd, freeze the database, wait until the producer has noticed, and run the herd again."""
    assert database.pid is not None
    ids = tuple(id_ for number, id_ in enumerate(database.ids) if TYPES[number % len(TYPES)] != "push")
    with (
        RedisServer(tcp=True) as server,
        Redis(host=HOST, port=server.port) as redis,
        running_producer(database, server.port) as producer,
    ):
        wait_until(lambda: redis.zcard(DUE) == len(database.ids), "the first sweep is done")
        _herd(redis, producer, ids)  # fills the cache, and warms up
        available = _herd(redis, producer, ids)
        server_processes = [psutil.Process(database.pid), *psutil.Process(database.pid).children(recursive=True)]
        for process in server_processes:
            process.suspend()
        try:
            make_due(redis, ids[:1])
            wait_until(lambda: b"database unavailable" in producer.log.read_bytes(), "the outage is noticed")
            wait_until(lambda: not redis.zcard(LEASE), "the batch in flight is settled")
            unavailable = _herd(redis, producer, ids)
        finally:
            for process in server_processes:
                process.resume()
    return OutageHerd(len(ids), available[0], unavailable[0], available[1], unavailable[1])


def _herd(redis: Redis, producer: Producer, ids: tuple[MonitorId, ...]) -> tuple[float, float]:
    """Return checks per second, and the producer's CPU time of one in microseconds."""
    empty_queue(redis, ids)
    before = cost(producer.pid)
    make_due(redis, ids)
    await_settled(redis, len(ids))
    cpu_s = cost(producer.pid).cpu_s - before.cpu_s
    return len(ids) / duration_s(redis, ids), cpu_s * 1e6 / len(ids)
