"""The herd with a distant database: how the rate grows with PRODUCER_CONCURRENCY."""

from collections.abc import Iterator

import psutil
from redis import Redis

from benchmarks.database import Database
from benchmarks.figures import Case, figure, rate
from benchmarks.herd import RATE, rate_per_s
from benchmarks.part import HERD_INTERVAL_S, Bench, Part
from benchmarks.producer import running_producer, until_swept
from peekaping_producer.demo.redis_server import HOST, RedisServer
from support.delaying_proxy import delaying_proxy_in_thread

ADDED_MS = 20
"""Added to every round trip to the database."""


def measure(bench: Bench) -> Iterator[Case]:
    """Run herds with each concurrency, by one node that has settled the same herd before."""
    database = bench.database("postgres", bench.size.monitors[0], HERD_INTERVAL_S)
    with delaying_proxy_in_thread(int(database.settings["DB_PORT"]), ADDED_MS / 1000) as port:
        distant = Database(database.kind, database.settings | {"DB_PORT": str(port)}, database.ids, database.pid)
        for concurrency in bench.size.concurrencies:
            yield _case(distant, concurrency, bench.size.rounds)


PART = Part("slow-database", f"herds whose database answers {ADDED_MS} ms later, by PRODUCER_CONCURRENCY", 30, measure)
_GOALS = {10: "≥ 15,000", 32: "≥ 30,000"}


def _case(database: Database, concurrency: int, rounds: int) -> Case:
    with (
        RedisServer(tcp=True) as server,
        Redis(host=HOST, port=server.port) as redis,
        running_producer(database, server.port, concurrency) as producer,
    ):
        until_swept(redis, len(database.ids))
        rate_per_s(redis, database)
        figures = {
            RATE: rate([rate_per_s(redis, database) for _ in range(rounds)], _GOALS.get(concurrency, "")),
            "connections_to_the_database": figure(_connections(producer.pid, database), ""),
        }
    return Case(f"postgres, {len(database.ids):,} monitors, concurrency {concurrency}", figures)


def _connections(pid: int, database: Database) -> int:
    """Count the producer's connections to the database, the leader's two among them."""
    port = int(database.settings["DB_PORT"])
    found = psutil.Process(pid).net_connections("tcp")
    return sum(bool(one.raddr) and one.raddr.port == port for one in found)
