"""The herd with the database unavailable, after the same herd with the database, both by one producer."""

from collections.abc import Iterator

import psutil
from redis import Redis

from benchmarks.database import TYPES
from benchmarks.figures import Case, cost, rate
from benchmarks.herd import RATE, await_settled, duration_s, empty_queue, make_due
from benchmarks.part import HERD_INTERVAL_S, Bench, Part
from benchmarks.producer import Producer, running_producer, until_swept, used_by, wait_until
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.model.monitor import MonitorId
from peekaping_producer.redisdb.keys import LEASE


def measure(bench: Bench) -> Iterator[Case]:
    """Run herds, freeze the database, wait until the producer has noticed, and run the same herds again.

    They are of all monitors except push monitors, which are deferred while the database is unavailable.
    """
    database = bench.database("postgres", bench.size.monitors[0], HERD_INTERVAL_S)
    assert database.pid is not None
    ids = tuple(id_ for number, id_ in enumerate(database.ids) if TYPES[number % len(TYPES)] != "push")
    rounds = range(bench.size.rounds)
    with (
        RedisServer(tcp=True) as server,
        Redis(host=HOST, port=server.port) as redis,
        running_producer(database, server.port) as producer,
    ):
        until_swept(redis, len(database.ids))
        _herd(redis, producer, ids)  # fills the cache, and warms up
        available = [_herd(redis, producer, ids) for _ in rounds]
        server_processes = [psutil.Process(database.pid), *psutil.Process(database.pid).children(recursive=True)]
        for process in server_processes:
            process.suspend()
        try:
            make_due(redis, ids[:1])
            wait_until(lambda: b"database unavailable" in producer.log.read_bytes(), "the outage is noticed")
            wait_until(lambda: not redis.zcard(LEASE), "the batch in flight is settled")
            unavailable = [_herd(redis, producer, ids) for _ in rounds]
        finally:
            for process in server_processes:
                process.resume()
    for name, herds in (("available", available), ("unavailable", unavailable)):
        figures = {
            RATE: rate([per_s for per_s, _ in herds]),
            "node_cpu": cost([us for _, us in herds], "µs a check"),
        }
        yield Case(f"postgres {name}, {len(ids):,} monitors", figures)


PART = Part("outage", "a herd from the cache while the database is unavailable, compared with one with it", 20, measure)


def _herd(redis: Redis, producer: Producer, ids: tuple[MonitorId, ...]) -> tuple[float, float]:
    """Return checks per second, and the producer's CPU time of one in microseconds."""
    empty_queue(redis, ids)
    before = used_by(producer.pid)
    make_due(redis, ids)
    await_settled(redis, len(ids))
    cpu_s = used_by(producer.pid).cpu_s - before.cpu_s
    return len(ids) / duration_s(redis, ids), cpu_s * 1e6 / len(ids)
