"""The herd with a distant database: how the rate grows with PRODUCER_CONCURRENCY."""

from collections.abc import Sequence

import psutil
from msgspec import Struct
from redis import Redis

from benchmarks.database import Database
from benchmarks.herd import rate_per_s
from benchmarks.producer import running_producer, wait_until
from peekaping_producer.demo.redis_server import HOST, RedisServer
from peekaping_producer.redisdb.keys import DUE
from support.delaying_proxy import delaying_proxy_in_thread

ADDED_MS = 20
"""Added to every round trip to the database."""


class DistantHerd(Struct, frozen=True):
    """One herd, settled by a node that has settled the same one before."""

    concurrency: int
    checks: int
    checks_per_s: float
    connections: int
    """To the database, including the leader's two."""


def measure_distant(database: Database, concurrencies: Sequence[int]) -> list[DistantHerd]:
    """Run the herd with each concurrency."""
    with delaying_proxy_in_thread(int(database.settings["DB_PORT"]), ADDED_MS / 1000) as port:
        distant = Database(database.kind, database.settings | {"DB_PORT": str(port)}, database.ids, database.pid)
        return [_herd(distant, concurrency) for concurrency in concurrencies]


def _herd(database: Database, concurrency: int) -> DistantHerd:
    with (
        RedisServer(tcp=True) as server,
        Redis(host=HOST, port=server.port) as redis,
        running_producer(database, server.port, concurrency) as producer,
    ):
        wait_until(lambda: redis.zcard(DUE) == len(database.ids), "the first sweep is done")
        rates = [rate_per_s(redis, database) for _ in range(2)]
        return DistantHerd(concurrency, len(database.ids), rates[-1], _connections(producer.pid, database))


def _connections(pid: int, database: Database) -> int:
    port = int(database.settings["DB_PORT"])
    found = psutil.Process(pid).net_connections("tcp")
    return sum(bool(one.raddr) and one.raddr.port == port for one in found)
